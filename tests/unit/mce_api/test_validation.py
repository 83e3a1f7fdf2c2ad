from typing import Any

import pytest

from mce_api import validation
from mce_api.validation import InvalidEndpoint
from support import cases


@pytest.mark.parametrize("document", cases.GOOD)
def test_a_good_endpoint_is_taken(document: dict[str, Any]) -> None:
    assert validation.endpoint(document).metadata.name == document["metadata"]["name"]


@pytest.mark.parametrize(("document", "complaint"), cases.BAD)
def test_a_bad_endpoint_is_refused_with_its_field_and_cause(document: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InvalidEndpoint, match=complaint):
        validation.endpoint(document)


def test_every_fault_is_named_at_once() -> None:
    bad = cases.document(containers=[cases.container("_", port=1), cases.container("b", startupTimeoutSeconds=1)])
    with pytest.raises(InvalidEndpoint) as caught:
        validation.endpoint(bad)
    assert [violation.path for violation in caught.value.violations] == [
        "spec.containers[0].name",
        "spec.containers[0].port",
        "spec.containers[1].startupTimeoutSeconds",
    ]


def test_a_typing_mistake_gets_a_suggestion() -> None:
    with pytest.raises(InvalidEndpoint, match=r"\[0\]\.resource: unknown field; did you mean resources\?"):
        validation.endpoint(cases.document(containers=[cases.container("a", resource={})]))


def test_too_many_containers_are_told_how_many_are_allowed() -> None:
    with pytest.raises(InvalidEndpoint, match="16 containers; an endpoint has at most 15"):
        validation.endpoint(cases.document(containers=[cases.container(f"c{i}") for i in range(16)]))


def test_another_kind_is_refused() -> None:
    with pytest.raises(InvalidEndpoint, match=r"got apps/v1/Deployment"):
        validation.endpoint({"apiVersion": "apps/v1", "kind": "Deployment"})


def test_serial_is_the_default_as_in_aws() -> None:
    document = cases.document()
    del document["spec"]["mode"]
    parsed = validation.endpoint(document)
    assert parsed.spec.mode == "Serial"
    assert parsed.spec.containers[0].args == ("serve",)


def test_a_stored_endpoint_may_have_fields_of_a_newer_definition_and_no_other_fault() -> None:
    newer = cases.document(containers=[cases.container("a", fieldOfTomorrow="/x")], anotherOne=True)
    assert validation.stored(newer) == validation.endpoint(cases.document(containers=[cases.container("a")]))
    with pytest.raises(validation.InvalidEndpoint, match="unknown field"):
        validation.endpoint(newer)
    with pytest.raises(validation.InvalidEndpoint, match="containers"):
        validation.stored(cases.document(containers=[], anotherOne=True))


def test_a_peer_of_a_newer_definition_is_not_taken_for_a_wider_one() -> None:
    newer = cases.document(access={"from": [{"podSelector": {}}, {"namespaceSelector": {}, "serviceAccount": "only"}]})
    with pytest.raises(validation.InvalidEndpoint) as caught:
        validation.stored(newer)
    assert str(caught.value).startswith("spec.access.from[1].serviceAccount: not known to this operator")


@pytest.mark.parametrize("levels", [40, 900, 100_000])
@pytest.mark.parametrize("shape", ["map", "list"])
def test_a_free_form_field_is_not_deeper_than_any_pod(levels: int, shape: str) -> None:
    """The API server stores 10,000 levels; to write or copy them would end a pass over the endpoint."""
    deep: Any = {}
    for _ in range(levels):
        deep = {"a": deep if shape == "map" else [deep]}
    with pytest.raises(InvalidEndpoint, match=r"^spec\.pod\.affinity: .*more than 32 levels"):
        validation.stored(cases.document(pod={"affinity": deep}))
    with pytest.raises(InvalidEndpoint, match="more than 32 levels"):
        validation.stored(cases.document(access={"from": [{"podSelector": deep}]}))


def test_what_json_cannot_say_is_refused() -> None:
    loop: dict[str, Any] = {}
    loop["a"] = loop
    for odd in (loop, {("a", "b"): 1}):
        with pytest.raises(InvalidEndpoint, match=r"^spec: is no JSON"):
            validation.endpoint(cases.document(pod={"affinity": odd}))
