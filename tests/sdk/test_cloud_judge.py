"""The official SDK is the judge of the simulator: what it cannot use, the simulator gets wrong."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cursor_sdk import (
    AgentOptions,
    AuthenticationError,
    Client,
    CloudAgentOptions,
    CloudEnvironment,
    SDKImage,
    UserMessage,
)

ROOT = Path(__file__).parents[2]
PIXEL = ("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5E"
         "rkJggg==")


@pytest.fixture(scope="module")
def url():
    command = [sys.executable, "-m", "cursor2api.simulator", "--port", "0", "--until-eof"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as process:
        yield process.stdout.readline().strip()
        process.stdin.close()
        assert process.wait(10) == 0


@pytest.fixture(scope="module")
def client(url, tmp_path_factory):
    home = tmp_path_factory.mktemp("home")  # the SDK's Node process needs one that it can write
    os.environ |= {"CURSOR_BACKEND_URL": url, "CURSOR_API_KEY": "sdk-key", "HOME": str(home)}
    client = Client.launch_bridge(workspace=str(home))
    yield client
    client.close()


@pytest.fixture
def agent(client):
    cloud = CloudAgentOptions(env=CloudEnvironment(type="cloud"))
    agent = client.create_agent(AgentOptions(model="claude-sonnet-latest", cloud=cloud,
                                             api_key="sdk-key", name="judge"))
    yield agent
    agent.close()


def streamed(run):
    return "".join(run.iter_text())


def test_models_are_listed_with_parameters_and_variants(client):
    models = {model.id: model for model in client.list_models(api_key="sdk-key")}
    assert set(models) >= {"gemini-3-flash", "claude-sonnet-4-5-20250929"}
    model = models["claude-sonnet-4-5-20250929"]
    assert [parameter.id for parameter in model.parameters] == ["thinking", "effort"]
    assert len(model.variants) == 5


def test_me_is_shown(client):
    assert client.me().api_key_name == "Simulator"


def test_a_bad_key_is_an_authentication_error(client):
    with pytest.raises(AuthenticationError, match="Invalid User API Key"):
        client.list_models(api_key="bad-key")


def test_a_run_a_follow_up_usage_and_the_end_of_an_agent(client, agent):
    first = agent.send("Please say hello")
    assert streamed(first) == "hello"
    assert first.wait().status == "finished"
    assert first.usage.output_tokens > 0
    image = SDKImage.from_data(PIXEL, "image/png")
    second = agent.send(UserMessage("What is this?", images=[image]))
    assert "1 image" in streamed(second)
    assert second.wait().result == second.text()
    usage = agent.get_usage()
    assert len(usage.runs) == 2 and usage.usage.total_tokens > 0
    agent_id = agent.agent_id
    assert agent_id in [info.agent_id for info in client.list_agents(runtime="cloud").items]
    agent.archive()
    agent.unarchive()
    agent.delete()
    assert agent_id not in [info.agent_id for info in client.list_agents(runtime="cloud").items]


def test_a_long_run_is_cancelled_at_once(agent):
    run = agent.send("SLOW: tell me a story")
    text = run.iter_text()
    assert next(text)
    begun = time.monotonic()
    run.cancel()
    assert run.wait().status == "cancelled"
    assert time.monotonic() - begun < 5
    assert streamed(agent.send("Please say hello")) == "hello"
