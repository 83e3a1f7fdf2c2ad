"""The Deployment: how many pods, and how a new generation takes over from the old one."""

from collections.abc import Mapping
from typing import Final

from mce_api import names
from mce_api.endpoint import MultiContainerEndpoint, Spec
from mce_operator.pace import Pace
from mce_operator.resources import meta

_PULL_SECONDS: Final = 600
"""Allowance for pulling the images, beside the start-up budget, before a rollout counts as failed."""
_HISTORY: Final = 3


def deployment(
    endpoint: MultiContainerEndpoint, template: meta.K8sObject, pace: Pace, annotations: Mapping[str, str]
) -> meta.K8sObject:
    """The wanted Deployment.

    Args:
        endpoint: whose it is.
        template: its pod template (`resources.pod`).
        pace: how pods of another template are replaced.
        annotations: what it remembers (`history`).
    """
    spec = endpoint.spec
    return meta.hashed(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {
                **meta.metadata(endpoint, {names.PROFILE_LABEL: spec.pod.security_profile}),
                "annotations": dict(annotations),
            },
            "spec": {
                "replicas": replicas(spec),
                "selector": {"matchLabels": names.selector_labels(endpoint.metadata.name)},
                "strategy": {
                    "type": "RollingUpdate",
                    "rollingUpdate": {"maxSurge": pace.surge, "maxUnavailable": pace.unavailable},
                },
                "minReadySeconds": pace.bake_seconds,
                "progressDeadlineSeconds": budget_seconds(spec) + pace.bake_seconds,
                "revisionHistoryLimit": _HISTORY,
                "template": template,
            },
        }
    )


def replicas(spec: Spec) -> int:
    """How many pods there should be: at once within the bounds of autoscaling, whatever somebody has put there."""
    if spec.suspend:
        return 0
    if spec.autoscaling is None:
        return spec.replicas
    return min(max(spec.replicas, spec.autoscaling.min_replicas), spec.autoscaling.max_replicas)


def budget_seconds(spec: Spec) -> int:
    """When a rollout without progress has failed: by default, the slowest container may use its whole budget."""
    slowest = max(container.startup_timeout_seconds for container in spec.containers)
    return spec.rollout.progress_deadline_seconds or slowest + _PULL_SECONDS
