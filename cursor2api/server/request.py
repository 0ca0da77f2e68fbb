"""A request with what is known of it, its body, and answers as JSON."""

import json

from werkzeug.wrappers import Request, Response

from ..dialects import Dialect
from ..errors import ApiError, BadRequest
from .keys import Caller
from .record import RequestRecord


class ApiRequest(Request):
    """A request with what is known of it: its dialect, whose it is and what is counted."""

    dialect: Dialect
    caller: Caller
    record: RequestRecord


def json_response(value: dict, headers: dict[str, str] | None = None, status: int = 200) -> Response:
    return Response(json.dumps(value), status, headers, mimetype="application/json")


def read_body(request: ApiRequest) -> bytes:
    """All of the body. Raises ApiError if it is no plain JSON by its headers, too large or cut."""
    kind, coding = request.mimetype, request.headers.get("Content-Encoding", "identity")
    if kind and kind != "application/json" and not kind.endswith("+json"):
        raise ApiError(f"Content-Type: expected application/json, got {kind[:60]}", status=415,
                       type="invalid_request_error")
    transfer = request.headers.get("Transfer-Encoding", "chunked")
    if coding.lower() != "identity" or transfer.lower() != "chunked":
        raise ApiError(f"The body is compressed ({coding if coding != 'identity' else transfer:.60}): "
                       "expected plain JSON", status=415, type="invalid_request_error",
                       headers={"Accept-Encoding": "identity"})
    length, most = request.content_length, request.max_content_length
    try:
        # The server ends the input where the body does, and Werkzeug's reading would copy it once more.
        data = b"" if (length or 0) > most else request.environ["wsgi.input"].read(
            most + 1 if length is None else length)
    except OSError:
        raise ApiError("The body did not come in time, or was cut", status=408,
                       type="invalid_request_error", code="request_timeout") from None
    except Exception as error:  # of the server, which has its own for each fault of the framing
        raise BadRequest(f"The body is not good HTTP/1.1: {error}") from None
    if max(len(data), length or 0) > most:
        raise ApiError(f"The body is too large: expected at most {most} bytes", status=413,
                       type="invalid_request_error")
    if len(data) < (length or 0):
        raise ApiError(f"The body was cut: expected {length} bytes, got {len(data)}", status=408,
                       type="invalid_request_error", code="request_timeout")
    return data
