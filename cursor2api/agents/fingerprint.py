"""What an agent knows of a conversation, as a digest: whose it is, on what terms, and every message.

If the digest of a request's history equals the digest stored with an agent, that agent has seen this conversation
and can continue it. What clients change when they send a reply back is levelled: white space at the ends, null
for "", where calls part a reply's text, the JSON of arguments, the ids of tool calls and the order of their
results. The tools do not count: an agent is told anew of those that have changed.
"""

import hashlib
import json
from collections.abc import Sequence
from itertools import groupby

from ..chat import WholeCall, Chat, Message
from ..prompt import in_order


class Fingerprint:
    """The digests of one chat; `terms` are whatever else must be equal, as JSON values.

    `history` is that of the messages up to the last reply, None if there is none or nothing follows it.
    """

    def __init__(self, chat: Chat, *terms: object):
        self._hash = hashlib.sha256(_line([*terms, chat.format.type, chat.format.name, chat.format.schema]))
        self._calls: dict[str, int] = {}  # from the id of each call to its number in the conversation
        self._count = 0
        self.history: str | None = None
        messages = in_order(chat.messages)
        last = max((at for at, message in enumerate(messages) if message.role == "assistant"),
                   default=len(messages))
        for at, message in enumerate(messages):
            if at == last + 1:
                self.history = self._hash.hexdigest()
            for call in message.tool_calls:
                self._calls[call.id] = self._count = self._count + 1
            answers = self._calls.get(message.tool_call_id, message.tool_call_id)
            self._hash.update(_line(_levelled(message, answers)))

    def after(self, text: str, calls: Sequence[WholeCall]) -> str:
        """The digest of all messages and of the reply to them, as its caller will send it back."""
        then = self._hash.copy()
        then.update(_line(_levelled(Message("assistant", (text,), tool_calls=tuple(calls)), None)))
        return then.hexdigest()


def _levelled(message: Message, answers: int | str | None) -> list:
    """`answers` is the number of the call whose result a message is, or an id that no call has."""
    parts, between = [], "" if message.role == "assistant" else "\n"
    for kind, group in groupby(message.content, type):
        if kind is not str:
            parts += [[image.url] for image in group]
        elif text := between.join(group).strip():
            parts.append(text)
    calls = [[call.name, _arguments(call.arguments)] for call in message.tool_calls]
    return [message.role, None if isinstance(answers, int) else message.name, answers, parts, calls]


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
