"""What happens when Cursor, the way to it, a caller or a worker fails: one outcome each, in body and stream."""

import base64
import json
import re
import socket
import ssl
import struct
import threading
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from conftest import MODEL, UPSTREAMS, gateway, resident, until
from test_service import events, settled

CERTIFICATE = Path(__file__).parent / "localhost.pem"
SAID = "one two three four five "


@pytest.fixture(scope="module")
def service():
    with gateway(environ={"TIMEOUT": "4", "HEARTBEAT_S": "0.5", "SEND_TIMEOUT": "3"}) as one:
        yield one


@pytest.fixture
def cursor(service):
    service.simulator.forget()
    return service


@pytest.fixture(scope="module", params=UPSTREAMS)
def other(request):
    with gateway(upstream=request.param,
                 environ={"TIMEOUT": "4", "FIRST_BYTE_S": "1", "HEARTBEAT_S": "0.5"}) as one:
        yield one


@pytest.fixture
def anywhere(other):
    """Before each upstream in turn."""
    other.simulator.forget()
    return other


@pytest.fixture(scope="module", params=UPSTREAMS)
def long(request):
    with gateway(upstream=request.param, environ={"TIMEOUT": "600"}) as one:
        yield one


@pytest.fixture
def patient(long):
    """Before each upstream in turn, with limits that end nothing within a test."""
    long.simulator.forget()
    return long


OPERATIONS = [
    ("create", "POST", r"/v1/agents"), ("follow_up", "POST", r"/v1/agents/[^/]+/runs"),
    ("stream", "GET", r".*/runs/[^/]+/stream"), ("get_run", "GET", r".*/runs/[^/]+"),
    ("get_agent", "GET", r"/v1/agents/[^/]+"), ("cancel", "POST", r".*/cancel")]


def calls(gate):
    """How often each operation was asked for, but for models and deleting, which is not the request's."""
    return Counter(name for entry in gate.simulator.state["requests"] for name, method, path in OPERATIONS
                   if entry["method"] == method and re.fullmatch(path, entry["path"]))


def refused(status, code="no", times=0, **more):
    return {"status": status, "code": code, "times": times, **more}


def frames(*bodies):
    """A stream of these assistant events, whose data are bytes, and a good end."""
    data = [b'event: assistant\nid: %d\ndata: %s\n\n' % pair for pair in enumerate(bodies)]
    raw = b"".join(data) + b'event: result\ndata: {"status": "FINISHED"}\n\nevent: done\ndata: {}\n\n'
    return {"raw": {"base64": base64.b64encode(raw).decode()}}


TEXT = {"text": SAID}
SLOW = {"text": SAID, "delay": 0.6}     # its run is not over when its stream breaks off
LASTING = {"text": SAID, "first": 60}  # nor in the time of a test
OPENED = {"create": 1, "stream": 1}
TAKEN_UP = {"create": 1, "stream": 2, "get_run": 1}
BODY, STREAM = "body", "stream"

# Name; the script of a run; what leaves before the end, None where a stream does not begin either; the
# error's status and code, None for a good end; what Cursor is asked; headers of a refusal.
FAULTS = [
    # A refusal of the call that starts the run
    *((f"400 {code}", {"create": refused(400, code)}, None, (400, code), {"create": 1}) for code in (
        "validation_error", "missing_body", "invalid_model", "repository_required")),
    *((f"401 {code}", {"create": refused(401, code)}, None, (502, code), {"create": 1}) for code in (
        "unauthorized", "api_key_not_found")),
    *((f"403 {code}", {"create": refused(403, code)}, None, (502, code), {"create": 1}) for code in (
        "plan_required", "role_forbidden", "feature_unavailable", "service_account_required")),
    ("404 agent_not_found", {"create": refused(404, "agent_not_found")}, None, (502, "agent_not_found"),
     {"create": 1}),
    ("409 agent_busy", {"create": refused(409, "agent_busy")}, None, (502, "agent_busy"), {"create": 3},
     {"Retry-After": "5"}),
    ("409 agent_busy, once", {**TEXT, "create": refused(409, "agent_busy", times=1)}, SAID, None,
     {"create": 2, "stream": 1}),
    *((f"409 {code}", {"create": refused(409, code)}, None, (502, code), {"create": 1}) for code in (
        "agent_archived", "agent_id_conflict", "run_not_cancellable")),
    ("429 without Retry-After", {"create": refused(429, "rate_limit_exceeded")}, None,
     (429, "rate_limit_exceeded"), {"create": 1}, {"Retry-After": "20"}),
    ("429 with a long Retry-After", {"create": refused(429, "usage_limit_exceeded", headers={
        "Retry-After": "60"})}, None, (429, "usage_limit_exceeded"), {"create": 1}, {"Retry-After": "60"}),
    ("429 with a date for Retry-After", {"create": refused(429, headers={
        "Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"})}, None, (429, "no"), {"create": 1},
     {"Retry-After": "20"}),
    *((f"429 with {what} for Retry-After", {"create": refused(429, headers={"Retry-After": asked})}, None,
       (429, "no"), {"create": 1}, {"Retry-After": told}) for what, asked, told in (
        ("no end", "inf", "20"), ("1e999", "1e999", "20"), ("no number", "\xb2", "20"),
        ("5,000 digits", "9" * 5000, "20"), ("years", "1e10", "86400"))),
    ("429 with a short Retry-After", {"create": refused(429, headers={"Retry-After": "0"})}, None, (429, "no"),
     {"create": 3}, {"Retry-After": "20"}),
    ("429 with a short Retry-After, once", {**TEXT, "create": refused(429, times=1, headers={"Retry-After": "1"})},
     SAID, None, {"create": 2, "stream": 1}),
    *((f"{status}", {"create": refused(status, "oh")}, None, (502, "oh"), {"create": 3}, {"Retry-After": "5"})
      for status in (500, 502, 503, 504)),
    ("500, twice", {**TEXT, "create": refused(500, times=2)}, SAID, None, {"create": 3, "stream": 1}),
    ("503 with Retry-After", {"create": refused(503, "oh", headers={"Retry-After": "9"})}, None, (502, "oh"),
     {"create": 3}, {"Retry-After": "9"}),
    ("501", {"create": refused(501, "not_implemented")}, None, (502, "not_implemented"), {"create": 1}),
    # Resets and pages where an answer should be
    *((f"a reset {when} the headers", {"create": {"reset": when, "times": 0}}, None, (502, "upstream_unreachable"),
       {"create": 3}, {"Retry-After": "5"}) for when in ("before", "within", "after")),
    *((f"a reset {when} the headers, once", {**TEXT, "create": {"reset": when}}, SAID, None,
       {"create": 2, "stream": 1}) for when in ("before", "within", "after")),
    ("a reset of an answer to a call that was carried out", {**TEXT, "create": {
        "reset": "before", "then_works": True}}, SAID, None, {"create": 2, "get_agent": 1, "stream": 1}),
    ("a page with status 200", {"create": refused(200, html=True)}, None, (502, "upstream_error"),
     {"create": 1, "get_agent": 1}),
    ("a page with status 502", {"create": refused(502, html=True)}, None, (502, "upstream_error"), {"create": 3}),
    ("a page with status 403", {"create": refused(403, html=True)}, None, (502, "upstream_key_refused"),
     {"create": 1}),
    # The same for the call that opens the run's stream
    *((f"{status} {code} for the stream", {**TEXT, "stream": refused(status, code)}, None, (error, code), OPENED)
      for status, code, error in ((400, "validation_error", 400), (401, "unauthorized", 502),
                                  (403, "role_forbidden", 502), (404, "run_not_found", 502),
                                  (409, "agent_archived", 502), (429, "rate_limit_exceeded", 429))),
    ("the stream has expired", {**TEXT, "stream": refused(410, "stream_expired")},
     SAID, None, {**OPENED, "get_run": 1}),
    ("the stream has expired, the run goes on", {**LASTING, "stream": refused(410, "stream_expired")}, "",
     (502, "upstream_cut"), {"create": 1, "stream": 7, "get_run": 7}),
    ("500 for the stream, once", {**TEXT, "stream": refused(500, times=1)},
     SAID, None, {"create": 1, "stream": 2}),
    ("503 for the stream", {**TEXT, "stream": refused(503, "upstream_error")}, SAID, None,
     {"create": 1, "stream": 3, "get_run": 1}),
    *((f"a reset {when} the stream's headers, once", {**TEXT, "stream": {"reset": when}}, SAID, None,
       {"create": 1, "stream": 2}) for when in ("before", "within")),
    ("a reset after the stream's headers, once", {**SLOW, "stream": {"reset": "after"}}, SAID, None, TAKEN_UP),
    ("no answer for the stream", {**LASTING, "stream": {"hang": 60, "times": 0}}, None, (504, "upstream_timeout"),
     OPENED),
    ("a page for the stream", {**TEXT, "raw": "<!DOCTYPE html><html>\n\n</html>"}, SAID, None,
     {**OPENED, "get_run": 1}),
    # What a stream may hold
    ("bad UTF-8", frames(b'{"text": "a\xff\xc3"}', b'{"text": "\xf0\x9f"}'), "a\ufffd\ufffd\ufffd", None, OPENED),
    ("a character cut in two", frames(rb'{"text": "a\ud83d"}', rb'{"text": "\ude00"}'), "a😀", None, OPENED),
    ("half a character", frames(rb'{"text": "a\ud83d"}'), "a\ufffd", None, OPENED),
    ("a frame of 10 MB", {"text": "x" * 10_000_000, "chunk": 10_000_000}, "x" * 10_000_000, None, OPENED),
    ("a frame of over 32 MB", {**TEXT, "raw": "event: assistant\ndata: " + "x" * 33_600_000}, "",
     (502, "upstream_error"), OPENED),
    ("CRLF frames", {**TEXT, "crlf": True}, SAID, None, OPENED),
    ("an unknown event", {**TEXT, "unknown_after": 2}, SAID, None, OPENED),
    ("the same event twice", {**TEXT, "twice_after": 2}, SAID, None, OPENED),
    ("an event cut at each of its bytes", {**TEXT, "cut": 1}, SAID, None, OPENED),
    ("all events in one piece", {**TEXT, "burst": True}, SAID, None, OPENED),
    ("an event that is not JSON", {**TEXT, "frames": [["assistant", {"text": "one "}], ["assistant", "{"]]}, SAID,
     None, {**OPENED, "get_run": 1}),
    ("an event nested a million deep", {**TEXT, **frames(b'{"text": "one "}', b"[" * 1_000_000)}, SAID, None,
     {**OPENED, "get_run": 1}),
    ("events of the wrong types", frames(b'{"text": 5}', b'{"text": null}', b'{}', b'{"text": "a"}'), "a",
     None, OPENED),
    # Ends that are none
    ("a close with no finish, once", {**SLOW, "close_after": 2, "stream_times": 1}, SAID, None, TAKEN_UP),
    ("a close with no finish, of events without ids", {**SLOW, "close_after": 2, "ids": False, "stream_times": 1},
     SAID, None, TAKEN_UP),
    ("a close with no finish, of a run that is over", {**TEXT, "close_after": 2},
     SAID, None, {**OPENED, "get_run": 1}),
    ("a close with no finish, of a run that goes on", {**LASTING, "close_after": 0}, "", (502, "upstream_cut"),
     {"create": 1, "stream": 7, "get_run": 7}),
    ("stream_unavailable", {**SLOW, "error_after": [0, {"code": "stream_unavailable"}], "stream_times": 1},
     SAID, None, TAKEN_UP),
    ("stream_unavailable in mid-stream", {**SLOW, "error_after": [2, {"code": "stream_unavailable"}],
                                          "stream_times": 1}, SAID, None, TAKEN_UP),
    ("stream_unavailable, each time", {**LASTING, "error_after": [0, {"code": "stream_unavailable"}]}, "",
     (502, "upstream_cut"), {"create": 1, "stream": 7, "get_run": 7}),
    *((f"the error {code} in the stream", {**TEXT, "error_after": [1, {"code": code}]}, "one ", (502, code),
       OPENED) for code in ("unauthorized", "forbidden", "not_found")),
    ("silence", {**TEXT, "stall_after": 0}, "", (504, "idle_timeout"), OPENED),
    ("silence in mid-stream", {**TEXT, "stall_after": 3}, "one two three ", (504, "idle_timeout"), OPENED),
    *((f"a run that ends as {status}", {**TEXT, "status": status}, SAID, (502, code), OPENED) for status, code in (
        ("ERROR", "run_failed"), ("EXPIRED", "run_expired"), ("CANCELLED", "run_cancelled"))),
    ("no text at all", {"text": "", "times": 2}, "", (502, "empty_reply"),
     {**OPENED, "follow_up": 1, "stream": 2}),
]


def said(response):
    """(text, status, code) of a body or of a stream; without a code it ended well."""
    if response.headers["Content-Type"].startswith("text/event-stream"):
        data, text = events(response), ""
        for chunk in map(json.loads, data[:-1]):
            assert chunk.get("choices") is not None, chunk
            text += "".join(choice["delta"].get("content") or "" for choice in chunk["choices"])
        if data[-1] == "[DONE]":
            assert json.loads(data[-2])["choices"][0]["finish_reason"] == "stop"
            return text, response.status_code, None
        assert not any('"finish_reason":"' in chunk.replace(" ", "") for chunk in data)
        return text, response.status_code, json.loads(data[-1])["error"]["code"]
    body = response.json()
    if "error" in body:
        return "", response.status_code, body["error"]["code"]
    return body["choices"][0]["message"]["content"], response.status_code, None


@pytest.mark.parametrize("form", [BODY, STREAM])
@pytest.mark.parametrize("script, text, error, asked, headers", [(*row[1:], {})[:5] for row in FAULTS],
                         ids=[row[0] for row in FAULTS])
def test_a_fault_of_cursor_has_one_outcome(cursor, script, text, error, asked, headers, form):
    cursor.simulator.script({"replies": [script]})
    response = cursor.say(stream=form == STREAM)
    status, code = error or (200, None)
    begun = form == STREAM and text is not None
    got = said(response)
    assert got[1:] == (200 if begun else status, code)
    assert got[0] == (text if begun or not error else "")
    assert headers.items() <= response.headers.items()
    assert settled(cursor)
    assert {**calls(cursor), "cancel": 0} == {**asked, "cancel": 0}
    assert all(run["status"] not in ("CREATING", "RUNNING") for agent in cursor.agents() for run in agent["runs"])


# What all upstreams can meet. The others' texts have no ids, and a reset of the call that the SDK's
# bridge makes is its death, which is another matter.
COMMON = [row for row in FAULTS
          if not {"raw", "frames", "stream", "create", "twice_after"} & row[1].keys()
          or " for Retry-After" in row[0]
          or row[0] in ("400 validation_error", "401 unauthorized", "403 plan_required", "409 agent_busy", "500",
                        "429 without Retry-After", "a page with status 502")]
COMMON = [row for row in COMMON if row[0] != "a frame of 10 MB"]  # which takes longer than the TIMEOUT here


@pytest.mark.parametrize("stream", [False, True])
def test_a_frame_of_10_mb_comes_whole_from_any_upstream(long, stream):
    long.simulator.script({"replies": [{"text": "x" * 10_000_000, "chunk": 10_000_000}]})
    assert said(long.say(stream=stream)) == ("x" * 10_000_000, 200, None)


@pytest.mark.parametrize("script", [row[1] for row in COMMON], ids=[row[0] for row in COMMON])
def test_a_fault_of_any_upstream_loses_and_doubles_nothing(anywhere, script):
    outcomes = []
    for stream in (False, True):
        anywhere.simulator.script({"replies": [script]})
        outcomes.append(said(anywhere.say(stream=stream)))
    (text, status, code), (streamed, _, streamed_code) = outcomes
    assert code == streamed_code
    if code:
        assert status in (400, 401, 403, 429, 502, 503, 504) and script.get("text", "").startswith(streamed)
    else:
        assert status == 200 and text == streamed == script["text"]
    assert settled(anywhere)
    runs = [run for agent in anywhere.agents() for run in agent["runs"]]
    assert all(run["status"] not in ("CREATING", "RUNNING") for run in runs)


def test_after_no_text_at_all_a_second_reply_counts(cursor):
    cursor.simulator.script({"replies": [{"text": ""}, {**TEXT}, {"text": ""}, {**TEXT}]})
    assert said(cursor.say()) == said(cursor.say(stream=True)) == (SAID, 200, None)


def test_a_stream_that_breaks_at_any_byte_is_taken_up_where_it_was():
    text, cuts = "one two three", range(1, 600, 7)
    script = {"replies": [{"when": f"({at})", "text": text, "twins": False, "delay": 0.4, "reset_after": at,
                           "stream_times": 1} for at in cuts]}
    with gateway(script) as gate:  # at 16 a time, a busy machine takes seconds for the head of an answer
        with ThreadPoolExecutor(8) as pool:
            for response in pool.map(lambda at: gate.say(f"({at})", stream=at % 2 == 0), cuts):
                assert said(response) == (text, 200, None)
        assert settled(gate)
        runs = [run for agent in gate.agents() for run in agent["runs"]]
    assert len(runs) == len(cuts) and sum(run["connections"] == 2 for run in runs) > 5  # the rest were over


def test_retries_wait_longer_each_time_and_not_all_equally_long():
    with gateway(script={"refuse": {"create": refused(500)}}, environ={"RETRY_S": "0.4", "DEBUG": "true"}) as gate:
        with ThreadPoolExecutor(8) as pool:
            assert {response.status_code for response in pool.map(lambda _: gate.say(), range(8))} == {502}
        waits = [float(line["wait_s"]) for line in gate.lines(message="upstream retry")]
    first, second = [wait for wait in waits if wait < 0.55], [wait for wait in waits if wait >= 0.55]
    assert len(first) == len(second) == 8 and len(set(waits)) == 16
    assert all(0.3 <= wait <= 0.5 for wait in first) and all(0.6 <= wait <= 1 for wait in second)


# The way to Cursor

@contextmanager
def server(answer):
    """Calls `answer` with each connection, in a thread; its port on this machine."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        def guarded(connection):
            with connection, suppress(OSError):
                answer(connection)

        def accept():
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    threading.Thread(target=guarded, args=(connection,), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def pump(one, other, seen=None):
    """Carries bytes both ways until one side ends; those from `one` are also put into `seen`."""
    def carry(source, target, seen):
        with suppress(OSError):
            while data := source.recv(65536):
                if seen is not None:
                    seen.append(data)
                target.sendall(data)
        for side in (source, target):
            with suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)

    back = threading.Thread(target=carry, args=(other, one, None), daemon=True)
    back.start()
    carry(one, other, seen)
    back.join(10)


@contextmanager
def tls_before(simulator):
    """Cursor behind TLS, with a certificate that says localhost and that nobody has signed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)

    def answer(connection):
        with context.wrap_socket(connection, server_side=True) as secure, \
                socket.create_connection(("127.0.0.1", urlsplit(simulator.url).port)) as plain:
            pump(secure, plain)

    with server(answer) as port:
        yield port


def test_a_name_that_dns_does_not_know_is_an_unreachable_upstream():
    with gateway(environ={"CURSOR_BASE_URL": "http://cursor.invalid", "MODELS": MODEL}) as gate:
        for response in (gate.say(), gate.say(stream=True)):
            assert said(response) == ("", 502, "upstream_unreachable") and response.headers["Retry-After"] == "5"


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_connection_that_is_not_made_in_time_is_a_timeout_of_its_own(scheme):
    with ExitStack() as stack:
        if scheme == "https":  # is taken, then TLS is not answered
            port = stack.enter_context(server(lambda connection: connection.recv(65536) and connection.recv(1)))
        else:  # is not taken: the queue of this listener is full
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
            port = listener.getsockname()[1]
            for _ in range(3):
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(("127.0.0.1", port))
        gate = stack.enter_context(gateway(environ={
            "CURSOR_BASE_URL": f"{scheme}://localhost:{port}", "MODELS": MODEL, "CONNECT_TIMEOUT": "0.5"}))
        for response in (gate.say(), gate.say(stream=True)):
            assert said(response) == ("", 504, "connect_timeout") and response.headers["Retry-After"] == "5"


def test_a_server_that_speaks_no_tls_is_refused(cursor):
    with gateway(environ={"MODELS": MODEL, "CURSOR_BASE_URL": "https" + cursor.simulator.url[4:]}) as gate:
        assert said(gate.say()) == ("", 502, "upstream_tls")


def test_a_certificate_that_nobody_has_signed_is_refused_and_nothing_is_said_to_it(cursor):
    with tls_before(cursor.simulator) as port, gateway(environ={
            "CURSOR_BASE_URL": f"https://localhost:{port}", "MODELS": MODEL}) as gate:
        for response in (gate.say(), gate.say(stream=True)):
            assert said(response) == ("", 502, "upstream_tls") and response.headers["x-should-retry"] == "false"
        assert not cursor.simulator.state["requests"]


@contextmanager
def proxy(seen, refusal=b""):
    """A proxy that makes tunnels to this machine; what callers say to it comes into `seen`."""
    def answer(connection):
        head = b""
        while b"\r\n\r\n" not in head:
            head += connection.recv(65536)
        seen.append(head)
        if refusal:
            return connection.sendall(refusal)
        port = int(head.split()[1].rpartition(b":")[2])
        with socket.create_connection(("127.0.0.1", port)) as there:
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            pump(connection, there, seen)

    with server(answer) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy"])
def test_https_proxy_is_honoured_and_does_not_see_the_key(cursor, name):
    seen = []
    with tls_before(cursor.simulator) as port, proxy(seen) as url, gateway(environ={
            name: url, "SSL_CERT_FILE": str(CERTIFICATE), "MODELS": MODEL,
            "CURSOR_BASE_URL": f"https://localhost:{port}", "CURSOR_API_KEY": "key-behind-tls"}) as gate:
        cursor.simulator.script({"replies": [{**TEXT, "times": 0}]})
        assert said(gate.say()) == said(gate.say(stream=True)) == (SAID, 200, None)
        assert settled(cursor)
    assert seen and all(head.startswith(b"CONNECT localhost:%d HTTP/1." % port)
                        for head in seen if b"HTTP/1." in head)
    assert b"key-behind-tls" not in b"".join(seen) and b"/v1/agents" not in b"".join(seen)
    assert {entry["headers"]["authorization"] for entry in cursor.simulator.state["requests"]} == {"****-tls"}


def test_a_proxy_that_refuses_is_an_unreachable_upstream(cursor):
    seen = []
    with proxy(seen, b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n") as url, gateway(
            environ={"HTTPS_PROXY": url, "CURSOR_BASE_URL": "https://localhost:1", "MODELS": MODEL}) as gate:
        assert said(gate.say()) == ("", 502, "upstream_unreachable")
        assert sum(b"CONNECT" in head for head in seen) >= 3


# Callers

def ask(gate, stream, buffer=0, id="", **more):
    """A connection on which a chat was asked for."""
    url = urlsplit(gate.url)
    body = json.dumps({"model": MODEL, "stream": stream, "messages": [{"role": "user", "content": "Hi"}],
                       **more}).encode()
    caller = socket.socket()
    if buffer:
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    caller.settimeout(30)
    caller.connect((url.hostname, url.port))
    caller.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\napi-key: 0000\r\n"
                   b"x-request-id: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
                       id.encode(), len(body), body))
    return caller


# Name, what Cursor does, whether a stream is asked for, and what the caller has seen when it leaves.
LEAVING = [
    ("before the first byte of a stream", {"boot": 2, "first": 60}, True, b""),
    ("before the first byte of a stream that is open", {"first": 60}, True, b""),
    ("in mid-stream", {"text": "word " * 2000, "delay": 0.05}, True, b"word"),
    ("in a quiet minute", {"text": "word two", "delay": 60, "heartbeat": 0.2}, True, b"word"),
    ("while a body is waited for", {"first": 60}, False, b""),
    ("while the agent of a body is made", {"boot": 2, "first": 60}, False, b""),
]


HEARTBEAT_S = 10  # as it is unless it is set


@pytest.mark.parametrize("end", ["close", "reset", "a byte more"])
@pytest.mark.parametrize("script, stream, seen", [row[1:] for row in LEAVING], ids=[row[0] for row in LEAVING])
def test_a_caller_who_leaves_ends_its_run_within_a_heartbeat(patient, script, stream, seen, end):
    patient.simulator.script({"replies": [{"text": "word", **script}]})
    id = uuid.uuid4().hex
    with ask(patient, stream, id=id) as caller:
        got = b""
        while seen not in got:
            got += caller.recv(65536)
        assert until(lambda: patient.agents() and (seen or script.get("boot") or patient.simulator.open_streams))
        if end == "reset":
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif end == "a byte more":
            caller.sendall(b"\n")
    assert until(lambda: [run["status"] for agent in patient.agents() for run in agent["runs"]] == ["CANCELLED"],
                 HEARTBEAT_S)
    assert settled(patient)
    assert until(lambda: patient.lines(id=id, closed_by="caller"))


@pytest.mark.parametrize("count", [1, 2])
def test_no_first_byte_is_waited_for_whose_caller_has_left(count):
    with gateway({"replies": [{"stream": {"hang": 120}, "times": 0}]}, {"FIRST_BYTE_S": "120"}) as gate:
        with ask(gate, True, n=count):
            assert until(lambda: sum(len(agent["runs"]) for agent in gate.agents()) == count)
        assert until(lambda: all(agent["deleted"] for agent in gate.agents()), HEARTBEAT_S)


def test_one_choice_that_is_refused_ends_the_wait_for_the_others():
    with gateway({"replies": [{"create": refused(400)}, {"stream": {"hang": 120}, "times": 0}]},
                 {"FIRST_BYTE_S": "120"}) as gate:
        response = gate.say(stream=True, n=3)
        assert (response.status_code, response.json()["error"]["code"]) == (400, "no")
        assert settled(gate)


@pytest.mark.parametrize("upstream", ["cloud", "sdk"])
def test_a_cancel_that_hangs_before_a_repair_holds_up_no_heartbeat(upstream):
    unfit = {"text": "{open}no call{close}" + " word" * 200, "delay": 0.05, "cancel": {"hang": 4}}
    with gateway({"replies": [unfit, {"text": "So be it."}]}, {"HEARTBEAT_S": "0.5"}, upstream) as gate:
        response = gate.say(stream=True, tools=[{"type": "function", "function": {"name": "f"}}])
        assert said(response) == ("So be it.", 200, None)
        # On sdk the run's stream ends without waiting for the cancel's answer, and so does the reply.
        assert upstream == "sdk" or response.text.count('"delta":{},"logprobs":null,"finish_reason":null') >= 2


def test_callers_who_leave_while_their_agents_boot_hold_up_no_other_end(cursor):
    cursor.simulator.script({"replies": [{"boot": 12, "first": 60, "times": 6}, {"first": 60}]})
    with ExitStack() as stack:
        for _ in range(6):
            stack.enter_context(ask(cursor, False))
        assert until(lambda: len(cursor.agents()) == 6)
    with ask(cursor, False):
        assert until(lambda: cursor.simulator.open_streams)
    assert until(lambda: cursor.agents()[-1]["runs"][0]["status"] == "CANCELLED")
    assert {agent["runs"][0]["status"] for agent in cursor.agents()[:6]} == {"CREATING"}
    assert settled(cursor)


def test_a_caller_who_takes_nothing_is_ended_and_its_slot_is_free():
    with gateway(environ={"SEND_TIMEOUT": "3", "THREADS": "8", "MAX_STREAMS": "1", "QUEUE_S": "0"}) as gate:
        assert gate.say().ok
        before = resident(gate)
        # Were it said at once, the run would be over, and be told whole, when it is asked for.
        gate.simulator.script({"replies": [{"text": "word " * 8_000_000, "chunk": 50_000, "delay": 0.01}]})
        with ask(gate, True, buffer=4096):
            assert until(lambda: gate.simulator.open_streams)
            assert gate.say().status_code == 503
            assert until(lambda: gate.agents()[-1]["deleted"])
            assert resident(gate) - before < 20_000_000  # of 40 MB that Cursor says
        gate.simulator.script({"replies": [TEXT]})
        assert said(gate.say()) == (SAID, 200, None)


def test_a_caller_who_reads_slowly_gets_all_and_is_not_run_ahead_of():
    # Its own gateway: what an earlier test made a worker take, and give back, can be taken again at once.
    script = {"replies": [{"text": "word " * 6_000_000, "chunk": 50_000}]}
    with gateway(script) as gate:
        got, sizes = [], [resident(gate)]
        with ask(gate, True, buffer=65536) as caller:
            while b"[DONE]" not in b"".join(got[-2:]):
                got.append(caller.recv(65536))
                time.sleep(0.002)
                if len(got) in (50, 100, 150):  # before Cursor's result, which has all the text again
                    sizes.append(resident(gate))
    assert b"".join(got).count(b"word ") == 6_000_000
    assert len(sizes) == 4 and max(sizes) - sizes[0] < 30_000_000  # of 30 MB that Cursor says, kept thrice


def test_a_caller_who_takes_little_but_steadily_is_not_ended(cursor):
    text = "".join(f"{number:06} " for number in range(25_000))
    cursor.simulator.script({"replies": [{"text": text, "chunk": 700}]})
    with ask(cursor, True, buffer=32768) as caller:  # less than the pieces in which it is sent
        got, begun = b"", time.monotonic()
        while b"[DONE]" not in got[-100:]:
            data = caller.recv(2048)
            assert data, "the connection was ended"
            got += data
            time.sleep(0.06)
        assert time.monotonic() - begun > 6, "of which SEND_TIMEOUT is three"
    deltas = [json.loads(line[6:])["choices"][0]["delta"] for line in got.decode().splitlines()
              if line.startswith("data: {")]
    assert "".join(delta.get("content") or "" for delta in deltas) == text
