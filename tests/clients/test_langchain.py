"""LangChain's ChatOpenAI, unmodified: a tool round trip, structured output, a stream."""

import sys
from pathlib import Path

import pytest
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from conftest import MODEL, UPSTREAMS, gateway  # noqa: E402


class Person(BaseModel):
    name: str
    age: int


@tool
def get_weather(city: str) -> str:
    """Weather of a city."""
    return f"18 degrees in {city}"


@pytest.fixture(scope="module", params=UPSTREAMS)
def gate(request):
    with gateway(upstream=request.param, environ={"KEEP_AGENTS": "32"}) as one:
        yield one


@pytest.fixture
def llm(gate):
    gate.simulator.forget()
    return ChatOpenAI(model=MODEL, base_url=gate.url + "/v1", api_key="0000", max_retries=0)


def test_tools_go_round(gate, llm):
    bound = llm.bind_tools([get_weather])
    messages = [HumanMessage("What is the weather in Paris? Use get_weather.")]
    reply = bound.invoke(messages)
    [call] = reply.tool_calls
    assert call["args"] == {"city": "Paris"}
    messages += [reply, ToolMessage(get_weather.invoke(call["args"]), tool_call_id=call["id"])]
    assert "18" in bound.invoke(messages).content
    assert gate.upstream != "cloud" or len(gate.agents()) == 1


def test_a_streamed_call_adds_up(llm):
    total = None
    for chunk in llm.bind_tools([get_weather]).stream("What is the weather in Paris? Use get_weather."):
        total = chunk if total is None else total + chunk
    assert total.tool_calls[0]["args"] == {"city": "Paris"}


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_structured_output(llm, method):
    assert isinstance(llm.with_structured_output(Person, method=method).invoke("Ada is 36"), Person)


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_structured_output_of_a_stream(llm, method):
    *_, last = llm.with_structured_output(Person, method=method).stream("Ada is 36")
    assert isinstance(last, Person)


def test_json_mode(llm):
    assert llm.with_structured_output(None, method="json_mode").invoke("Answer in JSON: Ada is 36")


def test_a_forced_tool_is_called(llm):
    for choice in ("get_weather", "any"):
        [call] = llm.bind_tools([get_weather], tool_choice=choice).invoke("Hello from Oslo").tool_calls
        assert call["name"] == "get_weather"


def test_a_call_that_was_cut_is_none(llm):
    """This client mends the JSON of a streamed call that was cut; whole calls spare it that."""
    ask = "What is the weather in Paris? Use get_weather."
    assert not llm.bind_tools([get_weather]).invoke(ask, max_tokens=2).tool_calls
    with gateway(environ={"TOOL_STREAMING": "whole"}) as gate:
        other = ChatOpenAI(model=MODEL, base_url=gate.url + "/v1", api_key="0000", max_retries=0)
        chunks = [*other.bind_tools([get_weather]).stream(ask, max_tokens=2)]
        assert not any(chunk.tool_call_chunks for chunk in chunks)
        assert "length" in [chunk.response_metadata.get("finish_reason") for chunk in chunks]


def test_a_plain_stream(llm):
    assert "".join(chunk.content for chunk in llm.stream("Hello"))
