"""The metrics of GET /metrics: every request's record, counted in memory, and added up over all workers."""

import logging
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import Metric, Sample
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from .counts import Row, Shared, added
from .record import RequestRecord

log = logging.getLogger("cursor2api")

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
TOKENS = "prompt_tokens", "cached_tokens", "completion_tokens"
SECONDS = (.01, .03, .1, .3, 1, 3, 10, 30, 60, 120, 300, 600)


class Metrics:
    """This process counts alone until it is told where to `share` its counts. No label has a value of a caller's
    own making: a name of a key, a model of the list, a status, a reason of ours or of Cursor's."""

    def __init__(self, slots: int, upstream: str = ""):
        self._own, self._shared, self._upstream = CollectorRegistry(), None, upstream

        def make(kind, name, help, *labels, **options):
            metric = kind(f"cursor2api_{name}", help, labels, registry=self._own, **options)
            metric.labels = lru_cache(1000)(metric.labels)  # it takes as long as the count
            return metric

        self._requests = make(Counter, "requests", "Requests.", "route", "status", "key")
        self._ends = make(Counter, "replies", "Replies, by who ended them and why.", "closed_by", "why")
        self._agents = make(Counter, "agents", "Replies, by whose agent they came from.", "agent",
                            "upstream")
        self._seconds = make(Histogram, "request_seconds", "Time to the end of the reply.", "route",
                             buckets=SECONDS)
        self._queued = make(Histogram, "queue_seconds", "Wait for a slot.", buckets=SECONDS)
        self._first = make(Histogram, "first_delta_seconds", "Time to a stream's first delta.", "model",
                           buckets=SECONDS)
        self._deltas = make(Counter, "deltas", "Deltas that left.", "model")
        self._tokens = make(Counter, "tokens", "Tokens, as usage states them; the prompt's include cached ones.",
                            "key", "model", "kind")
        self._streams = make(Gauge, "slots_used", "Slots in use.")
        make(Gauge, "slots", "Slots there are.").set(slots)

    def slot(self, count: int) -> None:
        self._streams.inc(count)

    def count(self, record: RequestRecord, status: int, closed_by: str, why: str) -> None:
        """Counts a request that is over; a fault in that is logged, as it must not reach the request."""
        try:
            self._count(record, status, closed_by, why)
        except Exception:
            log.exception("a fault in counting")

    def _count(self, record: RequestRecord, status: int, closed_by: str, why: str) -> None:
        """Keys of callers' own are counted together."""
        seconds = record.clock() - record.started
        key = "cursor" if record.key.startswith("cursor-") else record.key
        self._requests.labels(record.route, status, key).inc()
        self._seconds.labels(record.route).observe(seconds)
        if record.queued is None:
            return
        self._queued.observe(record.queued)
        self._ends.labels(closed_by, why).inc()
        if record.agent:
            self._agents.labels(record.agent, self._upstream).inc()
        if record.first is not None:
            self._first.labels(record.model).observe(record.first - record.started)
        self._deltas.labels(record.model).inc(record.deltas)
        for kind in TOKENS if record.usage else ():
            self._tokens.labels(key, record.model, kind).inc(getattr(record.usage, kind))

    def share(self, folder: Path, name: str) -> None:
        """From now on other workers know what this one counts, and it what they do; its name is its own there."""
        self._shared = Shared(folder, name, self._rows)

    def save(self) -> None:
        """The last that this worker does: what it has counted stays."""
        if self._shared:
            self._shared.save()

    def text(self) -> bytes:
        """The Prometheus text format, of CONTENT_TYPE."""
        self.save()
        everyone = CollectorRegistry()
        everyone.register(self)
        return generate_latest(everyone)

    def collect(self) -> Iterator[Metric]:
        """What prometheus_client asks of a collector: each metric with the sums of all workers."""
        counts, gauges = self._rows()
        rows = added(counts + gauges + (self._shared.others() if self._shared else []))
        for metric in self._own.collect():
            metric.samples = [Sample(name, dict(labels), value) for of, name, labels, value in rows
                              if of == metric.name]
            yield metric

    def _rows(self) -> tuple[list[Row], list[Row]]:
        """This worker's own counts, and its gauges."""
        counts, gauges = [], []
        for metric in self._own.collect():
            (gauges if metric.type == "gauge" else counts).extend(
                (metric.name, sample.name, tuple(sample.labels.items()), sample.value)
                for sample in metric.samples if not sample.name.endswith("_created"))  # times, which have no sum
        return counts, gauges
