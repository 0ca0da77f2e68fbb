"""Cursor's SDK, its local runtime: a prompt becomes a run of the bridge, whose messages become events.

An agent is without tools, made under an id of our own, and deleted when the reply is over unless it is released.
It ends with its bridge.
We speak sdk.v1, which Cursor publishes for such use: https://github.com/cursor/sdk-bridge
"""

import json
import logging
import re
import struct
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue

from ...errors import ApiError, BadRequest, UpstreamCut, UpstreamError, UpstreamTimeout
from ...events import Event, Finish, Reasoning, Text, Usage
from ...prompt import Prompt
from ..cursor import AGAIN_S, key_refused, limit_reached, picture, request_refused, run_failed, shown
from ..http import Ended, Exchange, Limits, json_object, retry_after
from ..run import Run, Runs
from ..usage import usage_of
from .bridge import Bridge, Bridges, Found

log = logging.getLogger("cursor2api")

AGENTS = "/sdk.v1.SdkAgentService/"
LARGEST = 32 * 1024 * 1024  # bytes of a message
LAST = 2  # the flag of the message that ends a stream
TIDY_S = 10
GONE_S = 3  # for a bridge that is dying to have died
BRACKETED = re.compile(r"(?s)\[(\w+)\]\s*(.*)")  # how a run that failed says why


class Sdk:
    """The adapter. `models` lists Cursor's models; `api_key` is used where a caller brings no key."""

    name = "sdk"

    def __init__(self, bridges: Bridges, api_key: str, models: Callable, limits: Limits, *, pool: int = 64):
        self.bridges, self.api_key, self.models, self.limits = bridges, api_key, models, limits
        self.runs = Runs(3 * pool)  # a run that is ended is cancelled by another thread than its own

    def share(self, folder: Path | None) -> None:
        self.bridges.share(folder)

    def open(self, prompt: Prompt, key: str = "", agent: str = "", queue: SimpleQueue | None = None) -> Run:
        return self.runs.start(Agent(self, key, agent), prompt, queue)

    def delete(self, agent: str) -> None:
        """Deletes a released agent, off the request's path, or one that a worker had begun which was killed: its
        bridge, whose name may be missing, is then the one that is there."""
        if agent.endswith("/"):
            agent += self.bridges.found()
        self.runs.do(agent, Agent(self, name=agent).delete)

    def sweep(self, age: float) -> None:
        """An agent ends with its bridge, and a bridge with its worker."""

    def left(self) -> set[str]:
        """There is nothing that could be left."""
        return set()

    def retire(self) -> None:
        self.bridges.retire()

    def close(self, seconds: float) -> None:
        """Returns when this worker's bridge and all that it ran are gone; runs, the other workers' too, have that
        time to end before it."""
        end = time.monotonic() + seconds
        self.runs.finish(seconds)
        self.bridges.close(end - time.monotonic())


class Agent:
    """An agent of the bridge, made with its first answer unless `name` is that of one that is there: its id, a
    slash, and its bridge's id. The bridge drops a run's stream when its connection ends, and then knows no more
    how to cancel it: so a run is cancelled first, and its stream read to the end."""

    patient = False  # A Run holds this Agent in the place of an Exchange: it reads `patient` and calls `end`.

    def __init__(self, sdk: Sdk, key: str = "", name: str = ""):
        self._sdk, self._key, self._own = sdk, key or sdk.api_key, bool(key)
        self._id, _, self._home = (name or f"agent-{uuid.uuid4()}").partition("/")  # the bridge that knows it
        self._bridge: Bridge | Found | None = None
        self._prompt: Prompt | None = None
        self._stream: Exchange | None = None
        self._run_id = ""
        self._at_work: set[str] = set()  # ids of the runs that go on: one, or none
        self._is_over = self._said = False  # the run: has ended, has said something
        self._usage: Usage | None = None

    @property
    def name(self) -> str:
        return f"{self._id}/{self._home}"

    def answer(self, run: Run) -> None:
        """Has the bridge make a run of the prompt, and says what it says. Raises ApiError and Ended."""
        self._end_run()
        self._prompt, self._usage = run.take_prompt(), None
        for image in self._prompt.images:
            if not image.url.startswith("data:"):
                raise BadRequest(f"{image.path}: expected a data: URL, since the sdk upstream fetches no "
                                 "pictures, got an http(s) URL", param=image.path, code="invalid_value")
        self._is_over = self._said = False
        is_new = not self._home  # only then does a new bridge need to know nothing
        try:
            self._speak(run)
        except UpstreamError as error:
            if not is_new or self._said or not self._bridge_died(error):
                raise
            log.warning("the SDK's bridge died: a request is tried once more on a new one")
            self._release()
            self._home = ""
            self._speak(run)

    def delete(self) -> None:
        """Ends the run and the agent, in that order: a closed agent's run goes on, and bills."""
        try:
            self._end_run()
            if self._home and not self._bridge:
                self._bridge = self._sdk.bridges.lease(self._home)
            if self._home:
                self._tidy("CloseAgent", agentId=self._id)
                self._tidy("DeleteAgent", agentId=self._id)
        except UpstreamError:
            pass  # an agent ends with its bridge
        finally:
            self._release()

    def leave(self) -> None:
        """The agent waits for its next run."""
        try:
            self._end_run()
        finally:
            self._release()

    def end(self, why: Exception) -> None:
        """The run is not wanted any more: once it is cancelled, its stream ends."""
        if self._at_work:
            self._sdk.runs.do(self._id, self._cancel, self._run_id)

    # What is asked ------------------------------------------------------------------------------

    def _speak(self, run: Run) -> None:
        if not self._bridge:
            self._bridge = self._sdk.bridges.lease(self._home)
        run.check()
        if not self._home:
            model = {"id": self._prompt.model}
            if self._prompt.params:
                model["params"] = [{"id": id, "value": value} for id, value in self._prompt.params]
            self._ask(run, "CreateAgent", json={"options": {
                "agentId": self._id, "apiKey": self._key, "model": model, "tools": {"names": []},
                "local": {"cwd": [self._bridge.workspace], "autoReview": True}}})
            self._home = self._bridge.id
            run.check()
        message = {"text": self._prompt.text}
        if self._prompt.images:
            message["images"] = [{"data": picture(image.url)} for image in self._prompt.images]
        data = _frame({"agentId": self._id, "message": message})
        del message  # it can be long
        self._stream = self._ask(run, "Send", data=data, stream=True,
                                 headers={"Content-Type": "application/connect+json"})
        del data
        self._read(run)

    def _ask(self, run: Run, method: str, **options) -> Exchange:
        """An answer of the bridge; a refusal is raised. It is waited for even when nobody wants it any more,
        since only the answer says what there is to end."""
        answer = self._bridge.http.call(
            "POST", AGENTS + method, timeout=self._sdk.limits.create, late="create_timeout", owner=run,
            patient=True, **options)
        if answer.status_code != 200:
            raise failure(answer.object, self._own)
        return answer

    def _bridge_died(self, error: UpstreamError) -> bool:
        return bool(self._bridge and error.code in ("upstream_unreachable", "upstream_cut")
                    and self._bridge.gone.wait(GONE_S))

    # What is heard ------------------------------------------------------------------------------

    def _read(self, run: Run) -> None:
        """Says what the stream says, up to its result."""
        frames, heard = Frames(), time.monotonic()
        while data := self._stream.read():
            events: list[Event] = []
            is_cursors = False  # else it is the bridge's own sign of life, which says nothing of Cursor
            try:
                for last, message in frames.feed(data):
                    if last:
                        raise failure(message["error"], self._own) if message.get("error") else UpstreamCut(
                            "The SDK's bridge ended the stream without a result")
                    if message:
                        is_cursors = True
                        events += self._take(run, message)
                    if self._is_over:
                        break
            finally:
                if events:
                    run.accept()  # not before: a run that is about to fail says RUNNING too, at once
                    run.say(*events)
            if self._is_over:
                return
            if is_cursors:
                heard = time.monotonic()  # after `say`, which may have waited for a slow caller
            elif time.monotonic() - heard > self._sdk.limits.idle:
                raise UpstreamTimeout(f"Cursor was silent for {self._sdk.limits.idle:g} s",
                                      code="idle_timeout")
        raise UpstreamCut("The SDK's bridge died, or its stream was cut")

    def _take(self, run: Run, message: dict) -> list[Event]:
        """The events that a message adds. Raises what the run failed with, and Ended."""
        part = _part(message)
        if (id := _str(part.get("run_id"))) and id != self._run_id:
            self._run_id = id
            self._at_work.add(id)
            run.hold(self)
        kind = KINDS.get(_str(part.get("type")))
        if kind and (text := _text(part)):
            self._said, self._prompt = True, None  # nothing is tried again
            return [kind(text)]
        if part.get("type") == "usage":
            self._usage = usage_of(part.get("usage")) or self._usage
        elif result := _dict(message.get("result")):
            return self._result(result)
        return []

    def _result(self, result: dict) -> list[Event]:
        self._at_work.clear()
        self._is_over = True
        whole = _dict(result.get("result"))
        status = _str(result.get("status")).removeprefix("RUN_LIFECYCLE_STATUS_")
        if status != "FINISHED":
            raise _failed(status, _str(whole.get("errorMessage")), self._own)
        self._sdk.bridges.went_well()
        text = "" if self._said else _str(whole.get("result"))
        usage = usage_of(whole.get("usage")) or self._usage
        return [*[Text(text)] * bool(text), *[usage] * bool(usage), Finish("stop")]

    # What is left ------------------------------------------------------------------------------

    def _end_run(self) -> None:
        """Cancels the run that may still go on, and reads its stream to the end: before that the bridge takes
        no other."""
        self._cancel(self._run_id)
        stream, self._stream, end = self._stream, None, time.monotonic() + TIDY_S
        if stream:
            with suppress(UpstreamError, Ended):  # of what nobody wants any more
                while stream.read(TIDY_S) and time.monotonic() < end:
                    pass
            stream.close()

    def _cancel(self, run_id: str) -> None:
        """Cancels this run if it still goes on. The thread that `end` starts may come late; the id keeps it from
        cancelling the next run."""
        if run_id in self._at_work:
            self._at_work.discard(run_id)
            self._tidy("CancelRun", runId=run_id, agentId=self._id)

    def _tidy(self, method: str, **message) -> None:
        bridge = self._bridge
        if bridge is None or bridge.gone.is_set():
            return
        try:
            answer = bridge.http.call("POST", AGENTS + method, json=message, timeout=TIDY_S)
            reason = "" if answer.status_code < 500 else answer.status_code
        except ApiError as error:
            reason = error.code
        if reason and not bridge.gone.is_set():
            log.warning("left at the SDK's bridge agent=%s method=%s reason=%s", self._id, method, reason)

    def _release(self) -> None:
        bridge, self._bridge = self._bridge, None
        if bridge:
            self._sdk.bridges.release(bridge)


class Frames:
    """Feeds on the bytes of a Connect stream, gives (last, message) pairs; any cut gives the same.

    A frame is a byte of flags, its length in four more, and JSON. Raises UpstreamError for another.
    https://connectrpc.com/docs/protocol/#streaming-response
    """

    def __init__(self):
        self._held = bytearray()

    def feed(self, data: bytes) -> list[tuple[bool, dict]]:
        held, at, found = self._held, 0, []
        held += data
        while len(held) - at >= 5:
            flags, length = struct.unpack_from(">BI", held, at)
            if length > LARGEST:
                raise UpstreamError(f"The SDK's bridge sent a message of over {LARGEST} bytes")
            if len(held) - at - 5 < length:
                break
            message = json_object(held[at + 5:at + 5 + length].decode("utf-8", "replace"))
            if flags & ~LAST or message is None:
                raise UpstreamError("The SDK's bridge sent a message that is no plain JSON object")
            found.append((bool(flags & LAST), message))
            at += 5 + length
        del held[:at]
        return found


def failure(error: object, own: bool = False) -> ApiError:
    """A Connect error, {"code", "message", "details"}, as ours. `own`: the key was the caller's."""
    error = _dict(error)
    details = [_dict(_dict(detail).get("debug")) for detail in _list(error.get("details"))]
    code = next((name for detail in details if (name := _str(detail.get("sdkErrorCode")))), "")
    waits = next((wait for detail in details if (wait := _str(detail.get("retryAfter")))), "")
    code = (code or _str(error.get("code")) or "unknown").removeprefix("SDK_ERROR_CODE_").lower()
    return _error(code, _str(error.get("message")), own, retry_after(waits.removesuffix("s")))


def _failed(status: str, said: str, own: bool) -> ApiError:
    """A run that did not finish; its message begins with the code in brackets, if there is one."""
    if bracketed := BRACKETED.fullmatch(said):
        return _error(bracketed[1], bracketed[2], own)
    return run_failed(status, shown(said))


REFUSED = {"unauthenticated": "unauthorized", "unauthorized": "unauthorized",
           "api_key_not_found": "unauthorized", "permission_denied": "forbidden",
           "role_forbidden": "forbidden", "plan_required": "plan_required",
           "feature_unavailable": "feature_unavailable"}
LIMITED = {"resource_exhausted": "rate_limit_exceeded", "rate_limit_exceeded": "rate_limit_exceeded",
           "usage_limit_exceeded": "usage_limit_exceeded"}
WRONG = {"invalid_argument": "upstream_refused", "validation_error": "upstream_refused",
         "out_of_range": "upstream_refused", "invalid_model": "invalid_model"}
FINAL = {"not_found", "already_exists", "failed_precondition", "unimplemented", "agent_not_found",
         "run_not_found"}


def _error(code: str, said: str, own: bool, retry_after: float | None = None) -> ApiError:
    """Cursor's refusal as ours, by its code."""
    said = shown(said)
    if code in REFUSED:
        return key_refused(said, REFUSED[code], own, REFUSED[code] != "unauthorized")
    if code in LIMITED:
        return limit_reached(said, LIMITED[code], retry_after)
    if code in WRONG:
        return request_refused(said, WRONG[code])
    if code == "deadline_exceeded":
        return UpstreamTimeout(f"Cursor did not answer in time: {said}", retry_after=AGAIN_S)
    return UpstreamError(f"Cursor failed ({code}): {said}", retry_after=None if code in FINAL else AGAIN_S)


KINDS = {"assistant": Text, "thinking": Reasoning}


def _part(message: dict) -> dict:
    """The SDK's message within an envelope; empty if the envelope holds something else."""
    return _dict(_dict(message.get("sdkMessage")).get("message"))


def _text(message: dict) -> str:
    if message["type"] == "thinking":
        return _str(message.get("text"))
    blocks = map(_dict, _list(_dict(message.get("message")).get("content")))
    return "".join(_str(block.get("text")) for block in blocks if block.get("type") == "text")


# What the bridge says may have any form: each of these gives an empty value for one of another kind.

def _dict(value: object) -> dict:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list:
    return value if isinstance(value, list) else []


def _str(value: object) -> str:
    return value if isinstance(value, str) else ""


def _frame(message: dict) -> bytes:
    data = json.dumps(message).encode()
    return struct.pack(">BI", 0, len(data)) + data
