"""A dialect: one wire format between a caller and us, whole in one file of this room.

`server/serve.py` takes every chat the same way and asks its dialect five things: to `parse` the body, to make
the `writer` of the reply, what to write of each event, of the end and of silence, and the `error` of a refusal.
To add a dialect, write its file and name it in served.py; no other line may have to know which one it serves.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from ..chat import Chat
from ..errors import ApiError
from ..events import Event, Usage
from ..fold import ReplySoFar
from .checks import Parameter


@dataclass(frozen=True, slots=True)
class Options:
    """What the operator's settings say of requests."""

    max_n: int = 4
    strict_params: bool = False  # refuse what would only be reported as ignored


class Parsed(NamedTuple):
    """A request, read. `wishes` are what only its dialect's writer needs to know; `ignored` names the
    parameters that were asked for and have no effect."""

    chat: Chat
    wishes: object = None
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Identity:
    """What is equal in all of a reply: `token` is for its id, `created` in unix seconds, `request` the
    request's id."""

    token: str
    created: int
    model: str
    request: str = ""


class Frame(NamedTuple):
    """One server-sent event: `data` is of one line; without an `event` the frame has no event line."""

    data: str
    event: str = ""


class Writer(Protocol):
    """One reply on the wire. `begin`, `add` for each event, and `end` are its stream; a stream that fails
    ends with `fail` instead. `body` is the same reply in one piece."""

    def begin(self) -> list[Frame]:
        """What leaves at once, before the first event."""

    def add(self, index: int, event: Event) -> list[Frame]:
        """What a choice's next event becomes; the event is never Waiting."""

    def end(self, usage: Usage) -> list[Frame]:
        """What follows the last event; `usage` is that of all choices."""

    def fail(self, error: ApiError) -> list[Frame]:
        """What ends the stream instead, at any time."""

    def heartbeat(self) -> Frame:
        """A frame that says nothing, for a caller who would take silence for the end."""

    def body(self, replies: Sequence[ReplySoFar], usage: Usage) -> dict:
        """The reply of all choices, each with its Finish."""


class Refusal(NamedTuple):
    """An error as an HTTP answer."""

    status: int
    body: dict


class Example(NamedTuple):
    """A reply for the documentation: to the request `body`, when the upstream says `events` and then fails
    with `error` if there is one."""

    name: str
    body: dict
    events: tuple[Event, ...]
    error: ApiError | None = None


@dataclass(frozen=True, eq=False)
class Dialect:
    """`name` is in the log and the metrics, `what` in the documentation; `paths` begins with the one that is
    documented. `error` takes the id of the request that is refused."""

    name: str
    what: str
    paths: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    parse: Callable[[dict, Options], Parsed]
    writer: Callable[[Identity, Chat, object], Writer]
    error: Callable[[ApiError, str], Refusal]
    examples: tuple[Example, ...] = ()
