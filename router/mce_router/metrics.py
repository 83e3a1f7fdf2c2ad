"""Every series of the router: one table says what they are, plain integers count, a snapshot is their values as JSON.

Counting is a few integer additions; Prometheus types are made only for a scrape (`exposition`). Snapshots of several
workers add up to one. No label is taken from a caller. Every series of a table is there from the start, at zero, so
that a rate over a new endpoint is right.
"""

import operator
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from mce_api.errors import Failure, ModelFailure, Reason
from mce_api.routes import RouteTable
from mce_router import rescue

Samples = dict[str, dict[str, list[float]]]
"""Values by series name, then by the values of the series' own labels, joined by commas. A list of one number, or for
a histogram the count of each bucket (the last one has no bound) and then the sum. Plain JSON."""

BUCKETS: Final = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
"""Upper bounds in seconds: from a warm small model to SageMaker's limit."""


class Latency:
    """A histogram as plain numbers."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """Counts one duration."""
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.total += seconds

    def sample(self) -> list[float]:
        """The counts, then the sum."""
        return [*self.counts, self.total]


class Kind(StrEnum):
    """What a series is, in Prometheus' words."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Series(NamedTuple):
    """One row of the table of series."""

    name: str
    kind: Kind
    text: str
    labels: tuple[str, ...] = ()
    """Its own labels, after `ENDPOINT_LABELS`."""
    together: Callable[[float, float], float] = operator.add
    """How the values of two workers become one."""


_LIMIT: Final = "mce_limit"
DIVIDED_LIMITS: Final = frozenset({"max_concurrency"})
"""Limits of which each worker has a share; of every other limit each worker has the whole."""
ENDPOINT_LABELS: Final = ("namespace", "endpoint", "variant")
CONTAINER: Final = "container"
SERIES: Final = (
    Series("mce_container_invocations_total", Kind.COUNTER, "Requests that a container got.", (CONTAINER,)),
    Series("mce_container_errors_total", Kind.COUNTER, "Answers of a container that are errors.", (CONTAINER, "class")),
    Series("mce_container_latency_seconds", Kind.HISTOGRAM, "Time a container took for an answer.", (CONTAINER,)),
    Series("mce_inflight", Kind.GAUGE, "Requests in flight that involve a container.", (CONTAINER,)),
    Series(
        "mce_container_healthy",
        Kind.GAUGE,
        "Whether a container answers /ping with 200 (1) or not (0).",
        (CONTAINER,),
        min,
    ),
    Series("mce_queue_length", Kind.GAUGE, "Requests that wait for a container with a cap.", (CONTAINER,)),
    Series("mce_queued_total", Kind.COUNTER, "Requests that had to wait for a container.", (CONTAINER,)),
    Series("mce_queue_seconds", Kind.HISTOGRAM, "Time that requests waited for a container."),
    Series("mce_invocations_total", Kind.COUNTER, "Requests that reached a container."),
    Series("mce_errors_total", Kind.COUNTER, "Requests that got an error, by class and reason.", ("class", "reason")),
    Series("mce_model_latency_seconds", Kind.HISTOGRAM, "Time that all containers of a request took."),
    Series("mce_overhead_latency_seconds", Kind.HISTOGRAM, "Time of a request outside its containers."),
    Series("mce_connections", Kind.GAUGE, "Open connections of callers."),
    Series("mce_connections_refused_total", Kind.COUNTER, "Connections of callers closed because there were too many."),
    Series("mce_callers_gone_total", Kind.COUNTER, "Requests whose caller left before the answer was whole."),
    Series("mce_buffered_bytes", Kind.GAUGE, "Bytes of bodies that the router holds."),
    Series("mce_access_log_dropped_total", Kind.COUNTER, "Lines of the access log that could not be written."),
    Series(_LIMIT, Kind.GAUGE, "What requests may take, by limit; 0 is no limit.", ("limit",), max),
    Series("mce_draining", Kind.GAUGE, "Whether the router is about to leave (1) or not (0).", (), max),
    Series("mce_route_table_reloads_total", Kind.COUNTER, "Changes of the route table file, by result.", ("result",)),
    Series("mce_workers", Kind.GAUGE, "Worker processes that serve."),
    Series("mce_worker_restarts_total", Kind.COUNTER, "Worker processes that ended and were replaced."),
)
"""Every series but the build's. docs/metrics.md repeats it."""
_BY_NAME: Final = {series.name: series for series in SERIES}


def merged(snapshots: Iterable[Samples]) -> Samples:
    """The samples of several workers as those of one router."""
    whole: Samples = {}
    for samples in snapshots:
        for name, values in samples.items():
            mine = whole.setdefault(name, {})
            for labels, value in values.items():
                divided = name == _LIMIT and labels in DIVIDED_LIMITS
                together = operator.add if divided else _BY_NAME[name].together
                before = mine.get(labels)
                mine[labels] = list(map(together, before, value)) if before else value
    return whole


def only_counts(samples: Samples) -> Samples:
    """What stays true when its process is gone: counters and histograms."""
    return {name: values for name, values in samples.items() if _BY_NAME[name].kind is not Kind.GAUGE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauges:
    """Where the values come from that are not counted; each is asked when a snapshot is made."""

    inflight: Callable[[str], int]
    """Requests in flight that involve a container."""
    healthy: Callable[[str], bool]
    connections: Callable[[], int]
    draining: Callable[[], bool]
    limits: Callable[[], Mapping[str, float]]
    """What requests may take, by name; those in `DIVIDED_LIMITS` are this process' share."""
    queued: Callable[[str], int] = lambda _name: 0
    """Requests that wait for a container."""
    buffered_bytes: Callable[[], int] = lambda: 0


class _Container:
    """What is counted for one container."""

    __slots__ = ("errors_4xx", "errors_5xx", "invocations", "latency", "queued")

    def __init__(self) -> None:
        self.invocations = 0
        self.errors_4xx = 0
        self.errors_5xx = 0
        self.latency = Latency()
        self.queued = 0


class Metrics:
    """All counts of one router process."""

    def __init__(self) -> None:
        self._containers: dict[str, _Container] = {}
        self._invocations = 0
        self._model = Latency()
        self._overhead = Latency()
        self._reasons: dict[Reason, int] = dict.fromkeys(Reason, 0)
        self._reloads = {"good": 0, "bad": 0}
        self._waits = Latency()
        self._connections_refused = 0
        self._callers_gone = 0
        self._log_lines_dropped = 0

    def use(self, table: RouteTable) -> None:
        """Counts for the containers of `table` from now on; counts of a container that stays go on."""
        self._containers = {target.name: self._containers.get(target.name) or _Container() for target in table.targets}

    # --- events

    def container_called(self, name: str) -> None:
        """A container gets a request."""
        if (container := self._containers.get(name)) is not None:
            container.invocations += 1

    def container_answered(self, name: str, seconds: float) -> None:
        """A container gave a whole answer that counts as one."""
        if (container := self._containers.get(name)) is not None:
            container.latency.observe(seconds)

    def invoked(self, seconds: float, model_seconds: float) -> None:
        """A request that reached a container is over."""
        self._invocations += 1
        self._model.observe(model_seconds)
        self._overhead.observe(max(0.0, seconds - model_seconds))

    def failed(self, failure: Failure) -> None:
        """A request did not get a model's answer."""
        self._reasons[failure.reason] += 1
        if isinstance(failure, ModelFailure) and (container := self._containers.get(failure.container)) is not None:
            if rescue.metric_class(failure.reason) == "4xx":
                container.errors_4xx += 1
            else:
                container.errors_5xx += 1

    def table_reloaded(self, *, good: bool) -> None:
        """The route table file changed."""
        self._reloads["good" if good else "bad"] += 1

    def queued(self, name: str) -> None:
        """A request has to wait for the container called `name`."""
        if (container := self._containers.get(name)) is not None:
            container.queued += 1

    def waited(self, seconds: float) -> None:
        """A request that waited for a container waits no more, whatever came of it."""
        self._waits.observe(seconds)

    def connection_refused(self) -> None:
        """A caller's connection was closed because there were too many."""
        self._connections_refused += 1

    def caller_gone(self) -> None:
        """A caller left before its answer was whole."""
        self._callers_gone += 1

    def log_dropped(self, lines: int) -> None:
        """So many lines of the access log could not be written."""
        self._log_lines_dropped += lines

    def invocations(self, name: str) -> int:
        """Requests that the container called `name` got."""
        container = self._containers.get(name)
        return container.invocations if container else 0

    def snapshot(self, gauges: Gauges) -> Samples:
        """The values of all series now."""
        return {**self._of_containers(gauges), **self._of_endpoint(gauges)}

    def _of_containers(self, gauges: Gauges) -> Samples:
        containers = self._containers.items()
        errors: dict[str, list[float]] = {}
        for name, container in containers:
            errors[f"{name},4xx"], errors[f"{name},5xx"] = [container.errors_4xx], [container.errors_5xx]
        return {
            "mce_container_invocations_total": {name: [container.invocations] for name, container in containers},
            "mce_container_errors_total": errors,
            "mce_container_latency_seconds": {name: container.latency.sample() for name, container in containers},
            "mce_inflight": {name: [gauges.inflight(name)] for name in self._containers},
            "mce_container_healthy": {name: [int(gauges.healthy(name))] for name in self._containers},
            "mce_queue_length": {name: [gauges.queued(name)] for name in self._containers},
            "mce_queued_total": {name: [container.queued] for name, container in containers},
        }

    def _of_endpoint(self, gauges: Gauges) -> Samples:
        return {
            "mce_queue_seconds": {"": self._waits.sample()},
            "mce_invocations_total": {"": [self._invocations]},
            "mce_errors_total": {
                f"{rescue.metric_class(reason)},{reason.value}": [count] for reason, count in self._reasons.items()
            },
            "mce_model_latency_seconds": {"": self._model.sample()},
            "mce_overhead_latency_seconds": {"": self._overhead.sample()},
            "mce_connections": {"": [gauges.connections()]},
            "mce_connections_refused_total": {"": [self._connections_refused]},
            "mce_callers_gone_total": {"": [self._callers_gone]},
            "mce_buffered_bytes": {"": [gauges.buffered_bytes()]},
            "mce_access_log_dropped_total": {"": [self._log_lines_dropped]},
            _LIMIT: {name: [value] for name, value in gauges.limits().items()},
            "mce_draining": {"": [int(gauges.draining())]},
            "mce_route_table_reloads_total": {result: [count] for result, count in self._reloads.items()},
            "mce_workers": {"": [1]},
            "mce_worker_restarts_total": {"": [0]},
        }
