"""A reply on its way: the frames of a stream, or a body that is begun before it is known.

Which frames these are is the business of the dialect's writer.
"""

import json
import logging
from collections.abc import Callable, Iterable, Iterator

from ..dialects import Frame, Writer
from ..errors import ApiError, InternalError
from ..events import Event, Waiting
from .record import RequestRecord

log = logging.getLogger("cursor2api")

COMMENT = b": keep-alive\n\n"  # some clients stop at ": ping"


def stream(writer: Writer, pairs: Iterable[tuple[int, Event]], record: RequestRecord, heartbeat: str,
           every: float) -> Iterator[bytes]:
    """The body of a stream, from (index of the choice, event) pairs.

    Waiting says that nothing more is at hand: what has gathered leaves in one write, and after `every`
    seconds without one a heartbeat does: the writer's frame ("chunk"), a comment, or nothing ("off").
    An error ends the stream with what the writer makes of it.
    """
    clock = record.clock
    frames: list[Frame] = []
    try:
        if frames := writer.begin():
            yield encode(frames)
        frames, last = [], clock()
        for index, event in pairs:
            if type(event) is not Waiting:
                frames += writer.add(index, event)
            elif frames:
                yield encode(frames)
                frames, last = [], clock()
            elif heartbeat != "off" and clock() - last >= every:
                yield COMMENT if heartbeat == "comment" else encode([writer.heartbeat()])
                record.heartbeats += 1
                last = clock()
        frames += writer.end(record.usage)
        record.whole = True
    except ApiError as error:
        record.error = error
        frames += writer.fail(error)
    except Exception:
        log.exception("a fault within a stream")
        record.error = InternalError()
        frames += writer.fail(record.error)
    if frames:
        yield encode(frames)


def body(texts: Iterable[str], record: RequestRecord, every: float,
         refused: Callable[[ApiError], dict]) -> Iterator[bytes]:
    """A JSON body that is begun before it is known: newlines every `every` seconds, then the one text
    that is not empty. The status has left, so an error is a body like any other: `refused` makes it."""
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
        return
    except ApiError as error:
        record.error = error
    except Exception:
        log.exception("a fault within a body")
        record.error = InternalError()
    yield json.dumps(refused(record.error)).encode()


def encode(frames: Iterable[Frame]) -> bytes:
    """Frames as server-sent events."""
    return "".join([f"event: {event}\ndata: {data}\n\n" if event else f"data: {data}\n\n"
                    for data, event in frames]).encode()
