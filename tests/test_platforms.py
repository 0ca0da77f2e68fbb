"""The files by which platforms run the service: they agree with it, and their commands run as there."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from conftest import PROCFILE, ROOT, descendants, gateway, until

from cursor2api.config import Config
from cursor2api.server.service import STOP_S
from cursor2api.server.views import routes

try:
    import tomllib
except ModuleNotFoundError:  # before Python 3.11
    import tomli as tomllib


def read(name):
    return (ROOT / name).read_text("utf-8")


def instructions():
    """The Dockerfile's, as (name, argument) pairs."""
    text = re.sub(r"^\s*#.*\n", "", read("Dockerfile"), flags=re.M).replace("\\\n", "")
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line.strip()]


def argument(name):
    return [argument for each, argument in instructions() if each == name][-1]


def unit():
    """The lines of the unit's sections; a name that came several times has its values in a list."""
    found = {}
    for line in read("deploy/cursor2api.service").splitlines():
        if re.match(r"\w+=", line):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


WEB = re.fullmatch(r"web: (.*)\n", read("Procfile"))[1]
COMPOSE = yaml.safe_load(read("compose.yaml"))["services"]
RENDER, = yaml.safe_load(read("render.yaml"))["services"]
FLY = tomllib.loads(read("fly.toml"))
HEROKU, RAILWAY = json.loads(read("app.json")), json.loads(read("railway.json"))
CI = yaml.safe_load(read(".github/workflows/ci.yml"))
UNIT = unit()
VARIABLES = dict(line.split("=", 1) for line in UNIT["Environment"])
HEALTH = json.loads(argument("HEALTHCHECK").partition("CMD ")[2])
HERE = {"HOST": "127.0.0.1", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
COMMANDS = {
    **{f"the Procfile by {shell}": [shell, "-c", WEB] for shell in ("dash", "bash") if shutil.which(shell)},
    "the image": json.loads(argument("CMD")),
    "systemd": shlex.split(UNIT["ExecStart"][0].replace("/opt/cursor2api/.venv/bin/", ""))}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_platforms_sigterm_lets_a_reply_end(command):
    with gateway(command=command, environ=HERE, script={
            "replies": [{"text": "word " * 20, "delay": 0.05}]}) as gate:
        response = gate.say(stream=True)
        ids = descendants(gate.process.pid)
        gate.process.send_signal(signal.SIGTERM)
        assert response.text.endswith("data: [DONE]\n\n")
        assert gate.process.wait(30) == 0
        assert ids and until(lambda: not any(Path(f"/proc/{id}").exists() for id in ids))


def test_systemd_is_told_when_the_service_is_there(tmp_path):
    assert UNIT["Type"] == ["notify"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(tmp_path / "notify"))
        told.settimeout(60)
        with gateway(command=COMMANDS["systemd"], environ={**HERE, "NOTIFY_SOCKET": str(tmp_path / "notify")}):
            assert b"READY=1" in told.recv(1000)


def test_the_health_check_of_the_image():
    with gateway() as gate:
        port = gate.url.rpartition(":")[2]
        for url, status in ((port, 0), ("1", 1)):
            run = subprocess.run([sys.executable, *HEALTH[1:]], env={**HERE, "PORT": url}, capture_output=True)
            assert (HEALTH[0], run.returncode) == ("python", status), run.stderr


@pytest.mark.parametrize("seconds", [
    COMPOSE["cursor2api"]["stop_grace_period"], RENDER["maxShutdownDelaySeconds"], FLY["kill_timeout"],
    RAILWAY["deploy"]["drainingSeconds"], UNIT["TimeoutStopSec"][0]])
def test_a_platform_waits_until_replies_have_ended(seconds):
    assert int(str(seconds).removesuffix("s")) >= Config().grace_s + STOP_S


def test_signals_come_to_the_service_and_to_it_alone():
    assert FLY["kill_signal"] == "SIGTERM" and UNIT["KillMode"] == ["mixed"]
    assert WEB.startswith("exec ") and RENDER["startCommand"] == WEB
    assert isinstance(json.loads(argument("CMD")), list) and "startCommand" not in RAILWAY["deploy"]


def test_what_may_restart_the_service_asks_for_its_life_and_what_routes_for_its_readiness():
    assert {RENDER["healthCheckPath"]} == {"/health"} and "'/health'" in HEALTH[2]
    assert {RAILWAY["deploy"]["healthcheckPath"], *(each["path"] for each in FLY["http_service"]["checks"])} == {
        "/ready"}
    assert {"/health", "/ready"} <= {route["path"] for route in routes() if not route["key"]}


def test_a_platform_sets_what_is_a_setting():
    names = {option.name.upper() for option in fields(Config)}
    given = [*COMPOSE["cursor2api"]["environment"], *(each["key"] for each in RENDER["envVars"]), *FLY["env"],
             *HEROKU["env"], *VARIABLES]
    assert set(given) - {"GLIBC_TUNABLES"} <= names
    assert FLY["env"]["PORT"] == str(FLY["http_service"]["internal_port"]) == argument("EXPOSE") == (
        COMPOSE["cursor2api"]["environment"]["PORT"]) == str(Config().port)


def test_each_gives_glibc_what_the_procfile_gives_it():
    image = dict(word.split("=", 1) for word in argument("ENV").split())
    assert PROCFILE["GLIBC_TUNABLES"] == image["GLIBC_TUNABLES"] == VARIABLES["GLIBC_TUNABLES"]


def test_an_image_has_the_sources_and_nothing_secret():
    """What is ignored cannot come into a layer."""
    first, *patterns = [line for line in read(".dockerignore").splitlines() if line and line[0] != "#"]
    sources = {word for name, argument in instructions() if name == "COPY" for word in argument.split()[:-1]}
    assert first == "*" and {line[1:] for line in patterns if line[0] == "!"} == sources
    assert not {".", ".env", ".git"} & sources and all((ROOT / source).exists() for source in sources)
    assert argument("USER").isdigit() and argument("USER") != "0"


def test_the_documents_of_platforms_agree_on_python():
    python = read(".python-version").strip()
    assert argument("FROM") == f"python:{python}-slim"
    matrix = CI["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert matrix == ["3.10", "3.11", "3.12", "3.13", "3.14"] and python in matrix
    assert {"run": ".ci/run"} in CI["jobs"]["test"]["steps"]
