from typing import Any

import pytest

from mce_api import names
from mce_operator.cache import Cache, is_unanswered, trimmed
from mce_operator.key import Key
from unit.mce_operator import objects

MNIST = Key("team-a", "mnist")


def at(version: int, raw: dict[str, Any] | None = None) -> dict[str, Any]:
    made = raw or objects.document()
    return {**made, "metadata": {**made["metadata"], "resourceVersion": str(version)}}


def version(cache: Cache) -> str | None:
    found = cache.get(names.KIND, MNIST)
    return str(found["metadata"]["resourceVersion"]) if found else None


def test_an_older_event_never_undoes_a_newer_answer() -> None:
    cache = Cache()
    assert cache.put(names.KIND, at(9)) == MNIST
    assert cache.put(names.KIND, at(8)) is None
    assert version(cache) == "9"


def test_what_is_known_already_is_no_news() -> None:
    cache = Cache()
    assert cache.put(names.KIND, at(9)) == MNIST
    assert cache.put(names.KIND, at(9)) is None


def test_versions_that_are_no_numbers_are_always_news() -> None:
    cache = Cache()
    for text in ("a", "b"):
        raw = at(0)
        raw["metadata"]["resourceVersion"] = text
        assert cache.put(names.KIND, raw) == MNIST


@pytest.mark.parametrize(
    ("kind", "seen", "expected"), [(names.KIND, 1, False), (names.KIND, -1, True), ("Pod", -1, False)]
)
def test_an_endpoint_is_unanswered_until_its_generation_is_in_its_status(kind: str, seen: int, expected: bool) -> None:
    assert is_unanswered(kind, objects.document(status={"observedGeneration": seen})) is expected


def test_versions_are_compared_as_numbers() -> None:
    cache = Cache()
    cache.put(names.KIND, at(9))
    cache.put(names.KIND, at(10))
    assert version(cache) == "10"


def test_a_late_deletion_does_not_take_the_successor() -> None:
    cache = Cache()
    cache.put(names.KIND, at(10))
    assert cache.remove(names.KIND, at(9)) == MNIST
    assert version(cache) == "10"
    cache.remove(names.KIND, at(11))
    assert version(cache) is None


def test_what_was_deleted_while_a_list_was_read_does_not_come_back_with_it() -> None:
    cache = Cache()
    cache.put(names.KIND, at(5))
    cache.remove(names.KIND, at(7))
    cache.replace(names.KIND, None, [trimmed(names.KIND, at(5))], "6")
    assert version(cache) is None


def test_an_answer_that_is_older_than_the_deletion_raises_nobody_from_the_dead() -> None:
    cache = Cache()
    cache.remove(names.KIND, at(7))
    assert cache.put(names.KIND, at(6)) is None
    assert version(cache) is None
    assert cache.put(names.KIND, at(8)) == MNIST


def test_of_deletions_only_so_many_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mce_operator.cache._REMEMBERED", 2)
    cache = Cache()
    for number in range(1, 5):
        raw = at(number)
        raw["metadata"]["name"] = f"mnist-{number}"
        cache.remove(names.KIND, raw)
    assert len(cache._gone) == 2


def test_a_list_drops_what_is_not_in_it_and_keeps_what_is_newer_than_it() -> None:
    cache = Cache()
    cache.put(names.KIND, at(5))
    cache.replace(names.KIND, None, [], "4")
    assert version(cache) == "5"
    cache.replace(names.KIND, "elsewhere", [], "6")
    assert version(cache) == "5"
    cache.replace(names.KIND, None, [], "6")
    assert version(cache) is None


def test_a_list_tells_for_which_endpoints_it_had_news() -> None:
    cache = Cache()
    old, new = (objects.pod("hash", objects.running("a"), name=name) for name in ("old", "new"))
    assert cache.replace("Pod", None, [old], "10") == {MNIST}
    assert cache.replace("Pod", None, [old], "11") == set()
    elsewhere = {**new["metadata"], "labels": names.endpoint_labels("other")}
    assert cache.replace("Pod", None, [{**new, "metadata": elsewhere}], "12") == {MNIST, Key("team-a", "other")}
    assert cache.replace("Pod", "team-b", [], "13") == set()
    taken = {**new, "metadata": {**new["metadata"], "resourceVersion": "14"}}
    assert cache.replace("Pod", None, [taken], "14") == {MNIST, Key("team-a", "other")}


def test_pods_are_found_by_their_endpoint_and_leave_nothing_behind() -> None:
    cache = Cache()
    pod = objects.pod("hash", objects.running("a"))
    assert cache.put("Pod", pod) == MNIST
    assert [one["metadata"]["name"] for one in cache.pods(MNIST)] == ["mnist-1"]
    cache.remove("Pod", pod)
    assert cache.pods(MNIST) == ()


def test_a_pod_whose_endpoint_label_was_changed_is_its_former_endpoints_no_more() -> None:
    cache = Cache()
    pod = objects.pod("hash", objects.running("a"))
    cache.put("Pod", pod)
    labels = {**pod["metadata"]["labels"], names.ENDPOINT_LABEL: "quarantine"}
    moved = {**pod, "metadata": {**pod["metadata"], "labels": labels, "resourceVersion": "999999"}}
    assert cache.put("Pod", moved) == Key("team-a", "quarantine")
    assert cache.pods(MNIST) == ()
    cache.remove("Pod", moved)
    assert cache.pods(Key("team-a", "quarantine")) == ()


@pytest.mark.parametrize("kind", [names.KIND, "Deployment", "Pod"])
def test_of_annotations_only_ours_are_kept(kind: str) -> None:
    raw = objects.document()
    raw["metadata"]["annotations"] = {names.HASH_ANNOTATION: "h", "theirs": "x" * 250_000}
    assert trimmed(kind, raw)["metadata"]["annotations"] == {names.HASH_ANNOTATION: "h"}


def test_managed_fields_and_pod_specs_are_not_kept() -> None:
    cache = Cache()
    pod = objects.pod("hash", objects.running("a"))
    pod["spec"] = {"containers": [{"name": "a", "resources": {}, "env": ["secret"]}], "volumes": ["many"]}
    pod["metadata"]["managedFields"] = [{"manager": "kubelet"}]
    cache.put("Pod", pod)
    kept = cache.pods(MNIST)[0]
    assert kept["spec"] == {"containers": [{"name": "a", "resources": {}}]}
    assert "managedFields" not in kept["metadata"]
