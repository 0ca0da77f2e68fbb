"""What the service is and does, as data: the page shows it, docs/tables.py writes it into the documents.

Pure; everything is made of what the code itself works with, the replies by the dialect's own writer.
"""

import json
from collections.abc import Iterator
from dataclasses import fields

from . import sse
from ..config import Config
from ..dialects import Dialect, Example, Identity, Options
from ..dialects.served import DEFAULT, DIALECTS
from ..errors import KINDS
from ..events import Event
from ..fold import ReplySoFar
from ..models import CONTEXT_WINDOW, MAX_TOKENS
from .record import RequestRecord

HEADERS = (
    ("x-request-id", "yours, or one that was made"),
    ("request-id", "the same under its name in Anthropic's API, from `/v1/messages` alone"),
    ("x-cursor2api-upstream", "`sdk`, `cloud`, `uistream`, `simulator` or `none`"),
    ("x-cursor2api-agent", "whether the reply came from a `new` agent, a `reused` one that knew the "
     "conversation, or a `warm` one, or is the `replay` of one that was kept for its seed; in a stream, what "
     "was known when the headers left"),
    ("x-cursor2api-ignored", "parameters that were asked for and had no effect"),
    ("x-cursor2api-left-out", "how many messages were left out to meet `MAX_INPUT_LENGTH`, and how many "
     "images beyond the newest five"),
    ("x-cursor2api-usage", "whose token count it is: `upstream` (Cursor's), `estimate`, or `in-stream` or "
     "`in-body`: then `usage.source` says"),
    ("server-timing", "milliseconds: `queue` for a slot, `upstream` until it had answered, `total` until the "
     "headers left"),
    ("retry-after", "with an error that a retry can mend: the seconds to wait"),
    ("x-should-retry", "`false` with an error that a retry cannot mend"),
)

IDENTITY = Identity("0123456789abcdef01234567", 1767225600, "claude-sonnet-4-5-20250929")
MODELS = {"object": "list", "data": [{
    "id": IDENTITY.model, "object": "model", "created": IDENTITY.created, "owned_by": "cursor2api",
    "max_tokens": MAX_TOKENS,
    **dict.fromkeys(("context_window", "context_length", "max_model_len"), CONTEXT_WINDOW)}]}

ID = "resp_" + IDENTITY.token
ITEM = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello"}],
        "id": f"msg_{IDENTITY.token}_i0"}


def _refusal(message: str) -> str:
    return json.dumps({"error": {
        "message": message, "type": "invalid_request_error", "param": None, "code": None}})


ANSWERS = {  # of the endpoints that are no chats; those of documents are only begun
    "GET /": "<!doctype html> ...",
    "GET /static/{name}": "...",
    "GET /reference.json": '{"version": "0.1.0", "started": 1767225600, "upstream": "cloud", ...}',
    "GET /clients.json": '{"clients": [{"name": "opencode", "title": "OpenCode", "files": [...], ...}, ...]}',
    "GET /openapi.json": '{"openapi": "3.1.0", "info": {...}, "paths": {...}, ...}',
    "GET /health": json.dumps({"status": "ok", "timestamp": IDENTITY.created}),
    "GET /ready": json.dumps({"status": "ready"}),
    "GET /metrics": 'cursor2api_requests_total{key="ann",route="responses",status="200"} 7.0 ...',
    "GET /v1/models": json.dumps(MODELS),
    "GET /v1/models/{model}": json.dumps(MODELS["data"][0]),
    "POST /v1/responses/input_tokens": json.dumps({"object": "response.input_tokens", "input_tokens": 87}),
    "DELETE /v1/responses/{id}": json.dumps({"id": ID, "object": "response", "deleted": True}),
    "GET /v1/responses/{id}/input_items": json.dumps({
        "object": "list", "data": [ITEM], "first_id": ITEM["id"], "last_id": ITEM["id"], "has_more": False}),
    "POST /v1/responses/{id}/cancel": _refusal("Cannot cancel a synchronous response."),
    "GET /v1/responses": _refusal("Websockets are not served here: POST the request"),
    "POST /v1/messages/count_tokens": json.dumps({"input_tokens": 87})}


def reference(config: Config, *, version: str, started: int, routes: list[dict],
              examples: dict[str, str], keys: str = "set") -> dict:
    """All of it; `started` is in unix seconds, `keys` one of set, none and development. No setting's value is
    in it, but for the upstream's name and one that is true or false."""
    return {
        "version": version, "started": started, "upstream": config.upstream_in_use,
        "keys": keys, "kilo_tool_strict": config.kilo_tool_strict, "routes": routes, "examples": examples,
        "parameters": _parameters(DEFAULT),
        "dialects": [{"name": dialect.name, "path": dialect.paths[0], "parameters": _parameters(dialect),
                      "reply": _shown(dialect, dialect.examples[0])} for dialect in DIALECTS],
        "answers": ANSWERS,
        "headers": [{"name": name, "what": what} for name, what in HEADERS],
        "replies": [{"name": example.name, "text": _shown(DEFAULT, example)} for example in DEFAULT.examples],
        "errors": [{"status": kind.status, "type": kind.type, "codes": kind.codes, "when": kind.when,
                    "body": DEFAULT.error(kind.example(), "").body} for kind in KINDS],
        "settings": settings()}


def _parameters(dialect: Dialect) -> list[dict]:
    return [{key: getattr(parameter, key) for key in ("name", "type", "range", "required", "effect", "what")}
            for parameter in dialect.parameters]


def settings() -> list[dict]:
    """Every setting: the name of its variable, its default as one would write it, and its effect."""
    return [{"name": option.name.upper(), "default": _written(option.default),
             "help": option.metadata["help"]} for option in fields(Config)]


def _written(default: object) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, tuple):
        return ",".join(part if isinstance(part, str) else part[-1] for part in default)
    return f"{default:g}" if isinstance(default, float) else str(default)


def _shown(dialect: Dialect, example: Example) -> str:
    """A reply by example, as JSON or as the body of a stream."""
    chat, wishes, _ = dialect.parse(example.body, Options())
    writer, record = dialect.writer(IDENTITY, chat, wishes), RequestRecord(lambda: 0.0)
    if chat.stream:
        pairs = record.counted(_pairs(example), True)
        return b"".join(sse.stream(writer, pairs, record, "off", 0)).decode()
    reply = ReplySoFar()
    for event in example.events:
        reply.add(event)
    return json.dumps(writer.body([reply], reply.usage), indent=1)


def _pairs(example: Example) -> Iterator[tuple[int, Event]]:
    yield from ((0, event) for event in example.events)
    if example.error:
        raise example.error
