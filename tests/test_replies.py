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
from cursor2api.errors import ApiError, UpstreamError
from cursor2api.events import Finish, Reasoning, Text, Usage
from cursor2api.prompt import Briefing, Prompt
from cursor2api.simulator import serve
from cursor2api.upstream.cloud import Cloud, Transcript
from cursor2api.upstream.http import Limits
from cursor2api.upstream.sse import Frame
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
def server(bodies, held=None):
    """One HTTP response a body, sent piece by piece, to a caller each; `held` is waited for before its end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        def answer(pieces):
            caller, _ = listener.accept()
            with caller, suppress(ConnectionError):  # a reader may leave at an error
                caller.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with caller.makefile("rb") as asked:  # all of it: a close would else reset
                    length = 0
                    while (line := asked.readline().lower()).strip():
                        length = int(line[15:]) if line.startswith(b"content-length:") else length
                    asked.read(length)
                caller.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n")
                for piece in pieces:
                    caller.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
                if held:
                    held.wait(60)
                caller.sendall(b"0\r\n\r\n")
        thread = threading.Thread(target=lambda: [*map(answer, bodies)])
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


def check_ui(path, every=cuts):
    expected = json.loads(path.with_suffix(".json").read_text("utf-8"))
    bodies = [*every(path.read_bytes())]
    with server(bodies) as url:
        upstream = UiStream(url, {}, LIMITS)
        assert [pieces for pieces in bodies if read(upstream.open(PLAN)) != expected] == []
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


@pytest.mark.parametrize("mark", [b"data: [DONE]\n\n", b""], ids=["DONE", "finish"])
def test_a_ui_message_stream_ends_at_its_mark_although_its_connection_does_not(mark):
    held, body = threading.Event(), (Path(__file__).parent / "replies/ui_plain.txt").read_bytes()
    body = body.replace(b"data: [DONE]\n\n", mark)
    with server([[body]], held) as url:
        upstream = UiStream(url, {}, LIMITS)
        try:
            assert read(upstream.open(PLAN))[-1] == ["Finish", "stop"] and not held.is_set()
            upstream.close(30)
        finally:
            held.set()


@pytest.mark.parametrize("path", [path for path in REPLIES if path.stem.startswith("cloud_")],
                         ids=lambda path: path.stem)
def test_a_run_of_cursor_whole_and_cut(path):
    check_cloud(path)


# Values in the place of each that an upstream says, and of each within it.
ODD = [None, True, -1, 1.5, 10**400, "x", "", [], ["x"], [{}], {}, {"x": 1}]
PARTS = [{"type": "text-delta", "id": "0", "delta": "a"}, {"type": "error", "errorText": "x"}, {
    "type": "finish", "finishReason": "stop", "messageMetadata": {"usage": {"inputTokens": 5, "outputTokens": 1}}}]
FRAMES = [
    ("assistant", {"text": "a"}), ("thinking", {"text": "a"}),
    ("interaction_update", {"type": "turn-ended", "usage": {"inputTokens": 5, "outputTokens": 1}}),
    ("error", {"code": "not_found", "message": "x"}),
    ("result", {"runId": "r", "status": "FINISHED", "text": "a"}),
    ("result", {"runId": "r", "status": "ERROR", "error": {"code": "x", "message": "x"}})]


def oddly(value):
    """The value with each part of it in turn replaced by each odd one."""
    yield from ODD
    for key in value if isinstance(value, dict) else ():
        for odd in oddly(value[key]):
            yield {**value, key: odd}


def test_no_part_of_a_ui_message_stream_is_a_fault_of_ours():
    bodies = [[f"data: {json.dumps(odd)}\n\ndata: {json.dumps(PARTS[-1])}\n\ndata: [DONE]\n\n".encode()]
              for part in PARTS for odd in oddly(part)]
    with server(bodies) as url:
        upstream = UiStream(url, {}, LIMITS)
        for _ in bodies:
            rows = read(upstream.open(PLAN))
            assert rows[-1] in (["Finish", "stop"], ["error", "upstream_error"])
            assert all(row[1:] in ([5, 1], [5, 0], [0, 1]) for row in rows if row[0] == "Usage"), rows
        upstream.close(30)


def test_no_frame_of_cursor_is_a_fault_of_ours():
    for event, value in FRAMES:
        for odd in oddly(value):
            heard = Transcript(Usage(0, 0))
            heard.connect()
            with suppress(UpstreamError):
                heard.take(Frame(event, json.dumps(odd), "1-0"))
            assert (heard.usage.prompt_tokens, heard.usage.completion_tokens) in ((0, 0), (5, 1), (5, 0))


@pytest.mark.parametrize("digits", [4000, 5000])
def test_a_count_of_many_digits_is_none(digits):
    usage = '{"inputTokens": %s, "outputTokens": 4}' % ("9" * digits)
    finish = '{"type": "finish", "messageMetadata": {"usage": %s}}' % usage
    with server([[f'data: {{"type": "text-delta", "delta": "a"}}\n\ndata: {finish}\n\n'.encode()]]) as url:
        upstream = UiStream(url, {}, LIMITS)
        assert read(upstream.open(PLAN)) == [["Text", "a"], ["Finish", "stop"] if digits < 4300 else [
            "error", "upstream_error"]]  # as Python reads no longer number
        upstream.close(30)
    raw = ('id: 1\nevent: assistant\ndata: {"text": "a"}\n\nid: 2\nevent: interaction_update\n'
           'data: {"type": "turn-ended", "usage": %s}\n\n' % usage
           + 'id: 3\nevent: result\ndata: {"status": "FINISHED", "text": "a"}\n\n')
    with serve({"replies": [{"raw": raw, "text": "a"}]}) as simulator:
        upstream = Cloud(simulator.url, "key", LIMITS)
        assert read(upstream.open(PLAN)) == [["Text", "a"], ["Finish", "stop"]]
        upstream.close(30)


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
