"""CPU and memory of running containers on a real node: what is changed in place, and what the cluster refuses."""

import json
import time
from typing import Any

import pytest

from support import cases, cluster
from support.cluster import Namespace

pytestmark = pytest.mark.e2e

NAME = "sized"
LIMIT = "cat /sys/fs/cgroup/memory.max 2>/dev/null || cat /sys/fs/cgroup/memory/memory.limit_in_bytes"
SMALL = {"requests": {"cpu": "20m", "memory": "32Mi"}, "limits": {"memory": "96Mi"}}
LARGE = {"requests": {"cpu": "40m", "memory": "48Mi"}, "limits": {"memory": "128Mi", "cpu": "500m"}}


def resize(namespace: Namespace, resources: dict[str, Any]) -> None:
    patch = [{"op": "replace", "path": "/spec/containers/0/resources", "value": resources}]
    namespace.kubectl("patch", "mcep", NAME, "--type=json", "-p", json.dumps(patch))


@pytest.fixture(scope="module")
def endpoint(namespace: Namespace) -> Namespace:
    sized = cases.container("a", resources=SMALL, startupTimeoutSeconds=60)
    other = cases.container("b", startupTimeoutSeconds=60)
    namespace.apply(cases.document(NAME, containers=[sized, other], replicas=2))
    namespace.wait_in_service(NAME)
    return namespace


def facts(namespace: Namespace) -> dict[str, Any]:
    """What must not change in place: the pods, their restarts, the ReplicaSets, the Deployment's revision."""
    pods = {
        pod["metadata"]["uid"]: sum(one["restartCount"] for one in pod["status"]["containerStatuses"])
        for pod in namespace.pods(NAME)
    }
    sets = namespace.get("replicasets", "-l", f"serving.mce.dev/endpoint={NAME}")["items"]
    return {"pods": pods, "sets": sorted(one["metadata"]["uid"] for one in sets)}


def wait_rolled(namespace: Namespace) -> None:
    namespace.wait_in_service(NAME)
    cluster.wait_until(lambda: len(namespace.pods(NAME)) == 2, 60, lambda: "two pods")


def test_cpu_and_memory_change_without_a_restart_and_a_later_pod_has_them_too(
    endpoint: Namespace, figures: list[str]
) -> None:
    before, began = facts(endpoint), time.monotonic()
    resize(endpoint, LARGE)
    endpoint.wait_in_service(NAME)
    figures.append(f"CPU and memory of 2 pods changed in place, in service {time.monotonic() - began:.1f} s after it")
    assert facts(endpoint) == before
    rollout = endpoint.status(NAME)["rollout"]
    assert (rollout["method"], rollout["updated"], rollout["total"]) == ("InPlace", 2, 2)
    for pod in endpoint.pods(NAME):
        name = pod["metadata"]["name"]
        limit = endpoint.kubectl("exec", name, "-c", "a", "--", "sh", "-c", LIMIT)
        assert int(limit) == 128 << 20
    endpoint.kubectl("scale", "mcep", NAME, "--replicas=3")
    endpoint.wait_in_service(NAME)
    assert facts(endpoint)["sets"] == before["sets"]
    assert {json.dumps(pod["spec"]["containers"][0]["resources"], sort_keys=True) for pod in endpoint.pods(NAME)} == {
        json.dumps(LARGE, sort_keys=True)
    }
    endpoint.kubectl("scale", "mcep", NAME, "--replicas=2")
    wait_rolled(endpoint)


def test_a_limit_that_is_removed_is_rolled_out_and_the_status_says_why(endpoint: Namespace) -> None:
    before = facts(endpoint)
    resize(endpoint, SMALL)
    wait_rolled(endpoint)
    assert not facts(endpoint)["pods"].keys() & before["pods"].keys()
    rollout = endpoint.status(NAME)["rollout"]
    assert rollout["method"] == "Rollout"
    assert "not in place: limits.cpu of container a was removed" in rollout["message"]


def test_memory_that_a_container_uses_already_is_taken_from_it_by_a_rollout(endpoint: Namespace) -> None:
    resize(endpoint, {"requests": {"cpu": "20m", "memory": "4Mi"}, "limits": {"memory": "6Mi"}})
    endpoint.wait_status(
        NAME, lambda status: "not done within 30 s" in status.get("rollout", {}).get("message", ""), "a rollout", 60
    )
    resize(endpoint, SMALL)
    wait_rolled(endpoint)


def test_what_no_node_has_is_refused_and_rolled_out(endpoint: Namespace) -> None:
    """The old pods serve on, since no new one finds a place."""
    resize(endpoint, {**SMALL, "requests": {"cpu": "500", "memory": "32Mi"}})
    endpoint.wait_status(
        NAME, lambda status: "allocatable" in status.get("rollout", {}).get("message", ""), "a refusal", 30
    )
    endpoint.wait_status(NAME, lambda status: status["reason"] == "Unschedulable", "Unschedulable", 30)
    resize(endpoint, SMALL)
    wait_rolled(endpoint)
