"""From events to what leaves: the chunks of a stream, or the one completion that they fold into.

Both take (index, event) pairs, the index being the choice's. Pure: id, time and model are in the head.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii

from ..events import Event, Finish, Reasoning, Text, ToolCall, Usage, Waiting
from ..server.record import RequestRecord


@dataclass(frozen=True, slots=True)
class Identity:
    """What is equal in every chunk of a reply; `created` is in unix seconds.

    `functions` says that the caller knows tools in their old form and is answered in it.
    """

    id: str
    created: int
    model: str
    functions: bool = False

    def around(self, include_usage: bool) -> tuple[str, str]:
        """The JSON text of a chunk before and after what stands in its `choices`."""
        return (f'{{"id":"{self.id}","object":"chat.completion.chunk","created":{self.created},'
                f'"model":{encode_basestring_ascii(self.model)},"choices":[',
                '],"usage":null}' if include_usage else "]}")

    def heartbeat(self, include_usage: bool) -> str:
        """A chunk that says nothing."""
        before, after = self.around(include_usage)
        return f'{before}{{"index":0,"delta":{{}},"logprobs":null,"finish_reason":null}}{after}'


def chunks(pairs: Iterable[tuple[int, Event]], head: Identity, record: RequestRecord, *, count: int = 1,
           include_usage: bool = False) -> Iterator[str]:
    """The chunks as JSON texts, in the order that the API keeps: roles, deltas, finish, usage.

    An empty text stands for Waiting. One kind of content a chunk: clients lose the second of two.
    """
    before, after = head.around(include_usage)

    def chunk(index: int, delta: str, finish: str = "null") -> str:
        return (f'{before}{{"index":{index},"delta":{delta},"logprobs":null,'
                f'"finish_reason":{finish}}}{after}')

    for index in range(count):
        yield chunk(index, '{"role":"assistant","content":"","refusal":null}')
    yield ""
    usages = []
    for index, event in pairs:
        kind = type(event)
        if kind is Text:
            record.delta()
            yield chunk(index, f'{{"content":{encode_basestring_ascii(event.text)}}}')
        elif kind is Waiting:
            yield ""
        elif kind is Reasoning:
            record.delta()
            yield chunk(index, f'{{"reasoning_content":{json.dumps(event.text)}}}')
        elif kind is ToolCall:
            record.delta()
            if not head.functions:
                yield chunk(index, json.dumps({"tool_calls": [_tool_delta(event)]}))
            elif event.index == 0:
                yield chunk(index, json.dumps({"function_call": _function(event)}))
        elif kind is Usage:
            usages.append(event)
        elif kind is Finish:
            record.finishes.append(_reason(event, head))
            yield chunk(index, "{}", json.dumps(_reason(event, head)))
    record.usage = usage_object(usages)
    if include_usage:
        yield f'{before}],"usage":{json.dumps(record.usage)}}}'


def completion(pairs: Iterable[tuple[int, Event]], head: Identity, record: RequestRecord, *,
               count: int = 1) -> Iterator[str]:
    """Folds the events into one JSON text, the completion; an empty text before it stands for Waiting.

    A tool call whose arguments were cut is left out: a stream cannot take back the pieces that it
    sent, but there they are no JSON, and so no call either.
    """
    choices = [_Choice(index) for index in range(count)]
    usages = []
    for index, event in pairs:
        if type(event) is Waiting:
            yield ""
        elif type(event) is Usage:
            usages.append(event)
        else:
            choices[index].add(event)
            record.deltas += type(event) is not Finish
    record.usage = usage_object(usages)
    objects = [choice.object(head) for choice in choices]
    record.finishes = [choice["finish_reason"] for choice in objects]
    yield json.dumps({"id": head.id, "object": "chat.completion", "created": head.created,
                      "model": head.model, "choices": objects, "usage": record.usage})


class _Choice:
    def __init__(self, index: int):
        self.index = index
        self.text: list[str] = []
        self.reasoning: list[str] = []
        self.calls: dict[int, tuple[str, str, list[str]]] = {}
        self.finish: Finish | None = None

    def add(self, event: Event) -> None:
        if type(event) is Text:
            self.text.append(event.text)
        elif type(event) is Reasoning:
            self.reasoning.append(event.text)
        elif type(event) is Finish:
            self.finish = event
        elif event.id is not None:
            self.calls[event.index] = (event.id, event.name, [event.arguments])
        else:
            self.calls[event.index][2].append(event.arguments)

    def object(self, head: Identity) -> dict:
        calls = [(id, name, "".join(parts)) for id, name, parts in self.calls.values()]
        if self.finish.reason == "length":
            calls = [call for call in calls if _whole(call[2])]
        content = "".join(self.text)
        message = {"role": "assistant", "content": content if content or not calls else None,
                   "refusal": None}
        if self.reasoning:
            message["reasoning_content"] = "".join(self.reasoning)
        if calls and head.functions:
            message["function_call"] = {"name": calls[0][1], "arguments": calls[0][2]}
        elif calls:
            message["tool_calls"] = [
                {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}
                for id, name, arguments in calls]
        return {"index": self.index, "message": message, "logprobs": None,
                "finish_reason": _reason(self.finish, head)}


def usage_object(usages: list[Usage]) -> dict:
    """The API's usage, summed over the choices; `source` says whose count it is (upstream, estimate)."""
    prompt = sum(usage.prompt_tokens for usage in usages)
    written = sum(usage.completion_tokens for usage in usages)
    return {
        "prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written,
        "prompt_tokens_details": {"cached_tokens": sum(usage.cached_tokens for usage in usages),
                                  "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": sum(usage.reasoning_tokens for usage in usages), "audio_tokens": 0,
            "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0},
        "source": "upstream" if all(usage.source == "upstream" for usage in usages) else "estimate"}


def _tool_delta(call: ToolCall) -> dict:
    if call.id is None:
        return {"index": call.index, "function": {"arguments": call.arguments}}
    return {"index": call.index, "id": call.id, "type": "function", "function": _function(call)}


def _function(call: ToolCall) -> dict:
    return {"name": call.name, "arguments": call.arguments} if call.name else {
        "arguments": call.arguments}


def _reason(finish: Finish, head: Identity) -> str:
    return "function_call" if head.functions and finish.reason == "tool_calls" else finish.reason


def _whole(arguments: str) -> bool:
    try:
        json.loads(arguments)
    except ValueError:
        return False
    return True
