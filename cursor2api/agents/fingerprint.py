"""What an agent knows of a conversation, as a digest: whose it is, on what terms, and every message.

Equal digests mean that an agent which knows the one may go on with the other. What clients change
when they send a reply back is levelled: white space at the ends, null for "", the JSON of arguments.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from ..chat import WholeCall, Chat, Message


class Fingerprint:
    """The digests of one chat; `terms` are whatever else must be equal, as JSON values.

    `history` is that of the messages up to the last reply, None if there is none or nothing follows it.
    """

    def __init__(self, chat: Chat, *terms: object):
        self._call_ids = chat.call_ids
        tools = [[tool.name, tool.description, tool.parameters] for tool in chat.tools]
        self._hash = hashlib.sha256(_line([*terms, chat.call_ids, tools, chat.format.type,
                                           chat.format.name, chat.format.schema]))
        self.history: str | None = None
        last = max((at for at, message in enumerate(chat.messages) if message.role == "assistant"),
                   default=len(chat.messages))
        for at, message in enumerate(chat.messages):
            if at == last + 1:
                self.history = self._hash.hexdigest()
            self._hash.update(_line(_levelled(message)))

    def after(self, text: str, calls: Sequence[WholeCall]) -> str:
        """The digest of all messages and of the reply to them, as its caller will send it back."""
        if not self._call_ids:
            calls = [replace(call, id="") for call in calls]
        then = self._hash.copy()
        then.update(_line(_levelled(Message("assistant", (text,), tool_calls=tuple(calls)))))
        return then.hexdigest()


def _levelled(message: Message) -> list:
    parts = []
    for kind, group in groupby(message.content, type):
        if kind is not str:
            parts += [[image.url] for image in group]
        elif text := "\n".join(group).strip():
            parts.append(text)
    calls = [[call.id, call.name, _arguments(call.arguments)] for call in message.tool_calls]
    return [message.role, message.name, message.tool_call_id, parts, calls]


def _arguments(text: str) -> str:
    try:
        return json.dumps(json.loads(text or "{}", parse_float=_number), sort_keys=True)
    except (ValueError, RecursionError):
        return text.strip()


def _number(text: str) -> float | int:
    value = float(text)
    return int(value) if value.is_integer() else value  # JavaScript writes 1.0 as 1


def _line(value: list) -> bytes:
    return json.dumps(value, sort_keys=True).encode() + b"\n"
