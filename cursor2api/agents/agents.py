"""From a chat to its conversations: on an agent that knows it, on a booted one, or on a new one.

Starting an agent takes Cursor a minute, going on with one seconds.
"""

import logging
import threading
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue

from ..chat import Chat, WholeCall
from ..config import Config
from ..errors import ApiError, BadRequest
from ..models import Choice
from ..prompt import follow_up, plan
from .conversation import Conversation
from .fingerprint import Fingerprint
from .store import WaitingAgent
from .warm import Warm

log = logging.getLogger("cursor2api")

NO_NONCE = "0" * 8
TEND_S = 10.0  # between two looks at what is too old or missing


def prompt_tokens(config: Config, chat: Chat, think: bool = False) -> int:
    """An estimate of the tokens of the prompt that a new agent would be told for a chat; of one that would be
    refused for its length, too. `think` is whether it is to think by instruction."""
    return plan(chat, chat.model, (), NO_NONCE, inject=config.system_prompt_inject, think=think,
                max_length=0 if chat.whole_history else config.max_input_length,
                require_call=config.kilo_tool_strict).prompt_tokens


class Agents:
    """`store` is None where agents cannot be kept or shall not be. `first_model()` is (id, params) of the model
    that warm agents begin with, or None."""

    def __init__(self, config: Config, upstream, first_model: Callable[[], tuple | None], store):
        self._config, self._upstream, self._store = config, upstream, store
        self._warm = Warm(upstream, config.warm_agents, config.keep_agent_s, first_model
                          ) if config.warm_agents else None
        self._wake, self._stopped = threading.Event(), False
        self._thread = threading.Thread(target=self._tend, name="agents", daemon=True)

    def start(self) -> None:
        """From now on what is too old is deleted and warm agents are made, off everybody's path."""
        if self._store or self._warm:
            self._thread.start()

    def open(self, chat: Chat, choice: Choice, caller: str, key: str, nonce: str) -> list[Conversation]:
        """One conversation a choice of the reply. `caller` is the name of who asks, `key` the Cursor key that
        came with the request or ""; `nonce` is that of the prompt's tags, unless the agent knows another.
        Raises BadRequest."""
        config, fingerprint, kept = self._config, None, None
        # A caller's own key is kept nowhere, so nobody could delete its agents later.
        if self._store and not key:
            fingerprint = Fingerprint(chat, caller, choice.model.id, choice.params, choice.think,
                                      config.system_prompt_inject)
            kept = fingerprint.history and self._store.take(fingerprint.history)
        rules = {"max_length": config.max_input_length, "think": choice.think,
                 "require_call": config.kilo_tool_strict}
        tell_all = partial(plan, chat, choice.model.id, choice.params, inject=config.system_prompt_inject, **rules)
        try:
            whole = tell_all(kept.briefing.nonce if kept else nonce)
        except BadRequest:
            if kept:
                self._upstream.delete(kept.agent)
            raise
        kind, first, agent = "new", None, None
        if kept:
            kind, agent, first = "reused", kept.agent, follow_up(whole, chat, kept.briefing, **rules)
            if not first:
                self._upstream.delete(agent)
                kind, agent, whole = "new", None, tell_all(nonce)
        if self._warm and not key:
            model = choice.model.id, choice.params
            self._warm.count(model)
            if not agent and (agent := self._warm.take(model)):
                kind, first = "warm", whole
                self._wake.set()
        open = partial(self._upstream.open, key=key, queue=SimpleQueue())
        keep = fingerprint and partial(self._keep, fingerprint)
        return [Conversation(open, whole, kind, first, agent, keep),
                *(Conversation(open, whole, keep=keep) for _ in range(1, chat.n))]

    def _keep(self, fingerprint: Fingerprint, conversation: Conversation, text: str,
              calls: list[WholeCall]) -> None:
        waiting = WaitingAgent(conversation.release(), conversation.prompt.briefing)
        for agent in self._store.put(fingerprint.after(text, calls), waiting):
            self._upstream.delete(agent)

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

    def close(self) -> None:
        """Hands all agents that would be lost with this process to be deleted."""
        self._stopped = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(2)
        for agent in [*(self._store.close() if self._store else ()),
                      *(self._warm.close() if self._warm else ())]:
            self._upstream.delete(agent)
