from dataclasses import replace
from pathlib import Path

import pytest

from mce_local import diagnosis, units
from mce_local.ports import Assigned
from mce_local.runtime import Handle, Launch
from mce_local.units import State, Unit
from mce_local.wanted import Container

HANDLE = Handle(id="1", pid=1, log=Path("a.log"), log_offset=5)


def unit(name: str = "a") -> Unit:
    launch = Launch(
        endpoint="e",
        instance="i",
        container=Container(name=name, image="m:1", command=(), args=()),
        assigned=Assigned(port=20000, block=20000),
        bind_env={},
        log=Path("a.log"),
    )
    return Unit(launch=launch, startup_timeout=60)


def running(at: float = 0.0) -> Unit:
    return units.started(unit(), HANDLE, at)


def healthy() -> Unit:
    return replace(running(), answered=True, routed="Healthy")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(unit(), State.STARTING, id="not started yet"),
        pytest.param(running(), State.STARTING, id="not answered yet"),
        pytest.param(replace(running(), routed="Healthy"), State.STARTING, id="the router still means the one before"),
        pytest.param(replace(running(), answered=True), State.STARTING, id="the router has not seen it yet"),
        pytest.param(healthy(), State.HEALTHY, id="both agree"),
        pytest.param(replace(healthy(), routed="Unhealthy"), State.UNHEALTHY, id="it stopped answering"),
        pytest.param(units.ended(running(), 1, 0), State.EXITED, id="it ended before it was in service"),
        pytest.param(units.ended(replace(healthy(), settled=True), 1, 0), State.BACK_OFF, id="it ended later"),
    ],
)
def test_state(given: Unit, expected: State) -> None:
    assert given.state is expected
    assert given.is_ready == (expected is State.HEALTHY)


def test_the_first_start_is_no_restart_the_one_after_an_end_is() -> None:
    again = units.started(units.ended(running(), 1, 1), HANDLE, 2)
    assert (running().restarts, again.restarts) == (0, 1)


def test_the_wait_doubles_from_nothing_to_a_minute() -> None:
    assert [units.back_off(strikes) for strikes in (1, 2, 3, 4, 8, 9, 1000)] == [0, 1, 2, 4, 60, 60, 60]


@pytest.mark.parametrize(
    ("life", "strikes"),
    [
        pytest.param(units.FORGIVEN_AFTER_SECONDS - 0.1, 4, id="a short life adds to what was"),
        pytest.param(units.FORGIVEN_AFTER_SECONDS, 1, id="a long life forgives"),
    ],
)
def test_strikes(life: float, strikes: int) -> None:
    assert units.ended(replace(running(), strikes=3), 1, life).strikes == strikes


def test_it_is_due_when_its_wait_is_over_and_not_before() -> None:
    ended = units.ended(replace(running(), strikes=1), 1, 10)
    assert [units.is_due(ended, now) for now in (10.9, 11.0)] == [False, True]


def test_only_a_start_without_an_answer_runs_out_of_time() -> None:
    assert [units.is_overdue(running(), now) for now in (59.9, 60.0)] == [False, True]
    assert not units.is_overdue(healthy(), 1000)
    assert not units.is_overdue(unit(), 1000)


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (0, "exited with code 0"),
        (3, "exited with code 3"),
        (-15, "was killed by signal 15"),
        (-9, "was killed by signal 9 (out of memory?)"),
        (137, "was killed by signal 9 (out of memory?)"),
        (255, "exited with code 255"),
    ],
)
def test_exit_codes_are_told_in_words(code: int, text: str) -> None:
    assert units.exit_text(code) == text


def test_a_fault_before_service_is_the_orders_one_after_it_is_the_containers() -> None:
    ended = units.ended(running(), 3, 1)
    found = diagnosis.unit_problem([healthy(), ended], 1)
    assert found == (ended, "container a exited with code 3 before it was in service")
    assert diagnosis.unit_problem([replace(ended, settled=True)], 1) is None


def test_a_container_that_ran_out_of_time_says_what_its_ping_said() -> None:
    late = replace(running(), ping_error="it said HTTP 503")
    found = diagnosis.unit_problem([late], 60)
    assert found == (late, "container a did not answer GET /ping with 200 in 60 s: it said HTTP 503")


def test_a_problem_ends_with_the_end_of_the_log() -> None:
    assert diagnosis.with_log("x", Path("a.log"), ["1", "2"]) == "x; the end of a.log:\n    1\n    2"
    assert diagnosis.with_log("x", Path("a.log"), []) == "x; it wrote nothing to a.log"
