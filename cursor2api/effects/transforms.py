"""Effects on a reply, each written once: generators from events to events.

Each passes on what is not its own and puts out exactly one Finish. Only a suffix that may begin a mark is held. It
leaves before any event that ends the text: what says nothing that a caller reads (Waiting) may overtake it.
"""

import re
from collections.abc import Iterable, Iterator

from ..errors import UpstreamError
from ..events import Event, Finish, Note, Reasoning, Text, ToolCall, Misfit, Usage, Waiting
from ..tokens import units
from .textbuilder import TextBuilder

THINKING = {"<thinking>": "</thinking>", "<think>": "</think>"}


class Search:
    """Looks for `mark` in a text that comes in pieces, in time linear in the text (Knuth, Morris, Pratt).

    `size` tells how many characters of the mark the text so far ends with.
    """

    def __init__(self, mark: str):
        self.mark, self.size = mark, 0
        self._shorter = [0]  # for each size but 0: the next shorter one that the same text ends with
        size = 0
        for character in mark[1:]:
            size = self._next(size, character)
            self._shorter.append(size)

    def _next(self, size: int, character: str) -> int:
        while size and self.mark[size] != character:
            size = self._shorter[size - 1]
        return size + (self.mark[size] == character)

    def feed(self, piece: str) -> int:
        """Where in the piece the mark first ends; -1 if it does not."""
        at = 0
        while at < len(piece):
            if not self.size and (at := piece.find(self.mark[0], at)) < 0:
                break
            self.size = self._next(self.size, piece[at])
            at += 1
            if self.size == len(self.mark):
                return at
        return -1


def overlap(text: str, mark: str) -> int:
    """Length of the longest suffix of `text` that begins `mark` but is not all of it."""
    tail = text[max(0, len(text) - len(mark) + 1):] if mark else ""
    if not tail or mark[0] not in tail:
        return 0
    search = Search(mark)
    search.feed(tail)
    return search.size


def whole_characters(events: Iterable[Event]) -> Iterator[Event]:
    """Both halves of a character leave together, wherever UTF-16 was cut; half of one becomes U+FFFD."""
    held, of = "", Text
    for event in events:
        kind = type(event)
        if held and kind is not of and kind not in (Waiting, Note):
            yield of("\ufffd")
            held = ""
        if kind not in (Text, Reasoning) or not held and event.text.isascii():
            yield event
            continue
        text, held, of = held + event.text, "", kind
        if "\ud800" <= text[-1:] <= "\udbff":
            text, held = text[:-1], text[-1]
        if text:
            yield kind(text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace"))
    if held:
        yield of("\ufffd")


def split_thinking(events: Iterable[Event], call_mark: str = "") -> Iterator[Event]:
    """Text within <thinking> or <think> at the very start becomes Reasoning; elsewhere it is text.

    A thinking that never closes is ended by `call_mark`, which opens a tool call; what follows the
    mark is held until it is known whether the closing tag comes after all.
    """
    blank, held, close = TextBuilder(), "", ""  # `blank` is white space before the first word
    source = iter(events)
    for event in source:
        if isinstance(event, (Waiting, Reasoning, Usage)):
            yield event
            continue
        if type(event) is not Text:
            if held := blank.getvalue() + held:
                yield Reasoning(held) if close else Text(held)
            yield event
            break
        held += event.text
        if not close:
            start = held.lstrip()
            if not start:
                blank.write(held)
                held = ""
                continue
            tag = next((tag for tag in THINKING if start.startswith(tag)), None)
            if tag is None:
                if any(tag.startswith(start) for tag in THINKING):
                    continue
                yield Text(blank.getvalue() + held)
                break
            close, held, blank = THINKING[tag], start[len(tag):], TextBuilder()
        cut = held.find(close)
        opens = held.find(call_mark) if call_mark else -1
        if cut >= 0 and not 0 <= opens < cut:
            if cut:
                yield Reasoning(held[:cut])
            yield from _after_thinking(held[cut + len(close):], source)
            return
        if opens >= 0:
            if opens:
                yield Reasoning(held[:opens])
            yield from _after_mark(held[opens:], close, source)
            return
        keep = max(overlap(held, close), overlap(held, call_mark))
        if len(held) > keep:
            yield Reasoning(held[:len(held) - keep])
            held = held[len(held) - keep:]
    yield from source


def _after_mark(text: str, close: str, source: Iterator[Event]) -> Iterator[Event]:
    """A call mark came within the thinking: all is held until `close` or the end decides whose it is."""
    held, tail = TextBuilder(), ""
    while True:
        held.write(text)
        tail = tail[1 - len(close):] + text
        if close in tail:
            thought, _, rest = held.getvalue().partition(close)
            yield Reasoning(thought)
            yield from _after_thinking(rest, source)
            return
        while type(event := next(source)) is not Text:
            if type(event) is Finish:
                yield Text(held.getvalue())
                yield event
                return
            yield event
        text = event.text


def _after_thinking(text: str, source: Iterator[Event]) -> Iterator[Event]:
    """The rest of a reply after its thinking: white space between the two belongs to neither."""
    text = text.lstrip()
    while not text:
        event = next(source, None)
        if event is None:
            return
        if type(event) is Text:
            text = event.text.lstrip()
            continue
        yield event
        if type(event) is Finish:
            return
    yield Text(text)
    yield from source


def hide_thinking(events: Iterable[Event]) -> Iterator[Event]:
    """Thinking becomes Waiting: the caller sees a stream that lives, not what is thought."""
    for event in events:
        yield Waiting() if type(event) is Reasoning else event


def stop_at(events: Iterable[Event], sequences: tuple[str, ...]) -> Iterator[Event]:
    """Ends the reply before the sequence that completes first; nothing of the sequence leaves."""
    searches, called = [Search(mark) for mark in sequences], False
    begins = re.compile("|".join({re.escape(mark[0]) for mark in sequences})).search
    held, size = "", 0  # held back is held[:size], a sequence's beginning
    for event in events:
        if type(event) is Text:
            text = event.text
            if text and not size and not begins(text):
                yield event
                continue
            found = [(end, end - len(search.mark), search.mark)
                     for search in searches if (end := search.feed(text)) >= 0]
            longest = max(searches, key=lambda search: search.size)
            leaving = min(found)[1] if found else len(text) - longest.size  # of the text; below 0: of held
            if leaving > -size:
                yield Text(held[:min(size, size + leaving)] + text[:max(0, leaving)])
            if found:
                yield Finish("tool_calls" if called else "stop", min(found)[2])
                return
            held, size = longest.mark, longest.size
            continue
        if size and not isinstance(event, (Waiting, Reasoning, Note)):
            yield Text(held[:size])
            for search in searches:
                search.size = size = 0
        called = called or type(event) is ToolCall
        yield event


def limit_tokens(events: Iterable[Event], max_tokens: int) -> Iterator[Event]:
    """Ends the reply with `length` where text and arguments together pass `max_tokens`.

    Nothing leaves of a call unless its opening brace does: clients take empty arguments for {}.
    """
    left, name, id = 4 * max_tokens, None, None
    for event in events:
        if type(event) is Text:
            size = units(event.text)
            if size > left:
                if fits := _prefix(event.text, left):
                    yield Text(fits)
                yield Finish("length")
                return
            left -= size
        elif type(event) is ToolCall:
            size = units(event.arguments)
            begins = event.id is not None
            if begins:
                name, id = event.name, event.id
            if size > left or begins and not left:
                if not begins and (fits := _prefix(event.arguments, left)):
                    yield ToolCall(event.index, None, None, fits, event.kind)
                yield Note("cut by max_tokens", name, None if begins else id)
                yield Finish("length")
                return
            left -= size
        yield event


def _prefix(text: str, left: int) -> str:
    for at, character in enumerate(text):
        left -= 1 if character.isascii() else 4
        if left < 0:
            return text[:at]
    return text


def require_text(events: Iterable[Event]) -> Iterator[Event]:
    """A reply with neither text nor call is Misfit: clients treat it as a fault, so it is one.

    White space before the first word, and before the first one behind a call, leaves with that word. It does not
    leave if a call or the end comes first, because clients would take it for what is said.
    """
    blank: list[Event] = []
    spoken = called = False  # `spoken`: a word has come since the last call
    for event in events:
        kind = type(event)
        if kind is Text and not spoken:
            if not event.text.strip():
                blank.append(event)
                continue
            yield from blank
            blank, spoken = [], True
        elif kind is ToolCall:
            blank, spoken, called = [], False, True
        elif kind is Finish and not spoken and not called:
            if event.reason != "length":
                yield Misfit("Your reply was empty. Write the reply.",
                             UpstreamError("The model's reply was empty, twice", code="empty_reply"))
            yield from blank
        yield event


def require_call(events: Iterable[Event], insist: bool) -> Iterator[Event]:
    """A reply without a tool call is Misfit; with `insist` its text is good if nothing better comes."""
    called = False
    for event in events:
        called = called or type(event) is ToolCall
        if type(event) is Finish and not called and event.reason != "length":
            yield Misfit("You called no tool. Call one now, in the form that you were shown.",
                         None if insist else UpstreamError("The model called no tool", code="no_tool_call"))
        yield event


def count_usage(events: Iterable[Event], prompt_tokens: int) -> Iterator[Event]:
    """Puts exactly one Usage before the Finish: the upstream's last, else an estimate."""
    usage, said, thought = None, 0, 0  # the last two in units
    for event in events:
        kind = type(event)
        if kind is Text:
            said += units(event.text)
        elif kind is Usage:
            usage = event
            continue
        elif kind is ToolCall:
            said += units((event.name or "") + event.arguments)
        elif kind is Reasoning:
            thought += units(event.text)
        elif kind is Finish:
            said, thought = -(-said // 4), -(-thought // 4)
            yield usage or Usage(prompt_tokens, said + thought, thought, source="estimate")
        yield event
