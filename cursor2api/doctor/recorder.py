"""Records what an upstream says, as reply files: the body of its event stream, and the events that it gave.

Both are scrubbed alike: a letter becomes x, a digit 0, so that forms, cuts and lengths stay as they were.
"""

import json
import re
from collections.abc import Iterator

from ..events import Event, Finish, Reasoning, Text, Usage
from ..prompt import Prompt

NAMES = {"type", "event", "status", "code", "finishReason"}  # keys whose values are no one's text


class Recorder:
    """An upstream that keeps what it said since the last `taken`; `key` never stands in a recording."""

    def __init__(self, upstream, key: str):
        self._upstream, self._key = upstream, key
        self._said: list[bytes] = []
        self.events: list[Event] = []
        self.follow_ups = 0  # how often a model was asked once more within a reply
        if http := getattr(upstream, "http", None):
            http.tap = self._said.append

    def __getattr__(self, name: str):
        return getattr(self._upstream, name)

    def open(self, prompt: Prompt, key: str = "", **more) -> "_Stream":
        return _Stream(self._upstream.open(prompt, key, **more), self)

    def taken(self) -> tuple[bytes, list[Event]]:
        """The bytes and the events since the last time."""
        said, events = b"".join(self._said), list(self.events)
        self._said.clear()
        self.events.clear()
        return said, events

    def reply(self, said: bytes, events: list[Event], content: bool) -> tuple[bytes, list[list]]:
        """The two files of a reply: a body, and rows of [kind, value...]; `content` leaves texts readable."""
        if self._key:
            said = said.replace(self._key.encode(), b"KEY")
        if not content:
            said = b"".join(map(_line, said.splitlines(keepends=True)))
        rows: list[list] = []
        for event in events:
            if isinstance(event, (Text, Reasoning)):
                text = event.text.replace(self._key, "KEY") if self._key else event.text
                text = text if content else _scrubbed(text)
                if rows and rows[-1][0] == type(event).__name__:
                    rows[-1][1] += text
                else:
                    rows.append([type(event).__name__, text])
            elif isinstance(event, Usage):
                rows.append(["Usage", event.prompt_tokens, event.completion_tokens])
            elif isinstance(event, Finish):
                rows.append(["Finish", event.reason])
        return said, rows


class _Stream:
    def __init__(self, stream, recorder: Recorder):
        self._stream, self._recorder = stream, recorder

    def __getattr__(self, name: str):
        return getattr(self._stream, name)

    def __iter__(self) -> Iterator[Event]:
        for event in self._stream:
            self._recorder.events.append(event)
            yield event

    def follow_up(self, *prompt) -> None:
        self._recorder.follow_ups += 1
        self._stream.follow_up(*prompt)


def _line(line: bytes) -> bytes:
    """A line of an event stream, its data scrubbed; what is no JSON is scrubbed whole."""
    if not line.startswith(b"data:"):
        return line
    text = line[5:].rstrip(b"\r\n")
    end = line[5 + len(text):]
    space = text[:len(text) - len(text.lstrip())]
    try:
        value = json.dumps(_value(json.loads(text)), ensure_ascii=False, separators=(",", ":")).encode()
    except ValueError:
        value = _scrubbed(text.decode("utf-8", "replace")).encode() if text.strip() != b"[DONE]" else b"[DONE]"
    return b"data:" + space + value + end


def _value(value, name: str = ""):
    if isinstance(value, dict):
        return {key: _value(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [_value(item, name) for item in value]
    return _scrubbed(value) if isinstance(value, str) and name not in NAMES else value


def _scrubbed(text: str) -> str:
    return re.sub(r"[^\W\d_]", "x", re.sub(r"\d", "0", text))
