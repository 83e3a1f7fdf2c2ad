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
    labels = {**spec.pod.labels, **names.endpoint_labels(endpoint.metadata.name)}
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
    volumes = [volume for index in range(len(models)) for volume in model.volumes(index)]
    return {
        "initContainers": [router.container(setup, longest_seconds(spec))],
        "containers": models,
        "volumes": [router.volume(), *volumes],
        "serviceAccountName": spec.pod.service_account_name or endpoint.metadata.name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": grace_seconds(spec),
        "securityContext": _security(restricted=restricted),
        "topologySpreadConstraints": [_spread(endpoint.metadata.name)],
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


def _spread(endpoint: str) -> K8sObject:
    return {
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "maxSkew": 1,
        "labelSelector": {"matchLabels": names.selector_labels(endpoint)},
        "matchLabelKeys": ["pod-template-hash"],
    }


def _placement(pod: Pod) -> K8sObject:
    wanted = {
        "nodeSelector": dict(pod.node_selector),
        "tolerations": [one.model_dump(by_alias=True, exclude_none=True) for one in pod.tolerations],
        "affinity": dict(pod.affinity),
        "imagePullSecrets": [{"name": secret.name} for secret in pod.image_pull_secrets],
    }
    return {key: value for key, value in wanted.items() if value}
