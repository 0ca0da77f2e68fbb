"""Which functions and modules the gateway's CPU goes to, in all threads of a worker, under a load of run.py.

    python bench/shares.py [--load "W3 500"] [--server uistream] [--set KEEP_AGENTS=0]

Each thread has a profiler that counts the processor time of that thread, so that waiting counts nothing and
other programs disturb little. It makes everything two to four times as slow, and weighs many short calls too
heavily: the shares are of use, the sums are not. gunicorn's main thread, which only accepts, is left out.
gunicorn serves this file's `app`, which is the gateway's, and at /profile what the profilers counted.
"""

import argparse
import cProfile
import json
import os
import re
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from dataclasses import replace
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(ROOT), str(HERE)]

# In the worker ------------------------------------------------------------------------------------

profilers: list[tuple[str, cProfile.Profile]] = []  # of all threads, with their names


def profile(*_) -> None:
    """The first call of a new thread."""
    profiler = cProfile.Profile(time.thread_time)
    profilers.append((threading.current_thread().name.rstrip("0123456789_-"), profiler))
    profiler.enable()


def counted() -> list:
    """What was counted: [thread, file, function, calls, seconds of its own, seconds with what it called] ..."""
    counts = []
    for thread, profiler in profilers:
        profiler.snapshot_stats()
        counts += [[thread, file, function, calls, own, whole]
                   for (file, _, function), (_, calls, own, whole, _) in profiler.stats.items()]
    return counts


def app(environ, start_response):
    if environ["PATH_INFO"] != "/profile":
        return gateway(environ, start_response)
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(counted()).encode()]


if "SHARES" in os.environ:
    threading.setprofile(profile)
    from app import app as gateway
    app.service = gateway.service  # which gunicorn.conf.py starts

# The command --------------------------------------------------------------------------------------


def measured(load, server: str) -> tuple[list, list]:
    """`counted` before and after a load."""
    import run

    def ask():
        with urllib.request.urlopen(f"http://127.0.0.1:{standing.port}/profile") as answer:
            return json.load(answer)

    run.WORKERS = 1
    with tempfile.TemporaryDirectory() as folder:
        wire = run.Wire(Path(folder))
        with run.started(server, wire.port, Path(folder), module="bench.shares") as standing:
            run.measure(wire, standing, replace(load, streams=min(load.streams, 10), times=2, deltas=(1, 6, 6)))
            before = ask()
            run.measure(wire, standing, load)
            after = ask()
        wire.close()
    return before, after


def main() -> None:
    import run
    parser = argparse.ArgumentParser(prog="bench/shares.py")
    parser.add_argument("--load", default="W1", choices=[load.name for load in run.LOADS])
    parser.add_argument("--server", default="gateway", choices=["gateway", "uistream"])
    parser.add_argument("--set", action="append", default=[], help="a setting of the gateway, NAME=VALUE")
    options = parser.parse_args()
    run.SET.update([pair.split("=", 1) for pair in options.set], SHARES="1")
    load = next(load for load in run.LOADS if load.name == options.load)
    load = replace(load, streams=min(load.streams, 100), times=-(-load.times // 4))
    before, after = measured(load, options.server)
    calls, own, whole = Counter(), Counter(), Counter()
    for counts, sign in ((before, -1), (after, 1)):
        for thread, file, function, number, seconds, below in counts:
            name = thread, file, function
            calls[name] += sign * number
            own[name] += sign * seconds
            whole[name] += sign * below
    show(calls, own, whole, load.work)


def show(calls: Counter, own: Counter, whole: Counter, work: int) -> None:
    everything = own.total()
    modules = Counter()
    for (_, file, _), seconds in own.items():
        modules[short(file)] += seconds
    print(f"{everything / work * 1e6:.0f} us for each of {work} deltas, as profiled")
    for title, counter in (("functions, with what they call", whole), ("functions alone", own)):
        print(f"\n{title}: share, calls a delta, thread")
        for name, seconds in counter.most_common(60):
            print(f"{100 * seconds / everything:5.1f} % {calls[name] / work:7.2f}  {name[0]:18} "
                  f"{short(name[1])} {name[2]}")
    print("\nmodules alone: share")
    for module, seconds in modules.most_common(30):
        print(f"{100 * seconds / everything:5.1f} %  {module}")


def short(file: str) -> str:
    name = re.sub(r".*/python3\.\d+/(site-packages/)?", "", file)
    return "built in" if file == "~" else name.removeprefix(f"{ROOT}/")


if __name__ == "__main__":
    main()
