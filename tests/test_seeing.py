"""Seeing: a log line a request, metrics across workers, headers; and what never shows."""

import json
import logging
import os
import re
import signal
import subprocess
import sys

import pytest
from conftest import MODEL, ROOT, gateway, until
from test_service import client, fold, settled

from cursor2api.logs import Formatter

REPLY = {"replies": [{"text": "the-secret-reply", "thinking": "the-secret-thought", "times": 0,
                      "usage": {"inputTokens": 70, "outputTokens": 9, "cacheReadTokens": 30}}]}


@pytest.mark.parametrize("stream", [False, True], ids=["body", "stream"])
def test_a_request_leaves_one_line_with_its_facts_and_no_content(gate, stream):
    gate.simulator.script(REPLY)
    response = gate.say("the-secret-prompt", stream=stream)
    id = response.headers["x-request-id"]
    assert response.text
    line, = until(lambda: gate.lines(id=id, message="request"))
    facts = {"route": "chat_completions", "key": "default", "status": "200", "model": MODEL, "deltas": "1",
             "heartbeats": "0", "prompt_tokens": "70", "completion_tokens": "9", "finish": "stop",
             "closed_by": "gateway", "why": "complete", "level": "info"}
    assert facts.items() <= line.items()
    assert float(line["queue_ms"]) <= float(line["duration_ms"])
    assert ("first_ms" in line) == stream
    log = gate.log()
    assert not any(word in log for word in ("secret", "key-of-the-gateway"))


def test_a_request_id_is_the_callers_or_made_and_stands_in_the_log(gate):
    for given, kept in (("abc-1.2:3", True), ("has space", False), ("x" * 129, False), ("é", False)):
        response = gate.request("GET", "/v1/models", headers={"x-request-id": given.encode("latin-1")})
        id = response.headers["x-request-id"]
        assert (id == given) == kept and (kept or id.startswith("req_"))
        assert until(lambda: gate.lines(id=id, route="list_models"))


@pytest.mark.parametrize("method, path, key, facts", [
    ("GET", "/v1/models", "0000", {"route": "list_models", "status": "200", "level": "info"}),
    ("GET", "/static/nothing", None, {"route": "page_file", "status": "404", "level": "info"}),
    ("GET", "/v1/models", None, {"status": "401", "why": "invalid_api_key", "closed_by": "caller"}),
    ("GET", "/v1/models/nothing", "0000", {"status": "404", "why": "model_not_found", "key": "default"}),
    ("GET", "/nothing", None, {"status": "404"}),
    ("POST", "/v1/chat/completions", "0000", {"status": "400", "closed_by": "caller"})])
def test_every_request_is_logged_with_who_ended_it(gate, method, path, key, facts):
    response = gate.request(method, path, key=key, json={} if method == "POST" else None)
    assert until(lambda: gate.lines(id=response.headers["x-request-id"], **facts))


@pytest.mark.parametrize("debug", [False, True], ids=["usually", "with DEBUG"])
def test_what_programs_ask_for_all_the_time_is_logged_for_debugging_alone(debug):
    with gateway(environ={"DEBUG": str(debug)}) as gate:
        assert until(lambda: gate.get("/ready").ok)
        paths = ["/health", "/ready", "/", "/static/app.js", "/reference.json", "/openapi.json"]
        ids = [gate.get(path).headers["x-request-id"] for path in paths]
        last = gate.get("/v1/models").headers["x-request-id"]
        assert until(lambda: gate.lines(id=last, level="info"))
        assert until(lambda: [len(gate.lines(id=id, level="debug")) for id in ids] == [debug] * len(paths))
        assert debug or not any(gate.lines(id=id) for id in ids)
        gate.simulator.script({"replies": [{"text": "word " * 2000, "delay": 0.05}]})
        with gate.say(stream=True):
            gate.process.send_signal(signal.SIGTERM)
            assert until(lambda: gate.get("/ready").status_code == 503)
        assert gate.lines(route="ready", status="503", level="info")


@pytest.mark.upstreams("cloud", "sdk")  # uistream gives all failures one code
@pytest.mark.parametrize("script, facts", [
    ({"replies": [{"text": "x", "status": "ERROR"}]}, {"closed_by": "upstream", "why": "run_failed"}),
    ({"refuse": {"create": {"status": 400}}}, {"closed_by": "upstream", "status": "400"})])
def test_a_failure_of_cursor_is_logged_as_such(gate, script, facts):
    gate.simulator.script(script)
    response = gate.say(stream=True)
    assert response.text
    assert until(lambda: gate.lines(id=response.headers["x-request-id"], **facts))


def test_json_lines_are_json():
    with gateway(environ={"LOG_FORMAT": "json"}) as gate:
        assert gate.say().ok
        assert until(lambda: '"route": "chat_completions"' in gate.log())
        lines = [json.loads(line) for line in gate.log().splitlines()]
        line = next(line for line in lines if line.get("route") == "chat_completions")
        assert line["status"] == 200 and line["completion_tokens"] > 0 and line["level"] == "info"


@pytest.mark.parametrize("stream", [False, True], ids=["body", "stream"])
def test_content_is_logged_only_when_asked_for_and_that_is_said_at_the_start(stream):
    with gateway(script=REPLY, environ={"DEBUG_CONTENT": "true"}) as gate:
        assert "DEBUG_CONTENT is on" in gate.log()
        assert gate.say("the-secret-prompt", stream=stream).text
        assert until(lambda: "the-secret-reply" in gate.log())
        assert "the-secret-prompt" in gate.log() and "key-of-the-gateway" not in gate.log()


def test_debug_logs_what_the_upstream_is_asked_and_no_content():
    with gateway(script=REPLY, environ={"DEBUG": "true"}) as gate:
        assert gate.say("the-secret-prompt").ok and settled(gate)
        assert until(lambda: gate.lines(route="chat_completions"))
        assert gate.lines(message="upstream asked", method="POST", path="/v1/agents")
        assert gate.lines(message="upstream asked", method="DELETE")
        assert "secret" not in gate.log() and "key-of" not in gate.log()


@pytest.mark.parametrize("upstream, name", [("cloud", "CURSOR_BASE_URL"), ("uistream", "UISTREAM_URL")])
def test_a_password_in_a_url_is_shown_nowhere(upstream, name):
    """Nobody listens there, so that whatever is told of a failure is told."""
    settings = {name: "http://user:s3cret@127.0.0.1:9/path", "MODELS": MODEL, "DEBUG": "true",
                "UPSTREAM": upstream}
    with gateway(environ=settings) as gate:
        for response in (gate.say(), gate.say(stream=True), gate.get("/ready"), gate.get("/reference.json")):
            assert "s3cret" not in response.text
        assert until(lambda: gate.lines(why="upstream_unreachable")) and "s3cret" not in gate.log()
    done = subprocess.run([sys.executable, "-m", "cursor2api.doctor", "--yes"], cwd=ROOT, text=True, timeout=60,
                          capture_output=True, env={"PATH": os.environ["PATH"], "CURSOR_API_KEY": "k", **settings})
    assert "FAIL" in done.stdout and "s3cret" not in done.stdout + done.stderr


def values(gate):
    """The metrics as a dictionary from name with labels to value."""
    text = gate.get("/metrics").text
    return {name: float(value) for name, value in re.findall(r"^(cursor2api_\S+) (\S+)$", text, re.M)}


def test_metrics_count_right_across_workers_also_after_one_is_gone():
    with gateway(script=REPLY, environ={"WEB_CONCURRENCY": "2"}) as gate:
        name = 'cursor2api_requests_total{key="default",route="chat_completions",status="200"}'
        for count in range(1, 13):
            assert fold(gate.say(stream=True))[2] == "stop"
            assert until(lambda: values(gate).get(name) == count)
        found = values(gate)
        model = f'model="{MODEL}"'
        assert found[f'cursor2api_tokens_total{{key="default",kind="prompt_tokens",{model}}}'] == 12 * 70
        assert found[f'cursor2api_tokens_total{{key="default",kind="cached_tokens",{model}}}'] == 12 * 30
        assert found['cursor2api_agents_total{agent="new",upstream="simulator"}'] == 12
        assert found[f'cursor2api_deltas_total{{{model}}}'] == 12
        assert found[f'cursor2api_first_delta_seconds_count{{{model}}}'] == 12
        assert found['cursor2api_replies_total{closed_by="gateway",why="complete"}'] == 12
        assert found["cursor2api_slots"] == 120 and found["cursor2api_slots_used"] == 0
        workers = gate.workers()
        os.kill(workers[0], signal.SIGKILL)
        assert until(lambda: len(set(gate.workers()) - {workers[0]}) == 2)
        assert until(lambda: values(gate)["cursor2api_slots"] == 120)
        assert values(gate)[name] == 12


def test_metrics_are_the_text_format_and_need_a_key(gate):
    response = gate.get("/metrics")
    assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert "# TYPE cursor2api_requests_total counter" in response.text
    assert gate.request("GET", "/metrics", key=None).status_code == 401


@pytest.mark.parametrize("stream", [False, True], ids=["body", "stream"])
def test_times_are_in_the_headers(gate, stream):
    timing = gate.say(stream=stream).headers["server-timing"]
    names = [part.split(";dur=")[0] for part in timing.split(", ")]
    assert names == (["queue", "upstream", "total"] if stream else ["queue", "total"])
    assert all(float(part.split(";dur=")[1]) >= 0 for part in timing.split(", "))


def test_the_official_client_shows_the_request_id(gate):
    raw = client(gate).chat.completions.with_raw_response.create(
        model=MODEL, messages=[{"role": "user", "content": "x"}])
    assert raw.request_id and until(lambda: gate.lines(id=raw.request_id))


@pytest.mark.parametrize("facts, line", [
    ({"a": 1, "b": None, "c": ""}, "a=1"), ({"a": "x y"}, 'a="x y"'), ({"a": 'q"='}, 'a="q\\"="'),
    ({"a": "line\nbreak"}, 'a="line\\nbreak"'), ({"a": "é"}, 'a="\\u00e9"'), ({"a": 0.5}, "a=0.5")])
def test_a_logfmt_line_is_one_line(facts, line):
    record = logging.makeLogRecord({"msg": "hi", "levelname": "INFO", "created": 0.25, "msecs": 250,
                                    "facts": facts})
    assert Formatter().format(record) == f"time=1970-01-01T00:00:00.250Z level=info message=hi {line}"


@pytest.mark.parametrize("format", ["logfmt", "json"])
def test_a_traceback_stays_within_its_line(format):
    try:
        raise KeyError("x")
    except KeyError:
        record = logging.makeLogRecord({"msg": "a fault", "exc_info": sys.exc_info()})
    line = Formatter(format).format(record)
    assert "\n" not in line and "KeyError" in line
