"""From a chat to its streams: on an agent that knows the conversation, on a booted one, or on a new one.

Starting an agent takes Cursor a minute, going on with one seconds. Whatever goes wrong with an agent
that was there already, a new one is told all, as long as nothing has left: no reply shows the difference.
"""

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from queue import SimpleQueue

from ..chat import WholeCall, Chat
from ..config import Config
from .store import WaitingAgent
from ..errors import ApiError
from ..events import Event
from ..server.keys import Caller
from ..models import Choice, Models
from .fingerprint import Fingerprint
from ..prompt import Briefing, Prompt, follow_up, plan

log = logging.getLogger("cursor2api")

WARM_UP = "A conversation comes with the next message. For now, answer with the one word: ready"
TEND_S = 10.0   # between two looks at what is too old or missing
PAUSE_S = 30.0  # after a warm agent could not be had
RECENT = 100    # chats by which the model in most use is told


class Agents:
    """`store` is None where agents cannot be kept or shall not be."""

    def __init__(self, config: Config, upstream, models: Models, store):
        self._config, self._upstream, self._store = config, upstream, store
        self._warm = Warm(upstream, config.warm_agents, config.keep_agent_s,
                          lambda: next(((model.id, ()) for model in models.all()), None)
                          ) if config.warm_agents else None
        self._wake, self._stopped = threading.Event(), False
        self._thread = threading.Thread(target=self._tend, name="agents", daemon=True)

    def start(self) -> None:
        """From now on what is too old is deleted and warm agents are made, off everybody's path."""
        if self._store or self._warm:
            self._thread.start()

    def open(self, chat: Chat, choice: Choice, caller: Caller, nonce: str) -> "Turn":
        """`nonce` is that of the prompt's tags, unless the agent knows another."""
        config = self._config
        prefix = kept = None
        # A caller's own key is kept nowhere, so nobody could delete its agents later.
        if self._store and not caller.upstream_key:
            prefix = Fingerprint(chat, caller.name, choice.model.id, choice.params, choice.think,
                            config.system_prompt_inject)
            kept = prefix.known and self._store.take(prefix.known)
        options = {"max_length": config.max_input_length, "think": choice.think,
                   "require_call": config.kilo_tool_strict}
        whole = partial(plan, chat, choice.model.id, choice.params, inject=config.system_prompt_inject,
                        **options)
        first = agent = None
        made = whole(kept.known.nonce if kept else nonce)
        if kept:
            first, agent = follow_up(made, chat, kept.known, **options), kept.agent
            if not first:
                self._upstream.delete(agent)
                made, agent = whole(nonce), None
        kind = "reused" if agent else "new"
        if self._warm and not caller.upstream_key:
            model = choice.model.id, choice.params
            self._warm.count(model)
            if not agent and (agent := self._warm.take(model)):
                first, kind = made, "warm"
                self._wake.set()
        open = partial(self._upstream.open, key=caller.upstream_key, queue=SimpleQueue())
        conversations = [Conversation(open, made, kind, first, agent)]
        conversations += [Conversation(open, made) for _ in range(1, chat.n)]
        return Turn(made, conversations, prefix and partial(self._keep, prefix))

    def _keep(self, prefix: Fingerprint, conversation: "Conversation", text: str,
              calls: list[WholeCall]) -> None:
        kept = WaitingAgent(conversation.release(), conversation.plan.known)
        for agent in self._store.put(prefix.after(text, calls), kept):
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


class Turn:
    """One chat's conversations, one a choice, and `plan`, which tells a new agent all."""

    def __init__(self, plan: Prompt, conversations: list["Conversation"], keep: Callable | None):
        self.plan, self.streams, self._keep = plan, conversations, keep

    def keep(self, index: int) -> Callable[[str, list[WholeCall]], None] | None:
        """What `reply` calls with a whole reply."""
        return self._keep and partial(self._keep, self.streams[index])


class Conversation:
    """A run and what may take its place: it may begin on an `agent` which is there, with the prompt `first`,
    and until something has left, a new agent that is told all can take over.

    `kind` says whose words they are: a new agent's, a reused or a warm one's; `plan` what it was told.
    """

    def __init__(self, open: Callable, plan: Prompt, kind: str = "new", first: Prompt | None = None,
                 agent: str | None = None):
        self._anew: Callable | None = partial(open, plan)
        self._whole, self.plan, self.kind = plan, first or plan, kind
        self._run = open(first, agent=agent) if agent else self._anew()

    def __iter__(self) -> Iterator[Event]:
        return iter(self._run)

    def wait(self, seconds: float) -> bool:
        """Until the upstream has said yes, at most for that time; whether it has. An agent that is no new one
        must also have begun to speak, since it may still have to be replaced. Raises a refusal."""
        end = time.monotonic() + seconds
        while True:
            try:
                return self._run.wait(end - time.monotonic(), spoken=self.kind != "new")
            except ApiError as error:
                if not self.renew(error):
                    raise

    def renew(self, error: ApiError) -> bool:
        """After a failure before anything has left: whether the next events are a new agent's."""
        if self.kind == "new":
            return False
        log.info("a new agent takes over", extra={"facts": {"from": self.kind, "why": error.code}})
        self._run.end()
        self.kind, self.plan = "new", self._whole
        self._run = self._anew()
        return True

    def settle(self) -> None:
        """Something of the reply has left: no new agent takes over, and what it would be told is let go."""
        self._anew = None
        self.plan = self._whole = replace(self.plan, prompt="", images=())

    def follow_up(self, plan: Prompt, reply: str) -> None:
        self._run.follow_up(plan, reply)

    def ended(self, seconds: float) -> bool:
        return self._run.finished(seconds)

    def release(self) -> str:
        return self._run.release()

    def close(self) -> None:
        self._run.end()


class Warm:
    """Booted agents that nobody has used: `count` of them for the model in most use, `first()` to begin
    with, each for `age` seconds. A model is (id, params), or None where there is none."""

    def __init__(self, upstream, count: int, age: float, first: Callable[[], tuple | None]):
        self._upstream, self._count, self._age, self._first = upstream, count, age, first
        self._lock = threading.Lock()
        self._asked: deque[tuple] = deque(maxlen=RECENT)
        self._ready: list[tuple[float, tuple, str]] = []  # time of its end, model, agent
        self._booting: set[threading.Thread] = set()
        self._not_before = 0.0
        self._stopped = False

    def count(self, model: tuple) -> None:
        """Counts a chat with this model."""
        with self._lock:
            self._asked.append(model)

    def take(self, model: tuple) -> str | None:
        """An agent for this model, which is nobody else's then."""
        with self._lock:
            for each in self._ready:
                end, booted, agent = each
                if booted == model and end > time.monotonic():
                    self._ready.remove(each)
                    return agent
        return None

    def tend(self) -> list[str]:
        """Begins to boot what is missing; gives up what is too old."""
        first = None if self._asked else self._first()
        now = time.monotonic()
        with self._lock:
            model = Counter(self._asked).most_common(1)[0][0] if self._asked else first
            old = [each for each in self._ready if each[0] <= now]
            self._ready = [each for each in self._ready if each[0] > now]
            there = len(self._booting) + sum(booted == model for _, booted, _ in self._ready)
            missing = 0 if not model or self._stopped or now < self._not_before else self._count - there
            for _ in range(missing):
                boot = threading.Thread(target=self._boot, args=(model,), name="warm", daemon=True)
                self._booting.add(boot)
                boot.start()
        return [agent for _, _, agent in old]

    def _boot(self, model: tuple) -> None:
        run, agent = self._upstream.open(Prompt(*model, WARM_UP, (), Briefing("", "", 0))), None
        try:
            for _ in run:
                if self._stopped:
                    return
            agent = run.release()
        except ApiError as error:
            self._not_before = time.monotonic() + PAUSE_S
            log.warning("no warm agent could be made", extra={"facts": {"code": error.code}})
        finally:
            with self._lock:
                self._booting.discard(threading.current_thread())
                if agent and not self._stopped:
                    self._ready.append((time.monotonic() + self._age, model, agent))
                    log.info("a warm agent is ready", extra={"facts": {"model": model[0]}})
                elif agent:
                    self._upstream.delete(agent)
            run.end()

    def close(self) -> list[str]:
        """Gives up all; those that are booting end by themselves."""
        with self._lock:
            self._stopped = True
            ready, self._ready, booting = [agent for _, _, agent in self._ready], [], list(self._booting)
        for boot in booting:
            boot.join(2)
        return ready
