"""Who leads, and for how long: decisions as tables, then two candidates over one Lease."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from mce_kit import tasks
from mce_kit.clock import Clock
from mce_kit.kube import ApiError
from mce_operator import election
from mce_operator.election import Lease, Sighting, Step, Timing
from mce_operator.lease import Elector, Leadership
from unit.mce_operator.fake_api import FakeApi

PLACE = ("mce-system", "mce-operator")
ADDRESS = ("Lease", *PLACE)


def lease(holder: str = "other", version: str = "1", seconds: float = 15) -> Lease:
    return Lease(version=version, holder=holder, seconds=seconds, transitions=3, acquired="then")


@pytest.mark.parametrize(
    ("sighting", "now", "step"),
    [
        (None, 0, Step.CREATE),
        (Sighting(lease=lease("me"), since=0), 1000, Step.RENEW),
        (Sighting(lease=lease(""), since=0), 0, Step.TAKE),
        (Sighting(lease=lease(), since=100), 114.9, Step.WAIT),
        (Sighting(lease=lease(), since=100), 115, Step.TAKE),
        (Sighting(lease=lease(seconds=30), since=100), 115, Step.WAIT),
    ],
)
def test_a_lease_is_taken_when_released_or_unchanged_for_its_duration(
    sighting: Sighting | None, now: float, step: Step
) -> None:
    assert election.decide(sighting, "me", now) is step


def test_a_lease_counts_from_when_its_present_version_was_first_seen() -> None:
    first = Sighting(lease=lease(), since=10)
    assert first.next(lease(), 20).since == 10
    assert first.next(lease(version="2"), 20).since == 20


def test_a_renewal_keeps_the_acquisition_and_a_takeover_counts() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    mine = election.held(PLACE, lease("me", version="7"), "me", Timing(), now)
    assert (mine["metadata"]["resourceVersion"], mine["spec"]["acquireTime"]) == ("7", "then")
    assert (mine["spec"]["leaseTransitions"], mine["spec"]["renewTime"]) == (3, "2026-01-01T00:00:00.000000Z")
    taken = election.held(PLACE, lease("other"), "me", Timing(), now)
    assert (taken["spec"]["acquireTime"], taken["spec"]["leaseTransitions"]) == ("2026-01-01T00:00:00.000000Z", 4)
    assert "resourceVersion" not in election.held(PLACE, None, "me", Timing(), now)["metadata"]


@pytest.mark.parametrize(("seconds", "expected"), [(None, 15), (5, 5), (2**31, 60), (-1, 15), ("x", 15), (0, 15)])
def test_whatever_stands_in_a_lease_the_wait_for_it_is_bounded(seconds: Any, expected: float) -> None:
    spec = {"leaseDurationSeconds": seconds, "leaseTransitions": "x"}
    found = election.read({"metadata": {}, "spec": spec}, Timing())
    assert (found.seconds, found.holder, found.transitions) == (expected, "", 0)
    assert election.read({"metadata": {}}, Timing()).seconds == 15


def test_the_default_name_tells_scopes_apart_and_forgets_their_order() -> None:
    names = {
        election.default_name(("a", "b"), ""),
        election.default_name(("a",), ""),
        election.default_name((), ""),
        election.default_name((), "team=a"),
    }
    assert len(names) == 4
    assert election.default_name(("b", "a", "a"), "") in names
    assert all(len(name) < 63 for name in names)


def test_writers_stop_before_a_successor_may_begin() -> None:
    timing = Timing()
    assert timing.write + timing.call < timing.lease
    assert timing.renew * 2 + timing.call < timing.write


@dataclass
class Candidate:
    """One elector on a clock that the test moves."""

    api: FakeApi
    identity: str
    now: float = 0.0
    told: list[bool] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.leadership = Leadership(lambda: self.now)
        self.elector = Elector(
            api=self.api,
            leadership=self.leadership,
            place=PLACE,
            identity=self.identity,
            clock=Clock(utc=lambda: datetime(2026, 1, 1, tzinfo=UTC), monotonic=lambda: self.now),
            changed=self.told.append,
            timing=Timing(renew=0.001, look=0.001),
        )

    async def turns(self) -> None:
        """A few rounds at the present time."""
        running = tasks.spawn(self.elector.run_forever(), name=self.identity)
        await asyncio.sleep(0.02)
        running.cancel()
        await asyncio.wait({running})

    @property
    def leads(self) -> bool:
        return self.leadership.is_held


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


def holder(api: FakeApi) -> str:
    return str(api.objects[ADDRESS]["spec"]["holderIdentity"])


async def test_the_first_creates_the_lease_and_the_second_stands_by(api: FakeApi) -> None:
    one, two = Candidate(api, "one"), Candidate(api, "two")
    await one.turns()
    await two.turns()
    assert (one.leads, two.leads, holder(api)) == (True, False, "one")
    assert (one.told, two.told, two.elector.is_informed) == ([True], [], True)


async def test_a_released_lease_is_taken_at_the_next_look(api: FakeApi) -> None:
    one, two = Candidate(api, "one"), Candidate(api, "two")
    await one.turns()
    await two.turns()
    await one.elector.release()
    assert not one.leads
    await two.turns()
    assert (two.leads, holder(api), api.objects[ADDRESS]["spec"]["leaseTransitions"]) == (True, "two", 1)


async def test_a_dead_leader_is_followed_after_the_duration_and_not_before(api: FakeApi) -> None:
    one, two = Candidate(api, "one"), Candidate(api, "two")
    await one.turns()
    await two.turns()
    two.now = 14.9
    await two.turns()
    assert not two.leads
    two.now = 15.1
    await two.turns()
    assert two.leads


async def test_a_leader_that_slept_writes_nothing_until_it_has_asked(api: FakeApi) -> None:
    one, two = Candidate(api, "one"), Candidate(api, "two")
    await one.turns()
    await two.turns()
    two.now = 20
    await two.turns()
    one.now = 30
    assert not one.leads  # before any of its tasks has run
    await one.turns()
    assert (one.leads, one.told, holder(api)) == (False, [True, False], "two")


async def test_a_leader_that_slept_leads_on_if_nobody_has_followed(api: FakeApi) -> None:
    one = Candidate(api, "one")
    await one.turns()
    one.now = 30
    assert not one.leads
    await one.turns()
    assert (one.leads, holder(api)) == (True, "one")


async def test_a_leader_that_can_not_renew_ends_in_time_and_comes_back(api: FakeApi) -> None:
    one = Candidate(api, "one")
    await one.turns()
    api.fail["put", "Lease"] = ApiError(503, "ServiceUnavailable", "away")
    one.now = 9
    await one.turns()
    assert one.leads
    one.now = 10
    await one.turns()
    assert (one.leads, one.told) == (False, [True, False])
    api.fail.clear()
    await one.turns()
    assert (one.leads, one.told) == (True, [True, False, True])


async def test_somebodys_edit_of_the_lease_costs_a_leader_nothing(api: FakeApi) -> None:
    one = Candidate(api, "one")
    await one.turns()
    api.store({**api.objects[ADDRESS], "metadata": {**api.objects[ADDRESS]["metadata"], "labels": {"a": "b"}}})
    await one.turns()
    assert (one.leads, one.told) == (True, [True])


async def test_a_deleted_lease_is_its_holders_until_its_duration_is_over(api: FakeApi) -> None:
    one, two = Candidate(api, "one"), Candidate(api, "two")
    await one.turns()
    await two.turns()
    del api.objects[ADDRESS]
    await two.turns()
    assert (one.leads, two.leads) == (True, False)  # both would write
    await one.turns()
    assert (holder(api), one.leads) == ("one", True)
    del api.objects[ADDRESS]
    two.now = 15
    await two.turns()
    assert (holder(api), two.leads) == ("two", True)


async def test_a_release_leaves_somebody_elses_lease_alone(api: FakeApi) -> None:
    one, two = Candidate(api, "one"), Candidate(api, "two")
    await one.turns()
    await two.elector.release()
    assert holder(api) == "one"


async def test_a_missing_right_is_said_once_with_its_cure(api: FakeApi, caplog: pytest.LogCaptureFixture) -> None:
    one = Candidate(api, "one")
    api.fail["put", "Lease"] = ApiError(403, "Forbidden", "no")
    await one.turns()
    (record,) = [one for one in caplog.records if one.levelname == "WARNING"]
    assert "grant get, create and update on leases in mce-system" in str(vars(record)["error"])
    assert not one.elector.is_informed


async def test_a_lease_that_somebody_else_had_meanwhile_begins_another_term(api: FakeApi) -> None:
    one, two = Candidate(api, "one"), Candidate(api, "two")
    await one.turns()
    await two.turns()
    two.now = 20  # `one` stands still for so long
    await two.turns()
    assert two.leads
    await two.elector.release()
    one.now = 30
    await one.turns()
    assert one.leads
    assert one.told == [True, False, True]  # what it knows is of before the other one's writes
    assert one.elector.terms == 2


async def test_a_right_that_ran_out_while_nobody_else_took_the_lease_is_the_same_term(api: FakeApi) -> None:
    one = Candidate(api, "one")
    await one.turns()
    api.fail["put", "Lease"] = ApiError(503, "ServiceUnavailable", "later")
    one.now = 12
    await one.turns()
    assert one.told == [True, False]
    api.fail.clear()
    await one.turns()
    assert one.leads
    assert one.told == [True, False, True]
    assert one.elector.terms == 1
