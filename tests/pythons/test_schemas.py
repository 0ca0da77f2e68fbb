"""The platforms' files before those judges of them that can be had from a package registry."""

import shutil
import subprocess

import pytest
from test_pythons import BIN, ROOT


@pytest.mark.parametrize("command", [
    ["hadolint", "Dockerfile"],
    ["check-jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml"],
    ["check-jsonschema", "--builtin-schema", "vendor.github-workflows", ".github/workflows/ci.yml"]],
    ids=lambda command: command[-1])
def test_a_file_is_as_its_platform_wants_it(command):
    run = subprocess.run([BIN / command[0], *command[1:]], cwd=ROOT, text=True, capture_output=True)
    assert run.returncode == 0, run.stdout + run.stderr


def test_systemd_takes_the_unit(tmp_path):
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    text = (ROOT / "deploy/cursor2api.service").read_text("utf-8")
    unit = tmp_path / "cursor2api.service"
    unit.write_text(text.replace("/opt/cursor2api/.venv/bin/gunicorn", "/bin/true"))  # which has to be there
    run = subprocess.run(["systemd-analyze", "verify", unit], text=True, capture_output=True)
    assert (run.returncode, run.stdout + run.stderr) == (0, "")
