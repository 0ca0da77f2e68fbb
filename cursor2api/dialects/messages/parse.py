"""A body of Anthropic's Messages to a Chat.

What clients change from turn to turn without meaning it is levelled here, so that one agent knows the whole
conversation: a text stands as a string or as a block, `cache_control` moves, thinking comes back or does not.
"""

import re
from collections.abc import Iterable
from itertools import chain

from ...chat import Chat, Format, Image, Message, Tool, ToolChoice, WholeCall
from ...errors import BadRequest
from .. import Options, Parsed
from ..checks import (CHAT_COMPLETIONS_API, MAX_TOOLS, MCP, Check, Parameter, an_object, are_parts, array,
                      boolean, distinct, either, image_block, integer, json_text, mcp_part, member, members,
                      nothing, number, of_another_api, one_of, or_string, read, read_parameters, refused, string,
                      text, tool_name, tree, unexpected)

MAX_STOPS = 100
MAX_STOP = 4096  # characters of a stop sequence
BILLING = "x-anthropic-billing-header:"  # begins a system block of Claude Code that is new in each request
REDACTED = "redact-thinking-"  # begins a beta by which a client asks not to be shown any thinking
LONG_CONTEXT = "[1m]"  # ends a model's name in Claude Code's settings
FAILED = "[This call failed.]"
CHOICES = {"auto": "auto", "any": "required", "tool": "required", "none": "none"}


# Parameters

def _system(value, path):
    return array(members("type", "text", type=one_of("text"), text=text))(value, path)


def _edits(value, path):
    """None if the edits ask for nothing: thinking of the past is never told again anyway."""
    edits = read(an_object(value, path), path, "edits", array(members("type", type=text)), [])
    return None if all(edit["type"].startswith("clear_thinking_") for edit in edits) else value


def _unless_empty(check: Check) -> Check:
    return lambda value, path: check(value, path) or None


def _no_servers(value, path):
    return refused(value, path) if array()(value, path) else None


def _no_thread(value, path):
    """With this code the clients' tool runners go on and send the whole conversation each time."""
    raise BadRequest(f"{path}: not supported here, send all messages each time",
                     code="thread_unsupported_request", param=path)


_FORMAT = members("type", "schema", type=one_of("json_schema"), schema=tree)
_THINKING = members("type", type=one_of("enabled", "adaptive", "disabled", "between_tools"),
                    budget_tokens=integer(1024), display=text)
_CHOICE = members("type", type=one_of(*CHOICES), name=text, disable_parallel_tool_use=boolean)

PARAMETERS: tuple[Parameter, ...] = (
    Parameter("model", "string", "an id of /v1/models", None, "honoured", "The model that answers.", string(1),
              required=True),
    Parameter("messages", "array", "at least 1", None, "honoured",
              "The conversation so far; tool results are blocks of user messages.", array(low=1), required=True),
    Parameter("max_tokens", "integer", "at least 1", None, "honoured",
              "The reply is cut at this many tokens, at most the model's own limit; stop_reason is then "
              "max_tokens.", integer(1), required=True),
    Parameter("system", "string or array", "text blocks", None, "honoured", "What the model is told first.",
              or_string(_system, text)),
    Parameter("stream", "boolean", "", False, "honoured", "Send the reply as server-sent events.", boolean),
    Parameter("stop_sequences", "array", f"at most {MAX_STOPS} strings of at most {MAX_STOP} characters", None,
              "honoured", "The reply ends before the first of these strings.",
              array(string(0, MAX_STOP), 0, MAX_STOPS)),
    Parameter("tools", "array", f"at most {MAX_TOOLS}", None, "honoured",
              "What the model may call. Tools that run at Anthropic are left out; one with defer_loading is shown "
              "once a tool_reference names it.", array(an_object, high=MAX_TOOLS)),
    Parameter("tool_choice", "object", "auto, any, tool, none; disable_parallel_tool_use", None, "honoured",
              "Whether and which tools must be called: auto if there are tools.", _CHOICE),
    Parameter("thinking", "object", "enabled, adaptive, disabled, between_tools; display", None, "honoured",
              "enabled and adaptive take the model's thinking variant if it has one.", _THINKING),
    Parameter("output_config", "object", "effort, format", None, "honoured",
              "How long the model thinks, where it has such a choice, and a schema that the reply must fit.",
              members(effort=text, format=_FORMAT)),
    Parameter("output_format", "object", "json_schema", None, "honoured",
              "The older form of output_config.format.", _FORMAT),
    Parameter("temperature", "number", "0 to 1", None, "ignored", "Randomness of the sampling.", number(0, 1)),
    Parameter("top_p", "number", "0 to 1", None, "ignored",
              "Share of the probability mass that is sampled from.", number(0, 1)),
    Parameter("top_k", "integer", "at least 0", None, "ignored", "How many tokens are sampled from.", integer(0)),
    Parameter("context_management", "object", "edits", None, "ignored",
              "What to drop of the conversation; past thinking always is.", _edits),
    Parameter("container", "string or object", "", None, "ignored", "There are no containers.",
              _unless_empty(or_string(an_object, text))),
    Parameter("compaction", "object", "", None, "ignored", "The caller's own affair.",
              _unless_empty(an_object)),
    Parameter("fallbacks", "array", "", None, "ignored", "No other model answers.",
              _unless_empty(array())),
    Parameter("betas", "array", "", None, "ignored", "They are a header, of which any value is good.",
              _unless_empty(array())),
    Parameter("metadata", "object", "user_id", None, "accepted", "The caller's own name for its user.",
              members(user_id=text)),
    Parameter("service_tier", "string", "", None, "accepted", "There is one tier.", text),
    Parameter("mcp_servers", "array", "empty", None, "refused", "There are no MCP servers here.", _no_servers),
    Parameter("thread", "object", "", None, "refused", "All messages are sent each time.", _no_thread),
)


def parse(body: dict, options: Options) -> Parsed:
    """The chat that a body asks for. Raises BadRequest with the `param` that is wrong."""
    given, ignored = read_parameters(body, PARAMETERS, options.strict_params)
    messages = tuple(chain(_first(given["system"]), *array(_messages)(given["messages"], "messages")))
    tools, left_out = _tools(given["tools"] or [], _loaded(given["messages"]))
    choice, thinking = given["tool_choice"] or {"type": "auto"}, given["thinking"] or {}
    config = given["output_config"] or {}
    format = config.get("format") or given["output_format"]
    think = thinking.get("type") in ("enabled", "adaptive")
    betas = [beta.strip() for beta in options.headers.get("anthropic-beta", "").split(",")]
    return Parsed(Chat(
        model=given["model"].removesuffix(LONG_CONTEXT),
        messages=messages,
        stream=given["stream"],
        stop=tuple(filter(None, given["stop_sequences"] or ())),
        max_tokens=given["max_tokens"],
        format=Format("json_schema", schema=format["schema"]) if format else Format("text"),
        tools=tools,
        tool_choice=_tool_choice(choice, tuple(tool.name for tool in tools)),
        parallel_tool_calls=not choice.get("disable_parallel_tool_use"),
        reasoning_effort=config.get("effort"),
        think=think,
        hide_thinking=not think or thinking["display"] == "omitted" or any(
            beta.startswith(REDACTED) for beta in betas),
        whole_history=True,
    ), ignored=ignored + left_out)


# Messages and blocks

def _first(system: str | list[dict] | None) -> list[Message]:
    texts = [system] if isinstance(system, str) else [block["text"] for block in system or ()]
    if texts and texts[0].startswith(BILLING):
        del texts[0]
    said = "\n\n".join(filter(None, texts))
    return [Message("system", (said,))] if said else []


def _messages(value: object, path: str) -> list[Message]:
    """What a message comes to: one with tool results is several, the results first."""
    role = read(an_object(value, path), path, "role", one_of("user", "assistant", "system"))
    blocks = read(value, path, "content", or_string(array(_block(role)), _one_text))
    parts = tuple(block for block in blocks if block and isinstance(block, (str, Image)))
    if role == "system":
        return [Message("system", ("\n\n".join(parts),))]
    if role == "assistant":
        return [Message("assistant", parts, tool_calls=tuple(
            block for block in blocks if isinstance(block, WholeCall)))]
    results = [block for block in blocks if isinstance(block, Message)]
    return [*results, Message("user", parts)] if parts or not results else results


def _one_text(value: object, path: str) -> list[str]:
    return [text(value, path)]


def _block(place: str) -> Check:
    """A block of a message of this role, or of a tool_result; thinking becomes None."""
    def check(value, path):
        kind = read(an_object(value, path), path, "type", text)
        if place == "assistant" and _OF_A_SERVER.fullmatch(kind):
            return f"[{kind[:60]}]"
        if kind not in _BLOCKS[place]:
            raise unexpected(f"{path}.type", either(tuple(_BLOCKS[place])), kind, "unsupported_value")
        return _BLOCKS[place][kind](value, path)
    return check


def _image(value: dict, path: str) -> Image:
    read(value, path, "source", members("type", type=one_of("base64", "url")))
    return image_block(value, path)


def _document(value: dict, path: str) -> str:
    source = read(value, path, "source", an_object)
    kind = read(source, f"{path}.source", "type", text)
    if kind not in ("text", "content"):
        raise unexpected(f"{path}.source.type", "text or content, because a PDF or a file cannot be read here",
                         kind, "unsupported_value")
    said = (read(source, f"{path}.source", "data", _one_text) if kind == "text" else
            read(source, f"{path}.source", "content", or_string(array(member("text", text)), _one_text)))
    return "\n".join(filter(None, [read(value, path, "title", text, ""), *said]))


def _document_of_a_result(value: dict, path: str) -> str:
    """A refusal would come back with every turn of the conversation, so a mark stands for what cannot be read."""
    source = read(value, path, "source", an_object)
    if source.get("type") in ("text", "content"):
        return _document(value, path)
    return f"[A document of type {source.get('media_type') or source.get('type')} that cannot be read here.]"


def _search_result(value: dict, path: str) -> str:
    return "\n".join([read(value, path, "title", text, ""), read(value, path, "source", text, ""),
                      *read(value, path, "content", array(member("text", text)), [])])


def _call(value: dict, path: str) -> WholeCall:
    return WholeCall(read(value, path, "id", text), read(value, path, "name", text),
                     json_text(read(value, path, "input", an_object), path))


def _said_by_a_tool(value: object, path: str) -> list[str | Image]:
    """The blocks of a result; home-made agents send any other value, which is told as its JSON text."""
    if isinstance(value, str):
        return [value]
    if not _are_blocks(value):
        return [json_text(value, path)]
    return array(_block("tool_result"))(value, path)


def _are_blocks(value: object) -> bool:
    return are_parts(value, _OF_A_RESULT)


def _result(value: dict, path: str) -> Message:
    parts = read(value, path, "content", _said_by_a_tool, [])
    failed = [FAILED] if read(value, path, "is_error", boolean, False) else []
    return Message("tool", tuple(filter(None, [*failed, *parts])),
                   tool_call_id=read(value, path, "tool_use_id", text))


def _reference(value: dict, path: str) -> str:
    return f"The tool {read(value, path, 'tool_name', text)} can now be called."


# Calls of tools that ran at another server, and their results: neither is told again.
_OF_A_SERVER = re.compile(r"(?:server|mcp)_tool_use|\w+_tool_result", re.ASCII)
_TEXT = {"text": member("text", text)}
_SHOWN = {**_TEXT, "image": _image, "search_result": _search_result}
_OF_A_RESULT = {**_SHOWN, "document": _document_of_a_result, "tool_reference": _reference}
_BLOCKS = {
    "user": {**_SHOWN, "document": _document, "tool_result": _result},
    "assistant": {**_TEXT, "tool_use": _call, "thinking": nothing, "redacted_thinking": nothing,
                  "reasoning": nothing},
    "system": _TEXT,
    "tool_result": {**_OF_A_RESULT, **dict.fromkeys(MCP, mcp_part)}}


# Tools

def _loaded(messages: Iterable[dict]) -> set[str]:
    """The tools that a tool_reference names anywhere in checked messages."""
    blocks = chain.from_iterable(
        message["content"] for message in messages if isinstance(message["content"], list))
    results = [block["content"] for block in blocks
               if block["type"] == "tool_result" and _are_blocks(block.get("content"))]
    return {block["tool_name"] for block in chain.from_iterable(results) if block["type"] == "tool_reference"}


def _tools(offered: list[dict], loaded: set[str]) -> tuple[tuple[Tool, ...], tuple[str, ...]]:
    """The tools that the model is shown, and the paths of those that cannot run here, which must not be all."""
    kinds = [read(tool, f"tools[{i}]", "type", text, "custom") for i, tool in enumerate(offered)]
    if offered and "custom" not in kinds:
        if kinds[0] == "function":
            raise of_another_api("tools[0].type", CHAT_COMPLETIONS_API)
        raise unexpected("tools[0].type", "custom, because Anthropic's own tools cannot run here", kinds[0],
                         "unsupported_value")
    shown = []
    for i, kind in enumerate(kinds):
        if kind == "custom":
            tool, path = _tool(offered[i], f"tools[{i}]"), f"tools[{i}]"
            if not read(offered[i], path, "defer_loading", boolean, False) or tool.name in loaded:
                shown.append((tool, path))
    return distinct(shown), tuple(f"tools[{i}]" for i, kind in enumerate(kinds) if kind != "custom")


def _tool(tool: dict, path: str) -> Tool:
    return Tool(read(tool, path, "name", tool_name), read(tool, path, "description", text, ""),
                read(tool, path, "input_schema", tree))


def _tool_choice(choice: dict, offered: tuple[str, ...]) -> ToolChoice:
    mode = CHOICES[choice["type"]]
    if mode == "required" and not offered:
        raise unexpected("tool_choice.type", "auto or none, as there are no tools to call", choice["type"])
    if choice["type"] != "tool":
        return ToolChoice(mode if offered else "none")
    name = read(choice, "tool_choice", "name", text)
    if name not in offered:
        raise unexpected("tool_choice.name", "the name of one of the tools that can run here", name)
    return ToolChoice(mode, (name,))
