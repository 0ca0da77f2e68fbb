"""Calls as models write them, each fed whole, character by character and at each split."""

import json
import re
import time
from collections import Counter
from types import SimpleNamespace

import pytest

from cursor2api.effects import toolcalls
from cursor2api.errors import UpstreamError
from cursor2api.events import Finish, Note, Reasoning, Text, ToolCall, Misfit, Usage, Waiting
from cursor2api.effects.toolcalls import split_calls
from cursor2api.effects.transforms import split_thinking

OPEN, CLOSE = "<call_k3f9x2>", "</call_k3f9x2>"


def tool(name, required=(), **properties):
    types = {key: {"type": kind} if isinstance(kind, str) else kind
             for key, kind in properties.items()}
    return SimpleNamespace(name=name, kind="function", parameters={
        "type": "object", "properties": types, "required": [*required]})


TOOLS = [
    tool("write", ["path"], path="string", content="string", lines="integer", force="boolean",
         edits={"type": "array", "items": {"type": "object", "properties": {
             "at": {"type": "integer"}, "text": {"type": ["string", "null"]}}}}),
    tool("get"), tool("get_weather", ["city"], city="string", days="integer"),
    tool("list_files"), tool("grep", ["pattern"], pattern={"type": "string", "pattern": "^(a+)+$"}),
    tool("mcp__fs__stat", path="string"),
]


SHOWN = "Show me the file.\n"  # a conversation


def run(pieces, finish="stop", conversation=SHOWN, tools=TOOLS, **options):
    """The events for a reply of these texts, and the error that ended them."""
    count = iter(range(100_000))
    events = [Text(piece) for piece in pieces] + ([Finish(finish)] if finish else [])
    found, error = [], None
    try:
        found.extend(split_calls(split_thinking(events, OPEN), open_mark=OPEN, close_mark=CLOSE,
                                 tools=tools, new_id=lambda: f"call_{next(count)}",
                                 conversation=conversation, **options))
    except UpstreamError as raised:
        error = raised
    return found, error


def fold(events):
    """(text, [(id, name, arguments)], finish); a call whose arguments are not whole is dropped."""
    text, calls, finish = "", {}, None
    for event in events:
        assert finish is None, "nothing follows Finish"
        if isinstance(event, Text):
            text += event.text
        elif isinstance(event, ToolCall):
            if event.id:
                assert event.index == len(calls) and event.name
                calls[event.index] = (event.id, event.name, [])
            else:
                assert event.index == len(calls) - 1 and event.name is None
            calls[event.index][2].append(event.arguments)
        elif isinstance(event, Finish):
            finish = event.reason
    return text, [(id, name, joined) for id, name, parts in calls.values()
                  if complete(joined := "".join(parts))], finish


def complete(text):
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def outcome(pieces, finish="stop", **options):
    events, error = run(pieces, finish, **options)
    text, calls, finish = fold(events)
    complaints = [event.complaint for event in events if isinstance(event, Misfit)]
    for note in notes(events):
        assert note.id in (None, *(event.id for event in events if isinstance(event, ToolCall)))
    return text, [(name, json.loads(arguments)) for _, name, arguments in calls], finish, \
        complaints, error and error.code


def notes(events):
    return [event for event in events if isinstance(event, Note)]


def every_cut(reply):
    """(pieces, whether calls leave whole): in one, one by one and at each split; every other one whole."""
    yield from (([reply], False), ([reply], True), (list(reply), False), (list(reply), True))
    for at in range(1, len(reply)):
        yield [reply[:at], reply[at:]], at % 2 == 0


def call(name, arguments, **more):
    return OPEN + json.dumps({"name": name, "arguments": arguments, **more}) + CLOSE


def raw(text):
    return OPEN + text + CLOSE


def written(arguments):
    """An envelope around write's arguments as they stand."""
    return raw('{"name": "write", "arguments": ' + arguments + "}")


WEATHER = '{"name": "get_weather", "arguments": {"city": "Rome"}}'
ROME = ("get_weather", {"city": "Rome"})
CODE = 'if (a) { b = "}"; }\n```js\n{"x": [}\n```\n'

# (name, reply, text, calls, finish); the number is that of the case.
FIT = [
    ("1 raw newline, tab and CR in a string", written('{"path": "a\nb\tc\rd"}'),
     "", [("write", {"path": "a\nb\tc\rd"})], "tool_calls"),
    ("2 a cut string is no call", 'Now: ' + OPEN + '{"name": "write", "arguments": {"path": "a/b',
     "Now: ", [], "length"),
    ("2 a cut number is no call", OPEN + '{"name": "write", "arguments": {"path": "a", "lines": 1',
     "", [], "length"),
    ("2 a cut name is no call", OPEN + '{"name": "wri', "", [], "length"),
    ("2 a cut mark is text", "x" + OPEN[:-3], "x" + OPEN[:-3], [], "stop"),
    ("2 an open mark at the very end is a cut call", "x" + OPEN, "x", [], "length"),
    ("3 one closer missing before the mark", raw('{"name": "write", "arguments": {"path": "a"}'),
     "", [("write", {"path": "a"})], "tool_calls"),
    ("3 two closers missing before the mark", raw('{"name": "write", "arguments": {"path": "a"'),
     "", [("write", {"path": "a"})], "tool_calls"),
    ("3 closers of nested values missing",
     raw('{"name": "write", "arguments": {"path": "a", "edits": [{"at": 1'),
     "", [("write", {"path": "a", "edits": [{"at": 1}]})], "tool_calls"),
    ("3 two closers missing and no mark", OPEN + '{"name": "write", "arguments": {"path": "a"',
     "", [], "length"),
    ("3 one closer missing and no mark", OPEN + '{"name": "write", "arguments": {"path": "a"}',
     "", [], "length"),
    ("4 trailing commas", written('{"path": "a", "edits": [{"at": 1,},],},'),
     "", [("write", {"path": "a", "edits": [{"at": 1}]})], "tool_calls"),
    ("5 braces, quotes and fences in a string", call("write", {"path": "a", "content": CODE}),
     "", [("write", {"path": "a", "content": CODE})], "tool_calls"),
    ("6 inner quotes that are not escaped",
     written('{"path": "a", "content": "she said "yes", "no" and "well" to it"}'), "",
     [("write", {"path": "a", "content": 'she said "yes", "no" and "well" to it'})], "tool_calls"),
    ("7 fields within a string", written(r'{"path": "a", "content": "\", \"path\": \"x\""}'),
     "", [("write", {"path": "a", "content": '", "path": "x"'})], "tool_calls"),
    ("8 a close mark in a string", call("write", {"path": "a", "content": f"x{CLOSE}y{OPEN}z"}),
     "", [("write", {"path": "a", "content": f"x{CLOSE}y{OPEN}z"})], "tool_calls"),
    ("9 no close mark at the end of the reply", "Hi\n" + OPEN + WEATHER + "\n",
     "Hi\n\n", [ROME], "tool_calls"),
    ("9 no close mark, then prose", OPEN + WEATHER + "\nI wait.",
     "\nI wait.", [ROME], "tool_calls"),
    ("9 no closing fence", OPEN + "```json\n" + WEATHER, "", [ROME], "tool_calls"),
    ("10 the first whole, the second cut", OPEN + WEATHER + CLOSE + OPEN + WEATHER[:-8],
     "", [ROME], "length"),
    ("11 tool and parameters", raw('{"tool": "get_weather", "parameters": {"city": "Rome"}}'),
     "", [ROME], "tool_calls"),
    ("11 tool_name and args", raw('{"tool_name": "get_weather", "args": {"city": "Rome"}}'),
     "", [ROME], "tool_calls"),
    ("11 function as an object",
     raw('{"id": "x", "type": "function", "function": '
         '{"name": "get_weather", "input": {"city": "Rome"}}}'), "", [ROME], "tool_calls"),
    ("11 params, the name last", raw('{"params": {"city": "Rome"}, "function": "get_weather"}'),
     "", [ROME], "tool_calls"),
    ("12 arguments as a string", raw(json.dumps(
        {"name": "get_weather", "arguments": json.dumps({"city": "Rome"})})),
     "", [ROME], "tool_calls"),
    ("12 arguments encoded twice", raw(json.dumps(
        {"name": "get_weather", "arguments": json.dumps(json.dumps({"city": "Rome"}))})),
     "", [ROME], "tool_calls"),
    ("13 a Python dict", raw("{'name': 'write', 'arguments': {'path': 'it\\'s \"a\"', "
                             "'force': True}}"),
     "", [("write", {"path": 'it\'s "a"', "force": True})], "tool_calls"),
    ("13 None", written("{'path': 'a', 'edits': [{'text': None}]}"),
     "", [("write", {"path": "a", "edits": [{"text": None}]})], "tool_calls"),
    ("13 smart quotes", raw("{“name”: “get_weather”, “arguments”: {“city”: “Rome”}}"),
     "", [ROME], "tool_calls"),
    ("14 a fenced package.json", '```json\n{"name": "get_weather", "version": "1"}\n```',
     '```json\n{"name": "get_weather", "version": "1"}\n```', [], "stop"),
    ("14 data with an undeclared name", '{"name": "left-pad", "arguments": {}}',
     '{"name": "left-pad", "arguments": {}}', [], "stop"),
    ("14 data whose name is a tool's but lacks what it requires", '{"name": "get_weather"}',
     '{"name": "get_weather"}', [], "stop"),
    ("15 a wrapper of two calls", raw('{"tool_calls": [' + WEATHER + ', {"name": "get"}]}'),
     "", [ROME, ("get", {})], "tool_calls"),
    ("15 an array of two calls", raw('[{"name": "get"}, ' + WEATHER + "]"),
     "", [("get", {}), ROME], "tool_calls"),
    ("15 two objects in one envelope", raw('{"name": "get"}\n' + WEATHER),
     "", [("get", {}), ROME], "tool_calls"),
    ("16 a fake mark", "<call <call_k3f9x <call_k3f9x3> </call>",
     "<call <call_k3f9x <call_k3f9x3> </call>", [], "stop"),
    ("17 a name that begins with another", OPEN + WEATHER + CLOSE, "", [ROME], "tool_calls"),
    ("18 case and dashes", raw(WEATHER.replace("get_weather", "Get-Weather")),
     "", [ROME], "tool_calls"),
    ("18 a server's prefix", raw(WEATHER.replace("get_weather", "mcp__srv__get_weather")),
     "", [ROME], "tool_calls"),
    ("18 a server's prefix left out", raw('{"name": "stat", "arguments": {"path": "a"}}'),
     "", [("mcp__fs__stat", {"path": "a"})], "tool_calls"),
    ("19 no arguments", raw('{"name": "list_files"}'), "", [("list_files", {})], "tool_calls"),
    ("19 null arguments", raw('{"name": "list_files", "arguments": null}'),
     "", [("list_files", {})], "tool_calls"),
    ("19 empty string arguments", raw('{"name": "list_files", "arguments": ""}'),
     "", [("list_files", {})], "tool_calls"),
    ("19 empty object", raw('{"name": "list_files", "arguments": {}}'),
     "", [("list_files", {})], "tool_calls"),
    ("20 a call within a thinking", f"<thinking>a{OPEN}{WEATHER}{CLOSE}</thinking>b", "b", [], "stop"),
    ("20 a thinking that never closes", f"<think>a{OPEN}{WEATHER}{CLOSE}b", "b", [ROME], "tool_calls"),
    ("21 tags quoted in an answer", f"Write <thinking>a</thinking> or </think>.{OPEN}{WEATHER}{CLOSE}",
     "Write <thinking>a</thinking> or </think>.", [ROME], "tool_calls"),
    ("22 a list item with a fence", f"Do:\n- {OPEN}\n```json\n{WEATHER}\n```\n{CLOSE}\nDone.",
     "Do:\n- \nDone.", [ROME], "tool_calls"),
    ("22 a blockquote", f"> {OPEN}\n> {WEATHER}\n{CLOSE} ok".replace(": {", ":\n> {\n> "),
     ">  ok", [ROME], "tool_calls"),
    ("23 an echoed call of another request", "<call_aaaaaa>" + WEATHER + "</call_aaaaaa>",
     "<call_aaaaaa>" + WEATHER + "</call_aaaaaa>", [], "stop"),
    ("23 an echoed result", '<tool_aaaaaa id="call_1" name="get">\n{"a": 1}\n</tool_aaaaaa>',
     '<tool_aaaaaa id="call_1" name="get">\n{"a": 1}\n</tool_aaaaaa>', [], "stop"),
    ("24 stray braces behind", raw(WEATHER + "}}\n]"), "", [ROME], "tool_calls"),
    ("24 a heredoc", call("write", {"path": "cat <<E\n{ ${a} }\nE\n}"}),
     "", [("write", {"path": "cat <<E\n{ ${a} }\nE\n}"})], "tool_calls"),
    ("25 scalars as the schema wants them",
     written('{"path": 12, "lines": "7", "force": "true", "edits": "[{\\"at\\": \\"1\\"}]"}'),
     "", [("write", {"path": "12", "lines": 7, "force": True, "edits": [{"at": 1}]})],
     "tool_calls"),
    ("26 the same call twice", OPEN + WEATHER + CLOSE + OPEN + WEATHER + CLOSE,
     "", [ROME, ROME], "tool_calls"),
    ("26 the same call and id twice", 2 * raw('{"id": "1", ' + WEATHER[1:]),
     "", [ROME], "tool_calls"),
    ("26 the same id for two calls", raw('{"id": "1", ' + WEATHER[1:])
     + raw('{"id": "1", ' + WEATHER[1:].replace("Rome", "Oslo")),
     "", [ROME, ("get_weather", {"city": "Oslo"})], "tool_calls"),
    ("27 characters beyond the plane", call("write", {"path": "😀é"}) + written('{"path": "😀é"}'),
     "", 2 * [("write", {"path": "😀é"})], "tool_calls"),
    ("28 arguments before the name", raw('{"arguments": {"city": "Rome"}, "name": "get_weather"}'),
     "", [ROME], "tool_calls"),
    ("28 the id behind the arguments", raw(WEATHER[:-1] + ', "id": "7"}'),
     "", [ROME], "tool_calls"),
    ("29 leaked markers", "a<｜tool▁calls▁begin｜>b<|tool_call|>c< | tool calls end | >d<|too<|x|>",
     "abcd<|too<|x|>", [], "stop"),
    ("29 leaked markers around a call", f"<｜tool▁calls▁begin｜>{OPEN}{WEATHER}{CLOSE}<|/tool_call|>",
     "", [ROME], "tool_calls"),
    ("29 a call in a model's own form is text without its markers",
     "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get\n```json\n{}\n```<｜tool▁call▁end｜>"
     "<｜tool▁calls▁end｜>", "functionget\n```json\n{}\n```", [], "stop"),
    ("30 an empty envelope", f"a{OPEN}{CLOSE}b", "ab", [], "stop"),
    ("30 an envelope of whitespace", f"a{OPEN} \n {CLOSE}b", "ab", [], "stop"),
    ("30 an empty object", f"a{OPEN}{{}}{CLOSE}b", "ab", [], "stop"),
    ("a stray close mark is dropped", f"a{CLOSE}b", "ab", [], "stop"),
    ("text around calls", f"one {OPEN}{WEATHER}{CLOSE} two {OPEN}{WEATHER}{CLOSE} three",
     "one  two  three", [ROME, ROME], "tool_calls"),
    ("in a fence", raw(f"```json\n{WEATHER}\n```"), "", [ROME], "tool_calls"),
    ("in quote marks", raw("> " + WEATHER.replace(", ", ",\n> ")), "", [ROME], "tool_calls"),
    ("in a wrapper", raw('{"tool_calls": [' + WEATHER + "]}"), "", [ROME], "tool_calls"),
    ("in an array", raw(f"[{WEATHER}, {WEATHER}]"), "", [ROME, ROME], "tool_calls"),
    ("unmarked: prose behind", WEATHER + " is how", WEATHER + " is how", [], "stop"),
    ("unmarked: prose before", "So: " + WEATHER, "So: " + WEATHER, [], "stop"),
    ("unmarked: another language", f"```python\n{WEATHER}\n```", f"```python\n{WEATHER}\n```", [],
     "stop"),
    ("unmarked: cut", WEATHER[:-2], WEATHER[:-2], [], "stop"),
    ("unmarked: a marked call behind", f"{{}} {OPEN}{WEATHER}{CLOSE}", "{} ", [ROME], "tool_calls"),
    ("no text at all", "", "", [], "stop"),
]

# (name, reply, text, calls, finish, complaint, error); what leaves before an error stands, too.
UNFIT = [
    ("7 text that looks like a second key",
     written('{"path": "a", "content": "x", "path": "y" z"}'),
     "", [], None, "duplicate key 'path'", "invalid_tool_arguments"),
    ("6 mended quotes never swallow the envelope's end",
     written('{"path": "a" and b}') + OPEN + WEATHER + CLOSE,
     "", [], None, "not escaped", "invalid_tool_arguments"),
    ("18 an unknown tool", "a" + raw('{"name": "nope", "arguments": {}}') + "b",
     "a" + raw('{"name": "nope", "arguments": {}}') + "b", [], "stop", "no tool 'nope'", None),
    ("23 an echoed example", raw('{"name": "TOOL_NAME", "arguments": {"ARGUMENT": "VALUE"}}'),
     raw('{"name": "TOOL_NAME", "arguments": {"ARGUMENT": "VALUE"}}'), [], "stop", "no tool 'TOOL_NAME'", None),
    ("an envelope that is not JSON", f"a{OPEN}hello{CLOSE}b{CLOSE}c", f"a{OPEN}hello{CLOSE}bc",
     [], "stop", "no JSON object", None),
    ("bad JSON before anything left, then a call",
     raw('{"name": NaN}') + "b" + OPEN + WEATHER + CLOSE,
     raw('{"name": NaN}') + "b", [ROME], "tool_calls", "NaN", None),
    ("19 no arguments where some are required", raw('{"name": "get_weather"}'),
     "", [], None, "'city' is a required property", "invalid_tool_arguments"),
    ("arguments that do not fit the schema", written('{"path": "a", "lines": "many"}'),
     "", [], None, "$.lines: 'many' is not of type 'integer'", "invalid_tool_arguments"),
    ("NaN in arguments that have begun to leave", written('{"path": "a", "lines": NaN}'),
     "", [], None, "NaN", "invalid_tool_arguments"),
    ("garbage behind the arguments", raw(WEATHER[:-1] + " oops}"),
     "", [], None, "expected , or }", "invalid_tool_arguments"),
    ("one bad call of a wrapper keeps all back",
     raw('{"tool_calls": [' + WEATHER + ', {"name": "get_weather"}]}'),
     "", [], None, "required", "invalid_tool_arguments"),
]

# Replies that are nothing but a call without marks.
UNMARKED = {
    "the whole reply": f"\n{WEATHER}\n",
    "in a fence": f"```json\n{WEATHER}\n```",
    "in a fence that does not close": "```json\n" + WEATHER,
    "in a plain fence": f"```\n{WEATHER}\n```\n",
    "in a tag": f"<tool_call>\n{WEATHER}\n</tool_call>",
    "in another tag": f"<function_calls>{WEATHER}</function_calls>",
    "in a model's own marks": f"<｜tool▁calls▁begin｜>{WEATHER}<| tool calls end |>",
    "in quote marks": "> " + WEATHER.replace(", ", ",\n> "),
    "in a wrapper": '{"tool_calls": [' + WEATHER + "]}",
    "in an array": f"[{WEATHER}, {WEATHER}]",
    "in OpenAI's form": json.dumps({"tool_calls": [{"id": "call_1", "type": "function", "function": {
        "name": "get_weather", "arguments": '{"city": "Rome"}'}}]}),
    "by other keys": '{"tool": "get_weather", "parameters": {"city": "Rome"}}',
    "by still other keys": '{"params": {"city": "Rome"}, "tool_name": "get_weather"}',
    "arguments as a string": json.dumps({"name": "get_weather", "arguments": '{"city": "Rome"}'}),
    "a Python dict": "{'name': 'get_weather', 'arguments': {'city': 'Rome'}}",
    "in another case": WEATHER.replace("get_weather", "Get-Weather"),
    "a tool without arguments": '{"name": "list_files"}',
}


@pytest.mark.parametrize("reply", UNMARKED.values(), ids=UNMARKED)
def test_without_marks_nothing_is_called_and_the_marks_are_asked_for(reply):
    tool, kept = "list_files" if "list" in reply else "get_weather", re.sub(r"<[|｜].*?[|｜]>", "", reply)
    for pieces, whole in every_cut(reply):
        events, error = run(pieces, whole=whole)
        assert [type(event) for event in events[:2]] == [Note, Misfit] and events[1].error is error is None
        assert events[0].name == tool and OPEN in events[1].complaint and CLOSE in events[1].complaint
        assert fold(events) == (kept, [], "stop")
    for finish in ("length", "content_filter"):
        assert outcome([reply], finish) == (kept, [], finish, [], None)
    assert outcome([reply], conversation=None) == (kept, [], "stop", [], None)


def shown(text):
    """A conversation in which the text stands as a tool may have put it."""
    return f"<tool_aaaaaa>\n{text}\n</tool_aaaaaa>\nRead it to me."


ESCAPED = {
    "as it is": shown, "over several lines": lambda text: shown(text.replace(", ", ",\n\t")),
    "in JSON": lambda text: shown(json.dumps({"content": text})),
    "in JSON in JSON": lambda text: shown(json.dumps({"content": json.dumps([text])}, ensure_ascii=False)),
    "in quote marks": lambda text: shown("> " + text.replace("\n", "\n> "))}


@pytest.mark.parametrize("how", ESCAPED)
@pytest.mark.parametrize("text", [*UNMARKED.values(), json.dumps(
    {"name": "write", "arguments": {"path": "é😀\n\t\"C:\\new\" </b>", "content": "a/b"}}, indent=2)])
def test_a_call_that_stands_in_the_conversation_is_text(text, how):
    for pieces in ([text], list(text)):
        _, calls, finish, complaints, error = outcome(pieces, conversation=ESCAPED[how](text))
        assert (calls, finish, complaints, error) == ([], "stop", [], None)


MANY = [tool("get_weather", 20_000 * ["city"])]
COSTLY = {  # (tools, reply, conversation)
    "backslashes": (TOOLS, WEATHER, shown(200_000 * "\\")),
    "required": (MANY, json.dumps({"name": "get_weather", "arguments": {"city": 20_000 * [0]}}), "")}


@pytest.mark.parametrize("tools, reply, conversation", COSTLY.values(), ids=COSTLY)
def test_whether_a_call_has_no_marks_is_found_in_linear_time(tools, reply, conversation):
    begun = time.process_time()
    assert outcome([reply], tools=tools, conversation=conversation)[3]
    assert time.process_time() - begun < 3  # a quadratic step takes 20 s


def test_a_call_that_only_resembles_one_in_the_conversation_is_asked_for():
    assert outcome([WEATHER], conversation=shown(WEATHER.replace("Rome", "Oslo")))[3]


def test_the_complaint_of_missing_marks_says_what_else_is_wrong():
    reply = '{"name": "get_weather", "arguments": {"city": "Rome", "days": "x"}}'
    assert "$.days" in outcome([reply])[3][0]


# Beginnings of replies, whether they are released at once
HELD = ["", "\n", 200 * "\n", "`", "```js", "<tool_c", "{", '{"na', '{"name": "left-', '{"name": "get"',
        '[{"id": "1", ', '{"input": {"name": "left-pad"}', '{"name": "get"}', '{"name": "get"}\n```\n',
        '[{"name": "get"}, 7']
RELEASED = ["Hello", 201 * "\n", "```python\n", "a < b", "<b>\n", "{}", "[[", '["', '{"a":', '["name"',
            '{"name": "left-pad", "version":', '{"tool_calls": [{"name": "left-pad", "arguments":',
            '{"name": "get"} is', '{"name": "get"}' + 201 * "\n", '{"name": "get", "name":']


@pytest.mark.parametrize("begin, held", [*((text, True) for text in HELD), *((text, False) for text in RELEASED)])
def test_text_is_held_only_while_it_may_be_a_call(begin, held):
    events = split_calls([*map(Text, begin), Waiting(), Finish("stop")], open_mark=OPEN, close_mark=CLOSE,
                         tools=TOOLS, new_id=str, conversation="")
    early = "".join(event.text for event in iter(lambda: next(events), Waiting()))
    assert early == ("" if held else begin)


@pytest.mark.parametrize("begin", ['{"name": "write", "arguments": {"path": "', '{"arguments": "'])
def test_text_beyond_the_longest_call_is_released(begin):
    def upstream():
        yield Text(begin)
        for _ in range(toolcalls.LONGEST // 50_000 + 1):
            yield Text(50_000 * "1")
        yield Waiting()
        yield Finish("stop")

    events = split_calls(upstream(), open_mark=OPEN, close_mark=CLOSE, tools=TOOLS, new_id=str, conversation="")
    assert isinstance(next(events), Text)


@pytest.mark.parametrize("name, reply, text, calls, finish", FIT, ids=[row[0] for row in FIT])
def test_calls_and_text_are_told_apart_however_the_reply_is_cut(name, reply, text, calls, finish):
    for pieces, whole in every_cut(reply):
        assert outcome(pieces, whole=whole) == (text, calls, finish, [], None), pieces


@pytest.mark.parametrize("name, reply, text, calls, finish, complaint, error", UNFIT,
                         ids=[row[0] for row in UNFIT])
def test_what_cannot_be_a_call_is_complained_of(name, reply, text, calls, finish, complaint, error):
    expected = outcome([reply])
    assert expected[:3] == (text, calls, finish)
    assert len(expected[3]) == 1 and complaint in expected[3][0]
    assert expected[4] == error
    for pieces, whole in every_cut(reply):
        assert outcome(pieces, whole=whole) == expected, pieces


HEAD = '{"name": "apply_patch"}'
PATCH = f"*** Begin Patch\n\n+it's \"x\" \\ \t{{[</call_k\n{OPEN}\n*** End Patch"

# (name, reply, text, calls as (name, input or arguments), finish): calls of a custom tool.
RAW = [
    ("the input stands behind the name", "Now: " + raw(f"{HEAD}\n{PATCH}\n") + " Done.", "Now:  Done.",
     [("apply_patch", PATCH)], "tool_calls"),
    ("one line break at each end is not of it", raw(f"{HEAD} \r\n\n  x\n\r\n"), "", [("apply_patch", "\n  x\n")],
     "tool_calls"),
    ("all on one line", raw(f"{HEAD} ls"), "", [("apply_patch", "ls")], "tool_calls"),
    ("beside a call of a function", raw(f"{HEAD}\nx\n") + raw(WEATHER), "",
     [("apply_patch", "x"), ("get_weather", '{"city":"Rome"}')], "tool_calls"),
    ("behind another in one envelope", raw(f"{WEATHER}\n{HEAD}\nx\n"), "",
     [("get_weather", '{"city":"Rome"}'), ("apply_patch", "x")], "tool_calls"),
    *(("within the JSON", raw(f'{{"name": "apply_patch", {rest}}}'), "", [("apply_patch", "a\nb")], "tool_calls")
      for rest in (r'"input": "a\nb"', r'"arguments": "a\nb"', r'"arguments": {"input": "a\nb"}')),
    ("the same with the same id", 2 * raw('{"id": "1", ' + HEAD[1:] + "\nx\n"), "", [("apply_patch", "x")],
     "tool_calls"),
    ("cut within the input", OPEN + f"{HEAD}\nrm a", "", [("apply_patch", "rm a")], "length"),
    ("cut before it", OPEN + f"{HEAD}\n", "", [], "length"),
    ("nothing in it", raw(f"{HEAD}\n \n"), raw(f"{HEAD}\n \n"), [], "stop"),
    ("not within the JSON either", raw('{"name": "apply_patch", "arguments": {"a": 1}}'),
     raw('{"name": "apply_patch", "arguments": {"a": 1}}'), [], "stop"),
    ("a patch without marks is text", PATCH.replace(OPEN, ""), PATCH.replace(OPEN, ""), [], "stop")]


@pytest.mark.parametrize("name, reply, text, calls, finish", RAW, ids=[row[0] for row in RAW])
def test_a_custom_tool_takes_its_input_raw(name, reply, text, calls, finish):
    tools = [*TOOLS, SimpleNamespace(name="apply_patch", kind="custom", parameters={"type": "text"})]
    for pieces, whole in every_cut(reply):
        said, found = "", {}
        for event in split_calls([*map(Text, pieces), Finish("stop")], open_mark=OPEN, close_mark=CLOSE,
                                 tools=tools, new_id=lambda: "call_1", whole=whole):
            if type(event) is ToolCall:
                call = found.setdefault(event.index, [event.name, ""])
                call[1] += event.arguments
                assert (event.kind == "custom") == (call[0] == "apply_patch") and (event.id or not whole)
            said += event.text if type(event) is Text else ""
        kept = [] if whole and finish == "length" else calls
        assert (said, [tuple(call) for call in found.values()], event.reason) == (text, kept, finish), pieces


def test_an_input_that_never_ends_is_cut():
    tools = [SimpleNamespace(name="apply_patch", kind="custom", parameters={})]
    events = [Text(OPEN + HEAD + "\n"), *[Text("x" * (1 << 20))] * 9, Finish("stop")]
    *_, last = split_calls(events, open_mark=OPEN, close_mark=CLOSE, tools=tools, new_id=lambda: "call_1")
    assert last == Finish("length")


ALIKE = "kept: the same call as before"
MISFIT = "its arguments do not fit their schema"

# (reply, the upstream's finish, options, notes as (why, name, whether something has left))
NOTED = [
    (OPEN + WEATHER + CLOSE, "stop", {}, []),
    (OPEN + WEATHER[:-8], "stop", {}, [("cut by the end of the reply", "get_weather", True)]),
    (OPEN + WEATHER[:-8], "length", {}, [("cut by the upstream's limit", "get_weather", True)]),
    (OPEN + WEATHER[:12], "stop", {}, [("cut by the end of the reply", None, False)]),
    (OPEN, "stop", {}, [("cut by the end of the reply", None, False)]),
    (2 * raw(WEATHER), "stop", {}, [(ALIKE, "get_weather", True)]),
    (raw(f"[{WEATHER}, {WEATHER}]"), "stop", {}, [(ALIKE, "get_weather", True)]),
    (3 * raw('{"id": "1", ' + WEATHER[1:]), "stop", {},
     2 * [("dropped: the same call and id as before", "get_weather", False)]),
    (raw(WEATHER) + raw('{"id": "1", ' + WEATHER[1:]), "stop", {}, [(ALIKE, "get_weather", True)]),
    (raw(f"[{WEATHER}, {WEATHER}]"), "stop", {"parallel": False},
     [("dropped: behind the one call that is allowed", None, False)]),
    (raw('{"name": "nope", "arguments": {}}'), "stop", {}, [("no call that can be read", None, False)]),
    (raw(WEATHER[:-1] + " oops}"), "stop", {}, [("not valid JSON", "get_weather", True)]),
    (written('{"path": 1, "lines": "x"}'), "stop", {}, [(MISFIT, "write", True)]),
    (raw('{"arguments": {}, "name": "write"}'), "stop", {}, [(MISFIT, "write", False)]),
]


@pytest.mark.parametrize("reply, finish, options, expected", NOTED)
def test_what_does_not_leave_as_it_was_written_is_noted(reply, finish, options, expected):
    for pieces, whole in every_cut(reply):
        events, _ = run(pieces, finish, whole=whole, **options)
        found = [(note.why, note.name, note.id is not None) for note in notes(events)]
        assert found == [(why, name, left and (not whole or why == ALIKE))
                         for why, name, left in expected], pieces


@pytest.mark.parametrize("reply, before, finish, expected", [
    ("text only", "length", "length", 0),
    ("text only", "tool_calls", "stop", 0),
    (OPEN + WEATHER + CLOSE, "length", "length", 1),
    (OPEN + WEATHER + CLOSE, "tool_calls", "tool_calls", 1),
    ("text only", "content_filter", "content_filter", 0),
    (OPEN + '{"name": "write", "arguments": {"path": "a "quoted" word', "length", "length", 0),
    (WEATHER, "length", "length", 0),
])
def test_a_reply_that_the_upstream_cut_ends_as_cut(reply, before, finish, expected):
    _, calls, reason, complaints, _ = outcome(list(reply), before)
    assert (reason, len(calls), complaints) == (finish, expected, [])


def test_a_call_that_is_whole_leaves_in_one_piece():
    reply = OPEN + WEATHER + CLOSE + written('{"path": "a"}')
    pieces = [event for event in run(list(reply), whole=True)[0] if isinstance(event, ToolCall)]
    assert pieces == [ToolCall(0, "call_0", "get_weather", '{"city":"Rome"}'),
                      ToolCall(1, "call_1", "write", '{"path":"a"}')]


def test_arguments_leave_as_they_come_but_the_last_brace_only_when_all_is_well():
    reply = written('{"path": "a", "content": "' + 100 * "x" + '"}')
    events = iter(split_calls([*map(Text, reply), Finish("stop")], open_mark=OPEN,
                              close_mark=CLOSE, tools=TOOLS, new_id=lambda: "call_1"))
    assert next(events) == ToolCall(0, "call_1", "write", "")
    pieces = [event.arguments for event in events if isinstance(event, ToolCall)]
    assert len(pieces) > 100
    assert pieces[-1] == "}"


def test_without_parallel_the_first_call_ends_the_reply_before_the_upstream_does():
    def upstream():
        yield Text(OPEN + WEATHER)
        raise AssertionError("read on after the first call")

    for whole in (False, True):
        events = [*split_calls(upstream(), open_mark=OPEN, close_mark=CLOSE, tools=TOOLS,
                               parallel=False, new_id=lambda: "call_1", whole=whole)]
        assert fold(events) == ("", [("call_1", "get_weather", '{"city":"Rome"}')], "tool_calls")


def test_without_parallel_a_wrapper_gives_one_call():
    assert outcome([raw(f"[{WEATHER}, {WEATHER}]")], parallel=False) == ("", [ROME], "tool_calls", [], None)


def test_other_events_pass_at_once_and_release_nothing():
    usage = Usage(1, 2)
    events = [Text("a" + OPEN[:4]), Waiting(), Reasoning("r"), Text(OPEN[4:] + WEATHER[:9]),
              Waiting(), Text(WEATHER[9:] + CLOSE[:3]), usage, Text(CLOSE[3:]), Finish("stop")]
    found = [*split_calls(events, open_mark=OPEN, close_mark=CLOSE, tools=TOOLS,
                          new_id=lambda: "call_1", whole=True)]
    call = ToolCall(0, "call_1", "get_weather", '{"city":"Rome"}')
    assert found == [Text("a"), Waiting(), Reasoning("r"), Waiting(), call, usage,
                     Finish("tool_calls")]


def test_plain_text_is_not_held():
    events = [Text("Hello"), Waiting(), Text(" <b> wor"), Waiting(), Text("ld"), Finish("stop")]
    assert [*split_calls(events, open_mark=OPEN, close_mark=CLOSE, tools=TOOLS,
                         new_id=str)] == events


def test_an_error_follows_its_unfit_and_no_call_piece_follows_either():
    events, error = run([written('{"path": "a", "lines": "many"}')])
    assert isinstance(events[-1], Misfit) and events[-1].error is error
    assert not complete("".join(e.arguments for e in events if isinstance(e, ToolCall)))
    assert error.code == "invalid_tool_arguments" and error.status == 502


def test_a_complaint_lists_ten_errors_at_most_and_no_long_values():
    edits = [{"at": "x" * 5000} for _ in range(20)]
    _, _, _, [complaint], _ = outcome([call("write", {"path": "a", "edits": edits})])
    assert Counter(complaint)["\n"] == 10 and len(complaint) < 4000


def test_names_that_fit_two_tools_alike_are_unknown():
    twins = [tool("a_b"), tool("aB")]
    for name, expected in (("a_b", 1), ("aB", 1), ("AB", 0)):
        events = [Text(raw(f'{{"name": "{name}"}}')), Finish("stop")]
        found = fold(split_calls(events, open_mark=OPEN, close_mark=CLOSE, tools=twins,
                                 new_id=lambda: "call_1"))
        assert len(found[1]) == expected


@pytest.mark.parametrize("parameters, arguments", [
    ({"$ref": "https://example.invalid/schema.json"}, {"a": 1}),
    ({"$ref": "#"}, {"a": 1}),
    ({"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}, {"a": {"b": 1}}),
    ({"type": "nonsense"}, {"a": 1}), ({"required": True}, {"a": 1}),
    ({"required": [{}, 5]}, {"a": 1}),
    ({"properties": 5, "allOf": 5, "anyOf": []}, {"a": 1}),
    ({"type": "object", "patternProperties": {"^(a+)+$": {}}, "additionalProperties": False},
     {"a" * 40 + "b": 1}),
    ({"type": "object", "properties": {"pattern": {"pattern": "^(a+)+$"}}},
     {"pattern": "a" * 40 + "b"}),
    (True, {"a": 1}), (None, {"a": 1}), ({}, {"a": 1}),
])
def test_a_hostile_schema_neither_hangs_nor_fetches_nor_fails(parameters, arguments):
    tools = [SimpleNamespace(name="x", kind="function", parameters=parameters)]
    marked = call("x", arguments)
    for reply in (marked, marked[len(OPEN):-len(CLOSE)]):
        events = split_calls([Text(reply), Finish("stop")], open_mark=OPEN, close_mark=CLOSE,
                             tools=tools, new_id=lambda: "call_1")
        text, calls, _ = fold(events)
        assert text or json.loads(calls[0][2]) == arguments
        assert calls or reply is not marked


def test_a_schema_is_checked_even_where_patterns_were_dropped():
    assert outcome([call("grep", {"pattern": "a" * 40 + "b"})])[2] == "tool_calls"
    assert outcome([call("grep", {"pattern": ["x"]})])[4] == "invalid_tool_arguments"


@pytest.mark.parametrize("size", [200_000, 1_000_000])
def test_large_payloads_arrive_intact(size):
    content = ('{"a": "😀\\n<b>" }' * size)[:size]
    reply = call("write", {"path": "a", "content": content})
    for step in (7, 1000, len(reply)):
        pieces = [reply[at:at + step] for at in range(0, len(reply), step)]
        assert outcome(pieces)[1] == [("write", {"path": "a", "content": content})]


@pytest.mark.parametrize("begin", ['{"name": "write", "arguments": {"path": "', '{"arguments": "'])
def test_a_call_beyond_the_cap_counts_as_cut(begin):
    pieces = ["a" + OPEN + begin] + [50_000 * "1"] * (toolcalls.LONGEST // 50_000 + 2)
    assert outcome(pieces) == ("a", [], "length", [], None)
    assert [note.why for note in notes(run(pieces)[0])] == ["longer than a call may be"]
