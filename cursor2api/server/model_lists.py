"""The lists of models, one for each upstream key. One thread at a time fetches a list, and a stale one is served
meanwhile.
"""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from ..config import digest
from ..errors import ApiError, InternalError, KeyRefused, UpstreamTimeout
from ..models import Choice, Model, choose, read_model

log = logging.getLogger("cursor2api")

FRESH_S = 600
RETRY_S = 10
CHECK_S = 10  # after which `trouble` asks the upstream anew
ANSWER_S = 1.0  # that it then waits
FETCH_S = 60  # longer than the adapters' own limits for this request
LOOK_S = 0.5
KEYS = 100    # lists that are kept
RENEWALS = 4  # at once, of callers' lists that can do without


@dataclass(slots=True)
class _List:
    """What is known for one key: the models by id, the last failure, when that was heard, when to ask again."""

    models: dict[str, Model] = field(default_factory=dict)
    error: ApiError | None = None
    told: float = float("-inf")
    next: float = float("-inf")
    waited_once: bool = False  # MODELS fixes the ids: only the first call waits LOOK_S for Cursor's details
    fetching: threading.Event | None = None


class Models:
    """The list of each upstream key, and the way from a name to a model.

    Keys are known by their digests only; `key` is the caller's own, or "" for the gateway's.
    """

    def __init__(self, fetch: Callable[[str], list[dict] | None], fixed: tuple[str, ...],
                 aliases: tuple[tuple[str, str], ...], clock: Callable[[], float] = time.monotonic):
        self._fetch, self._fixed, self._aliases = fetch, fixed, dict(aliases)
        self._clock = clock
        self._lock = threading.Lock()
        self._lists: OrderedDict[str, _List] = OrderedDict()
        self._renewals = 0
        self.created = int(time.time())

    def all(self, key: str = "", look: Callable[[], None] = lambda: None) -> list[Model]:
        """The base models. Raises the upstream's ApiError while there has never been a list; `look` is called now
        and then while the first one is waited for, and may raise what ends that."""
        known = self._known(key)
        seconds = FETCH_S if not self._fixed else 0 if known.waited_once else LOOK_S
        self._refresh(known, key, seconds, not self._fixed, look)
        if self._fixed:
            known.waited_once = True
            return [known.models.get(id) or Model(id) for id in self._fixed]
        if not known.models and (known.error or known.fetching):
            raise _failure(known)
        return list(known.models.values())

    def first(self) -> tuple | None:
        """The model that stands first, as (id, params); None if there is none. Raises as `all` does."""
        return next(((model.id, ()) for model in self.all()), None)

    def prove(self, key: str) -> None:
        """Returns when there is a list for the key. Raises the upstream's ApiError."""
        known = self._known(key)
        self._refresh(known, key, FETCH_S)
        if not known.models and (known.error or known.fetching):
            raise _failure(known)

    def waits(self, key: str = "") -> bool:
        """Whether `all` would wait for the upstream."""
        known = self._known(key)
        return not (self._fixed or known.models) and (
            known.fetching is not None or self._clock() >= known.next)

    def trouble(self, seconds: float = ANSWER_S) -> ApiError | None:
        """Why there is no service: no list yet, a key that is refused, an upstream that fails or is gone.

        If the last list is older than CHECK_S, or the time to try again after a failure has come, one caller asks
        the upstream anew and waits at most `seconds`. All others, and that one after its wait, get what is known.
        """
        known = self._known("")
        if (fetching := self._begin(known, "", age=CHECK_S)):
            fetching.wait(seconds)
        if not (known.models or self._fixed):
            return known.error or UpstreamTimeout("The model list has not come yet", code="starting")
        return known.error if known.error and _fatal(known.error) else None

    def doubt(self) -> None:
        """Cursor has refused the gateway's key: the list, which tells `trouble`, is soon asked for again."""
        known = self._known("")
        known.next = min(known.next, self._clock() + RETRY_S)

    def choose(self, name: str, effort: str | None = None, key: str = "", think: bool = False,
               look: Callable[[], None] = lambda: None) -> Choice:
        """As models.choose, among the models of the key. Raises as `all` does, too."""
        return choose(self.all(key, look), self._aliases, name, effort, think)

    def _known(self, key: str) -> _List:
        name = key and digest(key)
        with self._lock:
            known = self._lists.setdefault(name, _List())
            self._lists.move_to_end(name)
            if len(self._lists) > KEYS:
                # The gateway's own stays, and the one that is asked for. One without models goes first, as its key
                # may be made up; else the one that was asked for longest ago.
                others = (each for each in self._lists if each not in ("", name))
                del self._lists[min(others, key=lambda each: bool(self._lists[each].models))]
            return known

    def _refresh(self, known: _List, key: str, seconds: float, needed: bool = True,
                 look: Callable[[], None] = lambda: None) -> None:
        """Fetches the list if it is not fresh; whoever has a list does not wait for a newer one.

        With a caller's own key few fetches are made at once that are not `needed`, as when a list is only stale.
        """
        self._begin(known, key, needed)
        fetching = known.fetching
        while fetching and not (known.models or fetching.wait(min(LOOK_S, seconds))) and seconds > LOOK_S:
            seconds -= LOOK_S
            look()

    def _begin(self, known: _List, key: str, needed: bool = True,
               age: float = float("inf")) -> threading.Event | None:
        """Starts a fetch if one is due, or if a good list is older than `age` seconds; its end if it did."""
        with self._lock:
            spare = bool(key) and not (needed and not known.models)
            due = known.next if known.error else min(known.next, known.told + age)
            if self._clock() < due or known.fetching or spare and self._renewals >= RENEWALS:
                return None
            # First, as it may fail; it ends only when it gets the lock.
            threading.Thread(target=self._renew, args=(known, key, spare), name="models", daemon=True).start()
            self._renewals += spare
            known.fetching = fetching = threading.Event()
            return fetching

    def _renew(self, known: _List, key: str, spare: bool) -> None:
        models, error, wait = known.models, None, RETRY_S
        try:
            models, wait = {model.id: model for model in map(read_model, self._fetch(key) or []) if model}, FRESH_S
        except ApiError as refusal:
            error, wait = refusal, min(max(RETRY_S, refusal.retry_after or 0), FRESH_S)
            log.warning("the model list could not be fetched: %s", refusal.code)
        except Exception:
            error = InternalError()
            log.exception("a fault in fetching the model list")
        with self._lock:
            known.told, known.error = self._clock(), error
            known.next = known.told + wait
            known.models = models  # who waits for the first list goes on now, without the lock
            fetching, known.fetching = known.fetching, None
            fetching.set()
            self._renewals -= spare


def _failure(known: _List) -> ApiError:
    return (known.error or UpstreamTimeout("The model list has not come in time")).with_traceback(None)


def _fatal(error: ApiError) -> bool:
    """Whether an upstream that answers a request for its models so would answer no chat. One that only limits how
    often it is asked, or has no list to give, may."""
    passes = error.status >= 500 and error.retry_after is not None
    return passes or isinstance(error, (KeyRefused, UpstreamTimeout))
