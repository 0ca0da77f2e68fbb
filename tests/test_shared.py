"""Conversations go on whichever worker, start or machine answers; and whoever is killed leaves nothing behind."""

import os
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import command, descendants, gateway, until
from test_load import LONG
from test_redis import Server
from test_reuse import KEEP, Talk, folded, left, prompts
from test_service import settled

TALKS, TURNS = 8, 5


def workers(gate, count):
    assert until(lambda: len(gate.workers()) == count)
    return gate.workers()


def bridges(gate):
    """The ids of the bridges that run below a gateway, without their keepers."""
    return [id for id in descendants(gate.process.pid)
            if "bridge.py" in command(id) and "keeper.py" not in command(id)]


def converse(gates, turns, talks=None, stream=True):
    """Conversations side by side, each turn over a connection of its own, and to the next of the gates."""
    talks = talks or [Talk(gates[0], stream=n % 2 == 0) for n in range(TALKS)]

    def turn(at, number):
        talk = talks[at]
        talk.gate = gates[(at + number) % len(gates)]
        talk.ask(f"My name is Ada{at}" if not number else f"What is my name? {number}")
        assert f"Ada{at}" in talk.messages[-1]["content"]
    with ThreadPoolExecutor(TALKS) as pool:
        for number in turns:
            list(pool.map(turn, range(TALKS), [number] * TALKS))
    return talks


REUSED = ["new"] + ["reused"] * (TURNS - 1)


@pytest.mark.parametrize("upstream, count", [("sdk", 1), ("sdk", 2), ("cloud", 1), ("cloud", 2)])
def test_every_later_turn_is_reused_whichever_worker_answers(upstream, count):
    with gateway(upstream=upstream, environ={**KEEP, "WEB_CONCURRENCY": str(count)}) as gate:
        workers(gate, count)
        talks = converse([gate], range(TURNS))
        assert [talk.kinds for talk in talks] == [REUSED] * TALKS and len(gate.agents()) == TALKS
        assert all(len(prompt) <= len("What is my name? 1") + 400 for runs in prompts(gate) for prompt in runs[1:])
        assert len(bridges(gate)) == (upstream == "sdk")


def stopped(gate):
    gate.process.send_signal(signal.SIGTERM)
    gate.process.wait(60)


def test_a_restart_goes_on_with_the_agents_of_the_state_file_and_deletes_old_ones(tmp_path):
    environ = {**KEEP, "STATE_FILE": str(tmp_path / "state"), "WEB_CONCURRENCY": "2", "KEEP_AGENT_S": "30"}
    with gateway(environ=environ) as gate:
        talks = converse([gate], range(2))
        Talk(gate).ask("Nobody comes back to this")
        stopped(gate)
        assert len(left(gate)) == TALKS + 1
        with gateway(environ={**environ, "CURSOR_BASE_URL": gate.simulator.url}) as second:
            second.simulator = gate.simulator
            converse([second], range(2, TURNS), talks)
            assert [talk.kinds for talk in talks] == [REUSED] * TALKS
            assert until(lambda: len(left(gate)) == TALKS, 60)
            stopped(second)
        with gateway(environ={**environ, "CURSOR_BASE_URL": gate.simulator.url}):
            assert until(lambda: not left(gate), 60)


def test_without_a_state_file_a_stop_leaves_neither_agents_nor_a_file(tmp_path):
    with gateway(environ={**KEEP, "TMPDIR": str(tmp_path), "WEB_CONCURRENCY": "2"}) as gate:
        converse([gate], range(1))
        assert len(left(gate)) == TALKS and list(tmp_path.glob("cursor2api-*"))
        stopped(gate)
        assert not left(gate) and not list(tmp_path.glob("cursor2api-*"))


@pytest.mark.parametrize("upstream", ["cloud", "sdk"])
def test_a_reload_goes_on_with_the_agents(upstream):
    """Those of a bridge end with it: then the next turn is a new one's, and no reply shows it."""
    with gateway(upstream=upstream, environ={**KEEP, "WEB_CONCURRENCY": "2"}) as gate:
        before = workers(gate, 2)
        talks = converse([gate], range(2))
        gate.process.send_signal(signal.SIGHUP)
        assert until(lambda: len(gate.workers()) == 2 and not set(before) & set(gate.workers()))
        converse([gate], range(2, TURNS), talks)
        after = "reused" if upstream == "cloud" else "new"
        assert [talk.kinds for talk in talks] == [["new", "reused", after, "reused", "reused"]] * TALKS
        assert len(bridges(gate)) == (upstream == "sdk")


@pytest.mark.skipif(not shutil.which("redis-server"), reason="redis-server is not installed")
def test_two_instances_go_on_with_each_others_agents_in_redis(tmp_path):
    server = Server(tmp_path)
    server.start()
    try:
        environ = {**KEEP, "REDIS_URL": server.url, "WEB_CONCURRENCY": "2"}
        with gateway(environ=environ) as first, gateway(environ={
                **environ, "CURSOR_BASE_URL": first.simulator.url}) as second:
            second.simulator = first.simulator
            talks = converse([first, second], range(TURNS))
            assert [talk.kinds for talk in talks] == [REUSED] * TALKS and len(first.agents()) == TALKS
    finally:
        server.stop()


@pytest.mark.skipif(not shutil.which("redis-server"), reason="redis-server is not installed")
def test_an_agent_of_a_bridge_never_goes_to_redis(tmp_path):
    server = Server(tmp_path)
    server.start()
    try:
        with gateway(upstream="sdk", environ={**KEEP, "REDIS_URL": server.url, "WEB_CONCURRENCY": "2"}) as gate:
            workers(gate, 2)
            talks = converse([gate], range(TURNS))
            assert [talk.kinds for talk in talks] == [REUSED] * TALKS and server.client.keys() == []
    finally:
        server.stop()


# Whoever is killed ------------------------------------------------------------------------------------


def keeper_of(gate):
    return next((id for id in descendants(gate.process.pid) if "keeper.py" in command(id)), None)


def owner(gate):
    """The worker whose bridge it is."""
    return next(id for id in gate.workers() if keeper_of(gate) in descendants(id))


def streaming(gate, count):
    """Streams that have begun."""
    gate.simulator.script({"replies": [{**LONG, "times": count}]})
    streams = [gate.say("Go on", stream=True) for _ in range(count)]
    lines = [each.iter_lines() for each in streams]
    assert all(next(each) for each in lines)
    gate.simulator.script(None)
    return streams, lines


@pytest.mark.parametrize("who", ["the bridge's owner", "another worker", "the keeper", "the bridge"])
def test_who_is_killed_in_mid_stream_costs_its_own_replies_only(who):
    with gateway(upstream="sdk", environ={**KEEP, "WEB_CONCURRENCY": "2"}) as gate:
        workers(gate, 2)
        talks = converse([gate], range(2))
        streams, lines = streaming(gate, 4)
        one, [bridge], before = owner(gate), bridges(gate), len(gate.agents())
        victim = {"the bridge's owner": one, "another worker": next(id for id in gate.workers() if id != one),
                  "the keeper": keeper_of(gate), "the bridge": bridge}[who]
        os.kill(victim, signal.SIGKILL)
        stays = who == "another worker"
        converse([gate], range(2, 3), talks)  # by its agent, or by a new one as the bridge is dying
        assert stays or until(lambda: not command(bridge))
        converse([gate], range(3, TURNS), talks)
        kinds = [talk.kinds for talk in talks]
        assert all(each[:2] == ["new", "reused"] and each[4] == "reused" for each in kinds), kinds
        assert all(stays == (each == REUSED) for each in kinds), kinds
        for each in streams:
            each.close()
        assert until(lambda: len(gate.workers()) == 2 and len(bridges(gate)) == 1)
        assert stays == (bridges(gate) == [bridge])
        # What a dead bridge had has ended with it, although the simulator does not know.
        assert until(lambda: len([id for id in left(gate) if stays or id in
                                  [agent["id"] for agent in gate.agents()[before:]]]) == TALKS)
        stopped(gate)
        assert not bridges(gate) and (not stays or settled(gate))


def test_what_a_killed_worker_had_at_cursor_is_deleted_by_another():
    with gateway(environ={**KEEP, "WEB_CONCURRENCY": "2"}) as gate:
        workers(gate, 2)
        talks = converse([gate], range(2))
        streams, lines = streaming(gate, 4)
        for worker in gate.workers():
            os.kill(worker, signal.SIGKILL)
        assert until(lambda: len(left(gate)) == TALKS)
        converse([gate], range(2, TURNS), talks)
        assert [talk.kinds for talk in talks] == [REUSED] * TALKS


def test_an_idle_bridge_that_holds_kept_agents_stays():
    with gateway(upstream="sdk", environ={
            **KEEP, "WEB_CONCURRENCY": "2", "SDK_IDLE_S": "2", "KEEP_AGENT_S": "30"}) as gate:
        talk = Talk(gate)
        talk.ask("My name is Ada")
        [bridge] = bridges(gate)
        assert not until(lambda: bridges(gate) != [bridge], 5)
        talk.ask("What is my name?")
        assert talk.kind == "reused" and until(lambda: not bridges(gate), 120)
        talk.ask("What is my name?")
        assert talk.kind == "new" and "Ada" in folded(talk.response)["content"]


def test_warm_agents_mean_nothing_on_sdk_and_the_start_says_so():
    with gateway(upstream="sdk", environ={**KEEP, "WARM_AGENTS": "2"}) as gate:
        assert gate.say().headers["x-cursor2api-agent"] == "new"
        assert "WARM_AGENTS means nothing here" in gate.log() and len(gate.agents()) == 1
