"""Whatever comes in a request: no 5xx, no traceback, no thread that hangs, no process that grows."""

import json
import select
import socket
from contextlib import suppress
from urllib.parse import urlsplit

import pytest
import requests
from conftest import MODEL, gateway, until

CHAT = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}).encode()
POST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\napi-key: 0000\r\nContent-Type: application/json\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(CHAT)
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CHUNKS = b"%x\r\n%s\r\n0\r\n\r\n" % (len(CHAT), CHAT)
HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
def service():
    with gateway(environ={"MAX_BODY_BYTES": "1000000", "REQUEST_TIMEOUT": "20"}) as one:
        yield one


def connect(gate):
    url = urlsplit(gate.url)
    return socket.create_connection((url.hostname, url.port), timeout=30)


def answers(caller):
    """(status, headers, body) of each answer until the service ends the connection."""
    found = []
    with caller.makefile("rb") as stream:
        while line := stream.readline():
            status, headers = int(line.split()[1]), {}
            while (line := stream.readline().strip()):
                name, _, value = line.decode().partition(":")
                headers[name.lower()] = value.strip()
            if status >= 200:
                found.append((status, headers, stream.read(int(headers.get("content-length", 0)))))
    return found


def assert_error(status, body, expected):
    error = json.loads(body)["error"]
    assert status == expected
    assert set(error) == {"message", "type", "param", "code"} and error["type"] == "invalid_request_error"
    return error


# What is refused ends its connection: nothing behind it may be taken for a request.
FRAMING = [
    ("a length and chunks", POST + LENGTH + CHUNKED + b"\r\n" + CHUNKS, 400),
    ("two lengths", POST + LENGTH + b"Content-Length: 5\r\n\r\n" + CHAT, 400),
    ("two equal lengths", POST + LENGTH + LENGTH + b"\r\n" + CHAT, 400),
    ("a list of lengths", POST + b"Content-Length: 5, 5\r\n\r\n" + CHAT, 400),
    ("a signed length", POST + b"Content-Length: +5\r\n\r\n" + CHAT, 400),
    ("a negative length", POST + b"Content-Length: -5\r\n\r\n" + CHAT, 400),
    ("a length of 5,000 digits", POST + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n" + CHAT, 400),
    ("a length in other digits", POST + b"Content-Length: \xb2\r\n\r\n" + CHAT, 400),
    ("an unknown coding", POST + b"Transfer-Encoding: what\r\n\r\n" + CHUNKS, 400),
    ("a coding behind a control character", POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n" + CHUNKS, 400),
    ("a coding that is not last", POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n" + CHUNKS, 400),
    ("chunks twice", POST + CHUNKED + CHUNKED + b"\r\n" + CHUNKS, 400),
    ("a compressed coding", POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + CHUNKS, 415),
    ("chunks in HTTP/1.0", POST.replace(b"1.1", b"1.0") + CHUNKED + b"\r\n" + CHUNKS, 400),
    ("a chunk size that is none", POST + CHUNKED + b"\r\nzz\r\nhi\r\n0\r\n\r\n", 400),
    ("a chunk longer than it says", POST + CHUNKED + b"\r\n2\r\nhi!\r\n0\r\n\r\n", 400),
    ("a signed chunk size", POST + CHUNKED + b"\r\n+2\r\nhi\r\n0\r\n\r\n", 400),
    ("a folded header", POST + b"X-A: b\r\n c\r\n" + LENGTH + b"\r\n" + CHAT, 400),
    ("a space before the colon", POST + b"Content-Length : 5\r\n\r\n" + CHAT, 400),
    ("bare line feeds", (POST + LENGTH + b"\r\n").replace(b"\r\n", b"\n") + CHAT, 400),
    ("a zero byte in a header", POST + b"X-A: a\0b\r\n" + LENGTH + b"\r\n" + CHAT, 400),
    ("a header without a colon", POST + b"api-key 0000\r\n" + LENGTH + b"\r\n" + CHAT, 400),
    ("two hosts", POST + b"Host: y\r\n" + LENGTH + b"\r\n" + CHAT, 400),
    ("a method in small letters", HEALTH.replace(b"GET", b"get"), 400),
    ("an unknown version", HEALTH.replace(b"1.1", b"7.7"), 400),
    ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    ("TLS", b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n\r\n", 400),
    ("a long request line", HEALTH.replace(b"health", b"h" * 9000), 414),
    ("a long header", HEALTH[:-2] + b"A: " + b"a" * 9000 + b"\r\n\r\n", 431),
    ("many headers", HEALTH[:-2] + b"A: a\r\n" * 200 + b"\r\n", 431),
    ("an unknown expectation", POST + b"Expect: what\r\n" + LENGTH + b"\r\n" + CHAT, 417),
    ("more than may come", POST + b"Content-Length: 99999999999999999999\r\n\r\n" + CHAT, 413),
]


@pytest.mark.parametrize("name, data, status", FRAMING, ids=[row[0] for row in FRAMING])
def test_a_request_that_is_framed_badly_is_refused_and_ends_its_connection(service, name, data, status):
    with connect(service) as caller:
        caller.sendall(data + HEALTH)
        caller.shutdown(socket.SHUT_WR)
        (got, _, body), = answers(caller)
    assert_error(got, body, status)


# The rest, read as one request after another.
PIPELINED = [
    ("one after the other", HEALTH * 3, [200] * 3),
    ("chunks, then another", POST + CHUNKED + b"\r\n" + CHUNKS + HEALTH, [200, 200]),
    ("a body where none is read", HEALTH[:-2] + b"Content-Length: 29\r\n\r\n" + HEALTH[:29] + HEALTH, [200, 200]),
    ("a refused body, then another", POST + b"Content-Encoding: gzip\r\n" + LENGTH + b"\r\n" + CHAT + HEALTH,
     [415, 200]),
    ("a request within a body", POST + b"Content-Length: %d\r\n\r\n" % len(HEALTH) + HEALTH + HEALTH, [400, 200]),
    ("an underscore for a hyphen", POST + b"Content_Length: 5\r\n" + LENGTH + b"\r\n" + CHAT + HEALTH, [200, 200]),
    ("100-continue", POST + b"Expect: 100-continue\r\n" + LENGTH + b"\r\n" + CHAT + HEALTH, [200, 200]),
    ("no body", POST + b"\r\n" + HEALTH, [400, 200]),
]


@pytest.mark.parametrize("name, data, statuses", PIPELINED, ids=[row[0] for row in PIPELINED])
def test_requests_on_one_connection_keep_apart(service, name, data, statuses):
    with connect(service) as caller:
        caller.sendall(data + HEALTH[:-2] + b"Connection: close\r\n\r\n")
        assert [status for status, _, _ in answers(caller)] == [*statuses, 200]


@pytest.mark.parametrize("data, expected", [
    (POST + b"Content-Length: 500\r\n\r\n" + CHAT, 400), (POST + CHUNKED + b"\r\n" + CHUNKS[:-9], 408)],
    ids=["length", "chunks"])
def test_a_body_that_is_cut_is_refused_though_it_may_be_json(service, data, expected):
    with connect(service) as caller:
        caller.sendall(data)
        caller.shutdown(socket.SHUT_WR)
        (status, _, body), = answers(caller)
    assert_error(status, body, expected)


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
def test_a_body_over_the_limit_is_refused_without_being_read(service, chunked):
    sent = 0
    with connect(service) as caller:
        caller.sendall(POST + (CHUNKED if chunked else b"Content-Length: 1000000000\r\n") + b"\r\n")
        try:
            for _ in range(1000):
                caller.sendall((b"f4240\r\n" if chunked else b"") + b" " * 1_000_000 + b"\r\n" * chunked)
                sent += 1
        except OSError:  # it does not listen any more
            pass
        assert sent < 100  # what fits the buffers in between
    for size in (1_000_001, 1_900_000):  # who sends all before it listens is told so all the same
        response = requests.post(service.url + "/v1/chat/completions", data=b" " * size, timeout=30,
                                 headers={"api-key": "0000"})
        assert_error(response.status_code, response.content, 413)


def test_what_could_not_be_read_is_not_logged(service):
    secret = b"my-secret-prompt"
    with connect(service) as caller:
        caller.sendall(POST + b"Content-Length: 2\r\n\r\n{}" + secret + b"\r\n\r\n")
        assert [status for status, _, _ in answers(caller)] == [400, 400]
    assert until(lambda: "InvalidRequestLine" in service.log())
    assert secret.decode() not in service.log()


@pytest.fixture(scope="module")
def narrow():
    with gateway(environ={"REQUEST_TIMEOUT": "1", "THREADS": "6", "MAX_STREAMS": "4"}) as one:
        yield one


@pytest.mark.parametrize("begun, statuses", [
    (b"GET /hea", []), (POST, []), (POST + b"Content-Length: 5000\r\n\r\n{", [408]),
    (POST + CHUNKED + b"\r\nfff\r\n{", [408])], ids=["request line", "headers", "body", "chunk"])
def test_slow_senders_are_ended_then_others_are_served(narrow, begun, statuses):
    callers = [connect(narrow) for _ in range(12)]  # twice the threads
    for caller in callers:
        caller.sendall(begun)

    def all_ended():  # each byte comes in good time, the whole request does not
        slow = set(callers) - set(select.select(callers, [], [], 0)[0])
        for caller in slow:
            with suppress(ConnectionError):
                caller.sendall(b"a")
        return not slow

    assert until(all_ended)
    for caller in callers:
        with caller, suppress(ConnectionResetError):
            assert [status for status, _, _ in answers(caller)] == statuses
    assert requests.get(narrow.url + "/health", timeout=30).ok


def test_who_says_nothing_or_ends_slowly_holds_up_nobody(narrow):
    callers = [connect(narrow) for _ in range(24)]
    for caller in callers[12:]:
        caller.sendall(HEALTH[:-2] + b"Connection: close\r\n\r\n")  # and does not close it then
    assert requests.get(narrow.url + "/health", timeout=10).ok
    for caller in callers:
        caller.close()
