import json
from typing import Any

import pytest

from mce_operator import ownership

WANTED = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "a", "namespace": "n", "labels": {"x": "1"}, "ownerReferences": [{"uid": "u", "name": "o"}]},
    "spec": {"ports": [{"port": 80, "targetPort": 1}], "selector": {"x": "1"}, "finalizers": ["f"], "empty": {}},
}


def tree() -> dict[str, Any]:
    return {
        "f:metadata": {"f:labels": {"f:x": {}}, "f:ownerReferences": {'k:{"uid":"u"}': {}}},
        "f:spec": {
            "f:ports": {'k:{"port":80,"protocol":"TCP"}': {".": {}, "f:port": {}, "f:targetPort": {}}},
            "f:selector": {},
            "f:finalizers": {'v:"f"': {}},
            "f:empty": {},
        },
    }


def lose(owned: dict[str, Any], first: str, *rest: str) -> None:
    """Takes a field away as the server does: what is empty then goes too."""
    if rest:
        lose(owned[first], *rest)
    if not rest or not owned[first]:
        del owned[first]


def test_an_untouched_object_is_covered() -> None:
    assert ownership.covers(json.dumps([tree()]), WANTED)


@pytest.mark.parametrize(
    "path",
    [
        ("f:metadata", "f:labels", "f:x"),
        ("f:metadata", "f:ownerReferences", 'k:{"uid":"u"}'),
        ("f:spec", "f:ports", 'k:{"port":80,"protocol":"TCP"}', "f:targetPort"),
        ("f:spec", "f:ports", 'k:{"port":80,"protocol":"TCP"}'),
        ("f:spec", "f:selector"),
        ("f:spec", "f:finalizers"),
        ("f:spec",),
    ],
)
def test_a_field_that_went_to_somebody_else_is_missed(path: tuple[str, ...]) -> None:
    owned = tree()
    lose(owned, *path)
    assert not ownership.covers(json.dumps([owned]), WANTED)


def test_an_item_that_has_lost_all_its_fields_is_no_atomic_one() -> None:
    owned = tree()
    owned["f:spec"]["f:ports"]['k:{"port":80,"protocol":"TCP"}'] = {".": {}}
    assert not ownership.covers(json.dumps([owned]), WANTED)


def test_what_a_webhook_changed_in_our_own_request_is_still_ours() -> None:
    owned = tree()
    del owned["f:spec"]["f:ports"]['k:{"port":80,"protocol":"TCP"}']["f:targetPort"]
    second: dict[str, Any] = {"f:spec": {"f:ports": {'k:{"port":80,"protocol":"TCP"}': {"f:targetPort": {}}}}}
    assert ownership.covers(json.dumps([owned, second]), WANTED)


def test_nothing_is_covered_by_nothing() -> None:
    assert not ownership.covers("[]", WANTED)
