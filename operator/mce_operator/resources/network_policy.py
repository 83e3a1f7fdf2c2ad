"""The NetworkPolicy: who gets to an endpoint's routers, where the cluster's network enforces it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from mce_api import names
from mce_api.endpoint import MultiContainerEndpoint, Peer
from mce_operator.resources import meta

NAMESPACE_LABEL: Final = "kubernetes.io/metadata.name"
"""On every namespace, set by the API server."""
_OWN_NAMESPACE: Final = Peer(pod_selector={})


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """What the operator's owner says of the network."""

    is_policed: bool = True
    """Whether endpoints get NetworkPolicies."""
    operator_namespace: str = ""
    """Where the operator runs; empty: in no pod of this cluster, so no peer can be named for it."""
    metrics_from: tuple[Peer, ...] = ()
    """Who may read metrics from every endpoint's admin port."""


def network_policy(endpoint: MultiContainerEndpoint, network: Network) -> meta.K8sObject:
    """The wanted NetworkPolicy: ingress only. Where its containers may go is nobody's business here.

    The kubelet's probes and hooks need no rule: traffic from the pod's own node is always allowed (Kubernetes,
    "Network Policies"), as is that between the containers of a pod.
    """
    operator = ({"namespaceSelector": {"matchLabels": {NAMESPACE_LABEL: network.operator_namespace}}},)
    ours = operator if network.operator_namespace else ()
    callers = endpoint.spec.access.from_ or (_OWN_NAMESPACE,)
    # An empty list of peers would mean everybody, so a port that nobody may reach gets no rule at all.
    rules = [
        {"ports": [{"port": port, "protocol": "TCP"}], "from": list(peers)}
        for port, peers in (
            (names.ROUTER_PORT, (*_peers(callers), *ours)),
            (names.ROUTER_ADMIN_PORT, (*ours, *_peers(network.metrics_from))),
        )
        if peers
    ]
    return meta.hashed(
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": meta.metadata(endpoint),
            "spec": {
                "podSelector": {"matchLabels": names.selector_labels(endpoint.metadata.name)},
                "policyTypes": ["Ingress"],
                "ingress": rules,
            },
        }
    )


def _peers(peers: Iterable[Peer]) -> list[meta.K8sObject]:
    return [meta.without_null(peer.model_dump(by_alias=True)) for peer in peers]
