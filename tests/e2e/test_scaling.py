"""From one replica to three and back: by hand, by what callers ask for, by CPU, and to nothing while suspended."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from support import cases, cluster
from support import http as caller
from support.cluster import Namespace

pytestmark = [pytest.mark.e2e, pytest.mark.long]

NAME = "scales"
COOLDOWN_SECONDS = 30


def container(name: str, **fields: Any) -> dict[str, Any]:
    env = [{"name": "MODEL_NAME", "value": name}]
    requests = {"requests": {"cpu": "10m", "memory": "32Mi"}}
    return cases.container(name, env=env, resources=requests, startupTimeoutSeconds=60, **fields)


def endpoint(**spec: Any) -> dict[str, Any]:
    return cases.document(NAME, containers=[container("busyModel"), container("idle")], **spec)


def scaling(*metrics: dict[str, Any]) -> dict[str, Any]:
    """Between 1 and 3 replicas."""
    return {"maxReplicas": 3, "scaleInCooldownSeconds": COOLDOWN_SECONDS, "metrics": list(metrics)}


def replicas(namespace: Namespace) -> int:
    return int(namespace.endpoint(NAME)["spec"]["replicas"])


def has_autoscaler(namespace: Namespace) -> bool:
    return NAME in namespace.kubectl("get", "hpa", "-o", "name")


def wait_replicas(namespace: Namespace, count: int, seconds: float) -> float:
    """Until there are so many replicas and all of them serve; returns how long it took."""
    began = time.monotonic()
    cluster.wait_until(
        lambda: replicas(namespace) == count, seconds, lambda: f"{count} replicas: {namespace.endpoint(NAME)}"
    )
    namespace.wait_in_service(NAME)
    cluster.wait_until(lambda: len(namespace.pods(NAME)) == count, 60, lambda: f"{count} pods")
    return time.monotonic() - began


@contextmanager
def load(namespace: Namespace, per_second: float) -> Iterator[None]:
    """Invokes busyModel of the first pod so often."""
    stop = threading.Event()
    pod = namespace.pods(NAME)[0]["metadata"]["name"]

    def ask(port: int) -> None:
        due = time.monotonic()
        while not stop.wait(max(0.0, due - time.monotonic())):
            caller.post(port, b"x", target="busyModel", content_type="text/plain")
            due += 1 / per_second

    with namespace.forwarded(f"pod/{pod}", 19080) as port:
        thread = threading.Thread(target=ask, args=(port,))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def test_kubectl_scale_moves_the_replicas(namespace: Namespace) -> None:
    namespace.apply(endpoint(replicas=1))
    namespace.wait_in_service(NAME)
    namespace.kubectl("scale", "mcep", NAME, "--replicas=2")
    wait_replicas(namespace, 2, 60)
    assert namespace.status(NAME)["replicas"] == 2
    namespace.kubectl("scale", "mcep", NAME, "--replicas=1")
    wait_replicas(namespace, 1, 60)


def test_invocations_bring_it_from_one_replica_to_three_and_back(namespace: Namespace, figures: list[str]) -> None:
    namespace.apply(endpoint(autoscaling=scaling({"type": "InvocationsPerReplica", "target": 120})))
    before = namespace.endpoint(NAME)["metadata"]["generation"]
    with load(namespace, 8):
        up = wait_replicas(namespace, 3, 180)
        told = namespace.status(NAME)["autoscaling"]
    assert (told["desiredReplicas"], told["metric"], told["container"]) == (3, "InvocationsPerReplica", "busyModel")
    assert "invocations per minute" in told["message"]
    assert told["lastScaleTime"]
    down = wait_replicas(namespace, 1, 240)
    assert namespace.status(NAME)["autoscaling"]["desiredReplicas"] == 1
    moves = namespace.endpoint(NAME)["metadata"]["generation"] - before
    figures.append(
        f"8 invocations/s for a target of 2/s: 1 to 3 replicas in {up:.0f} s, back in {down:.0f} s, {moves} moves"
    )
    assert moves <= 4
    assert not has_autoscaler(namespace)


def test_steady_demand_writes_nothing(namespace: Namespace) -> None:
    namespace.wait_status(NAME, lambda status: status["autoscaling"]["desiredReplicas"] == 1, "1 replica wanted")
    with load(namespace, 1):
        time.sleep(20)
        before = namespace.endpoint(NAME)["metadata"]["resourceVersion"]
        time.sleep(50)
        assert namespace.endpoint(NAME)["metadata"]["resourceVersion"] == before


def test_replicas_beyond_the_bounds_are_brought_in(namespace: Namespace) -> None:
    namespace.kubectl("scale", "mcep", NAME, "--replicas=9")
    cluster.wait_until(lambda: replicas(namespace) <= 3, 40, lambda: str(namespace.endpoint(NAME)["spec"]))
    assert len(namespace.pods(NAME)) <= 3
    wait_replicas(namespace, 1, 240)


def test_suspended_it_has_no_pods_and_keeps_its_replicas(namespace: Namespace) -> None:
    namespace.kubectl("patch", "mcep", NAME, "--type=merge", "-p", '{"spec":{"suspend":true}}')
    namespace.wait_status(NAME, lambda status: status["state"] == "OutOfService", "OutOfService")
    cluster.wait_until(lambda: namespace.pods(NAME) == [], 60, lambda: "no pods")
    found = namespace.endpoint(NAME)
    assert found["spec"]["replicas"] == 1
    assert "autoscaling" not in found["status"]
    namespace.kubectl("patch", "mcep", NAME, "--type=merge", "-p", '{"spec":{"suspend":false}}')
    namespace.wait_in_service(NAME)


def test_cpu_alone_is_left_to_a_horizontal_pod_autoscaler(namespace: Namespace, figures: list[str]) -> None:
    metric = {"type": "ContainerCPU", "container": "busyModel", "targetPercent": 80}
    namespace.apply(endpoint(autoscaling=scaling(metric)))
    cluster.wait_until(lambda: has_autoscaler(namespace), 10, lambda: "an autoscaler")
    with load(namespace, 40):
        up = wait_replicas(namespace, 3, 240)

        def told(status: dict[str, Any]) -> bool:
            found = status.get("autoscaling", {})
            return (found["desiredReplicas"], found["metric"], found["container"]) == (3, "ContainerCPU", "busyModel")

        namespace.wait_status(NAME, told, "what drives it")
    down = wait_replicas(namespace, 1, 300)
    figures.append(f"by CPU: 1 to 3 replicas in {up:.0f} s, back in {down:.0f} s")
    for change in ({"suspend": True}, {"suspend": False, "autoscaling": None}):
        namespace.kubectl("patch", "mcep", NAME, "--type=merge", "-p", json.dumps({"spec": change}))
        cluster.wait_until(lambda: not has_autoscaler(namespace), 20, lambda: "no autoscaler")
    namespace.kubectl("delete", "mcep", NAME)
