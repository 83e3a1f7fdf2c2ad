"""The router's container: a native sidecar (ADR 0003), first up and last down, hardened whatever the models need."""

from dataclasses import dataclass, field
from typing import Final

from mce_api import names
from mce_operator.resources.meta import K8sObject
from mce_operator.resources.network_policy import Network

TABLE_VOLUME: Final = f"{names.VOLUME_PREFIX}route-table"
_TABLE_DIRECTORY: Final = "/etc/mce"
_TABLE_FILE: Final = "table.json"
RESTRICTED: Final[K8sObject] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
}


_STARTED: Final[K8sObject] = {
    "postStart": {"exec": {"command": ["python", "-m", "mce_router.started", str(names.ROUTER_ADMIN_PORT)]}}
}
"""Models are started when the router listens: before, one of them could have its ports. A startup probe would say so as
well, but up to a second later."""


PATIENTLY: Final = "wait=0.8"
"""Probes are a second apart at least. An answer that waits for a start to end saves half a second on average; it leaves
the rest of the second so that a start-up budget stays what it says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What the operator's owner says of every endpoint: of its router, and of who gets to it."""

    image: str
    arguments: tuple[str, ...] = ()
    """Options besides those of every pod, such as `--access-log=all`."""
    env: tuple[tuple[str, str], ...] = ()
    """Variables, such as OpenTelemetry's."""
    network: Network = field(default_factory=Network)


def container(setup: Setup, grace_seconds: int) -> K8sObject:
    """The wanted entry of `initContainers`; after its drain it waits so long for requests in flight."""
    env = {"env": [{"name": name, "value": value} for name, value in setup.env]} if setup.env else {}
    return {
        "name": names.ROUTER_CONTAINER,
        "image": setup.image,
        "restartPolicy": "Always",
        "args": [
            "--table",
            f"{_TABLE_DIRECTORY}/{_TABLE_FILE}",
            "--listen",
            f"0.0.0.0:{names.ROUTER_PORT}",
            "--admin",
            f"0.0.0.0:{names.ROUTER_ADMIN_PORT}",
            f"--grace-seconds={grace_seconds}",
            *setup.arguments,
        ],
        **env,
        "ports": [
            {"name": "http", "containerPort": names.ROUTER_PORT, "protocol": "TCP"},
            {"name": "admin", "containerPort": names.ROUTER_ADMIN_PORT, "protocol": "TCP"},
        ],
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
        "readinessProbe": probe(f"/readyz?{PATIENTLY}", period=1, failures=2),
        # Generous: the models have no liveness probe, and a router that is only slow must not be killed for it.
        "livenessProbe": probe("/healthz", period=10, failures=6, timeout=5),
        "lifecycle": {**_STARTED, **pre_stop(names.ROUTER_CONTAINER)},
        "securityContext": {
            **RESTRICTED,
            "readOnlyRootFilesystem": True,
            "runAsUser": names.ROUTER_UID,
            "runAsGroup": names.ROUTER_UID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [{"name": TABLE_VOLUME, "mountPath": _TABLE_DIRECTORY, "readOnly": True}],
    }


def volume() -> K8sObject:
    """The route table out of the pod's own annotation: nothing to keep beside the pod, nothing to delete (ADR 0005)."""
    reference = {"fieldPath": f"metadata.annotations['{names.TABLE_ANNOTATION}']"}
    source = {"downwardAPI": {"items": [{"path": _TABLE_FILE, "fieldRef": reference}]}}
    return {"name": TABLE_VOLUME, "projected": {"sources": [source]}}


def probe(path: str, *, period: int, failures: int, timeout: int = 3) -> K8sObject:
    """A probe of the router's admin port. It names no host: Pod Security refuses that."""
    return {
        "httpGet": {"path": path, "port": names.ROUTER_ADMIN_PORT},
        "periodSeconds": period,
        "timeoutSeconds": timeout,
        "failureThreshold": failures,
    }


def pre_stop(container_name: str) -> K8sObject:
    """The hook that holds a container's SIGTERM back until the router has drained."""
    return {"preStop": {"httpGet": {"path": f"/prestop/{container_name}", "port": names.ROUTER_ADMIN_PORT}}}
