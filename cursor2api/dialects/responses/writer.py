"""A reply's events to a response: typed events with running numbers, or the body that the last of them carries.

Each run of text, each run of thinking and each call is an item, numbered by its place in the output; white space
alone is none. Agents run a call when its `output_item.done` comes, whatever follows, and again at each retry: so
those of calls are held back until the upstream's end is sure, and a call that was cut has none.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from json.encoder import encode_basestring_ascii as quoted
from typing import NamedTuple

from ...chat import Chat, WholeCall
from ...errors import ApiError, UpstreamCut, UpstreamTimeout
from ...events import Event, Finish, Reasoning, Text, ToolCall, Usage
from ...fold import ReplySoFar, is_cut
from .. import Frame, Identity
from .parse import Wishes

INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}  # by the reason of a Finish
Part = Text | Reasoning | WholeCall


class WireNames(NamedTuple):
    """What the API calls an item of one kind, its parts and their deltas. `empty`: the member that is empty in
    output_item.added; `place`: JSON text of the part's index; `more`: JSON text of what a delta has besides."""

    id: str
    empty: dict
    part: str = ""
    place: str = ""
    delta: str = ""
    more: str = ""


WIRE_NAMES = {
    Text: WireNames("msg", {"content": []}, "response.content_part", '"content_index":0', "response.output_text",
                    ',"logprobs":[]'),
    Reasoning: WireNames("rs", {"summary": []}, "response.reasoning_summary_part", '"summary_index":0',
                         "response.reasoning_summary_text"),
    "function": WireNames("fc", {"arguments": ""}, delta="response.function_call_arguments"),
    "custom": WireNames("ctc", {"input": ""}, delta="response.custom_tool_call_input"),
    "tool_search": WireNames("tsc", {"arguments": {}})}


class Item:
    """An item of a stream; `call` is the one that it holds, without arguments. It has an `index` as soon as
    something of it has left; `before` and `after` are then the JSON text around a delta."""

    __slots__ = ("after", "before", "call", "index", "kind", "pieces")

    def __init__(self, kind: type | str, call: WholeCall | None = None):
        self.kind, self.call, self.pieces = kind, call, []
        self.index: int | None = None

    @property
    def said(self) -> str:
        return "".join(self.pieces)

    @property
    def part(self) -> Part:
        return replace(self.call, arguments=self.said) if self.call else self.kind(self.said)


class ResponseWriter:
    """The response of one reply."""

    def __init__(self, identity: Identity, chat: Chat, wishes: Wishes):
        self._identity, self._declared, self._keep = identity, wishes.declared, wishes.keep
        self._number = 0  # of the next event
        self._items = 0  # that have begun
        self._open: Item | None = None  # a run of text or thinking
        self._call: Item | None = None  # the last call
        self._call_is_last = False  # nothing but thinking has come since the last call
        self._ended_calls: list[Item] = []
        self._done: dict[int, str] = {}  # JSON texts of the items that are done, by index
        self._finish = Finish("stop")
        # What repeats the request can be large: its JSON text is made once.
        echo = {"model": identity.model, "service_tier": "default", **wishes.echo}
        self._first = _members(echo, ("instructions", "max_output_tokens", "max_tool_calls", "model"))
        self._middle = _members(echo, (
            "parallel_tool_calls", "previous_response_id", "reasoning", "service_tier", "store", "temperature",
            "text", "tool_choice", "tools", "top_logprobs", "top_p", "truncation"))
        self._last = _members(echo, ("metadata", *(
            key for key in ("user", "safety_identifier", "prompt_cache_key") if key in echo)))

    def begin(self) -> list[Frame]:
        response = f'"response":{self._response("in_progress")}'
        return [self._frame(f"response.{name}", response) for name in ("created", "in_progress")]

    def add(self, index: int, event: Event) -> list[Frame]:
        kind = type(event)
        if kind is Text or kind is Reasoning:
            return self._say(kind, event.text)
        if kind is ToolCall:
            return self._say_of_call(event)
        if kind is Finish:
            self._finish = event
        return []

    def end(self, usage: Usage) -> list[Frame]:
        frames = self._close(self._status)
        call = self._call
        if call and not (self._call_is_last and self._finish.reason == "length" and is_cut(call.kind, call.said)):
            frames += self._close_call()
        for item in self._ended_calls:
            frames.append(self._item_done(item))
        response = self._kept(self._response(self._status, usage))
        return [*frames, self._frame(f"response.{self._status}", f'"response":{response}')]

    def fail(self, error: ApiError) -> list[Frame]:
        response = self._response("failed", error=error)
        if error.code != "caller_left":  # whoever left has no use for it
            self._kept(response)
        return [self._frame("response.failed", f'"response":{response}')]

    def heartbeat(self) -> Frame:
        """An event, because agents take comments for silence."""
        self._number += 1
        return Frame(f'{{"type":"keepalive","sequence_number":{self._number - 1}}}', "keepalive")

    def body(self, replies: Sequence[ReplySoFar], usage: Usage) -> dict:
        [reply] = replies
        self._finish = reply.finish
        parts = [part for part in reply.parts if type(part) is WholeCall or part.text.strip()]
        for index, part in enumerate(parts):
            cut = type(part) is Text and index == len(parts) - 1 and not reply.cut_call
            self._done[index] = json.dumps(self._item(index, part, self._status if cut else "completed"))
        return json.loads(self._kept(self._response(self._status, usage)))

    # Items

    def _say(self, kind: type, text: str) -> list[Frame]:
        frames = []
        if self._open is None or self._open.kind is not kind:
            frames = self._close()
            self._open = Item(kind)
        self._call_is_last = self._call_is_last and kind is Reasoning
        item, names = self._open, WIRE_NAMES[kind]
        item.pieces.append(text)
        if item.index is None:
            if not (text := item.said).strip():
                return frames
            frames += self._begin(item, names)
            item.after += f",{names.place}"
            frames.append(self._frame(f"{names.part}.added", f'{item.after},"part":{_part(kind, "")}'))
            item.after += f'{names.more},"delta":'
        self._number += 1
        data = f"{item.before}{self._number - 1},{item.after}{quoted(text)}}}"
        return [*frames, Frame(data, f"{names.delta}.delta")]

    def _say_of_call(self, event: ToolCall) -> list[Frame]:
        frames = []
        if event.id is not None:
            frames = [*self._close(), *self._close_call()]
            self._call = Item(self._declared[event.name].kind, WholeCall(event.id, event.name, "", event.kind))
            frames += self._begin(self._call, WIRE_NAMES[self._call.kind])
            self._call.after += ',"delta":'
        item, self._call_is_last = self._call, True
        item.pieces.append(event.arguments)
        if event.arguments and item.kind != "tool_search":
            self._number += 1
            frames.append(Frame(f"{item.before}{self._number - 1},{item.after}{quoted(event.arguments)}}}",
                                f"{WIRE_NAMES[item.kind].delta}.delta"))
        return frames

    def _begin(self, item: Item, names: WireNames) -> list[Frame]:
        item.index = self._items
        self._items += 1
        item.before = f'{{"type":"{names.delta}.delta","sequence_number":'
        item.after = f'"item_id":"{self._item_id(item.index, names)}","output_index":{item.index}'
        begun = {**self._item(item.index, item.part, "in_progress"), **names.empty}
        return [self._frame("response.output_item.added",
                            f'"output_index":{item.index},"item":{json.dumps(begun)}')]

    def _close(self, status: str = "completed") -> list[Frame]:
        """The end of the run of text or thinking, if there is one."""
        item, self._open = self._open, None
        if item is None or item.index is None:
            return []
        names = WIRE_NAMES[item.kind]
        at = f'"item_id":"{self._item_id(item.index, names)}","output_index":{item.index},{names.place}'
        return [self._frame(f"{names.delta}.done", f'{at}{names.more},"text":{quoted(item.said)}'),
                self._frame(f"{names.part}.done", f'{at},"part":{_part(item.kind, item.said)}'),
                self._item_done(item, status)]

    def _close_call(self) -> list[Frame]:
        """The end of the last call, if there is one; the item's own end is held back."""
        item, self._call = self._call, None
        if item is None:
            return []
        self._ended_calls.append(item)
        names = WIRE_NAMES[item.kind]
        at = f'"item_id":"{self._item_id(item.index, names)}","output_index":{item.index}'
        if item.kind == "tool_search":
            return []
        if item.kind == "custom":
            return [self._frame(f"{names.delta}.done", f'{at},"input":{quoted(item.said)}')]
        name = self._declared[item.call.name].name
        return [self._frame(f"{names.delta}.done", f'{at},"name":{quoted(name)},"arguments":{quoted(item.said)}')]

    def _item_done(self, item: Item, status: str = "completed") -> Frame:
        text = self._done[item.index] = json.dumps(self._item(item.index, item.part, status))
        return self._frame("response.output_item.done", f'"output_index":{item.index},"item":{text}')

    def _item(self, index: int, part: Part, status: str) -> dict:
        kind = type(part)
        if kind is Text:
            return {"id": self._item_id(index, WIRE_NAMES[Text]), "type": "message", "status": status,
                    "role": "assistant", "content": [_content(Text, part.text)]}
        if kind is Reasoning:
            return {"id": self._item_id(index, WIRE_NAMES[Reasoning]), "type": "reasoning",
                    "summary": [_content(Reasoning, part.text)], "encrypted_content": None}
        tool = self._declared[part.name]
        item = {"id": self._item_id(index, WIRE_NAMES[tool.kind]), "type": f"{tool.kind}_call", "status": status,
                "call_id": part.id}
        if tool.kind == "tool_search":  # its arguments are an object, and begin as one
            return {**item, "execution": "client", "arguments": json.loads(part.arguments or "{}")}
        said = {"name": tool.name, "arguments": part.arguments}
        if tool.kind == "custom":
            item["type"], said = "custom_tool_call", {"name": tool.name, "input": part.arguments}
        return item | said | ({"namespace": tool.namespace} if tool.namespace else {})

    def _item_id(self, index: int, names: WireNames) -> str:
        return f"{names.id}_{self._identity.token}_{index}"

    # Frames

    def _kept(self, response: str) -> str:
        """The response, which can be asked for before its caller has it."""
        if self._keep:
            self._keep(f"resp_{self._identity.token}", response)
        return response

    def _frame(self, name: str, members: str) -> Frame:
        """One event; `members` is the JSON text of what it has beside its type and number."""
        self._number += 1
        return Frame(f'{{"type":"{name}","sequence_number":{self._number - 1},{members}}}', name)

    @property
    def _status(self) -> str:
        return "incomplete" if self._finish.reason in INCOMPLETE else "completed"

    def _response(self, status: str, usage: Usage | None = None, error: ApiError | None = None) -> str:
        """The JSON text of the response with the items that are done."""
        identity = self._identity
        so_far = _members({
            "id": f"resp_{identity.token}", "object": "response", "created_at": identity.created, "status": status,
            "background": False, "completed_at": int(identity.now()) if status == "completed" else None,
            "error": error and {"code": _code(error), "message": _message(error)},
            "incomplete_details": {"reason": INCOMPLETE[self._finish.reason]} if status == "incomplete" else None})
        output = ",".join(text for _, text in sorted(self._done.items()))
        return (f'{{{so_far},{self._first},"output":[{output}],{self._middle},'
                f'"usage":{json.dumps(usage and _usage(usage))},{self._last}}}')


def _members(values: dict, names: Iterable[str] | None = None) -> str:
    """The JSON text of members, without an object's braces."""
    return json.dumps(values if names is None else {name: values[name] for name in names})[1:-1]


def _content(kind: type, text: str) -> dict:
    if kind is Reasoning:
        return {"type": "summary_text", "text": text}
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _part(kind: type, text: str) -> str:
    return json.dumps(_content(kind, text))


def _code(error: ApiError) -> str:
    """What an agent goes by: it asks again unless the prompt is said to be invalid."""
    if error.status == 429:
        return "rate_limit_exceeded"
    again = error.retry_after is not None or isinstance(error, (UpstreamCut, UpstreamTimeout))
    return "server_error" if again else "invalid_prompt"


def _message(error: ApiError) -> str:
    wait = f" Please try again in {max(1, round(error.retry_after))}s." if (
        error.status == 429 and error.retry_after is not None) else ""
    return error.message + wait


def _usage(usage: Usage) -> dict:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "source": usage.source}  # ours: whose count it is, upstream or estimate
