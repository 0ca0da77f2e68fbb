"""gunicorn's threaded worker, with every wait for a caller bounded and our own errors for what is no HTTP.

gunicorn's waits without end for the rest of a request and for room to send, lingers over a connection that
ends in the loop that accepts all others, and repeats and logs what it could not read, be it a prompt.
"""

import ctypes
import errno
import fcntl
import json
import logging
import mmap
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
from gunicorn.workers.gthread import TConn, ThreadWorker

from .. import held
from ..errors import BadRequest
from ..dialects.served import DEFAULT
from .dispatch import new_id

log = logging.getLogger("cursor2api")

STATUS = {errors.LimitRequestLine: 414, errors.LimitRequestHeaders: 431, errors.ExpectationFailed: 417}
HEAD = b"HTTP/1.1 200"
LIBC = ctypes.CDLL(None)
M_ARENA_MAX = -8  # mallopt(3)
ARENAS = 1  # glibc would make eight a core, none of which uses what lies free in another
TRIM_S = 5
TICK = 1.0  # seconds between two looks at what a caller has taken
ALIVE_S = 0.5  # between two signs of life to the master
PAUSE_S = 0.1  # after a connection could not be taken
LAST_S = 2.0   # for requests that are still coming in at a stop; gunicorn gives idle connections as much
RELOADS = mmap.mmap(-1, 1)  # how often, modulo 256, the master has begun anew; all its workers see it


class Connection(socket.socket):
    """A caller's. It stays blocking, the kernel ending each wait for bytes after a TICK: gunicorn would switch
    it to and fro, seven system calls a request. Its errors are those that gunicorn takes for a caller who left.
    """

    last = deadline = float("inf")  # for all requests, for the whole of the one that is being read
    _limit: float | None = None  # seconds for a read, gunicorn's
    _sent = _taken = 0       # bytes, by the system and by the caller
    _head = b""              # of an answer, which leaves with the first of its body

    def __init__(self, sock: socket.socket, patience: float):
        """Takes the place of `sock`. `patience`: seconds in which a caller may take nothing."""
        super().__init__(sock.family, sock.type, sock.proto, sock.detach())
        super().settimeout(None)  # on some systems it would not wait, as the listener does not
        self.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", int(TICK), 0))
        self._patience, self._looked, self._heard = patience, time.monotonic(), time.monotonic()

    def setblocking(self, flag: bool) -> None:
        """Nobody reads while gunicorn waits for bytes."""

    def settimeout(self, seconds: float | None) -> None:
        self._limit = seconds

    def gettimeout(self) -> float | None:
        return self._limit

    def recv(self, size: int, flags: int = 0) -> bytes:
        if flags:
            return super().recv(size, flags)
        end = self.deadline if self._limit is None else min(self.deadline, time.monotonic() + self._limit)
        while time.monotonic() < min(end, Connection.last):
            with suppress(BlockingIOError):
                return super().recv(size)
        raise ConnectionResetError(errno.ECONNRESET, "The request did not come in time")

    def sendall(self, data: bytes, flags: int = 0) -> None:
        if data.startswith(HEAD) and data.endswith(b"\r\n\r\n"):
            self._head = data
            return
        data, self._head = self._head + data, b""
        if not data:
            return
        try:
            self._look()
            left = memoryview(data)[(sent := held.send(self, data)):]
            while left:
                self._sent += sent
                try:
                    sent = self.send(left, socket.MSG_DONTWAIT)
                except BlockingIOError:
                    sent = 0
                    room = select.poll()
                    room.register(self, select.POLLOUT)
                    room.poll(1000 * TICK)
                    self._look()
                left = left[sent:]
            self._sent += sent
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
        elif now - self._heard > self._patience:
            self.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # drop what waits
            raise TimeoutError
        self._looked = now


class Worker(ThreadWorker):
    """Bounds are REQUEST_TIMEOUT and SEND_TIMEOUT of the service's configuration."""

    _notified = _trimmed = _short = 0.0

    def init_process(self):
        with suppress(AttributeError):  # another system
            LIBC.mallopt(M_ARENA_MAX, ARENAS)
        self._reloads = RELOADS[0]
        super().init_process()

    def notify(self):
        now = time.monotonic()
        if now - self._notified >= ALIVE_S:  # gunicorn would call the system twice a request
            self._notified = now
            super().notify()
        if now - self._trimmed >= TRIM_S:
            self._trimmed = now
            with suppress(AttributeError):
                LIBC.malloc_trim(0)  # what is freed lies in pieces, which glibc keeps

    def accept(self, listener):
        """gunicorn's ends the worker, with all its replies, when no descriptor or no thread is to be had."""
        try:
            sock, address = listener.accept()
            sock = Connection(sock, self.wsgi.service.config.send_timeout)
            self.nr_conns += 1
            self.enqueue_req(TConn(self.cfg, sock, address, listener.getsockname()))
        except (BlockingIOError, ConnectionAbortedError):
            pass
        except (OSError, RuntimeError) as error:
            if (now := time.monotonic()) - self._short >= TRIM_S:
                self._short = now
                log.error("a connection must wait", extra={"facts": {"why": error}})
            time.sleep(PAUSE_S)

    def leave(self):
        """At SIGTERM, before running replies have ended: if other workers take this one's place, they also
        take what comes, and nothing is refused here. Without others it goes on answering."""
        if self._reloads != RELOADS[0]:
            self.worker_connections = 0
            self.set_accept_enabled(False)
            self._cap_keepalive(time.monotonic())

    def handle_exit(self, sig, frame):
        Connection.last = time.monotonic() + LAST_S
        super().handle_exit(sig, frame)

    def handle(self, conn):
        config = self.wsgi.service.config
        conn.data_ready = conn.initialized or held.readable(conn.sock)
        conn.sock.deadline = time.monotonic() + config.request_timeout
        goes_on = super().handle(conn)
        try:
            if isinstance(conn.sock, Connection):
                conn.sock.sendall(b"")  # the head of an answer that has no body
        except OSError:
            goes_on = False
        if goes_on is False:
            # Who is refused a large body sends on, and reads the answer only then.
            conn.sock.deadline = float("inf")  # of the request, which is over; this has a limit of its own
            util.close_graceful(conn.sock, max_drain=config.max_body_bytes)
            conn.close = lambda graceful=False: None
        return goes_on

    def handle_error(self, req, client, addr, exc):
        if not isinstance(exc, errors.ParseException):
            return super().handle_error(req, client, addr, exc)
        id, status = new_id(), HTTPStatus(STATUS.get(type(exc), 400))
        log.info("no request", extra={"facts": {"id": id, "status": status.value, "why": type(exc).__name__}})
        body = json.dumps(DEFAULT.error(
            BadRequest(f"The request is not good HTTP/1.1: {exc}", status=status.value), "").body)
        with suppress(OSError):
            client.sendall(f"HTTP/1.1 {status} {status.phrase}\r\nContent-Type: application/json\r\n"
                           f"x-request-id: {id}\r\nConnection: close\r\n"
                           f"Content-Length: {len(body)}\r\n\r\n{body}".encode())
