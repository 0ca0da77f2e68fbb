"""From a caller's name to a model, and the list that it comes from."""

import threading

import pytest
from conftest import fail_to_start, gateway, until

from cursor2api.errors import ApiError, BadRequest, InternalError, KeyRefused, UpstreamError
from cursor2api.models import Model
from cursor2api.server.model_lists import CHECK_S, FRESH_S, KEYS, RENEWALS, RETRY_S, Models

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
ALIASES = (("mine", "plain"), ("deep", "sonnet-thinking"), ("far", "anthropic/sonnet"), ("latest2", "latest"))
THINKS = {"thinking": "true", "context": "1m"}

NAMES = [
    ("an id", "sonnet", None, ("sonnet", {}, False, False)),
    ("an alias of Cursor", "latest", None, ("sonnet", {}, False, False)),
    ("an alias of the operator", "mine", None, ("plain", {}, False, False)),
    ("an alias of the operator behind a prefix", "x/mine", None, ("plain", {}, False, False)),
    ("an alias of the operator, thinking", "mine-thinking", None, ("plain", {}, True, False)),
    ("both, behind a prefix", "x/mine-thinking", None, ("plain", {}, True, False)),
    ("an alias for a thinking name", "deep", None, ("sonnet", THINKS, False, False)),
    ("an alias for a name with a prefix", "far", None, ("sonnet", {}, False, False)),
    ("an alias for an alias of Cursor", "latest2", None, ("sonnet", {}, False, False)),
    ("an alias of Cursor behind a prefix", "x/latest", None, ("sonnet", {}, False, False)),
    ("two prefixes", "openrouter/anthropic/sonnet-thinking", None, ("sonnet", THINKS, False, False)),
    ("an id with a slash, thinking", "with/slash-thinking", None, ("with/slash", {}, True, False)),
    ("a vendor prefix", "anthropic/sonnet", None, ("sonnet", {}, False, False)),
    ("an id with a slash", "with/slash", None, ("with/slash", {}, False, False)),
    ("thinking by parameter", "sonnet-thinking", None, ("sonnet", THINKS, False, False)),
    ("thinking by instruction", "plain-thinking", None, ("plain", {}, True, False)),
    ("thinking on an alias", "latest-thinking", None, ("sonnet", THINKS, False, False)),
    ("an effort that exists", "sonnet-thinking", "high",
     ("sonnet", {"thinking": "true", "effort": "high"}, False, True)),
    ("an effort in no variant", "sonnet", "low", ("sonnet", {}, False, False)),
    ("an effort without parameter", "plain", "high", ("plain", {}, False, False)),
    ("an effort that the default lacks", "sonnet", "high",
     ("sonnet", {"thinking": "true", "effort": "high"}, False, True)),
]


@pytest.mark.parametrize("name, asked, effort, expected", NAMES, ids=[row[0] for row in NAMES])
def test_a_name_comes_to_a_model(name, asked, effort, expected):
    choice = Models(lambda key: ITEMS, (), ALIASES).choose(asked, effort)
    assert (choice.model.id, dict(choice.params), choice.think, choice.effort_used) == expected
    assert choice.name == choice.model.id + "-thinking" * (asked == "deep" or asked.endswith("-thinking"))


ODD = [
    ("no objects", [None, 1, "a", [], {}], []),
    ("ids that are no text", [{"id": 1}, {"id": None}, {"id": ["a"]}, {"id": {}}], []),
    ("aliases that are a text", [{"id": "a", "aliases": "bc"}], ["a"]),
    ("aliases that are a number", [{"id": "a", "aliases": 1}], ["a"]),
    ("aliases that are none", [{"id": "a", "aliases": [None, 1, ["b"], "b"]}], ["a", "b"]),
    ("parameters of odd forms", [{"id": "a", "parameters": [None, 1, {}, {"id": 1}, {"id": "p"}, {
        "id": "thinking", "values": 1}, {"id": "q", "values": [None, "x", {"value": 1}]}]}], ["a"]),
    ("parameters that are none", [{"id": "a", "parameters": "thinking", "variants": {"a": 1}}], ["a"]),
    ("variants of odd forms", [{"id": "a", "variants": [None, 1, {}, {"params": 1}, {"params": [
        None, {}, {"id": 1, "value": "x"}, {"id": "x", "value": 1}]}]}], ["a"]),
    ("a window of an odd form", [{"id": "a", "variants": [{"params": [
        {"id": "context", "value": "²k"}]}]}], ["a"]),
    ("one id twice", [{"id": "a"}, {"id": "a"}], ["a"]),
]


@pytest.mark.parametrize("name, items, names", ODD, ids=[row[0] for row in ODD])
def test_a_list_of_an_odd_form_gives_what_can_be_used(name, items, names):
    models = Models(lambda key: items, (), ())
    assert [name for model in models.all() for name in (model.id, *model.aliases)] == names
    for name in names:
        for asked in (name, name + "-thinking"):
            choice = models.choose(asked, "high")
            assert (choice.params, choice.effort_used) == ((), False)
        assert choice.think and choice.model.context_window == 200_000


WANTED = [
    ("the default, when all fits", {}, {"a": "1", "b": "1"}),
    ("the nearest to the default", {"c": "1"}, {"a": "1", "b": "2", "c": "1"}),
    ("none that exists", {"a": "3"}, None),
]


@pytest.mark.parametrize("name, wanted, expected", WANTED, ids=[row[0] for row in WANTED])
def test_a_variant_is_one_that_exists(name, wanted, expected):
    variants = ({"a": "1", "b": "1"}, {"a": "2", "b": "2", "c": "1"}, {"a": "1", "b": "2", "c": "1"})
    assert Model("m", variants=variants).variant(wanted) == expected


@pytest.mark.parametrize("wanted, expected", [
    ({}, {}), ({"p": "1"}, {"p": "1"}), ({"p": "2"}, None), ({"q": "1"}, None)])
def test_without_variants_the_parameters_say_what_exists(wanted, expected):
    assert Model("m", parameters={"p": ("1",)}).variant(wanted) == expected


@pytest.mark.parametrize("name", ["nope", "x/nope", "-thinking", "", "/", "sonnet-thinking-thinking", "sonnet/"])
def test_an_unknown_name_is_refused(name):
    with pytest.raises(BadRequest, match="Invalid model: " + name) as raised:
        Models(lambda key: ITEMS, (), ()).choose(name)
    assert (raised.value.code, raised.value.param) == ("model_not_found", "model")


def test_the_refusal_of_a_long_name_is_short():
    with pytest.raises(BadRequest) as raised:
        Models(lambda key: ITEMS, (), ()).choose("x" * 1_000_000)
    assert len(raised.value.message) < 200


def test_the_window_is_the_default_variants():
    windows = {model.id: model.context_window for model in Models(lambda key: ITEMS, (), ()).all()}
    assert windows == {"sonnet": 1_000_000, "plain": 200_000, "with/slash": 200_000}


def fetched():
    """Waits for the fetch that is under way."""
    for thread in threading.enumerate():
        if thread.name == "models":
            thread.join(30)


def failing(key):
    raise UpstreamError("down")


def test_a_fixed_list_needs_no_upstream():
    models = Models(failing, ("a", "b"), ())
    assert [model.id for model in models.all()] == ["a", "b"]
    assert models.choose("a-thinking").think
    with pytest.raises(BadRequest):
        models.choose("sonnet")


def test_a_fixed_list_takes_what_is_known_of_its_models():
    models = Models(lambda key: ITEMS, ("plain", "sonnet", "new"), ())
    assert [model.id for model in models.all()] == ["plain", "sonnet", "new"]
    assert dict(models.choose("latest-thinking").params) == THINKS
    assert Models(lambda key: None, ("a",), ()).choose("a").model == Model("a")


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


class Upstream:
    """Gives its items, or raises when they are an error; counts."""

    def __init__(self, items):
        self.items, self.fetches = items, 0

    def __call__(self, key):
        self.fetches += 1
        if isinstance(self.items, Exception):
            raise self.items
        return self.items


def test_a_list_is_fetched_again_when_it_is_no_longer_fresh():
    upstream, clock = Upstream([{"id": "a"}]), Clock()
    models = Models(upstream, (), (), clock)
    for now, items, ids, fetches in [
            (0, [{"id": "a"}], ["a"], 1), (FRESH_S - 1, [{"id": "b"}], ["a"], 1),
            (FRESH_S, [{"id": "b"}], ["b"], 2), (2 * FRESH_S - 1, [], ["b"], 2)]:
        clock.now, upstream.items = now, items
        models.all()
        fetched()
        assert ([model.id for model in models.all()], upstream.fetches) == (ids, fetches)


def test_a_stale_list_is_served_while_there_is_no_newer_one():
    upstream, clock = Upstream([{"id": "a"}]), Clock()
    models = Models(upstream, (), (), clock)
    models.all()
    upstream.items = UpstreamError("down")
    for now, fetches in [(FRESH_S, 2), (FRESH_S + RETRY_S - 1, 2), (FRESH_S + RETRY_S, 3)]:
        clock.now = now
        assert [model.id for model in models.all()] == ["a"]
        fetched()
        assert upstream.fetches == fetches
    clock.now, upstream.items = FRESH_S + 2 * RETRY_S, [{"id": "b"}]
    models.all()
    fetched()
    assert models.choose("b").model.id == "b"


def test_after_an_error_the_list_is_tried_again_soon():
    upstream, clock = Upstream(UpstreamError("down")), Clock()
    models = Models(upstream, (), (), clock)
    with pytest.raises(UpstreamError):
        models.choose("a")
    clock.now, upstream.items = RETRY_S, [{"id": "a"}]
    assert models.choose("a").model.id == "a"


def test_a_fault_while_fetching_is_an_error_and_the_list_is_tried_again():
    upstream, clock = Upstream(KeyError("a bug")), Clock()
    models = Models(upstream, (), (), clock)
    with pytest.raises(InternalError):
        models.all()
    clock.now, upstream.items = RETRY_S, [{"id": "a"}]
    assert [model.id for model in models.all()] == ["a"]


def test_each_key_has_its_own_list_and_the_key_is_not_kept():
    models = Models(lambda key: [{"id": "of-" + (key or "gateway")}], (), ())
    for key in ("", "crsr_one", "crsr_two", "crsr_one"):
        assert [model.id for model in models.all(key)] == ["of-" + (key or "gateway")]
    assert "crsr_one" not in str(vars(models)).replace("of-crsr_one", "")


def test_lists_of_many_keys_do_not_push_out_the_gateways_own():
    models = Models(lambda key: [{"id": "a"}], (), ())
    models.all()
    for number in range(3 * KEYS):
        models.all(f"crsr_{number}")
    assert models.trouble() is None and not models.waits()
    assert sum(not models.waits(f"crsr_{number}") for number in range(3 * KEYS)) < KEYS


def test_a_list_is_fetched_again_after_its_thread_could_not_start(monkeypatch):
    clock = Clock()
    models = Models(lambda key: [{"id": "a"}], ("a",), (), clock)
    models.prove("key")
    assert until(lambda: not models._known("key").fetching)
    clock.now = FRESH_S
    for _ in range(RENEWALS):
        fail_to_start(monkeypatch, "models")
        with pytest.raises(RuntimeError):
            models.all("key")
        monkeypatch.undo()
    told = models._known("key").told
    assert models.all("key") and until(lambda: models._known("key").told > told)


def test_a_new_key_has_a_list_although_many_are_held():
    models = Models(lambda key: [{"id": "of-" + key}], (), ())
    for number in range(KEYS + 2):
        assert [model.id for model in models.all(f"crsr_{number}")] == [f"of-crsr_{number}"]
    assert models.waits("crsr_0") and not models.waits(f"crsr_{KEYS + 1}"), "the one asked for longest ago went"


def test_lists_of_made_up_keys_do_not_push_out_those_of_good_ones():
    def fetch(key):
        if key.startswith("bad"):
            raise UpstreamError("refused")
        return [{"id": "a"}]
    models = Models(fetch, (), ())
    for number in range(KEYS // 2):
        models.prove(f"good_{number}")
    for number in range(3 * KEYS):
        with pytest.raises(UpstreamError):
            models.prove(f"bad_{number}")
    assert not any(models.waits(f"good_{number}") for number in range(KEYS // 2))


@pytest.mark.parametrize("fixed", [(), ("a",)], ids=["listed", "fixed"])
def test_few_lists_are_renewed_at_once(fixed):
    clock, go, fetching = Clock(), threading.Event(), []

    def fetch(key):
        if clock.now:
            fetching.append(key)
            assert go.wait(30)
        return [{"id": "a"}]
    models = Models(fetch, fixed, (), clock)
    models.all()
    for number in range(3 * RENEWALS):
        models.prove(f"key_{number}")
    before = set(threading.enumerate())
    clock.now = FRESH_S
    for number in range(3 * RENEWALS):
        assert models.all(f"key_{number}")
    assert models.all() and until(lambda: "" in fetching), "the gateway's own is no caller's"
    threads = [thread for thread in set(threading.enumerate()) - before if thread.name == "models"]
    assert len(threads) == RENEWALS + 1
    go.set()
    for thread in threads:
        thread.join(30)
    models.all("key_11")
    assert until(lambda: "key_11" in fetching)


@pytest.mark.parametrize("items, fixed, trouble", [
    ([{"id": "a"}], (), None),
    (UpstreamError("down"), (), "upstream_error"),
    (UpstreamError("down"), ("a",), None),
    (KeyRefused("no", code="unauthorized"), ("a",), "unauthorized")])
def test_trouble_is_what_keeps_every_chat_from_an_answer(items, fixed, trouble):
    models = Models(Upstream(items), fixed, ())
    models.trouble()
    fetched()
    assert getattr(models.trouble(), "code", None) == trouble


def gone():
    return UpstreamError("gone", code="upstream_unreachable", retry_after=5)


@pytest.mark.parametrize("fixed", [(), ("a",)], ids=["listed", "fixed"])
def test_trouble_tells_of_an_upstream_that_goes_and_comes_back(fixed):
    upstream, clock = Upstream([{"id": "a"}]), Clock()
    models = Models(upstream, fixed, (), clock)
    for now, items, code, fetches in [
            (0, [{"id": "a"}], None, 1), (CHECK_S - 1, gone(), None, 1),
            (CHECK_S, gone(), "upstream_unreachable", 2),
            (CHECK_S + RETRY_S - 1, [{"id": "b"}], "upstream_unreachable", 2),
            (CHECK_S + RETRY_S, [{"id": "b"}], None, 3)]:
        clock.now, upstream.items = now, items
        for _ in range(3):
            assert (getattr(models.trouble(30), "code", None), upstream.fetches) == (code, fetches)
        assert models.all()[0].id == ("a" if fixed or now < CHECK_S + RETRY_S else "b")


def test_a_limit_on_how_often_one_may_ask_is_no_trouble_and_is_heeded():
    upstream, clock = Upstream([{"id": "a"}]), Clock()
    models = Models(upstream, (), (), clock)
    for now, fetches in [(0, 1), (CHECK_S, 2), (CHECK_S + 59, 2), (CHECK_S + 60, 3)]:
        clock.now = now
        assert models.trouble(30) is None and upstream.fetches == fetches
        upstream.items = UpstreamError("too often", status=429, retry_after=60)


def test_of_many_who_ask_for_trouble_one_asks_the_upstream_and_none_waits_for_long():
    clock, go, asked = Clock(), threading.Event(), []

    def fetch(key):
        asked.append(key)
        assert not clock.now or go.wait(60)
        return [{"id": "a"}]
    models = Models(fetch, (), (), clock)
    models.all()
    clock.now = CHECK_S
    threads = [threading.Thread(target=models.trouble) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(asked) == 2 and not any(thread.is_alive() for thread in threads)
    go.set()
    fetched()


def test_trouble_is_told_at_once_while_there_is_no_list_yet():
    go = threading.Event()
    models = Models(lambda key: go.wait(30) and [{"id": "a"}], (), ())
    assert models.trouble(0).code == "starting"
    assert models.waits()
    go.set()
    fetched()
    assert models.trouble() is None
    assert not models.waits()


def test_who_leaves_does_not_wait_for_a_first_list():
    go, looked = threading.Event(), []

    def look():
        looked.append(1)
        if len(looked) == 2:
            raise ApiError("left", status=499)
    models = Models(lambda key: go.wait(60) and [{"id": "a"}], (), ())
    with pytest.raises(ApiError, match="left"):
        models.choose("a", look=look)
    go.set()
    fetched()
    assert models.choose("a", look=look).name == "a" and len(looked) == 2


@pytest.mark.parametrize("path", ["/v1/models", "/v1/chat/completions"])
def test_the_total_time_ends_the_wait_for_a_first_list(path):
    with gateway({"refuse": {"models": {"hang": 12, "times": 9}}}, {"TOTAL_TIMEOUT": "1"}) as gate:
        if path == "/v1/models":
            response = gate.get(path)
        else:
            response = gate.say()
        assert (response.status_code, response.json()["error"]["code"]) == (504, "total_timeout")
        assert response.elapsed.total_seconds() < 10


def test_who_has_a_list_does_not_wait_for_a_newer_one():
    clock, begun, go = Clock(), threading.Event(), threading.Event()

    def fetch(key):
        if clock.now:
            begun.set()
            assert go.wait(30)
            return [{"id": "new"}]
        return [{"id": "old"}]
    models = Models(fetch, (), (), clock)
    models.all()
    clock.now = FRESH_S
    assert [model.id for model in models.all()] == ["old"]
    assert begun.wait(30)
    assert [model.id for model in models.all()] == ["old"]
    go.set()
    fetched()
    assert [model.id for model in models.all()] == ["new"]


def test_without_any_list_the_upstreams_error_is_told_and_it_is_not_stormed():
    fetches = []

    def fetch(key):
        fetches.append(1)
        failing(key)
    models = Models(fetch, (), ())
    for _ in range(3):
        with pytest.raises(UpstreamError):
            models.all()
    assert len(fetches) == 1


def test_a_fixed_list_waits_only_once_for_an_upstream_that_does_not_answer():
    go = threading.Event()
    models = Models(lambda key: go.wait(60) and ITEMS, ("a",), ())
    asking = threading.Thread(target=lambda: [models.all() for _ in range(100)])
    asking.start()
    asking.join(30)
    assert not asking.is_alive()
    go.set()


def test_one_thread_at_a_time_fetches():
    fetches, go, asked = [], threading.Event(), threading.Semaphore(0)

    def fetch(key):
        fetches.append(1)
        assert go.wait(30)
        return ITEMS
    models = Models(fetch, (), ())

    def ask():
        models.waits()
        asked.release()
        assert len(models.all()) == 3
    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert asked.acquire(timeout=30)
    go.set()
    for thread in threads:
        thread.join(30)
    assert len(fetches) == 1


@pytest.mark.upstreams("simulator")
def test_the_context_stands_under_each_name_that_clients_look_for(gate):
    for model in gate.get("/v1/models").json()["data"]:
        assert model["context_window"] == model["context_length"] == model["max_model_len"] >= 200_000
