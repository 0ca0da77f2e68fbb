"""Cursor's Cloud Agents API v1: a prompt becomes an agent's run, the run's stream becomes events.

An agent is made without a repository, under an id of our own, and deleted when the reply is over unless
it is released. A stream that is cut is taken up where it was; what has been said is never said twice.
https://cursor.com/docs/cloud-agent/api/endpoints
"""

import logging
import random
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from io import StringIO
from urllib.parse import quote

from ..errors import ApiError, KeyRefused, UpstreamCut, UpstreamError, UpstreamTimeout
from ..events import Event, Finish, Reasoning, Text, Usage, Waiting
from ..held import uuid
from ..prompt import Prompt
from .cleaner import Cleaner
from . import sse
from .http import TICK, Http, Limits, Response, json_object, retry_after

log = logging.getLogger("cursor2api")

AGENT_NAME = "cursor2api/reply"  # by it a start knows what an earlier one left
TERMINAL = {"FINISHED", "ERROR", "CANCELLED", "EXPIRED"}
ATTEMPTS = 3          # of one request, before a byte has left
BUSY_ATTEMPTS = 6     # of a follow-up: an agent can be busy for some seconds after its run
RECONNECTS = 6        # of one run's stream, without anything new
SHORT_RETRY_AFTER = 5
EVENTS = {"assistant": Text, "thinking": Reasoning, "interaction_update": None, "result": None,
          "error": None, "done": None}
FATAL = {"unauthorized", "forbidden", "not_found"}
DROPPED = {"stream_expired", "stream_unavailable", "upstream_unreachable", "upstream_error",
           "internal_error"}


class Cloud:
    """The adapter. `name` is what the caller is told the upstream is."""

    def __init__(self, base_url: str, api_key: str, limits: Limits, *, pool: int = 64,
                 name: str = "cloud"):
        self.name = name
        self.http = Http(base_url, {"Authorization": f"Bearer {api_key}", "Accept-Encoding": "identity",
                                    "User-Agent": "cursor2api"}, limits, pool)
        self._cleaner = Cleaner(4)
        # Of agents that are still being made when their callers leave; no other end waits for such a boot.
        self._late_cleaner = Cleaner(16, "late-cleaner")
        self.closing = False
        self._streams: set[Stream] = set()

    def models(self, key: str = "") -> list:
        """Cursor's model objects: {"id", "aliases"?, "parameters"?, "variants"?, ...}."""
        items = self._get("/v1/models", key).get("items")
        if not isinstance(items, list):
            raise UpstreamError("Cursor's model list is not in the documented form")
        return [item if isinstance(item, dict) else {"id": item} for item in items]

    def open(self, plan: Prompt, key: str = "", agent: str = "") -> "Stream":
        stream = Stream(self, plan, key, agent)
        self._streams.add(stream)
        return stream

    def sweep(self, age: float) -> None:
        """Deletes this service's agents that are older than `age` seconds and do not run.

        A crash left them: whoever ends in good order leaves none. Younger ones may be at work elsewhere.
        """
        found = self._mine()
        old = [agent for agent in found if _age(agent) > age and not self._runs(agent)]
        if found:
            log.info("agents left by a crash, or at work", extra={"facts": {
                "found": len(found), "deleting": " ".join(agent["id"] for agent in old) or 0,
                "older_than_s": round(age)}})
        for agent in old:
            self.tidy("DELETE", f"/v1/agents/{quote(agent['id'])}")

    def left(self) -> set[str]:
        """Ids of all agents of this service at Cursor, those at work too."""
        return {agent["id"] for agent in self._mine()}

    def _mine(self) -> list[dict]:
        found, cursor = [], ""
        while cursor is not None:
            page = self._get(f"/v1/agents?limit=100&includeArchived=true{cursor and '&cursor='}{cursor}")
            found += [agent for agent in page.get("items") or [] if agent.get("name") == AGENT_NAME]
            cursor = quote(page["nextCursor"]) if page.get("nextCursor") else None
        return found

    def _runs(self, agent: dict) -> bool:
        if agent.get("status") != "ACTIVE" or not agent.get("latestRunId"):
            return False
        run = self._get(f"/v1/agents/{quote(agent['id'])}/runs/{quote(agent['latestRunId'])}")
        return run.get("status") not in TERMINAL

    def _get(self, path: str, key: str = "") -> dict:
        response = self.http.call("GET", path, headers=_auth(key), timeout=30)
        if response.status_code != 200:
            raise refusal(response, own=bool(key))
        return response.object

    def dispose(self, stream: "Stream") -> None:
        """Ends what the stream has running at Cursor, off the request's path."""
        if stream in self._streams:
            self._streams.discard(stream)
            (self._late_cleaner if stream.creating else self._cleaner).submit(stream.path, stream.dispose)

    def release(self, stream: "Stream") -> None:
        """The stream's agent is no longer its own: nothing is ended when it closes."""
        self._streams.discard(stream)

    def delete(self, agent: str) -> None:
        """Deletes a released agent, off the request's path."""
        path = f"/v1/agents/{agent.partition('/')[0]}"
        self._cleaner.submit(path, self.tidy, "DELETE", path)

    def tidy(self, method: str, path: str, headers: dict[str, str] | None = None, coming: bool = False) -> None:
        """Ends or deletes something, which may still be `coming`; a failure is logged."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                response = self.http.call(method, path, headers=headers, timeout=30)
                if response.status_code < 500 and response.status_code not in (429, coming and 404):
                    return  # done, or gone, or over already
                reason = response.status_code
            except ApiError as error:
                reason = error.code
            if attempt < ATTEMPTS:
                time.sleep(self.backoff(attempt))
        log.warning("left at cursor", extra={"facts": {"path": path, "method": method, "reason": reason}})

    def backoff(self, attempt: int) -> float:
        """Seconds before an attempt that follows this one."""
        return min(30.0, self.http.limits.retry * 2 ** (attempt - 1)) * random.uniform(0.75, 1.25)

    def close(self, seconds: float) -> None:
        """Returns when nothing is left running at Cursor, or after that time."""
        self.closing, end = True, time.monotonic() + seconds
        for stream in list(self._streams):
            self.dispose(stream)
        for cleaner in (self._cleaner, self._late_cleaner):
            for path in cleaner.finish(end - time.monotonic()):
                log.warning("left at cursor", extra={"facts": {"path": path, "reason": "no time"}})
        self.http.close()


class Stream:
    """One reply, or several on one agent after `follow_up`."""

    def __init__(self, cloud: Cloud, plan: Prompt, key: str, agent: str):
        self._cloud, self._http = cloud, cloud.http
        self._auth, self._own = _auth(key), bool(key)
        self._agent, _, last_run = agent.partition("/") if agent else (f"bc-{uuid()}", "", "")
        self.path = f"/v1/agents/{self._agent}"
        self.creating: Iterator[Response | None] | None = None
        self._usage = Usage(0, 0)
        self._start(last_run)
        self._events = self._steps(self._create(plan))

    def _start(self, last_run: str) -> None:
        self._last_run = last_run  # "" for an agent that is still to be made
        self._run_id: str | None = None
        self._over = False   # the run is; its last words may still have to leave
        self._whole = False  # its Finish has left
        self._answered = False
        self._said = {Text: 0, Reasoning: 0}  # characters that have left
        self._text = StringIO()
        self._resume_id = self._first_id = ""
        self._usage_before = self._usage
        self._turns: set[str] = set()  # ids of the turns whose usage is counted
        self._last_id = {Text: "", Reasoning: ""}

    def __iter__(self) -> Iterator[Event]:
        return self._events

    def wait(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not self._answered and time.monotonic() < deadline:
            next(self._events)
        return self._answered

    def follow_up(self, plan: Prompt, reply: str) -> None:
        """The next events answer `plan` by a run on the same agent, which knows its `reply`."""
        self._events.close()
        self._events = self._again(plan)

    def close(self) -> None:
        self._events.close()
        self._cloud.dispose(self)

    def ended(self, seconds: float) -> bool:
        """Whether its Finish has come, or comes within that time without another word before it."""
        deadline = time.monotonic() + seconds
        try:
            while not self._whole and time.monotonic() < deadline:
                event = next(self._events)
                if type(event) is Text and event.text.strip():
                    return False
        except ApiError:
            return False
        return self._whole

    def release(self) -> str:
        """Leaves the agent alone from now on; what to call it by: its id and that of its last run."""
        self._cloud.release(self)
        return f"{self._agent}/{self._run_id}"

    # What is sent ------------------------------------------------------------------------------

    def _again(self, plan: Prompt) -> Iterator[Event]:
        if self._run_id and not self._over:
            try:
                yield from self._ask("POST", f"{self.path}/runs/{quote(self._run_id)}/cancel", timeout=30)
            except ApiError as error:  # the agent tells whether it is still busy
                log.debug("a run could not be cancelled: %s", error.code)
        self._start(self._run_id)
        yield from self._steps(self._create(plan))

    def _steps(self, creation: Iterator[Event]) -> Iterator[Event]:
        yield from creation  # which then holds the prompt no more
        yield from self._follow()
        self._over = True

    def _create(self, plan: Prompt) -> Iterator[Event]:
        prompt = {"text": plan.prompt}
        if plan.images:
            prompt["images"] = [_image(image.url) for image in plan.images]
        body = {"prompt": prompt}
        path = f"{self.path}/runs"
        if not self._last_run:
            path = "/v1/agents"
            body |= {"agentId": self._agent, "name": AGENT_NAME, "env": {"type": "cloud"}, "repos": [],
                     "model": {"id": plan.model}}
            if plan.params:
                body["model"]["params"] = [{"id": id, "value": value} for id, value in plan.params]
        response = yield from self._ask("POST", path, json=body, posts=True)
        run = response.object.get("run")
        if not isinstance(run, dict):  # agent_id_conflict, or a cut answer: the POST did reach Cursor
            try:
                response = yield from self._ask("GET", self.path)
            except UpstreamError as error:
                raise UpstreamError("Cursor's answer names no run, and it knows of none") from error
            run = {"id": response.object.get("latestRunId")}
        if not isinstance(run.get("id"), str) or run["id"] == self._last_run:
            raise UpstreamError("Cursor's answer names no run")
        self._run_id = run["id"]

    def _ask(self, method: str, path: str, *, posts: bool = False, **options) -> Iterator[Waiting]:
        """A request with retries; the response is what the generator returns, a refusal is raised.

        `posts` marks the request that starts a run: its own conflict is an answer, not a refusal.
        """
        if posts:
            options |= {"abandoned": self._abandoned, "timeout": self._http.limits.create,
                        "late": "create_timeout"}
        headers = self._auth | options.pop("headers", {})
        for attempt in range(1, BUSY_ATTEMPTS + 1):
            try:
                response = yield from self._http.ask(method, path, headers=headers, **options)
            except UpstreamTimeout:
                raise
            except UpstreamError as error:
                if attempt >= ATTEMPTS or error.code != "upstream_unreachable":
                    raise
                pause, code = self._cloud.backoff(attempt), error.code
            else:
                if response.status_code < 400:
                    return response
                error = refusal(response, own=self._own)
                if posts and attempt > 1 and error.code == "agent_id_conflict":
                    return response
                pause, code = self._pause(response, error, attempt), error.code
                busy = posts and self._last_run and code == "agent_busy"
                if attempt >= (BUSY_ATTEMPTS if busy else ATTEMPTS) or pause is None:
                    raise error
            log.debug("upstream retry", extra={"facts": {"attempt": attempt, "method": method, "code": code,
                                                         "wait_s": round(pause, 6)}})
            yield from _sleep(pause)
            if posts and self._last_run:  # an agent would take the same again for a second message
                response = yield from self._ask("GET", self.path)
                if response.object.get("latestRunId") not in (self._last_run, None):
                    return response

    def _pause(self, response: Response, error: UpstreamError, attempt: int) -> float | None:
        """Seconds until a refused request may be sent again; None if it may not."""
        if response.status_code in (500, 502, 503, 504) or error.code == "agent_busy":
            return self._cloud.backoff(attempt)
        asked = retry_after(response.headers.get("retry-after", ""))
        if response.status_code == 429 and asked is not None and asked <= SHORT_RETRY_AFTER:
            return asked
        return None

    def _abandoned(self, creating: Iterator[Response | None]) -> None:
        # The caller left while Cursor was starting the agent: it will exist, so wait and delete it.
        self.creating = creating

    def dispose(self) -> None:
        """Ends the run and deletes the agent; a cleaning that fails is logged, nobody waits for it."""
        run_id, coming = self._run_id, False
        try:
            for response in self.creating or ():
                if response is not None:
                    run_id = (response.object.get("run") or {}).get("id")
                elif self._cloud.closing:  # no time to wait for its answer, but the agent's id is ours
                    coming = True
                    break
        except ApiError as error:
            log.debug("agent creation failed after its caller had left: %s", error.code)
        if run_id and not self._over:
            self._cloud.tidy("POST", f"{self.path}/runs/{quote(run_id)}/cancel", self._auth)
        self._cloud.tidy("DELETE", self.path, self._auth, coming)

    # What is read ------------------------------------------------------------------------------

    def _follow(self) -> Iterator[Event]:
        """The run's events, over as many connections as it takes."""
        path = f"{self.path}/runs/{quote(self._run_id)}"
        fails = 0
        while True:
            said = dict(self._said)
            headers = {"Accept": "text/event-stream"}
            if self._resume_id:
                headers["Last-Event-ID"] = self._resume_id
            try:
                response = yield from self._ask("GET", f"{path}/stream", headers=headers, stream=True)
            except UpstreamError as error:
                if error.code == "invalid_last_event_id" and self._resume_id:
                    self._resume_id = ""
                    continue
                if error.code not in DROPPED:
                    raise
            else:
                self._answered = True
                yield Waiting()  # what `wait` takes; it must be no event that says something
                yield from self._read(response)
                if self._over:
                    return
            run = (yield from self._ask("GET", path)).object
            self._answered = True
            yield Waiting()
            if run.get("status") in TERMINAL:
                yield from self._result(run, streamed=False)
                return
            fails = fails + 1 if said == self._said else 0
            if fails > RECONNECTS:
                raise UpstreamCut("Cursor's stream was cut and could not be taken up again")
            yield from _sleep(self._cloud.backoff(max(1, fails)))

    def _read(self, response: Response) -> Iterator[Event]:
        """The events of one connection; `_over` is set if the run ended, else the stream was dropped."""
        decoder = sse.Decoder()
        first = True
        skip = self._replay() if not self._resume_id else {Text: 0, Reasoning: 0}
        heard = time.monotonic()
        try:
            while (data := response.read()) != b"":
                if data is None:
                    if time.monotonic() - heard > self._http.limits.idle:
                        raise UpstreamTimeout(f"Cursor was silent for {self._http.limits.idle:g} s",
                                              code="idle_timeout")
                    yield Waiting()
                    continue
                heard = time.monotonic()
                for frame in decoder.feed(data):
                    if first and frame.id:
                        first = False
                        if self._resume_id and frame.id == self._first_id:  # it did not resume
                            skip = self._replay()
                        self._first_id = self._first_id or frame.id
                    if frame.event not in EVENTS:
                        continue
                    if (value := json_object(frame.data)) is None:
                        return  # the stream counts as dropped
                    kind = EVENTS[frame.event]
                    if kind:
                        if frame.id and frame.id == self._last_id[kind]:
                            continue  # the same event twice
                        # Only a text's id: its twin carries it too, and may come before the text.
                        self._resume_id = self._last_id[kind] = frame.id
                        text = value.get("text")
                        text = text if isinstance(text, str) else ""
                        if skip[kind]:
                            skip[kind], text = max(0, skip[kind] - len(text)), text[skip[kind]:]
                        if text:
                            self._said[kind] += len(text)
                            if kind is Text:
                                self._text.write(text)
                            yield kind(text)
                    elif frame.event == "interaction_update":
                        self._count(value, frame.id)
                    elif frame.event == "result":
                        yield from self._result(value)
                        return
                    elif frame.event == "error" and value.get("code") in FATAL:
                        raise UpstreamError(f"Cursor refused the stream: {_said(value)}",
                                            code=value["code"])
                    else:
                        return
                yield Waiting()
        finally:
            response.close()

    def _replay(self) -> dict:
        """The stream starts again from its first event: characters to skip of what has left."""
        self._last_id = {Text: "", Reasoning: ""}
        self._turns.clear()
        self._usage = self._usage_before
        return dict(self._said)

    def _count(self, update: dict, id: str) -> None:
        usage = update.get("usage")
        if update.get("type") != "turn-ended" or not isinstance(usage, dict) or id in self._turns:
            return
        if id:
            self._turns.add(id)
        read, wrote, cached, kept, thought = (
            usage.get(key) if isinstance(usage.get(key), int) else 0 for key in (
                "inputTokens", "outputTokens", "cacheReadTokens", "cacheWriteTokens", "reasoningTokens"))
        self._usage = Usage(self._usage.prompt_tokens + read + cached + kept,
                            self._usage.completion_tokens + wrote,
                            self._usage.reasoning_tokens + thought, self._usage.cached_tokens + cached)

    def _result(self, run: dict, streamed: bool = True) -> Iterator[Event]:
        """The end of a run, from its `result` frame or from the run itself."""
        self._over = True
        status = run.get("status")
        if status == "FINISHED":
            result = run.get("text" if streamed else "result")
            if isinstance(result, str) and not (streamed and self._text.tell()):
                if rest := self._rest(result):
                    yield Text(rest)
            if self._usage.prompt_tokens:
                yield self._usage
            self._whole = True
            yield Finish("stop")
            return
        code = {"CANCELLED": "run_cancelled", "EXPIRED": "run_expired"}.get(status, "run_failed")
        detail = run.get("error") if isinstance(run.get("error"), dict) else {}
        raise UpstreamError(f"Cursor's run ended as {status}: {_said(detail)}", code=code,
                            retry_after=5 if code != "run_failed" else None)

    def _rest(self, result: str) -> str:
        """What of a run's final message has not left yet.

        What has left may begin with interim messages that the final one does not hold.
        """
        said = self._text.getvalue()
        for at in range(max(0, len(said) - len(result)), len(said)):
            if result.startswith(said[at:]):
                return result[len(said) - at:]
        if said:
            raise UpstreamCut("Cursor's stream was cut, and its final text does not go on from there")
        return result


def refusal(response: Response, own: bool = False) -> ApiError:
    """Cursor's refusal as ours: trouble with the gateway's key is ours to mend (502), its limits are the
    caller's, and so is trouble with a key of the caller's `own`."""
    error = response.object.get("error")
    error = error if isinstance(error, dict) else response.object
    code, said = error.get("code"), _said(error)
    status = response.status_code
    code = code if isinstance(code, str) else None
    wait = retry_after(response.headers.get("retry-after", ""))
    if status in (401, 403) and own:
        return UpstreamError(f"Cursor refused your key or account ({status}): {said}", status=status,
                             type="authentication_error" if status == 401 else "permission_error",
                             code="invalid_api_key" if status == 401 else code)
    if status in (401, 403):
        return KeyRefused(f"Cursor refused the gateway's own key or account ({status}): {said}",
                          code=code or "upstream_key_refused")
    if status == 429:
        return UpstreamError(f"Cursor's limit is reached: {said}", status=429, type="requests",
                             code=code or "rate_limit_exceeded", retry_after=wait or 20)
    if status == 400:
        return UpstreamError(f"Cursor refused the request: {said}", status=400,
                             type="invalid_request_error", code=code or "upstream_refused")
    if status in (404, 409, 410):
        return UpstreamError(f"Cursor refused the request ({status}): {said}",
                             code=code or ("stream_expired" if status == 410 else "upstream_refused"),
                             retry_after=5 if code == "agent_busy" else None)
    return UpstreamError(f"Cursor failed ({status}): {said}", code=code or "upstream_error",
                         retry_after=wait or 5)


def _auth(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"} if key else {}


def _age(agent: dict) -> float:
    """Seconds since an agent was last at work; 0 if that is not known."""
    try:
        last = agent.get("updatedAt") or agent.get("createdAt")
        made = datetime.fromisoformat(str(last).replace("Z", "+00:00"))
        return (datetime.now(timezone.utc) - made).total_seconds()
    except (ValueError, TypeError):
        return 0.0


def _sleep(seconds: float) -> Iterator[Waiting]:
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        time.sleep(min(left, TICK))
        yield Waiting()


def _said(error: dict) -> str:
    message = error.get("message")
    return message[:500] if isinstance(message, str) and message else "no reason given"


def _image(url: str) -> dict:
    if not url.startswith("data:"):
        return {"url": url}
    kind, _, data = url.removeprefix("data:").partition(";base64,")
    return {"data": data, "mimeType": kind}
