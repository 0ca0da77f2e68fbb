"""A real gunicorn in front of a real simulator, on free ports, ended by its own process id."""

import os
import pwd
import re
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from tempfile import TemporaryFile

import pytest
import requests

from cursor2api.simulator import serve

ROOT = Path(__file__).resolve().parent.parent
MODEL = "claude-sonnet-4-5-20250929"
UPSTREAMS = ["cloud", "uistream", "sdk"]
PROCFILE = dict(word.split("=", 1) for word in (ROOT / "Procfile").read_text().split() if "=" in word)
STAND_IN = shlex.join([sys.executable, "-I", str(ROOT / "cursor2api" / "simulator" / "bridge.py")])


class Gateway:
    def __init__(self, url, simulator, log, process, upstream):
        self.url, self.simulator, self._log, self.process = url, simulator, log, process
        self.upstream = upstream

    def log(self):
        """All that the service has logged."""
        self._log.seek(0)
        return self._log.read()

    def post(self, body, key="0000", **options):
        return requests.post(self.url + "/v1/chat/completions", json=body, timeout=60, headers={
            "Authorization": f"Bearer {key}"}, **options)

    def say(self, text="Hello", **more):
        return self.post({"model": MODEL, "messages": [{"role": "user", "content": text}], **more},
                         stream=bool(more.get("stream")))

    def get(self, path, key="0000"):
        return self.request("GET", path, key)

    def request(self, method, path, key="0000", headers=None, **options):
        auth = {"Authorization": f"Bearer {key}"} if key else {}
        return requests.request(method, self.url + path, timeout=60, headers={**auth, **(headers or {})},
                                **options)

    def workers(self):
        """The process ids of the workers."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(child) for child in children.split()]

    def agents(self):
        return self.simulator.state["agents"]

    def lines(self, **facts):
        """The log's lines with these facts, each a dictionary."""
        lines = (dict(pair.split("=", 1) for pair in shlex.split(line) if "=" in pair)
                 for line in self.log().splitlines() if line.startswith("time="))
        return [line for line in lines if facts.items() <= line.items()]


def fail_to_start(monkeypatch, name):
    """The next start of a thread of this name fails, as where there can be no more threads."""
    start, failed = threading.Thread.start, []

    def fail_once(thread):
        if thread.name == name and not failed:
            failed.append(name)
            raise RuntimeError("can't start new thread")
        start(thread)
    monkeypatch.setattr(threading.Thread, "start", fail_once)


def until(condition, seconds=90):
    """Waits for a condition, generously; its last value is what it returns."""
    deadline = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return value


def resident(gate):
    """Bytes of memory that the workers hold."""
    return sum(int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) * 1024
               for pid in gate.workers())


PORTS = 1000  # that each process of a run of tests may take
_turns = count(secrets.randbelow(PORTS))


def free_port():
    """A port for a server that starts soon. It is none of those that the system gives to sockets which ask
    for any: another test's server could get such a port first, and answer in this one's place. Nor does
    another process of this run take it, nor this one until all of its ports have had their turn."""
    given = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    while True:
        port = given - 1 - process % 20 * PORTS - next(_turns) % PORTS
        with socket.socket() as one, suppress(OSError):
            one.bind(("127.0.0.1", port))
            return port


def banner_of(process):
    """What a development start says, to the line that has the body of its curl."""
    said = ""
    while '"messages"' not in said:
        line = process.stdout.readline()
        assert line, "it ended: " + said
        said += line
    return said


def settings_of(upstream, simulator_url):
    """The settings that make an upstream of the simulator."""
    return {"UPSTREAM": upstream, "CURSOR_API_KEY": "key-of-the-gateway", "CURSOR_BASE_URL": simulator_url} | {
        "uistream": {"UISTREAM_URL": simulator_url + "/ui/chat", "MODELS": f"{MODEL},gemini-3-flash"},
        "sdk": {"SDK_BRIDGE": f"{STAND_IN} --backend {simulator_url}",
                "SDK_USER": pwd.getpwuid(os.geteuid()).pw_name}}.get(upstream, {})


@contextmanager
def gateway(script=None, environ=None, upstream="simulator", scheme="http", development=False, command=(),
            **simulator_options):
    """The service as a user runs it; `environ` adds to its settings, which no .env can reach.

    With `development` it is the one that `make run` has gunicorn serve; a `command` takes gunicorn's place.

    No agent is kept unless a test asks for it: what is then at Cursor has been forgotten there.
    """
    with serve(script=script, **simulator_options) as simulator, TemporaryFile("a+") as log:
        port = free_port()
        settings = {**settings_of(upstream, simulator.url), "PORT": str(port), "RETRY_S": "0.01",
                    "KEEP_AGENTS": "0", "API_KEY": "" if development else "default:0000",
                    **(environ or {})}
        process = subprocess.Popen(
            command or [
                sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}",
                f"cursor2api.start:application({development=})" if development else "app:app"],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], **PROCFILE, **settings}, stderr=log)
        url = f"{scheme}://127.0.0.1:{port}"
        try:
            assert until(lambda: is_up(url) or process.poll() is not None) and process.poll() is None
            gate = Gateway(url, simulator, log, process, upstream)
            yield gate
            assert "Traceback" not in gate.log()  # whatever befalls it, nothing is a fault of ours
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)


def descendants(pid):
    """The ids of all processes below one."""
    below = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        below.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found = list(below.get(pid, ()))
    for id in found:
        found += below.get(id, ())
    return found


def command(pid):
    """A process's command line; empty for one that has ended."""
    try:
        return (Path("/proc") / str(pid) / "cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def is_up(url):
    """Whether a service answers there; a machine that is busy can take its time."""
    try:
        return requests.get(url + "/health", timeout=10).ok
    except requests.RequestException:
        return False


def pytest_generate_tests(metafunc):
    """A test that takes `gate` runs over every upstream, or over those that it is marked with."""
    if "shared" in metafunc.fixturenames:
        mark = metafunc.definition.get_closest_marker("upstreams")
        metafunc.parametrize("shared", mark.args if mark else UPSTREAMS, indirect=True, scope="session")


@pytest.fixture(scope="session")
def shared(request):
    """One gateway an upstream for all tests that only need the usual settings; each sets its own script."""
    with gateway(upstream=request.param) as one:
        yield one


@pytest.fixture
def gate(shared):
    shared.simulator.forget()
    yield shared
    shared.simulator.forget()


@pytest.fixture(scope="module")
def browser():
    from browser import chromium  # here, as most tests need no Playwright
    with chromium() as one:
        yield one
