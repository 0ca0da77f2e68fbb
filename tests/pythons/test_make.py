"""`make run` on a machine where something is not as it should be: one sentence says what."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from test_pythons import ENVIRON, PYTHONS, fresh_clone, version

OLD = [path for path in sorted((Path.home() / ".pyenv/versions").glob("*/bin/python"))
       if re.match(r"2\.|3\.\d\.", version(path))]


def make(*arguments, cwd, **environ):
    return subprocess.run(["make", *arguments], cwd=cwd, env={**ENVIRON, **environ}, text=True,
                          capture_output=True, timeout=300)


@pytest.mark.parametrize("python", OLD or [None], ids=lambda python: python and version(python))
def test_a_python_that_is_too_old_is_refused_in_one_sentence(python, tmp_path):
    clone = fresh_clone(tmp_path)
    if python is None:
        pytest.skip("no Python before 3.10 is here")
    done = make("run", f"PYTHON={python}", cwd=clone)
    assert done.returncode and not (clone / ".venv").exists()
    assert re.match(r"cursor2api: expected Python 3\.10 or newer, got \d\.\d+: make run PYTHON=python3\.12, for "
                    r"example\nmake: \*\*\*", done.stderr)


def test_a_python_that_is_not_there_is_said_to_be_missing(tmp_path):
    clone = fresh_clone(tmp_path)
    done = make("run", "PYTHON=python3.99", cwd=clone)
    assert done.returncode and done.stdout == "python3.99 is not there: make run PYTHON=python3.12, for example\n"


def test_without_a_network_that_is_what_is_said(tmp_path):
    clone = fresh_clone(tmp_path)
    done = make("run", f"PYTHON={sys.executable}", cwd=clone, PIP_INDEX_URL="http://127.0.0.1:9/simple",
                PIP_EXTRA_INDEX_URL="", PIP_RETRIES="1", PIP_CONFIG_FILE="/dev/null", PIP_FIND_LINKS="")
    assert done.returncode and done.stdout == (
        "Installing what requirements.txt lists into .venv ...\n"
        "No network: pip cannot reach its package index, and says why in .venv/pip.log\n")


def test_an_environment_that_does_not_work_is_made_anew_and_one_that_works_is_kept(tmp_path):
    clone = fresh_clone(tmp_path)
    first, *_, last = PYTHONS.values()
    python, anew = clone / ".venv/bin/python", ".venv is broken, or another Python's: it is made anew\n"

    def made(*arguments):
        done = make(".venv/made", *arguments, cwd=clone)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert made(f"PYTHON={first}") == "" and version(python) == version(first)
    assert made() == made(f"PYTHON={first}") == "", "whatever python3 is"
    (clone / ".venv/run").touch()
    python.unlink()
    python.symlink_to("/nothing")
    assert made(f"PYTHON={first}") == anew and not (clone / ".venv/run").exists()
    if first != last:
        assert made(f"PYTHON={last}") == anew and version(python) == version(last)
