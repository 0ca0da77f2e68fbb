"""The official SDK is the judge of the stand-in for its bridge too: it starts it and uses it."""

import subprocess
import sys

import pytest
from conftest import ROOT, command, until
from cursor_sdk import (
    AgentOptions,
    AuthenticationError,
    BadRequestError,
    Client,
    CursorSDKError,
    LocalAgentOptions,
    ModelParameterValue,
    ModelSelection,
    NetworkError,
    SDKImage,
    UserMessage,
)

from cursor2api.simulator import serve

PIXEL = ("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5E"
         "rkJggg==")


@pytest.fixture
def simulator():
    with serve() as one:
        yield one


@pytest.fixture
def work(tmp_path):
    return tmp_path


@pytest.fixture
def client(simulator, work, monkeypatch):
    monkeypatch.chdir(ROOT)  # where `-m` finds the package
    with Client.launch_bridge(command=[
            sys.executable, "-m", "cursor2api.simulator.bridge", "--backend", simulator.url],
            workspace=str(work)) as one:
        yield one


def agent(client, work, model="claude-sonnet-latest", key="key-1", **more):
    return client.create_agent(AgentOptions(
        model=model, api_key=key, tools=[], local=LocalAgentOptions(
            cwd=str(work), setting_sources=[], auto_review=True), **more))


def test_it_answers_as_a_bridge_and_ends_with_its_client(simulator, work, monkeypatch):
    monkeypatch.chdir(ROOT)
    client = Client.launch_bridge(command=[sys.executable, "-m", "cursor2api.simulator.bridge"],
                                  workspace=str(work))
    bridge = client._owned_bridge.endpoint.pid
    assert client.ping() == "pong" and client.get_version()["protocolVersion"] == "sdk.v1"
    assert {model.id for model in client.list_models(api_key="k")} >= {"gemini-3-flash"}
    client.close()
    assert until(lambda: not command(bridge))


def test_text_thinking_usage_images_and_a_second_turn(client, work, simulator):
    simulator.script({"replies": [{"thinking": "Let me see.", "text": "one two three"}]})
    with agent(client, work, ModelSelection("claude-sonnet-4-5-20250929", params=[
            ModelParameterValue("thinking", "true"), ModelParameterValue("effort", "high")])) as made:
        run = made.send(UserMessage("Hi", images=[SDKImage.from_data(PIXEL, "image/png")]))
        messages = list(run.messages())
        assert "".join(message.text for message in messages if message.type == "thinking") == "Let me see."
        assert [block.text for message in messages if message.type == "assistant"
                for block in message.message.content] == ["one ", "two ", "three"]
        assert run.status == "finished" and run.result == "one two three"
        assert run.usage.output_tokens > 0 and run.usage.input_tokens > 0
        assert made.send("Please say hello").text() == "hello"
        assert [run["images"] for run in simulator.state["agents"][0]["runs"]] == [1, 0]
        made.delete()
    assert simulator.state["agents"][0]["deleted"] and simulator.state["agents"][0]["key"] == "ey-1"


def test_a_run_that_fails_says_why_in_brackets(client, work, simulator):
    simulator.script({"replies": [{"text": "one two", "error_after": [1, {
        "code": "resource_exhausted", "message": "slow down"}]}]})
    run = agent(client, work).send("Hi")
    results = [event.result for event in run.events() if event.result]
    assert run.status == "error" and results[0]["errorMessage"] == "[resource_exhausted] slow down"


def test_what_is_refused_is_refused_in_the_right_class(client, work):
    with pytest.raises(AuthenticationError, match="Invalid User API Key"):
        client.list_models(api_key="bad-key")
    with pytest.raises(AuthenticationError, match="Invalid User API Key"):
        agent(client, work, key="bad-key")
    with pytest.raises(BadRequestError, match="Cannot use this model: x"):
        agent(client, work, model="x")
    with pytest.raises(BadRequestError, match="URL images"):
        agent(client, work).send(UserMessage("Hi", images=[SDKImage.from_url("https://example.org/a.png")]))


def test_a_run_is_cancelled_while_it_says_nothing(client, work, simulator):
    simulator.script({"replies": [{"text": "one two three", "delay": 60}]})
    run = agent(client, work).send("Hi")
    assert next(run.iter_text()) == "one "
    run.cancel()
    assert [event.done for event in run.events() if event.done] and run.status == "cancelled"
    assert simulator.state["agents"][0]["runs"][0]["cancelled_by"] == "cancel"


def test_a_second_run_waits_for_the_first_and_closing_is_not_stopping(client, work, simulator):
    simulator.script({"replies": [{"text": "word " * 99, "delay": 1}]})
    made = agent(client, work)
    run = made.send("Hi")
    assert next(run.iter_text())
    with pytest.raises(CursorSDKError, match="already has active run"):
        made.send("Again").text()
    made.close()
    assert simulator.state["agents"][0]["runs"][0]["status"] == "RUNNING"
    with pytest.raises(CursorSDKError, match="not found"):
        run.cancel()


def test_a_death_in_mid_stream_is_the_death_of_the_bridge(client, work, simulator):
    simulator.script({"replies": [{"text": "one two three", "delay": 0.1, "reset_after": 500}]})
    run = agent(client, work).send("Hi")
    with pytest.raises((NetworkError, CursorSDKError)):
        list(run.messages())
    with pytest.raises(NetworkError):
        client.ping()


def test_it_keeps_the_contract_of_a_process(work):
    run = subprocess.run([sys.executable, "-m", "cursor2api.simulator.bridge", "--unknown"], cwd=ROOT,
                         capture_output=True, text=True, timeout=30)
    assert run.returncode and "ready" not in run.stderr
