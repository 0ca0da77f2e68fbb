"""The clients that there is a template for, and all of it as data, which the page shows."""

from collections.abc import Callable
from dataclasses import asdict

from . import Gateway, Model, claude_code, codex, opencode, openai_sdk
from . import aider, cline, continue_, copilot, kilo, langchain, librechat, llm, open_webui, qwen, roo, zed

CLIENTS = tuple(module.CLIENT for module in (
    opencode, kilo, cline, roo, continue_, codex, claude_code, copilot, qwen, aider, llm, zed, open_webui,
    librechat, langchain, openai_sdk))
# Words in place of what only the reader knows; the page replaces them.
BLANK = Gateway("__ADDRESS__", "__KEY__", (Model("__MODEL__"),))


def as_data(translated: Callable[[str], str] = str) -> dict:
    """What /clients.json has: {"clients": [{"name", "title", "files", "run", "turn_off", "cannot"}]}, the last two
    being sentences."""
    return {"clients": [
        {"name": client.name, "title": client.title, "files": [asdict(file) for file in client.files(BLANK)],
         "run": client.run, "turn_off": [*map(translated, client.turn_off)],
         "cannot": [*map(translated, client.cannot)]} for client in CLIENTS]}
