"""Server-sent events: bytes to frames, and JSON texts to the bytes of a reply.

Follows https://html.spec.whatwg.org/multipage/server-sent-events.html; what `feed` returns in all
does not depend on where the bytes were cut. str.splitlines and requests.iter_lines both break that.
"""

import json
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from .errors import ApiError, InternalError, UpstreamError

log = logging.getLogger("cursor2api")

MAX_FRAME = 32 * 1024 * 1024
DONE = b"data: [DONE]\n\n"


class Frame(NamedTuple):
    """One event as the wire names it; `id` is its own id, "" if it has none."""

    event: str
    data: str
    id: str


class Decoder:
    """Feeds on bytes, gives frames. A frame without its blank line at the end is not a frame."""

    def __init__(self):
        self._parts: list[bytes] = []  # of the line that has not ended
        self._size = 0
        self._after_cr = False
        self._first = True
        self._event = ""
        self._data: list[str] = []
        self._id = ""

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes. Raises UpstreamError for one over MAX_FRAME bytes."""
        if self._after_cr and data[:1] == b"\n":
            data = data[1:]
            self._after_cr = False
        if not data:
            return []
        self._size += len(data)
        if self._size > MAX_FRAME:
            raise UpstreamError(f"The upstream sent a frame of over {MAX_FRAME} bytes")
        if b"\r" in data:
            self._after_cr = data.endswith(b"\r")
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        else:
            self._after_cr = False
        if b"\n" not in data:
            self._parts.append(data)
            return []
        if self._parts:
            self._parts.append(data)
            data = b"".join(self._parts)
        if self._first:
            self._first = False
            data = data.removeprefix(b"\xef\xbb\xbf")
        lines = data.split(b"\n")
        self._parts = [lines.pop()]
        frames = []
        for line in lines:
            if not line:
                if self._data:
                    frames.append(Frame(self._event or "message", "\n".join(self._data), self._id))
                    self._data = []
                    self._size = len(self._parts[0])
                self._event = self._id = ""
            elif line.startswith(b"data:"):
                self._data.append(_value(line, 5))
            elif line.startswith(b"event:"):
                self._event = _value(line, 6)
            elif line.startswith(b"id:"):
                if b"\0" not in line:
                    self._id = _value(line, 3)
            elif line == b"data":
                self._data.append("")
            elif line.startswith(b":") and not self._data:
                self._size = len(self._parts[0])
        return frames


def _value(line: bytes, start: int) -> str:
    if line[start:start + 1] == b" ":
        start += 1
    return line[start:].decode("utf-8", "replace")


def encode(chunks: Iterable[str], heartbeat: bytes, every: float,
           clock: Callable[[], float]) -> Iterator[bytes]:
    """The body of a stream: a `data:` frame for each JSON text, then [DONE].

    An empty text says that nothing more is at hand: what has gathered leaves in one write, and after
    `every` seconds without one `heartbeat` does. An error becomes one error frame and the end.
    """
    gathered: list[str] = []
    last = clock()
    try:
        for chunk in chunks:
            if chunk:
                gathered.append(f"data: {chunk}\n\n")
            elif gathered:
                yield "".join(gathered).encode()
                gathered = []
                last = clock()
            elif heartbeat and clock() - last >= every:
                yield heartbeat
                last = clock()
        end = DONE
    except ApiError as error:
        end = frame(error)
    except Exception:
        log.exception("a fault within a stream")
        end = frame(InternalError())
    yield "".join(gathered).encode() + end


def data(text: str) -> bytes:
    """One frame."""
    return f"data: {text}\n\n".encode()


def frame(error: ApiError) -> bytes:
    """The one frame that ends a stream that failed."""
    return data(json.dumps(error.body()))
