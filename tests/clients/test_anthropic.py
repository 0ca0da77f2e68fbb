"""Clients of Anthropic's API in Python, unmodified: its official one, LangChain's ChatAnthropic, pydantic-ai."""

import sys
from pathlib import Path

import anthropic
import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.providers.anthropic import AnthropicProvider

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from conftest import MODEL, UPSTREAMS, gateway  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:The model:DeprecationWarning")  # of whatever age it is
ASK = {"model": MODEL, "max_tokens": 1000, "messages": [{"role": "user", "content": "Hello"}]}
WEATHER = "What is the weather in Paris? Use get_weather."


class Person(BaseModel):
    name: str
    age: int


@anthropic.beta_tool
def get_weather(city: str) -> str:
    """Weather of a city."""
    return f"18 degrees in {city}"


@pytest.fixture(scope="module", params=UPSTREAMS)
def gate(request):
    with gateway(upstream=request.param, environ={"KEEP_AGENTS": "32"}) as one:
        yield one


@pytest.fixture
def api(gate):
    gate.simulator.forget()
    return anthropic.Anthropic(base_url=gate.url, api_key="0000", max_retries=0, _strict_response_validation=True)


def test_messages_streamed_and_not(api):
    whole = api.messages.create(**ASK)
    with api.messages.stream(**ASK) as stream:
        assert "".join(stream.text_stream) == whole.content[0].text
        final = stream.get_final_message()
    assert (final.stop_reason, final.model, final.usage.output_tokens) == (
        whole.stop_reason, whole.model, whole.usage.output_tokens)
    counted = api.messages.count_tokens(model=MODEL, messages=ASK["messages"])
    assert counted.input_tokens > 0 and whole._request_id.startswith("req_")


@pytest.mark.parametrize("stream", [False, True])
def test_the_tool_runner_goes_on_without_threads(gate, api, stream):
    runner = api.beta.messages.tool_runner(**{**ASK, "messages": [{"role": "user", "content": WEATHER}]},
                                           tools=[get_weather], stream=stream)
    assert "18 degrees in Paris" in runner.until_done().content[0].text
    assert gate.upstream != "cloud" or [len(agent["runs"]) for agent in gate.agents()] == [2]


def test_structured_output(api):
    ada = {**ASK, "messages": [{"role": "user", "content": "Ada is 36"}]}
    assert api.messages.parse(**ada, output_format=Person).parsed_output.age == 36


def test_models_are_paged(api):
    ids = [model.id for model in api.models.list(limit=2)]
    assert len(ids) > 2 and MODEL in ids and api.models.retrieve(MODEL).id == MODEL


@pytest.mark.parametrize("change, error, kind", [
    ({"model": "nope"}, anthropic.NotFoundError, "not_found_error"),
    ({"max_tokens": 0}, anthropic.BadRequestError, "invalid_request_error"),
    ({"extra_body": {"thread": {"type": "create"}}}, anthropic.BadRequestError, "invalid_request_error")])
def test_an_error_has_its_class_and_type(api, change, error, kind):
    for stream in (False, True):
        with pytest.raises(error) as caught:
            api.messages.create(**{**ASK, **change, "stream": stream})
        assert caught.value.type == kind and caught.value.request_id.startswith("req_")


def test_a_wrong_key_and_a_stream_that_fails(gate, api):
    with pytest.raises(anthropic.AuthenticationError):
        api.with_options(api_key="wrong").messages.create(**ASK)
    if gate.upstream != "cloud":
        return
    gate.simulator.script({"replies": [{"text": "one two", "status": "ERROR"}]})
    with pytest.raises(anthropic.APIStatusError) as caught, api.messages.stream(**ASK) as stream:
        stream.until_done()
    assert caught.value.type == "api_error"


def test_langchain(gate, api):
    llm = ChatAnthropic(model=MODEL, base_url=gate.url, api_key="0000", max_retries=0, max_tokens=1000)
    bound = llm.bind_tools([tool(get_weather.func)])
    messages = [HumanMessage(WEATHER)]
    reply = bound.invoke(messages)
    [call] = reply.tool_calls
    assert call["args"] == {"city": "Paris"} and reply.usage_metadata["input_tokens"] > 0
    messages += [reply, ToolMessage("18 degrees", tool_call_id=call["id"])]
    assert "18" in bound.invoke(messages).text
    pieces = list(llm.stream("Hello"))
    whole = pieces[0]
    for piece in pieces[1:]:
        whole += piece
    assert whole.text and whole.usage_metadata["output_tokens"] > 0
    for method in ("json_schema", "function_calling"):
        assert llm.with_structured_output(Person, method=method).invoke("Ada is 36").age == 36


def test_pydantic_ai(gate, api):
    model = AnthropicModel(MODEL, provider=AnthropicProvider(base_url=gate.url, api_key="0000"))
    agent = Agent(model, tools=[get_weather.func])
    assert "18 degrees in Paris" in agent.run_sync(WEATHER).output
    assert Agent(model, output_type=Person).run_sync("Ada is 36").output.age == 36
