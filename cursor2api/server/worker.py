"""gunicorn's threaded worker, except that no thread waits for a caller beyond `conn.timeout`: REQUEST_TIMEOUT
after its connection was accepted or, if that was kept alive, after the first bytes of a next request were seen.
"""
import time
from contextlib import suppress
from functools import partial
from selectors import EVENT_READ

from gunicorn import util
from gunicorn.http.errors import ParseException
from gunicorn.http.unreader import IterUnreader
from gunicorn.workers.gthread import ThreadWorker

from .incoming import Shortage, limit_waits, received, refusal


class Worker(ThreadWorker):
    shortage = Shortage()

    def accept(self, listener):
        with self.shortage:
            super().accept(listener)

    def enqueue_req(self, conn):  # the loop calls this with a new connection, then whenever bytes have come on it
        if conn.initialized or not conn.data_ready:
            conn.timeout = time.monotonic() + self.wsgi.service.config.request_timeout
        if not conn.data_ready:
            limit_waits(conn.sock, self.wsgi.service.config.send_timeout)
            self.pending_conns.append(conn)
            return self.poller.register(conn.sock, EVENT_READ, partial(self.on_pending_socket_readable, conn))
        with self.shortage:
            return super().enqueue_req(conn)
        # No thread could be started. The pool has the request all the same, and a thread that becomes idle handles
        # it, but gunicorn's finish_request, which counts connections down, is not called after it.
        self.nr_conns -= 1

    def handle(self, conn):
        if conn.parser is None:
            conn.init()
            conn.parser.unreader = IterUnreader(())
        conn.parser.unreader.iter = received(conn.sock, conn.timeout, lambda: not self.alive)
        # gunicorn's loop would wait until the caller has closed, and hold up all others: this thread waits.
        if not (goes_on := super().handle(conn)):
            wait = min(2.0, max(0.1, conn.timeout - time.monotonic()))
            util.close_graceful(conn.sock, wait, self.wsgi.service.config.max_body_bytes)
            conn.close = lambda graceful=False: None
        return goes_on

    def handle_error(self, req, client, addr, exc):
        if not isinstance(exc, ParseException):
            return super().handle_error(req, client, addr, exc)
        with suppress(OSError):
            client.sendall(refusal(exc))
