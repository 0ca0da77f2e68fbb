"""Measures this gateway beside nginx (the physical limit), naive.py (the obvious relay) and LiteLLM: README.md.

    python bench/run.py [--rounds 3] [--only W2,W4] [--set THREADS=64 --set "GUNICORN_CMD_ARGS=--backlog 64"]

A run of all workloads in at least three rounds is written to results.md, unless the gateway is set otherwise.
The status is 1, and nothing is written, when a stream failed in a workload that has no figure for it.
"""

import argparse
import json
import os
import platform
import re
import resource
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
TICKS = os.sysconf("SC_CLK_TCK")
LITELLM = ROOT / ".venv-litellm" / "bin" / "litellm"  # which `make bench` installs
WORKERS = 2
DEPLOYED = dict(re.findall(r"(\w+)=(\S+)", (ROOT / "Procfile").read_text()))  # the gateway's environment
SET: dict[str, str] = {}  # settings of the gateway, beside its usual ones
THREADS = 1100      # each worker can hold all the streams of the largest workload
SAMPLE = """The quick brown fox, \"quoted\", costs 5 € in Zürich; 3 < 4 and `code` is code.
\tdef relay(bytes): return {'each': 'delta'}  # a comment with a back\\slash
日本語 text comes too, now and then, and the paragraph goes on for some more words.\n"""


# What is said ------------------------------------------------------------------------------------


def pieces(count: int, low: int = 3, high: int = 9) -> list[str]:
    """`count` pieces of text of `low` to `high` characters, always the same ones."""
    out, at = [], 0
    text = SAMPLE * (count * high // len(SAMPLE) + 2)
    for number in range(count):
        size = low + number * 7 % (high - low + 1)
        out.append(text[at:at + size])
        at += size
    return out


def plan(deltas: list[str], upstream: str) -> bytes:
    """What every stream of a run says, for wire.c: [bytes, bytes of text, frame, text] ..."""
    def chunk(event, data, id=None):
        frame = (f"id: {1795393051000 + (id or 0)}-{id}\n" if id else "") + (
            f"event: {event}\n" if event else "") + (
            f"data: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n")
        frame = frame.encode()
        return b"%x\r\n%s\r\n" % (len(frame), frame)

    last = len(deltas) + 1
    usage = {"inputTokens": 20, "outputTokens": last, "cacheReadTokens": 0, "cacheWriteTokens": 0}
    if upstream == "uistream":
        begin, end = chunk("", {"type": "start"}), chunk("", {"type": "finish"})
        pieces = [chunk("", {"type": "text-delta", "id": "0", "delta": piece}) for piece in deltas]
    elif upstream == "litellm":
        def completion(delta, finish=None):
            return chunk("", {"id": "chatcmpl-0", "object": "chat.completion.chunk", "created": 0, "model":
                              "bench", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
        begin = completion({"role": "assistant", "content": ""})
        pieces = [completion({"content": piece}) for piece in deltas]
        end = completion({}, "stop") + b"e\r\ndata: [DONE]\n\n\r\n"
    else:
        begin = chunk("status", {"runId": "run", "status": "RUNNING"})
        pieces = [chunk("assistant", {"text": piece}, id) for id, piece in enumerate(deltas, 1)]
        end = chunk("interaction_update", {"type": "turn-ended", "usage": usage}, last) + chunk(
            "result", {"runId": "run", "status": "FINISHED", "text": "".join(deltas)}, last + 1) + chunk(
            "done", {}, last + 1)
    head = (b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n")
    records = [(head + begin, b""), *zip(pieces, map(str.encode, deltas)), (end + b"0\r\n\r\n", b"")]
    return b"".join(struct.pack("II", len(frame), len(text)) + frame + text for frame, text in records)


def request(size: int = 0, **more) -> bytes:
    """A whole request with a conversation of about `size` bytes; wire.c makes its mark unique."""
    messages = [{"role": "user", "content": "stream-0000 says: " + SAMPLE}]
    filler = SAMPLE * 4
    for number in range(size // len(filler)):
        messages.append({"role": ("assistant", "user")[number % 2], "content": filler})
    if messages[-1]["role"] == "assistant":
        messages.append({"role": "user", "content": "Go on."})
    body = json.dumps({"model": "bench", "stream": True, "messages": messages, **more}).encode()
    return (b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer 0000\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))


# The servers -------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Server:
    """A running server: `cpu()` and `rss()` of all its processes."""

    def __init__(self, name: str, port: int, process: subprocess.Popen):
        self.name, self.port, self.process = name, port, process

    def pids(self) -> list[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [self.process.pid, *map(int, children)]

    def times(self) -> tuple[float, float, int]:
        """Seconds of user and of system time, and switches between threads that ran."""
        own = [times_of(pid) for pid in self.pids()]
        return sum(user for user, _ in own), sum(system for _, system in own), sum(map(switches_of, self.pids()))

    def settled(self) -> tuple[float, float, int]:
        """`times()` when what follows a reply is over."""
        while True:
            before = self.times()
            time.sleep(0.4)
            after = self.times()
            if sum(after[:2]) - sum(before[:2]) < 0.025:
                return after

    def peak_rss(self) -> int:
        """Bytes, at most so far."""
        return 1024 * sum(int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1])
                          for pid in self.pids())


def times_of(pid: int) -> tuple[float, float]:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) / TICKS, int(fields[12]) / TICKS


def switches_of(pid: int) -> int:
    """Of all threads that are there: a pool's stay."""
    switches = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError):
            switches += sum(map(int, re.findall(r"ctxt_switches:\s+(\d+)", (thread / "status").read_text())))
    return switches


@contextmanager
def started(name: str, upstream: int, folder: Path, module: str = "app"):
    """A server in front of the upstream, up and warm; of the gateway `module` holds the `app`."""
    port = free_port()
    at = f"http://127.0.0.1:{upstream}"
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "FLOOR_UPSTREAM": at,
               "NAIVE_UPSTREAM": at + "/chat"}
    directory = ROOT
    if name == "nginx":
        (folder / "nginx.conf").write_text(
            (HERE / "nginx.conf").read_text().replace("$PORT", str(port)).replace("$UPSTREAM", str(upstream))
            .replace("$WORKERS", str(WORKERS)).replace("$USER", "user root;" if os.getuid() == 0 else ""))
        command = [shutil.which("nginx"), "-p", str(folder), "-c", "nginx.conf", "-e", "stderr"]
    elif name == "litellm":
        upstream = {"model": "openai/bench", "api_base": at + "/chat", "api_key": "bench"}
        (folder / "litellm.json").write_text(json.dumps(
            {"model_list": [{"model_name": "bench", "litellm_params": upstream}]}))
        command = [LITELLM, "--config", "litellm.json", "--host", "127.0.0.1", "--port", str(port),
                   "--num_workers", str(WORKERS), "--timeout_worker_healthcheck", "60", "--telemetry", "False"]
        directory = folder
        environ = {"PATH": os.environ["PATH"], "HOME": str(folder), "LITELLM_MODE": "PRODUCTION",
                   "LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MASTER_KEY": "0000",
                   "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true"}
    elif name in ("naive", "floor"):
        directory = HERE  # where they meet no gunicorn.conf.py
        command = [sys.executable, "-m", "gunicorn", "-k", "gthread", "-w", str(WORKERS), "--threads",
                   str(THREADS), "--worker-connections", str(2 * THREADS), "--keep-alive", "75",
                   "--no-control-socket", "-b", f"127.0.0.1:{port}", f"{name}:app"]
    else:
        command = [sys.executable, "-m", "gunicorn", "-b", f"127.0.0.1:{port}", f"{module}:app"]
        environ |= {"UPSTREAM": "uistream" if name == "uistream" else "cloud", "CURSOR_API_KEY": "bench",
                    "UISTREAM_URL": at + "/chat", "MODELS": "bench", "API_KEY": "0000",
                    "CURSOR_BASE_URL": at, "MAX_INPUT_LENGTH": "0",
                    "WEB_CONCURRENCY": str(WORKERS), "THREADS": str(THREADS)} | DEPLOYED | SET
    with open(folder / f"{name}.log", "wb") as log:
        process = subprocess.Popen(command, cwd=directory, env=environ, stdout=log, stderr=log,
                                   start_new_session=True)
    try:
        for _ in range(2400 if name == "litellm" else 200):
            time.sleep(0.05)
            with socket.socket() as one:
                if process.poll() is not None or one.connect_ex(("127.0.0.1", port)) == 0:
                    break
        time.sleep(1)   # its workers start
        if process.poll() is not None:
            sys.exit(f"bench: {name} did not start: {(folder / f'{name}.log').read_text()[-2000:]}")
        yield Server(name, port, process)
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(60)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # LiteLLM's workers may stay
        process.wait(10)


KEYS = {"naive": '{"content":~"', "nginx": '{"text":"', "direct": '{"text":"'}


class Wire:
    """wire.c: the upstream and the callers."""

    def __init__(self, folder: Path):
        self.folder = folder
        subprocess.run(["gcc", "-O2", "-o", str(folder / "wire"), str(HERE / "wire.c")], check=True)
        self.process = subprocess.Popen([folder / "wire"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True)
        self.port = int(self.process.stdout.readline())

    def _tell(self, line: str) -> dict:
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def run(self, server: Server, body: bytes, deltas: list[str], streams: int, times: int, mode: str,
            interval: float = 0, ramp: float = 0, limit: float = 100) -> dict:
        """Seconds in, microseconds out: see wire.c."""
        (self.folder / "plan").write_bytes(plan(deltas, server.name))
        (self.folder / "request").write_bytes(body)
        self._tell(f"plan {self.folder / 'plan'}")
        before = sum(times_of(self.process.pid))
        key = KEYS.get(server.name, '{"content":"')
        result = self._tell(f"run {server.port} {self.folder / 'request'} {key} {streams} {times} {mode} "
                            f"{interval * 1e6:.0f} {ramp * 1e6:.0f} {limit * 1e6:.0f}")
        result["harness"] = sum(times_of(self.process.pid)) - before
        return result

    def close(self):
        self.process.stdin.close()
        self.process.wait(10)


# The workloads -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Load:
    """What is asked of every server. `anchors` also run it; `fresh`: each time on a server that has just
    started. `direct`: also without any server."""

    name: str
    streams: int = 1
    times: int = 1
    mode: str = "burst"
    deltas: tuple[int, int, int] = (1, 6, 6)    # how many, of how many characters
    interval: float = 0
    ramp: float = 0
    body: tuple[int, dict] = (0, {})            # bytes of conversation, further parameters
    anchors: tuple[str, ...] = ("nginx", "naive")
    fresh: bool = False
    direct: bool = False

    @property
    def work(self) -> int:
        return self.streams * self.times * self.deltas[0]


TOOLS = {"tools": [{"type": "function", "function": {"name": "write_file", "parameters": {
    "type": "object", "properties": {"path": {"type": "string"}, "text": {"type": "string"}},
    "required": ["path", "text"]}}}]}
STOP = {"stop": ["\n\nUser:", "<end>", "costs 6"]}
PACED = {"mode": "paced", "deltas": (120, 3, 9), "interval": 0.05, "fresh": True}
SMALL, LARGE = 105_000, 420_000     # deltas of 1 to 4 characters: 256 KB and 1 MB
ALL = ("nginx", "naive", "uistream", "floor")
OTHER = ("naive", "uistream", "litellm")
LOADS = [
    Load("W1", times=1500, direct=True, anchors=ALL),
    Load("W2", 64, 12, "flat", (200, 3, 9), anchors=ALL),
    Load("W2R", 64, 80, anchors=ALL),
    Load("W3 500", 500, ramp=5, anchors=("nginx", "naive", "floor"), **PACED),
    Load("W3 1000", 1000, ramp=5, **PACED),
    Load("W3S", 500, **PACED),
    *(Load(f"W4 {name}", times=times, body=(size, {})) for name, size, times in (
        ("1 KB", 1_000, 120), ("100 KB", 100_000, 80), ("1 MB", 1_000_000, 30), ("5 MB", 5_000_000, 8))),
    *(Load(f"W5 {kind} {name}", deltas=(count, 1, 4), body=(0, more), anchors=anchors)
      for kind, more, anchors in (("plain", {}, ("nginx", "naive")), ("stop", STOP, ()), ("tools", TOOLS, ()))
      for name, count in (("256 KB", SMALL), ("1 MB", LARGE))),
    Load("L1", times=300, direct=True, anchors=OTHER),
    Load("L2", 64, 1, "flat", (200, 3, 9), anchors=OTHER),
    Load("L3", 50, 1, "paced", (120, 3, 9), interval=0.05, ramp=5, anchors=OTHER),
]


def measure(wire: Wire, server: Server, load: Load, direct: bool = False) -> dict:
    """What a server did with a load: wire.c's figures, `cpu` in seconds and `rss` in bytes a stream."""
    size, more = load.body
    options = {"interval": load.interval, "ramp": load.ramp}
    what = request(size, **more), pieces(*load.deltas)
    if direct:
        return wire.run(server, *what, load.streams, load.times, load.mode, **options)
    warm = min(load.streams, 4) if load.fresh else load.streams
    wire.run(server, request(), pieces(1), warm, 2, "burst")
    before, rss = server.settled(), server.peak_rss()
    result = wire.run(server, *what, load.streams, load.times, load.mode, **options)
    user, system, switches = (after - at for after, at in zip(server.settled(), before))
    result |= {"user": user, "system": system, "switches": switches, "cpu": user + system}
    result["rss"] = (server.peak_rss() - rss) / load.streams
    return result


# The figures -------------------------------------------------------------------------------------


def cpu(unit: float):
    """CPU for a delta or, where a reply is one delta, for a request."""
    return lambda load, result, direct: result["cpu"] / load.work * unit


def first(percentile: str):
    return lambda load, result, direct: (
        result["first"][percentile] - (direct["first"][percentile] if direct else 0)) / 1000


def field(name: str, key: str | None = None, unit: float = 1):
    return lambda load, result, direct: (result[name][key] if key else result[name]) / unit


LOST, FIRST, LAG = "lost or refused", "time to first content, p50, ms", "delay added per delta, p99, ms"
ADDED, A_DELTA, A_REQUEST = "time added to first content, p50, ms", "CPU per delta, us", "CPU per request, us"
MEMORY = "RSS a stream, KiB"
# Load, figure, how it is read off, and the goals of a server: at most so much of naive's, or of itself.
FIGURES = [
    ("W1", ADDED, first("p50"), {"uistream": {"naive": 1}}),
    ("W1", A_REQUEST, cpu(1e6), {}),
    ("W2", A_DELTA, cpu(1e6), {"gateway": {"naive": 1}, "uistream": {"naive": 1}}),
    ("W2R", A_REQUEST, cpu(1e6), {"gateway": {"naive": 1.8}, "uistream": {"naive": 1}}),
    ("W3 500", LOST, field("failed"), {"gateway": {"itself": 0}}),
    ("W3 500", LAG, field("lag", "p99", 1000), {"gateway": {"itself": 250}}),
    ("W3 500", A_DELTA, cpu(1e6), {"gateway": {"naive": 1.8}}),
    ("W3 500", MEMORY, field("rss", unit=1024), {"gateway": {"itself": 120}}),
    ("W3 1000", LOST, field("failed"), {"gateway": {"itself": 0}}),
    ("W3 1000", LAG, field("lag", "p99", 1000), {}),
    ("W3 1000", A_DELTA, cpu(1e6), {}),
    ("W3 1000", MEMORY, field("rss", unit=1024), {}),
    ("W3S", LOST, field("failed"), {"gateway": {"itself": 0}}),
    ("W3S", "time to first content, p99, ms", first("p99"), {}),
    *((f"W4 {size}", FIRST, first("p50"), {}) for size in ("1 KB", "100 KB", "1 MB", "5 MB")),
    *((f"W4 {size}", A_REQUEST, cpu(1e6), {}) for size in ("1 KB", "100 KB", "1 MB", "5 MB")),
    *((f"W5 {kind} {size}", A_DELTA, cpu(1e6), {"gateway": {"naive": 1}} if kind == "plain" else {})
      for kind in ("plain", "stop", "tools") for size in ("256 KB", "1 MB")),
]
BESIDE_LITELLM = [
    ("L1", ADDED, first("p50")),
    ("L1", A_REQUEST, cpu(1e6)),
    ("L2", A_DELTA, cpu(1e6)),
    ("L2", FIRST, first("p50")),
    ("L3", A_DELTA, cpu(1e6)),
    ("L3", LAG, field("lag", "p99", 1000)),
]
COUNTED = {load for load, figure, *_ in FIGURES if figure == LOST}
# Of one figure of the gateway to another: what it is called, which, to which, and the goal.
PROPORTIONS = [
    ("W4 time, 5 MB to 1 MB", ("W4 5 MB", FIRST), ("W4 1 MB", FIRST), 6),
    ("W4 CPU, 5 MB to 1 MB", ("W4 5 MB", A_REQUEST), ("W4 1 MB", A_REQUEST), 6),
    *((f"W5 {kind} to plain, 1 MB", (f"W5 {kind} 1 MB", A_DELTA), ("W5 plain 1 MB", A_DELTA), most)
      for kind, most in (("stop", 1.5), ("tools", 3))),
]


def spread(values: list[float]) -> str:
    """The median, and between what the rounds lay."""
    def figure(value: float, digits: int) -> str:
        return f"{value:.0f}" if value >= 10 ** digits else f"{value:.{digits}g}"

    if not values:
        return ""
    middle = statistics.median(values)
    if len(values) == 1 or not middle:
        return figure(middle, 3)
    return f"{figure(middle, 3)} ({figure(min(values), 2)} to {figure(max(values), 2)})"


def ratios(ours: list[float], theirs: list[float]) -> list[float]:
    return [one / other for one, other in zip(ours, theirs) if other]


def verdict(met: bool) -> str:
    return "met" if met else "**missed**"


def tables(values: dict) -> str:
    """`values`: the figures of the rounds, by load, figure and server."""
    lines = ["| load | figure | gateway | naive | nginx | of naive | goal | |", "|---" * 8 + "|"]
    for name, figure, _, of_servers in FIGURES:
        naive, nginx = values[name, figure, "naive"], values[name, figure, "nginx"]
        for server in ("gateway", "uistream", "floor"):
            ours = values[name, figure, server]
            if not ours:
                continue
            goals = of_servers.get(server, {})
            shares = {"naive": ratios(ours, naive), "itself": ours}
            met = all(statistics.median(shares[one]) <= most for one, most in goals.items())
            goal = ", ".join(f"at most {most:g}" + (f" of {one}" if one != "itself" else "")
                             for one, most in goals.items())
            label = name if server == "gateway" else f"{name}, {server}"
            lines.append(f"| {label} | {figure} | {spread(ours)} | {spread(naive)} | {spread(nginx)} | "
                         f"{spread(shares['naive'])} | {goal} | {verdict(met) if goals else ''} |")
    lines += ["", "| proportion | gateway | goal | |", "|---|---|---|---|"]
    for name, one, other, most in PROPORTIONS:
        share = ratios(values[*one, "gateway"], values[*other, "gateway"])
        if share:
            lines.append(f"| {name} | {spread(share)} | at most {most:g} | "
                         f"{verdict(statistics.median(share) <= most)} |")
    return "\n".join(lines)


def beside_litellm(values: dict) -> str:
    """LiteLLM's figures beside ours and naive's; none for a load in which it lost streams."""
    if not LITELLM.exists():
        return "Not measured: there is none in .venv-litellm, into which `make bench` installs it."
    lines = ["| load | figure | gateway | uistream | naive | LiteLLM | LiteLLM of naive | uistream of LiteLLM |",
             "|---" * 8 + "|"]
    for name, figure, _ in BESIDE_LITELLM:
        rounds = {server: values[name, figure, server] for server in ("gateway", "uistream", "naive", "litellm")}
        if rounds["gateway"]:
            figures = " | ".join(spread(each) or "none" for each in rounds.values())
            lines.append(f"| {name} | {figure} | {figures} | "
                         f"{spread(ratios(rounds['litellm'], rounds['naive']))} | "
                         f"{spread(ratios(rounds['uistream'], rounds['litellm']))} |")
    return "\n".join(lines)


SPLIT = (("user", 1e6), ("system", 1e6), ("switches", 1))  # of `measure`, and to what unit


def split(parts: dict) -> str:
    """`parts`: user and system time and switches for a unit of work, of the rounds, by load and server."""
    lines = ["| load | server | user, us | system, us | switches of threads |", "|---" * 5 + "|"]
    for (load, server), rounds in parts.items():
        if load.startswith(("W1", "W2", "W3")):
            lines.append(f"| {load} | {server} | {' | '.join(spread(list(each)) for each in zip(*rounds))} |")
    return "\n".join(lines)


def shares(harness: dict) -> str:
    """`harness`: what wire.c took itself, through what the server took, of the rounds, by load and server."""
    servers = ("gateway", "uistream", "floor", "naive", "nginx", "litellm")
    lines = [f"| harness to server, CPU | {' | '.join(servers)} |", "|---" * 7 + "|"]
    for load in dict.fromkeys(load for load, _ in harness):
        medians = (f"{statistics.median(harness[load, server]):.2f}" if (load, server) in harness else ""
                   for server in servers)
        lines.append(f"| {load} | {' | '.join(medians)} |")
    return "\n".join(lines)


def machine() -> str:
    cpus = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    memory = int(re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text())[1])
    nginx = subprocess.run(["nginx", "-v"], capture_output=True, text=True).stderr.strip().partition("/")[2]
    return (f"{os.cpu_count()} cores ({cpus[1] if cpus else platform.machine()}), {memory / 2**20:.0f} GiB, Linux "
            f"{platform.release()}, Python {platform.python_version()}, gunicorn {version('gunicorn')}, Werkzeug "
            f"{version('werkzeug')}, requests {version('requests')}, nginx {nginx}, LiteLLM {litellm()}; "
            f"{WORKERS} workers with {THREADS} threads; load average at the start {os.getloadavg()[0]:.1f}")


def litellm() -> str:
    """Its version."""
    packages = LITELLM.parent.parent.glob("lib/python*/site-packages/litellm-*.dist-info")
    return next((package.name.split("-")[1].removesuffix(".dist") for package in packages), "not installed")


def bench(rounds: int, only: str) -> None:
    loads = [load for load in LOADS if not only or load.name.split()[0] in only.split(",")]
    values = defaultdict(list)
    harness, parts = defaultdict(list), defaultdict(list)
    failed, unable = [], set()
    about, begun = machine(), time.monotonic()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        folder = Path(folder)
        wire = Wire(folder)
        stack.callback(wire.close)
        names = ["nginx", "naive", "gateway", "uistream", "floor"]
        if LITELLM.exists() and any("litellm" in load.anchors for load in loads):
            names.append("litellm")
        standing = {name: stack.enter_context(started(name, wire.port, folder)) for name in names}
        here = Server("direct", wire.port, wire.process)
        for round in range(rounds):
            for load in loads:
                direct = measure(wire, here, load, direct=True) if load.direct else None
                if direct and direct["failed"]:
                    failed.append(f"direct, {load.name}: {direct['failed']} {direct['reason']}")
                turn = [name for name in names if name == "gateway" or name in load.anchors]
                for name in turn[round % len(turn):] + turn[:round % len(turn)]:
                    if load.fresh:
                        with started(name, wire.port, folder) as server:
                            result = measure(wire, server, load)
                    else:
                        result = measure(wire, standing[name], load)
                    print(f"{round + 1} {load.name:14} {name:32} {result['wall'] / 1e6:6.1f} s  CPU "
                          f"{result['cpu']:6.2f} s  failed {result['failed']} {result['reason'][:60]}", flush=True)
                    if result["failed"] and name == "litellm":
                        unable.add(load.name)
                    elif result["failed"] and load.name not in COUNTED:
                        failed.append(f"{name}, {load.name}: {result['failed']} {result['reason']}")
                    harness[load.name, name].append(result["harness"] / (result["cpu"] or 1 / TICKS))
                    parts[load.name, name].append([result[key] / load.work * unit for key, unit in SPLIT])
                    for of, figure, read, *_ in FIGURES + BESIDE_LITELLM:
                        if of == load.name:
                            values[of, figure, name].append(read(load, result, direct))
    for load, figure, _ in BESIDE_LITELLM:
        if load in unable:
            values.pop((load, figure, "litellm"), None)
    table = tables(values)
    text = f"""# Results

{about}. {rounds} rounds, {(time.monotonic() - begun) / 60:.0f} minutes. README.md says how to read them.

{table}

## LiteLLM

{beside_litellm(values)}

## Where the CPU goes

{split(parts)}

## What the harness takes

{shares(harness)}
"""
    print("\n" + text)
    if failed:
        sys.exit("bench: streams failed where none may\n" + "\n".join(failed))
    if rounds >= 3 and not only and not SET:
        results = HERE / "results.md"
        _, heading, others = (results.read_text() if results.exists() else "").partition("# The SDK's bridge")
        results.write_text(text + (f"\n{heading}{others}" if heading else ""))  # that part is sdk.py's


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench/run.py")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="workloads, comma-separated, such as W2,W4")
    parser.add_argument("--set", action="append", default=[], help="a setting of the gateway, NAME=VALUE")
    options = parser.parse_args()
    SET.update(pair.split("=", 1) for pair in options.set)
    missing = [f"{program} (Debian's package {package})" for program, package in (
        ("nginx", "nginx-light"), ("gcc", "gcc and libc6-dev")) if not shutil.which(program)]
    if missing:
        sys.exit(f"bench: {' and '.join(missing)} must be installed")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))
    bench(options.rounds, options.only)


if __name__ == "__main__":
    main()
