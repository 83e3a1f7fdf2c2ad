"""Every name that a Kubernetes object, label, port or user gets. One place, no decisions elsewhere.

A container keeps its AWS name (``ContainerHostname``: letters of both cases, compared byte by byte) in the API, the
metrics and the errors. Kubernetes wants DNS labels, so inside the pod each container has a derived name.
"""

import hashlib
from collections.abc import Sequence
from typing import Final

GROUP: Final = "serving.mce.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
KIND: Final = "MultiContainerEndpoint"
PLURAL: Final = "multicontainerendpoints"
SINGULAR: Final = "multicontainerendpoint"
SHORT_NAME: Final = "mcep"
CATEGORY: Final = "inference"

FIELD_MANAGER: Final = "mce-operator"
ROUTER_CONTAINER: Final = "mce-router"

ENDPOINT_LABEL: Final = f"{GROUP}/endpoint"
VARIANT_LABEL: Final = f"{GROUP}/variant"
MANAGED_BY_LABEL: Final = "app.kubernetes.io/managed-by"
MANAGED_BY: Final = "mce-operator"
HASH_ANNOTATION: Final = f"{GROUP}/hash"
CHANGE_ANNOTATION: Final = f"{GROUP}/change"
TABLE_ANNOTATION: Final = f"{GROUP}/route-table"
CONTAINERS_ANNOTATION: Final = f"{GROUP}/containers"
TEMPLATE_ANNOTATION: Final = f"{GROUP}/template"
RECORD_ANNOTATION: Final = f"{GROUP}/record"
LAST_GOOD_ANNOTATION: Final = f"{GROUP}/last-good"
REJECTED_ANNOTATION: Final = f"{GROUP}/rejected"
OPEN_ANNOTATION: Final = f"{GROUP}/canary-baked"
UNTRIED_ANNOTATION: Final = f"{GROUP}/untried"
PROFILE_LABEL: Final = f"{GROUP}/security-profile"
"""On Deployments and pods, so that `kubectl get pods -A -l` finds what runs under `baseline`."""
VOLUME_PREFIX: Final = "mce-"
"""Of the names of our volumes in a pod; the user's have any other."""

# Ports inside the pod. Below the ephemeral range (32768..60999) and away from the ports that model servers
# hard-code (7070, 8000-8082, 8500, 8501, 9000), so that an image with an explicit port rarely meets them.
ROUTER_PORT: Final = 19080
ROUTER_ADMIN_PORT: Final = 19081
FIRST_BLOCK_PORT: Final = 20000
BLOCK_SIZE: Final = 100
LAST_BLOCK_PORT: Final = FIRST_BLOCK_PORT + 15 * BLOCK_SIZE - 1
SERVICE_PORT: Final = 80

# User ids under the restricted profile: one per container, so that no sibling can take another's port with
# SO_REUSEPORT (same user only) or change its files.
FIRST_CONTAINER_UID: Final = 20000
FS_GROUP: Final = 3000
ROUTER_UID: Final = 65532

_HASH_LENGTH = 8


def container_names(hostnames: Sequence[str]) -> tuple[str, ...]:
    """Kubernetes names for AWS container names, in order; all different, none the router's.

    A name is lower-cased. Where that meets the router's name or another container's, the one that had to change
    (or, for the router's name, the container) gets a suffix made of a hash of the original, so that the result does not
    depend on the order of the list.

    Args:
        hostnames: AWS names, unique byte by byte.

    Raises:
        ValueError: if two hostnames are equal.
    """
    if len(set(hostnames)) != len(hostnames):
        raise ValueError("container names must be unique")
    lowered = [name.lower() for name in hostnames]
    taken = {name for name in hostnames if name == name.lower() and name != ROUTER_CONTAINER}
    derived = []
    for name, low in zip(hostnames, lowered, strict=True):
        alone = lowered.count(low) == 1 and low not in taken
        free = name in taken or (alone and low != ROUTER_CONTAINER)
        derived.append(low if free else _hashed(name, taken))
    return tuple(derived)


def _hashed(name: str, taken: set[str]) -> str:
    """``name`` lower-cased with a hash of its original spelling, never one of ``taken``."""
    salt = ""
    while True:
        digest = hashlib.sha256((name + salt).encode()).hexdigest()[:_HASH_LENGTH]
        stem = name.lower()[: 63 - _HASH_LENGTH - 1].rstrip("-")
        candidate = f"{stem}-{digest}"
        if candidate not in taken:
            return candidate
        salt += "+"


def bind_port(index: int, explicit: int | None) -> int:
    """The port that container number ``index`` (0..14) listens on: the given one, or the first of its block."""
    return explicit if explicit is not None else FIRST_BLOCK_PORT + index * BLOCK_SIZE


def safe_port_range(index: int) -> str:
    """``SAGEMAKER_SAFE_PORT_RANGE`` of container number ``index``: inclusive, disjoint, without any bind port."""
    first = FIRST_BLOCK_PORT + index * BLOCK_SIZE
    return f"{first + 1}-{first + BLOCK_SIZE - 1}"


def container_uid(index: int) -> int:
    """User and group id of container number ``index`` under the restricted profile."""
    return FIRST_CONTAINER_UID + index


def endpoint_labels(endpoint: str) -> dict[str, str]:
    """Labels on everything that belongs to an endpoint."""
    return {**selector_labels(endpoint), MANAGED_BY_LABEL: MANAGED_BY}


def selector_labels(endpoint: str) -> dict[str, str]:
    """Labels that select an endpoint's pods; immutable in a Deployment, so never anything of the user's."""
    return {ENDPOINT_LABEL: endpoint, VARIANT_LABEL: "AllTraffic"}


def selector(endpoint: str) -> str:
    """The same in the string form that the scale subresource wants."""
    return ",".join(f"{key}={value}" for key, value in selector_labels(endpoint).items())


def url(namespace: str, endpoint: str) -> str:
    """Where callers in the cluster send invocations."""
    return f"http://{endpoint}.{namespace}.svc/invocations"
