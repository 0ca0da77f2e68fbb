"""The agents that are kept after a reply, each under the digest of what it knows (prefix.py).

An agent that is taken is in the store no more, so nobody else can have it; one that the store gives up
is handed back to be deleted.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from ..prompt import Briefing


@dataclass(frozen=True, slots=True)
class WaitingAgent:
    """An agent at Cursor that waits for its conversation to go on."""

    agent: str
    briefing: Briefing


class AgentStore:
    """The store of one process: at most `limit` agents, each for `age` seconds."""

    def __init__(self, limit: int, age: float, clock: Callable[[], float] = time.monotonic):
        self._limit, self._age, self._clock = limit, age, clock
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[float, WaitingAgent]] = {}  # eldest first; with the time of its end

    def put(self, digest: str, kept: WaitingAgent) -> list[str]:
        """Keeps an agent. Returns those to be deleted: what had this digest, and the eldest over the limit."""
        with self._lock:
            given_up = [self._kept.pop(digest)] if digest in self._kept else []
            self._kept[digest] = self._clock() + self._age, kept
            while len(self._kept) > self._limit:
                given_up.append(self._kept.pop(next(iter(self._kept))))
        return [kept.agent for _, kept in given_up]

    def take(self, digest: str) -> WaitingAgent | None:
        """The agent that knows this, no longer kept; None if there is none."""
        with self._lock:
            end, kept = self._kept.get(digest, (0.0, None))
            if kept and end > self._clock():
                del self._kept[digest]
                return kept
        return None  # one that is too old is left for `expired`

    def expired(self) -> list[str]:
        """Gives up what is too old."""
        with self._lock:
            digests = [digest for digest, (end, _) in self._kept.items() if end <= self._clock()]
            return [self._kept.pop(digest)[1].agent for digest in digests]

    def close(self) -> list[str]:
        """Gives up all that would be lost with this process."""
        with self._lock:
            self._limit = 0  # what is put from now on is given up at once
            agents = [kept.agent for _, kept in self._kept.values()]
            self._kept.clear()
        return agents
