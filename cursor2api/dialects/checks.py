"""What the dialects share in reading a request: from bytes to JSON, and from its values to checked ones.

A check takes a value that is not null and its path, and returns the value or raises BadRequest.
"""

import json
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from itertools import chain

from ..chat import Image, Tool
from ..errors import BadRequest

SHOWN = 60  # characters of a value that an error message repeats
MAX_DIGITS = 308  # an integer of so many digits still fits a double
MAX_DEPTH = 100  # of the trees that a Chat keeps: schemas and arguments
REQUIRED = object()
FREE_TEXT = {"type": "text"}  # the form of a custom tool's input when it comes without one
NO_ARGUMENTS = {"type": "object", "properties": {}}  # the schema of a tool that comes without one
# Modes of OpenAI's tool_choice; those of Gemini's and Anthropic's clients come through gateways.
MODES = {"none": "none", "auto": "auto", "required": "required", "validated": "auto", "any": "required"}
NO_LIMIT = -1    # what clients of local models write for it
THINKING = ("thinking", "redacted_thinking", "reasoning")  # parts of an assistant's that are never told again
# What `of_another_api` says of a body's own API.
CHAT_COMPLETIONS_API = "OpenAI's chat completions API: send the body to /v1/chat/completions"
RESPONSES_API = "OpenAI's Responses API: send the body to /v1/responses"
MESSAGES_API = "Anthropic's Messages API: send the body to /v1/messages"

Check = Callable[[object, str], object]


@dataclass(frozen=True)
class Parameter:
    """One property of a dialect's request body.

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


def read_parameters(body: dict, parameters: Iterable[Parameter],
                    strict: bool) -> tuple[dict[str, object], tuple[str, ...]]:
    """The checked value of each parameter, and the names of those that were asked for without effect.

    Unknown members are passed over. `strict` refuses what has no effect.
    """
    given, ignored = {}, ()
    for parameter in parameters:
        name = parameter.name
        given[name] = parameter.default
        if (value := body.get(name)) is not None:
            value = given[name] = parameter.check(value, name)
            if parameter.effect == "ignored" and value != parameter.default:
                ignored += name,
        elif parameter.required:
            raise missing(name)
    if strict and ignored:
        raise BadRequest(f"{ignored[0]}: has no effect here, leave it out",
                         code="unsupported_parameter", param=ignored[0])
    return given, ignored


# Bytes to JSON

def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise BadRequest(f"The body holds an integer of {len(digits)} digits, expected at most "
                         f"{MAX_DIGITS}", code="invalid_value")
    return int(digits)


def _decimal(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        _constant(text)
    return value


def _constant(text: str):
    raise BadRequest(f"The body holds {shown(text)}, expected a finite number",
                     code="invalid_value")


_DECODER = json.JSONDecoder(parse_int=_integer, parse_float=_decimal, parse_constant=_constant)
_SURROGATE = re.compile("[\ud800-\udfff]")  # in a Python string any of these is half a pair


def load(data: bytes) -> dict:
    """The object in a body, in time linear in its bytes. Raises BadRequest.

    All its text can be encoded: half a surrogate pair has become U+FFFD.
    """
    try:
        body = _DECODER.decode(data.decode("utf-8-sig"))
        if b"\\ud" in data or b"\\uD" in data:
            text = json.dumps(body, ensure_ascii=False)
            if _SURROGATE.search(text):
                body = json.loads(_SURROGATE.sub("\ufffd", text))
    except UnicodeDecodeError as error:
        raise BadRequest(f"The body is not UTF-8: {error.reason} at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise BadRequest(f"The body is not JSON: {error.msg} at line {error.lineno} column "
                         f"{error.colno}") from error
    except RecursionError as error:
        raise BadRequest("The body is nested too deeply") from error
    if not isinstance(body, dict):
        raise BadRequest(f"The body: expected an object, got {shown(body)}", code="invalid_type")
    return body


# Refusals

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


def of_another_api(path: str, api: str) -> BadRequest:
    """The refusal of a body that is of another API here, as some clients post them: its system text or its tools
    would be lost."""
    return BadRequest(f"{path}: is of {api}", code="unsupported_parameter", param=path)


def missing(path: str) -> BadRequest:
    return BadRequest(f"{path}: required, got nothing", code="missing_required_parameter",
                      param=path)


# Checks

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


text = string()


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


def page_limit(query: dict[str, str], usual: int, most: int) -> int:
    """How many entries of a list a page has, from 1 to `most`: the `limit` of a query, `usual` without one."""
    limit = query.get("limit", str(usual))
    return integer(1, most)(int(limit) if limit.isdecimal() and len(limit) < 9 else limit, "limit")


def an_object(value: object, path: str) -> dict:
    if not isinstance(value, dict):
        raise unexpected(path, "an object", value, "invalid_type")
    return value


def shallow(value: object, path: str):
    """A value that others may walk by recursion."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = list(chain.from_iterable(node.values() if isinstance(node, dict) else node
                                         for node in level if isinstance(node, (dict, list))))
        if not level:
            return value
    raise BadRequest(f"{path}: expected at most {MAX_DEPTH} levels, got more",
                     code="invalid_value", param=path)


def tree(value: object, path: str) -> dict:
    """An object that others may walk by recursion."""
    return shallow(an_object(value, path), path)


def json_text(value: object, path: str) -> str:
    return json.dumps(shallow(value, path), ensure_ascii=False)


def arguments(value: object, path: str) -> str:
    """The arguments of an earlier tool call as text; clients send JSON text, or the object itself."""
    return json_text(value, path) if isinstance(value, dict) else text(value, path)


def members(*required: str, **checks: Check) -> Check:
    """An object whose members pass these checks; other members are left out."""
    def check(value, path):
        an_object(value, path)
        return {key: read(value, path, key, one, REQUIRED if key in required else None)
                for key, one in checks.items()}
    return check


def member(name: str, check: Check) -> Check:
    """An object's member `name`, checked, in place of the object."""
    return lambda value, path: read(an_object(value, path), path, name, check)


def spelled(characters: str, longest: int) -> Check:
    """A string of 1 to `longest` of these `characters`, which are written as within [] of a pattern."""
    pattern = re.compile(f"[{characters}]+")

    def check(value, path):
        if not pattern.fullmatch(string(1, longest)(value, path)):
            raise unexpected(path, f"only the characters {characters}", value)
        return value
    return check


# OpenAI takes a-zA-Z0-9_- up to 64; tools of MCP servers have longer names with . / and :
tool_name = spelled("a-zA-Z0-9_.:/-", 128)


format_name = spelled("a-zA-Z0-9_-", 64)


def metadata(value: object, path: str) -> dict:
    """OpenAI's labels of a reply: at most 16 pairs of strings."""
    if len(an_object(value, path)) > 16:
        raise BadRequest(f"{path}: expected at most 16 pairs, got {len(value)}",
                         code="object_above_max_properties", param=path)
    for key, one in value.items():
        string(0, 64)(key, path)
        string(0, 512)(one, f"{path}.{key}")
    return value


def distinct(tools: Iterable[tuple[Tool, str]]) -> tuple[Tool, ...]:
    """The tools, of which each comes with its path, without those that came before. Raises BadRequest for two
    unlike tools of one name."""
    found = {}
    for tool, path in tools:
        if found.setdefault(tool.name, tool) != tool:
            raise unexpected(f"{path}.name", "a name that no other tool has", tool.name)
    return tuple(found.values())


_WEB_URL = re.compile(r"(?i:https?://)[^\x00-\x20/][^\x00-\x20]*")  # \s is another set in every language
_DATA_URL = re.compile(r"(?i:data:image/(png|jpe?g|gif|webp)(?:;[^;,]*)*;base64,)([a-zA-Z0-9+/]+={0,2})")


def image_url(value: object, path: str) -> str:
    """The URL of an image, as chat.Image has it."""
    data = _DATA_URL.fullmatch(text(value, path))
    if data and (data.end() - data.start(2)) % 4 == 0:
        kind = data[1].lower().replace("jpg", "jpeg")
        return f"data:image/{kind};base64,{data[2]}"
    if _WEB_URL.fullmatch(value):
        return value
    raise unexpected(path, "an http(s) URL or data:image/(png|jpeg|gif|webp);base64,(base64)",
                     value)


def image(value: object, path: str) -> Image:
    return Image(image_url(value, path), path)


def image_by_url(value: object, path: str) -> Image:
    """An image as OpenAI has it: its URL, or {"url"}."""
    return image(value, path) if isinstance(value, str) else read(an_object(value, path), path, "url", image)


def image_block(value: dict, path: str) -> Image:
    """An image as Anthropic has it, {"source": {"type": "base64", "media_type", "data"}} or {"source": {"type":
    "url", "url"}}, or as MCP has it, {"data", "mimeType"}."""
    kind = "mimeType"
    if "source" in value:
        value, path, kind = read(value, path, "source", an_object), f"{path}.source", "media_type"
        if value.get("url") is not None:
            return read(value, path, "url", image)
    return image(f"data:{read(value, path, kind, text)};base64,{read(value, path, 'data', text)}", f"{path}.data")


def are_parts(value: object, kinds: Collection[str]) -> bool:
    """Whether a tool's result is a list of parts, at least one of these kinds: a list of the tool's own may have
    objects with a `type` too."""
    if not isinstance(value, list):
        return False
    types = [part.get("type") if isinstance(part, dict) else None for part in value]
    return not types or all(isinstance(kind, str) for kind in types) and not {*types}.isdisjoint(kinds)


MAX_TOOLS = 1024  # of a request, where the API itself states no bound
MCP = ("audio", "resource", "resource_link")  # kinds of parts in an MCP tool's result that no API has


def mcp_part(value: dict, path: str) -> str:
    """A part of MCP's as its JSON text; a mark stands for bytes, which cannot be read here."""
    resource = value.get("resource")
    if value["type"] == "audio" or isinstance(resource, dict) and "blob" in resource:
        return f"[{value['type']}]"
    return json_text(value, path)


def or_string(check: Check, of_string: Check) -> Check:
    return lambda value, path: (of_string if isinstance(value, str) else check)(value, path)


def nothing(value: dict, path: str) -> None:
    """What a part of an assistant's thinking becomes: it is never told again."""


def refused(value, path):
    raise BadRequest(f"{path}: not supported here, leave it out", code="unsupported_parameter",
                     param=path)
