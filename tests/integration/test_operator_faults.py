"""The operator's process against every fault of an API server: what happened meanwhile is done within 30 s of its end.

One operator lives through all of them, one after the other; it is never started anew.
"""

import itertools
import time
from collections.abc import Iterator

import pytest

from mce_api import names
from support.api_proxy import Fault
from support.api_server import ApiServer, api_server, endpoint
from support.operators import Operator, operator, seconds_until, state

TEAM = "team-a"
RECOVERY_SECONDS = 30
_numbers = itertools.count()


@pytest.fixture(scope="module")
def server() -> Iterator[ApiServer]:
    with api_server() as running:
        yield running


@pytest.fixture(scope="module")
def running(server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    folder = tmp_path_factory.mktemp("operator")
    token = folder / "token"
    token.write_text("first")
    with operator(server.upstream, folder, token_file=token) as one:
        seconds_until("leading", one.is_leading, 20)
        yield one


class Changes:
    """Three changes that are made while a fault lasts, and the look whether they have been dealt with."""

    def __init__(self, server: ApiServer) -> None:
        self._server = server
        self._known, self._new, self._gone = (f"{word}-{next(_numbers)}" for word in ("known", "new", "gone"))
        for name in (self._known, self._gone):
            server.put(endpoint(name))
        seconds_until("first passes", lambda: state(server, self._known) and state(server, self._gone), 30)
        self._deployment = self._uid()

    def make(self) -> None:
        self._server.put(endpoint(self._new))
        self._server.delete("Deployment", TEAM, self._known)
        self._server.delete(names.KIND, TEAM, self._gone)

    def _uid(self) -> str:
        found = self._server.get("Deployment", TEAM, self._known)
        return str(found["metadata"]["uid"]) if found else ""

    def are_done(self, running: Operator) -> bool:
        healed = self._uid() not in ("", self._deployment)
        if not (state(self._server, self._new) and healed):
            return False
        try:
            running.metric("mce_endpoint_state", endpoint=self._gone)
        except KeyError:
            return True
        return False


CASES = {
    "watch-410": ({"fault": Fault.status(410), "watch": True}, 4),
    "watch-404": ({"fault": Fault.status(404), "watch": True}, 4),
    "event-500": ({"fault": Fault.event(500), "watch": True}, 4),
    "event-410": ({"fault": Fault.event(410), "watch": True}, 4),
    "all-429": ({"fault": Fault.status(429, retry_after=2)}, 8),
    "all-503": ({"fault": Fault.status(503)}, 12),
    "writes-500": ({"fault": Fault.status(500), "method": "PATCH"}, 8),
    "all-reset": ({"fault": Fault.reset()}, 6),
    "all-silent": ({"fault": Fault.silence()}, 12),
}


@pytest.mark.timeout(180)
@pytest.mark.parametrize("case", CASES)
def test_what_happens_during_a_fault_is_done_within_30_seconds_of_its_end(
    server: ApiServer, running: Operator, case: str
) -> None:
    fault, seconds = CASES[case]
    changes = Changes(server)
    with running.proxy.fault(**fault) as hits:  # type: ignore[arg-type]
        if case.endswith("silent"):
            running.proxy.mute_streams()
        else:
            running.proxy.cut_streams()
        changes.make()
        time.sleep(seconds)
        assert hits()
        assert running.is_healthy()
    took = seconds_until(f"recovery from {case}", lambda: changes.are_done(running), RECOVERY_SECONDS)
    print(f"{case}: {took:.1f} s")
    assert running.process.poll() is None


@pytest.mark.timeout(120)
def test_a_watch_whose_version_was_compacted_away_misses_nothing(server: ApiServer, running: Operator) -> None:
    changes = Changes(server)
    with running.proxy.fault(Fault.status(503), watch=True):
        running.proxy.cut_streams()
        changes.make()
        server.compact()
    took = seconds_until("recovery", lambda: changes.are_done(running), RECOVERY_SECONDS)
    print(f"compacted: {took:.1f} s")


@pytest.mark.timeout(120)
def test_streams_that_went_silent_without_a_reset_are_replaced(server: ApiServer, running: Operator) -> None:
    changes = Changes(server)
    assert running.proxy.mute_streams() >= 5
    changes.make()
    took = seconds_until("recovery", lambda: changes.are_done(running), RECOVERY_SECONDS)
    print(f"silent streams: {took:.1f} s")


@pytest.mark.timeout(120)
def test_a_token_that_the_server_no_longer_takes_is_read_anew(server: ApiServer, running: Operator) -> None:
    changes = Changes(server)
    running.proxy.token = "second"
    running.proxy.cut_streams()
    changes.make()
    time.sleep(5)
    (running.log.parent / "token").write_text("second")
    took = seconds_until("recovery", lambda: changes.are_done(running), RECOVERY_SECONDS)
    print(f"token: {took:.1f} s")


@pytest.mark.timeout(120)
def test_a_quiet_watch_is_not_taken_for_a_deaf_one(server: ApiServer, running: Operator) -> None:
    def lists(since: int) -> list[str]:
        return [path for _, path in running.proxy.seen[since:] if "limit=" in path or "sendInitialEvents" in path]

    def is_quiet() -> bool:  # what went before this test may have lists to come
        seen = len(running.proxy.seen)
        time.sleep(5)
        return not lists(seen)

    seconds_until("no lists", is_quiet, 40)
    seen = len(running.proxy.seen)
    time.sleep(35)
    assert lists(seen) == []
    assert running.metric("mce_operator_watch_silence_seconds") < 20
