"""Chats, as the parser of chat completions makes them of bytes."""

from cursor2api.dialects import Options
from cursor2api.dialects.chat_completions import parse as parse_body
from cursor2api.dialects.checks import load


def parsed(data, **options):
    """(chat, wishes, names of ignored parameters)."""
    return parse_body(load(data), Options(**options))


def parse(data, **options):
    return parsed(data, **options).chat
