"""From a caller's name to a model, and the list that it comes from."""

import threading

import pytest

from cursor2api.errors import BadRequest, UpstreamError
from cursor2api.models import Models

ITEMS = [
    {"id": "sonnet", "aliases": ["latest"], "parameters": [
        {"id": "thinking", "values": [{"value": "false"}, {"value": "true"}]},
        {"id": "effort", "values": [{"value": "low"}, {"value": "high"}]},
        {"id": "context", "values": [{"value": "1m"}]}],
     "variants": [
         {"params": [{"id": "thinking", "value": "false"}, {"id": "context", "value": "1m"}],
          "isDefault": True},
         {"params": [{"id": "thinking", "value": "true"}, {"id": "context", "value": "1m"}]},
         {"params": [{"id": "thinking", "value": "true"}, {"id": "effort", "value": "high"}]}]},
    {"id": "plain"}, {"id": "with/slash"}, {"id": ""}, {"name": "odd"}]
THINKS = {"thinking": "true", "context": "1m"}

NAMES = [
    ("an id", "sonnet", None, ("sonnet", {}, False, False)),
    ("an alias of Cursor", "latest", None, ("sonnet", {}, False, False)),
    ("an alias of the operator", "mine", None, ("plain", {}, False, False)),
    ("a vendor prefix", "anthropic/sonnet", None, ("sonnet", {}, False, False)),
    ("an id with a slash", "with/slash", None, ("with/slash", {}, False, False)),
    ("thinking by parameter", "sonnet-thinking", None, ("sonnet", THINKS, False, False)),
    ("thinking by instruction", "plain-thinking", None, ("plain", {}, True, False)),
    ("thinking on an alias", "latest-thinking", None, ("sonnet", THINKS, False, False)),
    ("an effort that exists", "sonnet-thinking", "high",
     ("sonnet", {"thinking": "true", "effort": "high"}, False, True)),
    ("an effort in no variant", "sonnet", "low", ("sonnet", {}, False, False)),
    ("an effort without parameter", "plain", "high", ("plain", {}, False, False)),
]


@pytest.mark.parametrize("name, asked, effort, expected", NAMES, ids=[row[0] for row in NAMES])
def test_a_name_comes_to_a_model(name, asked, effort, expected):
    choice = Models(lambda: ITEMS, (), (("mine", "plain"),)).choose(asked, effort)
    assert (choice.model.id, dict(choice.params), choice.think, choice.effort_used) == expected


@pytest.mark.parametrize("name", ["nope", "x/nope", "-thinking", ""])
def test_an_unknown_name_is_refused(name):
    with pytest.raises(BadRequest, match="Invalid model: " + name):
        Models(lambda: ITEMS, (), ()).choose(name)


def test_the_window_is_the_default_variants():
    windows = {model.id: model.context_window for model in Models(lambda: ITEMS, (), ()).all()}
    assert windows == {"sonnet": 1_000_000, "plain": 200_000, "with/slash": 200_000}


def failing():
    raise UpstreamError("down")


def test_a_fixed_list_needs_no_upstream():
    models = Models(failing, ("a", "b"), ())
    assert [model.id for model in models.all()] == ["a", "b"]
    assert models.choose("a-thinking").think


def test_without_any_list_the_upstreams_error_is_told_and_it_is_not_stormed():
    fetches = []

    def fetch():
        fetches.append(1)
        failing()
    models = Models(fetch, (), ())
    for _ in range(3):
        with pytest.raises(UpstreamError):
            models.all()
    assert len(fetches) == 1


def test_one_thread_at_a_time_fetches():
    fetches, together = [], threading.Barrier(8)

    def fetch():
        fetches.append(1)
        return ITEMS
    models = Models(fetch, (), ())

    def ask():
        together.wait()
        assert len(models.all()) == 3
    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(fetches) == 1
