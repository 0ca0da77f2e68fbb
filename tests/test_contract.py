"""The contract's rows that change the prompt or the reply's form, as a caller meets them."""

import json

import openai
import pytest
from conftest import MODEL, gateway
from test_service import ASK, WEATHER, body, both, client, fold

TIME = {"type": "function", "function": {"name": "get_time", "parameters": {
    "type": "object", "properties": {}}}}


def prompt(gate):
    return gate.agents()[-1]["runs"][0]["prompt"]


def test_none_shows_no_tools_and_gives_no_calls(gate):
    response = gate.say(ASK[0]["content"], tools=[WEATHER], tool_choice="none")
    assert body(response)[1:] == ([], "stop") and '"parameters"' not in prompt(gate)


@pytest.mark.parametrize("choice", [
    {"type": "function", "function": {"name": "get_time"}},
    {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [
        {"type": "function", "function": {"name": "get_time"}}]}}], ids=["named", "allowed"])
@pytest.mark.parametrize("stream", [False, True], ids=["body", "stream"])
def test_only_the_chosen_tool_is_shown_and_called(gate, choice, stream):
    response = gate.say(stream=stream, tools=[WEATHER, TIME], tool_choice=choice)
    assert (fold if stream else body)(response)[1:3] == ([["get_time", "{}"]], "tool_calls")
    assert '"name": "get_weather"' not in prompt(gate)


@pytest.mark.parametrize("stream", [False, True], ids=["body", "stream"])
def test_without_parallel_calls_one_leaves(gate, stream):
    text = "Use get_weather in Paris and use get_time"
    read = fold if stream else body
    assert len(read(gate.say(text, stream=stream, tools=[WEATHER, TIME]))[1]) == 2
    assert len(read(gate.say(text, stream=stream, tools=[WEATHER, TIME],
                             parallel_tool_calls=False))[1]) == 1


@pytest.mark.parametrize("stream", [False, True], ids=["body", "stream"])
def test_functions_are_answered_in_their_old_form(gate, stream):
    response = gate.say(ASK[0]["content"], stream=stream, functions=[WEATHER["function"]])
    if stream:
        assert '"function_call":' in response.text and '"tool_calls"' not in response.text
        assert '"finish_reason":"function_call"' in response.text
    else:
        choice = response.json()["choices"][0]
        assert choice["finish_reason"] == "function_call"
        assert choice["message"]["function_call"]["name"] == "get_weather"


def test_effort_reaches_a_model_that_has_it_and_is_reported_otherwise(gate):
    response = gate.say(reasoning_effort="high")
    assert "x-cursor2api-ignored" not in response.headers
    other = gate.post({"model": "gemini-3-flash", "reasoning_effort": "high",
                       "messages": [{"role": "user", "content": "Hi"}]})
    assert other.headers["x-cursor2api-ignored"] == "reasoning_effort"


@pytest.mark.parametrize("name, value", [("audio", {"voice": "alloy", "format": "mp3"}),
                                         ("modalities", ["text", "audio"]),
                                         ("tools", [{"type": "custom", "custom": {"name": "x"}}])])
def test_what_cannot_be_done_is_refused(gate, name, value):
    response = gate.say(**{name: value})
    assert response.status_code == 400 and response.json()["error"]["param"].startswith(name)


def test_parse_gives_a_model_of_pydantic(gate):
    from pydantic import BaseModel

    class Person(BaseModel):
        name: str
        age: int

    reply = client(gate).chat.completions.parse(
        model=MODEL, messages=[{"role": "user", "content": "Ada is 36"}], response_format=Person)
    assert isinstance(reply.choices[0].message.parsed, Person)


def test_json_streams_as_the_body_has_it(gate):
    script = {"replies": [{"text": 'Here: {"a": [1, {"b": "c"}], "d": "e"} there', "chunk": 1}]}
    assert both(gate, script, response_format={"type": "json_object"}) == (
        '{"a":[1,{"b":"c"}],"d":"e"}', [], "stop")


def test_json_that_breaks_once_it_has_begun_to_stream_is_an_error(gate):
    gate.simulator.script({"replies": [{"text": '{"a": 1, nonsense', "chunk": 3}]})
    with pytest.raises(openai.APIError) as raised:
        list(client(gate).chat.completions.create(
            model=MODEL, messages=ASK, stream=True, response_format={"type": "json_object"}))
    assert raised.value.code == "invalid_json_from_model"


def test_reasoning_in_the_history_stays_out_of_the_prompt(gate):
    gate.post({"model": MODEL, "messages": [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Ho", "reasoning_content": "secret thought"},
        {"role": "user", "content": "Hi"}]})
    assert "secret thought" not in prompt(gate) and "Ho" in prompt(gate)


def test_settings_change_what_they_say():
    with gateway(environ={"STRICT_PARAMS": "true", "EXPOSE_THINKING": "true", "MAX_N": "2",
                          "KILO_TOOL_STRICT": "true", "TOOL_STREAMING": "whole",
                          "SYSTEM_PROMPT_INJECT": "Be kind.", "MAX_INPUT_LENGTH": "1500",
                          "MODEL_ALIASES": "best=gemini-3-flash", "MAX_BODY_BYTES": "30000"}) as gate:
        error = gate.say(temperature=0.5).json()["error"]
        assert (error["param"], error["code"]) == ("temperature", "unsupported_parameter")
        assert gate.say(n=3).json()["error"]["param"] == "n"

        gate.simulator.script({"replies": [{"thinking": "hm", "text": "yes"}]})
        assert gate.say().json()["choices"][0]["message"]["reasoning_content"] == "hm"

        gate.simulator.script({"replies": [{"text": "no"}]})  # asked once more, the brain calls
        assert body(gate.say(ASK[0]["content"], tools=[WEATHER]))[1]
        gate.simulator.script({"replies": [{"text": "no"}, {"text": "never"}]})
        assert body(gate.say(tools=[WEATHER])) == ("never", [], "stop")

        gate.simulator.forget()
        chunks = [json.loads(line[6:]) for line in gate.say(
            ASK[0]["content"], stream=True, tools=[WEATHER]).text.split("\n\n") if '"tool_calls":[' in line
            or '"tool_calls": [' in line]
        assert len(chunks) == 1
        assert "Be kind." in prompt(gate)

        response = gate.post({"model": "best", "messages": [
            {"role": "user", "content": "a" * 1000}, {"role": "assistant", "content": "b" * 1000},
            {"role": "user", "content": "Hi"}]})
        assert response.headers["x-cursor2api-left-out"] == "2 messages"
        assert response.json()["model"] == "gemini-3-flash"
        assert gate.say("x" * 40000).status_code == 413
