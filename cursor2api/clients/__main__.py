"""What a client needs to use this service: printed, or written where the client looks.

    python -m cursor2api.clients NAME [--write] [--address URL] [--key KEY] [--model ID] [--folder DIR]

The service must run, as it is asked for its models. A file that is there already is written over only after its
owner has seen the difference and agreed, and a copy of it stays. The status is 0 when all is as the client needs
it, 1 when something hinders, and a sentence on stderr says what.
"""

import argparse
import difflib
import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from .. import start
from ..config import DEVELOPMENT_KEY
from . import NAME, Client, File, Gateway, Model, json_text
from .catalog import CLIENTS

PATIENCE_S = 30
LONGEST = 10_000  # bytes of an error
MOVED = (  # folders of clients, and the variables by which their users have them elsewhere
    ("~/.config/io.datasette.llm/", "LLM_USER_PATH"), ("~/.config/", "XDG_CONFIG_HOME"),
    ("~/.codex/", "CODEX_HOME"), ("~/.qwen/", "QWEN_HOME"), ("~/.cline/", "CLINE_DIR"))


class Hindered(Exception):
    """The message says what hinders, and what to do."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        "python -m cursor2api.clients", description="Prints what a client needs to use this service.")
    parser.add_argument("name", nargs="?", choices=[client.name for client in CLIENTS], metavar="NAME",
                        help=", ".join(client.name for client in CLIENTS))
    parser.add_argument("--write", action="store_true", help="put the files where the client looks")
    parser.add_argument("--address", metavar="URL", help="of the service; without it, of this machine")
    parser.add_argument("--key", help="for the service; without it the first of API_KEY, or 0000")
    parser.add_argument("--model", metavar="ID", help="to begin with; without it the service's first")
    parser.add_argument("--folder", default=".", metavar="DIR", help="for files that have no place of their own")
    options = parser.parse_args(arguments)
    if not options.name:
        parser.print_help()
        return 0
    client = next(client for client in CLIENTS if client.name == options.name)
    try:
        gateway = ask(options)
        (write if options.write else show)(client, gateway, Path(options.folder))
    except (Hindered, OSError) as hindered:  # such as a folder that cannot be written
        print(f"cursor2api: {hindered}", file=sys.stderr)
        return 1
    print(advice(client, gateway))
    return 0


def ask(options: argparse.Namespace) -> Gateway:
    """The service with its models. Raises Hindered."""
    address, key = options.address, options.key
    if not (address and key):
        config = start.read_config()
        address = address or f"http://127.0.0.1:{config.port}"
        key = key or (config.api_key[0][1] if config.api_key else DEVELOPMENT_KEY)
    address = address.rstrip("/").removesuffix("/v1")
    models = read_models(address, key)
    names = [model.id for model in models]
    if options.model and options.model not in names:
        raise Hindered(f"{address} has no model {options.model!r}, but {', '.join(names)}")
    first = options.model or names[0]
    return Gateway(address, key, tuple(sorted(models, key=lambda model: model.id != first)))


def read_models(address: str, key: str) -> list[Model]:
    try:
        request = Request(f"{address}/v1/models", headers={"Authorization": f"Bearer {key}"})
        with urlopen(request, timeout=PATIENCE_S) as response:
            listed = json.load(response)["data"]
        models = [Model(item["id"], item.get("context_window")) for item in listed]
    except HTTPError as error:
        raise Hindered(f"{address} answered {error.code}: {reason(error.read(LONGEST))}") from None
    except OSError as error:
        raise Hindered(f"nothing answers at {address} ({error}): start the service with make run, or say with "
                       "--address where it is") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Hindered(f"what answers at {address} is not this service: /v1/models is no list of models") from None
    if not models:
        raise Hindered(f"{address} lists no models")
    return models


def reason(body: bytes) -> str:
    """What an error says: the message of this service's errors, or the text of another's."""
    try:
        return json.loads(body)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        return body[:200].decode("utf-8", "replace")


def show(client: Client, gateway: Gateway, folder: Path) -> None:
    for file in client.files(gateway):
        print(f"--- {place(file, folder)}\n{file.text}")


def write(client: Client, gateway: Gateway, folder: Path) -> None:
    """Raises Hindered, before anything is written if there is nobody to ask; OSError."""
    wanted = []
    for file in client.files(gateway):
        path = place(file, folder)
        there = read(path)
        wanted.append((file, path, there, with_what_is_there(file, there)))
    ours = [path for _, path, there, text in wanted if there not in (None, text)]
    if ours and not sys.stdin.isatty():
        raise Hindered(f"{ours[0]} is there already and says something else: nothing was written. In a terminal "
                       "you are shown the difference and asked")
    for file, path, there, text in wanted:
        if there == text:
            print(f"{path} is as it should be")
            continue
        if there is not None:
            agree(path, there, text, whole=text == file.text)
            backup = path.with_name(f"{path.name}.{time.strftime('%Y%m%d-%H%M%S')}.bak")
            shutil.copy2(path, backup)
            print(f"{backup} is what was there")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)  # it may hold the key
        path.write_text(text, "utf-8")
        print(f"{path} is written")


def read(path: Path) -> str | None:
    """What stands in the file, None if it is not there. Raises Hindered, OSError."""
    try:
        return path.read_text("utf-8") if path.exists() else None
    except UnicodeDecodeError:
        raise Hindered(f"{path} is there already and is no UTF-8: nothing was written") from None


def place(file: File, folder: Path) -> Path:
    """Where the client looks for the file; `folder` is for a file that has no place of its own."""
    for usual, variable in MOVED:
        elsewhere = os.path.expandvars(f"${variable}")
        if file.path.startswith(usual) and elsewhere not in ("", f"${variable}"):
            return Path(elsewhere) / file.path.removeprefix(usual)
    return folder / Path(file.path).expanduser()


def with_what_is_there(file: File, there: str | None) -> str:
    """Our text; in JSON, which can be read and written back, with all of the present file that is not ours."""
    if there is None or file.language != "json":
        return file.text
    try:
        present = json.loads(there)
    except ValueError:
        return file.text
    return json_text(merged(present, json.loads(file.text)))


def merged(present: object, ours: object) -> object:
    """Ours with what else the present value has, but without its old entries for this service: their models may
    be gone."""
    if isinstance(present, dict) and isinstance(ours, dict):
        return present | {key: value if named(key) else merged(present.get(key), value)
                          for key, value in ours.items()}
    if isinstance(present, list) and isinstance(ours, list):
        return ours + [item for item in present if not named(json.dumps(item))]
    return ours


def named(text: str) -> bool:
    return NAME.lower() in text.lower()


def agree(path: Path, there: str, text: str, whole: bool) -> None:
    """Raises Hindered if the owner of the file does not; with `whole` nothing of the file would stay."""
    print("".join(difflib.unified_diff(
        there.splitlines(keepends=True), text.splitlines(keepends=True), str(path), "as it would be")))
    asked = f"{'Replace the whole of' if whole else 'Change'} {path}? [y/N] "
    try:
        agreed = input(asked).strip().lower() in ("y", "yes")
    except (EOFError, KeyboardInterrupt):
        agreed = False
    if not agreed:
        raise Hindered(f"{path} is left as it was")


def advice(client: Client, gateway: Gateway) -> str:
    """How the client is started, and what is good to know."""
    command = client.command(gateway)
    lines = [f"Start it with: {command}"] if command else []
    for title, sentences in client.sentences():
        lines += [f"{title}:", *(f"- {sentence}" for sentence in sentences)]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
