"""The development start, as `make run` does it: what it prints, and its end."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import requests
from conftest import PROCFILE, ROOT, descendants, free_port, gateway, until

from cursor2api.start import GLIBC_TUNABLES

from cursor2api.server.views import routes


class Started:
    def __init__(self, **settings):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = subprocess.Popen(
            [sys.executable, "app.py"], cwd=ROOT, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"PATH": os.environ["PATH"], "PORT": str(self.port), **settings})
        assert until(self.up)
        self.banner = "".join(iter(self.process.stdout.readline, "\n"))
        while "curl" not in self.banner:
            self.banner += self.process.stdout.readline()

    def up(self):
        try:
            return requests.get(self.url + "/health", timeout=5).ok
        except requests.ConnectionError:
            return False


@pytest.fixture(scope="module")
def started():
    one = Started()
    yield one
    one.process.terminate()
    one.process.communicate(timeout=60)


def test_the_start_says_what_runs(started):
    for word in (started.url + "/v1", "0000", "simulator", "no CURSOR_API_KEY", "curl"):
        assert word in started.banner


def test_it_gives_glibc_what_the_procfile_gives_it():
    assert {"GLIBC_TUNABLES": GLIBC_TUNABLES} == PROCFILE


@pytest.mark.parametrize("upstream, offered", [("auto", True), ("cloud", False)])
def test_the_start_offers_the_sdk_in_one_line(upstream, offered):
    one = Started(UPSTREAM=upstream, CURSOR_API_KEY="k", CURSOR_BASE_URL="http://127.0.0.1:9")
    one.process.terminate()
    one.process.communicate(timeout=60)
    assert "Upstream   cloud" in one.banner
    assert ("-m pip install -r requirements-sdk.txt" in one.banner) == offered


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_signal_ends_everything_that_was_started(number):
    one = Started(API_KEY="a-long-secret-key")
    assert "a-long-secret-key" not in one.banner
    ids = descendants(one.process.pid)
    assert len(ids) >= 3  # the simulator, gunicorn and its worker
    one.process.send_signal(number)
    one.process.communicate(timeout=60)
    assert until(lambda: not any(Path(f"/proc/{id}").exists() for id in ids))


@pytest.mark.parametrize("command", [["app.py"], ["-m", "gunicorn", "app:app"]], ids=["make run", "gunicorn"])
@pytest.mark.parametrize("name, value, said", [
    ("TIMEOUT", "soon", "TIMEOUT: expected a number"),
    ("API_KEY_FILE", "/nothing", "API_KEY_FILE: expected a file to read"),
    ("KEY_LIMITS", '{"carol": {}}', "KEY_LIMITS: expected names of keys in use or *, got 'carol'")],
    ids=["a value", "a file", "a name"])
def test_a_bad_setting_ends_the_start_and_is_named(command, name, value, said):
    run = subprocess.run([sys.executable, *command], cwd=ROOT, text=True, capture_output=True, timeout=60,
                         env={"PATH": os.environ["PATH"], "PORT": str(free_port()), name: value})
    assert run.returncode and said in run.stderr and (name == "KEY_LIMITS" or f"'{value}'" in run.stderr)


def test_it_runs_without_docstrings_and_assertions():
    """As under python -OO."""
    with gateway(environ={"PYTHONOPTIMIZE": "2"}) as gate:
        assert gate.say().ok and gate.say(stream=True).text.endswith("data: [DONE]\n\n")
        assert gate.get("/reference.json").json()["routes"] == routes()


def test_after_sigusr2_a_new_master_serves_on():
    with gateway() as gate:
        gate.process.send_signal(signal.SIGUSR2)
        assert until(lambda: gate.log().count("Booting worker") == 2), gate.log()
        [new] = set(re.findall(r"Listening at: .*\((\d+)\)", gate.log())) - {str(gate.process.pid)}
        try:
            gate.process.send_signal(signal.SIGTERM)
            assert gate.process.wait(30) == 0
            assert gate.say().ok
        finally:
            os.kill(int(new), signal.SIGTERM)
        assert until(lambda: gate.log().count("Shutting down: Master") == 2)


def test_a_fault_in_making_the_service_is_told_by_its_cause(tmp_path):
    (tmp_path / "certifi.py").write_text(  # requests asks it too, when it is imported
        "asked = []\ndef where():\n    asked.append(1)\n"
        "    return '/dev/null' if len(asked) == 1 else asked.no_such_thing\n")
    environ = {"PATH": os.environ["PATH"], "PORT": str(free_port()), "UPSTREAM": "cloud", "CURSOR_API_KEY": "k",
               "PYTHONPATH": str(tmp_path)}
    run = subprocess.run([sys.executable, "-m", "gunicorn", "app:app"], cwd=ROOT, text=True, capture_output=True,
                         timeout=60, env=environ)
    assert run.returncode and "AttributeError: 'list' object has no attribute 'no_such_thing'" in run.stderr
    assert "Failed to find attribute" not in run.stderr
