"""A run of the simulator as data and a clock: all that it will say, each frame with the moment at which it is
due, and the faults between frames and between bytes that a script asks for (cursor.py).
"""

import dataclasses
import itertools
import json
import re
import sys
import time
import uuid

FAULTS = {"cut", "burst", "raw", "stall_after", "close_after", "reset_after", "error_after",
          "unknown_after", "twice_after"}


class Reset(ConnectionResetError):
    """Ends the connection with an RST: see Handler."""


@dataclasses.dataclass(frozen=True)
class Frame:
    """One SSE unit, due `at` seconds after its run began; `part` is lead, content, twin or end."""

    at: float
    event: str | None
    data: object
    id: str | None = None
    part: str = "end"

    def encode(self, line_end: str = "\n") -> bytes:
        plain = isinstance(self.data, str)
        data = self.data if plain else json.dumps(self.data, ensure_ascii=False)
        lines = [f"id: {self.id}"] * bool(self.id) + [f"event: {self.event}"] * bool(self.event)
        return (line_end.join([*lines, f"data: {data}"]) + 2 * line_end).encode(errors="replace")


@dataclasses.dataclass(eq=False)
class Run:
    prompt: str
    images: int
    model: str
    reply: dict
    thinking: str
    text: str
    known: int = 0  # tokens that its agent knows from earlier runs, which a cache holds
    agent: "Agent | None" = None
    boot: float = 0
    id: str = dataclasses.field(default_factory=lambda: f"run-{uuid.uuid4()}")
    created: float = dataclasses.field(default_factory=time.time)
    planned: list[Frame] = dataclasses.field(default_factory=list)
    cancelled_at: float | None = None
    cancelled_by: str | None = None
    connections: int = 0

    def __post_init__(self):
        self.began = time.monotonic() + self.boot
        self.usage = self.reply.get("usage") or {
            "inputTokens": self.known + len(self.prompt) // 4 + 1, "outputTokens": len(self.text) // 4 + 1,
            "cacheReadTokens": self.known, "cacheWriteTokens": 0, "reasoningTokens": len(self.thinking) // 4}

    def deltas(self) -> list[tuple[str, str]]:
        size = self.reply.get("chunk")
        pieces = re.compile(rf"(?s).{{1,{size}}}" if size else r"\S+\s*|\s+").findall
        return ([("thinking", piece) for piece in pieces(self.thinking)]
                + [("text", piece) for piece in pieces(self.text)])

    def due(self, step: int) -> float:
        return self.reply.get("first", 0) + step * self.reply.get("delay", 0)

    @property
    def age(self) -> float:
        return time.monotonic() - self.began

    @property
    def end(self) -> str:
        return self.reply.get("status", "FINISHED")

    @property
    def status(self) -> str:
        if self.cancelled_at is not None and self.age >= self.cancelled_at:
            return "CANCELLED"
        return ("CREATING" if self.age < 0 else "RUNNING" if self.age < self.planned[-1].at
                else self.end)

    @property
    def active(self) -> bool:
        return self.status in ("CREATING", "RUNNING")

    def frames(self) -> list[Frame]:
        """What the stream holds from its first frame on, as far as is now known."""
        if self.cancelled_at is None:
            return self.planned
        log = [frame for frame in self.planned if frame.at <= self.cancelled_at]
        gone = {"runId": self.id, "status": "CANCELLED"}
        last = f"{self.created * 1000:.0f}-{len(self.planned) + 1}"
        return [*log, Frame(self.cancelled_at, "status", gone),
                Frame(self.cancelled_at, "result", gone, last),
                Frame(self.cancelled_at, "done", {}, last)]

    def view(self, listed: bool = False) -> dict:
        view = {"id": self.id, "agentId": self.agent.id, "status": self.status,
                "createdAt": stamp(self.created), "updatedAt": stamp(self.created)}
        if not self.active and not listed:
            view["durationMs"] = int(1000 * min(self.age, self.planned[-1].at))
            if self.status == "FINISHED":
                view["result"] = self.text
        return view


@dataclasses.dataclass(eq=False)
class Agent:
    id: str
    key: str
    name: str
    model: dict
    runs: list[Run] = dataclasses.field(default_factory=list)
    archived: bool = False
    deleted: bool = False

    @property
    def status(self) -> str:
        return "ARCHIVED" if self.archived else "ACTIVE" if self.runs[-1].active else "IDLE"

    def view(self) -> dict:
        return {"id": self.id, "name": self.name, "status": self.status, "env": {"type": "cloud"},
                "url": f"https://cursor.com/agents/{self.id}",
                "createdAt": stamp(self.runs[0].created), "updatedAt": stamp(self.runs[-1].created),
                "latestRunId": self.runs[-1].id}


def stamp(seconds: float) -> str:
    return time.strftime(f"%Y-%m-%dT%H:%M:%S.{int(seconds % 1 * 1000):03}Z", time.gmtime(seconds))


def agent_frames(run: Run) -> list[Frame]:
    """The run as Cloud Agents frames, but for the status that each connection begins with."""
    reply, spoken = run.reply, {"thinking": ("thinking", "thinking-delta"),
                                "text": ("assistant", "text-delta")}
    ids = (f"{run.created * 1000:.0f}-{n}" if reply.get("ids", True) else None
           for n in itertools.count(1))
    scripted = [(event, data, None) for event, data in reply.get("frames", ())]
    said = [(spoken[kind][0], {"text": piece}, {"type": spoken[kind][1], "text": piece})
            for kind, piece in run.deltas()]
    frames, step = [], 0
    for step, (event, data, twin) in enumerate(scripted or said, 1):
        frames.append(Frame(run.due(step - 1), event, data, next(ids), "content"))
        if twin and reply.get("twins", True):
            frames.append(dataclasses.replace(frames[-1], event="interaction_update", data=twin,
                                              part="twin"))
    at, result = run.due(step), {"runId": run.id, "status": run.end}
    if run.end == "FINISHED":
        result |= {"text": run.text, "durationMs": int(at * 1000)}
        if reply.get("twins", True):
            ended = {"type": "turn-ended", "usage": run.usage}
            frames.append(Frame(at, "interaction_update", ended, next(ids)))
    last = next(ids)
    return [*frames, Frame(at, "result", result, last), Frame(at, "done", {}, last)]


def ui_frames(run: Run) -> list[Frame]:
    """The run as parts of the AI SDK's UI message stream."""
    def part(step, kind, place="end", **fields):
        return Frame(run.due(step), None, {"type": kind, **fields}, part=place)

    frames = [part(0, "start", "lead", messageId=run.id), part(0, "start-step", "lead")]
    step, kind = 0, {"thinking": "reasoning", "text": "text"}
    for block, deltas in itertools.groupby(run.deltas(), lambda delta: kind[delta[0]]):
        frames.append(part(step, f"{block}-start", "twin", id=block))
        for _, piece in deltas:
            frames.append(part(step, f"{block}-delta", "content", id=block, delta=piece))
            step += 1
        frames.append(part(step, f"{block}-end", id=block))
    if "frames" in run.reply:
        frames[2:] = [Frame(run.due(step), None, data, part="content")
                      for step, (_, data) in enumerate(run.reply["frames"])]
    counts = {key: run.usage.get(key, 0) for key in ("inputTokens", "outputTokens")}
    usage = counts | {"totalTokens": sum(counts.values())}
    if run.end == "FINISHED":
        frames += [part(step, "finish-step"),
                   part(step, "finish", finishReason="stop", messageMetadata={"usage": usage})]
    else:
        frames.append(part(step, "error", errorText=f"The simulator says {run.end}"))
    return [*frames, Frame(run.due(step), None, "[DONE]")]


def bend(frames: list[Frame], reply: dict) -> list[Frame]:
    """The frames of one connection with the faults that fall between frames."""
    def place(count):
        content = [n for n, frame in enumerate(frames) if frame.part == "content"]
        content.append(1 + max(n for n, frame in enumerate(frames) if frame.part != "end"))
        return content[count] if count < len(content) else len(frames)

    frames, ui = list(frames), frames[-1].event is None
    if "unknown_after" in reply:
        n = place(reply["unknown_after"])
        data = {"type": "surprise", "what": "not known to any client"}
        frames.insert(n, Frame(frames[n - 1].at, None if ui else "surprise", data))
    if "twice_after" in reply:
        again = place(reply["twice_after"] - 1)
        frames.insert(place(reply["twice_after"]), frames[again])
    if "error_after" in reply:
        count, error = reply["error_after"]
        n = place(count)
        at, error = frames[n - 1].at, {"message": "The simulator says so"} | error
        frames[n:] = ([Frame(at, None, {"type": "error", "errorText": error["message"]}),
                       Frame(at, None, "[DONE]")] if ui else [Frame(at, "error", error)])
        if error.get("code") == "stream_unavailable":
            frames.append(Frame(at, "done", {}))
    for key in reply.keys() & {"close_after", "stall_after"}:
        del frames[place(reply[key]):]
    return frames


def carve(writes, reply: dict):
    """The writes with the faults that fall between bytes."""
    if reply.get("burst"):
        writes = iter([b"".join(writes)])
    if size := reply.get("cut"):
        writes = (data[n:n + size] for data in writes for n in range(0, len(data), size))
    left = reply.get("reset_after", sys.maxsize)
    for data in writes:
        yield data[:left]
        left -= len(data)
        if left <= 0:
            raise Reset
