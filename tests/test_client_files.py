"""What clients are told: each file can be read as what it is, and no file of the user's is lost."""

import ast
import json
import os
import pty
import re
import subprocess
import sys

import pytest
import yaml
from conftest import MODEL, ROOT, gateway

from cursor2api.clients import Model, Service
from cursor2api.clients.catalog import CLIENTS

WORDS = "http://127.0.0.1:8002", "a-key", "claude-sonnet-4-5-20250929"
SERVICE = Service(*WORDS[:2], (Model(WORDS[2], 200_000), Model("gpt-5.5", 1_000_000)))
every_client = pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS)
FROM_A_CONTAINER = "http://host.docker.internal:8002"


def as_toml(text):
    return pytest.importorskip("tomllib").loads(text)


def as_shell(text):
    subprocess.run(["bash", "-n"], input=text, text=True, check=True, timeout=10)


READERS = {"json": json.loads, "python": ast.parse, "yaml": yaml.safe_load, "toml": as_toml, "sh": as_shell,
           "js": str}


@every_client
def test_every_file_can_be_read_and_has_what_the_client_needs(client):
    files = client.files(SERVICE)
    for file in files:
        READERS[file.language](file.text)
        assert file.text.endswith("\n") and not file.text.endswith("\n\n")
    text = "".join(file.text for file in files)
    assert (WORDS[0] in text or FROM_A_CONTAINER in text) and "a-key" in text
    assert WORDS[2] in text or client.name == "open-webui"  # which asks for the list itself
    assert "None" not in text


@every_client
def test_the_page_gets_words_that_it_replaces(client, gate):
    row = next(row for row in gate.get("/clients.json", key="").json()["clients"] if row["name"] == client.name)
    assert row.keys() == {"name", "title", "files", "run", "turn_off", "cannot"}
    filled = json.dumps([row["files"], row["run"]])
    for word, value in zip(("__ADDRESS__", "__KEY__", "__MODEL__"), WORDS):
        filled = filled.replace(word, value)
    assert not re.search(r"__[A-Z]+__|None", filled) and WORDS[0] in filled and WORDS[1] in filled


@pytest.fixture(scope="module")
def served():
    with gateway(environ={"API_KEY": "a-key"}) as one:
        yield one


def run(served, home, *asked, stdin=subprocess.DEVNULL):
    done = subprocess.run(
        [sys.executable, "-m", "cursor2api.clients", *asked, "--address", served.url, "--key", "a-key"],
        cwd=ROOT, env={"PATH": os.environ["PATH"], "HOME": str(home)}, stdin=stdin,
        capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


def test_a_file_is_printed_with_the_models_that_the_service_lists(served, tmp_path):
    status, said = run(served, tmp_path, "opencode", "--model", "gemini-3-flash")
    assert status == 0 and not [*tmp_path.iterdir()]
    config = json.loads(said[said.index("{"):said.rindex("}") + 1])
    assert config["model"] == "cursor2api/gemini-3-flash"
    options = config["provider"]["cursor2api"]
    assert options["options"] == {"baseURL": served.url + "/v1", "apiKey": "a-key"}
    assert options["models"].keys() == {
        model["id"] for model in served.get("/v1/models", "a-key").json()["data"]}
    assert options["models"][MODEL]["limit"]["context"] > 100_000


def test_a_file_is_written_where_the_client_looks_and_none_of_the_users_is_lost(served, tmp_path):
    path = tmp_path / ".config/opencode/opencode.json"
    assert run(served, tmp_path, "opencode", "--write")[0] == 0
    ours = path.read_text()
    assert json.loads(ours)["model"].startswith("cursor2api/") and path.stat().st_mode & 0o777 == 0o600
    assert "is so already" in run(served, tmp_path, "opencode", "--write")[1]
    path.write_text('{"theme": "mine"}\n')
    status, said = run(served, tmp_path, "opencode", "--write")  # without a terminal nobody can be asked
    assert status == 1 and '-{"theme": "mine"}' in said and path.read_text() == '{"theme": "mine"}\n'
    for answer, becomes in (("n", '{"theme": "mine"}\n'), ("y", ours)):
        terminal, end = pty.openpty()
        os.write(terminal, answer.encode() + b"\n")
        run(served, tmp_path, "opencode", "--write", stdin=end)
        os.close(terminal)
        os.close(end)
        assert path.read_text() == becomes
    assert path.with_name("opencode.json.before").read_text() == '{"theme": "mine"}\n'


@pytest.mark.parametrize("asked, said", [
    (["nobody"], "invalid choice: 'nobody'"), (["opencode", "--model", "nobody"], "--model: expected one of"),
    (["opencode", "--key", "wrong"], "401"), (["opencode", "--address", "http://127.0.0.1:9"], "make run")])
def test_what_is_wrong_is_said(served, asked, said):
    arguments = ["--address", served.url, "--key", "a-key", *asked]
    done = subprocess.run([sys.executable, "-m", "cursor2api.clients", *arguments], cwd=ROOT, timeout=60,
                          env={"PATH": os.environ["PATH"]}, capture_output=True, text=True)
    assert done.returncode and said in done.stderr and "Traceback" not in done.stderr
