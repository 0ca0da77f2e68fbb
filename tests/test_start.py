"""The development start, as `make run` does it: what it prints, and its end."""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import pytest
import requests
from conftest import PROCFILE, ROOT, banner_of, descendants, free_port, gateway, is_up, until

from cursor2api.server.views import routes
from cursor2api.simulator import serve
from cursor2api.start import GLIBC_TUNABLES


class Started(NamedTuple):
    url: str
    banner: str
    process: subprocess.Popen


@contextmanager
def development(**settings):
    """A development start that has said all that it says."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL,
                          env={"PATH": os.environ["PATH"], "PORT": str(port), **settings}) as process:
        try:
            assert until(lambda: is_up(url))
            yield Started(url, banner_of(process), process)
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=60)
            process.kill()


def start(**settings):
    """What ends by itself, as a development start that goes wrong."""
    return subprocess.run([sys.executable, "app.py"], cwd=ROOT, text=True, capture_output=True, timeout=60,
                          env={"PATH": os.environ["PATH"], "PORT": str(free_port()), **settings})


@pytest.fixture(scope="module")
def started():
    with development() as one:
        yield one


def test_the_start_says_what_runs(started):
    for word in (started.url + "/v1", "0000", "simulator", "no CURSOR_API_KEY", "curl"):
        assert word in started.banner


def test_the_curl_that_is_printed_works(started):
    words = shlex.split(started.banner[started.banner.index("curl "):].replace("\\\n", " "))
    run = subprocess.run([words[0], "-s", *words[1:]], text=True, capture_output=True, timeout=60)
    assert '"finish_reason": "stop"' in run.stdout


def test_with_a_key_the_start_shows_a_model_of_cursors_and_what_a_first_answer_takes():
    with serve() as simulator, development(
            UPSTREAM="cloud", CURSOR_API_KEY="k", CURSOR_BASE_URL=simulator.url) as one:
        models = requests.get(one.url + "/v1/models", headers={"api-key": "0000"}, timeout=60).json()["data"]
    assert f'"model": "{models[0]["id"]}"' in one.banner
    assert "first answer of a conversation: about a minute" in one.banner


def test_a_key_that_cursor_refuses_ends_the_start_with_the_doctors_words():
    with serve() as simulator:
        run = start(UPSTREAM="cloud", CURSOR_API_KEY="bad-key", CURSOR_BASE_URL=simulator.url)
    assert run.returncode == 1 and run.stdout == ""
    assert re.fullmatch(r"cursor2api: Cursor refused the gateway's own key or account \(401\): .*\n"
                        r"check CURSOR_API_KEY: https://cursor.com/dashboard, Integrations\n", run.stderr)


def test_a_taken_port_ends_the_start_before_anything_else_is_said():
    with socket.create_server(("127.0.0.1", free_port())) as other:
        port = other.getsockname()[1]
        run = start(PORT=str(port))
    assert run.returncode == 1
    assert (run.stdout, run.stderr) == ("", f"cursor2api: port {port} is taken: PORT={port + 1} make run\n")


def test_an_address_of_another_machine_ends_the_start():
    run = start(HOST="203.0.113.5")
    assert run.returncode == 1 and re.fullmatch(
        r"cursor2api: cannot listen on 203.0.113.5, port \d+: Cannot assign requested address\n", run.stderr)


@pytest.mark.parametrize("host, listening", [("127.0.0.1", "http://127.0.0.1"), ("::1", r"http://\[::1\]"), (
    "localhost", "http://127.0.0.1")])
def test_gunicorn_listens_on_the_host_that_is_set(host, listening):
    port = free_port()
    environ = {"PATH": os.environ["PATH"], "PORT": str(port), "HOST": host}
    with subprocess.Popen([sys.executable, "-m", "gunicorn", "app:app"], cwd=ROOT, text=True,
                          stderr=subprocess.PIPE, env=environ) as process:
        line = next(line for line in process.stderr if "Listening" in line or "error" in line)
        process.terminate()
        process.communicate(timeout=60)
    assert re.search(f"Listening at: {listening}:{port} ", line)


def test_it_gives_glibc_what_the_procfile_gives_it():
    assert {"GLIBC_TUNABLES": GLIBC_TUNABLES} == PROCFILE


@pytest.mark.parametrize("upstream, offered", [("auto", True), ("cloud", False)])
def test_the_start_offers_the_sdk_in_one_line(upstream, offered):
    with development(UPSTREAM=upstream, CURSOR_API_KEY="k", CURSOR_BASE_URL="http://127.0.0.1:9") as one:
        assert "Upstream   cloud" in one.banner
        assert ("-m pip install -r requirements-sdk.txt" in one.banner) == offered


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_signal_ends_everything_that_was_started(number):
    with development(API_KEY="a-long-secret-key") as one:
        assert "a-long-secret-key" not in one.banner
        ids = descendants(one.process.pid)
        assert len(ids) >= 3  # the simulator, gunicorn and its worker
        one.process.send_signal(number)
        one.process.wait(timeout=60)
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
