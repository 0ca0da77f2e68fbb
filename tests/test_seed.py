"""An equal request with a seed gets the same reply again: what counts as equal, for whom, and for how long."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import MODEL, gateway, until
from test_reuse import folded
from test_service import WEATHER, events

from cursor2api.chat import Chat
from cursor2api.events import Finish, Text, Usage
from cursor2api.models import Choice, Model
from cursor2api.server.record import RequestRecord
from cursor2api.server.replay import Replay
from cursor2api.state.sqlite_store import SqliteStore
from cursor2api.state.store import Store

ASK = {"model": MODEL, "messages": [{"role": "user", "content": "Say something"}], "seed": 7}
KEYS = {"API_KEY": "ann:0000,bob:second-key", "EXPOSE_THINKING": "true"}


@pytest.fixture(scope="module")
def module_gate():
    with gateway(environ=KEYS) as one:
        yield one


@pytest.fixture
def gate(module_gate):
    """A gateway that has kept nothing of what the test asks: each asks of its own."""
    module_gate.simulator.forget()
    yield module_gate
    module_gate.simulator.forget()


def replies(gate, *texts, **more):
    """The upstream says these, one after the other, and then nothing but `again`."""
    gate.simulator.script({"replies": [*({"text": text, "times": 1, **more} for text in texts),
                                       {"text": "again", "times": 0, **more}]})


def ask(gate, body=ASK, key="0000", headers=None):
    response = gate.request("POST", "/v1/chat/completions", key, headers, json=body)
    assert response.status_code == 200, response.text
    return response


def kind(response):
    return response.headers["x-cursor2api-agent"]


def unlike(body, name):
    """The same body, which no other test has asked."""
    return {**body, "messages": [*body["messages"], {"role": "user", "content": name}]}


def whole(response):
    """(id, system_fingerprint, usage, text, thinking, finish) of a reply, streamed with its usage or not."""
    if "json" in response.headers["Content-Type"]:
        body = response.json()
        [choice] = body["choices"]
        said = choice["message"]["content"], choice["message"]["reasoning_content"], choice["finish_reason"]
    else:
        *chunks, body = map(json.loads, events(response)[:-1])
        deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
        texts = ("".join(delta.get(name) or "" for delta in deltas) for name in ("content", "reasoning_content"))
        said = *texts, chunks[-1]["choices"][0]["finish_reason"]
    return body["id"], body["system_fingerprint"], body["usage"], *said


@pytest.mark.parametrize("first, second", [(False, False), (True, True), (False, True), (True, False)])
def test_an_equal_request_gets_the_same_reply_with_an_id_of_its_own(gate, first, second):
    replies(gate, "one two three", thinking="hm")
    body = unlike({**ASK, "stream_options": {"include_usage": True}}, f"{first}{second}")
    made, again = (ask(gate, {**body, "stream": stream, "user": user}) for stream, user in (
        (first, "u"), (second, "v")))
    assert (kind(made), kind(again)) == ("new", "replay") and len(gate.agents()) == 1
    (id, *rest), (other, *same) = whole(made), whole(again)
    assert id != other and rest == same
    assert rest[0].startswith("fp_") and rest[2:] == ["one two three", "hm", "stop"]


@pytest.mark.parametrize("stream", [False, True], ids=["body", "stream"])
def test_calls_have_the_same_ids(gate, stream):
    asked = unlike(ASK, f"What is the weather in Paris? Use get_weather {stream}")
    body = {**asked, "tools": [WEATHER], "stream": stream}
    made, again = ask(gate, body), ask(gate, body)
    assert kind(again) == "replay" and folded(made)["tool_calls"] == folded(again)["tool_calls"] != []


def test_every_choice_is_kept(gate):
    replies(gate, "a", "b")
    body = {**unlike(ASK, "two"), "n": 2}
    made, again = (ask(gate, body).json() for _ in range(2))
    assert made["choices"] == again["choices"] and made["usage"] == again["usage"]
    assert sorted(choice["message"]["content"] for choice in again["choices"]) == ["a", "b"]


OTHERS = [
    ("another seed", {"seed": 8}), ("no seed", {"seed": None}), ("another text", {"messages": [
        {"role": "user", "content": "Say something else"}]}), ("another model", {"model": "gemini-3-flash"}),
    ("another limit", {"max_tokens": 50}), ("a stop", {"stop": ["x"]}),
    ("another temperature", {"temperature": 0.5}),
    ("a tool", {"tools": [WEATHER], "tool_choice": "none"}), ("two choices", {"n": 2}),
    ("another form", {"response_format": {"type": "json_object"}})]


def test_no_other_request_gets_it(gate):
    gate.simulator.script({"replies": [{"text": '{"a": 1}', "times": 0}]})
    body = unlike(ASK, "others")
    assert kind(ask(gate, body)) == "new"
    for _, change in OTHERS:
        other = {**body, **change}
        assert kind(ask(gate, other)) == "new", change
    assert kind(ask(gate, body, key="second-key")) == "new"
    assert kind(ask(gate, body, headers={"Cache-Control": "no-cache"})) == "new"
    assert kind(ask(gate, body)) == "replay"


def test_what_is_asked_anew_takes_the_place_of_what_was_kept(gate):
    replies(gate, "first", "second")
    body = unlike(ASK, "anew")
    said = [folded(ask(gate, body, headers=headers))["content"]
            for headers in (None, None, {"Cache-Control": "max-age=0, no-cache"}, None)]
    assert said == ["first", "first", "second", "second"]


BAD = [
    ("cut within a call", {"tools": [WEATHER], "max_tokens": 3},
     {"text": '{open}{"name": "get_weather", "arguments": {"city": "Oslo, a long way up north"}}{close}'}),
    ("failed", {}, {"text": "one", "status": "ERROR"})]


@pytest.mark.parametrize("more, reply", [row[1:] for row in BAD], ids=[row[0] for row in BAD])
@pytest.mark.parametrize("stream", [False, True], ids=["body", "stream"])
def test_what_is_not_good_is_not_kept(gate, stream, more, reply):
    gate.simulator.script({"replies": [{"times": 1, **reply}, {"text": "good", "times": 0}]})
    body = {**unlike(ASK, f"bad {stream} {reply['text']}"), **more, "stream": stream}
    gate.request("POST", "/v1/chat/completions", json=body)
    assert folded(ask(gate, body))["content"] == "good"


def test_equal_requests_at_the_same_time_wait_for_the_first():
    """From two workers; and when the first caller leaves, one of the others is answered in its place."""
    with gateway(environ={**KEYS, "WEB_CONCURRENCY": "2"}) as gate, ThreadPoolExecutor(8) as pool:
        replies(gate, delay=0.3, first=1)
        answers = [*pool.map(lambda _: ask(gate), range(8))]
        assert sorted(map(kind, answers)) == ["new"] + ["replay"] * 7 and len(gate.agents()) == 1
        body = unlike(ASK, "left")
        gate.simulator.script({"replies": [{"first": 60, "times": 1}, {"text": "again", "times": 0}]})
        leaving = gate.request("POST", "/v1/chat/completions", json={**body, "stream": True}, stream=True)
        assert until(lambda: len(gate.agents()) == 2)
        waiting = [pool.submit(ask, gate, body) for _ in range(4)]
        leaving.close()
        assert sorted(kind(each.result()) for each in waiting) == ["new"] + ["replay"] * 3


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("first", ["answered", "left"])
def test_who_waits_for_an_equal_request_hears_that_it_is_alive(stream, first):
    with gateway(environ={**KEYS, "FIRST_BYTE_S": "0.5", "HEARTBEAT_S": "0.1", "HEARTBEAT": "comment",
                          "BODY_HEARTBEAT_S": "0.2"}) as gate:
        gate.simulator.script({"replies": [
            {"text": "one two", "first": 3 if first == "answered" else 60, "times": 1},
            {"text": "three", "times": 1}]})
        made = gate.request("POST", "/v1/chat/completions", json={**ASK, "stream": True}, stream=True)
        assert until(lambda: len(gate.agents()) == 1)
        with gate.request("POST", "/v1/chat/completions", json={**ASK, "stream": stream}, stream=True) as waits:
            beats = waits.iter_lines()
            assert "x-cursor2api-agent" not in waits.headers and len(gate.agents()) == 1
            heard = [next(beats) for _ in range(5)]
            assert (b": keep-alive" in heard) if stream else set(heard) == {b""}
            if first == "left":
                made.close()
            said = b"\n".join(beats)
        assert (b"one two" in said) == (first == "answered") and (b"three" in said) == (first == "left")
        lines = until(lambda: len(found := gate.lines(route="chat_completions")) == 2 and found)
        assert lines[-1]["agent"] == ("replay" if first == "answered" else "new")


def test_those_who_wait_for_an_equal_request_hold_up_no_health_check():
    with gateway(environ={**KEYS, "THREADS": "8", "MAX_STREAMS": "4"}) as gate, ThreadPoolExecutor(20) as pool:
        replies(gate, "one two", first=3)
        asked = [pool.submit(gate.request, "POST", "/v1/chat/completions", json=ASK) for _ in range(20)]
        assert until(lambda: sum(each.done() for each in asked) >= 14)  # no more wait than slots let them
        assert not all(each.done() for each in asked) and gate.get("/health").ok
        kinds = [kind(each.result()) for each in asked if each.result().status_code == 200]
        assert kinds.count("new") == 1 and set(kinds) == {"new", "replay"}
        assert {each.result().status_code for each in asked} == {200, 503}


def test_a_reply_is_kept_for_its_time_and_no_longer():
    with gateway(environ={**KEYS, "SEED_REPLAY_S": "6"}) as gate:
        replies(gate, "first")
        assert [kind(ask(gate)) for _ in range(2)] == ["new", "replay"]
        assert until(lambda: time.sleep(0.2) or kind(ask(gate)) == "new")


@pytest.mark.parametrize("settings, key", [
    ({"SEED_REPLAY_S": "0"}, "0000"), ({"KEY_PASSTHROUGH": "true"}, "key-of-a-caller")], ids=["off", "own key"])
def test_nothing_is_kept_and_the_seed_is_reported_where_it_has_no_effect(settings, key):
    with gateway(environ={**KEYS, **settings}) as gate:
        for _ in range(2):
            response = ask(gate, key=key)
            assert kind(response) == "new" and response.headers["x-cursor2api-ignored"] == "seed"
            assert response.json()["system_fingerprint"].startswith("fp_")


def test_without_a_seed_there_is_no_fingerprint(gate):
    assert "system_fingerprint" not in ask(gate, {**ASK, "seed": None}).json()
    assert "x-cursor2api-ignored" not in ask(gate, unlike(ASK, "reported")).headers


@pytest.mark.parametrize("data", [b"", b"x", b"\xff", b"{}", b"[1]", b"[[[], [1], []]]",
                                  b'[[[["Tool", "x"]], [1, 2], ["stop"]]]'])
def test_what_is_no_reply_in_the_store_is_asked_anew(data):
    store = Store(SqliteStore())
    replay = Replay(store, 60, Chat("m", (), seed="1"), Choice(Model("m"), "m", (), False, False),
                    RequestRecord(time.monotonic), False)
    store.put("seed", replay._name, data, 60, 10**6)
    made = [(0, Text("made")), (0, Usage(1, 1)), (0, Finish("stop"))]
    assert [*replay.pairs(lambda: made, lambda: None, 0)] == made
    replay.end()
