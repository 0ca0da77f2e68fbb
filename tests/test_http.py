"""The HTTP client, against a server that plays bytes: every answer at every cut, and every way to fail."""

import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from conftest import until
from cursor2api.errors import UpstreamError, UpstreamTimeout
from cursor2api.upstream.http import Ended, Http, Limits
from cuts import cuts

CERTIFICATE = Path(__file__).parent / "localhost.pem"
LIMITS = Limits(connect=5, create=5, idle=30, retry=0.01)
BRIEF = replace(LIMITS, idle=0.2)  # where silence is what is tested
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


class Server:
    def __init__(self, listener):
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self.requests = []     # (number of the connection, bytes)
        self.connections = 0
        self.closed = 0        # connections that the server has closed


@contextmanager
def server(*answers, tls=False):
    """Answers each request with the pieces of the next of `answers`, of which None closes the connection;
    "tunnel" makes it a tunnel to the server itself."""
    left = list(answers)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = Server(listener)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATE)

        def serve(connection, number):
            with connection:
                if tls and not (left and left[0] == "tunnel"):
                    connection = context.wrap_socket(connection, server_side=True)
                connection.settimeout(10)
                while (request := read_request(connection)) and left:
                    one.requests.append((number, request))
                    answer = left.pop(0)
                    if answer == "tunnel":
                        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                        connection = context.wrap_socket(connection, server_side=True)
                        continue
                    for piece in [answer] if isinstance(answer, bytes) else answer:
                        if piece is None:
                            connection.close()
                            one.closed += 1
                            return
                        connection.sendall(piece)

        def accept():
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                one.connections += 1
                threading.Thread(target=guarded, args=(connection, one.connections), daemon=True).start()

        def guarded(*args):
            try:
                serve(*args)
            except OSError:  # the client has gone, or did not trust us
                pass

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield one
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def read_request(connection):
    data = b""
    while b"\r\n\r\n" not in data:
        if not (more := connection.recv(65536)):
            return b""
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    length = next((int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"Content-L")), 0)
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


@contextmanager
def client(url, limits=LIMITS, **headers):
    http = Http(url, headers, limits, 4)
    try:
        yield http
    finally:
        http.close()


def body_of(response):
    pieces = []
    while (data := response.read()) != b"":
        pieces.append(data or b"")
    response.close()
    return b"".join(pieces)


# Name, the answer, its status, its body, and whether the connection can be used again.
ANSWERS = [
    ("a length", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, b"hello", True),
    ("no body", b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", True),
    ("chunks", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
     b"3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nTrailer: 1\r\n\r\n", 200, b"hello", True),
    ("headers in any case", b"HTTP/1.1 404 Not Found\r\ncontent-LENGTH:  3 \r\n\r\nno!", 404, b"no!", True),
    ("a first answer of 100", b"HTTP/1.1 100 Continue\r\n\r\n" + OK, 200, b"hi", True),
    ("a close", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi", 200, b"hi", False),
    ("the older protocol", b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", 200, b"hi", False),
]


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("rest, lasts", [
    ((b"2\r\n!!\r\n", b"0\r\n\r\n"), True), ((b"0\r\n\r\n",), True), ((b"2\r\n!!\r\n",), False), ((), False),
    ((b"2\r\n!!\r\n",) * 100 + (b"0\r\n\r\n",), True), ((b"10000\r\n" + b"x" * 65536 + b"\r\n",) * 20, False)])
def test_a_stream_left_at_its_last_event_gives_its_connection_back_if_the_end_has_come(
        rest, lasts, tls, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    first = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n"
    with server([first, b"".join(rest)], OK, tls=tls) as one, (
            client(one.url.replace("http:", "https:" if tls else "http:"))) as http:
        response = http.call("GET", "/", stream=True)
        assert response.read().startswith(b"hi")
        response.finish()
        assert http.call("GET", "/").content == b"hi" and one.connections == (1 if lasts else 2)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("answer, status, body, lasts", [row[1:] for row in ANSWERS],
                         ids=[row[0] for row in ANSWERS])
def test_an_answer_at_every_cut(answer, status, body, lasts, stream):
    ways = list(cuts(answer))
    with server(*ways) as one, client(one.url) as http:
        for _ in ways:
            response = http.call("GET", "/", stream=stream)
            assert response.status_code == status
            assert (body_of(response) if stream and status == 200 else response.content) == body
        assert one.connections == (1 if lasts else len(ways))


def test_a_request_as_it_is_sent():
    with server(OK, OK, OK) as one, client(one.url + "/base?x=1", **{"User-Agent": "us"}) as http:
        http.call("POST", "", json={"text": "é"}, headers={"User-Agent": "them", "Last-Event-ID": "ü"})
        http.call("GET", "&y=2")
        http.call("POST", "&z")
    first, second, third = (request for _, request in one.requests)
    head, body = first.split(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST /base?x=1 HTTP/1.1" and body == b'{"text": "\\u00e9"}'
    assert sorted(lines[1:]) == sorted([
        b"Host: " + one.url[7:].encode(), b"User-Agent: them", "Last-Event-ID: ü".encode(),
        b"Accept-Encoding: identity", b"Content-Length: 18", b"Content-Type: application/json"])
    assert second.startswith(b"GET /base?x=1&y=2 HTTP/1.1\r\n") and b"User-Agent: us\r\n" in second
    assert b"Content-Length: 0\r\n" in third


def test_a_large_body_goes_out_whole():
    text = "x" * 5_000_000
    with server(OK) as one, client(one.url) as http:
        assert http.call("POST", "/", json=text).content == b"hi"
    assert one.requests[0][1].endswith(text.encode() + b'"')


def test_a_kept_connection_that_was_closed_is_replaced():
    with server(OK, [None], OK) as one, client(one.url) as http:
        http.call("GET", "/")
        with pytest.raises(UpstreamError):
            http.call("GET", "/")
        http.call("GET", "/")
    assert [number for number, _ in one.requests] == [1, 1, 2]


def test_a_connection_closed_while_idle_is_not_used():
    with server([OK, None], OK) as one, client(one.url) as http:
        http.call("GET", "/")
        assert until(lambda: one.closed)
        assert http.call("GET", "/").content == b"hi"
    assert [number for number, _ in one.requests] == [1, 2]


def test_a_body_that_is_not_read_to_its_end_ends_the_connection():
    with server(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi", OK) as one, client(one.url) as http:
        http.call("GET", "/", stream=True).close()
        http.call("GET", "/")
    assert [number for number, _ in one.requests] == [1, 2]


@pytest.mark.parametrize("answer, code", [
    ([None], "upstream_unreachable"),
    (b"SSH-2.0-OpenSSH\r\n\r\n", "upstream_unreachable"),
    (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000, "upstream_unreachable"),
    (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n", "upstream_error"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "upstream_unreachable"),
    (b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + OK, "upstream_unreachable"),
])
def test_an_answer_that_is_none(answer, code):
    with server(answer) as one, client(one.url) as http, pytest.raises(UpstreamError) as error:
        http.call("GET", "/")
    assert error.value.code == code


def test_a_body_that_is_cut_gives_what_came():
    cut = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhel"
    with server([cut, None]) as one, client(one.url) as http:
        response = http.call("GET", "/", stream=True)
        assert body_of(response) == b"hel"


def test_a_stream_whose_rest_is_malformed_can_be_closed():
    read = threading.Event()

    def pieces():
        yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n"
        read.wait(10)
        yield b"no chunk\r\n"
    with server(pieces(), OK) as one, client(one.url) as http:
        response = http.call("GET", "/", stream=True)
        assert response.read() == b"hi"
        read.set()
        response.finish()
        assert http.call("GET", "/").content == b"hi" and one.connections == 2


@pytest.mark.parametrize("url", ["http://127.0.0.1:70000", "http://a..b", f"http://{'a' * 64}.example"])
def test_an_address_that_is_none_is_an_error_at_once(url):
    with client(url) as http, pytest.raises(UpstreamError) as error:
        http.call("GET", "/")
    assert error.value.code == "upstream_unreachable"


def test_tls_that_is_cut_is_a_lost_connection(monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        def hang_up():
            connection = listener.accept()[0]
            connection.recv(65536)
            connection.close()
        pool.submit(hang_up)
        with client(f"https://localhost:{listener.getsockname()[1]}") as http, (
                pytest.raises(UpstreamError)) as error:
            http.call("GET", "/")
    assert error.value.code == "upstream_unreachable" and error.value.retry_after


def test_nobody_listens():
    with server() as one:
        pass
    with client(one.url) as http, pytest.raises(UpstreamError) as error:
        http.call("GET", "/")
    assert error.value.code == "upstream_unreachable" and error.value.retry_after


@pytest.mark.parametrize("answer", [
    b"", b"HTTP/1.1 200 OK\r\nConte", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe"])
def test_silence_ends_in_a_time_out(answer):
    with server(answer) as one, client(one.url, BRIEF) as http, pytest.raises(UpstreamTimeout) as error:
        http.call("GET", "/")
    assert error.value.message == "The upstream did not answer GET within 0.2 s"


class Owner:
    """Who a call is made for; a Run is one."""

    def hold(self, exchange):
        self.exchange = exchange


# Name, what the server sends before the call is ended, and whether a stream is asked for.
WAITS = [("for the head", b"", False), ("within the head", b"HTTP/1.1 200 OK\r\nConte", False),
         ("for a body", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", False),
         ("for a body that is the last", b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", False),
         ("within a stream", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n", True)]


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("answer, stream", [row[1:] for row in WAITS], ids=[row[0] for row in WAITS])
def test_a_call_that_blocks_can_be_ended_by_another_thread(answer, stream, tls, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    owner = Owner()

    def read():
        response = http.call("POST", "/", timeout=30, owner=owner, stream=stream)
        while response.read(30):
            pass

    url = "https:" if tls else "http:"
    with server(answer, OK, tls=tls) as one, client(one.url.replace("http:", url)) as http, (
            ThreadPoolExecutor(1)) as pool:
        reading = pool.submit(read)
        assert until(lambda: one.requests)
        owner.exchange.end(Ended())
        with pytest.raises(Ended):
            reading.result(10)
        owner.exchange.end(Ended())
        assert http.call("GET", "/").content == b"hi" and one.connections == 2


def test_a_call_is_ended_before_it_has_a_connection():
    class Leaving(Owner):
        def hold(self, exchange):
            exchange.end(Ended())

    with server(OK) as one, client(one.url) as http:
        with pytest.raises(Ended):
            http.call("GET", "/", owner=Leaving())
        assert not one.requests


def test_tls_is_refused_without_trust(monkeypatch):
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with server(tls=True) as one, client(one.url.replace("http:", "https:")) as http:
        with pytest.raises(UpstreamError) as error:
            http.call("GET", "/")
    assert error.value.code == "upstream_tls"


@pytest.mark.parametrize("stream", [False, True])
def test_tls_at_every_answer(monkeypatch, stream):
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    answers = [row[1] for row in ANSWERS if row[4]]
    with server(*answers, tls=True) as one, client(one.url.replace("http:", "https:")) as http:
        for _, _, status, body, lasts in ANSWERS:
            if lasts:
                response = http.call("GET", "/", stream=stream)
                assert (body_of(response) if stream and status == 200 else response.content) == body
        assert one.connections == 1


def test_a_proxy_is_told_the_whole_url(monkeypatch):
    with server(OK) as one:
        monkeypatch.setenv("http_proxy", one.url.replace("//", "//us%3Aer:pass@"))
        with client("http://cursor.invalid/base") as http:
            assert http.call("GET", "/x").content == b"hi"
    request = one.requests[0][1]
    assert request.startswith(b"GET http://cursor.invalid/base/x HTTP/1.1\r\nHost: cursor.invalid\r\n")
    assert b"Proxy-Authorization: Basic dXM6ZXI6cGFzcw==\r\n" in request


def test_tls_goes_through_a_proxy_as_a_tunnel(monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    with server("tunnel", OK, tls=True) as one:
        monkeypatch.setenv("https_proxy", one.url.replace("//", "//user:pass@"))
        with client("https://localhost:1") as http:
            assert http.call("GET", "/x").content == b"hi"
    tunnel, request = (request for _, request in one.requests)
    assert tunnel.startswith(b"CONNECT localhost:1 HTTP/1.") and b"Basic dXNlcjpwYXNz" in tunnel
    assert request.startswith(b"GET /x HTTP/1.1\r\n") and b"Basic" not in request


@contextmanager
def tls_proxy():
    """The URL of a proxy that is spoken to over TLS, and makes any tunnel."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)

    def pass_on(source, target):
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def tunnel():
        with suppress(OSError):
            caller = context.wrap_socket(listener.accept()[0], server_side=True)
            port = int(read_request(caller).split()[1].rpartition(b":")[2])
            with caller, socket.create_connection(("127.0.0.1", port)) as server:
                caller.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                threading.Thread(target=pass_on, args=(server, caller), daemon=True).start()
                pass_on(caller, server)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=tunnel, daemon=True).start()
        yield f"https://localhost:{listener.getsockname()[1]}"


def test_a_call_within_tls_to_a_proxy_can_be_ended(monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    owner = Owner()
    with server(b"", tls=True) as one, tls_proxy() as proxy:
        monkeypatch.setenv("https_proxy", proxy)
        url = one.url.replace("http://127.0.0.1", "https://localhost")
        with client(url) as http, ThreadPoolExecutor(1) as pool:
            calling = pool.submit(http.call, "POST", "/", timeout=30, owner=owner)
            assert until(lambda: one.requests)
            owner.exchange.end(Ended())
            with pytest.raises(Ended):
                calling.result(10)


def test_an_answer_that_waits_for_its_reader_is_not_late():
    pieces = (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n", b"2\r\n!!\r\n0\r\n\r\n")
    with server(pieces) as one, client(one.url, BRIEF) as http:
        response = http.call("GET", "/", stream=True)
        assert response.read() == b"hi"
        time.sleep(5 * BRIEF.idle)  # a caller who is slow
        assert body_of(response) == b"!!"


def test_no_proxy_is_honoured(monkeypatch):
    with server(OK) as one:
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        with client(one.url) as http:
            assert http.call("GET", "/").content == b"hi"
