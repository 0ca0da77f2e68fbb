"""The service as its users meet it: real gunicorn, real sockets, the official client, a simulator."""

import json
import re
import socket
import ssl
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from urllib.parse import urlsplit

import openai
import pytest
import requests
from conftest import MODEL, gateway, until

WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "Weather of a city", "parameters": {
        "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}
ASK = [{"role": "user", "content": "What is the weather in Paris? Use get_weather."}]
PIXEL = ("data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwAD"
         "hgGAWjR9awAAAABJRU5ErkJggg==")


def client(gate, **options):
    return openai.OpenAI(base_url=gate.url + "/v1", api_key="0000", max_retries=0, **options)


def events(response):
    """The data of a stream's frames; every frame must be exactly one data line and a blank one."""
    frames = response.content.decode().split("\n\n")
    assert frames.pop() == "" and all(frame.startswith("data: ") for frame in frames)
    return [frame[6:] for frame in frames]


def fold(response):
    """(text, calls, finish, usage) of a stream, as a client would put it together."""
    data = events(response)
    assert data[-1] == "[DONE]" and data.count("[DONE]") == 1
    text, calls, finishes, usage, ids = "", {}, [], None, set()
    for chunk in map(json.loads, data[:-1]):
        ids.add((chunk["id"], chunk["created"]))
        usage = chunk.get("usage") or usage
        for choice in chunk["choices"]:
            delta = choice["delta"]
            text += delta.get("content") or ""
            for call in delta.get("tool_calls", ()):
                kept = calls.setdefault(call["index"], [None, ""])
                kept[0] = call["function"].get("name") or kept[0]
                kept[1] += call["function"]["arguments"]
            finishes += [choice["finish_reason"]] if choice["finish_reason"] else []
    assert len(ids) == 1 and len(finishes) == 1
    return text, list(calls.values()), finishes[0], usage


def body(response):
    assert response.status_code == 200, response.text
    choice = response.json()["choices"][0]
    message = choice["message"]
    calls = [[call["function"]["name"], call["function"]["arguments"]]
             for call in message.get("tool_calls", ())]
    return message["content"] or "", calls, choice["finish_reason"]


def both(gate, script, **more):
    """A chat as a body and as a stream; the two must be the same reply."""
    gate.simulator.script(script)
    whole = gate.say(**more)
    gate.simulator.script(script)
    streamed = gate.say(stream=True, **more)
    assert whole.status_code == streamed.status_code == 200, whole.text + streamed.text
    assert fold(streamed)[:3] == body(whole)
    return body(whole)


def settled(gate):
    """Whether Cursor is left with nothing of ours."""
    return until(lambda: all(agent["deleted"] for agent in gate.agents()))


@pytest.mark.parametrize("path", ["/health", "/v1/models", "/models", f"/v1/models/{MODEL}", "/"])
def test_what_can_be_got_can_be_headed(gate, path):
    key = {"Authorization": "Bearer 0000"}
    got = requests.get(gate.url + path, headers=key, timeout=10)
    headed = requests.head(gate.url + path, headers=key, timeout=10)
    assert got.status_code == headed.status_code == 200 and got.content and not headed.content


ERRORS = [
    ("no key", "POST", "/v1/chat/completions", {}, b"{}", 401, "authentication_error", "invalid_api_key"),
    ("wrong key", "GET", "/v1/models", {"x-api-key": "1"}, None, 401, "authentication_error",
     "invalid_api_key"),
    ("unknown route", "GET", "/v1/nothing", {}, None, 404, "invalid_request_error", None),
    ("wrong method", "GET", "/v1/chat/completions", {}, None, 405, "invalid_request_error",
     "method_not_supported"),
    ("wrong type", "POST", "/v1/chat/completions", {"api-key": "0000", "Content-Type": "text/xml"},
     b"<a/>", 415, "invalid_request_error", None),
    ("bad JSON", "POST", "/v1/chat/completions", {"api-key": "0000"}, b"{", 400,
     "invalid_request_error", None),
    ("unknown model", "POST", "/v1/chat/completions", {"api-key": "0000"},
     b'{"model":"x","messages":[{"role":"user","content":"a"}]}', 400, "invalid_request_error",
     "model_not_found"),
    ("unknown model to get", "GET", "/v1/models/x/y", {"api-key": "0000"}, None, 404,
     "invalid_request_error", "model_not_found"),
]


@pytest.mark.parametrize("name, method, path, headers, data, status, type, code", ERRORS,
                         ids=[row[0] for row in ERRORS])
def test_an_error_has_its_status_and_shape(gate, name, method, path, headers, data, status, type, code):
    response = requests.request(method, gate.url + path, headers={
        "Content-Type": "application/json", **headers}, data=data, timeout=10)
    error = response.json()["error"]
    assert (response.status_code, error["type"], error["code"]) == (status, type, code)
    assert set(error) == {"message", "type", "param", "code"}
    assert response.headers["x-request-id"] and response.headers["Access-Control-Allow-Origin"] == "*"
    assert ("Allow" in response.headers) == (status == 405)


def test_a_preflight_needs_no_key(gate):
    response = requests.options(gate.url + "/v1/chat/completions", timeout=10, headers={
        "Origin": "https://example.org", "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,x-stainless-os"})
    assert response.status_code == 204
    assert "x-stainless-os" in response.headers["Access-Control-Allow-Headers"]
    assert "Access-Control-Allow-Credentials" not in response.headers


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS"])
@pytest.mark.parametrize("path, pages", [
    ("/v1/chat/completions", True), ("/models", True), (f"/v1/models/{MODEL}", True), ("/metrics", True),
    ("/v1/nothing", True), ("/", False), ("/static/app.js", False), ("/reference.json", False),
    ("/openapi.json", False), ("/clients.json", False), ("/health", False), ("/ready", False),
    ("//ready/", False)])
def test_pages_of_other_origins_may_read_only_what_needs_a_key(gate, method, path, pages):
    headers = requests.request(method, gate.url + path, timeout=10, headers={
        "Origin": "https://example.org", "Access-Control-Request-Method": "GET"}).headers
    assert any(name.lower().startswith("access-control") for name in headers) == pages


@pytest.mark.parametrize("path", ["//v1/models", "/v1//models", "/v1/models//", f"/v1//models/{MODEL}"])
def test_a_base_url_may_end_in_a_slash(gate, path):
    assert gate.request("GET", path, allow_redirects=False).status_code == 200


# A path that is not there; the one that is meant.
TOO_LONG = [
    ("POST", "/v1/v1/chat/completions", "/v1/chat/completions"), ("GET", "/v1/v1/models", "/v1/models"),
    ("POST", "/openai/deployments/gpt-4o/chat/completions", "/v1/chat/completions"),
    ("POST", "/openai/v1/chat/completions/", "/v1/chat/completions"),
    ("POST", "/v1/chat/completions/chat/completions", "/v1/chat/completions"),
    ("POST", "/v1/chat/completions/v1//chat/completions", "/v1/chat/completions"),
    ("POST", "/v1/responses/responses", "/v1/responses"),
    ("POST", "/v1/models/chat/completions", "/v1/chat/completions"),
    ("GET", "/v1/chat/completions/models", "/v1/models"), ("GET", "/api/v1/models/a", "/v1/models/a"),
    ("GET", "/v1/health", "/health"), ("HEAD", "/v1/health", None), ("GET", "/v1/v1/chat/completions", None),
    ("POST", "/v1/embeddings", None), ("POST", "/v1/v1/completions", None), ("GET", "/a/", None),
    ("POST", "/v1/chat/completions/x", None),
    ("POST", "/" + "a/" * 1000 + "chat/completions", "/v1/chat/completions")]


@pytest.mark.parametrize("method, path, meant", TOO_LONG, ids=[f"{row[0]} {row[1][:50]}" for row in TOO_LONG])
def test_a_base_url_that_is_too_long_is_told_what_to_write(gate, method, path, meant):
    response = gate.request(method, path)
    assert response.status_code == 404
    if method != "HEAD":
        expected = f": expected {meant}, the base" if meant else ": expected one of /health"
        assert expected in response.json()["error"]["message"]


def test_without_a_key_of_cursor_chat_says_that_it_is_not_configured():
    with gateway(environ={"UPSTREAM": "auto", "CURSOR_API_KEY": ""}) as gate:
        response = gate.say()
        assert response.status_code == 503
        assert response.json()["error"]["code"] == "upstream_not_configured"
        assert response.headers["x-should-retry"] == "false"


def test_the_official_client_lists_chats_and_streams(gate):
    api = client(gate)
    ids = [model.id for model in api.models.list()]
    assert MODEL in ids and f"{MODEL}-thinking" in ids
    reply = api.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Hi"}])
    assert reply.choices[0].message.content and reply.choices[0].finish_reason == "stop"
    assert reply.usage.total_tokens > 0
    chunks = list(api.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "Hi"}], stream=True,
        stream_options={"include_usage": True}))
    assert chunks[-1].choices == [] and chunks[-1].usage.total_tokens > 0
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == (
        reply.choices[0].message.content)
    assert settled(gate)


def test_an_image_reaches_cursor_as_an_image(gate):
    client(gate).chat.completions.create(model=MODEL, messages=[{"role": "user", "content": [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": PIXEL}}]}])
    assert gate.agents()[-1]["runs"][0]["images"] == 1


REFUSALS = [  # with the code over uistream and sdk, which know fewer
    (400, "validation_error", openai.BadRequestError, 400, "upstream_refused", "upstream_refused"),
    (401, "unauthorized", openai.InternalServerError, 502, "upstream_key_refused", "unauthorized"),
    (403, "plan_required", openai.InternalServerError, 502, "upstream_key_refused", "forbidden"),
    (404, "agent_not_found", openai.InternalServerError, 502, "upstream_error", "upstream_error"),
    (429, "rate_limit_exceeded", openai.RateLimitError, 429, "rate_limit_exceeded", "rate_limit_exceeded"),
    (500, "internal_error", openai.InternalServerError, 502, "upstream_error", "upstream_error"),
]


@pytest.mark.parametrize("stream", [False, True], ids=["body", "stream"])
@pytest.mark.parametrize("status, code, kind, ours, uistream, sdk", REFUSALS,
                         ids=[row[1] for row in REFUSALS])
def test_a_refusal_before_the_first_byte_is_a_status(gate, status, code, kind, ours, uistream, sdk, stream):
    gate.simulator.script({"replies": [{"times": 0, "create": {
        "status": status, "code": code, "message": "no", "times": 0,
        "headers": {"Retry-After": "7"} if status == 429 else {}}}]})
    with pytest.raises(kind) as raised:
        client(gate).chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "Hi"}], stream=stream)
    expected = {"cloud": code, "uistream": uistream, "sdk": sdk}[gate.upstream]
    assert raised.value.status_code == ours and raised.value.code == expected
    headers = raised.value.response.headers
    assert ours == 400 or headers.get("x-should-retry") == "false" or int(headers["Retry-After"]) > 0
    assert status != 429 or headers["Retry-After"] == ("20" if gate.upstream == "sdk" else "7")


def test_a_failure_in_mid_stream_is_an_error_frame_and_no_finish(gate):
    gate.simulator.script({"replies": [{"text": "one two three", "status": "ERROR"}]})
    response = gate.say(stream=True)
    data = events(response)
    code = "upstream_error" if gate.upstream == "uistream" else "run_failed"
    assert code in data[-1] and "[DONE]" not in data
    assert all(not choice["finish_reason"] for chunk in data[:-1]
               for choice in json.loads(chunk)["choices"])
    gate.simulator.script({"replies": [{"text": "one two three", "status": "ERROR"}]})
    with pytest.raises(openai.APIError):
        list(client(gate).chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "Hi"}], stream=True))
    assert settled(gate)


@pytest.mark.parametrize("fault", [{"unknown_after": 1}, {"crlf": True}, {"cut": 1}, {"burst": True}], ids=str)
def test_what_the_upstream_said_arrives_however_it_was_said(gate, fault):
    script = {"replies": [{"text": "one two three four five", "times": 0, **fault}]}
    assert both(gate, script) == ("one two three four five", [], "stop")
    assert settled(gate)


@pytest.mark.upstreams("cloud")  # its streams can be taken up again
@pytest.mark.parametrize("fault", [
    {"close_after": 2, "stream_times": 1}, {"reset_after": 300, "stream_times": 1},
    {"close_after": 2, "stream_times": 1, "ids": False},
    {"error_after": [1, {"code": "stream_unavailable", "message": "wait"}], "stream_times": 1},
    {"twice_after": 1},
    {"stream": {"status": 410, "code": "stream_expired", "message": "gone", "times": 0}},
], ids=str)
def test_what_cursor_said_arrives_once_whatever_befalls_its_stream(gate, fault):
    script = {"replies": [{"text": "one two three four five", "times": 0, **fault}]}
    assert both(gate, script) == ("one two three four five", [], "stop")
    assert settled(gate)


# A dialect's path, what it is asked, and what is seen of a stream before its caller leaves.
ASKED_SLOWLY = [
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "SLOW"}]}, b'"content":"'),
    ("/v1/responses", {"input": "SLOW"}, b"response.output_text.delta"),
    ("/v1/messages", {"max_tokens": 99, "messages": [{"role": "user", "content": "SLOW"}]}, b"text_delta")]


@pytest.mark.parametrize("path, asked, seen", ASKED_SLOWLY, ids=[row[0] for row in ASKED_SLOWLY])
def test_a_caller_who_leaves_ends_the_run(gate, path, asked, seen):
    for stream in (True, False):
        gate.simulator.forget()
        url, got = urlsplit(gate.url), b""
        data = json.dumps({"model": MODEL, "stream": stream, **asked}).encode()
        with socket.create_connection((url.hostname, url.port)) as caller:
            caller.sendall(b"POST %s HTTP/1.1\r\nHost: localhost\r\napi-key: 0000\r\n"
                           b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
                           % (path.encode(), len(data), data))
            while stream and seen not in got:
                got += caller.recv(65536)
            assert until(lambda: gate.agents() and gate.agents()[-1]["runs"])
        assert settled(gate)
        assert gate.agents()[-1]["runs"][0]["status"] == "CANCELLED"
        assert until(lambda: "cursor2api_slots_used 0" in gate.get("/metrics").text)
        for id in re.findall(rb"resp_\w+", got)[:1]:
            assert gate.get(f"/v1/responses/{id.decode()}").status_code == 404


def test_a_slow_start_shows_a_heartbeat():
    with gateway(boot=5, environ={"FIRST_BYTE_S": "0.1", "HEARTBEAT_S": "0.1"}) as gate:
        response = gate.say(stream=True)
        data = events(response)
        assert len([chunk for chunk in data if '"delta":{},"logprobs":null,"finish_reason":null' in chunk]) >= 2
        assert fold(response)[2] == "stop"


def test_a_tool_call_and_its_result_go_round(gate):
    api = client(gate)
    for stream in (False, True):
        if stream:
            with api.chat.completions.stream(model=MODEL, messages=ASK, tools=[WEATHER]) as manager:
                message = manager.get_final_completion().choices[0].message
        else:
            message = api.chat.completions.create(
                model=MODEL, messages=ASK, tools=[WEATHER]).choices[0].message
        call = message.tool_calls[0]
        assert call.function.name == "get_weather"
        assert json.loads(call.function.arguments) == {"city": "Paris"}
        assert call.id.startswith("call_") and len(call.id) == 29
        after = api.chat.completions.create(model=MODEL, tools=[WEATHER], messages=[
            *ASK, {"role": "assistant", "content": None, "tool_calls": [call.model_dump()]},
            {"role": "tool", "tool_call_id": call.id, "content": "18 degrees"}])
        assert after.choices[0].finish_reason == "stop" and "18" in after.choices[0].message.content


@pytest.mark.parametrize("stream", [False, True], ids=["body", "stream"])
@pytest.mark.parametrize("city, limit, why", [
    ('Oslo"}}{close}', 3, "cut by max_tokens"), ("Oslo", 99, "cut by the end of the reply")], ids=["limit", "end"])
def test_a_call_that_was_cut_is_none_and_the_log_says_why(gate, city, limit, why, stream):
    gate.simulator.script({"replies": [
        {"text": 'Now: {open}{"name": "get_weather", "arguments": {"city": "' + city}]})
    response = gate.say(stream=stream, tools=[WEATHER], max_tokens=limit)
    text, calls, finish = (fold(response) if stream else body(response))[:3]
    assert (text, finish) == ("Now: ", "length")
    for _, arguments in calls:
        assert stream and arguments
        with pytest.raises(ValueError):
            json.loads(arguments)
    line = until(lambda: [line for line in gate.log().splitlines()
                          if response.headers["x-request-id"] in line and why in line])[0]
    assert "tool=get_weather" in line and "Oslo" not in line


def test_several_choices_have_their_indices_and_one_usage(gate):
    whole = gate.say(n=3).json()
    assert [choice["index"] for choice in whole["choices"]] == [0, 1, 2]
    chunks = [json.loads(data) for data in events(gate.say(
        n=3, stream=True, stream_options={"include_usage": True}))[:-1]]
    assert [chunk["choices"][0]["index"] for chunk in chunks[:3]] == [0, 1, 2]
    assert sum(bool(chunk["usage"]) for chunk in chunks) == 1
    assert chunks[-1]["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"]
    assert gate.say(n=5).json()["error"]["param"] == "n"
    assert settled(gate)


def test_the_ui_message_stream_is_an_upstream_too(gate):
    with gateway(environ={"UPSTREAM": "uistream", "MODELS": MODEL,
                          "UISTREAM_URL": gate.simulator.url + "/ui/chat"}) as other:
        gate.simulator.script({"replies": [{"text": "one two", "times": 0}]})
        whole, streamed = other.say(), other.say(stream=True)
        assert body(whole)[0] == fold(streamed)[0] == "one two"
        assert whole.headers["x-cursor2api-upstream"] == "uistream"


def test_a_wrong_key_is_the_official_clients_own_exception(gate):
    with pytest.raises(openai.AuthenticationError) as raised:
        openai.OpenAI(base_url=gate.url + "/v1", api_key="wrong", max_retries=0).models.list()
    assert raised.value.code == "invalid_api_key" and raised.value.request_id


def test_a_silent_cursor_is_a_timeout():
    with gateway(environ={"TIMEOUT": "1"}) as gate:
        script = {"replies": [{"text": "one two three", "stall_after": 1, "times": 0}]}
        gate.simulator.script(script)
        response = gate.say()
        assert response.status_code == 504 and response.json()["error"]["code"] == "idle_timeout"
        data = events(gate.say(stream=True))
        assert "idle_timeout" in data[-1] and "[DONE]" not in data
        assert settled(gate)


def test_over_tls_a_connection_serves_many_requests(monkeypatch):
    certificate = str(Path(__file__).parent / "localhost.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", certificate)
    with gateway(scheme="https", environ={
            "GUNICORN_CMD_ARGS": f"--certfile {certificate} --keyfile {certificate}"}) as gate:
        caller = HTTPSConnection("127.0.0.1", urlsplit(gate.url).port, timeout=60,
                                 context=ssl.create_default_context(cafile=certificate))
        caller.connect()
        caller.auto_open = False  # once is enough
        for stream in (False, True) * 5:
            caller.request("POST", "/v1/chat/completions", json.dumps({
                "model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "stream": stream}),
                {"Authorization": "Bearer 0000", "Content-Type": "application/json"})
            answer = caller.getresponse()
            assert answer.status == 200 and b"Hello" in answer.read()
        caller.close()
        assert "level=error" not in gate.log()


@pytest.mark.upstreams("simulator")
def test_answers_with_and_without_a_body_leave_at_once_on_one_connection(gate):
    caller = HTTPConnection("127.0.0.1", urlsplit(gate.url).port, timeout=60)
    caller.connect()
    caller.auto_open = False
    for method in ("HEAD", "GET", "HEAD", "OPTIONS", "HEAD"):
        caller.request(method, "/health")
        answer = caller.getresponse()
        assert answer.status == (204 if method == "OPTIONS" else 200) and bool(answer.read()) == (method == "GET")
        assert answer.headers["x-request-id"]
    caller.close()
