"""Anthropic's Messages: bodies to chats, events to frames and messages, and the service over HTTP."""

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import MODEL, gateway
from cuts import cuts
from test_service import PIXEL
from werkzeug.test import Client

from cursor2api import events as said
from cursor2api.chat import Chat, Format, Image, Message, Tool, ToolChoice, WholeCall
from cursor2api.config import Config
from cursor2api.dialects import Identity, Options
from cursor2api.dialects.messages import MESSAGES, _page
from cursor2api.dialects.messages.writer import SIGNATURE, MessageWriter, refusal
from cursor2api.dialects.messages.parse import parse
from cursor2api.effects.toolcalls import split_calls
from cursor2api.effects.transforms import count_usage, split_thinking
from cursor2api.errors import KINDS, ApiError, BadRequest, UpstreamCut
from cursor2api.events import Finish, Reasoning, Text, ToolCall, Usage
from cursor2api.fold import ReplySoFar
from cursor2api.simulator import serve
from cursor2api.start import create_app

HI = [{"role": "user", "content": "Hi"}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"name": "get_weather", "input_schema": SCHEMA}
SERVER_TOOL = {"type": "web_search_20250305", "name": "web_search"}
PNG = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL.partition(",")[2]}}


def parsed(strict=False, **body):
    return parse({"model": "m", "max_tokens": 9, "messages": HI, **body}, Options(strict_params=strict))


def told(*messages, **body):
    """The messages of the chat, without those of `system`."""
    return parsed(messages=list(messages), **body).chat.messages


def user(*blocks):
    return {"role": "user", "content": list(blocks)}


def result(*blocks, **more):
    return {"type": "tool_result", "tool_use_id": "t1", "content": list(blocks), **more}


def text(said):
    return {"type": "text", "text": said}


# A body's messages; what the chat has of them.
READ = [
    ("a text", [{"role": "user", "content": "Hi"}], [Message("user", ("Hi",))]),
    ("a block, with a mark for a cache", [user({**text("Hi"), "cache_control": {"type": "ephemeral"}})],
     [Message("user", ("Hi",))]),
    ("an empty text", [user(text(""), text("Hi"))], [Message("user", ("Hi",))]),
    ("nothing", [user()], [Message("user", ())]),
    ("a picture", [user(PNG, text("What?"))], [Message("user", (Image(PIXEL), "What?"))]),
    ("a picture by its URL", [user({"type": "image", "source": {"type": "url", "url": "https://x.org/a"}})],
     [Message("user", (Image("https://x.org/a"),))]),
    ("system within, as a text", [*HI, {"role": "system", "content": "Be kind", "output_config": {}}, *HI],
     [Message("user", ("Hi",)), Message("system", ("Be kind",)), Message("user", ("Hi",))]),
    ("system within, as a block", [{"role": "system", "content": [{**text("Be kind"), "cache_control": {}}]}],
     [Message("system", ("Be kind",))]),
    ("thinking", [{"role": "assistant", "content": [
        {"type": "thinking", "thinking": "hm", "signature": "x"}, {"type": "redacted_thinking", "data": "x"},
        text("Ho")]}], [Message("assistant", ("Ho",))]),
    ("tools that ran at another server", [{"role": "assistant", "content": [
        {"type": "reasoning", "text": "hm"}, text("Look"), {"type": "server_tool_use", "name": "web_search"},
        {"type": "web_search_tool_result", "content": []}, {"type": "mcp_tool_use", "id": "m"}]}],
     [Message("assistant", ("Look", "[server_tool_use]", "[web_search_tool_result]", "[mcp_tool_use]"))]),
    ("a result of MCP's", [user(result(
        text("18"), {"type": "audio", "data": "AAAA"}, {"type": "resource_link", "uri": "x"},
        {"type": "resource", "resource": {"uri": "x", "blob": "AAAA"}}))],
     [Message("tool", ("18", "[audio]", '{"type": "resource_link", "uri": "x"}', "[resource]"),
              tool_call_id="t1")]),
    ("an empty reply", [{"role": "assistant", "content": []}], [Message("assistant", ())]),
    ("a call", [{"role": "assistant", "content": [text("Look"), {
        "type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}, "caller": {"type": "direct"}}]}],
     [Message("assistant", ("Look",), tool_calls=(WholeCall("t1", "f", '{"a": 1}'),))]),
    ("results, then a text", [user(result(text("18")), {**result(), "tool_use_id": "t0", "content": "19"},
                                   text("Go on"))],
     [Message("tool", ("18",), tool_call_id="t1"), Message("tool", ("19",), tool_call_id="t0"),
      Message("user", ("Go on",))]),
    ("a text, then a result", [user(text("Go on"), result(text("18")))],
     [Message("tool", ("18",), tool_call_id="t1"), Message("user", ("Go on",))]),
    ("a result that says nothing", [user({"type": "tool_result", "tool_use_id": "t1"})],
     [Message("tool", (), tool_call_id="t1")]),
    ("a result that is no block", [user(result() | {"content": {"temp": 18}})],
     [Message("tool", ('{"temp": 18}',), tool_call_id="t1")]),
    ("a result that is a list of the tool's own", [
        user(result({"type": "dir"}, {"type": "file"}), result(1, {"type": "tool_reference", "tool_name": "x"}))],
     [Message("tool", ('[{"type": "dir"}, {"type": "file"}]',), tool_call_id="t1"),
      Message("tool", ('[1, {"type": "tool_reference", "tool_name": "x"}]',), tool_call_id="t1")]),
    ("a result that failed", [user(result(text("no"), is_error=True))],
     [Message("tool", ("[This call failed.]", "no"), tool_call_id="t1")]),
    ("a result with a picture", [user(result(PNG))], [Message("tool", (Image(PIXEL),), tool_call_id="t1")]),
    ("a reference to a tool", [user(result({"type": "tool_reference", "tool_name": "grep"}))],
     [Message("tool", ("The tool grep can now be called.",), tool_call_id="t1")]),
    ("a document", [user({"type": "document", "title": "A", "source": {
        "type": "text", "media_type": "text/plain", "data": "b"}})], [Message("user", ("A\nb",))]),
    ("a document of blocks", [user({"type": "document", "source": {"type": "content", "content": [text("b")]}})],
     [Message("user", ("b",))]),
    ("a PDF that a tool read", [user(result({"type": "document", "source": {
        "type": "base64", "media_type": "application/pdf", "data": "x"}}))],
     [Message("tool", ("[A document of type application/pdf that cannot be read here.]",), tool_call_id="t1")]),
    ("what a search found", [user({"type": "search_result", "title": "A", "source": "b", "content": [text("c")]})],
     [Message("user", ("A\nb\nc",))]),
    ("several of one role, an assistant last", [*HI, *HI, {"role": "assistant", "content": "Well"}],
     [Message("user", ("Hi",)), Message("user", ("Hi",)), Message("assistant", ("Well",))]),
]


@pytest.mark.parametrize("messages, expected", [row[1:] for row in READ], ids=[row[0] for row in READ])
def test_messages_become_those_of_a_chat(messages, expected):
    assert told(*messages) == tuple(expected)


BILLING = text("x-anthropic-billing-header: cc_version=2.1; cch=1f;")
TOOL = Tool("get_weather", "", SCHEMA)
DEFERRED = {**WEATHER, "name": "grep", "defer_loading": True}
SEARCHED = {"type": "tool_use", "id": "t1", "name": "ToolSearch", "input": {}}
LOADED = [*HI, {"role": "assistant", "content": [SEARCHED]},
          user(result({"type": "tool_reference", "tool_name": "grep"}))]
FORM = {"type": "json_schema", "schema": SCHEMA}

# What is asked for beside the messages; the fields of the chat.
ASKED = [
    ("a system text", {"system": "Be kind"},
     {"messages": (Message("system", ("Be kind",)), Message("user", ("Hi",)))}),
    ("system blocks, the first a bill", {"system": [BILLING, text("A"), text("B")]},
     {"messages": (Message("system", ("A\n\nB",)), Message("user", ("Hi",)))}),
    ("no system", {"system": []}, {"messages": (Message("user", ("Hi",)),)}),
    ("a model with a suffix", {"model": "m[1m]"}, {"model": "m"}),
    ("the limits", {"max_tokens": 128000, "stop_sequences": [*"abcdef", ""], "stream": True},
     {"max_tokens": 128000, "stop": tuple("abcdef"), "stream": True, "whole_history": True}),
    ("a tool", {"tools": [{**WEATHER, "type": "custom", "strict": True, "eager_input_streaming": True}]},
     {"tools": (TOOL,), "tool_choice": ToolChoice("auto"), "parallel_tool_calls": True}),
    ("250 tools", {"tools": [{**WEATHER, "name": f"f{n}"} for n in range(250)]},
     {"tools": tuple(Tool(f"f{n}", "", SCHEMA) for n in range(250))}),
    ("a tool twice", {"tools": [WEATHER, WEATHER]}, {"tools": (TOOL,)}),
    ("a tool of Anthropic's beside", {"tools": [SERVER_TOOL, WEATHER]}, {"tools": (TOOL,)}),
    ("a tool that is not loaded", {"tools": [WEATHER, DEFERRED]}, {"tools": (TOOL,)}),
    ("only a tool that is not loaded", {"tools": [DEFERRED]}, {"tools": (), "tool_choice": ToolChoice("none")}),
    ("a tool that is loaded", {"tools": [WEATHER, DEFERRED], "messages": LOADED},
     {"tools": (TOOL, Tool("grep", "", SCHEMA))}),
    ("any tool", {"tools": [WEATHER], "tool_choice": {"type": "any"}}, {"tool_choice": ToolChoice("required")}),
    ("no tool", {"tools": [WEATHER], "tool_choice": {"type": "none"}}, {"tool_choice": ToolChoice("none")}),
    ("one tool, once", {"tools": [WEATHER], "tool_choice": {
        "type": "tool", "name": "get_weather", "disable_parallel_tool_use": True}},
     {"tool_choice": ToolChoice("required", ("get_weather",)), "parallel_tool_calls": False}),
    ("a schema", {"output_config": {"format": FORM, "effort": "xhigh"}},
     {"format": Format("json_schema", schema=SCHEMA), "reasoning_effort": "xhigh"}),
    ("a schema in the older form", {"output_format": FORM}, {"format": Format("json_schema", schema=SCHEMA)}),
    ("no thinking", {}, {"think": False, "hide_thinking": True}),
    ("thinking", {"thinking": {"type": "enabled", "budget_tokens": 1024}},
     {"think": True, "hide_thinking": False}),
    ("thinking that is not shown", {"thinking": {"type": "adaptive", "display": "omitted"}},
     {"think": True, "hide_thinking": True}),
    ("thinking turned off", {"thinking": {"type": "disabled"}}, {"think": False, "hide_thinking": True}),
    ("what is there for others", {
        "metadata": {"user_id": None}, "service_tier": "auto", "speed": "fast", "cache_control": {},
        "safeguards": [], "thread": None, "mcp_servers": [], "container": None, "anything": 1,
        "stop_sequences": None}, {"stop": ()}),
]


@pytest.mark.parametrize("body, fields", [row[1:] for row in ASKED], ids=[row[0] for row in ASKED])
def test_a_body_becomes_a_chat(body, fields):
    chat = parsed(**body).chat
    assert {name: getattr(chat, name) for name in fields} == fields


IGNORED = [
    ({"temperature": 1, "top_p": 0.5, "top_k": 3}, ("temperature", "top_p", "top_k")),
    ({"context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}}, ()),
    ({"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}}, ("context_management",)),
    ({"container": "c", "fallbacks": [1], "betas": [], "compaction": {}}, ("container", "fallbacks")),
]


@pytest.mark.parametrize("body, names", IGNORED)
def test_what_has_no_effect_is_named_or_refused(body, names):
    assert parsed(**body).ignored == names
    if names:
        with pytest.raises(BadRequest, match=names[0]):
            parsed(strict=True, **body)
    assert parsed(tools=[SERVER_TOOL, WEATHER]).ignored == ("tools[0]",)


REFUSED = [
    ("a thread", {"thread": {"type": "create"}}, "thread"),
    ("a thread that goes on", {"thread": {"type": "continue", "previous_message_id": "msg_1"}}, "thread"),
    ("no limit", {"max_tokens": None}, "max_tokens"), ("a limit of 0", {"max_tokens": 0}, "max_tokens"),
    ("no messages", {"messages": []}, "messages"), ("no model", {"model": None}, "model"),
    ("servers", {"mcp_servers": [{"url": "x"}]}, "mcp_servers"),
    ("a choice in a word", {"tool_choice": "auto"}, "tool_choice"),
    ("any of no tools", {"tool_choice": {"type": "any"}}, "tool_choice.type"),
    ("a tool that is not there", {"tools": [WEATHER], "tool_choice": {"type": "tool", "name": "x"}},
     "tool_choice.name"),
    ("a tool that is not loaded", {"tools": [WEATHER, DEFERRED], "tool_choice": {"type": "tool", "name": "grep"}},
     "tool_choice.name"),
    ("only a tool of Anthropic's", {"tools": [SERVER_TOOL], "tool_choice": {"type": "tool", "name": "web_search"}},
     "tools[0].type"),
    ("a forced tool of Anthropic's", {"tools": [WEATHER, SERVER_TOOL], "tool_choice": {
        "type": "tool", "name": "web_search"}}, "tool_choice.name"),
    ("tools of another API", {"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools[0].type"),
    ("two tools of a name", {"tools": [WEATHER, {**WEATHER, "description": "x"}]}, "tools[1].name"),
    ("a tool without a schema", {"tools": [{"name": "f"}]}, "tools[0].input_schema"),
    ("too little thinking", {"thinking": {"type": "enabled", "budget_tokens": 1}}, "thinking.budget_tokens"),
    ("another role", {"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
    ("no content", {"messages": [{"role": "user"}]}, "messages[0].content"),
    ("a block of no kind", {"messages": [{"role": "assistant", "content": [{"type": "tool_result"}]}]},
     "messages[0].content[0].type"),
    ("a server's block of the user's", {"messages": [user({"type": "server_tool_use"})]},
     "messages[0].content[0].type"),
    ("a call by the user", {"messages": [user({"type": "tool_use", "id": "t", "name": "f", "input": {}})]},
     "messages[0].content[0].type"),
    ("a PDF", {"messages": [user({"type": "document", "source": {"type": "base64", "data": "x"}})]},
     "messages[0].content[0].source.type"),
    ("a picture of a file", {"messages": [user({"type": "image", "source": {"type": "file", "file_id": "x"}})]},
     "messages[0].content[0].source.type"),
    ("an input that is no object", {"messages": [{"role": "assistant", "content": [
        {"type": "tool_use", "id": "t", "name": "f", "input": "x"}]}]}, "messages[0].content[0].input"),
    ("a free form", {"output_config": {"format": {"type": "text"}}}, "output_config.format.type"),
]


@pytest.mark.parametrize("body, param", [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_what_cannot_be_served_is_refused_by_its_path(body, param):
    with pytest.raises(BadRequest) as caught:
        parsed(**body)
    assert caught.value.param == param and caught.value.message.startswith(f"{param}: ")


# Replies

IDENTITY = Identity("0123456789abcdef01234567", 1700000000, "id", "req_1", 7)
DELTAS = {"text": {"text_delta"}, "thinking": {"thinking_delta", "signature_delta"},
          "tool_use": {"input_json_delta"}}


def frames(events, model="m"):
    writer = MessageWriter(replace(IDENTITY, model=model), Chat("asked", ()), None)
    out, usage = writer.begin(), Usage(0, 0)
    for event in events:
        usage = event if type(event) is Usage else usage
        out += writer.add(0, event)
    return out + writer.end(usage)


def body(events, model="m"):
    reply = ReplySoFar()
    for event in events:
        reply.add(event)
    return MessageWriter(replace(IDENTITY, model=model), Chat("asked", ()), None).body([reply], reply.usage)


def folded(frames):
    """The message that a client makes of a whole stream, whose order is what every client can read."""
    read = [json.loads(frame.data) for frame in frames]
    assert [frame.event for frame in frames] == [each["type"] for each in read]
    assert not any("\n" in frame.data for frame in frames)
    read = [each for each in read if each["type"] != "ping"]
    start, *blocks, delta, stop = read
    message, opened, partial = start["message"], None, ""
    assert start["type"] == "message_start" and message["usage"]["input_tokens"] > 0
    assert (message["content"], message["stop_reason"], message["stop_sequence"]) == ([], None, None)
    for each in blocks:
        if each["type"] == "content_block_start":
            assert opened is None and each["index"] == len(message["content"])
            opened, partial = each["content_block"], ""
            assert not any(opened.get(key) for key in ("text", "thinking", "signature", "input"))
            message["content"].append(opened)
            continue
        assert opened is not None and each["index"] == len(message["content"]) - 1
        if each["type"] == "content_block_stop":
            if opened["type"] == "tool_use":
                try:
                    opened["input"] = json.loads(partial or "{}")
                except ValueError:
                    assert delta["delta"]["stop_reason"] == "max_tokens"
                    opened["type"] = "cut"
            opened = None
            continue
        assert each["type"] == "content_block_delta" and each["delta"]["type"] in DELTAS[opened["type"]]
        for key in ("text", "thinking", "signature"):
            opened[key] = opened[key] + each["delta"].get(key, "") if key in opened else opened.pop(key, None)
            if opened[key] is None:
                del opened[key]
        partial += each["delta"].get("partial_json", "")
    assert opened is None and delta["type"] == "message_delta" and stop == {"type": "message_stop"}
    message["content"] = [block for block in message["content"] if block["type"] != "cut"]
    return {**message, **delta["delta"], "usage": delta["usage"]}


USAGE = Usage(30, 4, 1, 10)
CALL = [ToolCall(0, "toolu_1", "f", ""), ToolCall(0, None, None, '{"a":'), ToolCall(0, None, None, '1}')]
CALLED = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1}}
THOUGHT = {"type": "thinking", "thinking": "hm", "signature": SIGNATURE}

# A reply's events; what a message has of them: content, stop_reason, stop_sequence.
REPLIES = [
    ("a text", [Text("a"), Text('é"\n'), Finish("stop")], [text('aé"\n')], "end_turn", None),
    ("a stop sequence", [Text("a"), Finish("stop", "7")], [text("a")], "stop_sequence", "7"),
    ("a cut text", [Text("a"), Finish("length")], [text("a")], "max_tokens", None),
    ("nothing within the limit", [Finish("length")], [], "max_tokens", None),
    ("thinking", [Reasoning("h"), Reasoning("m"), Text("a"), Finish("stop")], [THOUGHT, text("a")], "end_turn",
     None),
    ("a call", [*CALL, Finish("tool_calls")], [CALLED], "tool_use", None),
    ("a call in one piece", [ToolCall(0, "toolu_1", "f", '{"a":1}'), Finish("tool_calls")], [CALLED], "tool_use",
     None),
    ("a call before a stop sequence", [*CALL, Text("a"), Finish("tool_calls", "7")], [CALLED, text("a")],
     "tool_use", None),
    ("text and two calls", [Text("a"), *CALL, ToolCall(1, "toolu_2", "g", "{}"), Finish("tool_calls")],
     [text("a"), CALLED, {"type": "tool_use", "id": "toolu_2", "name": "g", "input": {}}], "tool_use", None),
    ("a text behind a call", [Text("a"), *CALL, Text("b"), Finish("tool_calls")], [text("a"), CALLED, text("b")],
     "tool_use", None),
    ("a cut call", [Text("a"), *CALL[:2], Finish("length")], [text("a")], "max_tokens", None),
    ("thinking within a call",
     [*CALL[:2], Reasoning("h"), CALL[2], Reasoning("m"), Text("a"), Finish("tool_calls")],
     [CALLED, THOUGHT, text("a")], "tool_use", None),
    ("thinking within the last call", [*CALL[:2], Reasoning("hm"), CALL[2], Finish("tool_calls")],
     [CALLED, THOUGHT], "tool_use", None),
    ("all kinds in turn", [Reasoning("hm"), Text("a"), Reasoning("hm"), *CALL, Finish("tool_calls")],
     [THOUGHT, text("a"), THOUGHT, CALLED], "tool_use", None),
    ("a refusal", [Finish("content_filter")], [], "refusal", None),
]


@pytest.mark.parametrize("events, content, reason, at", [row[1:] for row in REPLIES],
                         ids=[row[0] for row in REPLIES])
def test_a_reply_is_the_same_message_streamed_and_not(events, content, reason, at):
    events = [*events[:-1], USAGE, events[-1]]
    message = body(events)
    assert (message["content"], message["stop_reason"], message["stop_sequence"]) == (content, reason, at)
    assert (message["stop_details"] is None) == (reason != "refusal")
    assert message["usage"] == {
        "input_tokens": 20, "output_tokens": 4, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 10,
        "output_tokens_details": {"thinking_tokens": 1}, "service_tier": "standard"}
    assert {**message, "content": 0, "usage": 0} == {
        "id": "msg_0123456789abcdef01234567", "type": "message", "role": "assistant", "model": "m", "content": 0,
        "stop_reason": reason, "stop_sequence": at, "stop_details": message["stop_details"], "container": None,
        "usage": 0}
    made = frames(events)
    start = json.loads(made[0].data)["message"]
    assert start["usage"]["input_tokens"] == 7 and start.keys() == message.keys()
    assert folded(made) == message


MODEL_SAYS = ('<thinking>hm</thinking>Look: <call_n>{"name": "f", "arguments": {"a": "é"}}</call_n>\n'
              '<call_n>{"name": "g", "arguments": {}}</call_n> done')


def test_every_cut_of_a_reply_is_a_stream_that_clients_can_read():
    tools = [Tool(name, "", {"type": "object"}) for name in "fg"]
    for reason in ("stop", "length"):
        for whole in (MODEL_SAYS, *(MODEL_SAYS[:at] for at in range(40, len(MODEL_SAYS), 7))):
            for pieces in cuts(whole) if whole == MODEL_SAYS else [[whole], [*whole]]:
                ids = iter(("toolu_1", "toolu_2"))
                events = split_calls(
                    split_thinking([*map(Text, pieces), Finish(reason)], "<call_n>"), open_mark="<call_n>",
                    close_mark="</call_n>", tools=tools, new_id=lambda: next(ids), conversation="")
                events = [event for event in count_usage(events, 9) if type(event) not in (said.Note, said.Misfit)]
                if type(events[-1]) is Finish:
                    assert folded(frames(events)) == body(events)


RECORDED = sorted((Path(__file__).parent / "replies").glob("*.json"))


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_what_an_upstream_has_said_is_a_stream_that_clients_can_read(path):
    events = [getattr(said, name)(*values) for name, *values in json.loads(path.read_text("utf-8"))
              if name != "error"]
    for at in range(len(events)):  # wherever it is cut
        part = events[:at] + ([events[at]] if type(events[at]) is Finish else [Finish("length")])
        part = [*count_usage(part, 9)]
        assert folded(frames(part)) == body(part)


@pytest.mark.parametrize("model", ['a "quoted" \\ one', "naïve/世界😀", "{}\n\u2028"])
def test_any_model_name_survives(model):
    events = [Text("a"), USAGE, Finish("stop")]
    assert folded(frames(events, model))["model"] == body(events, model)["model"] == model


def test_a_failure_is_one_event_and_nothing_behind_it():
    writer = MessageWriter(IDENTITY, Chat("m", ()), None)
    writer.begin()
    writer.add(0, Text("a"))
    (frame,) = writer.fail(UpstreamCut("it was cut"))
    assert frame.event == "error" and json.loads(frame.data) == {
        "type": "error", "request_id": "req_1",
        "error": {"type": "api_error", "message": "it was cut", "details": {"error_code": "upstream_cut"}}}
    assert writer.heartbeat() == ('{"type":"ping"}', "ping")


# Errors

STATUS = {  # (status, code): what a caller gets
    (400, "model_not_found"): (404, "not_found_error"), 400: (400, "invalid_request_error"),
    401: (401, "authentication_error"), 403: (403, "permission_error"), 404: (404, "not_found_error"),
    405: (405, "invalid_request_error"), 408: (408, "timeout_error"), 413: (413, "request_too_large"),
    415: (415, "invalid_request_error"), 426: (426, "invalid_request_error"), 429: (429, "rate_limit_error"),
    502: (502, "api_error"), 503: (502, "api_error"), 504: (504, "timeout_error")}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind.status}-{kind.codes[0]}")
def test_each_error_has_its_status_and_type(kind):
    error = kind.example()
    status, body, headers = refusal(error, "req_1")
    expected = STATUS.get((kind.status, error.code)) or STATUS[kind.status]
    assert (status, body["error"]["type"]) == expected
    assert body["error"]["message"] == error.message and body["request_id"] == "req_1"
    assert body["error"].get("details", {}).get("error_code") == (error.code or None)
    assert headers == {"x-should-retry": "false"}


def test_what_a_retry_can_mend_is_529_and_never_503():
    error = ApiError("busy", status=503, code="overloaded", retry_after=2)
    status, body, headers = refusal(error, "")
    assert (status, body["error"]["type"]) == (529, "overloaded_error")
    assert {**error.headers(), **headers} == {"Retry-After": "2"}


# Over HTTP, in this process

class Service:
    """The whole service; its upstream is a simulator."""

    def __init__(self, simulator, **settings):
        self.simulator = simulator
        self.app = create_app(Config.read({
            "UPSTREAM": "cloud", "API_KEY": "key", "CURSOR_API_KEY": "k", "CURSOR_BASE_URL": simulator.url,
            "KEEP_AGENTS": "0", "RETRY_S": "0.01", **settings}))
        self.client = Client(self.app)

    def ask(self, path="/v1/messages", method="POST", key="key", headers=(), reply=None, **body):
        """`reply` is what the simulator is told to say; without it the simulator has words of its own."""
        self.simulator.script({"replies": [{"times": 0, "twins": False, **reply}] if reply else []})
        sent = {"json": {"model": MODEL, "max_tokens": 1000, "messages": HI, **body}} if method == "POST" else {}
        response = self.client.open(path, method=method, headers={
            "x-api-key": key, "anthropic-version": "2023-06-01", **dict(headers)}, **sent)
        response.get_data()
        response.close()
        return response

    def agents(self):
        return self.simulator.state["agents"]


@pytest.fixture
def service():
    made = []
    with serve() as simulator:
        def start(**settings):
            made.append(Service(simulator, **settings))
            return made[-1]
        yield start
        for each in made:
            each.app.service.close()


def read(response):
    """The frames of a stream."""
    assert response.status_code == 200 and response.mimetype == "text/event-stream"
    assert response.text.endswith("\n\n")
    return [SimpleNamespace(event=event.removeprefix("event: "), data=data.removeprefix("data: "))
            for event, data in (frame.split("\n") for frame in response.text[:-2].split("\n\n"))]


WEATHER_ASKED = {"tools": [WEATHER], "messages": [{"role": "user", "content": "Use get_weather for Paris."}]}


@pytest.mark.parametrize("path", ["/v1/messages", "/messages", "/v1/messages?beta=true", "/v1//messages/"])
def test_both_forms_on_every_path(service, path):
    one = service()
    for asked, reason in [({}, "end_turn"), (WEATHER_ASKED, "tool_use")]:
        message, streamed = one.ask(path, **asked), one.ask(path, stream=True, **asked)
        made, message = folded(read(streamed)), message.json
        for each in (made, message):
            assert re.fullmatch("msg_[0-9a-f]{24}", each.pop("id"))
            for block in each["content"]:
                assert "id" not in block or re.fullmatch("toolu_[0-9a-f]{24}", block.pop("id"))
        assert made == message and message["stop_reason"] == reason and message["model"] == MODEL
        assert re.fullmatch("req_[0-9a-f]{24}", streamed.headers["request-id"])


@pytest.mark.parametrize("named", [MODEL, f"{MODEL}-thinking"])
def test_a_reply_names_the_model_that_was_asked_of_cursor(service, named):
    one, asked = service(), f"anthropic/{named}[1m]"
    message, streamed = one.ask(model=asked), one.ask(model=asked, stream=True)
    assert message.json["model"] == folded(read(streamed))["model"] == named


KEYS = [("x-api-key", "key", 200), ("Authorization", "Bearer key", 200), ("x-api-key", "wrong", 401)]


@pytest.mark.parametrize("name, value, status", KEYS)
@pytest.mark.parametrize("version", ["2023-06-01", "2026-10-21", "tomorrow", None])
@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
def test_any_version_and_either_header_of_a_key(service, name, value, status, version, path):
    headers = {name: value, "anthropic-beta": "a,b"} | ({"anthropic-version": version} if version else {})
    response = service().client.post(path, headers=headers, json={
        "model": MODEL, "max_tokens": 9, "messages": HI})
    assert response.status_code == status
    if status == 401:
        assert response.json["error"]["type"] == "authentication_error"
        assert response.json["request_id"] == response.headers["request-id"]


@pytest.mark.parametrize("thread", [{"type": "create"}, {"type": "continue", "previous_message_id": "msg_1"}])
def test_a_thread_is_refused_by_the_code_that_makes_tool_runners_go_on(service, thread):
    for stream in (False, True):
        refused = service().ask(thread=thread, stream=stream)
        assert refused.status_code == 400
        assert refused.json["error"]["details"] == {"error_code": "thread_unsupported_request"}


def test_a_stop_sequence_is_named(service):
    for stream in (False, True):
        response = service().ask(reply={"text": "one two three"}, stop_sequences=["x", "three"], stream=stream)
        message = folded(read(response)) if stream else response.json
        assert (message["stop_reason"], message["stop_sequence"]) == ("stop_sequence", "three")
        assert message["content"] == [text("one two ")]


def betas(names):
    return {"headers": {"anthropic-beta": names}}


def test_thinking_is_shown_on_wish_and_hidden_by_default(service):
    reply, asked = {"thinking": "hm", "text": "so"}, {"thinking": {"type": "adaptive"}}
    for setting, body, shown in [("false", asked, False), ("true", asked, True), ("true", {}, False),
                                 ("true", {"thinking": {"type": "adaptive", "display": "omitted"}}, False),
                                 ("true", asked | betas("effort-2025-11-24, redact-thinking-2026-02-12"), False),
                                 ("true", asked | betas("effort-2025-11-24, context-1m-2025-08-07"), True)]:
        one = service(EXPOSE_THINKING=setting)
        response = one.ask(reply=reply, **body)
        assert response.json["content"] == [THOUGHT] * shown + [text("so")]
        assert folded(read(one.ask(reply=reply, stream=True, **body)))["content"] == response.json["content"]
        assert one.agents()[-1]["params"].get("thinking", "false") == ("true" if body else "false")


def test_silence_is_filled_with_pings(service):
    made = read(service(HEARTBEAT_S="0.1", FIRST_BYTE_S="0.1").ask(
        stream=True, reply={"text": "one", "first": 2.5}))
    assert [frame.event for frame in made[:2]] == ["message_start", "ping"]
    assert folded(made)["content"] == [text("one")]


def test_a_stream_that_fails_ends_with_an_error_and_never_just_ends(service):
    made = read(service().ask(stream=True, reply={"text": "one two", "status": "ERROR"}))
    assert made[-1].event == "error" and json.loads(made[-1].data)["error"]["type"] == "api_error"
    assert not {"message_delta", "message_stop"} & {frame.event for frame in made}


@pytest.mark.parametrize("pictures", [5, 7])
def test_the_newest_five_pictures_are_kept(service, pictures):
    one = service()
    response = one.ask(messages=[user(*[PNG] * pictures, text("What?"))])
    assert response.status_code == 200 and one.agents()[-1]["runs"][0]["images"] == 5
    assert response.headers.get("x-cursor2api-left-out") == (f"{pictures - 5} images" if pictures > 5 else None)


def turns(count, size):
    return [{"role": role, "content": "word " * size} for _ in range(count) for role in ("user", "assistant")] + HI


def test_a_conversation_that_is_too_long_is_refused_so_that_its_caller_shortens_it(service):
    one = service(MAX_INPUT_LENGTH="2000", KEEP_AGENTS="9")
    short = one.ask(messages=HI).json["content"][0]["text"]
    talk = [*HI, {"role": "assistant", "content": short}, {"role": "user", "content": "x" * 2000}]
    for stream in (False, True):  # the first time an agent knows the conversation, but not what is new
        response = one.ask(messages=talk, stream=stream)
        assert response.status_code == 400 and response.json["error"]["type"] == "invalid_request_error"
        assert re.fullmatch(r"prompt is too long: \d+ tokens > 500 maximum", response.json["error"]["message"])
    one.app.service.close()
    assert [agent["deleted"] for agent in one.agents()] == [True]


@pytest.mark.parametrize("stream", [False, True], ids=["body", "stream"])
def test_a_conversation_may_be_as_long_as_its_agent_knows_it(service, stream):
    """Where chat completions would leave nothing out, nothing is refused."""
    one = service(MAX_INPUT_LENGTH="2000", KEEP_AGENTS="9")

    def say(talk, **options):
        response = one.ask(messages=talk, stream=stream, **options)
        if response.status_code == 200:
            made = folded(read(response)) if stream else response.json
            talk += [{"role": "assistant", "content": made["content"]}, {"role": "user", "content": "x" * 500}]
        return response
    talk = [{"role": "user", "content": "x" * 500}]
    kinds = [say(talk).headers["x-cursor2api-agent"] for _ in range(6)]
    assert kinds == ["new", *["reused"] * 5] and len(str(talk)) > 3000
    lost = say(talk, reply={"follow_up": {"status": 404, "code": "agent_not_found", "times": 0}})
    assert lost.status_code == 400 and lost.json["error"]["message"].startswith("prompt is too long: ")
    assert len(one.agents()) == 1


def test_an_agent_that_fails_behind_the_headers_is_followed_by_none_that_cannot_be_told_all(service):
    one = service(MAX_INPUT_LENGTH="1500", KEEP_AGENTS="9", FIRST_BYTE_S="0.1")
    talk = [{"role": "user", "content": "x" * 700}]
    said = one.ask(messages=talk).json["content"]
    made = read(one.ask(messages=[*talk, {"role": "assistant", "content": said}, *talk], stream=True,
                        reply={"text": "", "first": 1, "status": "ERROR"}))
    error = json.loads(made[-1].data)["error"]
    assert made[0].event == "message_start" and made[-1].event == "error"
    assert error["type"] == "invalid_request_error" and error["message"].startswith("prompt is too long: ")
    assert len(one.agents()) == 1


COUNTED = [
    ("a text", {}), ("a system", {"system": "Be kind", "stream": True}), ("tools", WEATHER_ASKED),
    ("a schema", {"output_config": {"format": FORM}}), ("thinking", {"thinking": {"type": "adaptive"}}),
    ("thinking by instruction", {"model": "gemini-3-flash-thinking"}), ("history", {"messages": turns(3, 50)})]


@pytest.mark.parametrize("body", [row[1] for row in COUNTED], ids=[row[0] for row in COUNTED])
def test_a_count_is_the_number_that_a_message_begins_with(service, body):
    one = service(KILO_TOOL_STRICT="true", SYSTEM_PROMPT_INJECT="Be brief.")
    one.app.service.models.all()
    count = one.ask("/v1/messages/count_tokens", **body)
    assert not one.agents() and count.headers["x-cursor2api-usage"] == "estimate"
    made = read(one.ask(**{**body, "stream": True}))
    assert count.json == {"input_tokens": json.loads(made[0].data)["message"]["usage"]["input_tokens"]}
    again = {**body, "max_tokens": None}
    assert one.ask("/messages/count_tokens?beta=true", **again).json == count.json


def test_a_count_takes_no_part_in_a_keys_limits(service):
    one = service(KEY_LIMITS='{"*": {"requests_per_minute": 1}}')
    for _ in range(24):
        assert one.ask("/v1/messages/count_tokens").status_code == 200
    assert one.ask().status_code == 200
    late = one.ask()
    assert (late.status_code, late.json["error"]["type"]) == (429, "rate_limit_error")
    assert late.headers["Retry-After"]


# Paths and what they answer to whom.
ELSEWHERE = [
    ("a base URL with /v1", "/v1/v1/messages", "POST", 404, "drop /v1 from it"),
    ("the same, counting", "/v1/v1/messages/count_tokens", "POST", 404, "drop /v1 from it"),
    ("the same, listing", "/v1/v1/models", "GET", 404, "drop /v1 from it"),
    ("an unknown path", "/v1/complete", "GET", 404, "expected one of"),
    ("a wrong method", "/v1/messages", "GET", 405, "expected OPTIONS, POST")]


@pytest.mark.parametrize("path, method, status, words", [row[1:] for row in ELSEWHERE],
                         ids=[row[0] for row in ELSEWHERE])
def test_a_wrong_path_says_what_is_right(service, path, method, status, words):
    response = service().ask(path, method)
    assert response.status_code == status and words in response.json["error"]["message"]
    assert response.json["type"] == "error" and response.headers["request-id"] == response.json["request_id"]


def test_a_wrong_base_url_is_told_of_without_a_header_too(service):
    assert service().client.post("/v1/v1/messages", json={}).json["error"]["type"] == "not_found_error"


def test_probes_are_answered(service):
    client = service().client
    assert client.head("/").status_code == 200 and client.head("/api/hello").status_code == 404


def test_pages_of_other_origins_may_ask(service):
    headers = service().client.options("/v1/messages").headers
    assert {"GET", "POST", "DELETE"} <= {*headers["Access-Control-Allow-Methods"].split(", ")}
    assert {"x-api-key", "authorization", "content-type", *MESSAGES.headers} <= {
        *headers["Access-Control-Allow-Headers"].split(", ")}
    assert "request-id" in headers["Access-Control-Expose-Headers"].split(", ")


def test_models_have_the_form_of_who_asks(service):
    one = service()
    listed = one.client.get("/v1/models", headers={"x-api-key": "key"}).json["data"]
    page = one.ask("/v1/models?limit=1000", "GET").json
    assert [model["id"] for model in page["data"]] == [model["id"] for model in listed] and not page["has_more"]
    model = one.ask(f"/v1/models/{MODEL}", "GET").json
    assert model in page["data"] and model["type"] == "model" and model["display_name"] == MODEL
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", model["created_at"])
    missing = one.ask("/v1/models/nobody", "GET")
    assert (missing.status_code, missing.json["error"]["type"]) == (404, "not_found_error")
    assert one.ask("/v1/models?limit=0", "GET").status_code == 400


MODELS = [{"id": f"v/{n}", "created": 0, "context_window": 1, "max_tokens": 1} for n in range(50)]
PAGES = [
    ({}, range(20), True), ({"limit": "1000"}, range(50), False), ({"after_id": "v/29"}, range(30, 50), False),
    ({"after_id": "v/29", "limit": "5"}, range(30, 35), True), ({"after_id": "v/49"}, (), False),
    ({"before_id": "v/7", "limit": "5"}, range(2, 7), True), ({"before_id": "v/5", "limit": "5"}, range(5), False)]


@pytest.mark.parametrize("query, shown, more", PAGES)
def test_a_page_of_models_is_what_was_asked_for(query, shown, more):
    page = _page(MODELS, query)
    ids = [f"v/{n}" for n in shown]
    assert [model["id"] for model in page["data"]] == ids and page["has_more"] == more
    assert (page["first_id"], page["last_id"]) == ((ids[0], ids[-1]) if ids else (None, None))


@pytest.mark.parametrize("query", [{"limit": "0"}, {"limit": "x"}, {"limit": "9" * 5000}, {"limit": "1001"},
                                   {"after_id": "v/50"}, {"before_id": ""}])
def test_a_page_that_there_is_not_is_refused(query):
    with pytest.raises(BadRequest):
        _page(MODELS, query)


@pytest.mark.parametrize("stream", [False, True], ids=["body", "stream"])
def test_a_conversation_meets_one_agent_whatever_moves_from_turn_to_turn(service, stream):
    """The bill, the marks for caches, the form of a text, thinking: so Claude Code has it."""
    one, talk, kinds = service(KEEP_AGENTS="9", EXPOSE_THINKING="true"), [], []
    mark = {"cache_control": {"type": "ephemeral"}}
    for turn in range(4):
        talk.append({"role": "user", "content": f"Question {turn}"})
        reminder = {"role": "system", "content": [text("Mind the date") | mark] if turn % 2 else "Mind the date"}
        now = [talk[0], reminder, *talk[1:-1], user(text(f"Question {turn}") | mark)] if turn else [
            user(text("Question 0") | mark), reminder]
        response = one.ask(messages=now, stream=stream, tools=[WEATHER], thinking={"type": "adaptive"},
                           system=[text(f"{BILLING['text']}{turn}"), text("Be kind") | mark])
        kinds.append(response.headers["x-cursor2api-agent"])
        content = (folded(read(response)) if stream else response.json)["content"]
        assert [block["type"] for block in content] == ["thinking", "text"]
        talk.append({"role": "assistant", "content": content[turn % 2:]})  # now with the thinking, now without
    assert kinds == ["new", "reused", "reused", "reused"]


def test_a_call_and_its_result_meet_one_agent(service):
    one = service(KEEP_AGENTS="9")
    content = one.ask(**WEATHER_ASKED).json["content"]
    after = one.ask(tools=[WEATHER], messages=[
        *WEATHER_ASKED["messages"], {"role": "assistant", "content": content},
        user({"type": "tool_result", "tool_use_id": content[0]["id"], "content": "18 degrees"})])
    assert after.headers["x-cursor2api-agent"] == "reused" and "18" in after.json["content"][0]["text"]


def test_a_tool_that_joins_is_told(service):
    one = service(KEEP_AGENTS="9")
    first = [{"role": "user", "content": "Say hello"}]
    said = one.ask(messages=first, tools=[WEATHER, DEFERRED]).json["content"]
    assert '"grep"' not in one.agents()[-1]["runs"][-1]["prompt"]
    one.ask(tools=[WEATHER, DEFERRED], messages=[
        *first, {"role": "assistant", "content": [*said, SEARCHED]}, LOADED[-1]])
    assert '"grep"' in one.agents()[-1]["runs"][-1]["prompt"]


@pytest.mark.parametrize("stream", [False, True], ids=["body", "stream"])
def test_an_agent_that_wrote_words_between_calls_goes_on(service, stream):
    one, kinds = service(KEEP_AGENTS="9"), []

    def say(*new, **options):
        talk.extend(new)
        response = one.ask(messages=talk, tools=[WEATHER], stream=stream, **options)
        kinds.append(response.headers["x-cursor2api-agent"])
        made = (folded(read(response)) if stream else response.json)["content"]
        talk.append({"role": "assistant", "content": made})
        return made
    talk = []
    say(*HI)
    nonce = one.agents()[0]["runs"][0]["prompt"].partition("<user_")[2][:8]
    paris, oslo = (f'<call_{nonce}>{{"name": "get_weather", "arguments": {{"city": "{city}"}}}}</call_{nonce}>'
                   for city in ("Paris", "Oslo"))
    made = say(*HI, reply={"text": f"Let me look.\n\n{paris}\nAnd there.\n{oslo}\n"})
    assert [block["type"] for block in made] == ["text", "tool_use", "text", "tool_use"]
    say(user(*(result(text("18")) | {"tool_use_id": block["id"]} for block in made[1::2])))
    assert kinds == ["new", "reused", "reused"]


# Over gunicorn

def post(gate, path="/v1/messages", **body):
    return gate.request("POST", path, headers={"anthropic-version": "2026-10-21"}, json={
        "model": MODEL, "max_tokens": 1000, "messages": HI, **body})


def test_it_is_served_over_every_upstream(gate):
    for stream in (False, True):
        response = post(gate, stream=stream, **WEATHER_ASKED)
        message = response.json() if not stream else folded([
            SimpleNamespace(event=event.removeprefix("event: "), data=data.removeprefix("data: "))
            for event, data in (frame.split("\n") for frame in response.text[:-2].split("\n\n"))])
        (block,) = message["content"]
        assert (block["name"], block["input"]) == ("get_weather", {"city": "Paris"})
        assert response.headers["request-id"].startswith("req_")
    assert post(gate, "/v1/messages/count_tokens").json()["input_tokens"] > 50
    assert post(gate, model="nobody").status_code == 404
    assert post(gate, "/v1/messages").headers["x-cursor2api-agent"] == "new"


def test_without_an_upstream_it_is_502_and_no_retry():
    with gateway(upstream="auto", environ={"CURSOR_API_KEY": ""}) as gate:
        response = post(gate)
        assert (response.status_code, response.headers["x-should-retry"]) == (502, "false")
        assert response.json()["error"]["type"] == "api_error"
        assert post(gate, "/v1/messages/count_tokens").ok
