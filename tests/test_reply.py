"""A whole reply, from what the upstream says to both encoders: made of text, envelopes, tags, thinking,
noise, stop sequences and limits, cut anywhere."""

import json
from itertools import pairwise

import pytest
from chats import parse
from hypothesis import event, given, settings
from hypothesis import strategies as st
from test_encode import whole
from test_toolcalls import raw
from wire import chunks, completion, folded, record, writer

from cursor2api.errors import ApiError
from cursor2api.events import Finish, Reasoning, Text, Usage, Waiting
from cursor2api.prompt import plan
from cursor2api.effects.reply import ReplyRules, reply
from cursor2api.server.sse import stream as sse_stream

NONCE = "k3f9x2"  # that of test_toolcalls' marks
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": CITY}},
         {"type": "function", "function": {"name": "get_time"}}]


class Stream:
    """What an upstream says, turn by turn; `asked` are the prompts of the turns behind the first."""

    def __init__(self, *turns):
        self.turns, self.asked = list(turns), []

    def __iter__(self):
        return iter(self.turns.pop(0))

    def follow_up(self, prompt, text):
        self.asked.append(prompt.text)

    def renew(self, error):
        return False

    def settle(self):
        pass


def chat_of(**options):
    return parse(json.dumps({"model": "m", "messages": [{"role": "user", "content": "Hi"}],
                             **options}).encode())


def said(stream, chat, **terms):
    """((content, reasoning, calls, finish, usage) of the chunks put together, error's code, notes)."""
    made, texts, notes, ids = plan(chat, "m", (), NONCE), [], [], iter(range(10**6))
    code = None
    events = reply(stream, chat, made, ReplyRules(**terms), lambda: f"call_{next(ids)}", notes.append)
    try:
        for text in chunks(((0, event) for event in events), writer(include_usage=True), record()):
            texts.append(text)
    except ApiError as error:
        code = error.code
    choices, usage = folded(texts)
    kept = choices[0]
    return ((kept["content"], kept["reasoning_content"], list(kept["calls"].values()), kept["finish"], usage),
            code, [(note.why, note.name) for note in notes])


def body(stream, chat, **terms):
    """The same of the completion, whose calls are all whole."""
    made, notes, ids = plan(chat, "m", (), NONCE), [], iter(range(10**6))
    events = reply(stream, chat, made, ReplyRules(hold=True, **terms), lambda: f"call_{next(ids)}", notes.append)
    try:
        *_, text = completion(((0, event) for event in events), writer(), record())
        whole_body = json.loads(text)
        choice, message = whole_body["choices"][0], whole_body["choices"][0]["message"]
        return (message["content"] or "", message.get("reasoning_content", ""),
                [[call["id"], *call["function"].values()] for call in message.get("tool_calls", ())],
                choice["finish_reason"], whole_body["usage"]), None, [(note.why, note.name) for note in notes]
    except ApiError as error:
        return None, error.code, [(note.why, note.name) for note in notes]


def spoken(text, cuts, finish, extra=None, place=0):
    """Events of a text cut at these places, with Waiting between and an extra event at a place."""
    place = min(place, len(text))
    bounds = [0, *sorted(min(cut, len(text)) for cut in [*cuts, *[place] * bool(extra)]), len(text)]
    for begin, end in pairwise(bounds):
        if extra and begin == place:
            yield extra
            extra = None
        if begin < end:
            yield Text(text[begin:end])
        yield Waiting()
    yield from [extra] if extra else ()
    yield Finish(finish)


def call(arguments, name="get_weather"):
    return raw(json.dumps({"name": name, "arguments": arguments}))


WEATHER = call({"city": "Rome"})
TEXTS = st.text(st.sampled_from("abE <>{}\"\n`é😀"), max_size=10) | st.sampled_from(
    ["END", "EN", "```json\n", "<call_", " the end", "\n\n"])
CALLS = st.builds(call, st.fixed_dictionaries({"city": st.text(max_size=9) | st.just("END<call_")})) | (
    st.sampled_from([WEATHER, call({}, "get_time"), call({"city": 1}),
                     raw('{"arguments": {}, "name": "get_time"}')]))
NOISE = st.sampled_from([
    WEATHER[:14], WEATHER[-15:], "</think>", "<thinking>", "<|tool_call|>", '"', "\\", "}", "]", "{", ",", "NaN",
    '{"city": "Rome"}', '{"a": [1, 2], "b": "END"}', '{"name": "get_weather", "arguments": {"city": "Rome"}}'])
DAMAGED = st.builds(lambda text, at, junk, drop: text[:at] + junk + text[at + drop:],
                    CALLS, st.integers(0, 70), st.just("") | NOISE, st.integers(0, 3))
THOUGHTS = st.sampled_from(["", "", "", "<think>hm</think>", " <thinking>hm\n</thinking>\n\n", "<think>hm",
                            f"<think>{WEATHER}</think>", "<thi"])
REPLIES = st.builds(lambda thought, parts: thought + "".join(parts), THOUGHTS,
                    st.lists(TEXTS | CALLS | DAMAGED | NOISE, max_size=5))
CHATS = st.fixed_dictionaries({}, optional={
    "stop": st.sampled_from(["END", ["\n\n", "E"], ["}", "ab", " "], ["<call"]]),
    "max_tokens": st.integers(1, 12),
    "response_format": st.sampled_from([{"type": "json_object"}, {"type": "json_schema", "json_schema": {
        "name": "x", "schema": CITY}}])}).flatmap(lambda options: st.fixed_dictionaries(
            {key: st.just(value) for key, value in options.items()}, optional={
                "tools": st.just(TOOLS)})).flatmap(lambda options: st.fixed_dictionaries(
                    {key: st.just(value) for key, value in options.items()}, optional={
                        "tool_choice": st.sampled_from(["none", "required", TOOLS[0]]),
                        "parallel_tool_calls": st.just(False)} if "tools" in options else {}))
EXTRAS = st.sampled_from([(), (), (Reasoning("r"),), (Reasoning("r"), 9), (Usage(5, 6), 5)])
CUTS = st.lists(st.integers(0, 200), max_size=4)


@settings(max_examples=400, deadline=None)
@given(REPLIES, REPLIES, CHATS, CUTS, st.sampled_from(["stop", "length"]), EXTRAS, st.booleans(), st.booleans())
def test_a_reply_keeps_the_contract_however_it_is_cut(
        first, second, options, cuts, finish, extra, thinking, in_pieces):
    chat, terms = chat_of(**options), {"expose_thinking": thinking, "whole_calls": not in_pieces}
    results, bodies = [], []
    for places in ([], cuts, range(200)):
        def stream():
            return Stream(spoken(first, places, finish, *extra), spoken(second, places, finish, *extra))
        asked = stream()
        results.append(said(asked, chat, hold=False, **terms) + (asked.asked,))
        asked = stream()
        bodies.append(body(asked, chat, **terms) + (asked.asked,))
    assert results[1:] == results[:-1] and bodies[1:] == bodies[:-1]

    (content, reasoning, calls, reason, usage), code, notes, asked = results[0]
    assert (reason is None) == (usage is None) == (code is not None)
    cut = [call for call in calls if not whole(call[2])]
    if cut:
        assert cut == calls[-1:] and cut[0][2] and (code or reason == "length") and notes
    if reason and reason != "length":
        assert (reason == "tool_calls") == bool(calls)
    for _, name, arguments in calls[:len(calls) - len(cut)]:
        assert name in ("get_weather", "get_time") and isinstance(json.loads(arguments), dict)
    if "tools" not in options or options.get("tool_choice") == "none":
        assert not calls
    if "parallel_tool_calls" in options:
        assert len(calls) <= 1
    if not thinking:
        assert not reasoning
    if not (asked or bodies[0][3] or code):
        event("a reply that needs no repair")
        kept = content, reasoning, calls[:len(calls) - len(cut)], reason, usage
        assert bodies[0] == (kept, None, notes, [])


WORDS = st.text(st.sampled_from("ab c.END\n"), max_size=12)
CITIES = st.text(st.sampled_from("abcEND "), max_size=8)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(["", "<think>hm END</think>"]), st.lists(st.tuples(WORDS, CITIES), max_size=3), WORDS, CUTS,
       st.none() | st.sampled_from(["END", "b c"]), st.none() | st.integers(1, 12), st.booleans())
def test_nothing_is_lost_and_nothing_doubled(thought, parts, tail, cuts, stop, limit, in_pieces):
    options = {key: value for key, value in (("stop", stop), ("max_tokens", limit)) if value}
    text = thought + "".join(words + call({"city": city}) for words, city in parts) + tail
    found, code, _ = said(Stream(spoken(text, cuts, "stop"), spoken("again", (), "stop")),
                          chat_of(tools=TOOLS, **options), hold=False, whole_calls=not in_pieces)

    texts, calls, left, finish = [], [], 4 * (limit or 10**6), None
    for at, (words, city) in enumerate([*parts, (tail, None)]):
        if thought and not any(texts) and not calls:
            words = words.lstrip()
        kept, stopped = words, stop and stop in words
        if stopped:
            kept = words[:words.index(stop)]
        texts.append(kept[:left])
        if len(kept) > left:
            finish = "length"
            break
        left -= len(kept)
        if stopped or city is None:
            finish = "tool_calls" if calls else "stop"
            break
        arguments = json.dumps({"city": city}, separators=(",", ":"))
        if len(arguments) > left:
            if in_pieces and left:
                calls.append(arguments[:left])
            finish = "length"
            break
        left -= len(arguments)
        calls.append(arguments)
    if not ("".join(texts).strip() or calls or finish == "length"):  # then it is asked for again
        assert found[0] == "again"[:4 * (limit or 9)]
        return
    assert code is None
    content = "".join(text for text in texts if text.strip() or not calls)
    assert (found[0], [call[2] for call in found[2]], found[3]) == (content, calls, finish)


@pytest.mark.parametrize("events", [[], [Text("a")], [Text("a"), Usage(1, 2), Waiting()],
                                    [Text(WEATHER)], [Text(WEATHER[:30])], [Reasoning("a")]], ids=str)
def test_a_stream_that_just_ends_is_no_reply(events):
    for more in ({}, {"tools": TOOLS}, {"stop": "~", "max_tokens": 99}):
        chat = chat_of(**more)
        made = plan(chat, "m", (), NONCE)
        for hold in (False, True):
            def pairs():
                return ((0, each) for each in reply(Stream(events), chat, made, ReplyRules(hold), str, print))
            wire = b"".join(sse_stream(writer(), pairs(), record(), "off", 1))
            assert b"[DONE]" not in wire and b'"internal_error"' in wire
            assert b'"finish_reason":"' not in wire
            with pytest.raises(RuntimeError, match="without a Finish"):
                list(completion(pairs(), writer(), record()))


@pytest.mark.parametrize("exposed", [False, True])
def test_the_estimate_counts_thinking_that_is_hidden(exposed):
    (_, reasoning, _, _, usage), _, _ = said(Stream([Reasoning("abcde"), Text("<think>abc</think>abcd"),
                                                     Finish("stop")]),
                                             chat_of(), hold=False, expose_thinking=exposed)
    assert usage["completion_tokens"] == 3 and usage["source"] == "estimate"
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 2
    assert reasoning == ("abcdeabc" if exposed else "")
