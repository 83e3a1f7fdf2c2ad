"""Every series of the operator, on a registry of its own; label sets are fixed here, no value comes from a caller."""

from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from mce_api import wire
from mce_api.status import ConditionType, State, Status
from mce_kit.usage import Usage, UsageCollector
from mce_operator.key import Key

_CONTAINER: Final = ("namespace", "endpoint", "variant", "container")
_SECONDS: Final = (0.001, 0.005, 0.02, 0.1, 0.5, 2, 10, 30)


class Metrics(Collector):
    """Counts what the operator does, and renders the last status of every endpoint."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._statuses: dict[Key, Status] = {}
        self._tells_of_endpoints = True
        self._reconciles = Counter(
            "mce_operator_reconciles", "Passes over an endpoint, by outcome.", ("outcome",), registry=self.registry
        )
        self._seconds = Histogram(
            "mce_operator_reconcile_seconds", "Duration of a pass.", buckets=_SECONDS, registry=self.registry
        )
        self._writes = Counter(
            "mce_operator_writes", "Writes that the API server took.", ("kind", "verb"), registry=self.registry
        )
        self._drifts = Counter(
            "mce_operator_drift_healed",
            "Objects of ours that others had edited, added to or deleted, and that were set right again.",
            ("kind", "what"),
            registry=self.registry,
        )
        self._held_back = Counter(
            "mce_operator_write_wait_seconds",
            "Time that writes waited for their turn (MCE_OPERATOR_WRITES_PER_SECOND).",
            registry=self.registry,
        )
        ProcessCollector(registry=self.registry)
        self._build = Gauge("mce_build_info", "Always 1.", ("component", "version"), registry=self.registry)
        self._build.labels("operator", version("mce")).set(1)
        self.registry.register(self)

    def watch_queue(self, depth: Callable[[], float], waiting: Callable[[], float]) -> None:
        """Publishes the queue's numbers."""
        Gauge("mce_operator_queue_depth", "Endpoints that wait for a worker.", registry=self.registry).set_function(
            depth
        )
        Gauge(
            "mce_operator_queue_waiting", "Endpoints with a timed re-check or back-off.", registry=self.registry
        ).set_function(waiting)

    def watch_leadership(self, is_leading: Callable[[], float], watch_silence: Callable[[], float]) -> None:
        """Publishes whether this operator leads, and how well it hears."""
        Gauge(
            "mce_operator_leader", "Whether this operator leads (1) or stands by (0).", registry=self.registry
        ).set_function(is_leading)
        Gauge(
            "mce_operator_watch_silence_seconds",
            "Time since the most neglected watch was last asked for.",
            registry=self.registry,
        ).set_function(watch_silence)

    def watch_usage(self, read: Callable[[], Iterable[Usage]]) -> None:
        """Publishes CPU and memory of the containers."""
        self.registry.register(UsageCollector(read))

    def reconciled(self, outcome: str, seconds: float) -> None:
        """A pass is over."""
        self._reconciles.labels(outcome).inc()
        self._seconds.observe(seconds)

    def written(self, kind: str, verb: str) -> None:
        """The API server took a write."""
        self._writes.labels(kind, verb).inc()

    def healed(self, kind: str, what: str) -> None:
        """One of our objects is as it should be again."""
        self._drifts.labels(kind, what).inc()

    def held_back(self, seconds: float) -> None:
        """A write had to wait."""
        self._held_back.inc(seconds)

    def endpoint_is(self, key: Key, status: Status) -> None:
        """An endpoint's status as of now."""
        if self._tells_of_endpoints:  # a pass that was running when leadership ended comes here later
            self._statuses[key] = status

    def endpoint_gone(self, key: Key) -> None:
        """An endpoint is gone, and its series with it."""
        self._statuses.pop(key, None)

    def tell_of_endpoints(self, *, is_leading: bool) -> None:
        """While this operator does not lead, what it knows of endpoints is another one's to tell."""
        self._tells_of_endpoints = is_leading
        if not is_leading:
            self._statuses.clear()

    def render(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self.registry)

    def describe(self) -> Iterable[Metric]:
        """No families yet: registering must not read."""
        return []

    def collect(self) -> Iterator[Metric]:
        """State and conditions of each endpoint, and what is to be said of its containers."""
        state = GaugeMetricFamily(
            "mce_endpoint_state", "1 for the state that an endpoint is in.", labels=("namespace", "endpoint", "state")
        )
        condition = GaugeMetricFamily(
            "mce_endpoint_condition",
            "1 for each condition of an endpoint that is True.",
            labels=("namespace", "endpoint", "condition"),
        )
        ready = GaugeMetricFamily("mce_container_ready", "Replicas on which a container serves.", labels=_CONTAINER)
        restarts = CounterMetricFamily(
            "mce_container_restarts", "Restarts of a container over its present replicas.", labels=_CONTAINER
        )
        for key, status in tuple(self._statuses.items()):
            for word in State:
                state.add_metric((*key, word.value), float(status.state == word))
            true = {one.type for one in status.conditions if one.status == "True"}
            for type_ in ConditionType:
                condition.add_metric((*key, type_.value), float(type_ in true))
            for container in status.containers:
                labels = (*key, wire.DEFAULT_VARIANT, container.name)
                ready.add_metric(labels, container.ready)
                restarts.add_metric(labels, container.restarts)
        yield from (state, condition, ready, restarts)
