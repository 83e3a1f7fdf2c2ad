"""Every child edited and deleted by hand, by others than us, on a real API server: it heals, and an Event says what."""

import http.client
import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from mce_api import names
from mce_operator import patience
from support import cases, cluster
from support.cluster import CommandError, Namespace

pytestmark = pytest.mark.e2e

HEALED_SECONDS = 10
KINDS = ("serviceaccount", "networkpolicy", "service", "deployment", "poddisruptionbudget")
POD = "/spec/template/spec"
INTRUDER = "--field-manager=intruder"


@pytest.fixture(scope="module")
def endpoint(namespace: Namespace) -> Namespace:
    """Two replicas for which there is no node: drift is about objects, and pods only cost."""
    namespace.apply(cases.document("drift", replicas=2, pod={"nodeSelector": {"no": "such"}}))
    cluster.wait_until(lambda: all(facts(namespace, kind) for kind in KINDS), 30, lambda: "all children")
    return namespace


def facts(namespace: Namespace, kind: str, name: str = "drift") -> dict[str, Any]:
    """What of a child is ours; empty if it is not there."""
    try:
        found = namespace.get(kind, name)
    except CommandError:
        return {}
    metadata, spec = found["metadata"], dict(found.get("spec", {}))
    for assigned in ("clusterIP", "clusterIPs"):
        spec.pop(assigned, None)
    return {
        "labels": metadata["labels"],
        "owners": metadata.get("ownerReferences"),
        "hash": metadata["annotations"].get(names.HASH_ANNOTATION),
        "spec": spec,
        "token": found.get("automountServiceAccountToken"),
    }


def notes(namespace: Namespace, reason: str = "DriftHealed") -> list[str]:
    found = namespace.get("events.events.k8s.io")["items"]
    return [one["note"] for one in found if one["reason"] == reason]


def heals(
    namespace: Namespace, kind: str, before: dict[str, Any], figures: list[str], what: str, name: str = "drift"
) -> None:
    began = time.monotonic()
    cluster.wait_until(
        lambda: facts(namespace, kind, name) == before,
        HEALED_SECONDS,
        lambda: f"{kind} {name} healed: {facts(namespace, kind, name)}",
    )
    figures.append(f"{kind}: {what}: healed within {time.monotonic() - began:.1f} s")


def add(path: str, value: Any) -> dict[str, Any]:
    return {"op": "add", "path": path, "value": value}


def label(name: str) -> str:
    return "/metadata/labels/" + name.replace("/", "~1")


@pytest.mark.parametrize(
    ("kind", "patch", "says"),
    [
        pytest.param("deployment", add("/spec/replicas", 5), "spec.replicas edited", id="replicas"),
        pytest.param("deployment", add(f"{POD}/containers/0/image", "x:1"), "image edited", id="image"),
        pytest.param("deployment", add(f"{POD}/containers/-", {"name": "evil", "image": "x"}), "[name=evil] added",
            id="container"),
        pytest.param("deployment", add(f"{POD}/initContainers/-", {"name": "evil", "image": "x"}), "[name=evil] added",
            id="init-container"),
        pytest.param("deployment", add(f"{POD}/volumes/-", {"name": "v", "emptyDir": {}}), "volumes[name=v] added",
            id="volume"),
        pytest.param("deployment", add(f"{POD}/containers/0/env/-", {"name": "EVIL", "value": "1"}),
            "env[name=EVIL] added", id="env"),
        pytest.param("deployment", add(f"{POD}/containers/0/ports", [{"containerPort": 9}]), "ports added", id="port"),
        pytest.param("deployment", add(f"{POD}/initContainers/0/ports/-", {"containerPort": 19080, "protocol": "UDP"}),
            "protocol=UDP] added", id="routers-port-by-udp"),
        pytest.param("deployment", add(f"{POD}/shareProcessNamespace", True), "shareProcessNamespace added",
            id="process-namespace"),
        pytest.param("deployment", add("/spec/paused", True), "spec.paused added", id="paused"),
        pytest.param("deployment", add(label(names.ENDPOINT_LABEL), "other"), "endpoint edited", id="endpoint-label"),
        pytest.param("deployment", {"op": "remove", "path": label(names.MANAGED_BY_LABEL)}, "managed-by edited",
            id="managed-by-label"),
        pytest.param("deployment", add("/metadata/annotations/" + names.HASH_ANNOTATION.replace("/", "~1"), "x"),
            f"metadata.annotations.{names.HASH_ANNOTATION} edited", id="hash"),
        pytest.param("deployment", {"op": "remove", "path": "/metadata/ownerReferences"}, "ownerReferences edited",
            id="owner"),
        pytest.param("service", add("/spec/selector", {"x": "y"}), "spec.selector edited", id="selector"),
        pytest.param("service", add("/spec/ports/-", {"name": "x", "port": 81}), "ports[port=81,protocol=TCP] added",
            id="service-port"),
        pytest.param("service", add("/spec/ports/-", {"name": "x", "port": 80, "protocol": "UDP"}),
            "ports[port=80,protocol=UDP] added", id="our-port-by-udp"),
        pytest.param("service", add("/spec/type", "NodePort"), "spec.type edited", id="service-type"),
        pytest.param("service", add("/spec/externalIPs", ["10.9.8.7"]), "spec.externalIPs", id="external-ip"),
        pytest.param("service", {"op": "remove", "path": "/metadata/ownerReferences"}, "ownerReferences edited",
            id="service-owner"),
        pytest.param("serviceaccount", add("/automountServiceAccountToken", True), "Token edited", id="token"),
        pytest.param("networkpolicy", add("/spec/ingress", [{}]), "spec.ingress edited", id="ingress"),
        pytest.param("networkpolicy", add("/spec/podSelector", {"matchLabels": {"x": "y"}}), "podSelector edited",
            id="policed-pods"),
        pytest.param("poddisruptionbudget", add("/spec/maxUnavailable", 0), "maxUnavailable edited", id="budget"),
    ],
)  # fmt: skip
def test_an_edited_child_heals_and_an_event_names_object_field_and_manager(
    endpoint: Namespace, figures: list[str], kind: str, patch: dict[str, Any], says: str
) -> None:
    before = facts(endpoint, kind)
    endpoint.kubectl("patch", kind, "drift", "--type=json", INTRUDER, "-p", json.dumps([patch]))
    heals(endpoint, kind, before, figures, says)
    wanted = (kind.lower(), says, "" if patch["op"] == "remove" else "by intruder")

    def told() -> bool:
        return any(note.lower().startswith(wanted[0]) and wanted[1] in note and wanted[2] in note for note in seen())

    def seen() -> list[str]:
        return notes(endpoint)

    cluster.wait_until(told, 10, lambda: f"an Event that says {wanted}; there are {seen()}")


@pytest.mark.parametrize("kind", KINDS)
def test_a_deleted_child_comes_back(endpoint: Namespace, figures: list[str], kind: str) -> None:
    before = facts(endpoint, kind)
    endpoint.kubectl("delete", kind, "drift", "--wait=false")
    heals(endpoint, kind, before, figures, "deleted")
    cluster.wait_until(
        lambda: any(note.lower().startswith(f"{kind} drift: deleted") for note in notes(endpoint)),
        10,
        lambda: f"an Event of {kind}; there are {notes(endpoint)}",
    )


def test_a_budget_of_the_other_kind_heals_though_ours_is_not_valid_beside_it(
    endpoint: Namespace, figures: list[str]
) -> None:
    before = facts(endpoint, "poddisruptionbudget")
    other = json.dumps({"spec": {"maxUnavailable": None, "minAvailable": 1}})
    endpoint.kubectl("patch", "pdb", "drift", "--type=merge", INTRUDER, "-p", other)
    heals(endpoint, "poddisruptionbudget", before, figures, "minAvailable in the place of maxUnavailable")
    told = "PodDisruptionBudget drift: spec.minAvailable added by intruder; it is as it should be again"
    cluster.wait_until(lambda: told in notes(endpoint), 10, lambda: f"an Event; there are {notes(endpoint)}")


def test_a_child_that_was_edited_too_often_is_told_of_when_it_was_deleted_too(
    endpoint: Namespace, figures: list[str]
) -> None:
    endpoint.apply(cases.document("worn", pod={"nodeSelector": {"no": "such"}}))
    cluster.wait_until(lambda: bool(facts(endpoint, "service", "worn")), 30, lambda: "the Service")
    before = facts(endpoint, "service", "worn")
    for number in range(patience.AT_ONCE):
        endpoint.kubectl("annotate", "service", "worn", f"{names.HASH_ANNOTATION}={number}", "--overwrite", INTRUDER)
        heals(endpoint, "service", before, figures, "hash edited once more", "worn")
    endpoint.kubectl("delete", "service", "worn", "--wait=false")
    heals(endpoint, "service", before, figures, "deleted after that", "worn")
    told = "Service worn: deleted; it is as it should be again"
    cluster.wait_until(lambda: told in notes(endpoint), 10, lambda: f"an Event; there are {notes(endpoint)}")
    endpoint.kubectl("delete", "mcep", "worn")


def test_all_children_deleted_together_come_back(endpoint: Namespace, figures: list[str]) -> None:
    before = {kind: facts(endpoint, kind) for kind in KINDS}
    endpoint.kubectl("delete", ",".join(KINDS), "drift", "--wait=false")
    for kind in KINDS:
        heals(endpoint, kind, before[kind], figures, "deleted with all others")


def test_what_tools_add_to_metadata_stays(endpoint: Namespace) -> None:
    endpoint.kubectl("annotate", "service", "drift", "team=a", INTRUDER)
    endpoint.kubectl("label", "deployment", "drift", "team=a", INTRUDER)
    endpoint.kubectl("rollout", "restart", "deployment", "drift")
    time.sleep(3)
    endpoint.kubectl("delete", "poddisruptionbudget", "drift")
    cluster.wait_until(lambda: bool(facts(endpoint, "poddisruptionbudget")), HEALED_SECONDS, lambda: "another pass")
    deployment = endpoint.get("deployment", "drift")
    assert "kubectl.kubernetes.io/restartedAt" in deployment["spec"]["template"]["metadata"]["annotations"]
    assert deployment["metadata"]["labels"]["team"] == "a"
    assert endpoint.get("service", "drift")["metadata"]["annotations"]["team"] == "a"


@contextmanager
def proxy() -> Iterator[int]:
    """A loopback port behind which the API server is: kubectl itself is too slow for a fight."""
    kubectl = str(cluster.KUBECONFIG.parent / "bin" / "kubectl")
    command = [kubectl, "--kubeconfig", str(cluster.KUBECONFIG), "proxy", "--port=0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout
        try:
            yield int(child.stdout.readline().rpartition(":")[2])
        finally:
            child.kill()


def test_a_writer_that_never_stops_gets_few_answers_and_is_named(endpoint: Namespace, figures: list[str]) -> None:
    """On an endpoint of its own, with its whole allowance."""
    seconds, pause = 12.0, 0.05
    endpoint.apply(cases.document("fought", replicas=2, pod={"nodeSelector": {"no": "such"}}))
    cluster.wait_until(lambda: bool(facts(endpoint, "poddisruptionbudget", "fought")), 30, lambda: "all children")

    def fight() -> tuple[int, float]:
        path = f"/apis/apps/v1/namespaces/{endpoint.name}/deployments/fought?fieldManager=fighter"
        writes, began = 0, time.monotonic()
        with proxy() as port:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            while time.monotonic() - began < seconds:
                body = json.dumps({"spec": {"replicas": 5 + writes % 2}})
                connection.request("PATCH", path, body, {"Content-Type": "application/merge-patch+json"})
                reply = connection.getresponse()
                assert reply.status == 200, reply.read()
                reply.read()
                writes += 1
                time.sleep(pause)
            connection.close()
        return writes, time.monotonic() - began

    def generation() -> int:
        return int(endpoint.get("deployment", "fought")["metadata"]["generation"])

    before, first = facts(endpoint, "deployment", "fought"), generation()
    theirs, lasted = fight()
    ours = generation() - first - theirs
    figures.append(f"{theirs} writes of a fighter in {lasted:.0f} s were answered by {ours} of ours")
    assert 1 <= ours <= 3 + lasted / 5 + 1
    heals(endpoint, "deployment", before, figures, "after a fight", "fought")
    told = [note for note in notes(endpoint, "DriftConflict") if note.startswith("Deployment fought: ")]
    assert told == ["Deployment fought: spec.replicas edited by fighter, again and again; it is set right once in 5 s"]
