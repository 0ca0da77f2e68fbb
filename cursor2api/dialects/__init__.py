"""A dialect: one wire format between a caller and us, whole in one file or one folder of this room.

`server/serve.py` takes every chat the same way. It asks the dialect to `parse` the body, for the `writer` of the
reply, which says what to write of each event, of silence and of the end, and for the `error` of a refusal.
What else an API has beside its chats is a Route. To add a dialect, write its file and name it in served.py; no
other line may have to know which one it serves.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from ..chat import Chat
from ..errors import ApiError
from ..events import Event, Usage
from ..fold import ReplySoFar
from .checks import Parameter


class Store(Protocol):
    """Where a dialect keeps what later requests ask for; a value may be forgotten before its time."""

    def get(self, key: str) -> bytes | None:
        """The value of a key; None if there is none any more."""

    def put(self, key: str, value: bytes, seconds: float) -> None:
        """Keeps a value for some time. Never raises."""

    def delete(self, key: str) -> None:
        """Forgets a value."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the operator's settings say of requests; `caller` is the name of the caller's key. Without a `store`
    nothing is kept, with one for `store_s` seconds. `headers` are those of Dialect.headers that came."""

    max_n: int = 4
    strict_params: bool = False  # refuse what would only be reported as ignored
    caller: str = ""
    store: Store | None = None
    store_s: float = 3600
    headers: Mapping[str, str] = field(default_factory=dict)


class Parsed(NamedTuple):
    """A request, read. `wishes` are what only its dialect's writer needs to know; `ignored` names the
    parameters that were asked for and have no effect."""

    chat: Chat
    wishes: object = None
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Identity:
    """What is known of a reply before its first event: `token` is for its id, `created` in unix seconds,
    `request` the request's id, `prompt_tokens` an estimate; `now` gives the time in unix seconds.
    `system_fingerprint` is equal as long as a model is asked in the same way."""

    token: str
    created: int
    model: str
    request: str = ""
    prompt_tokens: int = 0
    now: Callable[[], float] = lambda: 0.0
    system_fingerprint: str = ""


class Frame(NamedTuple):
    """One server-sent event: `data` is of one line; without an `event` the frame has no event line."""

    data: str
    event: str = ""


class Writer(Protocol):
    """One reply on the wire. `begin`, `add` for each event, and `end` are its stream; a stream that fails
    ends with `fail` instead. `body` is the same reply in one piece."""

    def begin(self) -> list[Frame]:
        """What leaves at once, before the first event."""

    def add(self, index: int, event: Event) -> list[Frame]:
        """What a choice's next event becomes; the event is never Waiting."""

    def end(self, usage: Usage) -> list[Frame]:
        """What follows the last event; `usage` is that of all choices."""

    def fail(self, error: ApiError) -> list[Frame]:
        """What ends the stream instead, at any time."""

    def heartbeat(self) -> Frame:
        """A frame that says nothing, for a caller who would take silence for the end."""

    def body(self, replies: Sequence[ReplySoFar], usage: Usage) -> dict:
        """The reply of all choices, each with its Finish."""


class Answer(NamedTuple):
    """An HTTP answer that is no reply: its `headers` are beside those that every answer has."""

    status: int
    body: dict
    headers: dict[str, str] = {}


def openai_error(error: ApiError, request: str) -> Answer:
    """A refusal as both of OpenAI's APIs have it; the id of the request is in a header alone."""
    return Answer(error.status, {"error": {"message": error.message, "type": error.type,
                                           "param": error.param, "code": error.code}})


class Asked(NamedTuple):
    """What a Route answers. `body` is {} where there is none, `values` are those in the path, `query` those after
    `?`; `caller` is the name of the caller's key; `prompt_tokens` estimates those of a chat's prompt."""

    body: dict
    values: dict[str, str]
    query: dict[str, str]
    caller: str
    options: Options
    prompt_tokens: Callable[[Chat], int]


class Route(NamedTuple):
    """An endpoint of a dialect that is no chat. The log and the metrics know it by its `name`; `paths` begins with
    the one that is documented. `answer` may raise ApiError."""

    name: str
    method: str
    paths: tuple[str, ...]
    what: str
    answer: Callable[[Asked], Answer]


class ModelForm(NamedTuple):
    """How a dialect tells of models: `one` of a model as OpenAI's API has it, `page` of them all and the query.
    Both may raise ApiError."""

    one: Callable[[dict], dict]
    page: Callable[[list[dict], dict[str, str]], dict]


class Example(NamedTuple):
    """A reply for the documentation: to the request `body`, when the upstream says `events` and then fails
    with `error` if there is one."""

    name: str
    body: dict
    events: tuple[Event, ...]
    error: ApiError | None = None


@dataclass(frozen=True, eq=False)
class Dialect:
    """`name` is in the log and the metrics, `what` in the documentation; `paths` begins with the one that is
    documented. `error` takes the id of the request that is refused; `id_header` is the header of an answer that
    names that id. `call_id` begins the ids of tool calls. `effort` is the path of the reasoning effort in a body.
    `fails_in_stream`: whether this failure, before a
    stream's first byte, is told in the stream all the same, behind status 200.

    `headers` are those that its clients send beside the usual ones; a request with the first of them to a path of
    no dialect is answered in this one, and with `models` as its form of /v1/models."""

    name: str
    what: str
    paths: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    parse: Callable[[dict, Options], Parsed]
    writer: Callable[[Identity, Chat, object], Writer]
    error: Callable[[ApiError, str], Answer]
    examples: tuple[Example, ...] = ()
    routes: tuple[Route, ...] = ()
    id_header: str = "x-request-id"
    call_id: str = "call_"
    effort: str = "reasoning_effort"
    headers: tuple[str, ...] = ()
    models: ModelForm | None = None
    fails_in_stream: Callable[[ApiError], bool] = lambda error: False
