"""CPU and memory of each container as Prometheus series: the same on a cluster and on a laptop.

Meaning: AWS `CPUUtilization` counts 0-100 per core (four busy cores are 400), `MemoryUtilization` 0-100 of what the
container may use. What is not known is absent, never zero; a container that is gone takes its series with it.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

LABELS: Final = ("namespace", "endpoint", "variant", "container", "pod")


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """One container of one replica at one moment."""

    namespace: str
    endpoint: str
    variant: str
    container: str
    """AWS name."""
    pod: str
    cpu_cores: float
    memory_bytes: float
    """Working set."""
    cpu_limit_cores: float | None = None
    memory_limit_bytes: float | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """Values in the order of `LABELS`."""
        return (self.namespace, self.endpoint, self.variant, self.container, self.pod)


_SERIES: Final[tuple[tuple[str, str, Callable[[Usage], float | None]], ...]] = (
    (
        "mce_container_cpu_utilization_percent",
        "CPU of a container, 100 per busy core (AWS CPUUtilization).",
        lambda usage: usage.cpu_cores * 100,
    ),
    ("mce_container_cpu_usage_cores", "CPU of a container in cores.", lambda usage: usage.cpu_cores),
    (
        "mce_container_cpu_limit_ratio",
        "CPU of a container over its limit, 0 to 1; absent without a limit.",
        lambda usage: usage.cpu_cores / usage.cpu_limit_cores if usage.cpu_limit_cores else None,
    ),
    (
        "mce_container_memory_utilization_percent",
        "Working set of a container over its limit, 0 to 100 (AWS MemoryUtilization); absent without a limit.",
        lambda usage: usage.memory_bytes / usage.memory_limit_bytes * 100 if usage.memory_limit_bytes else None,
    ),
    (
        "mce_container_memory_working_set_bytes",
        "Working set of a container in bytes.",
        lambda usage: usage.memory_bytes,
    ),
)


class UsageCollector(Collector):
    """Renders whatever `read` returns at the moment of the scrape."""

    def __init__(self, read: Callable[[], Iterable[Usage]]) -> None:
        self._read = read

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """The series without samples: registering must not read."""
        return [GaugeMetricFamily(name, text, labels=LABELS) for name, text, _ in _SERIES]

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One family per series."""
        usages = tuple(self._read())
        for name, text, value_of in _SERIES:
            family = GaugeMetricFamily(name, text, labels=LABELS)
            for usage in usages:
                if (value := value_of(usage)) is not None:
                    family.add_metric(usage.labels, value)
            yield family
