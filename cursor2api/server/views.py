"""The endpoints: plain functions of (request, service). An ApiError that is raised is the answer.

Here the clock is read and ids are made.
"""

import json
import logging
import re
import select
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from urllib.parse import unquote

from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request, Response
from werkzeug.wsgi import ClosingIterator

from . import page as site
from . import sse
from ..agents.agents import Turn
from ..chat import Chat, parse
from ..dialects.encode import Identity, chunks, completion
from ..errors import ApiError, BadRequest, InternalError
from ..events import Event, Note
from ..held import token
from .keys import Caller
from .metrics import CONTENT_TYPE
from ..models import MAX_TOKENS, THINKING, Choice
from ..effects.reply import ReplyRules, reply, side_by_side
from .service import Service, not_configured
from .record import RequestRecord

log = logging.getLogger("cursor2api")

UNBUFFERED = {"X-Accel-Buffering": "no"}  # nginx would gather it
SENT_AT_ONCE = 16_000  # bytes for which the system has room: no thread waits for the caller to take them
LARGE = 1_000_000  # bytes of a body whose objects may take 25 times as much: one is parsed at a time


class ApiRequest(Request):
    """A request with what is known of it: whose it is and what is counted."""

    caller: Caller
    record: RequestRecord


class Streamed(Response):
    """A response that is sent as it is made."""

    def get_wsgi_headers(self, environ):
        return self.headers  # no length to be found, no place to be made whole: no copy either

    def get_app_iter(self, environ):
        return ClosingIterator(self.response, self.close)  # it is bytes already


def health(request: ApiRequest, service: Service) -> Response:
    return json_response({"status": "ok", "timestamp": int(time.time())})


def ready(request: ApiRequest, service: Service) -> Response:
    trouble = service.trouble()
    if trouble is None:
        return json_response({"status": "ready"})
    request.record.error = trouble
    return json_response({"status": "not ready", "code": trouble.code, "reason": trouble.message},
                         trouble.headers(), 503)


def page(request: ApiRequest, service: Service) -> Response:
    return site.send(request, service.files, "index.html")


def page_file(request: ApiRequest, service: Service, name: str) -> Response:
    return site.send(request, service.files, name)


def page_data(request: ApiRequest, service: Service) -> Response:
    return site.send(request, service.files, "reference.json")


def openapi(request: ApiRequest, service: Service) -> Response:
    return site.send(request, service.files, "openapi.json")


def metrics(request: ApiRequest, service: Service) -> Response:
    if request.caller.upstream_key:
        raise ApiError("The metrics are for this service's own keys", status=403,
                       type="invalid_request_error", code="own_key_required")
    return Response(service.metrics.text(), content_type=CONTENT_TYPE)


def list_models(request: ApiRequest, service: Service) -> Response:
    return json_response({"object": "list", "data": _model_objects(request, service)})


def get_model(request: ApiRequest, service: Service, model: str) -> Response:
    name = unquote(model)
    for item in _model_objects(request, service):
        if item["id"] == name:
            return json_response(item)
    raise ApiError(f"The model {name!r} does not exist", status=404, type="invalid_request_error",
                   code="model_not_found", param="model")


def chat_completions(request: ApiRequest, service: Service) -> Response:
    config, caller, record = service.config, request.caller, request.record
    service.keys.count(caller)
    body = _body(request)
    with service.parsing if len(body) > LARGE else nullcontext():
        chat = parse(body, max_n=config.max_n, strict_params=config.strict_params)
    del body
    watch = Watch(request, service)
    _upstream(request, service)
    with ExitStack() as stack:
        stack.enter_context(service.keys.streams(caller, chat.n))
        record.queued = stack.enter_context(_slots(service, chat.n, watch.look))
        choice = service.models.choose(chat.model, chat.reasoning_effort, caller.upstream_key)
        record.model = choice.model.id
        service.keys.allow(caller, choice.model.id)
        head = Identity(f"chatcmpl-{token()}", int(time.time()), choice.model.id,
                    chat.functions)
        terms = ReplyRules(hold=not chat.stream, expose_thinking=config.expose_thinking,
                      whole_calls=config.tool_streaming == "whole",
                      insist_on_call=config.kilo_tool_strict)
        turn = service.agents.open(chat, choice, caller, token()[:8])
        streams = turn.streams
        for stream in streams:
            stack.callback(stream.close)
        note = partial(_log_note, record.id)
        replies = [reply(stream, chat, turn.plan, terms, new_call_id, note, turn.keep(index))
                   for index, stream in enumerate(streams)]
        if config.debug_content:
            log.info("prompt", extra={"facts": {"id": record.id, "content": streams[0].plan.prompt}})
            replies = [_noted(each, record.id) for each in replies]
        pairs = side_by_side(replies, lambda index: streams[index].close())
        stack.callback(pairs.close)

        def headers(usage: str) -> dict[str, str]:
            return _reply_headers(chat, choice, turn, record, usage)

        if not chat.stream:
            texts = watch.over(completion(pairs, head, record, count=chat.n))
            return _body_response(texts, record, headers, config.body_heartbeat_s, stack)
        watch.wait(streams, config.first_byte_s)
        record.opened = record.clock()
        texts = watch.over(chunks(pairs, head, record, count=chat.n, include_usage=chat.include_usage))
        heartbeat = {"chunk": sse.data(head.heartbeat(chat.include_usage)), "comment": sse.COMMENT,
                     "off": b""}[config.heartbeat]
        return _until_closed(stack, Streamed(
            sse.encode(texts, heartbeat, config.heartbeat_s, record), mimetype="text/event-stream",
            headers={**headers("in-stream"), **UNBUFFERED}))


URLS = Map([
    Rule("/", endpoint=page, methods=["GET"]),
    Rule("/static/<name>", endpoint=page_file, methods=["GET"]),
    Rule("/reference.json", endpoint=page_data, methods=["GET"]),
    Rule("/openapi.json", endpoint=openapi, methods=["GET"]),
    Rule("/health", endpoint=health, methods=["GET"]),
    Rule("/ready", endpoint=ready, methods=["GET"]),
    Rule("/metrics", endpoint=metrics, methods=["GET"]),
    *(Rule(prefix + path, endpoint=endpoint, methods=[method])
      for prefix in ("", "/v1")
      for path, endpoint, method in (
          ("/models", list_models, "GET"),
          ("/models/<path:model>", get_model, "GET"),
          ("/chat/completions", chat_completions, "POST"))),
], strict_slashes=False, merge_slashes=False)
OPEN = {page, page_file, page_data, openapi, health, ready}  # endpoints that need no key
WHAT = {
    page: "The page that shows what this is and lets one try it",
    page_file: "A file of the page",
    page_data: "What the page shows of the service: routes, parameters, errors, settings, version",
    openapi: "The API as an OpenAPI 3.1 document",
    health: '`{"status": "ok", "timestamp": 1795393051}`; waits for nobody',
    ready: "200 when there are models and Cursor has not refused the key, else 503 with the reason",
    metrics: "Counts in the Prometheus text format",
    list_models: "The models",
    get_model: "One model",
    chat_completions: 'A completion, or chunks with `"stream": true`',
}  # what each endpoint answers


def routes() -> list[dict]:
    """The URL map as data: {"method", "path", "key", "what"}, without the twins that lack /v1."""
    rules = {rule.rule: rule for rule in URLS.iter_rules()}
    return [{"method": min(rule.methods - {"HEAD"}), "path": re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", path),
             "key": rule.endpoint not in OPEN, "what": WHAT[rule.endpoint]}
            for path, rule in rules.items() if "/v1" + path not in rules]


class Watch:
    """Ends a reply whose caller has left, whose time is up or whose service is stopping."""

    EVERY_S = 0.5
    LEFT = getattr(select, "POLLRDHUP", select.POLLHUP) | select.POLLHUP | select.POLLERR

    def __init__(self, request: ApiRequest, service: Service):
        connection = request.environ.get("gunicorn.socket")  # only gunicorn lets us look
        self._caller = select.poll()
        if connection:
            self._caller.register(connection, self.LEFT)  # a byte that nobody reads would hide it from a recv
        self._tally, self._service = request.record, service
        self._next = self._tally.started + self.EVERY_S

    def wait(self, streams: Sequence, seconds: float) -> None:
        """Until the upstream has said yes to all, or for so long. Raises its refusal or another ApiError."""
        end = self._tally.clock() + seconds

        def wait(stream) -> None:
            nonlocal end
            try:
                while (left := end - self._tally.clock()) > 0 and not stream.wait(min(left, self.EVERY_S)):
                    self.look()
            except BaseException:
                end = 0.0  # of the others' waits
                raise

        if len(streams) == 1:
            wait(streams[0])
            return
        with ThreadPoolExecutor(len(streams)) as pool:
            waits = [pool.submit(wait, stream) for stream in streams]
            for each in as_completed(waits):
                each.result()

    def over(self, texts: Iterator[str]) -> Iterator[str]:
        """Passes on an encoder's texts; looks when nothing more is at hand. Raises ApiError."""
        record = self._tally
        try:
            for text in texts:
                if not text:
                    self.look()
                yield text
            record.whole = True
        except ApiError as error:
            record.error = error
            raise
        except Exception:
            record.error = InternalError()
            raise

    def look(self) -> None:
        now = self._tally.clock()
        if now < self._next:
            return
        self._next = now + self.EVERY_S
        self._service.check(now - self._tally.started)
        if self._caller.poll(0):
            raise ApiError("The caller has left", status=499, type="invalid_request_error", code="caller_left")


def new_call_id() -> str:
    """An id for a tool call: `call_` and 24 random characters."""
    return f"call_{token()}"


def json_response(value: dict, headers: dict[str, str] | None = None, status: int = 200) -> Response:
    return Response(json.dumps(value), status, headers, mimetype="application/json")


def _log_note(id: str, note: Note) -> None:
    log.info("tool call", extra={"facts": {"id": id, "tool": note.name, "call": note.id, "why": note.why}})


def _reply_headers(chat: Chat, choice: Choice, turn: Turn, record: RequestRecord, usage: str) -> dict[str, str]:
    """What is known of a reply when its headers leave."""
    record.agent = turn.streams[0].kind
    headers = {"x-cursor2api-agent": record.agent, "x-cursor2api-usage": usage}
    unused = ("reasoning_effort",) if chat.reasoning_effort and not choice.effort_used else ()
    if ignored := chat.ignored + unused:
        headers["x-cursor2api-ignored"] = ", ".join(ignored)
    if left_out := turn.streams[0].plan.left_out:
        headers["x-cursor2api-left-out"] = f"{left_out} messages"
    return headers


def _body_response(texts: Iterator[str], record: RequestRecord, headers: Callable[[str], dict[str, str]],
                   every: float, stack: ExitStack) -> Response:
    """The one text that is not empty; after `every` seconds without it the response starts anyway."""
    deadline = record.clock() + every
    while not (text := next(texts)) and not (every and record.clock() >= deadline):
        pass
    if text:
        next(texts, None)
        response = Response(text, mimetype="application/json", headers=headers(record.usage["source"]))
        return response if len(text) < SENT_AT_ONCE else _until_closed(stack, response)
    return _until_closed(stack, Streamed(
        sse.body(texts, every, record), mimetype="application/json",
        headers={**headers("in-body"), **UNBUFFERED}))


def _until_closed(stack: ExitStack, response: Response) -> Response:
    """The response; what `stack` holds is let go when it has been sent."""
    response.call_on_close(stack.pop_all().close)
    return response


@contextmanager
def _slots(service: Service, count: int, look: Callable[[], None] = lambda: None) -> Iterator[float]:
    """Holds slots; gives the seconds that were waited for them."""
    queued = service.slots.take(count, service.config.queue_s, look)
    service.metrics.slot(count)
    try:
        yield queued
    finally:
        service.slots.give(count)
        service.metrics.slot(-count)


def _noted(events: Iterator[Event], id: str) -> Iterator[Event]:
    said = []
    for event in events:
        said.append(getattr(event, "text", None) or getattr(event, "arguments", ""))
        yield event
    log.info("reply", extra={"facts": {"id": id, "content": "".join(said)}})


def _body(request: ApiRequest) -> bytes:
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


def _upstream(request: ApiRequest, service: Service):
    if service.upstream is None or not (service.config.cursor_api_key or request.caller.upstream_key
                                        or service.upstream.name == "uistream"):
        raise not_configured()
    return service.upstream


def _model_objects(request: ApiRequest, service: Service) -> list[dict]:
    _upstream(request, service)
    key = request.caller.upstream_key
    allowed = service.keys.limit(request.caller).models
    with _slots(service, 1) if service.models.waits(key) else nullcontext():
        models = service.models.all(key)
    return [{"id": model.id + suffix, "object": "model", "created": service.models.created,
             "owned_by": "cursor2api", "max_tokens": MAX_TOKENS,
             "context_window": model.context_window}
            for model in models if allowed is None or model.id in allowed
            for suffix in ("", THINKING)]
