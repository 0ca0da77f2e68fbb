"""The models: what the upstream offers, under every name by which a caller may ask for it.

The list is cached; one thread at a time fetches it, and a stale one is served meanwhile.
"""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from .config import digest
from .errors import ApiError, BadRequest, InternalError, KeyRefused, UpstreamTimeout

log = logging.getLogger("cursor2api")

FRESH_S = 600
RETRY_S = 10
FETCH_S = 60  # longer than the adapters' own limits for this request
LOOK_S = 0.5
KEYS = 100    # lists that are kept
RENEWALS = 4  # at once, of callers' lists that can do without
THINKING = "-thinking"
EFFORTS = ("reasoning_effort", "reasoning", "effort")  # ids that Cursor's models give the parameter

# Cursor's list states no limits. These are the smallest that its chat models share, but for the
# context window, which some models name in their `context` parameter.
MAX_TOKENS = 64_000
CONTEXT_WINDOW = 200_000


@dataclass(frozen=True, slots=True)
class Model:
    """One base model; `variants` are the parameter sets that exist, the default one first."""

    id: str
    aliases: tuple[str, ...] = ()
    parameters: dict[str, tuple[str, ...]] = field(default_factory=dict)
    variants: tuple[dict[str, str], ...] = ()

    @property
    def context_window(self) -> int:
        text = (self.variants[0].get("context", "") if self.variants else "").lower()
        scale = {"k": 1_000, "m": 1_000_000}.get(text[-1:])
        return int(text[:-1]) * scale if scale and text[:-1].isdecimal() else CONTEXT_WINDOW

    def variant(self, wanted: dict[str, str]) -> dict[str, str] | None:
        """The parameter set that has `wanted` and is else nearest to the default; None if none has."""
        default = self.variants[0] if self.variants else {}
        fits = [variant for variant in self.variants if wanted.items() <= variant.items()]
        if fits:
            return max(fits, key=lambda variant: len(variant.items() & default.items()))
        if not self.variants and all(value in self.parameters.get(id, ())
                                     for id, value in wanted.items()):
            return wanted
        return None


@dataclass(frozen=True, slots=True)
class Choice:
    """What a caller's model name comes to; `name` is the one that /v1/models has for it.

    `think` asks for thinking by instruction.
    """

    model: Model
    name: str
    params: tuple[tuple[str, str], ...]
    think: bool
    effort_used: bool


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

    def all(self, key: str = "") -> list[Model]:
        """The base models. Raises the upstream's ApiError while there has never been a list."""
        known = self._known(key)
        self._refreshed(key, FETCH_S if not self._fixed else 0 if known.looked else LOOK_S, not self._fixed)
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

    def choose(self, name: str, effort: str | None = None, key: str = "", think: bool = False) -> Choice:
        """The model for a caller's name; with `think` in its thinking variant, if it has one. Raises BadRequest
        model_not_found."""
        asked = self._aliases.get(name, name)
        known = {model.id: model for model in self.all(key)}
        names = {alias: model for model in known.values() for alias in model.aliases} | known
        short = asked.rpartition("/")[2]
        for id in dict.fromkeys((asked, self._aliases.get(short, short))):
            model, named = names.get(id), False
            if model is None and id.endswith(THINKING):
                base = id.removesuffix(THINKING)
                base = self._aliases.get(base, base)
                model, named = names.get(base), True
            if model is not None:
                return _choice(model, named, think, effort)
        raise BadRequest(f"Invalid model: {name}", code="model_not_found", param="model")

    def _known(self, key: str) -> _List:
        name = key and digest(key)
        with self._lock:
            known = self._lists.setdefault(name, _List())
            self._lists.move_to_end(name)
            if len(self._lists) > KEYS:
                # The gateway's own stays; one without models goes first, as its key may be made up.
                del self._lists[min(filter(None, self._lists), key=lambda name: bool(self._lists[name].models))]
            return known

    def _refreshed(self, key: str, seconds: float, needed: bool = True) -> _List:
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
        if fetching and not known.models:
            fetching.wait(seconds)
        return known

    def _renew(self, known: _List, key: str, spare: bool) -> None:
        wait = RETRY_S
        try:
            models = {model.id: model for model in map(_model, self._fetch(key) or []) if model}
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


def _choice(model: Model, named: bool, think: bool, effort: str | None) -> Choice:
    """`named` is whether the name asks for thinking, which is had by instruction if there is no variant."""
    wanted = {"thinking": "true"} if (named or think) and "true" in model.parameters.get("thinking", ()) else {}
    if model.variant(wanted) is None:
        wanted = {}
    effort_used = False
    for id in EFFORTS if effort else ():
        if model.variant(wanted | {id: effort}) is not None:
            wanted, effort_used = wanted | {id: effort}, True
            break
    params = tuple(model.variant(wanted).items()) if wanted else ()
    return Choice(model, model.id + THINKING * named, params, named and "thinking" not in wanted, effort_used)


def _model(item: dict) -> Model | None:
    """A model of Cursor's list, read liberally: the API is a beta and its forms have changed."""
    if not isinstance(item, dict) or not isinstance(item.get("id"), str) or not item["id"]:
        return None
    parameters = {
        parameter["id"]: tuple(value["value"] for value in _dicts(parameter.get("values"))
                               if isinstance(value.get("value"), str))
        for parameter in _dicts(item.get("parameters")) if isinstance(parameter.get("id"), str)}
    variants = sorted(_dicts(item.get("variants")), key=lambda variant: not variant.get("isDefault"))
    return Model(item["id"],
                 tuple(alias for alias in _list(item.get("aliases")) if isinstance(alias, str)),
                 parameters,
                 tuple({param["id"]: param["value"] for param in _dicts(variant.get("params"))
                        if isinstance(param.get("id"), str) and isinstance(param.get("value"), str)}
                       for variant in variants))


def _list(value) -> list:
    return value if isinstance(value, list) else []


def _dicts(value) -> list[dict]:
    return [item for item in _list(value) if isinstance(item, dict)]
