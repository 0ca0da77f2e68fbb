"""Who may ask, and how much: the keys by their SHA-256, and the limits of each by its name."""

import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ..config import ConfigError, KeyLimit, digest
from ..errors import ApiError, BadRequest, InvalidKey
from ..state.store import Store

OWN = "cursor-"  # begins the name of a caller with a Cursor key of its own
PROVEN = 10_000  # callers' own keys that are remembered as good
PROVEN_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose request it is. `upstream_key` is the caller's own Cursor key, "" for the gateway's."""

    name: str
    upstream_key: str = ""
    development: bool = False  # came with the key of the development start


class Keys:
    """`keys` are (name, key) pairs, `digests` (name, SHA-256) pairs; `store` counts what has a limit.

    `development` is the key of the development start, "" under any other. Raises ConfigError for limits of a
    name that nobody has.
    """

    def __init__(self, keys: Iterable[tuple[str, str]], digests: Iterable[tuple[str, str]],
                 limits: Iterable[tuple[str, KeyLimit]], passthrough: bool, clock: Callable[[], float],
                 store: Store, development: str = ""):
        self._names = dict([(digest(key), name) for name, key in keys]
                           + [(hashed, name) for name, hashed in digests])
        self._limits, self._passthrough, self._clock = dict(limits), passthrough, clock
        self._store = store
        self.development = development
        for name in self._limits.keys() - {"*", *self._names.values()}:
            if not (passthrough and name.startswith(OWN)):
                raise ConfigError(f"KEY_LIMITS: expected names of keys in use or *, got {name!r}")
        self._lock = threading.Lock()
        self._proven: dict[str, float] = {}  # by the key's digest, eldest first: the time of the proof

    @property
    def exist(self) -> bool:
        """Whether any key can be good."""
        return bool(self._names or self._passthrough or self.development)

    def identify(self, given: Iterable[str]) -> Caller:
        """The caller who sent these keys, the first known one counting. Raises InvalidKey or ApiError 403.

        Looking up digests takes a time that says nothing about the keys.
        """
        if not self.exist:
            raise ApiError("API_KEY is not set, so no key is good: set it to a key of your own and start again",
                           status=403, type="invalid_request_error", code="default_key")
        given = [key for key in given if key]
        for key in given:
            if name := self._names.get(digest(key)):
                return Caller(name)
            if key == self.development:
                return Caller("development", development=True)
        if not given:
            raise InvalidKey("Invalid API key: none came with the request; send Authorization: Bearer KEY")
        if self._passthrough and re.fullmatch(r"[!-~]{8,500}", given[0]):
            return Caller(OWN + digest(given[0])[:8], given[0])
        raise InvalidKey("Invalid API key")

    def proven(self, caller: Caller) -> bool:
        """Whether Cursor has taken the caller's own key within the last day; ours need no proof."""
        return not caller.upstream_key or (
            self._proven.get(digest(caller.upstream_key), float("-inf")) > self._clock() - PROVEN_S)

    def prove(self, caller: Caller) -> None:
        """Cursor has taken the caller's own key."""
        hashed = digest(caller.upstream_key)
        with self._lock:
            self._proven.pop(hashed, None)
            self._proven[hashed] = self._clock()
            if len(self._proven) > PROVEN:
                del self._proven[next(iter(self._proven))]

    def limit(self, caller: Caller) -> KeyLimit:
        return self._limits.get(caller.name) or self._limits.get("*") or KeyLimit()

    def count(self, caller: Caller) -> None:
        """Counts a request. Raises ApiError 429 when it is one too many within a minute."""
        most = self.limit(caller).requests_per_minute
        if most is not None and (wait := self._store.count(caller.name, most)):
            raise ApiError(f"The key {caller.name} may make {most} requests a minute", status=429, type="requests",
                           code="rate_limit_exceeded", retry_after=wait)

    @contextmanager
    def streams(self, caller: Caller, count: int) -> Iterator[None]:
        """Holds `count` of the streams that the key may have at once, one a choice. Raises ApiError 429."""
        most = self.limit(caller).streams
        if most is None:
            yield
            return
        if count > most:
            raise BadRequest(f"n: expected at most {most}, the replies that the key {caller.name} may have made "
                             f"at once, got {count}", code="integer_above_max_value", param="n")
        if not self._store.hold(caller.name, count, most):
            raise ApiError(f"The key {caller.name} may have {most} replies made at once", status=429,
                           type="requests", code="too_many_streams", retry_after=2)
        try:
            yield
        finally:
            self._store.free(caller.name, count)

    def allow(self, caller: Caller, model: str) -> None:
        """Raises ApiError 403 when the key may not use this base model."""
        models = self.limit(caller).models
        if models is not None and model not in models:
            raise ApiError(f"The key {caller.name} may not use {model}: expected one of "
                           f"{', '.join(models)}", status=403, type="invalid_request_error",
                           code="model_not_allowed", param="model")


def read_digests(text: str) -> tuple[tuple[str, str], ...]:
    """(name, SHA-256) pairs of a key file; blank lines and # comments are skipped. Raises ConfigError."""
    pairs = []
    for number, line in enumerate(text.splitlines(), 1):
        line = line.partition("#")[0].split()
        if not line:
            continue
        if len(line) != 2 or not re.fullmatch(r"[\w.-]{1,64}", line[0]) or not re.fullmatch(
                r"[0-9a-fA-F]{64}", line[1]):
            raise ConfigError(f"API_KEY_FILE: expected NAME SHA256 in line {number}, got something else")
        pairs.append((line[0], line[1].lower()))
    return tuple(pairs)
