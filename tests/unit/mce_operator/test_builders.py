"""What the golden files can not show: when an object is there at all, and who gets to whom."""

from typing import Any

import pytest

from mce_api import names
from mce_api.endpoint import Peer
from mce_operator.desired import desired
from mce_operator.resources import disruption_budget
from mce_operator.resources.autoscaler import autoscaler
from mce_operator.resources.network_policy import Network, network_policy
from mce_operator.resources.router import Setup
from unit.mce_operator import objects

SCALED = {"maxReplicas": 4, "metrics": [{"type": "ConcurrencyPerReplica", "target": 1}]}


@pytest.mark.parametrize(
    ("spec", "is_wanted"),
    [
        ({}, False),
        ({"replicas": 0}, False),
        ({"replicas": 2}, True),
        ({"replicas": 2, "suspend": True}, False),
        ({"autoscaling": {"minReplicas": 1, **SCALED}}, False),
        ({"autoscaling": {"minReplicas": 2, **SCALED}}, True),
        ({"autoscaling": {"minReplicas": 2, **SCALED}, "suspend": True}, False),
        ({"replicas": 3, "autoscaling": {"minReplicas": 1, **SCALED}}, True),
    ],
)
def test_a_disruption_budget_is_there_for_two_replicas_or_more(spec: dict[str, Any], is_wanted: bool) -> None:
    assert disruption_budget.is_wanted(objects.endpoint(**spec).spec) is is_wanted


def kinds(setup: Setup = objects.ROUTER, **spec: Any) -> list[str]:
    made = objects.endpoint(**spec)
    return [built["kind"] for built in desired(made, objects.decisions(made), setup)]


def test_children_are_made_in_the_order_in_which_they_need_each_other() -> None:
    assert kinds(replicas=2) == ["ServiceAccount", "NetworkPolicy", "Service", "Deployment", "PodDisruptionBudget"]


def test_a_service_account_of_the_users_is_not_made() -> None:
    assert "ServiceAccount" not in kinds(pod={"serviceAccountName": "own"})


def test_network_policies_can_be_switched_off() -> None:
    assert "NetworkPolicy" not in kinds(Setup(image="i", network=Network(is_policed=False)))


def rules(network: Network, **spec: Any) -> dict[int, list[Any]]:
    """Peers by port."""
    built = network_policy(objects.endpoint(**spec), network)
    assert built["spec"]["policyTypes"] == ["Ingress"]
    assert "egress" not in built["spec"]
    assert built["spec"]["podSelector"] == {"matchLabels": names.selector_labels("mnist")}
    return {rule["ports"][0]["port"]: rule["from"] for rule in built["spec"]["ingress"]}


OPERATOR = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "mce-system"}}}
ANYBODY = Peer(namespace_selector={})


@pytest.mark.parametrize(
    ("network", "access", "data", "admin"),
    [
        pytest.param(Network(), {}, [{"podSelector": {}}], None, id="own namespace, and nobody to the admin port"),
        pytest.param(
            Network(operator_namespace="mce-system"), {}, [{"podSelector": {}}, OPERATOR], [OPERATOR], id="operator"
        ),
        pytest.param(
            Network(operator_namespace="mce-system", metrics_from=(ANYBODY,)),
            {"from": [{"podSelector": {"matchLabels": {"a": "b"}}}]},
            [{"podSelector": {"matchLabels": {"a": "b"}}}, OPERATOR],
            [OPERATOR, {"namespaceSelector": {}}],
            id="callers of the user's choice do not get to the admin port",
        ),
    ],
)
def test_each_port_has_its_own_callers(
    network: Network, access: dict[str, Any], data: list[Any], admin: list[Any] | None
) -> None:
    wanted = {names.ROUTER_PORT: data} | ({names.ROUTER_ADMIN_PORT: admin} if admin else {})
    assert rules(network, access=access) == wanted


def test_no_rule_has_an_empty_list_of_peers_which_would_mean_everybody() -> None:
    for network in (Network(), Network(metrics_from=(ANYBODY,)), Network(operator_namespace="x")):
        assert all(rules(network).values())


def test_a_liveness_probe_asks_the_containers_own_port_unless_it_names_another() -> None:
    probes: tuple[dict[str, Any], ...] = (
        {"httpGet": {}},
        {"tcpSocket": {"port": 9000}},
        {"grpc": {}},
        {"exec": {"command": ["true"]}},
    )
    made = objects.endpoint(*(objects.container(f"c{n}", livenessProbe=probe) for n, probe in enumerate(probes)))
    deployment = next(built for built in objects.wanted(made) if built["kind"] == "Deployment")
    found = [container["livenessProbe"] for container in deployment["spec"]["template"]["spec"]["containers"]]
    assert found[0]["httpGet"] == {"path": "/ping", "port": 20000, "scheme": "HTTP"}
    assert found[1]["tcpSocket"] == {"port": 9000}
    assert found[2]["grpc"] == {"port": 20200}
    assert found[3]["exec"] == {"command": ["true"]}


@pytest.mark.parametrize(("metrics", "kept"), [(["a", "new"], ["a"]), (["new"], None)])
def test_after_a_rollback_only_the_metrics_of_containers_that_run_are_asked_for(
    metrics: list[str], kept: list[str] | None
) -> None:
    """Without any metric there is no autoscaler: the API server would scale by all containers' CPU instead."""
    cpu = {"resources": {"requests": {"cpu": 1}}}
    newest = objects.endpoint(
        *(objects.container(name, **cpu) for name in ("a", "new")),
        autoscaling={
            "maxReplicas": 4,
            "metrics": [{"type": "ContainerCPU", "container": name, "targetPercent": 70} for name in metrics],
        },
    ).spec
    good = objects.endpoint(objects.container("a", **cpu))
    back = good.model_copy(update={"spec": newest.model_copy(update={"containers": good.spec.containers})})
    found = [built["spec"]["metrics"] for built in autoscaler(back)]
    assert [[one["containerResource"]["container"] for one in one_set] for one_set in found] == ([kept] if kept else [])
