"""A reply that must be one JSON object: what stands around the object goes, the object is checked.

Text is held only until it is known to be the object; its last brace leaves after the check.
"""

import re
from collections.abc import Iterable, Iterator

from ..errors import UpstreamError
from ..events import Event, Finish, Text, ToolCall, Misfit
from .jsonstream import Reader
from .schema import Checker

_BEGIN = re.compile(r"""\{\s{0,200}["'“‘}]""")  # a brace in prose is followed by something else
_HOPE = re.compile(r"\{\s{0,200}\Z")


def only_json(events: Iterable[Event], schema: dict | None) -> Iterator[Event]:
    """The reply's first JSON object, normalised, and no other text; `schema` guides and checks it.

    A reply without one, or with one that does not fit, is Misfit. One that was cut (length) or that
    is a tool call instead passes.
    """
    reader, held, sent, called = None, "", [], False
    for event in events:
        if type(event) is Text:
            if reader is not None and reader.over:
                continue
            held += event.text
            if reader is None:
                begin = _BEGIN.search(held)
                if begin is None:
                    hope = _HOPE.search(held)
                    held = held[hope.start():] if hope else ""
                    continue
                reader, held = Reader(schema), held[begin.start():]
            piece, held = reader.feed(held), ""
            sent.append(piece)
            if open := piece[:-1] if reader.done else piece:
                yield Text(open)
            if reader.bad:
                yield from _refuse(f"Your JSON is broken: {reader.bad}.")
            if reader.done:
                yield from _check("".join(sent), schema)
                yield Text("}")
            continue
        called = called or type(event) is ToolCall
        if type(event) is Finish and event.reason != "length" and not (
                reader.done if reader else called):
            yield from _refuse("Your JSON object is not complete." if reader else
                               "Your reply holds no JSON object.")
        yield event


def _check(text: str, schema: dict | None) -> Iterator[Event]:
    if errors := Checker(schema).errors(text):
        yield from _refuse(f"Your JSON object does not fit the schema:\n{errors}")


def _refuse(complaint: str) -> Iterator[Event]:
    error = UpstreamError(f"The model's reply is not the JSON that was asked for. {complaint}",
                          code="invalid_json_from_model")
    yield Misfit(complaint, error)
    raise error
