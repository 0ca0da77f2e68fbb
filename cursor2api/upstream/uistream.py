"""Any service that speaks the AI SDK UI message stream: a prompt goes as one user message.

We read liberally (no part ids needed, unknown parts skipped), as the services differ.
https://ai-sdk.dev/docs/ai-sdk-ui/stream-protocol
"""

import json
import time
from collections.abc import Iterator

from ..errors import UpstreamCut, UpstreamError, UpstreamTimeout
from ..events import Event, Finish, Reasoning, Text, Usage, Waiting
from ..held import token
from ..prompt import Prompt
from . import sse
from .http import Http, Limits, retry_after

FINISHES = {"length": "length", "content-filter": "content_filter"}


class UiStream:
    """The adapter; `url` is POSTed to as it stands."""

    name = "uistream"

    def __init__(self, url: str, headers: dict[str, str], limits: Limits, *, pool: int = 64):
        self.http = Http(url, {"Accept-Encoding": "identity", "User-Agent": "cursor2api", **headers},
                         limits, pool)

    def models(self, key: str = "") -> None:
        """There is no list to ask for."""

    def sweep(self, age: float) -> None:
        """Nothing of a reply outlives its connection."""

    def left(self) -> set[str]:
        """There is nothing that could be left."""
        return set()

    def open(self, plan: Prompt, key: str = "") -> "Stream":
        return Stream(self.http, plan)

    def close(self, seconds: float) -> None:
        self.http.close()


class Stream:
    """One reply, or several after `follow_up`. Ending the connection is what cancels a run here."""

    def __init__(self, http: Http, plan: Prompt):
        self._http = http
        self._chat_id = token()[:16]
        self._messages: list[dict] = []
        self._usage: Usage | None = None
        self._start(plan)

    def _start(self, plan: Prompt) -> None:
        self._messages.append(_message("user", plan))
        self._model = plan.model
        self._answered = False
        self._events = self._steps()

    def __iter__(self) -> Iterator[Event]:
        return self._events

    def wait(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not self._answered and time.monotonic() < deadline:
            next(self._events)
        return self._answered

    def follow_up(self, plan: Prompt, reply: str) -> None:
        """The next events answer `plan`, the conversation so far being sent along."""
        self._events.close()
        self._messages.append({"id": token(), "role": "assistant",
                               "parts": [{"type": "text", "text": reply}]})
        self._start(plan)

    def close(self) -> None:
        self._events.close()

    def _steps(self) -> Iterator[Event]:
        response = yield from self._http.ask("POST", "", stream=True, headers={
            "Accept": "text/event-stream"}, json={
            "model": self._model, "context": [], "id": self._chat_id, "messages": self._messages,
            "trigger": "submit-message"})
        if response.status_code != 200:
            raise _refusal(response)
        self._answered = True
        yield Waiting()  # what `wait` takes; it must be no event that says something
        decoder = sse.Decoder()
        heard = time.monotonic()
        ended = None
        try:
            while (data := response.read()) != b"":
                if data is None:
                    if time.monotonic() - heard > self._http.limits.idle:
                        raise UpstreamTimeout(f"The upstream was silent for "
                                              f"{self._http.limits.idle:g} s", code="idle_timeout")
                    yield Waiting()
                    continue
                heard = time.monotonic()
                for frame in decoder.feed(data):
                    if frame.data == "[DONE]":
                        continue
                    try:
                        part = json.loads(frame.data)
                    except (ValueError, RecursionError):
                        raise UpstreamError("The upstream sent an event that is not JSON") from None
                    if not isinstance(part, dict):
                        continue
                    kind, delta = part.get("type"), part.get("delta")
                    if kind == "text-delta" and isinstance(delta, str) and delta:
                        yield Text(delta)
                    elif kind == "reasoning-delta" and isinstance(delta, str) and delta:
                        yield Reasoning(delta)
                    elif kind == "error":
                        raise UpstreamError(f"The upstream failed: {str(part.get('errorText'))[:500]}")
                    elif kind == "abort":
                        raise UpstreamCut("The upstream ended the reply before its end")
                    elif kind in ("finish", "message-metadata", "start"):
                        self._count(part.get("messageMetadata"))
                        if kind == "finish":
                            ended = part
                yield Waiting()
        finally:
            response.close()
        if ended is None:
            raise UpstreamCut("The upstream's stream ended without its finish")
        if ended.get("finishReason") == "error":
            raise UpstreamError("The upstream's reply ended in an error")
        if self._usage:
            yield self._usage
        yield Finish(FINISHES.get(ended.get("finishReason"), "stop"))

    def _count(self, metadata) -> None:
        usage = metadata.get("usage") if isinstance(metadata, dict) else None
        if isinstance(usage, dict) and all(
                isinstance(usage.get(key), int) for key in ("inputTokens", "outputTokens")):
            before = self._usage or Usage(0, 0)
            self._usage = Usage(before.prompt_tokens + usage["inputTokens"],
                                before.completion_tokens + usage["outputTokens"])


def _message(role: str, plan: Prompt) -> dict:
    parts = [{"type": "text", "text": plan.prompt}]
    for image in plan.images:
        kind = image.url.removeprefix("data:").partition(";")[0] if image.url.startswith(
            "data:") else "image/*"
        parts.append({"type": "file", "mediaType": kind, "url": image.url})
    return {"id": token(), "role": role, "parts": parts}


def _refusal(response) -> UpstreamError:
    status, said = response.status_code, response.text[:500]
    if status == 429:
        return UpstreamError(f"The upstream's limit is reached: {said}", status=429, type="requests",
                             code="rate_limit_exceeded",
                             retry_after=retry_after(response.headers.get("retry-after", "")) or 20)
    if status in (401, 403):
        return UpstreamError(f"The upstream refused the gateway's own credentials ({status}): {said}",
                             code="upstream_key_refused")
    if status == 400:
        return UpstreamError(f"The upstream refused the request: {said}", status=400,
                             type="invalid_request_error", code="upstream_refused")
    return UpstreamError(f"The upstream failed ({status}): {said}",
                         retry_after=5 if status >= 500 else None)
