"""Codex, unmodified: `codex exec` with its own home and a provider pointed at the gateway."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from conftest import MODEL, gateway  # noqa: E402

CODEX = Path(__file__).resolve().parent / "node_modules" / ".bin" / "codex"
CONFIG = """
model = "{model}"
model_provider = "gateway"
[model_providers.gateway]
name = "gateway"
base_url = "{url}/v1"
env_key = "GATEWAY_KEY"
wire_api = "responses"
request_max_retries = 4
stream_max_retries = {stream_max_retries}
stream_idle_timeout_ms = {stream_idle_timeout_ms}
"""
BUILT_IN = """
model = "{model}"
openai_base_url = "{url}/v1"
"""
SERVER = f"""
[mcp_servers.sky]
command = "{sys.executable}"
args = ["{Path(__file__).resolve().parent / "weather_server.py"}"]
"""


class Codex:
    """Codex in a project's folder, with a home of its own."""

    def __init__(self, gate, home):
        self.gate, self.home, self.project = gate, home / "home", home / "project"
        self.home.mkdir()
        self.project.mkdir()

    def __call__(self, *asked, config=CONFIG, model=MODEL, stream_max_retries=2, stream_idle_timeout_ms=300_000):
        """The items of what Codex did, and all that it wrote."""
        (self.home / "config.toml").write_text(config.format(
            url=self.gate.url, model=model, stream_max_retries=stream_max_retries,
            stream_idle_timeout_ms=stream_idle_timeout_ms))
        run = subprocess.run(
            [CODEX, "exec", *asked[:-1], "--skip-git-repo-check", "--json",
             "--dangerously-bypass-approvals-and-sandbox", asked[-1]],
            cwd=self.project, text=True, capture_output=True, timeout=120, stdin=subprocess.DEVNULL,
            env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(self.home), "CODEX_HOME": str(self.home),
                 "GATEWAY_KEY": "0000", "CODEX_API_KEY": "0000"})
        events = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
        return events, run.stdout + run.stderr

    def posts(self):
        return len(self.gate.lines(route="responses"))


@pytest.fixture
def codex(tmp_path):
    with gateway(upstream="cloud", environ={"KEEP_AGENTS": "32", "HEARTBEAT_S": "0.5"}) as gate:
        yield Codex(gate, tmp_path)


def message(events):
    return [event["item"]["text"] for event in events
            if event["type"] == "item.completed" and event["item"]["type"] == "agent_message"][-1]


def call(name, **arguments):
    return '{open}' + json.dumps({"name": name, "arguments": arguments}) + '{close}'


def test_a_chat_and_its_resumption(codex):
    events, said = codex("Say hello")
    assert message(events) == "hello", said
    events, said = codex("resume", "--last", "Say it again: bye")
    assert message(events), said
    assert codex.posts() == 2


def test_a_command_is_run_once_and_one_agent_makes_ten_steps(codex):
    replies = [{"text": call("exec_command", cmd=f"echo x >> runs; echo step {n}")} for n in range(10)]
    codex.gate.simulator.script({"replies": [*replies, {"text": "All done.", "times": 0}]})
    events, said = codex("Run it")
    assert message(events) == "All done.", said
    assert (codex.project / "runs").read_text() == "x\n" * 10
    assert codex.posts() == 11 and len(codex.gate.agents()) == 1


def test_a_command_is_run_once_though_the_upstream_was_cut_behind_it(codex):
    codex.gate.simulator.script({"replies": [
        {"text": call("exec_command", cmd="echo x >> runs"), "status": "EXPIRED"},
        {"text": call("exec_command", cmd="echo x >> runs")}, {"text": "All done.", "times": 0}]})
    events, said = codex("Run it")
    assert message(events) == "All done.", said
    assert (codex.project / "runs").read_text() == "x\n"


def test_silence_beyond_its_patience_is_no_end(codex):
    codex.gate.simulator.script({"replies": [{"text": "At last.", "first": 5, "times": 0}]})
    events, said = codex("Hello", stream_idle_timeout_ms=2000)
    assert message(events) == "At last." and codex.posts() == 1, said


def test_what_no_retry_mends_is_asked_once(codex):
    codex.gate.simulator.script({"replies": [], "refuse": {"create": {"status": 401, "times": 0}}})
    _, said = codex("Hello")
    assert codex.posts() == 1 and "Cursor refused" in said


def test_a_patch_is_applied_as_it_was_meant(codex):
    patch = '*** Begin Patch\n*** Add File: a.txt\n+he said "x" \\ \t<b>\n*** End Patch'
    codex.gate.simulator.script({"replies": [
        {"text": '{open}{"name": "apply_patch"}\n' + patch + "\n{close}"}, {"text": "All done.", "times": 0}]})
    events, said = codex("Patch it", model="gpt-5.5")  # by whose id Codex offers what it applies patches with
    assert message(events) == "All done.", said
    assert (codex.project / "a.txt").read_text() == 'he said "x" \\ \t<b>\n'


def test_a_tool_of_an_mcp_server_is_called_by_its_namespace(codex):
    codex.gate.simulator.script({"replies": [
        {"text": call("get_weather", city="Paris")}, {"text": "All done.", "times": 0}]})
    events, said = codex("How is it there?", config=CONFIG + SERVER)
    assert message(events) == "All done.", said
    first, then = [run["prompt"] for agent in codex.gate.agents() for run in agent["runs"]]
    assert '{"name": "get_weather"' in first and "18 degrees in Paris" in then


def test_a_tool_of_an_mcp_server_is_found_and_called(codex):
    codex.gate.simulator.script({"replies": [
        {"text": call("tool_search", query="weather")}, {"text": call("get_weather", city="Paris")},
        {"text": "All done.", "times": 0}]})
    events, said = codex("How is it there?", config=CONFIG + SERVER, model="gpt-5.5")  # by whose id it hides them
    assert message(events) == "All done.", said
    first, then, last = [run["prompt"] for agent in codex.gate.agents() for run in agent["runs"]]
    assert '{"name": "get_weather"' not in first and '{"name": "get_weather"' in then
    assert "18 degrees in Paris" in last


def test_its_own_provider_falls_back_from_a_websocket_at_once(codex):
    events, said = codex("Say hello", config=BUILT_IN)
    assert message(events) == "hello", said
    assert len(codex.gate.lines(route="response_websocket", status="426")) == 1 and codex.posts() == 1
