"""Each transform at every cut: the same effect, one Finish, nothing lost and nothing doubled."""

import pytest
from cuts import cuts, joined, spread

from cursor2api.events import Finish, Reasoning, Text, ToolCall, Unfit, Usage, Waiting
from cursor2api.transforms import (count_usage, hide_thinking, limit_tokens, require_call, require_text,
                                   split_thinking, stop_at, tokens)

STOP = Finish("stop")


def at_every_cut(transform, text, expected):
    for pieces in cuts(text):
        assert joined(transform([*spread(pieces), STOP])) == expected, pieces


THINKING = [
    ("a thinking is split off", "<thinking>a</thinking>\n\nb", [Reasoning("a"), Text("b")]),
    ("the short tag too", " <think>a</think>b", [Reasoning("a"), Text("b")]),
    ("a tag quoted later is text", "b <thinking>a</thinking>", [Text("b <thinking>a</thinking>")]),
    ("a second thinking is text", "<think>a</think>b<think>c</think>",
     [Reasoning("a"), Text("b<think>c</think>")]),
    ("a fake-out is text", "<thin ice", [Text("<thin ice")]),
    ("a beginning of a tag alone is text", "<thinki", [Text("<thinki")]),
    ("a thinking without end is thinking", "<think>a</thi", [Reasoning("a</thi")]),
    ("a call ends a thinking without end", "<think>a<call_1>b", [Reasoning("a"), Text("<call_1>b")]),
    ("a call within a thinking is thought", "<think>a<call_1>b</think>c",
     [Reasoning("a<call_1>b"), Text("c")]),
]


@pytest.mark.parametrize("name, text, expected", THINKING, ids=[row[0] for row in THINKING])
def test_split_thinking(name, text, expected):
    at_every_cut(lambda events: split_thinking(events, "<call_1>"), text, [*expected, STOP])


def test_hidden_thinking_is_a_sign_of_life():
    assert list(hide_thinking([Reasoning("a"), Text("b")])) == [Waiting(), Text("b")]


STOPS = [
    ("nothing of the sequence leaves", "one END two", ("END",), [Text("one ")]),
    ("the one that completes first wins", "xabcd", ("abcd", "bc"), [Text("xa")]),
    ("of two that complete together the longer", "xabc", ("c", "abc"), [Text("x")]),
    ("a beginning of a sequence is released", "one EN", ("END",), [Text("one EN")]),
    ("a sequence at the start", "END", ("END",), []),
    ("a repeated beginning", "aaab", ("aab",), [Text("a")]),
]


@pytest.mark.parametrize("name, text, sequences, expected", STOPS, ids=[row[0] for row in STOPS])
def test_stop_at(name, text, sequences, expected):
    at_every_cut(lambda events: stop_at(events, sequences), text, [*expected, STOP])


def test_a_stop_after_a_call_finishes_with_the_call():
    call = ToolCall(0, "call_1", "f", "{}")
    assert list(stop_at([call, Text("aEND")], ("END",))) == [call, Text("a"), Finish("tool_calls")]


LIMITS = [
    ("four characters are a token", "abcdefghi", 2, [Text("abcdefgh"), Finish("length")]),
    ("what fits exactly is not cut", "abcdefgh", 2, [Text("abcdefgh"), STOP]),
    ("another character is a token", "世界a", 2, [Text("世界"), Finish("length")]),
    ("a character is never torn", "ab😀", 1, [Text("ab"), Finish("length")]),
]


@pytest.mark.parametrize("name, text, limit, expected", LIMITS, ids=[row[0] for row in LIMITS])
def test_limit_tokens(name, text, limit, expected):
    at_every_cut(lambda events: limit_tokens(events, limit), text, expected)


def test_arguments_count_for_the_limit():
    events = [ToolCall(0, "call_1", "f", '{"a":'), ToolCall(0, None, None, '"b"}')]
    assert joined(limit_tokens(events, 2)) == [ToolCall(0, "call_1", "f", '{"a":"b"'), Finish("length")]


def test_an_empty_reply_is_unfit():
    assert [type(event) for event in require_text([Text(" "), STOP])] == [Text, Unfit, Finish]
    assert list(require_text([Text("a"), STOP])) == [Text("a"), STOP]


@pytest.mark.parametrize("insist", [True, False])
def test_a_reply_without_a_call_is_unfit(insist):
    unfit = list(require_call([Text("a"), STOP], insist))[1]
    assert type(unfit) is Unfit and (unfit.error is None) == insist
    call = ToolCall(0, "call_1", "f", "{}")
    assert list(require_call([call, STOP], insist)) == [call, STOP]


def test_usage_is_the_upstreams_or_an_estimate():
    given = Usage(5, 6)
    assert list(count_usage([given, Text("a"), STOP], 9)) == [Text("a"), given, STOP]
    for pieces in cuts("abcde世"):
        *_, usage, _ = count_usage([*spread(pieces), STOP], 9)
        assert usage == Usage(9, tokens("abcde世"), 0, source="estimate")
