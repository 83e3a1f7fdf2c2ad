"""When a Service also sends to pods that are not ready: a table of situations."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mce_api import names
from mce_api.status import Why
from mce_operator import observed as parsed
from mce_operator import symptoms
from mce_operator.key import Key
from mce_operator.observed import Observed, Pod
from mce_operator.panic import HOLD, Panic, panic
from unit.mce_operator import objects

NOW = datetime(2026, 1, 1, 1, 0, tzinfo=UTC)
ANY = objects.endpoint(availability="Any", replicas=1)
TWO = objects.endpoint(availability="Any", replicas=2)
TEMPLATE = "current"


def pod(name: str = "p1", *, ready: bool = True, crashes: int = 0, seconds: float = 3600, **changes: Any) -> Pod:
    """A pod that has been ready or not for `seconds`; with `crashes` container b has restarted."""
    since = f"{NOW - timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%SZ}"
    b = objects.running("b", since=since, restartCount=crashes) if ready else objects.waiting("b", "CrashLoopBackOff")
    condition = {"type": "Ready", "status": str(ready), "lastTransitionTime": since}
    made = parsed.pod(objects.pod(TEMPLATE, objects.running("a"), b, name=name, conditions=[condition]))
    return replace(made, **changes)


def unrouted(name: str = "p2", **changes: Any) -> Pod:
    """A pod whose router does not run yet."""
    return replace(pod(name, ready=False), containers={}, **changes)


def decided(endpoint: Any, *pods: Pod) -> Panic:
    return panic(endpoint, Observed(key=Key("team-a", "mnist"), document={}, pods=pods), TEMPLATE, NOW)


def test_one_replica_is_prepared_before_anything_happens() -> None:
    assert decided(ANY, pod()) == Panic(publish_not_ready=True)


@pytest.mark.parametrize("changes", [{"availability": "All"}, {"suspend": True}, {"replicas": 0}])
def test_it_is_off_where_it_can_not_help(changes: dict[str, Any]) -> None:
    spec = {"availability": "Any", "replicas": 1, **changes}
    assert not decided(objects.endpoint(**spec), pod(ready=False)).publish_not_ready


@pytest.mark.parametrize("endpoint", [ANY, TWO])
def test_it_is_on_when_no_pod_is_ready(endpoint: Any) -> None:
    assert decided(endpoint, pod(ready=False), unrouted()).publish_not_ready


@pytest.mark.parametrize("pods", [(), (unrouted(),), (pod(is_deleting=True),)])
def test_it_is_off_without_a_router_that_stays(pods: tuple[Pod, ...]) -> None:
    assert decided(ANY, *pods) == Panic(publish_not_ready=False)


@pytest.mark.parametrize(
    ("endpoint", "others"),
    [
        pytest.param(ANY, (unrouted(),), id="a pod that starts"),
        pytest.param(TWO, (unrouted(),), id="the second pod starts"),
        pytest.param(ANY, (pod("p2"),), id="a pod too many"),
        pytest.param(TWO, (), id="a pod too few"),
        pytest.param(ANY, (pod("p2", is_deleting=True),), id="a pod that ends"),
        pytest.param(TWO, (pod("p2"), pod("p3", is_deleting=True)), id="a third pod ends"),
        pytest.param(TWO, (pod("p2", template="before"),), id="a pod of another generation"),
    ],
)
def test_it_is_off_while_pods_come_and_go_and_one_is_ready(endpoint: Any, others: tuple[Pod, ...]) -> None:
    assert decided(endpoint, pod(crashes=3, seconds=1), *others) == Panic(publish_not_ready=False)


def test_a_ready_pod_that_ends_keeps_the_traffic_until_its_successor_is_ready() -> None:
    """kube-proxy sends to it as long as nothing else is ready; its successor does not listen yet."""
    assert not decided(ANY, pod("old", is_deleting=True), pod("new", ready=False)).publish_not_ready


def test_a_sick_pod_that_ends_goes_on_serving_what_it_can() -> None:
    assert decided(ANY, pod("old", ready=False, is_deleting=True), pod("new", ready=False)).publish_not_ready


def test_a_finished_pod_counts_for_nothing() -> None:
    evicted = pod("evicted", ready=False, is_deleting=True, is_finished=True)
    assert decided(ANY, pod(), evicted).publish_not_ready
    assert not decided(TWO, pod("p1"), pod("p2"), evicted).publish_not_ready


def test_with_a_replica_that_can_be_trusted_callers_of_the_sick_container_go_there() -> None:
    assert decided(TWO, pod("p1"), pod("p2", ready=False)) == Panic(publish_not_ready=False)


def test_it_stays_on_while_no_ready_pod_has_proved_itself() -> None:
    found = decided(TWO, pod("p1", crashes=2, seconds=100), pod("p2", ready=False))
    assert found == Panic(publish_not_ready=True, look_again=NOW - timedelta(seconds=100) + 2 * HOLD)
    assert not decided(TWO, pod("p1", crashes=2, seconds=121), pod("p2", ready=False)).publish_not_ready


def test_of_two_crash_looping_pods_the_first_that_holds_out_ends_it() -> None:
    found = decided(TWO, pod("p1", crashes=1, seconds=30), pod("p2", crashes=1, seconds=10))
    assert found == Panic(publish_not_ready=True, look_again=NOW + timedelta(seconds=30))


def test_ten_minutes_are_proof_enough_after_any_number_of_crashes() -> None:
    assert not decided(TWO, pod("p1", crashes=500, seconds=601), pod("p2", ready=False)).publish_not_ready


def test_a_restart_that_never_made_the_pod_unready_counts_too() -> None:
    one = pod("p1", crashes=1)
    quick = replace(one.containers["b"], running_since=NOW - timedelta(seconds=5))
    one = replace(one, containers={**one.containers, "b": quick})
    assert decided(TWO, one, pod("p2", ready=False)).publish_not_ready


@pytest.mark.parametrize(
    ("seconds", "is_ready", "expected"),
    [
        pytest.param(2, False, Panic(publish_not_ready=False, look_again=NOW + timedelta(seconds=3)), id="may start"),
        pytest.param(2, True, Panic(publish_not_ready=True), id="says that it is ready"),
        pytest.param(5, False, Panic(publish_not_ready=True), id="has had its time"),
    ],
)
def test_a_router_that_has_just_been_started_is_not_sent_to(seconds: int, is_ready: bool, expected: Panic) -> None:
    since = f"{NOW - timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%SZ}"
    router = objects.running(names.ROUTER_CONTAINER, since=since) | {"ready": is_ready}
    started = parsed.pod(objects.pod(TEMPLATE, router, objects.running("a"), objects.waiting("b", "CrashLoopBackOff")))
    assert decided(ANY, started) == expected
    found = decided(TWO, pod(crashes=3, seconds=1), started)
    assert found.publish_not_ready is expected.publish_not_ready
    assert found.look_again == (expected.look_again or NOW - timedelta(seconds=1) + 3 * HOLD)


def test_a_router_that_says_that_it_is_ready_needs_no_clock() -> None:
    """A node's may be ahead of ours."""
    since = f"{NOW + timedelta(seconds=30):%Y-%m-%dT%H:%M:%SZ}"
    router = objects.running(names.ROUTER_CONTAINER, since=since, lastState={"terminated": objects.ended(137)})
    one = parsed.pod(objects.pod(TEMPLATE, router, objects.running("a"), objects.waiting("b", "CrashLoopBackOff")))
    assert decided(ANY, one).publish_not_ready
    assert symptoms.of_router("image", one, NOW).why is Why.NONE


def test_what_the_kubelet_has_not_told_yet_is_no_reason() -> None:
    silent = parsed.pod({**objects.pod(TEMPLATE), "status": {}})
    assert silent.containers == {}
    assert names.ROUTER_CONTAINER not in silent.containers
    assert decided(ANY, silent) == Panic(publish_not_ready=False)
