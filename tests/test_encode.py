"""Both encoders over one table: the chunks, put together as a client would, are the body."""

import json

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from cursor2api.encode import Head, chunks, completion
from cursor2api.events import Finish, Reasoning, Text, ToolCall, Usage, Waiting

HEAD = Head("chatcmpl-1", 1700000000, 'a "model" é')
OLD = Head("chatcmpl-1", 1700000000, "m", functions=True)
USAGE = Usage(3, 4)
CALL = [ToolCall(0, "call_1", "f", ""), ToolCall(0, None, None, '{"a":'), ToolCall(0, None, None, '1}')]

REPLIES = [
    ("text", HEAD, [[Text("a"), Waiting(), Text("é😀"), USAGE, Finish("stop")]]),
    ("nothing", HEAD, [[USAGE, Finish("stop")]]),
    ("reasoning", HEAD, [[Reasoning("hm"), Text("a"), USAGE, Finish("stop")]]),
    ("a call", HEAD, [[*CALL, USAGE, Finish("tool_calls")]]),
    ("text and two calls", HEAD, [[Text("a"), *CALL, ToolCall(1, "call_2", "g", "{}"), USAGE,
                                   Finish("tool_calls")]]),
    ("a cut call", HEAD, [[Text("a"), *CALL[:2], USAGE, Finish("length")]]),
    ("a call in the old form", OLD, [[*CALL, USAGE, Finish("tool_calls")]]),
    ("two choices", HEAD, [[Text("a"), USAGE, Finish("stop")], [Text("b"), USAGE, Finish("length")]]),
]


def pairs(replies):
    """The events of all choices, one of each in turn."""
    longest = max(map(len, replies))
    return [(index, events[at]) for at in range(longest) for index, events in enumerate(replies)
            if at < len(events)]


def folded(texts):
    choices, usage = {}, None
    for chunk in map(json.loads, filter(None, texts)):
        ChatCompletionChunk.model_validate(chunk, strict=False)
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
                    assert call["index"] not in kept["calls"] and call["type"] == "function"
                    kept["calls"][call["index"]] = [call["id"], call["function"]["name"], ""]
                kept["calls"][call["index"]][2] += call["function"]["arguments"]
            if "function_call" in delta:
                kept["old"] = kept["old"] or [delta["function_call"].get("name"), ""]
                kept["old"][1] += delta["function_call"]["arguments"]
            if choice["finish_reason"]:
                assert kept["finish"] is None
                kept["finish"] = choice["finish_reason"]
    return choices, usage


def whole(arguments):
    try:
        return bool(json.loads(arguments))
    except ValueError:
        return False


@pytest.mark.parametrize("name, head, replies", REPLIES, ids=[row[0] for row in REPLIES])
def test_the_chunks_put_together_are_the_body(name, head, replies):
    texts = list(chunks(pairs(replies), head, count=len(replies), include_usage=True))
    fold = completion(pairs(replies), head, count=len(replies))
    try:
        while True:
            next(fold)
    except StopIteration as end:
        body = end.value
    ChatCompletion.model_validate(body)
    choices, usage = folded(texts)
    assert usage == body["usage"] and usage["total_tokens"] == 7 * len(replies)
    for choice in body["choices"]:
        kept, message = choices[choice["index"]], choice["message"]
        assert kept["finish"] == choice["finish_reason"]
        assert kept["content"] == (message["content"] or "")
        assert kept["reasoning_content"] == message.get("reasoning_content", "")
        calls = [[call["id"], call["function"]["name"], call["function"]["arguments"]]
                 for call in message.get("tool_calls", ())]
        assert [call for call in kept["calls"].values()
                if kept["finish"] != "length" or whole(call[2])] == calls
        if kept["old"]:
            assert kept["old"] == list(message["function_call"].values())
        assert message["refusal"] is None and choice["logprobs"] is None


def test_the_role_comes_first_for_each_choice_and_the_usage_last():
    texts = [json.loads(text) for text in chunks(pairs(REPLIES[-1][2]), HEAD, count=2,
                                                 include_usage=True) if text]
    assert [text["choices"][0]["delta"].get("role") for text in texts[:3]] == [
        "assistant", "assistant", None]
    assert texts[-1]["choices"] == [] and all(text["usage"] is None for text in texts[:-1])
    assert {(text["id"], text["created"], text["model"]) for text in texts} == {
        (HEAD.id, HEAD.created, HEAD.model)}


def test_without_the_wish_there_is_no_usage():
    texts = [json.loads(text) for text in chunks(pairs(REPLIES[0][2]), HEAD) if text]
    assert all("usage" not in text and text["choices"] for text in texts)
    assert json.loads(HEAD.heartbeat(False))["choices"][0]["delta"] == {}
