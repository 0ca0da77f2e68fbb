"""HTTP to an upstream: requests for asking, and a body that is read without hiding bytes or waits.

Every wait is cut into ticks of a second, at each of which a caller's loop regains control.
"""

import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from dataclasses import dataclass

import requests
from requests.adapters import HTTPAdapter
from requests.utils import get_environ_proxies

from ..errors import ApiError, UpstreamError, UpstreamTimeout
from ..events import Waiting

TICK = 1.0
READ = 65536


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds to wait: for a connection, for an agent to be created, in silence within a reply, and
    before the first retry of a request."""

    connect: float
    create: float
    idle: float
    retry: float


class Http:
    """One pooled session to one upstream, shared by all threads."""

    def __init__(self, base_url: str, headers: dict[str, str], limits: Limits, pool: int):
        self.base_url, self.limits = base_url, limits
        self._session = requests.Session()
        # Proxies come from the environment, but .netrc must not replace our Authorization header.
        self._session.proxies = get_environ_proxies(base_url)
        self._session.trust_env = False
        self._session.headers = headers
        adapter = HTTPAdapter(pool_connections=4, pool_maxsize=pool, pool_block=False)
        self._session.mount("https://", adapter)
        self._session.mount("http://", adapter)

    def call(self, method: str, path: str, *, json=None, headers: dict | None = None,
             timeout: float | None = None, stream: bool = False,
             late: str = "upstream_timeout") -> requests.Response:
        """One request, blocking. Raises UpstreamError, or UpstreamTimeout with the code `late`."""
        timeout = timeout or self.limits.idle
        try:
            return self._session.request(
                method, self.base_url + path, json=json, headers=headers, stream=stream,
                timeout=(self.limits.connect, timeout), allow_redirects=False)
        except requests.ConnectTimeout as error:
            raise UpstreamTimeout(f"The upstream did not accept a connection within "
                                  f"{self.limits.connect:g} s", code="connect_timeout",
                                  retry_after=5) from error
        except requests.Timeout as error:
            raise UpstreamTimeout(f"The upstream did not answer {method} within {timeout:g} s",
                                  code=late) from error
        except requests.exceptions.SSLError as error:
            raise UpstreamError("The upstream's TLS certificate was not accepted",
                                code="upstream_tls") from error
        except requests.RequestException as error:
            raise UpstreamError(f"The upstream could not be reached ({type(error).__name__})",
                                code="upstream_unreachable", retry_after=5) from error

    def ask(self, *args, abandoned: Callable[[Future], None] | None = None, **kwargs
            ) -> Iterator[Waiting]:
        """`call`, but as a generator: Waiting at each tick, and the response is what it returns.

        Closed while it waits, it hands the Future of the answer to `abandoned`.
        """
        future: Future = Future()

        def run():
            try:
                future.set_result(self.call(*args, **kwargs))
            except ApiError as error:
                future.set_exception(error)

        threading.Thread(target=run, name="ask", daemon=True).start()
        try:
            while not wait([future], TICK).done:
                yield Waiting()
            return future.result()
        except GeneratorExit:
            future.add_done_callback(abandoned or _discard)
            raise

    def close(self) -> None:
        self._session.close()


def _discard(future: Future) -> None:
    if not future.exception():
        future.result().close()


class Body:
    """The bytes of a streamed response, as they come.

    We read the socket ourselves: http.client's buffer would hide bytes from a wait with a time limit,
    and a file object that has timed out once cannot be read again.
    """

    def __init__(self, response: requests.Response):
        encoding = response.headers.get("Content-Encoding", "identity")
        if encoding != "identity":
            raise UpstreamError(f"The upstream's stream is encoded ({encoding[:20]}), unasked")
        self._response = response
        self._held, self._left, self._chunked = b"", 0, None
        reader = response.raw._fp.fp
        if reader is None:  # http.client closes it at once when there is no body
            return
        self._socket = reader.raw._sock
        self._socket.settimeout(0)
        try:
            self._held = reader.peek()  # what was read along with the headers
        except ssl.SSLWantReadError:
            pass
        self._socket.settimeout(TICK)
        self._chunked = _Chunked() if response.raw.chunked else None
        length = response.headers.get("Content-Length")
        self._left = int(length) if length is not None and not self._chunked else None

    def read(self) -> bytes | None:
        """The next bytes; b"" at the end, however it came; None after a second without any."""
        while True:
            if self._whole:
                return b""
            data, self._held = self._held, b""
            if not data:
                try:
                    data = self._socket.recv(READ)
                except TimeoutError:
                    return None
                except OSError:
                    return b""
                if not data:
                    return b""
            if self._chunked:
                data = self._chunked.feed(data)
            elif self._left is not None:
                data = data[:self._left]
                self._left -= len(data)
            if data:
                return data

    @property
    def _whole(self) -> bool:
        return self._chunked.done if self._chunked else self._left == 0

    def close(self) -> None:
        """Gives the connection back if the body was read to its end, else ends it."""
        if self._whole:
            self._response.raw._fp.close()
            self._response.raw.release_conn()
        self._response.close()


class _Chunked:
    """Takes the chunked transfer coding off (RFC 9112, 7.1)."""

    def __init__(self):
        self._line = b""  # of a chunk head that has not ended
        self._left = 0    # of the chunk and its line end
        self._trailer = False
        self.done = False

    def feed(self, data: bytes) -> bytes:
        out = []
        at = 0
        while at < len(data) and not self.done:
            if self._left:
                piece = data[at:at + self._left]
                at += len(piece)
                body = max(0, self._left - 2)
                self._left -= len(piece)
                out.append(piece[:body])
                continue
            end = data.find(b"\n", at)
            if end < 0:
                self._line += data[at:]
                break
            line = (self._line + data[at:end]).strip()
            self._line, at = b"", end + 1
            if self._trailer:
                self.done = not line
                continue
            try:
                size = int(line.split(b";")[0], 16)
            except ValueError:
                raise UpstreamError("The upstream's chunked body is malformed") from None
            self._trailer = size == 0
            self._left = size + 2 if size else 0
        return b"".join(out)
