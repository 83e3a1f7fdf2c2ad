"""The operator as a process of this host against the real API server: faults, two operators, a Role's rights alone."""

import itertools
import signal
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest
import yaml

from mce_api import names
from support import cluster
from support.api_proxy import Fault, Upstream, upstream_of
from support.api_server import endpoint
from support.cluster import CommandError, Namespace
from support.operators import Operator, operator, seconds_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300), pytest.mark.long]
NAME = "e2e-operator"
RECOVERY_SECONDS = 30
_numbers = itertools.count()


@pytest.fixture(scope="module")
def team(request: pytest.FixtureRequest) -> Iterator[Namespace]:
    """A namespace without pods, and nobody else's operator."""
    try:
        cluster.run("kubectl", "get", "crd", f"{names.PLURAL}.{names.GROUP}")
    except CommandError:
        request.getfixturevalue("installed")
    others = ("deployment", "-n", "mce-system", "-l", "app.kubernetes.io/name=mce")
    replicas = cluster.run("kubectl", "get", *others, "-o", "jsonpath={.items[*].spec.replicas}").strip()
    if replicas:
        cluster.run("kubectl", "scale", *others, "--replicas=0")
    cluster.run("kubectl", "delete", "namespace", NAME, "--ignore-not-found", "--wait", seconds=180)
    cluster.run("kubectl", "create", "namespace", NAME)
    cluster.run("kubectl", "-n", NAME, "create", "quota", "no-pods", "--hard=pods=0")
    yield Namespace(NAME)
    cluster.run("kubectl", "delete", "namespace", NAME, "--wait=false")
    if replicas:
        cluster.run("kubectl", "scale", *others, f"--replicas={replicas.split()[0]}")


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Upstream:
    return upstream_of(cluster.KUBECONFIG, tmp_path_factory.mktemp("upstream"))


def uid(team: Namespace, kind: str, name: str) -> str:
    return team.kubectl("get", kind, name, "--ignore-not-found", "-o", "jsonpath={.metadata.uid}")


def state(team: Namespace, name: str) -> str:
    return team.kubectl("get", "mcep", name, "--ignore-not-found", "-o", "jsonpath={.status.state}")


class Changes:
    """Three changes that are made while a fault lasts, and the look whether they have been dealt with."""

    def __init__(self, team: Namespace) -> None:
        self._team = team
        self._known, self._new, self._gone = (f"{word}-{next(_numbers)}" for word in ("known", "new", "gone"))
        team.apply(endpoint(self._known, NAME), endpoint(self._gone, NAME))
        seconds_until("first passes", lambda: state(team, self._known) and state(team, self._gone), 30)
        self._deployment = uid(team, "deployment", self._known)

    def make(self) -> None:
        self._team.apply(endpoint(self._new, NAME))
        self._team.kubectl("delete", "deployment", self._known, "--wait=false")
        self._team.kubectl("delete", "mcep", self._gone, "--wait=false")

    def are_done(self, running: Operator) -> bool:
        if uid(self._team, "deployment", self._known) in ("", self._deployment) or not state(self._team, self._new):
            return False
        try:
            running.metric("mce_endpoint_state", endpoint=self._gone)
        except KeyError:
            return True
        return False


@pytest.fixture(scope="module")
def running(team: Namespace, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    # It lives as long as the module: what other tests have their own operators for is not its.
    others = "test notin (takeover, role)"
    with operator(upstream, tmp_path_factory.mktemp("operator"), namespace=NAME, selector=others) as one:
        seconds_until("leading", one.is_leading, 20)
        yield one


CASES = {
    "watch-410": ({"fault": Fault.status(410), "watch": True}, 5),
    "event-500": ({"fault": Fault.event(500), "watch": True}, 5),
    "all-429": ({"fault": Fault.status(429, retry_after=2)}, 10),
    "all-503": ({"fault": Fault.status(503)}, 45),
    "all-reset": ({"fault": Fault.reset()}, 45),
    "all-silent": ({"fault": Fault.silence()}, 45),
}


@pytest.mark.parametrize("case", CASES)
def test_what_happens_during_a_fault_is_done_within_30_seconds_of_its_end(
    team: Namespace, running: Operator, figures: list[str], case: str
) -> None:
    fault, seconds = CASES[case]
    changes = Changes(team)
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
    figures.append(f"{case} for {seconds} s: all done {took:.1f} s after its end")
    assert running.process.poll() is None


def test_silent_streams_are_replaced_and_quiet_ones_are_not_listed_again(
    team: Namespace, running: Operator, figures: list[str]
) -> None:
    changes = Changes(team)
    assert running.proxy.mute_streams() >= 5
    changes.make()
    took = seconds_until("recovery", lambda: changes.are_done(running), RECOVERY_SECONDS)
    figures.append(f"silent streams: all done after {took:.1f} s")
    seen = len(running.proxy.seen)
    time.sleep(40)
    again = [path for _, path in running.proxy.seen[seen:]]
    assert not [path for path in again if "sendInitialEvents" in path or "limit=" in path]
    assert len([path for path in again if "watch=true" in path]) >= 5


def test_takeover(team: Namespace, upstream: Upstream, tmp_path: Path, figures: list[str]) -> None:
    def candidate(name: str) -> AbstractContextManager[Operator]:
        return operator(upstream, tmp_path / name, namespace=NAME, lease_name="takeover", selector="test=takeover")

    with ExitStack() as stack:
        first = stack.enter_context(candidate("one"))
        seconds_until("one leads", first.is_leading, 20)
        second = stack.enter_context(candidate("two"))
        first.send(signal.SIGTERM)
        team.apply(endpoint("sigterm", NAME, test="takeover"))
        took = seconds_until("taken over", lambda: state(team, "sigterm"), 20)
        figures.append(f"SIGTERM of the leader until its successor has done a new endpoint: {took:.1f} s")
        assert took < 5
        third = stack.enter_context(candidate("three"))
        second.send(signal.SIGKILL)
        team.apply(endpoint("sigkill", NAME, test="takeover"))
        took = seconds_until("taken over", lambda: state(team, "sigkill"), 30)
        figures.append(f"SIGKILL of the leader until its successor has done a new endpoint: {took:.1f} s")
        assert took < 25
        figures.append(f"resident memory of an operator that was a standby: {third.memory_mib():.0f} MiB")


def test_a_namespaced_install_works_with_its_roles_alone(team: Namespace, upstream: Upstream, tmp_path: Path) -> None:
    values = ("--set", f"watchNamespaces={{{NAME}}}", "--set", "crds.enabled=false", "--set", "watchSelector=test=role")
    text = cluster.run("helm", "template", "roles", str(cluster.ROOT / "charts" / "mce"), "-n", NAME, *values)
    documents = [one for one in yaml.safe_load_all(text) if one]
    assert not [one["kind"] for one in documents if one["kind"].startswith("Cluster")]
    team.apply(*(one for one in documents if one["kind"] in {"ServiceAccount", "Role", "RoleBinding"}))
    token = team.kubectl("create", "token", "roles-mce-operator").strip()
    user = Upstream(upstream.url, upstream.anonymous, token=token)
    place = tmp_path / "operator"
    with operator(user, place, namespace=NAME, selector="test=role", lease_name="roles-mce-operator") as one:
        seconds_until("leading", one.is_leading, 20)
        team.apply(endpoint("role", NAME, test="role"))
        seconds_until("first pass", lambda: state(team, "role"), 20)
        team.kubectl("delete", "service", "role")
        seconds_until("healed", lambda: uid(team, "service", "role"), 20)
        assert "orbidden" not in one.log.read_text()
