"""Both forms of a reply over one table: the chunks, put together as a client would, are the body."""

import json

import pytest
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from wire import HEAD, chunks, completion, folded, record, writer

from cursor2api.dialects import Identity
from cursor2api.errors import UpstreamCut
from cursor2api.events import Finish, Reasoning, Text, ToolCall, Usage, Waiting
from cursor2api.server.record import RequestRecord

NEW, OLD = {}, {"functions": True}  # forms in which calls are answered
USAGE = Usage(3, 4)
CALL = [ToolCall(0, "call_1", "f", ""), ToolCall(0, None, None, '{"a":'), ToolCall(0, None, None, '1}')]
RAW = [ToolCall(0, "call_1", "p", "", "custom"), ToolCall(0, None, None, "12", "custom")]
CUT_RAW = [ToolCall(1, "call_2", "p", "34", "custom")]
CALL_TWO = [ToolCall(1, "call_2", "f", "{}")]

REPLIES = [
    ("text", NEW, [[Text("a"), Waiting(), Text("é😀"), USAGE, Finish("stop")]]),
    ("nothing", NEW, [[USAGE, Finish("stop")]]),
    ("reasoning", NEW, [[Reasoning("hm"), Text("a"), USAGE, Finish("stop")]]),
    ("a call", NEW, [[*CALL, USAGE, Finish("tool_calls")]]),
    ("text and two calls", NEW, [[Text("a"), *CALL, ToolCall(1, "call_2", "g", "{}"), USAGE,
                                   Finish("tool_calls")]]),
    ("a cut call", NEW, [[Text("a"), *CALL[:2], USAGE, Finish("length")]]),
    ("a custom call and one that is cut", NEW, [[*RAW, *CUT_RAW, USAGE, Finish("length")]]),
    ("a custom call", NEW, [[Text("a"), *RAW, *CALL_TWO, USAGE, Finish("tool_calls")]]),
    ("a call in the old form", OLD, [[*CALL, USAGE, Finish("tool_calls")]]),
    ("two calls, the second cut", NEW, [[*CALL, ToolCall(1, "call_2", "g", '{"b": "'), USAGE,
                                          Finish("length")]]),
    ("a call that is whole at the limit", NEW, [[*CALL, USAGE, Finish("length")]]),
    ("two calls in the old form", OLD, [[*CALL, ToolCall(1, "call_2", "g", "{}"), USAGE,
                                         Finish("tool_calls")]]),
    ("text in the old form", OLD, [[Text("a"), USAGE, Finish("stop")]]),
    ("a filtered reply", NEW, [[Text("a"), USAGE, Finish("content_filter")]]),
    ("all kinds in turn", NEW, [[Reasoning("r"), Text("a"), Reasoning("s"), Text("b"), Waiting(),
                                  *CALL, USAGE, Finish("tool_calls")]]),
    ("calls in two choices", NEW, [[*CALL, USAGE, Finish("tool_calls")],
                                    [Text("b"), *CALL, USAGE, Finish("tool_calls")]]),
    ("two choices", NEW, [[Text("a"), USAGE, Finish("stop")], [Text("b"), USAGE, Finish("length")]]),
]


def pairs(replies):
    """The events of all choices, one of each in turn."""
    longest = max(map(len, replies))
    return [(index, events[at]) for at in range(longest) for index, events in enumerate(replies)
            if at < len(events)]


def whole(arguments):
    try:
        json.loads(arguments)
    except ValueError:
        return False
    return True


def body_of(replies, form):
    made = writer(count=len(replies), **form)
    *waits, body = completion(pairs(replies), made, record(), count=len(replies))
    assert waits == [""] * sum(events.count(Waiting()) for events in replies)
    return json.loads(body)


every_reply = pytest.mark.parametrize("name, form, replies", REPLIES, ids=[row[0] for row in REPLIES])


@every_reply
def test_the_chunks_put_together_are_the_body(name, form, replies):
    texts = list(chunks(pairs(replies), writer(count=len(replies), include_usage=True, **form), record()))
    body = body_of(replies, form)
    ChatCompletion.model_validate_json(json.dumps(body), strict=True)
    choices, usage = folded(texts)
    assert usage == body["usage"] and usage["total_tokens"] == 7 * len(replies)
    for choice in body["choices"]:
        kept, message = choices[choice["index"]], choice["message"]
        assert kept["finish"] == choice["finish_reason"]
        assert kept["content"] == (message["content"] or "")
        assert kept["reasoning_content"] == message.get("reasoning_content", "")
        calls = [[call["id"], *call[call["type"]].values()] for call in message.get("tool_calls", ())]
        assert [call for call in kept["calls"].values()
                if kept["finish"] != "length" or whole(call[2]) and call[2] != "34"] == calls
        if kept["old"]:
            assert kept["old"] == list(message["function_call"].values())
        assert message["refusal"] is None and choice["logprobs"] is None


# It knows no custom calls in chunks.
@pytest.mark.parametrize("name, form, replies", [row for row in REPLIES if "custom" not in row[0]])
def test_the_official_client_puts_the_chunks_together(name, form, replies):
    state = ChatCompletionStreamState()
    made = writer(count=len(replies), include_usage=True, **form)
    for text in filter(None, chunks(pairs(replies), made, record())):
        state.handle_chunk(ChatCompletionChunk.model_validate_json(text))
    snapshot, body = state.current_completion_snapshot, body_of(replies, form)
    assert snapshot.usage.to_dict() == body["usage"]
    assert (snapshot.id, snapshot.created, snapshot.model) == ("chatcmpl-1", HEAD.created, HEAD.model)
    for choice, expected in zip(snapshot.choices, body["choices"], strict=True):
        message = {key: value for key, value in choice.message.to_dict().items()
                   if value is not None and key not in ("refusal", "tool_calls")}
        assert message == {"content": ""} | {
            key: value for key, value in expected["message"].items()
            if value is not None and key not in ("refusal", "tool_calls")}
        calls = [(call.id, call.type, call.function.name, call.function.arguments)
                 for call in choice.message.tool_calls or () if whole(call.function.arguments)]
        assert calls == [(call["id"], call["type"], *call["function"].values())
                         for call in expected["message"].get("tool_calls", ())]


COMPLETION_KEYS = {"id", "object", "created", "model", "choices", "usage"}
DETAILS = {"prompt_tokens_details", "completion_tokens_details"}


@every_reply
def test_every_key_that_the_schema_requires_is_there(name, form, replies):
    body = body_of(replies, form)
    assert set(body) == COMPLETION_KEYS and body["object"] == "chat.completion"
    assert DETAILS < set(body["usage"]) and body["usage"]["source"] == "upstream"
    for choice in body["choices"]:
        message = choice["message"]
        assert set(choice) == {"index", "message", "logprobs", "finish_reason"}
        assert {"role", "content", "refusal"} <= set(message) and message["role"] == "assistant"
        assert message["content"] is not None or "tool_calls" in message or "function_call" in message
        assert message["content"] != "" or not {"tool_calls", "function_call"} & set(message)
        assert None not in (message.get("tool_calls", 0), message.get("function_call", 0))
    for text in filter(None, chunks(pairs(replies), writer(count=len(replies), **form), record())):
        chunk = json.loads(text)
        assert set(chunk) == COMPLETION_KEYS - {"usage"}
        assert chunk["object"] == "chat.completion.chunk" and len(chunk["choices"]) == 1
        for choice in chunk["choices"]:
            assert set(choice) == {"index", "delta", "logprobs", "finish_reason"}
            assert choice["finish_reason"] is None or choice["delta"] == {}


@every_reply
def test_what_names_a_call_is_sent_once(name, form, replies):
    seen = set()
    for text in filter(None, chunks(pairs(replies), writer(count=len(replies), **form), record())):
        choice = json.loads(text)["choices"][0]
        for call in choice["delta"].get("tool_calls", ()):
            place = choice["index"], call["index"]
            kind, said = ("custom", "input") if "custom" in call else ("function", "arguments")
            assert set(call) == ({"index", kind} if place in seen else {"index", "id", "type", kind})
            assert set(call[kind]) == ({said} if place in seen else {"name", said})
            seen.add(place)
        if "function_call" in choice["delta"]:
            assert ("name" in choice["delta"]["function_call"]) == (choice["index"] not in seen)
            seen.add(choice["index"])


@pytest.mark.parametrize("model", ['a "quoted" \\ one', "naïve/世界😀", "], \"usage\": null}", "{}\n\u2028"])
@pytest.mark.parametrize("include_usage", [True, False])
def test_any_model_name_survives(model, include_usage):
    made = writer(Identity("1", 1, model), include_usage=include_usage)
    texts = [text for text in chunks(pairs(REPLIES[0][2]), made, record()) if text]
    for text in [*texts, made.heartbeat().data]:
        assert json.loads(text)["model"] == model and "\n" not in text and text.isascii()


def test_waiting_is_an_empty_text_and_the_roles_leave_at_once():
    texts = list(chunks([(0, Waiting()), (0, Text("a")), (0, Waiting())], writer(), record()))
    assert [bool(text) for text in texts] == [True, False, False, True, False]


def test_one_estimate_makes_the_sum_an_estimate():
    usage = body_of([[Usage(1, 2, 1, 1), Finish("stop")],
                     [Usage(3, 4, 2, 3, "estimate"), Finish("stop")]], NEW)["usage"]
    assert usage["source"] == "estimate" and usage["total_tokens"] == 10
    assert usage["prompt_tokens_details"]["cached_tokens"] == 4
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 3


def test_a_reply_without_a_finish_is_never_a_stop():
    with pytest.raises(AttributeError):
        body_of([[Text("a"), USAGE]], NEW)
    assert all('"finish_reason":null' in text for text in chunks([(0, Text("a"))], writer(), record()) if text)


def test_a_failure_is_one_frame_and_no_done():
    frame, = writer().fail(UpstreamCut("it was cut"))
    assert not frame.event and json.loads(frame.data) == {"error": {
        "message": "it was cut", "type": "server_error", "param": None, "code": "upstream_cut"}}


def test_the_role_comes_first_for_each_choice_and_the_usage_last():
    texts = [json.loads(text) for text in chunks(pairs(REPLIES[-1][2]), writer(count=2, include_usage=True),
                                                 record()) if text]
    assert [text["choices"][0]["delta"].get("role") for text in texts[:3]] == [
        "assistant", "assistant", None]
    assert texts[-1]["choices"] == [] and all(text["usage"] is None for text in texts[:-1])
    assert {(text["id"], text["created"], text["model"]) for text in texts} == {
        ("chatcmpl-1", HEAD.created, HEAD.model)}


def test_without_the_wish_there_is_no_usage():
    texts = [json.loads(text) for text in chunks(pairs(REPLIES[0][2]), writer(), record()) if text]
    assert all("usage" not in text and text["choices"] for text in texts)
    assert json.loads(writer().heartbeat().data)["choices"][0]["delta"] == {}


@every_reply
def test_both_encoders_count_the_same(name, form, replies):
    counts = [record(), record()]
    made = writer(count=len(replies), **form)
    list(chunks(pairs(replies), made, counts[0]))
    list(completion(pairs(replies), made, counts[1], count=len(replies)))
    assert counts[0].usage == counts[1].usage and counts[0].finishes == counts[1].finishes
    assert counts[0].deltas == counts[1].deltas == sum(
        isinstance(event, (Text, Reasoning, ToolCall)) for events in replies for event in events)


def test_the_first_delta_is_when_it_left():
    count = RequestRecord(iter([3.0, 5.0]).__next__)
    list(chunks([(0, Waiting()), (0, Text("a")), (0, Text("b")), (0, Finish("stop"))], writer(), count))
    assert count.first == 3.0 and count.deltas == 2
