"""A caller's connection before there is a request: the bytes that come, and the answer when they are no HTTP/1.1.

The system ends each wait for a caller (SO_RCVTIMEO, SO_SNDTIMEO; socket(7)), so a socket stays a blocking one.
Over gunicorn's own TLS it does not, because Python's `ssl` waits on.
"""

import errno
import json
import logging
import socket
import struct
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus

from ..dialects.served import DEFAULT
from ..errors import BadRequest
from .dispatch import new_id

log = logging.getLogger("cursor2api")

TICK_S = 1  # between two looks at the clock while nothing comes
PAUSE_S = 0.1  # after a lack: what there is may become free
SILENT_S = 5.0  # between two lines about lacks
STATUS = {"LimitRequestLine": 414, "LimitRequestHeaders": 431, "ExpectationFailed": 417}


class Shortage:
    """A context that outlives a lack of descriptors or threads: what it was for must wait, and the log says so."""

    _last = -SILENT_S

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> bool:
        if not isinstance(error, (OSError, RuntimeError)):
            return False
        if (now := time.monotonic()) - self._last >= SILENT_S:
            self._last = now
            log.error("a connection must wait", extra={"facts": {"why": str(error)}})
        time.sleep(PAUSE_S)
        return True


def limit_waits(sock: socket.socket, send_timeout: float) -> None:
    """After this a call that sends raises BlockingIOError when there was no room for `send_timeout` seconds."""
    seconds = int(send_timeout)
    microseconds = int(1e6 * (send_timeout - seconds))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", seconds, microseconds))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", TICK_S, 0))


def received(sock: socket.socket, deadline: float, stopping: Callable[[], bool]) -> Iterator[bytes]:
    """The bytes of one request, the first of which are there already.

    Raises ConnectionResetError when more is asked for after `deadline` (of time.monotonic), and when nothing
    comes at a stop.
    """
    late = False
    while not late:
        try:
            yield sock.recv(65536)
        except BlockingIOError:
            late = stopping()
        late = late or time.monotonic() > deadline
    raise ConnectionResetError(errno.ECONNRESET, "The request did not come in time")


def refusal(fault: Exception) -> bytes:
    """The whole answer to what is no good HTTP/1.1. The text of `fault` may hold a prompt, so it is not logged."""
    id, why = new_id(), type(fault).__name__
    status = HTTPStatus(STATUS.get(why, 400))
    log.info("no request", extra={"facts": {"id": id, "status": status.value, "why": why}})
    error = BadRequest(f"The request is not good HTTP/1.1: {fault}", status=status.value)
    body = json.dumps(DEFAULT.error(error, id).body)
    return (f"HTTP/1.1 {status} {status.phrase}\r\nContent-Type: application/json\r\nx-request-id: {id}\r\n"
            f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n{body}").encode()
