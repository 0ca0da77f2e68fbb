"""Server-sent events: what the decoder reads at every cut, and what the encoder writes."""

import json
import time

import pytest
from cuts import cuts

from cursor2api.dialects import Frame
from cursor2api.errors import UpstreamCut, UpstreamError
from cursor2api.events import Text, Waiting
from cursor2api.server.record import RequestRecord
from cursor2api.server.sse import body, encode, stream
from cursor2api.upstream.sse import MAX_FRAME, Decoder
from cursor2api.upstream.sse import Frame as Read

FRAMES = [
    ("LF", b"event: a\ndata: x\n\n", [Read("a", "x", "")]),
    ("CRLF", b"event: a\r\ndata: x\r\n\r\n", [Read("a", "x", "")]),
    ("CR", b"event: a\rdata: x\r\r", [Read("a", "x", "")]),
    ("no space after the colon", b"event:a\ndata:x\nid:7\n\n", [Read("a", "x", "7")]),
    ("no event name", b"data: x\n\n", [Read("message", "x", "")]),
    ("a byte order mark", b"\xef\xbb\xbfdata: x\n\n", [Read("message", "x", "")]),
    ("comments", b": hi\n\ndata: x\n: y\n\n", [Read("message", "x", "")]),
    ("several data lines", b"data: x\ndata\ndata: y\n\n", [Read("message", "x\n\ny", "")]),
    ("an id is the frame's own", b"id: 1\ndata: x\n\ndata: y\n\n",
     [Read("message", "x", "1"), Read("message", "y", "")]),
    ("an event without data", b"event: a\n\ndata: x\n\n", [Read("message", "x", "")]),
    ("U+2028 ends no line", "data: a\u2028b\n\n".encode(), [Read("message", "a\u2028b", "")]),
    ("characters of many bytes", "data: é世😀\n\n".encode(), [Read("message", "é世😀", "")]),
    ("bad UTF-8", b"data: a\xffb\n\n", [Read("message", "a\ufffdb", "")]),
    ("no blank line at the end", b"data: x\n\ndata: y\n", [Read("message", "x", "")]),
    ("unknown fields", b"retry: 3\nfoo: 1\ndata: x\n\n", [Read("message", "x", "")]),
    ("names that only begin like ours", b"data-x: 1\nids: 2\n data: 3\ndata: x\n\n",
     [Read("message", "x", "")]),
    ("a name without a colon empties its field", b"event: a\nevent\nid: 1\nid\ndata: x\n\n",
     [Read("message", "x", "")]),
    ("the last of two names wins", b"event: a\nid: 1\ndata: x\nevent: b\nid: 2\n\n",
     [Read("b", "x", "2")]),
    ("an id with NUL is none", b"id: 1\nid: 2\0\ndata: x\n\n", [Read("message", "x", "1")]),
    ("an id without data is nobody's", b"id: 1\n\ndata: x\n\n", [Read("message", "x", "")]),
    ("only one space goes", b"data:  x \n\n", [Read("message", " x ", "")]),
    ("empty data is data", b"data:\n\ndata\n\n", [Read("message", "", "")] * 2),
    ("colons in a value", b"data: a: b\n\n", [Read("message", "a: b", "")]),
    ("ends of all kinds mixed", b"data: a\r\ndata: b\rdata: c\n\r\ndata: d\r\n\r",
     [Read("message", "a\nb\nc", ""), Read("message", "d", "")]),
    ("LF after CR is not a blank line", b"data: a\r\ndata: b\r\n\r\n", [Read("message", "a\nb", "")]),
    ("an order mark that is not the first is text", b"data: \xef\xbb\xbfx\n\n\xef\xbb\xbfdata: y\n\n",
     [Read("message", "\ufeffx", "")]),
    ("vertical tab, form feed and U+0085 end no line", "data: a\v\f\x1c\x85b\n\n".encode(),
     [Read("message", "a\v\f\x1c\x85b", "")]),
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


class Plain:
    """A writer whose frames are the texts themselves."""

    def __init__(self, *first):
        self.first = [Frame(text) for text in first]

    def begin(self):
        return self.first

    def add(self, index, event):
        return [Frame(event.text)]

    def end(self, usage):
        return [Frame("end")]

    def fail(self, error):
        return [Frame(error.message, "error")]

    def heartbeat(self):
        return Frame("beat")


def sent(texts, times=(), form="chunk", writer=Plain(), every=10):
    """What leaves of these texts, of which an empty one stands for Waiting; and the record of it."""
    record = RequestRecord(clock(*times) if times else lambda: 0)
    pairs = ((0, Text(text) if text else Waiting()) for text in texts)
    return stream(writer, pairs, record, form, every), record


def test_what_is_at_hand_leaves_in_one_write():
    writes, record = sent(["1", "2", "", "3"])
    assert list(writes) == [b"data: 1\n\ndata: 2\n\n", b"data: 3\n\ndata: end\n\n"]
    assert record.whole and not record.error


def test_what_begins_a_stream_leaves_before_the_first_event_is_waited_for():
    asked = []
    writes, _ = sent((asked.append(text) or text for text in "12"), writer=Plain("0"))
    assert next(writes) == b"data: 0\n\n" and not asked
    assert next(writes) == b"data: 1\n\ndata: 2\n\ndata: end\n\n"


@pytest.mark.parametrize("form, beat", [("chunk", b"data: beat\n\n"), ("comment", b": keep-alive\n\n")])
def test_a_heartbeat_leaves_only_in_silence(form, beat):
    writes, record = sent(["", "", "1", "", ""], (0, 5, 10, 11, 12, 13), form)
    assert list(writes) == [beat, b"data: 1\n\n", b"data: end\n\n"]
    assert record.heartbeats == 1


@pytest.mark.parametrize("error, said", [(UpstreamCut("it was cut"), "it was cut"),
                                         (KeyError("secret"), "Internal server error")])
def test_an_error_is_what_the_writer_makes_of_it_and_the_end(error, said, caplog):
    def texts():
        yield "1"
        raise error
    writes, record = sent(texts())
    assert b"".join(writes) == f"data: 1\n\nevent: error\ndata: {said}\n\n".encode()
    assert record.error.message == said and not record.whole
    ours = isinstance(error, KeyError)
    assert ("Traceback" in caplog.text and "KeyError" in caplog.text) == ours


def test_what_is_written_sets_the_heartbeat_back():
    writes, _ = sent(["1", "", "", "2", "", ""], (0, 9, 18, 19, 28))
    assert list(writes) == [b"data: 1\n\n", b"data: 2\n\n", b"data: end\n\n"]


def test_without_a_heartbeat_silence_stays_silent():
    writes, _ = sent(["", ""], form="off", every=0)
    assert list(writes) == [b"data: end\n\n"]


@pytest.mark.parametrize("reads", [0, 1, 2])
def test_a_body_that_the_caller_leaves_says_nothing_more(reads):
    writes, record = sent(["1", "", "2", "", "3"])
    for _ in range(reads):
        next(writes)
    writes.close()
    assert list(writes) == [] and not record.whole


def test_what_it_writes_the_decoder_reads():
    texts = [json.dumps({"a": text}) for text in ("x", "\n\r\u2028\x85", "é😀", "data: y\n\n")]
    frames = [Frame(text, name) for text in texts for name in ("", "a.name")]
    for pieces in cuts(encode(frames)):
        decoder = Decoder()
        read = [(frame.data, frame.event) for piece in pieces for frame in decoder.feed(piece)]
        assert read == [(frame.data, frame.event or "message") for frame in frames]


def test_a_body_that_was_begun_is_newlines_and_then_the_text():
    record = RequestRecord(clock(0, 5, 10, 11, 12))
    assert list(body(iter(["", "", "", "{}"]), record, 10, vars)) == [b"\n", b"\n", b"{}"]
    assert record.heartbeats == 1


@pytest.mark.parametrize("error, said", [(UpstreamCut("it was cut"), "it was cut"),
                                         (KeyError("secret"), "Internal server error")])
def test_an_error_in_a_body_that_was_begun_is_a_body(error, said):
    def texts():
        yield ""
        raise error
    record = RequestRecord(lambda: 0)
    *_, last = body(texts(), record, 10, lambda error: {"said": error.message})
    assert json.loads(last) == {"said": said} and record.error.message == said
