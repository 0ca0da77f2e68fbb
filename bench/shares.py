"""Which modules a chat's CPU goes to: one at a time, in this process, before a simulator in another.

    python bench/shares.py [--deltas 1] [--chats 500] [--size 1000] [--set KEEP_AGENTS=0]

Prints each file's share of the time, as cProfile sees it, and the calls of functions a chat. It weighs many
short calls too heavily, and counts the calls of held.py as that file's, not as sockets'. Cursor's agents are
deleted in other threads, which are left out. gunicorn is no part of it; what it, threads and the kernel add
is in results.md, under "Where the CPU goes".
"""

import argparse
import cProfile
import json
import logging
import os
import pstats
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

from werkzeug.test import Client

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from cursor2api.config import Config  # noqa: E402
from cursor2api.logs import Formatter  # noqa: E402
from cursor2api.start import create_app  # noqa: E402

MODEL = "claude-sonnet-4-5-20250929"


@contextmanager
def simulator(deltas: int):
    """The URL of one that says so many words to everybody."""
    with tempfile.NamedTemporaryFile("w") as script:
        json.dump({"replies": [{"text": "word " * deltas, "times": 0, "twins": False, "delay": 0}]}, script)
        script.flush()
        process = subprocess.Popen(
            [sys.executable, "-m", "cursor2api.simulator", "--port", "0", "--until-eof", "--script", script.name],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            yield process.stdout.readline().strip()
        finally:
            process.communicate()


def profile(deltas: int, chats: int, size: int, settings: dict[str, str]) -> pstats.Stats:
    with simulator(deltas) as url, open(os.devnull, "w") as nowhere:
        handler = logging.StreamHandler(nowhere)
        handler.setFormatter(Formatter())
        log = logging.getLogger("cursor2api")
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        app = create_app(Config.read({
            "UPSTREAM": "cloud", "API_KEY": "key", "CURSOR_API_KEY": "key", "CURSOR_BASE_URL": url,
            "MAX_INPUT_LENGTH": "0", **settings}))
        client = Client(app)
        history = [{"role": "user", "content": "A sentence of the history. " * 36}] * (size // 1000)

        def chat(number: int) -> None:
            response = client.post("/v1/chat/completions", headers={"Authorization": "Bearer key"}, json={
                "model": MODEL, "stream": True, "messages": [
                    *history, {"role": "user", "content": f"Chat {number}"}]})
            assert response.data.endswith(b"data: [DONE]\n\n"), response.data
            response.close()

        for number in range(20 if chats > 20 else 1):
            chat(number)
        profiler = cProfile.Profile()
        profiler.enable()
        for number in range(chats):
            chat(number)
        profiler.disable()
        app.service.close()
        return pstats.Stats(profiler)


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench/shares.py")
    parser.add_argument("--deltas", type=int, default=1)
    parser.add_argument("--chats", type=int, default=500)
    parser.add_argument("--size", type=int, default=0, help="bytes of conversation, in messages of 1 KB")
    parser.add_argument("--set", action="append", default=[], help="a setting of the gateway, NAME=VALUE")
    options = parser.parse_args()
    stats = profile(options.deltas, options.chats, options.size, dict(pair.split("=", 1) for pair in options.set))
    own, calls = Counter(), Counter()
    for (file, _, function), (_, count, seconds, _, _) in stats.stats.items():
        path = Path(file)
        name = str(path.relative_to(ROOT)) if ROOT in path.parents and ".venv" not in path.parts else (
            "/".join(path.parts[-2:]) if path.is_absolute() else
            "sockets, with the wait for the simulator" if "socket" in function else "other built-in functions")
        own[name] += seconds
        calls[name] += count
    whole = own.total()
    print(f"{whole / options.chats * 1e6:.0f} us and {calls.total() / options.chats:.0f} calls a chat of "
          f"{options.deltas} deltas, as profiled, with the test client's own")
    for name, seconds in own.most_common(30):
        print(f"{100 * seconds / whole:5.1f} % {calls[name] / options.chats:7.1f} calls  {name}")


if __name__ == "__main__":
    main()
