"""The wire formats between a caller and us: each is one file of this room."""

from dataclasses import dataclass
from typing import NamedTuple

from ..chat import Chat


@dataclass(frozen=True, slots=True)
class Options:
    """What the operator's settings say of requests."""

    max_n: int = 4
    strict_params: bool = False  # refuse what would only be reported as ignored


class Parsed(NamedTuple):
    """A request, read. `wishes` are what only its dialect's writer needs to know; `ignored` names the
    parameters that were asked for and have no effect."""

    chat: Chat
    wishes: object = None
    ignored: tuple[str, ...] = ()
