"""What a caller is told when something fails: one tree; its shape on the wire is the dialect's.

`dispatch` turns an ApiError into an HTTP status and a body, `sse.stream` into the end of a stream.
Anything else that is raised is a bug of ours: it is logged with its traceback and answers 502.
"""

from typing import NamedTuple


class ApiError(Exception):
    """An answer that is an error.

    `retry_after` is in seconds and says that a retry can mend it; a retryable status (408, 409, 429,
    5xx) without it tells official clients not to retry (`x-should-retry: false`).
    """

    status = 500
    type = "server_error"
    code: str | None = None

    def __init__(self, message, *, status=None, type=None, code=None, param=None, retry_after=None,
                 headers=None):
        super().__init__(message)
        self.message = message
        self.status = status or self.status
        self.type = type or self.type
        self.code = self.code if code is None else code
        self.param = param
        self.retry_after = retry_after
        self.extra_headers = headers or {}

    def headers(self) -> dict[str, str]:
        headers = dict(self.extra_headers)
        if self.retry_after is not None:
            headers["Retry-After"] = str(max(1, round(self.retry_after)))
        elif self.status in (408, 409, 429) or self.status >= 500:
            headers["x-should-retry"] = "false"
        return headers


class BadRequest(ApiError):
    """The request is not one we can serve as it stands; `param` names the property."""

    status = 400
    type = "invalid_request_error"


class InvalidKey(ApiError):
    """No key of ours came with the request."""

    status = 401
    type = "authentication_error"
    code = "invalid_api_key"


class InternalError(ApiError):
    """A fault of ours; the traceback is in the log and nowhere else."""

    status = 502
    type = "internal_error"
    code = ""

    def __init__(self):
        super().__init__("Internal server error")


class UpstreamError(ApiError):
    """The upstream refused or failed."""

    status = 502
    code = "upstream_error"


class KeyRefused(UpstreamError):
    """The upstream did not accept the gateway's own key or account."""


class UpstreamCut(UpstreamError):
    """The upstream's stream ended without its own end mark: what came is not the whole reply."""

    code = "upstream_cut"


class UpstreamTimeout(UpstreamError):
    """The upstream was silent for longer than the limit that the message names."""

    status = 504
    code = "upstream_timeout"


class Kind(NamedTuple):
    """Errors of one status and type; the message, the param and the first of the codes are an example."""

    status: int
    type: str
    codes: tuple[str | None, ...]
    when: str
    message: str
    param: str | None = None

    def example(self) -> ApiError:
        return ApiError(self.message, status=self.status, type=self.type, code=self.codes[0],
                        param=self.param)


REQUEST = "invalid_request_error"
KINDS = (
    Kind(400, REQUEST, ("missing_required_parameter", "invalid_type", "invalid_value",
                        "unsupported_value", "unsupported_parameter"),
         "a parameter is missing or wrong; `param` names it", "messages: required, got nothing", "messages"),
    Kind(400, REQUEST, ("integer_below_min_value", "integer_above_max_value", "decimal_below_min_value",
                        "decimal_above_max_value", "string_above_max_length", "array_above_max_length",
                        "object_above_max_properties"),
         "a parameter is out of its range", "n: expected an integer >= 1, got 0", "n"),
    Kind(400, REQUEST, (None,), "the body is not JSON",
         "The body is not JSON: Expecting value at line 1 column 1"),
    Kind(400, REQUEST, ("model_not_found",), "a chat asks for a model that is not there",
         "Invalid model: NAME", "model"),
    Kind(400, REQUEST, ("prompt_too_long", "thread_unsupported_request"),
         "only `/v1/messages`: the conversation is longer than `MAX_INPUT_LENGTH`; a `thread` was asked for",
         "prompt is too long: 60000 tokens > 50000 maximum", "messages"),
    Kind(400, REQUEST, ("upstream_refused",), "Cursor refused what was asked, with this code or its own",
         "Cursor refused the request: ..."),
    Kind(400, REQUEST, ("previous_response_not_found",), "`previous_response_id` names no response that is stored",
         "Previous response with id 'resp_0' not found.", "previous_response_id"),
    Kind(401, "authentication_error", ("invalid_api_key",),
         "no key or a wrong one, or Cursor refused the caller's own key",
         "Invalid API key"),
    Kind(403, REQUEST, ("default_key",),
         "no `API_KEY` is set; or under `make run` the key `0000` from another user or another page",
         "API_KEY is not set, so no key is good: set it to a key of your own and start again"),
    Kind(403, "permission_error", (None,), "Cursor refused the caller's own account, with its own code",
         "Cursor refused your key or account (403): ..."),
    Kind(403, REQUEST, ("model_not_allowed", "own_key_required"), "not for this key: see `KEY_LIMITS`",
         "The key NAME may not use MODEL: expected one of ...", "model"),
    Kind(404, REQUEST, ("model_not_found",), "`/v1/models/{model}` with a model that is not there",
         "The model 'NAME' does not exist", "model"),
    Kind(404, REQUEST, (None,), "an unknown route, or a response or an item that is not stored",
         "Invalid URL (GET /v1/nothing): expected one of ..."),
    Kind(405, REQUEST, ("method_not_supported",), "a wrong method; `Allow` names the right ones",
         "DELETE is not allowed here: expected GET, HEAD, OPTIONS"),
    Kind(408, REQUEST, ("request_timeout",), "the body was cut, or took longer than `REQUEST_TIMEOUT`",
         "The body did not come in time, or was cut"),
    Kind(413, REQUEST, (None,), "the body is larger than `MAX_BODY_BYTES`",
         "The body is too large: expected at most 20000000 bytes"),
    Kind(415, REQUEST, (None,), "the body is compressed, or said to be something else than JSON",
         "Content-Type: expected application/json, got text/xml"),
    Kind(426, REQUEST, (None,), "a websocket is asked for",
         "Websockets are not served here: POST the request"),
    Kind(429, "requests", ("rate_limit_exceeded", "too_many_streams"),
         "Cursor's limit or one of `KEY_LIMITS`, with `Retry-After`",
         "Cursor's limit is reached: ..."),
    Kind(502, "server_error", ("upstream_key_refused",),
         "Cursor refused the gateway's own key or account, with this code or its own: unauthorized, "
         "plan_required, ...", "Cursor refused the gateway's own key or account (401): ..."),
    Kind(502, "server_error", ("upstream_error", "upstream_refused", "upstream_cut", "upstream_unreachable",
                               "upstream_tls", "run_failed", "run_cancelled", "run_expired",
                               "stream_expired"),
         "Cursor failed, with one of these codes or its own", "Cursor failed (500): ..."),
    Kind(502, "server_error", ("empty_reply", "invalid_json_from_model", "no_tool_call",
                               "invalid_tool_arguments"),
         "the model's reply stayed unfit after one repair turn", "The model's reply was empty, twice"),
    Kind(502, "internal_error", ("",), "a fault of ours; the traceback is in the log",
         "Internal server error"),
    Kind(503, "server_error", ("upstream_not_configured",), "no `CURSOR_API_KEY`",
         "No upstream is configured: set CURSOR_API_KEY (or UISTREAM_URL) and start again"),
    Kind(503, "server_error", ("bridge_failed",),
         "the SDK's bridge does not start, or keeps ending; the log says why",
         "The SDK's bridge does not start"),
    Kind(503, "server_error", ("overloaded",), "every slot was taken for `QUEUE_S`, or too many bodies came",
         "The service is busy with as many replies as it can make at once (60): try again soon"),
    Kind(503, "server_error", ("draining", "shutting_down"),
         "the service is being stopped: before a reply, within one",
         "The service is being restarted: try again soon"),
    Kind(504, "server_error", ("idle_timeout", "connect_timeout", "create_timeout", "upstream_timeout",
                               "total_timeout"),
         "`TIMEOUT`, `CONNECT_TIMEOUT`, `CREATE_TIMEOUT`, another wait for Cursor, `TOTAL_TIMEOUT`",
         "Cursor was silent for 120 s"),
)
