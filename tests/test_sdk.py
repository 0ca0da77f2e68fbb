"""The SDK's adapter: what it sends to the bridge, and what it makes of each answer."""

import json
import struct
import threading
from pathlib import Path

import pytest
from conftest import MODEL, STAND_IN, command, descendants, gateway, settings_of, until
from test_replies import oddly
from test_service import ASK, PIXEL, WEATHER, body, both, events, settled

from cursor2api.config import Config
from cursor2api.errors import UpstreamError
from cursor2api.events import Text, Usage
from cursor2api.prompt import Briefing, Prompt
from cursor2api.simulator import serve
from cursor2api.start import make_upstream
from cursor2api.upstream.sdk.adapter import Frames, failure
from cursor2api.upstream.usage import usage_of

pytestmark = pytest.mark.upstreams("sdk")

FRAMES = [(False, {"sdkMessage": {"type": "assistant", "message": {"text": "é" * 40}}}), (False, {}),
          (False, {"result": {}}), (True, {})]


def frame(message, flags=0):
    data = message if isinstance(message, bytes) else json.dumps(message).encode()
    return struct.pack(">BI", flags, len(data)) + data


WIRE = b"".join(frame(message, 2 * last) for last, message in FRAMES)


@pytest.mark.parametrize("cut", [*range(len(WIRE)), "each"])
def test_frames_are_the_same_at_every_cut(cut):
    pieces = [WIRE[:cut], WIRE[cut:]] if cut != "each" else [WIRE[n:n + 1] for n in range(len(WIRE))]
    frames = Frames()
    assert [each for piece in pieces for each in frames.feed(piece)] == FRAMES


@pytest.mark.parametrize("wire", [frame(b"{"), frame(b"[]"), frame(b"\xff"), frame({}, 1), frame(b""),
                                  struct.pack(">BI", 0, 2**31), frame(b"[" * 100_000)], ids=range(7))
def test_what_is_no_frame_is_an_error(wire):
    with pytest.raises(UpstreamError):
        Frames().feed(wire)


CODES = [  # as a failed run has them in brackets and a refusal in its code: ours, and the caller's own key
    ("unauthenticated", (502, "unauthorized"), (401, "invalid_api_key")),
    ("permission_denied", (502, "forbidden"), (403, "forbidden")),
    ("plan_required", (502, "plan_required"), (403, "plan_required")),
    ("resource_exhausted", (429, "rate_limit_exceeded"), None),
    ("usage_limit_exceeded", (429, "usage_limit_exceeded"), None),
    ("invalid_argument", (400, "upstream_refused"), None), ("invalid_model", (400, "invalid_model"), None),
    ("unavailable", (502, "upstream_error"), None), ("internal", (502, "upstream_error"), None),
    ("unknown", (502, "upstream_error"), None), ("not_found", (502, "upstream_error"), None),
    ("deadline_exceeded", (504, "upstream_timeout"), None), ("never_seen", (502, "upstream_error"), None),
]
FINAL = {"unauthenticated", "permission_denied", "plan_required", "invalid_argument", "invalid_model", "not_found"}


@pytest.mark.parametrize("code, ours, own", CODES, ids=[row[0] for row in CODES])
@pytest.mark.parametrize("stream", [False, True], ids=["body", "stream"])
def test_a_failed_run_is_the_error_that_its_code_says(gate, code, ours, own, stream):
    gate.simulator.script({"replies": [{"text": "", "error_after": [0, {"code": code, "message": "so it is"}]}]})
    response = gate.say(stream=stream)
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == ours and "so it is" in error["message"]
    assert (response.headers.get("x-should-retry") == "false") == (code in FINAL and ours[0] != 400)
    assert settled(gate)


@pytest.mark.parametrize("code, ours, own", CODES, ids=[row[0] for row in CODES])
def test_a_refusal_is_the_error_that_its_code_says(code, ours, own):
    for key, expected in ((False, ours), (True, own or ours)):
        error = failure({"code": code, "message": "so it is"}, own=key)
        assert (error.status, error.code) == expected


@pytest.mark.parametrize("error, code, status, retry_after", [
    ({"code": "resource_exhausted", "details": [{"debug": {
        "sdkErrorCode": "SDK_ERROR_CODE_RATE_LIMIT_EXCEEDED", "retryAfter": "7.5s"}}]},
     "rate_limit_exceeded", 429, 7.5),
    ({"code": "permission_denied", "details": [{"debug": {"sdkErrorCode": "SDK_ERROR_CODE_PLAN_REQUIRED"}}]},
     "plan_required", 502, None),
    ({"code": "unavailable", "details": ["x", {"debug": {"retryAfter": "soon"}}]}, "upstream_error", 502, 5),
    ({"code": "resource_exhausted", "details": [{"debug": {"retryAfter": "9" * 400 + "s"}}]},
     "rate_limit_exceeded", 429, 20),
    ({"code": 7, "message": None}, "upstream_error", 502, 5), ({}, "upstream_error", 502, 5)], ids=range(6))
def test_the_details_of_a_refusal_go_before_its_code(error, code, status, retry_after):
    made = failure(error)
    assert (made.code, made.status, made.retry_after) == (code, status, retry_after)


@pytest.mark.parametrize("given, usage", [
    ({"inputTokens": "10", "outputTokens": "5", "cacheReadTokens": "3", "cacheWriteTokens": "2",
      "reasoningTokens": "4", "totalTokens": "15"}, Usage(10, 5, 4, 3)),
    ({"inputTokens": "46965", "outputTokens": "3", "cacheReadTokens": "42036", "cacheWriteTokens": "4927"},
     Usage(46965, 3, 0, 42036)), ({"inputTokens": "1", "cacheReadTokens": "9"}, Usage(9, 0, 0, 9)),
    ({"inputTokens": 10, "outputTokens": 5}, Usage(10, 5, 0, 0)), (None, None), ({}, None),
    ({"inputTokens": "many"}, None)], ids=range(7))
def test_tokens_are_counted_as_sdk_v1_writes_them(given, usage):
    assert usage_of(given) == usage


def said(type, **more):
    return {"sdkMessage": {"type": type, "message": {"type": type, **more}}}


MESSAGES = [
    said("assistant", message={"role": "assistant", "content": [{"type": "text", "text": "a"}]}),
    said("thinking", text="a"), said("status", status="RUNNING"), said("usage", usage={"inputTokens": "5"}),
    {"result": {"runId": "r", "status": "RUN_LIFECYCLE_STATUS_FINISHED", "result": {"result": "a", "usage": {}}}},
    {"result": {"status": "RUN_LIFECYCLE_STATUS_ERROR", "result": {"errorMessage": "[internal] x"}}}]


def test_no_message_of_the_bridge_is_a_fault_of_ours(gate):
    """Several a run, but for a result, which ends one."""
    odd = [[each for each in oddly(message) if isinstance(each, dict)] for message in MESSAGES]
    for messages in [*odd[:4], *([message] for each in odd[4:] for message in each[::3])]:
        gate.simulator.script({"replies": [{"frames": [["sdk", message] for message in messages], "times": 0}]})
        response = gate.say()
        error = response.json().get("error") or {}
        assert response.ok or error["code"] in ("run_failed", "upstream_error", "empty_reply")
        if response.ok and response.json()["usage"]["source"] == "upstream":
            assert response.json()["usage"]["prompt_tokens"] < 10_000


def test_no_refusal_of_the_bridge_is_a_fault_of_ours():
    detail = {"debug": {"sdkErrorCode": "X", "retryAfter": "1s"}}
    for error in [*oddly({"code": "unavailable", "message": "x", "details": [detail]}),
                  *({"details": [odd]} for odd in oddly(detail))]:
        assert failure(error).status == 502


def test_an_image_by_address_is_refused_and_one_by_value_arrives(gate):
    def ask(*urls):
        return gate.post({"model": MODEL, "messages": [{"role": "user", "content": "Hi"}, {
            "role": "user", "content": [{"type": "text", "text": "What is this?"}, *(
                {"type": "image_url", "image_url": {"url": url}} for url in urls)]}]})

    response = ask(PIXEL, "https://example.org/a.png")
    error = response.json()["error"]
    assert response.status_code == 400 and error["param"] == "messages[1].content[2].image_url.url"
    assert "data: URL" in error["message"] and not gate.agents()
    assert ask(PIXEL, PIXEL.replace("data:image/png", "DATA:Image/PNG")).ok
    assert gate.agents()[-1]["runs"][0]["images"] == 2


def test_parameters_of_a_model_reach_its_agent(gate):
    gate.post({"model": f"{MODEL}-thinking", "messages": [{"role": "user", "content": "Hi"}],
               "reasoning_effort": "high"})
    assert gate.agents()[-1]["runs"][0]["model"] == MODEL
    assert "x-cursor2api-ignored" not in gate.say(reasoning_effort="low").headers


def test_the_bridges_sign_of_life_is_none_of_cursor():
    with gateway(upstream="sdk", environ={"TIMEOUT": "2", "HEARTBEAT_S": "0.1"}) as gate:
        for _ in range(2):
            gate.simulator.script({"replies": [{"text": "one two three", "stall_after": 1, "delay": 10,
                                                "heartbeat": 0.1, "heartbeats": True}]})
            data = events(gate.say(stream=True))
            assert "idle_timeout" in data[-1] and "[DONE]" not in data and "one" in "".join(data)
            assert sum('"delta":{}' in each for each in data), "our own heartbeats go on"
        assert settled(gate)
        assert {agent["runs"][0]["cancelled_by"] for agent in gate.agents()} == {"cancel"}


@pytest.mark.parametrize("limit", [{"stop": "two"}, {"max_tokens": 1}], ids=["stop", "max_tokens"])
def test_a_run_is_cancelled_before_its_agent_is_closed(gate, limit):
    gate.simulator.script({"replies": [{"text": "one two " + "word " * 500, "delay": 0.05}]})
    assert gate.say(**limit).ok and settled(gate)
    assert gate.agents()[-1]["runs"][0]["cancelled_by"] == "cancel"


def test_a_caller_who_leaves_while_cursor_makes_the_run_ends_it():
    with gateway(upstream="sdk", environ={"FIRST_BYTE_S": "0.1"}) as gate:
        assert gate.say().ok  # the bridge has started
        gate.simulator.script({"replies": [{"text": "word " * 500, "delay": 0.05, "boot": 0.5}]})
        gate.say(stream=True).close()
        assert until(lambda: len(gate.agents()) == 2) and settled(gate)
        assert gate.agents()[-1]["runs"][0]["cancelled_by"] == "cancel"


def test_a_cancel_that_comes_late_ends_no_later_run():
    replies = [{"text": "no " * 500, "delay": 0.05}, {"text": "one two three", "delay": 0.1}]
    with serve({"replies": replies}) as simulator:
        sdk = make_upstream(Config.read({**settings_of("sdk", simulator.url), "THREADS": "6"}))
        try:
            run, others = sdk.open(Prompt(MODEL, (), "first", (), Briefing("n", "", 0))), threading.Event()
            assert next(event for event in run if type(event) is Text) == Text("no ")
            for _ in range(3 * 6):  # no thread is idle now
                sdk.runs.do("another's run", others.wait)
            run.follow_up(Prompt(MODEL, (), "second", (), Briefing("n", "", 0)), "no ")
            heard = []
            for event in run:
                heard.append(event)
                if type(event) is Text:
                    others.set()  # only now is there a thread that cancels the first
            assert "".join(event.text for event in heard if type(event) is Text) == "one two three"
            run.end()
        finally:
            others.set()
            sdk.close(10)
        assert [run["status"] for run in simulator.state["agents"][0]["runs"]] == ["CANCELLED", "FINISHED"]


def test_a_repair_goes_to_the_agent_that_knows_the_chat(gate):
    gate.simulator.script({"replies": [{"text": "no " * 3, "delay": 0.01}]})
    assert body(gate.say(ASK[0]["content"], tools=[WEATHER], tool_choice="required"))[1]
    assert [len(agent["runs"]) for agent in gate.agents()] == [2] and settled(gate)


def test_a_stream_is_the_same_however_the_bridge_cuts_it(gate):
    bridge = f"{STAND_IN} --backend {gate.simulator.url} --cut 1"
    with gateway(upstream="sdk", environ={"SDK_BRIDGE": bridge}) as other:
        other.simulator = gate.simulator
        script = {"replies": [{"thinking": "hm", "text": "one ✓ \U0001f600 three", "times": 0}]}
        assert both(other, script) == ("one ✓ \U0001f600 three", [], "stop")


def test_a_key_that_cursor_refuses_is_the_gateways_trouble():
    with gateway(upstream="sdk", environ={"CURSOR_API_KEY": "bad-key", "MODELS": MODEL}) as gate:
        error = gate.say().json()["error"]
        assert error["code"] == "unauthorized" and "Invalid User API Key" in error["message"]


def test_a_callers_own_key_goes_with_its_own_agents():
    with gateway(upstream="sdk", environ={"KEY_PASSTHROUGH": "true"}) as gate:
        hello = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
        for key in ("0000", "callers-key-of-ann", "callers-key-of-bob", "callers-key-of-ann"):
            assert gate.post(hello, key=key).ok
        assert [agent["key"] for agent in gate.agents()] == ["eway", "-ann", "-bob", "-ann"]
        assert all(len(agent["runs"]) == 1 for agent in gate.agents())
        assert settled(gate)
        bridge = next(id for id in descendants(gate.process.pid) if "bridge.py" in command(id))
        seen = command(bridge) + Path(f"/proc/{bridge}/environ").read_text()
        assert "callers-key" not in seen + gate.log() and "key-of-the-gateway" not in seen


def test_a_callers_own_key_that_cursor_refuses_is_the_callers_trouble():
    with gateway(upstream="sdk", environ={
            "KEY_PASSTHROUGH": "true", "CURSOR_API_KEY": "", "MODELS": MODEL}) as gate:
        gate.simulator.script({"replies": [{"times": 0, "create": {"status": 401, "times": 0}}]})
        response = gate.post({"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]},
                             key="callers-key-of-ann")
        assert response.status_code == 401 and response.json()["error"]["code"] == "invalid_api_key"
