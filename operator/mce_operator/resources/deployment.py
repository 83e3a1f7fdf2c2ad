"""The Deployment: how many pods, and how a new generation takes over from the old one."""

from typing import Final

from mce_api import names
from mce_api.endpoint import MultiContainerEndpoint, Spec
from mce_operator.resources import meta, pod, router

_PULL_SECONDS: Final = 600
"""Allowance for pulling the images, beside the start-up budget, before a rollout counts as failed."""
_HISTORY: Final = 3


def deployment(endpoint: MultiContainerEndpoint, setup: router.Setup) -> meta.K8sObject:
    """The wanted Deployment."""
    spec = endpoint.spec
    rolling = {"maxSurge": spec.rollout.max_surge, "maxUnavailable": spec.rollout.max_unavailable}
    return meta.hashed(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": meta.metadata(endpoint, {names.PROFILE_LABEL: spec.pod.security_profile}),
            "spec": {
                "replicas": replicas(spec),
                "selector": {"matchLabels": names.selector_labels(endpoint.metadata.name)},
                "strategy": {"type": "RollingUpdate", "rollingUpdate": rolling},
                "progressDeadlineSeconds": deadline_seconds(spec),
                "revisionHistoryLimit": _HISTORY,
                "template": pod.template(endpoint, setup),
            },
        }
    )


def replicas(spec: Spec) -> int:
    """How many pods there should be."""
    return 0 if spec.suspend else spec.replicas


def deadline_seconds(spec: Spec) -> int:
    """When a rollout without progress has failed: the slowest container may use its whole budget."""
    return max(container.startup_timeout_seconds for container in spec.containers) + _PULL_SECONDS
