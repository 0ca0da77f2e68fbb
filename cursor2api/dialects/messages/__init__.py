"""Anthropic's Messages: what Claude Code, Anthropic's SDKs and others that are made for its API ask and get."""

from datetime import datetime, timezone

from ...errors import UpstreamCut
from ...events import Finish, Text, ToolCall, Usage
from .. import Answer, Asked, Dialect, Example, ModelForm, Route
from ..checks import one_of, page_limit
from .writer import MessageWriter, refusal
from .parse import PARAMETERS, parse

PAGE = 20  # models of a list that asks for no number
MOST = 1000


def _count_tokens(asked: Asked) -> Answer:
    """The estimate that a message of the same body begins with."""
    chat = parse({**asked.body, "max_tokens": 1}, asked.options).chat
    return Answer(200, {"input_tokens": asked.prompt_tokens(chat)}, {"x-cursor2api-usage": "estimate"})


def _model(model: dict) -> dict:
    created = datetime.fromtimestamp(model["created"], timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"type": "model", "id": model["id"], "display_name": model["id"], "created_at": created,
            "lifecycle": "active", "max_input_tokens": model["context_window"], "max_tokens": model["max_tokens"],
            "capabilities": None}


def _page(models: list[dict], query: dict[str, str]) -> dict:
    """The models behind `after_id` or before `before_id`, at most `limit` of them."""
    limit = page_limit(query, PAGE, MOST)
    ids = [model["id"] for model in models]
    low, high, before = 0, limit, False
    if "after_id" in query:
        low = one_of(*ids)(query["after_id"], "after_id") and ids.index(query["after_id"]) + 1
        high = low + limit
    elif before := "before_id" in query:
        high = one_of(*ids)(query["before_id"], "before_id") and ids.index(query["before_id"])
        low = max(0, high - limit)
    shown = [_model(model) for model in models[low:high]]
    return {"data": shown, "has_more": low > 0 if before else high < len(ids),
            "first_id": shown[0]["id"] if shown else None, "last_id": shown[-1]["id"] if shown else None}


_ASKED = {"model": "claude-sonnet-4-5-20250929", "max_tokens": 1024,
          "messages": [{"role": "user", "content": "Hi"}]}
_STREAM = {**_ASKED, "stream": True}
_SAID = (Text("Hello"), Text(", world"), Usage(9, 4), Finish("stop"))
_CALLED = (ToolCall(0, "toolu_0123456789abcdef01234567", "get_weather", '{"city":'),
           ToolCall(0, None, None, '"Paris"}'), Usage(52, 12), Finish("tool_calls"))

MESSAGES = Dialect(
    name="messages", what='A message, or its events with `"stream": true`',
    paths=("/v1/messages", "/messages"),
    parameters=PARAMETERS, parse=parse, writer=MessageWriter, error=refusal,
    id_header="request-id", call_id="toolu_", effort="output_config.effort",
    headers=("anthropic-version", "anthropic-beta", "anthropic-dangerous-direct-browser-access"),
    routes=(Route("count_tokens", "POST", ("/v1/messages/count_tokens", "/messages/count_tokens"),
                  '`{"input_tokens": 9}` for the body of a message: an estimate, nothing runs for it',
                  _count_tokens),),
    models=ModelForm(_model, _page),
    examples=(
        Example("A message", _ASKED, _SAID),
        Example("A message with a tool call", _ASKED, _CALLED),
        Example("A stream", _STREAM, _SAID),
        Example("A stream with a tool call", _STREAM, _CALLED),
        Example("A stream that fails", _STREAM, _SAID[:1], UpstreamCut("Cursor's stream was cut"))))
