"""The table's own words (range, default, effect) must agree with what its checks do."""

import json
import re

import pytest

from cursor2api.errors import BadRequest
from cursor2api.dialects.chat_completions import PARAMETERS
from cursor2api.dialects.checks import shown
from cursor2api.dialects.served import DIALECTS

BY_NAME = {parameter.name: parameter for parameter in PARAMETERS}
ALL = {f"{dialect.name}.{parameter.name}": parameter for dialect in DIALECTS for parameter in dialect.parameters}
SPECS = {"chat_completions": """
    model messages audio frequency_penalty presence_penalty temperature top_p n stop
    max_completion_tokens max_tokens logit_bias logprobs top_logprobs seed stream stream_options
    response_format tools tool_choice parallel_tool_calls functions function_call reasoning_effort
    verbosity modalities prediction web_search_options service_tier metadata store user
    safety_identifier prompt_cache_key prompt_cache_retention prompt_cache_options moderation
""", "responses": """
    model input instructions previous_response_id conversation prompt background store stream stream_options
    max_output_tokens max_tool_calls temperature top_p top_logprobs tools tool_choice parallel_tool_calls text
    reasoning include truncation metadata service_tier user safety_identifier prompt_cache_key
    prompt_cache_retention prompt_cache_options moderation context_management
""", "messages": """
    model messages max_tokens stream system stop_sequences tools tool_choice thinking output_config output_format
    temperature top_p top_k metadata service_tier context_management thread container mcp_servers compaction
    fallbacks betas
"""}


def those(condition):
    """Each parameter of any dialect for which the condition holds, by its name."""
    found = {name: parameter for name, parameter in ALL.items() if condition(parameter)}
    return pytest.mark.parametrize("parameter", found.values(), ids=found.keys())


def refusal(parameter, value):
    name = parameter.name
    with pytest.raises(BadRequest) as caught:
        parameter.check(value, name)
    error = caught.value
    assert error.status == 400 and error.type == "invalid_request_error"
    assert error.param and error.param.startswith(name)
    assert error.message.startswith(error.param)
    return error


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_every_property_of_the_spec_is_in_the_table_once(dialect):
    assert sorted(parameter.name for parameter in dialect.parameters) == sorted(SPECS[dialect.name].split())


@those(lambda parameter: True)
def test_a_row_can_be_printed(parameter):
    assert parameter.effect in ("honoured", "ignored", "accepted", "refused")
    assert parameter.what.endswith(".") and parameter.type
    json.dumps(parameter.default)
    if parameter.default is not None and parameter.effect != "refused":
        checked = parameter.check(parameter.default, "p")
        if isinstance(checked, dict):
            checked = {name: value for name, value in checked.items() if value is not None}
        assert checked == parameter.default


BOUNDS = re.compile(r"(-?\d+) to (-?\d+)")


@those(lambda parameter: parameter.type in ("number", "integer") and BOUNDS.fullmatch(parameter.range))
def test_a_printed_range_of_numbers_is_the_one_that_is_checked(parameter):
    low, high = map(int, BOUNDS.fullmatch(parameter.range).groups())
    kind = "integer" if parameter.type == "integer" else "decimal"
    for value in (low, high):
        assert parameter.check(value, "p") == value
    assert refusal(parameter, low - 1).code == f"{kind}_below_min_value"
    assert refusal(parameter, high + 1).code == f"{kind}_above_max_value"
    for value in (float("nan"), float("inf"), float("-inf"), 10**300, -10**300):
        refusal(parameter, value)
    for value in (True, False, "1", [1], {}):
        assert refusal(parameter, value).code == "invalid_type"
    if kind == "integer":
        assert refusal(parameter, 1.5).code == "invalid_type"
        assert isinstance(parameter.check(float(high), "p") if high < 2**53 else 1, int)


@those(lambda parameter: "," in parameter.range and parameter.type == "string")
def test_a_printed_list_of_words_is_the_one_that_is_checked(parameter):
    words = parameter.range.split(", ")
    for word in words:
        assert parameter.check(word, "p") == word
    error = refusal(parameter, "bogus")
    assert error.code == "invalid_value" and '"bogus"' in error.message
    assert all(word in error.message for word in words)
    assert refusal(parameter, 3).code == "invalid_type"


@those(lambda parameter: parameter.type == "boolean")
def test_a_boolean_is_neither_a_number_nor_a_word(parameter):
    for value in (0, 1, "true", [], {}):
        assert refusal(parameter, value).code == "invalid_type"


TAKEN = [
    ("stop", "END", ["END"]),
    ("stop", ["a", "b", "c", "d"], ["a", "b", "c", "d"]),
    ("stop", "x" * 4096, ["x" * 4096]),
    ("logit_bias", {"50256": -100, "1": 100}, {"50256": -100, "1": 100}),
    ("metadata", {f"k{i}": "v" * 512 for i in range(16)}, {f"k{i}": "v" * 512 for i in range(16)}),
    ("modalities", ["text"], ["text"]),
    ("safety_identifier", "x" * 64, "x" * 64),
    ("prediction", {"type": "content", "content": [{"type": "text", "text": "a"}]}, ...),
    ("prediction", {"type": "content", "content": ""}, ...),
    ("web_search_options", {}, ...),
    ("web_search_options", {"search_context_size": "low", "user_location": None}, ...),
    ("web_search_options", {"user_location": {"type": "approximate", "approximate": {
        "country": "DE", "city": None}}}, ...),
    ("prompt_cache_options", {"mode": "explicit", "ttl": "30m"}, ...),
    ("moderation", {"model": "omni", "policy": {}}, ...),
    ("stream_options", {"include_usage": True, "include_obfuscation": None, "x": 1}, ...),
    ("max_tokens", 1, 1),
    ("tool_choice", "required", "required"),
    ("tool_choice", {}, {}),
    ("function_call", "auto", "auto"),
    ("tools", [{}] * 128, [{}] * 128),
]


@pytest.mark.parametrize("name, value, expected", TAKEN)
def test_a_value_in_range_is_taken(name, value, expected):
    got = BY_NAME[name].check(value, name)
    assert expected is ... or got == expected


REFUSED = [
    ("model", "", "invalid_value", "model"),
    ("model", 4, "invalid_type", "model"),
    ("messages", [], "empty_array", "messages"),
    ("messages", "hi", "invalid_type", "messages"),
    ("stop", ["a"] * 5, "array_above_max_length", "stop"),
    ("stop", ["a", "x" * 4097], "string_above_max_length", "stop[1]"),
    ("stop", ["a", 1], "invalid_type", "stop[1]"),
    ("stop", {"a": 1}, "invalid_type", "stop"),
    ("max_tokens", -2, "integer_below_min_value", "max_tokens"),
    ("max_completion_tokens", 1.5, "invalid_type", "max_completion_tokens"),
    ("logit_bias", {"1": 101}, "decimal_above_max_value", "logit_bias.1"),
    ("logit_bias", {"1": None}, "invalid_type", "logit_bias.1"),
    ("logit_bias", [], "invalid_type", "logit_bias"),
    ("metadata", {f"k{i}": "" for i in range(17)}, "object_above_max_properties", "metadata"),
    ("metadata", {"k": 1}, "invalid_type", "metadata.k"),
    ("metadata", {"k" * 65: ""}, "string_above_max_length", "metadata"),
    ("metadata", {"k": "v" * 513}, "string_above_max_length", "metadata.k"),
    ("safety_identifier", "x" * 65, "string_above_max_length", "safety_identifier"),
    ("modalities", ["text", "audio"], "unsupported_value", "modalities"),
    ("modalities", ["smell"], "invalid_value", "modalities[0]"),
    ("audio", {"voice": "alloy", "format": "wav"}, "unsupported_parameter", "audio"),
    ("prediction", {"type": "content"}, "missing_required_parameter", "prediction.content"),
    ("prediction", {"type": "content", "content": []}, "empty_array", "prediction.content"),
    ("prediction", {"type": "content", "content": [{"type": "text"}]},
     "missing_required_parameter", "prediction.content[0].text"),
    ("web_search_options", {"search_context_size": 3}, "invalid_type",
     "web_search_options.search_context_size"),
    ("web_search_options", {"user_location": {"type": "approximate", "approximate": {"city": 1}}},
     "invalid_type", "web_search_options.user_location.approximate.city"),
    ("prompt_cache_options", {"ttl": 1}, "invalid_type", "prompt_cache_options.ttl"),
    ("moderation", {}, "missing_required_parameter", "moderation.model"),
    ("stream_options", True, "invalid_type", "stream_options"),
    ("stream_options", {"include_usage": 1}, "invalid_type", "stream_options.include_usage"),
    ("tool_choice", "some", "invalid_value", "tool_choice"),
    ("tool_choice", ["auto"], "invalid_type", "tool_choice"),
    ("function_call", "required", "invalid_value", "function_call"),
    ("tools", [{}] * 129, "array_above_max_length", "tools"),
    ("functions", [{}] * 129, "array_above_max_length", "functions"),
    ("response_format", "json", "invalid_type", "response_format"),
    ("user", 7, "invalid_type", "user"),
]


@pytest.mark.parametrize("name, value, code, param", REFUSED)
def test_a_value_out_of_range_is_a_400_that_names_it(name, value, code, param):
    error = refusal(BY_NAME[name], value)
    assert (error.code, error.param) == (code, param)


MESSAGES = [
    ("temperature", 200, "temperature: expected a number <= 2, got 200"),
    ("top_p", "0.5", 'top_p: expected a number, got "0.5"'),
    ("n", True, "n: expected an integer, got true"),
    ("messages", [], "messages: expected an array of at least 1, got an empty array"),
    ("stop", ["a"] * 5, "stop: expected at most 4 items, got 5"),
    ("function_call", "any", 'function_call: expected none or auto, got "any"'),
    ("stream", {"a": 1}, "stream: expected true or false, got an object"),
]


@pytest.mark.parametrize("name, value, message", MESSAGES)
def test_a_message_says_what_was_expected_and_what_came(name, value, message):
    assert refusal(BY_NAME[name], value).message == message


@pytest.mark.parametrize("value", ["x" * 10**6, '"' * 10**6, "\n" * 59, 10**300, "é" * 61])
def test_a_long_value_is_cut_in_a_message(value):
    assert len(shown(value)) == 60 and shown(value).endswith("…")
