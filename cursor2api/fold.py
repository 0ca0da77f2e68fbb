"""From the events of one reply to the reply: what a body shows, what is kept, what the end of a stream repeats."""

import json
from dataclasses import dataclass, field
from io import StringIO

from .chat import WholeCall
from .events import Event, Finish, Reasoning, Text, ToolCall, Usage


@dataclass(slots=True)
class _Part:
    """Consecutive pieces of one `kind`; `id`, `name` and `call_kind` are a call's."""

    kind: type[Text] | type[Reasoning] | type[ToolCall]
    id: str = ""
    name: str = ""
    call_kind: str = "function"
    written: StringIO = field(default_factory=StringIO)


class ReplySoFar:
    """One choice's reply, as far as its events have come; `usage` and `finish` are None until theirs has."""

    def __init__(self):
        self.usage: Usage | None = None
        self.finish: Finish | None = None
        self._parts: list[_Part] = []
        self._calls: dict[int, _Part] = {}
        self._spoken: _Part | None = None  # the part of the last event that is text or of a call

    def add(self, event: Event) -> None:
        kind = type(event)
        if kind is Text or kind is Reasoning:
            if not self._parts or self._parts[-1].kind is not kind:
                self._parts.append(_Part(kind))
            self._parts[-1].written.write(event.text)
            if kind is Text:
                self._spoken = self._parts[-1]
        elif kind is ToolCall:
            if event.id is not None:
                self._calls[event.index] = _Part(kind, event.id, event.name, event.kind)
                self._parts.append(self._calls[event.index])
            self._spoken = self._calls[event.index]
            self._spoken.written.write(event.arguments)
        elif kind is Usage:
            self.usage = event
        elif kind is Finish:
            self.finish = event

    @property
    def parts(self) -> list[Text | Reasoning | WholeCall]:
        """All that was said, in order.

        A call that was cut with the reply is left out.
        """
        cut = self._spoken if self.cut_call else None
        return [WholeCall(part.id, part.name, part.written.getvalue(), part.call_kind) if part.kind is ToolCall
                else part.kind(part.written.getvalue()) for part in self._parts if part is not cut]

    @property
    def cut_call(self) -> bool:
        """Whether the reply ended within a call."""
        last = self._spoken
        if self.finish is None or self.finish.reason != "length" or last is None or last.kind is not ToolCall:
            return False
        return is_cut(last.call_kind, last.written.getvalue())

    @property
    def text(self) -> str:
        return "".join(part.text for part in self.parts if type(part) is Text)

    @property
    def reasoning(self) -> str:
        return "".join(part.text for part in self.parts if type(part) is Reasoning)

    @property
    def calls(self) -> list[WholeCall]:
        return [part for part in self.parts if type(part) is WholeCall]


def is_cut(call_kind: str, arguments: str) -> bool:
    """Whether a reply that was cut, and said nothing but thinking behind this call, was cut within it. A custom
    tool's raw input always counts as cut, because nothing in it tells whether it is whole."""
    if call_kind == "custom":
        return True
    try:
        json.loads(arguments)
    except ValueError:
        return True
    return False
