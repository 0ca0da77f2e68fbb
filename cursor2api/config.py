"""The configuration: environment variables, read once at the start into one frozen value.

Every field is one variable, its name in capitals; a bad value is a ConfigError that names it.
"""

import hashlib
import json
import re
import shlex
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from ipaddress import ip_address
from urllib.parse import urlsplit

CURSOR_URL = "https://api.cursor.com"
INSTALL_SDK = f"{sys.executable} -m pip install -r requirements-sdk.txt"
DAY = 86_400  # longer waits than this do not fit all clocks
DEVELOPMENT_KEY = "0000"  # everybody knows it: see server/development.py
# A statement of .env as python-dotenv reads it, or a line without one; quoted values may have several lines.
STATEMENT = re.compile(r"""[ \t]*(?:(?:export[ \t]+)?([^=\s\#'"]+)[ \t]*=[ \t]*
                           (?:"(?:[^"\\]|\\.)*" | '(?:[^'\\]|\\.)*' | (?!["'])[^\n]*)[ \t]*)?
                           (?:\#[^\n]*)?(?:\n|\Z)""", re.VERBOSE | re.DOTALL)


class ConfigError(Exception):
    """The message names the variable, what it may hold and what it held."""


def _text(value: str) -> str:
    return value


def _list(value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip())


def _key(value: str) -> str:
    if not re.fullmatch(r"[!-~]+", value):
        raise ValueError("printable ASCII without spaces")
    return value


def _keys(value: str) -> tuple[tuple[str, str], ...]:
    """(name, key) pairs of NAME:KEY or KEY, whose name is then `digest` of it, in short."""
    pairs = []
    for part in _list(value):
        name, colon, key = part.rpartition(":")
        if colon and not (re.fullmatch(r"[\w.-]{1,64}", name) and key):
            raise ValueError("KEY or NAME:KEY, comma-separated, names of letters, digits, . _ -")
        _key(key)
        pairs.append((name or digest(key)[:8], key))
    if not pairs:
        raise ValueError("at least one key")
    return tuple(pairs)


def digest(key: str) -> str:
    """SHA-256 of a key in hexadecimal."""
    return hashlib.sha256(key.encode()).hexdigest()


@dataclass(frozen=True)
class KeyLimit:
    """What one key may do; None is no limit. `models` are base model ids."""

    requests_per_minute: int | None = None
    streams: int | None = None
    models: tuple[str, ...] | None = None


def _key_limits(value: str) -> tuple[tuple[str, KeyLimit], ...]:
    expected = ('a JSON object such as {"NAME": {"requests_per_minute": 60, "streams": 4, "models": '
                '["ID"]}}; the name * is for all others')
    try:
        rows = {name: KeyLimit(**row) for name, row in json.loads(value).items()}
    except (ValueError, TypeError, AttributeError):
        raise ValueError(expected) from None
    for row in rows.values():
        numbers = row.requests_per_minute, row.streams
        if not all(number is None or type(number) is int and number > 0 for number in numbers) or not (
                row.models is None or isinstance(row.models, list)
                and all(isinstance(id, str) for id in row.models)):
            raise ValueError(expected)
    return tuple((name, replace(row, models=row.models and tuple(row.models)))
                 for name, row in rows.items())


def _pairs(value: str) -> tuple[tuple[str, str], ...]:
    pairs = tuple(tuple(side.strip() for side in part.split("=", 1)) for part in _list(value))
    if any(len(pair) != 2 or not all(pair) for pair in pairs):
        raise ValueError("name=model pairs, comma-separated")
    return pairs


def _flag(value: str) -> bool:
    words = {"1": True, "true": True, "yes": True, "on": True,
             "0": False, "false": False, "no": False, "off": False}
    if value.lower() not in words:
        raise ValueError("true or false")
    return words[value.lower()]


def _number(kind, low, high=None):
    def parse(value: str):
        expected = f"a number of at least {low}" + (f" and at most {high}" if high else "")
        try:
            number = kind(value)
        except ValueError:
            raise ValueError(expected) from None
        if not (number >= low and (high is None or number <= high)):
            raise ValueError(expected)
        return number
    return parse


def _one_of(*words):
    def parse(value: str) -> str:
        if value.lower() not in words:
            raise ValueError(" or ".join(words))
        return value.lower()
    return parse


def _url(value: str) -> str:
    with suppress(ValueError):  # of a port that is no number, and of brackets
        parts = urlsplit(value)
        if re.fullmatch(r"https?://\S*", value) and parts.hostname and parts.port != 0:
            return value
    raise ValueError("an http:// or https:// URL, special characters of a password as %XX")


def _host(value: str) -> str:
    with suppress(ValueError):
        return str(ip_address(value.strip("[]")))
    if not re.fullmatch(r"[A-Za-z][\w.-]*", value):
        raise ValueError("an address or name of this machine, such as 0.0.0.0")
    return value


def _base_url(value: str) -> str:
    return _url(value).rstrip("/")


def _redis_url(value: str) -> str:
    if not re.fullmatch(r"(rediss?|unix)://\S+", value):
        raise ValueError("a redis://, rediss:// or unix:// URL")
    return value


def _command(value: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(value))
    except ValueError:
        raise ValueError("a command as a shell takes it, its quotes closed") from None


def _headers(value: str) -> tuple[tuple[str, str], ...]:
    try:
        headers = json.loads(value)
        pairs = tuple(headers.items())
        if not all(isinstance(side, str) for pair in pairs for side in pair):
            raise ValueError
    except (ValueError, AttributeError):
        raise ValueError('a JSON object of strings, such as {"Authorization": "Bearer ..."}') from None
    return pairs


def _option(default, parse, help, **more):
    return field(default=default, metadata={"parse": parse, "help": help}, **more)


@dataclass(frozen=True)
class Config:
    """All settings. Times are in seconds, sizes in bytes unless the help says otherwise."""

    port: int = _option(8002, _number(int, 0, 65535), "port to listen on")
    host: str = _option(
        "", _host, "address to listen on; unless set, 127.0.0.1 under make run and else 0.0.0.0, which is all of "
        "the machine's addresses")
    web_concurrency: int = _option(1, _number(int, 1, 512), "worker processes")
    threads: int = _option(64, _number(int, 6, 4096), "threads of a worker; a reply holds one")
    api_key: tuple[tuple[str, str], ...] = _option(
        (), _keys, "keys that callers may use, comma-separated, each KEY or NAME:KEY; without it no key is good, "
        "except 0000 under make run, from programs of the same user on the same machine", repr=False)
    api_key_file: str = _option(
        "", _text, "a file of further keys, a line each: NAME and the key's SHA-256 in hexadecimal")
    key_limits: tuple[tuple[str, KeyLimit], ...] = _option(
        (), _key_limits, "limits by key name, a JSON object: {\"NAME\": {\"requests_per_minute\": 60, "
        "\"streams\": 4, \"models\": [\"ID\"]}}; * is for all others; all workers count together")
    key_passthrough: bool = _option(
        False, _flag, "take any other key for the caller's own Cursor key: it is used for that request "
        "and kept nowhere")
    upstream: str = _option(
        "auto", _one_of("auto", "sdk", "cloud", "uistream", "simulator"),
        "what answers: auto, sdk, cloud, uistream or simulator; auto is, with CURSOR_API_KEY or "
        "KEY_PASSTHROUGH, sdk if its package is installed and cloud if not, else uistream with UISTREAM_URL")
    cursor_api_key: str = _option(
        "", _key, "your Cursor API key, for the sdk and cloud upstreams", repr=False)
    cursor_base_url: str = _option(
        CURSOR_URL, _base_url, "where Cursor's API is", repr=False)
    sdk_bridge: tuple[str, ...] = _option(
        (), _command, "the command that starts the SDK's bridge; the one of the package cursor-sdk unless set")
    sdk_user: str = _option(
        "", _text, "user that the bridge runs as when the service is started by root; nobody unless set")
    sdk_idle_s: float = _option(
        600.0, _number(float, 0, DAY), "the bridge is ended, for its memory, when it has had no request for "
        "so long and no agent waits in it; 0 is never")
    uistream_url: str = _option(
        "", _url, "a service that speaks the AI SDK UI message stream; POSTed to as it stands", repr=False)
    uistream_headers: tuple[tuple[str, str], ...] = _option(
        (), _headers, "headers for UISTREAM_URL, a JSON object of strings", repr=False)
    models: tuple[str, ...] = _option(
        (), _list, "base model ids, comma-separated; fixes the list that otherwise comes from Cursor")
    model_aliases: tuple[tuple[str, str], ...] = _option(
        (), _pairs, "further names for models: name=model, comma-separated")
    system_prompt_inject: str = _option("", _text, "text appended to the system text of every chat")
    max_input_length: int = _option(
        200_000, _number(int, 0), "longest prompt in characters; whole turns are left out, oldest "
        "first, to meet it; 0 is no limit")
    expose_thinking: bool = _option(
        False, _flag, "send the model's thinking")
    max_n: int = _option(4, _number(int, 1, 128), "most choices (n) that a request may ask for")
    strict_params: bool = _option(
        False, _flag, "refuse parameters that have no effect instead of reporting them")
    tool_streaming: str = _option(
        "pieces", _one_of("pieces", "whole"), "how a stream has a tool call: in pieces as it is "
        "written, or whole, in one delta after its check, and nothing of one that was cut")
    max_body_bytes: int = _option(
        20_000_000, _number(int, 1), "largest request body")
    request_timeout: float = _option(
        60.0, _number(float, 0.1, DAY), "longest time for a whole request to come in, from the start of its "
        "connection or, if that was kept alive, from its first byte; then the connection ends")
    send_timeout: float = _option(
        60.0, _number(float, 0.1, DAY), "how long a caller may take nothing of its reply; then the reply "
        "ends (Linux)")
    kilo_tool_strict: bool = _option(
        False, _flag, "treat tool_choice auto as required; a reply without a call is asked for once "
        "more, then returned as it is")
    max_streams: int = _option(
        0, _number(int, 0, 4096), "replies that a worker makes at once; 0 is THREADS - 4, so that health "
        "checks always find a thread")
    queue_s: float = _option(
        2.0, _number(float, 0, 60), "how long a request waits for one of MAX_STREAMS, then it gets 503")
    grace_s: float = _option(
        20.0, _number(float, 0, DAY), "how long running replies may go on after SIGTERM; then each gets "
        "an error frame. The process ends within 8 s of that")
    timeout: float = _option(
        120.0, _number(float, 0.1, DAY), "longest silence of the upstream within a reply")
    connect_timeout: float = _option(10.0, _number(float, 0.1, DAY), "longest wait for a connection")
    create_timeout: float = _option(
        180.0, _number(float, 0.1, DAY), "longest wait for Cursor to start an agent, which takes a "
        "minute")
    total_timeout: float = _option(
        0.0, _number(float, 0, DAY), "longest time for a whole reply; 0 is no limit")
    retry_s: float = _option(
        0.5, _number(float, 0.001, DAY), "pause before the first retry of a request to the upstream; "
        "it doubles with each")
    first_byte_s: float = _option(
        8.0, _number(float, 0, DAY), "a streaming reply starts after this even if the upstream has "
        "not answered yet; a refusal before it has its true HTTP status")
    heartbeat_s: float = _option(
        10.0, _number(float, 0.1, DAY), "a quiet stream sends a heartbeat this often, and looks once a "
        "second whether one is due")
    heartbeat: str = _option(
        "chunk", _one_of("chunk", "comment", "off"), "what a heartbeat is: chunk is an event that says "
        "nothing, comment the line : keep-alive, off none")
    body_heartbeat_s: float = _option(
        20.0, _number(float, 0, DAY), "a reply that is not streamed starts after this, with status 200, "
        "and sends a newline this often until its JSON comes; 0 is off")
    sweep_s: float = _option(
        3600.0, _number(float, 0, 365 * DAY), "agents of this service at Cursor that do not run and "
        "have not for this long are deleted, at a start and then this often; 0 is off")
    keep_agents: int = _option(
        32, _number(int, 0, 10_000), "agents that wait at Cursor for their conversation to go on, which then "
        "takes seconds, not a minute; 0 deletes each after its reply")
    keep_agent_s: float = _option(
        900.0, _number(float, 0.1, DAY), "how long an agent waits before it is deleted")
    seed_replay_s: float = _option(
        600.0, _number(float, 0, DAY), "how long a reply to a request with a seed is kept, which an equal "
        "request of the same key then gets again; 0 keeps none")
    responses_s: float = _option(
        3600.0, _number(float, 0, 30 * DAY), "how long a response of /v1/responses is stored, for "
        "previous_response_id; 0 stores none")
    responses_mb: int = _option(
        64, _number(int, 1, 10_000), "megabytes of stored responses; the eldest go first")
    warm_agents: int = _option(
        0, _number(int, 0, 100), "booted agents that each worker holds ready for first turns, of the model "
        "in most use; each costs a short run when it is made, and is made anew when used or after "
        "KEEP_AGENT_S")
    redis_url: str = _option(
        "", _redis_url, "a Redis in which several machines keep agents and counts together; without it all "
        "workers of one machine do, in a file", repr=False)
    state_file: str = _option(
        "", _text, "a file of this service alone for what its workers share, so that the next start finds its "
        "agents again; without it the file is a temporary one and goes with the service")
    log_format: str = _option("logfmt", _one_of("logfmt", "json"), "one line a request, as logfmt or json")
    debug_content: bool = _option(
        False, _flag, "log prompts and replies in full, with DEBUG or without; for a private machine only")
    debug: bool = _option(False, _flag, "log more: what the upstream is asked and when, never content")

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> "Config":
        """The settings in `environ`; a variable that is empty counts as not set. Raises ConfigError."""
        values = {}
        for option in fields(cls):
            name = option.name.upper()
            value = environ.get(name, "").strip()
            if not value:
                continue
            try:
                values[option.name] = option.metadata["parse"](value)
            except ValueError as wrong:
                shown = "a value that is not shown" if re.search("KEY|HEADERS|URL", name) else repr(value)
                raise ConfigError(f"{name}: expected {wrong}, got {shown}") from None
        return cls(**values)._checked()

    def _checked(self) -> "Config":
        if self.upstream == "sdk" and not self.sdk_bridge:
            raise ConfigError("UPSTREAM: expected the package cursor-sdk for sdk, got none; this installs it: "
                              + INSTALL_SDK)
        if self.upstream in ("sdk", "cloud", "simulator") and not (self.cursor_api_key or self.key_passthrough):
            raise ConfigError(f"CURSOR_API_KEY: expected a key with UPSTREAM={self.upstream}, got none")
        if self.key_passthrough and self.upstream_in_use == "uistream":
            raise ConfigError("KEY_PASSTHROUGH: expected an upstream that takes Cursor's keys, got uistream")
        if self.sweep_s and (self.keep_agents or self.warm_agents) and self.sweep_s <= self.keep_agent_s:
            raise ConfigError(f"SWEEP_S: expected more than KEEP_AGENT_S = {self.keep_agent_s:g}, or 0, got "
                              f"{self.sweep_s:g}")
        if self.max_streams > self.threads - 2:
            raise ConfigError(f"MAX_STREAMS: expected at most THREADS - 2 = {self.threads - 2}, got "
                              f"{self.max_streams}")
        if self.upstream == "uistream" and not self.uistream_url:
            raise ConfigError("UISTREAM_URL: expected a URL with UPSTREAM=uistream, got none")
        if self.upstream_in_use == "uistream" and not self.models:
            raise ConfigError("MODELS: expected the model ids that UISTREAM_URL serves, got none")
        return self

    @property
    def upstream_in_use(self) -> str | None:
        """sdk, cloud, uistream or simulator; None when nothing is configured."""
        if self.upstream != "auto":
            return self.upstream
        if self.cursor_api_key or self.key_passthrough:
            return "sdk" if self.sdk_bridge else "cloud"
        return "uistream" if self.uistream_url else None

    @property
    def can_warm_agents(self) -> bool:
        """Whether WARM_AGENTS means anything: elsewhere no machine is booted, or there is no key to do it with."""
        return bool(self.cursor_api_key) and self.upstream_in_use in ("cloud", "simulator")

    @property
    def upstreams(self) -> tuple[str, ...]:
        """All upstreams that the settings suffice for."""
        if self.upstream == "simulator":
            return ("simulator",)
        cursor = ("sdk", "cloud") if self.sdk_bridge else ("cloud",)
        return (cursor if self.cursor_api_key else ()) + (
            ("uistream",) if self.uistream_url and self.models else ())


def check_env_file(text: str) -> None:
    """Raises ConfigError for a line that is no statement, and for a name that is nearly one of a setting.

    Other names are left alone, as other programs read the file too.
    """
    ours = [option.name.upper() for option in fields(Config)]
    plain_ours = {_plain(name): name for name in ours}
    at = 0
    while at < len(text):
        line = text.count("\n", 0, at) + 1
        statement = STATEMENT.match(text, at)
        if statement is None:
            raise ConfigError(f".env, line {line}: expected NAME=value, got something else")
        name, at = statement[1] or "", statement.end()
        near = get_close_matches(_plain(name), plain_ours, 1, 0.85 if len(name) > 5 else 0.75)
        if near and name not in ours:
            raise ConfigError(f".env, line {line}: expected {plain_ours[near[0]]}, got {name}")


def _plain(name: str) -> str:
    return re.sub("[_-]", "", name).lower()
