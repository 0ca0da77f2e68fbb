"""Kilo Code: its command line and its extension read the configuration of OpenCode, of which it is a fork."""

from .opencode import provider
from . import Client, File, Service, as_json


def files(service: Service) -> tuple[File, ...]:
    return File("~/.config/kilo/kilo.json", "json", as_json({
        "$schema": "https://kilo.ai/config.json", **provider(service)})),


CLIENT = Client(
    "kilo", "Kilo Code", files, "kilo",
    ("The agent that makes titles is off: each title would cost an agent at Cursor of its own.",),
    ("Older versions want every reply to call a tool: set KILO_TOOL_STRICT=true in this service for them.",
     "Completion while you type has no model here."),
    "Kilo CLI 7.7.7")
