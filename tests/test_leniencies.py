"""What clients send beyond the contract: each row of docs/leniencies.md, and what it comes to."""

import json
import re

import pytest
from chats import parsed
from conftest import MODEL, ROOT
from test_chat import PNG, tool
from test_service import PIXEL, WEATHER, both

from cursor2api.chat import Image, Message, ToolChoice
from cursor2api.dialects.served import DIALECTS
from cursor2api.errors import BadRequest

HI = [{"role": "user", "content": "hi"}]
CALL = {"role": "assistant", "tool_calls": [{"id": "c1", "type": "function", "function": {
    "name": "f", "arguments": "{}"}}]}
PNG_DATA = PNG.partition(",")[2]
TWO = {"tools": [tool(), tool("g")]}


def shown(part, role="user"):
    """A body whose last message has this part."""
    return {"messages": [*HI, {"role": role, "content": [part]}]}


def result(content, role="tool"):
    return {"messages": [*HI, CALL, {"role": role, "name": "f", "content": content}]}


def url(text):
    return shown({"type": "image_url", "image_url": {"url": text}})


def content(read):
    return read.chat.messages[-1].content


def of(field):
    return lambda read: getattr(read.chat, field)


def tools(read):
    return [one.name for one in read.chat.tools], read.ignored


def ignored(read):
    return read.ignored


CHOICE, STOP, LIMIT, WHOLE = of("tool_choice"), of("stop"), of("max_tokens"), of("messages")
JPEG = (Image("data:image/jpeg;base64,AAAA"),)

# The row of the document; what is sent; what is looked at; what it must be.
LENIENCIES = [
    *(('`tool_choice: "validated"`', {**TWO, "tool_choice": choice}, CHOICE, ToolChoice("auto"))
      for choice in ("validated", {"type": "validated"})),
    *(('`tool_choice: "any"`', {**TWO, "tool_choice": choice}, CHOICE, ToolChoice("required"))
      for choice in ("any", {"type": "any"})),
    *(('`tool_choice: {"type": "auto"}`, or another of these words', {**TWO, "tool_choice": {"type": mode}},
       CHOICE, ToolChoice(mode)) for mode in ("auto", "none", "required")),
    ('`tool_choice: {"type": "auto"}`, or another of these words', {"tool_choice": {"type": "auto"}}, CHOICE,
     ToolChoice("none")),
    ('`tool_choice: {"type": "tool", "name": ...}`', {**TWO, "tool_choice": {"type": "tool", "name": "g"}}, CHOICE,
     ToolChoice("required", ("g",))),
    *(("a tool of another type (`web_search`, `mcp`, ...) beside others", {
        "tools": [tool(), other, tool("g")]}, tools, (["f", "g"], ("tools[1]",))) for other in (
            {"type": "web_search"}, {"type": "web_search_20250305", "name": "web_search", "max_uses": 3},
            {"type": "mcp", "server_label": "x"})),
    ("a tool of another type (`web_search`, `mcp`, ...) beside others", {
        **TWO, "tool_choice": {"type": "allowed_tools", "allowed_tools": {
            "mode": "auto", "tools": [{"type": "web_search"}, tool("g")]}}}, CHOICE, ToolChoice("auto", ("g",))),
    *(('a tool without type, function or name (`{"googleSearch": {}}`) beside others', {
        "tools": [tool(), other]}, tools, (["f"], ("tools[1]",))) for other in (
            {"googleSearch": {}}, {"type": None, "function": None, "codeExecution": {}}, {})),
    ("the same tool twice, word for word", {"tools": [tool(), tool("g"), tool()]}, tools, (["f", "g"], ())),
    ("the same tool twice, word for word", {"functions": [{"name": "f"}] * 2}, tools, (["f"], ())),
    ("a tool without `function` around its members", {"tools": [{"type": "function", "name": "f"}]}, tools,
     (["f"], ())),
    *(("a part `input_text` or `output_text`", shown({"type": kind, "text": "a"}, role), content, ("a",))
      for kind in ("input_text", "output_text") for role in ("system", "user", "assistant", "tool")),
    ("a part `input_image`", shown({"type": "input_image", "image_url": PNG, "detail": "auto"}), content,
     (Image(PNG),)),
    *(("a part `image` as Anthropic (`source`) or MCP (`data`, `mimeType`) has it", shown(
        {"type": "image", **members}, role), content, (Image(taken),)) for role in ("user", "tool")
      for members, taken in (
        ({"source": {"type": "base64", "media_type": "image/png", "data": PNG_DATA}}, PNG),
        ({"source": {"type": "url", "url": "https://a.example/b.png"}}, "https://a.example/b.png"),
        ({"data": PNG_DATA, "mimeType": "image/png"}, PNG))),
    *(("`data:image/jpg`, capitals, parameters before `;base64`", url(text), content, JPEG) for text in (
        "data:image/jpg;base64,AAAA", "DATA:IMAGE/JPG;BASE64,AAAA", "data:image/jpeg;charset=utf-8;base64,AAAA",
        "data:image/jpg;name=a b.jpg;x;base64,AAAA")),
    *(("images in a message of role `tool` or `function`", result([
        {"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": PNG}}], role), content,
       ("see", Image(PNG))) for role in ("tool", "function")),
    ("more than five images in a prompt", {"messages": [{"role": "user", "content": [
        {"type": "image_url", "image_url": PNG}] * 7}]}, content, (Image(PNG),) * 7),  # see test_prompt.py
    *(("parts `audio`, `resource`, `resource_link` beside text in the result of a tool, as MCP has them", result([
        {"type": "text", "text": "see"}, {"type": kind, **members}], role), content, ("see", told))
      for role in ("tool", "function") for kind, members, told in (
        ("audio", {"data": "AAAA", "mimeType": "audio/wav"}, "[audio]"),
        ("resource_link", {"uri": "file:///a"}, '{"type": "resource_link", "uri": "file:///a"}'),
        ("resource", {"resource": {"text": "b"}}, '{"type": "resource", "resource": {"text": "b"}}'),
        ("resource", {"resource": {"blob": "AAAA"}}, "[resource]"))),
    *(("parts `thinking`, `redacted_thinking`, `reasoning` of an assistant", shown(part, "assistant"), WHOLE,
       (Message("user", ("hi",)), Message("assistant", ()))) for part in (
        {"type": "thinking", "thinking": "secret", "signature": "x"}, {"type": "redacted_thinking", "data": "x"},
        {"type": "reasoning", "text": "secret"}, {"type": "reasoning", "summary": []})),
    *(("`content` of role `tool` that is neither text nor parts", result(value, role), content, (text,))
      for role in ("tool", "function") for value, text in (
        ({"temp": 18, "of": ["é"]}, '{"temp": 18, "of": ["é"]}'), ({}, "{}"), (18, "18"), (False, "false"),
        ([1, "a"], '[1, "a"]'), ([{"city": "Paris"}], '[{"city": "Paris"}]'), ([{"type": 1}], '[{"type": 1}]'),
        ([{"type": "dir"}, {"type": "file"}], '[{"type": "dir"}, {"type": "file"}]'))),
    ("`arguments` that are an object", {"messages": [*HI, {"role": "assistant", "tool_calls": [
        {"function": {"name": "f", "arguments": {"a": 1}}}]}]}, lambda read: [
            call.arguments for call in read.chat.messages[-1].tool_calls], ['{"a": 1}']),
    ("`null` for any parameter", {"stop": None, "max_tokens": None, "seed": None}, ignored, ()),
    ("an unknown parameter", {"top_k": 4}, ignored, ()),
    ("`4096.0` for a whole number", {"max_tokens": 4096.0}, LIMIT, 4096),
    *(('`stop: []`, `stop: ""`, an empty string within it', {"stop": stop}, STOP, taken) for stop, taken in (
        ([], ()), ("", ()), ([""], ()), (["", "a"], ("a",)))),
    *(("`max_tokens: -1` or `max_completion_tokens: -1`", members, LIMIT, taken) for members, taken in (
        ({"max_tokens": -1}, None), ({"max_completion_tokens": -1}, None),
        ({"max_tokens": -1, "max_completion_tokens": -1}, None),
        ({"max_tokens": 0, "max_completion_tokens": -1}, None),
        ({"max_tokens": -1, "max_completion_tokens": 5}, 5), ({"max_tokens": 5, "max_completion_tokens": -1}, 5))),
    *(("`max_tokens: 0` beside `max_completion_tokens`, or the other way round", {
        "max_tokens": one, "max_completion_tokens": other}, LIMIT, 5) for one, other in ((0, 5), (5, 0))),
    *(("`reasoning_effort` in a word that the model does not know", {"reasoning_effort": word},
       of("reasoning_effort"), word) for word in ("default", "ultra")),  # it is models.choose that may know it
    *(("any word for `service_tier`, `prompt_cache_retention`, `prompt_cache_options`", members, ignored, ())
      for members in ({"service_tier": "gold"}, {"prompt_cache_retention": "1h"},
                           {"prompt_cache_options": {"mode": "new", "ttl": "1d"}})),
]


@pytest.mark.parametrize("strict", [False, True], ids=["", "strict"])
@pytest.mark.parametrize("body, look, taken", [row[1:] for row in LENIENCIES],
                         ids=[f"{row[0][:40]} {number}" for number, row in enumerate(LENIENCIES)])
def test_what_a_client_sends_is_taken_for_what_it_means(body, look, taken, strict):
    read = parsed(json.dumps({"model": "m", "messages": HI, **body}).encode(), strict_params=strict)
    assert look(read) == taken


def test_the_document_has_each_leniency_and_no_other():
    text = (ROOT / "docs/leniencies.md").read_text("utf-8")
    rows = re.findall(r"^\| (.+?) \| .+ \|$", text, re.MULTILINE)
    assert [row for row in rows if row != "sent"] == list(dict.fromkeys(row[0] for row in LENIENCIES))


# What is sent; the code and the param of its 400.
REFUSED = [
    ({"tools": [{"type": "web_search"}]}, "invalid_value", "tools[0].type"),
    ({"tools": [{"type": "mcp"}], "tool_choice": "required"}, "invalid_value", "tools[0].type"),
    ({"tools": [tool(), {"type": "web_search"}], "tool_choice": {"type": "web_search"}}, "invalid_value",
     "tool_choice.type"),
    ({"tools": [tool(), {"type": "web_search"}], "tool_choice": {"type": "function", "function": {
        "name": "web_search"}}}, "invalid_value", "tool_choice.function.name"),
    ({"tools": [tool(), {"type": "web_search"}], "tool_choice": {"type": "allowed_tools", "allowed_tools": {
        "mode": "required", "tools": [{"type": "web_search"}]}}}, "invalid_value",
     "tool_choice.allowed_tools.tools[0].type"),
    ({"tools": [tool(), tool(description="another")]}, "invalid_value", "tools[1].function.name"),
    ({"tools": [{"googleSearch": {}}]}, "missing_required_parameter", "tools[0].function"),
    ({"tools": [tool(), {"type": 5}]}, "invalid_type", "tools[1].type"),
    ({"tool_choice": "any"}, "invalid_value", "tool_choice"),
    ({"tool_choice": {"type": "any"}}, "invalid_value", "tool_choice"),
    ({**TWO, "tool_choice": {"type": "tool"}}, "missing_required_parameter", "tool_choice.function"),
    ({**TWO, "tool_choice": {"type": "tool", "name": "h"}}, "invalid_value", "tool_choice.name"),
    ({"stop": "x" * 4097}, "string_above_max_length", "stop"),
    ({"stop": ["a", "x" * 80_000]}, "string_above_max_length", "stop[1]"),
    ({"stop": [""] * 5}, "array_above_max_length", "stop"),
    ({"max_tokens": 0}, "integer_below_min_value", "max_tokens"),
    ({"max_tokens": 0, "max_completion_tokens": 0}, "integer_below_min_value", "max_completion_tokens"),
    ({"max_tokens": -2}, "integer_below_min_value", "max_tokens"),
    ({"max_tokens": "-1"}, "invalid_type", "max_tokens"), ({"stream": "true"}, "invalid_type", "stream"),
    ({"reasoning_effort": 3}, "invalid_type", "reasoning_effort"),
    ({"response_format": {"type": "json_schema"}}, "missing_required_parameter", "response_format.json_schema"),
    (shown({"type": "thinking", "thinking": "x"}), "unsupported_value", "messages[1].content[0].type"),
    (shown({"type": "image", "source": {"type": "base64", "data": PNG_DATA}}), "missing_required_parameter",
     "messages[1].content[0].source.media_type"),
    (shown({"type": "image", "source": {"type": "base64", "media_type": "text/html", "data": PNG_DATA}}),
     "invalid_value", "messages[1].content[0].source.data"),
    (shown({"type": "image", "source": {"type": "file", "file_id": "f"}}), "missing_required_parameter",
     "messages[1].content[0].source.media_type"),
    (shown({"type": "image"}), "missing_required_parameter", "messages[1].content[0].mimeType"),
    (result([{"type": "text", "text": "x"}, {"type": "video"}]), "invalid_value", "messages[2].content[1].type"),
    (shown({"type": "resource_link", "uri": "x"}), "invalid_value", "messages[1].content[0].type"),
    (result([{"type": "input_audio"}]), "unsupported_value", "messages[2].content[0].type"),
    (result({"a": [[]] * 2, "b": json.loads("[" * 101 + "]" * 101)}), "invalid_value", "messages[2].content"),
]


@pytest.mark.parametrize("body, code, param", REFUSED, ids=range(len(REFUSED)))
def test_what_no_leniency_covers_is_a_400_that_names_it(body, code, param):
    with pytest.raises(BadRequest) as caught:
        parsed(json.dumps({"model": "m", "messages": HI, **body}).encode())
    assert (caught.value.code, caught.value.param) == (code, param)


# A body of another API; the param that gives it away; the API's route.
ELSEWHERE = [
    ({"input": [{"role": "user", "content": "hi"}], "tools": [{"type": "function", "name": "f"}], "stream": True},
     "input", "/v1/responses"),
    ({"input": "hi", "instructions": "x"}, "input", "/v1/responses"),
    ({"system": "Be kind", "max_tokens": 9, "messages": HI}, "system", "/v1/messages"),
    ({"system": [{"type": "text", "text": "x"}], "max_tokens": 9, "messages": [{"role": "user", "content": [
        {"type": "tool_result", "tool_use_id": "t", "content": "18"}]}]}, "system", "/v1/messages"),
    (shown({"type": "tool_use", "id": "t", "name": "f", "input": {}}, "assistant"), "messages[1].content[0].type",
     "/v1/messages"),
    (shown({"type": "tool_result", "tool_use_id": "t"}), "messages[1].content[0].type", "/v1/messages"),
    *(({"messages": HI, "tools": [{**kind, "name": "f", "input_schema": {"type": "object"}}]},
       "tools[0].input_schema", "/v1/messages") for kind in ({}, {"type": "custom"})),
]


@pytest.mark.parametrize("body, param, route", ELSEWHERE, ids=range(len(ELSEWHERE)))
def test_a_body_of_another_api_is_a_400_that_names_its_route(body, param, route):
    with pytest.raises(BadRequest) as caught:
        parsed(json.dumps({"model": "m", **body}).encode())
    assert caught.value.param == param and caught.value.message.startswith(f"{param}: ")
    assert route in caught.value.message
    served = any(route in dialect.paths for dialect in DIALECTS)
    assert ("does not have" in caught.value.message) != served, "the message must say whether it can be used"


# Over the gateway: what is sent; what the prompt has; images that go with it; headers of the reply.
SEEN = {"type": "image_url", "image_url": {"url": PIXEL.replace("image/png", "image/PNG;a=b")}}
OVER = [
    ("images of a tool", result([SEEN, SEEN]), "[image]\n[image]\n</tool_", 2, {}),
    ("seven images", {"messages": [{"role": "user", "content": [SEEN] * 4}, CALL, {
        "role": "tool", "tool_call_id": "c1", "content": [SEEN] * 2}, {"role": "user", "content": [
            {"type": "image", "data": PIXEL.partition(",")[2], "mimeType": "image/png"}]}]},
     "[image left out]\n[image left out]\n[image]\n[image]\n</user_", 5, {"x-cursor2api-left-out": "2 images"}),
    ("a result in JSON", result({"temp": 18}), '{"temp": 18}\n</tool_', 0, {}),
    ("thinking of another provider", {"messages": [*HI, {"role": "assistant", "content": [
        {"type": "thinking", "thinking": "hm"}, {"type": "output_text", "text": "Ho"}]}, *HI]},
     "\nHo\n</assistant_", 0, {}),
    ("a tool that cannot run here", {"tools": [tool(), {"type": "web_search"}], "tool_choice": "validated"},
     '"name": "f"', 0, {"x-cursor2api-ignored": "tools[1]"}),
    ("an effort of tomorrow", {"reasoning_effort": "default", "max_tokens": -1, "stop": [], "service_tier": "x"},
     "hi", 0, {"x-cursor2api-ignored": "reasoning_effort"}),
]


@pytest.mark.parametrize("body, said, images, headers", [row[1:] for row in OVER], ids=[row[0] for row in OVER])
def test_a_leniency_over_the_gateway(gate, body, said, images, headers):
    gate.simulator.script({"replies": [{"text": "one two", "times": 0}]})
    for stream in (False, True):
        response = gate.post({"model": MODEL, "messages": HI, "stream": stream, **body})
        assert response.status_code == 200 and "one" in response.text
        run = gate.agents()[-1]["runs"][0]
        assert said in run["prompt"] and run["images"] == images
        for name in ("x-cursor2api-left-out", "x-cursor2api-ignored"):
            assert response.headers.get(name) == headers.get(name)


@pytest.mark.parametrize("choice", ["any", {"type": "any"}, {"type": "tool", "name": "get_weather"}], ids=str)
def test_a_choice_of_tools_in_other_words(gate, choice):
    assert both(gate, None, messages=[{"role": "user", "content": "Hello"}], tools=[WEATHER, WEATHER],
                tool_choice=choice)[2] == "tool_calls"


@pytest.mark.upstreams("cloud")
@pytest.mark.parametrize("path, body, name", [
    ("/v1/chat/completions", {"messages": HI, "reasoning_effort": "tomorrow"}, "reasoning_effort"),
    ("/v1/responses", {"input": "Hi", "reasoning": {"effort": "tomorrow"}}, "reasoning.effort"),
    ("/v1/messages", {"messages": HI, "max_tokens": 9, "output_config": {"effort": "max"}},
     "output_config.effort")])
def test_an_effort_that_a_model_does_not_have_is_reported_by_its_name_in_each_api(gate, path, body, name):
    response = gate.request("POST", path, json={"model": "gemini-3-flash", **body})
    assert response.status_code == 200 and response.headers["x-cursor2api-ignored"] == name
