"""The WSGI application: one URL map whose endpoints are plain functions of (request, service).

Here the clock is read and ids are made; an ApiError that is raised is the answer.
"""

import hmac
import json
import logging
import re
import secrets
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from urllib.parse import unquote

from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound, RequestEntityTooLarge
from werkzeug.routing import Map, Rule
from werkzeug.utils import cached_property
from werkzeug.wrappers import Request as WerkzeugRequest
from werkzeug.wrappers import Response

from . import sse
from .chat import parse
from .config import Config
from .encode import Head, chunks, completion
from .errors import ApiError, InternalError, InvalidKey
from .events import Note
from .models import MAX_TOKENS, THINKING, Models
from .prompt import plan
from .reply import Terms, reply, side_by_side

log = logging.getLogger("cursor2api")

REQUEST_ID = re.compile(r"[\w.:/+=-]{1,128}")
HEADER_NAMES = re.compile(r"[\w ,-]{1,1000}")
LOOPBACK = ("127.", "::1", "::ffff:127.")
FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Real-IP", "Via")


class Request(WerkzeugRequest):

    @cached_property
    def id(self) -> str:
        """The caller's own, or one that is made."""
        given = self.headers.get("x-request-id", "")
        return given if REQUEST_ID.fullmatch(given) else f"req_{secrets.token_hex(12)}"


@dataclass(frozen=True)
class Service:
    """What the endpoints work with; `upstream` is None while none is configured."""

    config: Config
    upstream: object | None
    models: Models | None
    page: str

    def close(self) -> None:
        """Returns when nothing of ours is left running upstream."""
        if self.upstream:
            self.upstream.close()


def health(request: Request, service: Service) -> Response:
    return _json({"status": "ok", "timestamp": int(time.time())})


def page(request: Request, service: Service) -> Response:
    return Response(service.page, mimetype="text/html")


def list_models(request: Request, service: Service) -> Response:
    return _json({"object": "list", "data": _model_objects(service)})


def get_model(request: Request, service: Service, model: str) -> Response:
    name = unquote(model)
    for item in _model_objects(service):
        if item["id"] == name:
            return _json(item)
    raise ApiError(f"The model {name!r} does not exist", status=404, type="invalid_request_error",
                   code="model_not_found", param="model")


def chat_completions(request: Request, service: Service) -> Response:
    config = service.config
    chat = parse(_body(request), max_n=config.max_n, strict_params=config.strict_params)
    upstream = _upstream(service)
    choice = service.models.choose(chat.model, chat.reasoning_effort)
    made = plan(chat, choice.model.id, choice.params, secrets.token_hex(4),
                inject=config.system_prompt_inject, max_length=config.max_input_length,
                think=choice.think, require_call=config.kilo_tool_strict)
    head = Head(f"chatcmpl-{secrets.token_hex(12)}", int(time.time()), choice.model.id,
                chat.functions)
    ignored = chat.ignored + (("reasoning_effort",) if (
        chat.reasoning_effort and not choice.effort_used) else ())
    headers = {"x-cursor2api-ignored": ", ".join(ignored)} if ignored else {}
    if made.left_out:
        headers["x-cursor2api-left-out"] = f"{made.left_out} messages"

    terms = Terms(hold=not chat.stream, expose_thinking=config.expose_thinking,
                  whole_calls=config.tool_streaming == "whole",
                  insist_on_call=config.kilo_tool_strict)
    with ExitStack() as stack:
        streams = [upstream.open(made) for _ in range(chat.n)]
        for stream in streams:
            stack.callback(stream.close)
        replies = [reply(stream, chat, made, terms, new_call_id, partial(_log_note, request.id))
                   for stream in streams]
        pairs = side_by_side(replies, lambda index: streams[index].close())
        if not chat.stream:
            return _completion(request, completion(pairs, head, count=chat.n), headers)
        with ThreadPoolExecutor(chat.n) as pool:
            list(pool.map(lambda stream: stream.wait(config.first_byte_s), streams))
        body = sse.encode(
            chunks(pairs, head, count=chat.n, include_usage=chat.include_usage),
            sse.data(head.heartbeat(chat.include_usage)), config.heartbeat_s, time.monotonic)
        response = Response(body, mimetype="text/event-stream", headers={
            **headers, "x-cursor2api-usage": "in-stream", "Cache-Control": "no-cache",
            "X-Accel-Buffering": "no"})
        response.call_on_close(stack.pop_all().close)
        return response


URLS = Map([
    Rule("/", endpoint=page, methods=["GET"]),
    Rule("/health", endpoint=health, methods=["GET"]),
    *(Rule(prefix + path, endpoint=endpoint, methods=[method])
      for prefix in ("", "/v1")
      for path, endpoint, method in (
          ("/models", list_models, "GET"),
          ("/models/<path:model>", get_model, "GET"),
          ("/chat/completions", chat_completions, "POST"))),
], strict_slashes=False)
OPEN = {page, health}  # endpoints that need no key


class App:
    """The WSGI callable; `service` is open for whoever starts and stops the process."""

    def __init__(self, service: Service):
        self.service = service

    def __call__(self, environ, start_response):
        request = Request(environ)
        request.max_content_length = self.service.config.max_body_bytes
        response = self._dispatch(request)
        _finish(request, response, self.service)
        return response(environ, start_response)

    def _dispatch(self, request: Request) -> Response:
        adapter = URLS.bind_to_environ(request.environ)
        try:
            if request.method == "OPTIONS":
                return Response(status=204)
            endpoint, values = adapter.match()
            if endpoint not in OPEN:
                _authorize(request, self.service.config)
            return endpoint(request, self.service, **values)
        except ApiError as error:
            return _error(error)
        except NotFound:
            return _error(ApiError(
                f"Invalid URL ({request.method} {request.path[:200]}): expected one of /health, "
                "/v1/models, /v1/models/{id}, /v1/chat/completions", status=404,
                type="invalid_request_error"))
        except MethodNotAllowed as error:
            allowed = ", ".join(sorted({*error.valid_methods, "OPTIONS"}))
            return _error(ApiError(
                f"{request.method} is not allowed here: expected {allowed}", status=405,
                type="invalid_request_error", code="method_not_supported",
                headers={"Allow": allowed}))
        except HTTPException as error:
            return _error(ApiError(error.description, status=error.code,
                                   type="invalid_request_error"))
        except Exception:
            log.exception("a fault in %s %s", request.method, request.path)
            return _error(InternalError())


def new_call_id() -> str:
    """An id for a tool call: `call_` and 24 random characters."""
    return f"call_{secrets.token_hex(12)}"


def _log_note(request_id: str, note: Note) -> None:
    log.info('request=%s tool=%s call=%s why="%s"', request_id, note.name or "-", note.id or "-", note.why)


def _completion(request: Request, fold, headers: dict[str, str]) -> Response:
    """Runs a fold to its end, unless the caller leaves: then what runs upstream is ended."""
    while True:
        try:
            next(fold)
        except StopIteration as end:
            source = end.value["usage"]["source"]
            return _json(end.value, {**headers, "x-cursor2api-usage": source})
        if _gone(request):
            raise ApiError("The caller has left", status=499, type="invalid_request_error")


def _gone(request: Request) -> bool:
    """Whether the caller has closed its connection; only gunicorn lets us look."""
    connection = request.environ.get("gunicorn.socket")
    if connection is None:
        return False
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def _authorize(request: Request, config: Config) -> None:
    """Raises InvalidKey without a key of ours; the default key is good on this machine only."""
    authorization = request.headers.get("Authorization", "")
    given = [authorization[7:].strip() if authorization[:7].lower() == "bearer " else "",
             request.headers.get("x-api-key", ""), request.headers.get("api-key", "")]
    if not any(given):
        raise InvalidKey("Invalid API key: none came with the request; send Authorization: Bearer KEY")
    # Every pair is compared, so that the time says nothing.
    matches = [key for key in config.api_key for candidate in given
               if hmac.compare_digest(candidate.encode(), key.encode())]
    if not matches:
        raise InvalidKey("Invalid API key")
    if matches == ["0000"] and (not (request.remote_addr or "").startswith(LOOPBACK)
                                or any(name in request.headers for name in FORWARDED)):
        raise ApiError("The default key 0000 is served to this machine only: set API_KEY to a key of "
                       "your own", status=403, type="invalid_request_error", code="default_key")


def _body(request: Request) -> bytes:
    kind = request.mimetype
    if kind and kind != "application/json" and not kind.endswith("+json"):
        raise ApiError(f"Content-Type: expected application/json, got {kind[:60]}", status=415,
                       type="invalid_request_error")
    try:
        return request.get_data(cache=False)
    except RequestEntityTooLarge:
        raise ApiError("The body is too large: expected at most "
                       f"{request.max_content_length} bytes", status=413,
                       type="invalid_request_error") from None


def _upstream(service: Service):
    if service.upstream is None:
        raise ApiError("No upstream is configured: set CURSOR_API_KEY (or UISTREAM_URL) and start again",
                       status=503, code="upstream_not_configured")
    return service.upstream


def _model_objects(service: Service) -> list[dict]:
    _upstream(service)
    return [{"id": model.id + suffix, "object": "model", "created": service.models.created,
             "owned_by": "cursor2api", "max_tokens": MAX_TOKENS,
             "context_window": model.context_window}
            for model in service.models.all() for suffix in ("", THINKING)]


def _json(value: dict, headers: dict[str, str] | None = None, status: int = 200) -> Response:
    return Response(json.dumps(value), status, headers, mimetype="application/json")


def _error(error: ApiError) -> Response:
    return _json(error.body(), error.headers(), error.status)


def _finish(request: Request, response: Response, service: Service) -> None:
    """What every reply carries."""
    headers = response.headers
    headers["x-request-id"] = request.id
    headers["x-cursor2api-upstream"] = service.config.upstream_in_use or "none"
    headers["Access-Control-Allow-Origin"] = "*"
    headers["Access-Control-Expose-Headers"] = (
        "x-request-id, x-should-retry, retry-after, x-cursor2api-upstream, x-cursor2api-ignored, "
        "x-cursor2api-left-out, x-cursor2api-usage")
    if request.method == "OPTIONS":
        asked = request.headers.get("Access-Control-Request-Headers", "")
        headers["Access-Control-Allow-Methods"] = "GET, HEAD, POST, OPTIONS"
        headers["Access-Control-Allow-Headers"] = asked if HEADER_NAMES.fullmatch(asked) else (
            "authorization, content-type, x-api-key, api-key, x-request-id")
        headers["Access-Control-Max-Age"] = "86400"
        headers["Vary"] = "Access-Control-Request-Headers"
