"""HTTP/1.1 to an upstream, over pooled connections whose sockets we read ourselves.

Every wait is cut into ticks of a second, at each of which a caller's loop regains control. A library's
response hides bytes from such a wait, and its making was most of what a short chat cost (bench/).
"""

import json as jsonlib
import logging
import math
import re
import socket
import ssl
import struct
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import quote, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import certifi

from .. import held
from ..errors import UpstreamError, UpstreamTimeout
from ..events import Waiting

log = logging.getLogger("cursor2api")

TICK = 1.0
READ, LITTLE = 65536, 4096  # bytes; a read takes its room up while it waits
LAST_READS = 4  # of a stream that is left: one that goes on must not be followed
MAX_HEAD = 65536
DAY = 86400
DECODER = jsonlib.JSONDecoder()  # json.loads looks anew at how to decode each time
SILENT = TimeoutError, BlockingIOError  # what a tick without a byte raises: Python's own, the kernel's
SIZE = re.compile(rb"\s*([0-9a-fA-F]{1,15})")  # of a chunk, before its extensions
SAFE = "!#$%&'()*+,/:;=?@[]~"  # in a URL that is written as its owner means it


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds to wait: for a connection, for an agent to be created, in silence within a reply, and
    before the first retry of a request."""

    connect: float
    create: float
    idle: float
    retry: float


class Http:
    """Pooled connections to one upstream, shared by all threads. Proxies come from the environment,
    unless the way is `direct`."""

    def __init__(self, base_url: str, headers: dict[str, str], limits: Limits, pool: int, *,
                 direct: bool = False):
        self.limits = limits
        self._url = url = urlsplit(base_url)
        self._pool = pool
        self.tap: Callable[[bytes], None] | None = None  # is told what event streams say, as it comes
        self._idle: list[socket.socket] = []
        self._tls = None
        if url.scheme == "https":
            self._tls = ssl.create_default_context()
            self._tls.load_verify_locations(certifi.where())  # for systems that have no certificates
        proxies = {} if direct or proxy_bypass(url.netloc) else getproxies()
        proxy = proxies.get(url.scheme, proxies.get("all"))
        self._proxy = urlsplit(proxy if "//" in proxy else f"//{proxy}") if proxy else None
        self._to_proxy = {}
        if self._proxy and self._proxy.username:
            user = unquote(f"{self._proxy.username}:{self._proxy.password or ''}").encode()
            self._to_proxy["Proxy-Authorization"] = f"Basic {b64encode(user).decode()}"
        host = url.netloc.rpartition("@")[2]
        self._headers = {"Host": host, **headers}
        self._target = quote(url.path + ("?" + url.query if url.query else ""), safe=SAFE)
        if self._proxy and not self._tls:  # such a proxy is told the whole URL
            self._headers |= self._to_proxy
            self._target = f"http://{host}{self._target}"

    def call(self, *args, **kwargs) -> "Response":
        """`ask`, blocking."""
        asking = self.ask(*args, **kwargs)
        while True:
            try:
                next(asking)
            except StopIteration as end:
                return end.value

    def ask(self, method: str, path: str, *, json=None, data: bytes = b"", headers: dict | None = None,
            timeout: float | None = None, late: str = "upstream_timeout", stream: bool = False,
            abandoned: Callable[[Iterator], None] | None = None) -> Iterator[Waiting]:
        """One request as a generator: Waiting at each tick, and a Response is what it returns.

        With `stream` a 200's body is left to be read. Silence of `timeout` seconds is an UpstreamTimeout
        with the code `late`. Closed while it waits for the answer, it hands what will give the Response
        to `abandoned`: an iterator that gives None at each tick before. Raises UpstreamError.
        """
        log.debug("upstream asked", extra={"facts": {"method": method, "path": path.partition("?")[0]}})
        body = data if json is None else jsonlib.dumps(json).encode()
        headers = {**self._headers, **(headers or {}), "Content-Length": len(body)}
        if json is not None:
            headers["Content-Type"] = "application/json"
        lines = [f"{method} {self._target + path or '/'} HTTP/1.1",
                 *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        request = "\r\n".join(lines).encode() + body
        connection = yield from self._connected()
        asking = self._exchange(connection, request, stream, timeout or self.limits.idle, UpstreamTimeout(
            f"The upstream did not answer {method} within {timeout or self.limits.idle:g} s", code=late))
        try:
            for response in asking:
                if response is not None:
                    return response
                yield Waiting()
        except GeneratorExit:
            (abandoned or _close)(asking)
            raise

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def _exchange(self, connection, request: bytes, stream: bool, timeout: float,
                  late: UpstreamTimeout) -> Iterator["Response | None"]:
        """Sends and receives; gives None at each tick, then the Response."""
        heard = time.monotonic()
        done = False

        def tick() -> None:
            if time.monotonic() - heard > timeout:
                raise late

        try:
            left = memoryview(request)[0 if self._tls else held.send(connection, request):]
            while left:
                try:
                    left = left[connection.send(left):]
                    heard = time.monotonic()
                except SILENT:
                    tick()
                    yield None
            data = b""
            while (end := data.find(b"\r\n\r\n")) < 0 or data.startswith(b"HTTP/1.1 1"):
                if end >= 0:  # 100 and its like precede the answer
                    data = data[end + 4:]
                    continue
                try:
                    more = connection.recv(LITTLE)
                except SILENT:
                    tick()
                    yield None
                    continue
                if not more or len(data) > MAX_HEAD:
                    raise _unreachable("it closed the connection" if not more else "its answer has no end")
                data += more
            response = Response(self, connection, data[:end].decode("latin-1"), data[end + 4:])
            if not stream or response.status_code != 200:
                heard, parts = time.monotonic(), []
                while (data := response.read()) != b"":
                    if data is None:
                        tick()
                        yield None
                    else:
                        heard = time.monotonic()
                        parts.append(data)
                if response.cut:
                    raise _unreachable("its answer was cut")
                response.content = b"".join(parts)
                response.close()
            done = True
            yield response
        except OSError as error:
            raise _unreachable(type(error).__name__) from error
        finally:
            if not done:
                connection.close()

    def _connected(self) -> Iterator[Waiting]:
        """A connection from the pool, or a new one; opening one can block, so a thread does it."""
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:
                break
            if not held.readable(connection):  # else the upstream has closed it
                return connection
            connection.close()
        future: Future = Future()

        def run():
            try:
                future.set_result(self._connect())
            except Exception as error:
                future.set_exception(error)

        threading.Thread(target=run, name="connect", daemon=True).start()
        try:
            while not wait([future], TICK).done:
                yield Waiting()
            return future.result()
        except GeneratorExit:
            future.add_done_callback(lambda future: future.exception() or future.result().close())
            raise

    def _connect(self) -> socket.socket:
        to, proxy = self._url, self._proxy
        try:
            host, port = (proxy or to).hostname, (proxy or to).port
            if self._tls:
                connection = HTTPSConnection(host, port or (8080 if proxy else 443),
                                             timeout=self.limits.connect, context=self._tls)
                if proxy:
                    connection.set_tunnel(to.hostname, to.port or 443, self._to_proxy)
            else:
                connection = HTTPConnection(host, port or (8080 if proxy else 80),
                                            timeout=self.limits.connect)
            connection.connect()
        except TimeoutError as error:
            raise UpstreamTimeout(f"The upstream did not accept a connection within {self.limits.connect:g} s",
                                  code="connect_timeout", retry_after=5) from error
        except ssl.SSLEOFError as error:  # it was lost, as any connection can be
            raise _unreachable(type(error).__name__) from error
        except ssl.SSLError as error:
            raise UpstreamError("The upstream's TLS certificate, or its TLS, was not accepted",
                                code="upstream_tls") from error
        except (OSError, HTTPException, ValueError) as error:  # of a name or port that is none
            raise _unreachable(type(error).__name__) from error
        sock = connection.sock
        if self._tls:
            sock.settimeout(TICK)
        else:  # Python would ask whether there is something to read first, and let other threads in between
            sock.settimeout(None)
            for way in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
                sock.setsockopt(socket.SOL_SOCKET, way, struct.pack("ll", int(TICK), 0))
        return sock

    def _keep(self, connection: socket.socket) -> None:
        if len(self._idle) < self._pool:
            self._idle.append(connection)
        else:
            connection.close()


class Response:
    """An answer: `status_code`, `headers` by their names in lower case, and the body, which has been
    read into `content` or is there to be `read`, as it comes."""

    def __init__(self, http: Http, connection: socket.socket, head: str, held: bytes):
        status, *lines = head.split("\r\n")
        version, _, status = status.partition(" ")
        if not version.startswith("HTTP/1.") or not status[:3].isdecimal():
            raise _unreachable("its answer is not HTTP")
        self.status_code = int(status[:3])
        self.headers = {name.strip().lower(): value.strip()
                        for name, _, value in (line.partition(":") for line in lines)}
        self.content = b""
        encoding = self.headers.get("content-encoding", "identity")
        if encoding != "identity":
            raise UpstreamError(f"The upstream's answer is encoded ({encoding[:20]}), unasked")
        self._http, self._connection, self._held = http, connection, held
        self._lasts = version == "HTTP/1.1" and self.headers.get("connection", "").lower() != "close"
        self._room = LITTLE
        self._chunked = self._left = None
        if self.status_code in (204, 304):
            self._left = 0
        elif self.headers.get("transfer-encoding", "").lower() == "chunked":
            self._chunked = _Chunked()
        elif self.headers.get("content-length", "").isdecimal():
            self._left = int(self.headers["content-length"])
        self.whole = self._left == 0  # nothing is left to be read

    @property
    def text(self) -> str:
        return self.content.decode("utf-8", "replace")

    @property
    def object(self) -> dict:
        """The JSON object that the content is; empty if it is none."""
        return json_object(self.text) or {}

    def read(self) -> bytes | None:
        """The next bytes; b"" at the end, however it came; None after a second without any."""
        while not self.whole:
            data, self._held = self._held, b""
            if not data:
                try:
                    data = self._connection.recv(self._room)
                except SILENT:
                    return None
                except OSError:
                    return b""
                if not data:
                    return b""
                self._room = READ if len(data) == self._room else LITTLE
            if self._chunked:
                data = self._chunked.feed(data)
                self.whole = self._chunked.done
            elif self._left is not None:
                data = data[:self._left]
                self._left -= len(data)
                self.whole = not self._left
            if data:
                if self._http.tap and "event-stream" in self.headers.get("content-type", ""):
                    self._http.tap(data)
                return data
        return b""

    @property
    def cut(self) -> bool:
        """Whether the body ended before the end that its headers promised."""
        return not self.whole and (self._chunked or self._left) is not None

    def close(self) -> None:
        """Gives the connection back if the body was read to its end, or all that is left of it has come,
        as after a stream's last event; else ends it."""
        if self._connection is None:
            return
        with suppress(UpstreamError):  # what is left is malformed
            for _ in range(LAST_READS):
                if self.whole or not (self._held or held.readable(self._connection)) or not self.read():
                    break
        connection, self._connection = self._connection, None
        if self.whole and self._lasts:
            self._http._keep(connection)
        else:
            connection.close()


class _Chunked:
    """Takes the chunked transfer coding off (RFC 9112, 7.1)."""

    def __init__(self):
        self._line = b""  # of a chunk head that has not ended
        self._left = 0    # of the chunk and its line end
        self._trailer = False
        self.done = False

    def feed(self, data: bytes) -> bytes:
        out, at = [], 0
        while at < len(data) and not self.done:
            if self._left:
                end = at + self._left
                out.append(data[at:max(at, end - 2)])
                self._left = max(0, end - len(data))
                at = end
                continue
            end = data.find(b"\n", at)
            if end < 0:
                self._line += data[at:]
                break
            line = self._line + data[at:end]
            self._line, at = b"", end + 1
            if self._trailer:
                self.done = not line.strip()
            elif size := SIZE.match(line):
                size = int(size[1], 16)
                self._trailer = size == 0
                self._left = size + 2 if size else 0
            else:
                raise UpstreamError("The upstream's chunked body is malformed")
        return b"".join(out)


def json_object(text: str) -> dict | None:
    """None for what is no JSON object."""
    try:
        value = DECODER.decode(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def retry_after(text: str) -> float | None:
    """The seconds that a refusal asks for, a day at most; None if it does not say, or gives a date."""
    try:
        seconds = float(text)
    except ValueError:
        return None
    return min(max(0.0, seconds), DAY) if math.isfinite(seconds) else None


def _close(asking) -> None:
    asking.close()


def _unreachable(why: str) -> UpstreamError:
    return UpstreamError(f"The upstream could not be reached ({why})", code="upstream_unreachable",
                         retry_after=5)
