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
from cursor2api.clients.__main__ import merged
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
    """Somebody with a home folder, who asks the command for the files of a client."""

    def __init__(self, url, home):
        self.url, self.home, self.file = url, home, home / ".config/opencode/opencode.json"

    def __call__(self, *arguments, name="opencode", answer=None, url=None, key="0000", environ={}):
        """The exit status, what was printed and what was said on stderr; `answer` is typed into a terminal."""
        ours, theirs = pty.openpty()
        try:
            if answer:
                os.write(ours, f"{answer}\n".encode())
            run = subprocess.run(
                [*COMMAND, name, "--address", url or self.url, "--key", key, *arguments], cwd=ROOT,
                env={"PATH": os.environ["PATH"], "HOME": str(self.home), **environ}, text=True, timeout=60,
                capture_output=True, stdin=theirs if answer else subprocess.DEVNULL)
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


@pytest.mark.parametrize("present, ours, becomes", [
    ({"mine": 1, "model": "a"}, {"model": "b"}, {"mine": 1, "model": "b"}),
    ({"cursor2api": {"models": {"gone": 1}}}, {"cursor2api": {"models": {}}}, {"cursor2api": {"models": {}}}),
    ([{"id": "mine"}, {"id": "gone", "envKey": "CURSOR2API_KEY"}], [{"id": "a"}], [{"id": "a"}, {"id": "mine"}]),
    ({"env": None}, {"env": {"a": 1}}, {"env": {"a": 1}}),
    ({"env": [1]}, {"env": {"a": 1}}, {"env": {"a": 1}}),
])
def test_what_is_the_users_stays_and_a_model_that_is_gone_does_not(present, ours, becomes):
    assert merged(present, ours) == becomes


@one_upstream
@pytest.mark.parametrize("name, environ, place", [
    ("opencode", {"XDG_CONFIG_HOME": ""}, "HOME/.config/opencode/opencode.json"),
    ("opencode", {"XDG_CONFIG_HOME": "/c"}, "/c/opencode/opencode.json"),
    ("llm", {"XDG_CONFIG_HOME": "/c"}, "/c/io.datasette.llm/keys.json"),
    ("llm", {"XDG_CONFIG_HOME": "/c", "LLM_USER_PATH": "/l"}, "/l/keys.json"),
    ("codex", {"CODEX_HOME": "/x"}, "/x/cursor2api.config.toml"),
    ("qwen", {"QWEN_HOME": "/q"}, "/q/settings.json"),
    ("cline", {"CLINE_DIR": "/l"}, "/l/data/settings/providers.json"),
    ("openai", {"XDG_CONFIG_HOME": "/c"}, "chat.py"),
])
def test_a_file_goes_where_its_client_looks(user, name, environ, place):
    status, printed, _ = user(name=name, environ=environ)
    assert status == 0 and f"--- {place.replace('HOME', str(user.home))}\n" in printed


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


@one_upstream
def test_a_file_that_is_no_text_is_left_as_it_was(user):
    user.has("")
    user.file.write_bytes(b"\xff\xfe")
    status, _, said = user("--write")
    assert status == 1 and "is no UTF-8" in said and user.file.read_bytes() == b"\xff\xfe"


@one_upstream
def test_a_folder_that_cannot_be_made_is_said(user):
    (user.home / ".config").write_text("a file")
    status, _, said = user("--write")
    assert status == 1 and said.startswith("cursor2api: ") and ".config" in said and "Traceback" not in said


def test_what_is_not_this_service_is_said_to_be_none(shared, tmp_path):
    status, _, said = User(shared.url + "/health#", tmp_path)()
    assert status == 1 and "is not this service" in said
