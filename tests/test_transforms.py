"""Each transform at every cut: the same effect, one Finish, nothing lost and nothing doubled."""

import re
import time

import pytest
from cuts import cuts, joined, spread
from hypothesis import given, settings
from hypothesis import strategies as st

from cursor2api.events import Finish, Note, Reasoning, Text, ToolCall, Misfit, Usage, Waiting
from cursor2api.effects.transforms import (count_usage, hide_thinking, limit_tokens, overlap, require_call,
                                   require_text, split_thinking, stop_at, units, whole_characters)
from cursor2api.tokens import tokens

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
    ("thinking that is closed before a call leaves the call", "<think>a</think>\n<call_1>b",
     [Reasoning("a"), Text("<call_1>b")]),
    ("a tag in the answer behind a thinking is text", "<think>a</think>say <think>b</think>",
     [Reasoning("a"), Text("say <think>b</think>")]),
    ("a call in each place", "<think>a<call_1>b</think>c<call_1>d",
     [Reasoning("a<call_1>b"), Text("c<call_1>d")]),
    ("each tag is closed by its own kind", "<thinking>a</think>b</thinking>c",
     [Reasoning("a</think>b"), Text("c")]),
    ("an opened tag within is thought", "<think>a<think>b</think>c", [Reasoning("a<think>b"), Text("c")]),
    ("marks that almost come are thought", "<think>a</th<call_</thinkx</think>b",
     [Reasoning("a</th<call_</thinkx"), Text("b")]),
    ("an empty thinking is none", "<think></think>b", [Text("b")]),
    ("a thinking and nothing else", "<think>a</think>\n", [Reasoning("a")]),
    ("white space without a tag stays", " \n a", [Text(" \n a")]),
    ("a tag of another name is text", "<thinkers>a</thinkers>", [Text("<thinkers>a</thinkers>")]),
    ("nothing", "", []),
]


@pytest.mark.parametrize("name, text, expected", THINKING, ids=[row[0] for row in THINKING])
def test_split_thinking(name, text, expected):
    at_every_cut(lambda events: split_thinking(events, "<call_1>"), text, [*expected, STOP])


@pytest.mark.parametrize("text, expected", [
    ("aé\ud83d\ude00b", "aé😀b"), ("\ud83da", "\ufffda"), ("a\ude00", "a\ufffd"), ("a\ud83d", "a\ufffd"),
    ("\ude00\ud83d\ud83d\ude00\ud83d", "\ufffd\ufffd😀\ufffd")], ids=ascii)
def test_characters_stay_whole(text, expected):
    for kind in (Text, Reasoning):
        for pieces in cuts(text):
            events = [*(kind(piece) for piece in pieces), Waiting(), Usage(1, 2), STOP]
            assert joined(whole_characters(events)) == [kind(expected), Usage(1, 2), STOP]


def test_without_tools_no_mark_ends_a_thinking():
    at_every_cut(split_thinking, "<think>a<call_1>b", [Reasoning("a<call_1>b"), STOP])


@pytest.mark.parametrize("finish", ["stop", "length", "content_filter"])
def test_a_thinking_keeps_the_finish_reason(finish):
    for text in ("<think>a", "<think>a</th", "<think>a<call_1>b", "<think>a</think>b", "<thi"):
        *_, last = split_thinking([Text(text), Usage(1, 2), Finish(finish)], "<call_1>")
        assert last == Finish(finish)


def test_hidden_thinking_is_a_sign_of_life():
    assert list(hide_thinking([Reasoning("a"), Text("b")])) == [Waiting(), Text("b")]


STOPS = [
    ("nothing of the sequence leaves", "one END two", ("END",), [Text("one ")], "END"),
    ("the one that completes first wins", "xabcd", ("abcd", "bc"), [Text("xa")], "bc"),
    ("of two that complete together the longer", "xabc", ("c", "abc"), [Text("x")], "abc"),
    ("a beginning of a sequence is released", "one EN", ("END",), [Text("one EN")], None),
    ("a sequence at the start", "END", ("END",), [], "END"),
    ("a repeated beginning", "aaab", ("aab",), [Text("a")], "aab"),
    ("one within the other", "xabcdy", ("abcd", "c"), [Text("xab")], "c"),
    ("one ends where the other begins", "xababc", ("babc", "abab"), [Text("x")], "abab"),
    ("only the first of two in a row", "aENDbEND", ("END",), [Text("a")], "END"),
    ("a line end", "a\n\nb", ("\n\n",), [Text("a")], "\n\n"),
    ("characters of many bytes", "a世界b", ("世界",), [Text("a")], "世界"),
    ("case matters", "end END", ("END",), [Text("end ")], "END"),
]


@pytest.mark.parametrize("name, text, sequences, expected, matched", STOPS, ids=[row[0] for row in STOPS])
def test_stop_at(name, text, sequences, expected, matched):
    at_every_cut(lambda events: stop_at(events, sequences), text, [*expected, Finish("stop", matched)])


@settings(deadline=None)
@given(st.text("ab", max_size=12),
       st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=4))
def test_the_sequence_that_completes_first_wins(text, sequences):
    end, at = min(((end, end - len(mark)) for end in range(len(text) + 1) for mark in sequences
                   if text[:end].endswith(mark)), default=(0, len(text)))
    expected = [Text(text[:at])] if at else []
    at_every_cut(lambda events: stop_at(events, tuple(sequences)), text,
                 [*expected, Finish("stop", text[at:end] or None)])


@pytest.mark.parametrize("mark, text", [
    (79_999 * "a" + "b", 200_000 * "a"), ("a" + 79_999 * "ab", 100_000 * "ab"),
    (80_000 * "a", 2 * (79_999 * "a" + "b")), (80_000 * "a" + "b", "b" + 80_000 * "a"),
    (40_000 * "ab" + "c", 200_000 * "b")], ids=lambda each: each[-3:])
def test_a_long_sequence_costs_each_character_the_same(mark, text):
    for step in (1, 999, len(text)):
        pieces = [Text(text[at:at + step]) for at in range(0, len(text), step)]
        begun = time.process_time()
        *texts, last = stop_at([*pieces, STOP], (mark, mark[1:] + "!"))
        assert overlap(text, mark) < len(mark)
        assert time.process_time() - begun < 5  # a quiet machine needs a tenth of that
        assert "".join(event.text for event in texts) == text and last == STOP


@settings(deadline=None)
@given(st.text("ab", max_size=8), st.text("ab", min_size=1, max_size=5))
def test_overlap_is_the_longest_beginning_of_a_mark(text, mark):
    assert overlap(text, mark) == max(
        size for size in range(len(mark)) if size <= len(text) and text.endswith(mark[:size]))


def test_no_sequence_reaches_over_a_call():
    call = ToolCall(0, "call_1", "f", "END")
    assert list(stop_at([Text("aEN"), call, Text("D"), STOP], ("END",))) == [
        Text("a"), Text("EN"), call, Text("D"), STOP]


def test_a_stop_after_a_call_finishes_with_the_call():
    call = ToolCall(0, "call_1", "f", "{}")
    assert list(stop_at([call, Text("aEND")], ("END",))) == [call, Text("a"), Finish("tool_calls", "END")]


LIMITS = [
    ("four characters are a token", "abcdefghi", 2, [Text("abcdefgh"), Finish("length")]),
    ("what fits exactly is not cut", "abcdefgh", 2, [Text("abcdefgh"), STOP]),
    ("another character is a token", "世界a", 2, [Text("世界"), Finish("length")]),
    ("a character is never torn", "ab😀", 1, [Text("ab"), Finish("length")]),
    ("nothing follows a character that did not fit", "ab😀cd", 1, [Text("ab"), Finish("length")]),
    ("a first character that does not fit", "abcd😀", 1, [Text("abcd"), Finish("length")]),
    ("all kinds", "a世b😀c", 3, [Text("a世b😀c"), STOP]),
    ("all kinds, cut", "a世b😀cde", 3, [Text("a世b😀cd"), Finish("length")]),
]


@pytest.mark.parametrize("name, text, limit, expected", LIMITS, ids=[row[0] for row in LIMITS])
def test_limit_tokens(name, text, limit, expected):
    at_every_cut(lambda events: limit_tokens(events, limit), text, expected)


def test_arguments_count_for_the_limit():
    events = [ToolCall(0, "call_1", "f", '{"a":'), ToolCall(0, None, None, '"b"}')]
    assert joined(limit_tokens(events, 2)) == [ToolCall(0, "call_1", "f", '{"a":"b"'),
                                               Note("cut by max_tokens", "f", "call_1"), Finish("length")]


@pytest.mark.parametrize("call", [
    [ToolCall(0, "call_1", "f", "{}")],  # whole
    [ToolCall(0, "call_1", "f", ""), ToolCall(0, None, None, "{"), ToolCall(0, None, None, "}")]], ids=len)
@pytest.mark.parametrize("text, limit", [("abcd", 1), ("世", 1)])
def test_nothing_leaves_of_a_call_that_could_pass_for_one_without_arguments(text, limit, call):
    assert list(limit_tokens([Text(text), *call, Finish("tool_calls")], limit)) == [
        Text(text), Note("cut by max_tokens", "f"), Finish("length")]


def test_a_call_that_leaves_in_one_piece_is_not_torn():
    events = [ToolCall(0, "call_1", "f", '{"a":1}'), Finish("tool_calls")]
    assert list(limit_tokens(events, 1)) == [Note("cut by max_tokens", "f"), Finish("length")]


def test_thinking_does_not_count_for_the_limit():
    events = [Reasoning("x" * 99), Text("abcd"), STOP]
    assert list(limit_tokens(events, 1)) == events


@settings(deadline=None)
@given(st.text(max_size=20), st.text(max_size=20))
def test_sizes_add_up_wherever_a_text_is_cut(one, other):
    assert units(one) + units(other) == units(one + other)
    assert tokens(one) == -(-units(one) // 4) == -(-sum(1 if ord(c) < 128 else 4 for c in one) // 4)


CALL = ToolCall(0, "call_1", "f", "{}")
EMPTY = [
    ("nothing", [STOP], True),
    ("white space", [Text(" \n"), Text("\t"), STOP], True),
    ("thinking alone", [Reasoning("a"), STOP], True),
    ("text", [Text(" "), Text("a"), STOP], False),
    ("a call", [CALL, Finish("tool_calls")], False),
    ("nothing within the limit", [Finish("length")], False),
]


@pytest.mark.parametrize("name, events, unfit", EMPTY, ids=[row[0] for row in EMPTY])
def test_an_empty_reply_is_unfit(name, events, unfit):
    out = list(require_text(events))
    assert [event for event in out if type(event) is not Misfit] == events
    assert [event.error.code for event in out if type(event) is Misfit] == ["empty_reply"] * unfit


@pytest.mark.parametrize("said, text", [
    ("*", ""), ("\n*", ""), ("*\n", ""), ("\n\n* \t*\n*\n", ""), ("a\n*\n*\n", "a\n"), ("*\n*\nb ", "\nb "),
    ("\n*\nb\n*\n", "\nb\n"), ("\n* b", " b"), ("a*\n b*", "a\n b")])
@pytest.mark.parametrize("finish", ["tool_calls", "length"])
def test_white_space_leaves_only_with_a_word_that_no_call_parts_it_from(said, text, finish):
    for pieces in cuts(said):
        parts = [part for piece in pieces for part in re.split(r"(\*)", piece) if part]
        *out, last = require_text([*(CALL if part == "*" else Text(part) for part in parts), Finish(finish)])
        assert "".join(event.text for event in out if type(event) is Text) == text
        assert [event for event in out if type(event) is ToolCall] == [CALL] * said.count("*")
        assert last == Finish(finish) and Misfit not in map(type, out)


TRANSFORMS = {
    "split_thinking": split_thinking,
    "split_thinking at a mark": lambda events: split_thinking(events, "<c>"),
    "hide_thinking": hide_thinking, "stop_at": lambda events: stop_at(events, ("END", "\n")),
    "limit_tokens": lambda events: limit_tokens(events, 5), "require_text": require_text,
    "require_call": lambda events: require_call(events, True),
    "count_usage": lambda events: count_usage(events, 1)}
EVENTS = st.one_of(
    st.sampled_from(["<think>", "</think>", "<c>", "<", "E", "END", "a", " ", ""]).map(Text),
    st.sampled_from([Reasoning("r"), Waiting(), Usage(1, 2), ToolCall(0, None, None, "1"), Note("n")]))


@pytest.mark.parametrize("name", TRANSFORMS)
@settings(deadline=None)
@given(st.lists(EVENTS, max_size=12),
       st.sampled_from(["stop", "length", "tool_calls", "content_filter"]))
def test_a_transform_puts_out_one_finish_as_the_last(name, events, reason):
    out = list(TRANSFORMS[name]([*events, Finish(reason)]))
    assert [type(event) for event in out].count(Finish) == 1 and type(out[-1]) is Finish
    if name not in ("stop_at", "limit_tokens"):
        assert out[-1].reason == reason
        assert sum(type(event) is ToolCall for event in out) == sum(
            type(event) is ToolCall for event in events)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_what_is_held_leaves_before_a_call(name):
    events = [Text("a"), Text("E"), CALL, Finish("tool_calls")]
    assert joined(TRANSFORMS[name](events))[:2] == [Text("aE"), CALL]


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_transform_lets_waiting_through_at_once(name):
    out = TRANSFORMS[name](iter([Text("<"), Waiting(), Waiting(), STOP]))
    assert sum(type(event) is Waiting for event in out) == 2


@pytest.mark.parametrize("insist", [True, False])
def test_a_reply_without_a_call_is_unfit(insist):
    unfit = list(require_call([Text("a"), STOP], insist))[1]
    assert type(unfit) is Misfit and (unfit.error is None) == insist
    call = ToolCall(0, "call_1", "f", "{}")
    assert list(require_call([call, STOP], insist)) == [call, STOP]


def test_usage_is_the_upstreams_or_an_estimate():
    theirs = Usage(5, 6)
    assert list(count_usage([theirs, Text("a"), STOP], 9)) == [Text("a"), theirs, STOP]
    assert list(count_usage([Usage(1, 1), theirs, STOP], 9)) == [theirs, STOP]
    events = [Reasoning("abcde"), Text("abcde"), ToolCall(0, "call_1", "name", "{}"), STOP]
    assert list(count_usage(events, 9))[-2] == Usage(9, 5, 2, source="estimate")
    for pieces in cuts("abcde世"):
        *_, usage, _ = count_usage([*spread(pieces), STOP], 9)
        assert usage == Usage(9, tokens("abcde世"), 0, source="estimate")
