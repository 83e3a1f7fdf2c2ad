"""The pod template: router, models, and what the user asked of placement and identity."""

import json
from typing import Final

from mce_api import names, routes, wire
from mce_api.endpoint import MultiContainerEndpoint, Pod, Spec
from mce_operator.resources import meta, model, router
from mce_operator.resources.meta import K8sObject
from mce_operator.resources.routes import table

DRAIN_SECONDS: Final = 5
"""For which a stopping router goes on serving, so that every node has heard that it stops."""
_GRACE_MARGIN_SECONDS: Final = 15
"""If the grace ran out before the hooks return, all containers would be stopped at once and the order be lost."""
_OVER_NODES: Final[K8sObject] = {
    "topologyKey": "kubernetes.io/hostname",
    "whenUnsatisfiable": "ScheduleAnyway",
    "maxSkew": 1,
    "matchLabelKeys": ["pod-template-hash"],
}
"""Where possible, and each generation by itself: in a rollout the old pods would else push the new ones together."""


def template(endpoint: MultiContainerEndpoint, setup: router.Setup) -> K8sObject:
    """The wanted pod template. Its hash among its annotations tells its pods from those of other generations."""
    spec = endpoint.spec
    hostnames = [container.name for container in spec.containers]
    derived = names.container_names(hostnames)
    annotations = {
        **spec.pod.annotations,
        names.TABLE_ANNOTATION: routes.dump(table(endpoint)),
        names.CONTAINERS_ANNOTATION: json.dumps(dict(zip(derived, hostnames, strict=True)), separators=(",", ":")),
    }
    labels = {
        **spec.pod.labels,
        **names.endpoint_labels(endpoint.metadata.name),
        names.PROFILE_LABEL: spec.pod.security_profile,
    }
    built: K8sObject = {
        "metadata": {"labels": labels, "annotations": annotations},
        "spec": _spec(endpoint, derived, setup),
    }
    return meta.hashed(built)


def _spec(endpoint: MultiContainerEndpoint, derived: tuple[str, ...], setup: router.Setup) -> K8sObject:
    spec = endpoint.spec
    restricted = spec.pod.security_profile == "restricted"
    models = [
        model.container(container, name, index, restricted=restricted)
        for index, (container, name) in enumerate(zip(spec.containers, derived, strict=True))
    ]
    ours = [volume for index, container in enumerate(spec.containers) for volume in model.volumes(container, index)]
    theirs = [meta.without_null(volume.model_dump(by_alias=True)) for volume in spec.pod.volumes]
    return {
        "initContainers": [router.container(setup, longest_seconds(spec))],
        "containers": models,
        "volumes": [router.volume(), *ours, *theirs],
        "serviceAccountName": spec.pod.service_account_name or endpoint.metadata.name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": grace_seconds(spec),
        "securityContext": _security(restricted=restricted),
        "topologySpreadConstraints": _spread(endpoint),
        **_placement(spec.pod),
    }


def grace_seconds(spec: Spec) -> int:
    """Longer than the drain and the longest invocation together."""
    return DRAIN_SECONDS + longest_seconds(spec) + _GRACE_MARGIN_SECONDS


def longest_seconds(spec: Spec) -> int:
    """How long an invocation may be in flight until its answer begins."""
    timeouts = (container.invocation_timeout_seconds for container in spec.containers)
    return max(wire.INVOCATION_TIMEOUT_SECONDS, spec.limits.max_invocation_seconds, *timeouts)


def _security(*, restricted: bool) -> K8sObject:
    profile: K8sObject = {"seccompProfile": {"type": "RuntimeDefault"}}
    return {**profile, "runAsNonRoot": True, "fsGroup": names.FS_GROUP} if restricted else profile


def _spread(endpoint: MultiContainerEndpoint) -> list[K8sObject]:
    selected = {"labelSelector": {"matchLabels": names.selector_labels(endpoint.metadata.name)}}
    wanted = endpoint.spec.pod.topology_spread_constraints or (_OVER_NODES,)
    return [{**selected, **meta.without_null(constraint)} for constraint in wanted]


def _placement(pod: Pod) -> K8sObject:
    wanted = {
        "nodeSelector": dict(pod.node_selector),
        "tolerations": [one.model_dump(by_alias=True, exclude_none=True) for one in pod.tolerations],
        "affinity": meta.without_null(pod.affinity),
        "imagePullSecrets": [{"name": secret.name} for secret in pod.image_pull_secrets],
        "priorityClassName": pod.priority_class_name,
        "runtimeClassName": pod.runtime_class_name,
    }
    return {key: value for key, value in wanted.items() if value}
