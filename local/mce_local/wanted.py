"""What should run here: an endpoint resolved to commands, variables, limits. Pure; nothing is read or looked up later.

`Wanted` is what the client writes and the supervisor reads. Equal containers need no restart, whatever else changed.
"""

import math
from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Literal

from pydantic import Field

from mce_api import routes, rules, wire
from mce_api.endpoint import Container as SpecContainer
from mce_api.endpoint import EnvVar, Limits, Model, MultiContainerEndpoint
from mce_local.errors import LocalError

if TYPE_CHECKING:
    from mce_local.images import Images  # YAML, which only `resolve` needs; commands that only look do without


class RuntimeKind(StrEnum):
    """How a container is run."""

    PROCESS = "process"
    DOCKER = "docker"
    PODMAN = "podman"


class Container(Model):
    """All that a restart would be needed for."""

    name: str
    image: str
    pull: Literal["always", "missing", "never"] | None = None
    command: tuple[str, ...]
    """process: the whole command without `args`. docker, podman: replaces the image's entrypoint, if not empty."""
    args: tuple[str, ...]
    working_dir: str = ""
    env: Mapping[str, str] = Field(default_factory=dict)
    port: int | None = None
    ping_path: str = wire.PING_PATH
    invocations_path: str = wire.INVOCATIONS_PATH
    cpu_cores: float | None = None
    memory_bytes: int | None = None


class Rule(Model):
    """What can change while a container runs."""

    startup_timeout_seconds: float
    invocation_timeout_seconds: float
    max_concurrency: int


class Wanted(Model):
    """One endpoint."""

    endpoint: str
    namespace: str
    mode: Literal["Direct", "Serial"]
    availability: Literal["All", "Any"]
    limits: Limits
    runtime: RuntimeKind
    port: int | None = None
    """The router's; None: keep the one it has, else the first free one."""
    containers: tuple[Container, ...]
    rules: dict[str, Rule]


_PULL: Final[Mapping[str, Literal["always", "missing", "never"]]] = {
    "Always": "always",
    "IfNotPresent": "missing",
    "Never": "never",
}


def resolve(
    endpoint: MultiContainerEndpoint,
    runtime: RuntimeKind,
    images: "Images | None",
    given: Mapping[str, str],
    port: int | None,
) -> Wanted:
    """What `endpoint` means on this machine.

    Args:
        endpoint: a valid resource.
        runtime: how to run its containers.
        images: stand-ins of images; needed by the process runtime.
        given: values for variables whose valueFrom names a Secret or ConfigMap, by variable name.
        port: the router's, if the user wants a certain one.

    Raises:
        LocalError: naming what cannot be had without a cluster, and the fix.
    """
    spec = endpoint.spec
    if spec.suspend:
        raise LocalError(f"endpoint {endpoint.metadata.name}: spec.suspend is true, so nothing would run; remove it")
    return Wanted(
        endpoint=endpoint.metadata.name,
        namespace=endpoint.metadata.namespace,
        mode=spec.mode,
        availability=spec.availability,
        limits=spec.limits,
        runtime=runtime,
        port=port,
        containers=tuple(_container(container, runtime, images, given) for container in spec.containers),
        rules={
            container.name: Rule(
                startup_timeout_seconds=container.startup_timeout_seconds,
                invocation_timeout_seconds=container.invocation_timeout_seconds,
                max_concurrency=container.max_concurrency,
            )
            for container in spec.containers
        },
    )


def _container(
    container: SpecContainer, runtime: RuntimeKind, images: "Images | None", given: Mapping[str, str]
) -> Container:
    limits = container.resources.limits
    command, folder = container.command or (), ""
    if runtime is RuntimeKind.PROCESS:
        if images is None:
            raise LocalError("--runtime process needs an images.yaml; name one with --images")
        entry = images.entry(container.image, container.name)
        command, folder = command or entry.command, str(images.folder(entry))
    env = {variable.name: _value(variable, container.name, given) for variable in container.env}
    return Container(
        name=container.name,
        image=container.image,
        pull=_PULL.get(container.image_pull_policy or ""),
        command=command,
        args=container.args,
        working_dir=folder,
        env={name: value for name, value in env.items() if value is not None},
        port=container.port,
        ping_path=container.ping_path,
        invocations_path=container.invocations_path,
        cpu_cores=float(rules.quantity(limits["cpu"])) if "cpu" in limits else None,
        memory_bytes=math.ceil(rules.quantity(limits["memory"])) if "memory" in limits else None,
    )


def _value(variable: EnvVar, container: str, given: Mapping[str, str]) -> str | None:
    source = variable.value_from
    if source is None:
        return variable.value or ""
    reference = source.secret_key_ref or source.config_map_key_ref
    if variable.name in given:
        return given[variable.name]
    if reference is not None and reference.optional:
        return None
    kind = "Secret" if source.secret_key_ref else "ConfigMap"
    name = f"{reference.name}, key {reference.key}" if reference else "?"
    raise LocalError(
        f"container {container}: variable {variable.name} comes from {kind} {name}, and there is no cluster to read it "
        f"from; give it a value with --env-file FILE (a line {variable.name}=...)"
    )


def bind_env(port: int, block: int, block_size: int) -> dict[str, str]:
    """The two variables that tell a container its ports (`block`: first port of its own range)."""
    return {wire.BIND_TO_PORT: str(port), wire.SAFE_PORT_RANGE: f"{block + 1}-{block + block_size - 1}"}


def route_table(wanted: Wanted, ports: Mapping[str, int]) -> routes.RouteTable:
    """The router's table when container `name` listens on `ports[name]`."""
    return routes.RouteTable(
        namespace=wanted.namespace,
        endpoint=wanted.endpoint,
        mode=wanted.mode,
        availability=wanted.availability,
        targets=tuple(
            routes.Target(
                name=container.name,
                port=ports[container.name],
                invocation_timeout_seconds=wanted.rules[container.name].invocation_timeout_seconds,
                max_concurrency=wanted.rules[container.name].max_concurrency,
                ping_path=container.ping_path,
                invocations_path=container.invocations_path,
            )
            for container in wanted.containers
        ),
        limits=routes.Limits(
            max_request_bytes=wanted.limits.max_request_bytes,
            max_hop_bytes=wanted.limits.max_hop_bytes,
            max_concurrency=wanted.limits.max_concurrency,
            max_invocation_seconds=wanted.limits.max_invocation_seconds,
        ),
    )
