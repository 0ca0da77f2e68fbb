"""Cursor's Cloud Agents API v1: a prompt becomes an agent's run, the run's stream becomes events.

An agent is made without a repository, under an id of our own, and deleted when the reply is over unless
it is released. A stream that is cut is taken up where it was; what has been said is never said twice.
https://cursor.com/docs/cloud-agent/api/endpoints
"""

import logging
import random
import time
import uuid
from datetime import datetime, timezone
from io import StringIO
from pathlib import Path
from queue import SimpleQueue
from urllib.parse import quote

from ..errors import ApiError, UpstreamCut, UpstreamError, UpstreamTimeout
from ..events import Event, Finish, Reasoning, Text, Usage
from ..prompt import Prompt
from .cursor import AGAIN_S, key_refused, limit_reached, picture, request_refused, run_failed, shown
from .http import Exchange, Http, Limits, json_object, retry_after
from .run import Run, Runs
from .sse import Decoder, Frame
from .usage import usage_of

log = logging.getLogger("cursor2api")

AGENT_NAME = "cursor2api/reply"  # by it a start knows what an earlier one left
TERMINAL = "FINISHED", "ERROR", "CANCELLED", "EXPIRED"
ATTEMPTS = 3          # of one call, before a byte has left
BUSY_ATTEMPTS = 6     # of a follow-up: an agent can be busy for some seconds after its run
RECONNECTS = 6        # of one run's stream, without anything new
SHORT_RETRY_AFTER = 5
LONGEST_PAUSE_S = 30.0
LOOK_UP_S = TIDY_S = 30
SPEECH = {"assistant": Text, "thinking": Reasoning}
HEARD = {*SPEECH, "interaction_update", "result", "error", "done"}  # what else a stream says adds nothing
FATAL = "unauthorized", "forbidden", "not_found"
DROPPED = {"stream_expired", "stream_unavailable", "upstream_unreachable", "upstream_error",
           "internal_error"}


class Cloud:
    """The adapter. `name` is what the caller is told the upstream is."""

    def __init__(self, base_url: str, api_key: str, limits: Limits, *, pool: int = 64,
                 name: str = "cloud"):
        self.name = name
        self.http = Http(base_url, {"Authorization": f"Bearer {api_key}", "User-Agent": "cursor2api"},
                         limits, pool)
        self._runs = Runs(2 * pool)  # agents are still being made when their callers have left

    def models(self, key: str = "") -> list:
        """Cursor's model objects: {"id", "aliases"?, "parameters"?, "variants"?, ...}."""
        items = self._get("/v1/models", key).get("items")
        if not isinstance(items, list):
            raise UpstreamError("Cursor's model list is not in the documented form")
        return [item if isinstance(item, dict) else {"id": item} for item in items]

    def open(self, prompt: Prompt, key: str = "", agent: str = "", queue: SimpleQueue | None = None) -> Run:
        return self._runs.start(Agent(self.http, key, agent), prompt, queue)

    def delete(self, agent: str) -> None:
        """Deletes a released agent, off the request's path."""
        self._runs.do(agent, Agent(self.http, name=agent).delete)

    def sweep(self, age: float) -> None:
        """Deletes this service's agents that are older than `age` seconds and do not run.

        A crash left them: whoever ends in good order leaves none. Younger ones may be at work elsewhere.
        """
        found = self._mine()
        old = [agent for agent in found if _age(agent) > age and not self._is_at_work(agent)]
        if found:
            log.info("agents left by a crash, or at work", extra={"facts": {
                "found": len(found), "deleting": " ".join(agent["id"] for agent in old) or 0,
                "older_than_s": round(age)}})
        for agent in old:
            Agent(self.http, name=agent["id"]).delete()

    def left(self) -> set[str]:
        """Ids of all agents of this service at Cursor, those at work too."""
        return {agent["id"] for agent in self._mine()}

    def share(self, folder: Path | None) -> None:
        """Workers have nothing in common but what is at Cursor."""

    def retire(self) -> None:
        """Nobody else uses anything of this process."""

    def close(self, seconds: float) -> None:
        """Returns when nothing is left running at Cursor, or after that time."""
        for agent in self._runs.finish(seconds):
            log.warning("left at cursor", extra={"facts": {"agent": agent, "reason": "no time"}})
        self.http.close()

    def _mine(self) -> list[dict]:
        found, cursor = [], ""
        while cursor is not None:
            page = self._get(f"/v1/agents?limit=100&includeArchived=true{cursor and '&cursor='}{cursor}")
            found += [agent for agent in page.get("items") or [] if agent.get("name") == AGENT_NAME]
            cursor = quote(page["nextCursor"]) if page.get("nextCursor") else None
        return found

    def _is_at_work(self, agent: dict) -> bool:
        if agent.get("status") != "ACTIVE" or not agent.get("latestRunId"):
            return False
        run = self._get(f"/v1/agents/{quote(agent['id'])}/runs/{quote(agent['latestRunId'])}")
        return run.get("status") not in TERMINAL

    def _get(self, path: str, key: str = "") -> dict:
        answer = self.http.call("GET", path, headers=_auth(key), timeout=LOOK_UP_S)
        if answer.status_code != 200:
            raise refusal(answer, own=bool(key))
        return answer.object


class Agent:
    """An agent at Cursor. Its first answer makes it, unless `name` is that of one that is there: its id, a
    slash, and the id of its last run. `key` is the caller's own, "" for the gateway's."""

    def __init__(self, http: Http, key: str = "", name: str = ""):
        self._http, self._auth, self._own = http, _auth(key), bool(key)
        self._id, _, self._run_id = (name or f"bc-{uuid.uuid4()}").partition("/")
        self._path = f"/v1/agents/{quote(self._id)}"
        self._asked = bool(name)  # there may be something to delete
        self._coming = False      # Cursor was asked to make it and has not answered
        self._heard: Transcript | None = None  # of the last run that was begun here

    @property
    def name(self) -> str:
        return f"{self._id}/{self._run_id}"

    def answer(self, run: Run) -> None:
        """Has Cursor make a run of the prompt, and says what it says. Raises ApiError and Ended."""
        self._cancel()
        self._run_id = self._begin(run)
        self._heard = Transcript(self._heard.usage if self._heard else Usage(0, 0))
        run.check()  # the caller may have left while the agent was being made
        self._follow(run, self._heard)

    def delete(self) -> None:
        """Nothing of it is left at Cursor. A failure is logged, since nobody waits for it."""
        self._cancel()
        if self._asked:
            self._tidy("DELETE", self._path)

    def leave(self) -> None:
        """Nothing is held of an agent that waits."""

    def _cancel(self) -> None:
        """Ends the run that may still go on."""
        if self._heard and not self._heard.over:
            self._heard.over = True
            self._tidy("POST", f"{self._path}/runs/{quote(self._run_id)}/cancel")

    def _tidy(self, method: str, path: str) -> None:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                answer = self._http.call(method, path, headers=self._auth, timeout=TIDY_S)
                if answer.status_code < 500 and answer.status_code not in (429, self._coming and 404):
                    return  # done, or gone, or over already
                reason = answer.status_code
            except ApiError as error:
                reason = error.code
            if attempt < ATTEMPTS:
                time.sleep(self._backoff(attempt))
        log.warning("left at cursor", extra={"facts": {"path": path, "method": method, "reason": reason}})

    # What is asked ------------------------------------------------------------------------------

    def _begin(self, run: Run) -> str:
        """The id of the run that Cursor has made of the prompt, together with the agent if that is not there."""
        prompt = run.take_prompt()
        path, body = f"{self._path}/runs", {"prompt": _prompt(prompt)}
        if not self._run_id:
            path, self._asked, self._coming = "/v1/agents", True, True
            body |= {"agentId": self._id, "name": AGENT_NAME, "env": {"type": "cloud"}, "repos": [],
                     "model": {"id": prompt.model}}
            if prompt.params:
                body["model"]["params"] = [{"id": id, "value": value} for id, value in prompt.params]
        answer = self._ask(run, "POST", path, begins=True, json=body)
        self._coming = False
        begun = answer.object.get("run")
        if not isinstance(begun, dict):  # agent_id_conflict, or a cut answer: the POST did reach Cursor
            try:
                begun = {"id": self._ask(run, "GET", self._path).object.get("latestRunId")}
            except UpstreamError as error:
                raise UpstreamError("Cursor's answer names no run, and it knows of none") from error
        if not isinstance(begun.get("id"), str) or begun["id"] == self._run_id:
            raise UpstreamError("Cursor's answer names no run")
        return begun["id"]

    def _ask(self, run: Run, method: str, path: str, *, begins: bool = False, **options) -> Exchange:
        """A call with retries. Raises a refusal, UpstreamError, and Ended.

        One that `begins` a run is patient, since only its answer says what there is to end; that the agent is
        there is an answer to it if it was sent before, and an agent that has a new run has taken the prompt.
        """
        if begins:
            options |= {"patient": True, "timeout": self._http.limits.create, "late": "create_timeout"}
        headers = self._auth | options.pop("headers", {})
        for attempt in range(1, BUSY_ATTEMPTS + 1):
            try:
                answer = self._http.call(method, path, headers=headers, owner=run, **options)
            except UpstreamTimeout:
                raise
            except UpstreamError as failure:
                error, pause = failure, None
                if failure.code == "upstream_unreachable" and attempt < ATTEMPTS:
                    pause = self._backoff(attempt)
            else:
                error = refusal(answer, own=self._own) if answer.status_code >= 400 else None
                if error is None or begins and attempt > 1 and error.code == "agent_id_conflict":
                    return answer
                pause = self._pause(answer, error, attempt, begins and bool(self._run_id))
            if pause is None:
                raise error
            log.debug("upstream retry", extra={"facts": {"attempt": attempt, "method": method, "code": error.code,
                                                         "wait_s": round(pause, 6)}})
            run.pause(pause)
            if begins and self._run_id:
                answer = self._ask(run, "GET", self._path)
                if answer.object.get("latestRunId") not in (self._run_id, None):
                    return answer

    def _pause(self, answer: Exchange, error: ApiError, attempt: int, follows: bool) -> float | None:
        """Seconds until a refused call may be sent again; None if it may not."""
        busy = error.code == "agent_busy"
        if attempt >= (BUSY_ATTEMPTS if busy and follows else ATTEMPTS):
            return None
        if answer.status_code in (500, 502, 503, 504) or busy:
            return self._backoff(attempt)
        asked = retry_after(answer.headers.get("retry-after", ""))
        if answer.status_code == 429 and asked is not None and asked <= SHORT_RETRY_AFTER:
            return asked
        return None

    def _backoff(self, attempt: int) -> float:
        """Seconds before an attempt that follows this one."""
        return min(LONGEST_PAUSE_S, self._http.limits.retry * 2 ** (attempt - 1)) * random.uniform(0.75, 1.25)

    # What is heard ------------------------------------------------------------------------------

    def _follow(self, run: Run, heard: "Transcript") -> None:
        """Says the run's events, over as many connections as it takes."""
        path, fails = f"{self._path}/runs/{quote(self._run_id)}", 0
        while not heard.over:
            before = heard.size
            headers = {"Accept": "text/event-stream"} | (
                {"Last-Event-ID": heard.resume_id} if heard.resume_id else {})
            try:
                answer = self._ask(run, "GET", f"{path}/stream", headers=headers, stream=True)
            except UpstreamError as error:
                if error.code == "invalid_last_event_id" and heard.resume_id:
                    heard.resume_id = ""
                    continue
                if error.code not in DROPPED:
                    raise
            else:
                run.accept()
                self._read(run, heard, answer)
                if heard.over:
                    return
            state = self._ask(run, "GET", path).object
            run.accept()
            if state.get("status") in TERMINAL:
                run.say(*heard.end(state, streamed=False))
                return
            fails = fails + 1 if heard.size == before else 0
            if fails > RECONNECTS:
                raise UpstreamCut("Cursor's stream was cut and could not be taken up again")
            run.pause(self._backoff(max(1, fails)))

    def _read(self, run: Run, heard: "Transcript", answer: Exchange) -> None:
        """Says what comes over one connection, until the run is over or the stream has dropped."""
        decoder = Decoder()
        heard.connect()
        try:
            while not heard.over and not heard.dropped and (data := answer.read()):
                events: list[Event] = []
                try:
                    for frame in decoder.feed(data):
                        events += heard.take(frame)
                        if heard.over or heard.dropped:
                            break
                finally:
                    if events:
                        run.say(*events)
            if heard.over:
                answer.finish()
        finally:
            answer.close()


class Transcript:
    """What Cursor has said of one run, over as many connections as it takes: frames become events, and what
    has been said is never said twice. `usage` counts the runs before it too."""

    def __init__(self, usage: Usage):
        self.usage = self._usage_before = usage
        self.over = False     # the run is
        self.dropped = False  # the connection has said its last, and the run has not
        self.resume_id = ""   # where a new connection goes on
        self._first = True    # no frame of this connection has come
        self._first_id = ""
        self._said = {Text: 0, Reasoning: 0}  # characters
        self._skip = dict(self._said)         # characters that this connection says again
        self._last_id = {Text: "", Reasoning: ""}
        self._turns: set[str] = set()  # ids of the turns whose usage is counted
        self._text = StringIO()

    @property
    def size(self) -> int:
        """Characters that have been said."""
        return sum(self._said.values())

    def connect(self) -> None:
        """What is taken next comes over a new connection."""
        self._first, self.dropped = True, False
        self._skip = {Text: 0, Reasoning: 0}
        if not self.resume_id:
            self._start_again()

    def take(self, frame: Frame) -> list[Event]:
        """The events that a frame adds. Raises UpstreamError if it says that the run has failed."""
        if self._first and frame.id:
            self._first = False
            if self.resume_id and frame.id == self._first_id:  # it did not resume
                self._start_again()
            self._first_id = self._first_id or frame.id
        if frame.event not in HEARD:
            return []
        value = json_object(frame.data)
        if value is None:
            self.dropped = True
        elif frame.event in SPEECH:
            return self._speech(SPEECH[frame.event], value.get("text"), frame.id)
        elif frame.event == "interaction_update":
            self._count(value, frame.id)
        elif frame.event == "result":
            return self.end(value)
        elif frame.event == "error" and value.get("code") in FATAL:
            raise UpstreamError(f"Cursor refused the stream: {shown(value.get('message'))}", code=value["code"])
        else:
            self.dropped = True
        return []

    def end(self, run: dict, streamed: bool = True) -> list[Event]:
        """The last events of a run, from its `result` frame or from the run itself. Raises UpstreamError."""
        self.over = True
        if run.get("status") != "FINISHED":
            detail = run.get("error") if isinstance(run.get("error"), dict) else {}
            raise run_failed(run.get("status"), shown(detail.get("message")))
        result = run.get("text" if streamed else "result")
        rest = ""
        if isinstance(result, str) and not (streamed and self._said[Text]):
            rest = self._rest(result)
        return [*[Text(rest)] * bool(rest), *[self.usage] * bool(self.usage.prompt_tokens), Finish("stop")]

    def _speech(self, kind: type, text: object, id: str) -> list[Event]:
        if id and id == self._last_id[kind]:
            return []  # the same event twice
        # Only a text's id: its twin carries it too, and may come before the text.
        self.resume_id = self._last_id[kind] = id
        text = text if isinstance(text, str) else ""
        if skip := self._skip[kind]:
            self._skip[kind], text = max(0, skip - len(text)), text[skip:]
        if not text:
            return []
        self._said[kind] += len(text)
        if kind is Text:
            self._text.write(text)
        return [kind(text)]

    def _start_again(self) -> None:
        """The stream begins anew: what has been said is skipped, and what was counted is counted again."""
        self._skip = dict(self._said)
        self._last_id = {Text: "", Reasoning: ""}
        self._turns.clear()
        self.usage = self._usage_before

    def _count(self, update: dict, id: str) -> None:
        usage = usage_of(update.get("usage"))
        if update.get("type") != "turn-ended" or usage is None or id in self._turns:
            return
        if id:
            self._turns.add(id)
        self.usage += usage

    def _rest(self, result: str) -> str:
        """What of a run's final message has not been said yet.

        What has been said may begin with interim messages that the final one does not hold.
        """
        said = self._text.getvalue()
        for at in range(max(0, len(said) - len(result)), len(said)):
            if result.startswith(said[at:]):
                return result[len(said) - at:]
        if said:
            raise UpstreamCut("Cursor's stream was cut, and its final text does not go on from there")
        return result


def refusal(answer: Exchange, own: bool = False) -> ApiError:
    """Cursor's refusal as ours, by its status. `own`: the key was the caller's."""
    error = answer.object.get("error")
    error = error if isinstance(error, dict) else answer.object
    code, said = error.get("code"), shown(error.get("message"))
    status = answer.status_code
    code = code if isinstance(code, str) else None
    wait = retry_after(answer.headers.get("retry-after", ""))
    if status in (401, 403):
        return key_refused(said, code, own, status == 403, f" ({status})")
    if status == 429:
        return limit_reached(said, code, wait)
    if status == 400:
        return request_refused(said, code)
    if status in (404, 409, 410):
        return UpstreamError(f"Cursor refused the request ({status}): {said}",
                             code=code or ("stream_expired" if status == 410 else "upstream_refused"),
                             retry_after=AGAIN_S if code == "agent_busy" else None)
    return UpstreamError(f"Cursor failed ({status}): {said}", code=code or "upstream_error",
                         retry_after=wait or AGAIN_S)


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


def _prompt(prompt: Prompt) -> dict:
    images = {"images": [picture(image.url) for image in prompt.images]} if prompt.images else {}
    return {"text": prompt.text, **images}
