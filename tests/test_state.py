"""The store: each operation over both backends, what several processes see, and every fault of a file."""

import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from uuid import uuid4

import pytest
from conftest import ROOT, gateway, until
from test_counts import disk, fill
from test_keys import say
from test_load import LONG
from test_redis import Server
from test_reuse import KEEP, Talk, left

from cursor2api.state import LEASE_S
from cursor2api.state.redis_store import RedisStore
from cursor2api.state.sqlite_store import FILE, SqliteStore
from cursor2api.state.store import Store


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory):
    if not shutil.which("redis-server"):
        pytest.skip("redis-server is not installed")
    one = Server(tmp_path_factory.mktemp("redis"))
    one.start()
    yield one
    one.stop()


@pytest.fixture(params=["memory", "file", "redis"])
def make(request, tmp_path):
    """Makes the stores of several processes; in memory there is but one."""
    if request.param == "redis":
        url, scope = request.getfixturevalue("redis_server").url, uuid4().hex
        return lambda: RedisStore(url, scope)
    if request.param == "file":
        return lambda: SqliteStore(str(tmp_path / "state"))
    one = SqliteStore()
    return lambda: one


def agent():
    return f"bc-{uuid4()}/run-{uuid4()}"


def test_an_agent_is_taken_once_whoever_asks(make):
    stores, together = [Store(make()) for _ in range(8)], Barrier(8)
    for _ in range(10):
        kept = agent()
        assert stores[0].keep("digest", kept, "note", 60, 8) == [] and stores[1].kept() == 1

        def take(one):
            together.wait(30)
            return one.take("digest")
        with ThreadPoolExecutor(8) as pool:
            found = [each for each in pool.map(take, stores) if each]
        assert found == [(kept, "note")] and stores[1].kept() == 0


def test_the_eldest_go_when_there_are_too_many_and_what_had_the_digest_before(make):
    one, agents = Store(make()), [agent() for _ in range(5)]
    for n in range(3):
        assert one.keep(str(n), agents[n], "", 60 + n, 3) == []
    assert one.keep("1", agents[3], "", 70, 3) == [agents[1]]
    assert one.keep("4", agents[4], "", 80, 2) == [agents[0], agents[2]]
    assert [one.take(str(n)) for n in range(5)] == [None, (agents[3], ""), None, None, (agents[4], "")]


def test_an_agent_that_is_kept_twice_is_given_up_by_neither(make):
    one, kept = Store(make()), agent()
    assert one.keep("digest", kept, "", 60, 8) == one.keep("digest", kept, "note", 60, 8) == []
    assert one.take("digest") == (kept, "note") and one.kept() == 0


def test_what_is_too_old_is_given_up_once_and_found_no_more(make):
    one, other, old, young = Store(make()), Store(make()), agent(), agent()
    one.keep("old", old, "", 0.05, 8)
    one.keep("young", young, "", 60, 8)
    time.sleep(0.1)  # past the end of the one
    assert one.take("old") is None and one.expired() == [old]
    assert one.expired() == other.expired() == [] and one.take("young") == (young, "")


def test_values_are_found_until_their_end_each_in_its_space(make):
    one, other = Store(make()), Store(make())
    large = os.urandom(1_000_000)
    one.put("a", "key", large, 60, 4_000_000)
    one.put("b", "key", b"other", 60, 100)
    one.put("b", "brief", b"x", 0.05, 100)
    assert other.get("a", "key") == large and other.get("b", "key") == b"other"
    assert other.get("c", "key") is None and until(lambda: other.get("b", "brief") is None, 5)
    one.put("b", "key", b"", 60, 100)
    assert other.get("b", "key") == b""
    other.delete("a", "key")
    assert one.get("a", "key") is None and one.get("b", "key") == b""


def test_a_space_has_no_more_bytes_than_its_limit(make):
    one = Store(make())
    one.put("other", "stays", bytes(100), 60, 100)
    for n in range(6):
        one.put("space", str(n % 4), bytes(30), 60 + n, 100)  # 0 and 1 are put anew
    assert [n for n in range(4) if one.get("space", str(n))] == [0, 1, 3]
    one.put("space", "too large", bytes(101), 99, 100)
    assert not one.get("space", "too large") and one.get("other", "stays")
    one.put("space", "fits", bytes(100), 99, 100)
    assert one.get("space", "fits")


def test_requests_are_counted_together(make):
    one, other = Store(make()), Store(make())
    assert [one.count("bob", 3), other.count("bob", 3), one.count("bob", 3)] == [0, 0, 0]
    assert 50 < other.count("bob", 3) <= 60 and one.count("ann", 3) == 0


def test_what_is_held_is_held_for_all_until_it_is_free(make):
    one, other = Store(make()), Store(make())
    assert one.hold("bob", 2, 3) and not one.hold("bob", 2, 3) and other.hold("ann", 3, 3)
    if one._backend is not other._backend:
        assert other.hold("bob", 1, 3) and not other.hold("bob", 1, 3) and not one.hold("bob", 1, 3)
        other.free("bob", 1)
    one.free("bob", 1)
    assert one.hold("bob", 2, 3)


def test_what_a_process_held_that_was_killed_comes_free_by_itself(tmp_path):
    now = [0.0]
    killed, other = (Store(SqliteStore(str(tmp_path / "state"), lambda: now[0])) for _ in range(2))
    assert killed.hold("bob", 1, 1) and other.hold("ann", 1, 2)
    for now[0] in (LEASE_S / 2, LEASE_S - 1):
        other.renew()
        assert not other.hold("bob", 1, 1)
    now[0] = LEASE_S + 1
    assert other.hold("bob", 1, 1) and not killed.hold("ann", 2, 2)


def test_what_is_over_takes_no_room(tmp_path):
    now = [0.0]
    one = Store(SqliteStore(str(tmp_path / "state"), lambda: now[0]))
    one.count("bob", 9)
    one.hold("bob", 1, 9)
    one.free("bob", 1)
    one.put("space", "key", b"x", 60, 9)
    now[0] = 61.0
    one.renew()
    with sqlite3.connect(tmp_path / "state") as rows:
        for table in ("requests", "held", "data"):
            assert rows.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
        assert rows.execute("SELECT bytes FROM spaces").fetchone() == (0,)


def test_its_files_are_for_their_owner_alone(tmp_path):
    path = tmp_path / "state"
    path.touch(0o666)
    one = SqliteStore(str(path))
    one.put("space", "key", b"x", 60, 9)
    files = list(tmp_path.iterdir())
    assert len(files) == 3 and {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


@pytest.mark.parametrize("agent", ["bc-1", "../agents", 7, None, b"x", "bc-\n"], ids=repr)
def test_what_is_no_agent_is_passed_over(tmp_path, agent):
    one = Store(SqliteStore(str(tmp_path / "state")))
    assert one.kept() == 0
    with sqlite3.connect(tmp_path / "state") as rows:
        rows.execute("INSERT INTO agents VALUES ('d', ?, '', 9e9), ('e', ?, '', 0)", (agent, agent))
    assert one.take("d") is None and one.expired() == []


def test_what_is_too_old_is_given_up_later_if_it_cannot_be_told_who_was_killed(tmp_path):
    one, old = SqliteStore(str(tmp_path / "state"), lambda: 0.0), agent()
    one.open(tmp_path)
    one.keep("digest", old, "", 0, 8)
    with sqlite3.connect(tmp_path / "state") as rows:
        rows.execute("DROP TABLE working")
    with pytest.raises(sqlite3.OperationalError):
        one.expired()
    assert one.expired() == [old]


@pytest.fixture
def starts(tmp_path):
    """Two starts of one service that overlap: a folder each, and one file of state."""
    stores = []
    for name in "ab":
        (tmp_path / name).mkdir()
        stores.append(SqliteStore(str(tmp_path / "state")))
        stores[-1].open(tmp_path / name)
    return stores


def processes(folder):
    return {file.name for file in folder.glob("state-process-*")}


def test_starts_that_overlap_leave_each_other_what_is_at_work(starts):
    one, other = starts
    first, second = agent(), agent()
    one.begin(first)
    assert other.expired() == []
    other.begin(second)
    assert one.expired() == other.expired() == []


def test_what_was_at_work_in_a_killed_process_is_found_by_another_start_which_removes_its_file(starts, tmp_path):
    lost, [one, other] = agent(), starts
    code = ("import sys; from cursor2api.state.sqlite_store import SqliteStore; one = SqliteStore(sys.argv[1]); "
            "one.open(None); one.begin(sys.argv[2]); print(flush=True); sys.stdin.read()")
    one.begin(agent())
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "state"), lost], cwd=ROOT,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"\n"
        assert other.expired() == [] and len(processes(tmp_path)) == 3
        process.kill()
    assert other.expired() == [lost] and one.expired() == []
    assert len(processes(tmp_path)) == 2
    assert {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.glob("state*")} == {0o600}


def test_who_removes_the_file_and_all_beside_it_has_nobody_taken_for_killed(starts, tmp_path):
    for start in starts:
        start.begin(agent())
    for file in tmp_path.glob("state*"):
        file.unlink()
    for start in starts:
        with pytest.raises(FileNotFoundError):
            start.expired()
        start.begin(agent())
    assert [start.expired() for start in starts] == [[], []] and len(processes(tmp_path)) == 2


def test_who_clears_a_folder_of_what_is_old_finds_no_process_that_lives(starts, tmp_path):
    for start in starts:
        start.begin(agent())
    files = list(tmp_path.glob("state-process-*"))
    for file in files:
        os.utime(file, (0, 0))
    for start in starts:
        start.expired()
    assert len(files) == 2 and all(file.stat().st_mtime for file in files)


@pytest.mark.parametrize("name", ["state", "./state", ":memory:", "file:state?mode=memory"])
def test_whatever_the_file_is_called_it_is_one_for_all(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    one, other, kept = SqliteStore(name), SqliteStore(name), agent()
    one.keep("digest", kept, "note", 60, 8)
    assert other.take("digest") == (kept, "note")


# Faults ----------------------------------------------------------------------------------------------


def locked(path):
    """Another program has the file, and lets go when the connection is closed."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("BEGIN EXCLUSIVE")
    return connection.close


def removed(path):
    for file in path.parent.glob(FILE + "*"):
        file.unlink()
    return lambda: None  # a new one is made


def moved(path):
    path.parent.rename(path.parent.with_name("elsewhere"))
    return lambda: path.parent.with_name("elsewhere").rename(path.parent)


def garbage(path):
    whole = path.read_bytes()
    for beside in ("-wal", "-shm"):
        path.with_name(FILE + beside).unlink()
    path.unlink()
    path.write_bytes(b"no database at all " * 1000)

    def mend():
        path.unlink()
        path.write_bytes(whole)
    return mend


def full(path):
    file = fill(path.parent.parent)
    return file.unlink


FAULTS = [locked, removed, moved, garbage, full]


@pytest.mark.parametrize("break_it", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_of_the_file_is_no_callers_trouble(tmp_path, break_it):
    limits = '{"bob": {"streams": 2}, "ann": {"requests_per_minute": 100}}'
    with disk(tmp_path, 1024) as folder, gateway(environ={
            **KEEP, "TMPDIR": str(folder), "WEB_CONCURRENCY": "2", "KEY_LIMITS": limits}) as gate:
        talks = [Talk(gate, stream=n % 2 == 0) for n in range(4)]
        for talk in talks:
            talk.ask("My name is Ada")
        [path] = folder.glob(f"cursor2api-*/{FILE}")
        mend = break_it(path)
        for talk in talks:
            talk.ask("What is my name?")
            assert talk.kind == "new" and "Ada" in talk.messages[-1]["content"]
        assert say(gate, "second-key").ok
        gate.simulator.script({"replies": [LONG]})
        held = [say(gate, "second-key", stream=True) for _ in range(2 if break_it is removed else 4)]
        assert {each.status_code for each in held} <= {200, 429}
        for each in held:
            each.close()
        gate.simulator.script(None)
        assert 1 <= gate.log().count("the store failed") <= 2  # each worker says it once
        mend()
        talk = Talk(gate)
        assert until(lambda: (talk.ask("And on"), talk.kind)[1] == "reused")
        assert until(lambda: "the store works again" in gate.log())
        assert not [entry for entry in gate.simulator.state["requests"] if entry["status"] == 409]


def test_a_full_disk_gives_each_agent_back_to_be_deleted(tmp_path):
    with disk(tmp_path, 1024) as folder, gateway(environ={**KEEP, "TMPDIR": str(folder)}) as gate:
        Talk(gate).ask("One")
        fill(folder)
        for n in range(5):
            Talk(gate).ask(f"Talk {n}" + "long " * 5000)
        assert until(lambda: len(left(gate)) <= 5)
        gate.process.send_signal(signal.SIGTERM)
        gate.process.wait(60)


# Limits of keys, for all workers -----------------------------------------------------------------------


def test_limits_hold_for_all_workers_and_a_killed_ones_streams_come_free():
    with gateway(environ={"WEB_CONCURRENCY": "2", "API_KEY": "default:0000,bob:bob-key,carol:carol-key",
                          "KEY_LIMITS": '{"bob": {"streams": 3}, "carol": {"requests_per_minute": 5}}'}) as gate:
        assert until(lambda: len(gate.workers()) == 2)
        assert [say(gate, "carol-key").status_code for _ in range(12)] == [200] * 5 + [429] * 7
        gate.simulator.script({"replies": [LONG]})
        streams = [say(gate, "bob-key", stream=True) for _ in range(10)]
        assert sorted(each.status_code for each in streams) == [200] * 3 + [429] * 7
        for worker in gate.workers():
            os.kill(worker, signal.SIGKILL)
        gate.simulator.script(None)
        assert until(lambda: len(gate.workers()) == 2 and say(gate, "bob-key").ok, 60)
        assert until(lambda: [say(gate, "bob-key", n=3).status_code for _ in range(4)] == [200] * 4, 60)
