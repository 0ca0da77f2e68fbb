"""Booted agents that nobody has used yet: a first turn on one of them need not wait a minute for a machine."""

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable

from ..errors import ApiError
from ..prompt import Briefing, Prompt

log = logging.getLogger("cursor2api")

WARM_UP = "A conversation comes with the next message. For now, answer with the one word: ready"
PAUSE_S = 30.0  # after a warm agent could not be had
RECENT = 100    # chats by which the model in most use is told


class Warm:
    """Booted agents that nobody has used: `count` of them for the model in most use, `first()` to begin
    with, each for `age` seconds. A model is (id, params), or None where there is none."""

    def __init__(self, upstream, count: int, age: float, first: Callable[[], tuple | None]):
        self._upstream, self._count, self._age, self._first = upstream, count, age, first
        self._lock = threading.Lock()
        self._asked: deque[tuple] = deque(maxlen=RECENT)
        self._ready: list[tuple[float, tuple, str]] = []  # time of its end, model, agent
        self._booting: set[threading.Thread] = set()
        self._not_before = 0.0
        self._stopped = False

    def count(self, model: tuple) -> None:
        """Counts a chat with this model."""
        with self._lock:
            self._asked.append(model)

    def take(self, model: tuple) -> str | None:
        """An agent for this model, which is nobody else's then."""
        with self._lock:
            for each in self._ready:
                end, booted, agent = each
                if booted == model and end > time.monotonic():
                    self._ready.remove(each)
                    return agent
        return None

    def tend(self) -> list[str]:
        """Begins to boot what is missing; gives up what is too old."""
        first = None if self._asked else self._first()
        now = time.monotonic()
        with self._lock:
            model = Counter(self._asked).most_common(1)[0][0] if self._asked else first
            there = len(self._booting) + sum(booted == model and end > now for end, booted, _ in self._ready)
            missing = 0 if not model or self._stopped or now < self._not_before else self._count - there
            for _ in range(missing):
                boot = threading.Thread(target=self._boot, args=(model,), name="warm", daemon=True)
                boot.start()  # first, as it may fail; it ends only when it gets the lock
                self._booting.add(boot)
            old = [each for each in self._ready if each[0] <= now]
            self._ready = [each for each in self._ready if each[0] > now]
        return [agent for _, _, agent in old]

    def _boot(self, model: tuple) -> None:
        run = agent = None
        try:
            run = self._upstream.open(Prompt(*model, WARM_UP, (), Briefing("", "", 0)))
            for _ in run:
                if self._stopped:
                    return
            agent = run.release()
        except ApiError as error:
            self._not_before = time.monotonic() + PAUSE_S
            log.warning("no warm agent could be made", extra={"facts": {"code": error.code}})
        finally:
            with self._lock:
                self._booting.discard(threading.current_thread())
                if agent and not self._stopped:
                    self._ready.append((time.monotonic() + self._age, model, agent))
                    log.info("a warm agent is ready", extra={"facts": {"model": model[0]}})
                elif agent:
                    self._upstream.delete(agent)
            if run:
                run.end()

    def close(self) -> list[str]:
        """Gives up all; those that are booting end by themselves."""
        with self._lock:
            self._stopped = True
            ready, self._ready, booting = [agent for _, _, agent in self._ready], [], list(self._booting)
        for boot in booting:
            boot.join(2)
        return ready
