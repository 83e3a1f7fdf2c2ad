"""What is counted, added up over workers, and shown."""

import json
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from mce_api.errors import Reason, Refusal
from mce_api.routes import RouteTable, Target
from mce_router import exposition, metrics
from mce_router.metrics import BUCKETS, SERIES, Gauges, Kind, Metrics, Samples

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "metrics.md"
TABLE = RouteTable(
    namespace="n", endpoint="e", mode="Direct", targets=(Target(name="a", port=1), Target(name="b", port=2))
)


def gauges(**values: Any) -> Gauges:
    defaults: dict[str, Any] = {
        "inflight": lambda _: 0,
        "healthy": lambda _: True,
        "connections": lambda: 0,
        "draining": lambda: False,
        "limits": lambda: {"max_concurrency": 3, "max_request_bytes": 10},
    }
    return Gauges(**{**defaults, **values})


def counted() -> Metrics:
    made = Metrics()
    made.use(TABLE)
    return made


def shown(samples: Samples) -> dict[tuple[str, ...], float]:
    """Each line of the text by its name and the values of its labels, those of the endpoint left out."""
    text = exposition.text(samples, TABLE, "")[0].decode()
    lines = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            own = [value for label, value in sample.labels.items() if label not in metrics.ENDPOINT_LABELS]
            lines[(sample.name, *own)] = sample.value
    return lines


def test_the_documentation_has_every_series_of_the_table_in_its_order() -> None:
    section = DOCUMENT.read_text().partition("## The router's series")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `mce_")]
    assert rows == [
        f"| `{series.name}` | {series.kind} | {', '.join(series.labels)} | {series.text} |" for series in SERIES
    ]


def test_a_snapshot_has_every_series_of_the_table_and_no_other() -> None:
    assert set(counted().snapshot(gauges())) == {series.name for series in SERIES}


def test_every_series_is_there_at_zero_before_the_first_request() -> None:
    lines = shown(counted().snapshot(gauges()))
    for series in SERIES:
        name = f"{series.name}_count" if series.kind is Kind.HISTOGRAM else series.name
        mine = {key[1:]: value for key, value in lines.items() if key[0] == name}
        assert mine, series.name
        if series.labels[:1] == ("container",):
            assert all(any(name in key for key in mine) for name in ("a", "b"))
        if series.kind is not Kind.GAUGE:
            assert set(mine.values()) == {0.0}
    assert {key[2] for key in lines if key[0] == "mce_errors_total"} == {reason.value for reason in Reason}


def test_each_event_counts_once() -> None:
    one = counted()
    one.queued("a")
    one.queued("nobody")
    one.waited(0.3)
    one.connection_refused()
    one.caller_gone()
    one.log_dropped(3)
    one.failed(Refusal(Reason.TARGET_UNKNOWN, "no"))
    lines = shown(one.snapshot(gauges(queued=lambda _: 4, buffered_bytes=lambda: 5)))
    assert lines["mce_queued_total", "a"] == 1
    assert lines["mce_queued_total", "b"] == 0
    assert lines["mce_queue_seconds_sum",] == 0.3
    assert lines["mce_queue_length", "a"] == 4
    assert lines["mce_buffered_bytes",] == 5
    assert lines["mce_connections_refused_total",] == 1
    assert lines["mce_callers_gone_total",] == 1
    assert lines["mce_access_log_dropped_total",] == 3
    assert lines["mce_errors_total", "4xx", Reason.TARGET_UNKNOWN.value] == 1


def test_snapshots_of_workers_add_up_as_json() -> None:
    one, other = counted(), counted()
    one.container_called("a")
    one.container_answered("a", 0.002)
    other.container_called("a")
    other.container_answered("a", BUCKETS[-1] + 1)
    snapshots: list[Samples] = [
        one.snapshot(gauges(inflight=lambda _: 2, healthy=lambda name: name == "a")),
        other.snapshot(gauges(inflight=lambda _: 3, draining=lambda: True)),
    ]
    lines = shown(metrics.merged(json.loads(json.dumps(snapshots))))
    assert lines["mce_container_invocations_total", "a"] == 2
    assert lines["mce_container_latency_seconds_count", "a"] == 2
    assert lines["mce_container_latency_seconds_bucket", "a", "0.001"] == 0
    assert lines["mce_container_latency_seconds_bucket", "a", "0.0025"] == 1
    assert lines["mce_container_latency_seconds_bucket", "a", "60.0"] == 1
    assert lines["mce_container_latency_seconds_bucket", "a", "+Inf"] == 2
    assert lines["mce_inflight", "b"] == 5
    assert (lines["mce_container_healthy", "a"], lines["mce_container_healthy", "b"]) == (1, 0)
    assert (lines["mce_limit", "max_concurrency"], lines["mce_limit", "max_request_bytes"]) == (6, 10)
    assert lines["mce_draining",] == 1
    assert lines["mce_workers",] == 2
    assert sum(key[0] == "mce_router_build_info" for key in lines) == 1


def test_adding_up_changes_no_snapshot() -> None:
    snapshots = [counted().snapshot(gauges()) for _ in range(2)]
    before = json.dumps(snapshots)
    metrics.merged(snapshots)
    assert json.dumps(snapshots) == before


def test_of_a_dead_worker_only_the_counts_stay() -> None:
    one = counted()
    one.container_called("a")
    left = metrics.only_counts(one.snapshot(gauges(inflight=lambda _: 7)))
    lines = shown(metrics.merged((left, counted().snapshot(gauges()))))
    assert lines["mce_container_invocations_total", "a"] == 1
    assert lines["mce_inflight", "a"] == 0
    assert lines["mce_workers",] == 1


def test_a_container_that_left_the_table_has_no_series() -> None:
    one = counted()
    one.container_called("a")
    samples = one.snapshot(gauges())
    samples["mce_inflight"]["gone"] = [1]
    assert not [key for key in shown(samples) if "gone" in key]
