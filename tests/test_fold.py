"""The fold of a reply's events: what was said, in order, and which calls of a cut reply are left."""

import pytest

from cursor2api.chat import WholeCall
from cursor2api.events import Finish, Reasoning, Text, ToolCall, Usage, Waiting
from cursor2api.fold import ReplySoFar

FIRST = [ToolCall(0, "call_1", "f", '{"a":'), ToolCall(0, None, None, "1}")]
SECOND = [ToolCall(1, "call_2", "g", '{"b": "')]
F, G = WholeCall("call_1", "f", '{"a":1}'), WholeCall("call_2", "g", '{"b": "')
FOLDS = [
    ("nothing", [], []),
    ("pieces of one kind are one part", [Text("a"), Waiting(), Text("b")], [Text("ab")]),
    ("parts keep their order", [Reasoning("r"), Text("a"), *FIRST, Text("b"), Reasoning("s")],
     [Reasoning("r"), Text("a"), F, Text("b"), Reasoning("s")]),
    ("pieces of two calls may mix", [FIRST[0], *SECOND, FIRST[1]], [F, G]),
    ("of a reply that was cut only whole calls are left", [*FIRST, *SECOND, Finish("length")], [F]),
    ("another reply keeps its calls as they are", [*FIRST, *SECOND, Finish("tool_calls")], [F, G]),
]


@pytest.mark.parametrize("events, parts", [row[1:] for row in FOLDS], ids=[row[0] for row in FOLDS])
def test_a_reply_is_the_sum_of_its_events(events, parts):
    reply = ReplySoFar()
    for event in events:
        reply.add(event)
    assert reply.parts == parts
    assert reply.text == "".join(part.text for part in parts if type(part) is Text)
    assert reply.reasoning == "".join(part.text for part in parts if type(part) is Reasoning)
    assert reply.calls == [part for part in parts if type(part) is WholeCall]


def test_usage_and_finish_are_as_they_came():
    reply = ReplySoFar()
    assert reply.usage is reply.finish is None
    for event in (Usage(1, 2), Finish("stop", "END")):
        reply.add(event)
    assert (reply.usage, reply.finish) == (Usage(1, 2), Finish("stop", "END"))


@pytest.mark.parametrize("one, other, source", [
    ("upstream", "upstream", "upstream"), ("upstream", "estimate", "estimate"),
    ("estimate", "upstream", "estimate"), ("estimate", "estimate", "estimate")])
def test_one_estimate_makes_a_sum_an_estimate(one, other, source):
    assert Usage(1, 2, 3, 4, one) + Usage(10, 20, 30, 40, other) == Usage(11, 22, 33, 44, source)
