"""OpenAI's Responses: items, typed events, and what stands beside the responses themselves."""

from dataclasses import replace

from .. import Answer, Asked, Dialect, Example, Route, openai_error
from ...errors import ApiError, UpstreamCut
from ...events import Finish, Text, ToolCall, Usage
from .parse import PARAMETERS, parse
from .stored import cancel, delete, input_items, show
from .writer import ResponseWriter


def fails_in_stream(error: ApiError) -> bool:
    """Codex asks again after any 5xx, up to 30 times: what no retry mends is an event that stops it."""
    return error.status >= 500 and error.retry_after is None


def input_tokens(asked: Asked) -> Answer:
    """The tokens of a body's prompt; it need not name a model."""
    chat = parse({"model": "any", **asked.body}, asked.options).chat
    if "model" not in asked.body:
        chat = replace(chat, model="")
    return Answer(200, {"object": "response.input_tokens", "input_tokens": asked.prompt_tokens(chat)})


def no_websocket(asked: Asked) -> Answer:
    """Codex asks for a websocket first: after this answer it takes HTTP at once, after others it asks again."""
    raise ApiError("Websockets are not served here: POST the request", status=426, type="invalid_request_error")


_ASKED = {"model": "claude-sonnet-4-5-20250929", "input": "Hi"}
_TOOLS = {"tools": [{"type": "function", "name": "get_weather", "strict": False, "parameters": {
    "type": "object", "properties": {"city": {"type": "string"}}}}]}
_SAID = (Text("Hello"), Text(", world"), Usage(9, 4), Finish("stop"))
_CALLED = (ToolCall(0, "call_0123456789abcdef01234567", "get_weather", '{"city":'),
           ToolCall(0, None, None, '"Paris"}'), Usage(52, 12), Finish("tool_calls"))

RESPONSES = Dialect(
    name="responses", what='A response, or events with `"stream": true`',
    paths=("/v1/responses", "/responses"),
    parameters=PARAMETERS, parse=parse, writer=ResponseWriter, error=openai_error, fails_in_stream=fails_in_stream,
    effort="reasoning.effort",
    examples=(
        Example("A response", _ASKED, _SAID),
        Example("A response with a tool call", {**_ASKED, **_TOOLS}, _CALLED),
        Example("A stream", {**_ASKED, "stream": True}, _SAID),
        Example("A stream with a tool call", {**_ASKED, **_TOOLS, "stream": True}, _CALLED),
        Example("A stream that fails", {**_ASKED, "stream": True}, _SAID[:1],
                UpstreamCut("Cursor's stream was cut"))),
    routes=(
        Route("response_input_tokens", "POST", ("/v1/responses/input_tokens", "/responses/input_tokens"),
              "An estimate of the tokens of a response's prompt", input_tokens),
        Route("response_websocket", "GET", ("/v1/responses", "/responses"),
              "426, as there are no websockets here", no_websocket),
        Route("response_show", "GET", ("/v1/responses/<id>", "/responses/<id>"), "A stored response", show),
        Route("response_delete", "DELETE", ("/v1/responses/<id>", "/responses/<id>"),
              "Forgets a stored response", delete),
        Route("response_input_items", "GET", ("/v1/responses/<id>/input_items", "/responses/<id>/input_items"),
              "The input items of a stored response", input_items),
        Route("response_cancel", "POST", ("/v1/responses/<id>/cancel", "/responses/<id>/cancel"),
              "400, as no response runs in the background", cancel)))
