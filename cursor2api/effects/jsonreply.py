"""A reply that must be one JSON object: what stands around the object goes, the object is checked.

Text is held back only until the object begins; its last brace leaves after the check.
"""

import re
from collections.abc import Iterable, Iterator

from ..errors import UpstreamError
from ..events import Event, Finish, Text, ToolCall, Misfit
from .jsonstream import Reader
from .schema import Checker
from .textbuilder import TextBuilder

_OBJECT = re.compile(r"""\{\s{0,200}["'“‘}]""")  # a brace in prose is followed by something else
_OBJECT_BEGUN = re.compile(r"\{\s{0,200}\Z")


def only_json(events: Iterable[Event], schema: dict | None) -> Iterator[Event]:
    """The reply's first JSON object, normalised, and no other text; `schema` guides and checks it.

    A reply without one, or with one that does not fit, is Misfit. One that was cut (length) or that
    is a tool call instead passes.
    """
    reader, before, normal, called = None, "", TextBuilder(), False
    for event in events:
        if type(event) is Text:
            text = event.text
            if reader is None:
                before += text
                begin = _OBJECT.search(before)
                if begin is None:
                    begun = _OBJECT_BEGUN.search(before)
                    before = before[begun.start():] if begun else ""
                    continue
                reader, text = Reader(schema), before[begin.start():]
            elif reader.over:
                continue
            piece = reader.feed(text)
            normal.write(piece)
            if leaving := piece[:-1] if reader.done else piece:
                yield Text(leaving)
            if reader.bad:
                yield from _fail(f"Your JSON is broken: {reader.bad}.")
            if reader.done:
                if errors := Checker(schema).errors(normal.getvalue()):
                    yield from _fail(f"Your JSON object does not fit the schema:\n{errors}")
                yield Text("}")
            continue
        called = called or type(event) is ToolCall
        if type(event) is Finish and event.reason != "length" and not (
                reader.done if reader else called):
            yield from _fail("Your JSON object is not complete." if reader else
                             "Your reply holds no JSON object.")
        yield event


def _fail(complaint: str) -> Iterator[Event]:
    error = UpstreamError(f"The model's reply is not the JSON that was asked for. {complaint}",
                          code="invalid_json_from_model")
    yield Misfit(complaint, error)
    raise error
