"""The configuration: environment variables, read once at the start into one frozen value.

Every field is one variable, its name in capitals; a bad value is a ConfigError that names it.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

DAY = 86_400  # longer waits than this do not fit all clocks


class ConfigError(Exception):
    """The message names the variable, what it may hold and what it held."""


def _text(value: str) -> str:
    return value


def _list(value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip())


def _pairs(value: str) -> tuple[tuple[str, str], ...]:
    pairs = tuple(tuple(side.strip() for side in part.split("=", 1)) for part in _list(value))
    if any(len(pair) != 2 or not all(pair) for pair in pairs):
        raise ValueError("name=model pairs, comma-separated")
    return pairs


def _flag(value: str) -> bool:
    words = {"1": True, "true": True, "yes": True, "on": True,
             "0": False, "false": False, "no": False, "off": False, "": False}
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
    if not re.fullmatch(r"https?://[^\s/?#]\S*", value):
        raise ValueError("an http:// or https:// URL")
    return value


def _base_url(value: str) -> str:
    return _url(value).rstrip("/")


def _headers(value: str) -> tuple[tuple[str, str], ...]:
    try:
        headers = json.loads(value or "{}")
        pairs = tuple(headers.items())
        if not all(isinstance(side, str) for pair in pairs for side in pair):
            raise ValueError
    except (ValueError, AttributeError):
        raise ValueError('a JSON object of strings, such as {"Authorization": "Bearer ..."}') from None
    return pairs


def _option(default, parse, help):
    return field(default=default, metadata={"parse": parse, "help": help})


@dataclass(frozen=True)
class Config:
    """All settings. Times are in seconds, sizes in bytes unless the help says otherwise."""

    port: int = _option(8002, _number(int, 0, 65535), "port to listen on")
    api_key: tuple[str, ...] = _option(
        ("0000",), _list, "keys that callers may use, comma-separated; with the default only callers "
        "on this machine are served")
    upstream: str = _option(
        "auto", _one_of("auto", "cloud", "uistream", "simulator"),
        "auto, cloud, uistream or simulator; auto is cloud when CURSOR_API_KEY is set, else uistream "
        "when UISTREAM_URL is set")
    cursor_api_key: str = _option("", _text, "your Cursor API key, for the cloud upstream")
    cursor_base_url: str = _option(
        "https://api.cursor.com", _base_url, "where Cursor's API is")
    uistream_url: str = _option(
        "", _url, "a service that speaks the AI SDK UI message stream; POSTed to as it stands")
    uistream_headers: tuple[tuple[str, str], ...] = _option(
        (), _headers, "headers for UISTREAM_URL, a JSON object of strings")
    models: tuple[str, ...] = _option(
        (), _list, "base model ids, comma-separated; fixes the list that otherwise comes from Cursor")
    model_aliases: tuple[tuple[str, str], ...] = _option(
        (), _pairs, "further names for models: name=model, comma-separated")
    system_prompt_inject: str = _option("", _text, "text appended to the system text of every chat")
    max_input_length: int = _option(
        200_000, _number(int, 0), "longest prompt in characters; whole turns are left out, oldest "
        "first, to meet it; 0 is no limit")
    expose_thinking: bool = _option(
        False, _flag, "send the model's thinking as reasoning_content")
    max_n: int = _option(4, _number(int, 1, 128), "most choices (n) that a request may ask for")
    strict_params: bool = _option(
        False, _flag, "refuse parameters that have no effect instead of reporting them")
    tool_streaming: str = _option(
        "pieces", _one_of("pieces", "whole"), "pieces streams a tool call as it is written, whole sends "
        "each in one delta after its check, and nothing of a call that was cut")
    max_body_bytes: int = _option(
        20_000_000, _number(int, 1), "largest request body")
    kilo_tool_strict: bool = _option(
        False, _flag, "treat tool_choice auto as required; a reply without a call is asked for once "
        "more, then returned as it is")
    timeout: float = _option(
        120.0, _number(float, 0.1, DAY), "longest silence of the upstream within a reply")
    connect_timeout: float = _option(10.0, _number(float, 0.1, DAY), "longest wait for a connection")
    create_timeout: float = _option(
        180.0, _number(float, 0.1, DAY), "longest wait for Cursor to start an agent, which takes a "
        "minute")
    retry_s: float = _option(
        0.5, _number(float, 0.001, DAY), "pause before the first retry of a request to the upstream; "
        "it doubles with each")
    first_byte_s: float = _option(
        8.0, _number(float, 0, DAY), "a streaming reply starts after this even if the upstream has "
        "not answered yet; a refusal before it has its true HTTP status")
    heartbeat_s: float = _option(
        10.0, _number(float, 0.1, DAY), "a quiet stream sends a heartbeat this often")
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
                shown = "a value that is not shown" if "KEY" in name or "HEADERS" in name else repr(value)
                raise ConfigError(f"{name}: expected {wrong}, got {shown}") from None
        return cls(**values)._checked()

    def _checked(self) -> "Config":
        if not self.api_key:
            raise ConfigError("API_KEY: expected at least one key, got an empty list")
        if self.upstream in ("cloud", "simulator") and not self.cursor_api_key:
            raise ConfigError(f"CURSOR_API_KEY: expected a key with UPSTREAM={self.upstream}, got none")
        if self.upstream == "uistream" and not self.uistream_url:
            raise ConfigError("UISTREAM_URL: expected a URL with UPSTREAM=uistream, got none")
        if self.upstream_in_use == "uistream" and not self.models:
            raise ConfigError("MODELS: expected the model ids that UISTREAM_URL serves, got none")
        return self

    @property
    def upstream_in_use(self) -> str | None:
        """cloud, uistream or simulator; None when nothing is configured."""
        if self.upstream != "auto":
            return self.upstream
        return "cloud" if self.cursor_api_key else "uistream" if self.uistream_url else None

    @property
    def default_key(self) -> bool:
        """Whether the published default key is one of the keys in use."""
        return "0000" in self.api_key
