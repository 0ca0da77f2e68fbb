"""Cursor's SDK, its local runtime: a prompt becomes a run of the bridge, whose messages become events.

One agent a request, without tools, made under an id of our own and deleted when the reply is over.
We speak sdk.v1, which Cursor publishes for such use: https://github.com/cursor/sdk-bridge
"""

import json
import logging
import re
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

from ...errors import ApiError, BadRequest, KeyRefused, UpstreamCut, UpstreamError, UpstreamTimeout
from ...events import Event, Finish, Reasoning, Text, Usage, Waiting
from ...held import uuid
from ...prompt import Prompt
from .bridge import Bridge, Bridges
from ..cleaner import Cleaner
from ..http import TICK, Limits, Response, json_object, retry_after

log = logging.getLogger("cursor2api")

AGENTS = "/sdk.v1.SdkAgentService/"
LARGEST = 32 * 1024 * 1024  # bytes of a message
LAST = 2  # the flag of the message that ends a stream
TIDY_S = 10
CLEANERS = 8
BRACKETED = re.compile(r"(?s)\[(\w+)\]\s*(.*)")  # how a run that failed says why


class Sdk:
    """The adapter. `models` lists Cursor's models; `api_key` is used where a caller brings no key."""

    name = "sdk"

    def __init__(self, bridges: Bridges, api_key: str, models: Callable, limits: Limits):
        self.bridges, self.api_key, self.models, self.limits = bridges, api_key, models, limits
        self._cleaner = Cleaner(CLEANERS)
        self._streams: set[Stream] = set()

    def open(self, plan: Prompt, key: str = "") -> "Stream":
        for image in plan.images:
            if not image.url.startswith("data:"):
                raise BadRequest(f"{image.path}: expected a data: URL, since the sdk upstream fetches no "
                                 "pictures, got an http(s) URL", param=image.path, code="invalid_value")
        stream = Stream(self, plan, key)
        self._streams.add(stream)
        return stream

    def sweep(self, age: float) -> None:
        """An agent ends with its bridge, and a bridge with its worker."""

    def left(self) -> set[str]:
        """There is nothing that could be left."""
        return set()

    def dispose(self, stream: "Stream") -> None:
        """Ends what the stream has running, off the request's path."""
        if stream in self._streams:
            self._streams.discard(stream)
            self._cleaner.submit(stream.agent, stream.dispose)

    def close(self, seconds: float) -> None:
        """Returns when the bridge and all that it ran are gone; runs have that time to end before it."""
        for stream in list(self._streams):
            self.dispose(stream)
        self._cleaner.finish(seconds)
        self.bridges.close()


class Stream:
    """One reply, or several on one agent after `follow_up`."""

    def __init__(self, sdk: Sdk, plan: Prompt, key: str):
        self._sdk, self._key, self._own = sdk, key or sdk.api_key, bool(key)
        self.agent = f"agent-{uuid()}"
        self._bridge: Bridge | None = None
        self._leased = self._made = False  # a bridge is ours to release; it knows the agent
        self._start(plan)
        self._events = self._steps()

    def _start(self, plan: Prompt) -> None:
        self._plan: Prompt | None = plan
        self._asked: Iterator | None = None  # gives the answer that the caller did not wait for
        self._body: Response | None = None
        self._run_id = ""
        self._answered = self._over = self._said = False

    def __iter__(self) -> Iterator[Event]:
        return self._events

    def wait(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not self._answered and time.monotonic() < deadline:
            next(self._events)
        return self._answered

    def follow_up(self, plan: Prompt, reply: str) -> None:
        """The next events answer `plan` by a run of the same agent, which knows its `reply`."""
        self._events.close()
        self._events = self._again(plan)

    def close(self) -> None:
        self._events.close()
        self._sdk.dispose(self)

    # What is sent ------------------------------------------------------------------------------

    def _again(self, plan: Prompt) -> Iterator[Event]:
        yield from self._cancel()
        if self._body:  # the bridge refuses a run before the last one's end
            end = time.monotonic() + TIDY_S
            with suppress(UpstreamError):  # of what nobody wants any more
                while self._body.read() != b"" and time.monotonic() < end:
                    yield Waiting()
            self._body.close()
        self._start(plan)
        yield from self._steps()

    def _steps(self) -> Iterator[Event]:
        fresh = not self._made  # only then does a new bridge need to know nothing
        try:
            yield from self._run()
        except UpstreamError as error:
            if not fresh or self._said or not self._bridge_died(error):
                raise
            log.warning("the SDK's bridge died: a request is tried once more on a new one")
            self._release()
            yield from self._run()

    def _run(self) -> Iterator[Event]:
        if not self._leased:
            self._leased, self._made = True, False
            self._bridge = yield from self._sdk.bridges.lease()
        if not self._made:
            model = {"id": self._plan.model}
            if self._plan.params:
                model["params"] = [{"id": id, "value": value} for id, value in self._plan.params]
            yield from self._ask("CreateAgent", json={"options": {
                "agentId": self.agent, "apiKey": self._key, "model": model, "tools": {"names": []},
                "local": {"cwd": [self._bridge.workspace], "autoReview": True}}})
            self._made = True
        message = {"text": self._plan.prompt}
        if self._plan.images:
            message["images"] = [{"data": _image(image.url)} for image in self._plan.images]
        self._body = yield from self._ask(
            "Send", data=_frame({"agentId": self.agent, "message": message}), stream=True,
            headers={"Content-Type": "application/connect+json"})
        del message  # it can be long
        yield from self._read(self._body)
        self._over = True

    def _ask(self, method: str, **options) -> Iterator[Waiting]:
        """An answer of the bridge; a refusal is raised. Closed while it waits, it keeps the future one."""
        response = yield from self._bridge.http.ask(
            "POST", AGENTS + method, timeout=self._sdk.limits.create, late="create_timeout",
            abandoned=self._abandoned, **options)
        if response.status_code != 200:
            raise failure(response.object, self._own)
        return response

    def _abandoned(self, asking: Iterator) -> None:
        self._asked = asking

    def _bridge_died(self, error: UpstreamError) -> bool:
        return bool(self._bridge and error.code in ("upstream_unreachable", "upstream_cut")
                    and self._bridge.gone.wait(TICK))

    # What is read ------------------------------------------------------------------------------

    def _read(self, body: Response) -> Iterator[Event]:
        frames, heard, usage = Frames(), time.monotonic(), None
        while (data := body.read()) != b"":
            for last, message in frames.feed(data or b""):
                if last:
                    if message.get("error"):
                        raise failure(message["error"], self._own)
                    raise UpstreamCut("The SDK's bridge ended the stream without a result")
                if not message:
                    continue  # its own sign of life says nothing of Cursor
                heard = time.monotonic()
                result, message = message.get("result"), _part(message)
                self._run_id = self._run_id or message.get("run_id") or ""
                kind = KINDS.get(message.get("type"))
                if kind and (text := _text(message)):
                    yield from self._answer()
                    self._said, self._plan = True, None  # nothing is tried again
                    yield kind(text)
                elif message.get("type") == "usage":
                    usage = _usage(message.get("usage")) or usage
                elif result:
                    yield from self._result(result, usage)
                    return
            if time.monotonic() - heard > self._sdk.limits.idle:
                raise UpstreamTimeout(f"Cursor was silent for {self._sdk.limits.idle:g} s",
                                      code="idle_timeout")
            yield Waiting()
        raise UpstreamCut("The SDK's bridge died, or its stream was cut")

    def _answer(self) -> Iterator[Waiting]:
        """Cursor said yes: a run that is about to fail says RUNNING too, at once."""
        if not self._answered:
            self._answered = True
            yield Waiting()  # what `wait` takes; it must be no event that says something

    def _result(self, result: dict, usage: Usage | None) -> Iterator[Event]:
        whole = result.get("result") if isinstance(result.get("result"), dict) else {}
        status = str(result.get("status")).removeprefix("RUN_LIFECYCLE_STATUS_")
        self._over = True
        if status != "FINISHED":
            raise _failed(status, whole.get("errorMessage") or "", self._own)
        self._sdk.bridges.went_well()
        yield from self._answer()
        if not self._said and isinstance(whole.get("result"), str) and whole["result"]:
            yield Text(whole["result"])
        if usage := _usage(whole.get("usage")) or usage:
            yield usage
        yield Finish("stop")

    # What is left ------------------------------------------------------------------------------

    def dispose(self) -> None:
        """Ends the run and the agent, in that order: a closed agent's run goes on, and bills."""
        try:
            if self._leased and self._bridge and not self._bridge.gone.is_set():
                self._await_run()
                for _ in self._end_all():
                    pass
        finally:
            self._release()

    def _end_all(self) -> Iterator[Waiting]:
        yield from self._cancel()
        if self._body:
            self._body.close()
        if self._made:
            yield from self._tidy("CloseAgent", agentId=self.agent)
            yield from self._tidy("DeleteAgent", agentId=self.agent)

    def _cancel(self) -> Iterator[Waiting]:
        """Ends the run if it may still go on."""
        if self._run_id and not self._over:
            yield from self._tidy("CancelRun", runId=self._run_id, agentId=self.agent)

    def _await_run(self) -> None:
        """What was asked but not waited for may have begun: only its answer says what there is to end."""
        if self._asked is None:
            return
        try:
            response = next(each for each in self._asked if each is not None)
            if not self._made:
                self._made = response.status_code == 200
                return
            self._body, frames, deadline = response, Frames(), time.monotonic() + TIDY_S
            while not self._run_id and time.monotonic() < deadline and (data := response.read()) != b"":
                for _, message in frames.feed(data or b""):
                    self._run_id = self._run_id or _part(message).get("run_id") or ""
        except ApiError as error:
            log.debug("an agent or run failed after its caller had left: %s", error.code)

    def _tidy(self, method: str, **message) -> Iterator[Waiting]:
        try:
            response = yield from self._bridge.http.ask("POST", AGENTS + method, json=message, timeout=TIDY_S)
            reason = "" if response.status_code < 500 else response.status_code
        except ApiError as error:
            reason = error.code
        if reason and not self._bridge.gone.is_set():
            log.warning("left at the SDK's bridge agent=%s method=%s reason=%s", self.agent, method, reason)

    def _release(self) -> None:
        if self._leased:
            self._leased = self._made = False
            self._sdk.bridges.release()


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


def failure(error: dict, own: bool = False) -> ApiError:
    """A Connect error, {"code", "message", "details"}, as ours. `own`: the key was the caller's."""
    details = [detail.get("debug") or {} for detail in error.get("details") or () if isinstance(detail, dict)]
    code = next((name for detail in details if (name := detail.get("sdkErrorCode"))), "")
    waits = next((str(wait) for detail in details if (wait := detail.get("retryAfter"))), "")
    code = str(code or error.get("code")).removeprefix("SDK_ERROR_CODE_").lower()
    return _error(code, str(error.get("message") or ""), own, retry_after(waits.removesuffix("s")))


def _failed(status: str, said: str, own: bool) -> ApiError:
    """A run that did not finish; its message begins with the code in brackets, if there is one."""
    if bracketed := BRACKETED.fullmatch(said):
        return _error(bracketed[1], bracketed[2], own)
    code = {"CANCELLED": "run_cancelled", "EXPIRED": "run_expired"}.get(status, "run_failed")
    return UpstreamError(f"Cursor's run ended as {status}: {_short(said)}", code=code,
                         retry_after=5 if code != "run_failed" else None)


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
    """Cursor's refusal as ours: its key trouble is ours to mend (502), its limits are the caller's."""
    said = _short(said)
    if code in REFUSED and own:
        forbidden = REFUSED[code] != "unauthorized"
        return UpstreamError(f"Cursor refused your key or account: {said}", status=403 if forbidden else 401,
                             type="permission_error" if forbidden else "authentication_error",
                             code=REFUSED[code] if forbidden else "invalid_api_key")
    if code in REFUSED:
        return KeyRefused(f"Cursor refused the gateway's own key or account: {said}", code=REFUSED[code])
    if code in LIMITED:
        return UpstreamError(f"Cursor's limit is reached: {said}", status=429, type="requests",
                             code=LIMITED[code], retry_after=retry_after or 20)
    if code in WRONG:
        return UpstreamError(f"Cursor refused the request: {said}", status=400,
                             type="invalid_request_error", code=WRONG[code])
    if code == "deadline_exceeded":
        return UpstreamTimeout(f"Cursor did not answer in time: {said}", retry_after=5)
    return UpstreamError(f"Cursor failed ({code}): {said}", retry_after=None if code in FINAL else 5)


KINDS = {"assistant": Text, "thinking": Reasoning}


def _part(message: dict) -> dict:
    """The SDK's message within an envelope; empty if the envelope holds something else."""
    for name in ("sdkMessage", "message"):
        message = message.get(name)
        if not isinstance(message, dict):
            return {}
    return message


def _text(message: dict) -> str:
    if message["type"] == "thinking":
        return message.get("text") if isinstance(message.get("text"), str) else ""
    content = message.get("message")
    blocks = content.get("content") if isinstance(content, dict) else None
    return "".join(block["text"] for block in blocks or () if isinstance(block, dict)
                   and block.get("type") == "text" and isinstance(block.get("text"), str))


def _usage(usage) -> Usage | None:
    """sdk.v1 counts in int64, which JSON has as strings."""
    if not isinstance(usage, dict):
        return None
    try:
        read, wrote, cached, kept, thought = (int(usage.get(name) or 0) for name in (
            "inputTokens", "outputTokens", "cacheReadTokens", "cacheWriteTokens", "reasoningTokens"))
    except (TypeError, ValueError):
        return None
    return Usage(read + cached + kept, wrote, thought, cached) if read else None


def _image(url: str) -> dict:
    kind, _, data = url.removeprefix("data:").partition(";base64,")
    return {"data": data, "mimeType": kind}


def _frame(message: dict) -> bytes:
    data = json.dumps(message).encode()
    return struct.pack(">BI", 0, len(data)) + data


def _short(said: str) -> str:
    return said[:500] or "no reason given"
