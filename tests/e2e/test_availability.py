"""With availability Any, siblings of a container that crash-loops go on serving, whatever happens to the pods."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from support import cases, cluster, loads
from support import http as caller
from support.cluster import Namespace

pytestmark = [pytest.mark.e2e, pytest.mark.long]

CRASHES = 2
UP_SECONDS = 10
DOWN_ALLOWED_SECONDS = 1.5
"""For which new connections may be refused when all of several pods lose a container for the first time at once."""

CRASHER = (
    f"n=$(cat /tmp/n || echo 0); echo $((n+1)) > /tmp/n; [ $n -ge {CRASHES} ] || export EXIT_AFTER={UP_SECONDS}; "
    "exec python3 -u /opt/model serve"
)
"""Well for a while, ends, and stays up at last; /tmp outlives a restart of its container."""


def container(name: str, **fields: Any) -> dict[str, Any]:
    env = [{"name": "MODEL_NAME", "value": name}]
    return cases.container(name, env=env, startupTimeoutSeconds=60, **fields)


def endpoint(name: str, *, replicas: int, crashes: bool) -> dict[str, Any]:
    command = {"command": ["sh", "-c", CRASHER]} if crashes else {}
    containers = [container("echo"), container("crasher", **command)]
    return cases.document(name, availability="Any", replicas=replicas, containers=containers)


def published(namespace: Namespace, name: str) -> bool:
    return bool(namespace.get("service", name)["spec"].get("publishNotReadyAddresses", False))


def restarts(namespace: Namespace, name: str) -> int:
    states = [one for pod in namespace.pods(name) for one in pod["status"].get("containerStatuses", [])]
    return sum(one["restartCount"] for one in states if one["name"] == "crasher")


def is_ready(namespace: Namespace, name: str) -> bool:
    status = namespace.status(name)
    return any(one["type"] == "Ready" and one["status"] == "True" for one in status["conditions"])


def all_ready(namespace: Namespace, name: str, pods: int) -> bool:
    found = namespace.pods(name)
    conditions = [one for pod in found for one in pod["status"].get("conditions", []) if one["type"] == "Ready"]
    return len(found) == pods and sum(one["status"] == "True" for one in conditions) == pods


def answers_of_the_sick(namespace: Namespace, name: str, crashes: int) -> list[tuple[int, str, str, float]]:
    """What the crashing container's callers get, asked of the first pod's router until it is up again for good."""
    pod = namespace.pods(name)[0]["metadata"]["name"]
    found = []
    with namespace.forwarded(f"pod/{pod}", 19080) as port:
        end = time.monotonic() + 120
        while time.monotonic() < end and not (restarts(namespace, name) >= crashes and is_ready(namespace, name)):
            began = time.monotonic()
            reply = caller.post(port, b"x", target="crasher", content_type="text/plain")
            seconds = time.monotonic() - began
            found.append((reply.status, reply.headers.get("x-mce-reason", ""), reply.body.decode(), seconds))
            time.sleep(0.2)
    return found


def lost(found: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [one for one in found["every lost"] if one["kind"] == kind]


def told(found: dict[str, Any], what: str) -> str:
    answered = sum(found["answered"].values())
    return f"{what}: {answered} requests to the sibling in {found['seconds']:.0f} s, {found['lost']} lost"


@pytest.mark.parametrize("replicas", [1, 2])
def test_siblings_of_a_crash_looping_container_serve_all_the_time(
    namespace: Namespace, figures: list[str], replicas: int
) -> None:
    name = f"crashing-{replicas}"
    namespace.apply(endpoint(name, replicas=replicas, crashes=True))
    namespace.wait_status(name, lambda status: status.get("state") == "InService", "InService", 90)
    found: dict[str, Any] = {}
    with loads.running(namespace, {"direct": f"{name}.{namespace.name}.svc"}, found):
        replies = answers_of_the_sick(namespace, name, CRASHES * replicas)
        namespace.wait_status(name, lambda status: status["state"] == "InService", "InService", 60)
    assert restarts(namespace, name) >= CRASHES * replicas
    kinds = sorted({(status, reason) for status, reason, _, _ in replies})
    figures.append(told(found, f"{replicas} replica(s), a container crashes {CRASHES} times in each"))
    figures.append(f"its own callers got {kinds}, slowest {max(seconds for *_, seconds in replies):.2f} s")
    assert lost(found, "direct staying") == [], json.dumps(found, indent=1)
    one_shots = lost(found, "direct one-shot")
    span = max((one["at"] for one in one_shots), default=0.0) - min((one["at"] for one in one_shots), default=0.0)
    assert span <= (0 if replicas == 1 else DOWN_ALLOWED_SECONDS), json.dumps(found, indent=1)
    assert replicas > 1 or one_shots == [], json.dumps(found, indent=1)
    assert {status for status, _ in kinds} <= {200, 424, 503}, kinds
    assert any(status != 200 and reason and "crasher" in body for status, reason, body, _ in replies), replies[:5]
    cluster.wait_until(lambda: all_ready(namespace, name, replicas), 60, lambda: "all pods ready")
    if replicas == 1:
        assert published(namespace, name)
    else:
        cluster.wait_until(lambda: not published(namespace, name), 200, lambda: "the Service is as before")
    namespace.kubectl("delete", "mcep", name)


def patched(namespace: Namespace, name: str, spec: dict[str, Any]) -> None:
    namespace.kubectl("patch", "mcep", name, "--type=merge", "-p", json.dumps({"spec": spec}))


def deleted(namespace: Namespace, name: str) -> None:
    namespace.kubectl("delete", "pod", namespace.pods(name)[0]["metadata"]["name"], "--wait=false")


def uids(namespace: Namespace, name: str) -> set[str]:
    """Also of the pods that end."""
    items = namespace.get("pods", "-l", f"serving.mce.dev/endpoint={name}")["items"]
    return {pod["metadata"]["uid"] for pod in items}


def settled(namespace: Namespace, name: str, before: set[str], pods: int) -> None:
    """Waits until other pods than before are all there is, ready, with the Service as it is to be for so many."""

    def over() -> bool:
        now = uids(namespace, name)
        return now != before and len(now) == pods and all_ready(namespace, name, pods)

    cluster.wait_until(over, 60, lambda: "the pods have changed")
    namespace.wait_in_service(name)
    cluster.wait_until(lambda: published(namespace, name) is (pods == 1), 10, lambda: "the Service is prepared")


def test_pods_that_come_and_go_lose_no_request_though_the_service_was_prepared(
    namespace: Namespace, figures: list[str]
) -> None:
    name = "calm"
    namespace.apply(endpoint(name, replicas=1, crashes=False))
    namespace.wait_in_service(name)
    cluster.wait_until(lambda: published(namespace, name), 10, lambda: "prepared")
    found: dict[str, Any] = {}
    turn = {"pod": {"annotations": {"example.com/turn": "1"}}}
    steps: list[tuple[int, Callable[[], None]]] = [
        (1, lambda: patched(namespace, name, turn)),
        (2, lambda: patched(namespace, name, {"replicas": 2})),
        (1, lambda: patched(namespace, name, {"replicas": 1})),
        (1, lambda: deleted(namespace, name)),
    ]
    with loads.running(namespace, {"direct": f"{name}.{namespace.name}.svc"}, found):
        for pods, step in steps:
            before = uids(namespace, name)
            step()
            settled(namespace, name, before, pods)
    figures.append(told(found, "availability Any: a rolling update, 1 to 2 replicas, back to 1, the only pod deleted"))
    assert found["lost"] == 0, json.dumps(found, indent=1)
    assert found["closed unannounced"] == 0, found
