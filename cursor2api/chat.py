"""Turns the bytes of a request body into a Chat: checked, and with every client's habit levelled.

Whatever the bytes are, `parse` gives a Chat or raises BadRequest, in time linear in their number.
All text in a Chat can be encoded: half a surrogate pair has become U+FFFD.
"""

import json
import re
from dataclasses import dataclass, field
from itertools import chain

from .errors import BadRequest
from .dialects.parameters import (
    MAX_TOOLS,
    PARAMETERS,
    REQUIRED,
    an_object,
    array,
    boolean,
    either,
    integer,
    missing,
    one_of,
    read,
    shown,
    string,
    unexpected,
)

MAX_IMAGES = 5
MAX_DIGITS = 308  # an integer of so many digits still fits a double
MAX_DEPTH = 100  # of the trees that a Chat keeps: schemas and arguments
BY_NAME = {parameter.name: parameter for parameter in PARAMETERS}
DEFAULTS = {parameter.name: parameter.default for parameter in PARAMETERS}
NO_ARGUMENTS = {"type": "object", "properties": {}}  # what absent parameters mean


@dataclass(frozen=True, slots=True)
class Image:
    """A picture: an http(s) URL, or data:image/...;base64,...; `path` is where the request has it."""

    url: str
    path: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class WholeCall:
    """A tool call that the model made earlier; `id` may be empty, `arguments` is as it came."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Message:
    """`role` is system, user, assistant or tool; only a user message holds images."""

    role: str
    content: tuple[str | Image, ...]
    name: str | None = None
    tool_calls: tuple[WholeCall, ...] = ()
    tool_call_id: str | None = None

    @property
    def text(self) -> str:
        return "\n".join(part for part in self.content if isinstance(part, str))


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call; `parameters` is a JSON Schema, untouched."""

    name: str
    description: str
    parameters: dict


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """`mode` is none, auto or required; with `names` only these may be shown and called."""

    mode: str
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Format:
    """What the reply must be: text, json_object or json_schema (of which `schema` may be None)."""

    type: str
    name: str = ""
    schema: dict | None = None


@dataclass(frozen=True, slots=True)
class Chat:
    """A request that we can serve.

    `functions`: the caller used the old form and is answered in kind. `ignored`: the parameters
    that it asked for and that have no effect.
    """

    model: str
    messages: tuple[Message, ...]
    stream: bool
    include_usage: bool
    n: int
    stop: tuple[str, ...]
    max_tokens: int | None
    format: Format
    tools: tuple[Tool, ...]
    tool_choice: ToolChoice
    parallel_tool_calls: bool
    functions: bool
    reasoning_effort: str | None
    ignored: tuple[str, ...]


def parse(data: bytes, *, max_n: int = 4, strict_params: bool = False) -> Chat:
    """The Chat that a body asks for, or BadRequest with the `param` that is wrong.

    `strict_params` refuses what would only have been reported in `ignored`.
    """
    body = _load(data)
    given, ignored = dict(DEFAULTS), ()
    for name, parameter in BY_NAME.items():
        if (value := body.get(name)) is not None:
            value = given[name] = parameter.check(value, name)
            if parameter.effect == "ignored" and value != parameter.default:
                ignored += name,
        elif parameter.required:
            raise missing(name)
    if strict_params and ignored:
        raise BadRequest(f"{ignored[0]}: has no effect here, leave it out",
                         code="unsupported_parameter", param=ignored[0])
    options = given["stream_options"] or {}
    messages = tuple(array(_message)(given["messages"], "messages"))
    _count_images(messages)
    tools = _tools(given)
    return Chat(
        model=given["model"],
        messages=messages,
        stream=given["stream"],
        include_usage=given["stream"] and bool(options.get("include_usage")),
        n=integer(1, max_n)(given["n"], "n"),
        stop=tuple(given["stop"] or ()),
        max_tokens=given["max_completion_tokens"] or given["max_tokens"],
        format=_format(given["response_format"], "response_format"),
        tools=tools,
        tool_choice=_tool_choice(given, tuple(tool.name for tool in tools)),
        parallel_tool_calls=given["parallel_tool_calls"],
        functions=bool(given["functions"]),
        reasoning_effort=given["reasoning_effort"],
        ignored=ignored,
    )


# The body

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


def _load(data: bytes) -> dict:
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


def _tree(value: object, path: str) -> dict:
    """An object that others may walk by recursion."""
    level = [an_object(value, path)]
    for _ in range(MAX_DEPTH):
        level = list(chain.from_iterable(node.values() if isinstance(node, dict) else node
                                         for node in level if isinstance(node, (dict, list))))
        if not level:
            return value
    raise BadRequest(f"{path}: expected at most {MAX_DEPTH} levels, got more",
                     code="invalid_value", param=path)


# Messages

_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant",
          "tool": "tool", "function": "tool"}
_role = one_of(*_ROLES)
_text = string()


def _message(value: object, path: str) -> Message:
    wire_role = read(an_object(value, path), path, "role", _role)
    role = _ROLES[wire_role]
    content = _content(value, path, role)
    calls = []
    if role == "assistant":
        content = content or tuple(filter(None, [read(value, path, "refusal", _text, "")]))
        calls += read(value, path, "tool_calls", array(_call), ())
        calls += filter(None, [read(value, path, "function_call", _old_call, None)])
    name = read(value, path, "name", _text, REQUIRED if wire_role == "function" else None)
    answers = read(value, path, "tool_call_id", _text, "") if wire_role == "tool" else None
    return Message(role, content, name, tuple(calls), answers)


def _content(message: dict, path: str, role: str) -> tuple[str | Image, ...]:
    value = message.get("content")
    path = f"{path}.content"
    if isinstance(value, str):
        return (value,) if value else ()
    if isinstance(value, list):
        if not value and role in ("system", "user"):
            raise unexpected(path, "a string or at least 1 part", value, "empty_array")
        return tuple([_part(part, f"{path}[{i}]", role) for i, part in enumerate(value)])
    if value is not None:
        raise unexpected(path, "a string or an array of parts", value, "invalid_type")
    if role in ("system", "user"):
        raise missing(path)
    return ()


_PARTS = {"system": ("text",), "user": ("text", "image_url"), "assistant": ("text", "refusal"),
          "tool": ("text",)}


def _part(value: object, path: str, role: str) -> str | Image:
    kind = read(an_object(value, path), path, "type", _text)
    if kind not in _PARTS[role]:
        known = kind in ("image_url", "input_audio", "file", "refusal")
        raise unexpected(f"{path}.type", f"{either(_PARTS[role])} in a message of role {role}",
                         kind, "unsupported_value" if known else "invalid_value")
    if kind != "image_url":
        return read(value, path, kind, _text)
    return read(value, path, "image_url", _image)


_WEB_URL = re.compile(r"(?i:https?://)[^\s/]\S*")
_DATA_URL = re.compile(r"(?i:data:image/(?:png|jpeg|gif|webp);base64,)([a-zA-Z0-9+/]+={0,2})")


def _image(value: object, path: str) -> Image:
    if isinstance(value, str):
        return _image_url(value, path)
    return read(an_object(value, path), path, "url", _image_url)


def _image_url(value: object, path: str) -> Image:
    data = _DATA_URL.fullmatch(_text(value, path))
    if data and (data.end() - data.start(1)) % 4 == 0:
        return Image(value[:data.start(1)].lower() + data[1], path)
    if _WEB_URL.fullmatch(value):
        return Image(value, path)
    raise unexpected(path, "an http(s) URL or data:image/(png|jpeg|gif|webp);base64,(base64)",
                     value)


def _count_images(messages: tuple[Message, ...]) -> None:
    images = [(i, j) for i, message in enumerate(messages) if message.role == "user"
              for j, part in enumerate(message.content) if isinstance(part, Image)]
    if len(images) > MAX_IMAGES:
        i, j = images[MAX_IMAGES]
        path = f"messages[{i}].content[{j}].image_url"
        raise BadRequest(f"{path}: expected at most {MAX_IMAGES} images in all, got {len(images)}",
                         code="invalid_value", param=path)


# Tools and calls

def _function(value: object, path: str) -> tuple[dict, str]:
    """What {"type": "function", "function": {...}} wraps, and its path; or the flat form itself."""
    kind = read(an_object(value, path), path, "type", _text, "function")
    if kind != "function":
        raise unexpected(f"{path}.type", "function", kind,
                         "unsupported_value" if kind == "custom" else "invalid_value")
    if value.get("function") is None and "name" in value:
        return value, path
    return read(value, path, "function", an_object), f"{path}.function"


def _old_function(value: object, path: str) -> tuple[dict, str]:
    return an_object(value, path), path


def _call(value: object, path: str) -> WholeCall:
    function, inner = _function(value, path)
    return WholeCall(read(value, path, "id", _text, ""), read(function, inner, "name", _text),
                read(function, inner, "arguments", _arguments, "{}"))


def _old_call(value: object, path: str) -> WholeCall:
    return WholeCall("", read(an_object(value, path), path, "name", _text),
                read(value, path, "arguments", _arguments, "{}"))


def _arguments(value: object, path: str) -> str:
    if isinstance(value, dict):
        return json.dumps(_tree(value, path), ensure_ascii=False)
    return _text(value, path)


# OpenAI takes a-zA-Z0-9_- up to 64; tools of MCP servers have longer names with . / and :
_TOOL_NAME = re.compile(r"[a-zA-Z0-9_.:/-]+")
_FORMAT_NAME = re.compile(r"[a-zA-Z0-9_-]+")


def _named(pattern: re.Pattern, longest: int):
    def check(value, path):
        if not pattern.fullmatch(string(1, longest)(value, path)):
            raise unexpected(path, f"only the characters {pattern.pattern.strip('[]+')}", value)
        return value
    return check


_tool_name = _named(_TOOL_NAME, 128)
_format_name = _named(_FORMAT_NAME, 64)


def _tools(given: dict) -> tuple[Tool, ...]:
    tools, functions = given["tools"] or [], given["functions"] or []
    if tools and functions:
        raise BadRequest("functions: expected tools or functions, got both", code="invalid_value",
                         param="functions")
    found = {}
    for function, path in [*array(_function)(tools, "tools"),
                           *array(_old_function)(functions, "functions")]:
        name = read(function, path, "name", _tool_name)
        if name in found:
            raise unexpected(f"{path}.name", "a name that no other tool has", name)
        read(function, path, "strict", boolean, False)
        found[name] = Tool(name, read(function, path, "description", _text, ""),
                           read(function, path, "parameters", _tree, NO_ARGUMENTS))
    return tuple(found.values())


def _tool_choice(given: dict, offered: tuple[str, ...]) -> ToolChoice:
    path = "function_call" if given["tool_choice"] is None else "tool_choice"
    value = given[path]
    if value is None:
        value = "auto"
    if isinstance(value, str):
        if value == "required" and not offered:
            raise unexpected(path, "none or auto, as there are no tools", value)
        return ToolChoice(value if offered else "none")
    if value.get("type") == "allowed_tools":
        allowed = read(value, path, "allowed_tools", an_object)
        path = f"{path}.allowed_tools"
        mode = read(allowed, path, "mode", one_of("auto", "required"))
        chosen = read(allowed, path, "tools", array(_function, 1, MAX_TOOLS))
    else:
        mode, chosen = "required", [_function(value, path)]
    names = {}
    for function, inner in chosen:
        name = read(function, inner, "name", _text)
        if name not in offered:
            raise unexpected(f"{inner}.name", "the name of one of the tools", name)
        names[name] = None
    return ToolChoice(mode, tuple(names))


def _format(value: dict, path: str) -> Format:
    kind = read(value, path, "type", one_of("text", "json_object", "json_schema"))
    if kind != "json_schema":
        return Format(kind)
    inner = read(value, path, "json_schema", an_object)
    path = f"{path}.json_schema"
    read(inner, path, "strict", boolean, False)
    return Format(kind, read(inner, path, "name", _format_name), read(inner, path, "schema", _tree, None))
