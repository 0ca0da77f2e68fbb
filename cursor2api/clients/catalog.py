"""The clients that there is a template for, and all of it as data, which the page shows."""

from dataclasses import asdict

from . import Gateway, Model
from .codex import CLIENT as CODEX
from .openai_sdk import CLIENT as OPENAI_SDK
from .opencode import CLIENT as OPENCODE

CLIENTS = (OPENCODE, CODEX, OPENAI_SDK)
# Words in place of what only the reader knows; the page replaces them.
BLANK = Gateway("__ADDRESS__", "__KEY__", (Model("__MODEL__"),))


def as_data() -> dict:
    """What /clients.json has: {"clients": [{"name", "title", "files", "run", "turn_off", "cannot"}]}."""
    return {"clients": [
        {"name": client.name, "title": client.title, "files": [asdict(file) for file in client.files(BLANK)],
         "run": client.run, "turn_off": client.turn_off, "cannot": client.cannot} for client in CLIENTS]}
