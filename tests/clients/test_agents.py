"""The agents that can be run without a screen, unmodified, each with the files that its template makes: each has
a file written and a command run, and asks the service for nothing on the side."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
AIDER = ROOT / ".venv-aider/bin"
sys.path.insert(0, str(HERE.parent))
from conftest import MODEL, gateway  # noqa: E402

from cursor2api.clients import Gateway, Model  # noqa: E402
from cursor2api.clients.catalog import CLIENTS  # noqa: E402

FUNCTIONS = """
import pathlib, subprocess
def write(path: str, text: str):
    "Writes a file."
    pathlib.Path(path).write_text(text)
def run(command: str):
    "Runs a command."
    return subprocess.run(command, shell=True, capture_output=True, text=True).stdout
"""
ASKED = "Make a file and look at it"
COPY = "cat made.txt > seen.txt"
EDIT = """
made.txt
```
<<<<<<< SEARCH
=======
by a tool
>>>>>>> REPLACE
```
All done."""


SCHEMAS = {  # those that cannot be run here, but for what of their file their own schema is; "" is all
    "librechat": ("", 'require("librechat-data-provider").configSchema.strict()'),
    "roo": ("providerProfiles.apiConfigs.cursor2api",
            'require("@roo-code/types").providerSettingsWithIdSchema.strict()')}
PROGRAMS = {"langchain", "openai"}  # those whose files are programs


def call(name, **arguments):
    return "{open}" + json.dumps({"name": name, "arguments": arguments}) + "{close}"


def calls(write, run):
    """The replies that make two calls, one after the other; FILE in them is the whole path of made.txt."""
    return [call(write[0], **write[1]), call(run[0], **run[1]), "All done."]


AGENTS = {  # by the client's name: how it is started, and what the model replies
    "opencode": ("opencode run --auto", calls(
        ("write", {"filePath": "FILE", "content": "by a tool\n"}), ("bash", {"command": COPY}))),
    "kilo": ("kilo run --auto", calls(
        ("write", {"filePath": "FILE", "content": "by a tool\n"}), ("bash", {"command": COPY}))),
    "cline": ("cline", calls(
        ("editor", {"path": "FILE", "new_text": "by a tool\n"}), ("run_commands", {"commands": [COPY]}))),
    "continue": ("cn -p --auto", calls(
        ("Write", {"filepath": "FILE", "content": "by a tool\n"}), ("Bash", {"command": COPY}))),
    "codex": ("CURSOR2API_KEY=0000 codex exec --profile cursor2api --skip-git-repo-check "
              "--dangerously-bypass-approvals-and-sandbox", calls(
                  ("exec_command", {"cmd": "echo by a tool > made.txt"}), ("exec_command", {"cmd": COPY}))),
    "claude-code": ("claude --settings ~/.claude/cursor2api.json --dangerously-skip-permissions -p", calls(
        ("Write", {"file_path": "FILE", "content": "by a tool\n"}), ("Bash", {"command": COPY}))),
    "copilot": (". ~/.copilot/cursor2api.sh && copilot -s --allow-all -p", calls(
        ("create", {"path": "FILE", "file_text": "by a tool\n"}),
        ("bash", {"command": COPY, "description": "Copies the file"}))),
    "qwen": ("qwen --yolo", calls(
        ("write_file", {"file_path": "FILE", "content": "by a tool\n"}),
        ("run_shell_command", {"command": COPY, "is_background": False}))),
    "aider": ("aider --yes-always --no-analytics --no-check-update --auto-test "
              f"--test-cmd '{COPY}' --message", [EDIT]),
    "llm": (f'llm -m cursor2api/{MODEL} --functions "$FUNCTIONS"', calls(
        ("write", {"path": "FILE", "text": "by a tool\n"}), ("run", {"command": COPY}))),
}


class Home:
    """A home folder with the files of one client, which the command of the project has put there."""

    def __init__(self, name, gate, path):
        self.gate, self.path, self.work = gate, path, path / "work"
        self.work.mkdir()
        subprocess.run(["git", "init", "-q"], cwd=self.work, check=True, timeout=60)
        # Claude Code runs as root only in a sandbox, Copilot CLI updates itself, Cline leaves a process behind.
        programs = [HERE / "node_modules/.bin", AIDER, Path(sys.executable).parent]
        self.environ = {"PATH": ":".join([*map(str, programs), os.environ["PATH"]]), "HOME": str(path),
                        "IS_SANDBOX": "1", "COPILOT_AUTO_UPDATE": "false", "CLINE_SESSION_BACKEND_MODE": "local",
                        "FUNCTIONS": FUNCTIONS}
        subprocess.run([sys.executable, "-m", "cursor2api.clients", name, "--write", "--address", gate.url,
                        "--key", "0000", "--model", MODEL], cwd=ROOT, env=self.environ, check=True, timeout=60)

    def ask(self, command):
        """Its exit status, and all that it wrote."""
        run = subprocess.run(["bash", "-c", f'{command} "$ASKED"'], cwd=self.work, text=True, timeout=150,
                             env={**self.environ, "ASKED": ASKED}, stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return run.returncode, run.stdout

    def chats(self):
        return [line for line in self.gate.lines(message="request") if line.get("agent")]


@pytest.fixture(scope="module")
def cloud():
    with gateway(upstream="cloud", environ={"KEEP_AGENTS": "32"}) as one:
        yield one


def test_each_client_that_was_tried_is_tried_here():
    assert {client.name for client in CLIENTS if client.tried} == AGENTS.keys() | PROGRAMS


@pytest.mark.parametrize("name", AGENTS)
def test_an_agent_writes_a_file_and_runs_a_command(name, cloud, tmp_path):
    if name == "aider" and not (AIDER / "aider").exists():
        pytest.skip("aider could not be installed: it needs Python 3.12 or older")
    cloud.simulator.forget()
    home, (command, replies) = Home(name, cloud, tmp_path), AGENTS[name]
    before = len(home.chats())
    cloud.simulator.script({"replies": [
        {"text": reply.replace("FILE", str(home.work / "made.txt"))} for reply in replies]})
    status, said = home.ask(command)
    assert status == 0 and "All done." in said, said
    assert (home.work / "made.txt").read_text() == (home.work / "seen.txt").read_text() == "by a tool\n", said
    chats = home.chats()[before:]
    assert {chat["status"] for chat in chats} == {"200"}
    # One agent for all of them, and nothing on the side.
    assert [chat["agent"] for chat in chats] == ["new", "reused", "reused"][:len(replies)]


@pytest.mark.parametrize("client", [client for client in CLIENTS if client.name in PROGRAMS],
                         ids=lambda client: client.name)
def test_a_program_prints_the_reply(client, cloud):
    cloud.simulator.forget({"replies": [{"text": "A reply", "times": 0}]})
    for file in client.files(Gateway(cloud.url, "0000", (Model(MODEL),))):
        command = ["node", "--input-type=module"] if file.language == "javascript" else [sys.executable]
        run = subprocess.run(command, input=file.text, cwd=HERE, text=True, capture_output=True, timeout=60)
        assert (run.returncode, run.stdout) == (0, "A reply\n"), run.stderr


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_file_fits_the_schema_of_its_client(name):
    client, (path, schema) = next(client for client in CLIENTS if client.name == name), SCHEMAS[name]
    for model in (Model(MODEL), Model(MODEL, 200_000)):
        file, = client.files(Gateway("http://127.0.0.1:8002", "0000", (model,)))
        value = yaml.safe_load(file.text)  # JSON is YAML too
        for key in filter(None, path.split(".")):
            value = value[key]
        run = subprocess.run(
            ["node", "-e", f"console.log({schema}.safeParse({json.dumps(value)}).success)"], cwd=HERE, text=True,
            capture_output=True, timeout=60)
        assert run.stdout == "true\n", run.stderr
