"""Tool calls that a model writes as text, into ToolCall events; all other text stays text.

A call stands between two marks of this request as `{"name": ..., "arguments": {...}}`. Its arguments
stream out as they come, always a prefix of valid JSON whose last brace leaves only after the check
against the tool's schema. What leaves depends on the text, never on where it was cut.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

from .calls import Found, Tools, may_begin
from ..errors import UpstreamError
from ..events import Event, Finish, Note, Text, ToolCall, Misfit
from .jsonstream import SLICE, Held, Reader

CAP = 8 << 20  # characters of one call; a longer one counts as cut
HEAD = 1024  # characters in which a call must show its name and arguments to be streamed
MISFIT = "its arguments do not fit their schema"

# Tokens of chat templates that leak: <｜tool▁calls▁begin｜>, <|tool_call|>, also with spaces.
_LEAK = re.compile(r"< ?[|｜] ?/?tool[▁_ a-z]{0,24}[|｜] ?>")
_LEAK_BEGUN = re.compile(r"< ?(?:[|｜] ?/?(?:t|to|too|tool[▁_ a-z]{0,24}(?:[|｜] ?)?)?)?")

# What may stand around a call's JSON, inside its marks and in a reply without marks.
_LEAD = re.compile(r"[\s>*+\-•]+|```[a-z_]{0,12}")
_TAIL = re.compile(r"[\s}\]`,;]+")
_WRAP = re.compile(r"[\s>]+|```(?:json|tool_calls?)?|</?(?:tool|function)_calls?>|" + _LEAK.pattern)
_LOOK = 48  # characters that suffice to tell the alternatives above apart


def split_calls(events: Iterable[Event], *, open_mark: str, close_mark: str, tools,
                parallel: bool = True, new_id: Callable[[], str],
                whole: bool = False) -> Iterator[Event]:
    """Turn calls of `tools` (objects with `name` and `parameters`) into ToolCall events.

    Marks begin with their only "<". A reply without marks is a call only if it is nothing else.
    What cannot be a call yields Misfit first; then, if one goes on, its text leaves as it came, or
    the Misfit's error is raised. `whole`: each call leaves in one piece. Without `parallel` the first
    call ends the reply, and the caller closes the upstream. A Note tells of each call that does not
    leave as it was written.
    """
    return _Splitter(events, open_mark, close_mark, tools, parallel, new_id, whole).split()


class _Splitter:

    def __init__(self, events, open_mark, close_mark, tools, parallel, new_id, whole):
        self.events = _sliced(events)
        self.open_mark, self.close_mark = open_mark, close_mark
        self.tools = Tools(tools)
        self.parallel, self.new_id, self.whole = parallel, new_id, whole
        self.marks = re.compile(f"{re.escape(open_mark)}|{re.escape(close_mark)}|{_LEAK.pattern}")
        self.text = ""  # what has come and is not yet decided
        self.finish = None  # the upstream's
        self.raw = Held()  # what was taken up since an envelope's beginning
        self.room = CAP
        self.calls = 0  # that have begun to leave
        self.ids = set()  # (the model's own id, name) of the calls that have left
        self.left = set()  # (the model's own id or None, name, arguments) of them
        self.reason = None  # for which the reply ends here, whatever the upstream still says

    def split(self):
        yield from self._bare()
        verbatim = False  # in an envelope that was no call, up to its close mark
        while not self.reason:
            mark = self.marks.search(self.text)
            held = mark.start() if mark else self._held()
            if held:
                yield Text(self.text[:held])
            if not mark:
                self.text = self.text[held:]
                if not (yield from self._more()):
                    break
                continue
            self.text = self.text[mark.end():]
            if mark[0] == self.open_mark:
                verbatim = not (yield from self._envelope())
            elif verbatim:
                yield Text(mark[0])
                verbatim = mark[0] != self.close_mark
        if self.text and not self.reason:
            yield Text(self.text)
        if self.reason:
            yield Finish(self.reason)
        elif self.finish:
            reason = self.finish.reason
            if reason in ("stop", "tool_calls"):
                reason = "tool_calls" if self.calls else "stop"
            yield Finish(reason)

    def _held(self):
        """Where the suffix begins that could become a mark."""
        at = self.text.rfind("<")
        tail = self.text[at:]
        if at >= 0 and (self.open_mark.startswith(tail) or self.close_mark.startswith(tail)
                        or _LEAK_BEGUN.fullmatch(tail)):
            return at
        return len(self.text)

    # The generators below put out events and return a result; each takes up `text` from its start.

    def _more(self):
        """Wait for more text: whether any came. Other events pass."""
        for event in self.events:
            if isinstance(event, Text):
                self.text += event.text
                return True
            if isinstance(event, Finish):
                self.finish = event
            else:
                yield event
        return False

    def _skip(self, junk):
        """Take up all that `junk` matches; of what begins with "<" or "`" it must see enough."""
        while self.text or (yield from self._more()):
            while self.text[:1] in ("<", "`") and len(self.text) < _LOOK:
                if not (yield from self._more()):
                    break
            found = junk.match(self.text)
            if not found and self.text:
                break
            self._take(found.end() if found else 0)

    def _take(self, length):
        taken, self.text = self.text[:length], self.text[length:]
        self.room -= len(taken)
        self.raw.put(taken)
        return taken

    def _pieces(self, reader, head=0):
        """Feed the reader until it is over, the first `head` characters one by one, and put out
        what it returns as str between the other events."""
        while not reader.over and self.room > 0:
            if not self.text and not (yield from self._more()):
                return
            slow = CAP - self.room < head
            piece = reader.feed(self._take(1 if slow else min(self.room, SLICE)))
            if reader.rest:
                self.text = reader.rest + self.text
                taken, self.raw = self.raw.text(), Held()
                self.raw.put(taken[:-len(reader.rest)])
            if reader.ended:
                piece += reader.close(force=True)
            if piece:
                yield piece

    def _envelope(self):
        """Read what follows an open mark: False if it was no call and has left as text."""
        self.raw = Held()
        self.raw.put(self.open_mark)
        while True:
            yield from self._skip(_LEAD)
            if self.text.startswith(self.close_mark):
                break
            if not self.text:
                return (yield from self._cut())
            if self.text[0] not in "{[":
                return (yield from self._unfit("there is no JSON object between its marks"))
            if not (yield from self._call()):
                return False
            if self.reason:
                return True
            self.raw = Held()
            yield from self._skip(_TAIL)
            if self.text[:1] != "{":
                break
        if self.text.startswith(self.close_mark):
            self.text = self.text[len(self.close_mark):]
        else:
            junk = self.raw.text()
            self.text = junk[len(junk.rstrip()):] + self.text
        return True

    def _call(self):
        """Read a call's JSON, or that of several; its result is that of _envelope."""
        self.room = CAP
        outer, normal, head = Reader(end=self.close_mark), Held(), ""
        for piece in self._pieces(outer, HEAD):
            if not isinstance(piece, str):
                yield piece
                continue
            normal.put(piece)
            if CAP - self.room <= HEAD:
                head += piece
                if begun := self.tools.begun(head):
                    return (yield from self._stream(*begun, outer))
        if outer.done:
            found = self._find(normal)
            if found.misfit:
                yield from _refuse(found.complaint, Note(MISFIT, found.misfit))
            if found.complaint:
                return (yield from self._unfit(found.complaint))
            yield from self._leave(found)
        elif self._was_cut(outer):
            return (yield from self._cut())
        else:
            return (yield from self._unfit(outer.bad or "it ends too early"))
        return True

    def _was_cut(self, reader):
        """Whether the call was cut, rather than misread because of quotes that were mended."""
        return not reader.over and (self.room <= 0 or not reader.repaired or not self.finish
                                    or self.finish.reason == "length")

    def _cut(self, name=None, id=None):
        """The end of a reply within a call: the result is that of _envelope."""
        self.reason = "length"
        yield Note("cut by the upstream's limit" if self.finish and self.finish.reason == "length" else
                   "cut by the end of the reply" if self.finish else "longer than a call may be", name, id)
        return True

    def _unfit(self, why):
        yield Note("no call that can be read")
        yield Misfit(f"Your tool call could not be read: {why}. Write the call again, as one JSON "
                    'object {"name": ..., "arguments": {...}} between its marks.')
        yield Text(self.raw.text())
        return False

    def _stream(self, tool, own_id, outer):
        """Put out a call whose arguments have just begun; `outer` has read up to their brace."""
        reader, arguments = Reader(tool.parameters, self.close_mark), Held()
        whole = self.whole or bool(own_id) and (own_id, tool.name) in self.ids
        index, id = self.calls, None
        if not whole:
            self.calls += 1
            id = self.new_id()
            yield ToolCall(index, id, tool.name, "")
        for piece in chain((reader.feed("{"),), self._pieces(reader)):
            if not isinstance(piece, str):
                yield piece
                continue
            if reader.done:
                piece = piece[:-1]  # the last brace leaves when all is known to be well
            arguments.put(piece)
            if piece and not whole:
                yield ToolCall(index, None, None, piece)
        last = reader
        if reader.done and not reader.ended:
            last = outer
            outer.feed("}")
            for piece in self._pieces(outer):
                if not isinstance(piece, str):
                    yield piece
        if not last.done:
            if self._was_cut(last):
                return (yield from self._cut(tool.name, id))
            yield from _refuse(f"The call of {tool.name} is not valid JSON: "
                               f"{last.bad or 'it ends too early'}.",
                               Note("not valid JSON", tool.name, id))
        text = arguments.text() + "}"
        if complaint := self.tools.misfit(tool, text):
            yield from _refuse(complaint, Note(MISFIT, tool.name, id))
        if whole:
            yield from self._leave(Found([(own_id, tool, text)]))
        else:
            yield ToolCall(index, None, None, "}")
            yield from self._left(own_id, tool, text, id)
        return True

    def _find(self, normal, bare=False):
        return self.tools.find(normal.text(), None if self.parallel else 1, bare)

    def _leave(self, found):
        if found.more:
            yield Note("dropped: behind the one call that is allowed")
        for own_id, tool, text in found.calls:
            if own_id and (own_id, tool.name, text) in self.left:
                yield Note("dropped: the same call and id as before", tool.name)
                continue
            id = self.new_id()
            self.calls += 1
            yield ToolCall(self.calls - 1, id, tool.name, text)
            yield from self._left(own_id, tool, text, id)

    def _left(self, own_id, tool, text, id):
        if (None, tool.name, text) in self.left:
            yield Note("kept: the same call as before", tool.name, id)
        self.ids.add((own_id, tool.name))
        self.left |= {(None, tool.name, text), (own_id, tool.name, text)}
        if not self.parallel:
            self.reason = "tool_calls"

    def _bare(self):
        """Read a whole reply as a call without marks; if it is none, it all is still to be read."""
        yield from self._skip(_WRAP)
        if self.text[:1] in ("{", "["):
            reader, normal, head = Reader(), Held(), ""
            for piece in self._pieces(reader):
                if not isinstance(piece, str):
                    yield piece
                    continue
                normal.put(piece)
                if len(head) < HEAD:
                    head += piece[:HEAD]
                    if not may_begin(head):
                        break
            if reader.done:
                yield from self._skip(_WRAP)
                if self.finish and not self.text:
                    found = self._find(normal, bare=True)
                    if found.calls:
                        yield from self._leave(found)
                        return
                    if found.misfit:
                        yield Note("no call that can be read", found.misfit)
                        yield Misfit(found.complaint)
        self.text, text = "", self.raw.text() + self.text
        self.events = chain(_sliced([Text(text)]), self.events)


def _sliced(events):
    for event in events:
        if isinstance(event, Text):
            for at in range(0, len(event.text), SLICE):
                yield Text(event.text[at:at + SLICE])
        else:
            yield event
        if isinstance(event, Finish):
            return


def _refuse(complaint, note):
    yield note
    error = UpstreamError(complaint, code="invalid_tool_arguments")
    yield Misfit(complaint, error)
    raise error
