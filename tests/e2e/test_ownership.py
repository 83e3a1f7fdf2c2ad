"""Who owns the children: endpoints that are deleted, made again, and deleted while nobody looks; namespaces that go."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest

from support import cases, cluster
from support.cluster import CommandError, Namespace

pytestmark = pytest.mark.e2e

CHILDREN = ("serviceaccount", "networkpolicy", "service", "deployment", "poddisruptionbudget")
ALL = "deployments,replicasets,pods,services,serviceaccounts,networkpolicies,poddisruptionbudgets"
NOWHERE = {"nodeSelector": {"no": "such"}}
"""No node: these tests are about objects."""
Away = Callable[[], AbstractContextManager[None]]


def document(name: str, **spec: Any) -> dict[str, Any]:
    return cases.document(name, **{"replicas": 2, "pod": NOWHERE, **spec})


def uid(namespace: Namespace, kind: str, name: str) -> str:
    try:
        return str(namespace.get(kind, name)["metadata"]["uid"])
    except CommandError:
        return ""


def owners(namespace: Namespace, name: str) -> set[str]:
    """Uids of the controllers of all five children; one of them empty if a child is not there or on its way out."""
    found = set()
    for kind in CHILDREN:
        try:
            metadata = namespace.get(kind, name)["metadata"]
        except CommandError:
            return {""}
        if "deletionTimestamp" in metadata:
            return {""}
        found.add(next((ref["uid"] for ref in metadata.get("ownerReferences", []) if ref.get("controller")), ""))
    return found


def wait_owned(namespace: Namespace, name: str, seconds: float = 30) -> None:
    def owned() -> bool:
        return owners(namespace, name) == {uid(namespace, "mcep", name)}

    cluster.wait_until(owned, seconds, lambda: f"all children of {name} are its own: {owners(namespace, name)}")


def wait_gone(namespace: Namespace, name: str, seconds: float = 60) -> None:
    def left() -> str:
        return namespace.kubectl("get", ALL, "-l", f"serving.mce.dev/endpoint={name}", "-o", "name").strip()

    cluster.wait_until(lambda: left() == "", seconds, lambda: f"nothing left of {name}: {left()}")


def test_a_child_that_an_endpoint_of_another_uid_controls_is_replaced_and_not_taken_over(namespace: Namespace) -> None:
    namespace.apply(document("heir"), document("other", suspend=True))
    wait_owned(namespace, "heir")
    was = uid(namespace, "service", "heir")
    reference = {**namespace.get("service", "heir")["metadata"]["ownerReferences"][0], "name": "other"}
    reference["uid"] = uid(namespace, "mcep", "other")
    patch = [{"op": "replace", "path": "/metadata/ownerReferences", "value": [reference]}]
    namespace.kubectl("patch", "service", "heir", "--type=json", "-p", json.dumps(patch))
    cluster.wait_until(lambda: uid(namespace, "service", "heir") not in {"", was}, 15, lambda: "a new Service")
    wait_owned(namespace, "heir")
    namespace.kubectl("delete", "mcep", "heir", "other")


def test_children_left_behind_on_purpose_are_adopted_by_an_endpoint_of_the_same_name(
    namespace: Namespace, operator_away: Away
) -> None:
    namespace.apply(document("left"))
    wait_owned(namespace, "left")
    was = uid(namespace, "deployment", "left")
    with operator_away():
        namespace.kubectl("delete", "mcep", "left", "--cascade=orphan")
        namespace.apply(document("left"))
    wait_owned(namespace, "left")
    assert uid(namespace, "deployment", "left") == was
    namespace.kubectl("delete", "mcep", "left")


def test_an_endpoint_deleted_and_made_again_at_once_has_children_of_its_own(namespace: Namespace) -> None:
    namespace.apply(document("again"))
    wait_owned(namespace, "again")
    for _ in range(5):
        namespace.kubectl("delete", "mcep", "again", "--wait=false")
        namespace.apply(document("again"))
    wait_owned(namespace, "again")
    namespace.kubectl("delete", "mcep", "again")
    wait_gone(namespace, "again")


def test_an_endpoint_made_again_while_the_operator_is_away_has_children_of_its_own(
    namespace: Namespace, operator_away: Away
) -> None:
    namespace.apply(document("return"))
    wait_owned(namespace, "return")
    with operator_away():
        namespace.kubectl("delete", "mcep", "return")
        namespace.apply(document("return"))
    wait_owned(namespace, "return")
    namespace.kubectl("delete", "mcep", "return")


def test_endpoints_in_any_state_are_deleted_while_the_operator_is_away(
    namespace: Namespace, operator_away: Away
) -> None:
    states = {
        "no-node": document("no-node"),
        "no-image": document("no-image", pod={}, replicas=1, containers=[cases.container("a", image="localhost/no:1")]),
        "asleep": document("asleep", suspend=True),
        "refused": document("refused", pod={"serviceAccountName": "nobody"}),
        "served": document("served", pod={}, replicas=1, containers=[
            cases.container("a", env=[{"name": "MODEL_NAME", "value": "a"}])]),
    }  # fmt: skip
    namespace.apply(*states.values())
    namespace.wait_in_service("served", 120)
    namespace.wait_status("asleep", lambda status: status.get("state") == "OutOfService", "asleep")
    namespace.wait_status("no-image", lambda status: status.get("reason") == "ImagePull", "no-image")
    with operator_away():
        for name in states:
            assert "finalizers" not in namespace.endpoint(name)["metadata"]
        namespace.apply(document("unseen"))
        namespace.kubectl("delete", "mcep", *states, "unseen", "--timeout=30s")
        for name in (*states, "unseen"):
            wait_gone(namespace, name)


def test_a_namespace_goes_with_its_endpoints_and_the_operator_goes_on(namespace: Namespace) -> None:
    namespace.apply(document("first"))
    wait_owned(namespace, "first")
    cluster.run("kubectl", "delete", "namespace", namespace.name, "--timeout=90s")
    cluster.run("kubectl", "create", "namespace", namespace.name)
    cluster.run("kubectl", "label", "namespace", namespace.name, "pod-security.kubernetes.io/enforce=restricted")
    namespace.apply(document("second"))
    wait_owned(namespace, "second")
