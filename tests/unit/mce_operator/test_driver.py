"""What `status.autoscaling` says, and how rarely it changes."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mce_api.status import AutoscalingStatus
from mce_operator import observed as parsed
from mce_operator.driver import PATIENCE, WAITING, Driver, driver
from mce_operator.key import Key
from mce_operator.observed import Autoscaler, Observed, Scaling
from unit.mce_operator import objects

NOW = datetime(2026, 1, 1, 1, 0, tzinfo=UTC)
BY_INVOCATIONS = {"maxReplicas": 5, "metrics": [{"type": "InvocationsPerReplica", "target": 100}]}
BY_CPU = {
    "maxReplicas": 5,
    "metrics": [{"type": "ContainerCPU", "container": name, "targetPercent": 50} for name in ("a", "B")],
}
LATEST = AutoscalingStatus(metric="InvocationsPerReplica", container="a", message="asks for 2")
DECIDED = AutoscalingStatus(
    desired_replicas=2,
    metric="InvocationsPerReplica",
    container="a",
    message="asked for 2",
    last_scale_time="2026-01-01T00:59:00Z",
)
QUIET = Scaling(decided=None, latest=LATEST, blind="")
BUSY = Autoscaler(
    desired=2, utilization={"a": 60, "b": 90}, last_scale_time="2026-01-01T00:59:00Z", failure="", failing_since=None
)


def said(
    autoscaling: dict[str, Any], replicas: int = 2, *, stored: AutoscalingStatus | None = None, **found: Any
) -> Driver:
    cpu = {"requests": {"cpu": 1}}
    spec: dict[str, Any] = {"autoscaling": autoscaling, "replicas": replicas}
    containers = [objects.container(name, resources=cpu) for name in ("a", "B")]
    document = objects.document(*containers, **spec)
    if stored is not None:
        document["status"]["autoscaling"] = stored.model_dump(mode="json", by_alias=True, exclude_none=True)
    seen = Observed(key=Key("team-a", "mnist"), document=document, **found)
    return driver(objects.endpoint(*containers, **spec), seen, NOW)


def test_without_autoscaling_or_while_suspended_nothing_is_said() -> None:
    seen = Observed(key=Key("team-a", "mnist"), document={})
    for spec in ({}, {"autoscaling": BY_INVOCATIONS, "suspend": True}):
        assert driver(objects.endpoint(**spec), seen, NOW) == Driver()


@pytest.mark.parametrize("autoscaling", [BY_INVOCATIONS, BY_CPU])
def test_at_first_there_are_no_figures(autoscaling: dict[str, Any]) -> None:
    assert said(autoscaling).status == AutoscalingStatus(desired_replicas=2, message=WAITING)


def test_the_first_figures_are_told_once() -> None:
    first = said(BY_INVOCATIONS, scaling=QUIET).status
    assert first == LATEST.model_copy(update={"desired_replicas": 2})
    later = replace(QUIET, latest=LATEST.model_copy(update={"message": "asks for 2 still"}))
    assert said(BY_INVOCATIONS, stored=first, scaling=later).status == first


def test_a_change_of_replicas_is_told_with_what_drove_it() -> None:
    stored = AutoscalingStatus(desired_replicas=1, metric="ConcurrencyPerReplica", container="B", message="before")
    assert said(BY_INVOCATIONS, stored=stored, scaling=replace(QUIET, decided=DECIDED)).status == DECIDED


@pytest.mark.parametrize("autoscaling", [BY_INVOCATIONS, BY_CPU])
def test_a_restart_changes_nothing(autoscaling: dict[str, Any]) -> None:
    assert said(autoscaling, stored=DECIDED).status == DECIDED


def test_replicas_that_somebody_else_has_set_are_told_with_what_is_asked_for() -> None:
    found = said(BY_INVOCATIONS, 4, stored=DECIDED, scaling=QUIET).status
    assert found is not None
    assert (found.desired_replicas, found.message) == (4, "asks for 2")
    assert found.last_scale_time == DECIDED.last_scale_time


def test_missing_figures_are_told_until_they_are_back() -> None:
    blind = said(BY_INVOCATIONS, stored=DECIDED, scaling=replace(QUIET, blind="ContainerCPU of container a")).status
    assert blind is not None
    assert blind.message == ("no figures for ContainerCPU of container a: while that is so, no replica is taken away")
    assert said(BY_INVOCATIONS, stored=blind).status == blind
    back = said(BY_INVOCATIONS, stored=blind, scaling=QUIET).status
    assert back is not None
    assert back.message == "asks for 2"


def test_a_status_that_somebody_has_spoilt_counts_as_none() -> None:
    seen = Observed(key=Key("team-a", "mnist"), document={"status": {"autoscaling": {"desiredReplicas": "many"}}})
    found = driver(objects.endpoint(autoscaling=BY_INVOCATIONS), seen, NOW).status
    assert found == AutoscalingStatus(desired_replicas=1, message=WAITING)


def test_of_the_horizontal_pod_autoscaler_the_metric_nearest_to_its_target_is_told() -> None:
    found = said(BY_CPU, autoscaler=BUSY).status
    assert found == AutoscalingStatus(
        desired_replicas=2,
        metric="ContainerCPU",
        container="B",
        message="container B: 90 % of its CPU request on average, target 50",
        last_scale_time="2026-01-01T00:59:00Z",
    )
    assert said(BY_CPU, stored=found, autoscaler=replace(BUSY, utilization={"a": 99, "b": 1})).status == found


def test_while_the_two_disagree_about_the_number_nothing_new_is_said() -> None:
    assert said(BY_CPU, 4, stored=DECIDED, autoscaler=BUSY).status == DECIDED


def test_an_autoscaler_without_figures_is_told_after_a_minute() -> None:
    failing = replace(BUSY, failure="FailedGetContainerResourceMetric", failing_since=NOW - timedelta(seconds=20))
    assert said(BY_CPU, stored=DECIDED, autoscaler=failing) == Driver(
        status=DECIDED, look_again=NOW - timedelta(seconds=20) + PATIENCE
    )
    failing = replace(failing, failing_since=NOW - PATIENCE)
    found = said(BY_CPU, stored=DECIDED, autoscaler=failing).status
    assert found is not None
    assert "FailedGetContainerResourceMetric" in found.message
    assert "kubectl describe hpa mnist -n team-a" in found.message
    assert said(BY_CPU, stored=found, autoscaler=BUSY).status != found


def test_the_autoscalers_account_is_read_from_its_status() -> None:
    current = {"container": "a", "name": "cpu", "current": {"averageValue": "5m", "averageUtilization": 50}}
    unknown = {"container": "b", "name": "cpu", "current": {"averageValue": "0"}}
    metrics = [{"type": "ContainerResource", "containerResource": one} for one in (current, unknown)]
    active = {"type": "ScalingActive", "status": "False", "reason": "Why", "lastTransitionTime": "2026-01-01T01:00:00Z"}
    status = {"desiredReplicas": 3, "currentMetrics": [*metrics, {"type": "Pods"}], "conditions": [active]}
    assert parsed.autoscaler({"metadata": {}, "status": status}) == Autoscaler(
        desired=3, utilization={"a": 50}, last_scale_time=None, failure="Why", failing_since=NOW
    )
    assert parsed.autoscaler({"metadata": {}}).desired == 0
