"""What ends a reply before its own end: a caller who has left, a time that is up, a service that stops."""

import select
from collections.abc import Iterable, Iterator, Sequence

from ..errors import ApiError
from ..events import Event, Waiting
from .request import ApiRequest
from .service import Service

EVERY_S = 0.5  # between two looks
LEFT = getattr(select, "POLLRDHUP", select.POLLHUP) | select.POLLHUP | select.POLLERR


class Deadline:
    """Of one request. Each `look` raises the ApiError that ends it, if there is one."""

    def __init__(self, request: ApiRequest, service: Service):
        connection = request.environ.get("gunicorn.socket")  # only gunicorn lets us look
        self._caller = select.poll()
        if connection:
            # poll, not recv: recv would return an unread byte and hide that the caller has left
            self._caller.register(connection, LEFT)
        self._record, self._service = request.record, service
        self._next = self._record.started + EVERY_S

    def wait(self, conversations: Sequence, seconds: float) -> None:
        """Until the upstream has said yes to all, or for so long. Raises its refusal or another ApiError."""
        end, waiting = self._record.clock() + seconds, list(conversations)
        while waiting and (left := end - self._record.clock()) > 0:
            each = min(left, EVERY_S) / len(waiting)
            waiting = [conversation for conversation in waiting if not conversation.wait(each)]
            self.look()

    def over(self, pairs: Iterable[tuple[int, Event]]) -> Iterator[tuple[int, Event]]:
        """Passes on a reply's (index of the choice, event) pairs; looks when nothing more is at hand."""
        for pair in pairs:
            if type(pair[1]) is Waiting:
                self.look()
            yield pair

    def look(self) -> None:
        now = self._record.clock()
        if now < self._next:
            return
        self._next = now + EVERY_S
        self._service.check(now - self._record.started)
        if self._caller.poll(0):
            raise ApiError("The caller has left", status=499, type="invalid_request_error", code="caller_left")
