"""What an agent knows, as a digest: which chats may go on with the same agent, and which must not."""

import json

import pytest
from chats import parse

from cursor2api.chat import WholeCall
from cursor2api.agents.fingerprint import Fingerprint

CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"b": 1, "a": [2]}'}}
MESSAGES = [
    {"role": "system", "content": "s"}, {"role": "user", "content": "u"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "call_1", "content": "r"}, {"role": "assistant", "content": "a"}]
NEW = {"role": "user", "content": "n"}
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {
    "a": {"type": "array"}, "b": {"type": "integer"}}}}}]


def prefix(messages, terms=("ann", "m"), **options):
    body = {"model": "m", "tools": TOOLS, "messages": messages, **options}
    return Fingerprint(parse(json.dumps(body).encode()), *terms)


def changed(at, **fields):
    messages = json.loads(json.dumps(MESSAGES))
    messages[at].update(fields)
    return [*messages, NEW]


def called(**fields):
    return changed(2, tool_calls=[{**CALL, "function": {**CALL["function"], **fields}}])


IMAGE = {"type": "image_url", "image_url": {"url": "https://h/a.png"}}
EQUAL = [
    ("another new message", [*MESSAGES, {"role": "user", "content": "x"}]),
    ("several new messages", [*MESSAGES, NEW, {"role": "system", "content": "x"}, NEW]),
    ("white space at the ends", changed(1, content="\n u\t")),
    ("white space at the ends of a reply", changed(4, content="a\n\n")),
    ("white space at the ends of a result", changed(3, content=" r ")),
    ("one part", changed(1, content=[{"type": "text", "text": "u"}])),
    ("empty parts beside it", changed(1, content=[{"type": "text", "text": text} for text in ("u", "", " ")])),
    ("an empty text instead of null", changed(2, content="")),
    ("developer", changed(0, role="developer")),
    ("reasoning", changed(4, reasoning_content="x", reasoning="y")),
    ("refusal null", changed(4, refusal=None, annotations=[], audio=None)),
    ("arguments in another order", called(arguments='{"a":[2],"b":1}')),
    ("a number as JavaScript writes it", called(arguments='{"b": 1.0, "a": [2]}')),
    ("arguments as an object", called(arguments={"a": [2], "b": 1})),
    ("another id", changed(2, tool_calls=[{**CALL, "id": "callx1"}])[:3] + [
        {**MESSAGES[3], "tool_call_id": "callx1"}, *MESSAGES[4:], NEW]),
    ("the name of the tool beside its result", changed(3, name="f")),
]
OTHER = [
    ("another text", changed(1, content="v")), ("white space within", changed(0, content="s s")),
    ("another role", changed(0, role="user")), ("another result", changed(3, content="q")),
    ("another id", changed(3, tool_call_id="call_2")), ("a name", changed(1, name="x")),
    ("an image", changed(1, content=[{"type": "text", "text": "u"}, IMAGE])),
    ("other arguments", called(arguments='{"b": 2, "a": [2]}')), ("other function", called(name="g")),
    ("another number", called(arguments='{"b": 1.5, "a": [2]}')),
    ("arguments that are no JSON", called(arguments='{"b": 1, "a": [2]')),
    ("no call", changed(2, tool_calls=[], content="x")), ("two calls", changed(2, tool_calls=[CALL, CALL])),
    ("a message less", [*MESSAGES[1:], NEW]), ("a message more", [MESSAGES[0], *MESSAGES, NEW]),
    ("a reply more", [*MESSAGES, NEW, {"role": "assistant", "content": "x"}, NEW]),
]
KNOWN = prefix([*MESSAGES, NEW]).history


@pytest.mark.parametrize("messages", [row[1] for row in EQUAL], ids=[row[0] for row in EQUAL])
def test_what_does_not_count(messages):
    assert prefix(messages).history == KNOWN


@pytest.mark.parametrize("messages", [row[1] for row in OTHER], ids=[row[0] for row in OTHER])
def test_what_counts(messages):
    assert prefix(messages).history != KNOWN


@pytest.mark.parametrize("terms, options", [
    (("bob", "m"), {}), (("ann", "n"), {}), (("ann", "m", "x"), {}), (("an", "nm"), {}),
    (("ann", "m"), {"response_format": {"type": "json_object"}})], ids=str)
def test_the_terms_count(terms, options):
    assert prefix([*MESSAGES, NEW], terms, **options).history != KNOWN


@pytest.mark.parametrize("options", [
    {"tools": []}, {"tools": [*TOOLS, {"function": {"name": "g"}}]},
    {"tools": [{"function": {**TOOLS[0]["function"], "description": "d"}}]},
    {"tools": [], "functions": [TOOLS[0]["function"]]},
    {"tools": [{"function": {**TOOLS[0]["function"], "strict": True}}]}], ids=str)
def test_the_tools_do_not_count(options):
    assert prefix([*MESSAGES, NEW], **options).history == KNOWN


def test_results_are_those_of_their_calls_in_any_order():
    def talk(ids, results):
        calls = [{**CALL, "id": id} for id in ids]
        return prefix([*MESSAGES[:2], {"role": "assistant", "tool_calls": calls}, *(
            {"role": "tool", "tool_call_id": id, "content": text} for id, text in results),
            MESSAGES[4], NEW]).history
    known = talk("ab", [("a", "1"), ("b", "2")])
    assert known == talk("ab", [("b", "2"), ("a", "1")]) == talk("xy", [("x", "1"), ("y", "2")])
    assert known == talk("ba", [("a", "2"), ("b", "1")])
    assert known != talk("ab", [("a", "2"), ("b", "1")]) and known != talk("ab", [("a", "1")])


@pytest.mark.parametrize("messages", [MESSAGES, MESSAGES[:2], [NEW], [NEW, MESSAGES[4]]], ids=len)
def test_without_a_reply_or_anything_new_there_is_nothing_to_find(messages):
    assert prefix(messages).history is None


REPLIES = [
    ("text", " a\n", [], {"content": "a"}),
    ("a call", "", [WholeCall("call_9", "f", '{"a":[1]}')], {"content": None, "tool_calls": [
        {**CALL, "id": "call_9", "function": {"name": "f", "arguments": '{"a": [1]}'}}]}),
    ("text and calls", "So:", [WholeCall("x", "f", "{}"), WholeCall("y", "f", '{"b":1}')], {
        "content": "So:\n", "tool_calls": [{"id": "x", "function": {"name": "f"}},
                                           {"id": "y", "function": {"name": "f", "arguments": '{"b": 1}'}}]}),
    ("half a pair", "a\ud83d", [], None),
]


@pytest.mark.parametrize("text, calls, message", [row[1:] for row in REPLIES], ids=[row[0] for row in REPLIES])
def test_a_reply_has_the_digest_that_its_return_will_have(text, calls, message):
    digest = prefix([*MESSAGES, NEW]).after(text, calls)
    if message:
        assert digest == prefix([*MESSAGES, NEW, {"role": "assistant", **message}, NEW]).history
    assert digest != prefix([*MESSAGES, NEW]).after(text + "x", calls)


def test_an_old_function_call_comes_back_without_an_id():
    options = {"tools": [], "functions": [TOOLS[0]["function"]]}
    digest = prefix([NEW], **options).after("", [WholeCall("call_1", "f", '{"b":1}')])
    call = {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": '{"b": 1}'}}
    result = {"role": "function", "name": "f", "content": "r"}
    assert digest == prefix([NEW, call, result], **options).history


@pytest.mark.parametrize("arguments", ["[" * 99_999, "9" * 5_000, '{"a": NaN}', "", "\ud83d"],
                         ids=["deep", "digits", "NaN", "none", "surrogate"])
def test_no_arguments_are_a_fault(arguments):
    prefix(called(arguments=arguments))
    prefix([NEW]).after("", [WholeCall("a", "f", arguments)])
