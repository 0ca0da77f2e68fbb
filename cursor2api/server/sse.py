"""Server-sent events: JSON texts to the bytes of a reply."""

import json
import logging
from collections.abc import Iterable, Iterator

from ..errors import ApiError, InternalError
from .record import RequestRecord

log = logging.getLogger("cursor2api")

DONE = b"data: [DONE]\n\n"
COMMENT = b": keep-alive\n\n"  # some clients stop at ": ping"


def encode(chunks: Iterable[str], heartbeat: bytes, every: float, record: RequestRecord) -> Iterator[bytes]:
    """The body of a stream: a `data:` frame for each JSON text, then [DONE].

    An empty text says that nothing more is at hand: what has gathered leaves in one write, and after
    `every` seconds without one `heartbeat` does. An error becomes one error frame and the end.
    """
    gathered: list[str] = []
    clock = record.clock
    last = clock()
    try:
        for chunk in chunks:
            if chunk:
                gathered.append(chunk)
            elif gathered:
                yield _frames(gathered)
                gathered.clear()
                last = clock()
            elif heartbeat and clock() - last >= every:
                yield heartbeat
                record.heartbeats += 1
                last = clock()
        end = DONE
    except ApiError as error:
        end = frame(error)
    except Exception:
        log.exception("a fault within a stream")
        end = frame(InternalError())
    yield _frames(gathered) + end if gathered else end


def body(texts: Iterable[str], every: float, record: RequestRecord) -> Iterator[bytes]:
    """A JSON body that is begun before it is known: newlines every `every` seconds, then the one text
    that is not empty. The status has left, so an error is a body like any other."""
    yield b"\n"
    last = record.clock()
    try:
        for text in texts:
            if text:
                yield text.encode()
            elif record.clock() - last >= every:
                yield b"\n"
                record.heartbeats += 1
                last = record.clock()
    except ApiError as error:
        yield json.dumps(error.body()).encode()
    except Exception:
        log.exception("a fault within a body")
        yield json.dumps(InternalError().body()).encode()


def _frames(texts: list[str]) -> bytes:
    return ("data: " + "\n\ndata: ".join(texts) + "\n\n").encode()


def data(text: str) -> bytes:
    """One frame."""
    return f"data: {text}\n\n".encode()


def frame(error: ApiError) -> bytes:
    """The one frame that ends a stream that failed."""
    return data(json.dumps(error.body()))
