"""Agents kept in a real Redis: for several workers and machines, and what happens when it fails."""

import math
import shutil
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from select import select
from threading import Barrier, Thread
from uuid import uuid4

import pytest
import redis
from conftest import MODEL, ROOT, free_port, gateway, until
from test_load import LONG
from test_responses import turns
from test_reuse import KEEP, Talk, folded, left, prompts

from cursor2api.state.redis_store import RedisStore
from cursor2api.state.store import Store

pytestmark = pytest.mark.skipif(not shutil.which("redis-server"), reason="redis-server is not installed")


class Server:
    def __init__(self, directory):
        self.port, self.directory = free_port(), directory
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.client = redis.Redis.from_url(self.url, decode_responses=True)

    def start(self):
        self.process = subprocess.Popen(
            ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
             "--dir", str(self.directory)], stdout=subprocess.DEVNULL)
        assert until(self.answers)

    def answers(self):
        try:
            return self.client.ping()
        except redis.ConnectionError:
            return False

    def stop(self):
        self.process.kill()
        self.process.wait(30)

    def everything(self):
        """All that it holds, as text."""
        held = {key: self.client.zrange(key, 0, -1, withscores=True) if self.client.type(key) == "zset"
                else self.client.get(key) for key in self.client.keys()}
        return str(held)


@pytest.fixture
def server(tmp_path):
    one = Server(tmp_path)
    one.start()
    yield one
    one.stop()


class Between:
    """What a client and a server say goes through here: `passes` answers arrive, then `loses` are lost, each with
    its connection."""

    def __init__(self, server):
        self.passes, self.loses, self._server = math.inf, 0, server.port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            client, _ = self._listener.accept()
            Thread(target=self._relay, args=(client,), daemon=True).start()

    def _relay(self, client):
        with client, socket.create_connection(("127.0.0.1", self._server)) as server, suppress(OSError):
            while True:
                for ready in select([client, server], [], [])[0]:
                    data = ready.recv(65536)
                    if not data or ready is server and self._is_lost():
                        return
                    (client if ready is server else server).sendall(data)

    def _is_lost(self):
        if self.passes:
            self.passes -= 1
            return False
        self.passes, self.loses = 0 if self.loses > 1 else math.inf, self.loses - 1
        return True


@contextmanager
def machines(server, count=2, **settings):
    """Gateways that share a Redis and a Cursor account."""
    environ = {**KEEP, "REDIS_URL": server.url, **settings}
    with gateway(environ=environ) as first:
        if count == 1:
            yield [first]
            return
        with gateway(environ={**environ, "CURSOR_BASE_URL": first.simulator.url}) as second:
            second.simulator = first.simulator
            yield [first, second]


@pytest.fixture(scope="module")
def four_workers(tmp_path_factory):
    one = Server(tmp_path_factory.mktemp("redis"))
    one.start()
    with machines(one, WEB_CONCURRENCY="2") as gates:
        yield one, gates
    one.stop()


@pytest.fixture
def workers(four_workers):
    server, gates = four_workers
    gates[0].simulator.forget()
    server.client.flushall()
    return server, gates


@pytest.mark.parametrize("stream", [False, True], ids=["body", "stream"])
def test_a_conversation_has_one_agent_whichever_machine_answers(workers, stream):
    _, gates = workers
    talk = Talk(gates[0], stream)
    for turn in range(10):
        talk.gate = gates[turn % 2]
        talk.ask(f"Turn {turn}")
    assert talk.kinds == ["new"] + ["reused"] * 9 and len(gates[0].agents()) == 1


def test_of_equal_requests_to_all_workers_one_has_the_agent(workers):
    _, gates = workers
    talk = Talk(gates[0])
    talk.ask("One")
    body = {**talk.options, "messages": [*talk.messages, {"role": "user", "content": "Two"}]}
    with ThreadPoolExecutor(8) as pool:
        responses = list(pool.map(lambda n: gates[n % 2].post(body), range(8)))
    kinds = [response.headers["x-cursor2api-agent"] for response in responses]
    assert sorted(kinds) == ["new"] * 7 + ["reused"]
    assert len({folded(response)["content"] for response in responses}) == 1
    # They all know the same now: one is kept, what it replaced is deleted.
    assert until(lambda: len(left(gates[0])) == 1)


def test_redis_holds_neither_text_nor_keys(workers):
    server, gates = workers
    talk = Talk(gates[0], key="second-key")
    talk.ask("My name is Ada")
    [agent] = gates[0].agents()
    nonce = agent["runs"][0]["prompt"].partition("<user_")[2][:8]
    held = server.everything()
    assert agent["id"] in held and nonce in held
    assert not any(word in held for word in ("Ada", "name", "second-key", "bob", "key-of-the-gateway"))
    assert 0 < server.client.ttl([*server.client.scan_iter("*:" + "?" * 64)][0]) <= 900


def test_machines_keep_no_more_than_the_limit_together(server):
    with machines(server, KEEP_AGENTS="2") as gates:
        for n in range(4):
            Talk(gates[n % 2]).ask(f"Talk {n}")
        ids = [agent["id"] for agent in gates[0].agents()]
        assert until(lambda: left(gates[0]) == ids[2:])


def test_stored_responses_are_gone_on_from_on_another_machine(server):
    with gateway(environ={**KEEP, "REDIS_URL": server.url}) as one, gateway(
            environ={**KEEP, "REDIS_URL": server.url, "CURSOR_BASE_URL": one.simulator.url}) as other:
        assert turns([one, other, one, other]) == {"Your name is Ann."}


def test_other_accounts_and_services_see_nothing_of_it(server):
    with machines(server) as gates, gateway(environ={
            **KEEP, "REDIS_URL": server.url, "CURSOR_BASE_URL": gates[0].simulator.url,
            "CURSOR_API_KEY": "another-account", "KEEP_AGENT_S": "1"}) as stranger:
        talk = Talk(gates[0])
        talk.ask("One")
        talk.gate = stranger
        talk.ask("Two")
        assert talk.kind == "new"
        stranger.simulator = gates[0].simulator
        assert until(lambda: len(left(stranger)) == 1)  # its own is deleted by its age, the other is not
        assert left(stranger) == [stranger.agents()[0]["id"]]


def test_what_a_stopped_machine_kept_goes_on_with_another_and_is_deleted_in_time(server):
    with machines(server, KEEP_AGENT_S="25") as gates:
        talk = Talk(gates[1])
        talk.ask("One")
        Talk(gates[1]).ask("Nobody comes back to this")
        gates[1].process.send_signal(signal.SIGTERM)
        gates[1].process.wait(60)
        assert len(left(gates[0])) == 2
        talk.gate = gates[0]
        talk.ask("Two")
        assert talk.kind == "reused"
        assert until(lambda: not left(gates[0]))
        assert server.client.keys() == []


def test_a_redis_that_is_down_means_no_reuse_and_no_error(server):
    server.stop()
    with machines(server, count=1) as [gate]:
        talk = Talk(gate)
        for turn in range(2):
            talk.ask(f"Turn {turn}")
        assert talk.kinds == ["new", "new"]
        assert until(lambda: not left(gate))
        assert gate.log().count("the store failed") == 1
        server.start()
        assert until(lambda: (talk.ask("And on"), talk.kind)[1] == "reused")
        assert gate.log().count("the store works again") == 1


def restart(server):
    server.stop()
    server.start()


FAULTS = {"dies": lambda server: server.process.kill(), "hangs": lambda server: server.process.send_signal(
    signal.SIGSTOP), "is flushed": lambda server: server.client.flushall(), "is restarted": restart}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_redis_that_fails_in_mid_conversation_costs_the_agent_only(server, fault):
    with machines(server, count=1) as [gate]:
        talk = Talk(gate)
        talk.ask("My name is Ada")
        FAULTS[fault](server)
        talk.ask("What is my name?")
        assert talk.kind == "new" and "Ada" in talk.messages[-1]["content"]
        if fault in ("dies", "hangs"):
            assert until(lambda: gate.agents()[1]["deleted"])
        else:
            talk.ask("What is my name, again?")
            assert talk.kind == "reused" and "Ada" in talk.messages[-1]["content"]


def test_limits_hold_for_all_machines(server):
    keys = {"API_KEY": "default:0000,bob:bob-key,carol:carol-key",
            "KEY_LIMITS": '{"bob": {"streams": 3}, "carol": {"requests_per_minute": 5}}'}
    with machines(server, **keys) as gates:
        def ask(turn, key, stream=False, **more):
            body = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "stream": stream, **more}
            return gates[turn % 2].post(body, key, stream=stream)
        assert [ask(n, "carol-key").status_code for n in range(8)] == [200] * 5 + [429] * 3
        gates[0].simulator.script({"replies": [LONG]})
        streams = [ask(n, "bob-key", stream=True) for n in range(6)]
        assert [each.status_code for each in streams] == [200] * 3 + [429] * 3
        for each in streams:
            each.close()
        gates[0].simulator.script(None)
        assert until(lambda: ask(1, "bob-key", n=3).ok)


@pytest.mark.parametrize("value", [
    '{"agent": "bc-1", "nonce": "a"}', "", "bc-1", "bc-1\n{}", "\n", "5", b"\xff"])
def test_what_another_version_put_there_is_passed_over(workers, value):
    server, [gate, _] = workers
    talk, other = Talk(gate), Talk(gate)
    talk.ask("One")
    [key] = server.client.scan_iter("*:" + "?" * 64)
    other.ask("Another talk")
    server.client.set(key, value)
    talk.ask("Two")
    assert talk.kind == "new" and "One" in prompts(gate)[2][0]
    other.ask("goes on")
    assert other.kind == "reused"


def test_replies_that_end_together_give_up_no_more_than_the_limit_asks(server):
    stores = [Store(RedisStore(server.url, "scope")) for _ in range(8)]
    before, new = ([f"bc-{uuid4()}/run-{uuid4()}" for _ in range(8)] for _ in range(2))
    for number in range(8):
        stores[0].keep(f"before {number}", before[number], "", 900, 8)
    together = Barrier(8)

    def put(number):
        together.wait(30)
        return stores[number].keep(f"new {number}", new[number], "", 900, 8)
    with ThreadPoolExecutor(8) as pool:
        given_up = [agent for agents in pool.map(put, range(8)) for agent in agents]
    assert sorted(given_up) == sorted(before)
    assert [stores[0].take(f"new {number}")[0] for number in range(8)] == new


def test_a_lost_answer_gives_up_no_agent_that_is_kept_and_counts_no_request_twice(server):
    between = Between(server)
    one, kept = RedisStore(between.url, "scope"), f"bc-{uuid4()}/run-{uuid4()}"
    one.keep("digest", f"bc-{uuid4()}", "", 60, 8)
    one.count("ann", 1)
    between.passes, between.loses = 0, 1
    assert one.keep("digest", kept, "note", 60, 8) == []
    assert one.take("digest") == (kept, "note")
    between.passes, between.loses = 0, 1
    assert one.count("bob", 1) == 0 and one.count("bob", 1) > 0


@pytest.mark.parametrize("passes", [1, 2, 3])
def test_agents_that_are_too_old_are_given_up_together_however_redis_fails_meanwhile(server, passes):
    between = Between(server)
    one, agents = RedisStore(between.url, "scope"), [f"bc-{uuid4()}/run-{uuid4()}" for _ in range(3)]
    assert one.expired() == []
    for number, agent in enumerate(agents):
        one.keep(str(number), agent, "", 60, 8)
    server.client.zadd("cursor2api:scope:agents", dict.fromkeys(agents, 1.0))
    between.passes, between.loses = passes, math.inf
    assert sorted(one.expired()) == sorted(agents)


UUID = "00000000-0000-4000-8000-000000000000"


@pytest.mark.parametrize("agent, good", [
    (f"bc-{UUID}", True), (f"bc-{UUID}/run-{UUID}", True), (f"agent-{UUID}", True), ("bc-1", False),
    (f"x-{UUID}", False), (f"bc-{UUID}/../../v1/me", False), (f"bc-{UUID}?all=true", False),
    (f"bc-{UUID}/run\r\nX: y", False), (f"bc-{UUID}\n", False), ("../agents", False), ("", False)])
def test_what_is_no_agents_id_gets_into_no_path(server, agent, good):
    store = Store(RedisStore(server.url, "scope"))
    store.keep("one", agent, "", 900, 2)
    assert bool(store.take("one")) == good
    members = dict.fromkeys([agent], 1.0)
    server.client.zadd("cursor2api:scope:agents", members)
    assert store.expired() == [agent] * good
    server.client.zadd("cursor2api:scope:agents", members)
    for number in range(2):  # one too many
        given_up = store.keep(str(number), f"bc-{uuid4()}", "", 900, 2)
    assert given_up == [agent] * good


@pytest.mark.parametrize("url", ["redis://localhost:abc", "redis://:se/cret@localhost",
                                 "redis://localhost?nonsense=1", "redis://localhost?socket_timeout=x",
                                 "redis://localhost?protocol=9", "redis://localhost?encoding=x",
                                 "rediss://localhost?ssl_cert_reqs=x"])
def test_a_url_that_is_none_ends_the_start_and_does_not_show_its_password(url):
    settings = {"REDIS_URL": url, "UPSTREAM": "cloud", "CURSOR_API_KEY": "k"}
    done = subprocess.run([sys.executable, "-c", "from cursor2api import start; start.read_config()"], cwd=ROOT,
                          env=settings, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and done.stderr.startswith("cursor2api: REDIS_URL: expected")
    assert "cret" not in done.stderr and "Traceback" not in done.stderr
