"""`MultiContainerEndpoint`: the resource that a user writes, as frozen models. The CRD schema is generated from them.

A field is here only if it does something. Rules that need more than one field are in `rules`; what a value must look
like by itself is said here, once, for the API server (through `crd`) and for `mce validate` alike.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from mce_api import names, wire

QUANTITY_PATTERN: Final = r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi|E|Ei)?$"
INT_OR_STRING: Final = {"x-kubernetes-int-or-string": True}
PRESERVE: Final = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}

Quantity = Annotated[
    Annotated[int, Field(strict=True, ge=0)] | Annotated[str, Field(pattern=QUANTITY_PATTERN, max_length=32)],
    Field(json_schema_extra={**INT_OR_STRING, "pattern": QUANTITY_PATTERN, "maxLength": 32, "minimum": 0}),
]
Hostname = Annotated[str, Field(min_length=1, max_length=wire.NAME_MAX_LENGTH, pattern=wire.NAME_PATTERN)]
EnvName = Annotated[str, Field(min_length=1, max_length=1024, pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$")]
ContainerPath = Annotated[
    str, Field(min_length=1, max_length=wire.CONTAINER_PATH_MAX_LENGTH, pattern=wire.CONTAINER_PATH_PATTERN)
]
ObjectName = Annotated[str, Field(min_length=1, max_length=253)]
AbsolutePath = Annotated[str, Field(min_length=2, max_length=255, pattern=r"^(/\.?[A-Za-z0-9_-][A-Za-z0-9._-]*)+$")]
VolumeName = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
PortNumber = Annotated[int, Field(ge=1, le=65535)]
_MOST_LEVELS: Final = 32


def _shallow(value: dict[str, Any]) -> dict[str, Any]:
    """`value`, which no pod's field needs deeper; the definition cannot say that of a free-form field."""
    level: list[Any] = [value]
    for _ in range(_MOST_LEVELS):
        level = [
            inner
            for one in level
            if isinstance(one, dict | list)
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
    if level:
        raise ValueError(f"nested more than {_MOST_LEVELS} levels deep, as nothing in a pod is; correct it")
    return value


Free = Annotated[dict[str, Any], AfterValidator(_shallow), Field(json_schema_extra={**PRESERVE})]
"""As in any pod; the API server of the cluster checks it when the pods are made."""
LabelMap = Annotated[
    dict[Annotated[str, Field(max_length=317)], Annotated[str, Field(max_length=63)]], Field(max_length=64)
]


class Model(BaseModel):
    """Frozen, camelCase outside, unknown fields refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


class KeyRef(Model):
    """One key of a Secret or ConfigMap in the endpoint's namespace."""

    name: ObjectName
    key: ObjectName
    optional: bool = False


class EnvSource(Model):
    """Where a variable's value comes from; exactly one of the two."""

    secret_key_ref: KeyRef | None = None
    config_map_key_ref: KeyRef | None = None


class EnvVar(Model):
    """One environment variable of a container (AWS: `Environment`)."""

    name: EnvName
    value: Annotated[str, Field(max_length=1024)] | None = None
    value_from: EnvSource | None = None


class Resources(Model):
    """CPU, memory and extended resources, as in any pod. Siblings share a machine: give each container its limits."""

    requests: Annotated[dict[Annotated[str, Field(max_length=63)], Quantity], Field(max_length=16)] = {}
    limits: Annotated[dict[Annotated[str, Field(max_length=63)], Quantity], Field(max_length=16)] = {}


class VolumeMount(Model):
    """Where a container sees one of `spec.pod.volumes`."""

    name: VolumeName
    mount_path: AbsolutePath
    read_only: bool = False
    sub_path: Annotated[str, Field(max_length=255)] = ""


class HttpHeader(Model):
    """A header of a probe's request."""

    name: Annotated[str, Field(min_length=1, max_length=255)]
    value: Annotated[str, Field(max_length=1024)] = ""


class HttpProbe(Model):
    """GET; 200 to 399 is healthy."""

    path: Annotated[str | None, Field(max_length=1024, description="Default: the container's pingPath.")] = None
    port: Annotated[PortNumber | None, Field(description="Default: the container's own.")] = None
    scheme: Literal["HTTP", "HTTPS"] = "HTTP"
    http_headers: Annotated[tuple[HttpHeader, ...], Field(max_length=16)] = ()


class TcpProbe(Model):
    """A connection that opens is healthy."""

    port: Annotated[PortNumber | None, Field(description="Default: the container's own.")] = None


class GrpcProbe(Model):
    """The gRPC health protocol."""

    port: Annotated[PortNumber | None, Field(description="Default: the container's own.")] = None
    service: Annotated[str, Field(max_length=255)] = ""


class ExecProbe(Model):
    """A command in the container; status 0 is healthy."""

    command: Annotated[tuple[Annotated[str, Field(max_length=4096)], ...], Field(min_length=1, max_length=64)]


class LivenessProbe(Model):
    """As in any pod, without `host` (Pod Security) and without named ports; exactly one action."""

    http_get: HttpProbe | None = None
    tcp_socket: TcpProbe | None = None
    grpc: GrpcProbe | None = None
    exec_: Annotated[ExecProbe | None, Field(alias="exec")] = None
    initial_delay_seconds: Annotated[int, Field(ge=0, le=3600)] = 0
    period_seconds: Annotated[int, Field(ge=1, le=3600)] = 10
    timeout_seconds: Annotated[int, Field(ge=1, le=3600)] = 1
    failure_threshold: Annotated[int, Field(ge=1, le=100)] = 3


class Container(Model):
    """One model container."""

    name: Annotated[
        Hostname, Field(description="AWS ContainerHostname: the name that callers send as target. Its case is kept.")
    ]
    image: Annotated[str, Field(min_length=1, max_length=255, pattern=r"^\S+$")]
    image_pull_policy: Annotated[
        Literal["Always", "IfNotPresent", "Never"] | None, Field(description="Kubernetes' default if left out.")
    ] = None
    command: Annotated[
        tuple[Annotated[str, Field(max_length=4096)], ...] | None,
        Field(max_length=64, description="Replaces the image's entrypoint. Default: the image's own."),
    ] = None
    args: Annotated[
        tuple[Annotated[str, Field(max_length=4096)], ...],
        Field(max_length=64, description="Arguments of the entrypoint. Default: serve, as SageMaker runs images."),
    ] = ("serve",)
    env: Annotated[
        tuple[EnvVar, ...],
        Field(
            max_length=100, json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
        ),
    ] = ()
    resources: Resources = Resources()
    port: Annotated[
        int | None,
        Field(
            ge=1024,
            le=65535,
            description="Port of an image that ignores SAGEMAKER_BIND_TO_PORT. Default: an assigned one.",
        ),
    ] = None
    ping_path: Annotated[
        ContainerPath,
        Field(description="Path for health checks: GET, 200 is healthy. For servers that do not have SageMaker's."),
    ] = wire.PING_PATH
    invocations_path: Annotated[
        ContainerPath,
        Field(description="Path to which invocations are POSTed. For servers that do not have SageMaker's."),
    ] = wire.INVOCATIONS_PATH
    startup_timeout_seconds: Annotated[
        int,
        Field(
            ge=wire.MIN_STARTUP_TIMEOUT_SECONDS,
            le=wire.MAX_STARTUP_TIMEOUT_SECONDS,
            description="How long the ping may take to answer 200 (AWS ContainerStartupHealthCheckTimeoutInSeconds).",
        ),
    ] = wire.STARTUP_TIMEOUT_SECONDS
    invocation_timeout_seconds: Annotated[
        int, Field(ge=1, le=3600, description="How long this container may take to answer one invocation.")
    ] = wire.INVOCATION_TIMEOUT_SECONDS
    max_concurrency: Annotated[
        int, Field(ge=0, le=100_000, description="Invocations in flight per replica; above it 429. 0: no cap.")
    ] = 0
    shared_memory: Annotated[
        Quantity, Field(description="Size limit of the container's own /dev/shm, which counts as its memory.")
    ] = "512Mi"
    writable_paths: Annotated[
        tuple[AbsolutePath, ...],
        Field(
            max_length=8,
            description="Folders that get an empty volume of this container's own, such as /opt/ml/output. "
            "What the image has there is hidden.",
        ),
    ] = ()
    volume_mounts: Annotated[tuple[VolumeMount, ...], Field(max_length=32)] = ()
    liveness_probe: Annotated[
        LivenessProbe | None,
        Field(
            description="Default: none, since a container that is only busy must not be restarted; the router takes "
            "one that does not answer /ping out of traffic. The kubelet dials the pod's address: the image must "
            "listen on it, not only on 127.0.0.1."
        ),
    ] = None


class Limits(Model):
    """What one request, one hop of a chain and one replica may take."""

    max_request_bytes: Annotated[
        int, Field(ge=1, le=1 << 30, description="Largest request body, in bytes; above it 413.")
    ] = wire.MAX_BODY_BYTES
    max_hop_bytes: Annotated[
        int, Field(ge=1, le=1 << 30, description="Largest body handed from one Serial container to the next, in bytes.")
    ] = wire.MAX_HOP_BYTES
    max_concurrency: Annotated[
        int, Field(ge=0, le=100_000, description="Invocations in flight per replica; above it 503. 0: no cap.")
    ] = 0
    max_invocation_seconds: Annotated[
        int,
        Field(
            ge=0,
            le=3600,
            description="Longest time until the answer of an invocation begins, over all containers of a chain. "
            "0: as long as the slowest container may take alone, and at least 60.",
        ),
    ] = 0


class Rollout(Model):
    """How a new generation of pods replaces the old one, as SageMaker's deployment guardrails name it."""

    strategy: Annotated[
        Literal["Rolling", "AllAtOnce", "Canary", "Linear"],
        Field(
            description="Rolling: by maxSurge and maxUnavailable. AllAtOnce: all new pods beside all old ones. "
            "Canary: stepPercent of the pods first, then all others. Linear: stepPercent after stepPercent."
        ),
    ] = "Rolling"
    max_surge: Annotated[int, Field(ge=0, le=1000, description="Rolling: pods above spec.replicas.")] = 1
    max_unavailable: Annotated[int, Field(ge=0, le=1000, description="Rolling: pods below spec.replicas.")] = 0
    step_percent: Annotated[
        int,
        Field(ge=1, le=50, description="Canary (AWS CanarySize, 1-50) and Linear (AWS LinearStepSize, 10-50)."),
    ] = 10
    bake_seconds: Annotated[
        int,
        Field(
            ge=0,
            le=3600,
            description="How long each new pod serves beside the old ones before it replaces one (AWS "
            "WaitIntervalInSeconds).",
        ),
    ] = 0
    progress_deadline_seconds: Annotated[
        int,
        Field(
            ge=0,
            le=86_400,
            description="How long a rollout may go without progress. 0: the largest startupTimeoutSeconds and 600 s "
            "for the images. bakeSeconds come on top.",
        ),
    ] = 0
    auto_rollback: Annotated[
        bool, Field(description="Go back to the last good generation when a new one does not come up.")
    ] = True
    max_error_percent: Annotated[
        int | None,
        Field(
            ge=0,
            le=100,
            description="Also go back when more than this share of the new pods' invocations fail with 5xx while "
            "they bake. Default: not looked at.",
        ),
    ] = None


class Metric(Model):
    """One figure that drives the number of replicas."""

    type: Annotated[
        Literal["InvocationsPerReplica", "ConcurrencyPerReplica", "ContainerCPU"],
        Field(
            description="InvocationsPerReplica: invocations per minute (AWS SageMakerVariantInvocationsPerInstance). "
            "ConcurrencyPerReplica: invocations in flight. Both of the busiest container. "
            "ContainerCPU: CPU of one container, in percent of its request."
        ),
    ]
    target: Annotated[int | None, Field(ge=1, le=1_000_000, description="Per replica; not for ContainerCPU.")] = None
    container: Annotated[
        str, Field(max_length=wire.NAME_MAX_LENGTH, description="ContainerCPU needs it. Else: only this container.")
    ] = ""
    target_percent: Annotated[int | None, Field(ge=1, le=1000, description="ContainerCPU only.")] = None


class Autoscaling(Model):
    """Between how many replicas the endpoint moves by itself, and by what (AWS: Application Auto Scaling)."""

    min_replicas: Annotated[int, Field(ge=1, le=1000)] = 1
    max_replicas: Annotated[int, Field(ge=1, le=1000)]
    metrics: Annotated[tuple[Metric, ...], Field(min_length=1, max_length=8)]
    scale_in_cooldown_seconds: Annotated[
        int, Field(ge=0, le=3600, description="The highest demand of this time decides how far it goes down.")
    ] = 300
    scale_out_cooldown_seconds: Annotated[
        int, Field(ge=0, le=3600, description="The lowest demand of this time decides how far it goes up.")
    ] = 0


class Peer(Model):
    """Who may call: as a peer of a NetworkPolicy; both selectors together mean both."""

    namespace_selector: Annotated[Free | None, Field(description="Namespaces by label; {}: all.")] = None
    pod_selector: Annotated[Free | None, Field(description="Pods by label; alone: in its own namespace.")] = None


class Access(Model):
    """Who reaches the endpoint over the network, where the cluster enforces NetworkPolicies."""

    from_: Annotated[
        tuple[Peer, ...],
        Field(alias="from", max_length=32, description="Default: every pod of the endpoint's own namespace."),
    ] = ()


class Toleration(Model):
    """As in any pod."""

    key: Annotated[str, Field(max_length=317)] | None = None
    operator: Literal["Exists", "Equal"] | None = None
    value: Annotated[str, Field(max_length=63)] | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    toleration_seconds: int | None = None


class PullSecret(Model):
    """A Secret of type kubernetes.io/dockerconfigjson in the endpoint's namespace."""

    name: ObjectName


class Volume(Model):
    """A volume of the kinds that Pod Security's restricted profile allows; exactly one of them."""

    name: VolumeName
    config_map: Free | None = None
    csi: Free | None = None
    downward_api: Annotated[Free | None, Field(alias="downwardAPI")] = None
    empty_dir: Free | None = None
    ephemeral: Free | None = None
    persistent_volume_claim: Free | None = None
    projected: Free | None = None
    secret: Free | None = None


class Pod(Model):
    """What the pods get besides their containers: placement, identity, labels, security profile."""

    node_selector: LabelMap = {}
    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=32)] = ()
    affinity: Free = {}
    service_account_name: Annotated[
        str, Field(max_length=253, description="Default: the endpoint's own, made by the operator, without any right.")
    ] = ""
    image_pull_secrets: Annotated[tuple[PullSecret, ...], Field(max_length=16)] = ()
    annotations: Annotated[
        dict[Annotated[str, Field(max_length=317)], Annotated[str, Field(max_length=4096)]], Field(max_length=64)
    ] = {}
    labels: LabelMap = {}
    volumes: Annotated[
        tuple[Volume, ...],
        Field(
            max_length=32,
            description="As in any pod; containers mount them by volumeMounts.",
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = ()
    topology_spread_constraints: Annotated[
        tuple[Free, ...],
        Field(
            max_length=8,
            description="As in any pod; one without labelSelector means the endpoint's own pods. "
            "Default: over the nodes, where possible.",
        ),
    ] = ()
    priority_class_name: Annotated[str, Field(max_length=253)] = ""
    runtime_class_name: Annotated[str, Field(max_length=253)] = ""
    security_profile: Annotated[
        Literal["restricted", "baseline"],
        Field(
            description="Pod Security profile of the containers. restricted: non-root, each with a user id of its own. "
            "baseline: as the image says, for images that need root."
        ),
    ] = "restricted"


class Spec(Model):
    """What the user wants."""

    mode: Annotated[
        Literal["Direct", "Serial"],
        Field(description="Direct: the caller names one container. Serial: the containers are a chain, in list order."),
    ] = "Serial"
    replicas: Annotated[int, Field(ge=0, le=1000, description="Leave it out with autoscaling, which sets it.")] = 1
    containers: Annotated[
        tuple[Container, ...],
        Field(
            min_length=1,
            max_length=wire.MAX_CONTAINERS,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ]
    availability: Annotated[
        Literal["All", "Any"],
        Field(description="When a replica takes traffic: All containers healthy, or Any of them (Direct only)."),
    ] = "All"
    limits: Limits = Limits()
    rollout: Rollout = Rollout()
    autoscaling: Autoscaling | None = None
    access: Access = Access()
    suspend: Annotated[bool, Field(description="true: no pods, state OutOfService; replicas is kept for later.")] = (
        False
    )
    pod: Pod = Pod()


class ObjectMeta(BaseModel):
    """The few metadata fields that matter here; Kubernetes' others are let through."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)

    name: Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$")]
    namespace: Annotated[str, Field(max_length=63)] = "default"
    uid: str = ""
    generation: int = 0
    deletion_timestamp: str | None = None
    annotations: dict[str, str] = {}


class MultiContainerEndpoint(Model):
    """The whole resource as `kubectl apply` gets it; `status` is let through and ignored."""

    api_version: Literal["serving.mce.dev/v1alpha1"] = names.API_VERSION  # type: ignore[assignment]  # the same text
    kind: Literal["MultiContainerEndpoint"] = names.KIND
    metadata: ObjectMeta
    spec: Spec
    status: Annotated[dict[str, Any], Field(exclude=True)] = {}
