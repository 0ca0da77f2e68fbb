"""Mixed traffic with faults for minutes: what is said comes once and in order, and nothing is left over.

    python tests/soak.py [--seconds 600] [--callers 16] [--workers 2] [--upstream cloud] [--seed 1]

A gateway under real gunicorn stands before the simulator, over `sdk` by a stand-in bridge. Callers pick cases by
chance, each with words that nobody else is told, and check every reply against them. The exit status is 1 when a
must is broken.
"""

import argparse
import copy
import http.client
import itertools
import json
import os
import random
import select
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from conftest import MODEL, gateway, until
from test_service import PIXEL

THREADS, SLOTS, KEEP_S = 40, 32, 3
SETTINGS = {
    "THREADS": THREADS, "MAX_STREAMS": SLOTS, "QUEUE_S": 1, "TIMEOUT": 30, "SEND_TIMEOUT": 10, "RETRY_S": 0.05,
    "FIRST_BYTE_S": 1, "HEARTBEAT_S": 1, "BODY_HEARTBEAT_S": 2, "KEEP_AGENTS": 48, "KEEP_AGENT_S": KEEP_S}
POLLED = ("/health", "/ready", "/v1/models")
HEALTH_MS = 100         # the 99th of a hundred polls
GONE_S, ENDED_S = 10, 60  # from a caller's leaving to the end of its run: the 99th of a hundred; a leak
GROWTH_MB, SLOPE = 4, 1   # of the worker's memory in the second half; MB a minute there: it settles slowly


# What is asked and played ------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """`ask` are parameters, `play` keys of the simulator's reply, and `ends` the codes that may come: "" is
    a whole reply. A caller may `leave` after so many words (and `quiet` seconds), read slowly or not at all.
    """

    name: str
    weight: float = 1
    ask: dict = field(default_factory=dict)
    play: dict = field(default_factory=dict)
    ends: tuple = ("",)
    words: int = 30
    turns: int = 1
    form: str = "{}"                # of the words in what Cursor says
    stream: bool | None = None      # None: by chance
    leave: int | None = None
    quiet: float = 0
    reads: str = "all"              # or slowly, nothing


def refused(status, code="no", times=0, **more):
    return {"status": status, "code": code, "times": times, **more}


PACE, LATER = {"delay": 0.02}, {"delay": 0.02, "stream_times": 1}
TOOL = {"type": "function", "function": {"name": "note", "parameters": {
    "type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "list", "schema": {
    "type": "object", "properties": {"words": {"type": "string"}}, "required": ["words"]}}}
CALL = '{{open}}{{"name": "note", "arguments": {{"text": "{}"}}}}{{close}}'
CASES = [
    Case("plain", 10, play=PACE),
    Case("talk", 8, play=PACE, turns=4),
    Case("tool loop", 5, {"tools": [TOOL]}, PACE, turns=3, form=CALL),
    Case("n=2", 3, {"n": 2}, PACE),
    Case("stop", 3, {"stop": ["<end>"]}, PACE, form="{} <end> 1 2 3"),
    Case("response_format", 3, {"response_format": SCHEMA}, PACE, form='{{"words": "{}"}}'),
    Case("image", 2, {"image": True}, PACE),
    Case("max_tokens", 2, {"max_tokens": 10}, PACE, ends=("length",)),
    Case("thinking", 2, {"model": MODEL + "-thinking"}, {"thinking": "Hm, let me see. ", **PACE}),
    Case("long", 2, words=2000),
    Case("slow start", 1, play={"boot": 1.5, "first": 1.5, **PACE}),
    Case("slow reader", 2, words=2000, stream=True, reads="slowly"),
    Case("deaf reader", 0.5, play={"text": "1234567 " * 750_000, "chunk": 50_000}, ends=("left",), stream=True,
         reads="nothing"),
    # Callers who leave
    Case("left before the first byte", 2, play={"boot": 2, "first": 60}, ends=("left",), leave=0, quiet=0.2),
    Case("left before the first word", 1, play={"first": 60}, ends=("left",), leave=0, quiet=1.5, stream=True),
    Case("left in mid-stream", 4, play=PACE, ends=("left",), words=500, leave=5, stream=True),
    Case("left in a quiet minute", 2, play={"delay": 60, "heartbeat": 0.2}, ends=("left",), leave=1, quiet=0.5,
         stream=True),
    Case("left a body", 3, play={"first": 60}, ends=("left",), leave=0, quiet=0.7, stream=False),
    # Faults that nobody notices
    *(Case(f"{status}, once", play={"create": refused(status, times=1, **more), **PACE}) for status, more in (
        (500, {}), (503, {}), (429, {"headers": {"Retry-After": "0"}}), (502, {"html": True}))),
    *(Case(f"reset {when} the headers, once", play={"create": {"reset": when}, **PACE})
      for when in ("before", "within", "after")),
    Case("reset of a call that worked", play={"create": {"reset": "before", "then_works": True}, **PACE}),
    *(Case(f"talk with {name}", 2, play={"follow_up": fault, **PACE}, turns=3) for name, fault in (
        ("agent_busy", refused(409, "agent_busy", times=2)), ("a 500", refused(500, times=1)),
        ("an agent that is gone", refused(404, "agent_not_found")),
        ("a reset", {"reset": "before"}), ("a reset after it worked", {"reset": "before", "then_works": True}))),
    Case("cut", 4, play={"close_after": 7, **LATER}),
    Case("cut, without ids", 2, play={"close_after": 7, "ids": False, **LATER}),
    Case("cut at every connection", play={"close_after": 12, "delay": 0.01}),
    Case("cut talk", 2, play={"close_after": 7, **LATER}, turns=3),
    Case("cut tool loop", 2, {"tools": [TOOL]}, {"close_after": 7, **LATER}, turns=2, form=CALL),
    *(Case("reset at a byte", play={"reset_after": at, **LATER}) for at in (1, 150, 700, 1777, 3001, 4444)),
    *(Case(f"reset {when} the stream's headers", play={"stream": {"reset": when}, **PACE})
      for when in ("before", "within", "after")),
    Case("stream_unavailable", 2, play={"error_after": [0, {"code": "stream_unavailable"}], **LATER}),
    Case("stream_unavailable later", 2, play={"error_after": [9, {"code": "stream_unavailable"}], **LATER}),
    Case("stream_expired", play={"stream": refused(410, "stream_expired")}),
    Case("a page for the stream", play={"raw": "<!DOCTYPE html><html>\n\n</html>"}),
    Case("an event twice", 2, play={"twice_after": 8, **PACE}),
    Case("an unknown event", play={"unknown_after": 8, **PACE}),
    Case("CRLF", play={"crlf": True, **PACE}),
    Case("cut into bytes", play={"cut": 3}),
    Case("in one burst", play={"burst": True}),
    Case("empty, once", 2, play={"text": "", "times": 1}),  # then the simulator itself counts
    # Faults that end a reply
    *(Case(f"{status} {code}", play={"create": refused(status, code)}, ends=(code,)) for status, code in (
        (400, "validation_error"), (401, "unauthorized"), (403, "plan_required"), (429, "rate_limit_exceeded"),
        (500, "oh"), (503, "upstream_error"))),
    *(Case(f"reset {when} the headers", 0.5, play={"create": {"reset": when, "times": 0}},
           ends=("upstream_unreachable",)) for when in ("before", "within", "after")),
    Case("a page", play={"create": refused(200, html=True)}, ends=("upstream_error",)),
    Case("agent_busy", play={"create": refused(409, "agent_busy")}, ends=("agent_busy",)),
    Case("stall", 1, play={"stall_after": 6}, ends=("idle_timeout",)),
    Case("forbidden later", play={"error_after": [6, {"code": "forbidden"}], **PACE}, ends=("forbidden",)),
    Case("a run that fails", play={"status": "ERROR"}, ends=("run_failed",)),
    Case("a run that expires", play={"status": "EXPIRED"}, ends=("run_expired",)),
]
# What else is played is a fault of Cursor's API alone, or ends the bridge and with it all replies.
OVER_A_BRIDGE = {"boot", "burst", "chunk", "crlf", "cut", "delay", "first", "heartbeat", "text", "thinking",
                 "times", "unknown_after"}
FILL = Case("filler", words=6000, play={"delay": 0.1}, ends=("left",), stream=True, leave=6000)
GOOD = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}).encode()
BAD = [  # what is sent, and the status that it gets
    (b"{", {}, 400), (b"\xff\xfe", {}, 400), (b"[" * 100_000, {}, 400), (b"null", {}, 400), (b"", {}, 400),
    (GOOD[:-1] + b', "n": NaN}', {}, 400), (GOOD[:-1] + b', "n": 1e400}', {}, 400),
    (GOOD[:-1] + b', "max_tokens": -2}', {}, 400), (GOOD.replace(b"user", b"bot"), {}, 400),
    (GOOD.replace(b"claude", b"no-such"), {}, 400), (GOOD, {"api-key": "wrong"}, 401),
    (GOOD, {"Content-Type": "text/xml"}, 415), (GOOD, {"Content-Encoding": "gzip"}, 415),
    (GOOD, {"Content-Length": "99999999"}, 413), (GOOD, {"Transfer-Encoding": "chunked"}, 400),
    (GOOD, {"x y": "1"}, 400), (GOOD, {"Expect": "magic"}, 417)]


# The callers -------------------------------------------------------------------------------------


def compare(expected: list[str], got: list[str], whole: bool) -> tuple[int, int]:
    """(lost, doubled or in the wrong place) words; of a reply that was cut only what came counts."""
    if not whole and " ".join(expected).startswith(" ".join(got)):
        return 0, 0
    lost, doubled = Counter(expected) - Counter(got), Counter(got) - Counter(expected)
    return lost.total(), doubled.total() or (not lost and expected != got)


class Soak:
    """What all callers share, and what they have seen."""

    def __init__(self, gate, seed: int):
        self.gate, self.simulator, self.port = gate, gate.simulator, urlsplit(gate.url).port
        self.random = random.Random(seed)
        self.cases = [case for case in CASES if gate.upstream != "sdk" or case.play.keys() <= OVER_A_BRIDGE]
        self.numbers, self.played, self.gone = itertools.count(), [], []
        self.seen, self.ends, self.agents = Counter(), defaultdict(Counter), Counter()
        self.unexpected, self.lock = Counter(), threading.Lock()
        self.full = self.over = False

    @contextmanager
    def connection(self, case: Case):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.sock = socket.socket()
        if case.reads != "all":
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
        connection.sock.settimeout(60)
        connection.sock.connect(("127.0.0.1", self.port))
        with connection.sock, closing(connection):  # also what it has read ahead
            yield connection

    def run(self, case: Case, leave=None) -> None:
        """All turns of a case. `leave` is called at its end in place of the count of words."""
        messages = []
        for turn in range(case.turns):
            first = next(self.numbers) * 7 % 900_000
            words = [str(word) for word in range(first, first + case.words)]
            ask = f"Count from {words[0]} to {words[-1]}."
            last = messages[-1] if messages else {}
            content = [{"type": "text", "text": ask}, {"type": "image_url", "image_url": {"url": PIXEL}}]
            messages += [{"role": "tool", "tool_call_id": call["id"], "content": ask}
                         for call in last.get("tool_calls", ())] or [
                {"role": "user", "content": content if case.ask.get("image") else ask}]
            body = {"model": MODEL, "messages": messages, **case.ask, "stream": case.stream}
            if case.stream is None:
                body["stream"] = self.random.random() < 0.6
            with self.playing({"when": ask, "times": 0, "text": case.form.format(" ".join(words)),
                               **copy.deepcopy(case.play)}):
                code, message = self.ask(case, body, ask, words, leave)
            if code or message is None:
                return
            messages.append(message)

    @contextmanager
    def playing(self, reply: dict):
        self.played.append(reply)  # which keeps it: the simulator counts by identity
        with self.simulator.changed:
            self.simulator.replies = [*self.simulator.replies, reply]
        try:
            yield
        finally:
            with self.simulator.changed:
                self.simulator.replies = [each for each in self.simulator.replies if each is not reply]

    def ask(self, case: Case, body: dict, ask: str, words: list[str], leave) -> tuple[str, dict | None]:
        """The code of a reply's end, and its message."""
        crowded, messages = self.full, {}
        try:
            with self.connection(case) as connection:
                connection.request("POST", "/v1/chat/completions", json.dumps(body), {
                    "api-key": "0000", "Content-Type": "application/json"})
                if case.leave == 0:
                    time.sleep(case.quiet)
                    code = "left"
                else:
                    response = connection.getresponse()
                    self.agents[response.headers.get("x-cursor2api-agent", "none")] += 1
                    if case.reads == "nothing" and response.status == 200:
                        code = "left" if until(lambda: self.ended(ask), ENDED_S) else "still there"
                    else:
                        code = self.read(case, response, messages, leave)
                        time.sleep(case.quiet)
        except (OSError, http.client.HTTPException, ValueError) as error:
            code = type(error).__name__
        lost, doubled = map(sum, zip((0, 0), *(compare(words, self.words(case, message), not code)
                                               for message in messages.values())))
        if code == "left":
            start = time.monotonic()
            code = code if until(lambda: self.ended(ask), ENDED_S) else "its run goes on"
            self.gone.append(time.monotonic() - start)
        elif code == "":
            code = "" if len(messages) == body.get("n", 1) else "choices are missing"
        several = code == "" and any(agent.runs[-1].connections > 1 for agent in self.asked(ask))
        self.note(case.name, code, code in case.ends or code == "overloaded" and (crowded or self.full),
                  lost=lost, doubled=doubled, several=several)
        if code == "overloaded":
            time.sleep(0.2 if case is FILL else 1)  # its Retry-After
        return code, messages.get(0)

    def note(self, name: str, code: str, expected: bool, **counts: int) -> None:
        with self.lock:
            self.seen.update(requests=1, **counts)
            self.ends[code or "whole"][name] += 1
            self.unexpected.update([] if expected else [f"{name}: {code or 'whole'}"])
            if counts.get("lost") or counts.get("doubled"):
                self.unexpected.update([f"{name}: {counts}"])

    def words(self, case: Case, message: dict) -> list[str]:
        text = message["content"] or ""
        if calls := message.get("tool_calls"):  # none is ever cut
            text = " ".join(json.loads(call["function"]["arguments"])["text"] for call in calls)
        elif "response_format" in case.ask:
            text = json.loads(text)["words"]
        return text.split()

    def read(self, case: Case, response, messages: dict, leave) -> str:
        """Reads a reply into `messages` by choice, as a client would; the code of its end."""
        if not response.headers["Content-Type"].startswith("text/event-stream"):
            body = json.loads(response.read())
            if "error" in body:
                return body["error"]["code"]
            messages |= {choice["index"]: choice["message"] for choice in body["choices"]}
            finishes = [choice["finish_reason"] for choice in body["choices"]]
            return "length" if "length" in finishes else ""
        finishes, count = [], 0
        while line := response.readline():
            if case.reads == "slowly":
                time.sleep(0.001)
            if not line.startswith(b"data: {"):
                if line == b"data: [DONE]\n":
                    return "no finish" if len(finishes) != len(messages) else (
                        "length" if "length" in finishes else "")
                continue
            chunk = json.loads(line[6:])
            if "error" in chunk:
                return chunk["error"]["code"]
            for choice in chunk["choices"]:
                message = messages.setdefault(choice["index"], {"role": "assistant", "content": ""})
                delta = choice["delta"]
                message["content"] += delta.get("content") or ""
                count += bool(delta.get("content"))
                for piece in delta.get("tool_calls", ()):
                    calls = message.setdefault("tool_calls", [])
                    if piece["index"] == len(calls):
                        calls.append({**piece, "function": {**piece["function"], "arguments": ""}})
                    calls[piece["index"]]["function"]["arguments"] += piece["function"]["arguments"]
                finishes += [choice["finish_reason"]] if choice["finish_reason"] else []
                if case.leave and (leave(count) if leave else count >= case.leave):
                    return "left"
        return "cut"

    def asked(self, ask: str) -> list:
        """The agents that were asked this last."""
        with self.simulator.changed:
            return [each for each in self.simulator.agents.values() if ask in each.runs[-1].prompt]

    def ended(self, ask: str) -> bool:
        """Whether nothing at Cursor is at work on this any more."""
        return all(agent.deleted for agent in self.asked(ask))

    def misbehave(self) -> None:
        data, headers, status = self.random.choice(BAD)
        head = {"Host": "localhost", "api-key": "0000", "Content-Type": "application/json",
                "Content-Length": str(len(data)), **headers}
        request = "\r\n".join(["POST /v1/chat/completions HTTP/1.1", *(
            f"{name}: {value}" for name, value in head.items()), "", ""]).encode() + data
        got = b""
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 30) as caller:
            caller.sendall(request)
            got = caller.recv(65536)
        got = got[9:12].decode() or "nothing"
        self.note("bad input", f"status {got}", got == str(status) or got == "503" and self.full)

    def call(self) -> None:
        """One caller, until it is over."""
        weights = [case.weight for case in self.cases]
        while not self.over:
            if self.random.random() < 0.1:
                self.misbehave()
            else:
                self.run(self.random.choices(self.cases, weights)[0])

    @contextmanager
    def traffic(self, callers: int):
        with ThreadPoolExecutor(callers) as pool:
            calling = [pool.submit(self.call) for _ in range(callers)]
            try:
                yield
            finally:
                self.over = True
        for each in calling:
            each.result()  # a fault of the harness is raised here

    @contextmanager
    def filled(self):
        """Every slot is taken by a long reply."""
        self.full, done, begun = True, threading.Event(), set()

        def fill(number):
            def leave(count):
                begun.add(number)
                return done.is_set()
            while not done.is_set():
                self.run(FILL, leave)
        slots = SLOTS * len(self.gate.workers())
        with ThreadPoolExecutor(slots) as pool:
            for number in range(slots):
                pool.submit(fill, number)
            try:
                assert until(lambda: len(begun) == slots, 120), f"{len(begun)} of {slots} slots could be taken"
                yield
            finally:
                done.set()
        self.full = False


# What is measured --------------------------------------------------------------------------------


def poll(url: str) -> None:
    """Until standard input ends: prints when, what, status and milliseconds, a line a poll."""
    paths, port = itertools.cycle(POLLED), urlsplit(url).port
    while not select.select([0], [], [], 0.03)[0]:
        start, path = time.monotonic(), next(paths)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            connection.request("GET", path, headers={"api-key": "0000"})
            response = connection.getresponse()
            response.read()
            status = response.status
        except OSError as error:
            status = type(error).__name__
        connection.close()
        print(start, path, status, 1000 * (time.monotonic() - start))


def percentile(values: list[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(part * len(values)))] if values else 0


def percentiles(values: list[float]) -> str:
    return "p50 {:.1f}, p99 {:.1f}, max {:.1f} ms".format(*(percentile(values, part) for part in (0.5, 0.99, 1)))


def listed(counts: Counter) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.most_common(6)) + ", ..." * (len(counts) > 6)


def resident(pids: list[int]) -> float:
    """MB of each worker, on average."""
    pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids)
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20 / len(pids)


def threads(pids: list[int]) -> int:
    """Of the worker that has most."""
    return max(len(os.listdir(f"/proc/{pid}/task")) for pid in pids)


def sockets(pids: list[int]) -> list[str]:
    """The states of the TCP sockets that the workers hold; 0A listens, 08 is CLOSE_WAIT (proc(5))."""
    held = set()
    for link in (link for pid in pids for link in Path(f"/proc/{pid}/fd").iterdir()):
        with suppress(OSError):
            held.add(os.readlink(link))
    rows = [line.split() for line in Path(f"/proc/{pids[0]}/net/tcp").read_text().splitlines()[1:]]
    return [row[3] for row in rows if f"socket:[{row[9]}]" in held]


def slots_used(gate) -> float:
    return sum(float(line.split()[1]) for line in gate.get("/metrics").text.splitlines()
               if line.startswith("cursor2api_slots_used "))


def alive(simulator) -> int:
    with simulator.changed:
        return sum(not agent.deleted for agent in simulator.agents.values())


def start_all_threads(soak, pids: list[int]) -> int:
    """Has the pools make their threads, which they do when they need them; how many a worker may have at most."""
    with ExitStack() as stack:
        for _ in range(THREADS * len(pids)):  # requests that do not come whole
            caller = stack.enter_context(socket.create_connection(("127.0.0.1", soak.port)))
            caller.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{")
        assert until(lambda: threads(pids) >= THREADS + 3)  # the main one, one tends agents, one sweeps
    leaving = {"ends": ("left",), "leave": 0, "quiet": 0.5, "stream": False}
    soak.simulator.script({"refuse": {"delete": {"hang": 0.5, "times": 0}}})
    slots = SLOTS * len(pids)
    with ThreadPoolExecutor(slots) as pool:
        # They boot for so long that all of them are waited for at once, also on a busy machine.
        list(pool.map(soak.run, [Case("left while its agent boots", play={"boot": 5}, **leaving),
                                 Case("left a body", play={"first": 60}, **leaving)] * (slots // 2)))
    soak.simulator.script(None)
    assert until(lambda: not slots_used(soak.gate))
    return THREADS + 2 * THREADS + 6  # gunicorn's, those of runs, and the main one with those that tend and watch


@contextmanager
def polled(url: str, polls: list):
    """Health checks from a process of its own, which no caller makes wait; they come into `polls`."""
    with TemporaryFile("w+") as lines:
        poller = subprocess.Popen([sys.executable, __file__, "--poll", url], stdin=subprocess.PIPE, stdout=lines)
        try:
            yield
        finally:
            poller.communicate()
            lines.seek(0)
            polls += [(float(at), path, status, float(ms)) for at, path, status, ms in map(str.split, lines)]


def left_over(gate, soak, pids: list[int], most_threads: int) -> dict:
    """What is still there when all is over, and after a stop."""
    simulator = gate.simulator
    # The simulator finds a stream closed when it next writes to it.
    until(lambda: not (alive(simulator) or simulator.open_streams or slots_used(gate)
                       or threads(pids) > most_threads))
    seen = {"leaked agents": alive(simulator), "open streams at Cursor": simulator.open_streams,
            "leaked threads": max(0, threads(pids) - most_threads), "slots still taken": slots_used(gate)}
    # Cursor ends the idle connections of the pool; with the next call it notices and lets them go.
    with simulator.changed:
        idle = list(simulator.connections) if gate.upstream == "cloud" else []  # a bridge's pool is empty
    for connection in idle:
        connection.shutdown(socket.SHUT_RDWR)
    until(lambda: gate.upstream != "cloud" or not simulator.connections)
    soak.run(CASES[0])

    def leaked() -> int:
        """All workers hold the socket that listens, which counts once."""
        return max(0, len(sockets(pids)) - 1 - (len(simulator.connections) if gate.upstream == "cloud" else 0))
    until(lambda: not leaked())
    seen["leaked sockets"] = leaked()
    seen["sockets in CLOSE_WAIT"] = sockets(pids).count("08")

    soak.run(CASES[1])  # leaves an agent that waits to go on
    assert until(lambda: not simulator.open_streams)
    last = threading.Thread(target=soak.run, args=[Case("at the stop", words=40, play={"delay": 0.05})])
    last.start()
    assert until(lambda: simulator.open_streams)
    gate.process.send_signal(signal.SIGTERM)
    status = gate.process.wait(60)
    last.join()
    return seen | {"exit status of a stop": status, "agents left by a stop": alive(simulator)}


def measure(gate, seconds: float, callers: int, seed: int) -> bool:
    """Lets the traffic run and prints what was seen; whether every must was met."""
    pids, soak = gate.workers(), Soak(gate, seed)
    most_threads, samples, full, polls = start_all_threads(soak, pids), [], [], []
    warm, phases, hold = min(60, seconds / 5), max(1, int(seconds / 120)), min(10, seconds / 4)

    def wait(seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            samples.append((time.monotonic(), resident(pids)))
            time.sleep(min(1, seconds / 10))

    with soak.traffic(callers):
        with soak.filled():
            time.sleep(warm)
        begun, done = time.monotonic(), soak.seen["requests"]
        with polled(gate.url, polls):
            for _ in range(phases):
                wait(seconds / phases - hold)
                with soak.filled():
                    full.append((time.monotonic(), time.monotonic() + hold))
                    wait(hold)
            took, done = time.monotonic() - begun, soak.seen["requests"] - done
    seen = left_over(gate, soak, pids, most_threads) | {
        "lost deltas": soak.seen["lost"], "doubled deltas": soak.seen["doubled"],
        "unexpected ends": soak.unexpected.total(),
        "health checks without 200": sum(status != "200" for _, _, status, _ in polls)}

    print(f"{done} requests in {took:.0f} s after a warm-up; in all {soak.seen['requests']}, of which "
          f"{soak.ends['whole'].total()} got a whole reply, {soak.seen['several']} of them over several streams")
    print(f"by whose agent: {listed(soak.agents)}")
    for code, names in sorted(soak.ends.items(), key=lambda item: -item[1].total()):
        if code != "whole":
            print(f"{names.total():6} {code}: {listed(names)}")
    for what, count in soak.unexpected.most_common():
        print(f"{count:6} UNEXPECTED {what}")
    print(f"from a caller's leaving to the end of its run: {percentiles([1000 * each for each in soak.gone])}")
    worst = 0
    for name, wanted in (("mixed traffic", False), ("every slot taken", True)):
        for path in POLLED:
            times = [ms for at, each, _, ms in polls if each == path and wanted == any(
                start <= at <= end for start, end in full)]
            print(f"{path}, {name}: {percentiles(times)} of {len(times)}")
            worst = max(worst, percentile(times, 0.99))
    size = len(samples) / 10  # the least of each tenth: a reply that nobody takes holds megabytes for a while
    tenths = [min(samples[int(n * size):int((n + 1) * size)], key=lambda sample: sample[1]) for n in range(10)]
    more, slope = tenths[-1][1] - tenths[5][1], 60 * statistics.linear_regression(*zip(*tenths[5:])).slope
    print(f"memory of a worker, MB: {' '.join(f'{memory:.1f}' for _, memory in tenths)}; in the second half "
          f"{slope:+.2f} a minute")
    musts = [(name, count, 0) for name, count in seen.items()]
    if seconds >= 120:  # in less these say nothing
        musts += [("p99 of health checks, ms", worst, HEALTH_MS), ("MB more", more, GROWTH_MB),
                  ("p99 from leaving to the end, s", percentile(soak.gone, 0.99), GONE_S)]
    if seconds >= 600:  # till then the worker's memory is still filling
        musts.append(("MB more a minute", slope, SLOPE))
    for name, value, most in musts:
        print(f"{'ok  ' if value <= most else 'FAIL'} {name}: {value:.4g}" + f" (at most {most})" * bool(most))
    return all(value <= most for _, value, most in musts)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--callers", type=int, default=16)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--upstream", choices=("cloud", "sdk"), default="cloud")
    parser.add_argument("--poll", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.poll:
        poll(options.poll)
        return 0
    print(f"soak: {options.upstream}, {options.seconds:g} s, {options.callers} callers, {options.workers} workers,"
          f" seed {options.seed}", flush=True)
    settings = {**SETTINGS, "WEB_CONCURRENCY": options.workers}
    with gateway(upstream=options.upstream, environ={
            name: str(value) for name, value in settings.items()}) as gate:
        assert until(lambda: len(gate.workers()) == options.workers)
        return not measure(gate, options.seconds, options.callers, options.seed)


if __name__ == "__main__":
    sys.exit(main())
