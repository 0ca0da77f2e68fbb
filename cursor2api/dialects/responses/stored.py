"""What is kept of responses, so that later requests can go on from them, and the endpoints that show it.

A record is one response with the input items of its own request; the id of the response before leads to what came
earlier. The id of an output item holds that of its response, so items need no index of their own. A record is the
caller's: to others it is not there.
"""

import json
import re

from ...errors import ApiError, BadRequest
from .. import Answer, Asked, Options
from ..checks import one_of, page_limit

MOST, LONGEST = 1000, 20_000_000  # responses that one goes on from, and the bytes of these
_ITEM = re.compile(r"[a-z]+_([0-9a-z]+)_i?[0-9]+")  # the ids of a response's items; inputs have an i


def keep(options: Options, items: list[dict], id: str, response: str) -> None:
    """Keeps the JSON text of a response and the input items of its request."""
    token = id.removeprefix("resp_")
    own = [item["id"] if isinstance(item.get("id"), str) else f"msg_{token}_i{n}" for n, item in enumerate(items)]
    named = [{"type": "message", **item, "id": own[n]} for n, item in enumerate(items)]
    data = f'{{"response":{response},"input":{json.dumps(named)}}}'
    options.store.put(_key(options.caller, id), data.encode(), options.store_s)


class Earlier:
    """The earlier items that one request is made of. They all share one limit of bytes, and each record is read
    once."""

    def __init__(self, options: Options):
        self._options = options
        self._left = LONGEST
        self._records: dict[str, dict | None] = {}
        self._items: dict[str, dict[str, dict]] = {}  # by the id of their response, then by their own

    def items(self, id: str | None) -> list[dict]:
        """All items that came before a request that goes on from the response `id`, oldest first. Raises
        BadRequest."""
        records, at = [], id
        while at is not None:
            if len(records) >= MOST:
                raise _too_many("previous_response_id")
            record = self._record(at, "previous_response_id")
            if record is None:
                raise BadRequest(f"Previous response with id {at[:100]!r} not found.",
                                 code="previous_response_not_found", param="previous_response_id")
            if record["response"]["status"] == "failed":
                raise BadRequest(f"Previous response with id {at[:100]!r} failed and cannot be continued.",
                                 code="invalid_value", param="previous_response_id")
            records.append(record)
            at = record["response"]["previous_response_id"]
        return [item for record in reversed(records) for item in _items(record)]

    def referred(self, id: str) -> dict:
        """The stored item of this id. It counts each time, as the prompt has it each time. Raises BadRequest, 404
        if there is none."""
        found = _ITEM.fullmatch(id)
        item = self._by_id(f"resp_{found[1]}").get(id) if found else None
        if item is None:
            raise BadRequest(f"Item with id {id[:100]!r} not found.", status=404, param="input")
        self._count(len(json.dumps(item)), "input")
        return item

    def _by_id(self, id: str) -> dict[str, dict]:
        if id not in self._items:
            record = self._record(id, "input")
            self._items[id] = {item["id"]: item for item in reversed(_items(record))} if record else {}
        return self._items[id]

    def _record(self, id: str, param: str) -> dict | None:
        if id not in self._records:
            if len(self._records) >= MOST:
                raise _too_many(param)
            data = _data(self._options, id)
            self._count(len(data or b""), param)
            self._records[id] = _read(data)
        return self._records[id]

    def _count(self, size: int, param: str) -> None:
        self._left -= size
        if self._left < 0:
            raise _too_many(param)


def _too_many(param: str) -> BadRequest:
    return BadRequest(f"{param}: expected at most {MOST} responses with {LONGEST} bytes before this one, got more",
                      code="invalid_value", param=param)


def _items(record: dict) -> list[dict]:
    return record["input"] + record["response"]["output"]


def _key(caller: str, id: str) -> str:
    return f"response/{caller}/{id}"


def _data(options: Options, id: str) -> bytes | None:
    return options.store.get(_key(options.caller, id)) if options.store else None


def _record(options: Options, id: str) -> dict | None:
    return _read(_data(options, id))


def _read(data: bytes | None) -> dict | None:
    """A record; None for what is none, as a store may hold anything."""
    try:
        record = json.loads(data or b"")
        return record if isinstance(record["response"]["output"] + record["input"], list) else None
    except (ValueError, TypeError, LookupError):
        return None


# Endpoints

def _asked_for(asked: Asked) -> dict:
    if record := _record(asked.options, asked.values["id"]):
        return record
    raise ApiError(f"Response with id {asked.values['id'][:100]!r} not found.", status=404,
                   type="invalid_request_error")


def show(asked: Asked) -> Answer:
    for name in ("stream", "starting_after"):
        if asked.query.get(name, "false") != "false":
            raise BadRequest(f"{name}: a stored response comes in one piece", code="unsupported_parameter",
                             param=name)
    return Answer(200, _asked_for(asked)["response"])


def delete(asked: Asked) -> Answer:
    id = _asked_for(asked)["response"]["id"]
    asked.options.store.delete(_key(asked.options.caller, id))
    return Answer(200, {"id": id, "object": "response", "deleted": True})


def cancel(asked: Asked) -> Answer:
    _asked_for(asked)
    raise BadRequest("Cannot cancel a synchronous response.")


def input_items(asked: Asked) -> Answer:
    items, query = _asked_for(asked)["input"], asked.query
    limit, after = page_limit(query, 20, 100), query.get("after")
    if one_of("asc", "desc")(query.get("order", "desc"), "order") == "desc":
        items = items[::-1]
    if after is not None:
        places = [n for n, item in enumerate(items, 1) if item["id"] == after]
        if not places:
            raise BadRequest(f"after: expected the id of an item, got {after[:100]!r}", code="invalid_value",
                             param="after")
        items = items[places[0]:]
    page = items[:limit]
    return Answer(200, {"object": "list", "data": page, "first_id": page[0]["id"] if page else "",
                        "last_id": page[-1]["id"] if page else "", "has_more": len(items) > limit})
