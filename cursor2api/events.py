"""The events of a reply, as frozen values. The whole service is functions over these.

An upstream says Text, Reasoning, Usage and Finish, and its Run adds Waiting. `split_calls` makes ToolCall of text.
Misfit and Note come from transforms and go no further than reply.py.

A stream of events holds any number of Text, Reasoning, ToolCall and Waiting, at most one Usage, and
ends with exactly one Finish; a failure is an exception, never an event.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Text:
    """The next piece of the reply."""

    text: str


@dataclass(frozen=True, slots=True)
class Reasoning:
    """The next piece of the model's thinking, which is no part of the reply."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A piece of a tool call: the first of an `index` carries `id` and `name`, later ones have None.

    The `arguments` of one index, joined, are JSON text, until the last piece a prefix of it; those of a call
    whose `kind` is custom are any text.
    """

    index: int
    id: str | None
    name: str | None
    arguments: str
    kind: str = "function"


@dataclass(frozen=True, slots=True)
class Waiting:
    """Nothing more is at hand: send on what you have. Repeats at least every second of silence."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of the whole reply; `source` says whose count it is: "upstream" or "estimate"."""

    prompt_tokens: int
    completion_tokens: int
    reasoning_tokens: int = 0
    cached_tokens: int = 0
    source: str = "upstream"

    def __add__(self, other: "Usage") -> "Usage":
        """The usage of two replies; it is an estimate if one of the two is."""
        return Usage(self.prompt_tokens + other.prompt_tokens,
                     self.completion_tokens + other.completion_tokens,
                     self.reasoning_tokens + other.reasoning_tokens,
                     self.cached_tokens + other.cached_tokens,
                     self.source if other.source == "upstream" else other.source)


@dataclass(frozen=True, slots=True)
class Misfit:
    """The reply breaks the chat's terms; `complaint` is what to tell the model so that it mends it.

    `error` is what the caller gets if it does not; without one the reply goes on as text.
    """

    complaint: str
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class Note:
    """What the log must say of a tool call that does not leave as the model wrote it.

    `why` is one of a few fixed phrases and never what the model wrote. `id` is None if nothing of
    the call has left, `name` is None unless it is a tool's.
    """

    why: str
    name: str | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Finish:
    """The end; `reason` is stop, length, tool_calls or content_filter.

    `stop_sequence` is the one of the chat's stop sequences that ended the reply, None if none did.
    """

    reason: str
    stop_sequence: str | None = None


Event = Text | Reasoning | ToolCall | Waiting | Usage | Misfit | Note | Finish
