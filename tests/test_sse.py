"""Server-sent events: what the decoder reads at every cut, and what the encoder writes."""

import json

import pytest
from cuts import cuts

from cursor2api.errors import UpstreamCut, UpstreamError
from cursor2api.sse import MAX_FRAME, Decoder, Frame, encode

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
]


@pytest.mark.parametrize("name, data, expected", FRAMES, ids=[row[0] for row in FRAMES])
def test_frames_are_the_same_at_every_cut(name, data, expected):
    for pieces in cuts(data):
        decoder = Decoder()
        assert [frame for piece in pieces for frame in decoder.feed(piece)] == expected


def test_a_frame_of_ten_megabytes_is_read_in_pieces():
    decoder, piece = Decoder(), b"x" * 1000
    assert decoder.feed(b"data: ") == []
    for _ in range(10_000):
        assert decoder.feed(piece) == []
    assert len(decoder.feed(b"\n\n")[0].data) == 10_000_000


def test_a_frame_without_end_is_refused():
    decoder = Decoder()
    with pytest.raises(UpstreamError):
        for _ in range(MAX_FRAME // 1_000_000 + 2):
            decoder.feed(b"x" * 1_000_000)


def clock(*times):
    return iter(times).__next__


def test_what_is_at_hand_leaves_in_one_write():
    body = list(encode(iter(["1", "2", "", "3"]), b"beat", 10, lambda: 0))
    assert body == [b"data: 1\n\ndata: 2\n\n", b"data: 3\n\ndata: [DONE]\n\n"]


def test_a_heartbeat_leaves_only_in_silence():
    body = list(encode(iter(["", "", "1", "", ""]), b"beat", 10, clock(0, 5, 10, 11, 12, 13)))
    assert body == [b"beat", b"data: 1\n\n", b"data: [DONE]\n\n"]


def test_an_error_is_one_frame_and_the_end():
    def chunks():
        yield "1"
        raise UpstreamCut("it was cut")
    first, end = b"".join(encode(chunks(), b"", 10, lambda: 0)).split(b"\n\n")[:2]
    assert first == b"data: 1" and json.loads(end[6:])["error"]["code"] == "upstream_cut"


def test_a_fault_of_ours_says_nothing_of_itself_but_in_the_log(caplog):
    def chunks():
        yield "1"
        raise KeyError("secret")
    body = b"".join(encode(chunks(), b"", 10, lambda: 0))
    assert b"Internal server error" in body and b"secret" not in body and b"DONE" not in body
    assert "KeyError" in caplog.text
