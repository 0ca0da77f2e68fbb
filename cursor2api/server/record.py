"""What is counted while one request is answered: for its log line, the metrics and its headers."""

from collections.abc import Callable
from dataclasses import dataclass, field


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
    agent: str = ""                    # new, reused or warm, when the headers left
    route: str = ""
    started: float = 0.0
    queued: float | None = None        # seconds spent waiting for a slot
    opened: float | None = None        # when the upstream had said yes or no
    first: float | None = None         # when the first delta left, of a stream
    deltas: int = 0
    heartbeats: int = 0
    usage: dict | None = None          # the usage object that the caller gets
    finishes: list[str] = field(default_factory=list)
    error: Exception | None = None
    whole: bool = False

    def delta(self) -> None:
        if not self.deltas:
            self.first = self.clock()
        self.deltas += 1
