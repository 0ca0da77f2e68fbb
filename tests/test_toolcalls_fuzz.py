"""Replies made of text, envelopes good and damaged, tags and noise, cut anywhere."""

import json
import re
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from test_jsonstream import completed
from test_toolcalls import CLOSE, OPEN, WEATHER, call, complete, fold, notes, raw, run

from cursor2api.events import Finish, Text, ToolCall, Misfit

ARGUMENTS = st.fixed_dictionaries({"path": st.text(max_size=12)}, optional={
    "content": st.text(max_size=40) | st.sampled_from([CLOSE, OPEN, 'a "b", "c": {', "<", "\\"]),
    "lines": st.integers() | st.just("7"), "force": st.booleans()})
CALLS = st.builds(call, st.just("write"), ARGUMENTS) | st.sampled_from([
    raw(WEATHER), raw("[" + WEATHER + "]"), raw('{"arguments": {"path": "a"}, "name": "write"}')])
TEXTS = st.text(st.sampled_from("ab <>|/`{}\n\"é😀"), max_size=12) | st.sampled_from([
    "<call_", "<|tool", "```json\n", "</call>", "<tool_call>", "I call it.\n", OPEN[:-1]])
NOISE = st.sampled_from([
    OPEN, CLOSE, "<|tool_call|>", "<｜tool▁calls▁end｜>", '"', "\\", "}", "]", ",", "{", '{"name":',
    '"write", "arguments": {', '"path": "', "'", "NaN", WEATHER, "\n> ", '"id": "1",', "null"])
DAMAGED = st.builds(lambda text, at, junk, drop: text[:at] + junk + text[at + drop:],
                    CALLS, st.integers(0, 90), st.just("") | NOISE, st.integers(0, 3))
REPLIES = st.lists(CALLS | DAMAGED | TEXTS | NOISE, max_size=6).map("".join)


def folded(pieces, finish, **options):
    events, error = run(pieces, finish, **options)
    return (*fold(events), [e.complaint for e in events if isinstance(e, Misfit)],
            [(note.why, note.name) for note in notes(events)],
            error and error.code)


@settings(max_examples=300, deadline=None)
@given(REPLIES, st.lists(st.integers(0, 300), max_size=4), st.sampled_from(["stop", "length"]),
       st.booleans())
def test_the_outcome_depends_on_the_text_alone(reply, cuts, finish, parallel):
    expected = folded([reply], finish, parallel=parallel)
    bounds = [0, *sorted(cuts), len(reply)]
    pieces = [reply[begin:end] for begin, end in pairwise(bounds)]
    for whole in (False, True):
        for cut in ([reply], list(reply), pieces):
            found = folded(cut, finish, parallel=parallel, whole=whole)
            assert found == expected


@settings(max_examples=500, deadline=None)
@given(REPLIES, st.booleans())
def test_every_stream_keeps_the_contract(reply, whole):
    events, error = run(list(reply), whole=whole)
    ends = [event for event in events if isinstance(event, Finish)]
    assert len(ends) == (not error)
    if ends:
        assert events[-1] is ends[0]
    joined = {}
    for event in events:
        if isinstance(event, ToolCall):
            joined[event.index] = joined.get(event.index, "") + event.arguments
            completed(joined[event.index] or "0")
    unfinished = [text for text in joined.values() if not complete(text)]
    assert len(unfinished) <= 1 and not (whole and unfinished)
    if unfinished:
        assert error or ends[0].reason == "length"
    if unfinished or ends and ends[0].reason == "length":
        assert notes(events)
    if not error:
        assert (ends[0].reason == "tool_calls") == (
            bool(joined) and not unfinished and ends[0].reason != "length")


PROSE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="<`"), max_size=30)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(PROSE, ARGUMENTS), min_size=1, max_size=3), PROSE, st.integers(1, 40))
def test_text_around_calls_is_neither_lost_nor_doubled(parts, tail, step):
    reply = "".join(prose + call("write", arguments) for prose, arguments in parts) + tail
    pieces = [reply[at:at + step] for at in range(0, len(reply), step)]
    text, calls, finish = fold(run(pieces)[0])
    assert text == "".join(prose for prose, _ in parts) + tail
    assert [json.loads(arguments) for _, _, arguments in calls] == [
        {**arguments, "lines": int(arguments["lines"])} if "lines" in arguments else arguments
        for _, arguments in parts]
    assert finish == "tool_calls"


@settings(max_examples=300, deadline=None)
@given(st.lists(TEXTS, max_size=8).map("".join), st.integers(1, 9))
def test_a_reply_without_marks_leaves_as_it_came(reply, step):
    pieces = [reply[at:at + step] for at in range(0, len(reply), step)]
    events, error = run(pieces)
    whole = "".join(event.text for event in events if isinstance(event, Text))
    if OPEN not in reply:
        kept = re.sub(r"< ?[|] ?/?tool[ a-b]*[|] ?>", "", reply)
        assert (whole, error, events[-1]) == (kept, None, Finish("stop"))
