"""The page as HTTP serves it, its data, its words, and its examples run as they stand."""

import gzip
import json
import re
import subprocess
import sys
from html import unescape

import pytest
import requests
from conftest import MODEL, ROOT, gateway

from cursor2api.config import Config
from cursor2api.errors import KINDS
from cursor2api.server import markup
from cursor2api.clients.catalog import CLIENTS
from cursor2api.server.reference import reference
from cursor2api.server.views import routes

STATIC = ROOT / "static"
FILES = ["/", "/?language=zh", "/reference.json", "/clients.json", "/openapi.json", "/static/state.json",
         "/static/client-opencode.json", "/static/client-opencode.zh.json",
         *(f"/static/{path.name}" for path in STATIC.iterdir() if path.is_file())]
OF_A_CHAT = {"talk", "answer", "draw", "markdown", "pictures", "send", "tool", "chat-completions", "responses",
             "messages"}  # what talk.js fetches
EXPECTED = {"models": MODEL, "chat": "Hello", "stream": "Hello", "tool": "Paris", "named": "Paris",
            "responses": "Hello", "kilo": "attempt_completion", "messages": "Hello"}
EXAMPLES = {path.name: path.read_text() for path in (STATIC / "examples").iterdir()}
ABOUT = reference(Config(), version="1", started=0, routes=routes(), examples={})


def get(gate, path, **headers):
    return requests.get(gate.url + path, timeout=10, headers={"Accept-Encoding": "identity", **headers})


@pytest.mark.parametrize("path", FILES)
def test_a_file_is_sent_once_packed_if_asked_and_can_be_headed(gate, path):
    plain = get(gate, path)
    packed = requests.get(gate.url + path, timeout=10, stream=True, headers={"Accept-Encoding": "br, gzip"})
    assert packed.headers["Content-Encoding"] == "gzip" and "Content-Encoding" not in plain.headers
    assert gzip.decompress(packed.raw.read(decode_content=False)) == plain.content
    assert "Accept-Encoding" in plain.headers["Vary"] and plain.headers["Cache-Control"] == "no-cache"
    assert get(gate, path, **{"Accept-Encoding": "gzip;q=0"}).headers.get("Content-Encoding") is None
    tags = plain.headers["ETag"], packed.headers["ETag"]
    assert len(set(tags)) == 2
    for tag, encoding in zip(tags, ("identity", "gzip")):
        again = get(gate, path, **{"If-None-Match": f'"other", {tag}', "Accept-Encoding": encoding})
        assert again.status_code == 304 and not again.content and again.headers["ETag"] == tag
    assert get(gate, path, **{"If-None-Match": '"other"'}).status_code == 200
    head = requests.head(gate.url + path, timeout=10, headers={"Accept-Encoding": "identity"})
    assert head.status_code == 200 and not head.content
    assert int(head.headers["Content-Length"]) == len(plain.content)
    made = path == "/static/state.json" or path.startswith("/static/client-")
    if path.startswith("/static/") and not made and path != "/static/index.html":
        assert plain.content == (ROOT / path[1:]).read_bytes()


@pytest.mark.parametrize("path", FILES)
def test_a_file_forbids_what_it_does_not_need(gate, path):
    headers = get(gate, path).headers
    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == policy["form-action"] == policy["frame-ancestors"] == "'none'"
    assert {policy[f"{kind}-src"] for kind in ("script", "style", "img", "connect")} == {"'self'"}
    assert policy["require-trusted-types-for"] == "'script'" and "unsafe" not in str(policy)
    assert headers["X-Content-Type-Options"] == "nosniff" and headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize("path", ["/static/", "/static/nothing.js", "/static/examples", "/static/..%2Fapp.py",
                                  "/static/examples/chat.py", "/static/%2e%2e/app.py", "/app.py",
                                  "/static/words/zh.json"])
def test_nothing_else_is_a_file(gate, path):
    response = get(gate, path)
    assert response.status_code == 404 and set(response.json()) == {"error"}
    assert "expected one of" in response.json()["error"]["message"], "no base URL is too long"


def test_the_reference_tells_no_secret_and_what_the_code_has():
    secrets = {"API_KEY": "name-of-ann:key-of-ann", "CURSOR_API_KEY": "key-of-cursor",
               "SYSTEM_PROMPT_INJECT": "inject-me", "UISTREAM_HEADERS": '{"Authorization": "Bearer key-of-ui"}'}
    with gateway(environ=secrets) as gate:
        response = get(gate, "/reference.json")
        about = response.json()
        assert not any(value in response.text for value in ("key-of", "inject-me", "name-of"))
        assert about["keys"] == "set" and about["upstream"] == "simulator"
        now = get(gate, "/health").json()["timestamp"]
        assert now - 60 < about["started"] <= now
    assert about["parameters"] == ABOUT["parameters"] and about["settings"] == ABOUT["settings"]
    assert {path: get_key for path, get_key in ((row["path"], row["key"]) for row in about["routes"])} == {
        **dict.fromkeys(("/", "/static/{name}", "/reference.json", "/clients.json", "/openapi.json", "/health",
                         "/ready"), False), "/metrics": True, "/v1/models": True, "/v1/models/{model}": True,
        "/v1/chat/completions": True, "/v1/responses": True, "/v1/responses/input_tokens": True,
        "/v1/messages": True, "/v1/messages/count_tokens": True,
        **{f"/v1/responses/{{id}}{rest}": True for rest in ("", "/input_items", "/cancel")}}


def skeleton(value):
    """The shape of a JSON value: keys and kinds."""
    if isinstance(value, dict):
        return {key: skeleton(member) for key, member in value.items()}
    return [skeleton(member) for member in value] if isinstance(value, list) else type(value).__name__


def test_a_reply_in_the_reference_has_the_form_of_a_real_one(gate):
    gate.simulator.script({"replies": [{"text": "Hello, world", "chunk": 7, "times": 0}]})
    shown = {row["name"]: row["text"] for row in ABOUT["replies"]}
    assert skeleton(json.loads(shown["A completion"])) == skeleton(gate.say().json())
    streamed = gate.say(stream=True, stream_options={"include_usage": True}).text

    def shapes(text):
        return [skeleton(json.loads(frame[6:])) for frame in text.strip().split("\n\n")[:-1]]
    assert shapes(shown["A stream, with `include_usage`"]) == shapes(streamed)


def test_every_endpoint_has_an_answer_of_the_form_that_really_comes(gate):
    told = ABOUT["answers"]
    chats = {"POST " + dialect["path"] for dialect in ABOUT["dialects"]}
    chats.add("GET /v1/responses/{id}")  # the same as that of POST
    assert {f'{route["method"]} {route["path"]}' for route in routes()} - chats == set(told)
    hello = {"model": MODEL, "input": "Hello"}
    id = gate.request("POST", "/v1/responses", json=hello).json()["id"]
    for name, body in [("GET /health", None), ("GET /ready", None), ("GET /v1/models/{model}", None),
                       ("POST /v1/responses/input_tokens", hello),
                       ("GET /v1/responses/{id}/input_items", None), ("POST /v1/responses/{id}/cancel", None),
                       ("GET /v1/responses", None),
                       ("POST /v1/messages/count_tokens", {
                           "model": MODEL, "messages": [{"role": "user", "content": "Hello"}]}),
                       ("DELETE /v1/responses/{id}", None)]:
        method, path = name.replace("{id}", id).replace("{model}", MODEL).split()
        assert skeleton(json.loads(told[name])) == skeleton(gate.request(method, path, json=body).json()), name
    listed = gate.get("/v1/models").json()
    assert skeleton(json.loads(told["GET /v1/models"])) == skeleton(listed | {"data": listed["data"][:1]})
    assert told["GET /metrics"].partition("{")[0] in gate.get("/metrics").text
    for name in ("/reference.json", "/clients.json", "/openapi.json"):
        assert told["GET " + name].partition(":")[0].strip("{") in gate.get(name).text


def test_an_error_in_the_reference_is_the_error_that_comes(gate):
    def error(method, path, data=None, **headers):
        response = requests.request(method, gate.url + path, data=data, timeout=10, headers=headers)
        return response.status_code, response.json()
    chat, key, kind = "/v1/chat/completions", {"api-key": "0000"}, {"Content-Type": "application/json"}
    hello = '"messages": [{"role": "user", "content": "Hello"}]'
    shown = [(row["status"], row["body"]) for row in ABOUT["errors"]]
    for came in [
            error("POST", chat, f'{{"model": "{MODEL}"}}', **key, **kind),
            error("POST", chat, f'{{"model": "{MODEL}", "n": 0, {hello}}}', **key, **kind),
            error("POST", chat, "nonsense", **key, **kind),
            error("POST", chat, f'{{"model": "NAME", {hello}}}', **key, **kind),
            error("GET", "/v1/models", **{"api-key": "wrong"}),
            error("GET", "/v1/models/NAME", **key),
            error("DELETE", "/v1/models", **key),
            error("POST", chat, "<a/>", **key, **{"Content-Type": "text/xml"})]:
        assert came in shown


def test_every_code_of_the_source_stands_in_the_reference():
    source = "".join(path.read_text() for path in (ROOT / "cursor2api").rglob("*.py")
                     if path.name not in ("simulator.py", "brain.py", "reference.py"))
    codes = set(re.findall(r'\bcode(?: = |=)(?:code or )?"(\w+)"|"late": "(\w+)"', source))
    codes = {code for pair in codes for code in pair if code}
    known = {code for kind in KINDS for code in kind.codes}
    # No caller sees these two: one is in /ready's answer, with the other the caller has left.
    assert len(codes) > 25 and codes - known == {"starting", "caller_left"}


def test_every_header_that_a_browser_may_read_stands_in_the_reference(gate):
    exposed = get(gate, "/v1/models").headers["Access-Control-Expose-Headers"].split(", ")
    assert sorted(exposed) == sorted(row["name"] for row in ABOUT["headers"])


@pytest.mark.parametrize("language, header, expected", [
    ("", "", "en"), ("", "de, en;q=0.5", "en"), ("", "zh-CN,zh;q=0.9,en;q=0.5", "zh-CN"), ("", "zh-TW", "zh-CN"),
    ("?language=en", "zh-CN", "en"), ("?language=zh", "en", "zh-CN"), ("?language=x", "en", "en")])
def test_the_page_is_in_the_readers_language(gate, language, header, expected):
    response = get(gate, "/" + language, **{"Accept-Language": header})
    assert f'<html lang="{expected}">' in response.text and "Accept-Language" in response.headers["Vary"]


@pytest.mark.parametrize("keys, key", [("development", "0000"), ("set", "YOUR_KEY")])
def test_the_page_tells_all_in_its_html(keys, key):
    """Without JavaScript it tells the address, the key, the routes, parameters, errors and examples."""
    about = {**ABOUT, "keys": keys, "examples": EXAMPLES}
    text = markup.page((STATIC / "index.html").read_text(), about, markup.Words("en", {}), 8123).decode()
    shown = re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", "", text)))
    assert "http://127.0.0.1:8123/v1" in shown and "127.0.0.1:8002" not in shown
    assert f"Bearer {key}" in shown and ("Bearer 0000" in shown) == (key == "0000")
    expected = [row[name] for part, names in {
        "routes": ["path"], "headers": ["name"], "settings": ["name"], "errors": ["status"],
        "replies": ["text"]}.items() for row in ABOUT[part] for name in names]
    expected += [json.dumps(row["body"]) for row in ABOUT["errors"]]
    expected += ABOUT["answers"].values()
    expected += [row["name"] for dialect in ABOUT["dialects"] for row in dialect["parameters"]]
    expected += [text.replace("http://127.0.0.1:8002", "http://127.0.0.1:8123").replace("0000", key)
                 for text in EXAMPLES.values()]
    assert not [each for each in expected if re.sub(r"\s+", " ", str(each).strip()) not in shown]
    assert "{{" not in text and "[[" not in text


def test_what_goes_into_the_html_is_escaped():
    about = {**ABOUT, "version": "<b>1", "examples": {"chat.sh": "<i>&"}}
    text = markup.page('[[version]] {{<u>"x"</u>}} [[examples]]', about, markup.Words("en", {}), 1).decode()
    assert text.startswith("&lt;b&gt;1 &lt;u&gt;&quot;x&quot;&lt;/u&gt; ") and "<i>" not in text


def test_every_text_of_the_page_and_of_the_reference_has_its_chinese():
    """What the service writes into the HTML stands in words/zh.json, what scripts show in zh.json, a chat in
    zh-chat.json."""
    template = set(re.findall(r"\{\{(.+?)\}\}", (STATIC / "index.html").read_text()))
    source = re.sub(r'"\s*\n\s*"', "", (ROOT / "cursor2api/server/markup.py").read_text())
    source = source.partition("\ndef ")[2]
    texts = template | {*markup.TASKS.values(), *markup.HINTS.values()}
    texts |= set(re.findall(r'\b(?:t|hint)\("([^"]*)"', source))
    texts |= {name for names in re.findall(r'table\(\s*\[([^][]*)\]', source)
              for name in re.findall(r'"([^"]+)"', names)}
    texts |= {row[key] for part, keys in {"routes": ["what"], "headers": ["what"], "errors": ["when"],
                                          "settings": ["help"], "replies": ["name"]}.items()
              for row in ABOUT[part] for key in keys}
    for row in (row for dialect in ABOUT["dialects"] for row in dialect["parameters"]):
        texts |= {row["effect"], row["what"]} | (
            {row["range"]} if re.search(r"\b(at|to|of|or|an?|named)\b", row["range"]) else set())
    texts |= {sentence for client in CLIENTS for sentence in (*client.turn_off, *client.cannot)}
    assert set(json.loads((STATIC / "words/zh.json").read_text())) == texts
    first, chat = {}, {}
    for path in STATIC.glob("*.js"):
        part = chat if path.stem in OF_A_CHAT else first
        part.update(dict.fromkeys(re.findall(r'\b(?:t|rich)\(\s*"((?:[^"\\]|\\.)*)"', path.read_text())))
    assert set(json.loads((STATIC / "zh.json").read_text())) == set(first)
    assert set(json.loads((STATIC / "zh-chat.json").read_text())) == set(chat) - set(first)


@pytest.fixture(scope="module")
def strict():
    with gateway(environ={"KILO_TOOL_STRICT": "true"}) as one:
        yield one


@pytest.mark.parametrize("path", sorted(path for path in (STATIC / "examples").iterdir()
                                        if path.suffix in (".sh", ".py")), ids=lambda path: path.name)
def test_an_example_does_what_it_says(strict, path):
    """Those in JavaScript are run by `make test-clients`."""
    text = path.read_text().replace("http://127.0.0.1:8002", strict.url)
    run = subprocess.run(["bash"] if path.suffix == ".sh" else [sys.executable], input=text, text=True,
                         capture_output=True, timeout=60)
    assert run.returncode == 0 and EXPECTED[path.stem] in run.stdout


def test_every_example_is_there_in_every_language():
    assert {path.name for path in (STATIC / "examples").iterdir()} == {
        f"{task}.{ending}" for task in EXPECTED for ending in ("sh", "py", "mjs")}
