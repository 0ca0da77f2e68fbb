"""The official Python client's `responses`, and LangChain over it, unmodified: tools, streams, forms of output."""

import json
import sys
from pathlib import Path

import openai
import pytest
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from conftest import MODEL, UPSTREAMS, gateway  # noqa: E402

TOOLS = [{"type": "function", "name": "get_weather", "strict": True, "parameters": {
    "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}]
ASK = [{"role": "user", "content": "What is the weather in Paris? Use get_weather."}]


class Person(BaseModel):
    name: str
    age: int


@pytest.fixture(scope="module", params=UPSTREAMS)
def url(request):
    with gateway(upstream=request.param) as gate:
        yield gate.url + "/v1"


@pytest.fixture
def api(url):
    return openai.OpenAI(base_url=url, api_key="0000", max_retries=0).responses


def created(api, **options):
    return api.create(model=MODEL, **options)


def streamed(api, **options):
    with api.stream(model=MODEL, **options) as stream:
        return stream.get_final_response()


@pytest.mark.parametrize("say", [created, streamed])
def test_tools_go_round(api, say):
    response = say(api, input=ASK, tools=TOOLS)
    [call] = response.output
    assert json.loads(call.arguments) == {"city": "Paris"}
    said = [item.model_dump(exclude={"parsed_arguments"}) for item in response.output]
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "18 degrees"}
    after = say(api, input=[*ASK, *said, result], tools=TOOLS)
    assert "18 degrees" in after.output_text and after.usage.total_tokens > 0


def test_structured_output(api):
    assert api.parse(model=MODEL, input="Ada is 36", text_format=Person).output_parsed.age == 36
    with api.stream(model=MODEL, input="Ada is 36", text_format=Person) as stream:
        assert stream.get_final_response().output_parsed.age == 36


def test_every_event_is_one_that_the_client_knows(api):
    events = [*api.create(model=MODEL, input="Say hello", stream=True)]
    assert [event.sequence_number for event in events] == [*range(len(events))]
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == "hello"
    assert events[-1].response.output_text == "hello"


def test_a_custom_tool_has_its_input_raw(api):
    custom = {"type": "custom", "name": "run_sql", "description": "Runs SQL"}
    for say in (created, streamed):
        [call] = say(api, input="Use run_sql: `select 'a\\\\b'`", tools=[custom]).output
        assert (call.type, call.input) == ("custom_tool_call", "select 'a\\\\b'")


@pytest.mark.parametrize("say", [created, streamed])
def test_a_response_is_gone_on_from_shown_and_deleted(api, say):
    first = say(api, input="My name is Ann.")
    second = say(api, input="What is my name?", previous_response_id=first.id)
    assert second.output_text == "Your name is Ann." and second.previous_response_id == first.id
    assert api.retrieve(second.id).output_text == second.output_text
    assert [item.content[0].text for item in api.input_items.list(first.id)] == ["My name is Ann."]
    assert api.input_tokens.count(model=MODEL, input="Hi").input_tokens > 0
    with pytest.raises(openai.BadRequestError, match="Cannot cancel a synchronous response"):
        api.cancel(first.id)
    api.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        api.retrieve(first.id)
    with pytest.raises(openai.BadRequestError) as raised:
        say(api, input="What is my name?", previous_response_id=second.id)
    assert raised.value.code == "previous_response_not_found"


def test_silence_is_no_hindrance():
    with gateway({"replies": [{"text": "At last.", "first": 2, "times": 0}]},
                 {"HEARTBEAT_S": "0.3", "FIRST_BYTE_S": "0.1"}, "cloud") as gate:
        api = openai.OpenAI(base_url=gate.url + "/v1", api_key="0000", max_retries=0).responses
        events = [*api.create(model=MODEL, input="Hi", stream=True)]
        assert "keepalive" in [event.type for event in events] and events[-1].response.output_text == "At last."
        assert streamed(api, input="Hi").output_text == "At last."
        chat = ChatOpenAI(model=MODEL, base_url=gate.url + "/v1", api_key="0000", use_responses_api=True)
        assert "".join(chunk.text for chunk in chat.stream("Hi")) == "At last."


def test_a_wrong_previous_response_is_an_error(api):
    with pytest.raises(openai.BadRequestError) as raised:
        api.create(model=MODEL, input="x", previous_response_id="resp_0")
    assert raised.value.code == "previous_response_not_found"


def test_langchain_calls_tools_and_streams(url):
    @tool
    def get_weather(city: str) -> str:
        """Weather of a city."""
        return f"18 degrees in {city}"

    model = ChatOpenAI(model=MODEL, base_url=url, api_key="0000", max_retries=0, use_responses_api=True)
    bound = model.bind_tools([get_weather])
    said = bound.invoke(ASK)
    [call] = said.tool_calls
    assert call["args"] == {"city": "Paris"}
    after = bound.invoke([*ASK, said, get_weather.invoke(call)])
    assert "18 degrees in Paris" in after.text
    assert "".join(chunk.text for chunk in model.stream("Say hello")) == "hello"
    assert model.with_structured_output(Person).invoke("Ada is 36").age == 36
    chained = ChatOpenAI(model=MODEL, base_url=url, api_key="0000", use_previous_response_id=True)
    talk = [HumanMessage("My name is Ann."), chained.invoke("My name is Ann."), HumanMessage("What is my name?")]
    assert chained.invoke(talk).text == "Your name is Ann."
