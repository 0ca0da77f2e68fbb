"""The simulator over a socket: protocol facts, faults, inspection; and what the brain says."""

import base64
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import jsonschema
import pytest
import requests

from cursor2api.simulator import brain
from cursor2api.simulator import serve

PIXEL = base64.b64encode(b"\x89PNG").decode()
HI = {"prompt": {"text": "Hi"}}
SONNET = "claude-sonnet-4-5-20250929"


class Caller:
    """A client that keeps nothing between calls, with a good key unless told another."""

    def __init__(self, url):
        self.url = url

    def __call__(self, method, path, body=None, key="good-key", **options):
        headers = ({"Authorization": f"Bearer {key}"} if key else {}) | options.pop("headers", {})
        return requests.request(method, self.url + path, json=body, headers=headers,
                                timeout=10, **options)

    def create(self, prompt="Hi", **fields):
        answer = self("POST", "/v1/agents", {"prompt": {"text": prompt}} | fields)
        assert answer.status_code == 201, answer.text
        run = answer.json()["run"]
        return f"/v1/agents/{run['agentId']}", f"/v1/agents/{run['agentId']}/runs/{run['id']}"

    def frames(self, run, **headers):
        answer = self("GET", run + "/stream", headers=headers)
        assert answer.status_code == 200, answer.text
        return parse(answer.content.decode())

    def text(self, run):
        return "".join(data["text"] for event, data, _ in self.frames(run) if event == "assistant")


def parse(body):
    """Frames as (event, data, id), as the official client reads them: LF, one space, or nothing."""
    frames = []
    for frame in body.split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in frame.split("\n"))
        frames.append((fields["event"], json.loads(fields["data"]), fields.get("id")))
    return frames


def open_stream(call, run, seconds=10):
    return requests.get(call.url + run + "/stream", headers={"Authorization": "Bearer good-key"},
                        stream=True, timeout=seconds)


def until(condition, seconds=5):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


@pytest.fixture(scope="module")
def shared():
    with serve() as simulator:
        yield simulator


@pytest.fixture
def play(shared):
    def play(*replies, **refuse):
        shared.script({"replies": list(replies), "refuse": refuse})
        return Caller(shared.url)
    shared.forget()
    yield play


@pytest.fixture
def call(play):
    return play()


# Refusals of what a client gets wrong

@pytest.mark.parametrize("key, code", [(None, "unauthorized"), ("bad-key", "api_key_not_found")])
@pytest.mark.parametrize("method, path", [
    ("GET", "/v1/me"), ("GET", "/v1/models"), ("GET", "/v1/agents"), ("POST", "/v1/agents"),
    ("POST", "/auth/exchange_user_api_key")])
def test_no_route_works_without_a_good_key(call, method, path, key, code):
    answer = call(method, path, key=key)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, code)


def test_a_key_may_come_as_basic_user(call):
    assert call("GET", "/v1/me", key=None, auth=("good-key", "")).json()["apiKeyName"]
    assert call("GET", "/v1/me", key=None, auth=("bad-key", "")).status_code == 401


@pytest.mark.parametrize("name, body, code", [
    ("no body", None, "missing_body"),
    ("no prompt", {}, "validation_error"),
    ("empty text", {"prompt": {"text": ""}}, "validation_error"),
    ("text is no string", {"prompt": {"text": 1}}, "validation_error"),
    ("a system prompt", HI | {"system": "x"}, "validation_error"),
    ("temperature", HI | {"temperature": 0}, "validation_error"),
    ("unknown key of the prompt", {"prompt": {"text": "x", "tools": []}}, "validation_error"),
    ("unknown model", HI | {"model": {"id": "gpt-9"}}, "invalid_model"),
    ("model as text", HI | {"model": "gemini-3-flash"}, "validation_error"),
    ("no such variant", HI | {"model": {"id": SONNET, "params": [
        {"id": "thinking", "value": "true"}, {"id": "effort", "value": "low"}]}},
     "validation_error"),
    ("params for a bare model", HI | {"model": {"id": "gemini-3-flash", "params": [
        {"id": "effort", "value": "low"}]}}, "validation_error"),
    ("mode", HI | {"mode": "ask"}, "validation_error"),
    ("name too long", HI | {"name": "x" * 101}, "validation_error"),
    ("agent id", HI | {"agentId": "mine"}, "validation_error"),
    ("too many repos", HI | {"repos": [{"url": "x"}] * 21}, "validation_error"),
    ("six images", {"prompt": {"text": "x", "images": [{"url": "https://x"}] * 6}},
     "validation_error"),
    ("image without a type", {"prompt": {"text": "x", "images": [{"data": PIXEL}]}},
     "validation_error"),
    ("image of a wrong type", {"prompt": {"text": "x", "images": [
        {"data": PIXEL, "mimeType": "image/tiff"}]}}, "validation_error"),
    ("a data URL for base64", {"prompt": {"text": "x", "images": [
        {"data": "data:image/png;base64," + PIXEL, "mimeType": "image/png"}]}}, "validation_error"),
])
def test_a_body_that_is_wrong_is_refused(call, name, body, code):
    answer = call("POST", "/v1/agents", body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)
    assert call("GET", "/simulator/state").json()["agents"] == []


@pytest.mark.parametrize("name, method, path, status, code", [
    ("query key", "GET", "/v1/agents?order=asc", 400, "validation_error"),
    ("query key of a plain route", "GET", "/v1/models?limit=1", 400, "validation_error"),
    ("limit", "GET", "/v1/agents?limit=none", 400, "validation_error"),
    ("route", "GET", "/v1/nothing", 404, "not_found"),
    ("method", "PUT", "/v1/agents", 405, "not_found"),
    ("agent", "GET", "/v1/agents/bc-1", 404, "agent_not_found"),
    ("run", "GET", "{agent}/runs/run-1", 404, "run_not_found"),
    ("usage of a run", "GET", "{agent}/usage?runId=run-1", 404, "run_not_found"),
    ("finished run", "POST", "{run}/cancel", 409, "run_not_cancellable"),
])
def test_a_call_that_is_wrong_is_refused(call, name, method, path, status, code):
    agent, run = call.create()
    answer = call(method, path.format(agent=agent, run=run))
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_an_agent_belongs_to_its_key(call):
    agent, _ = call.create()
    assert call("GET", agent, key="other-key").status_code == 404
    assert call("GET", "/v1/agents", key="other-key").json()["items"] == []


def test_an_alias_is_a_model_and_a_follow_up_changes_it_for_good(call):
    params = [{"id": "effort", "value": "high"}, {"id": "thinking", "value": "false"}]
    agent, _ = call.create(model={"id": "claude-sonnet-latest", "params": params})
    assert call("POST", agent + "/runs", HI | {"model": {"id": "gpt-9"}}).status_code == 400
    call("POST", agent + "/runs", HI | {"model": {"id": "gemini-3-flash"}})
    call("POST", agent + "/runs", HI)
    runs = call("GET", "/simulator/state").json()["agents"][0]["runs"]
    assert [run["model"] for run in runs] == [SONNET, "gemini-3-flash", "gemini-3-flash"]


# The life of agents and runs

def test_the_stream_has_the_documented_order_twins_and_ids(play):
    usage = {"inputTokens": 7, "outputTokens": 2}
    call = play({"thinking": "Hm.", "text": "Hel lo", "usage": usage})
    _, run = call.create()
    frames = call.frames(run)
    names = [data.get("type", event) for event, data, _ in frames]
    assert names == ["status", "thinking", "thinking-delta", "assistant", "text-delta", "assistant",
                     "text-delta", "turn-ended", "result", "done"]
    ids = [id for *_, id in frames]
    assert ids[0] is None and ids[1] == ids[2] != ids[3] and ids[-1] == ids[-2] != ids[-3]
    assert frames[-3][1]["usage"] == usage
    assert frames[-2][1]["text"] == "Hel lo" and frames[-2][1]["status"] == "FINISHED"
    assert call.frames(run) == frames
    answer = call("GET", run + "/stream")
    assert int(answer.headers["X-Cursor-Stream-Retention-Seconds"]) > 0
    assert answer.headers["Transfer-Encoding"] == "chunked"


def test_a_stream_resumes_after_any_of_its_ids_and_no_other(play):
    _, run = (call := play({"text": "a b c"})).create()
    frames = call.frames(run)
    for id in {id for *_, id in frames if id}:
        last = max(n for n, frame in enumerate(frames) if frame[2] == id)
        assert call.frames(run, **{"Last-Event-ID": id}) == [frames[0], *frames[last + 1:]]
    answer = call("GET", run + "/stream", headers={"Last-Event-ID": "1-1"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_last_event_id")


def test_a_run_is_busy_then_cancelled_and_says_no_more(play):
    call = play({"text": "a " * 50, "delay": 5})
    agent, run = call.create()
    with open_stream(call, run) as answer:
        pieces = answer.iter_content(None)
        next(pieces)
        assert call("GET", agent).json()["status"] == "ACTIVE"
        assert call("GET", run).json()["status"] == "RUNNING"
        assert call("POST", agent + "/runs", HI).json()["error"]["code"] == "agent_busy"
        assert call("POST", run + "/cancel").json() == {"id": run.rsplit("/")[-1]}
        body = b"".join(pieces).decode()
    assert [event for event, *_ in parse(body)][-3:] == ["status", "result", "done"]
    assert body.count("event: assistant") <= 1 and body.count('"CANCELLED"') == 2
    assert call("GET", run).json()["status"] == "CANCELLED"
    assert "result" not in call("GET", run).json()
    assert call("GET", agent).json()["status"] == "IDLE"
    assert call("POST", run + "/cancel").json()["error"]["code"] == "run_not_cancellable"
    assert call("POST", agent + "/runs", HI).status_code == 201


def test_slow_streams_early_and_lasts(call):
    _, run = call.create("SLOW, please")
    with open_stream(call, run) as answer:
        body = answer.iter_content(None)
        while b"assistant" not in next(body):
            pass
    until(lambda: call("GET", "/simulator/state").json()["open_streams"] == 0)
    assert call("GET", run).json()["status"] == "RUNNING"
    assert call("POST", run + "/cancel").status_code == 200


def test_an_agent_is_archived_revived_and_deleted(play):
    call = play({"when": "long", "text": "a b", "delay": 9})
    agent, run = call.create()
    assert call("POST", agent + "/archive").json() == {"id": agent.rsplit("/")[-1]}
    assert call("POST", agent + "/runs", HI).json()["error"]["code"] == "agent_archived"
    assert call("GET", run).json()["result"]
    assert call("GET", "/v1/agents").json()["items"] == []
    assert len(call("GET", "/v1/agents?includeArchived=true").json()["items"]) == 1
    assert call("POST", agent + "/unarchive").status_code == 200
    assert call("POST", agent + "/runs", {"prompt": {"text": "a long one"}}).status_code == 201
    assert call("DELETE", agent).status_code == 200
    assert call("GET", agent).json()["error"]["code"] == "agent_not_found"
    state = call("GET", "/simulator/state").json()["agents"][0]
    assert state["deleted"] and state["runs"][1]["cancelled_by"] == "delete"


def test_an_agent_id_is_made_once(call):
    agent_id = f"bc-{uuid.uuid4()}"
    call.create(agentId=agent_id)
    answer = call("POST", "/v1/agents", HI | {"agentId": agent_id})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "agent_id_conflict")


def test_usage_and_lists_add_up_and_turn_pages(call):
    agent, run = call.create()
    call("POST", agent + "/runs", HI)
    usage = call("GET", agent + "/usage").json()
    assert usage["totalUsage"]["totalTokens"] == sum(
        run["usage"]["totalTokens"] for run in usage["runs"]) > 0
    assert len(call("GET", f"{agent}/usage?runId={run.rsplit('/')[-1]}").json()["runs"]) == 1
    first = call("GET", agent + "/runs?limit=1").json()
    second = call("GET", agent + f"/runs?limit=1&cursor={first['nextCursor']}").json()
    assert second["items"][0]["id"] == run.rsplit("/")[-1] and "nextCursor" not in second
    assert "result" not in second["items"][0]


def test_boot_blocks_the_create_and_not_the_agent(play):
    agent_id = f"bc-{uuid.uuid4()}"
    call = play({"text": "up", "boot": 30})

    def create():
        with contextlib.suppress(requests.RequestException):  # it outlives the test
            call("POST", "/v1/agents", HI | {"agentId": agent_id})
    threading.Thread(target=create, daemon=True).start()
    until(lambda: call("GET", f"/v1/agents/{agent_id}").status_code == 200)
    run = call("GET", f"/v1/agents/{agent_id}/runs").json()["items"][0]
    assert run["status"] == "CREATING"
    path = f"/v1/agents/{agent_id}/runs/{run['id']}"
    assert call("POST", path + "/cancel").status_code == 200
    assert [event for event, *_ in call.frames(path)] == ["status", "status", "result", "done"]


# Faults

@pytest.mark.parametrize("status, code", [
    (400, "repository_required"), (401, "unauthorized"), (403, "plan_required"),
    (403, "feature_unavailable"), (404, "agent_not_found"), (409, "agent_busy"),
    (410, "stream_expired"), (429, "usage_limit_exceeded"), (500, "internal_error"),
    (503, "upstream_error")])
@pytest.mark.parametrize("operation", ["me", "create", "stream", "follow_up", "cancel", "delete"])
def test_each_call_can_be_refused_once(play, operation, status, code):
    refusal = {"status": status, "code": code, "message": "no", "headers": {"Retry-After": "7"}}
    call = play(**{operation: refusal})

    def act():
        if operation == "create":
            return call("POST", "/v1/agents", HI)
        agent, run = call.create()
        return call(*{"me": ("GET", "/v1/me"), "stream": ("GET", run + "/stream"),
                      "cancel": ("POST", run + "/cancel"), "delete": ("DELETE", agent),
                      "follow_up": ("POST", agent + "/runs", HI)}[operation])

    answer = act()
    assert (answer.status_code, answer.json()) == (
        status, {"error": {"code": code, "message": "no"}})
    assert answer.headers["Retry-After"] == "7"
    assert act().status_code == {"create": 201, "follow_up": 201, "cancel": 409}.get(operation, 200)


def test_a_refused_call_does_not_use_its_reply_up(play):
    call = play({"when": "Hi", "text": "at last", "create": {"status": 503, "times": 2}})
    assert [call("POST", "/v1/agents", HI).status_code for _ in range(2)] == [503, 503]
    assert call.text(call.create()[1]) == "at last"


def test_a_page_in_place_of_json(play):
    answer = play(models={"status": 502, "html": True})("GET", "/v1/models")
    assert answer.status_code == 502 and answer.text.startswith("<!DOCTYPE html>")


@pytest.mark.parametrize("when, received", [
    ("before", b""), ("within", b"HTTP/1.1 200 OK\r\nContent-Type"), ("after", b"\r\n\r\n")])
def test_a_reset_comes_where_it_was_asked_for(play, when, received):
    call = play({"text": "made", "create": {"reset": when, "then_works": True}})
    host, port = call.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        body = json.dumps(HI).encode()
        connection.sendall(b"POST /v1/agents HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer k\r\n"
                           b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        data = b""
        with pytest.raises(ConnectionResetError):
            while piece := connection.recv(1000):
                data += piece
    assert received in data and bool(data) == bool(received)
    assert (b"\r\n\r\n" in data) == (when == "after")
    until(lambda: len(call("GET", "/simulator/state").json()["agents"]) == 1)


def test_a_hang_ends_when_the_caller_leaves(play):
    call = play(models={"hang": 0.05})
    assert call("GET", "/v1/models").json()["items"]
    call = play(models={"hang": 60, "status": 500})
    with pytest.raises(requests.ReadTimeout):
        requests.get(call.url + "/v1/models", headers={"Authorization": "Bearer k"}, timeout=0.2)


def events(frames):
    return [event for event, *_ in frames if event not in ("interaction_update", "heartbeat")]


SAID = ["assistant"] * 3
END = ["result", "done"]


@pytest.mark.parametrize("name, reply, expected", [
    ("nothing", {}, ["status", *SAID, *END]),
    ("close", {"close_after": 2}, ["status", *SAID[:2]]),
    ("close before any", {"close_after": 0}, ["status"]),
    ("close after all", {"close_after": 3}, ["status", *SAID]),
    ("an error", {"error_after": [1, {"code": "internal"}]}, ["status", "assistant", "error"]),
    ("not yet open", {"error_after": [0, {"code": "stream_unavailable"}]},
     ["status", "error", "done"]),
    ("unknown event", {"unknown_after": 1}, ["status", "assistant", "surprise", *SAID[1:], *END]),
    ("twice", {"twice_after": 1}, ["status", "assistant", *SAID, *END]),
    ("no text", {"text": ""}, ["status", *END]),
    ("one write", {"burst": True}, ["status", *SAID, *END]),
    ("a byte a write", {"cut": 1}, ["status", *SAID, *END]),
    ("heartbeats", {"first": 0.2, "heartbeat": 0.05}, ["status", *SAID, *END]),
    ("scripted", {"frames": [["tool_call", {"callId": "1"}], ["assistant", {"text": "x"}]]},
     ["status", "tool_call", "assistant", *END]),
])
def test_frames_bend_as_the_script_says(play, name, reply, expected):
    call = play({"text": "a b c", **reply})
    _, run = call.create()
    assert events(call.frames(run)) == expected


def test_faults_stop_after_stream_times(play):
    _, run = (call := play({"text": "a b", "close_after": 1, "stream_times": 2})).create()
    assert [len(events(call.frames(run))) for _ in range(3)] == [2, 2, 5]


def test_the_same_frame_twice_has_the_same_id(play):
    _, run = (call := play({"text": "a b", "twice_after": 1, "twins": False})).create()
    frames = call.frames(run)
    assert frames[1] == frames[2] != frames[3]


@pytest.mark.parametrize("status", ["ERROR", "EXPIRED", "CANCELLED"])
def test_a_run_can_end_badly(play, status):
    _, run = (call := play({"text": "half", "status": status})).create()
    assert call.frames(run)[-2][1] == {"runId": run.rsplit("/")[-1], "status": status}
    view = call("GET", run).json()
    assert view["status"] == status and "result" not in view


def test_forms_of_the_stream(play):
    call = play({"when": "crlf", "text": "a", "crlf": True},
                {"when": "ids", "text": "a", "ids": False},
                {"when": "twins", "text": "a", "twins": False},
                {"when": "chunk", "text": "abcde", "chunk": 2},
                {"when": "raw", "raw": "event: x\ndata: {run}\n\n"},
                {"when": "bytes", "raw": {"base64": base64.b64encode(b"\xff").decode()}},
                {"when": "big", "text": "x" * 10_000_000, "twins": False})

    def body(prompt):
        _, run = call.create(prompt)
        return run, call("GET", run + "/stream").content

    assert body("crlf")[1].count(b"\r\n\r\n") == 6
    assert b"id: " not in body("ids")[1]
    assert b"interaction_update" not in body("twins")[1]
    assert body("chunk")[1].count(b"event: assistant") == 3
    run, raw = body("raw")
    assert raw.decode() == f"event: x\ndata: {run.rsplit('/')[-1]}\n\n"
    assert body("bytes")[1] == b"\xff"
    assert len(body("big")[1]) > 20_000_000


@pytest.mark.parametrize("at", [1, 40, 200])
def test_a_stream_is_reset_after_so_many_bytes(play, at):
    _, run = (call := play({"text": "a " * 20, "reset_after": at, "burst": True})).create()
    data = b""
    with open_stream(call, run) as answer, pytest.raises(requests.RequestException):
        for piece in answer.iter_content(1):
            data += piece
    assert len(data) == at


@pytest.mark.parametrize("beats", [False, True])
def test_silence_holds_until_the_client_leaves(play, beats):
    _, run = (call := play({"text": "a b c", "stall_after": 1, "heartbeat": 0.02,
                            "heartbeats": beats})).create()
    data = b""
    with open_stream(call, run, 2) as answer:
        pieces = answer.iter_content(None)
        try:
            while data.count(b"heartbeat") < 3:
                data += next(pieces)
        except requests.ConnectionError:  # the read timed out
            assert not beats
    assert data.count(b"event: assistant") == 1
    until(lambda: call("GET", "/simulator/state").json()["open_streams"] == 0)


# The AI SDK UI message stream

def ui(call, text="Hi", **options):
    return call("POST", "/ui/chat", {"messages": [
        {"role": "user", "parts": [{"type": "text", "text": text}]}]}, **options)


def ui_parts(answer):
    frames = answer.text.split("\n\n")
    assert frames[-2:] == ["data: [DONE]", ""]
    return [json.loads(frame.removeprefix("data: ")) for frame in frames[:-2]]


def test_ui_parts_keep_the_order_rules(play):
    answer = ui(play({"thinking": "Hm.", "text": "a b"}), key=None)
    assert answer.headers["x-vercel-ai-ui-message-stream"] == "v1"
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    parts = ui_parts(answer)
    assert [part["type"] for part in parts] == [
        "start", "start-step", "reasoning-start", "reasoning-delta", "reasoning-end", "text-start",
        "text-delta", "text-delta", "text-end", "finish-step", "finish"]
    assert "".join(part["delta"] for part in parts if part["type"] == "text-delta") == "a b"
    assert parts[-1]["messageMetadata"]["usage"]["totalTokens"] > 0


@pytest.mark.parametrize("name, reply, last", [
    ("an error", {"error_after": [1, {"message": "no"}]}, {"type": "error", "errorText": "no"}),
    ("a bad end", {"status": "ERROR"}, {"type": "error", "errorText": "The simulator says ERROR"})])
def test_a_ui_stream_can_fail(play, name, reply, last):
    assert ui_parts(ui(play({"text": "a b"} | reply)))[-1] == last


@pytest.mark.parametrize("name, reply, has, lacks", [
    ("close", {"close_after": 1}, "a ", "DONE"), ("unknown", {"unknown_after": 1}, "surprise", "-"),
    ("raw", {"raw": "data: x\n\n"}, "data: x\n\n", "DONE")])
def test_a_ui_stream_bends(play, name, reply, has, lacks):
    body = ui(play({"text": "a b"} | reply)).text
    assert has in body and (lacks == "-" or lacks not in body)


def test_a_ui_chat_can_be_refused(play):
    call = play({"text": "a", "create": {"status": 429, "headers": {"Retry-After": "1"}}})
    assert ui(call).headers["Retry-After"] == "1"
    assert ui(call).status_code == 200
    assert ui(call, key="bad-key").status_code == 401
    assert call("POST", "/ui/chat", {"messages": []}).status_code == 400


def test_a_ui_history_is_a_conversation(call):
    text = [("system", "Be brief."), ("user", "My name is Ann."), ("assistant", "Hello!"),
            ("user", "What is my name?")]
    answer = call("POST", "/ui/chat", {"messages": [
        {"role": role, "parts": [{"type": "text", "text": text}]} for role, text in text]})
    assert "Your name is Ann." in "".join(part.get("delta", "") for part in ui_parts(answer))


# Inspection and the process

def test_what_happened_can_be_read_without_the_key(call):
    call.create("Hi", name="mine")
    call("POST", "/simulator/script", {"replies": [{"text": "scripted"}]}, key=None)
    assert call.text(call.create()[1]) == "scripted"
    state = call("GET", "/simulator/state", key=None).json()
    agent, request = state["agents"][0], state["requests"][0]
    assert (agent["name"], agent["runs"][0]["prompt"]) == ("mine", "Hi")
    assert (request["method"], request["path"], request["status"]) == ("POST", "/v1/agents", 201)
    assert request["headers"]["authorization"] == "****-key"
    assert "good-key" not in json.dumps(state)
    call("POST", "/simulator/reset", key=None)
    state = call("GET", "/simulator/state").json()
    assert state == {"agents": [], "requests": [], "open_streams": 0}


def test_serve_ends_with_streams_that_stall():
    with serve({"replies": [{"text": "a", "stall_after": 0}]}) as simulator:
        _, run = (call := Caller(simulator.url)).create()
        answer = open_stream(call, run)
        assert simulator.state["open_streams"] == 1
    until(lambda: simulator.state["open_streams"] == 0)
    with pytest.raises(requests.ConnectionError):
        requests.get(simulator.url + "/v1/me", timeout=5)
    answer.close()


@pytest.mark.parametrize("end", ["EOF", signal.SIGTERM, signal.SIGINT])
def test_the_process_says_where_it_is_and_ends_cleanly(tmp_path, end):
    script = tmp_path / "script.json"
    script.write_text('{"replies": [{"text": "from a file"}]}')
    command = [sys.executable, "-m", "cursor2api.simulator", "--port", "0", "--script", str(script)]
    with subprocess.Popen(command + ["--until-eof"] * (end == "EOF"), stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        call = Caller(process.stdout.readline().strip())
        assert call.text(call.create()[1]) == "from a file"
        if end == "EOF":
            process.stdin.close()
        else:
            process.send_signal(end)
        assert process.wait(30) == 0
        assert process.stderr.read() == ""


@pytest.mark.parametrize("module", ["simulator", "simulator.bridge"])
def test_a_signal_is_heard_whichever_thread_the_system_gives_it_to(module):
    command = [sys.executable, "-m", f"cursor2api.{module}"] + ["--port", "0"] * (module == "simulator")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            assert "http://" in process.stdout.readline()
            another = next(task.name for task in Path(f"/proc/{process.pid}/task").iterdir()
                           if task.name != str(process.pid))
            os.kill(int(another), signal.SIGTERM)
            assert process.wait(30) == 0
        finally:
            process.kill()


# The brain

WEATHER = {"name": "get_weather", "description": "d", "parameters": {
    "type": "object", "properties": {"city": {"type": "string"},
                                     "unit": {"enum": ["celsius", "fahrenheit"]}},
    "required": ["city"]}}
TIME = {"name": "get_time", "parameters": {"type": "object", "properties": {}}}
ADD = {"name": "add", "description": "d", "parameters": {
    "type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "integer"}},
    "required": ["a", "b"]}}
EXAMPLE = '<call_n0>{"name": "TOOL_NAME", "arguments": {"ARGUMENT": "VALUE"}}</call_n0>'


def prompt(*blocks, tools=(), rules="", example=EXAMPLE):
    text = "You are the assistant below. Do not use tools of your own.\n\n" + "\n\n".join(
        f"<{role}_n0{attributes}>\n{content}\n</{role}_n0>" for role, attributes, content in blocks)
    if tools:
        text += "\n\nTools that you can call, one JSON object a line:\n" + "\n".join(
            map(json.dumps, tools)) + f"\nTo call a tool, write exactly this:\n{example}\n"
        text += "Escape quotes within strings as JSON demands."
    return f"{text}\n\n{rules}"


def user(text):
    return ("user", "", text)


def calls_in(text):
    found = [json.loads(line.removeprefix("<call_n0>").removesuffix("</call_n0>"))
             for line in text.splitlines() if line.startswith("<call_n0>")]
    return [(call["name"], call["arguments"]) for call in found]


PARIS = ("get_weather", {"city": "Paris"})
ASKED = user("What is the weather in Paris? Use get_weather.")
CALLED = ("assistant", "", '<call_n0>{"id": "1", "name": "get_weather", "arguments": {}}</call_n0>')
RESULT = ("tool", ' id="1" name="get_weather"', "18 C")


@pytest.mark.parametrize("name, blocks, tools, rules, expected", [
    ("named", [ASKED], [WEATHER], "", [PARIS]),
    ("not named", [user("Hello")], [WEATHER], "", []),
    ("not named, but a call is due", [user("Hello in Rome")], [WEATHER, TIME],
     "You must call at least one of these tools now.", [("get_weather", {"city": "Rome"})]),
    ("the rules name one", [user("Hello")], [WEATHER, TIME], "You must call get_time.",
     [("get_time", {})]),
    ("two", [user("Use get_time, then get_weather in Paris")], [WEATHER, TIME], "",
     [("get_time", {}), PARIS]),
    ("two, but one at most", [user("Use get_time, then get_weather in Paris")], [WEATHER, TIME],
     "Write at most one call.", [("get_time", {})]),
    ("one tool, two places", [user("get_weather for Paris and New York?")], [WEATHER], "",
     [PARIS, ("get_weather", {"city": "New York"})]),
    ("an option that is given", [user("get_weather in Paris in fahrenheit")], [WEATHER], "",
     [("get_weather", {"city": "Paris", "unit": "fahrenheit"})]),
    ("numbers", [user("add 2.5 and 3")], [ADD], "", [("add", {"a": 2.5, "b": 3})]),
    ("quoted", [user('get_weather of "São Paulo"')], [WEATHER], "",
     [("get_weather", {"city": "São Paulo"})]),
    ("a reminder names one", [user("<system-reminder>\nget_time\n</system-reminder>\nHello")], [TIME], "", []),
    ("a reminder after the question", [ASKED, user("<system-reminder>x</system-reminder>")], [WEATHER], "",
     [PARIS]),
    ("after its result never again", [ASKED, CALLED, RESULT], [WEATHER],
     "You must call at least one of these tools now.", []),
    ("after a result the other one",
     [user("Use get_weather in Paris and get_time"), CALLED, RESULT], [WEATHER, TIME],
     "Write at most one call.", [("get_time", {})]),
    ("a new question, the same tool", [ASKED, CALLED, RESULT, ASKED], [WEATHER], "", [PARIS]),
])
def test_the_brain_calls_what_is_called_for(name, blocks, tools, rules, expected):
    assert calls_in(brain.answer(prompt(*blocks, tools=tools, rules=rules))[1]) == expected


@pytest.mark.parametrize("example, expected", [
    ('<call_n0>{"tool": "TOOL_NAME", "params": {"A": "V"}}</call_n0>',
     '<call_n0>{"tool": "get_weather", "params": {"city": "Paris"}}</call_n0>'),
    ('<call_n0>\n{"name": "T", "arguments": "{}"}\n</call_n0>',
     '<call_n0>\n{"name": "get_weather", "arguments": "{\\"city\\": \\"Paris\\"}"}\n</call_n0>'),
    ('```json\n{"name": "T", "arguments": {}}\n```',
     '```json\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n```')])
def test_the_brain_copies_the_form_of_the_example(example, expected):
    text = prompt(ASKED, tools=[WEATHER], example=example)
    assert brain.answer(text)[1] == expected
    before, after = brain.marks([text, "a prompt without an example"])
    assert before and after and expected.startswith(before) and expected.endswith(after)


@pytest.mark.parametrize("name, text, images, expected", [
    ("a plain prompt", "Tell me of tides", 0, "Tell me of tides"),
    ("a reminder", prompt(user("<system-reminder>x\n</system-reminder>\nSay hi")), 0, "hi"),
    ("a question", "Why?", 0, "You asked “Why?”"),
    ("say", "Please say hello", 0, "hello"),
    ("reply with", 'Reply with exactly: "PONG".', 0, "PONG"),
    ("count", "Count from 1 to 5.", 0, "1 2 3 4 5"),
    ("images", "What is this?", 2, "I see 2 images."),
    ("results", prompt(ASKED, CALLED, RESULT, tools=[WEATHER]), 0, "get_weather says: 18 C"),
    ("two results", prompt(ASKED, CALLED, RESULT, ("tool", ' name="get_time"', "noon")), 0, "noon"),
    ("a thinking tag", prompt(user("Say hi"), rules="Think first: reason within <thinking>."), 0,
     "</thinking>\nhi"),
    ("a quoted block", prompt(user("Say </user_zz> it")), 0, "</user_zz> it"),
    ("json", prompt(user("Say hi"), rules="Answer with one JSON object."), 0, '{"answer": "hi"}'),
])
def test_the_brain_says_something_sensible(name, text, images, expected):
    assert expected in brain.answer(text, images)[1]


def test_the_brain_thinks_when_the_model_does():
    assert brain.answer("Why?", thinking=True)[0] and not brain.answer("Why?")[0]


@pytest.mark.parametrize("name, after, expected", [
    ("results alone", prompt(RESULT), "get_weather says: 18 C"),
    ("a complaint", "get_weather: \"city\" is missing. Write it again.",
     '<call_n0>{"name": "get_weather", "arguments": {"city": "Paris"}}</call_n0>'),
])
def test_the_brain_remembers_what_its_agent_was_told(name, after, expected):
    assert brain.answer(after, earlier=[prompt(ASKED, tools=[WEATHER])])[1] == expected


TREE = {"$defs": {"node": {"type": "object", "required": ["value", "children"], "properties": {
    "value": {"type": "integer", "minimum": 5},
    "children": {"type": "array", "items": {"$ref": "#/$defs/node"}}}}}, "$ref": "#/$defs/node"}


@pytest.mark.parametrize("name, schema", [
    ("types", {"type": "object", "required": ["a", "b", "c", "d", "e"], "properties": {
        "a": {"type": "string"}, "b": {"type": "number"}, "c": {"type": "boolean"},
        "d": {"type": "null"}, "e": {"type": ["string", "null"]}}}),
    ("closed object", {"type": "object", "properties": {"a": {"type": "integer"}},
                       "required": ["a"], "additionalProperties": False}),
    ("enum and const", {"type": "object", "required": ["a", "b"], "properties": {
        "a": {"enum": ["x", 2]}, "b": {"const": [1]}}}),
    ("nested arrays", {"type": "array", "minItems": 3, "items": {"type": "array", "maxItems": 2,
                                                                "items": {"type": "integer"}}}),
    ("tuple", {"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}]}),
    ("recursive", TREE),
    ("root reference", {"type": "object", "required": ["next"], "properties": {
        "next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}}),
    ("all of", {"allOf": [{"$ref": "#/$defs/a"}, {"required": ["b"], "properties": {
        "b": {"type": "integer", "exclusiveMinimum": 3}}}],
        "$defs": {"a": {"type": "object", "required": ["a"], "properties": {
            "a": {"type": "string", "minLength": 4, "maxLength": 5}}}}}),
    ("numbers", {"type": "object", "required": ["a", "b", "c", "d"], "properties": {
        "a": {"type": "integer", "minimum": 7, "maximum": 9},
        "b": {"type": "integer", "multipleOf": 5},
        "c": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
        "d": {"type": "integer", "maximum": -3}}}),
    ("formats", {"type": "object", "required": ["a", "b", "c"], "properties": {
        "a": {"type": "string", "format": "date"}, "b": {"type": "string", "format": "email"},
        "c": {"type": "string", "format": "uuid"}}}),
    ("unique", {"type": "array", "minItems": 3, "uniqueItems": True, "items": {"type": "string"}}),
    ("anything", {}),
])
def test_the_brain_answers_by_the_schema(name, schema):
    schema = schema or {"type": "object"}
    rules = "Answer with one JSON object, valid against this JSON Schema:\n" + json.dumps(schema)
    text = brain.answer(prompt(user("Give me 12 of it in Paris"), rules=rules))[1]
    jsonschema.validate(json.loads(text), schema,
                        format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)


@pytest.mark.parametrize("schema", [
    {"type": "object", "required": True}, {"type": "object", "required": [{}]}, {"properties": ["a"]},
    {"$ref": "#/nothing"}, {"$ref": {}}, {"allOf": 1}, {"enum": []}], ids=str)
def test_the_brain_answers_what_is_no_schema_too(schema):
    tools = [{"name": "get_weather", "parameters": schema}]
    assert '"get_weather", "arguments": {}' in brain.answer(prompt(ASKED, tools=tools))[1]


def test_the_brain_fills_in_what_the_message_says():
    schema = {"type": "object", "required": ["city", "days", "unit"], "properties": {
        "city": {"type": "string"}, "days": {"type": "integer"}, "unit": {"enum": ["C", "F"]}}}
    rules = "Answer with one JSON object, valid against this JSON Schema:\n" + json.dumps(schema)
    text = brain.answer(prompt(user("The weather in Oslo for 3 days, in F"), rules=rules))[1]
    assert json.loads(text) == {"city": "Oslo", "days": 3, "unit": "F"}
