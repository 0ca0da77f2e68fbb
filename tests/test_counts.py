"""Counts: added up over workers and over those that have ended, and never a request's or a worker's trouble."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager

import pytest
import requests
from conftest import ROOT, free_port, gateway, until

from cursor2api.server.counts import Shared, add_ended, added, new_folder
from cursor2api.server.metrics import Metrics
from cursor2api.server.record import RequestRecord

COUNTED = 'cursor2api_requests_total{key="default",route="list_models",status="200"} '


def counted(gate):
    """How many lists of models /metrics tells of."""
    found = [line for line in gate.get("/metrics").text.splitlines() if line.startswith(COUNTED)]
    return float(found[0].removeprefix(COUNTED)) if found else 0


def both(gate):
    """The ids of the two workers, once both have begun to share their counts."""
    def sharing():
        return len(gate.workers()) == 2 and b"\ncursor2api_slots 120.0\n" in gate.get("/metrics").content
    return until(sharing) and gate.workers()


def folders(place):
    return list(place.glob("cursor2api-*"))


def record(**facts):
    return RequestRecord(lambda: 2.0, route="list_models", key="default", started=1.0, **facts)


@contextmanager
def disk(folder, size):
    """A file system of so many KiB."""
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("mount needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def fill(folder):
    """Takes all the room there is; gives the file that has it."""
    file = folder / "full"
    with open(file, "wb", buffering=0) as full, pytest.raises(OSError, match="No space"):
        while True:
            full.write(bytes(4096))
    return file


def test_a_full_disk_ends_no_worker_and_no_request_and_is_said_once(tmp_path):
    with disk(tmp_path, 256) as folder, gateway(environ={"TMPDIR": str(folder), "WEB_CONCURRENCY": "2"}) as gate:
        workers = both(gate)
        assert workers and folders(folder)
        full = fill(folder)
        for n in range(60):
            assert requests.get(f"{gate.url}/v1/chat/completions", timeout=10).status_code == 405
            assert gate.get("/v1/models").ok and gate.get(f"/v1/{n}").status_code == 404
            assert gate.say(stream=n % 2 == 0).ok
        assert gate.get("/metrics").ok
        assert until(lambda: "counts cannot be shared" in gate.log())
        assert gate.workers() == workers and gate.log().count("counts cannot be shared") <= 2
        full.unlink()
        assert until(lambda: counted(gate) == 60)
        assert gate.workers() == workers


def test_a_disk_that_is_full_at_the_start_too(tmp_path):
    with disk(tmp_path, 4) as folder:
        fill(folder)
        with gateway(environ={"TMPDIR": str(folder), "WEB_CONCURRENCY": "2"}) as gate:
            assert all(gate.get("/v1/models").ok and gate.get("/metrics").ok for _ in range(9))


def test_a_folder_that_is_gone_ends_nothing(tmp_path):
    with gateway(environ={"TMPDIR": str(tmp_path), "WEB_CONCURRENCY": "2"}) as gate:
        workers = both(gate)
        [folder] = folders(tmp_path)
        folder.rename(tmp_path / "elsewhere")
        assert all(gate.get("/v1/models").ok and gate.get("/metrics").ok for _ in range(9))
        assert until(lambda: gate.log().count("counts cannot be shared") == 2)
        os.kill(workers[0], signal.SIGKILL)
        assert until(lambda: len(set(gate.workers()) - set(workers)) == 1) and gate.get("/v1/models").ok


@pytest.mark.parametrize("variable", ["", "PROMETHEUS_MULTIPROC_DIR"])
def test_one_worker_writes_no_counts(tmp_path, variable):
    other = tmp_path / "other"
    other.mkdir()
    with gateway(environ={"TMPDIR": str(tmp_path), **({variable: str(other)} if variable else {})}) as gate:
        assert gate.get("/v1/models").ok and counted(gate) == 1
        assert not [file for folder in folders(tmp_path) for file in folder.glob("*.json")]
        assert not list(other.iterdir())
    assert not folders(tmp_path)


def test_the_counts_go_on_after_a_reload_and_the_folder_goes_with_the_service(tmp_path):
    with gateway(environ={"TMPDIR": str(tmp_path), "WEB_CONCURRENCY": "2"}) as gate:
        for n in range(1, 4):
            before, workers = folders(tmp_path), both(gate)
            assert len(before) == 1 and gate.get("/v1/models").ok
            gate.process.send_signal(signal.SIGHUP)
            assert until(lambda: len(gate.workers()) == 2 and not set(workers) & set(gate.workers()))
            assert until(lambda: counted(gate) == n) and folders(tmp_path) == before
    assert not folders(tmp_path)


@pytest.mark.parametrize("settings", [
    {"TIMEOUT": "soon"}, {"GUNICORN_CMD_ARGS": "--check-config"},
    {"GUNICORN_CMD_ARGS": "--bind 192.0.2.1:1"}], ids=str)
def test_a_start_that_does_not_serve_leaves_no_folder(tmp_path, settings):
    subprocess.run([sys.executable, "-m", "gunicorn", "app:app"], cwd=ROOT, timeout=60, stderr=subprocess.DEVNULL,
                   env={"PATH": os.environ["PATH"], "PORT": str(free_port()), "TMPDIR": str(tmp_path),
                        "WEB_CONCURRENCY": "2", **settings})
    assert not folders(tmp_path)


def test_each_worker_counts_once_at_any_time(tmp_path):
    """While workers end, one after the other, a reader always sees the same sum."""
    workers = [Shared(tmp_path, str(n), lambda: ([("m", "m_total", (("a", "b"),), 1.0)], [])) for n in range(40)]
    for worker in workers:
        worker.save()
    reader, sums = Shared(tmp_path, "reader", lambda: ([], [])), []
    ending = threading.Thread(target=lambda: [add_ended(tmp_path, str(n)) for n in range(40)])
    ending.start()
    while ending.is_alive() or not sums:
        sums += [value for *_, value in added(reader.others())]
    assert set(sums) == {40.0} and added(reader.others()) == [("m", "m_total", (("a", "b"),), 40.0)]


def test_gauges_of_a_worker_that_has_ended_count_no_longer(tmp_path):
    ended, reader = Metrics(5), Metrics(7)
    ended.share(tmp_path, "1")
    reader.share(tmp_path, "2")
    ended.count(record(), 200, "gateway", "complete")
    ended.save()
    assert b"\ncursor2api_slots 12.0\n" in reader.text()
    add_ended(tmp_path, "1")
    text = reader.text()
    assert b"\ncursor2api_slots 7.0\n" in text and (COUNTED + "1.0").encode() in text
    assert b"# TYPE cursor2api_request_seconds histogram" in text and b"_created" not in text
    add_ended(tmp_path, "1")
    assert reader.text() == text


def test_a_fault_in_counting_is_logged_and_no_more(caplog):
    metrics = Metrics(1)
    usage = {"prompt_tokens": -1, "completion_tokens": 0}
    metrics.count(record(queued=0.0, usage=usage), 200, "gateway", "complete")
    assert "a fault in counting" in caplog.text and COUNTED.encode() in metrics.text()


def test_without_a_place_for_files_there_is_no_folder(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/proc/nothing")
    assert new_folder() is None
