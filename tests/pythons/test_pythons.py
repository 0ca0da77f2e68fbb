"""A fresh clone on each Python that is found here: it installs, serves, and passes the core of the suite."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests"))
from conftest import free_port  # noqa: E402

VERSIONS = "3.10", "3.11", "3.12", "3.13", "3.14"
CORE = [f"tests/test_{name}.py" for name in ("start", "service", "chat", "encode", "sse", "config", "endless")]
CORE += ["tests/test_bad_input.py::test_sixty_callers_keep_others_away_for_no_longer_than_one_request_may_take"]
BIN = Path(sys.executable).parent
ENVIRON = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], **{
    name: value for name, value in os.environ.items() if name.startswith(("PIP_", "UV_", "HTTP", "SSL_"))}}
LEFT_OUT = shutil.ignore_patterns(".git", ".venv*", ".env", "node_modules", "__pycache__", ".hypothesis")


def version(python):
    """Such as 3.11.2; "" if it does not run."""
    run = subprocess.run([python, "-c", "import platform; print(platform.python_version())"], text=True,
                         capture_output=True)
    return run.stdout.strip()


def pythons():
    """Interpreters by their version: the distribution's, pyenv's, and those on PATH."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    candidates = [Path("/usr/bin/python3"), *sorted(pyenv.glob("versions/*/bin/python")),
                  *filter(None, map(shutil.which, (f"python{each}" for each in VERSIONS)))]
    found = {}
    for python in candidates:
        if Path(python).exists() and (its := version(python)).rpartition(".")[0] in VERSIONS:
            found.setdefault(its, str(python))
    return found


PYTHONS = pythons()
each_python = pytest.mark.parametrize("python", PYTHONS.values(), ids=PYTHONS)


def run(*command, cwd, **environ):
    """A command that has to succeed."""
    done = subprocess.run(command, cwd=cwd, env={**ENVIRON, **environ}, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=900)
    assert done.returncode == 0, done.stdout[-5000:]
    return done.stdout


def fresh_clone(folder):
    """The sources as somebody has them who has just cloned them."""
    return Path(shutil.copytree(ROOT, folder / "clone", ignore=LEFT_OUT, symlinks=True))


def readme_curl(port):
    """README's first curl, of the service at this port."""
    readme = (ROOT / "README.md").read_text()
    curl = re.search(r"^curl .*/v1/chat/completions(?: .*\\\n.*)*.*$", readme, re.M).group()
    return re.sub(r"(?<=127\.0\.0\.1:)\d+", str(port), curl)


def serves(*command, cwd):
    """Whether a start of the service prints its own curl, which it does when it has answered, and README's then
    gets a whole reply."""
    port = free_port()
    with subprocess.Popen(command, cwd=cwd, env={**ENVIRON, "PORT": str(port)}, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL) as process:
        try:
            return any(f"curl http://127.0.0.1:{port}/v1/" in line for line in process.stdout) and (
                '"finish_reason": "stop"' in run("sh", "-c", readme_curl(port), cwd=cwd))
        finally:
            process.terminate()
            process.communicate(timeout=60)


@each_python
def test_the_service_and_the_core_of_its_tests_run(python, tmp_path):
    clone = fresh_clone(tmp_path)
    assert serves("make", "run", f"PYTHON={python}", cwd=clone)
    assert version(clone / ".venv/bin/python") == version(python)
    run(BIN / "uv", "pip", "install", "-q", "-r", "requirements-test.txt", cwd=clone)
    said = run(".venv/bin/python", "-m", "pytest", "-q", "-p", "no:cacheprovider", *CORE, cwd=clone)
    assert "warnings summary" not in said, said[-5000:]


def test_three_plain_commands_are_enough(tmp_path):
    clone = fresh_clone(tmp_path)
    run(next(iter(PYTHONS.values())), "-m", "venv", ".venv", cwd=clone)
    run(".venv/bin/pip", "install", "-r", "requirements.txt", cwd=clone)
    run(".venv/bin/pip", "check", cwd=clone)
    assert serves(".venv/bin/python", "app.py", cwd=clone)


def test_uv_runs_it_by_one_command(tmp_path):
    clone = fresh_clone(tmp_path)
    assert serves(BIN / "uv", "run", "--with-requirements", "requirements.txt", "app.py", cwd=clone)
