"""Chat completions of events: what the writer makes of (index of the choice, event) pairs, and the way back."""

import json

from openai.types.chat import ChatCompletionChunk

from cursor2api.chat import Chat
from cursor2api.dialects import Identity
from cursor2api.dialects.chat_completions import ChunkWriter, Wishes
from cursor2api.events import Usage, Waiting
from cursor2api.server.record import RequestRecord
from cursor2api.server.serve import body_text

HEAD = Identity("1", 1700000000, 'a "model" é')


def record():
    return RequestRecord(lambda: 0.0)


def writer(head=HEAD, count=1, functions=False, include_usage=False):
    return ChunkWriter(head, Chat("m", (), n=count), Wishes(functions, include_usage))


def chunks(pairs, made, record):
    """The JSON texts of a stream's frames but [DONE]; an empty text stands for Waiting."""
    yield from (frame.data for frame in made.begin())
    yield ""
    for index, event in record.counted(pairs, True):
        if type(event) is Waiting:
            yield ""
        else:
            yield from (frame.data for frame in made.add(index, event))
    *frames, done = made.end(record.usage or Usage(0, 0))
    assert done.data == "[DONE]"
    yield from (frame.data for frame in frames)


def completion(pairs, made, record, count=1):
    """The one text that is not empty; before it comes an empty one for each Waiting."""
    return body_text(made, record.counted(pairs, False), count, record)


def folded(texts):
    """(what each choice came to by its index, usage) of chunks, put together as a client would."""
    choices, usage = {}, None
    for chunk in map(json.loads, filter(None, texts)):
        if '"custom"' not in json.dumps(chunk):  # which the client knows in completions alone
            ChatCompletionChunk.model_validate_json(json.dumps(chunk), strict=True)
        usage = chunk.get("usage") or usage
        for choice in chunk["choices"]:
            assert len(set(choice["delta"]) - {"role", "refusal"}) <= 1
            kept = choices.setdefault(choice["index"], {"content": "", "reasoning_content": "",
                                                        "calls": {}, "old": None, "finish": None})
            delta = choice["delta"]
            kept["content"] += delta.get("content") or ""
            kept["reasoning_content"] += delta.get("reasoning_content") or ""
            for call in delta.get("tool_calls", ()):
                if "id" in call:
                    assert call["index"] not in kept["calls"]
                    kept["calls"][call["index"]] = [call["id"], call[call["type"]]["name"], ""]
                said = call["custom"]["input"] if "custom" in call else call["function"]["arguments"]
                kept["calls"][call["index"]][2] += said
            if "function_call" in delta:
                kept["old"] = kept["old"] or [delta["function_call"].get("name"), ""]
                kept["old"][1] += delta["function_call"]["arguments"]
            if choice["finish_reason"]:
                assert kept["finish"] is None
                kept["finish"] = choice["finish_reason"]
    return choices, usage
