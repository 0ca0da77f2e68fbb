"""The life of the SDK's bridge: when it starts, what it may see, and that it never stays."""

import os
import pwd
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from conftest import ROOT, STAND_IN, command, descendants, fail_to_start, free_port, gateway, until
from test_service import body, events, fold, settled

from cursor2api.errors import UpstreamError
from cursor2api.simulator import serve
from cursor2api.upstream.http import Limits
from cursor2api.upstream.sdk.bridge import LONGEST_PAUSE_S, Bridges, bridge_of

IS_ROOT = os.geteuid() == 0


class Processes:
    """A gateway's processes that belong to a bridge, and the folders of those bridges."""

    def __init__(self, gate):
        self.gate = gate

    def now(self):
        return [id for id in descendants(self.gate.process.pid) if "bridge.py" in command(id)]

    def keeper(self):
        return next(id for id in self.now() if "keeper.py" in command(id))

    def bridge(self):
        return next(id for id in self.now() if "keeper.py" not in command(id))

    def worker(self):
        return descendants(self.gate.process.pid)[0]

    def folder(self):
        return Path(re.search(r"--workspace (\S+)/work", command(self.bridge()))[1])


@contextmanager
def running(**options):
    """A gateway whose bridge runs."""
    with gateway(upstream="sdk", **options) as gate:
        assert body(gate.say("Please say hello"))[0] == "hello"
        yield gate, Processes(gate)


def gone(ids, folder):
    return until(lambda: not any(map(command, ids)) and not folder.exists())


def test_a_bridge_starts_with_a_workers_first_request_and_belongs_to_the_worker():
    with gateway(upstream="sdk", environ={"GUNICORN_CMD_ARGS": "--preload"}) as gate:
        processes = Processes(gate)
        assert len(descendants(gate.process.pid)) == 1 and not processes.now()
        assert gate.say().ok and gate.say().ok
        assert len(processes.now()) == 2
        assert descendants(processes.worker()) == [processes.keeper(), processes.bridge()]
        assert descendants(processes.keeper()) == [processes.bridge()]


ENDS = [("SIGTERM", "master", signal.SIGTERM), ("SIGINT", "master", signal.SIGINT),
        ("SIGQUIT", "master", signal.SIGQUIT), ("the master is killed", "master", signal.SIGKILL),
        ("the worker is killed", "worker", signal.SIGKILL), ("the worker crashes", "worker", signal.SIGSEGV),
        ("the worker hangs", "worker", signal.SIGABRT), ("the keeper is killed", "keeper", signal.SIGKILL),
        ("the keeper is told to end", "keeper", signal.SIGTERM),
        ("the bridge is killed", "bridge", signal.SIGKILL), ("the bridge ends", "bridge", signal.SIGTERM)]


@pytest.mark.parametrize("who, number", [row[1:] for row in ENDS], ids=[row[0] for row in ENDS])
def test_nothing_of_a_bridge_is_left_however_it_ends(who, number):
    with running(environ={"GRACE_S": "0.2", "GUNICORN_CMD_ARGS": "--graceful-timeout 1"}) as (gate, processes):
        ids, folder, worker = processes.now(), processes.folder(), processes.worker()
        with ThreadPoolExecutor(1) as pool:
            reply = pool.submit(gate.say, "SLOW", stream=True)
            assert until(lambda: len(gate.agents()) == 2)
            os.kill(gate.process.pid if who == "master" else getattr(processes, who)(), number)
            assert gone(ids, folder)
            reply.exception()
        if who in ("keeper", "bridge"):
            assert descendants(gate.process.pid)[0] == worker
            assert body(gate.say("Please say hello"))[0] == "hello"


@pytest.mark.upstreams("sdk")
def test_a_request_that_had_said_nothing_is_tried_once_more_on_a_new_bridge(gate):
    for stream, read in ((False, body), (True, fold)):
        gate.simulator.script({"replies": [{"text": "one two", "times": 0, "stream": {"reset": "before"}}]})
        assert read(gate.say(stream=stream))[0] == "one two"
    gate.simulator.script({"replies": [{"text": "no", "times": 0, "stream": {"reset": "before", "times": 0}}]})
    response = gate.say()
    assert response.status_code == 502
    assert response.json()["error"]["code"] in ("upstream_cut", "upstream_unreachable")
    gate.simulator.forget()
    assert until(lambda: gate.say("Please say hello").ok), "after a pause it is started again"


@pytest.mark.upstreams("sdk")
def test_a_reply_that_had_begun_is_cut_and_not_told_twice(gate):
    gate.simulator.script({"replies": [{"text": "one two three", "reset_after": 400, "delay": 0.1}]})
    data = events(gate.say(stream=True))
    assert "upstream_cut" in data[-1] and "one" in "".join(data) and len(gate.agents()) == 1
    assert until(lambda: gate.say("Please say hello").ok)


@pytest.mark.upstreams("sdk")
def test_thirty_two_streams_share_one_bridge(gate):
    gate.simulator.script({"replies": [
        {"when": f"number {n}.", "text": f"{n} " * 50, "delay": 0.01} for n in range(32)]})
    with ThreadPoolExecutor(32) as pool:
        replies = pool.map(lambda n: fold(gate.say(f"number {n}.", stream=True))[0], range(32))
        assert list(replies) == [f"{n} " * 50 for n in range(32)]
    assert settled(gate) and len(gate.agents()) == 32
    assert len(Processes(gate).now()) == 2


def test_a_bridge_that_does_not_start_is_tried_again_only_after_a_pause(tmp_path):
    starts = tmp_path / "starts"
    bridge = f"sh -c 'echo x >> {starts}; echo no such luck >&2; exit 3'"
    with gateway(upstream="sdk", environ={"SDK_BRIDGE": bridge, "RETRY_S": "60"}) as gate:
        responses = [gate.say() for _ in range(4)]
        assert {(each.status_code, each.json()["error"]["code"]) for each in responses} == {(503, "bridge_failed")}
        assert int(responses[-1].headers["Retry-After"]) > 1
        assert starts.read_text() == 2 * "x\n"
        assert "ended with status 3: no such luck" in gate.log()


def test_the_pauses_before_a_start_double_up_to_the_longest():
    now, starts = 0.0, []

    def start(ended, place):
        starts.append(now)
        raise UpstreamError("no such luck")

    bridges = Bridges(start, idle=0, pause=1, clock=lambda: now)

    def refused():
        """The seconds that a refusal names; None if a start was tried."""
        with pytest.raises(UpstreamError) as refusal:
            bridges.lease()
        return refusal.value.retry_after

    assert [refused(), refused()] == [None, None]  # the first is made good at once
    pauses = []
    for _ in range(7):
        pauses.append(refused())
        now += pauses[-1] - 0.1
        assert refused() is not None
        now += 0.2
        assert refused() is None
    assert pauses == pytest.approx([1, 2, 4, 8, 16, LONGEST_PAUSE_S, LONGEST_PAUSE_S]) and len(starts) == 9
    bridges.went_well()
    now += LONGEST_PAUSE_S
    assert [refused(), refused()] == [None, None]


@contextmanager
def made(place=None, idle=0):
    """The Bridges of one worker, with the stand-in; all ends with them."""
    bridges = Bridges(partial(bridge_of, tuple(shlex.split(f"{STAND_IN} --backend http://127.0.0.1:9")),
                              pwd.getpwuid(os.geteuid()).pw_name, "", Limits(10, 60, 60, 1), 4), idle, 0)
    bridges.share(place)
    try:
        yield bridges
    finally:
        bridges.close(0)


@pytest.mark.parametrize("thread", ["bridge-start", "bridge"])
def test_a_thread_that_cannot_start_costs_one_lease_only(thread, monkeypatch):
    with made() as bridges:
        fail_to_start(monkeypatch, thread)
        with ThreadPoolExecutor(1) as pool:
            error = pool.submit(bridges.lease).exception(60)
            assert type(error) is RuntimeError if thread == "bridge-start" else error.code == "bridge_failed"
            bridge = pool.submit(bridges.lease).result(60)
        bridges.release(bridge)
        assert not bridges._leases


def test_a_bridge_that_is_replaced_waits_for_the_other_workers_and_ends(tmp_path):
    with made(tmp_path) as old, made(tmp_path) as new:
        first = old.lease()
        old.release(first)
        found = new.lease()
        assert found.id == first.id
        old.retire()
        old.release(late := old.lease())
        assert late is first, "its own chats need no bridge more"
        with ThreadPoolExecutor(1) as pool:
            close = pool.submit(old.close, 600)
            assert until(lambda: old._closed) and not first.gone.wait(1) and not close.done()
            new.release(found)
            close.result(60)
        assert first.gone.is_set()


def test_a_bridge_that_starts_when_its_worker_is_replaced_is_not_shared(tmp_path):
    with made(tmp_path) as bridges:
        start, starting, go = bridges._start, threading.Event(), threading.Event()

        def held(*args):
            starting.set()
            assert go.wait(60)
            return start(*args)
        bridges._start = held
        with ThreadPoolExecutor(1) as pool:
            lease = pool.submit(bridges.lease)
            assert starting.wait(60)
            bridges.retire()
            go.set()
            bridges.release(lease.result(60))
        assert until(lambda: not bridges.found())


def test_a_bridge_that_was_withdrawn_just_now_is_not_used(tmp_path):
    with made(tmp_path) as old, made(tmp_path) as new:
        old.release(first := old.lease())
        new.release(found := new.lease())
        first.retire()
        assert not new._begin(found, "") and not new._using
        assert new._begin(found, first.id), "an agent that waits in it may go on"
        new._leases += 1
        new.release(found)


def test_a_bridge_that_is_never_ready_is_given_up():
    with gateway(upstream="sdk", environ={"SDK_BRIDGE": "sleep 1000", "CREATE_TIMEOUT": "0.5"}) as gate:
        assert gate.say().json()["error"]["code"] == "bridge_failed"
        assert until(lambda: len(descendants(gate.process.pid)) == 1)


def test_a_bridge_that_nobody_needs_is_ended_and_comes_back():
    with running(environ={"SDK_IDLE_S": "0.3"}) as (gate, processes):
        assert until(lambda: not processes.now())
        gate.simulator.script({"replies": [{"text": "one two three", "delay": 0.3}]})
        assert body(gate.say())[0] == "one two three"
        assert until(lambda: not processes.now())


# What it may see -------------------------------------------------------------------------------


def stranger():
    """An interpreter and a copy of the stand-in that everybody on this machine may run."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    shutil.copy(ROOT / "cursor2api" / "simulator" / "bridge.py", folder)
    (folder / "bridge.py").chmod(0o644)
    for python in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        if not IS_ROOT or Path(python).exists() and subprocess.run(
                ["/bin/sh", "-c", f"{python} -c ''"], user="nobody", stderr=subprocess.DEVNULL).returncode == 0:
            return folder, f"{python} -I {folder}/bridge.py"
    raise AssertionError("nobody may run Python here")


HOSTILE = """
echo "environ:$(env | grep -v -e ^_= -e ^PWD= -e ^SHLVL= -e ^OLDPWD= -e ^LC_CTYPE= | cut -d= -f1 | sort | xargs)"
echo "home:$(ls -A ~ | wc -l)"
echo "work:$(ls -A . | wc -l)"; touch mine 2>&1 | grep -o denied
echo "key:$(cat {secret} /proc/{worker}/environ /proc/{master}/environ 2>&1 | grep -ao s3cret | head -1)"
echo "user:$(id -un)"
echo "privileges:$(grep NoNewPrivs /proc/self/status | cut -f2)"
echo "world:$(head -c 4 /etc/passwd)"
setsid sleep 1000 >/dev/null 2>&1 & echo "left:$!"
"""


def test_what_a_hostile_command_of_the_bridge_can_and_cannot_see(tmp_path):
    secret = tmp_path / ".env"
    secret.write_text("CURSOR_API_KEY=s3cret")
    secret.chmod(0o600)
    folder, bridge = stranger()
    options = {"SDK_BRIDGE": "", "SDK_USER": "", "API_KEY": "0000,s3cret", "CURSOR_API_KEY": "s3cret"}
    try:
        with gateway(upstream="sdk", environ=options | {"SDK_BRIDGE": bridge}) as plain:
            url = plain.simulator.url
            with gateway(upstream="sdk", environ=options | {
                    "SDK_BRIDGE": f"{bridge} --backend {url}", "CURSOR_BASE_URL": url}) as gate:
                ids = descendants(gate.process.pid)
                shell = HOSTILE.format(secret=secret, worker=ids[0], master=gate.process.pid)
                plain.simulator.script({"replies": [{"frames": [["shell", {"command": shell}]]}]})
                seen = dict(line.split(":") for line in body(gate.say())[0].split("\n") if ":" in line)
                assert seen["environ"] == "CURSOR_BACKEND_URL HOME PATH TMPDIR"
                assert seen["home"] == seen["work"] == "0"
                assert seen["privileges"] == "1" and seen["world"] == "root"
                # With a user of its own it reads no file and no environment of the service; without one
                # it does: README.md says so.
                assert (seen["key"], seen["user"]) == (("", "nobody") if IS_ROOT else (
                    "s3cret", os.environ.get("USER", seen["user"])))
                assert "sleep 1000" in command(int(seen["left"]))
            assert until(lambda: not command(int(seen["left"])))
    finally:
        shutil.rmtree(folder)


def test_no_command_line_shows_a_password():
    with serve() as simulator, gateway(upstream="sdk", environ={
            "CURSOR_BASE_URL": simulator.url.replace("//", "//ann:s3cret@")}) as gate:
        gate.say()
        lines = [command(id) for id in descendants(gate.process.pid)]
        assert any("keeper.py" in line for line in lines) and not any("s3cret" in line for line in lines)


def start(**settings):
    return subprocess.run([sys.executable, "app.py"], cwd=ROOT, text=True, capture_output=True, timeout=60, env={
        "PATH": os.defpath, "PORT": str(free_port()), "UPSTREAM": "sdk", "CURSOR_API_KEY": "k", **settings})


def test_without_the_package_the_start_says_how_to_install_it():
    run = start()
    assert run.returncode and "pip install -r requirements-sdk.txt" in run.stderr


def test_a_user_that_cannot_be_is_refused_at_the_start(tmp_path):
    private = tmp_path / "private"
    private.mkdir(0o700)
    shutil.copy("/bin/true", private)
    refusals = [start(SDK_BRIDGE=STAND_IN, SDK_USER="no-such-user"),
                start(SDK_BRIDGE=f"{private}/true", SDK_USER="nobody")]
    for run in refusals:
        assert run.returncode and "cursor2api: SDK_USER: expected " in run.stderr
    if IS_ROOT:
        assert "who can run" in refusals[1].stderr
