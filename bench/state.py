"""What an operation of the store costs while 64 streams are at once: python bench/state.py [--redis URL]

Two processes of 32 threads share a store. A thread is a stream: it counts its request, takes its agent, holds its
place, waits as a reply does, keeps the agent and frees its place. Then the same without any wait.
"""

import argparse
import multiprocessing
import random
import statistics
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cursor2api.state.redis_store import RedisStore
from cursor2api.state.sqlite_store import SqliteStore
from cursor2api.state.store import Store

PROCESSES, THREADS, REPLY_S = 2, 32, 1.0


def stream(store: Store, name: str, reply: float, until: float, times: list[tuple[str, float]]) -> None:
    def timed(what, *args):
        start = time.perf_counter()
        result = getattr(store, what)(*args)
        times.append((what, time.perf_counter() - start))
        return result

    agent = f"bc-{uuid.uuid4()}"
    while time.monotonic() < until:
        timed("count", name, 1_000_000)
        timed("take", name)
        timed("hold", name, 1, 1_000_000)
        time.sleep(random.uniform(0, 2) * reply)
        timed("keep", name, agent, "n" * 100, 900, 10_000)
        timed("free", name, 1)


def process(make, reply: float, until: float, queue) -> None:
    store, times = make(), []
    threads = [threading.Thread(target=stream, args=(store, uuid.uuid4().hex, reply, until, times))
               for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    queue.put(times)


def measure(make, reply: float, seconds: float) -> None:
    queue, until = multiprocessing.Queue(), time.monotonic() + seconds
    ones = [multiprocessing.Process(target=process, args=(make, reply, until, queue)) for _ in range(PROCESSES)]
    for one in ones:
        one.start()
    found = [each for _ in ones for each in queue.get()]
    print(f"\n{PROCESSES} x {THREADS} streams, replies of {reply:g} s: {len(found) / seconds:,.0f} operations/s")
    print("\n| operation | median ms | p99 ms |\n|---|---|---|")
    for what in ("count", "take", "hold", "keep", "free", "all"):
        times = sorted(1000 * took for name, took in found if what in (name, "all"))
        print(f"| {what} | {statistics.median(times):.2f} | {times[int(len(times) * .99)]:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--redis", default="", help="URL of a Redis to measure instead of SQLite")
    parser.add_argument("--seconds", type=float, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        def make() -> Store:
            scope = f"bench-{folder}"
            return Store(RedisStore(options.redis, scope) if options.redis else SqliteStore(f"{folder}/state"))
        for reply in (REPLY_S, 0):
            measure(make, reply, options.seconds)


if __name__ == "__main__":
    main()
