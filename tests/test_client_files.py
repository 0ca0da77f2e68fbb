"""The clients' files: as text, each can be read as what it is; and the command that prints and writes them."""

import ast
import json
import os
import pty
import re
import subprocess
import sys

import pytest
import requests
import yaml
from conftest import MODEL, ROOT

from cursor2api.clients import Gateway, Model
from cursor2api.clients.catalog import CLIENTS

if sys.version_info >= (3, 11):
    import tomllib

WORDS = "http://127.0.0.1:8002", "a-key", "claude-sonnet-4-5-20250929"
GATEWAY = Gateway(*WORDS[:2], (Model(WORDS[2], 200_000), Model("gpt-5.5", 1_000_000)))
COMMAND = [sys.executable, "-m", "cursor2api.clients"]
every_client = pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)


def test_every_name_is_there_once():
    assert len({client.name for client in CLIENTS}) == len(CLIENTS)


@every_client
def test_what_the_page_gets_has_the_words_that_it_replaces_and_no_context(client, gate):
    shown = requests.get(gate.url + "/clients.json", timeout=10).json()["clients"]
    row = next(row for row in shown if row["name"] == client.name)
    filled = json.dumps([row["files"], row["run"]])
    for word, value in zip(("__ADDRESS__", "__KEY__", "__MODEL__"), WORDS):
        assert word in filled
        filled = filled.replace(word, value)
    assert not re.search(r"__[A-Z]+__|None", filled)
    assert client.name == "zed" or not re.search(r"\b(200|136)_?000\b", filled)  # Zed wants a number
    assert row.keys() == {"name", "title", "files", "run", "turn_off", "cannot"}


@every_client
@pytest.mark.parametrize("gateway", [GATEWAY, Gateway(*WORDS[:2], (Model(WORDS[2]),)),
                                     Gateway("https://host/path", "it's \"$x\"", (Model("a/b:c"),))])
def test_every_file_can_be_read(client, gateway):
    for file in client.files(gateway):
        assert file.text.endswith("\n") and not file.text.endswith("\n\n")
        if file.language == "toml" and sys.version_info < (3, 11):
            continue  # no reader
        if file.language == "sh":
            subprocess.run(["sh", "-n"], input=file.text, text=True, check=True, timeout=10)
        else:
            read = {"json": json.loads, "yaml": yaml.safe_load, "python": ast.parse, "javascript": str,
                    "toml": lambda text: tomllib.loads(text)}[file.language]
            assert read(file.text)


@every_client
def test_every_model_and_its_context_stands_in_the_files_that_list_them(client):
    text = "".join(file.text for file in client.files(GATEWAY))
    if client.name in ("opencode", "kilo", "continue", "qwen", "aider", "zed", "librechat"):
        assert all(model.id in text and str(model.context) in text for model in GATEWAY.models)
    assert GATEWAY.model in text


class User:
    """Somebody with a home folder, who asks the command for the files of OpenCode."""

    def __init__(self, url, home):
        self.url, self.home, self.file = url, home, home / ".config/opencode/opencode.json"

    def __call__(self, *arguments, answer=None, url=None, key="0000"):
        """The exit status, what was printed and what was said on stderr; `answer` is typed into a terminal."""
        ours, theirs = pty.openpty()
        try:
            if answer:
                os.write(ours, f"{answer}\n".encode())
            run = subprocess.run(
                [*COMMAND, "opencode", "--address", url or self.url, "--key", key, *arguments], cwd=ROOT,
                env={"PATH": os.environ["PATH"], "HOME": str(self.home)}, text=True, capture_output=True,
                stdin=theirs if answer else subprocess.DEVNULL, timeout=60)
        finally:
            os.close(ours)
            os.close(theirs)
        return run.returncode, run.stdout, run.stderr

    def has(self, text):
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text(text)


@pytest.fixture
def user(shared, tmp_path):
    return User(shared.url, tmp_path)


one_upstream = pytest.mark.upstreams("cloud")


@one_upstream
def test_the_files_are_printed_with_the_models_of_the_service(user):
    status, printed, _ = user("--model", "gemini-3-flash")
    assert status == 0 and not user.file.exists()
    shown = json.JSONDecoder().raw_decode(printed[printed.index("{"):])[0]
    assert shown["model"] == "cursor2api/gemini-3-flash"
    models = shown["provider"]["cursor2api"]["models"]
    assert models[MODEL]["limit"] == {"context": 200_000, "output": 64_000} and f"{MODEL}-thinking" in models
    assert "Start it with: opencode" in printed


@one_upstream
def test_a_file_is_written_once_for_its_owner_alone(user):
    assert user("--write")[0] == 0
    written = user.file.read_text()
    assert json.loads(written)["provider"] and user.file.stat().st_mode & 0o777 == 0o600
    status, printed, _ = user("--write")
    assert status == 0 and "as it should be" in printed and user.file.read_text() == written
    assert [path.name for path in user.file.parent.iterdir()] == ["opencode.json"]


@one_upstream
@pytest.mark.parametrize("there", ['{"theme": "mine"}', "{ // with a comment\n}"])
def test_a_file_that_is_there_is_not_written_over_unasked(user, there):
    user.has(there)
    for answer, sentence in [(None, "nothing was written"), ("n", "left as it was")]:
        status, printed, said = user("--write", answer=answer)
        assert status == 1 and sentence in said and user.file.read_text() == there
        assert [path.name for path in user.file.parent.iterdir()] == ["opencode.json"]
    assert '+  "model": "cursor2api/' in printed


@one_upstream
def test_whoever_agrees_keeps_a_copy_and_what_else_is_in_the_file(user):
    there = json.dumps({"theme": "mine", "model": "a/b", "provider": {"mine": {}, "cursor2api": {"name": "old"}}})
    user.has(there)
    assert user("--write", answer="y")[0] == 0
    now = json.loads(user.file.read_text())
    assert now["theme"] == "mine" and now["model"].startswith("cursor2api/")
    assert now["provider"].keys() == {"mine", "cursor2api"} and now["provider"]["cursor2api"]["name"] != "old"
    copy, = user.file.parent.glob("*.bak")
    assert copy.read_text() == there


@one_upstream
@pytest.mark.parametrize("arguments, options, words", [
    ([], {"key": "wrong"}, "answered 401"),
    ([], {"url": "http://127.0.0.1:1"}, "nothing answers at http://127.0.0.1:1"),
    (["--model", "none"], {}, "no model 'none', but gemini-3-flash, "),
])
def test_what_hinders_is_said_in_a_sentence(user, arguments, options, words):
    status, printed, said = user("--write", *arguments, **options)
    assert status == 1 and not printed and said.startswith("cursor2api: ") and words in said
    assert "Traceback" not in said and not user.file.exists()


def test_what_is_not_this_service_is_said_to_be_none(shared, tmp_path):
    status, _, said = User(shared.url + "/health#", tmp_path)()
    assert status == 1 and "is not this service" in said
