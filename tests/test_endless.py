"""An upstream that never comes to an end: each call ends at its deadline, in little memory."""

import json
import re
import socket
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from conftest import MODEL, gateway, until

LONGEST_S = 60           # that the hostile upstream goes on, on one connection
MOST = 2_000_000_000     # bytes
LIMITS = {"TIMEOUT": "1", "CREATE_TIMEOUT": "1", "CONNECT_TIMEOUT": "2", "MODELS": MODEL, "SWEEP_S": "0",
          "FIRST_BYTE_S": "0.5", "HEARTBEAT_S": "1"}
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data):
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


# What comes first, and what then comes without end.
ANYWHERE = {
    "an error body in chunks": (b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n", chunk(b"x" * 1000)),
    "an error body of a length": (b"HTTP/1.1 500 No\r\nContent-Length: 99999999999\r\n\r\n", b"x" * 1000),
    "an error body up to a close": (b"HTTP/1.1 500 No\r\nConnection: close\r\n\r\n", b"x" * 1000),
    "header lines": (b"HTTP/1.1 200 OK\r\n", b"X-More: yes\r\n"),
    "a header line": (b"HTTP/1.1 200 OK\r\nX-More: ", b"x"),
    "a status line": (b"HTTP/1.1 200 ", b"O"),
    "100 Continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "103 Early Hints": (b"", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"),
    "silence": (b"", b""),
}
WITHIN = {
    "a chunk's length": (STREAM, b"0"),
    "a chunk's extension": (STREAM + b"5;", b"x"),
    "trailers": (STREAM + b"0\r\n", b"X-More: yes\r\n"),
}
ALIVE = {  # what says each time that the upstream lives: only the caller and the total time end it
    "a line": (STREAM + chunk(b"data: "), chunk(b"x" * 1000)),
    "comments": (STREAM, chunk(b": still here\n")),
}
FAULTS = ANYWHERE | WITHIN | ALIVE
ENDED = [("uistream", "chat", name) for name in ANYWHERE | WITHIN] + [
    ("cloud", "create", name) for name in ANYWHERE] + [
    ("cloud", "stream", name) for name in WITHIN] + [("cloud", "run", "an error body in chunks")]
LEFT = [("uistream", "chat", name) for name in FAULTS if "error" not in name] + [
    ("cloud", "create", name) for name in ("header lines", "100 Continue", "silence")] + [
    ("cloud", "stream", name) for name in WITHIN | ALIVE]


class Upstream:
    """Answers like Cursor and like a UI message stream, but for the call named `at`, where the `fault` comes."""

    def __init__(self, listener):
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self._listener = listener
        self.at, self.fault, self.slow = "", ("", b""), False
        self.begun, self.open = 0, 0  # faults that have begun, connections on which one goes on

    def play(self, at="", name="", slow=False):
        self.begun = 0
        self.at, self.fault, self.slow = at, FAULTS.get(name, ("", b"")), slow

    def accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with connection:
            try:
                while head := read_request(connection):
                    method, path = head.split(" ")[:2]
                    call = next(name for name, verb, form in CALLS if verb == method and re.fullmatch(form, path))
                    if call == self.at:
                        return self._never_end(connection)
                    connection.sendall(answer(call))
            except OSError:
                pass

    def _never_end(self, connection):
        first, more = self.fault
        connection.sendall(first)
        self.begun += 1
        self.open += 1
        end, sent, at = time.monotonic() + LONGEST_S, 0, 0
        block = more * (65536 // len(more)) if more else b""
        try:
            pause = 0.02 * self.slow or not more  # seconds
            while time.monotonic() < end and sent < MOST and not has_left(connection, pause):
                with suppress(TimeoutError, BlockingIOError):
                    if self.slow and more:
                        connection.sendall(more[at % len(more):at % len(more) + 1])
                        at += 1
                    elif more:
                        sent += connection.send(block)
        finally:
            self.open -= 1


def has_left(connection, seconds):
    """Whether the other side has ended the connection, which it is given that time for."""
    try:
        connection.settimeout(seconds or 0.001)
        return connection.recv(65536) == b""
    except (TimeoutError, BlockingIOError):
        return False
    finally:
        connection.settimeout(1)


CALLS = [("models", "GET", "/v1/models"), ("list", "GET", r"/v1/agents\?.*"), ("create", "POST", "/v1/agents"),
         ("stream", "GET", "/v1/agents/.*/stream"), ("run", "GET", "/v1/agents/.*/runs/.*"),
         ("cancel", "POST", "/v1/agents/.*/cancel"), ("delete", "DELETE", "/v1/agents/.*"),
         ("chat", "POST", "/ui/chat")]
SAID = {
    "models": {"items": [{"id": MODEL}]}, "list": {"items": []}, "cancel": {}, "delete": {},
    "create": {"agent": {"id": "bc-1"}, "run": {"id": "run-1"}}, "run": {"id": "run-1", "status": "RUNNING"}}
STREAMED = {
    "stream": b'event: assistant\ndata: {"text": "Hello"}\n\nevent: result\ndata: {"status": "FINISHED"}\n\n',
    "chat": b'data: {"type": "text-delta", "delta": "Hello"}\n\ndata: {"type": "finish"}\n\n'}


def answer(call):
    if call in STREAMED:
        return STREAM + chunk(STREAMED[call]) + b"0\r\n\r\n"
    body = json.dumps(SAID[call]).encode()
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def read_request(connection):
    data = b""
    while b"\r\n\r\n" not in data:
        if not (more := connection.recv(65536)):
            return ""
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: *(\d+)", head)
    left = int(length[1]) - len(body) if length else 0
    while left > 0:
        left -= len(connection.recv(left))
    return head.decode("latin-1")


@contextmanager
def hostile():
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        upstream = Upstream(listener)
        threading.Thread(target=upstream.accept, daemon=True).start()
        yield upstream
        listener.shutdown(socket.SHUT_RDWR)


@contextmanager
def before(upstream, kind, **more):
    """A gateway that asks the hostile upstream."""
    urls = {"cloud": {"CURSOR_BASE_URL": upstream.url}, "uistream": {"UISTREAM_URL": upstream.url + "/ui/chat"}}
    with gateway(upstream=kind, environ={**LIMITS, **urls[kind], **more}) as gate:
        assert gate.say().json()["choices"][0]["message"]["content"] == "Hello"
        yield gate


@pytest.fixture(scope="module")
def gates():
    """(upstream, gateway) of each kind, made when it is first asked for."""
    made, opened = {}, []
    for kind in ("uistream", "cloud"):
        first = hostile()
        upstream = first.__enter__()
        second = before(upstream, kind)
        made[kind] = upstream, second.__enter__()
        opened += [first, second]
    yield made
    for each in reversed(opened):
        each.__exit__(None, None, None)


def peak(gate):
    """The most bytes of memory that the worker has held since the last `forget_peak`."""
    [worker] = gate.workers()
    return int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{worker}/status").read_text())[1]) * 1024


def forget_peak(gate):
    [worker] = gate.workers()
    Path(f"/proc/{worker}/clear_refs").write_text("5")
    return peak(gate)


@pytest.mark.parametrize("slow", [False, True], ids=["at full speed", "a byte at a time"])
@pytest.mark.parametrize("kind, at, name", ENDED, ids=[" ".join(row) for row in ENDED])
def test_what_never_ends_is_ended_at_its_deadline_in_little_memory(gates, kind, at, name, slow):
    upstream, gate = gates[kind]
    if at == "run":  # which is asked for when the stream has dropped
        upstream.play("run", name, slow)
        stream, STREAMED["stream"] = STREAMED["stream"], b"event: error\ndata: {}\n\n"
    else:
        upstream.play(at, name, slow)
    held, begun = forget_peak(gate), time.monotonic()
    try:
        text = gate.say(stream=True).text
    finally:
        if at == "run":
            STREAMED["stream"] = stream
        upstream.play()
    assert '"error"' in text and '"stop"' not in text and "[DONE]" not in text
    assert time.monotonic() - begun < 30  # three attempts of a second; beside other work
    assert peak(gate) - held < 20_000_000
    assert until(lambda: not upstream.open)
    assert gate.say().json()["choices"][0]["message"]["content"] == "Hello"


@pytest.mark.parametrize("kind, at, name", LEFT, ids=[" ".join(row) for row in LEFT])
def test_a_caller_who_leaves_is_noticed_whatever_keeps_coming(patient_gates, kind, at, name):
    upstream, gate = patient_gates[kind]
    upstream.play(at, name, slow=name != "comments")
    lines = len(gate.lines(why="caller_left")) + len(gate.lines(closed_by="caller"))
    body = json.dumps({"model": MODEL, "stream": True, "messages": [{"role": "user", "content": "Hi"}]})
    with socket.create_connection(("127.0.0.1", int(gate.url.rpartition(":")[2]))) as caller:
        caller.sendall((f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer 0000\r\n"
                        f"Content-Length: {len(body)}\r\n\r\n{body}").encode())
        assert until(lambda: upstream.begun)
    left = time.monotonic()
    assert until(lambda: len(gate.lines(why="caller_left")) + len(gate.lines(closed_by="caller")) > lines)
    assert time.monotonic() - left < 10  # two seconds, but for other work
    upstream.play()
    assert until(lambda: not upstream.open, 60)


@pytest.fixture(scope="module")
def patient_gates():
    """As `gates`, with limits that no test waits for but that of an agent's making, which is waited for."""
    made, opened = {}, []
    for kind in ("uistream", "cloud"):
        first = hostile()
        upstream = first.__enter__()
        second = before(upstream, kind, TIMEOUT="50", CREATE_TIMEOUT="3")
        made[kind] = upstream, second.__enter__()
        opened += [first, second]
    yield made
    for each in reversed(opened):
        each.__exit__(None, None, None)


@pytest.mark.parametrize("kind, at, name", [
    ("uistream", "chat", "comments"), ("uistream", "chat", "100 Continue"), ("uistream", "chat", "a line"),
    ("cloud", "stream", "comments"), ("cloud", "stream", "silence"), ("cloud", "create", "header lines")])
def test_the_total_time_ends_what_never_ends(kind, at, name):
    with hostile() as upstream, before(upstream, kind, TIMEOUT="50", CREATE_TIMEOUT="50",
                                       TOTAL_TIMEOUT="3") as gate:
        upstream.play(at, name, slow=True)
        begun = time.monotonic()
        assert "total_timeout" in gate.say(stream=True).text
        assert time.monotonic() - begun < 15
        upstream.play()
    assert until(lambda: not upstream.open)
