"""What the service is and does, as data: the page shows it, README.md's tables are checked against it.

Pure; everything is made of what the code itself works with, the replies by its own encoders.
"""

import json
from collections.abc import Iterable
from dataclasses import fields

from . import sse
from ..config import Config
from ..dialects.encode import Identity, chunks, completion
from ..errors import KINDS, UpstreamCut
from ..events import Event, Finish, Text, ToolCall, Usage
from ..dialects.parameters import PARAMETERS
from .record import RequestRecord

HEADERS = (
    ("x-request-id", "yours, or one that was made"),
    ("x-cursor2api-upstream", "`sdk`, `cloud`, `uistream`, `simulator` or `none`"),
    ("x-cursor2api-agent", "whether the reply came from a `new` agent, a `reused` one that knew the "
     "conversation, or a `warm` one; in a stream, what was known when the headers left"),
    ("x-cursor2api-ignored", "parameters that were asked for and had no effect"),
    ("x-cursor2api-left-out", "how many messages were left out to meet `MAX_INPUT_LENGTH`"),
    ("x-cursor2api-usage", "whose token count it is: `upstream` (Cursor's), `estimate`, or `in-stream` or "
     "`in-body`: then `usage.source` says"),
    ("server-timing", "milliseconds: `queue` for a slot, `upstream` until it had answered, `total` until the "
     "headers left"),
    ("retry-after", "with an error that a retry can mend: the seconds to wait"),
    ("x-should-retry", "`false` with an error that a retry cannot mend"),
)

HEAD = Identity("chatcmpl-0123456789abcdef01234567", 1767225600, "claude-sonnet-4-5-20250929")
SAID = (Text("Hello"), Text(", world"), Usage(9, 4), Finish("stop"))
CALLED = (ToolCall(0, "call_0123456789abcdef01234567", "get_weather", '{"city":'),
          ToolCall(0, None, None, '"Paris"}'), Usage(52, 12), Finish("tool_calls"))


def reference(config: Config, *, version: str, started: int, routes: list[dict],
              examples: dict[str, str], keys: str = "set") -> dict:
    """All of it; `started` is in unix seconds, `keys` one of set, none and development. No setting's value is
    in it, but for the upstream's name and one that is true or false."""
    return {
        "version": version, "started": started, "upstream": config.upstream_in_use,
        "keys": keys, "kilo_tool_strict": config.kilo_tool_strict, "routes": routes, "examples": examples,
        "parameters": [
            {key: getattr(parameter, key) for key in ("name", "type", "range", "effect", "what")}
            for parameter in PARAMETERS],
        "headers": [{"name": name, "what": what} for name, what in HEADERS],
        "replies": replies(),
        "errors": [{"status": kind.status, "type": kind.type, "codes": kind.codes, "when": kind.when,
                    "body": kind.example().body()} for kind in KINDS],
        "settings": settings()}


def settings() -> list[dict]:
    """Every setting: the name of its variable, its default as one would write it, and its effect."""
    return [{"name": option.name.upper(), "default": _written(option.default),
             "help": option.metadata["help"]} for option in fields(Config)]


def replies() -> list[dict]:
    """Replies by example: {"name", "text"}, the text being JSON or the body of a stream."""
    return [
        {"name": "A completion", "text": _body(SAID)},
        {"name": "A completion with a tool call", "text": _body(CALLED)},
        {"name": "A stream, with `include_usage`", "text": _stream(SAID, include_usage=True)},
        {"name": "A stream with a tool call", "text": _stream(CALLED)},
        {"name": "A stream that fails", "text": _stream(SAID[:1], failing=True)}]


def _written(default: object) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, tuple):
        return ",".join(part if isinstance(part, str) else part[-1] for part in default)
    return f"{default:g}" if isinstance(default, float) else str(default)


def _body(events: Iterable[Event]) -> str:
    [text] = completion([(0, event) for event in events], HEAD, RequestRecord(lambda: 0))
    return json.dumps(json.loads(text), indent=2)


def _stream(events: Iterable[Event], *, include_usage: bool = False, failing: bool = False) -> str:
    def pairs():
        yield from ((0, event) for event in events)
        if failing:
            raise UpstreamCut("Cursor's stream was cut")
    record = RequestRecord(lambda: 0)
    made = chunks(pairs(), HEAD, record, include_usage=include_usage)
    return b"".join(sse.encode(made, b"", 1, record)).decode()
