"""Kilo Code: its command line and its extension for VS Code read one configuration, which is OpenCode's."""

from . import Client, File, Gateway
from .opencode import configuration


def files(gateway: Gateway) -> tuple[File, ...]:
    return File("~/.config/kilo/kilo.json", "json", configuration(gateway, "https://app.kilo.ai/config.json")),


CLIENT = Client(
    "kilo", "Kilo Code", files, "kilo",
    turn_off=("Titles of sessions: each is a request beside the first message and costs an agent of its own. "
              "The file turns them off.",),
    cannot=("Versions of the extension that want every reply to call a tool need KILO_TOOL_STRICT=true in the "
            "service.",),
    tried="Kilo Code CLI 7.7.7")
