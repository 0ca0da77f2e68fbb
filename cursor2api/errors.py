"""What a caller is told when something fails: one tree, one JSON shape.

`dispatch` turns an ApiError into an HTTP status and a body, `sse.encode` into one error frame.
Anything else that is raised is a bug of ours: it is logged with its traceback and answers 502.
"""


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

    def body(self) -> dict:
        """The OpenAI error object: {"error": {"message", "type", "param", "code"}}."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param,
                          "code": self.code}}

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
