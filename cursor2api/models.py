"""The models: what the upstream offers, under every name by which a caller may ask for it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from .errors import BadRequest

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


def choose(models: Iterable[Model], aliases: Mapping[str, str], name: str, effort: str | None = None,
           think: bool = False) -> Choice:
    """The model for a caller's name; with `think` in its thinking variant, if it has one. `aliases` are the
    operator's own names. Raises BadRequest model_not_found."""
    asked = aliases.get(name, name)
    known = {model.id: model for model in models}
    names = {alias: model for model in known.values() for alias in model.aliases} | known
    short = asked.rpartition("/")[2]
    for id in dict.fromkeys((asked, aliases.get(short, short))):
        model, named = names.get(id), False
        if model is None and id.endswith(THINKING):
            base = id.removesuffix(THINKING)
            base = aliases.get(base, base)
            model, named = names.get(base), True
        if model is not None:
            return _choice(model, named, think, effort)
    raise BadRequest(f"Invalid model: {name[:100]}", code="model_not_found", param="model")


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


def read_model(item: object) -> Model | None:
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
