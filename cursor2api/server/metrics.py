"""The metrics of GET /metrics: every request's record, counted across all of gunicorn's workers."""

import os
from functools import lru_cache
from glob import glob

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.multiprocess import MultiProcessCollector

from .record import RequestRecord

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
SECONDS = (.01, .03, .1, .3, 1, 3, 10, 30, 60, 120, 300, 600)


class Metrics:
    """`directory` is where workers share their counts; without one this process counts alone."""

    def __init__(self, directory: str | None, slots: int):
        self._own, self._directory = CollectorRegistry(), directory

        def make(kind, name, help, *labels, **options):
            metric = kind(f"cursor2api_{name}", help, labels, registry=self._own, **options)
            metric.labels = lru_cache(1000)(metric.labels)  # it takes as long as the count
            return metric

        self._requests = make(Counter, "requests", "Requests.", "route", "status", "key")
        self._ends = make(Counter, "replies", "Replies, by who ended them and why.", "closed_by", "why")
        self._agents = make(Counter, "agents", "Replies, by whose agent they came from.", "agent")
        self._seconds = make(Histogram, "request_seconds", "Time to the end of the reply.", "route",
                             buckets=SECONDS)
        self._queued = make(Histogram, "queue_seconds", "Wait for a slot.", buckets=SECONDS)
        self._first = make(Histogram, "first_delta_seconds", "Time to a stream's first delta.", "model",
                           buckets=SECONDS)
        self._deltas = make(Counter, "deltas", "Deltas that left.", "model")
        self._tokens = make(Counter, "tokens", "Tokens, as usage states them.", "model", "kind")
        self._streams = make(Gauge, "slots_used", "Slots in use.", multiprocess_mode="livesum")
        make(Gauge, "slots", "Slots there are.", multiprocess_mode="livesum").set(slots)

    def slot(self, count: int) -> None:
        self._streams.inc(count)

    def count(self, record: RequestRecord, status: int, closed_by: str, why: str) -> None:
        """Counts a request that is over. Keys of callers' own are counted together."""
        seconds = record.clock() - record.started
        key = "cursor" if record.key.startswith("cursor-") else record.key
        self._requests.labels(record.route, status, key).inc()
        self._seconds.labels(record.route).observe(seconds)
        if record.queued is None:
            return
        self._queued.observe(record.queued)
        self._ends.labels(closed_by, why).inc()
        if record.agent:
            self._agents.labels(record.agent).inc()
        if record.first is not None:
            self._first.labels(record.model).observe(record.first - record.started)
        self._deltas.labels(record.model).inc(record.deltas)
        for kind in ("prompt_tokens", "completion_tokens") if record.usage else ():
            self._tokens.labels(record.model, kind).inc(getattr(record.usage, kind))

    def text(self) -> bytes:
        """The Prometheus text format, of CONTENT_TYPE."""
        if not self._directory:
            return generate_latest(self._own)
        everyone = CollectorRegistry()
        _Everyone(everyone, self._directory)
        return generate_latest(everyone)


class _Everyone(MultiProcessCollector):
    def collect(self):
        return self.merge([path for path in glob(f"{self._path}/*.db") if _size(path)])


def _size(path: str) -> int:
    """In bytes. A worker that is starting has files that are empty yet, one that has ended has none."""
    try:
        return os.path.getsize(path)
    except FileNotFoundError:
        return 0
