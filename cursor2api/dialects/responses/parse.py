"""A body of the Responses API to a Chat: its items become messages, its tools those that the model is shown.

Tools of namespaces are shown by their bare names where these are unique, else as `namespace.name`; which tool a
shown name stands for is told by a table, never by taking the name apart.
"""

import re
from base64 import b64decode
from binascii import Error
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

from ...chat import Chat, Format, Image, Message, Tool, ToolChoice, WholeCall
from ...errors import BadRequest
from .. import Options, Parsed
from ..checks import (CHAT_COMPLETIONS_API, FREE_TEXT, MAX_TOOLS, MCP, MODES, NO_ARGUMENTS, NO_LIMIT, THINKING,
                      Parameter, an_object, are_parts, arguments, array, boolean, format_name, image_block,
                      image_by_url, integer, json_text, mcp_part, members, metadata, number, of_another_api,
                      one_of, or_string, read, read_parameters, refused, shown, string, text, tool_name, tree,
                      unexpected)
from .stored import Earlier, keep


def _background(value, path):
    return refused(value, path) if boolean(value, path) else value


def _limit(value, path):
    return None if value == NO_LIMIT else integer(1)(value, path)


PARAMETERS: tuple[Parameter, ...] = (
    Parameter("model", "string", "an id of /v1/models", None, "honoured",
              "The model that answers.", string(1), required=True),
    Parameter("input", "string or array", "text, or items", None, "honoured",
              "What is new: a user's text, or items such as messages, calls and their outputs.",
              or_string(array(), text)),
    Parameter("instructions", "string", "", None, "honoured",
              "A system message before all others; it is not carried over by previous_response_id.", text),
    Parameter("previous_response_id", "string", "id of a stored response", None, "honoured",
              "The response that this one goes on from.", text),
    Parameter("store", "boolean", "", True, "honoured",
              "Keep the response for later requests, if the service keeps any: the response says so.", boolean),
    Parameter("stream", "boolean", "", False, "honoured",
              "Send the response in events, as server-sent ones.", boolean),
    Parameter("stream_options", "object", "include_obfuscation", None, "accepted",
              "There is no obfuscation.", members(include_obfuscation=boolean)),
    Parameter("max_output_tokens", "integer", "at least 1", None, "honoured",
              "The reply is cut at this many tokens; the response is then incomplete.", _limit),
    Parameter("tools", "array", f"at most {MAX_TOOLS}: function, custom, namespace, tool_search", [], "honoured",
              "What the model may call; tools of other kinds are left out.",
              array(high=MAX_TOOLS)),
    Parameter("tool_choice", "string or object", "none, auto, required, a named tool, allowed_tools", "auto",
              "honoured", "Whether and which tools must be called.",
              or_string(an_object, one_of(*MODES))),
    Parameter("parallel_tool_calls", "boolean", "", True, "honoured",
              "Whether one response may hold more than one tool call.", boolean),
    Parameter("text", "object", "format, verbosity", {}, "honoured",
              "The form of the reply: free text, one JSON object, or JSON that fits a schema.", an_object),
    Parameter("reasoning", "object", "effort, summary", {}, "honoured",
              "How long the model thinks, where the model has such a choice.", members(effort=text, summary=text)),
    Parameter("metadata", "object", "at most 16 pairs of strings, 64 and 512 characters", {}, "honoured",
              "Labels of the response.", metadata),
    Parameter("temperature", "number", "0 to 2", 1, "ignored", "Randomness of the sampling.", number(0, 2)),
    Parameter("top_p", "number", "0 to 1", 1, "ignored",
              "Share of the probability mass that is sampled from.", number(0, 1)),
    Parameter("top_logprobs", "integer", "0 to 20", 0, "ignored",
              "How many alternatives to list for each token.", integer(0, 20)),
    Parameter("moderation", "object", "", None, "ignored", "Asks for a moderation verdict on the reply.",
              an_object),
    Parameter("context_management", "array", "", None, "ignored", "Asks for a history that is made shorter.",
              array()),
    Parameter("include", "array", "", [], "accepted",
              "More of the output; message.output_text.logprobs is ignored, reasoning.encrypted_content is null.",
              array(text)),
    Parameter("max_tool_calls", "integer", "", None, "accepted", "It limits built-in tools alone.", integer()),
    Parameter("truncation", "string", "auto, disabled", "disabled", "accepted",
              "`MAX_INPUT_LENGTH` decides.", one_of("auto", "disabled")),
    Parameter("service_tier", "string", "", "auto", "accepted", "There is one tier.", text),
    Parameter("user", "string", "", None, "accepted", "The caller's own name for its user.", text),
    Parameter("safety_identifier", "string", "at most 64 characters", None, "accepted",
              "The caller's own name for its user.", string(0, 64)),
    Parameter("prompt_cache_key", "string", "", None, "accepted",
              "The upstream does its own caching.", text),
    Parameter("prompt_cache_retention", "string", "", None, "accepted",
              "The upstream does its own caching.", text),
    Parameter("prompt_cache_options", "object", "mode, ttl", None, "accepted",
              "The upstream does its own caching.", members(mode=text, ttl=text)),
    Parameter("background", "boolean", "false", False, "accepted",
              "Nothing runs in the background: true is refused.", _background),
    Parameter("conversation", "string or object", "", None, "refused",
              "There are no conversations here.", refused),
    Parameter("prompt", "object", "", None, "refused", "There are no stored prompts here.", refused),
)


Placed = tuple[dict, str, str]  # an item, its type and its path


@dataclass(frozen=True, slots=True)
class Declared:
    """A tool as its caller knows it; `kind` is function, custom or tool_search."""

    kind: str
    name: str
    namespace: str = ""


@dataclass(frozen=True, slots=True)
class Wishes:
    """`declared` are the tools by the names that the model is shown; `echo` are the members of the response that
    repeat the request; `keep` takes the response's id and its JSON text, and is None where nothing is stored."""

    declared: dict[str, Declared]
    echo: dict[str, object]
    keep: Callable[[str, str], None] | None = None


def parse(body: dict, options: Options) -> Parsed:
    """The chat that a body asks for. Raises BadRequest with the `param` that is wrong."""
    if all(body.get(name) is None for name in ("input", "previous_response_id")) and body.get("messages"):
        raise of_another_api("messages", CHAT_COMPLETIONS_API)
    given, ignored = read_parameters(body, PARAMETERS, options.strict_params)
    own, items = _items(given, options)
    tools, declared, left_out = _tools(given["tools"], items)
    instructions = given["instructions"]
    form = read(given["text"], "text", "format", an_object, {"type": "text"})
    chat = Chat(
        model=given["model"],
        messages=(*([Message("system", (instructions,))] if instructions else []),
                  *_messages(items, declared)),
        stream=given["stream"],
        max_tokens=given["max_output_tokens"],
        format=_format(form, "text.format"),
        tools=tools,
        tool_choice=_tool_choice(given["tool_choice"], declared),
        parallel_tool_calls=given["parallel_tool_calls"],
        reasoning_effort=given["reasoning"].get("effort"))
    if "message.output_text.logprobs" in given["include"]:
        ignored += "include",
    stored = options.store is not None and given["store"]
    return Parsed(chat, Wishes(declared, _echo(given, form) | {"store": stored},
                               partial(keep, options, own) if stored else None), ignored + left_out)


def _items(given: dict, options: Options) -> tuple[list[dict], list[Placed]]:
    """The items of the request, and all that the chat is made of: those of earlier responses, then its own."""
    stored = Earlier(options)
    earlier = stored.items(given["previous_response_id"])
    if given["input"] is None and given["previous_response_id"] is None:
        raise BadRequest("input: required, got nothing", code="missing_required_parameter", param="input")
    own = given["input"] or []
    if isinstance(given["input"], str):
        own = [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": given["input"]}]}]
    placed = [(item, item["type"], "input") for item in earlier]
    for i, item in enumerate(own):
        kind = _kind(item, f"input[{i}]")
        if kind == "item_reference":
            item = stored.referred(read(item, f"input[{i}]", "id", text))
            kind = item["type"]
        placed.append((item, kind, f"input[{i}]"))
    return [item for item, _, _ in placed[len(earlier):]], placed


def _echo(given: dict, form: dict) -> dict:
    echo = {name: given[name] for name in (
        "instructions", "max_output_tokens", "max_tool_calls", "parallel_tool_calls", "previous_response_id",
        "temperature", "tool_choice", "top_logprobs", "top_p", "truncation", "metadata")}
    echo |= {"reasoning": {"effort": None, "summary": None, **given["reasoning"]}, "text": {**given["text"],
             "format": form}, "tools": [_echoed(tool) for tool in given["tools"]]}
    return echo | {name: given[name] for name in ("user", "safety_identifier", "prompt_cache_key")
                   if given[name] is not None}


def _echoed(tool: dict) -> dict:
    return {"parameters": None, "strict": None, **tool} if tool["type"] == "function" else tool


# Items

_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
# What an item that is a call shows of it: the member that holds its arguments.
_CALLS = {"function_call": "arguments", "custom_tool_call": "input", "tool_search_call": "arguments",
          "local_shell_call": "action", "shell_call": "action", "apply_patch_call": "operation"}
_OUTPUTS = {f"{kind}_output" for kind in _CALLS} | {"tool_search_output"}
# Items that say nothing to the model: thinking and compacted history are not told again, tools stand elsewhere.
_SILENT = {"additional_tools", "reasoning", "compaction", "compaction_trigger", "context_compaction"}


def _kind(item: object, path: str) -> str:
    if "type" not in an_object(item, path) and ("role" in item or "id" in item):
        return "message" if "role" in item else "item_reference"
    return read(item, path, "type", text)


def _messages(items: list[Placed], declared: dict[str, Declared]) -> Iterator[Message]:
    """The messages of a chat. The assistant's texts and calls in a row are one, as they were one reply."""
    names = {(tool.namespace, tool.name): name for name, tool in declared.items()}
    said: list[str | Image] | None = None  # in the assistant's message so far
    calls: list[WholeCall] = []
    for item, kind, path in items:
        if kind in _SILENT:
            continue
        if kind in _CALLS:
            calls.append(_call(item, kind, path, names))
            continue
        message = _message(item, kind, path)
        if message.role == "assistant":
            said = said or []
            said += message.content
            continue
        if said is not None or calls:
            yield Message("assistant", tuple(said or ()), tool_calls=tuple(calls))
            said, calls = None, []
        yield message
    if said is not None or calls:
        yield Message("assistant", tuple(said or ()), tool_calls=tuple(calls))


def _message(item: dict, kind: str, path: str) -> Message:
    if kind == "message":
        role = _ROLES[read(item, path, "role", one_of(*_ROLES))]
        return Message(role, _content(item, path, "content", role))
    if kind == "tool_search_output":
        found = [read(tool, path, "name", text, "") for tool in read(item, path, "tools", array(an_object), ())]
        item = {**item, "output": f"Found: {', '.join(found) or 'nothing'}"}
    if kind in _OUTPUTS:
        return Message("tool", _content(item, path, "output", "tool"),
                       tool_call_id=read(item, path, "call_id", text, ""))
    return Message("assistant", (f"[{kind[:60]}]",))  # another server's tool, whose result is not told again


def _call(item: dict, kind: str, path: str, names: dict[tuple[str, str], str]) -> WholeCall:
    said = read(item, path, _CALLS[kind], arguments, "{}")
    name = kind.removesuffix("_call")
    if kind in ("function_call", "custom_tool_call"):
        name = read(item, path, "name", text)
        name = names.get((read(item, path, "namespace", text, ""), name), name)
    return WholeCall(read(item, path, "call_id", text, ""), name, said,
                     "custom" if kind == "custom_tool_call" else "function")


def _content(item: dict, path: str, member: str, role: str) -> tuple[str | Image, ...]:
    value, path = item.get(member), f"{path}.{member}"
    if isinstance(value, str):
        return (value,) if value else ()
    if value is None and role in ("assistant", "tool"):
        return ()
    if role == "tool" and not are_parts(value, _OF_A_RESULT):
        return (json_text(value, path),)
    parts = [_part(part, f"{path}[{i}]", role) for i, part in enumerate(array(an_object)(value, path))]
    return tuple(part for part in parts if part is not None)


# Kinds of parts; those that only other APIs have come from clients of several.
_TEXTS = ("input_text", "output_text", "text", "summary_text", "reasoning_text")
_IMAGES = ("input_image", "image_url")
_OF_A_RESULT = {*_TEXTS, *_IMAGES, "image", "refusal", "input_file", "input_audio"}


def _part(part: dict, path: str, role: str) -> str | Image | None:
    """What a part says; thinking becomes None."""
    kind = read(part, path, "type", text)
    if kind in _TEXTS:
        return read(part, path, "text", text)
    if kind == "refusal":
        return read(part, path, "refusal", text)
    if kind in THINKING and role == "assistant":
        return None
    if kind in _IMAGES and role in ("user", "tool"):
        if part.get("image_url") is None and part.get("file_id") is not None:
            raise unexpected(f"{path}.file_id", "image_url, as there are no files here", part["file_id"])
        return read(part, path, "image_url", image_by_url)
    if kind == "image" and role in ("user", "tool"):
        return image_block(part, path)
    if kind in MCP and role == "tool":
        return mcp_part(part, path)
    if kind == "input_file":
        return _file(part, path)
    raise unexpected(f"{path}.type", "input_text, input_image, input_file, output_text or refusal", kind,
                     "unsupported_value")


_TEXT_FILE = re.compile(r"data:(?:text/[\w.+-]+|application/json)(?:;charset=utf-8)?;base64,([a-zA-Z0-9+/]+=*)")


def _file(part: dict, path: str) -> str:
    """The text of a file that comes with the request."""
    data = _TEXT_FILE.fullmatch(read(part, path, "file_data", text, ""))
    try:
        return f"{read(part, path, 'filename', text, 'file')}:\n{b64decode(data[1]).decode('utf-8')}"
    except (TypeError, Error, UnicodeDecodeError):
        raise unexpected(f"{path}.file_data", "data:text/...;base64,(UTF-8)", part.get("file_data"),
                         "unsupported_value") from None


# Tools

_CHOSEN = ("function", "custom")  # types of tools that can be named
# A request with no other tools than these is served without tools; with only other unknown ones, or these and such
# ones, it is a 400.
_MAY_BE_ALONE = re.compile(r"web_search\w*|image_generation|tool_search", re.ASCII)


def _tools(tools: list, items: list[Placed]) -> tuple[tuple[Tool, ...], dict[str, Declared], tuple[str, ...]]:
    """The tools as the model is shown them, as their caller knows them, and what is left out: Codex offers some of
    OpenAI's own in each request, other ones must not be all."""
    found: dict[Declared, Tool] = {}
    left_out: list[str] = []
    refusal: BadRequest | None = None
    for tool, path, namespace, about in _one_by_one(tools, items):
        kind = tool["type"]
        if kind in _CHOSEN or kind == "tool_search" and tool.get("execution") == "client" and not namespace:
            found |= _tool(tool, path, namespace, about)
        elif _MAY_BE_ALONE.fullmatch(kind):
            left_out.append(f"{path}: {kind}")
        else:
            left_out.append(path)
            refusal = refusal or unexpected(f"{path}.type", "function, custom, namespace or tool_search", kind,
                                            "unsupported_value")
    if refusal and not found:
        raise refusal
    left_out += [f"{path}.format" for tool, path in _offered(tools, items) if _grammar(tool)]
    count = Counter(declared.name for declared in found)
    named = {declared.name if count[declared.name] == 1 or not declared.namespace
             else f"{declared.namespace}.{declared.name}": (declared, tool) for declared, tool in found.items()}
    return (tuple(replace(tool, name=name) for name, (_, tool) in named.items()),
            {name: declared for name, (declared, _) in named.items()}, tuple(left_out))


def _offered(tools: list, items: list[Placed]) -> Iterator[tuple[object, str]]:
    """The tools with their paths; of those of one name the later one counts."""
    yield from ((tool, f"tools[{i}]") for i, tool in enumerate(tools))
    for item, kind, path in items:
        if kind in ("additional_tools", "tool_search_output"):
            more = read(item, path, "tools", array(), ())
            yield from ((tool, f"{path}.tools[{i}]") for i, tool in enumerate(more))


def _one_by_one(tools: list, items: list[Placed]) -> Iterator[tuple[dict, str, str, str]]:
    """The tools with their paths, their namespaces and what is said of these, which stands with the first tool."""
    for tool, path in _offered(tools, items):
        if read(an_object(tool, path), path, "type", text) != "namespace":
            yield tool, path, "", ""
            continue
        namespace, about = read(tool, path, "name", tool_name), read(tool, path, "description", text, "")
        for i, one in enumerate(read(tool, path, "tools", array(an_object), ())):
            inner = f"{path}.tools[{i}]"
            kind = read(one, inner, "type", text)
            yield one, inner, namespace, about
            about = "" if kind in _CHOSEN else about


def _tool(value: dict, path: str, namespace: str = "", about: str = "") -> dict[Declared, Tool]:
    kind = value["type"]
    name = kind if kind == "tool_search" else read(value, path, "name", tool_name)
    read(value, path, "strict", boolean, None)
    description = read(value, path, "description", text, "")
    if about:
        description = f"{description}\n{namespace}: {about}".strip()
    form = (read(value, path, "format", tree, FREE_TEXT) if kind == "custom" else
            read(value, path, "parameters", tree, NO_ARGUMENTS))
    return {Declared(kind, name, namespace): Tool(
        name, description, form, "custom" if kind == "custom" else "function", namespace)}


def _grammar(tool: dict) -> bool:
    """Whether a tool's input shall keep to a grammar, which is shown to the model and not enforced."""
    return tool["type"] == "custom" and (tool.get("format") or {}).get("type") == "grammar"


def _tool_choice(value: str | dict, declared: dict[str, Declared]) -> ToolChoice:
    path = "tool_choice"
    kind = value if isinstance(value, str) else read(value, path, "type", text)
    if kind in MODES:
        mode, chosen = MODES[kind], []
    elif kind == "allowed_tools":
        mode = read(value, path, "mode", one_of("auto", "required"))
        chosen = [(tool, f"{path}.tools[{i}]") for i, tool in enumerate(
            read(value, path, "tools", array(an_object, 1)))]
        chosen = [one for one in chosen if one[0].get("type") in _CHOSEN] or chosen
    else:
        mode, chosen = "required", [({**value, "type": "function"} if kind == "tool" else value, path)]
    known: dict[tuple[str | None, str], list[str]] = {}  # shown names by (namespace or None for any, name)
    for name, tool in declared.items():
        for namespace in (None, tool.namespace):
            known.setdefault((namespace, tool.name), []).append(name)
    wanted = dict.fromkeys(_chosen(tool, inner, known) for tool, inner in chosen)
    names = {name: None for one in wanted for name in known[one]}
    if mode == "required" and not declared:
        raise unexpected(path, "none or auto, as there are no tools", mode)
    return ToolChoice(mode if declared else "none", tuple(names))


def _chosen(value: dict, path: str, known: dict[tuple[str | None, str], list[str]]) -> tuple[str | None, str]:
    """The key in `known` of what its caller names."""
    kind = read(value, path, "type", text)
    if kind not in _CHOSEN:
        raise unexpected(f"{path}.type", "function or custom", kind, "unsupported_value")
    name, namespace = read(value, path, "name", text), read(value, path, "namespace", text, None)
    if (namespace, name) in known:
        return namespace, name
    raise BadRequest(f"{path}.name: expected the name of one of the tools, got {shown(name)}",
                     code="invalid_value", param="tool_choice")


def _format(value: dict, path: str) -> Format:
    kind = read(value, path, "type", one_of("text", "json_object", "json_schema"))
    if kind != "json_schema":
        return Format(kind)
    read(value, path, "strict", boolean, False)
    return Format(kind, read(value, path, "name", format_name), read(value, path, "schema", tree, None))
