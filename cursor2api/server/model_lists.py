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
FETCH_S = 60  # longer than the adapters' own limits for this request
LOOK_S = 0.5
KEYS = 100    # lists that are kept
RENEWALS = 4  # at once, of callers' lists that can do without


@dataclass(slots=True)
class _List:
    """What is known for one key: the models by id, the last failure, when to ask again."""

    models: dict[str, Model] = field(default_factory=dict)
    error: ApiError | None = None
    next: float = float("-inf")
    looked: bool = False  # somebody has waited for a list that is fixed anyway
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
        self._refreshed(key, FETCH_S if not self._fixed else 0 if known.looked else LOOK_S, not self._fixed, look)
        if self._fixed:
            known.looked = True
            return [known.models.get(id) or Model(id) for id in self._fixed]
        if not known.models and (known.error or known.fetching):
            raise _failure(known)
        return list(known.models.values())

    def first(self) -> tuple | None:
        """The model that stands first, as (id, params); None if there is none. Raises as `all` does."""
        return next(((model.id, ()) for model in self.all()), None)

    def prove(self, key: str) -> None:
        """Returns when there is a list for the key. Raises the upstream's ApiError."""
        known = self._refreshed(key, FETCH_S)
        if not known.models and (known.error or known.fetching):
            raise _failure(known)

    def waits(self, key: str = "") -> bool:
        """Whether `all` would wait for the upstream."""
        known = self._known(key)
        return not (self._fixed or known.models) and (
            known.fetching is not None or self._clock() >= known.next)

    def trouble(self) -> ApiError | None:
        """Why there is no service: no list yet, or a key that is refused. Never waits for the upstream."""
        known = self._refreshed("", 0)
        if isinstance(known.error, KeyRefused) or not (known.models or self._fixed):
            return known.error or UpstreamTimeout("The model list has not come yet", code="starting")
        return None

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
                # The gateway's own stays; one without models goes first, as its key may be made up.
                del self._lists[min(filter(None, self._lists), key=lambda name: bool(self._lists[name].models))]
            return known

    def _refreshed(self, key: str, seconds: float, needed: bool = True,
                   look: Callable[[], None] = lambda: None) -> _List:
        """The list, after a fetch if it is not fresh; whoever has a list does not wait for a newer one.

        With a caller's own key few fetches are made at once that are not `needed`, as when a list is only stale.
        """
        known = self._known(key)
        with self._lock:
            spare = bool(key) and not (needed and not known.models)
            due = self._clock() >= known.next and known.fetching is None
            if due and not (spare and self._renewals >= RENEWALS):
                self._renewals += spare
                known.fetching = threading.Event()
                threading.Thread(target=self._renew, args=(known, key, spare), name="models", daemon=True).start()
            fetching = known.fetching
        while fetching and not (known.models or fetching.wait(min(LOOK_S, seconds))) and seconds > LOOK_S:
            seconds -= LOOK_S
            look()
        return known

    def _renew(self, known: _List, key: str, spare: bool) -> None:
        wait = RETRY_S
        try:
            models = {model.id: model for model in map(read_model, self._fetch(key) or []) if model}
            known.models, known.error, wait = models, None, FRESH_S
        except ApiError as error:
            known.error = error
            log.warning("the model list could not be fetched: %s", error.code)
        except Exception:
            known.error = InternalError()
            log.exception("a fault in fetching the model list")
        finally:
            known.next = self._clock() + wait
            fetching, known.fetching = known.fetching, None
            fetching.set()
            with self._lock:
                self._renewals -= spare


def _failure(known: _List) -> ApiError:
    return (known.error or UpstreamTimeout("The model list has not come in time")).with_traceback(None)
