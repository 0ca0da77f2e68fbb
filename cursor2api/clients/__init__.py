"""Set-up of clients: what each must be told to use this service.

`python -m cursor2api.clients NAME` prints a client's files, with --write it puts them where the client looks; the page
and docs/clients.md show the same. To add a client, write a template and put it into CLIENTS.
"""

from . import (aider, claude_code, cline, codex, continue_dev, copilot, kilo, langchain, librechat, llm, open_webui,
               openai_sdk, opencode, roo, zed)
from .template import Client, Model, Service

CLIENTS: dict[str, Client] = {each.CLIENT.name: each.CLIENT for each in (
    opencode, kilo, cline, roo, continue_dev, codex, claude_code, copilot, aider, llm, zed, open_webui, librechat,
    langchain, openai_sdk)}
PLACES = Service("__ADDRESS__", "__KEY__", (Model("__MODEL__"),))  # words that the page replaces


def shown(service: Service = PLACES) -> list[dict]:
    """All clients as data: {"name", "title", "files": [{"path", "language", "text"}], "run", "turn_off", "cannot"}."""
    return [{"name": client.name, "title": client.title,
             "files": [{"path": file.path, "language": file.language, "text": file.text}
                       for file in client.files(service)],
             "run": client.run, "turn_off": client.turn_off, "cannot": client.cannot}
            for client in CLIENTS.values()]
