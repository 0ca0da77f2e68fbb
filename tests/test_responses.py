"""The Responses API: what its bodies mean, its events and its bodies, each valid against openapi.json."""

import gc
import json
import time
import tracemalloc

import pytest
import requests
from conftest import MODEL, ROOT, gateway, until
from jsonschema import Draft202012Validator
from test_dialects import Service

from cursor2api.chat import Image, Message, ToolChoice, WholeCall
from cursor2api.dialects import Frame, Identity, Options
from cursor2api.dialects.responses import RESPONSES, fails_in_stream
from cursor2api.dialects.responses.stored import Earlier
from cursor2api.errors import ApiError, BadRequest, KeyRefused, UpstreamCut, UpstreamError, UpstreamTimeout
from cursor2api.events import Finish, Reasoning, Text, ToolCall, Usage
from cursor2api.fold import ReplySoFar
from cursor2api.simulator import serve
from cursor2api.state.store import Space

COMPONENTS = json.loads((ROOT / "static/openapi.json").read_text("utf-8"))["components"]
BODY, EVENT = (Draft202012Validator({"$ref": f"#/components/schemas/{name}", "components": COMPONENTS})
               for name in ("Response", "ResponseEvent"))
IDENTITY = Identity("0123", 1700000000, "m", now=lambda: 1700000009.5)
USAGE = Usage(3, 4, 1, 2)
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def function(name="get_weather", **more):
    return {"type": "function", "name": name, "parameters": WEATHER, **more}


def namespace(name, *tools, **more):
    return {"type": "namespace", "name": name, "tools": [*tools], **more}


TOOLS = [function("f"), namespace("files", function("read"), function("f"))]
PATCH = {"type": "custom", "name": "patch", "description": "d", "format": {
    "type": "grammar", "syntax": "lark", "definition": "start: /x/"}}
SEARCH = {"type": "tool_search", "execution": "client", "description": "finds", "parameters": WEATHER}


def parsed(strict=False, **body):
    return RESPONSES.parse({"model": "m", "input": "Hi", **body}, Options(strict_params=strict))


# What a body means


def item(type, **members):
    return {"type": type, **members}


def user(*content):
    return Message("user", content)


def called(*calls, text=()):
    return Message("assistant", text, tool_calls=tuple(WholeCall(*call) for call in calls))


IMAGE = "data:image/png;base64,aGV5"
ITEMS = [
    ("a text", "Hi", [user("Hi")]),
    ("messages without a type", [{"role": "developer", "content": "be"}, {"role": "user", "content": "Hi"}],
     [Message("system", ("be",)), user("Hi")]),
    ("parts are read by their shape", [
        item("message", role="user", content=[
            item("output_text", text="a"), item("input_image", image_url=IMAGE)]),
        item("message", role="assistant", id="msg_1", status="completed", phase="final", content=[
            item("input_text", text="b"), item("refusal", refusal="c")])],
     [user("a", Image(IMAGE)), Message("assistant", ("b", "c"))]),
    ("a file of text", [{"role": "user", "content": [
        item("input_file", filename="a.txt", file_data="data:text/plain;base64,aGV5")]}], [user("a.txt:\nhey")]),
    ("calls join the message before them", [
        {"role": "assistant", "content": "a"}, item("reasoning", id="rs_1", summary=[], content=None),
        item("function_call", call_id="1", name="f", arguments=""),
        item("function_call", call_id="2", name="f", arguments='{"a": 1}'),
        item("function_call_output", call_id="1", output="x"),
        item("function_call_output", call_id="2", output=[item("input_text", text="y"), item(
            "input_image", image_url=IMAGE)]),
        item("function_call", call_id="3", name="gone", arguments="{}", namespace="away")],
     [called(("1", "f", ""), ("2", "f", '{"a": 1}'), text=("a",)),
      Message("tool", ("x",), tool_call_id="1"), Message("tool", ("y", Image(IMAGE)), tool_call_id="2"),
      called(("3", "gone", "{}"))]),
    ("a reply with words between its calls", [
        {"role": "assistant", "content": "a"}, item("function_call", call_id="1", name="f", arguments="{}"),
        {"role": "assistant", "content": "b"}, item("function_call", call_id="2", name="f", arguments="{}")],
     [called(("1", "f", "{}"), ("2", "f", "{}"), text=("a", "b"))]),
    ("a namespaced call has the name that is shown", [
        item("function_call", call_id="1", name="f", namespace="files", arguments="{}"),
        item("function_call", call_id="2", name="read", namespace="files", arguments="{}"),
        item("function_call", call_id="3", name="f", arguments="{}")],
     [called(("1", "files.f", "{}"), ("2", "read", "{}"), ("3", "f", "{}"))]),
    ("custom calls, and calls for tools", [
        item("custom_tool_call", call_id="1", name="patch", input="a\nb"),
        item("custom_tool_call_output", call_id="1", output="x"),
        item("tool_search_call", call_id="2", execution="client", arguments={"city": "x"}),
        item("tool_search_output", call_id="2", tools=[namespace("late", function("later"))]),
        item("function_call", call_id="3", name="later", namespace="late", arguments="{}"),
        item("additional_tools", role="developer", tools=[])],
     [called(("1", "patch", "a\nb", "custom")), Message("tool", ("x",), tool_call_id="1"),
      called(("2", "tool_search", '{"city": "x"}')), Message("tool", ("Found: late",), tool_call_id="2"),
      called(("3", "later", "{}"))]),
    ("typed calls are told as JSON", [
        item("local_shell_call", call_id="1", action={"command": ["ls"]}),
        item("local_shell_call_output", id="1", output='{"exit_code": 0}'),
        item("shell_call_output", call_id="1", output=[{"stdout": "x"}])],
     [called(("1", "local_shell", '{"command": ["ls"]}')), Message("tool", ('{"exit_code": 0}',), tool_call_id=""),
      Message("tool", ('[{"stdout": "x"}]',), tool_call_id="1")]),
    ("what is not ours says little", [
        item("compaction", encrypted_content="x"), item("web_search_call", id="ws_1"),
        {"role": "user", "content": "Hi"}],
     [Message("assistant", ("[web_search_call]",)), user("Hi")]),
    ("parts of clients of several providers", [
        {"role": "user", "content": [
            item("image_url", image_url={"url": IMAGE}),
            item("image", source={"type": "base64", "media_type": "image/jpg", "data": "AAAA"})]},
        {"role": "assistant", "content": [
            item("thinking", thinking="hm"), item("redacted_thinking", data="x"), item("reasoning", text="hm"),
            item("output_text", text="a")]},
        item("function_call", call_id="1", name="f", arguments="{}"),
        item("function_call_output", call_id="1", output=[
            item("text", text="see"), item("image", data="aGV5", mimeType="image/png")])],
     [user(Image(IMAGE), Image("data:image/jpeg;base64,AAAA")), called(("1", "f", "{}"), text=("a",)),
      Message("tool", ("see", Image(IMAGE)), tool_call_id="1")]),
    ("a result of MCP's", [item("function_call_output", call_id="1", output=[
        item("input_text", text="see"), item("audio", data="AAAA"), item("resource_link", uri="x")])],
     [Message("tool", ("see", "[audio]", '{"type": "resource_link", "uri": "x"}'), tool_call_id="1")]),
    ("an output of the tool's own", [
        item("function_call_output", call_id="1", output=[item("dir"), item("file")]),
        item("function_call_output", call_id="2", output={"temp": 18})],
     [Message("tool", ('[{"type": "dir"}, {"type": "file"}]',), tool_call_id="1"),
      Message("tool", ('{"temp": 18}',), tool_call_id="2")]),
    ("an input that ends with the assistant", [
        {"role": "user", "content": []}, {"role": "assistant", "content": None}],
     [Message("user", ()), Message("assistant", ())]),
]


@pytest.mark.parametrize("given, messages", [row[1:] for row in ITEMS], ids=[row[0] for row in ITEMS])
def test_items_become_messages(given, messages):
    assert [*parsed(input=given, tools=TOOLS).chat.messages] == messages


def calls_in_a_row(count):
    calls = [item("function_call", call_id=str(n), name="f", arguments="{}") for n in range(count)]
    return {"input": calls}


def tools_left_out(count):
    return {"input": [item("additional_tools", tools=count * [{"type": "web_search"}])]}


def tools_allowed(count):
    tools = [function(f"f{n}") for n in range(count // 4)]
    allowed = {"type": "allowed_tools", "mode": "auto", "tools": tools}
    return {"input": [item("additional_tools", tools=tools)], "tool_choice": allowed}


@pytest.mark.parametrize("body, count", [(calls_in_a_row, 4000), (tools_left_out, 10_000), (tools_allowed, 8000)])
def test_a_body_is_read_in_linear_time(body, count):
    def seconds(count):
        given = body(count)
        begun = time.process_time()
        parsed(**given)
        return time.process_time() - begun
    gc.disable()  # it looks at all objects of the other tests too
    try:
        few, many = (min(seconds(count) for _ in range(3)) for count in (count, 4 * count))
    finally:
        gc.enable()
    assert many < 8 * few, "four times as many are four times the work; to walk all for each was twelve times"


def test_the_other_fields_of_a_chat():
    chat = parsed(instructions="be", stream=True, max_output_tokens=9, parallel_tool_calls=False,
                  reasoning={"effort": "ultra", "summary": "auto"},
                  text={"format": {"type": "json_schema", "name": "n", "schema": WEATHER, "strict": True}}).chat
    assert chat.messages == (Message("system", ("be",)), user("Hi")) and chat.stream and chat.max_tokens == 9
    assert not chat.parallel_tool_calls and chat.reasoning_effort == "ultra"
    assert (chat.format.type, chat.format.name, chat.format.schema) == ("json_schema", "n", WEATHER)
    assert parsed(text={}).chat.format.type == "text" and parsed(max_output_tokens=-1).chat.max_tokens is None
    nulls = dict.fromkeys(("tools", "text", "reasoning", "include", "store", "conversation", "tool_choice"))
    assert parsed(**nulls).chat == parsed().chat


def test_the_tools_that_a_model_is_shown():
    chat, wishes, ignored = parsed(tools=[
        *TOOLS, {"type": "web_search_preview"}, namespace("empty"), function("f", description="later"),
        namespace("git", function("log", parameters=None), function("show", description="s"),
                  description="Of git")])
    assert [(tool.name, tool.namespace, tool.description) for tool in chat.tools] == [
        ("f", "", "later"), ("read", "files", ""), ("files.f", "files", ""), ("log", "git", "git: Of git"),
        ("show", "git", "s")]
    assert chat.tools[3].parameters == {"type": "object", "properties": {}}
    assert ignored == ("tools[2]: web_search_preview",) and chat.tool_choice == ToolChoice("auto")


def test_custom_tools_and_those_that_come_with_the_items():
    chat, wishes, ignored = parsed(tools=[PATCH, SEARCH, function("f"), {"type": "tool_search"}], input=[
        item("additional_tools", tools=[namespace("functions", {**PATCH, "name": "exec", "format": None})]),
        item("tool_search_output", tools=[
            namespace("late", function("f"), function("g")), {"type": "web_search"}]),
        item("additional_tools", tools=[function("f", description="later")])])
    assert [(tool.kind, tool.name, tool.description) for tool in chat.tools] == [
        ("custom", "patch", "d"), ("function", "tool_search", "finds"), ("function", "f", "later"),
        ("custom", "exec", "d"), ("function", "late.f", ""), ("function", "g", "")]
    assert chat.tools[0].parameters == PATCH["format"] and chat.tools[3].parameters == {"type": "text"}
    assert ignored == ("tools[3]: tool_search", "input[1].tools[1]: web_search", "tools[0].format")


@pytest.mark.parametrize("kind", ["mcp", "code_interpreter", "x\r\ny: z"])
def test_a_tool_that_cannot_run_here_is_left_out_beside_others(kind):
    for given, left_out in (
            ({"tools": [{"type": kind}, function("f")]}, "tools[0]"),
            ({"tools": [SEARCH], "input": [item("additional_tools", tools=[{"type": kind}])]},
             "input[0].tools[0]"),
            ({"tools": [namespace("a", {"type": kind}), function("f")]}, "tools[0].tools[0]"),
            ({"tools": [namespace("a", {"type": kind}, function("f"), description="A")]}, "tools[0].tools[0]")):
        chat, _, ignored = parsed(strict=True, **given)
        assert len(chat.tools) == 1 and ignored == (left_out,)
    assert chat.tools[0].description == "a: A"


def test_a_header_that_tells_of_many_tools_is_short_enough_for_a_proxy(service):
    response = ask(service(), tools=[function(), *1000 * [{"type": "web_search"}]])
    told = response.headers["x-cursor2api-ignored"]
    assert response.status_code == 200 and told.startswith("tools[1]: web_search, ") and len(told) <= 1000


CHOICES = [
    ("none", ToolChoice("none")), ("required", ToolChoice("required")), ("validated", ToolChoice("auto")),
    ("any", ToolChoice("required")), ({"type": "auto"}, ToolChoice("auto")),
    ({"type": "any"}, ToolChoice("required")), ({"type": "none"}, ToolChoice("none")),
    ({"type": "tool", "name": "read"}, ToolChoice("required", ("read",))),
    ({"type": "allowed_tools", "mode": "required", "tools": [
        {"type": "mcp", "server_label": "x"}, {"type": "function", "name": "read"}]},
     ToolChoice("required", ("read",))),
    ({"type": "function", "name": "read"}, ToolChoice("required", ("read",))),
    ({"type": "function", "name": "f", "namespace": "files"}, ToolChoice("required", ("files.f",))),
    ({"type": "custom", "name": "patch"}, ToolChoice("required", ("patch",))),
    ({"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]},
     ToolChoice("auto", ("f", "files.f")))]


@pytest.mark.parametrize("given, choice", CHOICES)
def test_a_choice_of_tools(given, choice):
    assert parsed(tools=[*TOOLS, PATCH], tool_choice=given).chat.tool_choice == choice


REFUSED = [
    ("no model", {"model": None}, "missing_required_parameter", "model"),
    ("no input", {"input": None}, "missing_required_parameter", "input"),
    ("input is a number", {"input": 1}, "invalid_type", "input"),
    ("an item without a type", {"input": [{}]}, "missing_required_parameter", "input[0].type"),
    ("a type that is no string", {"input": [{"type": 1, "role": "user"}]}, "invalid_type", "input[0].type"),
    ("a part of no kind", {"input": [{"role": "user", "content": [{"type": "x"}]}]}, "unsupported_value",
     "input[0].content[0].type"),
    ("a file by its id", {"input": [{"role": "user", "content": [item("input_image", file_id="x")]}]},
     "invalid_value", "input[0].content[0].file_id"),
    ("a file that is no text", {"input": [{"role": "user", "content": [item("input_file", file_data="x")]}]},
     "unsupported_value", "input[0].content[0].file_data"),
    ("an image of the assistant's", {"input": [{"role": "assistant", "content": [item(
        "input_image", image_url=IMAGE)]}]}, "unsupported_value", "input[0].content[0].type"),
    ("an unknown role", {"input": [{"role": "tool", "content": "x"}]}, "invalid_value", "input[0].role"),
    ("an unknown item", {"input": [{"id": "msg_1"}]}, None, "input"),
    ("an unknown response", {"previous_response_id": "resp_1"}, "previous_response_not_found",
     "previous_response_id"),
    ("no tokens", {"max_output_tokens": 0}, "integer_below_min_value", "max_output_tokens"),
    ("fewer tokens", {"max_output_tokens": -2}, "integer_below_min_value", "max_output_tokens"),
    ("a body of a chat", {"input": None, "messages": [{"role": "user", "content": "Hi"}]}, "unsupported_parameter",
     "messages"),
    ("thinking of a user", {"input": [{"role": "user", "content": [item("thinking", thinking="x")]}]},
     "unsupported_value", "input[0].content[0].type"),
    ("sound from a tool", {"input": [item("function_call_output", output=[item("input_audio")])]},
     "unsupported_value", "input[0].output[0].type"),
    ("background", {"background": True}, "unsupported_parameter", "background"),
    ("conversation", {"conversation": "c"}, "unsupported_parameter", "conversation"),
    ("prompt", {"prompt": {"id": "p"}}, "unsupported_parameter", "prompt"),
    ("a built-in tool", {"tools": [{"type": "file_search"}]}, "unsupported_value", "tools[0].type"),
    ("a tool without a name", {"tools": [{"type": "function"}]}, "missing_required_parameter", "tools[0].name"),
    ("a namespace in one", {"tools": [namespace("a", namespace("b"))]}, "unsupported_value",
     "tools[0].tools[0].type"),
    ("built-in tools alone", {"tools": [{"type": "web_search"}, {"type": "mcp"}]}, "unsupported_value",
     "tools[1].type"),
    ("any without tools", {"tool_choice": "any"}, "invalid_value", "tool_choice"),
    ("a choice of built-in tools alone", {"tools": TOOLS, "tool_choice": {
        "type": "allowed_tools", "mode": "auto", "tools": [{"type": "mcp"}]}}, "unsupported_value",
     "tool_choice.tools[0].type"),
    ("required without tools", {"tool_choice": "required"}, "invalid_value", "tool_choice"),
    ("a choice of nothing", {"tools": TOOLS, "tool_choice": {"type": "function", "name": "x"}}, "invalid_value",
     "tool_choice"),
    ("too many tools", {"tools": 1025 * TOOLS[:1]}, "array_above_max_length", "tools"),
    ("a built-in choice", {"tools": TOOLS, "tool_choice": {"type": "web_search"}}, "unsupported_value",
     "tool_choice.type"),
    ("a format of no kind", {"text": {"format": {"type": "xml"}}}, "invalid_value", "text.format.type"),
]


@pytest.mark.parametrize("body, code, param", [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_what_is_refused(body, code, param):
    with pytest.raises(BadRequest) as raised:
        parsed(**body)
    assert (raised.value.code, raised.value.param) == (code, param)


def test_what_is_ignored_is_told():
    assert parsed(temperature=0.5, include=["message.output_text.logprobs"], verbosity="x").ignored == (
        "temperature", "include")


# From events to a response


CALL = [ToolCall(0, "call_1", "f", ""), ToolCall(0, None, None, '{"a":'), ToolCall(0, None, None, '1}')]
FILES = [ToolCall(1, "call_2", "files.f", "{}")]
RAW = [ToolCall(0, "call_1", "patch", "", "custom"), ToolCall(0, None, None, '12"', "custom")]
FOUND = [ToolCall(1, "call_2", "tool_search", '{"a":'), ToolCall(1, None, None, "1}")]
REPLIES = [
    ("a custom call", [*RAW, Finish("tool_calls")], "completed", ["custom_tool_call"]),
    ("a custom call and one for tools", [Text("a"), *RAW, *FOUND, Finish("tool_calls")], "completed",
     ["message", "custom_tool_call", "tool_search_call"]),
    ("a custom call that is cut", [Text("a"), RAW[0], ToolCall(0, None, None, "1", "custom"), Finish("length")],
     "incomplete", ["message"]),
    ("a text that is cut behind a custom call", [*RAW, Text("a"), Finish("length")], "incomplete",
     ["custom_tool_call", "message"]),
    ("a call for tools that is cut", [FOUND[0], Finish("length")], "incomplete", []),
    ("text", [Text("a"), Text("é😀"), Finish("stop")], "completed", ["message"]),
    ("nothing", [Finish("length")], "incomplete", []),
    ("thinking", [Reasoning("h"), Reasoning("m"), Text("\n"), Text("a"), Finish("stop")], "completed",
     ["reasoning", "message"]),
    ("a call", [*CALL, Finish("tool_calls")], "completed", ["function_call"]),
    ("text and two calls", [Text(" "), Text("a"), *CALL, Text("\n"), *FILES, Text("\n"), Finish("tool_calls")],
     "completed", ["message", "function_call", "function_call"]),
    ("thinking within a call", [*CALL[:2], Reasoning("hm"), CALL[2], Finish("tool_calls")], "completed",
     ["function_call", "reasoning"]),
    ("a text that is cut", [Reasoning("hm"), Text("a"), Finish("length")], "incomplete", ["reasoning", "message"]),
    ("a cut call", [Text("a"), *CALL[:2], Finish("length")], "incomplete", ["message"]),
    ("a call that is whole at the limit", [*CALL, Finish("length")], "incomplete", ["function_call"]),
    ("two calls, the second cut", [*CALL, ToolCall(1, "call_2", "read", "{"), Finish("length")], "incomplete",
     ["function_call"]),
    ("a filtered reply", [Text("a"), Finish("content_filter")], "incomplete", ["message"]),
    ("all kinds in turn", [Reasoning("r"), Text("a"), Reasoning("s"), Text("b"), *CALL, Text("c"), *FILES,
                           Finish("tool_calls")], "completed",
     ["reasoning", "message", "reasoning", "message", "function_call", "message", "function_call"]),
]


ORDER = """
    id object created_at status background completed_at error incomplete_details instructions max_output_tokens
    max_tool_calls model output parallel_tool_calls previous_response_id reasoning service_tier store temperature
    text tool_choice tools top_logprobs top_p truncation usage metadata""".split()
ID_OF = {"message": "msg", "reasoning": "rs", "function_call": "fc", "custom_tool_call": "ctc",
         "tool_search_call": "tsc"}


def writer(**body):
    chat, wishes, _ = parsed(tools=[*TOOLS, PATCH, SEARCH], metadata={"a": "b"}, user="me", **body)
    return RESPONSES.writer(IDENTITY, chat, wishes)


def streamed(events, made, end=True):
    frames = made.begin()
    for event in events:
        frames += made.add(0, event)
    return frames + (made.end(USAGE) if end else [])


def folded(frames):
    """The response that a client puts together, and the names of the events: each is valid, has its number, and
    comes when it may."""
    items, open_items, names = {}, {}, []
    for number, (data, name) in enumerate(frames):
        event = json.loads(data)
        EVENT.validate(event)
        assert event["type"] == name and event["sequence_number"] == number
        names.append(name.removeprefix("response."))
        if number < 2:
            assert names[-1] == ("created", "in_progress")[number]
            response = event["response"]
            assert response["status"] == "in_progress" and response["output"] == [] and response["usage"] is None
        elif names[-1] == "output_item.added":
            begun, at = event["item"], len(items)
            assert event["output_index"] == at and begun.get("status", "in_progress") == "in_progress"
            items[at] = open_items[begun["id"]] = {**begun, "index": at, "said": ""}
        elif names[-1] == "output_item.done":
            begun, done = items[event["output_index"]], event["item"]
            open_items.pop(done["id"])
            said = (done.get("content") or done.get("summary") or [{}])[0].get("text")
            assert begun["said"] == (said or done.get("input") or (
                "" if done["type"] == "tool_search_call" else done["arguments"]))
            assert {begun[key] == done[key] for key in ("id", "type", "name", "call_id", "namespace")
                    if key in begun} == {True}
            items[event["output_index"]] = {**done, "done": True}
        elif "item_id" in event:
            begun = open_items[event["item_id"]]
            assert begun["index"] == event["output_index"]
            begun["said"] += event.get("delta", "")
            assert event.get("text", event.get("arguments", event.get("input", begun["said"]))) == begun["said"]
    output = [{key: member for key, member in each.items() if key != "done"}
              for _, each in sorted(items.items()) if "done" in each]
    last = json.loads(frames[-1].data)
    assert last["response"]["id"] == response["id"] and last["response"]["output"] == output
    return last["response"], names


@pytest.mark.parametrize("events, status, kinds", [row[1:] for row in REPLIES], ids=[row[0] for row in REPLIES])
def test_the_events_put_together_are_the_body(events, status, kinds):
    response, names = folded(streamed(events, writer()))
    reply = ReplySoFar()
    for event in events:
        reply.add(event)
    body = writer().body([reply], USAGE)
    BODY.validate(body)
    assert body == response and names[-1] == body["status"] == status
    assert [key for key in body if key != "user"] == ORDER
    assert [each["id"] for each in body["output"]] == [
        f"{ID_OF[each['type']]}_0123_{n}" for n, each in enumerate(body["output"])]
    assert [each["type"] for each in body["output"]] == kinds
    assert body["usage"] == {
        "input_tokens": 3, "input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 0},
        "output_tokens": 4, "output_tokens_details": {"reasoning_tokens": 1}, "total_tokens": 7,
        "source": "upstream"}
    for call in (each for each in body["output"] if each["type"] == "function_call"):
        assert json.loads(call["arguments"]) in ({"a": 1}, {}) and call["id"] != call["call_id"]
    if status == "incomplete" and body["output"]:
        cut = events[-2]
        assert body["output"][-1]["status"] == ("incomplete" if type(cut) is Text else "completed")


def test_a_call_is_done_only_when_all_is_over():
    made = writer()
    names = [frame.event for frame in streamed([*CALL, Text("a"), *FILES], made, end=False)]
    assert "response.output_item.added" in names and "response.function_call_arguments.done" in names
    done = [json.loads(frame.data)["item"]["type"] for frame in made.end(USAGE)
            if frame.event == "response.output_item.done"]
    assert done == ["function_call", "function_call"]
    assert [frame.event for frame in made.fail(UpstreamCut("x"))] == ["response.failed"]


def test_a_namespaced_call_goes_back_by_its_bare_name():
    response, _ = folded(streamed([ToolCall(0, "call_2", "files.f", "{}"), Finish("tool_calls")], writer()))
    [call] = response["output"]
    assert (call["name"], call["namespace"], call["call_id"]) == ("f", "files", "call_2")


def test_a_response_repeats_what_was_asked():
    made = writer(instructions="be", max_output_tokens=9, temperature=0.5, text={"verbosity": "low"})
    said = json.loads(made.begin()[0].data)["response"]
    assert (said["instructions"], said["max_output_tokens"], said["temperature"]) == ("be", 9, 0.5)
    assert said["text"] == {"verbosity": "low", "format": {"type": "text"}} and said["store"] is False
    assert said["tools"][0] == {**function("f"), "strict": None} and said["tools"][1] == TOOLS[1]
    assert said["metadata"] == {"a": "b"} and said["user"] == "me" and said["created_at"] == 1700000000
    assert writer().body([reply_of("x")], USAGE)["completed_at"] == 1700000009


def reply_of(text):
    reply = ReplySoFar()
    reply.add(Text(text))
    reply.add(Finish("stop"))
    return reply


FAILURES = [
    (UpstreamError("x", code="run_failed"), "invalid_prompt", True),
    (KeyRefused("x", code="upstream_key_refused"), "invalid_prompt", True),
    (UpstreamError("x", retry_after=5), "server_error", False),
    (UpstreamCut("x"), "server_error", True), (UpstreamTimeout("x"), "server_error", True),
    (ApiError("x", status=429, retry_after=2), "rate_limit_exceeded", False),
    (BadRequest("x"), "invalid_prompt", False)]


@pytest.mark.parametrize("error, code, in_stream", FAILURES)
def test_a_failure_ends_a_stream_with_all_that_is_done(error, code, in_stream):
    made = writer()
    frames = streamed([Reasoning("r"), Text("a"), *CALL, Text("b")], made, end=False) + made.fail(error)
    failed, names = folded(frames)
    assert failed["status"] == "failed" and failed["error"]["code"] == code and names[-1] == "failed"
    assert failed["error"]["message"] == ("x Please try again in 2s." if error.status == 429 else "x")
    assert [each["type"] for each in failed["output"]] == ["reasoning", "message"]
    assert fails_in_stream(error) is in_stream


# The service


@pytest.fixture(scope="module")
def simulator():
    with serve() as one:
        yield one


@pytest.fixture
def service(simulator):
    made = []

    def start(**settings):
        made.append(Service(simulator, **settings))
        return made[-1]
    yield start
    for each in made:
        each.app.service.close()
    simulator.forget()


def ask(one, **body):
    return one.ask("/v1/responses", **{"reply": None, "model": MODEL, "input": "Hi", **body})


def frames_of(text):
    return [Frame(data.removeprefix("data: "), event.removeprefix("event: ")) for event, data in (
        frame.split("\n") for frame in text.removesuffix("\n\n").split("\n\n"))]


def beats_apart(frames):
    """The frames without heartbeats, numbered anew; the numbers were without gaps."""
    events = [json.loads(frame.data) for frame in frames]
    assert [event["sequence_number"] for event in events] == [*range(len(events))]
    kept = [event for event in events if event["type"] != "keepalive"]
    return [Frame(json.dumps({**event, "sequence_number": n}), event["type"]) for n, event in enumerate(kept)]


def test_each_route_is_there_with_and_without_v1():
    for paths in (RESPONSES.paths, *(route.paths for route in RESPONSES.routes)):
        first, second = paths
        assert first == "/v1" + second


def test_a_body_and_a_stream_of_the_service(service):
    one = service()
    for path in ("/v1/responses", "/responses"):
        body = one.ask(path, reply=None, model=MODEL, input="Say hello")
        BODY.validate(body.json)
        assert body.json["output"][0]["content"][0]["text"] == "hello" and "x-cursor2api-usage" in body.headers
    response, names = folded(frames_of(ask(one, input="Say hello", stream=True).text))
    assert response["output"][0]["content"][0]["text"] == "hello" and names[-1] == "completed"


def test_a_tool_goes_round(service):
    one, tools = service(KEEP_AGENTS="9"), [namespace("sky", function(), function("other")), function("other")]
    history = [{"role": "user", "content": "How is the weather in Paris? Use get_weather."}]
    response, _ = folded(frames_of(ask(one, input=history, tools=tools, stream=True).text))
    [call] = response["output"]
    assert (call["name"], call["namespace"], call["arguments"]) == ("get_weather", "sky", '{"city":"Paris"}')
    history += [*response["output"], {"type": "function_call_output", "call_id": call["call_id"], "output": "18"}]
    again = ask(one, input=history, tools=tools)
    assert "18" in again.json["output"][0]["content"][0]["text"]
    assert again.headers["x-cursor2api-agent"] == "reused"


def test_a_patch_goes_round_unharmed(service):
    patch = '*** Begin Patch\n*** Add File: a.txt\n+he said "x" \\ \t <call\n*** End Patch'
    one = service(KEEP_AGENTS="9")
    history, tools = [{"role": "user", "content": f"Use patch:\n{patch}"}], [namespace("functions", PATCH), SEARCH]
    response, _ = folded(frames_of(ask(one, input=history, tools=tools, stream=True).text))
    [call] = response["output"]
    assert (call["type"], call["namespace"], call["input"]) == ("custom_tool_call", "functions", patch)
    history += [call, {"type": "custom_tool_call_output", "call_id": call["call_id"], "output": "Done!"}]
    again = ask(one, input=history, tools=tools)
    assert "Done!" in again.json["output"][0]["content"][0]["text"]
    assert again.headers["x-cursor2api-agent"] == "reused"
    [search] = ask(one, input='Use tool_search for "Oslo"', tools=tools).json["output"]
    assert search["type"] == "tool_search_call" and search["arguments"] == {"city": "Oslo"}


@pytest.mark.parametrize("stream", [False, True], ids=["body", "stream"])
def test_an_agent_that_wrote_words_between_calls_goes_on(service, stream):
    one, kinds = service(KEEP_AGENTS="9"), []

    def say(*new, **options):
        talk.extend(new)
        response = ask(one, input=talk, tools=[function()], stream=stream, **options)
        kinds.append(response.headers["x-cursor2api-agent"])
        made = (folded(frames_of(response.text))[0] if stream else response.json)["output"]
        talk.extend(made)
        return made
    talk, hi = [], {"role": "user", "content": "Hi"}
    say(hi)
    nonce = one.simulator.state["agents"][0]["runs"][0]["prompt"].partition("<user_")[2][:8]
    paris, oslo = (f'<call_{nonce}>{{"name": "get_weather", "arguments": {{"city": "{city}"}}}}</call_{nonce}>'
                   for city in ("Paris", "Oslo"))
    made = say(hi, reply={"text": f"Let me look.\n\n{paris}\nAnd there.\n{oslo}\n"})
    assert [each["type"] for each in made] == ["message", "function_call", "message", "function_call"]
    say(*(item("function_call_output", call_id=each["call_id"], output=each["arguments"]) for each in made[1::2]))
    assert kinds == ["new", "reused", "reused"]
    told = one.simulator.state["agents"][0]["runs"][-1]["prompt"]
    assert 0 < told.find("Paris") < told.find("Oslo")  # the results stand in the order of their calls


@pytest.fixture
def keeping(service):
    return service(API_KEY="ann:key,bob:other", KEEP_AGENTS="9")


def said(response):
    return response.json["output"][-1]["content"][0]["text"]


def test_a_response_is_gone_on_from(keeping):
    first = ask(keeping, input="My name is Ann.", instructions="be", tools=[function()])
    assert first.json["store"] is True
    second = ask(keeping, input="What is my name?", previous_response_id=first.json["id"])
    assert said(second) == "Your name is Ann." and second.json["previous_response_id"] == first.json["id"]
    frames = frames_of(ask(keeping, input="And what is my name?", previous_response_id=second.json["id"],
                           stream=True).text)
    third = folded(frames)[0]
    assert third["output"][0]["content"][0]["text"] == "Your name is Ann." and third["instructions"] is None
    shown = keeping.ask(f"/v1/responses/{third['id']}", "GET", reply=None)
    assert shown.json == third
    prompts = [agent["runs"][-1]["prompt"] for agent in keeping.simulator.state["agents"]]
    assert ["\nbe\n" in prompt for prompt in prompts] == [True, False]  # instructions are for one response alone
    branch = ask(keeping, input="What is my name?", previous_response_id=first.json["id"], store=False)
    assert said(branch) == "Your name is Ann." and branch.json["store"] is False
    assert keeping.ask(f"/v1/responses/{branch.json['id']}", "GET", reply=None).status_code == 404


def test_where_nothing_is_stored_that_is_said_and_nothing_gone_on_from(service):
    one = service(RESPONSES_S="0")
    for stream in (False, True):
        answer = ask(one, store=True, stream=stream)
        first = folded(frames_of(answer.text))[0] if stream else answer.json
        assert first["store"] is False
        assert one.ask(f"/v1/responses/{first['id']}", "GET", reply=None).status_code == 404
        again = ask(one, previous_response_id=first["id"])
        assert (again.status_code, again.json["error"]["code"]) == (400, "previous_response_not_found")
        referred = ask(one, input=[{"type": "item_reference", "id": first["output"][0]["id"]}])
        assert (referred.status_code, referred.json["error"]["param"]) == (404, "input")


def test_the_eldest_responses_go_where_there_is_no_more_room(service):
    one = service(RESPONSES_MB="1")
    ids = [ask(one, input="word " * 50_000).json["id"] for _ in range(5)]  # some 250 KB each
    found = [one.ask(f"/v1/responses/{id}", "GET", reply=None).status_code for id in ids]
    assert found[0] == 404 and found[-1] == 200 and found == sorted(found, reverse=True)


def test_a_tool_loop_by_previous_ids_has_one_agent(keeping):
    response, tools = ask(keeping, input="Use get_weather in Paris", tools=[function()]), [function()]
    for step in range(10):
        [call] = response.json["output"]
        response = ask(keeping, previous_response_id=response.json["id"], tools=tools, input=[
            {"type": "function_call_output", "call_id": call["call_id"], "output": f"{step} degrees"},
            {"role": "user", "content": "Use get_weather in Oslo"}])
        assert response.headers["x-cursor2api-agent"] == "reused"
    assert len(keeping.simulator.state["agents"]) == 1


def test_an_item_is_referred_to_by_its_id(keeping):
    first = ask(keeping, input="My name is Ann.").json
    listed = keeping.ask(f"/v1/responses/{first['id']}/input_items", "GET", reply=None).json["data"]
    history = [{"type": "item_reference", "id": listed[0]["id"]}, {"id": first["output"][0]["id"]},
               {"role": "user", "content": "What is my name?"}]
    again = ask(keeping, input=history)
    assert said(again) == "Your name is Ann." and again.headers["x-cursor2api-agent"] == "reused"
    for id in ("msg_nothing_0", first["output"][0]["id"][:-1] + "7", "x"):
        missing = ask(keeping, input=[{"type": "item_reference", "id": id}])
        assert missing.status_code == 404 and missing.json["error"]["message"] == f"Item with id '{id}' not found."


def test_what_is_not_there_is_not_found(keeping):
    first = ask(keeping).json
    second = ask(keeping, previous_response_id=first["id"]).json
    third = ask(keeping, previous_response_id=second["id"]).json
    places = [(method, f"/v1/responses/{{}}{rest}") for method, rest in (
        ("GET", ""), ("DELETE", ""), ("GET", "/input_items"), ("POST", "/cancel"))]
    for method, path in places:
        for id, key in ((first["id"], "other"), ("resp_0", "key")):
            answer = keeping.ask(path.format(id), method, key=key, reply=None)
            assert answer.status_code == 404, path
            assert answer.json["error"]["message"] == f"Response with id '{id}' not found."
    assert keeping.ask(f"/responses/{second['id']}", "DELETE", reply=None).json == {
        "id": second["id"], "object": "response", "deleted": True}
    assert keeping.ask(f"/responses/{second['id']}", "DELETE", reply=None).status_code == 404
    for id, missing, key in ((third["id"], second["id"], "key"), ("resp_0", "resp_0", "key"),
                             (first["id"], first["id"], "other")):
        broken = ask(keeping, previous_response_id=id, key=key)
        assert broken.status_code == 400 and broken.json["error"] == {
            "type": "invalid_request_error", "code": "previous_response_not_found",
            "param": "previous_response_id", "message": f"Previous response with id '{missing}' not found."}


def test_the_input_items_of_a_response(keeping):
    first = ask(keeping, input=[{"role": "user", "content": str(n)} for n in range(25)]).json
    second = ask(keeping, input="x", previous_response_id=first["id"]).json

    def listed(id, query=""):
        answer = keeping.ask(f"/v1/responses/{id}/input_items{query}", "GET", reply=None)
        return answer.json if answer.status_code == 200 else answer.json["error"]["param"]
    page = listed(first["id"])
    assert [item["content"] for item in page["data"]] == [str(n) for n in range(24, 4, -1)] and page["has_more"]
    rest = listed(first["id"], f"?after={page['last_id']}")
    assert [item["content"] for item in rest["data"]] == ["4", "3", "2", "1", "0"] and not rest["has_more"]
    assert (rest["first_id"], rest["last_id"]) == (rest["data"][0]["id"], rest["data"][-1]["id"])
    assert [item["content"] for item in listed(first["id"], "?order=asc&limit=1")["data"]] == ["0"]
    assert listed(second["id"])["data"][0]["content"] == [{"type": "input_text", "text": "x"}]
    empty = ask(keeping, input=None, previous_response_id=second["id"]).json["id"]
    assert listed(empty) == {"object": "list", "data": [], "first_id": "", "last_id": "", "has_more": False}
    for query, param in (("?limit=0", "limit"), ("?limit=x", "limit"), ("?order=up", "order"),
                         ("?after=x", "after")):
        assert listed(first["id"], query) == param


class Endless:
    """A store whose every response goes on from another one."""

    def get(self, key):
        return json.dumps({"input": [], "response": {
            "status": "completed", "output": [], "previous_response_id": "resp_" + 30 * "0"}}).encode()


def test_a_chain_is_bounded():
    with pytest.raises(BadRequest, match="previous_response_id: expected at most 1000 responses"):
        Earlier(Options(store=Endless())).items("resp_1")


def stored_item(id, text):
    return item("message", role="user", content=text, id=id)


class Counting:
    """A store that has one response, with an item of so many characters, and counts how often that is read."""

    def __init__(self, length):
        self.reads = 0
        self._data = json.dumps({"input": [stored_item("msg_1_i0", length * "x")], "response": {
            "status": "completed", "output": [], "previous_response_id": None}}).encode()

    def get(self, key):
        self.reads += 1
        return self._data


def referring(store, count, **body):
    given = {"model": "m", "input": count * [item("item_reference", id="msg_1_i0")], **body}
    return RESPONSES.parse(given, Options(store=store))


def test_a_response_that_many_items_refer_to_is_read_once():
    store = Counting(100)
    assert len(referring(store, 500, previous_response_id="resp_1").chat.messages) == 501
    assert store.reads == 1


def test_references_take_no_memory_of_their_own():
    def most(count):
        tracemalloc.start()
        try:
            referring(Counting(500_000), count)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert most(30) < 1.5 * most(1)


@pytest.mark.parametrize("more", [{}, {"previous_response_id": "resp_1"}])
def test_what_items_refer_to_is_bounded(more):
    store = Counting(1_000_000)
    assert referring(store, 18, **more)
    with pytest.raises(BadRequest, match="input: expected at most 1000 responses with 20000000 bytes") as raised:
        referring(store, 100, **more)
    assert (raised.value.code, raised.value.param) == ("invalid_value", "input")


def test_the_responses_that_items_refer_to_are_bounded():
    given = [item("item_reference", id=f"msg_{n}_0") for n in range(1001)]

    class Any:
        def get(self, key):
            token = key.rpartition("resp_")[2]
            return json.dumps({"input": [], "response": {"output": [stored_item(f"msg_{token}_0", "x")]}}).encode()
    with pytest.raises(BadRequest, match="input: expected at most 1000 responses"):
        RESPONSES.parse({"model": "m", "input": given}, Options(store=Any()))


@pytest.mark.parametrize("data", [b"", b"x", b"\xff", b"[]", b"null", b"{}", b'{"response": 1, "input": []}',
                                  b'{"response": {"output": "x"}, "input": []}'])
def test_what_is_no_record_is_not_there(keeping, data):
    space = Space(keeping.app.service.store, "responses", 10**6)
    caller = keeping.app.service.keys.identify(["key"]).name
    space.put(f"response/{caller}/resp_1", data, 60)
    assert ask(keeping, previous_response_id="resp_1").json["error"]["code"] == "previous_response_not_found"
    assert keeping.ask("/v1/responses/resp_1", "GET", reply=None).status_code == 404


def turns(gates):
    """A conversation of one turn at each of the gateways, which goes on by the id of the last response."""
    id, texts = None, []
    for number, gate in enumerate(gates):
        body = {"model": MODEL, "input": "What is my name?" if number else "My name is Ann.",
                "previous_response_id": id}
        answer = gate.request("POST", "/v1/responses", json=body)
        assert answer.status_code == 200, answer.text
        id = answer.json()["id"]
        texts.append(answer.json()["output"][0]["content"][0]["text"])
    return set(texts[1:])


def test_a_chain_survives_another_worker_a_restart_and_another_machine(tmp_path):
    keeps = {"API_KEY": "ann:0000"}
    with gateway(environ={**keeps, "WEB_CONCURRENCY": "2"}) as gate:
        assert turns([gate] * 8) == {"Your name is Ann."}
    file = {**keeps, "STATE_FILE": str(tmp_path / "state.sqlite")}
    with gateway(environ=file) as gate:
        first = gate.request("POST", "/v1/responses", json={
            "model": MODEL, "input": "My name is Ann."}).json()["id"]
    with gateway(environ=file) as gate:
        again = gate.request("POST", "/v1/responses", json={
            "model": MODEL, "input": "What is my name?", "previous_response_id": first}).json()
        assert again["output"][0]["content"][0]["text"] == "Your name is Ann."


def test_a_stored_response_is_neither_cancelled_nor_streamed(keeping):
    id = ask(keeping).json["id"]
    answers = [keeping.ask(f"/v1/responses/{id}{rest}", method, reply=None) for method, rest in (
        ("POST", "/cancel"), ("GET", "?stream=true"), ("GET", "?starting_after=1"))]
    assert [answer.status_code for answer in answers] == [400] * 3
    assert answers[0].json["error"]["message"] == "Cannot cancel a synchronous response."


def test_a_failed_response_is_kept_as_failed_and_not_gone_on_from(keeping):
    failed = folded(frames_of(ask(keeping, stream=True, reply={"status": "ERROR", "text": "a b"}).text))[0]
    assert keeping.ask(f"/v1/responses/{failed['id']}", "GET", reply=None).json == failed
    refused = ask(keeping, previous_response_id=failed["id"])
    assert refused.status_code == 400 and refused.json["error"]["param"] == "previous_response_id"


def test_the_tokens_of_a_body_are_estimated(service):
    one = service()
    few = one.ask("/v1/responses/input_tokens", reply=None, input="Hi").json
    many = one.ask("/responses/input_tokens", reply=None, input="Hi" * 400, model=MODEL).json
    assert few["object"] == "response.input_tokens" and many["input_tokens"] == few["input_tokens"] + 199


def test_the_tokens_of_a_body_without_a_model_are_estimated_where_models_are_known(service):
    one = service()
    assert until(lambda: one.ask("/v1/models", "GET", reply=None).json["data"])
    estimate = one.ask("/v1/responses/input_tokens", reply=None, input="Hi")
    assert estimate.status_code == 200 and estimate.json["input_tokens"] > 0
    unknown = one.ask("/v1/responses/input_tokens", reply=None, input="Hi", model="no-such-model")
    assert unknown.json["error"]["code"] == "model_not_found"


def test_a_websocket_is_refused_so_that_codex_takes_http(service):
    for path in ("/v1/responses", "/responses"):
        answer = service().ask(path, "GET", reply=None)
        assert answer.status_code == 426 and answer.json["error"]["type"] == "invalid_request_error"


def test_silence_is_filled_with_events(service):
    text = ask(service(HEARTBEAT_S="0.1", FIRST_BYTE_S="0.1"), stream=True, reply={"first": 2.5}).text
    frames = frames_of(text)
    assert [frame.event for frame in frames][2] == "keepalive" and json.loads(frames[2].data) == {
        "type": "keepalive", "sequence_number": 2}
    assert folded(beats_apart(frames))[0]["status"] == "completed"


# What the service is, what it is told to say or asked for; the code without a stream, and words of the message.
NOT_MENDED = [
    ("the key is refused", {}, {"reply": {"create": {"status": 401, "code": "unauthorized", "times": 0}}},
     "unauthorized", "key"),
    ("the plan has no agents", {}, {"reply": {"create": {"status": 403, "code": "plan_required", "times": 0}}},
     "plan_required", "plan"),
    ("no call after the repair", {}, {"reply": {}, "tools": [function()], "tool_choice": "required"},
     "no_tool_call", "tool"),
    ("no upstream", {"UPSTREAM": "auto", "CURSOR_API_KEY": ""}, {}, "upstream_not_configured", "CURSOR_API_KEY")]


@pytest.mark.parametrize("settings, asked, code, words", [row[1:] for row in NOT_MENDED],
                         ids=[row[0] for row in NOT_MENDED])
def test_what_no_retry_mends_fails_in_the_stream(service, settings, asked, code, words):
    one = service(**settings)
    streamed, whole = (ask(one, stream=stream, **asked) for stream in (True, False))
    failed, names = folded(frames_of(streamed.text))
    assert streamed.status_code == 200 and names[::len(names) - 1] == ["created", "failed"]
    assert failed["error"]["code"] == "invalid_prompt" and words in failed["error"]["message"]
    assert whole.status_code in (502, 503) and whole.json["error"]["code"] == code
    assert whole.headers["x-should-retry"] == "false"


def test_what_a_retry_mends_keeps_its_status(service):
    one = service(RETRY_S="0.01")
    one.app.service.slots.shut()
    response = ask(one, stream=True)
    assert response.status_code == 503 and response.headers["Retry-After"]


@pytest.mark.parametrize("stream", [False, True])
def test_what_is_wrong_with_the_request_keeps_its_status(service, stream):
    """Codex shows a 400 and stops."""
    one = service()
    unknown = ask(one, model="nobody", stream=stream)
    assert (unknown.status_code, unknown.json["error"]["code"]) == (400, "model_not_found")
    assert "nobody" in unknown.json["error"]["message"]
    assert ask(one, input=[{}], stream=stream).status_code == 400


def test_a_failure_of_the_run_fails_the_stream(service):
    one = service()
    failed, names = folded(frames_of(ask(one, stream=True, reply={"status": "ERROR", "text": "a b"}).text))
    assert names.count("failed") == 1 and failed["output"] == []
    assert failed["error"]["code"] == "invalid_prompt"


def test_an_upstream_that_is_cut_after_a_whole_call_leaves_no_call_to_run(service):
    call = '{open}{"name": "get_weather", "arguments": {"city": "Paris"}}{close}'
    one = service()
    failed, names = folded(frames_of(ask(one, stream=True, tools=[function()], reply={
        "text": call, "burst": True, "status": "ERROR"}).text))
    assert "function_call_arguments.done" not in names[-1:] and names[-1] == "failed"
    assert "output_item.added" in names and "output_item.done" not in names and failed["output"] == []


def test_a_call_that_is_cut_by_the_limit_is_not_in_the_output(service):
    body = {"tools": [function()], "max_output_tokens": 2, "input": "The weather in Paris? Use get_weather."}
    one = service()
    response, names = folded(frames_of(ask(one, stream=True, **body).text))
    assert response["status"] == names[-1] == "incomplete" and response["output"] == []
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert ask(one, **body).json["output"] == []


def post(gate, **body):
    return requests.post(gate.url + "/v1/responses", json={"model": MODEL, "input": "Say hello", **body},
                         timeout=60, headers={"Authorization": "Bearer 0000"})


def test_over_the_wire(gate):
    BODY.validate(post(gate).json())
    response, _ = folded(frames_of(post(gate, stream=True).text))
    assert response["output"][0]["content"][0]["text"] == "hello"
    probe = gate.request("GET", "/v1/responses", headers={"Upgrade": "websocket", "Connection": "Upgrade"})
    assert probe.status_code == 426
    assert until(lambda: gate.lines(route="responses", status="200") and gate.lines(route="response_websocket"))
    refused = requests.post(gate.url + "/v1/responses", json={}, timeout=10)
    assert refused.status_code == 401 and refused.json()["error"]["code"] == "invalid_api_key"
