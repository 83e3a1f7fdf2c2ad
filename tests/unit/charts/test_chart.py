"""What the chart renders for a whole cluster, and for a few namespaces without any right in the cluster."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from mce_api import names
from mce_kit.kube import RESOURCES
from mce_operator.cache import CHILD_KINDS, WATCHED_KINDS

CHART = Path(__file__).resolve().parents[3] / "charts" / "mce"
HELM = shutil.which("helm") or shutil.which("helm", path=str(Path("~/.cache/mce/cluster/bin").expanduser()))
pytestmark = pytest.mark.skipif(HELM is None, reason="helm is not on PATH")

Object = dict[str, Any]


def helm(*values: str) -> subprocess.CompletedProcess[str]:
    assert HELM
    settings = [part for value in values for part in ("--set", value)]
    command = (HELM, "template", "mce", str(CHART), "--namespace", "system", *settings)
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def rendered(*values: str) -> list[Object]:
    done = helm(*values)
    assert done.returncode == 0, done.stderr
    return [one for one in yaml.safe_load_all(done.stdout) if one]


def one(documents: list[Object], kind: str, name: str = "", namespace: str = "") -> Object:
    (found,) = [
        document
        for document in documents
        if document["kind"] == kind
        and name in ("", document["metadata"]["name"])
        and namespace in ("", document["metadata"].get("namespace"))
    ]
    return found


def verbs(rules: list[Object], group: str, resource: str) -> set[str]:
    return {
        verb for rule in rules if group in rule["apiGroups"] and resource in rule["resources"] for verb in rule["verbs"]
    }


def environment(documents: list[Object]) -> dict[str, str]:
    (container,) = one(documents, "Deployment")["spec"]["template"]["spec"]["containers"]
    return {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}


NAMESPACED = ("watchNamespaces={a,b}", "crds.enabled=false", "watchSelector=team=a")


def test_an_install_of_a_few_namespaces_asks_for_nothing_in_the_cluster() -> None:
    documents = rendered(*NAMESPACED)
    assert {document["kind"] for document in documents} == {
        "Deployment",
        "PodDisruptionBudget",
        "Role",
        "RoleBinding",
        "ServiceAccount",
    }
    assert {one["metadata"].get("namespace") for one in documents} == {"system", "a", "b"}
    for namespace in ("a", "b"):
        binding = one(documents, "RoleBinding", namespace=namespace)
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "mce-operator", "namespace": "system"}]
        assert binding["roleRef"]["name"] == one(documents, "Role", namespace=namespace)["metadata"]["name"]


def test_both_modes_give_the_same_rights_but_for_crds() -> None:
    role = one(rendered(*NAMESPACED), "Role", namespace="a")["rules"]
    cluster = one(rendered(), "ClusterRole")["rules"]
    extra = [rule for rule in cluster if rule not in role]
    assert [rule["resources"] for rule in extra] == [["customresourcedefinitions"]]
    assert [rule for rule in role if rule not in cluster] == []


@pytest.mark.parametrize("kind", WATCHED_KINDS)
def test_what_is_watched_may_be_listed_and_watched(kind: str) -> None:
    resource = RESOURCES[kind]
    group = resource.api_version.rpartition("/")[0]
    rules = one(rendered(*NAMESPACED), "Role", namespace="a")["rules"]
    wanted = {"list", "watch"} | ({"get", "create", "patch", "delete"} if kind in CHILD_KINDS else set())
    assert wanted <= verbs(rules, group, resource.plural)


@pytest.mark.parametrize(
    ("group", "resource", "wanted"),
    [
        (names.GROUP, "multicontainerendpoints/status", {"patch"}),
        (names.GROUP, "multicontainerendpoints/scale", {"patch"}),
        ("apps", "replicasets", {"get", "list", "watch", "patch"}),
        ("", "pods", {"get", "list", "watch", "patch"}),
        ("", "pods/resize", {"patch"}),
        ("metrics.k8s.io", "pods", {"list"}),
        ("events.k8s.io", "events", {"create"}),
        ("", "secrets", set()),
        ("coordination.k8s.io", "leases", set()),
    ],
)
def test_the_rights_are_these_and_no_more(group: str, resource: str, wanted: set[str]) -> None:
    assert verbs(one(rendered(), "ClusterRole")["rules"], group, resource) == wanted


@pytest.mark.parametrize("values", [(), NAMESPACED])
def test_the_lease_is_in_the_release_and_named_after_it(values: tuple[str, ...]) -> None:
    documents = rendered(*values)
    env = environment(documents)
    assert (env["MCE_OPERATOR_LEASE_NAMESPACE"], env["MCE_OPERATOR_LEASE_NAME"]) == ("system", "mce-operator")
    rules = one(documents, "Role", name="mce-operator-lease", namespace="system")["rules"]
    assert verbs(rules, "coordination.k8s.io", "leases") == {"create", "get", "update"}
    assert [rule.get("resourceNames") for rule in rules] == [None, ["mce-operator"]]


def test_two_replicas_are_spread_and_one_of_them_may_be_evicted_at_a_time() -> None:
    documents = rendered()
    spec = one(documents, "Deployment")["spec"]
    assert (spec["replicas"], spec["strategy"]["type"]) == (2, "RollingUpdate")
    (term,) = spec["template"]["spec"]["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    selector = term["podAffinityTerm"]["labelSelector"]["matchLabels"]
    assert selector == spec["selector"]["matchLabels"]
    budget = one(documents, "PodDisruptionBudget")["spec"]
    assert (budget["maxUnavailable"], budget["selector"]["matchLabels"]) == (1, selector)


def test_one_replica_has_no_budget_and_an_affinity_of_ones_own_replaces_ours() -> None:
    documents = rendered("operator.replicas=1", "operator.affinity.nodeAffinity.x=y")
    assert not [document for document in documents if document["kind"] == "PodDisruptionBudget"]
    assert one(documents, "Deployment")["spec"]["template"]["spec"]["affinity"] == {"nodeAffinity": {"x": "y"}}


def test_what_is_served_reaches_the_operator() -> None:
    env = environment(rendered(*NAMESPACED))
    assert (env["MCE_OPERATOR_NAMESPACES"], env["MCE_OPERATOR_SELECTOR"]) == ("a,b", "team=a")


def test_labels_of_ones_own_stand_beside_those_that_select() -> None:
    documents = rendered("operator.podLabels.x=y", r"operator.podLabels.app\.kubernetes\.io/name=mine")
    spec = one(documents, "Deployment")["spec"]
    assert spec["template"]["metadata"]["labels"] == {**spec["selector"]["matchLabels"], "x": "y"}


def test_variables_of_the_router_are_written_as_they_were_given(tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text("router: {env: {A: 10000000, B: 0.25, C: true, D: text}}")
    assert HELM
    done = subprocess.run(
        (HELM, "template", "mce", str(CHART), "-f", str(values)), capture_output=True, text=True, check=True, timeout=60
    )
    env = environment([one for one in yaml.safe_load_all(done.stdout) if one])
    assert env["MCE_OPERATOR_ROUTER_ENV"] == "A=10000000 B=0.25 C=true D=text"


@pytest.mark.parametrize(
    "value",
    [
        "operator.replicas=0",
        "watchNamespaces={A}",
        "watchSelector.a=b",
        "replicas=2",
        "crds=null",
        "networkPolicies.metricsFrom=null",
        "operator.env[0].name=MCE_OPERATOR_WORKERS,operator.env[0].value=16",
        "operator.podAnnotations.scrape=true",
        "metrics.service.annotations.scrape=true",
        "router.env.A B=c",
    ],
)
def test_a_wrong_value_is_refused(value: str) -> None:
    done = helm(value)
    assert done.returncode != 0
    assert "values don't meet the specifications of the schema" in done.stderr
