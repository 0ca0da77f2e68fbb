"""Server-sent events: bytes to frames.

Follows https://html.spec.whatwg.org/multipage/server-sent-events.html; what `feed` returns in all
does not depend on where the bytes were cut. str.splitlines and requests.iter_lines both break that.
"""

import re
from typing import NamedTuple

from ..errors import UpstreamError

MAX_FRAME = 32 * 1024 * 1024
A_LINE = 64  # bytes that Python takes for a line beside its own

# A whole frame as most are: the way by lines takes three times as long.
PLAIN = re.compile(rb"(?:id: ?([^\n\0]*)\n)?(?:event: ?([^\n]*)\n)?data: ?([^\n]*)\n\n")


class Frame(NamedTuple):
    """One event as the wire names it; `id` is its own id, "" if it has none."""

    event: str
    data: str
    id: str


class Decoder:
    """Feeds on bytes, gives frames. A frame without its blank line at the end is not a frame."""

    def __init__(self):
        self._parts: list[bytes] = []  # of the line that has not ended
        self._size = 0  # of the frame so far, but for the line that has not ended
        self._pending = 0  # size of that line
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
        if b"\r" in data:
            self._after_cr = data.endswith(b"\r")
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        else:
            self._after_cr = False
        if b"\n" not in data:
            self._parts.append(data)
            self._pending += len(data)
            self._check(self._pending)
            return []
        if self._parts:
            self._parts.append(data)
            data = b"".join(self._parts)
        if self._first:
            self._first = False
            data = data.removeprefix(b"\xef\xbb\xbf")
        frames = []
        at = 0
        while True:
            while not self._size and (plain := PLAIN.match(data, at)) and len(data) <= MAX_FRAME:
                id, event, value = plain.groups(b"")
                frames.append(Frame(event.decode("utf-8", "replace") or "message",
                                    value.decode("utf-8", "replace"), id.decode("utf-8", "replace")))
                at = plain.end()
            end = data.find(b"\n", at)
            if end < 0:
                break
            if frame := self._line(data[at:end]):
                frames.append(frame)
            at = end + 1
        self._parts = [data[at:]] if at < len(data) else []
        self._pending = len(data) - at
        self._check(self._pending)
        return frames

    def _line(self, line: bytes) -> Frame | None:
        """Takes a line; gives the frame that it ends."""
        if not line:
            frame = Frame(self._event or "message", "\n".join(self._data), self._id) if self._data else None
            self._data = []
            self._event = self._id = ""
            self._size = 0
            return frame
        self._check(len(line))
        name, _, value = line.partition(b":")
        if name or self._data:  # a comment between frames is part of none
            self._size += len(line) + A_LINE
        if name == b"data":
            self._data.append(_text(value))
        elif name == b"event":
            self._event = _text(value)
        elif name == b"id" and b"\0" not in value:
            self._id = _text(value)
        return None

    def _check(self, more: int) -> None:
        if self._size + more > MAX_FRAME:
            raise UpstreamError(f"The upstream sent a frame of over {MAX_FRAME} bytes")


def _text(value: bytes) -> str:
    return value.removeprefix(b" ").decode("utf-8", "replace")
