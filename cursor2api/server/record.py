"""What is counted while one request is answered: for its log line, the metrics and its headers."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from ..events import Event, Finish, Reasoning, Text, ToolCall, Usage


@dataclass(slots=True)
class RequestRecord:
    """Times are the clock's, in seconds; None is what did not happen.

    `error` is the ApiError that ended the request, `whole` that its reply came to its end; with neither
    the caller has left.
    """

    clock: Callable[[], float]
    id: str = ""
    key: str = ""
    model: str = ""
    agent: str = ""                    # new, reused, warm or replay, when the headers left
    route: str = ""
    started: float = 0.0
    queued: float | None = None        # seconds spent waiting for a slot
    opened: float | None = None        # when the upstream had said yes or no, for a stream
    first: float | None = None         # when the first delta left, of a stream
    deltas: int = 0                    # events that hold a piece of the reply
    heartbeats: int = 0
    usage: Usage | None = None         # of all choices
    finishes: list[str] = field(default_factory=list)
    error: Exception | None = None
    whole: bool = False

    def counted(self, pairs: Iterable[tuple[int, Event]], stream: bool) -> Iterator[tuple[int, Event]]:
        """Passes on a reply's (index of the choice, event) pairs, and counts them."""
        for pair in pairs:
            event = pair[1]
            kind = type(event)
            if kind is Text or kind is ToolCall or kind is Reasoning:
                if stream and not self.deltas:
                    self.first = self.clock()
                self.deltas += 1
            elif kind is Usage:
                self.usage = self.usage + event if self.usage else event
            elif kind is Finish:
                self.finishes.append(event.reason)
            yield pair
