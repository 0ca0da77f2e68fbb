"""JSON as models write it, piece by piece, into JSON as parsers want it.

Who has a text that may be JSON feeds it to a Reader as it comes. Each `feed` returns the next piece of the
same value in normal form: without white space, in double quotes, with valid escapes. All pieces so far are
a prefix of one valid JSON text. When the value has ended or cannot go on, `over` is True and the text
behind it is in `rest`; when the text has ended, `close` says so.

The parser is one generator, which yields when it needs more text than there is: where it stands in its
code is its state, so each character costs the same however much came before. `_read` goes from member to
member of the innermost open object or array, `_member`, `_value` and the others read what they are called
after. Models forget to escape quotes: `_closes` decides by what stands behind a quote whether it ends its
string. What comes out depends on the text alone, never on where it was cut.
"""

import json
import re
from collections.abc import Iterator

from .shape import Shape, kind_of
from .textbuilder import TextBuilder

DEPTH = 200  # of nested objects and arrays
TOKEN = 400  # characters of a number or a literal; Python refuses to convert more than 4300 digits
SLICE = 4096  # characters best fed at a time, so that cutting off their beginning stays cheap
AHEAD = 256  # characters behind a quote that are looked at to see whether it closes its string

_SPACE = re.compile(r"\s*")
_TOKEN = re.compile(r"[-+.0-9A-Za-z_]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_LITERALS = {"true": "true", "false": "false", "null": "null",
             "True": "true", "False": "false", "None": "null"}
_HEX = re.compile(r"\\u([0-9A-Fa-f]{0,4})")
_LOW = re.compile(r"\\u[dD][c-fC-F][0-9A-Fa-f]{2}")
_LOW_BEGUN = re.compile(r"(?:\\(?:u(?:[dD](?:[c-fC-F][0-9A-Fa-f]?)?)?)?)?")

# By the quote that opens a string: what may close it, and a run of characters that leave as they are. The
# run ends before "<", which may begin the end mark.
_QUOTES = {quote: (closing, re.compile(rf'[^{closing}"\\<\x00-\x1f]+')) for quote, closing in
           {'"': '"', "'": "'", "“": "“”", "”": "“”", "‘": "‘’", "’": "‘’"}.items()}

# By the place of a string, which is a key, a member's value ("}" closes its object) or an item: what must
# stand behind the quote that ends it, and the beginnings of that. _GAP is what may come before the end mark.
_W = r"[^\S\n]*(?:\n[\s>]*)?"  # white space, with quote marks at line starts
_KEY_BEGUN = "|".join(rf"[{q}][^{q}\\\n]*(?:\\.[^{q}\\\n]*)*" for q in ('"', "'", "“”", "‘’"))
_KEY = "|".join(rf"[{q}][^{q}\\\n]*(?:\\.[^{q}\\\n]*)*[{q}]" for q in ('"', "'", "“”", "‘’"))
_GAP = re.compile(_W + f"(?:,{_W})?")
_ENDS = {
    "key": (re.compile(_W + ":"), re.compile(_W)),
    "}": (re.compile(_W + rf"(?:\}}|,{_W}(?:\}}|(?:{_KEY}){_W}:))"),
          re.compile(_W + rf"(?:,{_W}(?:(?:{_KEY_BEGUN})\\?|(?:{_KEY}){_W})?)?")),
    "]": (re.compile(_W + rf"(?:\]|,{_W}[\]\[{{\"'“”‘’\-0-9tfnTFN])"), _GAP),
}


class _Stop(Exception):
    """The text cannot go on as JSON; without a reason it has merely ended."""


class _Open:
    """An open object or array. `keys` are an object's so far; `ready` says that a member may begin now,
    and `comma` is what then stands before it."""

    __slots__ = ("closer", "comma", "keys", "ready", "shape")

    def __init__(self, closer, shape):
        self.closer, self.shape, self.keys, self.comma, self.ready = closer, shape, set(), "", True


class Reader:
    """Reads one JSON value. Numbers, booleans and text become what `schema` wants if that loses nothing.

    Mended are raw control characters, trailing commas, other quotes, Python literals, `>` at line starts,
    bad escapes, and inner quotes that were not escaped. `end` is a mark that begins with "<"; outside
    strings it ends the text.
    """

    def __init__(self, schema: dict | bool | Shape | None = None, end: str = ""):
        self.over = False  # nothing more is read: the value is done or bad, or the text has ended
        self.done = False  # the value is whole
        self.ended = False  # by the end mark
        self.repaired = False  # quotes were taken for text although nothing escaped them
        self.bad: str | None = None  # why the text cannot go on as JSON
        self.rest = ""  # the text behind the value
        self._end = end
        self._text, self._at, self._eof = "", 0, False
        self._out: list[str] = []
        self._stack: list[_Open] = []
        self._closers = ""
        self._parser = self._read(Shape.of(schema))

    def feed(self, text: str) -> str:
        """The next piece of normalised JSON; text behind the value's end is added to `rest`."""
        if self.over:
            self.rest += text
            return ""
        self._text, self._at = self._text[self._at:] + text, 0
        try:
            next(self._parser)
        except (_Stop, StopIteration) as stop:
            self.over = True
            self.bad = stop.args[0] if isinstance(stop, _Stop) and stop.args else None
            if self.done or self.ended or self.bad:
                self.rest = self._text[self._at:]
            self._text = ""
        out = "".join(self._out)
        self._out.clear()
        return out

    def close(self, force: bool = False) -> str:
        """The text has ended: what completes the value; with `force` missing closers are added,
        unless the text ended inside a string, behind a key or where a value was due."""
        out = ""
        if not self.over and (force or not self._stack):
            self._eof = True
            out = self.feed("")
        if force and self._closers:
            out, self._closers, self.done = out + self._closers, "", True
        return out

    def _read(self, shape) -> Iterator[None]:
        yield from self._value(shape)
        while self._stack:
            frame = self._stack[-1]
            ch = yield from self._next()
            if not ch:
                self._closers = "".join(frame.closer for frame in reversed(self._stack))
                return
            if ch == frame.closer:
                self._stack.pop()
                self._out.append(ch)
                self._at += 1
            elif not frame.ready:
                if ch != ",":
                    raise _Stop(f"expected , or {frame.closer}, got {ch!r}")
                self._at += 1
                frame.comma, frame.ready = ",", True
            else:
                yield from self._member(frame, ch)
        self.done = True

    def _member(self, frame, ch):
        key = None
        prefix = frame.comma
        if frame.closer == "}":
            if ch not in _QUOTES:
                raise _Stop(f"expected a key in quotes, got {ch!r}")
            literal = TextBuilder()
            yield from self._string(literal.write, "key")
            key = json.loads(literal.getvalue())
            ch = yield from self._next()
            if ch != ":":
                raise _Stop(*[f"expected :, got {ch!r}"] if ch else [])
            if key in frame.keys:
                raise _Stop(f"duplicate key {key[:80]!r}")
            self._at += 1
            frame.keys.add(key)
            prefix += literal.getvalue() + ":"
        elif ch == ",":
            raise _Stop("expected a value, got ','")
        self._out.append(prefix)
        frame.ready = False
        yield from self._value(frame.shape.below(key))

    def _value(self, shape):
        ch = yield from self._next()
        if not ch:
            raise _Stop
        if ch == "{" or ch == "[":
            if len(self._stack) == DEPTH:
                raise _Stop(f"nested deeper than {DEPTH} levels")
            self._stack.append(_Open("}" if ch == "{" else "]", shape))
            self._out.append(ch)
            self._at += 1
        elif ch in _QUOTES:
            place = self._stack[-1].closer if self._stack else ""
            if shape.allows("string"):
                yield from self._string(self._out.append, place)
            else:
                literal = TextBuilder()
                yield from self._string(literal.write, place)
                self._out.append(_unquoted(literal.getvalue(), shape))
        else:
            self._out.append(_coerced((yield from self._scalar()), shape))

    def _scalar(self):
        while True:
            token = _TOKEN.match(self._text, self._at).group()
            if len(token) > TOKEN:
                raise _Stop(f"a number or word of more than {TOKEN} characters")
            if self._at + len(token) < len(self._text) or self._eof:
                break
            yield
        literal = _LITERALS.get(token) or (_NUMBER.fullmatch(token) and token)
        if not literal:
            raise _Stop(f"expected a value, got {token[:80] or self._text[self._at:][:1]!r}")
        self._at += len(token)
        return literal

    def _next(self):
        """The next significant character, still unread; "" at the end of the text."""
        fresh = False  # on a new line, where `>` is a quote mark and skipped
        while True:
            space = _SPACE.match(self._text, self._at)
            self._at = space.end()
            fresh = fresh or "\n" in space.group()
            if self._at == len(self._text):
                if self._eof:
                    return ""
                yield
            elif fresh and self._text[self._at] == ">":
                self._at += 1
            else:
                break
        if (yield from self._marked()):
            self.ended = True
            return ""
        return self._text[self._at]

    def _marked(self):
        """Whether the end mark stands here."""
        while self._end:
            here = self._text[self._at:self._at + len(self._end)]
            if here == self._end:
                return True
            if self._eof or not self._end.startswith(here):
                break
            yield
        return False

    def _string(self, put, place):
        """Put a string's JSON literal piece by piece."""
        closing, plain = _QUOTES[self._text[self._at]]
        self._at += 1
        put('"')
        mended = False
        while True:
            run = plain.match(self._text, self._at)
            if run:
                put(run.group())
                self._at = run.end()
            if self._at == len(self._text):
                if self._eof:
                    raise _Stop
                yield
                continue
            ch = self._text[self._at]
            if ch == "\\":
                yield from self._escape(put)
                continue
            # The end mark may stand in a string, but one in a mended string says that the mending was wrong.
            if ch == "<" and mended and (yield from self._marked()):
                raise _Stop("a string has quotes that are not escaped")
            self._at += 1
            if ch in closing:
                if (yield from self._closes(place)):
                    put('"')
                    return
                self.repaired = mended = True
            put('\\"' if ch == '"' else ch if ch >= " " else json.dumps(ch)[1:-1])

    def _closes(self, place):
        """Whether the quote just read ends its string, by what stands behind it."""
        if not place:
            return True
        yes, perhaps = _ENDS[place]
        while True:
            ahead = self._text[self._at:self._at + AHEAD]
            if yes.match(ahead):
                return True
            mark = ahead[_GAP.match(ahead).end():][:len(self._end)]
            if mark and mark == self._end:
                return True
            if not (perhaps.fullmatch(ahead) or mark and self._end.startswith(mark)):
                return False
            if self._eof or len(ahead) == AHEAD:
                return True
            yield

    def _escape(self, put):
        """Put the escape that begins here; a bad one is a backslash that was not escaped."""
        while len(self._text) < self._at + 2:
            if self._eof:
                raise _Stop
            yield
        ch = self._text[self._at + 1]
        if ch != "u":
            known = ch in '"\\/bfnrt'
            self._at += 2 if known or ch in "'“”‘’" else 1
            put("\\" + ch if known else ch if ch in "'“”‘’" else "\\\\")
            return
        while True:
            digits = _HEX.match(self._text, self._at)
            if len(digits[1]) == 4 or digits.end() < len(self._text):
                break
            if self._eof:
                raise _Stop
            yield
        if len(digits[1]) < 4:
            self._at += 1
            put("\\\\")
            return
        self._at = digits.end()
        code = int(digits[1], 16)
        if 0xD800 <= code < 0xDC00:
            while _LOW_BEGUN.fullmatch(self._text, self._at) and not self._eof:
                yield
            low = _LOW.match(self._text, self._at)
            self._at = low.end() if low else self._at
            put(digits[0] + low[0] if low else "\\ufffd")
        else:
            put("\\ufffd" if 0xDC00 <= code < 0xE000 else digits[0])


def _coerced(literal, shape):
    """A number, boolean or null, as the shape wants it if that loses nothing."""
    number = _NUMBER.fullmatch(literal)
    kind = ("integer" if not (number[1] or number[2]) else "number") if number else (
        "null" if literal == "null" else "boolean")
    if shape.allows(kind):
        return literal
    if kind == "number" and shape.allows("integer") and not number[2] and not number[1].strip(".0"):
        return literal[:number.start(1)]
    return f'"{literal}"' if kind != "null" and shape.allows("string") else literal


def _unquoted(literal, shape):
    """A string where none may be: the value that its text spells, if that may be there."""
    text = json.loads(literal)
    try:
        kind = kind_of(json.loads(text, parse_constant=int))  # which refuses NaN
    except (ValueError, RecursionError):
        return literal
    if not shape.allows("integer" if kind == "number" else kind) or text != text.strip():
        return literal
    reader = Reader(shape)
    value = reader.feed(text) + reader.close()
    return value if reader.done and not reader.rest else literal


def normalised(text: str, schema: dict | bool | None = None) -> str | None:
    """A whole text as one normalised JSON value; None if it is not one."""
    reader, pieces = Reader(schema), []
    for at in range(0, len(text), SLICE):
        if reader.over:
            return None
        pieces.append(reader.feed(text[at:at + SLICE]))
    pieces.append(reader.close())
    return "".join(pieces) if reader.done and not reader.rest else None
