"""The OpenAPI document tells the truth: what it says of the code, and of what the service answers."""

import json
import re
from copy import deepcopy

import pytest
import requests
import schemathesis
from conftest import MODEL, ROOT, gateway, until
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from schemathesis.specs.openapi import checks
from test_bad_input import JUNK, UNFIT, VALID, places

from cursor2api import __version__
from cursor2api.errors import KINDS, BadRequest
from cursor2api.dialects import Options
from cursor2api.dialects.checks import load
from cursor2api.dialects.served import DIALECTS
from cursor2api.server.views import routes

TEXT = (ROOT / "static/openapi.json").read_text("utf-8")
DOCUMENT = json.loads(TEXT)
API = schemathesis.openapi.from_dict(deepcopy(DOCUMENT))
SCHEMAS = DOCUMENT["components"]["schemas"]
# By dialect: the schema of its body, a body, and where the schema has its properties.
BODIES = {"chat_completions": ("Chat", {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}, "Chat"),
          "responses": ("Ask", {"model": MODEL, "input": "Hi"}, "AskOfTokens")}
ROWS = [(dialect, name) for dialect in DIALECTS for name in SCHEMAS[BODIES[dialect.name][2]]["properties"]]
KEY = {"Authorization": "Bearer 0000"}


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
    expected = {"/v1/chat/completions": chat - {404}, "/v1/models": upstream, "/v1/models/{model}":
                upstream | {404}, "/metrics": {401, 403}, "/ready": {503}, "/static/{name}": {404},
                "/v1/responses": chat, "/v1/responses/input_tokens": chat - {429, 502, 503, 504}}
    stored = {400, 401, 403, 404}
    own = {("GET", "/v1/responses"): {401, 403, 426}, ("GET", "/v1/responses/{id}"): stored,
           ("DELETE", "/v1/responses/{id}"): stored - {400}, ("GET", "/v1/responses/{id}/input_items"): stored,
           ("POST", "/v1/responses/{id}/cancel"): stored}
    for (method, path), operation in operations().items():
        assert {int(status) for status in operation["responses"]} - {200, 304} == own.get(
            (method, path), expected.get(path, set()))
    described = {int(number) for number in re.findall(r"\b[45]\d\d\b", DOCUMENT["info"]["description"])}
    assert every <= described.union(*expected.values(), *own.values())


def judge(dialect):
    return Draft202012Validator({"$ref": f"#/components/schemas/{BODIES[dialect.name][0]}",
                                 "components": DOCUMENT["components"]})


def accepted(body, dialect=DIALECTS[0]):
    """Whether the service takes the body; None if it breaks what no schema can say."""
    try:
        dialect.parse(load(json.dumps(body).encode()), Options(max_n=128))
    except BadRequest as error:
        if error.code == "previous_response_not_found":
            return None
        return None if re.search("got both|no other tool|as there are no tools|one of the tools|"
                                 "levels|finite|digits", error.message) else False
    return True


def samples(schema, dialect, name):
    """Values at and just over the bounds that the document has for a parameter, or its row in the code."""
    row = next(parameter for parameter in dialect.parameters if parameter.name == name)
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


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_the_document_has_the_parameters_of_the_code_and_no_other(dialect):
    schema, _, place = BODIES[dialect.name]
    assert list(SCHEMAS[place]["properties"]) == [parameter.name for parameter in dialect.parameters]
    required = [parameter.name for parameter in dialect.parameters if parameter.required]
    assert SCHEMAS[schema]["required"][:len(required)] == required


@pytest.mark.parametrize("dialect, name", ROWS, ids=lambda value: getattr(value, "name", value))
def test_the_document_takes_for_a_parameter_what_the_code_takes(dialect, name):
    _, body, place = BODIES[dialect.name]
    schema = SCHEMAS[place]["properties"][name]
    known = [accepted({**body, name: value}, dialect) for value in samples(schema, dialect, name)]
    assert {True, False} <= {*known}
    for value, taken in zip(samples(schema, dialect, name), known):
        assert taken in (None, judge(dialect).is_valid({**body, name: value})), value


@st.composite
def changed(draw):
    """A valid body of which some places hold something else, or nothing."""
    body = deepcopy(draw(st.sampled_from(VALID)))
    for _ in range(draw(st.integers(1, 3))):
        node, key = draw(st.sampled_from([*places(body)]))
        if draw(st.booleans()):
            node[key] = draw(JUNK)
        elif len(body) > 1:
            del node[key]
    return body


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(changed())
def test_the_document_takes_the_bodies_that_the_code_takes(body):
    assert accepted(body) in (None, judge(DIALECTS[0]).is_valid(body))


@pytest.fixture(scope="module")
def service():
    with gateway(environ={"MAX_N": "128"}) as one:
        assert until(lambda: one.get("/ready").ok)
        yield one


def servable(path, body):
    """Changes a body to what no schema can say: a model that there is, few images, tools that go together."""
    if path != "/v1/chat/completions":
        body.update(model=MODEL, tool_choice=None, previous_response_id=None, input=body.get("input") or [],
                    tools=body.get("tools") and body["tools"][:1])
        return
    body.update(model=MODEL, n=min(body.get("n") or 1, 2), functions=None, function_call=None, tool_choice=None)
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
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_the_service_answers_as_the_document_says(case, service):
    if case.meta.generation.mode.is_positive and isinstance(case.body, dict):
        servable(case.path, case.body)
    response = case.call(base_url=service.url, headers=KEY, timeout=30)
    assert response.status_code < 500 or response.json()["error"]["code"] in UNFIT
    refused = response.status_code == 426  # whatever is asked
    case.validate_response(response, checks=[
        check for check in CHECKED if not (refused and check is checks.positive_data_acceptance)])
