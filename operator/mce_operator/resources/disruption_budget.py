"""The PodDisruptionBudget: drains of nodes take one replica at a time, and never wait for one that is broken anyway."""

from typing import Final

from mce_api import names
from mce_api.endpoint import MultiContainerEndpoint, Spec
from mce_operator.resources import meta

_LEAST: Final = 2
"""Of a single replica it could only say that it may go, or that no node may ever be drained."""


def is_wanted(spec: Spec) -> bool:
    """Whether there are several replicas, or always will be."""
    floor = spec.autoscaling.min_replicas if spec.autoscaling else 0
    return not spec.suspend and max(spec.replicas, floor) >= _LEAST


def disruption_budget(endpoint: MultiContainerEndpoint) -> meta.K8sObject:
    """The wanted PodDisruptionBudget."""
    return meta.hashed(
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": meta.metadata(endpoint),
            "spec": {
                "maxUnavailable": 1,
                "unhealthyPodEvictionPolicy": "AlwaysAllow",
                "selector": {"matchLabels": names.selector_labels(endpoint.metadata.name)},
            },
        }
    )
