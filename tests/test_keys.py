"""Keys: whose a request is, what each may do, and that no key is kept or shown."""

import hashlib
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import openai
import pytest
from conftest import MODEL, gateway, until
from test_load import LONG

from cursor2api.config import ConfigError, KeyLimit
from cursor2api.errors import ApiError, InvalidKey
from cursor2api.server.keys import PROVEN, PROVEN_S, Keys, read_digests
from cursor2api.server.slots import UNPROVEN
from cursor2api.state.sqlite_store import SqliteStore
from cursor2api.state.store import Store

ALICE = hashlib.sha256(b"alice-key").hexdigest()


def keys(limits=(), passthrough=False, clock=lambda: 0.0):
    return Keys([("bob", "bob-key"), ("default", "0000")], [("alice", ALICE)], limits, passthrough, clock,
                Store(SqliteStore(clock=clock)))


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


def test_a_proof_is_remembered_for_a_day_and_the_eldest_is_forgotten():
    now = [0.0]
    one = keys(passthrough=True, clock=lambda: now[0])
    callers = [one.identify([f"crsr_{number:08}"]) for number in range(PROVEN + 1)]
    assert one.proven(one.identify(["bob-key"])) and not one.proven(callers[1])
    for caller in callers:
        one.prove(caller)
    assert [one.proven(callers[number]) for number in (0, 1, PROVEN)] == [False, True, True]
    now[0] = PROVEN_S
    assert not one.proven(callers[1])


def own_threads(gate):
    [worker] = gate.workers()
    return len(list(Path(f"/proc/{worker}/task").iterdir()))


@pytest.mark.parametrize("fixed", ["", MODEL], ids=["listed", "MODELS"])
def test_made_up_keys_neither_hold_up_known_callers_nor_make_threads(fixed):
    """Two dozen callers, each with a new key every time, while Cursor is slow to answer keys that it does not
    know: longer than a known caller waits, even on a busy machine."""
    with gateway(environ={"KEY_PASSTHROUGH": "true", "MODELS": fixed}) as gate, ThreadPoolExecutor(24) as pool:
        known = ["0000", "crsr_known-1234"]
        for key in known:
            assert say(gate, key).ok and gate.get("/v1/models", key=key).ok
        before, ended = own_threads(gate), threading.Event()
        gate.simulator.script({"refuse": {"models": {
            "status": 401, "code": "unauthorized", "hang": 4, "times": 0}}})

        def call(number):
            statuses = Counter()
            for turn in count():
                key = f"crsr_{number:04}-{turn:04}"
                response = say(gate, key, stream=turn % 2 == 0) if turn % 3 else gate.get("/v1/models", key=key)
                statuses[response.status_code, response.json()["error"]["code"]] += 1
                if ended.wait(0.3):
                    return statuses
        calls = [pool.submit(call, number) for number in range(24)]
        assert until(lambda: gate.lines(why="overloaded") and gate.lines(why="invalid_api_key"))
        slowest, threads = 0.0, 0
        for _ in range(6):
            for key in known:
                for response in say(gate, key), say(gate, key, stream=True), gate.get("/v1/models", key=key):
                    assert response.ok
                    slowest = max(slowest, response.elapsed.total_seconds())
            # It may be a no: the script refuses the gateway's own key too, if that is asked for anew.
            slowest = max(slowest, gate.get("/ready").elapsed.total_seconds())
            threads = max(threads, own_threads(gate))
        ended.set()
        statuses = sum((each.result() for each in calls), Counter())
        assert set(statuses) == {(401, "invalid_api_key"), (503, "overloaded")}
        assert slowest < 4 and threads < before + 64 + 4 * UNPROVEN
        tried = [line for line in gate.simulator.state["requests"] if line["path"].startswith("/v1/models")]
        assert len(tried) < 4 * UNPROVEN + statuses[401, "invalid_api_key"]
        assert {agent["key"] for agent in gate.agents()} == {"eway", "1234"}


def test_a_new_caller_is_tried_once_and_then_known():
    with gateway(environ={"KEY_PASSTHROUGH": "true"}) as gate:
        assert until(lambda: gate.get("/ready").ok)  # the gateway's own list has come
        gate.simulator.script({"refuse": {"models": {"status": 401, "code": "unauthorized", "times": 1}}})
        refused = say(gate, "crsr_frank-90")
        assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
        assert all(say(gate, "crsr_erin-5678").ok for _ in range(3))
        gate.simulator.script({"refuse": {"models": {"status": 500, "times": 0}}})
        assert say(gate, "crsr_erin-5678").ok and say(gate, "crsr_dave-1234").status_code == 502
