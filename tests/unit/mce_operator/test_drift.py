"""What others did: told from what a new spec asks for, named by object, field and manager, and taken out again."""

import dataclasses
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mce_api import names
from mce_operator import observed as facts
from mce_operator import plan as plans
from mce_operator.additions import additions, removal
from mce_operator.cache import others_fields, owned_fields
from mce_operator.drift import Drift, What, drifts, told
from mce_operator.key import Key
from mce_operator.observed import Child, Observed
from mce_operator.patience import AT_ONCE, PAUSE_SECONDS, Patience
from unit.mce_operator import objects
from unit.mce_operator.fake_api import fields

BUILT = {built["kind"]: built for built in objects.wanted(objects.endpoint(replicas=2))}
KINDS = frozenset(BUILT)
A = 'k:{"name":"a"}'
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def nested(*path: str) -> dict[str, Any]:
    """A fieldsV1 tree of one field."""
    return {path[0]: nested(*path[1:])} if path else {}


def in_pod(*path: str) -> dict[str, Any]:
    return nested("f:spec", "f:template", "f:spec", *path)


def by(manager: str, tree: dict[str, Any]) -> str:
    return json.dumps([[manager, tree]])


@pytest.mark.parametrize(
    ("tree", "says"),
    [
        pytest.param(in_pod("f:containers", 'k:{"name":"evil"}', "f:image"), "containers[name=evil]", id="container"),
        pytest.param(in_pod("f:initContainers", 'k:{"name":"evil"}'), "initContainers[name=evil]", id="init"),
        pytest.param(in_pod("f:volumes", 'k:{"name":"v"}', "f:emptyDir"), "volumes[name=v]", id="volume"),
        pytest.param(in_pod("f:containers", A, "f:env", 'k:{"name":"E"}'), "containers[name=a].env[name=E]", id="env"),
        pytest.param(in_pod("f:containers", A, "f:ports", 'k:{"containerPort":9}'), "containers[name=a].ports", id="p"),
        pytest.param(in_pod("f:hostNetwork"), "hostNetwork", id="host-network"),
        pytest.param(in_pod("f:securityContext", "f:runAsUser"), "securityContext.runAsUser", id="inside-of-ours"),
        pytest.param(in_pod("f:volumes", 'k:{"name":"mce-tmp-0"}', "f:emptyDir", "f:sizeLimit"),
            "volumes[name=mce-tmp-0].emptyDir.sizeLimit", id="below-an-empty-value-of-ours"),
    ],
)  # fmt: skip
def test_what_is_added_beside_our_fields_is_found(tree: dict[str, Any], says: str) -> None:
    found = additions(BUILT["Deployment"], by("kubectl", tree))
    assert told(found) == f"spec.template.spec.{says}"
    assert set(found.values()) == {"kubectl"}


@pytest.mark.parametrize(
    "tree",
    [
        pytest.param(nested("f:spec", "f:replicas"), id="a field of ours: an edit, not an addition"),
        pytest.param(in_pod("f:containers", A, "f:image"), id="a field of our container"),
        pytest.param(in_pod("f:topologySpreadConstraints"), id="a list of ours as a whole"),
        pytest.param(nested("f:metadata", "f:labels", "f:team"), id="metadata is free"),
        pytest.param(nested("f:spec", "f:template", "f:metadata", "f:annotations", "f:x"), id="rollout restart"),
    ],
)
def test_what_is_no_addition_is_left_alone(tree: dict[str, Any]) -> None:
    assert additions(BUILT["Deployment"], by("kubectl", tree)) == {}


def test_a_webhook_that_changes_our_own_requests_is_not_fought() -> None:
    tree = in_pod("f:containers", 'k:{"name":"sidecar"}')
    entries = [{"manager": names.FIELD_MANAGER, "operation": "Update", "fieldsV1": tree}]
    raw = {"metadata": {"managedFields": entries}}
    assert additions(BUILT["Deployment"], others_fields(raw)) == {}
    assert json.loads(owned_fields(raw)) == [tree]


def test_a_controllers_status_is_nobodys_addition() -> None:
    tree = {"f:status": {}, **nested("f:metadata", "f:annotations", "f:deployment.kubernetes.io/revision")}
    raw = {"metadata": {"managedFields": [{"manager": "kcm", "subresource": "status", "fieldsV1": tree}]}}
    assert others_fields(raw) == "[]"


def test_the_removal_names_items_by_key_and_the_object_by_uid() -> None:
    paths = {
        ("f:spec", "f:ports", 'k:{"port":81,"protocol":"TCP"}'): "x",
        ("f:spec", "f:template", "f:spec", "f:containers", A, "f:env", 'k:{"name":"E"}'): "x",
        ("f:spec", "f:template", "f:spec", "f:containers", A, "f:command"): "y",
        ("f:spec", "f:paused"): "y",
    }
    assert removal(paths, "u", {}) == {
        "metadata": {"uid": "u"},
        "spec": {
            "ports": [{"port": 81, "protocol": "TCP", "$patch": "delete"}],
            "template": {
                "spec": {"containers": [{"name": "a", "env": [{"name": "E", "$patch": "delete"}], "command": None}]}
            },
            "paused": None,
        },
    }


def test_the_removal_of_a_port_puts_ours_of_the_same_number_in_again() -> None:
    udp = ("f:spec", "f:ports", 'k:{"port":80,"protocol":"UDP"}')
    found = removal({udp: "x"}, "u", BUILT["Service"])["spec"]["ports"]
    assert found == [{"port": 80, "protocol": "UDP", "$patch": "delete"}, *BUILT["Service"]["spec"]["ports"]]
    inner = ("f:spec", "f:template", "f:spec", "f:initContainers", 'k:{"name":"mce-router"}', "f:ports")
    added = (f'k:{{"containerPort":{port},"protocol":"UDP"}}' for port in (19080, 9))
    paths: dict[tuple[str, ...], str] = {(*inner, one): "x" for one in added}
    (router,) = removal(paths, "u", BUILT["Deployment"])["spec"]["template"]["spec"]["initContainers"]
    kept = [one["containerPort"] for one in router["ports"] if "$patch" not in one]
    assert (router["name"], kept, len(router["ports"])) == ("mce-router", [19080], 3)


def live(kind: str, **changes: Any) -> Child:
    built = BUILT[kind]
    raw = {
        **built,
        "metadata": {
            **built["metadata"],
            "uid": f"uid-{kind}",
            "managedFields": [{"manager": names.FIELD_MANAGER, "fieldsV1": fields(built)}],
        },
    }
    return dataclasses.replace(facts.child(kind, raw, owned_fields(raw), "[]"), **changes)


def without(kind: str, *path: str) -> str:
    tree = fields(BUILT[kind])
    node = tree
    for part in path[:-1]:
        node = node[part]
    del node[path[-1]]
    return json.dumps([tree])


def observed(**changes: dict[str, Any] | None) -> Observed:
    children = {kind: live(kind, **(changes.get(kind) or {})) for kind in KINDS if changes.get(kind, {}) is not None}
    return Observed(key=Key("team-a", "mnist"), document=objects.document(replicas=2), children=children)


def found(seen: Observed, known: frozenset[str] = KINDS) -> tuple[Drift, ...]:
    return drifts(plans.plan(tuple(BUILT.values()), seen), seen, known)


@pytest.mark.parametrize(
    ("seen", "drift"),
    [
        pytest.param(observed(), None, id="untouched"),
        pytest.param(observed(Service={"hash": "older"}), None, id="a new spec"),
        pytest.param(observed(Service={"owned": "[]", "hash": ""}), None, id="adopted"),
        pytest.param(
            observed(Service={"owned": without("Service", "f:spec", "f:selector"),
                "others": by("kubectl-edit", nested("f:spec", "f:selector"))}),
            Drift(kind="Service", name="mnist", what=What.EDITED, fields="spec.selector", manager="kubectl-edit"),
            id="taken by somebody",
        ),
        pytest.param(
            observed(Service={"owned": without("Service", "f:metadata", "f:ownerReferences")}),
            Drift(kind="Service", name="mnist", what=What.EDITED, fields="metadata.ownerReferences"),
            id="removed by somebody, which leaves no trace",
        ),
        pytest.param(
            observed(Service={"hash": "x", "owned": without("Service", "f:metadata", "f:annotations")}),
            Drift(kind="Service", name="mnist", what=What.EDITED, fields="metadata.annotations"),
            id="our hash overwritten",
        ),
        pytest.param(
            observed(Deployment={"others": by("kubectl", in_pod("f:containers", 'k:{"name":"x"}'))}),
            Drift(kind="Deployment", name="mnist", what=What.ADDED, manager="kubectl",
                fields="spec.template.spec.containers[name=x]"),
            id="added",
        ),
        pytest.param(observed(Service=None), Drift(kind="Service", name="mnist", what=What.DELETED), id="deleted"),
    ],
)  # fmt: skip
def test_drift_is_told_from_a_new_spec(seen: Observed, drift: Drift | None) -> None:
    assert found(seen) == ((drift,) if drift else ())


def test_a_child_that_was_never_there_is_not_deleted() -> None:
    assert found(observed(Service=None), frozenset()) == ()


def test_a_drift_reads_as_a_sentence() -> None:
    drift = Drift(kind="Service", name="mnist", what=What.EDITED, fields="spec.selector", manager="kubectl-edit")
    assert str(drift) == "Service mnist: spec.selector edited by kubectl-edit"
    assert str(Drift(kind="Service", name="mnist", what=What.DELETED)) == "Service mnist: deleted"


def test_names_that_an_intruder_chose_are_cut_short_and_few() -> None:
    long = [("f:spec", "f:x", f'k:{{"name":"{number}{"n" * 5000}"}}') for number in range(9)]
    text = told(long)
    assert len(text) < 400
    assert text.endswith(" and 6 more")


def test_an_object_is_set_right_a_few_times_at_once_and_then_once_per_pause() -> None:
    patience, admitted = Patience(), 0
    for step in range(1000):  # 20 times a second
        now = NOW + timedelta(seconds=step / 20)
        refused = patience.admit(["Service"], now)
        if not refused.kinds:
            patience = patience.spent(["Service"], now)
            admitted += 1
        assert 0 <= refused.seconds <= PAUSE_SECONDS
    assert admitted == AT_ONCE + 50 / PAUSE_SECONDS - 1
    assert patience.admit(["Deployment"], NOW).kinds == frozenset()  # each object has its own


def test_a_clock_that_is_set_back_leaves_nobody_without_patience() -> None:
    patience = Patience()
    for _ in range(AT_ONCE):
        patience = patience.spent(["Service"], NOW)
    assert patience.admit(["Service"], NOW).kinds == {"Service"}
    assert patience.admit(["Service"], NOW - timedelta(hours=1)).kinds == frozenset()
