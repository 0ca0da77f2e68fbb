"""The official Python client, unmodified: its tool and structured-output round trips, streamed and not."""

import json
import sys
from pathlib import Path

import openai
import pytest
from pydantic import BaseModel, Field

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from conftest import MODEL, UPSTREAMS, gateway  # noqa: E402


class Person(BaseModel):
    name: str
    age: int


class GetWeather(BaseModel):
    """Weather of a city."""

    city: str = Field(description="The city's name")


TOOLS = [openai.pydantic_function_tool(GetWeather, name="get_weather")]
ASK = [{"role": "user", "content": "What is the weather in Paris? Use get_weather."}]
ADA = [{"role": "user", "content": "Ada is 36"}]


@pytest.fixture(scope="module", params=UPSTREAMS)
def api(request):
    with gateway(upstream=request.param) as gate:
        yield openai.OpenAI(base_url=gate.url + "/v1", api_key="0000", max_retries=0).chat.completions


def created(api, **options):
    return api.create(model=MODEL, **options).choices[0].message


def streamed(api, **options):
    with api.stream(model=MODEL, **options) as stream:
        return stream.get_final_completion().choices[0].message


def parsed(api, **options):
    return api.parse(model=MODEL, **options).choices[0].message


@pytest.mark.parametrize("say", [created, streamed, parsed])
def test_tools_go_round(api, say):
    message = say(api, messages=ASK, tools=TOOLS)
    [call] = message.tool_calls
    assert json.loads(call.function.arguments) == {"city": "Paris"}
    if say is not created:
        assert call.function.parsed_arguments == GetWeather(city="Paris")
    said = message.model_dump(exclude={"parsed"}, exclude_none=True)
    result = {"role": "tool", "tool_call_id": call.id, "content": "18 degrees"}
    after = say(api, messages=[*ASK, said, result], tools=TOOLS)
    assert "18 degrees" in after.content and not after.tool_calls


@pytest.mark.parametrize("say", [streamed, parsed])
def test_structured_output(api, say):
    assert say(api, messages=ADA, response_format=Person).parsed.age == 36


def test_the_events_of_a_stream(api):
    with api.stream(model=MODEL, messages=ASK, tools=TOOLS) as stream:
        kinds = [event.type for event in stream]
    assert {"chunk", "tool_calls.function.arguments.delta", "tool_calls.function.arguments.done"} <= {*kinds}
    with api.stream(model=MODEL, messages=ADA, response_format=Person) as stream:
        [done] = [event for event in stream if event.type == "content.done"]
    assert done.parsed.age == 36


def test_a_call_that_is_cut_is_the_parsers_own_error(api):
    for say in (streamed, parsed):
        with pytest.raises(openai.LengthFinishReasonError):
            say(api, messages=ASK, tools=TOOLS, max_tokens=2)
