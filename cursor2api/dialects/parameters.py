"""The one table of request parameters: it drives parsing, reporting and documentation.

A check takes a value that is not null and its path, and returns the value or raises BadRequest.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass

from ..errors import BadRequest

SHOWN = 60  # characters of a value that an error message repeats
MAX_TOOLS = 128
REQUIRED = object()

Check = Callable[[object, str], object]


def shown(value: object) -> str:
    """A value as an error message names it; arrays and objects by their kind alone."""
    if isinstance(value, (dict, list)):
        kind = "object" if isinstance(value, dict) else "array"
        return f"an {kind}" if value else f"an empty {kind}"
    text = json.dumps(value[:SHOWN] if isinstance(value, str) else value, ensure_ascii=False)
    whole = len(text) <= SHOWN and (not isinstance(value, str) or len(value) <= SHOWN)
    return text if whole else text[:SHOWN - 1] + "…"


def either(words: tuple[str, ...]) -> str:
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def unexpected(path: str, expected: str, value: object, code: str = "invalid_value") -> BadRequest:
    return BadRequest(f"{path}: expected {expected}, got {shown(value)}", code=code, param=path)


def missing(path: str) -> BadRequest:
    return BadRequest(f"{path}: required, got nothing", code="missing_required_parameter",
                      param=path)


def read(value: dict, path: str, key: str, check: Check, default: object = REQUIRED):
    """The checked member `key` of the object at `path`; null is the same as absent."""
    if (member := value.get(key)) is not None:
        return check(member, f"{path}.{key}")
    if default is REQUIRED:
        raise missing(f"{path}.{key}")
    return default


def boolean(value: object, path: str) -> bool:
    if not isinstance(value, bool):
        raise unexpected(path, "true or false", value, "invalid_type")
    return value


def number(low: float | None, high: float | None, kind: str = "decimal") -> Check:
    """A number from `low` to `high`; a `kind` of "integer" takes no fraction but .0, as JSON has no integers."""
    types, noun = (int, "an integer") if kind == "integer" else ((int, float), "a number")

    def check(value, path):
        if kind == "integer" and isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, types):
            raise unexpected(path, noun, value, "invalid_type")
        if low is not None and not value >= low:  # so that NaN fails too
            raise unexpected(path, f"{noun} >= {low}", value, f"{kind}_below_min_value")
        if high is not None and not value <= high:
            raise unexpected(path, f"{noun} <= {high}", value, f"{kind}_above_max_value")
        return value
    return check


def integer(low: int | None = None, high: int | None = None) -> Check:
    return number(low, high, "integer")


def string(low: int = 0, high: int | None = None) -> Check:
    """A string of `low` to `high` characters."""
    def check(value, path):
        if not isinstance(value, str):
            raise unexpected(path, "a string", value, "invalid_type")
        if len(value) < low:
            raise unexpected(path, "a string that is not empty", value)
        if high is not None and len(value) > high:
            raise BadRequest(f"{path}: expected at most {high} characters, got {len(value)}",
                             code="string_above_max_length", param=path)
        return value
    return check


def one_of(*words: str) -> Check:
    def check(value, path):
        if value not in words:
            raise unexpected(path, either(words), value,
                             "invalid_value" if isinstance(value, str) else "invalid_type")
        return value
    return check


def array(item: Check | None = None, low: int = 0, high: int | None = None) -> Check:
    """An array of `low` to `high` items, each checked by `item`."""
    def check(value, path):
        if not isinstance(value, list):
            raise unexpected(path, "an array", value, "invalid_type")
        if len(value) < low:
            raise unexpected(path, f"an array of at least {low}", value, "empty_array")
        if high is not None and len(value) > high:
            raise BadRequest(f"{path}: expected at most {high} items, got {len(value)}",
                             code="array_above_max_length", param=path)
        return [item(one, f"{path}[{i}]") for i, one in enumerate(value)] if item else value
    return check


def an_object(value: object, path: str) -> dict:
    if not isinstance(value, dict):
        raise unexpected(path, "an object", value, "invalid_type")
    return value


def members(*required: str, **checks: Check) -> Check:
    """An object whose members pass these checks; other members are left out."""
    def check(value, path):
        an_object(value, path)
        return {key: read(value, path, key, one, REQUIRED if key in required else None)
                for key, one in checks.items()}
    return check


def or_string(check: Check, of_string: Check) -> Check:
    return lambda value, path: (of_string if isinstance(value, str) else check)(value, path)


def _stop(value, path):
    if isinstance(value, str):
        return [string(1)(value, path)]
    return array(string(1), 1, 4)(value, path)


def _logit_bias(value, path):
    for token, bias in an_object(value, path).items():
        number(-100, 100)(bias, f"{path}.{token[:SHOWN]}")
    return value


def _metadata(value, path):
    if len(an_object(value, path)) > 16:
        raise BadRequest(f"{path}: expected at most 16 pairs, got {len(value)}",
                         code="object_above_max_properties", param=path)
    for key, one in value.items():
        string(0, 64)(key, path)
        string(0, 512)(one, f"{path}.{key}")
    return value


def _modalities(value, path):
    if "audio" in array(one_of("text", "audio"))(value, path):
        raise BadRequest(f'{path}: expected ["text"]: there is no audio here',
                         code="unsupported_value", param=path)
    return value


def _refused(value, path):
    raise BadRequest(f"{path}: not supported here, leave it out", code="unsupported_parameter",
                     param=path)


@dataclass(frozen=True)
class Parameter:
    """One property of the request body.

    `effect` is "honoured", "ignored" (checked, without effect, reported when asked for),
    "accepted" (checked; nothing about the reply would differ, so not reported) or "refused".
    `type`, `range` and `what` are for the documentation. A value equal to `default` asks for
    nothing.
    """

    name: str
    type: str
    range: str
    default: object
    effect: str
    what: str
    check: Check
    required: bool = False


_TEXT_PARTS = array(members("type", "text", type=one_of("text"), text=string()), 1)
_LOCATION = members("type", type=one_of("approximate"), approximate=members(
    country=string(), region=string(), city=string(), timezone=string()))

PARAMETERS: tuple[Parameter, ...] = (
    Parameter("model", "string", "an id of /v1/models", None, "honoured",
              "The model that answers.", string(1), required=True),
    Parameter("messages", "array", "at least 1", None, "honoured",
              "The conversation so far: text in every role, images in user messages.",
              array(low=1), required=True),
    Parameter("stream", "boolean", "", False, "honoured",
              "Send the reply in chunks, as server-sent events.", boolean),
    Parameter("stream_options", "object", "include_usage, include_obfuscation", None, "honoured",
              "include_usage adds a last chunk with the usage; no effect without stream.",
              members(include_usage=boolean, include_obfuscation=boolean)),
    Parameter("stop", "string or array", "1 to 4 strings, none empty", None, "honoured",
              "The reply ends before the first of these strings.", _stop),
    Parameter("max_completion_tokens", "integer", "at least 1", None, "honoured",
              "The reply is cut at this many tokens, at most the model's own limit; finish_reason is "
              "then length.", integer(1)),
    Parameter("max_tokens", "integer", "at least 1", None, "honoured",
              "The older name of max_completion_tokens, which wins if both are given.", integer(1)),
    Parameter("n", "integer", "1 to 128", 1, "honoured",
              "How many choices to make; the server's own limit may be lower.", integer(1, 128)),
    Parameter("response_format", "object", "text, json_object, json_schema", {"type": "text"},
              "honoured", "The form of the reply: free text, one JSON object, or JSON that fits a "
              "schema.", an_object),
    Parameter("tools", "array", f"at most {MAX_TOOLS}", None, "honoured",
              "The functions that the model may call; custom tools are refused.",
              array(high=MAX_TOOLS)),
    Parameter("tool_choice", "string or object",
              "none, auto, required, a named function, allowed_tools", None, "honoured",
              "Whether and which tools must be called: auto if there are tools.",
              or_string(an_object, one_of("none", "auto", "required"))),
    Parameter("parallel_tool_calls", "boolean", "", True, "honoured",
              "Whether one reply may hold more than one tool call.", boolean),
    Parameter("functions", "array", f"at most {MAX_TOOLS}", None, "honoured",
              "The older form of tools; the reply then has function_call.", array(high=MAX_TOOLS)),
    Parameter("function_call", "string or object", "none, auto, a named function", None,
              "honoured", "The older form of tool_choice.",
              or_string(an_object, one_of("none", "auto"))),
    Parameter("reasoning_effort", "string", "none, minimal, low, medium, high, xhigh, max", None,
              "honoured", "How long the model thinks, where the model has such a choice.",
              one_of("none", "minimal", "low", "medium", "high", "xhigh", "max")),
    Parameter("temperature", "number", "0 to 2", 1, "ignored",
              "Randomness of the sampling.", number(0, 2)),
    Parameter("top_p", "number", "0 to 1", 1, "ignored",
              "Share of the probability mass that is sampled from.", number(0, 1)),
    Parameter("presence_penalty", "number", "-2 to 2", 0, "ignored",
              "Penalty on tokens that have appeared at all.", number(-2, 2)),
    Parameter("frequency_penalty", "number", "-2 to 2", 0, "ignored",
              "Penalty on tokens by how often they have appeared.", number(-2, 2)),
    Parameter("seed", "integer", f"{-2**63} to {2**63 - 1}", None, "ignored",
              "Makes sampling repeatable.", integer(-2**63, 2**63 - 1)),
    Parameter("logit_bias", "object", "token ids to numbers from -100 to 100", {}, "ignored",
              "Makes single tokens more or less likely.", _logit_bias),
    Parameter("logprobs", "boolean", "", False, "ignored",
              "Asks for the probability of each token; the reply has null.", boolean),
    Parameter("top_logprobs", "integer", "0 to 20", 0, "ignored",
              "How many alternatives to list for each token.", integer(0, 20)),
    Parameter("prediction", "object", "type content, content", None, "ignored",
              "Text that the reply will probably repeat, to make it faster.",
              members("type", "content", type=one_of("content"),
                      content=or_string(_TEXT_PARTS, string()))),
    Parameter("verbosity", "string", "low, medium, high", "medium", "ignored",
              "How wordy the reply is.", one_of("low", "medium", "high")),
    Parameter("web_search_options", "object", "search_context_size, user_location", None,
              "ignored", "Lets the model search the web.",
              members(search_context_size=one_of("low", "medium", "high"),
                      user_location=_LOCATION)),
    Parameter("moderation", "object", "model, policy", None, "ignored",
              "Asks for a moderation verdict on the reply.", members("model", model=string())),
    Parameter("user", "string", "", None, "accepted",
              "The caller's own name for its user.", string()),
    Parameter("safety_identifier", "string", "at most 64 characters", None, "accepted",
              "The caller's own name for its user.", string(0, 64)),
    Parameter("metadata", "object", "at most 16 pairs of strings, 64 and 512 characters", None,
              "accepted", "Labels for stored completions.", _metadata),
    Parameter("store", "boolean", "", False, "accepted",
              "Completions are never stored.", boolean),
    Parameter("service_tier", "string", "auto, default, flex, scale, priority, fast", "auto",
              "accepted", "There is one tier.",
              one_of("auto", "default", "flex", "scale", "priority", "fast")),
    Parameter("prompt_cache_key", "string", "", None, "accepted",
              "The upstream does its own caching.", string()),
    # The hyphen is what openai-python's own type had before the spec settled on in_memory.
    Parameter("prompt_cache_retention", "string", "in_memory, in-memory, 24h", None, "accepted",
              "The upstream does its own caching.", one_of("in_memory", "in-memory", "24h")),
    Parameter("prompt_cache_options", "object", "mode, ttl", None, "accepted",
              "The upstream does its own caching.",
              members(mode=one_of("implicit", "explicit"), ttl=one_of("30m"))),
    Parameter("modalities", "array", "text", ["text"], "accepted",
              "Replies are text; audio is refused.", _modalities),
    Parameter("audio", "object", "", None, "refused", "There is no audio here.", _refused),
)
