"""Two operator processes over one Lease: who leads, how fast the other follows, and that only one of them writes."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from mce_api import names
from support.api_proxy import Fault, api_proxy
from support.api_server import ApiServer, api_server, endpoint
from support.operators import Operator, operator, seconds_until, state
from support.processes import free_port, get, process

TEAM = "team-a"
pytestmark = pytest.mark.timeout(150)


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with api_server() as running:
        yield running


@pytest.fixture
def pair(server: ApiServer, tmp_path: Path) -> Iterator[tuple[Operator, Operator]]:
    """A leader with one endpoint done, and a standby."""
    with ExitStack() as stack:
        leader = stack.enter_context(operator(server.upstream, tmp_path / "one"))
        seconds_until("one leads", leader.is_leading, 20)
        server.put(endpoint("first"))
        seconds_until("first endpoint", lambda: state(server, "first"), 20)
        standby = stack.enter_context(operator(server.upstream, tmp_path / "two"))
        yield leader, standby


def writes(one: Operator) -> list[str]:
    return [write.path for write in one.proxy.writes]


def test_a_standby_is_ready_and_writes_nothing(server: ApiServer, pair: tuple[Operator, Operator]) -> None:
    leader, standby = pair
    server.put(endpoint("second"))
    seconds_until("second endpoint", lambda: state(server, "second"), 20)
    assert standby.is_ready()
    assert (leader.is_leading(), standby.is_leading()) == (True, False)
    assert writes(standby) == []
    assert not [path for method, path in standby.proxy.seen if "/events" in path or "metrics.k8s.io" in path]
    assert leader.metric("mce_endpoint_state", endpoint="second", state="Creating") == 1
    with pytest.raises(KeyError):
        standby.metric("mce_endpoint_state", endpoint="second")


def test_after_sigterm_the_standby_leads_within_two_seconds_and_rewrites_nothing(
    server: ApiServer, pair: tuple[Operator, Operator]
) -> None:
    leader, standby = pair
    leader.send(signal.SIGTERM)
    server.put(endpoint("second"))
    took = seconds_until("second endpoint", lambda: state(server, "second"), 10)
    print(f"SIGTERM to a write of the standby: {took:.2f} s")
    assert took < 5  # 2 s on an idle machine
    assert leader.process.wait(20) == 0
    assert not [path for path in writes(standby) if "/first" in path]


def test_after_sigkill_the_standby_leads_within_twenty_seconds(
    server: ApiServer, pair: tuple[Operator, Operator]
) -> None:
    leader, standby = pair
    leader.send(signal.SIGKILL)
    server.put(endpoint("second"))
    took = seconds_until("second endpoint", lambda: state(server, "second"), 30)
    print(f"SIGKILL to a write of the standby: {took:.1f} s")
    assert 5 < took < 25  # 20 s on an idle machine
    assert not [path for path in writes(standby) if "/first" in path]


def test_a_leader_that_was_paused_writes_nothing_after_its_successor_began(
    server: ApiServer, pair: tuple[Operator, Operator]
) -> None:
    leader, standby = pair
    leader.send(signal.SIGSTOP)
    before = len(leader.proxy.writes)
    try:
        server.put(endpoint("second"))
        seconds_until("the standby follows", standby.is_leading, 30)
        for number in range(3):
            server.put(endpoint(f"later-{number}"))
            server.delete("Deployment", TEAM, "first")
            seconds_until("healed", lambda: server.get("Deployment", TEAM, "first"), 20)
        time.sleep(3)
    finally:
        leader.send(signal.SIGCONT)
    seconds_until("the paused one stands by", lambda: leader.is_ready() and not leader.is_leading(), 20)
    server.put(endpoint("last"))
    seconds_until("last endpoint", lambda: state(server, "last"), 20)
    assert writes(leader)[before:] == []
    assert leader.process.poll() is None
    standby.send(signal.SIGTERM)
    seconds_until("it leads again", leader.is_leading, 20)


def test_operators_of_different_scopes_lead_side_by_side_and_leave_each_others_endpoints_alone(
    server: ApiServer, tmp_path: Path
) -> None:
    with (
        operator(server.upstream, tmp_path / "gold", selector="tier=gold") as gold,
        operator(server.upstream, tmp_path / "silver", selector="tier=silver") as silver,
    ):
        seconds_until("both lead", lambda: gold.is_leading() and silver.is_leading(), 20)
        server.put(endpoint("g", tier="gold"))
        server.put(endpoint("s", tier="silver"))
        server.put(endpoint("nobodys"))
        seconds_until("both endpoints", lambda: state(server, "g") and state(server, "s"), 20)
        server.delete("Deployment", TEAM, "g")
        seconds_until("healed", lambda: server.get("Deployment", TEAM, "g"), 20)
        time.sleep(1)
        assert all("/g" in path for path in writes(gold))
        assert all("/s" in path for path in writes(silver))
        assert state(server, "nobodys") == ""
        assert server.get("Deployment", TEAM, "nobodys") is None
        server.put(endpoint("g", tier="silver"))  # changes hands
        before = len(gold.proxy.writes)
        server.delete("Service", TEAM, "g")
        seconds_until("healed by the other", lambda: server.get("Service", TEAM, "g"), 20)
        assert writes(gold)[before:] == []


def test_an_operator_that_starts_while_the_server_is_away_or_has_no_crd_waits_for_it(
    server: ApiServer, tmp_path: Path
) -> None:
    with api_proxy(server.upstream) as proxy:
        port, log = free_port(), tmp_path / "log"
        env = {
            "KUBECONFIG": str(proxy.kubeconfig(tmp_path)),
            "MCE_OPERATOR_NAMESPACES": TEAM,
            "MCE_OPERATOR_HTTP_PORT": str(port),
            "MCE_OPERATOR_LEASE_NAMESPACE": TEAM,
        }
        server.put(endpoint("first"))
        with process(sys.executable, "-m", "mce_operator", log=log, **env) as child:
            with proxy.fault(Fault.status(404), path=names.PLURAL):
                seconds_until("it says why", lambda: log.exists() and "is the CRD installed" in log.read_text(), 30)
                assert get(f"http://127.0.0.1:{port}/healthz")[0] == 200
                assert get(f"http://127.0.0.1:{port}/readyz") == (503, b"not all lists have been read\n")
            took = seconds_until("first endpoint", lambda: state(server, "first"), 30)
            print(f"start after the CRD is there: {took:.1f} s")
            assert child.poll() is None
            os.kill(child.pid, signal.SIGTERM)
            assert child.wait(20) == 0
