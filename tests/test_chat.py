"""Bodies to Chats: what real clients send must parse, and what cannot be served is a 400."""

import json
import math
import time
from contextlib import suppress

import chats
import pytest
from chats import parse
from hypothesis import given, settings
from hypothesis import strategies as st

from cursor2api.chat import WholeCall, Chat, Format, Image, Message, Tool, ToolChoice
from cursor2api.errors import BadRequest
from cursor2api.dialects.chat_completions import PARAMETERS

HI = [{"role": "user", "content": "hi"}]
PNG = "data:image/png;base64,iVBORw0KGgo="
SCHEMA = {"$schema": "https://json-schema.org/draft/2020-12/schema", "type": ["object", "null"],
          "properties": {"a": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"type": "string"}},
          "additionalProperties": False, "x-unknown": 1}

GRAMMAR = {"type": "grammar", "grammar": {"syntax": "lark", "definition": "start: /x/"}}


def tool(name="f", **members):
    return {"type": "function", "function": {"name": name, "parameters": SCHEMA, **members}}


def sent(body: dict) -> bytes:
    return json.dumps({"model": "m", "messages": HI} | body).encode()


def parsed(**body) -> Chat:
    return parse(sent(body))


def refused(data: bytes | dict, **options) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        parse(sent(data) if isinstance(data, dict) else data, **options)
    error = caught.value
    assert error.status == 400
    json.dumps(error.message, ensure_ascii=False).encode()
    return error


def test_the_least_body_gives_every_default():
    assert parsed() == Chat(
        model="m", messages=(Message("user", ("hi",), None, (), None),), stream=False,
        n=1, stop=(), max_tokens=None, format=Format("text"),
        tools=(), tool_choice=ToolChoice("none", ()), parallel_tool_calls=True,
        reasoning_effort=None)


def test_null_and_unknown_members_are_as_if_absent():
    nulls = {parameter.name: None for parameter in PARAMETERS if not parameter.required}
    unknown = {"top_k": 4, "num_ctx": 8192, "enable_thinking": True, "thinking": {"type": "x"},
               "cache_control": {}, "provider": [], "reasoning": {"effort": "x"}, "x_trace": ""}
    assert parsed(**nulls, **unknown) == parsed()


# Parameters to fields: (the wrong reading that the row rules out, members, field, value)
FIELDS = [
    ("stream", {"stream": True}, "stream", True),
    ("usage asked for", {"stream": True, "stream_options": {"include_usage": True}},
     "include_usage", True),
    ("usage not asked for", {"stream": True, "stream_options": {}}, "include_usage", False),
    ("stream_options without stream", {"stream_options": {"include_usage": True}},
     "include_usage", False),
    ("n", {"n": 4}, "n", 4),
    ("one stop", {"stop": "END"}, "stop", ("END",)),
    ("four stops", {"stop": ["a", "b", "c", "d"]}, "stop", ("a", "b", "c", "d")),
    ("old limit", {"max_tokens": 5}, "max_tokens", 5),
    ("new limit", {"max_completion_tokens": 6}, "max_tokens", 6),
    ("both limits", {"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens", 6),
    ("effort", {"reasoning_effort": "xhigh"}, "reasoning_effort", "xhigh"),
    ("no parallel calls", {"parallel_tool_calls": False}, "parallel_tool_calls", False),
    ("text format", {"response_format": {"type": "text"}}, "format", Format("text")),
    ("json_object", {"response_format": {"type": "json_object"}}, "format", Format("json_object")),
    ("schema", {"response_format": {"type": "json_schema", "json_schema": {
        "name": "out", "schema": SCHEMA, "strict": True}}}, "format",
     Format("json_schema", "out", SCHEMA)),
    ("schema, nulls", {"response_format": {"type": "json_schema", "json_schema": {
        "name": "out", "schema": None, "strict": None, "description": None}}}, "format",
     Format("json_schema", "out", None)),
    ("nothing is asked for by defaults", {
        "temperature": 1.0, "top_p": 1, "presence_penalty": 0, "frequency_penalty": 0.0,
        "logit_bias": {}, "logprobs": False, "top_logprobs": 0, "verbosity": "medium",
        "seed": None}, "ignored", ()),
    ("reported in the table's order", {
        "moderation": {"model": "o"}, "web_search_options": {}, "verbosity": "low",
        "prediction": {"type": "content", "content": ""}, "top_logprobs": 2, "logprobs": True,
        "logit_bias": {"1": 1}, "seed": 0, "frequency_penalty": 1, "presence_penalty": 1,
        "top_p": 0, "temperature": 0}, "ignored",
     ("temperature", "top_p", "presence_penalty", "frequency_penalty", "logit_bias",
      "logprobs", "top_logprobs", "prediction", "verbosity", "web_search_options", "moderation")),
    ("accepted ones are not reported", {
        "user": "u", "safety_identifier": "s", "metadata": {"a": "b"}, "store": True,
        "service_tier": "flex", "prompt_cache_key": "k", "prompt_cache_retention": "24h",
        "prompt_cache_options": {"mode": "implicit"}, "modalities": ["text"]}, "ignored", ()),
    ("tool", {"tools": [tool(description="d", strict=True)]}, "tools",
     (Tool("f", "d", SCHEMA),)),
    ("nulls in a tool", {"tools": [tool(description=None, parameters=None, strict=None)]}, "tools",
     (Tool("f", "", {"type": "object", "properties": {}}),)),
    ("empty parameters stay", {"tools": [tool(parameters={})]}, "tools",
     (Tool("f", "", {}),)),
    ("flat tool", {"tools": [{"type": "function", "name": "f", "parameters": SCHEMA}]}, "tools",
     (Tool("f", "", SCHEMA),)),
    ("flat tool without type", {"tools": [{"name": "f", "parameters": SCHEMA}]}, "tools",
     (Tool("f", "", SCHEMA),)),
    ("wrapped tool without type", {"tools": [{"function": {"name": "f"}}]}, "tools",
     (Tool("f", "", {"type": "object", "properties": {}}),)),
    *((f"custom tool {form}", {"tools": [{"type": "custom", **custom}]}, "tools",
       (Tool("f", "d", GRAMMAR, "custom"),)) for form, custom in [
          ("wrapped", {"custom": {"name": "f", "description": "d", "format": GRAMMAR}}),
          ("flat", {"name": "f", "description": "d", "format": GRAMMAR})]),
    ("custom tool without a format", {"tools": [{"type": "custom", "custom": {"name": "g"}}]}, "tools",
     (Tool("g", "", {"type": "text"}, "custom"),)),
    ("custom choice", {"tools": [tool(), {"type": "custom", "custom": {"name": "g"}}], "tool_choice": {
        "type": "custom", "custom": {"name": "g"}}}, "tool_choice", ToolChoice("required", ("g",))),
    ("custom call", {"messages": [{"role": "assistant", "tool_calls": [
        {"id": "a", "type": "custom", "custom": {"name": "f", "input": "x\ny"}}]}]}, "messages",
     (Message("assistant", (), tool_calls=(WholeCall("a", "f", "x\ny", "custom"),)),)),
    ("old functions", {"functions": [{"name": "f", "parameters": SCHEMA}]}, "tools",
     (Tool("f", "", SCHEMA),)),
    ("old functions, answered in kind", {"functions": [{"name": "f"}]}, "functions", True),
    ("tools, not in the old form", {"tools": [tool()]}, "functions", False),
    ("old functions are called one at a time", {"functions": [{"name": "f"}], "parallel_tool_calls": True},
     "parallel_tool_calls", False),
    ("no tools", {"tools": [], "functions": []}, "tools", ()),
    ("MCP names", {"tools": [tool("mcp__a.b/c:d-e_9" + "x" * 112)]}, "tools",
     (Tool("mcp__a.b/c:d-e_9" + "x" * 112, "", SCHEMA),)),
    ("choice with tools", {"tools": [tool()]}, "tool_choice", ToolChoice("auto")),
    ("choice required", {"tools": [tool()], "tool_choice": "required"}, "tool_choice",
     ToolChoice("required")),
    ("choice none", {"tools": [tool()], "tool_choice": "none"}, "tool_choice", ToolChoice("none")),
    ("choice auto without tools", {"tool_choice": "auto"}, "tool_choice", ToolChoice("none")),
    ("choice auto with empty tools", {"tools": [], "tool_choice": "auto"}, "tool_choice",
     ToolChoice("none")),
    ("named", {"tools": [tool(), tool("g")], "tool_choice": {
        "type": "function", "function": {"name": "g"}}}, "tool_choice",
     ToolChoice("required", ("g",))),
    ("named, flat", {"tools": [tool()], "tool_choice": {"type": "function", "name": "f"}},
     "tool_choice", ToolChoice("required", ("f",))),
    ("allowed", {"tools": [tool(), tool("g"), tool("h")], "tool_choice": {
        "type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [
            {"type": "function", "function": {"name": n}} for n in "hfh"]}}}, "tool_choice",
     ToolChoice("auto", ("h", "f"))),
    ("old named", {"functions": [{"name": "f"}], "function_call": {"name": "f"}}, "tool_choice",
     ToolChoice("required", ("f",))),
    ("old auto", {"functions": [{"name": "f"}], "function_call": "auto"}, "tool_choice",
     ToolChoice("auto")),
]


@pytest.mark.parametrize("members, field, value", [row[1:] for row in FIELDS],
                         ids=[row[0] for row in FIELDS])
def test_a_parameter_becomes_its_field(members, field, value):
    read = chats.parsed(sent(members))
    assert [getattr(part, field) for part in (read.chat, read.wishes, read) if hasattr(part, field)] == [value]


CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}

# One message to one Message: (habit, as sent, as taken)
MESSAGES = [
    ("system", {"role": "system", "content": "s"}, Message("system", ("s",))),
    ("developer is system", {"role": "developer", "content": "s"}, Message("system", ("s",))),
    ("system parts", {"role": "system", "content": [{"type": "text", "text": "s"}]},
     Message("system", ("s",))),
    ("user name", {"role": "user", "content": "u", "name": "bob"}, Message("user", ("u",), "bob")),
    ("empty user", {"role": "user", "content": ""}, Message("user", ())),
    ("cache_control on a part", {"role": "user", "content": [
        {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}},
        {"type": "text", "text": "b", "prompt_cache_breakpoint": {"mode": "explicit"}}]},
     Message("user", ("a", "b"))),
    ("image", {"role": "user", "content": [
        {"type": "text", "text": "see"},
        {"type": "image_url", "image_url": {"url": PNG, "detail": "high"}}]},
     Message("user", ("see", Image(PNG)))),
    ("image as a string", {"role": "user", "content": [
        {"type": "image_url", "image_url": "https://a.example/b.png?c=d"}]},
     Message("user", (Image("https://a.example/b.png?c=d"),))),
    ("upper case in a data URL", {"role": "user", "content": [
        {"type": "image_url", "image_url": "DATA:image/JPEG;base64,AAAA"}]},
     Message("user", (Image("data:image/jpeg;base64,AAAA"),))),
    ("assistant without content", {"role": "assistant", "tool_calls": [CALL]},
     Message("assistant", (), None, (WholeCall("c1", "f", '{"a":1}'),))),
    ("assistant, null content", {"role": "assistant", "content": None}, Message("assistant", ())),
    ("assistant, empty content", {"role": "assistant", "content": "", "tool_calls": [CALL]},
     Message("assistant", (), None, (WholeCall("c1", "f", '{"a":1}'),))),
    ("assistant, no parts", {"role": "assistant", "content": []}, Message("assistant", ())),
    ("assistant parts", {"role": "assistant", "content": [{"type": "text", "text": "a"}]},
     Message("assistant", ("a",))),
    ("refusal part", {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
     Message("assistant", ("no",))),
    ("refusal member", {"role": "assistant", "content": None, "refusal": "no"},
     Message("assistant", ("no",))),
    ("thinking is left out", {
        "role": "assistant", "content": "a", "reasoning_content": "t", "reasoning": "t",
        "reasoning_details": [{}], "provider_specific_fields": {}, "annotations": [],
        "refusal": None, "function_call": None, "audio": None, "parsed": None,
        "tool_calls": None}, Message("assistant", ("a",))),
    ("no calls", {"role": "assistant", "content": "a", "tool_calls": []},
     Message("assistant", ("a",))),
    ("arguments as an object", {"role": "assistant", "tool_calls": [
        {"id": "c", "type": "function", "function": {"name": "f", "arguments": {"a": "é"}}}]},
     Message("assistant", (), None, (WholeCall("c", "f", '{"a": "é"}'),))),
    ("arguments that are no JSON", {"role": "assistant", "tool_calls": [
        {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{\"a"}}]},
     Message("assistant", (), None, (WholeCall("c", "f", "{\"a"),))),
    ("call without id, type and arguments", {"role": "assistant", "tool_calls": [
        {"function": {"name": "f"}}]}, Message("assistant", (), None, (WholeCall("", "f", "{}"),))),
    ("old call", {"role": "assistant", "content": None,
                  "function_call": {"name": "f", "arguments": "{}"}},
     Message("assistant", (), None, (WholeCall("", "f", "{}"),))),
    ("tool", {"role": "tool", "content": "r", "tool_call_id": "c1"},
     Message("tool", ("r",), None, (), "c1")),
    ("tool parts", {"role": "tool", "tool_call_id": "c1", "content": [
        {"type": "text", "text": "r"}, {"type": "text", "text": "s"}]},
     Message("tool", ("r", "s"), None, (), "c1")),
    ("tool, empty", {"role": "tool", "content": "", "tool_call_id": "c1"},
     Message("tool", (), None, (), "c1")),
    ("tool, no parts", {"role": "tool", "content": [], "tool_call_id": "c1"},
     Message("tool", (), None, (), "c1")),
    ("tool, null, named", {"role": "tool", "content": None, "tool_call_id": "c1", "name": "f"},
     Message("tool", (), "f", (), "c1")),
    ("tool without id", {"role": "tool", "content": "r"}, Message("tool", ("r",), None, (), "")),
    ("function", {"role": "function", "name": "f", "content": "r"},
     Message("tool", ("r",), "f", (), None)),
    ("function, null", {"role": "function", "name": "f", "content": None},
     Message("tool", (), "f", (), None)),
]


@pytest.mark.parametrize("sent, taken", [row[1:] for row in MESSAGES],
                         ids=[row[0] for row in MESSAGES])
def test_a_message_is_levelled(sent, taken):
    assert parsed(messages=[sent]).messages == (taken,)


def test_parts_of_text_stay_apart_and_images_are_no_text():
    assert Message("user", ("a", Image(PNG), "b")).text == "a\nb"


ORDERS = {"two users in a row": "uu", "system not first": "usa", "assistant last": "sua",
          "assistant first": "au", "tool without a call": "ut", "only system": "s"}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_messages_in_any_order(order):
    roles = [{"u": "user", "s": "system", "a": "assistant", "t": "tool"}[one] for one in order]
    chat = parsed(messages=[{"role": role, "content": "x"} for role in roles])
    assert [message.role for message in chat.messages] == roles


# What each client sends, in its own shape; every one must parse.
USAGE = {"stream": True, "stream_options": {"include_usage": True}}
PARTS = [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]
HISTORY = [{"role": "system", "content": "You are an agent."}, *PARTS]
RESULT = [{"type": "text", "text": "ok"}]
CLIENTS = {
    "Kilo": {"max_tokens": 32000, **USAGE, "tools": [tool(f"t{i}") for i in range(16)],
             "tool_choice": "auto", "messages": [
        *HISTORY, {"role": "assistant", "content": "", "reasoning_content": "hm",
                   "tool_calls": [CALL]}, {"role": "tool", "tool_call_id": "c1", "content": "ok"}]},
    "OpenCode title": {"max_tokens": 32000, **USAGE, "messages": [
        {"role": "system", "content": "Write a title."}, *HI, *HI]},
    "Cline": {**USAGE, "tool_choice": "auto", "tools": [tool(f"t{i}") for i in range(25)],
              "max_completion_tokens": 8192, "messages": HISTORY},
    "Roo": {"temperature": 0, **USAGE, "tools": [tool(strict=True)], "parallel_tool_calls": True,
            "messages": [{"role": "system", "content": [
                {"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}]}, *PARTS]},
    "Roo o3": {**USAGE, "tools": [tool()], "reasoning_effort": "high", "messages": [
        {"role": "developer", "content": "Formatting re-enabled\ns"}, *PARTS]},
    "Continue": {**USAGE, "tools": [tool()], "max_tokens": 4096, "parallel_tool_calls": False,
                 "prediction": {"type": "content", "content": "x"}, "stop": ["a"], "messages": [
        *HISTORY, {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": "ok"}]},
    "pi": {"store": False, "max_completion_tokens": 16384, **USAGE, "tools": [tool(strict=False)],
           "messages": HISTORY},
    "Qwen Code": {"max_tokens": 32000, **USAGE, "tools": [tool()], "messages": [
        *HISTORY, {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": RESULT}]},
    "Qwen Code side request": {"temperature": 0, "max_tokens": 256, "tool_choice": "required",
                               "tools": [tool("respond_in_schema")], "messages": HISTORY},
    "aider": {"temperature": 0, "stream": True, "messages": HI},
    "openai-agents": {"stream": True, "stream_options": {"include_usage": True},
                      "tools": [tool(strict=True)], "messages": HI},
    "pydantic-ai": {"stream": False, "tools": [tool(strict=True)], "tool_choice": "auto",
                    "messages": HI},
    "LangChain": {"stream": False, "max_completion_tokens": 100, "temperature": 0.7, "n": 1,
                  "tools": [tool()], "tool_choice": "required", "messages": [
        *HI, {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": "ok"}]},
    "LangChain JS": {**USAGE, "temperature": 1, "top_p": 1, "frequency_penalty": 0,
                     "presence_penalty": 0, "n": 1, "logit_bias": None, "stop": None,
                     "messages": HI},
    "LlamaIndex": {"temperature": 0.1, "stream": False, "tools": [tool(strict=False)],
                   "parallel_tool_calls": False, "tool_choice": "auto", "messages": HI},
    "LiteLLM": {"messages": [*HI, {"role": "assistant", "tool_calls": [CALL],
                                   "provider_specific_fields": {"refusal": None}},
                             {"role": "tool", "tool_call_id": "c1", "content": "ok"}]},
    "instructor": {"tools": [tool("User")], "messages": HI,
                   "tool_choice": {"type": "function", "function": {"name": "User"}}},
    "instructor, JSON": {"response_format": {"type": "json_schema", "json_schema": {
        "name": "User", "schema": SCHEMA, "strict": True}}, "messages": HI},
    "smolagents": {"tool_choice": "required", "tools": [tool("final_answer")],
                   "stop": ["Observation:", "Calling tools:"], "messages": HISTORY},
    "llm": {**USAGE, "tools": [tool(description=None)], "messages": HI},
    "llm, schema": {"stream": False, "response_format": {"type": "json_schema", "json_schema": {
        "name": "output", "schema": SCHEMA}}, "messages": HI},
    "AI SDK": {"max_tokens": 100, "response_format": {"type": "json_object"}, "messages": HI},
    "Open WebUI": {**USAGE, "temperature": 0.8, "seed": 42, "max_tokens": 512, "messages": [
        *HI, {"role": "assistant", "content": "so far"}]},
    "Open WebUI title": {"stream": False, "max_completion_tokens": 1000, "messages": [
        {"role": "developer", "content": "s"}, *HI], "metadata": None},
    "LobeChat": {**USAGE, "user": "u1", "temperature": 1, "top_p": 1, "frequency_penalty": 0,
                 "presence_penalty": 0, "messages": [{"role": "user", "content": [
                     *RESULT, {"type": "image_url", "image_url": {"url": PNG}}]}]},
    "NextChat": {"stream": True, "temperature": 0.5, "top_p": 1, "presence_penalty": 0,
                 "frequency_penalty": 0, "tools": [tool()], "messages": [
        *HI, {"role": "assistant", "tool_calls": [{**CALL, "index": 0}]},
        {"role": "tool", "name": "f", "tool_call_id": "c1", "content": "ok"}]},
    "Cherry Studio": {**USAGE, "temperature": 1, "top_p": 1, "enable_thinking": False,
                      "tools": [tool("mcp-server.search")], "messages": HISTORY},
    "LibreChat": {"stream": True, "user": "64f0c2", "messages": HI},
    "Zed": {**USAGE, "temperature": 1.0, "max_completion_tokens": 8192, "stop": None,
            "prompt_cache_key": "thread", "reasoning_effort": "medium", "tools": [tool()],
            "tool_choice": "auto", "parallel_tool_calls": False, "messages": [
        *HISTORY, {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": RESULT}]},
    "n8n": {"stream": False, "temperature": 0.7, "max_completion_tokens": 100, "messages": HI,
            "tools": [tool()], "tool_choice": "auto"},
    "JetBrains": {"stream": True, "messages": HISTORY},
}


@pytest.mark.parametrize("body", CLIENTS.values(), ids=CLIENTS)
def test_the_body_of_a_real_client_parses(body):
    chat = parsed(**body)
    assert len(chat.messages) == len(body["messages"])
    assert [one.name for one in chat.tools] == [one["function"]["name"]
                                                for one in body.get("tools", ())]


def image(url):
    return {"messages": [{"role": "user", "content": [{"type": "image_url",
                                                       "image_url": {"url": url}}]}]}


def part(value, role="user"):
    return {"messages": [*HI, {"role": role, "content": [value]}]}


def deep(levels):
    return {} if levels == 1 else {"a": deep(levels - 1)}


URL = "messages[0].content[0].image_url.url"
# (what would slip through, body, code, param)
REFUSED = [
    ("no model", {"model": None}, "missing_required_parameter", "model"),
    ("no messages", {"messages": None}, "missing_required_parameter", "messages"),
    ("message is no object", {"messages": [*HI, "hi"]}, "invalid_type", "messages[1]"),
    ("null message", {"messages": [None]}, "invalid_type", "messages[0]"),
    ("no role", {"messages": [{"content": "a"}]}, "missing_required_parameter",
     "messages[0].role"),
    ("unknown role", {"messages": [{"role": "bot", "content": "a"}]}, "invalid_value",
     "messages[0].role"),
    ("role is a list", {"messages": [{"role": [], "content": "a"}]}, "invalid_type",
     "messages[0].role"),
    ("user without content", {"messages": [{"role": "user"}]}, "missing_required_parameter",
     "messages[0].content"),
    ("system, null content", {"messages": [{"role": "system", "content": None}]},
     "missing_required_parameter", "messages[0].content"),
    ("user, no parts", {"messages": [{"role": "user", "content": []}]}, "empty_array",
     "messages[0].content"),
    ("content is a number", {"messages": [{"role": "assistant", "content": 0}]}, "invalid_type",
     "messages[0].content"),
    ("content is an object", {"messages": [{"role": "user", "content": {"type": "text"}}]},
     "invalid_type", "messages[0].content"),
    ("part is a string", part("a"), "invalid_type", "messages[1].content[0]"),
    ("part without type", part({"text": "a"}), "missing_required_parameter",
     "messages[1].content[0].type"),
    ("text part without text", part({"type": "text"}), "missing_required_parameter",
     "messages[1].content[0].text"),
    ("unknown part", part({"type": "video"}), "invalid_value", "messages[1].content[0].type"),
    ("sound", part({"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}),
     "unsupported_value", "messages[1].content[0].type"),
    ("file", part({"type": "file", "file": {"file_id": "f"}}), "unsupported_value",
     "messages[1].content[0].type"),
    ("user refuses", part({"type": "refusal", "refusal": "no"}), "unsupported_value",
     "messages[1].content[0].type"),
    *[(f"image from {role}", part({"type": "image_url", "image_url": PNG}, role),
       "unsupported_value", "messages[1].content[0].type")
      for role in ("system", "developer", "assistant")],
    ("image without URL", part({"type": "image_url", "image_url": {}}),
     "missing_required_parameter", "messages[1].content[0].image_url.url"),
    ("image_url is a number", part({"type": "image_url", "image_url": 1}), "invalid_type",
     "messages[1].content[0].image_url"),
    *[(f"image at {url[:40]}", image(url), "invalid_value", URL) for url in (
        "", "https://", "ftp://a/b.png", "file:///etc/passwd", "/b.png", "https://a b",
        "data:image/png;base64,", "data:image/svg+xml;base64,AAAA", "data:text/html;base64,AAAA",
        "data:image/png,AAAA", "data:image/png;base64,AAA", "data:image/png;base64,AA=A",
        "data:image/png;base64,AAA!", "data:image/png;base64,AAAA\n", "data:image/png;base64,A===",
        "data:image/png;base64,AAAA====", "data:image/png;base64,ÄÄÄÄ")],
    ("name is a number", {"messages": [{"role": "user", "content": "a", "name": 1}]},
     "invalid_type", "messages[0].name"),
    ("function without name", {"messages": [{"role": "function", "content": "a"}]},
     "missing_required_parameter", "messages[0].name"),
    ("tool_call_id is a number", {"messages": [{"role": "tool", "content": "", "tool_call_id": 1}]},
     "invalid_type", "messages[0].tool_call_id"),
    ("calls are an object", {"messages": [{"role": "assistant", "tool_calls": {}}]},
     "invalid_type", "messages[0].tool_calls"),
    ("call is null", {"messages": [{"role": "assistant", "tool_calls": [None]}]},
     "invalid_type", "messages[0].tool_calls[0]"),
    ("call of nothing", {"messages": [{"role": "assistant", "tool_calls": [{}]}]},
     "missing_required_parameter", "messages[0].tool_calls[0].function"),
    ("custom call without name", {"messages": [{"role": "assistant", "tool_calls": [
        {"id": "a", "type": "custom", "custom": {"input": ""}}]}]},
     "missing_required_parameter", "messages[0].tool_calls[0].custom.name"),
    ("arguments as an array", {"messages": [{"role": "assistant", "tool_calls": [
        {"function": {"name": "f", "arguments": []}}]}]}, "invalid_type",
     "messages[0].tool_calls[0].function.arguments"),
    ("call without name", {"messages": [{"role": "assistant", "function_call": {}}]},
     "missing_required_parameter", "messages[0].function_call.name"),
    ("deep arguments", {"messages": [{"role": "assistant", "function_call": {
        "name": "f", "arguments": deep(101)}}]}, "invalid_value",
     "messages[0].function_call.arguments"),
    ("n", {"n": 5}, "integer_above_max_value", "n"),
    ("n is none", {"n": 0}, "integer_below_min_value", "n"),
    ("audio", {"audio": {"voice": "alloy", "format": "mp3"}, "modalities": ["text", "audio"]},
     "unsupported_value", "modalities"),
    ("custom tool of no format", {"tools": [{"type": "custom", "custom": {"name": "f", "format": "text"}}]},
     "invalid_type", "tools[0].custom.format"),
    ("unknown tool", {"tools": [{"type": "web_search"}]}, "invalid_value", "tools[0].type"),
    ("tool is null", {"tools": [None]}, "invalid_type", "tools[0]"),
    ("tool of nothing", {"tools": [{"type": "function"}]}, "missing_required_parameter",
     "tools[0].function"),
    ("tool without name", {"tools": [{"type": "function", "function": {}}]},
     "missing_required_parameter", "tools[0].function.name"),
    *[(f"tool named {name[:9]!r}", {"tools": [tool(name)]}, code, "tools[0].function.name")
      for name, code in [("", "invalid_value"), ("a b", "invalid_value"), ("a\n", "invalid_value"),
                         ("é", "invalid_value"), ("x" * 129, "string_above_max_length")]],
    ("two tools of one name", {"tools": [tool(), tool("g"), tool(description="x")]}, "invalid_value",
     "tools[2].function.name"),
    ("schema true", {"tools": [tool(parameters=True)]}, "invalid_type",
     "tools[0].function.parameters"),
    ("deep parameters", {"tools": [tool(parameters=deep(101))]}, "invalid_value",
     "tools[0].function.parameters"),
    ("strict as a word", {"tools": [tool(strict="yes")]}, "invalid_type",
     "tools[0].function.strict"),
    ("tools in both forms", {"tools": [tool()], "functions": [{"name": "g"}]}, "invalid_value",
     "functions"),
    ("old function is null", {"functions": [None]}, "invalid_type", "functions[0]"),
    ("old function without name", {"functions": [{}]}, "missing_required_parameter",
     "functions[0].name"),
    ("required without tools", {"tool_choice": "required"}, "invalid_value", "tool_choice"),
    ("named without tools", {"tool_choice": {"type": "function", "function": {"name": "f"}}},
     "invalid_value", "tool_choice.function.name"),
    ("a name not offered", {"tools": [tool()], "tool_choice": {
        "type": "function", "function": {"name": "g"}}}, "invalid_value",
     "tool_choice.function.name"),
    ("custom choice", {"tools": [tool()], "tool_choice": {"type": "custom", "custom": {
        "name": "g"}}}, "invalid_value", "tool_choice.custom.name"),
    ("empty choice", {"tools": [tool()], "tool_choice": {}}, "missing_required_parameter",
     "tool_choice.function"),
    ("old choice not offered", {"functions": [{"name": "f"}], "function_call": {"name": "g"}},
     "invalid_value", "function_call.name"),
    ("allowed: none, which would mean all", {"tools": [tool()], "tool_choice": {
        "type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}}}, "empty_array",
     "tool_choice.allowed_tools.tools"),
    ("allowed: not offered", {"tools": [tool()], "tool_choice": {
        "type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [
            {"type": "function", "function": {"name": "g"}}]}}}, "invalid_value",
     "tool_choice.allowed_tools.tools[0].function.name"),
    ("allowed: custom", {"tools": [tool()], "tool_choice": {
        "type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [
            {"type": "custom", "name": "g"}]}}}, "invalid_value",
     "tool_choice.allowed_tools.tools[0].name"),
    ("allowed: no mode", {"tools": [tool()], "tool_choice": {
        "type": "allowed_tools", "allowed_tools": {"tools": [tool()]}}},
     "missing_required_parameter", "tool_choice.allowed_tools.mode"),
    ("format without type", {"response_format": {}}, "missing_required_parameter",
     "response_format.type"),
    ("unknown format", {"response_format": {"type": "yaml"}}, "invalid_value",
     "response_format.type"),
    ("no json_schema", {"response_format": {"type": "json_schema"}}, "missing_required_parameter",
     "response_format.json_schema"),
    ("schema without name", {"response_format": {"type": "json_schema", "json_schema": {}}},
     "missing_required_parameter", "response_format.json_schema.name"),
    ("schema with a bad name", {"response_format": {"type": "json_schema", "json_schema": {
        "name": "a.b"}}}, "invalid_value", "response_format.json_schema.name"),
    ("schema is a bool", {"response_format": {"type": "json_schema", "json_schema": {
        "name": "a", "schema": True}}}, "invalid_type", "response_format.json_schema.schema"),
    ("deep schema", {"response_format": {"type": "json_schema", "json_schema": {
        "name": "a", "schema": deep(101)}}}, "invalid_value", "response_format.json_schema.schema"),
]


@pytest.mark.parametrize("body, code, param", [row[1:] for row in REFUSED],
                         ids=[row[0] for row in REFUSED])
def test_what_cannot_be_served_is_a_400_that_names_it(body, code, param):
    error = refused(body)
    assert (error.code, error.param) == (code, param)
    assert error.message.startswith(param)


def test_a_hundred_levels_are_taken():
    assert parsed(tools=[tool(parameters=deep(100))]).tools[0].parameters == deep(100)


def test_a_message_says_what_was_expected_and_what_came():
    assert refused({"messages": [*HI, *HI, {"role": "bot"}]}).message == (
        "messages[2].role: expected system, developer, user, assistant, tool or function, "
        'got "bot"')
    assert len(refused({"messages": [{"role": "x" * 9999}]}).message) < 200


def test_max_n_and_strict_params_are_the_callers_to_set():
    assert parse(sent({"n": 9}), max_n=9).n == 9
    assert refused({"n": 2}, max_n=1).param == "n"
    error = refused({"seed": 1, "temperature": 0}, strict_params=True)
    assert (error.code, error.param) == ("unsupported_parameter", "temperature")
    assert chats.parsed(sent({"temperature": 1, "user": "u"}), strict_params=True).ignored == ()


# Bytes that are no request: (name, bytes, words of the message)
BYTES = [
    ("nothing", b"", "line 1 column 1"),
    ("half a body", b'{"model": "m",\n "messages": [', "line 2 column"),
    ("something behind", b'{}\n\n{}', "Extra data at line 3 column 1"),
    ("single quotes", b"{'model': 'm'}", "line 1 column 2"),
    ("raw newline in a string", b'{"model": "a\nb"}', "line 1 column"),
    ("form data", b"model=m&messages=hi", "line 1"),
    ("an array", b"[]", "expected an object, got an empty array"),
    ("a string", b'"hi"', 'expected an object, got "hi"'),
    ("null", b"null", "expected an object, got null"),
    ("Latin-1", b'{"model": "\xe9"}', "not UTF-8"),
    ("UTF-16", '{"model": "m"}'.encode("utf-16"), "not UTF-8"),
    ("a surrogate in UTF-8", b'{"model": "\xed\xa0\xbd"}', "not UTF-8"),
    ("overlong UTF-8", b'{"model": "\xc0\xaf"}', "not UTF-8"),
    ("NaN", b'{"temperature": NaN}', '"NaN"'),
    ("Infinity", b'{"temperature": Infinity}', '"Infinity"'),
    ("-Infinity, where nobody looks", b'{"x": {"y": -Infinity}}', '"-Infinity"'),
    ("1e999 in a schema", b'{"tools": [{"parameters": {"maximum": 1e999}}]}', '"1e999"'),
    ("an endless integer", b'{"seed": ' + b"9" * 5_000 + b"}", "5000 digits"),
    ("an integer no double holds", b'{"x": 1' + b"0" * 308 + b"}", "309 digits"),
    ("deep arrays", b"[" * 100_000, "nested too deeply"),
    ("deep objects", b'{"a":' * 100_000, "nested too deeply"),
    ("deep, closed", b'{"x":' + b"[" * 50_000 + b"]" * 50_000 + b"}", "nested too deeply"),
]


@pytest.mark.parametrize("data, words", [row[1:] for row in BYTES], ids=[row[0] for row in BYTES])
def test_bytes_that_are_no_request_are_a_400(data, words):
    assert words in refused(data).message


def body_with(content: bytes) -> bytes:
    return b'{"model": "m", "messages": [{"role": "user", "content": "' + content + b'"}]}'


# (name, the content as JSON, what it must be)
TEXTS = [
    ("a whole emoji", rb"a\ud83d\ude00b", "a\U0001f600b"),
    ("the first half", rb"a\ud83db", "a\ufffdb"),
    ("the second half", rb"\ude00", "\ufffd"),
    ("the wrong way round", rb"\ude00\ud83d", "\ufffd\ufffd"),
    ("two first halves and a second", rb"\ud83d\ud83d\ude00", "\ufffd\U0001f600"),
    ("capital letters", rb"\uD83D", "\ufffd"),
    ("an escaped backslash", rb"\\ud83d", r"\ud83d"),
    ("an escaped backslash before a half", rb"\\ud83d\ude00", "\\ud83d\ufffd"),
    ("a neighbour of the range", rb"\ud7ff\ue000", "\ud7ff\ue000"),
    ("quotes beside a half", rb"\"\\\ud83d\"\n", "\"\\\ufffd\"\n"),
    ("NUL", rb"\u0000", "\0"),
    ("raw UTF-8", "é😀".encode(), "é😀"),
    ("line separators", "\u2028\u2029".encode(), "\u2028\u2029"),
]


@pytest.mark.parametrize("content, text", [row[1:] for row in TEXTS], ids=[row[0] for row in TEXTS])
def test_any_text_can_be_encoded_later(content, text):
    assert parse(body_with(content)).messages[0].text == text


def test_halves_are_mended_wherever_they_stand():
    data = json.dumps({"model": "m\ud800", "messages": HI, "stop": "\udfff", "tools": [
        tool(description="\ud800", parameters={"\ud800": ["\udbff"]})], "x\ud800": 1})
    chat = parse(data.encode())
    repr(chat).encode()
    assert chat.model == "m\ufffd" and chat.stop == ("\ufffd",)
    assert chat.tools[0].parameters == {"\ufffd": ["\ufffd"]}
    assert refused({"messages": [{"role": "\ud83d"}]}).param == "messages[0].role"


def test_a_byte_order_mark_and_white_space_are_no_fault():
    assert parse(b"\xef\xbb\xbf \r\n\t" + body_with(b"a") + b"\n").messages[0].text == "a"


def test_of_two_equal_keys_the_last_wins():
    assert parse(b'{"model": 1, "model": "m", "messages": [], ' + body_with(b"a")[1:]).model == "m"
    assert parse(body_with(b"a")[:-1] + b', "model": "x"}').model == "x"


MB5 = 5_000_000
LARGE = {
    "one text": lambda: body_with(b"x" * MB5),
    "code": lambda: body_with(rb"def f():\n\t\"a\"\n" * (MB5 // 17)),
    "emoji": lambda: body_with(rb"\ud83d\ude00" * (MB5 // 12)),
    "halves": lambda: body_with(rb"\ud83d" * (MB5 // 6)),
    "backslashes": lambda: body_with(rb"\\" * (MB5 // 2)),
    "image": lambda: sent(image("data:image/png;base64," + "A" * MB5)),
    "bad image": lambda: sent(image("data:image/png;base64," + "A" * MB5 + "!")),
    "messages": lambda: sent({"messages": HI * (MB5 // 33)}),
    "parts": lambda: sent({"messages": [{"role": "user", "content": RESULT * (MB5 // 30)}]}),
    "schema": lambda: sent({"tools": [tool(parameters={"enum": list(range(MB5 // 8))})]}),
    "allowed tools": lambda: sent({"tools": [tool()], "tool_choice": {
        "type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [tool()] * 20_000}}}),
    "metadata": lambda: sent({"metadata": {str(i): 1 for i in range(MB5 // 12)}}),
    "digits": lambda: b'{"seed": ' + b"1" * MB5,
    "fraction": lambda: b'{"seed": 1.' + b"1" * MB5 + b"e9999",
    "brackets": lambda: b"[" * MB5,
    "open string": lambda: b'{"model": "' + b"a" * MB5,
}


@pytest.mark.parametrize("data", LARGE.values(), ids=LARGE)
def test_five_megabytes_take_a_second_or_two_at_worst(data):
    start = time.process_time()
    with suppress(BadRequest):
        parse(data())
    assert time.process_time() - start < 3  # a quadratic step takes minutes


# Random bodies: near-misses are made of the words that the parser looks for.
VOCABULARY = """
    model messages role content type text image_url url user system developer assistant tool
    function name arguments tool_calls tool_call_id function_call functions tools tool_choice auto
    none required allowed_tools mode parameters strict description custom response_format
    json_schema json_object schema stop n stream stream_options include_usage temperature
    max_tokens logit_bias metadata prediction modalities audio refusal id
"""
WORDS = st.sampled_from(VOCABULARY.split())
ATOMS = (st.none() | st.booleans() | st.integers() | st.floats() | st.text() | WORDS
         | st.sampled_from([PNG, "\ud83d", "", 1e308]))
VALUES = st.recursive(ATOMS, lambda inner: st.lists(inner, max_size=4)
                      | st.dictionaries(WORDS | st.text(max_size=3), inner, max_size=5),
                      max_leaves=20)
CALLS = st.fixed_dictionaries({}, optional={
    "id": VALUES, "type": WORDS, "name": VALUES,
    "function": st.fixed_dictionaries({"name": WORDS}, optional={"arguments": VALUES}) | VALUES})
PART = st.fixed_dictionaries({"type": st.sampled_from(["text", "image_url", "refusal", "x"])},
                             optional={"text": ATOMS, "image_url": VALUES, "refusal": ATOMS})
ROLES = st.sampled_from(["system", "developer", "user", "assistant", "tool", "function"])
MESSAGE = st.fixed_dictionaries({"role": ROLES}, optional={
    "content": st.text() | st.lists(PART, max_size=3) | VALUES, "name": ATOMS,
    "tool_calls": st.lists(CALLS, max_size=3), "function_call": CALLS, "tool_call_id": ATOMS,
    "refusal": ATOMS})
BODIES = st.fixed_dictionaries(
    {"model": st.just("m"), "messages": st.lists(MESSAGE, min_size=1, max_size=3)},
    optional={"tools": st.lists(CALLS, max_size=3), "functions": st.lists(CALLS, max_size=2),
              "tool_choice": WORDS | CALLS | VALUES, "function_call": WORDS | CALLS,
              "response_format": VALUES, "stop": VALUES, "n": ATOMS, "logit_bias": VALUES,
              "metadata": VALUES, "temperature": ATOMS, "stream_options": VALUES})


def holds_only_finite_text(value) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, (list, dict)):
        return all(map(holds_only_finite_text, [*value, *(value.values() if isinstance(
            value, dict) else ())]))
    return True


@settings(max_examples=200, deadline=None)
@given(BODIES | VALUES | st.dictionaries(WORDS, VALUES))
def test_a_random_body_gives_a_chat_or_a_400(body):
    try:
        chat = parse(json.dumps(body).encode())
    except BadRequest as error:
        json.dumps(error.message, ensure_ascii=False).encode()
    else:
        repr(chat).encode()
        assert holds_only_finite_text([one.parameters for one in chat.tools])
        assert set(chat.tool_choice.names) <= {one.name for one in chat.tools}
        assert chat.tools or chat.tool_choice == ToolChoice("none")


@settings(deadline=None)
@given(st.binary() | st.binary().map(body_with))
def test_random_bytes_give_a_chat_or_a_400(data):
    with suppress(BadRequest):
        assert isinstance(parse(data), Chat)
