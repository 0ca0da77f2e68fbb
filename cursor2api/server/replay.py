"""Replies to requests with a seed: an equal request gets the same reply again. Sampling cannot be steered here,
but a reply can be kept.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import astuple, replace

from ..chat import Chat, WholeCall
from ..events import Event, Finish, Reasoning, Text, ToolCall, Usage, Waiting
from ..fold import ReplySoFar
from ..models import Choice
from ..prompt import VERSION
from ..state.store import Store
from .record import RequestRecord

SPACE = "seed"
LONGEST, ALL = 1_000_000, 16_000_000  # bytes of a reply, of all replies
LOOK_S = 0.2
GOOD = ("stop", "length", "tool_calls")
SPOKEN = {"Text": Text, "Reasoning": Reasoning}


def system_fingerprint(upstream: str, choice: Choice) -> str:
    """OpenAI's system_fingerprint: the same as long as a model is asked in the same way."""
    return f"fp_{_digest(upstream, choice.model.id, choice.params, choice.think, VERSION)[:12]}"


class Replay:
    """The reply to one request, and to those that are equal but for whether they are streamed.

    Call `pairs` once, then always `end`. With `anew` a kept reply is not used; `terms` must be equal beside the
    chat and the model.
    """

    def __init__(self, store: Store, seconds: float, chat: Chat, choice: Choice, record: RequestRecord, anew: bool,
                 *terms: str):
        self._store, self._seconds, self._count, self._held = store, seconds, chat.n, False
        self._record, self._anew = record, anew
        self._reply: list[tuple[int, Event]] | None = None
        self._name = _digest(replace(chat, stream=False), choice.model.id, choice.params, choice.think, VERSION,
                             *terms)

    def pairs(self, begin: Callable[[], Iterable[tuple[int, Event]]], look: Callable[[], None],
              seconds: float) -> Iterator[tuple[int, Event]]:
        """The (index of the choice, event) pairs of the reply that is kept; if there is none, of the one that
        `begin` makes, which is kept then.

        If an equal request is being answered: waits up to `seconds` for its end and calls `look` meanwhile, which
        may raise; then returns an iterator that gives Waiting until that reply is there."""
        end = time.monotonic() + seconds
        while not self._known():
            if time.monotonic() >= end:
                return self._later(begin)
            time.sleep(LOOK_S)
            look()
        return iter(self._reply) if self._reply else self._recorded(begin())

    def end(self) -> None:
        """Whoever waits for this reply has it, or makes one."""
        if self._held:
            self._held = False
            self._store.free(f"{SPACE}:{self._name}", 1)

    def _later(self, begin: Callable[[], Iterable[tuple[int, Event]]]) -> Iterator[tuple[int, Event]]:
        while not self._known():
            yield 0, Waiting()
            time.sleep(LOOK_S)
        yield from self._reply or self._recorded(begin())

    def _known(self) -> bool:
        """Whether the reply is there, or is this request's to make."""
        if self._anew or self._held:
            return True
        if not (reply := self._kept()):
            self._held = self._store.hold(f"{SPACE}:{self._name}", 1, 1)
            reply = self._kept() if self._held else None  # it may have come since it was looked for
        if reply:
            self._reply, self._record.agent = reply, "replay"
        return self._held or bool(reply)

    def _recorded(self, pairs: Iterable[tuple[int, Event]]) -> Iterator[tuple[int, Event]]:
        """Passes on the pairs, and keeps the reply if all of it is good."""
        replies = [ReplySoFar() for _ in range(self._count)]
        for index, event in pairs:
            if type(event) is not Waiting:
                replies[index].add(event)
            yield index, event
        if all(reply.finish and reply.finish.reason in GOOD and not reply.cut_call for reply in replies):
            data = json.dumps([_row(reply) for reply in replies]).encode()
            if len(data) <= LONGEST:
                self._store.put(SPACE, self._name, data, self._seconds, ALL)

    def _kept(self) -> list[tuple[int, Event]] | None:
        """The reply's pairs; None if there is none, or something else in its place."""
        data = self._store.get(SPACE, self._name)
        try:
            return list(_pairs(json.loads(data))) if data else None
        except (ValueError, TypeError, LookupError):
            return None


def _digest(*values: object) -> str:
    return hashlib.sha256(repr(values).encode(errors="surrogatepass")).hexdigest()


def _row(reply: ReplySoFar) -> list:
    parts = [[part.id, part.name, part.arguments] if type(part) is WholeCall else [type(part).__name__, part.text]
             for part in reply.parts]
    return [parts, astuple(reply.usage), astuple(reply.finish)]


def _pairs(kept: list) -> Iterator[tuple[int, Event]]:
    for index, (parts, usage, finish) in enumerate(kept):
        calls = 0
        for part in parts:
            if len(part) == 2:
                yield index, SPOKEN[part[0]](part[1])
            else:
                yield index, ToolCall(calls, *part)
                calls += 1
        yield index, Usage(*usage)
        yield index, Finish(*finish)
