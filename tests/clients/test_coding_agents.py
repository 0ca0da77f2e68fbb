"""Coding agents, unmodified and without a terminal, with the files that `make client` gives them: each writes a
file and runs a command through the gateway.
"""

import json
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from conftest import MODEL, gateway  # noqa: E402

from cursor2api.clients import Model, Service  # noqa: E402
from cursor2api.clients.catalog import CLIENTS  # noqa: E402

BIN = HERE / "node_modules" / ".bin"
LLM = Path(sys.executable).parent / "llm"


@dataclass
class Agent:
    """How a client is run: its `command`, and the calls by which its model writes a file and runs a command."""

    command: list[str]
    writes: dict  # of the arguments {path} and {text} are replaced
    runs: dict
    more: dict = field(default_factory=dict)  # variables
    ends: dict | None = None  # the call by which its model says that it is done; most need none


AGENTS = {
    **{name: Agent([name, "run"], {"name": "write", "arguments": {"filePath": "{path}", "content": "{text}"}},
                   {"name": "bash", "arguments": {"command": "{text}", "description": "Makes a file"}})
       for name in ("opencode", "kilo")},
    "copilot": Agent(["copilot", "--allow-all-tools", "--allow-all-paths", "-p"],
                     {"name": "create", "arguments": {"path": "{path}", "file_text": "{text}"}},
                     {"name": "bash", "arguments": {"command": "{text}", "description": "Makes a file"}},
                     {"COPILOT_OFFLINE": "true"}),
    "cline": Agent(["cline", "-y"], {"name": "editor", "arguments": {"path": "{path}", "new_text": "{text}"}},
                   {"name": "run_commands", "arguments": {"commands": ["{text}"]}},
                   ends={"name": "submit_and_exit", "arguments": {"summary": "All is done", "verified": True}}),
    "continue": Agent(["cn", "-p", "--auto"],
                      {"name": "Write", "arguments": {"filepath": "{path}", "content": "{text}"}},
                      {"name": "Bash", "arguments": {"command": "{text}"}}),
    "codex": Agent(["codex", "exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"],
                   {"name": "exec_command", "arguments": {"cmd": "printf '{text}' > {path}"}},
                   {"name": "exec_command", "arguments": {"cmd": "{text}"}}),
    "claude-code": Agent(["claude", "--dangerously-skip-permissions", "-p"],
                         {"name": "Write", "arguments": {"file_path": "{path}", "content": "{text}"}},
                         {"name": "Bash", "arguments": {"command": "{text}", "description": "Makes a file"}},
                         {"IS_SANDBOX": "1"}),
}


def filled(call, **words):
    text = json.dumps(call)
    for word, value in words.items():
        text = text.replace("{%s}" % word, json.dumps(value)[1:-1])
    return "{open}" + text + "{close}"


def prepared(name, home, service):
    """Puts the client's files into a home of its own; the variables that its lines for a shell set."""
    variables = {}
    for file in CLIENTS[name].files(service):
        if file.path:
            path = Path(file.path.replace("~", str(home)))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(file.text)
        for line in file.text.splitlines() if not file.path else ():
            word, *rest = shlex.split(line)
            if word == "export":
                variables |= dict([rest[0].split("=", 1)])
            else:  # a command that sets the client up
                subprocess.run([LLM if word == "llm" else BIN / word, *rest], cwd=home, check=True, timeout=60,
                               env={"PATH": os.environ["PATH"], "HOME": str(home)},
                               stdin=subprocess.DEVNULL, capture_output=True)
    return variables


@pytest.mark.parametrize("name", AGENTS)
def test_it_writes_a_file_and_runs_a_command(name, tmp_path):
    home, project = tmp_path / "home", tmp_path / "project"
    home.mkdir()
    project.mkdir()
    agent = AGENTS[name]
    with gateway(upstream="cloud", environ={"KEEP_AGENTS": "32", "MAX_INPUT_LENGTH": "800000"}) as gate:
        gate.simulator.script({"replies": [
            {"text": filled(agent.writes, path=str(project / "written.txt"), text="by a tool")},
            {"text": filled(agent.runs, path="", text=f"echo by a command > {project / 'run.txt'}")},
            {"text": filled(agent.ends) if agent.ends else "All is done", "times": 0}]})
        variables = prepared(name, home, Service(gate.url, "0000", (Model(MODEL, 200_000),)))
        done = subprocess.run(
            [BIN / agent.command[0], *agent.command[1:], "Write the file and run the command"], cwd=project,
            text=True, capture_output=True, timeout=150, stdin=subprocess.DEVNULL,
            env={"PATH": os.environ["PATH"], "HOME": str(home), "CI": "1", **variables, **agent.more})
        assert (project / "written.txt").read_text().strip() == "by a tool", done
        assert (project / "run.txt").read_text() == "by a command\n", done
        assert "All is done" in done.stdout, done
        # One conversation, told once: nothing beside it asked for a model.
        assert len(gate.agents()) == 1, [each["runs"][0]["prompt"][-300:] for each in gate.agents()]


WRITES = '''
def write_file(path: str, text: str) -> str:
    "Writes a file"
    open(path, "w").write(text)
    return "done"
'''


def test_llm_calls_a_function_that_writes_a_file(tmp_path):
    with gateway(upstream="cloud", environ={"KEEP_AGENTS": "32"}) as gate:
        prepared("llm", tmp_path, Service(gate.url, "0000", (Model(MODEL, 200_000),)))
        call = {"name": "write_file", "arguments": {"path": "{path}", "text": "by a tool"}}
        gate.simulator.script({"replies": [{"text": filled(call, path=str(tmp_path / "written.txt"))},
                                           {"text": "All is done", "times": 0}]})
        done = subprocess.run([LLM, "-m", MODEL, "--functions", WRITES, "Write"], timeout=60, text=True,
                              env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)}, stdin=subprocess.DEVNULL,
                              capture_output=True)
        assert "All is done" in done.stdout and (tmp_path / "written.txt").read_text() == "by a tool", done
        assert len(gate.agents()) == 2  # the first is that of the greeting by which the file shows that it works
