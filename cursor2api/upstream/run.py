"""A run: one conversation with an upstream, which speaks in a thread of its own.

The thread runs straight-line code of an adapter that may block (an Agent, see upstream/__init__.py) and
says events into a queue. The reply iterates over the run and waits a second at most: then it gets Waiting.
Whoever made an agent deletes it: the thread, when the run has ended, unless the run was released before.

    the reply's side                        the thread
    Runs.start(agent, prompt) -> run        agent.answer(run): take_prompt, accept, say ...
    run.wait(seconds)                         until accept
    for event in run                          until Finish, or what answer raises
    run.follow_up(prompt)                   agent.answer(run) once more, on the same agent
    run.release() or run.end()              agent.leave(), or agent.delete()
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from queue import Empty, SimpleQueue

from ..errors import ApiError
from ..events import Event, Finish, Text, Waiting
from ..prompt import Prompt
from .http import Ended, Exchange

log = logging.getLogger("cursor2api")

TICK = 1.0  # seconds that a reply waits before it looks at its caller again
ROOM = 64   # sayings that a run is ahead of a slow caller; with 16 a flood of deltas cost half as much again


class Run:
    """One reply being made upstream, or several on one agent after `follow_up`. Runs with one `queue` are
    iterated over in turn: whichever waits takes in what the others say too."""

    def __init__(self, agent, prompt: Prompt, queue: SimpleQueue | None = None):
        self._agent, self._queue = agent, queue or SimpleQueue()
        self._prompt: Prompt | None = prompt
        self._at_hand: deque[Event | Exception] = deque()
        self._room: SimpleQueue[None] = SimpleQueue()  # one for each saying that there is room for
        for _ in range(ROOM):
            self._room.put(None)
        self._told: SimpleQueue[bool] = SimpleQueue()  # whether to answer once more
        self._told.put(True)
        self._turn = self._speaking = 0  # how often the reply has asked again; for which of them the thread speaks
        self._broken_off = threading.Event()  # the answer that is being made is not wanted any more
        self._ended = self._released = False
        self._exchange: Exchange | None = None
        self._finished = False
        self.gone: Future[None] = Future()  # done when the agent has been deleted; never if it was released
        self.accepted = False  # the upstream has said yes
        self.last_reply = ""   # the text of the answer before `follow_up`

    # The reply's side ----------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Event]:
        """The events of one answer, up to its Finish; Waiting whenever nothing is at hand, at each second of
        silence, and now and then when there is always more. Raises what the adapter raised."""
        taken = 0
        while True:
            while self._at_hand:
                event = self._next()
                self._finished = type(event) is Finish
                yield event
                if self._finished:
                    return
            taken += 1
            if taken < ROOM and self._fetch(0) and self._at_hand:
                continue
            taken = 0
            yield Waiting()
            if not self._at_hand:
                self._fetch(TICK)

    def wait(self, seconds: float, spoken: bool = False) -> bool:
        """Until the upstream has said yes, or something where it has `spoken`, at most for that time; whether
        it has. Raises its refusal."""
        end = time.monotonic() + seconds
        while not (self._at_hand if spoken else self.accepted):
            if not self._fetch(max(0.0, end - time.monotonic())):
                return False
            if self._at_hand and isinstance(self._at_hand[0], Exception):
                self._next()
        return True

    def finished(self, seconds: float) -> bool:
        """Whether the answer's Finish has come, or comes within that time without another word before it."""
        end = time.monotonic() + seconds
        while not self._finished and (left := end - time.monotonic()) > 0:
            if not self._at_hand:
                self._fetch(left)
                continue
            event = self._at_hand.popleft()
            if isinstance(event, Exception) or type(event) is Text and event.text.strip():
                break
            self._finished = type(event) is Finish
        return self._finished

    def follow_up(self, prompt: Prompt, reply: str) -> None:
        """The next events answer `prompt`; what is left of the last answer, which said `reply`, is broken off."""
        self._turn += 1
        self._at_hand.clear()
        self._prompt, self.last_reply, self._finished = prompt, reply, False
        self._break_off()
        self._told.put(True)

    @property
    def agent(self) -> str:
        """What `open` and `delete` know the agent by."""
        return self._agent.name

    def release(self) -> str:
        """From now on the agent is not this run's to delete. Returns its name."""
        self._released = True
        self._told.put(False)
        return self._agent.name

    def end(self, at_once: bool = False) -> None:
        """Nothing is left running, soon: what blocks in the thread ends, a patient call only if it must be
        `at_once`. Callable at any time, more than once."""
        self._ended = True
        self._break_off(at_once)
        self._told.put(False)

    def _break_off(self, at_once: bool = False) -> None:
        self._broken_off.set()
        self._room.put(None)  # for a thread that waits for room
        if (exchange := self._exchange) and (at_once or not exchange.patient):
            exchange.end(Ended())

    def _fetch(self, seconds: float) -> bool:
        """Takes what was said first, by whichever run; whether something was within that time."""
        try:
            run, turn, events = self._queue.get(timeout=seconds) if seconds else self._queue.get_nowait()
        except Empty:
            return False
        run._room.put(None)
        if turn == run._turn:
            run._at_hand.extend(events)
        return True

    def _next(self) -> Event:
        event = self._at_hand.popleft()
        if isinstance(event, Exception):
            raise event
        return event

    # The thread's side ---------------------------------------------------------------------------

    def work(self) -> None:
        """What the thread does, from the run's first answer to its end."""
        try:
            while self._told.get():
                self._broken_off.clear()
                if self._ended:
                    break
                self._speaking = self._turn
                try:
                    self._agent.answer(self)
                except Ended:
                    pass
                except Exception as error:
                    self._queue.put((self, self._speaking, (error,)))
        finally:
            self._exchange = None
            if self._released:
                self._agent.leave()
            else:
                self._agent.delete()
                self.gone.set_result(None)

    def take_prompt(self) -> Prompt:
        """What is to be answered, which the run then does not hold any more: a conversation can be long."""
        prompt, self._prompt = self._prompt, None
        return prompt

    def accept(self) -> None:
        """The upstream has said yes."""
        if not self.accepted:
            self.accepted = True
            self.say()

    def say(self, *events: Event) -> None:
        """Says these together; waits while the caller is slow. Raises Ended."""
        self._room.get()
        self.check()
        if events and type(events[-1]) is Finish:
            self._exchange = None  # the call that brought it ends by itself, and its connection can be used again
        self._queue.put((self, self._speaking, events))

    def check(self) -> None:
        """Raises Ended when the answer is not wanted any more."""
        if self._broken_off.is_set() or self._ended:
            raise Ended

    def pause(self, seconds: float) -> None:
        """Raises Ended when the answer is not wanted any more before that time is over."""
        self._broken_off.wait(seconds)
        self.check()

    def hold(self, exchange: Exchange) -> None:
        """This call is made for the answer, and is ended with it. Raises Ended."""
        self._exchange = exchange
        if not exchange.patient:
            self.check()


class Runs:
    """The threads of one upstream, used again for one run after another, and work that no reply waits for."""

    def __init__(self, threads: int):
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="run")
        self._going: dict[Future, tuple[str, Run | None]] = {}

    def start(self, agent, prompt: Prompt, queue: SimpleQueue | None = None) -> Run:
        """A run that has begun. Raises ApiError where no thread is to be had."""
        run = Run(agent, prompt, queue)
        try:
            self._submit(agent.name, run, run.work)
        except RuntimeError as error:
            run.end()  # a thread that becomes idle would begin it
            raise ApiError("The service has no thread for another reply: try again soon", status=503,
                           code="overloaded", retry_after=1) from error
        return run

    def do(self, what: str, work: Callable, *args) -> None:
        """`what` it is that is ended, for `finish`."""
        try:
            self._submit(what, None, work, *args)
        except RuntimeError:
            log.warning("no thread is to be had: the next that becomes idle ends what is left", extra={
                "facts": {"what": what}})

    def finish(self, seconds: float) -> list[str]:
        """Ends all runs; returns when all threads are idle, or after that time: with what then is not over."""
        for _, run in list(self._going.values()):
            if run:
                run.end(at_once=True)
        wait(list(self._going), max(0.0, seconds))
        return [what for what, _ in self._going.values()]

    def _submit(self, what: str, run: Run | None, work: Callable, *args) -> None:
        future = self._pool.submit(work, *args)
        self._going[future] = what, run
        future.add_done_callback(self._over)

    def _over(self, future: Future) -> None:
        self._going.pop(future, None)
        if (error := future.exception()) and not isinstance(error, ApiError):
            log.error("a fault in a thread of the upstream", exc_info=error)
