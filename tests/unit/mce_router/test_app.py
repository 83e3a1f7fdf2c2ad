"""The timers of a router: one that fails leaves the others alone."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from mce_api.routes import RouteTable, Target
from mce_router.app import Router
from mce_router.settings import Address, Settings


class Timer:
    """A connection or an exchange whose time is up."""

    deadline = -1.0

    def __init__(self, *, fails: bool) -> None:
        self.fails = fails
        self.calls = 0
        self.cut = False

    def timed_out(self) -> None:
        self.calls += 1
        if self.fails:
            raise RuntimeError("a fault of ours")

    def check_time(self, now: float) -> None:
        self.timed_out()

    def buffered(self) -> int:
        return 0

    def abandon(self) -> None:
        self.cut = True

    def abort(self) -> None:
        self.cut = True


@pytest.fixture
def made() -> Iterator[Router]:
    address = Address(host="127.0.0.1", port=0)
    settings = Settings(table=Path("none"), listen=address, admin=address)
    table = RouteTable(namespace="n", endpoint="e", mode="Direct", targets=(Target(name="a", port=1),))
    router = Router(settings, table, None)
    yield router
    router.close()


async def test_a_request_whose_timeout_fails_is_logged_once_and_the_others_time_out(
    made: Router, caplog: pytest.LogCaptureFixture
) -> None:
    timers = [Timer(fails=True), Timer(fails=False), Timer(fails=True)]
    made.service.exchanges.update(timers)
    with caplog.at_level(logging.ERROR):
        made.tick()
        made.tick()
    assert [(timer.calls, timer.cut) for timer in timers] == [(1, True), (2, False), (1, True)]
    assert len(caplog.records) == 2


async def test_a_connection_whose_check_fails_is_cut_off_and_the_others_are_checked(
    made: Router, caplog: pytest.LogCaptureFixture
) -> None:
    timers = [Timer(fails=True), Timer(fails=False)]
    made._connections.update(timers)  # type: ignore[arg-type]
    with caplog.at_level(logging.ERROR):
        made.tick()
        made.tick()
    assert [(timer.calls, timer.cut) for timer in timers] == [(1, True), (2, False)]
    assert len(caplog.records) == 1


async def test_a_failing_timer_is_logged_once_and_the_connections_are_still_checked(
    made: Router, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    timer = Timer(fails=False)
    made._connections.add(timer)  # type: ignore[arg-type]
    monkeypatch.setattr(made.service, "tick", Timer(fails=True).timed_out)
    with caplog.at_level(logging.ERROR):
        made.tick()
        made.tick()
    assert timer.calls == 2
    assert len(caplog.records) == 1
