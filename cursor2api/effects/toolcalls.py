"""Tool calls that a model writes as text: Text events in, Text and ToolCall events out.

A call is `{"name": ..., "arguments": {...}}` between two marks that hold a nonce; the marks and what
stands between them are an envelope. What is in no envelope stays text. A model that left out the marks
is asked for them (unmarked.py), but nothing is called without.

reply.py calls `split_calls` once for each run. All that has come and is not yet decided is in `text`,
and the methods of _Splitter take from its beginning:

    split       lets text leave up to a mark. At an open mark it calls _envelope.
    _envelope   reads what stands behind the open mark: white space, fences and calls, each by _call.
    _call       feeds a call's JSON to a Reader (jsonstream.py). Once the name and the brace of the arguments
                have come, it calls _stream, for a custom tool _raw. A call in another order, or several in an
                array, are read to their end, and leave by _leave.
    _stream     lets the arguments leave as they come.
    _raw        lets the input of a custom tool leave. It is text in which nothing is escaped, follows the JSON
                that names the tool and ends at the close mark.
    _leave      lets a call leave in one piece, unless it is one that has left before.

An envelope that holds no call leaves as text, behind a Misfit (`_give_back`); so reading one returns True
for calls, False for text. Once something of a call has left it cannot become text: then what is wrong
is an error (`_fail`). What has left of a call's arguments is always a prefix of valid JSON (of a custom tool's
input, of its raw text), and their last brace leaves only when the arguments fit the tool's schema. A call that
was cut ends the reply with `length`.

What leaves depends on the text, never on where it was cut.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

from .declared_tools import LONGEST, DeclaredTools, NoCall, written_calls
from ..errors import UpstreamError
from ..events import Event, Finish, Misfit, Note, Text, ToolCall
from .jsonstream import SLICE, Reader
from .textbuilder import TextBuilder
from .transforms import overlap
from .unmarked import LEAK, ask_for_marks

HEAD = 1024  # characters in which a call must show its name and arguments to be streamed
MISFIT = "its arguments do not fit their schema"

_LEAK_BEGUN = re.compile(r"< ?(?:[|｜] ?/?(?:t|to|too|tool[▁_ a-z]{0,24}(?:[|｜] ?)?)?)?")

# What may stand before and behind a call's JSON in its envelope.
_LEAD = re.compile(r"[\s>*+\-•]+|```[a-z_]{0,12}")
_TAIL = re.compile(r"[\s}\]`,;]+")
_BLANKS = re.compile(r"[ \t\r]+")  # behind the JSON that names a custom tool
_LAST_BREAK = re.compile(r"(?:\r?\n|\r)?\Z")  # of a custom tool's input
_LOOK = 48  # characters that suffice to see a fence or a mark whole


def split_calls(events: Iterable[Event], *, open_mark: str, close_mark: str, tools,
                parallel: bool = True, new_id: Callable[[], str], whole: bool = False,
                conversation: str | None = None) -> Iterator[Event]:
    """Turn calls of `tools` (objects as DeclaredTools takes them) into ToolCall events.

    Marks begin with their only "<". Of what cannot be a call a Misfit tells first; if its reader goes on,
    the text leaves as it came, or the Misfit's error is raised. A Note tells of each call that does not
    leave as it was written. `whole`: each call leaves in one piece. Without `parallel` the first call ends
    the reply, and the caller closes the upstream. `conversation` is what the model was shown of the chat;
    with None it is not asked for marks that are missing.
    """
    tools = DeclaredTools(tools)
    if conversation is not None:
        events = ask_for_marks(events, tools, (open_mark, close_mark), conversation)
    return _Splitter(events, open_mark, close_mark, tools, parallel, new_id, whole).split()


class _Splitter:

    def __init__(self, events, open_mark, close_mark, tools, parallel, new_id, whole):
        self.events = _sliced(events)
        self.open_mark, self.close_mark = open_mark, close_mark
        self.tools, self.parallel, self.new_id, self.whole = tools, parallel, new_id, whole
        self.marks = re.compile(f"{re.escape(open_mark)}|{re.escape(close_mark)}|{LEAK}")
        self.text = ""  # what has come and is not yet decided
        self.finish = None  # the upstream's
        self.reason = None  # for which the reply ends here, whatever the upstream still says
        self.taken = TextBuilder()  # what was taken from `text` since the envelope's beginning
        self.room = LONGEST  # characters that the call may still have
        self.begun = 0  # calls of which something has left
        self.own_ids = set()  # (the model's own id, name) of the calls that have left
        self.sent = set()  # (the model's own id or None, name, arguments) of them

    def split(self):
        given_back = False  # the open mark left as text, so its close mark must, too
        while not self.reason:
            mark = self.marks.search(self.text)
            free = mark.start() if mark else self._where_a_mark_may_begin()
            if free:
                yield Text(self.text[:free])
            if not mark:
                self.text = self.text[free:]
                if not (yield from self._more()):
                    break
                continue
            self.text = self.text[mark.end():]
            if mark[0] == self.open_mark:
                given_back = not (yield from self._envelope())
            elif given_back:
                yield Text(mark[0])
                given_back = mark[0] != self.close_mark
        if self.text and not self.reason:
            yield Text(self.text)
        if self.reason:
            yield Finish(self.reason)
        elif self.finish:
            reason = self.finish.reason
            if reason in ("stop", "tool_calls"):
                reason = "tool_calls" if self.begun else "stop"
            yield Finish(reason)

    def _where_a_mark_may_begin(self):
        at = self.text.rfind("<")
        tail = self.text[at:]
        if at >= 0 and (self.open_mark.startswith(tail) or self.close_mark.startswith(tail)
                        or _LEAK_BEGUN.fullmatch(tail)):
            return at
        return len(self.text)

    # The methods below are generators: they put out events, and return what their docstrings say.

    def _more(self):
        """Wait for more text; return whether any came. Other events pass."""
        for event in self.events:
            if isinstance(event, Text):
                self.text += event.text
                return True
            if isinstance(event, Finish):
                self.finish = event
            else:
                yield event
        return False

    def _take(self, length):
        taken, self.text = self.text[:length], self.text[length:]
        self.room -= len(taken)
        self.taken.write(taken)
        return taken

    def _put_back(self, rest):
        taken, self.taken = self.taken.getvalue(), TextBuilder()
        self.taken.write(taken[:-len(rest)])
        self.text = rest + self.text

    def _skip(self, junk):
        """Take all that `junk` matches at the beginning."""
        while self.text or (yield from self._more()):
            while self.text[0] in "<`" and len(self.text) < _LOOK and (yield from self._more()):
                pass
            found = junk.match(self.text)
            if not found:
                break
            self._take(found.end())

    def _read(self, reader, slowly=0):
        """Feed the reader until its value ends, the first `slowly` characters one by one. Puts out, as
        str, the pieces that it gives."""
        while not reader.over and self.room > 0:
            if not self.text and not (yield from self._more()):
                return
            one_by_one = LONGEST - self.room < slowly
            piece = reader.feed(self._take(1 if one_by_one else min(self.room, SLICE)))
            if reader.rest:
                self._put_back(reader.rest)
            if reader.ended:
                piece += reader.close(force=True)
            if piece:
                yield piece

    def _envelope(self):
        """Read what follows an open mark; return False if it holds no call and has left as text."""
        self.taken = TextBuilder()
        self.taken.write(self.open_mark)
        while True:
            yield from self._skip(_LEAD)
            if self.text.startswith(self.close_mark):
                break
            if not self.text:
                return (yield from self._cut())
            if self.text[0] not in "{[":
                return (yield from self._give_back("there is no JSON object between its marks"))
            if not (yield from self._call()):
                return False
            if self.reason:
                return True
            self.taken = TextBuilder()
            yield from self._skip(_TAIL)
            if self.text[:1] != "{":
                break
        if self.text.startswith(self.close_mark):
            self.text = self.text[len(self.close_mark):]
        else:  # white space in front of other text is that text's
            tail = self.taken.getvalue()
            self.text = tail[len(tail.rstrip()):] + self.text
        return True

    def _call(self):
        """Read the JSON of one call, or of several; return as _envelope does."""
        self.room = LONGEST
        reader, normal, head = Reader(end=self.close_mark), TextBuilder(), ""
        for piece in self._read(reader, slowly=HEAD):
            if not isinstance(piece, str):
                yield piece
                continue
            normal.write(piece)
            if LONGEST - self.room <= HEAD:
                head += piece
                if begun := self.tools.begun(head):
                    return (yield from self._stream(*begun, reader))
        if not reader.done:
            if self._was_cut(reader):
                return (yield from self._cut())
            return (yield from self._give_back(reader.bad or "it ends too early"))
        try:
            written = written_calls(normal.getvalue())
            if tool := self.tools.takes_raw(written):
                return (yield from self._raw(tool, written[0].own_id))
            calls = [self.tools.checked(call) for call in (written if self.parallel else written[:1])]
        except NoCall as no_call:
            if no_call.tool:
                yield from _fail(no_call.complaint, Note(MISFIT, no_call.tool))
            return (yield from self._give_back(no_call.complaint))
        if len(calls) < len(written):
            yield Note("dropped: behind the one call that is allowed")
        for call, (tool, arguments) in zip(written, calls):
            yield from self._leave(call.own_id, tool, arguments)
        return True

    def _stream(self, tool, own_id, outer):
        """Let a call leave whose arguments begin now; `outer` has read up to their brace. Returns True."""
        whole = self.whole or bool(own_id) and (own_id, tool.name) in self.own_ids
        reader, arguments = Reader(tool.parameters, self.close_mark), TextBuilder()
        index, id = self.begun, None
        if not whole:
            self.begun += 1
            id = self.new_id()
            yield ToolCall(index, id, tool.name, "")
        for piece in chain((reader.feed("{"),), self._read(reader)):
            if not isinstance(piece, str):
                yield piece
                continue
            if reader.done:
                piece = piece[:-1]  # the last brace waits for the check
            arguments.write(piece)
            if piece and not whole:
                yield ToolCall(index, None, None, piece)
        last = reader
        if reader.done and not reader.ended:  # what is behind the arguments is the outer object's
            last = outer
            outer.feed("}")
            for piece in self._read(outer):
                if not isinstance(piece, str):
                    yield piece
        if not last.done:
            if self._was_cut(last):
                return (yield from self._cut(tool.name, id))
            yield from _fail(f"The call of {tool.name} is not valid JSON: {last.bad or 'it ends too early'}.",
                             Note("not valid JSON", tool.name, id))
        text = arguments.getvalue() + "}"
        if errors := self.tools.errors(tool, text):
            yield from _fail(errors, Note(MISFIT, tool.name, id))
        if whole:
            yield from self._leave(own_id, tool, text)
        else:
            yield ToolCall(index, None, None, "}")
            yield from self._has_left(own_id, tool, text, id)
        return True

    def _raw(self, tool, own_id):
        """Let the input of a custom tool leave as it comes: all up to the close mark, but a line break at each
        end. Return as _envelope does."""
        whole = self.whole or bool(own_id) and (own_id, tool.name) in self.own_ids
        index, id, begun, at = self.begun, None, False, -1
        blank, said = TextBuilder(), TextBuilder()
        yield from self._skip(_BLANKS)
        if self.text[:1] == "\n":
            self._take(1)
        while at < 0:
            at = self.text.find(self.close_mark)
            end = at if at >= 0 else len(self.text) - overlap(self.text, self.close_mark)
            piece = self._take(min(_LAST_BREAK.search(self.text, 0, end).start(), self.room))
            if not begun:
                blank.write(piece)
                begun = bool(piece.strip())
                piece = blank.getvalue() if begun else ""
            if piece:
                said.write(piece)
                if id is None and not whole:
                    self.begun += 1
                    id = self.new_id()
                    yield ToolCall(index, id, tool.name, "", tool.kind)
                if not whole:
                    yield ToolCall(index, None, None, piece, tool.kind)
            if self.room <= 0 or at < 0 and not (yield from self._more()):
                return (yield from self._cut(tool.name, id))
        self._take(self.text.find(self.close_mark))
        if not begun:
            return (yield from self._give_back(f"the input of {tool.name} is missing"))
        if whole:
            yield from self._leave(own_id, tool, said.getvalue())
        else:
            yield from self._has_left(own_id, tool, said.getvalue(), id)
        return True

    def _leave(self, own_id, tool, arguments):
        """Let a whole call leave, but not the same one twice."""
        if own_id and (own_id, tool.name, arguments) in self.sent:
            yield Note("dropped: the same call and id as before", tool.name)
            return
        id = self.new_id()
        yield ToolCall(self.begun, id, tool.name, arguments, tool.kind)
        self.begun += 1
        yield from self._has_left(own_id, tool, arguments, id)

    def _has_left(self, own_id, tool, arguments, id):
        if (None, tool.name, arguments) in self.sent:
            yield Note("kept: the same call as before", tool.name, id)
        self.own_ids.add((own_id, tool.name))
        self.sent |= {(None, tool.name, arguments), (own_id, tool.name, arguments)}
        if not self.parallel:
            self.reason = "tool_calls"

    def _was_cut(self, reader):
        """Whether JSON that is not whole was cut, rather than misread because of quotes that were mended."""
        return not reader.over and (self.room <= 0 or not reader.repaired or not self.finish
                                    or self.finish.reason == "length")

    def _cut(self, name=None, id=None):
        """The reply ended within a call. Returns True."""
        self.reason = "length"
        yield Note("cut by the upstream's limit" if self.finish and self.finish.reason == "length" else
                   "cut by the end of the reply" if self.finish else "longer than a call may be", name, id)
        return True

    def _give_back(self, why):
        """The envelope holds no call: its text leaves. Returns False."""
        yield Note("no call that can be read")
        yield Misfit(f"Your tool call could not be read: {why}. Write the call again, as one JSON "
                     'object {"name": ..., "arguments": {...}} between its marks.')
        yield Text(self.taken.getvalue())
        return False


def _sliced(events):
    for event in events:
        if isinstance(event, Text):
            for at in range(0, len(event.text), SLICE):
                yield Text(event.text[at:at + SLICE])
        else:
            yield event
        if isinstance(event, Finish):
            return


def _fail(complaint, note):
    yield note
    error = UpstreamError(complaint, code="invalid_tool_arguments")
    yield Misfit(complaint, error)
    raise error
