"""Load: slots, readiness, the stop, and what a crash left behind."""

import json
import os
import resource
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

import pytest
import requests
from conftest import MODEL, gateway, until
from test_faults import ask
from test_service import events, fold, settled

from cursor2api.errors import ApiError
from cursor2api.server.slots import Slots

LONG = {"text": "word " * 2000, "delay": 0.05, "times": 0}


def begun(gate, stack, **more):
    """A stream that has said something; it is left when the stack is."""
    response = stack.enter_context(gate.say(stream=True, **more))
    lines = response.iter_lines(decode_unicode=True, chunk_size=1)
    stack.callback(lines.close)  # which also keeps it: without its reader the connection is closed
    assert any("word" in line for line in lines)
    return lines


def cancel_all(gate):
    for agent in gate.agents():
        requests.post(f"{gate.simulator.url}/v1/agents/{agent['id']}/runs/{agent['runs'][0]['id']}/cancel",
                      headers={"Authorization": "Bearer key-of-the-gateway"}, timeout=10)


@pytest.fixture(scope="module")
def small():
    with gateway(environ={"THREADS": "8", "MAX_STREAMS": "3", "QUEUE_S": "50"}) as gate:
        yield gate


@pytest.fixture
def full(small):
    """Every slot is taken."""
    small.simulator.forget()
    small.simulator.script({"replies": [LONG]})
    with ExitStack() as stack:
        for _ in range(3):
            begun(small, stack)
        yield small
    assert settled(small)


def test_with_every_slot_taken_and_requests_waiting_health_ready_and_models_answer(full):
    with ThreadPoolExecutor(40) as pool:
        waiting = [pool.submit(full.say) for _ in range(20)]
        # Three may wait, as long as QUEUE_S; the others are refused at once.
        assert until(lambda: sum(each.done() for each in waiting) == 17)
        for path in ("/health", "/ready", "/v1/models", "/v1/models/" + MODEL):
            answers = [full.get(path) for _ in range(9)]
            assert {answer.status_code for answer in answers} == {200}
            assert median(answer.elapsed.total_seconds() for answer in answers) < 0.5
        assert sum(each.done() for each in waiting) == 17, "they still wait"
        refused = [each.result() for each in waiting if each.done()]
        assert {(each.status_code, each.json()["error"]["code"], each.headers["Retry-After"])
                for each in refused} == {(503, "overloaded", "1")}
        full.simulator.script({"replies": [{"text": "done", "times": 0}]})
        cancel_all(full)
        assert [each.result().status_code for each in waiting if each not in refused].count(200) == 3


# Values by the hundred thousand, which take the longest to parse: see how they held up a health check before.
DENSE = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "unknown": 300_000 * [[]]},
                   separators=(",", ":")).encode()


def test_sixty_bodies_at_once_hold_up_no_health_check():
    """A check waits for a body or two. When all were parsed at once, one check waited for most of them."""
    def say():
        return requests.post(gate.url + "/v1/chat/completions", data=DENSE, timeout=120,
                             headers={"api-key": "0000"})
    script = {"replies": [{"text": "one", "times": 0}]}
    with gateway(script, upstream="uistream") as gate, ThreadPoolExecutor(60) as pool:
        began = time.monotonic()
        asked = [pool.submit(say) for _ in range(60)]
        waits = []
        while not all(each.done() for each in asked):
            start = time.monotonic()
            assert requests.get(gate.url + "/health", timeout=30).ok
            waits.append(time.monotonic() - start)
        assert max(waits) < (time.monotonic() - began) / 2
        assert {each.result().status_code for each in asked} == {200}


def test_a_body_takes_a_slot_as_a_stream_does(full):
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(full.say) for _ in range(4)]
        assert until(lambda: sum(each.done() for each in waiting) == 1)
        full.simulator.script({"replies": [{"text": "done", "times": 0}]})
        cancel_all(full)
        assert sorted(each.result().status_code for each in waiting) == [200, 200, 200, 503]


def test_a_body_that_its_caller_does_not_read_keeps_its_slot():
    script = {"replies": [{"text": "word " * 1_000_000, "chunk": 100_000}, {"text": "done", "times": 0}]}
    with gateway(script, {"MAX_STREAMS": "1", "QUEUE_S": "0.1"}) as gate, ask(gate, False, buffer=65536) as caller:
        assert until(lambda: waits(gate))
        assert gate.say().json()["error"]["code"] == "overloaded"
        assert len(gate.agents()) == 1 and gate.get("/health").ok
        while not (got := caller.recv(1_000_000)).endswith(b"}"):
            assert got, "the connection was ended"
        assert until(lambda: gate.say().ok)


def test_who_leaves_while_it_waits_for_a_slot_costs_nothing():
    with gateway(environ={"THREADS": "6", "MAX_STREAMS": "1", "QUEUE_S": "60"}, script={"replies": [LONG]}
                 ) as gate, ExitStack() as stack:
        begun(gate, stack)
        for place in ("first", "second"):
            ask(gate, False, id=place).close()
        for place in ("first", "second"):
            assert until(lambda: gate.lines(id=place, status="499", closed_by="caller", why="caller_left"))
        assert len(gate.agents()) == 1


def test_who_waits_too_long_for_a_slot_is_told_to_come_again():
    with gateway(environ={"THREADS": "6", "MAX_STREAMS": "1", "QUEUE_S": "0.2"}, script={"replies": [LONG]}
                 ) as gate, ExitStack() as stack:
        begun(gate, stack)
        response = gate.say()
        assert (response.status_code, response.json()["error"]["code"]) == (503, "overloaded")
        assert response.headers["Retry-After"] == "1"


def test_every_choice_takes_a_slot(small):
    small.simulator.forget()
    small.simulator.script({"replies": [LONG]})
    with ExitStack() as stack:
        begun(small, stack, n=2)
        begun(small, stack)
        with ThreadPoolExecutor(4) as pool:
            waiting = [pool.submit(small.say) for _ in range(4)]
            assert until(lambda: any(each.done() for each in waiting))
            small.simulator.script(None)
            stack.close()
        assert sorted(each.result().status_code for each in waiting) == [200, 200, 200, 503]
    assert settled(small)


def test_slots_are_taken_in_turn_and_given_back():
    slots, order = Slots(2, 5, time.monotonic), []
    slots.take(2, 0)

    def wait(name, count):
        slots.take(count, 30)
        order.append(name)
        slots.give(count)
    threads = []
    for place, (name, count) in enumerate([("two", 2), ("one", 1)], 1):
        threads.append(threading.Thread(target=wait, args=(name, count)))
        threads[-1].start()
        assert until(lambda: len(slots._queue) == place)
    slots.give(1)
    slots.give(1)
    for thread in threads:
        thread.join(30)
    assert order == ["two", "one"] and slots.empty(0)


def test_a_request_for_more_slots_than_there_are_takes_all():
    slots = Slots(2, 0, time.monotonic)
    slots.take(5, 0)
    assert slots.used == 2
    slots.give(5)
    assert slots.used == 0


def test_nobody_gets_a_slot_when_they_are_shut_not_even_who_waits():
    slots, errors = Slots(1, 5, time.monotonic), []
    slots.take(1, 0)

    def wait():
        with pytest.raises(ApiError) as raised:
            slots.take(1, 30)
        errors.append(raised.value.code)
    thread = threading.Thread(target=wait)
    thread.start()
    assert until(lambda: slots._queue)
    slots.shut()
    thread.join(30)
    assert errors == ["draining"]


@pytest.mark.parametrize("refuse, code", [
    ({"status": 401, "code": "unauthorized", "times": 0}, "unauthorized"),
    ({"status": 500, "times": 0}, "internal_error")])
def test_ready_says_why_not_and_asks_cursor_once(refuse, code):
    with gateway(script={"refuse": {"models": refuse}}) as gate:
        assert until(lambda: gate.get("/ready").json().get("code") == code)
        for _ in range(9):
            response = requests.get(gate.url + "/ready", timeout=10)
            assert response.status_code == 503 and response.json()["reason"]
            assert response.headers["x-should-retry" if code == "unauthorized" else "Retry-After"]
        asked = [each for each in gate.simulator.state["requests"] if each["path"] == "/v1/models"]
        assert len(asked) == 1
        assert requests.get(gate.url + "/health", timeout=10).ok


def test_ready_tells_of_a_key_that_a_chat_has_shown_to_be_refused():
    with gateway() as gate:
        assert until(lambda: gate.get("/ready").ok)
        no = {"status": 401, "code": "unauthorized", "times": 0}
        gate.simulator.script({"refuse": {"models": no, "create": no}})
        assert gate.get("/ready").ok and gate.say().status_code == 502
        assert until(lambda: gate.get("/ready").json().get("code") == "unauthorized")


def test_ready_needs_no_key_and_nothing_but_the_list(gate):
    assert until(lambda: requests.get(gate.url + "/ready", timeout=10).json() == {"status": "ready"})


def test_ready_does_not_wait_for_a_cursor_that_does_not_answer():
    with gateway(script={"refuse": {"models": {"hang": 30, "times": 0}}}) as gate:
        response = requests.get(gate.url + "/ready", timeout=10)
        assert (response.status_code, response.json()["code"]) == (503, "starting")


def test_models_that_wait_for_a_cursor_that_does_not_answer_starve_nobody():
    with gateway(script={"refuse": {"models": {"hang": 30, "times": 0}}},
                 environ={"THREADS": "6", "MAX_STREAMS": "2", "QUEUE_S": "0.1"}) as gate:
        with ThreadPoolExecutor(20) as pool:
            waiting = [pool.submit(gate.get, "/v1/models") for _ in range(20)]
            assert until(lambda: sum(each.done() for each in waiting) == 18)
            assert requests.get(gate.url + "/health", timeout=10).ok
            gate.simulator.stop()
            assert {each.result().status_code for each in waiting} == {502, 503}


def test_on_sigterm_running_replies_end_and_no_new_one_begins():
    with gateway(script={"replies": [{"text": "word " * 160, "delay": 0.05}]}) as gate, ExitStack() as stack:
        lines = begun(gate, stack)
        gate.process.send_signal(signal.SIGTERM)
        assert until(lambda: requests.get(gate.url + "/ready", timeout=10).json().get("code") == "draining")
        assert requests.get(gate.url + "/health", timeout=10).ok
        response = gate.say()
        assert (response.status_code, response.json()["error"]["code"]) == (503, "draining")
        assert response.headers["Retry-After"]
        rest = list(lines)
        assert rest[-2:] == ["data: [DONE]", ""] and any('"finish_reason":"stop"' in line for line in rest)
        assert gate.process.wait(30) == 0
        assert settled(gate)


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "body"])
def test_after_the_grace_time_a_reply_gets_an_error_and_its_run_is_cancelled(stream):
    with gateway(script={"replies": [LONG]}, environ={"GRACE_S": "3"}) as gate:
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(gate.say, stream=stream)
            assert until(lambda: gate.agents() and gate.agents()[0]["runs"][0]["connections"])
            gate.process.send_signal(signal.SIGTERM)
            response = waiting.result()
            data = events(response)[-1] if stream else response.text
            assert json.loads(data)["error"]["code"] == "shutting_down"
            assert response.status_code == (200 if stream else 503)
            assert gate.process.wait(30) == 0
        assert all(agent["deleted"] for agent in gate.agents()), "before the process has ended"
        assert gate.agents()[0]["runs"][0]["status"] == "CANCELLED"


def test_after_the_grace_time_a_stream_that_has_not_begun_is_refused():
    quiet = {"replies": [{"stream": {"hang": 120}}]}
    with gateway(script=quiet, environ={"GRACE_S": "0.5", "FIRST_BYTE_S": "120"}) as gate, \
            ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(gate.say, stream=True)
        assert until(lambda: gate.agents() and gate.agents()[0]["runs"])
        gate.process.send_signal(signal.SIGTERM)
        response = waiting.result()
        assert (response.status_code, response.json()["error"]["code"]) == (503, "shutting_down")
        assert gate.process.wait(30) == 0
        assert gate.agents()[0]["deleted"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_a_quick_stop_leaves_nothing_at_cursor(number):
    with gateway(script={"replies": [LONG]}) as gate, ExitStack() as stack:
        lines = begun(gate, stack)
        gate.process.send_signal(number)
        assert "shutting_down" in list(lines)[-2]
        gate.process.wait(30)
        assert all(agent["deleted"] for agent in gate.agents())


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "body"])
def test_a_stop_leaves_no_agent_that_boots(stream):
    with gateway(boot=60, environ={"GRACE_S": "0.5"}) as gate, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(gate.say, stream=stream)
        assert until(gate.agents)
        gate.process.send_signal(signal.SIGTERM)
        assert waiting.result().status_code == 503
        assert gate.process.wait(30) == 0
        assert all(agent["deleted"] for agent in gate.agents()) and "left at" not in gate.log()


def test_a_stop_says_what_it_had_to_leave():
    with gateway(environ={"GRACE_S": "0.5"}, script={"replies": [LONG], "refuse": {
            "delete": {"status": 500, "times": 0}}}) as gate, ExitStack() as stack:
        begun(gate, stack)
        gate.process.send_signal(signal.SIGTERM)
        gate.process.wait(30)
        assert gate.lines(message="left at cursor", path=f"/v1/agents/{gate.agents()[0]['id']}")


def test_a_caller_who_does_not_read_keeps_no_agent_alive_at_a_stop():
    with gateway(environ={"GRACE_S": "0.5", "KEEP_AGENTS": "9"}) as gate:
        assert gate.say("One").ok and gate.say("Two").ok
        gate.simulator.script({"replies": [{"text": "word " * 8_000_000, "chunk": 50_000, "delay": 0.001}]})
        url = urlsplit(gate.url)
        data = json.dumps({"model": MODEL, "stream": True, "messages": [
            {"role": "user", "content": "Three"}]}).encode()
        with socket.socket() as caller:
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            caller.connect((url.hostname, url.port))
            caller.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\napi-key: 0000\r\n"
                           b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(data), data))
            assert until(lambda: waits(gate)), "the worker has no room to send"
            gate.process.send_signal(signal.SIGTERM)
            gate.process.wait(30)
        assert len(gate.agents()) == 3 and all(agent["deleted"] for agent in gate.agents())


def waits(gate):
    """Whether the service has sent much that its caller does not take."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(int(row[1].partition(":")[2], 16) == urlsplit(gate.url).port
               and int(row[4].partition(":")[0], 16) > 1_000_000 for row in rows)


def test_a_stop_does_not_wait_for_a_request_that_does_not_come():
    with gateway(environ={"GRACE_S": "600"}) as gate, socket.socket() as slow:
        slow.connect(("127.0.0.1", urlsplit(gate.url).port))
        slow.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localh")
        assert until(lambda: len(list(Path(f"/proc/{gate.workers()[0]}/task").iterdir())) > 1)
        gate.process.send_signal(signal.SIGTERM)
        assert gate.process.wait(30) == 0


def test_a_stop_without_replies_does_not_wait():
    with gateway(environ={"GRACE_S": "600"}) as gate:
        gate.process.send_signal(signal.SIGTERM)
        assert gate.process.wait(30) == 0


def leave(simulator, name, **more):
    """An agent at Cursor that nobody is at work with."""
    answer = requests.post(simulator.url + "/v1/agents", timeout=10, headers={
        "Authorization": "Bearer key-of-the-gateway"}, json={
        "name": name, "prompt": {"text": more.pop("prompt", "x")}, **more})
    assert answer.status_code == 201
    return answer.json()["agent"]["id"]


@pytest.mark.parametrize("age, gone", [("0.001", True), ("3600", False), ("0", False)])
def test_a_start_deletes_what_a_crash_left_past_an_age(age, gone):
    # A first service makes an agent and is killed; the second finds it by its name.
    with gateway(script={"replies": [{"text": "x " * 9, "delay": 0.3}]}) as first:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(first.say)
            assert until(lambda: first.agents() and first.agents()[0]["runs"][0]["connections"])
            worker = first.workers()[0]
            first.process.send_signal(signal.SIGKILL)
            os.kill(worker, signal.SIGKILL)
            first.process.wait(30)
        left = first.agents()[0]["id"]
        others = [leave(first.simulator, name) for name in ("cursor2api", "mine")]
        assert until(lambda: first.agents()[0]["runs"][0]["status"] == "FINISHED")
        with gateway(environ={"SWEEP_S": age, "CURSOR_BASE_URL": first.simulator.url}) as second:
            if age != "0":
                line = until(lambda: [line for line in second.log().splitlines() if "older_than_s" in line])[0]
                assert "found=1" in line and f"deleting={left if gone else 0}" in line
            until(lambda: not gone or deleted(first, left))
            assert deleted(first, left) == gone
            assert not any(deleted(first, other) for other in others)


def test_a_start_leaves_agents_that_run_alone():
    with gateway(script={"replies": [LONG]}) as first, ExitStack() as stack:
        begun(first, stack)
        with gateway(environ={"SWEEP_S": "0.001", "CURSOR_BASE_URL": first.simulator.url}) as second:
            line = until(lambda: [line for line in second.log().splitlines() if "older_than_s" in line])[0]
            assert "found=1" in line and "deleting=0" in line


def test_what_a_killed_worker_left_is_deleted_while_the_service_runs():
    script = {"replies": [{"text": "word " * 40, "delay": 0.05}]}
    with gateway(script=script, environ={"SWEEP_S": "3"}) as gate, ExitStack() as stack:
        begun(gate, stack)
        os.kill(gate.workers()[0], signal.SIGKILL)
        [agent] = gate.agents()
        assert until(lambda: deleted(gate, agent["id"]))


def deleted(gate, id):
    return next(agent["deleted"] for agent in gate.agents() if agent["id"] == id)


def test_a_reload_cuts_nothing_and_refuses_nothing():
    with gateway(script={"replies": [{"text": "word " * 240, "delay": 0.05}, {"text": "done", "times": 0}]}
                 ) as gate, ExitStack() as stack:
        lines = begun(gate, stack)
        [old] = gate.workers()
        gate.process.send_signal(signal.SIGHUP)
        assert until(lambda: len(gate.workers()) == 2 and gate.log().count("Booting worker") == 2)
        for _ in range(15):
            assert gate.say().status_code == requests.get(gate.url + "/ready", timeout=10).status_code == 200
        assert old in gate.workers(), "its stream goes on"
        assert list(lines)[-2:] == ["data: [DONE]", ""]
        assert until(lambda: gate.workers() and old not in gate.workers())


def test_without_descriptors_connections_wait_and_replies_go_on():
    with gateway(script={"replies": [{"text": "word " * 60, "delay": 0.05}, {"text": "done", "times": 0}]}
                 ) as gate, ExitStack() as stack:
        lines = begun(gate, stack)
        [worker] = gate.workers()
        soft, hard = resource.prlimit(worker, resource.RLIMIT_NOFILE)
        assert soft > 2000
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (
            max(map(int, os.listdir(f"/proc/{worker}/fd"))) + 3, hard))
        callers = [stack.enter_context(socket.create_connection(("127.0.0.1", urlsplit(gate.url).port), 30))
                   for _ in range(9)]
        for caller in callers:
            caller.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert until(lambda: "a connection must wait" in gate.log())
        assert list(lines)[-2:] == ["data: [DONE]", ""]
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (soft, hard))
        assert all(b"200 OK" in caller.recv(1000) for caller in callers)
        assert gate.workers() == [worker]


def test_without_threads_requests_wait_and_replies_go_on():
    with gateway(script={"replies": [{"text": "done"}, {"text": "word " * 60, "delay": 0.05}]}
                 ) as gate, ExitStack() as stack:
        assert gate.say().ok and settled(gate)  # after which there is a thread that deletes agents
        lines = begun(gate, stack)
        [worker] = gate.workers()
        before = resource.prlimit(worker, resource.RLIMIT_AS)
        size = int(Path(f"/proc/{worker}/statm").read_text().split()[0]) * resource.getpagesize()
        resource.prlimit(worker, resource.RLIMIT_AS, (size + 6_000_000, before[1]))  # a stack takes more
        callers = [stack.enter_context(socket.create_connection(("127.0.0.1", urlsplit(gate.url).port), 30))
                   for _ in range(20)]
        for caller in callers:
            caller.sendall(b"GET /health HTTP/1.1\r\nHost: loc")
        assert until(lambda: "can't start new thread" in gate.log())
        assert any("word" in line for line in lines)
        resource.prlimit(worker, resource.RLIMIT_AS, before)
        assert list(lines)[-2:] == ["data: [DONE]", ""]
        for caller in callers:
            caller.sendall(b"alhost\r\n\r\n")
        assert all(b"200 OK" in caller.recv(1000) for caller in callers)
        assert gate.workers() == [worker] and gate.log().count("a connection must wait") < 3


def test_a_worker_that_is_killed_leaves_the_others_at_work():
    with gateway(environ={"WEB_CONCURRENCY": "2", "THREADS": "6", "MAX_STREAMS": "2", "QUEUE_S": "0"}, script={
            "replies": [{"text": "word " * 160, "delay": 0.05, "times": 0}]}) as gate, ExitStack() as stack:
        streams = []

        def third():
            """Two is all that one worker makes, so with a third stream both are at work."""
            response = stack.enter_context(gate.say(stream=True))
            if response.ok:
                streams.append(response.iter_lines(decode_unicode=True, chunk_size=1))
                assert any("word" in line for line in streams[-1])
            return len(streams) == 3
        assert until(third)
        os.kill(gate.workers()[0], signal.SIGKILL)
        ends = []
        for lines in streams:
            try:
                ends.append("data: [DONE]" in list(lines))
            except requests.RequestException:
                ends.append(False)
        assert set(ends) == {True, False}
        assert until(lambda: fold(gate.say(stream=True))[2] == "stop")
