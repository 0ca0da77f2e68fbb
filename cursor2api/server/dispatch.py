"""The WSGI callable: a request goes to its endpoint, an error becomes an answer, and every request
leaves one log line and its counts.
"""

import logging
import re
import secrets
import time
from collections.abc import Sequence
from functools import partial

from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound
from werkzeug.wrappers import Response

from . import development
from ..dialects import Dialect, Route
from ..dialects.served import DEFAULT, DIALECTS
from ..errors import ApiError, InternalError, KeyRefused, UpstreamError
from .keys import Caller
from .service import Service
from .record import RequestRecord
from .request import ApiRequest, json_response
from .serve import answer, serve
from .views import OPEN, instead, urls

log = logging.getLogger("cursor2api")

SLASHES = re.compile("//+")  # as of a base URL that ends in one
REQUEST_ID = re.compile(r"[\w.:/+=-]{1,128}", re.ASCII)
HEADER_NAMES = re.compile(r"[\w ,-]{1,1000}", re.ASCII)
QUIET = {endpoint.__name__ for endpoint in OPEN}  # programs ask for these all the time: an answer is no news
EXPOSED = ("x-request-id", "x-should-retry", "retry-after", "server-timing", "x-cursor2api-upstream",
           "x-cursor2api-agent", "x-cursor2api-ignored", "x-cursor2api-left-out", "x-cursor2api-usage")
ALLOWED = ("authorization", "content-type", "x-api-key", "api-key", "x-request-id")


def new_id() -> str:
    """Of a request that brings none of its own."""
    return f"req_{secrets.token_hex(12)}"


class App:
    """The WSGI callable; `service` is open for whoever starts and stops the process."""

    def __init__(self, service: Service, dialects: Sequence[Dialect] = DIALECTS):
        self.service, self._dialects = service, dialects
        self._routes = urls(dialects).bind("")

    def __call__(self, environ, start_response):
        request = ApiRequest(environ, populate_request=False)  # else it and the environ would hold each other
        request.max_content_length = self.service.config.max_body_bytes
        given = request.headers.get("x-request-id", "")
        record = request.record = RequestRecord(
            time.monotonic, started=time.monotonic(),
            id=given if REQUEST_ID.fullmatch(given) else new_id())
        response = self._dispatch(request)
        more = _headers(request, response, self.service)
        if self._needs_key(request.path):  # what needs none is not for pages of other origins
            more += _cross_origin(request, self._dialects)
        response.call_on_close(partial(_note, record, response.status_code, self.service))
        return response(environ, lambda status, headers: start_response(status, headers + more))

    def _dispatch(self, request: ApiRequest) -> Response:
        """The answer of the endpoint. What is refused, be it the key, is refused in the path's own dialect."""
        path = SLASHES.sub("/", request.path)
        request.dialect = self._dialect(path, request)
        refused = partial(_refused, request)
        try:
            if request.method == "OPTIONS":
                return Response(status=204)
            endpoint, values = self._routes.match(path, request.method)
            request.record.route = endpoint.name if isinstance(
                endpoint, (Dialect, Route)) else endpoint.__name__
            if endpoint not in OPEN:
                request.caller = _authorize(request, self.service)
                request.record.key = request.caller.name
                self.service.prove(request.caller)
            if isinstance(endpoint, Dialect):
                return serve(endpoint, request, self.service)
            if isinstance(endpoint, Route):
                return answer(endpoint, request, self.service, values)
            return endpoint(request, self.service, **values)
        except ApiError as error:
            return refused(error)
        except (NotFound, MethodNotAllowed) as error:
            return refused(self._nowhere(request, path, error))
        except HTTPException as error:
            return refused(ApiError(error.description, status=error.code, type="invalid_request_error"))
        except Exception:
            log.exception("a fault", extra={"facts": {"id": request.record.id, "route": request.record.route}})
            return refused(InternalError())

    def _nowhere(self, request: ApiRequest, path: str, error: NotFound | MethodNotAllowed) -> ApiError:
        """The refusal of a path that nothing answers, or nothing with this method: it names the path that was
        meant, in whose dialect it is told, if only the base URL is too long."""
        found = instead(self._routes, request.method, path)
        if isinstance(error, MethodNotAllowed) and not found:
            allowed = ", ".join(sorted({*error.valid_methods, "OPTIONS"}))
            return ApiError(f"{request.method} is not allowed here: expected {allowed}", status=405,
                            type="invalid_request_error", code="method_not_supported", headers={"Allow": allowed})
        if found:
            request.dialect = self._dialect(found, request)
        expected = _shorter(path, found) if found else (
            "expected one of /health, /ready, /metrics, /v1/models, /v1/models/{id}, "
            + ", ".join(one.paths[0] for one in self._dialects))
        return ApiError(f"Invalid URL ({request.method} {request.path[:200]}): {expected}", status=404,
                        type="invalid_request_error")

    def _needs_key(self, path: str) -> bool:
        """Whether what is at this path needs a key; what is not there counts as if it did."""
        try:
            return self._routes.match(SLASHES.sub("/", path), "GET")[0] not in OPEN
        except HTTPException:
            return True

    def _dialect(self, path: str, request: ApiRequest) -> Dialect:
        """The one whose path this is or begins with; on other paths the one whose header came."""
        known = next((dialect for dialect in self._dialects
                      if dialect.headers and dialect.headers[0] in request.headers), DEFAULT)
        return next((dialect for dialect in self._dialects
                     for own in (*dialect.paths, *(path for route in dialect.routes for path in route.paths))
                     if path == own or path.startswith(own.partition("<")[0].rstrip("/") + "/")), known)


def _shorter(path: str, found: str) -> str:
    base = path.rstrip("/").removesuffix(found)
    drop = f": drop {base:.100} from it" if base + found == path.rstrip("/") else ""
    return f"expected {found:.200}, the base URL is too long{drop}"


def _authorize(request: ApiRequest, service: Service) -> Caller:
    """Raises InvalidKey, or ApiError 403 for a key that is not for this caller."""
    environ = request.environ
    authorization = environ.get("HTTP_AUTHORIZATION", "")
    caller = service.keys.identify([
        authorization[7:].strip() if authorization[:7].lower() == "bearer " else "",
        environ.get("HTTP_X_API_KEY", ""), environ.get("HTTP_API_KEY", "")])
    if caller.development and not development.may_use(environ):
        raise ApiError("The key 0000 of the development start is only for programs of the user who started it, "
                       "and for its own page: set API_KEY to a key of your own", status=403,
                       type="invalid_request_error", code="default_key")
    return caller


def _refused(request: ApiRequest, error: ApiError) -> Response:
    request.record.error = error
    status, body, headers = request.dialect.error(error, request.record.id)
    return json_response(body, {**error.headers(), **headers}, status)


def _headers(request: ApiRequest, response: Response, service: Service) -> list[tuple[str, str]]:
    """What every reply carries beside the headers of its own."""
    record = request.record
    timing = ", ".join(f"{name};dur={1000 * seconds:.1f}" for name, seconds in (
        ("queue", record.queued), ("upstream", record.opened and record.opened - record.started),
        ("total", record.clock() - record.started)) if seconds is not None)
    headers = [(name, record.id) for name in {"x-request-id": 1, request.dialect.id_header: 1}]
    headers += [("Server-Timing", timing), ("x-cursor2api-upstream", service.config.upstream_in_use or "none")]
    if "Cache-Control" not in response.headers:
        headers.append(("Cache-Control", "no-cache"))
    return headers


def _cross_origin(request: ApiRequest, dialects: Sequence[Dialect]) -> list[tuple[str, str]]:
    """What lets pages of other origins ask."""
    exposed = dict.fromkeys([*EXPOSED, *(dialect.id_header for dialect in dialects)])
    headers = [("Access-Control-Allow-Origin", "*"), ("Access-Control-Expose-Headers", ", ".join(exposed))]
    if request.method == "OPTIONS":
        asked = request.headers.get("Access-Control-Request-Headers", "")
        headers += [("Access-Control-Allow-Methods", "GET, HEAD, POST, DELETE, OPTIONS"),
                    ("Access-Control-Allow-Headers", asked if HEADER_NAMES.fullmatch(asked) else (
                        ", ".join([*ALLOWED, *(name for dialect in dialects for name in dialect.headers)]))),
                    ("Access-Control-Max-Age", "86400"), ("Vary", "Access-Control-Request-Headers")]
    return headers


def _note(record: RequestRecord, status: int, service: Service) -> None:
    """The one log line of a request that is over, and its counts."""
    error, reply = record.error, record.queued is not None
    if error is None:
        closed_by, why = ("gateway", "complete") if record.whole or not reply else ("caller", "left")
    else:
        closed_by = "upstream" if isinstance(error, UpstreamError) else (
            "caller" if error.status < 500 else "gateway")
        why = error.code or type(error).__name__
    if isinstance(error, KeyRefused) and reply:
        service.models.doubt()
    level = logging.DEBUG if record.route in QUIET and status < 400 else logging.INFO
    log.log(level, "request", extra={"facts": {
        "id": record.id, "route": record.route, "key": record.key, "status": status,
        "model": record.model, "agent": record.agent, "queue_ms": _ms(record.queued),
        "first_ms": _ms(record.first and record.first - record.started),
        "duration_ms": _ms(record.clock() - record.started),
        **({"deltas": record.deltas, "heartbeats": record.heartbeats} if reply else {}),
        "prompt_tokens": record.usage and record.usage.prompt_tokens,
        "completion_tokens": record.usage and record.usage.completion_tokens,
        "finish": ",".join(record.finishes) or None, "closed_by": closed_by, "why": why}})
    service.metrics.count(record, status, closed_by, why)
    record.error = None  # its traceback holds what came with the request, and that holds the record


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(1000 * seconds, 1)
