"""In a real pod, a drain during a rolling restart under load loses nothing."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from support import cases, cluster, loads
from support.cluster import Namespace

pytestmark = pytest.mark.e2e

STREAM_SECONDS = 12
"""Longer than the 5 s for which a stopping router goes on serving."""
ENDPOINTS = ("drain-direct", "drain-serial")


def container(name: str, **env: str) -> dict[str, Any]:
    variables = [{"name": key, "value": value} for key, value in {"MODEL_NAME": name, **env}.items()]
    return cases.container(name, env=variables, startupTimeoutSeconds=60)


@contextmanager
def load(namespace: Namespace, result: dict[str, Any]) -> Iterator[None]:
    """A pod that asks both endpoints through their Services, all the time; what it saw is in `result` afterwards."""
    direct, serial = (f"{endpoint}.{namespace.name}.svc" for endpoint in ENDPOINTS)
    with loads.running(namespace, {"direct": direct, "serial": serial, "streams": direct}, result):
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
        return [container("echo", TURN=turn), container("streams", STREAM_SECONDS=str(STREAM_SECONDS))]
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


def check(found: dict[str, Any], figures: list[str], what: str) -> None:
    answered = sum(found["answered"].values())
    rate = answered / found["seconds"]
    figures.append(
        f"{what}: {answered} requests ({rate:.0f}/s) in {found['seconds']:.0f} s, {found['lost']} lost, "
        f"slowest {max(value for kind, value in found['slowest'].items() if kind != 'streams'):.2f} s, "
        f"{found['answered'].get('streams', 0)} streamed replies of {STREAM_SECONDS} s all whole, "
        f"{found['closed unannounced']} connections closed without notice"
    )
    assert found["lost"] == 0, json.dumps(found, indent=1)
    assert found["closed unannounced"] == 0, found
    for kind in ("direct staying", "direct one-shot", "serial staying", "serial one-shot", "streams"):
        assert found["answered"].get(kind, 0) > 10, found


def test_rolling_restarts_and_a_deleted_pod_of_two_lose_no_request(endpoints: Namespace, figures: list[str]) -> None:
    found: dict[str, Any] = {}
    with load(endpoints, found):
        times = [
            roll(endpoints, annotate(endpoints, "1"), 2),
            roll(endpoints, reenv(endpoints, "1"), 2),
            roll(endpoints, annotate(endpoints, "2"), 2),
            roll(endpoints, delete_one_pod(endpoints), 2, all_new=False),
        ]
    shown = ", ".join(f"{seconds:.0f}" for seconds in times)
    check(found, figures, f"3 rolling updates of 2 replicas and a deleted pod, {shown} s each")


def test_rolling_restarts_of_a_single_pod_lose_no_request(endpoints: Namespace, figures: list[str]) -> None:
    found: dict[str, Any] = {}
    with load(endpoints, found):
        times = [
            roll(endpoints, lambda endpoint: patch(endpoints, endpoint, {"replicas": 1}), 1, all_new=False),
            roll(endpoints, annotate(endpoints, "3"), 1),
            roll(endpoints, reenv(endpoints, "2"), 1),
            roll(endpoints, annotate(endpoints, "4"), 1),
        ]
    shown = ", ".join(f"{seconds:.0f}" for seconds in times)
    check(found, figures, f"down to 1 replica and 3 rolling updates of it, {shown} s each")


def test_a_deleted_single_pod_goes_on_until_its_successor_serves(endpoints: Namespace, figures: list[str]) -> None:
    """A Service sends to pods that end, as long as they are ready and no other pod is."""
    found: dict[str, Any] = {}
    with load(endpoints, found):
        times = [roll(endpoints, delete_one_pod(endpoints), 1) for _ in range(2)]
    shown = ", ".join(f"{seconds:.0f}" for seconds in times)
    check(found, figures, f"the only pod deleted twice, a new one after {shown} s each")
