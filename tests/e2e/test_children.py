"""The API server as the judge of what we build: every field stays ours, and every pod passes Pod Security."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from mce_api import validation
from mce_operator import ownership
from mce_operator.cache import owned_fields
from mce_operator.resources import pod
from support import cases, cluster
from support.cluster import CommandError, Namespace
from unit.mce_operator import golden, objects

pytestmark = pytest.mark.e2e

DRY = ("--dry-run=server", "-o", "json", "--show-managed-fields", "-f", "-")


@pytest.mark.parametrize("case", golden.cases())
def test_every_field_that_is_applied_is_ours_afterwards(namespace: Namespace, case: str) -> None:
    for built in yaml.safe_load_all(golden.rendered(case)):
        built["metadata"]["namespace"] = namespace.name
        apply = ("apply", "--server-side", "--field-manager=mce-operator", "--force-conflicts")
        live = json.loads(namespace.kubectl(*apply, *DRY, stdin=json.dumps(built)))
        assert list(ownership.lost(owned_fields(live), built)) == [], built["kind"]


def pods(*documents: dict[str, Any]) -> str:
    made = []
    for number, document in enumerate(documents):
        placed = {**document, "metadata": {**document["metadata"], "namespace": "team-a"}}  # the cases are everybody's
        template = pod.template(validation.endpoint(placed), objects.ROUTER)
        template["spec"].pop("priorityClassName", None)  # of a class that this cluster does not have
        template["spec"].pop("serviceAccountName")  # likewise
        template["metadata"]["name"] = f"pod-{number}"
        made.append({"apiVersion": "v1", "kind": "Pod", **template})
    return yaml.safe_dump_all(made)


def test_every_pod_of_a_valid_endpoint_passes_the_restricted_profile(namespace: Namespace) -> None:
    documents = [case.values[0] for case in cases.GOOD]
    restricted = [one for one in documents if one["spec"].get("pod", {}).get("securityProfile") != "baseline"]  # type: ignore[index]
    namespace.kubectl("create", "--dry-run=server", "-f", "-", stdin=pods(*restricted))  # type: ignore[arg-type]


@pytest.fixture
def baseline(namespace: Namespace) -> Iterator[Namespace]:
    other = Namespace(f"{namespace.name}-baseline")
    cluster.run("kubectl", "create", "namespace", other.name)
    cluster.run("kubectl", "label", "namespace", other.name, "pod-security.kubernetes.io/enforce=baseline")
    cluster.wait_until(lambda: "default" in other.kubectl("get", "sa"), 30, lambda: "a ServiceAccount")
    yield other
    cluster.run("kubectl", "delete", "namespace", other.name, "--wait=false")


def test_the_baseline_profile_is_what_it_says(namespace: Namespace, baseline: Namespace) -> None:
    document = cases.document(pod={"securityProfile": "baseline"})
    baseline.kubectl("create", "--dry-run=server", "-f", "-", stdin=pods(document))
    with pytest.raises(CommandError, match="restricted"):
        namespace.kubectl("create", "--dry-run=server", "-f", "-", stdin=pods(document))


def test_an_image_that_ignores_the_assigned_port_works_with_an_explicit_one(namespace: Namespace) -> None:
    env = [{"name": "PORT", "value": "8080"}, {"name": "MODEL_NAME", "value": "own"}, {"name": "HOST", "value": ""}]
    own = cases.container("own", env=env, port=8080, livenessProbe={"httpGet": {}}, writablePaths=["/opt/ml/output"])
    other = cases.container("other", env=[{"name": "MODEL_NAME", "value": "other"}])
    namespace.apply(cases.document("port", containers=[own, other]))
    namespace.wait_in_service("port", 180)
    (found,) = namespace.pods("port")
    name = found["metadata"]["name"]
    assert found["metadata"]["labels"]["serving.mce.dev/security-profile"] == "restricted"
    assert "restricted" in namespace.kubectl("get", "mcep", "port", "-o", "wide")
    script = "echo $SAGEMAKER_SAFE_PORT_RANGE; touch /opt/ml/output/x"
    said = namespace.kubectl("exec", name, "-c", "own", "--", "sh", "-c", script)
    assert said.strip() == "20001-20099"
    with pytest.raises(CommandError, match=r"Permission denied|cannot touch"):
        namespace.kubectl("exec", name, "-c", "other", "--", "touch", "/opt/ml/output/x")
    namespace.kubectl("delete", "mcep", "port")
