"""Server-sent events: what the decoder reads at every cut, and what the encoder writes."""

import json
import time

import pytest
from cuts import cuts

from cursor2api.errors import UpstreamCut, UpstreamError
from cursor2api.server.sse import body, encode
from cursor2api.upstream.sse import MAX_FRAME, Decoder, Frame
from cursor2api.server.record import RequestRecord

FRAMES = [
    ("LF", b"event: a\ndata: x\n\n", [Frame("a", "x", "")]),
    ("CRLF", b"event: a\r\ndata: x\r\n\r\n", [Frame("a", "x", "")]),
    ("CR", b"event: a\rdata: x\r\r", [Frame("a", "x", "")]),
    ("no space after the colon", b"event:a\ndata:x\nid:7\n\n", [Frame("a", "x", "7")]),
    ("no event name", b"data: x\n\n", [Frame("message", "x", "")]),
    ("a byte order mark", b"\xef\xbb\xbfdata: x\n\n", [Frame("message", "x", "")]),
    ("comments", b": hi\n\ndata: x\n: y\n\n", [Frame("message", "x", "")]),
    ("several data lines", b"data: x\ndata\ndata: y\n\n", [Frame("message", "x\n\ny", "")]),
    ("an id is the frame's own", b"id: 1\ndata: x\n\ndata: y\n\n",
     [Frame("message", "x", "1"), Frame("message", "y", "")]),
    ("an event without data", b"event: a\n\ndata: x\n\n", [Frame("message", "x", "")]),
    ("U+2028 ends no line", "data: a\u2028b\n\n".encode(), [Frame("message", "a\u2028b", "")]),
    ("characters of many bytes", "data: é世😀\n\n".encode(), [Frame("message", "é世😀", "")]),
    ("bad UTF-8", b"data: a\xffb\n\n", [Frame("message", "a\ufffdb", "")]),
    ("no blank line at the end", b"data: x\n\ndata: y\n", [Frame("message", "x", "")]),
    ("unknown fields", b"retry: 3\nfoo: 1\ndata: x\n\n", [Frame("message", "x", "")]),
    ("names that only begin like ours", b"data-x: 1\nids: 2\n data: 3\ndata: x\n\n",
     [Frame("message", "x", "")]),
    ("a name without a colon empties its field", b"event: a\nevent\nid: 1\nid\ndata: x\n\n",
     [Frame("message", "x", "")]),
    ("the last of two names wins", b"event: a\nid: 1\ndata: x\nevent: b\nid: 2\n\n",
     [Frame("b", "x", "2")]),
    ("an id with NUL is none", b"id: 1\nid: 2\0\ndata: x\n\n", [Frame("message", "x", "1")]),
    ("an id without data is nobody's", b"id: 1\n\ndata: x\n\n", [Frame("message", "x", "")]),
    ("only one space goes", b"data:  x \n\n", [Frame("message", " x ", "")]),
    ("empty data is data", b"data:\n\ndata\n\n", [Frame("message", "", "")] * 2),
    ("colons in a value", b"data: a: b\n\n", [Frame("message", "a: b", "")]),
    ("ends of all kinds mixed", b"data: a\r\ndata: b\rdata: c\n\r\ndata: d\r\n\r",
     [Frame("message", "a\nb\nc", ""), Frame("message", "d", "")]),
    ("LF after CR is not a blank line", b"data: a\r\ndata: b\r\n\r\n", [Frame("message", "a\nb", "")]),
    ("an order mark that is not the first is text", b"data: \xef\xbb\xbfx\n\n\xef\xbb\xbfdata: y\n\n",
     [Frame("message", "\ufeffx", "")]),
    ("vertical tab, form feed and U+0085 end no line", "data: a\v\f\x1c\x85b\n\n".encode(),
     [Frame("message", "a\v\f\x1c\x85b", "")]),
]


@pytest.mark.parametrize("name, data, expected", FRAMES, ids=[row[0] for row in FRAMES])
def test_frames_are_the_same_at_every_cut(name, data, expected):
    for pieces in cuts(data):
        decoder = Decoder()
        assert [frame for piece in pieces for frame in decoder.feed(piece)] == expected
        decoder = Decoder()  # a read that gave nothing changes nothing
        assert [frame for piece in pieces for part in (piece, b"")
                for frame in decoder.feed(part)] == expected


def test_a_frame_of_ten_megabytes_is_read_in_pieces():
    decoder, piece, start = Decoder(), b"x" * 100, time.process_time()
    assert decoder.feed(b"data: ") == []
    for _ in range(100_000):
        assert decoder.feed(piece) == []
    assert len(decoder.feed(b"\n\n")[0].data) == 10_000_000
    assert time.process_time() - start < 5, "to copy all of it for each piece takes minutes"


def refused(data, size):
    decoder = Decoder()
    try:
        for at in range(0, len(data), size):
            decoder.feed(data[at:at + size])
    except UpstreamError:
        return True
    return False


LINES = b"data: %s\n" % (b"x" * 99_994) * (MAX_FRAME // 100_000)
SIZES = [
    ("one line of the limit", b"data: " + b"x" * (MAX_FRAME - 6) + b"\n\n", False),
    ("one line beyond it", b"data: " + b"x" * (MAX_FRAME - 5) + b"\n\n", True),
    ("many lines within it", LINES + b"\n", False),
    ("many lines beyond it", LINES + LINES[:1_000_000] + b"\n", True),
    ("a line without end", b"x" * (MAX_FRAME + 1), True),
    ("many small frames beyond it", (b"data: " + b"x" * 9_990 + b"\n\n") * 4_000, False),
    ("many heartbeats beyond it", (b": " + b"x" * 9_990 + b"\n") * 4_000, False),
    ("many frames without data beyond it", (b"event: " + b"x" * 9_990 + b"\n\n") * 4_000, False),
    ("a long frame after a short one", b"data: x\n\n" + LINES + LINES[:1_000_000], True),
]


@pytest.mark.parametrize("name, data, expected", SIZES, ids=[row[0] for row in SIZES])
def test_the_limit_is_of_a_frame_and_not_of_a_read(name, data, expected):
    for size in (len(data), 10_000_001, 65_536):
        assert refused(data, size) == expected, size


def clock(*times):
    return iter(times).__next__


def test_what_is_at_hand_leaves_in_one_write():
    body = list(encode(iter(["1", "2", "", "3"]), b"beat", 10, RequestRecord(lambda: 0)))
    assert body == [b"data: 1\n\ndata: 2\n\n", b"data: 3\n\ndata: [DONE]\n\n"]


def test_a_heartbeat_leaves_only_in_silence():
    body = list(encode(iter(["", "", "1", "", ""]), b"beat", 10, RequestRecord(clock(0, 5, 10, 11, 12, 13))))
    assert body == [b"beat", b"data: 1\n\n", b"data: [DONE]\n\n"]


def test_an_error_is_one_frame_and_the_end():
    def chunks():
        yield "1"
        raise UpstreamCut("it was cut")
    first, end, rest = b"".join(encode(chunks(), b"", 10, RequestRecord(lambda: 0))).split(b"\n\n")
    assert first == b"data: 1" and rest == b""
    assert json.loads(end.removeprefix(b"data: ")) == {"error": {
        "message": "it was cut", "type": "server_error", "param": None, "code": "upstream_cut"}}


def test_a_fault_of_ours_says_nothing_of_itself_but_in_the_log(caplog):
    def chunks():
        yield "1"
        raise KeyError("secret")
    sent = b"".join(encode(chunks(), b"", 10, RequestRecord(lambda: 0)))
    assert b"Internal server error" in sent and b"secret" not in sent and b"DONE" not in sent
    assert "KeyError" in caplog.text and "Traceback" in caplog.text


def test_what_is_written_sets_the_heartbeat_back():
    body = encode(iter(["1", "", "", "2", "", ""]), b"beat", 10, RequestRecord(clock(0, 9, 18, 19, 28)))
    assert list(body) == [b"data: 1\n\n", b"data: 2\n\n", b"data: [DONE]\n\n"]


def test_without_a_heartbeat_silence_stays_silent():
    assert list(encode(iter(["", ""]), b"", 0, RequestRecord(lambda: 0))) == [b"data: [DONE]\n\n"]


@pytest.mark.parametrize("reads", [0, 1, 2])
def test_a_body_that_the_caller_leaves_says_nothing_more(reads):
    body = encode(iter(["1", "", "2", "", "3"]), b"beat", 10, RequestRecord(lambda: 0))
    for _ in range(reads):
        next(body)
    body.close()
    assert list(body) == []


def test_what_it_writes_the_decoder_reads():
    texts = [json.dumps({"a": text}) for text in ("x", "\n\r\u2028\x85", "é😀", "data: y\n\n")]
    sent = b"".join(encode(iter(texts), b": beat\n\n", 10, RequestRecord(lambda: 0)))
    for pieces in cuts(sent):
        decoder = Decoder()
        frames = [frame.data for piece in pieces for frame in decoder.feed(piece)]
        assert frames == [*texts, "[DONE]"]


def test_a_body_that_was_begun_is_newlines_and_then_the_text():
    record = RequestRecord(clock(0, 5, 10, 11, 12))
    assert list(body(iter(["", "", "", "{}"]), 10, record)) == [b"\n", b"\n", b"{}"]
    assert record.heartbeats == 1


@pytest.mark.parametrize("error, said", [(UpstreamCut("it was cut"), "it was cut"),
                                         (KeyError("secret"), "Internal server error")])
def test_an_error_in_a_body_that_was_begun_is_a_body(error, said):
    def texts():
        yield ""
        raise error
    sent = json.loads(b"".join(body(texts(), 10, RequestRecord(lambda: 0))))
    assert sent["error"]["message"] == said and "choices" not in sent
