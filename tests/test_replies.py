"""Upstream bodies as text files, each beside the events that it must give, at every cut and through
both encoders. To add a case is to add two files.
"""

import base64
import json
import socket
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from cuts import cuts, joined
from wire import chunks, completion, folded, record, writer

from cursor2api.effects.transforms import count_usage
from cursor2api.errors import ApiError
from cursor2api.events import Finish, Reasoning, Text, Usage
from cursor2api.prompt import Briefing, Prompt
from cursor2api.simulator import serve
from cursor2api.upstream.cloud import Cloud
from cursor2api.upstream.http import Limits
from cursor2api.upstream.uistream import UiStream

REPLIES = sorted((Path(__file__).parent / "replies").glob("*.txt"))
LIMITS = Limits(connect=10, create=60, idle=60, retry=0.001)
PLAN = Prompt(model="gemini-3-flash", params=(), text="Hi", images=(),
            briefing=Briefing("1", "", 0))


def row(event):
    return [type(event).__name__, *(
        [event.prompt_tokens, event.completion_tokens] if isinstance(event, Usage) else
        [event.reason] if isinstance(event, Finish) else [event.text])]


def read(stream):
    """The events as rows, a failure as the last of them."""
    events = []
    try:
        for event in stream:
            events.append(event)
        rows = [row(event) for event in joined(events)]
    except ApiError as error:
        rows = [row(event) for event in joined(events)] + [["error", error.code]]
    finally:
        stream.end()
    return rows


@contextmanager
def server(pieces):
    """One HTTP response, its body sent piece by piece, to one caller."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        def answer():
            caller, _ = listener.accept()
            with caller, suppress(ConnectionError):  # a reader may leave at an error
                caller.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with caller.makefile("rb") as asked:  # all of it: a close would else reset
                    length = 0
                    while (line := asked.readline().lower()).strip():
                        length = int(line[15:]) if line.startswith(b"content-length:") else length
                    asked.read(length)
                caller.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                for piece in pieces:
                    caller.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
                caller.sendall(b"0\r\n\r\n")
        thread = threading.Thread(target=answer)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


def check_ui(path, every=cuts):
    expected = json.loads(path.with_suffix(".json").read_text("utf-8"))
    for pieces in every(path.read_bytes()):
        with server(pieces) as url:
            upstream = UiStream(url, {}, LIMITS)
            assert read(upstream.open(PLAN)) == expected, pieces
            upstream.close(30)


def check_cloud(path):
    expected = json.loads(path.with_suffix(".json").read_text("utf-8"))
    raw = base64.b64encode(path.read_bytes()).decode()
    with serve() as simulator:
        upstream = Cloud(simulator.url, "key", LIMITS)
        for cut in (0, 1, 2, 3, 7, 64):
            simulator.script({"replies": [{"raw": {"base64": raw}, **({"cut": cut} if cut else {})}]})
            assert read(upstream.open(PLAN)) == expected, cut
        upstream.close(30)
        assert all(agent["deleted"] for agent in simulator.state["agents"])


@pytest.mark.parametrize("path", [path for path in REPLIES if path.stem.startswith("ui_")],
                         ids=lambda path: path.stem)
def test_a_ui_message_stream_at_every_cut(path):
    check_ui(path)


@pytest.mark.parametrize("path", [path for path in REPLIES if path.stem.startswith("cloud_")],
                         ids=lambda path: path.stem)
def test_a_run_of_cursor_whole_and_cut(path):
    check_cloud(path)


def events_of(rows):
    kinds = {"Text": Text, "Reasoning": Reasoning, "Usage": Usage, "Finish": Finish}
    return [kinds[kind](*values) for kind, *values in rows]


@pytest.mark.parametrize("path", REPLIES, ids=lambda path: path.stem)
def test_a_reply_is_the_same_through_both_encoders(path):
    rows = json.loads(path.with_suffix(".json").read_text("utf-8"))
    if rows[-1][0] == "error":
        return
    pairs = [(0, event) for event in count_usage(events_of(rows), 0)]
    choices, _ = folded(chunks(pairs, writer(), record()))
    body, = completion(pairs, writer(), record())
    choice = json.loads(body)["choices"][0]
    assert choices[0]["content"] == choice["message"]["content"]
    assert choices[0]["finish"] == choice["finish_reason"]
