"""Set-up of clients: what each must be told to use this service.

`python -m cursor2api.clients NAME` prints a client's files, with --write it puts them where the client looks;
the page and docs/clients.md show the same. Each other file here but `catalog` and `__main__` is the template of
one client: it makes text, and reads no file, no environment and no network. To add a client, write a template and
put it into `catalog`.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Model:
    id: str
    context: int | None = None  # tokens of its window, if Cursor says them


@dataclass(frozen=True)
class Service:
    """`address` is the root, without /v1; the first of the models is the one that is used at first."""

    address: str
    key: str
    models: tuple[Model, ...]

    @property
    def base(self) -> str:
        return self.address + "/v1"

    @property
    def model(self) -> str:
        return self.models[0].id


@dataclass(frozen=True)
class File:
    """`path` is where the client looks (~ is the user's home), or "" for lines that one types or copies."""

    path: str
    language: str  # json, toml, yaml, sh, python or js
    text: str


@dataclass(frozen=True)
class Client:
    """`turn_off` and `cannot` are sentences; `tried` says with which version the service was tried, or that it
    was not."""

    name: str
    title: str
    files: Callable[[Service], tuple[File, ...]]
    run: str | None
    turn_off: tuple[str, ...]
    cannot: tuple[str, ...]
    tried: str


def as_json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def quoted(text: str) -> str:
    """A string as JSON, YAML and TOML write it."""
    return json.dumps(text, ensure_ascii=False)


def exports(variables: dict[str, str]) -> str:
    """Lines for a shell."""
    return "".join(f"export {name}='{value}'\n" for name, value in variables.items())
