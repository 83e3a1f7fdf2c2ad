from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mce_operator import observed, pace
from mce_operator.observed import Pod
from mce_operator.pace import Pace
from unit.mce_operator import objects

NOW = datetime(2026, 1, 1, 1, 0, tzinfo=UTC)


def pod(seconds: float | None) -> Pod:
    """One that has been ready for so long; None: it is not ready."""
    since = f"{NOW - timedelta(seconds=seconds or 0):%Y-%m-%dT%H:%M:%SZ}"
    condition = {"type": "Ready", "status": "False" if seconds is None else "True", "lastTransitionTime": since}
    return observed.pod(objects.pod("t", objects.running("a"), conditions=[condition]))


def surge(new: list[Pod], replicas: int = 4, *, is_free: bool = False, **rollout: Any) -> int | str:
    spec = objects.endpoint(rollout=rollout).spec
    found = pace.forward(spec, replicas, new, NOW, is_free=is_free)
    assert found.is_open is (rollout["strategy"] == "Canary" and found.surge == "100%")
    assert found.unavailable == (rollout.get("maxUnavailable", 0))
    return found.surge


def test_rolling_is_as_given() -> None:
    assert surge([], strategy="Rolling", maxSurge=3, maxUnavailable=2) == 3


def test_linear_is_always_one_step_and_all_at_once_never() -> None:
    for new in ([], [pod(None)], [pod(100)] * 4):
        assert surge(new, strategy="Linear", stepPercent=20, bakeSeconds=60) == "20%"
        assert surge(new, strategy="AllAtOnce", bakeSeconds=60) == "100%"


@pytest.mark.parametrize(
    ("new", "replicas", "is_open"),
    [
        pytest.param([], 4, False, id="nothing yet"),
        pytest.param([pod(None)], 4, False, id="the canary starts"),
        pytest.param([pod(59)], 4, False, id="the canary bakes"),
        pytest.param([pod(60)], 4, True, id="the canary has baked"),
        pytest.param([pod(60)], 8, False, id="half of a canary of two has baked"),
        pytest.param([pod(60), pod(61)], 8, True, id="a canary of two has baked"),
        pytest.param([pod(10), pod(10)], 4, False, id="a canary of two bakes when half of eight are gone"),
        pytest.param([pod(None)], 1, False, id="one beside one"),
    ],
)
def test_a_canary_opens_when_its_step_has_baked(new: list[Pod], replicas: int, is_open: bool) -> None:
    step = surge(new, replicas, strategy="Canary", stepPercent=25, bakeSeconds=60)
    assert step == ("100%" if is_open else "25%")


@pytest.mark.parametrize("new", [[], [pod(None), pod(None)], [pod(10)]])
def test_an_open_canary_stays_open_whatever_becomes_of_its_pods(new: list[Pod]) -> None:
    assert surge(new, is_free=True, strategy="Canary", stepPercent=25, bakeSeconds=60) == "100%"
    assert surge(new, is_free=True, strategy="Linear", stepPercent=25, bakeSeconds=60) == "25%"


def test_what_is_good_comes_back_at_once_and_without_baking() -> None:
    rollout = {"bakeSeconds": 60, "maxSurge": 0, "maxUnavailable": 1}
    assert pace.back(objects.endpoint(rollout=rollout).spec) == Pace(surge=0, unavailable=1, bake_seconds=0)
    for strategy in ("Canary", "Linear", "AllAtOnce"):
        spec = objects.endpoint(rollout={**rollout, "strategy": strategy}).spec
        assert pace.back(spec) == Pace(surge="100%", unavailable=0, bake_seconds=0)


def test_only_pods_that_serve_and_have_not_served_long_enough_bake() -> None:
    spec = objects.endpoint(rollout={"bakeSeconds": 60}).spec
    ends = pace.baking(spec, [pod(None), pod(10), pod(60), pod(40)], NOW)
    assert ends == (NOW + timedelta(seconds=20), NOW + timedelta(seconds=50))
