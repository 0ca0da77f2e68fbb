"""All clients, and what the page shows of them."""

from collections.abc import Callable

from . import (Client, Model, Service, aider, claude_code, cline, codex, continue_dev, copilot, kilo, langchain,
               librechat, llm, open_webui, openai_sdk, opencode, roo, zed)

CLIENTS: dict[str, Client] = {each.CLIENT.name: each.CLIENT for each in (
    opencode, kilo, cline, roo, continue_dev, codex, claude_code, copilot, aider, llm, zed, open_webui, librechat,
    langchain, openai_sdk)}
PLACES = Service("__ADDRESS__", "__KEY__", (Model("__MODEL__"),))  # words that the page replaces


def shown(translate: Callable[[str], str] = str) -> list[dict]:
    """All clients: {"name", "title", "files": [{"path", "language", "text"}], "run", "turn_off", "cannot"}. The
    texts hold the words of PLACES, and sentences are translated."""
    return [{"name": client.name, "title": client.title,
             "files": [{"path": file.path, "language": file.language, "text": file.text}
                       for file in client.files(PLACES)],
             "run": client.run, "turn_off": [*map(translate, client.turn_off)],
             "cannot": [*map(translate, client.cannot)]}
            for client in CLIENTS.values()]
