"""Keys: whose a request is, what each may do, and that no key is kept or shown."""

import hashlib
from contextlib import ExitStack

import openai
import pytest
from conftest import MODEL, gateway, until
from test_load import LONG

from cursor2api.config import ConfigError, KeyLimit
from cursor2api.errors import ApiError, InvalidKey
from cursor2api.server.keys import FORGET, Keys, read_digests

ALICE = hashlib.sha256(b"alice-key").hexdigest()


def keys(limits=(), passthrough=False, clock=lambda: 0.0):
    return Keys([("bob", "bob-key"), ("default", "0000")], [("alice", ALICE)], limits, passthrough, clock)


@pytest.mark.parametrize("given, passthrough, name, own", [
    (["bob-key"], False, "bob", ""), (["", "alice-key"], False, "alice", ""),
    (["wrong", "bob-key"], False, "bob", ""), (["crsr_mine-1"], True, "cursor-", "crsr_mine-1"),
    (["any-other-1"], True, "cursor-", "any-other-1"),
    (["bob-key", "crsr_mine-1"], True, "bob", ""), (["crsr_mine-1", "bob-key"], True, "bob", "")])
def test_a_caller_is_known_by_its_key(given, passthrough, name, own):
    caller = keys(passthrough=passthrough).identify(given)
    assert caller.name.startswith(name) and caller.upstream_key == own


@pytest.mark.parametrize("given, passthrough", [
    ([], True), ([""], False), (["wrong"], False), ([ALICE], False), (["short"], True), (["a b" * 9], True),
    (["schlüssel-schlüssel"], True), (["x" * 501], True)])
def test_what_is_no_key_is_refused(given, passthrough):
    with pytest.raises(InvalidKey):
        keys(passthrough=passthrough).identify(given)


def test_requests_a_minute_are_counted_in_a_window_that_slides():
    now = [0.0]
    one = keys([("bob", KeyLimit(requests_per_minute=2))], clock=lambda: now[0])
    bob, alice = one.identify(["bob-key"]), one.identify(["alice-key"])
    for now[0] in (0, 30):
        one.count(bob)
    now[0] = 59
    with pytest.raises(ApiError) as raised:
        one.count(bob)
    assert raised.value.status == 429 and raised.value.retry_after == 1
    for _ in range(9):
        one.count(alice)
    now[0] = 60
    one.count(bob)
    with pytest.raises(ApiError) as raised:
        one.count(bob)
    assert raised.value.retry_after == 30


def test_names_that_are_quiet_are_forgotten():
    now = [0.0]
    one = keys([("*", KeyLimit(requests_per_minute=1))], passthrough=True, clock=lambda: now[0])
    for number in range(FORGET + 1):
        one.count(one.identify([f"crsr_{number:08}"]))
    now[0] = 61.0
    one.count(one.identify(["bob-key"]))
    assert len(one._windows) == 1


@pytest.mark.parametrize("text", ["alice", f"alice {ALICE[1:]}", f"al/ice {ALICE}", f"alice {ALICE} more"])
def test_a_key_file_with_a_bad_line_is_refused_by_its_number(text):
    with pytest.raises(ConfigError, match="^API_KEY_FILE: expected NAME SHA256 in line 2"):
        read_digests("# keys\n" + text)
    assert read_digests(f"\n# x\nalice  {ALICE.upper()} # hers\n") == (("alice", ALICE),)


def test_limits_of_a_name_that_nobody_has_are_refused():
    with pytest.raises(ConfigError, match="^KEY_LIMITS: expected names of keys in use"):
        keys([("carol", KeyLimit())])
    keys([("cursor-12345678", KeyLimit())], passthrough=True)


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Named keys of both kinds, limits for some, and callers' own keys."""
    path = tmp_path_factory.mktemp("keys") / "keys"
    path.write_text(f"# whose\nalice {ALICE}\n")
    with gateway(environ={
            "API_KEY": "bob:bob-key,carol:carol-key", "API_KEY_FILE": str(path), "KEY_PASSTHROUGH": "true",
            "KEY_LIMITS": '{"alice": {"models": ["gemini-3-flash"]}, "bob": {"streams": 1}, '
                          '"carol": {"requests_per_minute": 2}}'}) as gate:
        yield gate


def say(gate, key, **more):
    return gate.post({"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], **more}, key=key,
                     stream=bool(more.get("stream")))


def test_a_key_of_a_file_of_digests_is_good_for_its_models_only(shop):
    response = say(shop, "alice-key")
    assert response.status_code == 403
    error = response.json()["error"]
    assert (error["code"], error["param"]) == ("model_not_allowed", "model")
    assert "gemini-3-flash" in error["message"]
    assert say(shop, "alice-key", model="gemini-3-flash-thinking").ok
    listed = shop.get("/v1/models", key="alice-key").json()["data"]
    assert [model["id"] for model in listed] == ["gemini-3-flash", "gemini-3-flash-thinking"]
    assert shop.get(f"/v1/models/{MODEL}", key="alice-key").status_code == 404
    assert shop.get(f"/v1/models/{MODEL}", key="bob-key").ok


def test_a_key_has_no_more_streams_at_once_than_it_may(shop):
    shop.simulator.script({"replies": [LONG]})
    with ExitStack() as stack:
        response = stack.enter_context(say(shop, "bob-key", stream=True))
        lines = response.iter_lines()  # without a name it would be gone, and the connection with it
        assert response.ok and next(lines)
        refused = say(shop, "bob-key")
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_many_streams")
        assert int(refused.headers["Retry-After"]) >= 1
        never = say(shop, "bob-key", n=2)
        assert (never.status_code, never.json()["error"]["param"]) == (400, "n")
        shop.simulator.script(None)
        assert say(shop, "crsr_dave-1234").ok
    assert until(lambda: say(shop, "bob-key").ok)


def test_a_key_makes_no_more_requests_a_minute_than_it_may(shop):
    shop.simulator.script(None)
    assert say(shop, "carol-key").ok and say(shop, "carol-key", stream=True).ok
    refused = say(shop, "carol-key")
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    with pytest.raises(openai.RateLimitError):
        openai.OpenAI(base_url=shop.url + "/v1", api_key="carol-key", max_retries=0).chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "x"}])


def test_a_callers_own_key_goes_to_cursor_for_its_request_and_is_kept_nowhere(shop):
    shop.simulator.forget()
    assert say(shop, "crsr_erin-5678").ok and say(shop, "bob-key").ok
    assert shop.get("/v1/models", key="crsr_erin-5678").ok
    assert until(lambda: all(agent["deleted"] for agent in shop.agents()))
    assert [agent["key"] for agent in shop.agents()] == ["5678", "eway"]
    used = {request["headers"]["authorization"] for request in shop.simulator.state["requests"]
            if shop.agents()[0]["id"] in request["path"] or request["method"] == "POST"}
    assert "****5678" in used
    short = hashlib.sha256(b"crsr_erin-5678").hexdigest()[:8]
    assert until(lambda: shop.lines(key=f"cursor-{short}")) and shop.lines(key="bob")
    assert "erin-5678" not in shop.log() and "bob-key" not in shop.log()


@pytest.mark.parametrize("stream", [False, True])
def test_a_callers_own_key_that_cursor_refuses_is_the_callers_trouble(shop, stream):
    shop.simulator.script({"refuse": {"create": {"status": 401, "code": "unauthorized", "times": 0}}})
    for key, status, code in (("crsr_frank-90", 401, "invalid_api_key"), ("bob-key", 502, "unauthorized")):
        response = say(shop, key, stream=stream)
        assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    assert until(lambda: shop.get("/ready").ok)
    shop.simulator.script(None)


def test_metrics_are_not_for_callers_with_a_key_of_their_own(shop):
    assert shop.get("/metrics", key="crsr_erin-5678").status_code == 403
    assert shop.get("/metrics", key="wrong").status_code == 401
    assert shop.get("/metrics", key="bob-key").ok


def test_without_a_key_of_the_gateways_only_callers_own_keys_are_served():
    with gateway(environ={"CURSOR_API_KEY": "", "KEY_PASSTHROUGH": "true"}) as gate:
        assert gate.get("/ready").ok
        assert say(gate, "crsr_erin-5678").ok
        response = say(gate, "0000")
        assert (response.status_code, response.json()["error"]["code"]) == (503, "upstream_not_configured")
        assert gate.get("/v1/models", key="crsr_erin-5678").json()["data"]
