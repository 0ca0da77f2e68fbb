"""gunicorn's threaded worker, with every wait for a caller bounded and our own errors for what is no HTTP.

gunicorn's waits without end for the rest of a request and for room to send, lingers over a connection that
ends in the loop that accepts all others, and repeats and logs what it could not read, be it a prompt.
"""

import ctypes
import errno
import fcntl
import json
import logging
import select
import socket
import struct
import sys
import termios
import time
from contextlib import suppress
from http import HTTPStatus

from gunicorn import util
from gunicorn.http import errors
from gunicorn.workers.gthread import ThreadWorker

from .errors import BadRequest
from .wsgi import new_id

log = logging.getLogger("cursor2api")

STATUS = {errors.LimitRequestLine: 414, errors.LimitRequestHeaders: 431, errors.ExpectationFailed: 417}
TRIM_S = 5
LIBC = ctypes.CDLL(None)
TICK = 1.0  # seconds between two looks at what a caller has taken


class Connection(socket.socket):
    """A caller's. Both errors are those that gunicorn takes for a caller who has left."""

    deadline = float("inf")  # for the whole of the request that is being read
    patience = float("inf")  # seconds in which a caller may take nothing
    _sent = _taken = 0       # bytes, by the system and by the caller
    _looked = _heard = 0.0

    def recv(self, size: int, flags: int = 0) -> bytes:
        if flags:
            return super().recv(size, flags)
        limit = self.gettimeout()
        left = max(0.001, self.deadline - time.monotonic())
        self.settimeout(left if limit is None else min(left, limit))
        try:
            return super().recv(size)
        except TimeoutError:
            raise ConnectionResetError(errno.ECONNRESET, "The request did not come in time") from None
        finally:
            self.settimeout(limit)

    def sendall(self, data: bytes, flags: int = 0) -> None:
        left = memoryview(data)
        try:
            while left:
                self._look()
                try:
                    sent = self.send(left, flags | socket.MSG_DONTWAIT)
                    self._sent += sent
                    left = left[sent:]
                except BlockingIOError:
                    room = select.poll()
                    room.register(self, select.POLLOUT)
                    room.poll(1000 * TICK)
        except OSError as error:
            raise BrokenPipeError(errno.EPIPE, "The caller takes nothing") from error

    def _look(self) -> None:
        """Raises TimeoutError when none of what was sent has been acknowledged for `patience` seconds.

        TCP_USER_TIMEOUT will not do: it also ends a caller who takes little but steadily.
        """
        now = time.monotonic()
        if now - self._looked < TICK:
            return
        try:
            waiting = int.from_bytes(fcntl.ioctl(self, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
        except OSError:  # not on this system: then what it had room for counts
            waiting = -1
        taken = self._sent - waiting
        if taken != self._taken or not waiting:
            self._taken, self._heard = taken, now
        elif now - self._heard > self.patience:
            self.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # drop what waits
            raise TimeoutError
        self._looked = now


class Worker(ThreadWorker):
    """Bounds are REQUEST_TIMEOUT and SEND_TIMEOUT of the service's configuration."""

    _trimmed = 0.0

    def notify(self):
        super().notify()
        if time.monotonic() - self._trimmed >= TRIM_S:
            self._trimmed = time.monotonic()
            # What many threads free lies in pieces, which glibc keeps: three times what is in use, in time.
            with suppress(AttributeError):  # another system
                LIBC.malloc_trim(0)

    def handle(self, conn):
        config = self.wsgi.service.config
        if not isinstance(conn.sock, Connection):
            conn.sock = Connection(fileno=conn.sock.detach())
            conn.sock.patience = config.send_timeout
        conn.sock.deadline = time.monotonic() + config.request_timeout
        goes_on = super().handle(conn)
        if goes_on is False:
            # Who is refused a large body sends on, and reads the answer only then.
            util.close_graceful(conn.sock, max_drain=config.max_body_bytes)
            conn.close = lambda graceful=False: None
        return goes_on

    def handle_error(self, req, client, addr, exc):
        if not isinstance(exc, errors.ParseException):
            return super().handle_error(req, client, addr, exc)
        id, status = new_id(), HTTPStatus(STATUS.get(type(exc), 400))
        log.info("no request", extra={"facts": {"id": id, "status": status.value, "why": type(exc).__name__}})
        body = json.dumps(BadRequest(f"The request is not good HTTP/1.1: {exc}", status=status.value).body())
        with suppress(OSError):
            client.sendall(f"HTTP/1.1 {status} {status.phrase}\r\nContent-Type: application/json\r\n"
                           f"x-request-id: {id}\r\nConnection: close\r\n"
                           f"Content-Length: {len(body)}\r\n\r\n{body}".encode())
