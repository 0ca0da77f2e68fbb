"""Any service that speaks the AI SDK UI message stream: a prompt goes as one user message.

We read liberally (no part ids needed, unknown parts skipped), as the services differ.
https://ai-sdk.dev/docs/ai-sdk-ui/stream-protocol
"""

import json
import secrets
from pathlib import Path
from queue import SimpleQueue

from ..errors import UpstreamCut, UpstreamError
from ..events import Event, Finish, Reasoning, Text, Usage
from ..prompt import Prompt
from .http import Exchange, Http, Limits, retry_after
from .run import Run, Runs
from .sse import Decoder
from .usage import usage_of

FINISHES = {"length": "length", "content-filter": "content_filter"}


class UiStream:
    """The adapter; `url` is POSTed to as it stands."""

    name = "uistream"

    def __init__(self, url: str, headers: dict[str, str], limits: Limits, *, pool: int = 64):
        self.http = Http(url, {"User-Agent": "cursor2api", **headers}, limits, pool)
        self._runs = Runs(2 * pool)

    def models(self, key: str = "") -> None:
        """There is no list to ask for."""

    def sweep(self, age: float) -> None:
        """Nothing of a reply outlives its connection."""

    def left(self) -> set[str]:
        """There is nothing that could be left."""
        return set()

    def open(self, prompt: Prompt, key: str = "", queue: SimpleQueue | None = None) -> Run:
        return self._runs.start(Agent(self.http), prompt, queue)

    def share(self, folder: Path | None) -> None:
        """Workers have nothing in common."""

    def retire(self) -> None:
        """Nobody else uses anything of this process."""

    def close(self, seconds: float) -> None:
        self._runs.finish(seconds)
        self.http.close()


class Agent:
    """The conversation with the service, which is told all of it with each message. What ends a reply there is
    the end of its connection."""

    name = "uistream"

    def __init__(self, http: Http):
        self._http = http
        self._chat_id = secrets.token_hex(8)
        self._messages: list[dict] = []
        self._usage: Usage | None = None

    def answer(self, run: Run) -> None:
        answer = self._ask(run)
        if answer.status_code != 200:
            raise _refusal(answer)
        run.accept()
        try:
            self._read(run, answer)
            answer.finish()
        finally:
            answer.close()

    def delete(self) -> None:
        """Nothing outlives the connection."""

    def leave(self) -> None:
        """Nothing outlives the connection."""

    def _ask(self, run: Run) -> Exchange:
        if self._messages:
            self._messages.append({"id": secrets.token_hex(12), "role": "assistant",
                                   "parts": [{"type": "text", "text": run.last_reply}]})
        prompt = run.take_prompt()
        self._messages.append(_message(prompt))
        return self._http.call("POST", "", stream=True, owner=run, headers={"Accept": "text/event-stream"}, json={
            "model": prompt.model, "context": [], "id": self._chat_id, "messages": self._messages,
            "trigger": "submit-message"})

    def _read(self, run: Run, answer: Exchange) -> None:
        decoder, finish, usage, done = Decoder(), None, None, False
        while not done and (data := answer.read()):
            events: list[Event] = []
            try:
                for frame in decoder.feed(data):
                    if done := frame.data == "[DONE]":
                        break
                    part = _part(frame.data)
                    events += _events(part)
                    usage = _usage(part) or usage
                    if done := part.get("type") == "finish":  # the last part: [DONE] may never come
                        finish = part
                        break
            finally:
                if events:
                    run.say(*events)
        if finish is None:
            raise UpstreamCut("The upstream's stream ended without its finish")
        reason = finish.get("finishReason")
        if reason == "error":
            raise UpstreamError("The upstream's reply ended in an error")
        if usage:
            self._usage = self._usage + usage if self._usage else usage
        run.say(*[self._usage] if self._usage else (),
                Finish(FINISHES.get(reason, "stop") if isinstance(reason, str) else "stop"))


def _part(data: str) -> dict:
    """A part of the stream; empty if it is none that could be known."""
    try:
        part = json.loads(data)
    except (ValueError, RecursionError):
        raise UpstreamError("The upstream sent an event that is not JSON") from None
    return part if isinstance(part, dict) else {}


def _usage(part: dict) -> Usage | None:
    """The usage that a part carries; of a reply's parts the last that does has the whole."""
    metadata = part.get("messageMetadata")
    return usage_of(metadata.get("usage")) if isinstance(metadata, dict) else None


def _events(part: dict) -> list[Event]:
    """What a part says. Raises UpstreamError for one that says that the reply has failed."""
    kind, delta = part.get("type"), part.get("delta")
    if kind == "error":
        said = part.get("errorText")
        raise UpstreamError(f"The upstream failed: {said[:500] if isinstance(said, str) else 'no reason given'}")
    if kind == "abort":
        raise UpstreamCut("The upstream ended the reply before its end")
    if kind in ("text-delta", "reasoning-delta") and isinstance(delta, str) and delta:
        return [Text(delta) if kind == "text-delta" else Reasoning(delta)]
    return []


def _message(prompt: Prompt) -> dict:
    parts = [{"type": "text", "text": prompt.text}]
    for image in prompt.images:
        kind = image.url.removeprefix("data:").partition(";")[0] if image.url.startswith(
            "data:") else "image/*"
        parts.append({"type": "file", "mediaType": kind, "url": image.url})
    return {"id": secrets.token_hex(12), "role": "user", "parts": parts}


def _refusal(answer: Exchange) -> UpstreamError:
    status, said = answer.status_code, answer.text[:500]
    if status == 429:
        return UpstreamError(f"The upstream's limit is reached: {said}", status=429, type="requests",
                             code="rate_limit_exceeded",
                             retry_after=retry_after(answer.headers.get("retry-after", "")) or 20)
    if status in (401, 403):
        return UpstreamError(f"The upstream refused the gateway's own credentials ({status}): {said}",
                             code="upstream_key_refused")
    if status == 400:
        return UpstreamError(f"The upstream refused the request: {said}", status=400,
                             type="invalid_request_error", code="upstream_refused")
    return UpstreamError(f"The upstream failed ({status}): {said}",
                         retry_after=5 if status >= 500 else None)
