"""Claude Code, unmodified, with a home of its own and no traffic but to the service: `claude -p`, and once in a
terminal."""

import json
import os
import pty
import re
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from conftest import MODEL, UPSTREAMS, gateway, until  # noqa: E402

CLAUDE = HERE / "node_modules/.bin/claude"
AGE = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}


class Claude:
    """`ask` runs it once in an empty directory, and gives its exit status and what it wrote."""

    def __init__(self, gate, home):
        self.gate, self.home, self.work = gate, home, home / "work"
        self.work.mkdir()
        gate.simulator.forget()

    def environ(self, key="0000", model=MODEL, **more):
        names = ("ANTHROPIC_MODEL", "ANTHROPIC_DEFAULT_OPUS_MODEL", "ANTHROPIC_DEFAULT_SONNET_MODEL",
                 "ANTHROPIC_DEFAULT_HAIKU_MODEL")
        return {
            "PATH": os.environ["PATH"], "HOME": str(self.home), "DISABLE_AUTOUPDATER": "1",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "ANTHROPIC_BASE_URL": self.gate.url,
            "ANTHROPIC_AUTH_TOKEN": key, **dict.fromkeys(names, model), **more}

    def ask(self, text, *options, **environ):
        run = subprocess.run([CLAUDE, "-p", text, *options], cwd=self.work, env=self.environ(**environ),
                             stdin=subprocess.DEVNULL, text=True, capture_output=True, timeout=100)
        return run.returncode, run.stdout.strip()

    @contextmanager
    def terminal(self):
        """It runs in a terminal: `write(text)` is what its user types, `shows(text)` waits for text without
        spaces. Ctrl-C, twice, ends it."""
        (self.home / ".claude.json").write_text(json.dumps({
            "hasCompletedOnboarding": True, "projects": {str(self.work): {"hasTrustDialogAccepted": True}}}))
        ours, its = pty.openpty()
        screen = bytearray()

        def read():
            with suppress(OSError):  # at its end
                while True:
                    screen.extend(os.read(ours, 65536))

        def shows(text):
            return until(lambda: text in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen.decode("utf-8", "replace")))

        def write(text):
            return os.write(ours, text.encode())

        process = subprocess.Popen([CLAUDE], cwd=self.work, env=self.environ(TERM="xterm-256color"), stdin=its,
                                   stdout=its, stderr=its, start_new_session=True)
        os.close(its)
        reader = Thread(target=read, daemon=True)
        reader.start()
        try:
            yield write, shows
            assert until(lambda: write("\x03") and process.poll() is not None) and process.returncode == 0
        finally:
            process.kill()
            process.wait()
            reader.join(10)
            os.close(ours)

    def prompts(self):
        return [run["prompt"] for agent in self.gate.agents() for run in agent["runs"]]

    def script(self, *replies):
        self.gate.simulator.script({"replies": list(replies)})


def call(name, **arguments):
    return {"text": "{open}" + json.dumps({"name": name, "arguments": arguments}) + "{close}"}


@pytest.fixture(scope="module", params=UPSTREAMS)
def anywhere(request):
    with gateway(upstream=request.param) as one:
        yield one


@pytest.fixture(scope="module")
def cloud():
    with gateway(upstream="cloud", environ={"KEEP_AGENTS": "32"}) as one:
        yield one


@pytest.fixture
def claude(cloud, tmp_path):
    return Claude(cloud, tmp_path)


def test_a_chat_and_a_file_that_a_tool_writes(anywhere, tmp_path):
    claude = Claude(anywhere, tmp_path)
    assert claude.ask("Say exactly hello") == (0, "hello")
    file = claude.work / "made.txt"
    claude.script(call("Write", file_path=str(file), content="by a tool"), {"text": "done"})
    assert claude.ask("Make a file", "--permission-mode", "acceptEdits") == (0, "done")
    assert file.read_text() == "by a tool"


def test_a_conversation_that_is_resumed_meets_one_agent(claude):
    status, said = claude.ask("Say exactly one", "--output-format", "json")
    session = json.loads(said)["session_id"]
    for word in ("two", "three", "four"):
        assert claude.ask(f"Say exactly {word}", "--resume", session) == (0, word)
    kinds = [line["agent"] for line in claude.gate.lines(message="request", route="messages")]
    assert kinds[-4:] == ["new", "reused", "reused", "reused"]
    assert [len(agent["runs"]) for agent in claude.gate.agents()] == [4]


def test_structured_output(claude):
    status, said = claude.ask("Ada is 36", "--output-format", "json", "--json-schema", json.dumps(AGE))
    assert status == 0 and json.loads(json.loads(said)["result"]).keys() == {"age"}


def test_a_deferred_tool_is_told_once_it_was_searched_for(claude):
    claude.script(call("ToolSearch", query="select:WebFetch", max_results=1), {"text": "found"})
    assert claude.ask("Find a tool", ENABLE_TOOL_SEARCH="true") == (0, "found")
    first, then = claude.prompts()
    assert '{"name": "ToolSearch"' in first and '{"name": "WebFetch"' not in first
    assert "The tool WebFetch can now be called." in then and '{"name": "WebFetch"' in then


def test_a_web_search_fails_in_words_that_the_model_reads(claude):
    """Claude Code makes it a request of its own, whose one tool would run at Anthropic."""
    claude.script(call("WebSearch", query="news of today"), {"text": "done"})
    assert claude.ask("Search", "--allowedTools", "WebSearch", ENABLE_TOOL_SEARCH="false") == (0, "done")
    assert [line["status"] for line in claude.gate.lines(route="messages")][-3:] == ["200", "400", "200"]
    assert "Anthropic's own tools cannot run here, got \"web_search_" in claude.prompts()[-1]


def test_a_conversation_in_a_terminal(claude):
    before = len(claude.gate.lines(route="messages"))
    claude.script({"text": "First-answer."}, {"text": "Second-answer."})
    with claude.terminal() as (write, shows):
        assert shows("shortcuts")
        for word in ("First", "Second"):
            write(f"{word}-question")
            assert shows(f"{word}-question")
            write("\r")
            assert shows(f"{word}-answer.")
    kinds = [line["agent"] for line in claude.gate.lines(route="messages")[before:]]
    assert kinds == ["new", "reused"] and "Second-question" in claude.prompts()[-1]


@pytest.mark.parametrize("change, words", [({"key": "wrong"}, "Failed to authenticate"),
                                           ({"model": "nope"}, "may not exist")])
def test_what_is_wrong_is_said_at_once(claude, change, words):
    before = len(claude.gate.lines(route="messages"))
    status, said = claude.ask("Hello", **change)
    assert status == 1 and words in said and len(claude.gate.lines(route="messages")) - before <= 2


def test_a_stream_that_breaks_is_an_error_and_no_answer(claude):
    claude.script({"text": "one two three", "status": "ERROR", "times": 0})
    status, said = claude.ask("Hello", CLAUDE_CODE_MAX_RETRIES="1")
    assert status == 1 and "API Error" in said


def test_no_thinking_on_wish(claude):
    for environ, thinking in [({}, "true"), ({"MAX_THINKING_TOKENS": "0"}, "false")]:
        assert claude.ask("Say exactly hello", **environ) == (0, "hello")
        assert claude.gate.agents()[-1]["params"].get("thinking", "false") == thinking


def test_a_conversation_that_is_too_long_is_compacted(claude, tmp_path):
    claude.ask("Hello")
    limit = len(claude.prompts()[0]) + 12_000
    with gateway(upstream="cloud", environ={"MAX_INPUT_LENGTH": str(limit)}) as gate:
        (tmp_path / "other").mkdir()
        claude = Claude(gate, tmp_path / "other")
        said = json.loads(claude.ask("Say exactly " + "hello " * 1200, "--output-format", "json")[1])
        claude.script({"text": "<analysis>a</analysis><summary>They said hello.</summary>"}, {"text": "fine"})
        assert claude.ask("Go on" + " and on" * 600, "--resume", said["session_id"]) == (0, "fine")
        assert gate.lines(route="messages", why="prompt_too_long")
        assert "They said hello." in claude.prompts()[-1]
