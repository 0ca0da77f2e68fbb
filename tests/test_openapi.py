"""The OpenAPI document tells the truth: what it says of the code, and of what the service answers."""

import json
import re
from copy import deepcopy

import pytest
import requests
import schemathesis
from conftest import MODEL, ROOT, gateway, until
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from schemathesis.specs.openapi import checks
from test_bad_input import JUNK, UNFIT, VALID, places
from test_messages import ASKED, READ

from cursor2api import __version__
from cursor2api.dialects import Options
from cursor2api.dialects.chat_completions import CHAT_COMPLETIONS
from cursor2api.dialects.checks import load
from cursor2api.dialects.messages import MESSAGES
from cursor2api.dialects.responses import RESPONSES
from cursor2api.errors import KINDS, BadRequest
from cursor2api.server.views import routes

TEXT = (ROOT / "static/openapi.json").read_text("utf-8")
DOCUMENT = json.loads(TEXT)
API = schemathesis.openapi.from_dict(deepcopy(DOCUMENT))
SCHEMAS = DOCUMENT["components"]["schemas"]
SHORT = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
LIMITED, ASK = {**SHORT, "max_tokens": 9}, {"model": MODEL, "input": "Hi"}
BODIES = {  # by the schema of a request: its dialect, the shortest body, bodies with all that there is
    "Chat": (CHAT_COMPLETIONS, SHORT, VALID), "Ask": (RESPONSES, ASK, [ASK]),
    "Messages": (MESSAGES, LIMITED, [
        *({**LIMITED, "messages": row[1]} for row in READ), *({**LIMITED, **row[1]} for row in ASKED)])}
PLACES = {"Ask": "AskOfTokens"}  # where a schema has its properties, if not itself
JUDGES = {name: Draft202012Validator({
    "$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}) for name in BODIES}
KEY = {"Authorization": "Bearer 0000"}
every_dialect = pytest.mark.parametrize("dialect", BODIES)


def properties(dialect):
    return SCHEMAS[PLACES.get(dialect, dialect)]["properties"]


def test_the_document_is_served_to_everybody(gate):
    response = requests.get(gate.url + "/openapi.json", timeout=10)
    assert response.text == TEXT and response.headers["Content-Type"] == "application/json"
    assert DOCUMENT["info"]["version"] == __version__


def test_the_document_is_openapi():
    API.validate()
    assert DOCUMENT["openapi"].startswith("3.1.")
    names = set(re.findall(r'"#/components/(\w+/\w+)"', TEXT))
    assert names == {f"{kind}/{name}" for kind, parts in DOCUMENT["components"].items() for name in parts
                     if kind != "securitySchemes"}


def operations():
    return {(method.upper(), path): operation for path, methods in DOCUMENT["paths"].items()
            for method, operation in methods.items()}


def test_the_document_has_the_routes_of_the_service_and_no_other():
    assert {place: operation.get("security") != [] for place, operation in operations().items()} == {
        (route["method"], route["path"]): route["key"] for route in routes()}


def test_the_document_has_each_status_that_a_route_can_answer():
    """Those of the table of errors, but for an unknown route or method and what is a fault of ours."""
    upstream = {400, 401, 403, 429, 502, 503, 504}
    every = {kind.status for kind in KINDS}
    chat = every - {405, 426}
    messages = chat - {503} | {529}
    expected = {"/v1/chat/completions": chat - {404}, "/v1/models": upstream, "/v1/models/{model}":
                upstream | {404}, "/metrics": {401, 403}, "/ready": {503}, "/static/{name}": {404},
                "/v1/responses": chat, "/v1/responses/input_tokens": chat - {429, 502, 503, 504},
                "/v1/messages": messages, "/v1/messages/count_tokens": messages}
    stored = {400, 401, 403, 404}
    own = {("GET", "/v1/responses"): {401, 403, 426}, ("GET", "/v1/responses/{id}"): stored,
           ("DELETE", "/v1/responses/{id}"): stored - {400}, ("GET", "/v1/responses/{id}/input_items"): stored,
           ("POST", "/v1/responses/{id}/cancel"): stored}
    for (method, path), operation in operations().items():
        assert {int(status) for status in operation["responses"]} - {200, 304} == own.get(
            (method, path), expected.get(path, set()))
    described = {int(number) for number in re.findall(r"\b[45]\d\d\b", DOCUMENT["info"]["description"])}
    assert every <= described.union(*expected.values(), *own.values())


def accepted(dialect, body):
    """Whether the service takes the body; None if it breaks what no schema can say."""
    try:
        BODIES[dialect][0].parse(load(json.dumps(body).encode()), Options(max_n=128))
    except BadRequest as error:
        if error.code == "previous_response_not_found":
            return None
        return None if re.search("got both|no other tool|as there are no tools|one of the tools|"
                                 "levels|finite|digits", error.message) else False
    return True


def samples(dialect, name):
    """Values at and just over the bounds that the document has for a parameter, or its row in the code."""
    schema = properties(dialect)[name]
    row = next(parameter for parameter in BODIES[dialect][0].parameters if parameter.name == name)
    bounds = [int(number) for number in re.findall(r"-?\d+", row.range)]
    bounds += [schema[word] for word in ("minimum", "maximum") if word in schema]
    yield from (value for bound in bounds for value in (bound - 1, bound, bound + 1, bound + 0.5))
    for bound in {schema.get(word, 0) for word in ("maxLength", "maxItems", "maxProperties")} | {*bounds}:
        for size in (bound - 1, bound, bound + 1) if 0 <= bound < 1000 else ():
            yield from ("x" * size, ["x"] * size, {str(n): "x" for n in range(size)}, {"x" * size: "x"},
                        {"x": "x" * size}, [{"name": f"n{n}", "function": {"name": f"n{n}"}} for n in range(size)])
    words = [word.strip() for word in row.range.split(",")] + schema.get("enum", [])
    words += [word for part in schema.get("anyOf", ()) for word in part.get("enum", ())]
    yield from (form for word in words for form in (word, [word], {"type": word}, {word: True}, {word: "x"}))
    yield [{"role": "user", "content": "x"}]
    yield from (None, True, 0, 1, 1.5, -1, "", "x", [], [""], [1], [None], {}, {"x": 1}, {"x": None}, {"1": 100.5})


@every_dialect
def test_the_document_has_the_parameters_of_the_code_and_no_other(dialect):
    parameters = BODIES[dialect][0].parameters
    assert list(properties(dialect)) == [parameter.name for parameter in parameters]
    required = [parameter.name for parameter in parameters if parameter.required]
    assert SCHEMAS[dialect]["required"][:len(required)] == required


@pytest.mark.parametrize("dialect, name", [(dialect, name) for dialect in BODIES
                                           for name in properties(dialect)])
def test_the_document_takes_for_a_parameter_what_the_code_takes(dialect, name):
    body = BODIES[dialect][1]
    known = [accepted(dialect, {**body, name: value}) for value in samples(dialect, name)]
    assert {True, False} <= {*known}
    for value, taken in zip(samples(dialect, name), known):
        assert taken in (None, JUDGES[dialect].is_valid({**body, name: value})), value


WHITE = [*map(chr, range(33)), *"\x7f\x85\xa0\u1680\u2000\u2028\u2029\u3000\ufeff"]


@pytest.mark.parametrize("white", WHITE, ids=ascii)
def test_the_document_takes_the_white_space_in_a_url_that_the_code_takes(white):
    urls = [f"http://{white}x", f"http://x{white}y", f"{white}http://x", f"data:image/png;a{white};base64,AAAA"]
    if white != "\n":  # Python's $ matches before it, JSON Schema's does not
        urls += [f"http://x{white}", f"data:image/png;base64,AAAA{white}"]
    for url in urls:
        body = {"model": MODEL, "messages": [{"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": url}}]}]}
        assert accepted("Chat", body) == JUDGES["Chat"].is_valid(body), url


@st.composite
def changed(draw, valid):
    """A valid body of which some places hold something else, or nothing."""
    body = deepcopy(draw(st.sampled_from(valid)))
    for _ in range(draw(st.integers(1, 3))):
        node, key = draw(st.sampled_from([*places(body)]))
        if draw(st.booleans()):
            node[key] = draw(JUNK)
        elif len(body) > 1:
            del node[key]
    return body


@every_dialect
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_the_document_takes_the_bodies_that_the_code_takes(dialect, data):
    body = data.draw(changed(BODIES[dialect][2]))
    assert accepted(dialect, body) in (None, JUDGES[dialect].is_valid(body))


@pytest.fixture(scope="module")
def service():
    with gateway(environ={"MAX_N": "128"}) as one:
        assert until(lambda: one.get("/ready").ok)
        yield one


def servable(path, body):
    """Changes a body to what no schema can say: a model that there is, few images, tools that go together."""
    body.update(model=MODEL, tool_choice=None)
    if path.startswith("/v1/responses"):
        body.update(previous_response_id=None, input=body.get("input") or [],
                    tools=body.get("tools") and body["tools"][:1])
        return
    if path == "/v1/chat/completions":
        body.update(n=min(body.get("n") or 1, 2), functions=None, function_call=None)
    for message in body["messages"]:
        if isinstance(message.get("content"), list) and message["role"] == "user":
            del message["content"][1:]
    del body["messages"][5:]
    tools = body.get("tools") or []
    for number, tool in enumerate(tools):
        (tool.get("function") or tool)["name"] = f"tool{number}"


CHECKED = [checks.status_code_conformance, checks.content_type_conformance, checks.response_schema_conformance,
           checks.negative_data_rejection, checks.positive_data_acceptance, checks.unsupported_method,
           checks.ignored_auth]


@API.parametrize()
@settings(max_examples=15, deadline=None, derandomize=True, phases=[Phase.generate],
          suppress_health_check=list(HealthCheck))
def test_the_service_answers_as_the_document_says(case, service):
    if case.meta.generation.mode.is_positive and isinstance(case.body, dict):
        servable(case.path, case.body)
    response = case.call(base_url=service.url, headers=KEY, timeout=30)
    error = response.json()["error"] if response.status_code >= 500 else {}
    assert not error or (error["code"] if "code" in error else error["details"]["error_code"]) in UNFIT
    refused = response.status_code == 426  # whatever is asked
    case.validate_response(response, checks=[
        check for check in CHECKED if not (refused and check is checks.positive_data_acceptance)])
