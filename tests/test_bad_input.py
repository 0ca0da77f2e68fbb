"""Whatever comes in a request: no 5xx, no traceback, no thread that hangs, no process that grows."""

import copy
import json
import re
import select
import socket
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from conftest import MODEL, UPSTREAMS, gateway, resident, until
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cursor2api.dialects.chat_completions import PARAMETERS

CHAT = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}).encode()
POST = (b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\napi-key: 0000\r\n"
        b"Content-Type: application/json\r\n")
LENGTH = b"Content-Length: %d\r\n" % len(CHAT)
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CHUNKS = b"%x\r\n%s\r\n0\r\n\r\n" % (len(CHAT), CHAT)
HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


LIMITS = {"MAX_BODY_BYTES": "1000000", "REQUEST_TIMEOUT": "20"}


@pytest.fixture(scope="module")
def service():
    with gateway(environ=LIMITS) as one:
        yield one


@pytest.fixture(scope="module", params=UPSTREAMS)
def anywhere(request):
    """Before each upstream in turn."""
    with gateway(upstream=request.param, environ=LIMITS) as one:
        yield one


def connect(gate):
    url = urlsplit(gate.url)
    return socket.create_connection((url.hostname, url.port), timeout=30)


def answers(caller):
    """(status, headers, body) of each answer until the service ends the connection."""
    found = []
    with caller.makefile("rb") as stream:
        while line := stream.readline():
            status, headers = int(line.split()[1]), {}
            while (line := stream.readline().strip()):
                name, _, value = line.decode().partition(":")
                headers[name.lower()] = value.strip()
            if status >= 200:
                found.append((status, headers, stream.read(int(headers.get("content-length", 0)))))
    return found


def assert_error(status, body, expected):
    error = json.loads(body)["error"]
    assert status == expected
    assert set(error) == {"message", "type", "param", "code"} and error["type"] == "invalid_request_error"
    return error


# What is refused ends its connection: nothing behind it may be taken for a request.
FRAMING = [
    ("a length and chunks", POST + LENGTH + CHUNKED + b"\r\n" + CHUNKS, 400),
    ("two lengths", POST + LENGTH + b"Content-Length: 5\r\n\r\n" + CHAT, 400),
    ("two equal lengths", POST + LENGTH + LENGTH + b"\r\n" + CHAT, 400),
    ("a list of lengths", POST + b"Content-Length: 5, 5\r\n\r\n" + CHAT, 400),
    ("a signed length", POST + b"Content-Length: +5\r\n\r\n" + CHAT, 400),
    ("a negative length", POST + b"Content-Length: -5\r\n\r\n" + CHAT, 400),
    ("a length of 5,000 digits", POST + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n" + CHAT, 400),
    ("a length in other digits", POST + b"Content-Length: \xb2\r\n\r\n" + CHAT, 400),
    ("an unknown coding", POST + b"Transfer-Encoding: what\r\n\r\n" + CHUNKS, 400),
    ("a coding behind a control character", POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n" + CHUNKS, 400),
    ("a coding that is not last", POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n" + CHUNKS, 400),
    ("chunks twice", POST + CHUNKED + CHUNKED + b"\r\n" + CHUNKS, 400),
    ("a compressed coding", POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + CHUNKS, 415),
    ("chunks in HTTP/1.0", POST.replace(b"1.1", b"1.0") + CHUNKED + b"\r\n" + CHUNKS, 400),
    ("a chunk size that is none", POST + CHUNKED + b"\r\nzz\r\nhi\r\n0\r\n\r\n", 400),
    ("a chunk longer than it says", POST + CHUNKED + b"\r\n2\r\nhi!\r\n0\r\n\r\n", 400),
    ("a signed chunk size", POST + CHUNKED + b"\r\n+2\r\nhi\r\n0\r\n\r\n", 400),
    ("a folded header", POST + b"X-A: b\r\n c\r\n" + LENGTH + b"\r\n" + CHAT, 400),
    ("a space before the colon", POST + b"Content-Length : 5\r\n\r\n" + CHAT, 400),
    ("bare line feeds", (POST + LENGTH + b"\r\n").replace(b"\r\n", b"\n") + CHAT, 400),
    ("a zero byte in a header", POST + b"X-A: a\0b\r\n" + LENGTH + b"\r\n" + CHAT, 400),
    ("a header without a colon", POST + b"api-key 0000\r\n" + LENGTH + b"\r\n" + CHAT, 400),
    ("two hosts", POST + b"Host: y\r\n" + LENGTH + b"\r\n" + CHAT, 400),
    ("a method in small letters", HEALTH.replace(b"GET", b"get"), 400),
    ("an unknown version", HEALTH.replace(b"1.1", b"7.7"), 400),
    ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    ("TLS", b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n\r\n", 400),
    ("a long request line", HEALTH.replace(b"health", b"h" * 9000), 414),
    ("a long header", HEALTH[:-2] + b"A: " + b"a" * 9000 + b"\r\n\r\n", 431),
    ("many headers", HEALTH[:-2] + b"A: a\r\n" * 200 + b"\r\n", 431),
    ("an unknown expectation", POST + b"Expect: what\r\n" + LENGTH + b"\r\n" + CHAT, 417),
    ("more than may come", POST + b"Content-Length: 99999999999999999999\r\n\r\n" + CHAT, 413),
]


@pytest.mark.parametrize("name, data, status", FRAMING, ids=[row[0] for row in FRAMING])
def test_a_request_that_is_framed_badly_is_refused_and_ends_its_connection(service, name, data, status):
    with connect(service) as caller:
        caller.sendall(data + HEALTH)
        caller.shutdown(socket.SHUT_WR)
        (got, headers, body), = answers(caller)
    assert_error(got, body, status)
    assert headers["x-request-id"].startswith("req_")


# The rest, read as one request after another.
PIPELINED = [
    ("one after the other", HEALTH * 3, [200] * 3),
    ("chunks, then another", POST + CHUNKED + b"\r\n" + CHUNKS + HEALTH, [200, 200]),
    ("a body where none is read", HEALTH[:-2] + b"Content-Length: 29\r\n\r\n" + HEALTH[:29] + HEALTH, [200, 200]),
    ("a refused body, then another", POST + b"Content-Encoding: gzip\r\n" + LENGTH + b"\r\n" + CHAT + HEALTH,
     [415, 200]),
    ("a request within a body", POST + b"Content-Length: %d\r\n\r\n" % len(HEALTH) + HEALTH + HEALTH, [400, 200]),
    ("an underscore for a hyphen", POST + b"Content_Length: 5\r\n" + LENGTH + b"\r\n" + CHAT + HEALTH, [200, 200]),
    ("100-continue", POST + b"Expect: 100-continue\r\n" + LENGTH + b"\r\n" + CHAT + HEALTH, [200, 200]),
    ("no body", POST + b"\r\n" + HEALTH, [400, 200]),
]


@pytest.mark.parametrize("name, data, statuses", PIPELINED, ids=[row[0] for row in PIPELINED])
def test_requests_on_one_connection_keep_apart(service, name, data, statuses):
    with connect(service) as caller:
        caller.sendall(data + HEALTH[:-2] + b"Connection: close\r\n\r\n")
        assert [status for status, _, _ in answers(caller)] == [*statuses, 200]


@pytest.mark.parametrize("data", [
    POST + b"Content-Length: 500\r\n\r\n" + CHAT, POST + CHUNKED + b"\r\n" + CHUNKS[:-9]],
    ids=["length", "chunks"])
def test_a_body_that_is_cut_is_refused_though_it_may_be_json(service, data):
    with connect(service) as caller:
        caller.sendall(data)
        caller.shutdown(socket.SHUT_WR)
        (status, _, body), = answers(caller)
    assert assert_error(status, body, 408)["code"] == "request_timeout"


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
def test_a_body_over_the_limit_is_refused_without_being_read(service, chunked):
    sent = 0
    with connect(service) as caller:
        caller.sendall(POST + (CHUNKED if chunked else b"Content-Length: 1000000000\r\n") + b"\r\n")
        try:
            for _ in range(1000):
                caller.sendall((b"f4240\r\n" if chunked else b"") + b" " * 1_000_000 + b"\r\n" * chunked)
                sent += 1
        except OSError:  # it does not listen any more
            pass
        assert sent < 100  # what fits the buffers in between
    for size in (1_000_001, 1_900_000):  # who sends all before it listens is told so all the same
        response = requests.post(service.url + "/v1/chat/completions", data=b" " * size, timeout=30,
                                 headers={"api-key": "0000"})
        assert_error(response.status_code, response.content, 413)


def test_what_could_not_be_read_is_not_logged(service):
    secret = b"my-secret-prompt"
    with connect(service) as caller:
        caller.sendall(POST + b"Content-Length: 2\r\n\r\n{}" + secret + b"\r\n\r\n")
        assert [status for status, _, _ in answers(caller)] == [400, 400]
    assert until(lambda: "InvalidRequestLine" in service.log())
    assert secret.decode() not in service.log()


def valid(**more):
    return {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], **more}


def body(**more):
    return json.dumps(valid(**more)).encode()


def instead(of, data, **more):
    """A body with one JSON text, as json.dumps writes it, replaced by bytes."""
    return body(**more).replace(json.dumps(of).encode(), data)


def function(**more):
    return {"type": "function", "function": {"name": "get_weather", **more}}


def calls(arguments, count=1):
    return [{"role": "user", "content": "Hi"}, {"role": "assistant", "tool_calls": [
        {"id": f"call_{n}", **function(arguments=arguments)} for n in range(count)]}]


PICTURE = [{"type": "image_url", "image_url": {"url": "data:image/png;base64," + 700_001 * "A"}}]

BODIES = [
    ("nothing", b"", 400), ("no JSON", b"Hello", 400), ("half of it", CHAT[:40], 400), ("zeros", b"\0" * 99, 400),
    ("no UTF-8", CHAT.replace(b"Hi", b"\xff\xfe"), 400), ("UTF-16", CHAT.decode().encode("utf-16"), 400),
    ("a byte order mark", b"\xef\xbb\xbf" + CHAT, 200), ("two bodies", CHAT + CHAT, 400),
    ("no object", b"[]", 400), ("null", b"null", 400), ("a string", b'"x"', 400),
    ("arrays nested deeply", b"[" * 900_000, 400), ("objects nested deeply", b'{"a":' * 150_000, 400),
    ("messages nested deeply", instead("Hi", b"[" * 50_000 + b"]" * 50_000), 400),
    ("something unknown nested deeply", instead(1, b"[" * 900 + b"]" * 900, what=1), 200),
    ("a schema nested deeply", instead(1, b'{"a":' * 900 + b"1" + b"}" * 900, tools=[
        function(parameters=1)]), 400),
    ("arguments nested deeply", body(messages=calls("[" * 100_000)), 200),
    ("an integer of 5,000 digits", instead(1, b"9" * 5000, max_tokens=1), 400),
    ("the same for something unknown", instead(1, b"9" * 5000, what=1), 400),
    ("an integer of 300 digits", instead(1, b"9" * 300, max_tokens=1), 200),
    ("an integer out of range", instead(1, b"9" * 300, seed=1), 400),
    ("a number beyond all bounds", instead(1, b"1e999", temperature=1), 400),
    ("an exponent of 20 digits", instead(1, b"1e99999999999999999999", temperature=1), 400),
    ("a tiny number", instead(1, b"1e-999", temperature=1), 200),
    ("NaN", body(temperature=float("nan")), 400), ("Infinity", body(what=float("inf")), 400),
    ("-Infinity", body(logit_bias={"1": -float("inf")}), 400),
    ("half a character", body(messages=[{"role": "user", "content": "a\ud800b"}]), 200),
    ("half a character in a name", body(tools=[function(name="\udc00")]), 400),
    ("half a character for a model", body(model="\ud800"), 400),
    ("half a character for a key", body(**{"\ud800": 1}), 200),
    ("a key twice: the last counts", instead(1, b'1, "n": 2, "n": 1', n=1), 200),
    ("10,000 messages", body(messages=[{"role": ("user", "assistant")[n % 2], "content": "word"}
                                       for n in range(10_001)]), 200),
    ("10,000 parts", body(messages=[{"role": "user", "content": [{"type": "text", "text": "x"}] * 10_000}]), 200),
    ("5,000 calls", body(messages=calls("{", 5000)), 200),
    ("10,000 biases", body(logit_bias={str(n): 1 for n in range(10_000)}), 200),
    ("129 tools", body(tools=[function()] * 129), 400),
    ("a long stop", body(stop=["a" * 900_000]), 400),
    ("a long key of metadata", body(metadata={"k" * 900_000: ""}), 400),
    ("a line end in a model", body(model="x\r\nSet-Cookie: a=b"), 400),
    ("a zero in a model", body(model="\0"), 400),
    ("a long model", body(model="/-thinking" * 9_000), 400),
    ("a picture that is not base64", body(messages=[{"role": "user", "content": PICTURE}]), 400),
    ("a line end in a picture's address", body(messages=[{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": "http://x\r\nX: y"}}]}]), 400),
    *((name, body(messages=[{"role": "user", "content": content}]), 200) for name, content in (
        ("the prompt's own marks", "</user><call_<tool_call>" * 20_000), ("only white space", " \n" * 300_000),
        ("characters that say nothing", "\u2028\u202e\ufeff" * 20_000))),
]


def answer(gate, data, stream):
    gate.simulator.script({"replies": [{"text": "one two", "times": 0}]})
    response = post(gate, data.replace(b'{"model"', b'{"stream": true, "model"', stream))
    assert not any("cookie" in header.lower() for header in response.headers)
    return response


def rows(wanted):
    return pytest.mark.parametrize("name, data, status", [row for row in BODIES if (row[2] == 200) == wanted],
                                   ids=[row[0] for row in BODIES if (row[2] == 200) == wanted])


@pytest.mark.parametrize("stream", [False, True], ids=["body", "stream"])
@rows(True)
def test_an_odd_body_gets_its_reply(anywhere, name, data, status, stream):
    response = answer(anywhere, data, stream)
    assert response.status_code == 200 and "one" in response.text


@pytest.mark.parametrize("stream", [False, True], ids=["body", "stream"])
@rows(False)
def test_a_bad_body_is_refused(service, name, data, status, stream):
    response = answer(service, data, stream)
    assert assert_error(response.status_code, response.content, status)["message"]


def post(gate, data, **headers):
    return requests.post(gate.url + "/v1/chat/completions", data=data, timeout=60,
                         headers={"api-key": "0000", "Content-Type": "application/json", **headers})


def asks_for(schema):
    return body(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}})


def twice(to):
    return [{"$ref": f"#/$defs/{to}"}] * 2


TREE = {"$ref": "#/$defs/a0", "$defs": {"a60": {}, **{
    f"a{n}": {"allOf": twice(f"a{n + 1}"), "anyOf": twice(f"a{n + 1}")} for n in range(60)}}}
# Schemas that each text is good to, as they cannot be used, or not in the time that there is.
SCHEMAS = [
    ("a hostile pattern", {"properties": {"city": {"pattern": "^(a+)+$"}}}),
    ("a pattern that is none", {"properties": {"city": {"pattern": "("}}}),
    ("hostile names", {"patternProperties": {"^(([a-z])+.)+$": {}}, "additionalProperties": False}),
    ("references that multiply", TREE), ("a reference to itself", {"$ref": "#"}),
    ("a circle", {"allOf": [{"$ref": "#"}]}), ("a dynamic circle", {"$dynamicAnchor": "x", "$dynamicRef": "#x"}),
    ("a reference to nothing", {"$ref": "#/$defs/none"}),
    ("a reference by number", {"allOf": [{}], "$ref": "#/allOf/x"}),
    ("a reference that is no address", {"$ref": "http://[::1"}), ("an id that is none", {"$id": "http://[::1"}),
    ("a kind that is a list", {"$schema": []}), ("a kind that is a number", {"$schema": 5}),
    ("a kind that is unknown", {"$schema": "urn:x"}), ("an old kind", {
        "$schema": "http://json-schema.org/draft-03/schema#", "extends": {"$ref": "#"}, "disallow": [{}]}),
    ("a way round by the draft's own schema", {
        **TREE, "$id": "http://x/y", "$dynamicAnchor": "meta", "$ref": "#/$defs/own",
        "$defs": {**TREE["$defs"], "own": {"allOf": [
            {"$ref": "https://json-schema.org/draft/2020-12/schema"},
            {"if": {"required": ["city"]}, "else": {"$ref": "#/$defs/a0"}}]}}}),
    ("names to walk for", {"allOf": [{"$ref": "#x"}] * 900, "$defs": {
        "a": {"$anchor": "x"}, **{f"b{n}": {} for n in range(900)}}}),
    ("values that must differ", {"$schema": "http://json-schema.org/draft-03/schema#", "properties": {
        "none": {"enum": [*range(20_000), "a"]}}}),
    ("a type that is none", {"type": True}),
    ("wrong types", {"type": {}, "enum": 5, "properties": [], "required": {}, "items": 7, "$defs": []}),
    ("a part of another kind", {"properties": {"city": {"$schema": "http://json-schema.org/draft-04/schema#",
                                                        "allOf": [TREE]}}, "$defs": TREE["$defs"]}),
    ("10,000 properties", {"properties": {f"property{n}": {"type": "string"} for n in range(10_000)}}),
]


@pytest.mark.parametrize("name, schema", SCHEMAS, ids=[row[0] for row in SCHEMAS])
def test_a_schema_holds_up_nobody(anywhere, name, schema):
    city = json.dumps({"city": "a" * 40 + "!", "not": {}})
    anywhere.simulator.script({"replies": [
        {"text": '{open}{"name": "get_weather", "arguments": ' + city + "}{close}"}, {"text": city}]})
    called = post(anywhere, body(tools=[function(parameters=schema)], tool_choice="required")).json()
    call, = called["choices"][0]["message"]["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == json.loads(city)
    given = post(anywhere, asks_for(schema)).json()
    assert json.loads(given["choices"][0]["message"]["content"]) == json.loads(city)


def test_many_items_that_must_differ_hold_up_nobody(service):
    text = json.dumps({"items": [{"n": n} for n in range(20_000)]})
    service.simulator.script({"replies": [{"text": text, "chunk": 10_000}]})
    given = post(service, asks_for({"properties": {"items": {"uniqueItems": True}}})).json()
    assert json.loads(given["choices"][0]["message"]["content"]) == json.loads(text)
    service.simulator.script({"replies": [{"text": '{"items": [1, 1]}', "times": 0}]})
    assert post(service, asks_for({"properties": {"items": {"uniqueItems": True}}})).status_code == 502


def test_nothing_that_a_request_names_is_fetched(anywhere):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/x"
        anywhere.simulator.script({"replies": [{"text": '{"city": 1}', "times": 0}]})
        for schema in ({"$ref": url}, {"$schema": url}, {"$id": url, "$ref": "y"}, {
                "$schema": "http://json-schema.org/draft-04/schema#", "id": url, "$ref": "#y"}):
            assert post(anywhere, asks_for(schema)).ok
        shown = post(anywhere, body(messages=[{"role": "user", "content": [
            {"type": "text", "text": "Hi"}, {"type": "image_url", "image_url": {"url": url}}]}]))
        assert shown.status_code == (400 if anywhere.upstream == "sdk" else 200)
        assert not select.select([listener], [], [], 0)[0]


@pytest.mark.parametrize("given", ["a b", "a" * 129, "é", "x,y", "{}", '"', "a;b=c"])
def test_a_request_id_that_is_none_is_replaced(service, given):
    answer = requests.get(service.url + "/health", headers={"x-request-id": given.encode()}, timeout=30)
    assert answer.headers["x-request-id"].startswith("req_")
    answer = requests.options(service.url + "/v1/models", timeout=30, headers={
        "Access-Control-Request-Headers": (given + ";").encode()})
    assert given not in answer.headers["Access-Control-Allow-Headers"]


@pytest.mark.parametrize("headers, status", [
    ({"Content-Encoding": "gzip"}, 415), ({"Content-Encoding": "identity"}, 200),
    ({"Content-Type": "text/plain"}, 415),
    ({"Content-Type": "application/json; charset=latin-1"}, 200), ({"Content-Type": "\xff/\xff"}, 415),
    ({"Authorization": "Bearer \xff"}, 200), ({"api-key": "\xff"}, 401), ({"Authorization": "Basic Og=="}, 200)],
    ids=str)
def test_headers_that_are_odd(service, headers, status):
    service.simulator.script({"replies": [{"text": "one two", "times": 0}]})
    response = post(service, CHAT, **{name: value.encode("latin-1") for name, value in headers.items()})
    assert response.status_code == status
    assert status == 200 or set(response.json()["error"]) == {"message", "type", "param", "code"}


def test_the_process_does_not_grow(service):
    service.simulator.script({"replies": [{"text": '{"city": "x"}', "times": 0}]})
    for time in range(4):  # the first two fill what is kept on purpose
        for _, data, _ in BODIES:
            post(service, data)
        for _, schema in SCHEMAS:
            post(service, asks_for(schema))
        service.simulator.requests.clear()
        if time == 1:
            before = resident(service)
    assert until(lambda: resident(service) < before + 10_000_000), (before, resident(service))


def test_what_is_refused_is_not_held():
    body = valid(n=0, messages=[{"role": "user", "content": "a" * 15_000_000}])
    with gateway() as gate:
        before = resident(gate)
        for _ in range(6):
            assert gate.post(body).status_code == 400
        assert until(lambda: resident(gate) - before < 30_000_000)  # of 90 MB


def test_large_bodies_are_parsed_one_at_a_time():
    def peak(bodies):
        with gateway() as gate, ThreadPoolExecutor(bodies) as pool:
            before = peak_of(gate)
            assert {each.status_code for each in pool.map(post, [gate] * bodies, [dense] * bodies)} == {200}
            return peak_of(gate) - before
    dense = instead("xyz", b"[" + b"[]," * 2_000_000 + b"[]]", x="xyz")
    # Each has also its own bytes, which are read before.
    assert peak(4) < 2 * peak(1)


def peak_of(gate):
    [pid] = gate.workers()
    return int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) * 1024


TALK = [
    {"role": "system", "content": "Be short"}, {"role": "user", "content": [{"type": "text", "text": "Hi"}, {
        "type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]}, *calls("{}")[1:],
    {"role": "tool", "tool_call_id": "call_0", "content": "18"}, {"role": "user", "content": "So?"}]
VALID = [
    valid(messages=TALK, stop=["x"], max_tokens=9, temperature=1, metadata={"a": "b"}, logit_bias={"1": 2},
          user="me"),
    valid(messages=TALK, tools=[function(description="d", parameters={
        "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}, strict=True)],
        tool_choice={"type": "function", "function": {"name": "get_weather"}}, parallel_tool_calls=False),
    valid(functions=[{"name": "f", "parameters": {"type": "object"}}], function_call="auto", n=2),
    valid(stream=True, stream_options={"include_usage": True}, reasoning_effort="high", top_p=0.5),
    valid(response_format={"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": {
        "type": "object", "properties": {"a": {"$ref": "#/$defs/b"}}, "$defs": {"b": {"enum": [1, "x", None]}}}}}),
    valid(prediction={"type": "content", "content": [{"type": "text", "text": "x"}]}, seed=1, modalities=["text"],
          web_search_options={"user_location": {"type": "approximate", "approximate": {"city": "Oslo"}}})]
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-10, 10) | st.integers() | st.floats() | st.text(
        st.characters(), max_size=9) | st.sampled_from([
            "", "auto", "required", "function", "user", "tool", "#", "$ref", "type", "object", "text", MODEL,
            "\ud800", 10**300, 10**400, -1e308, "data:image/png;base64,", "http://x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.text(max_size=5) | st.sampled_from(["type", "name", "function", "role", "content", "text", "$ref",
                                               "allOf", "enum", "parameters"]), inner, max_size=3),
    max_leaves=6)


def places(node):
    """Each (array or object, index or key) below a value."""
    for key in list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
        yield node, key
        yield from places(node[key])


@st.composite
def bodies(draw):
    """Valid bodies with a few things changed, left out, added, or cut."""
    chat = copy.deepcopy(draw(st.sampled_from(VALID)))
    for _ in range(draw(st.integers(1, 4))):
        node, key = draw(st.sampled_from([*places(chat)]))
        change = draw(st.sampled_from(["put", "put", "drop", "add", "swap"]))
        if change == "drop":
            del node[key]
        elif change == "swap":
            other, place = draw(st.sampled_from([*places(chat)]))
            node[key] = copy.deepcopy(other[place])
        elif change == "add":
            chat[draw(st.sampled_from([parameter.name for parameter in PARAMETERS]))] = draw(JUNK)
        else:
            node[key] = draw(JUNK)
        if not chat:
            break
    data = json.dumps(chat).encode()
    if draw(st.integers(0, 9)) == 0:
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(st.binary(max_size=3)) + data[at + draw(st.integers(0, 3)):]
    return data


UNFIT = {"no_tool_call", "invalid_tool_arguments", "invalid_json_from_model"}  # not the request's fault


def test_no_body_makes_a_5xx(anywhere):
    @settings(max_examples=300 if anywhere.upstream == "cloud" else 60, deadline=None,
              suppress_health_check=list(HealthCheck))
    @given(bodies())
    def asked(data):
        anywhere.simulator.script({"replies": [{"text": '{"city": "x"}', "times": 0}]})
        response = post(anywhere, data)
        if response.headers["Content-Type"].startswith("text/event-stream"):
            last = response.text.split("data: ")[-1].strip()
            assert response.status_code == 200 and (last == "[DONE]" or json.loads(last)["error"]["code"] in UNFIT)
        elif response.status_code == 200:
            assert response.json()["object"] == "chat.completion"
        else:
            error = response.json()["error"]
            assert set(error) == {"message", "type", "param", "code"} and isinstance(error["message"], str)
            assert response.status_code < 500 or error["code"] in UNFIT, error

    asked()


@pytest.fixture(scope="module")
def narrow():
    with gateway(environ={"REQUEST_TIMEOUT": "1", "THREADS": "6", "MAX_STREAMS": "4"}) as one:
        yield one


@pytest.mark.parametrize("begun, statuses", [
    (b"GET /hea", []), (POST, []), (POST + b"Content-Length: 5000\r\n\r\n{", [408]),
    (POST + CHUNKED + b"\r\nfff\r\n{", [408])], ids=["request line", "headers", "body", "chunk"])
def test_slow_senders_are_ended_then_others_are_served(narrow, begun, statuses):
    callers = [connect(narrow) for _ in range(12)]  # twice the threads
    for caller in callers:
        caller.sendall(begun)

    def all_ended():  # each byte comes in good time, the whole request does not
        slow = set(callers) - set(select.select(callers, [], [], 0)[0])
        for caller in slow:
            with suppress(ConnectionError):
                caller.sendall(b"a")
        return not slow

    assert until(all_ended)
    for caller in callers:
        with caller, suppress(ConnectionResetError):
            assert [status for status, _, _ in answers(caller)] == statuses
    assert requests.get(narrow.url + "/health", timeout=30).ok


def test_who_says_nothing_or_ends_slowly_holds_up_nobody(narrow):
    callers = [connect(narrow) for _ in range(24)]
    for caller in callers[12:]:
        caller.sendall(HEALTH[:-2] + b"Connection: close\r\n\r\n")  # and does not close it then
    assert requests.get(narrow.url + "/health", timeout=10).ok
    for caller in callers:
        caller.close()


HALF = POST + LENGTH + b"\r\n" + CHAT[:20]
CLOSE = HEALTH[:-2] + b"Connection: close\r\n\r\n"
# Name; a whole request, if the connection is kept alive after one; what is sent then; what is sent each second.
HOLDING = [
    ("nothing", b"", b"", b""), ("one byte", b"", b"G", b""), ("half a head", b"", HEALTH[:30], b""),
    ("half a body", b"", HALF, b""), ("a byte a second", b"", b"G", b"E"),
    ("a byte a second of a body", b"", HALF, b" "), ("a byte of a next request", HEALTH, b"G", b""),
    ("half a body of a next request", HEALTH, HALF, b""), ("a request, and no end", b"", CLOSE, b""),
    ("too much, slowly", b"", POST + b"Content-Length: 9999999999\r\n\r\n", b"a" * 1000)]


@pytest.fixture(scope="module")
def six():
    with gateway(environ={"REQUEST_TIMEOUT": "2", "THREADS": "6", "MAX_STREAMS": "2"}) as one:
        yield one


@pytest.mark.parametrize("first, begun, more", [row[1:] for row in HOLDING], ids=[row[0] for row in HOLDING])
def test_sixty_callers_keep_others_away_for_no_longer_than_one_request_may_take(six, first, begun, more):
    with ExitStack() as stack, ThreadPoolExecutor(1) as pool:
        callers = [stack.enter_context(connect(six)) for _ in range(60)]
        for caller in callers if first else ():
            caller.sendall(first)
        for caller in callers if first else ():
            while not (got := caller.recv(1000)).endswith(b"}"):
                assert got, "the connection was ended"
        for caller in callers:
            caller.sendall(begun)
        asked = pool.submit(requests.get, six.url + "/health", timeout=10)
        while not wait([asked], 1).done:
            for caller in callers:
                with suppress(OSError):
                    caller.sendall(more)
        assert asked.result().ok
