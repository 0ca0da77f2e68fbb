"""The seam of the dialects: one that no other file knows is served like those that we ship."""

import json
import re
from dataclasses import replace

import pytest
from conftest import MODEL
from werkzeug.test import Client

from cursor2api.start import create_app
from cursor2api.chat import Chat, Message, Tool, ToolChoice
from cursor2api.config import Config
from cursor2api.dialects import Answer, Dialect, Frame, ModelForm, Parsed, Route
from cursor2api.dialects.checks import Parameter, array, boolean, integer, read_parameters, string
from cursor2api.dialects.served import DIALECTS
from cursor2api.errors import BadRequest
from cursor2api.events import Finish, Reasoning, Text, ToolCall
from cursor2api.simulator import serve

PARAMETERS = (
    Parameter("who", "string", "", None, "honoured", "The model.", string(1), required=True),
    Parameter("say", "string", "", None, "honoured", "What is said.", string(), required=True),
    Parameter("live", "boolean", "", False, "honoured", "Stream the reply.", boolean),
    Parameter("until", "array", "", (), "honoured", "Stop sequences.", array(string())),
    Parameter("tool", "string", "", None, "honoured", "A tool that must be called.", string()),
    Parameter("times", "integer", "", 1, "honoured", "How many replies.", integer(1, 9)),
    Parameter("deep", "boolean", "", False, "honoured", "Think, where the model can.", boolean),
    Parameter("quiet", "boolean", "", False, "honoured", "Show no thinking.", boolean),
    Parameter("all", "boolean", "", False, "honoured", "Leave nothing out.", boolean),
    Parameter("mood", "string", "", None, "ignored", "Nothing.", string()))
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def parse(body, options):
    given, ignored = read_parameters(body, PARAMETERS, options.strict_params)
    tools = (Tool(given["tool"], "", SCHEMA),) if given["tool"] else ()
    told = [Message(role, (text,)) for role, text in zip(("user", "assistant") * 9, given["say"].split("|"))]
    chat = Chat(given["who"], tuple(told), stream=given["live"], n=given["times"],
                stop=tuple(given["until"]), tools=tools, think=given["deep"], hide_thinking=given["quiet"],
                whole_history=given["all"],
                tool_choice=ToolChoice("required" if tools else "none"))
    return Parsed(chat, {"greeting": body.get("greeting", "hello")}, ignored)


class Writer:
    """Every frame has a number: so a frame can be made when it leaves, and not before."""

    def __init__(self, identity, chat, wishes):
        self._identity, self._wishes, self._number = identity, wishes, 0

    def _frame(self, event, **members):
        self._number += 1
        return Frame(json.dumps({"number": self._number - 1, **members}), f"toy.{event}")

    def begin(self):
        return [self._frame("begin", id=f"toy_{self._identity.token}", greeting=self._wishes["greeting"])]

    def add(self, index, event):
        kind = type(event)
        if kind is Text or kind is Reasoning:
            return [self._frame("text", of=index, text=event.text)]
        if kind is ToolCall:
            return [self._frame("call", of=index, name=event.name, more=event.arguments)]
        if kind is Finish:
            return [self._frame("finish", of=index, why=event.reason, at=event.stop_sequence)]
        return []

    def end(self, usage):
        return [self._frame("end", tokens=usage.completion_tokens), self._frame("bye")]

    def fail(self, error):
        return [self._frame("fail", **refusal(error, self._identity.request).body)]

    def heartbeat(self):
        return self._frame("beat")

    def body(self, replies, usage):
        return {"greeting": self._wishes["greeting"], "tokens": usage.completion_tokens, "replies": [
            {"text": reply.reasoning + reply.text, "calls": [[call.name, call.arguments] for call in reply.calls],
             "why": reply.finish.reason, "at": reply.finish.stop_sequence} for reply in replies]}


def refusal(error, request):
    return Answer(529 if error.status == 503 else error.status, {"oops": error.message, "of": request})


def weigh(asked):
    if asked.query.get("scale") == "none":
        raise BadRequest("scale: expected one", param="scale")
    return Answer(202, {"tokens": asked.prompt_tokens(parse(asked.body, asked.options).chat), "for": asked.caller},
                  {"x-scale": "kitchen"})


def name(asked):
    return Answer(200, {"name": asked.values["name"], "body": asked.body})


TOY = Dialect("toy", "A toy", ("/v1/toys/play", "/play"), PARAMETERS, parse, Writer, refusal,
              routes=(Route("weigh", "POST", ("/v1/toys/weigh", "/weigh"), "Its tokens", weigh),
                      Route("named", "GET", ("/v1/toys/play/<name>",), "A name", name),
                      Route("forget", "DELETE", ("/v1/toys/play/<name>",), "No name", name)),
              id_header="toy-id", call_id="toy_", headers=("toy-version", "toy-mood"),
              models=ModelForm(lambda model: {"toy": model["id"]},
                               lambda models, query: {"toys": len(models), "asked": query}))


class Service:
    """The whole service in this process, its upstream a simulator; `ask` sends one request to it."""

    def __init__(self, simulator, **settings):
        self.simulator = simulator
        self.app = create_app(Config.read({
            "UPSTREAM": "cloud", "API_KEY": "key", "CURSOR_API_KEY": "k", "CURSOR_BASE_URL": simulator.url,
            "KEEP_AGENTS": "0", "RETRY_S": "0.01", **settings}), dialects=(*DIALECTS, TOY))
        self.client = Client(self.app)

    def ask(self, path="/v1/toys/play", method="POST", key="key", data=None, reply=(), headers=(), **body):
        """`reply` adds to what the simulator is told to say; with None it has words of its own."""
        self.simulator.script({"replies": [] if reply is None else [
            {"text": "one two three", "times": 0, "twins": False, **dict(reply)}]})
        data = json.dumps({"who": MODEL, "say": "Hi", **body}).encode() if data is None else data
        response = self.client.open(path, method=method, data=data, headers={
            "Authorization": f"Bearer {key}", "Content-Type": "application/json", "x-request-id": "req_1",
            **dict(headers)})
        response.get_data()
        response.close()
        return response


@pytest.fixture
def service():
    made = []
    with serve() as simulator:
        def start(**settings):
            made.append(Service(simulator, **settings))
            return made[-1]
        yield start
        for each in made:
            each.app.service.close()


def test_a_dialect_has_endpoints_that_are_no_chats(service):
    one = service()
    for path in ("/v1/toys/weigh", "/weigh"):
        answer = one.ask(path)
        assert answer.status_code == 202
        assert [answer.headers[name] for name in ("x-scale", "toy-id")] == ["kitchen", "req_1"]
        assert answer.json["tokens"] > 50 and answer.json["for"]
        assert one.ask(path, say="Hi" * 400).json["tokens"] == answer.json["tokens"] + 199
    refused = one.ask("/v1/toys/weigh?scale=none")
    assert (refused.status_code, refused.json) == (400, {"oops": "scale: expected one", "of": "req_1"})
    assert one.ask("/v1/toys/weigh", key="wrong").status_code == 401
    assert one.ask("/v1/toys/weigh", data=b"{").json["oops"].startswith("The body is not JSON")
    assert not one.simulator.state["agents"]
    for method in ("GET", "DELETE"):
        assert one.ask("/v1/toys/play/jo", method).json == {"name": "jo", "body": {}}
    assert one.ask("/v1/toys/play/jo", "PUT").headers["Allow"] == "DELETE, GET, HEAD, OPTIONS"


def frames(response):
    """(event, data) of each frame; their numbers are without gaps."""
    read = [(event.removeprefix("event: toy."), json.loads(data.removeprefix("data: ")))
            for event, data in (frame.split("\n") for frame in response.text.removesuffix("\n\n").split("\n\n"))]
    assert [data.pop("number") for _, data in read] == list(range(len(read)))
    return read


def test_a_stream_is_the_frames_of_its_writer(service):
    response = service().ask(live=True, greeting="hey", until=["three"])
    assert (response.status_code, response.mimetype) == (200, "text/event-stream")
    (begin, first), *texts, finish, end, bye = frames(response)
    assert begin == "begin" and first["greeting"] == "hey" and len(first["id"]) == 28
    assert {event for event, _ in texts} == {"text"}
    assert "".join(data["text"] for _, data in texts) == "one two "
    assert finish == ("finish", {"of": 0, "why": "stop", "at": "three"})
    assert end[0] == "end" and end[1]["tokens"] > 0 and bye == ("bye", {})


def test_a_body_is_that_of_its_writer(service):
    response = service().ask(until=["three"], times=2, mood="x")
    body = response.json
    assert body.pop("tokens") > 0
    assert body == {"greeting": "hello", "replies": [
        {"text": "one two ", "calls": [], "why": "stop", "at": "three"}] * 2}
    assert response.headers["x-cursor2api-ignored"] == "mood"
    assert response.headers["x-cursor2api-usage"] == "estimate"


@pytest.mark.parametrize("live", [False, True], ids=["body", "stream"])
def test_a_call_is_the_same_event_in_every_dialect(service, live):
    response = service().ask("/play", reply=None, say="How is the weather?", tool="get_weather", live=live)
    if live:
        calls = [data for event, data in frames(response) if event == "call"]
        call = calls[0]["name"], "".join(data["more"] for data in calls)
    else:
        (call,), = [reply["calls"] for reply in response.json["replies"]]
    assert call[0] == "get_weather" and "city" in json.loads(call[1])


def test_the_ids_of_calls_begin_as_the_dialect_says(service):
    class Ids(Writer):
        def body(self, replies, usage):
            return {"ids": [call.id for call in replies[0].calls]}

    one = service()
    one.app = create_app(one.app.service.config, dialects=(replace(TOY, writer=Ids),))
    one.client = Client(one.app)
    (id,) = one.ask(reply=None, say="How is the weather?", tool="get_weather").json["ids"]
    assert re.fullmatch("toy_[0-9a-f]{24}", id)
    one.app.service.close()


def test_thinking_is_chosen_where_the_model_has_it_and_hidden_on_wish(service):
    one, reply = service(EXPOSE_THINKING="true"), {"thinking": "hm ", "text": "so"}
    for asked, params, said in [({}, {}, "hm so"), ({"deep": True}, {"thinking": "true"}, "hm so"),
                                ({"deep": True, "quiet": True}, {"thinking": "true"}, "so")]:
        assert one.ask(reply=reply, **asked).json["replies"][0]["text"] == said
        told = one.simulator.state["agents"][-1]["params"]
        assert told.get("thinking") == params.get("thinking")
        assert "thinking>" not in one.simulator.state["agents"][-1]["runs"][0]["prompt"]


def test_a_conversation_that_is_too_long_is_cut_or_refused(service):
    one, long = service(MAX_INPUT_LENGTH="2000"), "|".join(["word " * 200] * 5)
    cut = one.ask(say=long)
    assert cut.status_code == 200 and cut.headers["x-cursor2api-left-out"]
    refused = one.ask(say=long, all=True)
    length, most = re.fullmatch(r"prompt is too long: (\d+) tokens > (\d+) maximum", refused.json["oops"]).groups()
    assert refused.status_code == 400 and int(length) > 1000 and int(most) == 500
    assert one.ask("/v1/toys/weigh", say=long, all=True).json["tokens"] == int(length)
    assert one.ask(say="word " * 1000, all=True).status_code == 200  # nothing could be left out


TOYS = {"toy-version": "1"}


def test_a_header_tells_whose_form_a_shared_path_answers_in(service):
    one = service()
    models = one.ask("/v1/models", "GET").json["data"]
    assert one.ask("/v1/models?a=1", "GET", headers=TOYS).json == {"toys": len(models), "asked": {"a": "1"}}
    id = models[0]["id"]
    assert one.ask(f"/v1/models/{id}", "GET").json == models[0]
    assert one.ask(f"/v1/models/{id}", "GET", headers=TOYS).json == {"toy": id}
    for path, status in [("/v1/models/nobody", 404), ("/v1/nothing", 404)]:
        assert one.ask(path, "GET").json.keys() == {"error"}
        answer = one.ask(path, "GET", headers=TOYS)
        assert (answer.status_code, answer.json["of"], answer.headers["toy-id"]) == (status, "req_1", "req_1")
    chat = one.ask("/v1/chat/completions", headers=TOYS, model=MODEL, messages=[{"role": "user", "content": "Hi"}])
    assert chat.json["object"] == "chat.completion" and "toy-id" not in chat.headers


@pytest.mark.parametrize("path, expected, drop", [
    ("/v1/v1/toys/play", "/v1/toys/play", ": drop /v1 from it"), ("/api/toys/play", "/v1/toys/play", ""),
    ("/v1/openai/v1/toys/play/", "/v1/toys/play", ": drop /v1/openai from it")])
def test_a_base_url_that_is_too_long_is_told_of(service, path, expected, drop):
    answer = service().ask(path)
    assert answer.status_code == 404 and answer.json["oops"].endswith(
        f"expected {expected}, the base URL is too long{drop}")


def test_pages_of_other_origins_may_send_its_headers_and_read_its_id(service):
    headers = service().ask("/v1/toys/play", "OPTIONS").headers
    assert {"toy-version", "toy-mood", "x-api-key"} <= {*headers["Access-Control-Allow-Headers"].split(", ")}
    assert {"toy-id", "x-request-id"} <= {*headers["Access-Control-Expose-Headers"].split(", ")}


def test_silence_is_filled_with_its_heartbeats(service):
    read = frames(service(HEARTBEAT_S="0.1", FIRST_BYTE_S="0.1").ask(live=True, reply={"first": 2.5}))
    assert read[1] == ("beat", {}) and read[-1] == ("bye", {})


def test_a_failure_within_a_stream_is_its_own_last_frame(service):
    *_, last = frames(service().ask(live=True, reply={"status": "ERROR"}))
    assert last[0] == "fail" and last[1]["of"] == "req_1" and last[1]["oops"]


def test_a_failure_within_a_body_that_has_begun_has_its_shape(service):
    response = service(BODY_HEARTBEAT_S="0.1").ask(reply={"status": "ERROR", "first": 2.5})
    assert response.status_code == 200 and response.data.startswith(b"\n")
    assert json.loads(response.data)["of"] == "req_1"


REFUSED = [
    ("a wrong key", {"key": "wrong"}, 401), ("a wrong method", {"method": "GET"}, 405),
    ("a path below its own", {"path": "/v1/toys/play/again/and/again"}, 404), ("no JSON", {"data": b"x"}, 400),
    ("a missing parameter", {"data": b"{}"}, 400), ("an unknown model", {"who": "nobody"}, 400),
    ("a slash behind its path", {"path": "/v1//toys/play/", "key": "wrong"}, 401)]


@pytest.mark.parametrize("asked, status", [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_every_refusal_on_its_paths_has_its_shape(service, asked, status):
    response = service().ask(**asked)
    assert response.status_code == status
    assert response.json.keys() == {"oops", "of"} and response.json["of"] == "req_1"


def test_it_may_have_statuses_of_its_own(service):
    service = service()
    service.app.service.slots.shut()
    response = service.ask()
    assert response.status_code == 529 and "oops" in response.json
    assert service.ask("/v1/chat/completions", model=MODEL, messages=[
        {"role": "user", "content": "Hi"}]).status_code == 503


def test_elsewhere_nothing_changes(service):
    service = service()
    chat = service.ask("/v1/chat/completions", model=MODEL, messages=[{"role": "user", "content": "Hi"}])
    assert chat.json["choices"][0]["message"]["content"] == "one two three"
    for path in ("/v1/toys", "/v1/models", "/v1/chat/completions"):
        assert service.ask(path, key="wrong").json.keys() == {"error"}
    assert "/v1/toys/play" in service.ask("/v1/nothing").json["error"]["message"]
    assert service.ask(live=True).text
    counts = service.ask("/metrics", method="GET").text
    assert re.search(r'cursor2api_requests_total{key="\w+",route="toy",status="200"} 1.0', counts)
