"""What a client's template is: from where the gateway is, and what models it has, to the client's own files.

Each other file here but `catalog`, `document` and `__main__` is the template of one client: a `Client`, and the
function that makes its files. A template only makes text: it reads no file, no environment and no network.
"""

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass

MAX_TOKENS = 64_000  # the longest reply, as /v1/models states it
CONTEXT = 200_000  # for clients that want a number where the context is not known
NAME = "Cursor2API"


@dataclass(frozen=True)
class Model:
    """A model of the gateway; `context` is its window in tokens, None where it is not known."""

    id: str
    context: int | None = None


@dataclass(frozen=True)
class Gateway:
    """What a template is filled with. `address` is the root, without /v1 and without a slash at its end.

    The first of `models` is the one that the client starts with.
    """

    address: str
    key: str
    models: tuple[Model, ...]

    @property
    def model(self) -> str:
        return self.models[0].id


@dataclass(frozen=True)
class File:
    """A file where the client looks for it; a path without ~ is for a folder of the user's choice."""

    path: str
    language: str  # json, toml, yaml, sh, python, javascript
    text: str


@dataclass(frozen=True)
class Client:
    """One client. `run` is the command that starts it with these files; None where it is no command.

    `turn_off` and `cannot` are sentences: what costs more than it is worth here; what does not work here, or else
    is good to know.
    `tried` says with which version the tests had it work; it is empty where they cannot run it.
    """

    name: str
    title: str
    files: Callable[[Gateway], tuple[File, ...]]
    run: str | None
    turn_off: tuple[str, ...]
    cannot: tuple[str, ...]
    tried: str

    def command(self, gateway: Gateway) -> str | None:
        """`run` with the gateway's key and model in it."""
        return self.run and self.run.replace("__KEY__", gateway.key).replace("__MODEL__", gateway.model)

    def sentences(self) -> list[tuple[str, tuple[str, ...]]]:
        """What is to be read, under a title each."""
        return [(title, sentences) for title, sentences in (
            ("Turn off", self.turn_off), ("Good to know", self.cannot)) if sentences]


def json_text(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def quoted(text: str) -> str:
    """A string as TOML, YAML, Python and JavaScript all read it."""
    return json.dumps(text, ensure_ascii=False)


def exports(variables: dict[str, str]) -> str:
    """Lines for a shell to read."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())
