"""The API server as the judge of our schema: the same cases that the models are tested with."""

import json
from typing import Any

import pytest

from support import cases, cluster
from support.cluster import CommandError, Namespace

pytestmark = pytest.mark.e2e


def apply_dry(namespace: Namespace, document: dict[str, Any]) -> str:
    return namespace.kubectl(
        "apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-", stdin=json.dumps(document)
    )


@pytest.mark.parametrize("document", cases.GOOD)
def test_the_api_server_takes_what_the_models_take(namespace: Namespace, document: dict[str, Any]) -> None:
    apply_dry(namespace, document)


@pytest.mark.parametrize(("document", "complaint"), cases.BAD)
def test_the_api_server_refuses_what_the_models_refuse(
    namespace: Namespace, document: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(CommandError, match=complaint):
        apply_dry(namespace, document)


def test_sixteen_containers_are_rejected_with_a_message_that_says_15(namespace: Namespace) -> None:
    document = cases.document(containers=[cases.container(f"c{i}") for i in range(16)])
    with pytest.raises(CommandError, match=r"spec\.containers: Too many: 16: must have at most 15 items"):
        namespace.apply(document)


def test_a_fresh_resource_is_not_taken_for_ready(namespace: Namespace) -> None:
    document = cases.document("fresh", suspend=True)
    created = json.loads(namespace.kubectl("create", "-f", "-", "-o", "json", stdin=json.dumps(document)))
    assert created["status"] == {"observedGeneration": -1}
    namespace.kubectl("delete", "mcep", "fresh")


def test_the_installed_definition_is_the_generated_one(installed: Namespace) -> None:
    cluster.run("kubectl", "diff", "-f", str(cluster.ROOT / "crds"))
