"""The gateway without one of its tricks, so that run.py can tell what each is worth: WITHOUT names it."""

import json
import os
import re
import select
import socket

import requests

from cursor2api import held
from cursor2api.server import sse, views
from cursor2api.server import worker
from cursor2api.events import Finish, Text, Waiting
from cursor2api.upstream import cloud, http


class Session:
    """requests in place of our own HTTP client, as far as chats that succeed need it."""

    def __init__(self, base_url, headers, limits, pool):
        self.limits, self._url, self._session = limits, base_url, requests.Session()
        self._session.trust_env = False
        self._session.headers = headers
        self._session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=pool))

    def ask(self, method, path, *, json=None, data=b"", headers=None, timeout=None, stream=False, **_):
        return Answer(self._session.request(method, self._url + path, json=json, data=data, headers=headers,
                                            timeout=timeout or self.limits.idle, stream=stream))
        yield

    call = http.Http.call

    def close(self):
        self._session.close()


class Answer:
    def __init__(self, response):
        self._response, self.status_code = response, response.status_code
        self.headers = {name.lower(): value for name, value in response.headers.items()}
        self.object = response.json() if self.headers.get("content-type", "").endswith("/json") else {}

    def read(self):
        return self._response.raw.read1(65536)

    def close(self):
        self._response.raw.drain_conn()  # else the connection is not used again
        self._response.close()


def dumped(pairs, head, record, *, count=1, include_usage=False):
    """encode.chunks for one plain choice, each chunk a dictionary that json.dumps writes."""
    def chunk(delta, finish=None):
        return json.dumps({"id": head.id, "object": "chat.completion.chunk", "created": head.created,
                           "model": head.model, "choices": [
                               {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]},
                          separators=(",", ":"))

    yield chunk({"role": "assistant", "content": "", "refusal": None})
    yield ""
    for _, event in pairs:
        if type(event) is Waiting:
            yield ""
        elif type(event) is Text:
            record.delta()
            yield chunk({"content": event.text})
        elif type(event) is Finish:
            record.finishes.append(event.reason)
            yield chunk({}, event.reason)


def each_alone(*args, _chunks=views.chunks, **options):
    for text in _chunks(*args, **options):
        yield text
        if text:
            yield ""


def with_timeout(self, _connect=http.Http._connect):
    sock = _connect(self)
    sock.settimeout(http.TICK)
    return sock


def send(sock, data):
    try:
        return sock.send(data, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return 0


def readable(sock):
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


def undo(name: str) -> None:
    if name == "own HTTP client":
        cloud.Http = Session
    elif name == "calls that hold the lock":
        held.send, held.readable, held._bytes = send, readable, lambda: os.urandom(16)
    elif name == "the kernel's timeouts, upstream":
        http.Http._connect = with_timeout
    elif name == "little reads":
        http.LITTLE = http.READ
    elif name == "frames by one pattern":
        sse.PLAIN = re.compile(rb"(?!)")
    elif name == "chunks from a template":
        views.chunks = dumped
    elif name == "one write a read":
        views.chunks = each_alone
    elif name == "heads with bodies":
        worker.HEAD = b"never"
    elif name == "one arena":
        worker.ARENAS = 0
    elif name == "malloc_trim":
        worker.TRIM_S = float("inf")
    else:
        raise SystemExit(f"tricks: there is no trick {name!r}")


undo(os.environ["WITHOUT"])
from app import app  # noqa: E402, F401  what gunicorn serves; it is made here, without the trick
