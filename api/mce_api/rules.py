"""Rules over several fields of a spec, each said twice side by side: CEL for the API server, Python for the rest.

The CRD gets the CEL (`crd`), `mce validate` and the operator run the Python (`validation`). Tests feed the same good
and bad cases to both, the CEL on a real API server. CEL notes: a rule at the root prints its path as <nil>; `reason:
FieldValueDuplicate` swallows the message; `+` in a messageExpression is refused as too dear, `format` is not.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Final

from mce_api import names, wire
from mce_api.endpoint import Container, LivenessProbe, Spec, Volume


class Scope(StrEnum):
    """Where in the schema a rule hangs; `self` in its CEL is that object."""

    SPEC = "spec"
    CONTAINER = "spec.containers[]"
    ENV = "spec.containers[].env[]"
    VOLUME = "spec.pod.volumes[]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One broken rule, worded for the user: where, what, and the fix."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule in both languages."""

    name: str
    scope: Scope
    cel: str
    field: str
    """Path below the scope that the API server's message names; empty: the scope itself."""
    message: str
    check: Callable[[Spec], Iterator[str]]
    """Yields the path of every violation."""


_RESERVED_FIRST: Final = names.ROUTER_PORT
_RESERVED_LAST: Final = names.LAST_BLOCK_PORT
RESERVED_ENV: Final = (wire.BIND_TO_PORT, wire.SAFE_PORT_RANGE)
_OUR_PATHS: Final = ("/tmp", "/dev/shm")  # noqa: S108 - in the container
_VOLUME_KINDS: Final = tuple(field.alias or name for name, field in Volume.model_fields.items() if name != "name")
_PROBE_ACTIONS: Final = ("httpGet", "tcpSocket", "grpc", "exec")
_PROBED_PORTS: Final = ("httpGet", "tcpSocket", "grpc")
_APPARMOR: Final = "container.apparmor.security.beta.kubernetes.io/"


def _serial_is_a_chain(spec: Spec) -> Iterator[str]:
    if spec.mode == "Serial" and len(spec.containers) < 2:  # noqa: PLR2004 - the rule itself
        yield "spec.mode"


def _any_is_direct(spec: Spec) -> Iterator[str]:
    if spec.availability == "Any" and spec.mode != "Direct":
        yield "spec.availability"


def _ports_unique(spec: Spec) -> Iterator[str]:
    ports = Counter(container.port for container in spec.containers if container.port is not None)
    if any(count > 1 for count in ports.values()):
        yield "spec.containers"


def _rollout_moves(spec: Spec) -> Iterator[str]:
    if spec.rollout.max_surge == 0 and spec.rollout.max_unavailable == 0:
        yield "spec.rollout"


def _linear_steps(spec: Spec) -> Iterator[str]:
    if spec.rollout.strategy == "Linear" and spec.rollout.step_percent < wire.MIN_LINEAR_STEP_PERCENT:
        yield "spec.rollout.stepPercent"


def _guard_bakes(spec: Spec) -> Iterator[str]:
    if spec.rollout.max_error_percent is not None and spec.rollout.bake_seconds == 0:
        yield "spec.rollout.maxErrorPercent"


def _scaling_bounds(spec: Spec) -> Iterator[str]:
    if spec.autoscaling is not None and spec.autoscaling.min_replicas > spec.autoscaling.max_replicas:
        yield "spec.autoscaling.minReplicas"


def _metrics_whole(spec: Spec) -> Iterator[str]:
    for index, metric in enumerate(spec.autoscaling.metrics if spec.autoscaling else ()):
        given = (metric.target is not None, metric.target_percent is not None)
        if given != ((False, True) if metric.type == "ContainerCPU" else (True, False)):
            yield f"spec.autoscaling.metrics[{index}]"


def _metrics_name_containers(spec: Spec) -> Iterator[str]:
    known = {container.name for container in spec.containers}
    for index, metric in enumerate(spec.autoscaling.metrics if spec.autoscaling else ()):
        if metric.container not in (known if metric.type == "ContainerCPU" else known | {""}):
            yield f"spec.autoscaling.metrics[{index}].container"


def _cpu_has_request(spec: Spec) -> Iterator[str]:
    requested = {container.name for container in spec.containers if "cpu" in container.resources.requests}
    for index, metric in enumerate(spec.autoscaling.metrics if spec.autoscaling else ()):
        if metric.type == "ContainerCPU" and metric.container not in requested:
            yield f"spec.autoscaling.metrics[{index}].container"


def _peers_select(spec: Spec) -> Iterator[str]:
    for index, peer in enumerate(spec.access.from_):
        if peer.namespace_selector is None and peer.pod_selector is None:
            yield f"spec.access.from[{index}]"


def _writable_apart(spec: Spec) -> Iterator[str]:
    for index, container in enumerate(spec.containers):
        paths = container.writable_paths
        if len(set(paths)) < len(paths) or not set(_OUR_PATHS).isdisjoint(paths):
            yield f"spec.containers[{index}].writablePaths"


def _mounts_apart(spec: Spec) -> Iterator[str]:
    for index, container in enumerate(spec.containers):
        paths = [mount.mount_path for mount in container.volume_mounts]
        if len(set(paths)) < len(paths) or not {*_OUR_PATHS, *container.writable_paths}.isdisjoint(paths):
            yield f"spec.containers[{index}].volumeMounts"


def _mounts_name_volumes(spec: Spec) -> Iterator[str]:
    known = {volume.name for volume in spec.pod.volumes}
    for index, container in enumerate(spec.containers):
        for position, mount in enumerate(container.volume_mounts):
            if mount.name not in known:
                yield f"spec.containers[{index}].volumeMounts[{position}].name"


def _volume_has_one_source(spec: Spec) -> Iterator[str]:
    for index, volume in enumerate(spec.pod.volumes):
        if len(volume.model_dump(exclude={"name"}, exclude_none=True)) != 1:
            yield f"spec.pod.volumes[{index}]"


def _volume_not_ours(spec: Spec) -> Iterator[str]:
    for index, volume in enumerate(spec.pod.volumes):
        if volume.name.startswith(names.VOLUME_PREFIX):
            yield f"spec.pod.volumes[{index}].name"


def _probe_has_one_action(spec: Spec) -> Iterator[str]:
    for index, container in enumerate(spec.containers):
        if container.liveness_probe is not None and len(_actions(container.liveness_probe)) != 1:
            yield f"spec.containers[{index}].livenessProbe"


def _probe_not_of_router(spec: Spec) -> Iterator[str]:
    for index, container in enumerate(spec.containers):
        actions = _actions(container.liveness_probe) if container.liveness_probe else {}
        ports = {action.get("port") for action in actions.values()}
        if not ports.isdisjoint({names.ROUTER_PORT, names.ROUTER_ADMIN_PORT}):
            yield f"spec.containers[{index}].livenessProbe"


def _actions(probe: LivenessProbe) -> dict[str, dict[str, object]]:
    dumped = probe.model_dump(by_alias=True)
    return {name: dumped[name] for name in _PROBE_ACTIONS if dumped[name] is not None}


def _no_apparmor_annotations(spec: Spec) -> Iterator[str]:
    if any(name.startswith(_APPARMOR) for name in spec.pod.annotations):
        yield "spec.pod.annotations"


def _port_free(spec: Spec) -> Iterator[str]:
    for index, container in enumerate(spec.containers):
        if container.port is not None and _RESERVED_FIRST <= container.port <= _RESERVED_LAST:
            yield f"spec.containers[{index}].port"


def _env_not_ours(spec: Spec) -> Iterator[str]:
    for index, container in enumerate(spec.containers):
        if any(variable.name in RESERVED_ENV for variable in container.env):
            yield f"spec.containers[{index}].env"


def _requests_within_limits(spec: Spec) -> Iterator[str]:
    for index, container in enumerate(spec.containers):
        if _over_limit(container):
            yield f"spec.containers[{index}].resources.requests"


def _over_limit(container: Container) -> bool:
    limits = container.resources.limits
    return any(
        quantity(value) > quantity(limits[key]) for key, value in container.resources.requests.items() if key in limits
    )


def _shared_memory_is_bounded(spec: Spec) -> Iterator[str]:
    for index, container in enumerate(spec.containers):
        if quantity(container.shared_memory) == 0:
            yield f"spec.containers[{index}].sharedMemory"


def _env_has_one_source(spec: Spec) -> Iterator[str]:
    for index, container in enumerate(spec.containers):
        for position, variable in enumerate(container.env):
            source = variable.value_from
            given = (
                variable.value is not None,
                source is not None and source.secret_key_ref is not None,
                source is not None and source.config_map_key_ref is not None,
            )
            if sum(given) > 1 or (source is not None and not any(given)):
                yield f"spec.containers[{index}].env[{position}]"


_SUFFIXES: Final = {
    "": Decimal(1),
    "m": Decimal("0.001"),
    "k": Decimal(10) ** 3,
    "M": Decimal(10) ** 6,
    "G": Decimal(10) ** 9,
    "T": Decimal(10) ** 12,
    "P": Decimal(10) ** 15,
    "E": Decimal(10) ** 18,
    "Ki": Decimal(1024),
    "Mi": Decimal(1024) ** 2,
    "Gi": Decimal(1024) ** 3,
    "Ti": Decimal(1024) ** 4,
    "Pi": Decimal(1024) ** 5,
    "Ei": Decimal(1024) ** 6,
}
_NUMBER: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)([a-zA-Z]*)")


def quantity(value: int | str) -> Decimal:
    """A Kubernetes quantity as a number: cores, bytes or pieces (`250m` = 0.25, `1Ki` = 1024).

    Also reads the `n` and `u` suffixes that metrics-server answers with.

    Raises:
        ValueError: if `value` is no quantity.
    """
    match = _NUMBER.fullmatch(str(value))
    suffix = match[2] if match else ""
    factor = {"n": Decimal("1e-9"), "u": Decimal("1e-6")}.get(suffix, _SUFFIXES.get(suffix))
    if match is None or factor is None:
        raise ValueError(f"not a Kubernetes quantity: {value!r}")
    return Decimal(match[1]) * factor


RULES: Final = (
    Rule(
        name="serial-is-a-chain",
        scope=Scope.SPEC,
        cel="self.mode != 'Serial' || size(self.containers) >= 2",
        field=".mode",
        message="Serial is a chain and needs 2 or more containers; add one, or set mode: Direct",
        check=_serial_is_a_chain,
    ),
    Rule(
        name="any-is-direct",
        scope=Scope.SPEC,
        cel="self.availability != 'Any' || self.mode == 'Direct'",
        field=".availability",
        message="Any needs mode Direct, a chain needs all of its containers; set availability: All, or mode: Direct",
        check=_any_is_direct,
    ),
    Rule(
        name="ports-unique",
        scope=Scope.SPEC,
        cel="self.containers.all(c, !has(c.port) || self.containers.exists_one(o, has(o.port) && o.port == c.port))",
        field=".containers",
        message="two containers have the same port, and all containers of a pod share one network; "
        "give each its own, or leave port out to have one assigned",
        check=_ports_unique,
    ),
    Rule(
        name="rollout-moves",
        scope=Scope.SPEC,
        cel="self.rollout.maxSurge > 0 || self.rollout.maxUnavailable > 0",
        field=".rollout",
        message="maxSurge and maxUnavailable are both 0, so no update could ever start; set one of them to 1",
        check=_rollout_moves,
    ),
    Rule(
        name="linear-steps",
        scope=Scope.SPEC,
        cel=f"self.rollout.strategy != 'Linear' || self.rollout.stepPercent >= {wire.MIN_LINEAR_STEP_PERCENT}",
        field=".rollout.stepPercent",
        message=f"Linear moves {wire.MIN_LINEAR_STEP_PERCENT} to 50 percent at a time; raise stepPercent, or take "
        "strategy: Canary",
        check=_linear_steps,
    ),
    Rule(
        name="guard-bakes",
        scope=Scope.SPEC,
        cel="!has(self.rollout.maxErrorPercent) || self.rollout.bakeSeconds > 0",
        field=".rollout.maxErrorPercent",
        message="errors are counted while new pods bake; set bakeSeconds, or leave maxErrorPercent out",
        check=_guard_bakes,
    ),
    Rule(
        name="scaling-bounds",
        scope=Scope.SPEC,
        cel="!has(self.autoscaling) || self.autoscaling.minReplicas <= self.autoscaling.maxReplicas",
        field=".autoscaling",
        message="minReplicas is above maxReplicas; lower the one or raise the other",
        check=_scaling_bounds,
    ),
    Rule(
        name="metrics-whole",
        scope=Scope.SPEC,
        cel="!has(self.autoscaling) || self.autoscaling.metrics.all(m, m.type == 'ContainerCPU' ? "
        "has(m.targetPercent) && !has(m.target) : has(m.target) && !has(m.targetPercent))",
        field=".autoscaling.metrics",
        message="ContainerCPU needs targetPercent, the other types need target, and not both",
        check=_metrics_whole,
    ),
    Rule(
        name="metrics-name-containers",
        scope=Scope.SPEC,
        cel="!has(self.autoscaling) || self.autoscaling.metrics.all(m, has(m.container) && m.container != '' ? "
        "self.containers.exists(c, c.name == m.container) : m.type != 'ContainerCPU')",
        field=".autoscaling.metrics",
        message="container must be the name of one of spec.containers, and ContainerCPU needs it",
        check=_metrics_name_containers,
    ),
    Rule(
        name="cpu-has-request",
        scope=Scope.SPEC,
        cel="!has(self.autoscaling) || self.autoscaling.metrics.all(m, m.type != 'ContainerCPU' || "
        "self.containers.exists(c, has(m.container) && c.name == m.container && has(c.resources) && "
        "has(c.resources.requests) && 'cpu' in c.resources.requests))",
        field=".autoscaling.metrics",
        message="targetPercent is in percent of the container's CPU request; give it resources.requests.cpu",
        check=_cpu_has_request,
    ),
    Rule(
        name="peers-select",
        scope=Scope.SPEC,
        cel="!has(self.access) || !has(self.access.from) || "
        "self.access.from.all(p, has(p.namespaceSelector) || has(p.podSelector))",
        field=".access.from",
        message="a peer needs namespaceSelector, podSelector or both; namespaceSelector: {} is every namespace",
        check=_peers_select,
    ),
    Rule(
        name="port-free",
        scope=Scope.CONTAINER,
        cel=f"!has(self.port) || self.port < {_RESERVED_FIRST} || self.port > {_RESERVED_LAST}",
        field=".port",
        message=f"ports {_RESERVED_FIRST} to {_RESERVED_LAST} belong to the router and to assigned containers; "
        "take another one",
        check=_port_free,
    ),
    Rule(
        name="env-not-ours",
        scope=Scope.CONTAINER,
        cel="!has(self.env) || self.env.all(e, " + " && ".join(f"e.name != '{name}'" for name in RESERVED_ENV) + ")",
        field=".env",
        message=f"{' and '.join(RESERVED_ENV)} are set by the operator; leave them out (port: sets the port)",
        check=_env_not_ours,
    ),
    Rule(
        name="writable-apart",
        scope=Scope.CONTAINER,
        cel="!has(self.writablePaths) || (self.writablePaths.all(p, p != '/tmp' && p != '/dev/shm') && "
        "self.writablePaths.all(p, self.writablePaths.exists_one(o, o == p)))",
        field=".writablePaths",
        message="each path once; /tmp and /dev/shm are writable anyway",
        check=_writable_apart,
    ),
    Rule(
        name="mounts-apart",
        scope=Scope.CONTAINER,
        cel="!has(self.volumeMounts) || self.volumeMounts.all(m, "
        + " && ".join(f"m.mountPath != '{path}'" for path in _OUR_PATHS)
        + " && (!has(self.writablePaths) || !(m.mountPath in self.writablePaths)) && "
        "self.volumeMounts.exists_one(o, o.mountPath == m.mountPath))",
        field=".volumeMounts",
        message="each mountPath once, none of writablePaths, and not /tmp or /dev/shm, which are there anyway",
        check=_mounts_apart,
    ),
    Rule(
        name="mounts-name-volumes",
        scope=Scope.SPEC,
        cel="self.containers.all(c, !has(c.volumeMounts) || c.volumeMounts.all(m, has(self.pod) && "
        "has(self.pod.volumes) && self.pod.volumes.exists(v, v.name == m.name)))",
        field=".containers",
        message="a volumeMount names no volume of spec.pod.volumes; add the volume, or correct the name",
        check=_mounts_name_volumes,
    ),
    Rule(
        name="volume-has-one-source",
        scope=Scope.VOLUME,
        cel=f"[{', '.join(f'has(self.{kind})' for kind in _VOLUME_KINDS)}].filter(given, given).size() == 1",
        field="",
        message=f"give exactly one of {', '.join(_VOLUME_KINDS)}; Pod Security's restricted profile allows no others",
        check=_volume_has_one_source,
    ),
    Rule(
        name="volume-not-ours",
        scope=Scope.VOLUME,
        cel=f"!self.name.startsWith('{names.VOLUME_PREFIX}')",
        field=".name",
        message=f"names that begin with {names.VOLUME_PREFIX} are the operator's; take another one",
        check=_volume_not_ours,
    ),
    Rule(
        name="probe-has-one-action",
        scope=Scope.CONTAINER,
        cel="!has(self.livenessProbe) || ["
        + ", ".join(f"has(self.livenessProbe.{action})" for action in _PROBE_ACTIONS)
        + "].filter(given, given).size() == 1",
        field=".livenessProbe",
        message=f"give exactly one of {', '.join(_PROBE_ACTIONS)}",
        check=_probe_has_one_action,
    ),
    Rule(
        name="probe-not-of-router",
        scope=Scope.CONTAINER,
        cel="!has(self.livenessProbe) || ("
        + " && ".join(
            f"(!has(self.livenessProbe.{action}) || !has(self.livenessProbe.{action}.port) || "
            f"!(self.livenessProbe.{action}.port in [{names.ROUTER_PORT}, {names.ROUTER_ADMIN_PORT}]))"
            for action in _PROBED_PORTS
        )
        + ")",
        field=".livenessProbe",
        message="asks the router, so a router that restarts would get the container killed; probe the container's own "
        "port, or leave livenessProbe out",
        check=_probe_not_of_router,
    ),
    Rule(
        name="no-apparmor-annotations",
        scope=Scope.SPEC,
        cel="!has(self.pod) || !has(self.pod.annotations) || "
        f"self.pod.annotations.all(name, !name.startsWith('{_APPARMOR}'))",
        field=".pod.annotations",
        message=f"{_APPARMOR}... would take a container's AppArmor profile away; remove it",
        check=_no_apparmor_annotations,
    ),
    Rule(
        name="requests-within-limits",
        scope=Scope.CONTAINER,
        cel="!has(self.resources) || !has(self.resources.requests) || !has(self.resources.limits) || "
        "self.resources.requests.all(k, !(k in self.resources.limits) || quantity(string(self.resources.requests[k]))"
        ".compareTo(quantity(string(self.resources.limits[k]))) <= 0)",
        field=".resources",
        message="a request is larger than its limit; raise the limit or lower the request",
        check=_requests_within_limits,
    ),
    Rule(
        name="shared-memory-is-bounded",
        scope=Scope.CONTAINER,
        cel="!has(self.sharedMemory) || quantity(string(self.sharedMemory)).compareTo(quantity('0')) > 0",
        field=".sharedMemory",
        message="0 would be no limit at all; say how large /dev/shm may grow, such as 64Mi",
        check=_shared_memory_is_bounded,
    ),
    Rule(
        name="env-has-one-source",
        scope=Scope.ENV,
        cel="!has(self.valueFrom) || (!has(self.value) && "
        "(has(self.valueFrom.secretKeyRef) != has(self.valueFrom.configMapKeyRef)))",
        field="",
        message="give exactly one of value, valueFrom.secretKeyRef, valueFrom.configMapKeyRef",
        check=_env_has_one_source,
    ),
)


def violations(spec: Spec) -> tuple[Violation, ...]:
    """Every broken rule of `spec`, in the order of `RULES`."""
    return tuple(Violation(path=path, message=rule.message) for rule in RULES for path in rule.check(spec))
