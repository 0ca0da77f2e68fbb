"""The store as the service uses it: a backend, and what holds while that fails.

A failing backend is never a caller's trouble: an agent that cannot be kept is given back to be deleted, nothing is
found, and limits count in this process alone. The log tells once that it fails, and once that it works again.
"""

import logging
import re
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from . import LEASE_S
from .sqlite_store import SqliteStore

log = logging.getLogger("cursor2api")

PAUSE_S = 5.0  # without asking a backend that has failed
RENEW_S = LEASE_S / 5
# An agent's id and that of its last run or its bridge. They go into paths, and a store may hold anything.
AGENT = re.compile(r"(bc|agent)-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(/[\w-]{0,100})?", re.ASCII)


class Store:
    """One for all threads of a process."""

    def __init__(self, backend):
        self._backend, self._own = backend, SqliteStore()
        self._holder, self._held = uuid.uuid4().hex, Counter()
        self._holding = threading.Lock()  # so that what is told last is what is held
        self._started, self._fails, self._down_until = False, False, 0.0

    def start(self, folder: Path | None) -> None:
        """From now on it is shared with all who have this folder, and what is held here stays held."""
        if self._started:
            return
        self._started = True
        self._holder = uuid.uuid4().hex  # after the fork, as no two processes may have the same
        self._backend.open(folder)
        threading.Thread(target=self._go_on, name="store", daemon=True).start()

    # Agents --------------------------------------------------------------------------------------

    def keep(self, digest: str, agent: str, note: str, seconds: float, limit: int) -> list[str]:
        """Keeps an agent, which is `done`. Returns those to be deleted: itself if it cannot be kept."""
        return self._tried(lambda: _agents(self._backend.keep(digest, agent, note, seconds, limit)), [agent])

    def take(self, digest: str) -> tuple[str, str] | None:
        """The agent that knows this, with its note, no longer kept; None if there is none."""
        found = self._tried(lambda: self._backend.take(digest), None)
        return found if found and _agents(found[:1]) and isinstance(found[1], str) else None

    def kept(self) -> int:
        """How many agents are kept, as far as is known."""
        return self._tried(self._backend.kept, 0)

    def begin(self, agent: str) -> None:
        """The agent is at work here: if this process is killed before it is `done`, another gives it up."""
        self._tried(lambda: self._backend.begin(agent), None)

    def done(self, agent: str) -> None:
        """The agent has been deleted."""
        self._tried(lambda: self._backend.done(agent), None)

    def expired(self) -> list[str]:
        """Gives up the agents that are too old, or were a killed process's. Any process does it for all."""
        return self._tried(lambda: _agents(self._backend.expired()), [])

    def lost(self, others: bool) -> list[str]:
        """Gives up all agents that would be lost with this process, where `others` go on or do not."""
        return self._tried(lambda: _agents(self._backend.lost(others)), [])

    # Values --------------------------------------------------------------------------------------

    def put(self, space: str, key: str, data: bytes, seconds: float, limit: int) -> None:
        """Keeps a value for so long; a space holds `limit` bytes, and the eldest go first."""
        self._tried(lambda: self._backend.put(space, key, data, seconds, limit), None)

    def get(self, space: str, key: str) -> bytes | None:
        data = self._tried(lambda: self._backend.get(space, key), None)
        return data if isinstance(data, bytes) else None

    def delete(self, space: str, key: str) -> None:
        self._tried(lambda: self._backend.delete(space, key), None)

    # Counts --------------------------------------------------------------------------------------

    def count(self, name: str, most: int) -> float:
        """Counts a request; 0.0, or the seconds until `name` may make one more than `most` within a minute."""
        wait = self._tried(lambda: self._backend.count(name, most), None)
        return self._own.count(name, most) if wait is None else wait

    def hold(self, name: str, count: int, most: int) -> bool:
        """Whether there are `count` more of the `most` that all may hold together: then `free` gives them back.
        When this process is killed they come free by themselves."""
        with self._holding:
            held = self._held[name] + count
            if held > most or not self._hold(name, held, most):
                return False
            self._held[name] = held
            return True

    def free(self, name: str, count: int) -> None:
        with self._holding:
            self._held[name] -= count
            self._hold(name, self._held[name], None)
            self._held += Counter()  # without names that hold nothing

    def _hold(self, name: str, held: int, most: int | None) -> bool:
        return self._tried(lambda: self._backend.hold(name, self._holder, held, most), True)

    def _go_on(self) -> None:
        while True:
            time.sleep(RENEW_S)
            self.renew()

    def renew(self) -> None:
        """Says anew what is held here, and forgets what is over."""
        for name in list(self._held):
            with self._holding:
                if held := self._held[name]:
                    self._hold(name, held, None)
        self._tried(self._backend.tidy, None)

    # Faults --------------------------------------------------------------------------------------

    def _tried(self, work: Callable, otherwise):
        if time.monotonic() < self._down_until:
            return otherwise
        try:
            result = work()
        except self._backend.faults as error:
            self._down_until = time.monotonic() + PAUSE_S
            if not self._fails:
                self._fails = True
                log.warning("the store failed: no agent is kept or reused, and limits count in each worker alone",
                            extra={"facts": {"error": type(error).__name__, "why": str(error)[:200]}})
            return otherwise
        if self._fails:
            self._fails = False
            log.warning("the store works again")
        return result


class Space:
    """One space of a store, for whoever need not know that there are others. It holds `limit` bytes."""

    def __init__(self, store: Store, name: str, limit: int):
        self._store, self._name, self._limit = store, name, limit

    def get(self, key: str) -> bytes | None:
        return self._store.get(self._name, key)

    def put(self, key: str, data: bytes, seconds: float) -> None:
        self._store.put(self._name, key, data, seconds, self._limit)

    def delete(self, key: str) -> None:
        self._store.delete(self._name, key)


def _agents(found: Iterable) -> list[str]:
    """Those that are agents."""
    return [each for each in found if isinstance(each, str) and AGENT.fullmatch(each)]
