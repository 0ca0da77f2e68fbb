"""Measures 32 streams at once over one bridge, and the same over `cloud`, from one simulated Cursor.

    python bench/sdk.py [--rounds 3]

Three rounds or more are written to the end of results.md. The bridge is the stand-in, in Python, so that
its own figures say nothing of Cursor's; where the package cursor-sdk is installed, the start and the idle
memory of the real one are measured too.
"""

import argparse
import json
import os
import re
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import requests  # noqa: E402
from conftest import MODEL, command, descendants, gateway, until  # noqa: E402

from cursor2api.simulator import serve  # noqa: E402
from cursor2api.upstream.sdk.bridge import Bridge, bridge_user, installed  # noqa: E402
from cursor2api.upstream.http import Limits  # noqa: E402

STREAMS = 32
DELTAS = 200
TICKS = os.sysconf("SC_CLK_TCK")
HEADING = "# The SDK's bridge"
LOADS = {"paced": 0.05, "flat out": 0}  # seconds between the deltas of a stream


def cpu(id: int) -> float:
    """Seconds of user and system time of a process."""
    fields = Path(f"/proc/{id}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def rss(id: int) -> float:
    """Megabytes."""
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{id}/status").read_text())[1]) / 1024


def stream(url: str, number: int) -> tuple[float, bool]:
    """Seconds to the first delta with text, and whether all came, once and in order."""
    began, first, text = time.monotonic(), None, []
    body = {"model": MODEL, "stream": True, "messages": [{"role": "user", "content": f"number {number}."}]}
    with requests.post(url + "/v1/chat/completions", json=body, stream=True, timeout=600,
                       headers={"Authorization": "Bearer 0000"}) as response:
        for line in response.iter_lines(chunk_size=None):
            if line.startswith(b"data: {"):
                piece = json.loads(line[6:])["choices"][0]["delta"].get("content")
                if piece:
                    first = first or time.monotonic() - began
                    text.append(piece)
    return first, "".join(text) == f"{number} " * DELTAS


def run(upstream: str, delay: float) -> dict:
    """One load over one upstream that has just started and served one chat."""
    replies = [{"when": f"number {n}.", "text": f"{n} " * DELTAS, "delay": delay} for n in range(STREAMS)]
    with gateway(upstream=upstream) as gate:
        gate.say()
        ids = descendants(gate.process.pid)
        bridge = [id for id in ids if "bridge.py" in command(id) and "keeper.py" not in command(id)]
        gate.simulator.script({"replies": replies})
        before = {id: cpu(id) for id in ids}
        most = {id: rss(id) for id in ids}
        with ThreadPoolExecutor(STREAMS) as pool:
            futures = [pool.submit(stream, gate.url, n) for n in range(STREAMS)]
            while not all(future.done() for future in futures):
                most = {id: max(most[id], rss(id)) for id in ids}
                time.sleep(0.2)
        until(lambda: all(agent["deleted"] for agent in gate.agents()))
        spent = {id: cpu(id) - before[id] for id in ids}
        seen = [future.result() for future in futures]
    firsts = sorted(first for first, _ in seen)
    deltas = STREAMS * DELTAS
    return {
        "wrong": sum(not right for _, right in seen), "first delta, ms, p50": 1000 * firsts[STREAMS // 2],
        "first delta, ms, greatest": 1000 * firsts[-1],
        "CPU of the service, us a delta": 1e6 * sum(spent[id] for id in ids if id not in bridge) / deltas,
        "CPU of the stand-in bridge, us a delta": 1e6 * sum(spent[id] for id in bridge) / deltas,
        "memory of the service, MB": sum(most[id] for id in ids if id not in bridge),
        "memory of the stand-in bridge, MB": sum(most[id] for id in bridge)}


def real() -> str:
    """The real bridge, as far as it goes without an account."""
    if not installed():
        return "The package cursor-sdk was not installed, so the real bridge was not measured."
    starts, idle = [], []
    with serve() as simulator:
        for _ in range(5):
            began = time.monotonic()
            bridge = Bridge((installed(),), bridge_user("", (installed(),)), simulator.url,
                            Limits(10, 60, 60, 1), 4, lambda _: None)
            starts.append(time.monotonic() - began)
            idle.append(sum(rss(id) for id in descendants(os.getpid())))
            bridge.end()
    return (f"The real bridge, five starts: ready after {min(starts):.2f} to {max(starts):.2f} s; with its "
            f"keeper {statistics.median(idle):.0f} MB before a chat.")


def report(rounds: int) -> str:
    rows = []
    for load, delay in LOADS.items():
        runs = {upstream: [run(upstream, delay) for _ in range(rounds)] for upstream in ("sdk", "cloud")}
        for name in runs["sdk"][0]:
            cells = []
            for upstream in runs:
                values = [each[name] for each in runs[upstream]]
                cells.append(f"{statistics.median(values):.0f} [{min(values):.0f}, {max(values):.0f}]")
            rows.append(f"| {load} | {name} | {cells[0]} | {cells[1]} |")
            print(rows[-1], flush=True)
    return f"""{HEADING}

`python bench/sdk.py`: {STREAMS} streams at once of {DELTAS} deltas of a word, one worker, {rounds} rounds;
paced is a delta each {1000 * LOADS["paced"]:.0f} ms, flat out as fast as they go. The bridge is the stand-in, in
Python, before a simulator that takes most of the CPU of such a run: first deltas and the bridge's CPU
are no figures of Cursor's. The service is the gunicorn master, the worker and, with sdk, the keeper.
Median, with the least and the greatest in brackets.

| load | | sdk | cloud |
|---|---|---|---|
{chr(10).join(rows)}

{real()}
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench/sdk.py")
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    text = report(rounds)
    print("\n" + text)
    if rounds >= 3:
        results = ROOT / "bench" / "results.md"
        others = results.read_text().partition(HEADING)[0].rstrip() if results.exists() else ""
        results.write_text(f"{others}\n\n{text}" if others else text)


if __name__ == "__main__":
    main()
