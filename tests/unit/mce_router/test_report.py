"""Several workers' reports as one."""

from mce_api.routes import RouteTable, Target
from mce_router import report
from mce_router.report import Report

HEALTHY = ("Healthy", "", "", "")
STARTING = ("Starting", "PortNotBound", "nothing listens", "")
SICK = ("Unhealthy", "PingStatus", "answered 500", "")


def one(ready: bool = True, inflight: int = 0, **vitals: tuple[str, str, str, str]) -> Report:
    samples = {"mce_inflight": {"a": [float(inflight)]}}
    return Report(ready=ready, draining=False, listener_check="netlink", vitals=vitals, samples=samples)


def test_the_worst_state_of_a_container_wins_with_its_error() -> None:
    whole = report.together([one(a=HEALTHY, b=STARTING), one(a=STARTING, b=SICK)], (), (), draining=False)
    assert whole.vitals == {"a": STARTING, "b": SICK}
    assert report.causes(whole) == ["a: it is starting (nothing listens)", "b: it is unhealthy (answered 500)"]


def test_the_router_is_ready_when_all_workers_are_there_and_ready() -> None:
    assert report.together([one(), one()], (), (), draining=False).ready
    assert not report.together([one(), one(ready=False)], (), (), draining=False).ready
    assert not report.together([one()], ("worker 1: it is not up",), (), draining=False).ready
    assert not report.together([], (), (), draining=False).ready


def test_a_missing_worker_is_a_cause() -> None:
    whole = report.together([one(a=HEALTHY)], ("worker 1: it is not up",), (), draining=False)
    assert report.causes(whole) == ["worker 1: it is not up"]


def test_targets_show_sums_and_zeros_for_what_is_not_known_yet() -> None:
    table = RouteTable(
        namespace="n", endpoint="e", mode="Direct", targets=(Target(name="a", port=1), Target(name="new", port=2))
    )
    whole = report.together([one(inflight=1, a=SICK), one(inflight=2, a=HEALTHY)], (), (), draining=False)
    rows = report.targets(whole, table)["targets"]
    assert [(row["name"], row["state"], row["cause"], row["inflight"], row["queued"]) for row in rows] == [
        ("a", "Unhealthy", "PingStatus", 3, 0),
        ("new", "", "", 0, 0),
    ]
