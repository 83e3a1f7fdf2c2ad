import pytest

from mce_api.routes import Availability, RouteTable, Target
from mce_kit import clock
from mce_router.health import Health, State, Vital

A, B = Target(name="a", port=1), Target(name="b", port=2)


def table(availability: Availability) -> RouteTable:
    return RouteTable(namespace="n", endpoint="e", mode="Direct", availability=availability, targets=(A, B))


async def answers(target: Target) -> str:
    return "" if target is A else "nothing listens on port 2"


def test_a_starting_container_stays_starting_until_its_first_good_ping() -> None:
    vital = Vital().after("x").after("x").after("x")
    assert vital.state is State.STARTING
    assert vital.last_error == "x"
    assert vital.after("").state is State.HEALTHY


def test_one_bad_ping_is_forgiven_two_are_not() -> None:
    healthy = Vital().after("")
    assert healthy.after("x").state is State.HEALTHY
    assert healthy.after("x").after("x").state is State.UNHEALTHY
    assert healthy.after("x").after("").after("x").state is State.HEALTHY


def test_one_good_ping_cures() -> None:
    assert Vital(state=State.UNHEALTHY, failures=9).after("") == Vital(state=State.HEALTHY)


def test_a_container_in_doubt_is_asked_more_often() -> None:
    healthy = Vital().after("")
    assert Vital().interval_seconds() < healthy.after("x").interval_seconds() < healthy.interval_seconds()


@pytest.mark.parametrize(("availability", "ready"), [("All", False), ("Any", True)])
async def test_all_needs_every_container_any_needs_one(availability: Availability, ready: bool) -> None:
    health = Health(answers, clock.system().utc)
    health.use(table(availability))
    assert not health.is_ready()
    await health.ping_now(A)
    await health.ping_now(B)
    assert health.is_ready() is ready


async def test_a_cause_is_given_for_what_is_down() -> None:
    health = Health(answers, clock.system().utc)
    health.use(table("Any"))
    await health.ping_now(A)
    await health.ping_now(B)
    assert health.cause_down("a") == ""
    assert health.cause_down("b") == "it is starting (nothing listens on port 2)"


async def test_a_container_that_stays_keeps_its_health_over_a_new_table() -> None:
    health = Health(answers, clock.system().utc)
    health.use(table("All"))
    await health.ping_now(A)
    health.use(RouteTable(namespace="n", endpoint="e", mode="Direct", targets=(A,)))
    assert health.is_ready()
