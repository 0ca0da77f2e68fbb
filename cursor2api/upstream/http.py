"""HTTP/1.1 to an upstream, by requests: blocking calls over pooled connections, each with one deadline.

Whoever calls blocks. Two others can end the call, which then raises at once: the watch, a thread that
ends what is later than its deadline, and the owner, the run that the answer is for. What ends a call is
that its connection is shut, so that a read that blocks finds the end. Time limits of sockets serve for
connecting alone: a byte now and then would renew them, and after one of them an answer is dead.
"""

import json as jsonlib
import logging
import math
import socket
import ssl
import threading
import time
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass

import certifi
import requests
from requests.adapters import HTTPAdapter
from requests.utils import get_environ_proxies
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError

from ..errors import UpstreamError, UpstreamTimeout

log = logging.getLogger("cursor2api")

READ = 16384           # bytes
MAX_BODY = 16_000_000  # bytes of an answer that is no stream: a list can be long
MAX_ERROR = 1_000_000  # bytes of a refusal
LAST_BYTES, LAST_S = 65536, 1.0  # what may follow the last event of a stream before its connection ends
LOOK_S = 0.25
DAY = 86400


class Ended(Exception):
    """Whoever wanted the answer does not want it any more."""


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
    unless the way is `direct`; certificates from the system, SSL_CERT_FILE and certifi."""

    def __init__(self, base_url: str, headers: dict[str, str], limits: Limits, pool: int, *,
                 direct: bool = False):
        self.limits, self._url = limits, base_url
        self._headers = {"Accept-Encoding": "identity", **headers}
        self._proxies = {} if direct else get_environ_proxies(base_url)
        self._adapter = _Adapter(pool_maxsize=pool)
        self._watch = _Watch()
        self.tap = None  # is told what event streams say, as it comes: Callable[[bytes], None]

    def call(self, method: str, path: str, *, json=None, data: bytes = b"", headers: dict | None = None,
             timeout: float | None = None, late: str = "upstream_timeout", stream: bool = False, owner=None,
             patient: bool = False) -> "Exchange":
        """One request and its answer, whole within `timeout` seconds or an UpstreamTimeout with the code `late`.

        With `stream` a 200's body is left to be read. The run `owner` can end the call, which then raises Ended;
        one that is `patient` waits for its answer even then. Raises UpstreamError.
        """
        log.debug("upstream asked", extra={"facts": {"method": method, "path": path.partition("?")[0]}})
        seconds = timeout or self.limits.idle
        exchange = Exchange(self, seconds, UpstreamTimeout(
            f"The upstream did not answer {method} within {seconds:g} s", code=late), patient)
        request = self._prepared(method, path, json, data, headers or {})
        self._watch.add(exchange)
        try:
            if owner:
                owner.hold(exchange)
            exchange.send(self._adapter, request, self._proxies)
            del request, json, data  # which can be long, while the answer takes its time
            if not (stream and exchange.status_code == 200):
                exchange.read_all(MAX_BODY if exchange.status_code < 300 else MAX_ERROR)
        except BaseException:
            exchange.close()
            raise
        return exchange

    def close(self) -> None:
        self._adapter.close()

    def _prepared(self, method, path, json, data, headers) -> requests.PreparedRequest:
        body = data if json is None else jsonlib.dumps(json).encode()
        headers = {**self._headers, **headers, "Content-Length": str(len(body))}
        if json is not None:
            headers["Content-Type"] = "application/json"
        request = requests.PreparedRequest()
        try:
            request.prepare_method(method)
            request.prepare_url(self._url + path, None)
        except (ValueError, UnicodeError) as error:  # of a name or port that is none
            raise _unreachable(error) from error
        request.headers = {name: value.encode() for name, value in headers.items()}
        request.body = body
        return request


class Exchange:
    """One request and its answer: `status_code`, `headers`, and the body, which has been read as `content`
    or, of a stream, is left to `read`."""

    def __init__(self, http: Http, seconds: float, late: UpstreamTimeout, patient: bool):
        self._http, self._seconds, self._late, self.patient = http, seconds, late, patient
        self._deadline = time.monotonic() + http.limits.connect + seconds
        self._lock = threading.Lock()
        self._connection = self._raw = None  # what the request goes over, and urllib3's answer once it has a head
        self._ended: Exception | None = None  # what ended it before its own end
        self._over = False
        self.cut = False  # the body ended before the end that its head promised
        self.content = b""

    def send(self, adapter: "_Adapter", request: requests.PreparedRequest, proxies: dict) -> None:
        """Returns when the head of the answer has come. Raises UpstreamError and Ended."""
        token = _sending.set(self)
        try:
            answer = adapter.send(request, stream=True, timeout=(self._http.limits.connect, None),
                                  proxies=proxies)
        except (requests.RequestException, HTTPError, OSError, ValueError) as error:
            raise self._ended or self._failure(error) from error
        finally:
            _sending.reset(token)
        self._raw = answer.raw
        self.status_code, self.headers = answer.status_code, answer.headers
        if self._ended:
            raise self._ended
        if self.status_code < 200:  # http.client skips 100 alone
            raise _unreachable(EOFError(f"it said {self.status_code} before its answer"))
        if self.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise UpstreamError("The upstream's answer is compressed, which was not asked for")

    def uses(self, connection: "_Connection") -> None:
        """The answer will come over this connection, which may still have to be made."""
        self._connection, connection.exchange = connection, self
        if connection.sock is not None:
            connection.timeout = None  # the watch knows better than a limit that each byte renews
            connection.sock.settimeout(None)
            connection.in_use = connection.sock
            self._deadline = time.monotonic() + self._seconds
        if self._ended:
            raise OSError("ended before it was sent")

    def read(self, seconds: float | None = None) -> bytes:
        """The next bytes of a stream; b"" at its end, however it came. Raises UpstreamTimeout when nothing has
        come for that time, Limits.idle if none is given, and Ended."""
        seconds = seconds or self._http.limits.idle
        if seconds != self._seconds or self._late.code != "idle_timeout":
            self._seconds = seconds
            self._late = UpstreamTimeout(f"The upstream was silent for {seconds:g} s", code="idle_timeout")
        self._deadline = time.monotonic() + seconds
        data = self._read()
        if data and self._http.tap and "event-stream" in self.headers.get("Content-Type", ""):
            self._http.tap(data)
        return data

    def read_all(self, most: int) -> None:
        """Reads the whole body, of `most` bytes at most. Raises UpstreamError and Ended."""
        parts, size = [], 0
        while data := self._read():
            parts.append(data)
            size += len(data)
            if size > most:
                raise UpstreamError(f"The upstream's answer ({self.status_code}) is longer than {most} bytes",
                                    code="upstream_error")
        if self.cut:
            raise _unreachable(EOFError("its answer was cut"))
        self.content = b"".join(parts)
        self.close()

    def finish(self) -> None:
        """After the last event of a stream: its connection can be used again if the end comes soon."""
        self._deadline, size = time.monotonic() + LAST_S, 0
        try:
            while size < LAST_BYTES and (data := self._read()):
                size += len(data)
        except UpstreamError:
            pass  # it was said already what there was to say
        finally:
            self.close()

    def end(self, why: Exception) -> None:
        """Shuts the connection, so that what waits for it raises `why`. Callable from any thread."""
        with self._lock:
            if self._over or self._ended:
                return
            self._ended, connection = why, self._connection
        # Another exchange may have the connection already if this one is just coming to its end.
        if connection is not None and connection.exchange is self:
            if sock := connection.sock or connection.in_use:
                with suppress(OSError):  # it has ended by itself
                    sock.shutdown(socket.SHUT_RDWR)

    def look(self, now: float) -> None:
        """What the watch does: ends what is late."""
        if now > self._deadline:
            self.end(self._late)

    def close(self) -> None:
        """Ends the connection, unless the body was read to its end."""
        with self._lock:
            self._over = True
        self._http._watch.discard(self)
        if self._raw is not None:
            self._raw.close()

    @property
    def text(self) -> str:
        return self.content.decode("utf-8", "replace")

    @property
    def object(self) -> dict:
        """The JSON object that the content is; empty if it is none."""
        return json_object(self.text) or {}

    def _read(self) -> bytes:
        data = b""
        if not self.cut:
            try:
                data = self._raw.read1(READ, decode_content=False)
            except (HTTPError, OSError, ValueError):
                self.cut = True
        if not data and self._ended:
            raise self._ended
        return data

    def _failure(self, error: Exception) -> UpstreamError:
        causes = list(_causes(error))
        if any(isinstance(cause, requests.Timeout) for cause in causes):  # only connecting has such a limit
            return UpstreamTimeout("The upstream did not accept a connection within "
                                   f"{self._http.limits.connect:g} s", code="connect_timeout", retry_after=5)
        tls = next((cause for cause in causes if isinstance(cause, ssl.SSLError)), None)
        if tls and "EOF" not in str(tls):  # each OpenSSL has an error of its own for a connection that was lost
            return UpstreamError("The upstream's TLS certificate, or its TLS, was not accepted",
                                 code="upstream_tls")
        return _unreachable(causes[-1])


_sending: ContextVar[Exchange] = ContextVar("the exchange whose request this thread sends")


class _Connection:
    """What tells an exchange of the connection that it uses, before anything can block."""

    exchange: Exchange | None = None
    in_use = None  # its socket, which http.client keeps to itself when the connection ends with the answer

    def connect(self):
        _sending.get().uses(self)
        super().connect()
        _sending.get().uses(self)

    def request(self, *args, **options):
        _sending.get().uses(self)
        super().request(*args, **options)


class _Plain(HTTPConnectionPool):
    class ConnectionCls(_Connection, HTTPConnectionPool.ConnectionCls):
        pass


class _Tls(HTTPSConnectionPool):
    class ConnectionCls(_Connection, HTTPSConnectionPool.ConnectionCls):
        pass


class _Adapter(HTTPAdapter):
    """requests' own, with our connections and certificates."""

    def init_poolmanager(self, *args, **options):
        self._tls = ssl.create_default_context()
        self._tls.load_verify_locations(certifi.where())  # for systems that have no certificates
        super().init_poolmanager(*args, ssl_context=self._tls, **options)
        self.poolmanager.pool_classes_by_scheme = {"http": _Plain, "https": _Tls}

    def proxy_manager_for(self, proxy, **options):
        manager = super().proxy_manager_for(proxy, ssl_context=self._tls, **options)
        manager.pool_classes_by_scheme = {"http": _Plain, "https": _Tls}
        return manager

    def cert_verify(self, conn, url, verify, cert):
        """Nothing is left to do: the context knows the certificates."""


class _Watch:
    """A thread that ends the exchanges that are late; it is there as long as any are open."""

    def __init__(self):
        self._open: set[Exchange] = set()
        self._looking, self._lock = False, threading.Lock()

    def add(self, exchange: Exchange) -> None:
        with self._lock:
            self._open.add(exchange)
            if not self._looking:
                try:
                    threading.Thread(target=self._look, name="deadlines", daemon=True).start()
                except RuntimeError as error:  # no thread is to be had
                    raise _unreachable(error) from error
                self._looking = True

    def discard(self, exchange: Exchange) -> None:
        with self._lock:
            self._open.discard(exchange)

    def _look(self) -> None:
        while True:
            time.sleep(LOOK_S)
            with self._lock:
                found = list(self._open)
                self._looking = bool(found)
            if not found:
                return
            now = time.monotonic()
            for exchange in found:
                exchange.look(now)


def json_object(text: str) -> dict | None:
    """None for what is no JSON object."""
    try:
        value = jsonlib.loads(text)
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


def _causes(error):
    """An error and those that libraries have wrapped in it, the innermost last."""
    while isinstance(error, BaseException):
        yield error
        reason = getattr(error, "reason", None)
        error = reason if isinstance(reason, BaseException) else next(
            (each for each in error.args if isinstance(each, BaseException)), None)


def _unreachable(error: BaseException) -> UpstreamError:
    why = str(error) if isinstance(error, EOFError) else type(error).__name__
    return UpstreamError(f"The upstream could not be reached ({why})", code="upstream_unreachable",
                         retry_after=5)
