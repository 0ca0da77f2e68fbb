"""A reply's events to the events of Anthropic's stream, or to a message.

A stream is message_start, blocks, message_delta, message_stop. Blocks have the indices 0, 1, 2, .. and one is open
at a time: an event of another kind closes it and opens the next. Each frame has its `event:` line, without which
clients see nothing.
"""

import json
from collections.abc import Sequence
from json.encoder import encode_basestring_ascii

from ...chat import Chat, WholeCall
from ...errors import ApiError
from ...events import Event, Finish, Reasoning, Text, ToolCall, Usage
from ...fold import ReplySoFar
from .. import Answer, Frame, Identity

SIGNATURE = "cursor2api"  # of thinking; a block must have one, and it is never checked here
STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}
ERROR_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 408: "timeout_error",
               413: "request_too_large", 429: "rate_limit_error", 504: "timeout_error", 529: "overloaded_error"}


class MessageWriter:
    """One reply. Its thinking is shown if there are events of it."""

    def __init__(self, identity: Identity, chat: Chat, wishes: None):
        self._identity = identity
        self._index = -1  # of the last block
        self._open: type[Event] | None = None  # what the open block is made of
        self._thought: list[Reasoning] = []  # came within a call, which goes on
        self._finish: Finish | None = None

    def begin(self) -> list[Frame]:
        usage = Usage(self._identity.prompt_tokens, 0)
        return [_frame("message_start", message=self._message([], None, usage))]

    def add(self, index: int, event: Event) -> list[Frame]:
        kind = type(event)
        if kind is Text:
            frames = [] if self._open is Text else self._next(Text, {"type": "text", "text": ""})
            # A template, because a reply is mostly these.
            return [*frames, Frame(
                f'{{"type":"content_block_delta","index":{self._index},"delta":{{"type":"text_delta",'
                f'"text":{encode_basestring_ascii(event.text)}}}}}', "content_block_delta")]
        if kind is Reasoning:
            if self._open is ToolCall:
                self._thought.append(event)
                return []
            frames = [] if self._open is Reasoning else self._next(
                Reasoning, {"type": "thinking", "thinking": "", "signature": ""})
            return [*frames, self._delta(type="thinking_delta", thinking=event.text)]
        if kind is ToolCall:
            frames = [] if event.id is None else self._next(
                ToolCall, {"type": "tool_use", "id": event.id, "name": event.name, "input": {}})
            return frames + ([self._delta(type="input_json_delta", partial_json=event.arguments)]
                             if event.arguments else [])
        if kind is Finish:
            self._finish = event
            return self._close()
        return []  # of Usage, which `end` has

    def end(self, usage: Usage) -> list[Frame]:
        return [_frame("message_delta", delta=_end(self._finish), usage=_usage(usage)), _frame("message_stop")]

    def fail(self, error: ApiError) -> list[Frame]:
        return [Frame(json.dumps(refusal(error, self._identity.request).body), "error")]

    def heartbeat(self) -> Frame:
        return _frame("ping")

    def body(self, replies: Sequence[ReplySoFar], usage: Usage) -> dict:
        """The message. A call that was cut is not in it; its pieces in a stream are no JSON."""
        return self._message([_block(part) for part in replies[0].parts], replies[0].finish, usage)

    def _message(self, content: list[dict], finish: Finish | None, usage: Usage) -> dict:
        return {"id": f"msg_{self._identity.token}", "type": "message", "role": "assistant",
                "model": self._identity.model, "content": content, **_end(finish), "container": None,
                "usage": _usage(usage)}

    def _next(self, kind: type[Event], block: dict) -> list[Frame]:
        frames = self._close()
        self._open, self._index = kind, self._index + 1
        return [*frames, _frame("content_block_start", index=self._index, content_block=block)]

    def _close(self) -> list[Frame]:
        if self._open is None:
            return []
        frames = [self._delta(type="signature_delta", signature=SIGNATURE)] if self._open is Reasoning else []
        frames.append(_frame("content_block_stop", index=self._index))
        thought, self._thought, self._open = self._thought, [], None
        for event in thought:
            frames += self.add(0, event)
        return frames + (self._close() if thought else [])

    def _delta(self, **delta) -> Frame:
        return _frame("content_block_delta", index=self._index, delta=delta)


def _frame(event: str, **members) -> Frame:
    return Frame(json.dumps({"type": event, **members}, separators=(",", ":")), event)


def _block(part: Text | Reasoning | WholeCall) -> dict:
    if type(part) is Text:
        return {"type": "text", "text": part.text}
    if type(part) is Reasoning:
        return {"type": "thinking", "thinking": part.text, "signature": SIGNATURE}
    return {"type": "tool_use", "id": part.id, "name": part.name, "input": json.loads(part.arguments)}


def _end(finish: Finish | None) -> dict:
    """What a message says of its end; all null before it."""
    reason = finish and STOP_REASONS[finish.reason]
    at = finish.stop_sequence if reason == "end_turn" else None
    details = {"type": "refusal", "category": None, "explanation": None} if reason == "refusal" else None
    return {"stop_reason": "stop_sequence" if at else reason, "stop_sequence": at, "stop_details": details}


def _usage(usage: Usage) -> dict:
    """`input_tokens` are those that came from no cache, so that a client adds them up."""
    cached = min(usage.cached_tokens, usage.prompt_tokens)
    return {"input_tokens": usage.prompt_tokens - cached, "output_tokens": usage.completion_tokens,
            "cache_creation_input_tokens": 0, "cache_read_input_tokens": cached,
            "output_tokens_details": {"thinking_tokens": usage.reasoning_tokens}, "service_tier": "standard"}


def refusal(error: ApiError, request: str) -> Answer:
    """Claude Code asks again for minutes unless it is told not to: after a 401 too, and after a 503 whatever it is
    told. So no 503 leaves: it is a 529 if a retry can mend it, else a 502."""
    status = error.status
    if status == 503:
        status = 502 if error.retry_after is None else 529
    elif error.code == "model_not_found":
        status = 404
    kind = ERROR_TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
    details = {"details": {"error_code": error.code}} if error.code else {}
    return Answer(status, {"type": "error", "error": {"type": kind, "message": error.message, **details},
                           "request_id": request},
                  {"x-should-retry": "false"} if error.retry_after is None else {})
