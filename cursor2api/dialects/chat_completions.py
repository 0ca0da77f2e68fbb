"""OpenAI's chat completions: a request body to a Chat, and a reply's events to chunks or a completion.

In its older form a caller declares `functions` and is answered with one `function_call`, which has no id.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from json.encoder import encode_basestring_ascii

from ..chat import Chat, Format, Image, Message, Tool, ToolChoice, WholeCall
from ..errors import ApiError, BadRequest, UpstreamCut
from ..events import Event, Finish, Reasoning, Text, ToolCall, Usage
from ..fold import ReplySoFar
from . import Dialect, Example, Frame, Identity, Options, Parsed, openai_error
from .checks import (FREE_TEXT, MCP, MESSAGES_API, MODES, NO_ARGUMENTS, NO_LIMIT, REQUIRED, RESPONSES_API, SHOWN,
                     THINKING, Parameter, an_object, are_parts, arguments, array, boolean, distinct, either,
                     format_name, image_block, image_by_url, integer, json_text, mcp_part, member, members,
                     metadata, missing, nothing, number, of_another_api, one_of, or_string, read, read_parameters,
                     refused, string, text, tool_name, tree, unexpected)

MAX_TOOLS = 128
MAX_STOP = 4096  # characters of a stop sequence
TEXTS = ("text", "input_text", "output_text")  # types of a part that is text; OpenAI's other API has the last two


# Parameters

def _stop(value, path):
    """The stop sequences; front ends send empty ones for none."""
    sequence = string(0, MAX_STOP)
    found = [sequence(value, path)] if isinstance(value, str) else array(sequence, 0, 4)(value, path)
    return list(filter(None, found))


def _logit_bias(value, path):
    for token, bias in an_object(value, path).items():
        number(-100, 100)(bias, f"{path}.{token[:SHOWN]}")
    return value


def _modalities(value, path):
    if "audio" in array(one_of("text", "audio"))(value, path):
        raise BadRequest(f'{path}: expected ["text"]: there is no audio here',
                         code="unsupported_value", param=path)
    return value


_TEXT_PARTS = array(members("type", "text", type=one_of(*TEXTS), text=text), 1)
_LOCATION = members("type", type=one_of("approximate"), approximate=members(
    country=string(), region=string(), city=string(), timezone=string()))

PARAMETERS: tuple[Parameter, ...] = (
    Parameter("model", "string", "an id of /v1/models", None, "honoured",
              "The model that answers.", string(1), required=True),
    Parameter("messages", "array", "at least 1", None, "honoured",
              "The conversation so far: text in every role, images in user and tool messages.",
              array(low=1), required=True),
    Parameter("stream", "boolean", "", False, "honoured",
              "Send the reply in chunks, as server-sent events.", boolean),
    Parameter("stream_options", "object", "include_usage, include_obfuscation", None, "honoured",
              "include_usage adds a last chunk with the usage; no effect without stream.",
              members(include_usage=boolean, include_obfuscation=boolean)),
    Parameter("stop", "string or array", f"at most 4 strings of at most {MAX_STOP} characters", None, "honoured",
              "The reply ends before the first of these strings.", _stop),
    Parameter("max_completion_tokens", "integer", "at least 1", None, "honoured",
              "The reply is cut at this many tokens, at most the model's own limit; finish_reason is "
              "then length.", integer(NO_LIMIT)),
    Parameter("max_tokens", "integer", "at least 1", None, "honoured",
              "The older name of max_completion_tokens, which wins if both are given.", integer(NO_LIMIT)),
    Parameter("n", "integer", "1 to 128", 1, "honoured",
              "How many choices to make; the server's own limit may be lower.", integer(1, 128)),
    Parameter("response_format", "object", "text, json_object, json_schema", {"type": "text"},
              "honoured", "The form of the reply: free text, one JSON object, or JSON that fits a "
              "schema.", an_object),
    Parameter("tools", "array", f"at most {MAX_TOOLS}", None, "honoured",
              "The functions and custom tools that the model may call; tools of other kinds are left out.",
              array(high=MAX_TOOLS)),
    Parameter("tool_choice", "string or object",
              "none, auto, required, a named function, allowed_tools", None, "honoured",
              "Whether and which tools must be called: auto if there are tools.",
              or_string(an_object, one_of(*MODES))),
    Parameter("parallel_tool_calls", "boolean", "", True, "honoured",
              "Whether one reply may hold more than one tool call.", boolean),
    Parameter("functions", "array", f"at most {MAX_TOOLS}", None, "honoured",
              "The older form of tools; the reply then has function_call.", array(high=MAX_TOOLS)),
    Parameter("function_call", "string or object", "none, auto, a named function", None,
              "honoured", "The older form of tool_choice.",
              or_string(an_object, one_of("none", "auto"))),
    Parameter("reasoning_effort", "string", "a word such as low or high", None, "honoured",
              "How long the model thinks, where the model has such a choice.", text),
    Parameter("temperature", "number", "0 to 2", 1, "ignored",
              "Randomness of the sampling.", number(0, 2)),
    Parameter("top_p", "number", "0 to 1", 1, "ignored",
              "Share of the probability mass that is sampled from.", number(0, 1)),
    Parameter("presence_penalty", "number", "-2 to 2", 0, "ignored",
              "Penalty on tokens that have appeared at all.", number(-2, 2)),
    Parameter("frequency_penalty", "number", "-2 to 2", 0, "ignored",
              "Penalty on tokens by how often they have appeared.", number(-2, 2)),
    Parameter("seed", "integer", f"{-2**63} to {2**63 - 1}", None, "honoured",
              "An equal request gets the same reply again, for `SEED_REPLAY_S`.", integer(-2**63, 2**63 - 1)),
    Parameter("logit_bias", "object", "token ids to numbers from -100 to 100", {}, "ignored",
              "Makes single tokens more or less likely.", _logit_bias),
    Parameter("logprobs", "boolean", "", False, "ignored",
              "Asks for the probability of each token; the reply has null.", boolean),
    Parameter("top_logprobs", "integer", "0 to 20", 0, "ignored",
              "How many alternatives to list for each token.", integer(0, 20)),
    Parameter("prediction", "object", "type content, content", None, "ignored",
              "Text that the reply will probably repeat, to make it faster.",
              members("type", "content", type=one_of("content"),
                      content=or_string(_TEXT_PARTS, text))),
    Parameter("verbosity", "string", "a word such as low or high", "medium", "ignored",
              "How wordy the reply is.", text),
    Parameter("web_search_options", "object", "search_context_size, user_location", None,
              "ignored", "Lets the model search the web.",
              members(search_context_size=text, user_location=_LOCATION)),
    Parameter("moderation", "object", "model, policy", None, "ignored",
              "Asks for a moderation verdict on the reply.", members("model", model=string())),
    Parameter("user", "string", "", None, "accepted",
              "The caller's own name for its user.", string()),
    Parameter("safety_identifier", "string", "at most 64 characters", None, "accepted",
              "The caller's own name for its user.", string(0, 64)),
    Parameter("metadata", "object", "at most 16 pairs of strings, 64 and 512 characters", None,
              "accepted", "Labels for stored completions.", metadata),
    Parameter("store", "boolean", "", False, "accepted",
              "Completions are never stored.", boolean),
    Parameter("service_tier", "string", "", "auto", "accepted", "There is one tier.", text),
    Parameter("prompt_cache_key", "string", "", None, "accepted",
              "The upstream does its own caching.", string()),
    Parameter("prompt_cache_retention", "string", "", None, "accepted",
              "The upstream does its own caching.", text),
    Parameter("prompt_cache_options", "object", "mode, ttl", None, "accepted",
              "The upstream does its own caching.", members(mode=text, ttl=text)),
    Parameter("modalities", "array", "text", ["text"], "accepted",
              "Replies are text; audio is refused.", _modalities),
    Parameter("audio", "object", "", None, "refused", "There is no audio here.", refused),
)


@dataclass(frozen=True, slots=True)
class Wishes:
    """`functions`: the caller used the older form. `include_usage`: a stream's last chunk shall hold the usage."""

    functions: bool
    include_usage: bool


def parse(body: dict, options: Options) -> Parsed:
    """The chat that a body asks for. Raises BadRequest with the `param` that is wrong."""
    _refuse_other_apis(body)
    given, ignored = read_parameters(body, PARAMETERS, options.strict_params)
    messages = tuple(array(_message)(given["messages"], "messages"))
    tools, left_out = _tools(given)
    functions = bool(given["functions"])
    chat = Chat(
        model=given["model"],
        messages=messages,
        stream=given["stream"],
        n=integer(1, options.max_n)(given["n"], "n"),
        stop=tuple(given["stop"] or ()),
        max_tokens=_max_tokens(given),
        format=_format(given["response_format"], "response_format"),
        tools=tools,
        tool_choice=_tool_choice(given, tuple(tool.name for tool in tools)),
        parallel_tool_calls=given["parallel_tool_calls"] and not functions,
        reasoning_effort=given["reasoning_effort"],
        seed=_seed(given),
    )
    include_usage = chat.stream and bool((given["stream_options"] or {}).get("include_usage"))
    return Parsed(chat, Wishes(functions, include_usage), ignored + left_out)


def _seed(given: dict) -> str:
    """The seed, with the parameters that are ignored here: a request that differs in one of these is not equal."""
    if given["seed"] is None:
        return ""
    return json.dumps([given["seed"], *(given[one.name] for one in PARAMETERS if one.effect == "ignored")])


def _refuse_other_apis(body: dict) -> None:
    if body.get("messages") is None and body.get("input") is not None:
        raise of_another_api("input", RESPONSES_API)
    if body.get("system") and body.get("max_tokens") is not None:
        raise of_another_api("system", MESSAGES_API)


def _max_tokens(given: dict) -> int | None:
    """The limit; clients that send both names write 0 for the one that they do not mean."""
    limits = {name: given[name] for name in ("max_completion_tokens", "max_tokens") if given[name] is not None}
    if limits and not any(limits.values()):
        name = next(iter(limits))
        raise unexpected(name, "an integer >= 1", 0, "integer_below_min_value")
    return next((limit for limit in limits.values() if limit > 0), None)


# Messages

_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant",
          "tool": "tool", "function": "tool"}
_role = one_of(*_ROLES)


def _message(value: object, path: str) -> Message:
    wire_role = read(an_object(value, path), path, "role", _role)
    role = _ROLES[wire_role]
    content = _content(value, path, role)
    calls = []
    if role == "assistant":
        content = content or tuple(filter(None, [read(value, path, "refusal", text, "")]))
        calls += read(value, path, "tool_calls", array(_call), ())
        calls += filter(None, [read(value, path, "function_call", _old_call, None)])
    name = read(value, path, "name", text, REQUIRED if wire_role == "function" else None)
    answers = read(value, path, "tool_call_id", text, "") if wire_role == "tool" else None
    return Message(role, content, name, tuple(calls), answers)


def _content(message: dict, path: str, role: str) -> tuple[str | Image, ...]:
    value = message.get("content")
    path = f"{path}.content"
    if isinstance(value, str):
        return (value,) if value else ()
    if role == "tool" and value is not None and not are_parts(value, _OF_A_RESULT):
        return (json_text(value, path),)
    if isinstance(value, list):
        if not value and role in ("system", "user"):
            raise unexpected(path, "a string or at least 1 part", value, "empty_array")
        parts = [_part(part, f"{path}[{i}]", role) for i, part in enumerate(value)]
        return tuple([part for part in parts if part is not None])
    if value is not None:
        raise unexpected(path, "a string or an array of parts", value, "invalid_type")
    if role in ("system", "user"):
        raise missing(path)
    return ()


# What a part of each type becomes, by the role of its message.
_TEXT = dict.fromkeys(TEXTS, member("text", text))
_SHOWN = {**_TEXT, **dict.fromkeys(("image_url", "input_image"), member("image_url", image_by_url)),
          "image": image_block}
_PARTS = {"system": _TEXT, "user": _SHOWN, "tool": {**_SHOWN, **dict.fromkeys(MCP, mcp_part)}, "assistant": {
    **_TEXT, "refusal": member("refusal", text),
    **dict.fromkeys(THINKING, nothing)}}
# Kinds by which a tool's result is known as parts; "file" also stands in lists of a tool's own.
_OF_A_RESULT = {*_SHOWN, "tool_use", "tool_result", "input_audio", "input_file"}
_ELSEWHERE = {*_PARTS["user"], *_PARTS["assistant"], "input_audio", "file", "input_file"}


def _part(value: object, path: str, role: str) -> str | Image | None:
    kind = read(an_object(value, path), path, "type", text)
    if kind in ("tool_use", "tool_result"):
        raise of_another_api(f"{path}.type", MESSAGES_API)
    if kind not in _PARTS[role]:
        raise unexpected(f"{path}.type", f"{either(tuple(_PARTS[role]))} in a message of role {role}", kind,
                         "unsupported_value" if kind in _ELSEWHERE else "invalid_value")
    return _PARTS[role][kind](value, path)


# Tools and calls

def _kind(value: object, path: str) -> str:
    """The type of a tool or call; "" if nothing tells it, as in Gemini's {"googleSearch": {}}."""
    if "input_schema" in an_object(value, path):
        raise of_another_api(f"{path}.input_schema", MESSAGES_API)
    named = any(value.get(name) is not None for name in ("function", "custom", "name"))
    return read(value, path, "type", text, "function" if named else "")


KINDS = ("function", "custom")  # of tools that can be called here


def _wrapped(value: object, path: str) -> tuple[dict, str, str]:
    """What {"type": "function", "function": {...}} or the same with custom wraps, its path and its kind; or the
    flat form itself."""
    kind = one_of(*KINDS)(_kind(value, path) or "function", f"{path}.type")
    if value.get(kind) is None and "name" in value:
        return value, path, kind
    return read(value, path, kind, an_object), f"{path}.{kind}", kind


def _callable(value: object, path: str, low: int = 0) -> tuple[list[tuple[dict, str, str]], tuple[str, ...]]:
    """What can be called of these tools, as _wrapped has it, and the paths of the other ones, which must not be
    all."""
    kinds = array(_kind, low, MAX_TOOLS)(value, path)
    if not {*kinds} & {*KINDS}:
        return array(_wrapped)(value, path), ()
    return ([_wrapped(tool, f"{path}[{i}]") for i, tool in enumerate(value) if kinds[i] in KINDS],
            tuple(f"{path}[{i}]" for i, kind in enumerate(kinds) if kind not in KINDS))


def _old_function(value: object, path: str) -> tuple[dict, str, str]:
    return an_object(value, path), path, "function"


def _call(value: object, path: str) -> WholeCall:
    inner, where, kind = _wrapped(value, path)
    said = (read(inner, where, "input", text, "") if kind == "custom" else
            read(inner, where, "arguments", arguments, "{}"))
    return WholeCall(read(value, path, "id", text, ""), read(inner, where, "name", text), said, kind)


def _old_call(value: object, path: str) -> WholeCall:
    return WholeCall("", read(an_object(value, path), path, "name", text),
                     read(value, path, "arguments", arguments, "{}"))


def _tools(given: dict) -> tuple[tuple[Tool, ...], tuple[str, ...]]:
    """The tools, and the paths of those that are left out."""
    tools, functions = given["tools"] or [], given["functions"] or []
    if tools and functions:
        raise BadRequest("functions: expected tools or functions, got both", code="invalid_value",
                         param="functions")
    offered, left_out = _callable(tools, "tools")
    offered += array(_old_function)(functions, "functions")
    return distinct((_tool(inner, path, kind), path) for inner, path, kind in offered), left_out


def _tool(inner: dict, path: str, kind: str) -> Tool:
    read(inner, path, "strict", boolean, False)
    form = (read(inner, path, "format", tree, FREE_TEXT) if kind == "custom" else
            read(inner, path, "parameters", tree, NO_ARGUMENTS))
    return Tool(read(inner, path, "name", tool_name), read(inner, path, "description", text, ""), form, kind)


def _tool_choice(given: dict, offered: tuple[str, ...]) -> ToolChoice:
    path = "function_call" if given["tool_choice"] is None else "tool_choice"
    value = given[path]
    if value is None:
        value = "auto"
    kind = value if isinstance(value, str) else _kind(value, path)
    if kind in MODES:
        if MODES[kind] == "required" and not offered:
            raise unexpected(path, "none or auto, as there are no tools", kind)
        return ToolChoice(MODES[kind] if offered else "none")
    if kind == "allowed_tools":
        allowed = read(value, path, "allowed_tools", an_object)
        path = f"{path}.allowed_tools"
        mode = read(allowed, path, "mode", one_of("auto", "required"))
        chosen, _ = read(allowed, path, "tools", partial(_callable, low=1))
    else:
        mode, chosen = "required", [_wrapped({**value, "type": "function"} if kind == "tool" else value, path)]
    names = {}
    for tool, inner, _ in chosen:
        name = read(tool, inner, "name", text)
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
    return Format(kind, read(inner, path, "name", format_name), read(inner, path, "schema", tree, None))


# Replies

class ChunkWriter:
    """A reply as chunks, in the order that the API keeps: roles, deltas, finish, usage, [DONE]. Each choice has
    its own deltas, and a delta one kind of content: clients lose the second of two."""

    def __init__(self, identity: Identity, chat: Chat, wishes: Wishes):
        self._id, self._identity, self._n, self._wishes = f"chatcmpl-{identity.token}", identity, chat.n, wishes
        # A chunk's JSON text before and after what stands in its `choices`: a delta is text between the two.
        way = f'"system_fingerprint":"{identity.system_fingerprint}",' if identity.system_fingerprint else ""
        self._before = (f'{{"id":"{self._id}","object":"chat.completion.chunk","created":{identity.created},'
                        f'"model":{encode_basestring_ascii(identity.model)},{way}"choices":[')
        self._after = '],"usage":null}' if wishes.include_usage else "]}"

    def begin(self) -> list[Frame]:
        return [self._chunk(index, '{"role":"assistant","content":"","refusal":null}')
                for index in range(self._n)]

    def add(self, index: int, event: Event) -> list[Frame]:
        kind = type(event)
        if kind is Text:
            return [self._chunk(index, f'{{"content":{encode_basestring_ascii(event.text)}}}')]
        if kind is Reasoning:
            return [self._chunk(index, f'{{"reasoning_content":{json.dumps(event.text)}}}')]
        if kind is ToolCall and not self._wishes.functions:
            return [self._chunk(index, json.dumps({"tool_calls": [_tool_delta(event)]}))]
        if kind is ToolCall and event.index == 0:
            return [self._chunk(index, json.dumps({"function_call": _function_delta(event)}))]
        if kind is Finish:
            return [self._chunk(index, "{}", json.dumps(self._reason(event)))]
        return []

    def end(self, usage: Usage) -> list[Frame]:
        done = Frame("[DONE]")
        if not self._wishes.include_usage:
            return [done]
        return [Frame(f'{self._before}],"usage":{json.dumps(_usage(usage))}}}'), done]

    def fail(self, error: ApiError) -> list[Frame]:
        return [Frame(json.dumps(openai_error(error, self._identity.request).body))]

    def heartbeat(self) -> Frame:
        return self._chunk(0, "{}")

    def body(self, replies: Sequence[ReplySoFar], usage: Usage) -> dict:
        """The completion. A call that was cut is not in it; in a stream its pieces have left, but they are no
        JSON, and so no call either."""
        way = self._identity.system_fingerprint
        return {"id": self._id, "object": "chat.completion", "created": self._identity.created,
                "model": self._identity.model, **({"system_fingerprint": way} if way else {}),
                "choices": [self._choice(index, reply) for index, reply in enumerate(replies)],
                "usage": _usage(usage)}

    def _chunk(self, index: int, delta: str, finish: str = "null") -> Frame:
        return Frame(f'{self._before}{{"index":{index},"delta":{delta},"logprobs":null,'
                     f'"finish_reason":{finish}}}{self._after}')

    def _choice(self, index: int, reply: ReplySoFar) -> dict:
        content, calls = reply.text, reply.calls
        message = {"role": "assistant", "content": content if content or not calls else None,
                   "refusal": None}
        if reasoning := reply.reasoning:
            message["reasoning_content"] = reasoning
        if calls and self._wishes.functions:
            message["function_call"] = {"name": calls[0].name, "arguments": calls[0].arguments}
        elif calls:
            message["tool_calls"] = [
                {"id": call.id, "type": call.kind, call.kind: {
                    "name": call.name, _SAID_IN[call.kind]: call.arguments}} for call in calls]
        return {"index": index, "message": message, "logprobs": None,
                "finish_reason": self._reason(reply.finish)}

    def _reason(self, finish: Finish) -> str:
        return "function_call" if self._wishes.functions and finish.reason == "tool_calls" else finish.reason


_SAID_IN = {"function": "arguments", "custom": "input"}  # by the kind of a call: the member that has what is said


def _tool_delta(call: ToolCall) -> dict:
    if call.id is None:
        return {"index": call.index, call.kind: _function_delta(call)}
    return {"index": call.index, "id": call.id, "type": call.kind, call.kind: _function_delta(call)}


def _function_delta(call: ToolCall) -> dict:
    said = {_SAID_IN[call.kind]: call.arguments}
    return {"name": call.name, **said} if call.name else said


def _usage(usage: Usage) -> dict:
    return {
        "prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens, "audio_tokens": 0,
            "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0},
        "source": usage.source}  # ours: whose count it is, upstream or estimate


_ASKED = {"model": "claude-sonnet-4-5-20250929", "messages": [{"role": "user", "content": "Hi"}]}
_STREAM = {**_ASKED, "stream": True}
_SAID = (Text("Hello"), Text(", world"), Usage(9, 4), Finish("stop"))
_CALLED = (ToolCall(0, "call_0123456789abcdef01234567", "get_weather", '{"city":'),
           ToolCall(0, None, None, '"Paris"}'), Usage(52, 12), Finish("tool_calls"))

CHAT_COMPLETIONS = Dialect(
    name="chat_completions", what='A completion, or chunks with `"stream": true`',
    paths=("/v1/chat/completions", "/chat/completions"),
    parameters=PARAMETERS, parse=parse, writer=ChunkWriter, error=openai_error,
    examples=(
        Example("A completion", _ASKED, _SAID),
        Example("A completion with a tool call", _ASKED, _CALLED),
        Example("A stream, with `include_usage`", {**_STREAM, "stream_options": {"include_usage": True}}, _SAID),
        Example("A stream with a tool call", _STREAM, _CALLED),
        Example("A stream that fails", _STREAM, _SAID[:1], UpstreamCut("Cursor's stream was cut"))))
