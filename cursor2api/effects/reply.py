"""From what an upstream says to what the caller gets: the transforms that a chat asks for, in order,
one repair turn for a reply that breaks the chat's terms, and several replies side by side.
"""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from io import StringIO
from itertools import repeat

from ..chat import WholeCall, Chat
from ..errors import ApiError
from ..events import Event, Finish, Note, Reasoning, Text, ToolCall, Misfit, Waiting
from .jsonreply import only_json
from ..models import MAX_TOKENS
from ..prompt import Prompt, repair, shown_tools
from .toolcalls import split_calls
from .transforms import (count_usage, hide_thinking, limit_tokens, require_call, require_text,
                         split_thinking, stop_at, whole_characters)

TICK = 1.0
LAST_S = 2.0  # for an upstream's Finish to come after the only call that was asked for


@dataclass(frozen=True, slots=True)
class ReplyRules:
    """What the operator's settings add to a chat's own terms.

    `hold`: nothing leaves before the end, so that a repair is always possible; a body is such.
    """

    hold: bool
    expose_thinking: bool = False
    whole_calls: bool = False     # each call leaves in one piece
    insist_on_call: bool = False  # asks for a call once more, and never fails for want of one


def reply(stream, chat: Chat, plan: Prompt, terms: ReplyRules, new_id: Callable[[], str],
          note: Callable[[Note], None],
          keep: Callable[[str, list[WholeCall]], None] | None = None) -> Iterator[Event]:
    """The events that leave for one choice; what the log must say of its tool calls goes to `note`.

    A reply of which the caller got all that the agent said goes to `keep` before its Finish leaves: the
    next chat may come at once. Raises ApiError, also for a reply that stays unfit.
    """
    said, prompt_tokens, conversation = StringIO(), plan.prompt_tokens, plan.prompt
    # The conversation can be long: it is not held until the reply's end.
    plan, chat = replace(plan, prompt="", images=()), replace(chat, messages=())
    events = _repaired(stream, chat, plan, conversation, terms, new_id, note, said)
    if keep:
        events = _remembered(events, lambda called: _whole(stream, chat, plan, said, called), keep)
    events = count_usage(events, prompt_tokens)
    return events if terms.expose_thinking else hide_thinking(events)


def _repaired(stream, chat: Chat, plan: Prompt, conversation: str, terms: ReplyRules, new_id: Callable[[], str],
              note: Callable[[Note], None], said: StringIO) -> Iterator[Event]:
    """`said` holds what the upstream has said in its last run, `conversation` what the model was shown.

    An agent that was told of its fault may be kept: the complaint stood outside the conversation's tags,
    and the whole message was written again.
    """
    last = False
    while True:
        said.seek(0)
        said.truncate()
        kept: list[Event] = []
        left = thought = False
        try:
            for event in _transformed(_recorded(whole_characters(stream), said), chat, plan, terms, new_id,
                                      None if last else conversation):
                kind = type(event)
                if kind is Misfit:
                    if not last and not left:
                        break
                    if event.error:
                        raise event.error
                elif kind is Note:
                    note(event)
                elif terms.hold and kind is not Waiting:
                    kept.append(event)
                else:
                    if not left and (kind is Text or kind is ToolCall):
                        left, conversation = True, ""
                        stream.settle()
                    thought = thought or kind is Reasoning
                    yield event
            else:
                yield from kept
                return
        except ApiError as error:
            if left or thought and terms.expose_thinking or not stream.renew(error):
                raise
            last = False
            continue
        stream.follow_up(repair(plan, event.complaint), said.getvalue())
        last = True


def _remembered(events: Iterable[Event], whole: Callable[[bool], bool],
                keep: Callable[[str, list[WholeCall]], None]) -> Iterator[Event]:
    text = StringIO()
    calls: dict[int, tuple[str, str, StringIO]] = {}
    for event in events:
        kind = type(event)
        if kind is Text:
            text.write(event.text)
        elif kind is ToolCall:
            if event.id is not None:
                calls[event.index] = event.id, event.name, StringIO()
            calls[event.index][2].write(event.arguments)
        elif kind is Finish and event.reason in ("stop", "tool_calls") and whole(bool(calls)):
            keep(text.getvalue(), [WholeCall(id, name, arguments.getvalue())
                                   for id, name, arguments in calls.values()])
        yield event


def _whole(stream, chat: Chat, plan: Prompt, said: StringIO, called: bool) -> bool:
    """Whether the agent has said no more than the caller got, but for thinking and words around JSON.

    A reply that must hold one call ends with it, whatever the upstream still says: it may be nothing.
    """
    if not called or chat.parallel_tool_calls and not chat.functions:
        return stream.ended(0)
    text = said.getvalue()
    return (text.count(plan.open_mark) == 1 and not text.partition(plan.close_mark)[2].strip()
            and stream.ended(LAST_S))


def _transformed(events: Iterable[Event], chat: Chat, plan: Prompt, terms: ReplyRules,
                 new_id: Callable[[], str], conversation: str | None) -> Iterator[Event]:
    """The order matters: thinking is neither text nor call, a call's arguments know no stop.

    JSON that was asked for is no call whose marks are missing.
    """
    tools = shown_tools(chat)
    if chat.format.type != "text":
        conversation = None
    events = split_thinking(events, plan.open_mark if tools else "")
    if tools:
        events = split_calls(events, open_mark=plan.open_mark, close_mark=plan.close_mark,
                             tools=tools, parallel=chat.parallel_tool_calls and not chat.functions,
                             new_id=new_id, whole=terms.whole_calls, conversation=conversation)
    if chat.format.type != "text":
        events = only_json(events, chat.format.schema)
    if chat.stop:
        events = stop_at(events, chat.stop)
    if chat.max_tokens:
        events = limit_tokens(events, min(chat.max_tokens, MAX_TOKENS))
    if tools and (chat.tool_choice.mode == "required" or terms.insist_on_call):
        events = require_call(events, chat.tool_choice.mode != "required")
    return require_text(events)


def _recorded(events: Iterable[Event], said: StringIO) -> Iterator[Event]:
    """Keeps the text. A stream that just ends is a fault of its adapter and must not pass for a reply."""
    event = None
    for event in events:
        if type(event) is Text:
            said.write(event.text)
        yield event
    if type(event) is not Finish:
        raise RuntimeError("the upstream's events ended without a Finish")


def side_by_side(replies: Sequence[Iterator[Event]],
                 close: Callable[[int], None]) -> Iterator[tuple[int, Event]]:
    """The events of several replies as (index, event), as they come; each runs in its own thread.

    A thread ends its own reply by `close(index)`, since a generator that runs can be closed by nobody
    else. When this one is closed, all threads have ended.
    """
    if len(replies) == 1:
        yield from zip(repeat(0), replies[0])
        return
    events: queue.Queue = queue.Queue(64)
    stopped = threading.Event()

    def put(item) -> bool:
        while not stopped.is_set():
            try:
                events.put(item, timeout=TICK)
                return True
            except queue.Full:
                pass
        return False

    def run(index: int) -> None:
        try:
            for event in replies[index]:
                if not put((index, event)):
                    return
            put((index, None))
        except Exception as error:  # raised again in the request's own thread
            put((index, error))
        finally:
            close(index)

    threads = [threading.Thread(target=run, args=(index,), name="choice", daemon=True)
               for index in range(len(replies))]
    for thread in threads:
        thread.start()
    running = len(replies)
    try:
        while running:
            try:
                index, event = events.get(timeout=TICK)
            except queue.Empty:
                yield 0, Waiting()
                continue
            if isinstance(event, Exception):
                raise event
            if event is None:
                running -= 1
            else:
                yield index, event
    finally:
        stopped.set()
        for thread in threads:
            thread.join()
