"""Slots: the right to hold one upstream stream. There are fewer of them than threads, and few requests
may wait for one, so that a health check always finds a thread. What requests take in turns is counted in them too.
"""

import threading
from collections import deque
from collections.abc import Callable

from ..errors import ApiError

LOOK_S = 0.5
UNPROVEN = 4  # callers' own keys that are tried at Cursor at once; as many more may wait for that


class Slots:
    """`limit` slots for which at most `waiting` requests wait at a time; `busy` says what all are taken by."""

    def __init__(self, limit: int, waiting: int, clock: Callable[[], float],
                 busy: str = "as many replies as it can make"):
        self.limit, self._waiting, self._clock, self._busy = limit, waiting, clock, busy
        self.used = 0
        self._free = threading.Condition()
        self._queue: deque[object] = deque()
        self._shut = False

    def take(self, count: int, seconds: float, look: Callable[[], None] = lambda: None) -> float:
        """Takes `count` slots, first come first served; the seconds waited. Raises ApiError 503.

        While it waits it calls `look` now and then, which may raise what ends the wait.
        """
        start = self._clock()
        place = object()
        count = min(count, self.limit)
        with self._free:
            self._queue.append(place)
            try:
                while not self._shut:
                    if self._queue[0] is place and self.used + count <= self.limit:
                        self.used += count
                        return self._clock() - start
                    left = start + seconds - self._clock()
                    if left <= 0 or len(self._queue) > self._waiting and self._queue[-1] is place:
                        raise ApiError(f"The service is busy with {self._busy} at once ({self.limit}): "
                                       "try again soon", status=503, code="overloaded",
                                       retry_after=1)
                    self._free.wait(min(left, LOOK_S))
                    look()
                raise draining()
            finally:
                self._queue.remove(place)
                self._free.notify_all()

    def give(self, count: int) -> None:
        with self._free:
            self.used -= min(count, self.limit)
            self._free.notify_all()

    def shut(self) -> None:
        """From now on nobody gets a slot."""
        with self._free:
            self._shut = True
            self._free.notify_all()

    def empty(self, seconds: float) -> bool:
        """Waits until no slot is in use; whether that came in time."""
        with self._free:
            return self._free.wait_for(lambda: not self.used, seconds)


def draining() -> ApiError:
    return ApiError("The service is being restarted: try again soon", status=503, code="draining",
                    retry_after=1)
