"""The only path of a chat, in every dialect: its body is parsed, its replies are opened, and their events leave
as a stream or as one body. What is refused before the first byte is raised as an ApiError.
"""

import json
import logging
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from textwrap import shorten

from werkzeug.wrappers import Response
from werkzeug.wsgi import ClosingIterator

from . import sse
from ..agents.agents import prompt_tokens
from ..agents.conversation import Conversation
from ..chat import Chat
from ..dialects import Asked, Dialect, Identity, Options, Parsed, Route, Writer
from ..dialects.checks import load
from ..effects.reply import ReplyRules, reply, side_by_side
from ..errors import ApiError
from ..events import Event, Note, Waiting
from ..fold import ReplySoFar
from ..models import Choice
from ..state.store import Space
from .deadline import Deadline
from .record import RequestRecord
from .replay import Replay, system_fingerprint
from .request import ApiRequest, json_response, read_body
from .service import Service

log = logging.getLogger("cursor2api")

UNBUFFERED = {"X-Accel-Buffering": "no"}  # nginx would gather it
LONGEST_HEADER = 1000  # characters: proxies have room for some 4,000 in all
SENT_AT_ONCE = 16_000  # bytes for which the system has room: no thread waits for the caller to take them

Headers = Callable[[str], dict[str, str]]  # those of a reply, by what x-cursor2api-usage shall say


class Streamed(Response):
    """A response that is sent as it is made."""

    def get_wsgi_headers(self, environ):
        return self.headers  # no length to be found, no place to be made whole: no copy either

    def get_app_iter(self, environ):
        return ClosingIterator(self.response, self.close)  # it is bytes already


def serve(dialect: Dialect, request: ApiRequest, service: Service) -> Response:
    """The answer to a chat. Raises ApiError."""
    record = request.record
    service.keys.count(request.caller)
    deadline = Deadline(request, service)
    body = read_body(request)
    with service.parsing(len(body), deadline.look):
        parsed = dialect.parse(load(body), _options(request, service))
    del body
    try:
        return _reply(dialect, parsed, request, service, deadline)
    except ApiError as error:
        if not (parsed.chat.stream and dialect.fails_in_stream(error)):
            raise
        record.error = error
        writer = dialect.writer(_identity(parsed.chat.model, record.id), parsed.chat, parsed.wishes)
        return Response(sse.encode([*writer.begin(), *writer.fail(error)]), mimetype="text/event-stream")


def _reply(dialect: Dialect, parsed: Parsed, request: ApiRequest, service: Service,
           deadline: Deadline) -> Response:
    """The reply to a chat. Raises ApiError."""
    config, caller, record = service.config, request.caller, request.record
    chat, wishes, ignored = parsed
    service.check_upstream(caller.upstream_key)
    with ExitStack() as stack:
        stack.enter_context(service.keys.streams(caller, chat.n))
        record.queued = stack.enter_context(service.slot(chat.n, deadline.look))
        choice = service.models.choose(chat.model, chat.reasoning_effort, caller.upstream_key, chat.think,
                                       deadline.look)
        record.model = choice.model.id
        service.keys.allow(caller, choice.model.id)
        replay = _replay(chat, choice, request, service, stack)
        conversations: list[Conversation] = []
        begin = partial(_begin, dialect, chat, choice, request, service, conversations,
                        stack.enter_context(ExitStack()))
        pairs = replay.pairs(begin, deadline.look, config.first_byte_s) if replay else begin()
        pairs = record.counted(deadline.over(pairs), chat.stream)
        identity = _identity(choice.name, record.id, conversations[0].whole.prompt_tokens if conversations else 0)
        if chat.seed:
            identity = replace(identity, system_fingerprint=system_fingerprint(config.upstream_in_use, choice))
        writer = dialect.writer(identity, chat, wishes)
        unused = (dialect.effort,) * bool(chat.reasoning_effort and not choice.effort_used)
        unused += ("seed",) * bool(chat.seed and not replay)
        headers = partial(_headers, conversations, record, ignored + unused)
        if not chat.stream:
            texts = body_text(writer, pairs, chat.n, record)
            return _whole(texts, record, headers, config.body_heartbeat_s, stack,
                          lambda error: dialect.error(error, record.id).body)
        deadline.wait(conversations, config.first_byte_s)
        record.opened = record.clock()
        return _until_closed(stack, Streamed(
            sse.stream(writer, pairs, record, config.heartbeat, config.heartbeat_s),
            mimetype="text/event-stream", headers={**headers("in-stream"), **UNBUFFERED}))


def _begin(dialect: Dialect, chat: Chat, choice: Choice, request: ApiRequest, service: Service,
           conversations: list[Conversation], stack: ExitStack) -> Iterator[tuple[int, Event]]:
    """The pairs of a reply that Cursor is asked for, and its conversations in `conversations`. Raises ApiError."""
    caller, record = request.caller, request.record
    conversations += service.agents.open(chat, choice, caller.name, caller.upstream_key, secrets.token_hex(4))
    record.agent = conversations[0].kind
    for conversation in conversations:
        stack.callback(conversation.end)
    pairs = _replies(conversations, chat, service, record.id, partial(new_call_id, dialect.call_id))
    stack.callback(pairs.close)
    return pairs


def _replay(chat: Chat, choice: Choice, request: ApiRequest, service: Service, stack: ExitStack) -> Replay | None:
    """What equal requests share; None for one without a seed. What a caller's own key pays for is never shared."""
    config, caller = service.config, request.caller
    if not (chat.seed and config.seed_replay_s) or caller.upstream_key:
        return None
    replay = Replay(service.store, config.seed_replay_s, chat, choice, request.record,
                    "no-cache" in str(request.cache_control), caller.name, config.upstream_in_use,
                    config.system_prompt_inject)
    stack.callback(replay.end)
    return replay


def answer(route: Route, request: ApiRequest, service: Service, values: dict[str, str]) -> Response:
    """The answer of a dialect's endpoint that is no chat. Raises ApiError."""
    data = read_body(request) if request.method == "POST" else b""
    with service.parsing(len(data), Deadline(request, service).look):
        status, body, headers = route.answer(Asked(
            load(data) if data else {}, values, request.args.to_dict(), request.caller.name,
            _options(request, service), partial(_prompt_tokens, service, request.caller.upstream_key)))
    return json_response(body, headers, status)


def _prompt_tokens(service: Service, key: str, chat: Chat) -> int:
    """The estimate that a reply's Identity would have; the list of models is not waited for, and a chat may name
    no model. Raises ApiError."""
    models, think = service.models, False
    if chat.model and models is not None and not models.waits(key):
        think = models.choose(chat.model, key=key).think
    return prompt_tokens(service.config, chat, think)


def _options(request: ApiRequest, service: Service) -> Options:
    config = service.config
    store = Space(service.store, "responses", config.responses_mb * 1_000_000) if config.responses_s else None
    headers = {name: request.headers[name] for name in request.dialect.headers if name in request.headers}
    return Options(config.max_n, config.strict_params, request.caller.name, store, config.responses_s, headers)


def _identity(model: str, request: str, prompt_tokens: int = 0) -> Identity:
    return Identity(secrets.token_hex(12), int(time.time()), model, request, prompt_tokens, time.time)


def _replies(conversations: list[Conversation], chat: Chat, service: Service, id: str,
             new_id: Callable[[], str]) -> Iterator[tuple[int, Event]]:
    """The (index of the choice, event) pairs of all choices."""
    config = service.config
    rules = ReplyRules(hold=not chat.stream, expose_thinking=config.expose_thinking,
                       whole_calls=config.tool_streaming == "whole",
                       insist_on_call=config.kilo_tool_strict)
    replies = [reply(conversation, chat, conversation.whole, rules, new_id, partial(_log_note, id),
                     conversation.keep)
               for conversation in conversations]
    if config.debug_content:
        log.info("prompt", extra={"facts": {"id": id, "content": conversations[0].prompt.text}})
        replies = [_logged(each, id) for each in replies]
    return side_by_side(replies)


def new_call_id(prefix: str) -> str:
    """An id for a tool call: 24 random characters behind the dialect's prefix."""
    return f"{prefix}{secrets.token_hex(12)}"


def _log_note(id: str, note: Note) -> None:
    log.info("tool call", extra={"facts": {"id": id, "tool": note.name, "call": note.id, "why": note.why}})


def _logged(events: Iterable[Event], id: str) -> Iterator[Event]:
    said = []
    for event in events:
        said.append(getattr(event, "text", None) or getattr(event, "arguments", ""))
        yield event
    log.info("reply", extra={"facts": {"id": id, "content": "".join(said)}})


def _headers(conversations: list[Conversation], record: RequestRecord, ignored: tuple[str, ...],
             usage: str) -> dict[str, str]:
    """What is known of a reply when its headers leave: another agent may have taken over from the first."""
    if conversations:
        record.agent = conversations[0].kind
    headers = {"x-cursor2api-usage": usage}
    if record.agent:
        headers["x-cursor2api-agent"] = record.agent
    if ignored:
        headers["x-cursor2api-ignored"] = shorten(", ".join(ignored), LONGEST_HEADER, placeholder=" ...")
    if left_out := [f"{count} {what}" for conversation in conversations[:1] for count, what in (
            (conversation.prompt.left_out, "messages"), (conversation.prompt.images_left_out, "images")) if count]:
        headers["x-cursor2api-left-out"] = ", ".join(left_out)
    return headers


def body_text(writer: Writer, pairs: Iterable[tuple[int, Event]], n: int,
              record: RequestRecord) -> Iterator[str]:
    """The reply as one JSON text; an empty text before it stands for each Waiting."""
    replies = [ReplySoFar() for _ in range(n)]
    for index, event in pairs:
        if type(event) is Waiting:
            yield ""
        else:
            replies[index].add(event)
    text = json.dumps(writer.body(replies, record.usage))
    record.whole = True
    yield text


def _whole(texts: Iterator[str], record: RequestRecord, headers: Headers, every: float, stack: ExitStack,
           refused: Callable) -> Response:
    """The one text that is not empty; after `every` seconds without it the response starts anyway."""
    end = record.clock() + every
    while not (text := next(texts)) and not (every and record.clock() >= end):
        pass
    if text:
        response = Response(text, mimetype="application/json", headers=headers(record.usage.source))
        return response if len(text) < SENT_AT_ONCE else _until_closed(stack, response)
    return _until_closed(stack, Streamed(
        sse.body(texts, record, every, refused), mimetype="application/json",
        headers={**headers("in-body"), **UNBUFFERED}))


def _until_closed(stack: ExitStack, response: Response) -> Response:
    """The response; what `stack` holds is let go when it has been sent."""
    response.call_on_close(stack.pop_all().close)
    return response
