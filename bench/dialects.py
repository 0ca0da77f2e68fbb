"""What a stream costs in each dialect: python bench/dialects.py [--rounds N]

The gateway is gunicorn before the simulator's UI message stream. In each round every dialect is asked for the same
streams, one after the other. Printed are the median time to the first bytes, and the gateway's CPU time for each
delta beside that of chat completions.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import requests

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from cursor2api.simulator import serve  # noqa: E402
from run import free_port, times_of  # noqa: E402

MODEL = "claude-sonnet-4-5-20250929"
DELTAS, STREAMS = 2000, 10
HI = [{"role": "user", "content": "Hi"}]
BODIES = {"/v1/chat/completions": {"messages": HI}, "/v1/responses": {"input": "Hi"},
          "/v1/messages": {"messages": HI, "max_tokens": 64_000}}


def cpu(pid: int) -> float:
    """Seconds of the master and its worker."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return sum(sum(times_of(each)) for each in [pid, *map(int, children)])


def ask(url: str, path: str) -> float:
    """Seconds to the first bytes of a stream, which is read to its end."""
    start = time.perf_counter()
    body = {"model": MODEL, "stream": True, **BODIES[path]}
    with requests.post(url + path, json=body, stream=True, headers={"Authorization": "Bearer 0000"},
                       timeout=60) as response:
        response.raise_for_status()
        pieces = response.iter_content(None)
        next(pieces)
        first = time.perf_counter() - start
        size = sum(map(len, pieces))
    assert size > 20 * DELTAS
    return first


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    script = {"replies": [{"text": DELTAS * "word ", "times": 0}]}
    with serve(script) as simulator:
        gateway = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "-b", f"127.0.0.1:{port}", "app:app"], cwd=ROOT,
            stderr=subprocess.DEVNULL, env={
                "PATH": os.environ["PATH"], "UPSTREAM": "uistream", "UISTREAM_URL": simulator.url + "/ui/chat",
                "MODELS": MODEL, "API_KEY": "0000"})
        try:
            while not up(url):
                time.sleep(0.1)
            firsts, costs = ({path: [] for path in BODIES} for _ in range(2))
            for path in BODIES:
                ask(url, path)
            for _ in range(options.rounds):
                for path in BODIES:
                    before = cpu(gateway.pid)
                    firsts[path] += [ask(url, path) for _ in range(STREAMS)]
                    costs[path].append((cpu(gateway.pid) - before) / (STREAMS * DELTAS))
        finally:
            gateway.terminate()
            gateway.wait(30)
    chat = statistics.median(costs["/v1/chat/completions"])
    for path in BODIES:
        cost = statistics.median(costs[path])
        print(f"{path:22} first bytes {1000 * statistics.median(firsts[path]):5.1f} ms, a delta "
              f"{1e6 * cost:5.1f} us of CPU, {cost / chat:.2f} of chat completions")


def up(url: str) -> bool:
    try:
        return requests.get(url + "/health", timeout=5).ok
    except requests.ConnectionError:
        return False


if __name__ == "__main__":
    main()
