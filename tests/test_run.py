"""A run: what the reply gets of what its thread says, and whose its agent is however the two sides end."""

import threading

import pytest

from conftest import until
from cursor2api.errors import UpstreamError
from cursor2api.events import Finish, Text, Waiting
from cursor2api.effects.reply import side_by_side
from cursor2api.prompt import Briefing, Prompt
from cursor2api.upstream.run import ROOM, Runs

STOP = Finish("stop")


class Agent:
    """Says what its test wants; `answers` are functions of the run, one an answer."""

    name = "agent/1"

    def __init__(self, *answers):
        self.answers, self.deleted, self.prompts = list(answers), threading.Event(), []

    def answer(self, run):
        self.prompts.append(run.take_prompt())
        self.answers.pop(0)(run)

    def delete(self):
        self.deleted.set()


def prompt(text="hi"):
    return Prompt("m", (), text, (), Briefing("n", "", 0))


def saying(*events):
    return lambda run: run.say(*events)


def waiting(run):
    while True:
        run.pause(30)


@pytest.fixture
def runs():
    one = Runs(8)
    yield one
    assert one.finish(10) == []


def said(run):
    return [event for event in run if type(event) is not Waiting]


def test_what_is_said_is_heard_in_order_up_to_its_finish(runs):
    agent = Agent(lambda run: (run.say(Text("a"), Text("b")), run.say(STOP)))
    run = runs.start(agent, prompt())
    assert said(run) == [Text("a"), Text("b"), STOP]
    run.end()
    assert agent.deleted.wait(10)


def test_waiting_comes_when_nothing_is_at_hand(runs):
    go = threading.Event()
    run = runs.start(Agent(lambda run: (run.say(Text("a")), go.wait(10), run.say(STOP))), prompt())
    events = iter(run)
    assert next(event for event in events if type(event) is not Waiting) == Text("a")
    assert next(events) == Waiting() == next(events)
    go.set()
    assert [event for event in events if type(event) is not Waiting] == [STOP]
    run.end()


@pytest.mark.parametrize("way", ["before a word", "while it waits", "while it speaks", "after its finish"])
def test_an_agent_is_deleted_when_its_run_is_ended(runs, way):
    begun = threading.Event()

    def speak(run):
        begun.set()
        while way == "while it speaks":
            run.say(Text("a"))
        run.say(STOP) if way == "after its finish" else waiting(run)

    agent = Agent(speak)
    run = runs.start(agent, prompt())
    if way != "before a word":
        assert begun.wait(10)
    if way == "after its finish":
        assert said(run) == [STOP]
    run.end()
    run.end()
    assert agent.deleted.wait(10)


def test_an_agent_is_gone_when_it_has_been_deleted(runs):
    begun, made = threading.Event(), threading.Event()
    agent = Agent(lambda run: (begun.set(), made.wait(30)))  # as a patient call: only its answer ends it
    run = runs.start(agent, prompt())
    assert begun.wait(30)
    run.end()
    assert not run.gone.done()
    made.set()
    assert run.gone.result(30) is None and agent.deleted.is_set()


def test_an_agent_that_is_released_is_left_alone(runs):
    agent = Agent(saying(STOP))
    run = runs.start(agent, prompt())
    assert said(run) == [STOP] and run.release() == "agent/1"
    run.end()
    assert runs.finish(10) == [] and not agent.deleted.is_set() and not run.gone.done()


@pytest.mark.parametrize("error", [UpstreamError("no"), RuntimeError("a fault")])
def test_what_an_answer_raises_is_raised_where_it_is_heard(runs, error):
    def fail(run):
        run.say(Text("a"))
        raise error

    agent = Agent(fail)
    run = runs.start(agent, prompt())
    heard = []
    with pytest.raises(type(error)):
        for event in run:
            heard.append(event)
    assert Text("a") in heard
    run.end()
    assert agent.deleted.wait(10)


def test_a_follow_up_breaks_the_answer_off_and_what_was_said_late_is_not_heard(runs):
    begun = threading.Event()

    def endless(run):
        for _ in range(ROOM):
            run.say(Text("old"))
        begun.set()
        waiting(run)

    agent = Agent(endless, saying(Text("new"), STOP))
    run = runs.start(agent, prompt("first"))
    assert begun.wait(10) and next(iter(run)) in (Text("old"), Waiting())
    run.follow_up(prompt("second"), "old")
    assert said(run) == [Text("new"), STOP] and run.last_reply == "old"
    assert [each.text for each in agent.prompts] == ["first", "second"]
    run.end()


def test_a_slow_caller_slows_the_speaking(runs):
    count = 0

    def speak(run):
        nonlocal count
        for count in range(1, 1001):
            run.say(Text(str(count)))
        run.say(STOP)

    run = runs.start(Agent(speak), prompt())
    events = (event for event in run if type(event) is Text)
    assert next(events) == Text("1")
    assert until(lambda: count > ROOM) and not until(lambda: count > 2 * ROOM, 0.5)
    assert [event.text for event in events] == [str(number) for number in range(2, 1001)]
    run.end()


def test_a_refusal_is_heard_by_whoever_waits_for_a_yes(runs):
    def refuse(run):
        raise UpstreamError("no", code="refused")

    run = runs.start(Agent(refuse), prompt())
    with pytest.raises(UpstreamError):
        run.wait(10)
    run.end()
    run = runs.start(Agent(lambda run: (run.accept(), waiting(run))), prompt())
    assert run.wait(10) and not run.wait(0.1, spoken=True)
    run.end()


def test_runs_with_one_queue_are_heard_side_by_side(runs):
    from queue import SimpleQueue
    turns = [threading.Event() for _ in range(3)]
    queue = SimpleQueue()

    def speak(index):
        def answer(run):
            for word in range(3):
                run.say(Text(f"{index}{word}"))
                turns[index].set()
                turns[(index + 1) % 3].wait(10)
            run.say(STOP)
        return answer

    all_runs = [runs.start(Agent(speak(index)), prompt(), queue) for index in range(3)]
    pairs = [pair for pair in side_by_side([iter(run) for run in all_runs]) if type(pair[1]) is not Waiting]
    for index in range(3):
        assert [event for at, event in pairs if at == index] == [
            *(Text(f"{index}{word}") for word in range(3)), STOP]
    for run in all_runs:
        run.end()


def test_a_prompt_is_held_by_nobody_once_it_is_taken(runs):
    import gc
    import weakref

    class Large(str):
        pass

    text = Large("long")
    gone = weakref.ref(text)
    agent = Agent(waiting)

    def answer(run):
        run.take_prompt()
        waiting(run)

    agent.answer = answer
    run = runs.start(agent, prompt(text))
    del text
    gc.collect()
    assert until(lambda: gone() is None)
    run.end()
