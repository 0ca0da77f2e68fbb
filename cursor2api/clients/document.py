"""docs/clients.md, made of the templates."""

from collections.abc import Sequence

from . import Client, Gateway, Model

SHOWN = Gateway("http://127.0.0.1:8002", "0000", (Model("claude-sonnet-4-5-20250929"),))
HEAD = """\
# Use it in your client

Start the service, then let it make the files of your client:

```sh
make client NAME=opencode                 # prints them
make client NAME=opencode ARGS=--write    # puts them where the client looks
```

Without make: `.venv/bin/python -m cursor2api.clients opencode --write`. The files hold the address, the key and
all models of the running service, with the size of each one's context. `--address`, `--key` and `--model` name
others. A file of yours is never written over unasked: you see the difference, and a copy stays beside it. What
your JSON file has besides is kept. If a variable such as `CODEX_HOME` or `XDG_CONFIG_HOME` moves a client's
folder, the file goes there.

Any other client of OpenAI's API takes the base URL `http://127.0.0.1:8002/v1`, a key of `API_KEY` (`0000` under
`make run`) and a model of `/v1/models`. A client of Anthropic's API takes `http://127.0.0.1:8002`.

No client gets embeddings, generated images or audio here: the service has chats alone.

Each request that begins a conversation starts an agent at Cursor, and that costs time and tokens. So turn off what
clients ask for on the side: titles, suggestions, completion while you type.

A version under "tried" means that a test runs the client with these files; an agent then writes a file and runs a
command. "Not tried" means that the test only reads the files, those of LibreChat and Roo Code by the schemas of
these programs.
"""


def document(clients: Sequence[Client]) -> str:
    rows = "".join(f"| [{client.title}](#{anchor(client.title)}) | `{client.name}` | {tried(client)} |\n"
                   for client in clients)
    return f"{HEAD}\n| client | NAME | tried |\n|---|---|---|\n{rows}{''.join(map(section, clients))}"


def section(client: Client) -> str:
    parts = [f"\n## {client.title}\n"]
    for file in client.files(SHOWN):
        parts.append(f"\n`{file.path}`:\n\n```{file.language}\n{file.text}```\n")
    if command := client.command(SHOWN):
        parts.append(f"\nStart it with `{command}`.\n")
    for title, sentences in client.sentences():
        parts.append(f"\n{title}:\n\n" + "".join(f"- {sentence}\n" for sentence in sentences))
    return "".join(parts)


def tried(client: Client) -> str:
    return client.tried or "not tried"


def anchor(title: str) -> str:
    return title.lower().replace(" ", "-")
