"""From what an upstream says to what the caller gets: the transforms that a chat asks for, in order,
one repair turn for a reply that breaks the chat's terms, and several replies side by side.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from io import StringIO
from itertools import repeat

from ..chat import WholeCall, Chat
from ..errors import ApiError
from ..events import Event, Finish, Note, Reasoning, Text, ToolCall, Misfit, Waiting
from ..fold import ReplySoFar
from .jsonreply import only_json
from ..models import MAX_TOKENS
from ..prompt import Prompt, repair, shown_tools
from .toolcalls import split_calls
from .transforms import (count_usage, hide_thinking, limit_tokens, require_call, require_text,
                         split_thinking, stop_at, whole_characters)

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


def reply(conversation, chat: Chat, prompt: Prompt, rules: ReplyRules, new_id: Callable[[], str],
          note: Callable[[Note], None],
          keep: Callable[[str, list[WholeCall]], None] | None = None) -> Iterator[Event]:
    """The events that leave for one choice; what the log must say of its tool calls goes to `note`.

    A reply of which the caller got all that the agent said goes to `keep` before its Finish leaves: the
    next chat may come at once. Raises ApiError, also for a reply that stays unfit.
    """
    said, prompt_tokens, shown = StringIO(), prompt.prompt_tokens, prompt.text
    # The conversation can be long: it is not held until the reply's end.
    prompt, chat = replace(prompt, text="", images=()), replace(chat, messages=())
    events = count_usage(_repaired(conversation, chat, prompt, shown, rules, new_id, note, said), prompt_tokens)
    del shown
    if chat.hide_thinking or not rules.expose_thinking:
        events = hide_thinking(events)
    if keep:
        events = _remembered(events, lambda called: _whole(conversation, chat, prompt, said, called), keep)
    return events


def _repaired(conversation, chat: Chat, prompt: Prompt, shown: str, rules: ReplyRules, new_id: Callable[[], str],
              note: Callable[[Note], None], said: StringIO) -> Iterator[Event]:
    """`said` holds what the upstream has said in its last run, `shown` is what the model was shown.

    An agent that was told of its fault may be kept: the complaint stood outside the conversation's tags,
    and the whole message was written again.
    """
    last = False
    while True:
        said.seek(0)
        said.truncate()
        kept: list[Event] = []
        has_left = has_thought = False
        try:
            events = _recorded(whole_characters(conversation), said)
            for event in _transformed(events, chat, prompt, rules, new_id, None if last else shown):
                kind = type(event)
                if kind is Misfit:
                    if not last and not has_left:
                        break
                    if event.error:
                        raise event.error
                elif kind is Note:
                    note(event)
                elif rules.hold and kind is not Waiting:
                    kept.append(event)
                else:
                    if not has_left and (kind is Text or kind is ToolCall):
                        has_left, shown = True, ""
                        conversation.settle()
                    has_thought = has_thought or kind is Reasoning
                    yield event
            else:
                yield from kept
                return
        except ApiError as error:
            if has_left or has_thought and rules.expose_thinking or not conversation.renew(error):
                raise
            last = False
            continue
        conversation.follow_up(repair(prompt, event.complaint), said.getvalue())
        last = True


def _remembered(events: Iterable[Event], whole: Callable[[bool], bool],
                keep: Callable[[str, list[WholeCall]], None]) -> Iterator[Event]:
    reply = ReplySoFar()
    for event in events:
        reply.add(event)
        if type(event) is Finish and event.reason in ("stop", "tool_calls") and whole(bool(reply.calls)):
            keep(reply.text, reply.calls)
        yield event


def _whole(conversation, chat: Chat, prompt: Prompt, said: StringIO, called: bool) -> bool:
    """Whether the agent has said no more than the caller got, but for thinking and words around JSON.

    A reply that must hold one call ends with it, whatever the upstream still says: it may be nothing.
    """
    if not called or chat.parallel_tool_calls:
        return conversation.finished(0)
    text = said.getvalue()
    return (text.count(prompt.open_mark) == 1 and not text.partition(prompt.close_mark)[2].strip()
            and conversation.finished(LAST_S))


def _transformed(events: Iterable[Event], chat: Chat, prompt: Prompt, rules: ReplyRules,
                 new_id: Callable[[], str], shown: str | None) -> Iterator[Event]:
    """The order matters: thinking is neither text nor call, a call's arguments know no stop.

    JSON that was asked for is no call whose marks are missing.
    """
    tools = shown_tools(chat)
    if chat.format.type != "text":
        shown = None
    events = split_thinking(events, prompt.open_mark if tools else "")
    if tools:
        events = split_calls(events, open_mark=prompt.open_mark, close_mark=prompt.close_mark,
                             tools=tools, parallel=chat.parallel_tool_calls,
                             new_id=new_id, whole=rules.whole_calls, conversation=shown)
    if chat.format.type != "text":
        events = only_json(events, chat.format.schema)
    if chat.stop:
        events = stop_at(events, chat.stop)
    if chat.max_tokens:
        events = limit_tokens(events, min(chat.max_tokens, MAX_TOKENS))
    if tools and (chat.tool_choice.mode == "required" or rules.insist_on_call):
        events = require_call(events, chat.tool_choice.mode != "required")
    return require_text(events)


def _recorded(events: Iterable[Event], said: StringIO) -> Iterator[Event]:
    """Keeps the text. A conversation that just ends is a fault of its adapter and must not pass for a reply."""
    event = None
    for event in events:
        if type(event) is Text:
            said.write(event.text)
        yield event
    if type(event) is not Finish:
        raise RuntimeError("the upstream's events ended without a Finish")


def side_by_side(replies: Sequence[Iterator[Event]]) -> Iterator[tuple[int, Event]]:
    """The events of several replies as (index, event), as they come. Their runs have one queue, so that the
    reply that waits for its own events takes in those of the others too, and then says Waiting."""
    if len(replies) == 1:
        yield from zip(repeat(0), replies[0])
        return
    left = dict(enumerate(replies))
    while left:
        for index, events in list(left.items()):
            for event in events:
                yield index, event
                if type(event) is Waiting:
                    break
            else:
                del left[index]
