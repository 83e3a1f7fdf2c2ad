"""Samples as the text that Prometheus reads. Only the admin port imports it: the data path needs no Prometheus."""

from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from mce_api.routes import RouteTable
from mce_router.metrics import BUCKETS, CONTAINER, ENDPOINT_LABELS, SERIES, Kind, Samples, Series


def text(samples: Samples, table: RouteTable, accept: str) -> tuple[bytes, str]:
    """The series of one router in the format that the `Accept` header asks for, and its content type."""
    registry = CollectorRegistry()
    registry.register(_Scrape(families(samples, table)))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class _Scrape(Collector):
    """Families that are there already."""

    def __init__(self, ready: Iterable[Metric]) -> None:
        self._ready = tuple(ready)

    def collect(self) -> Iterable[Metric]:
        """All of them."""
        return self._ready


def families(samples: Samples, table: RouteTable) -> Iterator[Metric]:
    """Every series; those of a container that is not in `table` (any more) are left out."""
    endpoint = (table.namespace, table.endpoint, table.variant)
    containers = {target.name for target in table.targets}
    for series in SERIES:
        family = _family(series)
        for joined, value in samples.get(series.name, {}).items():
            own = joined.split(",") if joined else []
            if series.labels[:1] != (CONTAINER,) or own[0] in containers:
                _add(family, [*endpoint, *own], value)
        yield family
    build = GaugeMetricFamily("mce_router_build_info", "The router's version; always 1.", labels=["version"])
    build.add_metric([version("mce")], 1)
    yield build


def _family(series: Series) -> Metric:
    labels = [*ENDPOINT_LABELS, *series.labels]
    match series.kind:
        case Kind.COUNTER:
            return CounterMetricFamily(series.name.removesuffix("_total"), series.text, labels=labels)
        case Kind.GAUGE:
            return GaugeMetricFamily(series.name, series.text, labels=labels)
        case Kind.HISTOGRAM:
            return HistogramMetricFamily(series.name, series.text, labels=labels)


def _add(family: Metric, labels: Sequence[str], value: list[float]) -> None:
    if isinstance(family, HistogramMetricFamily):
        *counts, total = value
        bounds = (*map(str, BUCKETS), "+Inf")
        family.add_metric(labels, list(zip(bounds, accumulate(counts), strict=True)), total)
    elif isinstance(family, CounterMetricFamily | GaugeMetricFamily):
        family.add_metric(labels, value[0])
