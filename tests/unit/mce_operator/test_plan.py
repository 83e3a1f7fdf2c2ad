import dataclasses
import json
from typing import Any

import pytest

from mce_api import names
from mce_operator import plan as plans
from mce_operator.key import Key
from mce_operator.observed import Child, Observed
from mce_operator.plan import Plan
from unit.mce_operator import objects
from unit.mce_operator.fake_api import fields

ENDPOINT = objects.endpoint(replicas=2)
WANTED = objects.wanted(ENDPOINT)
BUILT = {built["kind"]: built for built in WANTED}
OURS = f"{names.KIND}.{names.GROUP}"


def live(kind: str, **changes: Any) -> Child:
    child = Child(
        kind=kind,
        name="mnist",
        uid=f"uid-of-{kind}",
        is_managed=True,
        controller_kind=OURS,
        controller_uid=objects.UID,
        annotations={},
        hash=BUILT[kind]["metadata"]["annotations"][names.HASH_ANNOTATION],
        owned=json.dumps([fields(BUILT[kind])]),
        is_deleting=False,
    )
    return dataclasses.replace(child, **changes)


def without(kind: str, *path: str) -> str:
    tree = fields(BUILT[kind])
    node = tree
    for part in path[:-1]:
        node = node[f"f:{part}"]
    del node[f"f:{path[-1]}"]
    return json.dumps([tree])


def planned(*children: Child) -> Plan:
    present = {child.kind: child for child in children}
    observed = Observed(key=Key("team-a", "mnist"), document=objects.document(), children=present)
    return plans.plan(WANTED, observed)


ALL = ("ServiceAccount", "NetworkPolicy", "Service", "Deployment", "PodDisruptionBudget")


@pytest.mark.parametrize(
    ("changed", "applies"),
    [
        pytest.param({}, (), id="nothing differs, nothing is written"),
        pytest.param(dict.fromkeys(ALL), ALL, id="all absent, in order"),
        pytest.param({"Service": None}, ("Service",), id="one deleted"),
        pytest.param({"Deployment": {"hash": "old"}}, ("Deployment",), id="another spec than last time"),
        pytest.param(
            {"Deployment": {"owned": without("Deployment", "spec", "replicas")}}, ("Deployment",), id="spec edited"
        ),
        pytest.param(
            {"Service": {"owned": without("Service", "metadata", "labels")}}, ("Service",), id="labels edited"
        ),
        pytest.param({"Service": {"is_managed": False}}, (), id="ours by its controller though its label is gone"),
        pytest.param({"Service": {"owned": "[]"}}, ("Service",), id="ours but never applied by us"),
        pytest.param(
            {"Service": {"controller_kind": "", "controller_uid": "", "owned": "[]"}},
            ("Service",),
            id="with our label and without a controller: adopted",
        ),
        pytest.param({"Deployment": {"hash": "old", "is_deleting": True}}, (), id="on its way out: waited for"),
    ],
)
def test_only_what_differs_is_applied(changed: dict[str, dict[str, Any] | None], applies: tuple[str, ...]) -> None:
    children = [live(kind, **(changed.get(kind) or {})) for kind in ALL if changed.get(kind, {}) is not None]
    found = planned(*children)
    assert tuple(built["kind"] for built in found.applies) == applies
    assert (found.orphans, found.superfluous, found.taken) == ((), (), ())


def test_a_child_of_an_earlier_owner_is_deleted_and_not_applied_over() -> None:
    orphan = live("Deployment", controller_uid="dead")
    found = planned(live("ServiceAccount"), orphan)
    assert found.orphans == (orphan,)
    assert [built["kind"] for built in found.applies] == ["NetworkPolicy", "Service", "PodDisruptionBudget"]
    assert not found.is_applied


@pytest.mark.parametrize(
    "stranger",
    [
        pytest.param({"is_managed": False, "controller_kind": "", "controller_uid": ""}, id="nobody's"),
        pytest.param({"is_managed": True, "controller_kind": "Rollout.argoproj.io"}, id="another controller's"),
        pytest.param(
            {"is_managed": False, "controller_kind": "Rollout.argoproj.io"}, id="another controller's, unlabelled"
        ),
    ],
)
def test_nothing_is_written_while_a_name_is_taken(stranger: dict[str, Any]) -> None:
    taken = live("Service", **stranger)
    found = planned(taken)
    assert (found.taken, found.applies, found.orphans, found.superfluous) == ((taken,), (), (), ())


def test_the_deployment_counts_as_applied_only_when_it_is_the_wanted_one() -> None:
    assert planned(*(live(kind) for kind in ALL)).is_applied
    assert not planned(live("ServiceAccount"), live("Service")).is_applied
    assert not planned(live("Deployment", hash="old")).is_applied


def test_a_child_that_is_no_longer_wanted_is_deleted_if_it_is_ours_and_else_left_alone() -> None:
    ours = dataclasses.replace(live("Service"), kind="HorizontalPodAutoscaler")
    theirs = dataclasses.replace(ours, kind="Unheard", is_managed=False, controller_kind="", controller_uid="")
    found = planned(*(live(kind) for kind in ALL), ours, theirs)
    assert (found.superfluous, found.applies, found.taken) == ((ours,), (), ())
