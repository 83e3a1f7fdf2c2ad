"""Every series of the router. Counting is a few integer additions; Prometheus types are made only for a scrape.

Names and meanings: the table in docs/metrics.md. No label is taken from a caller. Every series of a table is there
from the start, at zero, so that a rate over a new endpoint is right.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from mce_api.errors import Failure, ModelFailure, Reason
from mce_api.routes import RouteTable
from mce_router import rescue

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

    def cumulative(self) -> list[tuple[str, float]]:
        """Buckets as Prometheus wants them: (upper bound, count up to it)."""
        rows, running = [], 0
        for bound, count in zip((*map(str, BUCKETS), "+Inf"), self.counts, strict=True):
            running += count
            rows.append((bound, float(running)))
        return rows


class _Container:
    """What is counted for one container."""

    __slots__ = ("errors_4xx", "errors_5xx", "invocations", "latency")

    def __init__(self) -> None:
        self.invocations = 0
        self.errors_4xx = 0
        self.errors_5xx = 0
        self.latency = Latency()


class Metrics(Collector):
    """All counts of one router process."""

    def __init__(self) -> None:
        self._endpoint: tuple[str, str, str] = ("", "", "")
        self._containers: dict[str, _Container] = {}
        self._invocations = 0
        self._model = Latency()
        self._overhead = Latency()
        self._reasons: dict[Reason, int] = dict.fromkeys(Reason, 0)
        self._reloads = {"good": 0, "bad": 0}
        self.inflight_of: Callable[[str], int] = lambda _name: 0
        self.healthy_of: Callable[[str], bool] = lambda _name: False

    def use(self, table: RouteTable) -> None:
        """Counts for the containers of `table` from now on; counts of a container that stays go on."""
        self._endpoint = (table.namespace, table.endpoint, table.variant)
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

    def queued(self, name: str) -> None:
        """A request begins to wait for a container."""

    def waited(self, seconds: float) -> None:
        """A request got its place after a wait."""

    def caller_gone(self) -> None:
        """A caller left before its answer was whole."""

    def connection_refused(self) -> None:
        """A caller's connection was one too many."""

    def log_dropped(self, count: int) -> None:
        """Lines of the access log were lost."""

    def table_reloaded(self, *, good: bool) -> None:
        """The route table file changed."""
        self._reloads["good" if good else "bad"] += 1

    def invocations(self, name: str) -> int:
        """Requests that the container called `name` got."""
        container = self._containers.get(name)
        return container.invocations if container else 0

    # --- the scrape

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering must not collect."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """All series."""
        yield from self._of_containers()
        yield from self._of_endpoint()

    def _of_containers(self) -> Iterator[Metric]:
        labels = ["namespace", "endpoint", "variant", "container"]
        calls = CounterMetricFamily(
            "mce_container_invocations", "Requests that a container got (AWS Invocations).", labels=labels
        )
        errors = CounterMetricFamily(
            "mce_container_errors",
            "Answers of a container that are errors (AWS Invocation4XXErrors, Invocation5XXErrors).",
            labels=[*labels, "class"],
        )
        latency = HistogramMetricFamily(
            "mce_container_latency_seconds",
            "Time a container took for an answer (AWS ContainerLatency).",
            labels=labels,
        )
        inflight = GaugeMetricFamily("mce_inflight", "Requests in flight that involve a container.", labels=labels)
        healthy = GaugeMetricFamily(
            "mce_container_healthy", "Whether a container answers /ping with 200 (1) or not (0).", labels=labels
        )
        for name, container in self._containers.items():
            values = [*self._endpoint, name]
            calls.add_metric(values, container.invocations)
            errors.add_metric([*values, "4xx"], container.errors_4xx)
            errors.add_metric([*values, "5xx"], container.errors_5xx)
            latency.add_metric(values, container.latency.cumulative(), container.latency.total)
            inflight.add_metric(values, self.inflight_of(name))
            healthy.add_metric(values, float(self.healthy_of(name)))
        yield from (calls, errors, latency, inflight, healthy)

    def _of_endpoint(self) -> Iterator[Metric]:
        labels = ["namespace", "endpoint", "variant"]
        values = list(self._endpoint)
        calls = CounterMetricFamily("mce_invocations", "Requests that reached a container.", labels=labels)
        calls.add_metric(values, self._invocations)
        errors = CounterMetricFamily(
            "mce_errors", "Requests that got an error, by class and reason.", labels=[*labels, "class", "reason"]
        )
        for reason, count in self._reasons.items():
            errors.add_metric([*values, rescue.metric_class(reason), reason.value], count)
        model = HistogramMetricFamily(
            "mce_model_latency_seconds", "Time that all containers of a request took (AWS ModelLatency).", labels=labels
        )
        model.add_metric(values, self._model.cumulative(), self._model.total)
        overhead = HistogramMetricFamily(
            "mce_overhead_latency_seconds",
            "Time of a request outside its containers (AWS OverheadLatency).",
            labels=labels,
        )
        overhead.add_metric(values, self._overhead.cumulative(), self._overhead.total)
        reloads = CounterMetricFamily(
            "mce_route_table_reloads", "Changes of the route table file, by result.", labels=["result"]
        )
        for result, count in self._reloads.items():
            reloads.add_metric([result], count)
        build = GaugeMetricFamily("mce_router_build_info", "The router's version; always 1.", labels=["version"])
        build.add_metric([version("mce")], 1)
        yield from (calls, errors, model, overhead, reloads, build)


def registry(metrics: Metrics) -> CollectorRegistry:
    """A registry of this router alone; never the global one."""
    made = CollectorRegistry()
    made.register(metrics)
    return made
