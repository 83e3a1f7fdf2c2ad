"""How many replicas, as tables and as laws over random demand."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mce_api.endpoint import MultiContainerEndpoint
from mce_operator import autoscale
from mce_operator.autoscale import BLIND_AFTER, INTERVAL_SECONDS, Load, Memory, PodReading, Reading
from unit.mce_operator import objects

INVOCATIONS = {"type": "InvocationsPerReplica", "target": 100}
CONCURRENCY = {"type": "ConcurrencyPerReplica", "target": 2}
CPU = {"type": "ContainerCPU", "container": "a", "targetPercent": 50}


def endpoint(*metrics: dict[str, Any], replicas: int = 1, **autoscaling: Any) -> MultiContainerEndpoint:
    wanted = {"maxReplicas": 10, "metrics": list(metrics or (INVOCATIONS,)), **autoscaling}
    a = objects.container("a", resources={"requests": {"cpu": "500m"}})
    return objects.endpoint(a, objects.container("B"), autoscaling=wanted, replicas=replicas)


def reading(at: float, *pods: PodReading | None) -> Reading:
    """Pods by their place; None: there is none at that place."""
    return Reading(at=at, pods={f"p{place}": pod for place, pod in enumerate(pods) if pod is not None})


def pod(
    a: float = 0, b: float = 0, *, busy: tuple[float, float] = (0, 0), ready: bool = True, **more: Any
) -> PodReading:
    """A pod whose containers have had so many invocations, and have so many in flight."""
    loads = {"a": Load(invocations=a, in_flight=busy[0]), "B": Load(invocations=b, in_flight=busy[1])}
    return PodReading(**{"is_ready": ready, "loads": loads, **more})


def asked(made: MultiContainerEndpoint, *readings: Reading) -> tuple[int, str, float] | None:
    found = autoscale.recommendation(made, readings)
    return (found.replicas, found.container, found.value) if found else None


MUTE = PodReading(is_ready=True, loads=None)


def test_invocations_are_counted_per_minute_over_all_pods_for_the_busiest_container() -> None:
    first, last = reading(0, pod(0, 1000), pod(0, 2000)), reading(60, pod(10, 1130), pod(20, 2170))
    assert asked(endpoint(replicas=2), first, last) == (3, "B", 300)


def test_a_metric_of_one_container_looks_at_no_other() -> None:
    first, last = reading(0, pod()), reading(60, pod(250, 9000))
    assert asked(endpoint({**INVOCATIONS, "container": "a"}), first, last) == (3, "a", 250)


def test_a_counter_that_begins_anew_is_no_negative_demand() -> None:
    readings = (reading(0, pod(5000)), reading(30, pod(5100)), reading(60, pod(140)))
    assert asked(endpoint(), *readings) == (3, "a", 240)


def test_demand_of_a_pod_that_is_gone_still_counts_within_its_minute() -> None:
    readings = (reading(0, pod(0), pod(0)), reading(30, pod(50), pod(200)), reading(60, pod(100), None))
    assert asked(endpoint(replicas=1), *readings) == (3, "a", 300)


def test_what_a_new_pod_has_counted_since_it_began_is_demand() -> None:
    readings = (reading(0, pod(1_000_000)), reading(60, pod(1_000_100), pod(110)))
    assert asked(endpoint(replicas=2), *readings) == (2, "a", 210)


def test_what_a_pod_has_counted_before_its_router_first_answered_is_no_demand() -> None:
    readings = (reading(0, pod(0), MUTE), reading(30, pod(50), pod(1_000_000)), reading(60, pod(100), pod(1_000_110)))
    assert asked(endpoint(replicas=2), *readings) == (2, "a", 210)


def test_a_container_that_the_pods_do_not_have_is_missing_figures_not_idle() -> None:
    """As after a rollback: the pods run the last good generation, whose containers had other names."""
    old = PodReading(is_ready=True, loads={"before": Load(invocations=5)})
    named = endpoint({**INVOCATIONS, "container": "a"}, replicas=3)
    assert asked(named, reading(0, old), reading(60, old)) == (3, "a", 0)
    assert asked(endpoint(replicas=3), reading(0, old), reading(60, old)) == (0, "before", 0)


def test_a_quarter_of_a_minute_is_not_blown_up_to_a_whole_one() -> None:
    assert asked(endpoint(), reading(0, pod(0)), reading(15, pod(150))) == (2, "a", 150)


def test_concurrency_is_averaged_over_the_minute_and_added_up_over_the_pods() -> None:
    busy = [reading(at, pod(busy=(1, 6)), pod(busy=(0, 2 if at else 0))) for at in (0, 15, 30, 45)]
    assert asked(endpoint(CONCURRENCY, replicas=2), *busy) == (4, "B", 7.5)


def test_cpu_is_in_percent_of_the_request_of_that_container() -> None:
    used = [pod(cpu_cores={"a": 0.4, "B": 9}), pod(cpu_cores={"a": 0.6})]
    made = endpoint(CPU, INVOCATIONS, replicas=2)
    assert asked(made, reading(0, *used), reading(15, *used)) == (4, "a", 200)


def test_the_metric_that_asks_for_most_wins() -> None:
    made = endpoint(INVOCATIONS, CONCURRENCY)
    found = autoscale.recommendation(made, [reading(0, pod(0)), reading(60, pod(250, busy=(20, 0)))])
    assert found is not None
    assert (found.metric.type, found.replicas) == ("ConcurrencyPerReplica", 5)


@pytest.mark.parametrize(
    ("demand", "ready", "present", "wanted"),
    [
        pytest.param(1.1, 1, 1, 1, id="within the tolerance above"),
        pytest.param(1.11, 1, 1, 2, id="above the tolerance"),
        pytest.param(1.9, 2, 2, 2, id="within the tolerance below"),
        pytest.param(0.99, 2, 2, 1, id="half of the work"),
        pytest.param(0, 3, 3, 0, id="no work at all, bounds come later"),
        pytest.param(3, 2, 4, 4, id="those that start will do it"),
        pytest.param(6, 2, 4, 6, id="more than those that start can do"),
        pytest.param(4.3, 2, 4, 4, id="those that start, within the tolerance"),
        pytest.param(1.0, 2, 4, 1, id="too little for those that are there"),
        pytest.param(2.0, 2, 1, 1, id="as busy as wanted while one too many is still there"),
    ],
)
def test_replicas_are_reckoned_as_the_horizontal_pod_autoscaler_does(
    demand: float, ready: int, present: int, wanted: int
) -> None:
    assert autoscale.wanted_replicas(demand, ready, present) == wanted


COUNT = st.integers(1, 50)
DEMAND = st.floats(0, 1000)


@given(DEMAND, DEMAND, COUNT, COUNT)
def test_more_demand_never_asks_for_fewer(one: float, other: float, ready: int, present: int) -> None:
    less, more = sorted((one, other))
    assert autoscale.wanted_replicas(less, ready, present) <= autoscale.wanted_replicas(more, ready, present)


@given(DEMAND, COUNT)
def test_constant_demand_is_answered_once_and_then_left_alone(demand: float, present: int) -> None:
    first = max(1, autoscale.wanted_replicas(demand, present, present))
    assert max(1, autoscale.wanted_replicas(demand, first, first)) == first


@given(DEMAND, COUNT)
def test_no_replica_gets_more_than_its_target_and_the_tolerance(demand: float, present: int) -> None:
    wanted = autoscale.wanted_replicas(demand, present, present)
    assert demand <= wanted * 1.1 + 1e-6


class Course:
    """A course of readings over an endpoint that carries out what is decided at once, with demand as given."""

    def __init__(self, made: MultiContainerEndpoint) -> None:
        self.endpoint = made
        self.memory: Memory | None = None
        self.at = 1000.0
        self.counted: dict[int, float] = {}

    @property
    def replicas(self) -> int:
        return self.endpoint.spec.replicas

    def step(self, per_minute: float, *, mute: Sequence[int] = (), seconds: float = INTERVAL_SECONDS) -> int:
        self.at += seconds
        for place in range(self.replicas):
            share = per_minute / self.replicas * seconds / 60
            self.counted[place] = self.counted.get(place, 0) + share
        pods = [MUTE if place in mute else pod(self.counted[place]) for place in range(self.replicas)]
        self.memory = autoscale.remembered(self.memory, self.endpoint, reading(self.at, *pods))
        wanted = autoscale.target(self.endpoint, self.memory, self.at)
        self.counted = {place: count for place, count in self.counted.items() if place < wanted}
        spec = self.endpoint.spec.model_copy(update={"replicas": wanted})
        self.endpoint = self.endpoint.model_copy(update={"spec": spec})
        return wanted

    def steps(self, count: int, per_minute: float, **more: Any) -> list[int]:
        return [self.step(per_minute, **more) for _ in range(count)]


def test_the_way_up_and_down_again() -> None:
    course = Course(endpoint(scaleInCooldownSeconds=60))
    assert course.steps(6, 300)[-1] == 3
    assert course.steps(5, 0)[:3] == [3, 3, 3]
    assert course.steps(6, 0)[-1] == 1


@given(st.lists(st.floats(0, 5000), min_size=1, max_size=30), st.integers(1, 5), st.integers(0, 5), st.integers(1, 10))
def test_replicas_never_leave_the_bounds(demands: list[float], low: int, more: int, start: int) -> None:
    made = endpoint(minReplicas=low, maxReplicas=low + more, replicas=start, scaleInCooldownSeconds=0)
    course = Course(made)
    assert all(low <= course.step(demand) <= low + more for demand in demands)


@given(st.floats(0, 1200), COUNT.filter(lambda count: count <= 10))
def test_constant_demand_never_flaps(demand: float, start: int) -> None:
    course = Course(endpoint(replicas=start, scaleInCooldownSeconds=30))
    course.steps(15, demand)
    assert len(set(course.steps(20, demand))) == 1


def test_after_a_restart_nothing_goes_down_before_a_whole_cooldown_was_seen() -> None:
    course = Course(endpoint(replicas=5, scaleInCooldownSeconds=120))
    assert course.steps(9, 0) == [5] * 9  # the first reading has nothing to be compared with
    assert course.step(0) == 1


def test_after_a_restart_nothing_goes_down_before_a_whole_minute_was_seen() -> None:
    course = Course(endpoint(replicas=5, scaleInCooldownSeconds=0))
    assert course.steps(6, 0) == [5, 5, 5, 5, 5, 1]


def test_the_highest_demand_of_the_cooldown_decides_how_far_it_goes_down() -> None:
    course = Course(endpoint(replicas=5, scaleInCooldownSeconds=120))
    course.steps(5, 300)
    assert course.steps(8, 0)[-1] >= 3
    assert course.steps(8, 0)[-1] == 1


def test_the_lowest_demand_of_the_cooldown_decides_how_far_it_goes_up() -> None:
    course = Course(endpoint(scaleOutCooldownSeconds=60))
    assert course.steps(5, 300)[:4] == [1, 1, 1, 1]
    assert course.steps(6, 300)[-1] == 3


def test_missing_figures_never_take_a_replica_away_and_are_told() -> None:
    course = Course(endpoint(replicas=3, scaleInCooldownSeconds=0))
    assert course.steps(20, 0, mute=[2]) == [3] * 20
    assert course.memory is not None
    assert course.memory.blind_readings >= BLIND_AFTER
    assert course.memory.scaling.blind == "InvocationsPerReplica of any pod"


def test_missing_figures_do_not_stop_the_way_up() -> None:
    course = Course(endpoint(replicas=2))
    assert course.steps(6, 1000, mute=[1])[-1] >= 5


def test_without_cpu_figures_the_other_metrics_still_add_replicas() -> None:
    course = Course(endpoint(INVOCATIONS, CPU, scaleInCooldownSeconds=0))
    assert course.steps(6, 300)[-1] == 3
    assert course.steps(20, 0)[-1] == 3


def test_no_ready_pod_means_no_change() -> None:
    made = endpoint(replicas=3)
    starting = pod(0, ready=False)
    assert asked(made, reading(0, starting), reading(60, starting)) is None


def test_a_pause_or_another_metric_begins_anew() -> None:
    course = Course(endpoint(replicas=5, scaleInCooldownSeconds=0))
    course.steps(5, 0)
    assert course.step(0, seconds=600) == 5
    course.steps(4, 0)
    autoscaling = course.endpoint.spec.autoscaling
    other = endpoint({**INVOCATIONS, "target": 50}, replicas=5, scaleInCooldownSeconds=0).spec.autoscaling
    assert autoscaling != other
    spec = course.endpoint.spec.model_copy(update={"autoscaling": other})
    course.endpoint = course.endpoint.model_copy(update={"spec": spec})
    assert course.step(0) == 5


def test_what_is_remembered_is_bounded() -> None:
    course = Course(endpoint(scaleInCooldownSeconds=3600))
    course.steps(1200, 50)
    assert course.memory is not None
    assert len(course.memory.readings) <= 6
    assert len(course.memory.recommended) == 1000
