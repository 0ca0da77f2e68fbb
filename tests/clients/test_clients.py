"""Clients of other makers, unmodified, against the service; each prints ok at its end."""

import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from conftest import UPSTREAMS, gateway  # noqa: E402

HERE = Path(__file__).resolve().parent


@pytest.mark.parametrize("upstream", UPSTREAMS)
@pytest.mark.parametrize("script", sorted(path.name for path in HERE.glob("*.mjs")))
def test_a_javascript_client_makes_its_rounds(script, upstream):
    with gateway(upstream=upstream, environ={"KEEP_AGENTS": "32"}) as gate:
        run = subprocess.run(["node", script, gate.url], cwd=HERE, text=True, capture_output=True,
                             timeout=120)
        assert run.returncode == 0 and run.stdout.strip() == "ok", run.stderr
        # The tool loops of aisdk.mjs come first; each has one agent.
        assert (script, upstream) != ("aisdk.mjs", "cloud") or [
            len(agent["runs"]) for agent in gate.agents()[:2]] == [2, 2]
