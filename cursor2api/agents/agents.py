"""From a chat to its conversations: on an agent that knows it, on a booted one, or on a new one.

Starting an agent takes Cursor a minute, going on with one seconds.
"""

import json
import logging
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

from ..chat import Chat, WholeCall
from ..config import Config
from ..errors import ApiError
from ..models import Choice
from ..prompt import Briefing, Prompt, follow_up, plan, too_long
from ..state.store import Store
from .conversation import Conversation
from .fingerprint import Fingerprint
from .warm import Warm

log = logging.getLogger("cursor2api")

NO_NONCE = "0" * 8
TEND_S = 10.0  # between two looks at what is too old or missing


def prompt_tokens(config: Config, chat: Chat, think: bool = False) -> int:
    """An estimate of the tokens of the prompt that a new agent would be told for a chat. `think` is whether it is
    to think by instruction."""
    return plan(chat, chat.model, (), NO_NONCE, inject=config.system_prompt_inject, think=think,
                max_length=config.max_input_length, require_call=config.kilo_tool_strict).prompt_tokens


class Start(NamedTuple):
    """How a conversation begins: the parameters that Conversation has by these names."""

    whole: Prompt
    kind: str = "new"
    first: Prompt | None = None
    agent: str | None = None


class Agents:
    """`store` is None where there are no agents that outlive a reply. `first_model()` is (id, params) of the model
    that warm agents begin with, or None."""

    def __init__(self, config: Config, upstream, first_model: Callable[[], tuple | None], store: Store | None):
        self._config, self._upstream, self._store = config, upstream, store
        self._warm = Warm(upstream, config.warm_agents, config.keep_agent_s, first_model
                          ) if config.warm_agents and config.can_warm_agents else None
        self._wake, self._stopped, self._replaced = threading.Event(), False, False
        self._thread: threading.Thread | None = None

    def share(self, folder: Path | None) -> None:
        """From now on those who have this folder keep agents together."""
        if self._store:
            self._store.start(folder)

    def start(self) -> None:
        """From now on what is too old is deleted and warm agents are made, off everybody's path."""
        if self._store or self._warm:
            # Made here, as Python 3.13.0 starts no thread that was made before a fork, such as that of --preload.
            self._thread = threading.Thread(target=self._tend, name="agents", daemon=True)
            self._thread.start()

    def open(self, chat: Chat, choice: Choice, caller: str, key: str, nonce: str) -> list[Conversation]:
        """One conversation a choice of the reply. `caller` is the name of who asks, `key` the Cursor key that
        came with the request or ""; `nonce` is that of the prompt's tags, unless the agent knows another.
        Raises BadRequest."""
        fingerprint = None
        # A caller's own key is kept nowhere, so nobody could delete its agents later.
        if self._store and self._config.keep_agents and not key:
            fingerprint = Fingerprint(chat, caller, choice.model.id, choice.params, choice.think,
                                      self._config.system_prompt_inject)
        start = self._start(chat, choice, fingerprint, nonce)
        refused = too_long(start.whole, self._config.max_input_length) if start.whole.too_long else None
        if refused and not start.first:
            raise refused
        if self._warm and not key:
            start = self._warmed(start, (choice.model.id, choice.params))
        begin = partial(self._upstream.open, key=key, queue=SimpleQueue())
        more = {"keep": fingerprint and partial(self._keep, fingerprint), "refused": refused}
        if self._store and not key:
            begin = partial(self._begin, begin)
        with ExitStack() as begun:  # if one cannot begin, those that have are ended
            conversations = []
            for each in [start, *[Start(start.whole)] * (chat.n - 1)]:
                conversations.append(Conversation(begin, *each, **more))
                begun.callback(conversations[-1].end)
            begun.pop_all()
        return conversations

    def _start(self, chat: Chat, choice: Choice, fingerprint: Fingerprint | None, nonce: str) -> Start:
        """On the agent that knows the chat, or else on a new one."""
        rules = {"max_length": self._config.max_input_length, "think": choice.think,
                 "require_call": self._config.kilo_tool_strict}
        tell_all = partial(plan, chat, choice.model.id, choice.params, inject=self._config.system_prompt_inject,
                           **rules)
        agent, briefing = self._take(fingerprint.history) if fingerprint else (None, None)
        if not briefing:
            return Start(tell_all(nonce))
        whole = tell_all(briefing.nonce)
        if first := follow_up(whole, chat, briefing, **rules):
            return Start(whole, "reused", first, agent)
        self._upstream.delete(agent)
        return Start(tell_all(nonce))

    def _warmed(self, start: Start, model: tuple) -> Start:
        """On an agent of the model that has booted, where there is one and a new one would be made."""
        self._warm.count(model)
        if start.agent or not (agent := self._warm.take(model)):
            return start
        self._wake.set()
        return Start(start.whole, "warm", start.whole, agent)

    def _begin(self, begin: Callable, *args, **more):
        """A run that has begun, whose agent another worker deletes if this one is killed."""
        run, done = begin(*args, **more), self._store.done
        agent = run.agent
        self._store.begin(agent)
        run.gone.add_done_callback(lambda _: done(agent))  # which does not hold the run
        return run

    def _keep(self, fingerprint: Fingerprint, conversation: Conversation, text: str,
              calls: list[WholeCall]) -> None:
        note = json.dumps(asdict(conversation.prompt.briefing))
        given_up = self._store.keep(fingerprint.after(text, calls), conversation.release(), note,
                                    self._config.keep_agent_s, self._config.keep_agents)
        for agent in given_up + (self._store.lost(self._replaced) if self._stopped else []):
            self._upstream.delete(agent)

    def _take(self, digest: str | None) -> tuple[str, Briefing] | tuple[None, None]:
        """The agent that knows this, and how it was told."""
        found = digest and self._store.take(digest)
        if not found:
            return None, None
        agent, note = found
        if briefing := _briefing(note):
            return agent, briefing
        self._upstream.delete(agent)  # another version has kept it, or somebody else
        return None, None

    def _tend(self) -> None:
        while not self._stopped:
            try:
                for agent in self._store.expired() if self._store else ():
                    self._upstream.delete(agent)
                for agent in self._warm.tend() if self._warm else ():
                    self._upstream.delete(agent)
            except ApiError as error:
                log.warning("warm agents could not be looked after: %s", error.code)
            except Exception:
                log.exception("a fault in looking after agents")
            self._wake.wait(min(TEND_S, self._config.keep_agent_s / 4))
            self._wake.clear()

    def close(self, replaced: bool) -> None:
        """Hands all agents that would be lost with this process to be deleted; if others have `replaced` it, they
        go on with those that are kept."""
        self._replaced, self._stopped = replaced, True
        self._wake.set()
        if self._thread:
            self._thread.join(2)
        for agent in [*(self._store.lost(replaced) if self._store else ()),
                      *(self._warm.close() if self._warm else ())]:
            self._upstream.delete(agent)


def _briefing(note: str) -> Briefing | None:
    """None for what is none: a store may hold anything."""
    with suppress(ValueError, RecursionError):
        match json.loads(note):
            case {"nonce": str(nonce), "tools": str(tools), "left_out": int(left_out)}:
                return Briefing(nonce, tools, left_out)
    return None
