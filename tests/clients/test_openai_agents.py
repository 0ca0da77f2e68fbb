"""The Agents SDK of OpenAI in Python, unmodified: a tool loop, a handoff, a chain of stored responses."""

import asyncio
import sys
from pathlib import Path

import pytest
from agents import Agent, OpenAIResponsesModel, RunConfig, Runner, function_tool
from openai import AsyncOpenAI

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from conftest import MODEL, UPSTREAMS, gateway  # noqa: E402

WEATHER = "What is the weather in Paris? Use get_weather."
QUIET = RunConfig(tracing_disabled=True)  # it would tell OpenAI of each run


@function_tool
def get_weather(city: str) -> str:
    """Weather of a city."""
    return f"18 degrees in {city}"


@pytest.fixture(scope="module", params=UPSTREAMS)
def gate(request):
    with gateway(upstream=request.param, environ={"KEEP_AGENTS": "32"}) as one:
        yield one


async def whole(agent, asked, **options):
    return await Runner.run(agent, asked, run_config=QUIET, **options)


async def streamed(agent, asked, **options):
    result = Runner.run_streamed(agent, asked, run_config=QUIET, **options)
    async for _ in result.stream_events():
        pass
    return result


@pytest.fixture(params=[whole, streamed])
def ask(request, gate):
    """`ask(name, text, ...)` has an agent of this name answer, with what it is made of, and gives the result."""
    gate.simulator.forget()

    def run(asked, previous=None, **agent):
        async def once():
            async with AsyncOpenAI(base_url=gate.url + "/v1", api_key="0000", max_retries=0) as client:
                model = OpenAIResponsesModel(MODEL, client)
                others = [Agent(name=name, model=model) for name in agent.pop("handoffs", ())]
                return await request.param(Agent(name="first", model=model, handoffs=others, **agent), asked,
                                           previous_response_id=previous)
        return asyncio.run(once())
    return run


def test_a_tool_loop_meets_one_agent(gate, ask):
    result = ask(WEATHER, tools=[get_weather])
    assert "18 degrees in Paris" in result.final_output
    assert result.context_wrapper.usage.requests == 2 and result.context_wrapper.usage.total_tokens > 0
    assert gate.upstream == "uistream" or [len(agent["runs"]) for agent in gate.agents()] == [2]


def test_a_handoff(ask):
    result = ask("Use transfer_to_french", handoffs=["french"])
    assert result.last_agent.name == "french" and "transfer_to_french" in result.final_output


def test_a_chain_of_stored_responses(ask):
    first = ask("My name is Ann.")
    second = ask("What is my name?", previous=first.last_response_id)
    assert second.final_output == "Your name is Ann."
    third = ask(WEATHER, previous=second.last_response_id, tools=[get_weather])
    assert "18 degrees in Paris" in third.final_output
    again = ask([*third.to_input_list(), {"role": "user", "content": "What is the time?"}])
    assert "What is the time?" in again.final_output
