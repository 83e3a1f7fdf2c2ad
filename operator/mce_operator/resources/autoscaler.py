"""The HorizontalPodAutoscaler of an endpoint that scales by CPU alone. It moves `spec.replicas` of the endpoint itself.

By invocations or concurrency the operator scales on its own (`autoscale`): a HorizontalPodAutoscaler would need a
metrics adapter in the cluster for that (ADR 0009).
"""

from typing import Final

from mce_api import names
from mce_api.endpoint import Autoscaling, Metric, MultiContainerEndpoint
from mce_operator.resources import meta

_OF_ROUTERS: Final = frozenset({"InvocationsPerReplica", "ConcurrencyPerReplica"})
"""Metrics that only the routers know."""


def scales_itself(autoscaling: Autoscaling | None) -> bool:
    """Whether this operator moves the replicas; else a HorizontalPodAutoscaler does, or nobody."""
    return autoscaling is not None and any(metric.type in _OF_ROUTERS for metric in autoscaling.metrics)


def autoscaler(endpoint: MultiContainerEndpoint) -> tuple[meta.K8sObject, ...]:
    """The wanted HorizontalPodAutoscaler, or none.

    After a rollback the containers are those of the last good generation: some metrics may name none of them.
    """
    spec = endpoint.spec
    if spec.autoscaling is None or spec.suspend or scales_itself(spec.autoscaling):
        return ()
    hostnames = [container.name for container in spec.containers]
    derived = dict(zip(hostnames, names.container_names(hostnames), strict=True))
    known = [metric for metric in spec.autoscaling.metrics if metric.container in derived]
    if not known:
        return ()  # without a metric the API server would put in one of its own
    built: meta.K8sObject = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": meta.metadata(endpoint),
        "spec": {
            "scaleTargetRef": {"apiVersion": names.API_VERSION, "kind": names.KIND, "name": endpoint.metadata.name},
            "minReplicas": spec.autoscaling.min_replicas,
            "maxReplicas": spec.autoscaling.max_replicas,
            "metrics": [_metric(metric, derived[metric.container]) for metric in known],
            "behavior": {
                "scaleDown": {"stabilizationWindowSeconds": spec.autoscaling.scale_in_cooldown_seconds},
                "scaleUp": {"stabilizationWindowSeconds": spec.autoscaling.scale_out_cooldown_seconds},
            },
        },
    }
    return (meta.hashed(built),)


def _metric(metric: Metric, container: str) -> meta.K8sObject:
    target = {"type": "Utilization", "averageUtilization": metric.target_percent}
    return {"type": "ContainerResource", "containerResource": {"name": "cpu", "container": container, "target": target}}
