"""The service as one object: what the endpoints work with, and how it starts, drains and stops."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ..agents.agents import Agents
from ..config import DEVELOPMENT_KEY, Config
from ..errors import ApiError
from .keys import Caller, Keys
from .metrics import Metrics
from .model_lists import Models
from .page import File
from .slots import Slots, draining
from ..state.store import Store

log = logging.getLogger("cursor2api")

LAST_WORDS_S = 3.0  # for error frames to leave and slots to become free
SWEEP_EVERY_S = 1.0  # at least
PARSED_AT_ONCE = 1_000_000  # bytes, whose values may take 25 times as much; a larger body is parsed alone
LONG_BODY, MOMENT_S = 500_000, 0.02  # bytes; a health check takes some 5 ms
STOP_S = 7.0  # beyond GRACE_S: error frames leave, then runs and agents at Cursor are ended


@dataclass
class Service:
    """`upstream`, `agents` and `models` are None while no upstream is configured."""

    config: Config
    upstream: object | None
    agents: Agents | None
    models: Models | None
    store: Store
    keys: Keys
    slots: Slots
    unproven: Slots  # of callers whose own keys are being tried
    metrics: Metrics
    files: dict[str, File]  # the page
    draining: bool = False
    replaced: bool = False  # others take this one's place
    cut: bool = field(default=False, init=False)  # replies that still run end with an error frame
    _parsing: Slots = field(init=False)  # a slot is a byte
    _closing: threading.Lock = field(default_factory=threading.Lock, init=False)
    _closed: bool = field(default=False, init=False)

    def __post_init__(self):
        self._parsing = Slots(PARSED_AT_ONCE, self.config.threads - 2, time.monotonic,
                              "as many bytes of requests as it takes")

    def start(self, folder: Path | None = None) -> None:
        """What a worker does before its first request, none of it waited for. All workers share `folder`."""
        self.store.start(folder)
        if self.upstream:
            self.upstream.share(folder)
            self.agents.share(folder)
        if self.config.debug_content:
            log.warning("DEBUG_CONTENT is on: prompts and replies are logged in full")
        if not self.keys.exist:
            log.warning("API_KEY is not set: no key is good, and whatever needs a key is refused")
        if self.config.warm_agents and not self.config.can_warm_agents:
            log.warning("WARM_AGENTS means nothing here: agents boot on the upstream cloud alone, and need a "
                        "CURSOR_API_KEY")
        if DEVELOPMENT_KEY in dict(self.config.api_key).values():
            log.warning("API_KEY has the key 0000, which everybody knows")
        if self.upstream and self.config.cursor_api_key:
            self.models.trouble(0)  # begins to ask for the list
            self.agents.start()
            if self.config.sweep_s:
                threading.Thread(target=self._sweep, name="sweep", daemon=True).start()

    def _sweep(self) -> None:
        """Now for what an earlier start left, later for what a worker did that was killed."""
        while not self.draining:
            try:
                self.upstream.sweep(self.config.sweep_s)
            except ApiError as error:
                log.warning("agents that a crash left could not be looked up: %s", error.code)
            except Exception:
                log.exception("a fault in looking up agents that a crash left")
            time.sleep(max(SWEEP_EVERY_S, self.config.sweep_s))

    def check_upstream(self, key: str) -> None:
        """Raises ApiError if nobody can be asked; `key` is the caller's own Cursor key, "" for none."""
        if self.upstream is None or not (self.config.cursor_api_key or key or self.upstream.name == "uistream"):
            raise not_configured()

    @contextmanager
    def slot(self, count: int, look: Callable[[], None] = lambda: None) -> Iterator[float]:
        """Holds `count` slots; gives the seconds that were waited for them, while `look` was called."""
        queued = self.slots.take(count, self.config.queue_s, look)
        self.metrics.slot(count)
        try:
            yield queued
        finally:
            self.slots.give(count)
            self.metrics.slot(-count)

    @contextmanager
    def parsing(self, size: int, look: Callable[[], None]) -> Iterator[None]:
        """Holds the right to parse a body of `size` bytes; `look` is called while that is waited for. Bodies take
        turns, because nothing else runs while one is parsed: after a long one all else has a moment to itself."""
        self._parsing.take(size, self.config.request_timeout, look)
        try:
            yield
            if size > LONG_BODY:
                time.sleep(MOMENT_S)
        finally:
            self._parsing.give(size)

    def trouble(self) -> ApiError | None:
        """Why this process cannot serve a chat now; None when it can. See `Models.trouble`."""
        if self.draining:
            return draining()
        if self.upstream is None:
            return not_configured()
        return self.models.trouble() if self.config.cursor_api_key else None

    def prove(self, caller: Caller) -> None:
        """Tries a caller's own key, by listing the models with it, before it can take what others need.

        A made-up key so never holds a slot, and few are at Cursor at once. Raises Cursor's refusal, and
        ApiError 503 when too many keys are being tried.
        """
        if self.keys.proven(caller):
            return
        self.unproven.take(1, self.config.queue_s)
        try:
            self.models.prove(caller.upstream_key)
            self.keys.prove(caller)
        finally:
            self.unproven.give(1)

    def drain(self, then) -> None:
        """No new replies; calls `then` when the running ones are over, or cut after GRACE_S."""
        if self.draining:
            return
        self.draining = True
        if self.upstream:
            self.upstream.retire()
        threading.Thread(target=self._drain, args=(then,), name="drain", daemon=True).start()

    def _drain(self, then) -> None:
        end = time.monotonic() + self.config.grace_s + STOP_S
        self._shut()
        if not self.slots.empty(self.config.grace_s):
            log.info("replies are cut at the end of the grace time", extra={"facts": {
                "replies": self.slots.used}})
        # Before the worker ends: a caller who does not read can hold that up.
        self.close(end - time.monotonic())
        then()

    def close(self, seconds: float = STOP_S) -> None:
        """Cuts what still runs; returns when nothing of ours is left running upstream, or after `seconds`."""
        self.draining = self.cut = True
        self._shut()
        with self._closing:
            end, upstream = time.monotonic() + seconds, self.upstream
            self.slots.empty(LAST_WORDS_S)
            if upstream and not self._closed:
                self._closed = True
                self.agents.close(self.replaced)
                upstream.close(max(0.0, end - time.monotonic()))

    def _shut(self) -> None:
        self.slots.shut()
        self.unproven.shut()

    def check(self, seconds: float) -> None:
        """Raises what ends a reply that has taken `seconds` before its own end."""
        if self.cut:
            raise ApiError("The service was stopped before the reply was whole", status=503,
                           code="shutting_down", retry_after=1)
        total = self.config.total_timeout
        if total and seconds > total:
            raise ApiError(f"The reply took longer than {total:g} s", status=504, code="total_timeout")


def not_configured() -> ApiError:
    return ApiError("No upstream is configured: set CURSOR_API_KEY (or UISTREAM_URL) and start again",
                    status=503, code="upstream_not_configured")
