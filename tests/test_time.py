"""Time: when a reply starts, what keeps it alive, and what ends it."""

import json
import time

import openai
import pytest
import requests
from conftest import MODEL, UPSTREAMS, gateway, settings_of, until
from test_service import events, fold, settled

from cursor2api.config import Config
from cursor2api.events import Finish, Text
from cursor2api.prompt import Briefing, Prompt
from cursor2api.simulator import serve
from cursor2api.start import make_upstream


BEAT = '"delta":{},"logprobs":null,"finish_reason":null'


@pytest.fixture(scope="module")
def slow():
    """Limits so short that a test can wait for them."""
    with gateway(environ={"BODY_HEARTBEAT_S": "0.3", "HEARTBEAT_S": "0.2", "FIRST_BYTE_S": "0.1",
                          "TOTAL_TIMEOUT": "6", "CREATE_TIMEOUT": "3", "TIMEOUT": "5"}) as gate:
        yield gate


def play(gate, **reply):
    gate.simulator.forget()
    gate.simulator.script({"replies": [{"text": "one two three", "times": 0, **reply}]})


def test_a_slow_body_starts_with_newlines_and_is_json(slow):
    play(slow, first=3)
    with slow.post({"model": MODEL, "messages": [{"role": "user", "content": "x"}]}, stream=True) as response:
        assert response.headers["x-cursor2api-usage"] == "in-body"
        raw = response.raw.read()
    body = raw.lstrip(b"\n")
    assert len(raw) - len(body) >= 2
    assert json.loads(body)["choices"][0]["message"]["content"] == "one two three"
    client = openai.OpenAI(base_url=slow.url + "/v1", api_key="0000", max_retries=0)
    play(slow, first=3)
    reply = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "x"}])
    assert reply.choices[0].message.content == "one two three"


def test_a_failure_after_a_body_has_begun_is_an_error_object_under_200(slow):
    play(slow, first=3, status="ERROR")
    response = slow.say()
    assert response.status_code == 200 and response.content.startswith(b"\n")
    assert response.json()["error"]["code"] == "run_failed" and "choices" not in response.json()
    assert until(lambda: slow.lines(why="run_failed", closed_by="upstream"))


def test_without_heartbeats_of_a_body_a_failure_keeps_its_status():
    with gateway(environ={"BODY_HEARTBEAT_S": "0", "TIMEOUT": "1"}) as gate:
        play(gate, stall_after=0)
        response = gate.say()
        assert response.status_code == 504 and response.content.startswith(b"{")


@pytest.mark.parametrize("stream", [False, True], ids=["body", "stream"])
def test_a_reply_over_the_total_limit_ends_and_is_cancelled(slow, stream):
    play(slow, text="word " * 1000, delay=0.05)
    response = slow.say(stream=stream)
    data = events(response)[-1] if stream else response.text
    assert json.loads(data)["error"]["code"] == "total_timeout"
    assert settled(slow) and slow.agents()[-1]["runs"][0]["status"] == "CANCELLED"


def test_an_agent_that_is_not_created_in_time_is_a_timeout_of_its_own_and_is_deleted():
    with gateway(environ={"CREATE_TIMEOUT": "1"}, boot=3) as gate:
        response = gate.say()
        assert response.status_code == 504 and response.json()["error"]["code"] == "create_timeout"
        assert settled(gate)


def test_an_agent_that_is_not_created_in_time_ends_a_stream_that_has_begun(slow):
    play(slow, boot=5)
    data = events(slow.say(stream=True))
    assert json.loads(data[-1])["error"]["code"] == "create_timeout"
    assert settled(slow)


@pytest.mark.parametrize("form, mark", [("chunk", BEAT), ("comment", ": keep-alive"), ("off", None)])
def test_a_heartbeat_is_what_was_asked_for(form, mark):
    with gateway(environ={"HEARTBEAT": form, "HEARTBEAT_S": "0.1"}) as gate:
        play(gate, text="one " * 500, delay=0.05, stall_after=1)
        with gate.say(stream=True) as response:
            lines = response.iter_lines(decode_unicode=True, chunk_size=1)
            if mark:
                beats = [line for line in lines_until(lines, mark, 3) if mark in line]
                assert form == "comment" or {chunk_id(beat) for beat in beats} == {chunk_id(beats[0])}
            else:
                assert "one" in next(line for line in lines if "one" in line)
        assert settled(gate), "a caller who leaves in a quiet minute ends the run"
        assert gate.agents()[-1]["runs"][0]["status"] == "CANCELLED"
        line = until(lambda: gate.lines(closed_by="caller"))[0]
        assert (int(line["heartbeats"]) >= 3) == bool(mark)


def lines_until(lines, mark, count):
    found = []
    for line in lines:
        found.append(line)
        if sum(mark in each for each in found) == count:
            return found


def chunk_id(line):
    return json.loads(line.removeprefix("data: "))["id"]


def test_a_heartbeat_of_cursor_counts_as_life(slow):
    with gateway(environ={"TIMEOUT": "2"}, heartbeat=0.2) as gate:
        play(gate, delay=3, text="a b")
        assert gate.say().json()["choices"][0]["message"]["content"] == "a b"


@pytest.mark.parametrize("stream", [False, True], ids=["body", "stream"])
def test_no_cache_and_no_buffer_in_between(gate, stream):
    response = gate.say(stream=stream)
    assert response.headers["Cache-Control"] == "no-cache"
    assert (response.headers.get("X-Accel-Buffering") == "no") == stream


def test_what_cursor_says_leaves_at_once(gate):
    gate.simulator.script({"replies": [{"text": "one two", "stall_after": 1}]})
    with gate.say(stream=True) as response:
        assert any("one" in line for line in lines_until(response.iter_lines(chunk_size=1, decode_unicode=True),
                                                         "one", 1))


def test_a_refusal_within_the_first_byte_time_is_a_status_and_after_it_a_frame():
    refuse = {"refuse": {"create": {"hang": 2, "status": 400, "message": "no", "times": 0}}}
    for first_byte, status in (("8", 400), ("0.1", 200)):
        with gateway(script=refuse, environ={"FIRST_BYTE_S": first_byte}) as gate:
            response = gate.say(stream=True)
            assert response.status_code == status
            error = json.loads(events(response)[-1] if status == 200 else response.text)["error"]
            assert "Cursor refused the request: no" in error["message"]


def test_the_first_byte_does_not_wait_for_a_slow_agent():
    with gateway(boot=5, environ={"FIRST_BYTE_S": "0.1"}) as gate:
        with gate.say(stream=True) as response:
            lines = response.iter_lines(decode_unicode=True)  # kept, as the connection ends with it
            assert '"role":"assistant"' in next(lines)
            assert until(gate.agents) and gate.agents()[0]["runs"][0]["status"] == "CREATING"
        assert settled(gate)


def test_a_stream_of_which_only_role_and_heartbeats_have_left_can_still_be_asked_for_again(slow):
    play(slow, create={"hang": 2, "status": 500, "times": 1})
    response = slow.say(stream=True)
    assert fold(response)[0] == "one two three" and BEAT in response.text
    assert len(slow.agents()) == 1


def test_a_stream_folds_to_its_text_whatever_the_heartbeat(slow):
    play(slow, first=0.6, delay=0.3)
    assert fold(slow.say(stream=True))[0] == "one two three"
    assert requests.get(slow.url + "/health", timeout=10).ok


@pytest.mark.parametrize("stream", [True, False], ids=["heartbeats", "newlines"])
def test_signs_of_life_come_no_earlier_than_at_their_intervals(stream):
    with gateway({"replies": [{"first": 60}]}, {
            "FIRST_BYTE_S": "1", "HEARTBEAT_S": "2", "BODY_HEARTBEAT_S": "2"}) as gate:
        begun = time.monotonic()
        with gate.say(stream=stream) if stream else gate.post(
                {"model": MODEL, "messages": [{"role": "user", "content": "x"}]}, stream=True) as response:
            assert time.monotonic() - begun >= (0 if stream else 2)
            signs = (line for line in response.iter_content(1) if line == b"\n")
            per = 2 if stream else 1  # an event ends in two line ends
            for number in range(1, 4):
                for _ in range(per):
                    next(signs)
                # The first of a stream is its role, which leaves at FIRST_BYTE_S or when Cursor has said yes.
                assert time.monotonic() - begun >= 2 * (number - stream)


@pytest.mark.parametrize("upstream", UPSTREAMS)
def test_a_caller_who_is_slower_than_the_upstream_may_be_silent_gets_all(upstream):
    text = 4000 * (1000 * "x" + " ")  # more than a run is ahead of its caller
    with serve({"replies": [{"text": text, "twins": False}]}) as simulator:
        adapter = make_upstream(Config.read({**settings_of(upstream, simulator.url), "TIMEOUT": "2"}))
        try:
            run = adapter.open(Prompt(MODEL, (), "Hi", (), Briefing("n", "", 0)))
            events = iter(run)
            said = [next(event for event in events if type(event) is Text)]
            time.sleep(4)  # the caller takes nothing
            said += events
            assert "".join(event.text for event in said if type(event) is Text) == text
            assert type(said[-1]) is Finish
            run.end()
        finally:
            adapter.close(10)
