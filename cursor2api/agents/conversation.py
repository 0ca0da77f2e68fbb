"""A run and what may take its place: until something of a reply has left, a new agent can take over.

Whatever goes wrong with an agent that was there already, a new one is told all: no reply shows the difference.
"""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from ..chat import WholeCall
from ..errors import ApiError
from ..events import Event
from ..prompt import Prompt

log = logging.getLogger("cursor2api")


class Conversation:
    """`open(prompt, agent=name)` begins a run, on a new agent if no `agent` is named. `whole` tells a new agent
    all; `first` is what an `agent` that is there is told instead.

    `kind` is new, reused or warm: where the agent came from; `prompt` is what it was told.
    `keep(conversation, text, calls)` is None where agents are not kept. `refused` is why no new agent may take
    over, if none may.
    """

    def __init__(self, open: Callable, whole: Prompt, kind: str = "new", first: Prompt | None = None,
                 agent: str | None = None, keep: Callable | None = None, refused: ApiError | None = None):
        self._open: Callable | None = open
        self.whole, self.prompt, self.kind = whole, first or whole, kind
        self._keep, self._refused = keep, refused
        self._run = open(self.prompt, agent=agent) if agent else open(whole)

    def __iter__(self) -> Iterator[Event]:
        return iter(self._run)

    def wait(self, seconds: float) -> bool:
        """Waits at most `seconds` until the upstream has accepted the run; returns whether it has. An agent that
        is not new must also have begun to speak, since it may still have to be replaced. Raises a refusal."""
        end = time.monotonic() + seconds
        while True:
            try:
                return self._run.wait(end - time.monotonic(), spoken=self.kind != "new")
            except ApiError as error:
                if not self.renew(error):
                    raise

    def renew(self, error: ApiError) -> bool:
        """After a failure before anything has left: whether the next events are a new agent's. Raises why none may
        take over."""
        if self.kind == "new" or self._open is None:
            return False
        if self._refused:
            raise self._refused
        log.info("a new agent takes over", extra={"facts": {"from": self.kind, "why": error.code}})
        self.end()
        self.kind, self.prompt = "new", self.whole
        self._run = self._open(self.whole)
        return True

    def settle(self) -> None:
        """Something of the reply has left: no new agent takes over, and what it would be told is let go."""
        self._open = None
        self.prompt = self.whole = replace(self.prompt, text="", images=())

    def follow_up(self, prompt: Prompt, reply: str) -> None:
        """The next events answer `prompt`, from the same agent, which has said `reply`."""
        self._run.follow_up(prompt, reply)

    def finished(self, seconds: float) -> bool:
        """Whether the run's Finish has come, or comes within that time without another word before it."""
        return self._run.finished(seconds)

    @property
    def keep(self) -> Callable[[str, list[WholeCall]], None] | None:
        """What is called with a reply of which the caller got all that the agent said; None where agents are
        not kept."""
        return self._keep and partial(self._keep, self)

    def release(self) -> str:
        """From now on the agent is not this conversation's to delete."""
        return self._run.release()

    def end(self) -> None:
        """Nothing is left running. Callable at any time, more than once."""
        self._run.end()
