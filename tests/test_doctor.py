"""The doctor, run as an operator runs it: what it finds, what it advises, what it records."""

import json
import os
import re
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import requests
from conftest import MODEL, ROOT, settings_of
from test_replies import check_cloud, check_ui

from cursor2api.doctor import doctor as the_doctor
from cursor2api.doctor.doctor import served
from cursor2api.simulator import serve

KEY = "key-of-the-gateway"


def doctor(*arguments, **environ):
    """(exit status, findings by check, all that was printed)"""
    ended = subprocess.run(
        [sys.executable, "-m", "cursor2api.doctor", "--json", *arguments], cwd=ROOT, timeout=120,
        env={"PATH": os.environ["PATH"], "RETRY_S": "0.01", **environ}, capture_output=True, text=True,
        stdin=subprocess.DEVNULL)
    findings = [json.loads(line) for line in ended.stdout.splitlines()]
    return ended.returncode, {finding["check"]: finding for finding in findings}, ended.stdout + ended.stderr


def examine(script, *arguments, **environ):
    with serve(script=script) as simulator:
        return doctor("--yes", *arguments, **{"UPSTREAM": "simulator", "CURSOR_API_KEY": KEY, "API_KEY": "mine",
                                              "CURSOR_BASE_URL": simulator.url, **environ})


def ui(simulator):
    return {"UPSTREAM": "uistream", "UISTREAM_URL": simulator.url + "/ui/chat", "MODELS": "gemini-3-flash"}


def test_against_the_simulator_every_line_passes_and_no_key_shows():
    status, findings, printed = examine(None)
    assert status == 0 and {finding["status"] for finding in findings.values()} == {"PASS"}
    assert list(findings) == [
        "settings", "key and models", "chats", "a chat, by an agent without a repository", "a second turn",
        "a streamed chat", "a tool call", "a cancel", "nothing is left behind"]
    assert KEY not in printed and "mine" not in printed


def test_a_ui_message_stream_is_examined_too():
    with serve() as simulator:
        status, findings, printed = doctor("--yes", **ui(simulator), API_KEY="mine",
                                           UISTREAM_HEADERS='{"Authorization": "Bearer the-secret"}')
    assert status == 0 and findings["a tool call"]["upstream"] == "uistream"
    assert {finding["status"] for finding in findings.values()} == {"PASS"} and "secret" not in printed


def test_the_sdk_is_examined_and_then_the_api_that_its_key_is_good_for(tmp_path):
    with serve() as simulator:
        status, _, printed = doctor("--yes", "--record", str(tmp_path), API_KEY="mine",
                                    **settings_of("sdk", simulator.url))
        assert len(simulator.state["agents"]) == 8 and all(agent["deleted"] for agent in simulator.state["agents"])
    found = {"sdk": {}, "cloud": {}, "": {}}
    for finding in map(json.loads, printed.splitlines()):
        found[finding["upstream"]][finding["check"]] = finding["status"]
    assert status == 0 and list(found["sdk"].items()) == [
        ("key and models", "PASS"), ("chats", "PASS"), ("recording", "WARN"), ("a chat", "PASS"),
        ("a second turn", "PASS"),
        ("a streamed chat", "PASS"), ("a tool call", "PASS"), ("a cancel", "PASS"),
        ("nothing is left behind", "PASS")]
    assert set(found["cloud"].values()) == {"PASS"} and "recording" not in found["cloud"]
    assert {path.name.partition("_")[0] for path in tmp_path.iterdir()} == {"cloud"}


def refused(operation, **refusal):
    return {"refuse": {operation: {"times": 0, **refusal}}}


def said(when, **reply):
    return {"replies": [{"when": when, "times": 0, **reply}]}


FAILS = [
    ("a setting", None, {"PORT": "x"}, "settings", "PORT: expected", "correct it"),
    ("a key file", None, {"API_KEY_FILE": "/nothing"}, "settings", "API_KEY_FILE: expected", "correct it"),
    ("a user", None, {"UPSTREAM": "cloud", "SDK_BRIDGE": "/bin/true", "SDK_USER": "no-such-user"}, "settings",
     "SDK_USER: expected", "correct it"),
    ("no upstream", None, {"UPSTREAM": "auto", "CURSOR_API_KEY": ""}, "upstream", "none is", "CURSOR_API_KEY"),
    ("a wrong key", None, {"CURSOR_API_KEY": "bad-key"}, "key and models", "refused the gateway's own key",
     "check CURSOR_API_KEY"),
    ("a wrong key, though the models are set", None, {"CURSOR_API_KEY": "bad-key", "MODELS": MODEL},
     "key and models", "refused the gateway's own key", "check CURSOR_API_KEY"),
    ("a key that may list no agents", refused("list_agents", status=403), {}, "key and models",
     "refused the gateway's own key", "check CURSOR_API_KEY"),
    ("nobody there", None, {"CURSOR_BASE_URL": "http://127.0.0.1:9"}, "key and models", "could not be reached",
     "check the network"),
    ("no models", refused("models", status=500), {}, "key and models", "Cursor failed (500)", "CURSOR_API_KEY"),
    ("a repository is demanded", refused("create", status=400, code="repository_required"), {},
     "a chat, by an agent without a repository", "repository_required", "allow agents without a repository"),
    ("no plan", refused("create", status=403, code="plan_required"), {},
     "a chat, by an agent without a repository", "plan_required", "plan has no cloud agents"),
    ("a failed chat", said("one word", status="ERROR", text="x"), {},
     "a chat, by an agent without a repository", "run_failed", "docs/errors.md"),
    ("a failed stream", said("1 to 20", status="ERROR", text="one"), {}, "a streamed chat", "run_failed",
     "docs/errors.md"),
    ("no tool call", {"replies": [{"when": when, "text": "It is sunny.", "times": 0}
                                  for when in ("get_weather", "called no tool")]}, {}, "a tool call",
     "no_tool_call", "docs/errors.md"),
    ("no cancel", said("1 to 2000", create={"status": 400, "times": 0}), {}, "a cancel", "Cursor refused",
     "docs/errors.md"),
    ("an agent stays", refused("delete", status=500), {}, "nothing is left behind", "4 agents are left",
     "https://cursor.com/agents"),
]


@pytest.mark.parametrize("name, script, environ, check, detail, advice", FAILS, ids=[row[0] for row in FAILS])
def test_a_failure_is_found_and_what_to_do_is_said(name, script, environ, check, detail, advice):
    wait = "3" if check == "nothing is left behind" else "60"
    status, findings, printed = examine(script, "--wait", wait, **environ)
    assert status == 1
    failed = [finding for finding in findings.values() if finding["status"] == "FAIL"]
    assert [finding["check"] for finding in failed] == [check], failed
    assert detail in findings[check]["detail"] and advice in findings[check]["advice"]
    assert KEY not in printed and "Traceback" not in printed


def test_its_server_closes_a_reply_whose_caller_resets_the_connection():
    """Else the agent of a failed reply was left, as the doctor leaves where it reads of the failure."""
    closed = threading.Event()

    class Reply:
        def __iter__(self):
            while True:
                yield b"x" * 65536

        def close(self):
            closed.set()

    def app(environ, start_response):
        start_response("200 OK", [])
        return Reply()
    with served(app) as port, socket.create_connection(("127.0.0.1", port)) as caller:
        caller.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert caller.recv(1)
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        caller.close()
        assert closed.wait(30)


class Answers:
    """In place of the doctor's own client: what a service says that does not keep to its word."""

    def __init__(self, content=None, chunks=(), open=0, cached=0):
        self.content, self.chunks, self.open, self.cached, self.seconds = content, chunks, open, cached, 1.0
        self.said = self.agent = ""

    def __call__(self, body):
        return {"choices": [{"message": {"content": self.content}}],
                "usage": {"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": self.cached}}}

    def stream(self, body):
        for content, finish in self.chunks:
            yield {"choices": [{"delta": {"content": content}, "finish_reason": finish}]}

    def open_streams(self):
        return self.open


BROKEN = [
    ("no model is listed", lambda: the_doctor._models(SimpleNamespace(
        upstream=SimpleNamespace(models=list, left=set), models=SimpleNamespace(all=list)), set())),
    ("the reply has no text", lambda: the_doctor._chat(Answers())),
    ("more is cached than was sent", lambda: the_doctor._second_turn(Answers("Salut", cached=6))),
    ("the stream has no text", lambda: the_doctor._stream(Answers(chunks=[("", "stop")]))),
    ("the stream has no finish", lambda: the_doctor._stream(Answers(chunks=[("one", None)]))),
    ("the stream ended before it was left", lambda: the_doctor._cancel(Answers(), wait=0)),
    ("the reply went on after it was left", lambda: the_doctor._cancel(
        Answers(chunks=[("one", None)], open=1), wait=0))]


@pytest.mark.parametrize("work", [row[1] for row in BROKEN], ids=[row[0] for row in BROKEN])
def test_a_service_that_does_not_keep_to_its_word_is_a_failure(work):
    with pytest.raises(the_doctor.Failed):
        work()


WARNS = [
    ("no key", None, {"API_KEY": ""}, "keys", "set API_KEY"),
    ("a key that everybody knows", None, {"API_KEY": "mine,0000"}, "keys", "a key of your own"),
    ("content in the log", None, {"DEBUG_CONTENT": "true"}, "privacy", "unset it"),
]


@pytest.mark.parametrize("name, script, environ, check, advice", WARNS, ids=[row[0] for row in WARNS])
def test_a_risk_is_a_warning(name, script, environ, check, advice):
    status, findings, _ = examine(script, **environ)
    assert status == 0
    assert findings[check]["status"] == "WARN" and advice in findings[check]["advice"]


@pytest.mark.parametrize("upstream", ["cloud", "uistream", "sdk"])
def test_a_model_makes_twenty_tool_calls_of_rising_difficulty(upstream):
    with serve() as simulator:
        status, _, printed = doctor("--yes", "--tools", "20", "--models", f"{MODEL},gemini-3-flash",
                                    **{**settings_of(upstream, simulator.url), "API_KEY": "mine"})
        assert all(agent["deleted"] for agent in simulator.state["agents"] if not agent["id"].startswith("ui-"))
    found = {finding["check"]: finding for finding in map(json.loads, printed.splitlines())
             if finding["upstream"] == upstream}
    for model in (MODEL, "gemini-3-flash"):
        assert found[f"20 tool calls by {model}"]["detail"] == "20 right, 0 repaired, 0 failed"
    assert status == 0 and {finding["status"] for finding in found.values()} <= {"PASS", "WARN"}


def test_calls_that_are_repaired_or_do_not_come_are_named():
    script = {"replies": [
        {"when": "Zürich", "text": "I cannot.", "times": 0},
        {"when": "poem.txt", "text": '{open}{"name": "write_file", "arguments": {"path": 5}}{close}'}]}
    _, findings, _ = examine(script, "--tools", "20")
    found = next(found for check, found in findings.items() if check.startswith("20 tool calls by "))
    assert found["status"] == "WARN" and found["advice"]
    assert found["detail"] == (
        "18 right, 1 repaired, 1 failed: letters of other scripts (failed), newlines (repaired)")


def test_without_leave_nothing_that_costs_is_done():
    with serve() as simulator:
        status, findings, _ = doctor(UPSTREAM="simulator", CURSOR_API_KEY=KEY, CURSOR_BASE_URL=simulator.url)
        assert not simulator.state["agents"]
    assert status == 0 and findings["chats"]["status"] == "WARN" and "--yes" in findings["chats"]["advice"]
    assert list(findings)[-1] == "chats"


def test_agents_of_an_earlier_time_are_a_warning():
    with serve() as simulator:
        requests.post(simulator.url + "/v1/agents", timeout=10, headers={"Authorization": f"Bearer {KEY}"},
                      json={"name": "cursor2api/reply", "prompt": {"text": "x"}})
        status, findings, _ = doctor("--yes", UPSTREAM="simulator", CURSOR_API_KEY=KEY,
                                     CURSOR_BASE_URL=simulator.url)
    assert status == 0 and findings["nothing is left behind"]["status"] == "WARN"


def test_for_people_it_is_a_line_a_check():
    with serve() as simulator:
        ended = subprocess.run(
            ["make", "-s", "doctor", "ARGS=--yes"], cwd=ROOT, timeout=120, capture_output=True, text=True,
            env={"PATH": os.environ["PATH"], "UPSTREAM": "simulator", "CURSOR_API_KEY": KEY,
                 "CURSOR_BASE_URL": simulator.url})
    assert ended.returncode == 0 and "PASS  simulator: a tool call: get_weather" in ended.stdout


@pytest.mark.parametrize("content", [False, True], ids=["scrubbed", "content"])
@pytest.mark.parametrize("form", ["cloud", "ui"])
def test_what_it_records_is_a_reply_file(tmp_path, form, content):
    script = {"replies": [{"when": "one word", "text": "Héllo " + KEY, "usage": {
        "inputTokens": 7, "outputTokens": 2}}]}
    arguments = ["--record", str(tmp_path), *(["--content"] if content else [])]
    with serve(script=script) as simulator:
        environ = ui(simulator) if form == "ui" else {
            "UPSTREAM": "simulator", "CURSOR_BASE_URL": simulator.url, "CURSOR_API_KEY": KEY}
        status, _, _ = doctor("--yes", *arguments, **environ)
    assert status == 0
    paths = sorted(tmp_path.glob("*.txt"))
    assert [path.name for path in paths] == [f"{form}_{name}.txt" for name in ("chat", "stream", "tool")]
    for path in paths:
        if form == "cloud":
            check_cloud(path)
        else:
            check_ui(path, lambda body: [[body], [body[at:at + 7] for at in range(0, len(body), 7)]])
    rows = json.loads((tmp_path / f"{form}_chat.json").read_text("utf-8"))
    hidden = "KEY" if form == "cloud" else KEY
    assert rows[0] == ["Text", "Héllo " + hidden if content else re.sub(r"\w", "x", "Héllo " + hidden)]
    said = "".join(Path(path).read_text("utf-8") for path in tmp_path.iterdir())
    assert (form == "ui" or KEY not in said) and ("Paris" in said) == content
