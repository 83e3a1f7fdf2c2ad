"""Whatever an operator does to a served endpoint, and whatever befalls one container, no other request is lost.

All of it under 200 requests/s from a pod in the cluster, over connections that stay and over new ones, each with its
own id in the reply.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from support import cases, cluster, loads
from support.cluster import Namespace

pytestmark = pytest.mark.e2e

STREAM_SECONDS = 12
"""Longer than the 5 s for which a stopping router goes on serving."""
ENDPOINTS = ("busy-direct", "busy-serial")
RATE = 50
"""Requests per second that a machine which is busy otherwise must reach, too; the callers ask for 287."""
MOST_PAUSE = 1.5
"""Seconds. The router of a pod that ends waits 2 s for somebody new; callers who stand still so long prove nothing."""
BUDGET_SECONDS = 20
"""For a generation that can not come up."""


def container(name: str, **env: str) -> dict[str, Any]:
    variables = [{"name": key, "value": value} for key, value in {"MODEL_NAME": name, **env}.items()]
    return cases.container(name, env=variables, startupTimeoutSeconds=60)


@contextmanager
def load(namespace: Namespace, result: dict[str, Any]) -> Iterator[None]:
    """A pod that asks both endpoints through their Services, all the time; what it saw is in `result` afterwards."""
    direct, serial = (f"{endpoint}.{namespace.name}.svc" for endpoint in ENDPOINTS)
    with loads.running(namespace, {"direct": direct, "serial": serial, "streams": direct, "victim": direct}, result):
        yield


def pods_of(namespace: Namespace, endpoint: str) -> dict[str, str]:
    """Uid and name of each pod, also of those on their way out."""
    items = namespace.get("pods", "-l", f"serving.mce.dev/endpoint={endpoint}")["items"]
    return {pod["metadata"]["uid"]: pod["metadata"]["name"] for pod in items}


def roll(namespace: Namespace, change: Callable[[str], object], replicas: int, *, all_new: bool = True) -> float:
    """Changes both endpoints at once; returns after how many seconds new pods serve alone."""
    before = {endpoint: pods_of(namespace, endpoint) for endpoint in ENDPOINTS}
    began = time.monotonic()
    for endpoint in ENDPOINTS:
        change(endpoint)

    def over() -> bool:
        now = {endpoint: pods_of(namespace, endpoint) for endpoint in ENDPOINTS}
        new = all(
            not (now[endpoint].keys() & before[endpoint].keys()) if all_new else now[endpoint] != before[endpoint]
            for endpoint in ENDPOINTS
        )
        return new and all(len(pods) == replicas for pods in now.values())

    cluster.wait_until(over, 120, lambda: f"only new pods of {ENDPOINTS}")
    for endpoint in ENDPOINTS:
        namespace.wait_in_service(endpoint)
    return time.monotonic() - began


def patch(namespace: Namespace, endpoint: str, spec: dict[str, Any]) -> str:
    return namespace.kubectl("patch", "mcep", endpoint, "--type=merge", "-p", json.dumps({"spec": spec}))


def annotate(namespace: Namespace, text: str) -> Callable[[str], object]:
    return lambda endpoint: patch(namespace, endpoint, {"pod": {"annotations": {"example.com/turn": text}}})


def containers(endpoint: str, turn: str) -> list[dict[str, Any]]:
    if endpoint == ENDPOINTS[0]:
        victim = container("victim", TURN=turn, HOG_MB="300") | {"resources": {"limits": {"memory": "96Mi"}}}
        return [container("echo", TURN=turn), container("streams", STREAM_SECONDS=str(STREAM_SECONDS)), victim]
    return [container("one", TURN=turn), container("two", SLOW_MS="20")]


def reenv(namespace: Namespace, turn: str) -> Callable[[str], object]:
    return lambda endpoint: patch(namespace, endpoint, {"containers": containers(endpoint, turn)})


def delete_one_pod(namespace: Namespace) -> Callable[[str], object]:
    def act(endpoint: str) -> None:
        name = namespace.pods(endpoint)[0]["metadata"]["name"]
        namespace.kubectl("delete", "pod", name, "--wait=false")

    return act


@pytest.fixture(scope="module")
def endpoints(namespace: Namespace) -> Namespace:
    for endpoint, mode in zip(ENDPOINTS, ("Direct", "Serial"), strict=True):
        namespace.apply(cases.document(endpoint, mode=mode, replicas=2, containers=containers(endpoint, "0")))
    for endpoint in ENDPOINTS:
        namespace.wait_in_service(endpoint)
    return namespace


def check(found: dict[str, Any], figures: list[str], what: str, *, victim: bool = False) -> None:
    """Nothing is lost; only a victim may have been answered by its cause."""
    answered = sum(found["answered"].values())
    rate = answered / found["seconds"]
    figures.append(
        f"{what}: {answered} requests ({rate:.0f}/s) in {found['seconds']:.0f} s, {found['lost']} lost, "
        f"slowest {max(value for kind, value in found['slowest'].items() if kind != 'streams'):.2f} s, "
        f"{found['answered'].get('streams', 0)} streamed replies of {STREAM_SECONDS} s all whole, "
        f"{found['closed unannounced']} connections closed without notice"
    )
    assert found["lost"] == 0, json.dumps(found, indent=1)
    assert rate > RATE, found
    assert found["closed unannounced"] == 0, found
    assert victim or not found["told"], found["told"]
    for kind in ("direct staying", "direct one-shot", "serial staying", "serial one-shot", "streams"):
        assert found["answered"].get(kind, 0) > 10, found


def scale(namespace: Namespace, replicas: int) -> None:
    for endpoint in ENDPOINTS:
        namespace.kubectl("scale", "mcep", endpoint, f"--replicas={replicas}")
    for endpoint in ENDPOINTS:
        namespace.wait_in_service(endpoint)
        assert len(namespace.pods(endpoint)) == replicas


def test_ten_rolling_updates_scaling_and_a_deleted_pod_lose_no_request(
    endpoints: Namespace, figures: list[str]
) -> None:
    found: dict[str, Any] = {}
    with load(endpoints, found):
        times = [roll(endpoints, annotate(endpoints, f"two-{turn}"), 2) for turn in range(2)]
        times.append(roll(endpoints, reenv(endpoints, "1"), 2))
        roll(endpoints, delete_one_pod(endpoints), 2, all_new=False)
        scale(endpoints, 1)
        times += [roll(endpoints, annotate(endpoints, f"one-{turn}"), 1) for turn in range(6)]
        times.append(roll(endpoints, reenv(endpoints, "2"), 1))
        scale(endpoints, 3)
        scale(endpoints, 1)
    shown = ", ".join(f"{seconds:.0f}" for seconds in times)
    check(found, figures, f"{len(times)} rolling updates ({shown} s), a deleted pod of two, scaled 2-1 and 1-3-1")


def test_a_deleted_single_pod_goes_on_until_its_successor_serves(endpoints: Namespace, figures: list[str]) -> None:
    """A Service sends to pods that end, as long as they are ready and no other pod is."""
    found: dict[str, Any] = {"longest pause": MOST_PAUSE}
    times: list[float] = []
    for _ in range(3):
        if found["longest pause"] >= MOST_PAUSE:
            with load(endpoints, found):
                times = [roll(endpoints, delete_one_pod(endpoints), 1) for _ in range(2)]
    shown = ", ".join(f"{seconds:.0f}" for seconds in times)
    check(found, figures, f"the only pod deleted twice, a new one after {shown} s each")


def broken(endpoint: str) -> list[dict[str, Any]]:
    """A generation that can not come up: one container is never well, the image of another is not there."""
    found = containers(endpoint, "broken")
    if endpoint == ENDPOINTS[0]:
        return [container("echo", TURN="broken", PING_STATUS="500"), *found[1:]]
    return [found[0], found[1] | {"image": "localhost/mce/not-there:1"}]


def mend(namespace: Namespace) -> Callable[[str], object]:
    """The next generation is good, and has as much time as any."""
    usual = {"progressDeadlineSeconds": None}
    return lambda endpoint: patch(namespace, endpoint, {"containers": containers(endpoint, "mended"), "rollout": usual})


def test_a_generation_that_goes_back_by_itself_loses_no_request(endpoints: Namespace, figures: list[str]) -> None:
    found: dict[str, Any] = {}
    scale(endpoints, 2)
    cluster.wait_until(lambda: all(len(pods_of(endpoints, one)) == 2 for one in ENDPOINTS), 60, lambda: "two pods each")
    before = {endpoint: pods_of(endpoints, endpoint) for endpoint in ENDPOINTS}
    with load(endpoints, found):
        began = time.monotonic()
        for endpoint in ENDPOINTS:
            spec = {"containers": broken(endpoint), "rollout": {"progressDeadlineSeconds": BUDGET_SECONDS}}
            patch(endpoints, endpoint, spec)
        for endpoint in ENDPOINTS:
            endpoints.wait_status(endpoint, lambda status: status["reason"] == "RolledBack", "rolled back", 120)
        seconds = time.monotonic() - began
        cluster.wait_until(
            lambda: {endpoint: pods_of(endpoints, endpoint) for endpoint in ENDPOINTS} == before,
            90,
            lambda: f"the pods from before alone: {before}",
        )
        forward = roll(endpoints, mend(endpoints), 2)
    check(
        found,
        figures,
        f"two generations that fail go back by themselves (after {seconds:.0f} s with a budget of {BUDGET_SECONDS} s), "
        f"then forward with a mended one ({forward:.0f} s)",
    )


def victims(namespace: Namespace) -> list[dict[str, Any]]:
    """The state of the victim in each pod."""
    return [
        one
        for pod in namespace.pods(ENDPOINTS[0])
        for one in pod["status"]["containerStatuses"]
        if one["name"] == "victim"
    ]


def in_victim(namespace: Namespace, *command: str) -> None:
    """Runs a command in the victim of one pod, which may not outlive it."""
    name = namespace.pods(ENDPOINTS[0])[0]["metadata"]["name"]
    with suppress(cluster.CommandError):
        namespace.kubectl("exec", name, "-c", "victim", "--", *command)


def restarts(namespace: Namespace) -> int:
    return sum(int(one["restartCount"]) for one in victims(namespace))


def ends(namespace: Namespace, *command: str) -> None:
    """Ends the victim of one pod by a command, and waits until it is back."""
    before = restarts(namespace)
    in_victim(namespace, *command)
    cluster.wait_until(lambda: restarts(namespace) > before, 30, lambda: f"a restart: {victims(namespace)}")
    cluster.wait_until(lambda: all(one["ready"] for one in victims(namespace)), 60, lambda: "victim is back")


@pytest.mark.long
def test_a_container_that_dies_and_an_operator_that_is_killed_cost_only_that_containers_callers(
    endpoints: Namespace, installed: Namespace, figures: list[str]
) -> None:
    found: dict[str, Any] = {}
    scale(endpoints, 2)
    patch(endpoints, ENDPOINTS[0], {"availability": "Any"})
    endpoints.wait_in_service(ENDPOINTS[0])
    cluster.wait_until(lambda: len(pods_of(endpoints, ENDPOINTS[0])) == 2, 60, lambda: "two pods")
    with load(endpoints, found):
        installed.kubectl(
            "delete", "pods", "-l", "app.kubernetes.io/name=mce", "--grace-period=0", "--force", "--wait=false"
        )
        ends(endpoints, "sh", "-c", "kill -USR1 1")
        reasons = {one.get("lastState", {}).get("terminated", {}).get("reason") for one in victims(endpoints)}
        for _ in range(3):
            ends(endpoints, "sh", "-c", "kill -TERM 1")
        roll(endpoints, annotate(endpoints, "after"), 2)
    assert "OOMKilled" in reasons
    what = f"an operator killed, a container out of memory once and ended 3 times (told: {found['told']})"
    check(found, figures, what, victim=True)
