"""Prints what a client must be told to use this service, or puts it where the client looks.

    python -m cursor2api.clients NAME [--write] [--address URL] [--key KEY] [--model ID]

Address and key are those of the settings, the models those that the service lists. Nothing of the user's is lost:
a file that is there already is shown beside ours, is replaced only if the user says yes, and keeps a copy with
`.before` behind its name.
"""

import argparse
import difflib
import sys
from pathlib import Path

import requests

from . import Client, File, Model, Service
from .catalog import CLIENTS
from ..config import DEVELOPMENT_KEY
from ..start import read_config


def main() -> int:
    options = arguments()
    config = read_config()
    address = (options.address or f"http://127.0.0.1:{config.port}").rstrip("/").removesuffix("/v1")
    key = options.key or (config.api_key[0][1] if config.api_key else DEVELOPMENT_KEY)
    client = CLIENTS[options.name]
    service = Service(address, key, models(address, key, options.model))
    for file in client.files(service):
        if options.write and file.path:
            write(Path(file.path).expanduser(), file)
        else:
            print(f"# {file.path}" if file.path else f"# Type or copy ({file.language}):")
            print(file.text)
    explain(client)
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m cursor2api.clients", description=__doc__.partition("\n")[0])
    parser.add_argument("name", choices=CLIENTS, metavar="NAME", help=", ".join(CLIENTS))
    parser.add_argument("--write", action="store_true", help="put the files where the client looks")
    parser.add_argument("--address", default="", help="the service's address; http://127.0.0.1:PORT unless given")
    parser.add_argument("--key", default="", help="the service's key; the first of API_KEY unless given")
    parser.add_argument("--model", default="", help="the model to begin with; the first unless given")
    return parser.parse_args()


def models(address: str, key: str, first: str) -> tuple[Model, ...]:
    """Those that the service lists, `first` before all others. Ends the process if it lists none."""
    try:
        response = requests.get(address + "/v1/models", headers={"Authorization": f"Bearer {key}"}, timeout=60)
        response.raise_for_status()
        found = [Model(item["id"], item.get("context_length")) for item in response.json()["data"]]
    except (requests.RequestException, ValueError, KeyError) as error:
        sys.exit(f"cursor2api: {address} lists no models: start the service first (make run), and name its key "
                 f"with --key: {error!r:.200}")
    if first and first not in [model.id for model in found]:
        sys.exit(f"cursor2api: --model: expected one of {', '.join(model.id for model in found)}, got {first!r}")
    return tuple(sorted(found, key=lambda model: bool(first) and model.id != first))


def write(path: Path, file: File) -> None:
    """Puts a file where the client looks. Ends the process if another one is there and stays."""
    before = path.read_text("utf-8") if path.exists() else None
    if before == file.text:
        print(f"{path} is so already")
        return
    if before is not None:
        sys.stdout.writelines(difflib.unified_diff(
            before.splitlines(True), file.text.splitlines(True), str(path), "for this service"))
        if not (sys.stdin.isatty() and input(f"Replace {path}? [y/N] ").strip().lower() in ("y", "yes")):
            sys.exit(f"cursor2api: {path} stays as it is: copy what you want from above")
        path.with_name(path.name + ".before").write_text(before, "utf-8")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(0o600)  # a key is in it
    path.write_text(file.text, "utf-8")
    print(f"{path} is written")


def explain(client: Client) -> None:
    for title, sentences in (("To know", client.turn_off), ("What it cannot do here", client.cannot)):
        for sentence in sentences:
            print(f"{title}: {sentence}")
    if client.run:
        print(f"Start it: {client.run}")


if __name__ == "__main__":
    sys.exit(main())
