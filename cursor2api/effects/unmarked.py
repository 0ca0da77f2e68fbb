"""A reply that is nothing but a tool call without marks: the model is asked for the marks, once.

No marks, no call: JSON without them may stand in a file that the model reads aloud, and whoever wrote
the file must not decide what is called. A model that did mean a call writes it again with its marks.
JSON that stands in the conversation word for word is text, and the model is not asked.

Such a reply is held back, from its first character for as long as it may be nothing but a call.
"""

import json
import re
from collections.abc import Iterable, Iterator

from .declared_tools import LONGEST, DeclaredTools, NoCall, written_calls
from ..events import Event, Finish, Misfit, Note, Text
from .jsonstream import Reader
from .textbuilder import TextBuilder

HEAD = 1024   # characters of the JSON in which it is looked whether a declared tool is called
AROUND = 200  # characters that may stand before the JSON, and behind it
COMPLAINT = """\
Your message looks like a tool call, but no marks stand around it, so nothing was called. To call the tool, \
write the call between {open} and {close}. If it was meant as text, write it once more as it is."""

# Tokens of chat templates that leak: <｜tool▁calls▁begin｜>, <|tool_call|>, also with spaces.
LEAK = r"< ?[|｜] ?/?tool[▁_ a-z]{0,24}[|｜] ?>"
_AROUND = re.compile(rf"(?:[\s>]|```(?:json|tool_calls?)?|</?(?:tool|function)_calls?>|{LEAK})*")
_AROUND_SO_FAR = re.compile(_AROUND.pattern + r"(?:`{1,3}[a-z_]{0,9}|<[^{\[\n]{0,40})?")  # may be cut
_CODE = re.compile(r"(?<!\\)\\+u([0-9a-fA-F]{4})")
_IGNORED = re.compile(r"\\+[bfnrt]|[\s\\>]+")


def ask_for_marks(events: Iterable[Event], tools: DeclaredTools, marks: tuple[str, str],
                  conversation: str) -> Iterator[Event]:
    """Passes all events on as they are, but before a reply that is only a call there is a Misfit.

    `marks` are the open and the close mark; `conversation` is all that the model was shown of the chat.
    """
    events, reply = iter(events), _Reply(tools)
    for event in events:
        if type(event) is Text:
            if not reply.may_go_on(event.text):
                break
        elif type(event) is Finish:
            if event.reason in ("stop", "tool_calls") and (calls := reply.calls()):
                yield Note("no marks around it", calls[0][0].name)
                if not reply.stands_in(conversation):
                    errors = filter(None, (tools.errors(*call) for call in calls))
                    yield Misfit("\n".join([COMPLAINT.format(open=marks[0], close=marks[1]), *errors]))
            yield from reply.texts()
            yield event
            return
        else:
            yield event
    texts = reply.texts()
    del conversation, reply  # they can be large, and the rest of the reply can take long
    yield from texts
    yield from events


class _Reply:
    """A reply that may still be nothing but calls: JSON, and around it at most fences, tags and white space."""

    def __init__(self, tools: DeclaredTools):
        self._tools, self._reader = tools, Reader()
        self._text, self._json, self._head = TextBuilder(), TextBuilder(), ""  # `_json` is normalised
        self._begin: int | None = None  # of the JSON in the text
        self._length = 0  # of the JSON so far

    def texts(self) -> list[Text]:
        text = self._text.getvalue()
        return [Text(text)] if text else []

    def may_go_on(self, text: str) -> bool:
        """Takes the next piece; False if the reply is more than a call."""
        self._text.write(text)
        if self._begin is None:
            lead = self._text.getvalue()
            if not (begin := re.search(r"[{\[]", lead)):
                return _may_stand_around(lead)
            self._begin = begin.start()
            if not _AROUND.fullmatch(lead, 0, self._begin):
                return False
            text = lead[self._begin:]
        piece = self._reader.feed(text)
        self._json.write(piece)
        if piece and len(self._head) < HEAD:
            self._head += piece[:HEAD]
            if not self._tools.may_begin(self._head):
                return False
        if self._reader.over:
            return self._reader.done and _may_stand_around(self._reader.rest)
        self._length += len(text)
        return self._length < LONGEST

    def calls(self) -> list[tuple]:
        """(tool, arguments) of each call, if the reply is nothing but calls with all that their tools require."""
        if not self._reader.done:
            return []
        try:
            calls = [self._tools.meant(call) for call in written_calls(self._json.getvalue(), strict=True)]
        except NoCall:
            return []
        return calls if all(_has_required(*call) for call in calls) else []

    def stands_in(self, conversation: str) -> bool:
        """Whether the calls stand in the conversation, however the JSON was escaped there."""
        shown, text, rest = _letters(conversation), self._text.getvalue(), len(self._reader.rest)
        written = text[self._begin:len(text) - rest]
        return _letters(written) in shown or _letters(self._json.getvalue()) in shown


def _may_stand_around(text: str) -> bool:
    return len(text) <= AROUND and bool(_AROUND_SO_FAR.fullmatch(text))


def _has_required(tool, arguments: str) -> bool:
    required = isinstance(tool.parameters, dict) and tool.parameters.get("required")
    if not isinstance(required, list):
        return True
    given = json.loads(arguments).keys()
    return all(isinstance(name, str) and name in given for name in required)


def _letters(text: str) -> str:
    """The text as it is compared: without white space, `>` and whatever escaping adds, once or more often."""
    text = _CODE.sub(lambda code: chr(int(code[1], 16)), text)
    text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return _IGNORED.sub("", text)
