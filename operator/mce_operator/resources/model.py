"""One model container: ports, user, disk, what SageMaker tells it, a start-up probe that goes through the router."""

from typing import Final

from mce_api import names, wire
from mce_api.endpoint import Container, EnvVar, LivenessProbe
from mce_operator.resources import router
from mce_operator.resources.meta import K8sObject

PROBE_KILL_SECONDS: Final = 10
"""What a container gets between SIGTERM and SIGKILL when its start-up budget is over: it serves nobody."""


def container(spec: Container, name: str, index: int, *, restricted: bool) -> K8sObject:
    """The wanted entry of `containers`.

    Args:
        spec: what the user wrote.
        name: the container's Kubernetes name.
        index: its place in the list, which gives it its ports and its user.
        restricted: whether it runs as a user of its own, or as its image says.
    """
    probe = router.probe(f"/startup/{spec.name}?{router.PATIENTLY}", period=1, failures=spec.startup_timeout_seconds)
    built: K8sObject = {
        "name": name,
        "image": spec.image,
        "args": list(spec.args),
        "env": _environment(spec, index, restricted=restricted),
        # No readiness probe: one busy model would take its siblings out. No liveness probe through the router: a router
        # in back-off would get every model killed.
        "startupProbe": {**probe, "terminationGracePeriodSeconds": PROBE_KILL_SECONDS},
        "lifecycle": router.pre_stop(spec.name),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": _mounts(spec, index),
    }
    optional = {
        "command": list(spec.command or ()),
        "imagePullPolicy": spec.image_pull_policy,
        "resources": {key: value for key, value in spec.resources.model_dump(mode="json").items() if value},
        "livenessProbe": _liveness(spec.liveness_probe, names.bind_port(index, spec.port), spec.ping_path),
        "securityContext": _security(index) if restricted else {},
    }
    return built | {key: value for key, value in optional.items() if value}


def volumes(spec: Container, index: int) -> list[K8sObject]:
    """The volumes that only container number `index` mounts."""
    shared_memory = {"medium": "Memory", "sizeLimit": spec.shared_memory}
    return [
        {"name": _tmp(index), "emptyDir": {}},
        {"name": _shm(index), "emptyDir": shared_memory},
        *({"name": _path(index, number), "emptyDir": {}} for number in range(len(spec.writable_paths))),
    ]


def _mounts(spec: Container, index: int) -> list[K8sObject]:
    """Siblings share nothing writable by default; without the second mount all of them would share one /dev/shm."""
    theirs = (mount.model_dump(by_alias=True, exclude_defaults=True) for mount in spec.volume_mounts)
    return [
        {"name": _tmp(index), "mountPath": "/tmp"},  # noqa: S108 - in the container
        {"name": _shm(index), "mountPath": "/dev/shm"},  # noqa: S108 - in the container
        *({"name": _path(index, number), "mountPath": path} for number, path in enumerate(spec.writable_paths)),
        *theirs,
    ]


def _tmp(index: int) -> str:
    return f"{names.VOLUME_PREFIX}tmp-{index}"


def _shm(index: int) -> str:
    return f"{names.VOLUME_PREFIX}shm-{index}"


def _path(index: int, number: int) -> str:
    return f"{names.VOLUME_PREFIX}path-{index}-{number}"


def _liveness(probe: LivenessProbe | None, port: int, path: str) -> K8sObject:
    """What the user wants, at the container's own port and path unless it says others."""
    if probe is None:
        return {}
    built = probe.model_dump(by_alias=True, exclude_none=True, mode="json")
    for action in built.keys() & {"httpGet", "tcpSocket", "grpc"}:
        built[action].setdefault("port", port)
    if "httpGet" in built:
        built["httpGet"].setdefault("path", path)
    return {key: _without_empty(value) for key, value in built.items()}


def _without_empty(action: K8sObject | int) -> K8sObject | int:
    """The API server drops empty values, which would then look like an edit of ours."""
    if isinstance(action, int):
        return action
    return {key: value for key, value in action.items() if value not in ("", [], ())}


def _environment(spec: Container, index: int, *, restricted: bool) -> list[K8sObject]:
    """Ours first, so that the user's values and args may use them: `$(SAGEMAKER_BIND_TO_PORT)`."""
    ours = {
        wire.BIND_TO_PORT: str(names.bind_port(index, spec.port)),
        wire.SAFE_PORT_RANGE: names.safe_port_range(index),
    }
    if restricted:  # a user without an entry in /etc/passwd has HOME=/ and no name
        ours |= {"HOME": "/tmp", "USER": "model"}  # noqa: S108 - in the container
    theirs = {variable.name for variable in spec.env}
    return [
        *({"name": name, "value": value} for name, value in ours.items() if name not in theirs),
        *(_variable(variable) for variable in spec.env),
    ]


def _variable(variable: EnvVar) -> K8sObject:
    if variable.value_from is None:
        return {"name": variable.name, "value": variable.value or ""}
    source = variable.value_from.model_dump(by_alias=True, exclude_none=True, exclude_defaults=True)
    return {"name": variable.name, "valueFrom": source}


def _security(index: int) -> K8sObject:
    user = names.container_uid(index)
    return {**router.RESTRICTED, "runAsUser": user, "runAsGroup": user}
