"""What an endpoint says of itself: the status model, its closed lists of words, and the merge of conditions.

Shape: kstatus (Ready, Reconciling, Stalled), so that `kubectl wait`, `helm --wait` and Argo CD read it without being
taught.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from mce_api.endpoint import Model


class State(StrEnum):
    """AWS `EndpointStatus` words (sagemaker service model) that this operator uses."""

    CREATING = "Creating"
    UPDATING = "Updating"
    ROLLING_BACK = "RollingBack"
    UPDATE_ROLLBACK_FAILED = "UpdateRollbackFailed"
    IN_SERVICE = "InService"
    OUT_OF_SERVICE = "OutOfService"
    FAILED = "Failed"
    DELETING = "Deleting"


class Why(StrEnum):
    """Why a container, or the endpoint, is not ready. A closed list: alerts and docs rest on it."""

    NONE = ""
    PENDING = "Pending"
    STARTING = "Starting"
    IMAGE_PULL = "ImagePull"
    CREATE_CONFIG = "CreateConfig"
    EXIT = "Exit"
    OOM_KILLED = "OOMKilled"
    PING_TIMEOUT = "PingTimeout"
    PORT_NOT_BOUND = "PortNotBound"
    PORT_TAKEN = "PortTaken"
    START_BUDGET = "StartBudget"
    UNSCHEDULABLE = "Unschedulable"
    ADMISSION = "Admission"
    QUOTA = "Quota"
    EVICTED = "Evicted"
    APPLY_FAILED = "ApplyFailed"
    NAME_TAKEN = "NameTaken"
    INVALID_SPEC = "InvalidSpec"
    ROLLING_OUT = "RollingOut"
    RESIZING = "Resizing"
    ROLLING_BACK = "RollingBack"
    ROLLED_BACK = "RolledBack"
    ERROR_RATE = "ErrorRate"
    DEADLINE = "ProgressDeadline"
    SUSPENDED = "Suspended"
    NOT_READY = "NotReady"
    READY = "Ready"
    SETTLED = "Settled"


class ConditionType(StrEnum):
    """kstatus' three, and two of our own that say more and decide nothing."""

    READY = "Ready"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"
    DEGRADED = "Degraded"
    ROLLED_BACK = "RolledBack"


class Condition(Model):
    """One condition, as `metav1.Condition`."""

    type: Annotated[str, Field(max_length=316)]
    status: Literal["True", "False", "Unknown"]
    reason: Annotated[str, Field(min_length=1, max_length=1024, pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")]
    message: Annotated[str, Field(max_length=32768)] = ""
    last_transition_time: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    observed_generation: Annotated[int, Field(ge=0, json_schema_extra={"format": "int64"})] = 0


class ContainerStatus(Model):
    """One container over all replicas."""

    name: Annotated[str, Field(max_length=63, description="AWS ContainerHostname.")]
    ready: Annotated[int, Field(ge=0)] = 0
    total: Annotated[int, Field(ge=0)] = 0
    restarts: Annotated[int, Field(ge=0)] = 0
    reason: Annotated[str, Field(max_length=64)] = ""
    message: Annotated[str, Field(max_length=2048)] = ""
    last_exit_code: int | None = None
    last_log_lines: Annotated[
        str, Field(max_length=2048, description="What it printed last before it ended; secrets are taken out.")
    ] = ""
    since: Annotated[str | None, Field(json_schema_extra={"format": "date-time"})] = None


class RolloutStatus(Model):
    """How the newest change reaches the pods."""

    method: Annotated[
        Literal["Rollout", "InPlace", "Rollback"],
        Field(description="InPlace: CPU or memory of running containers was changed, nothing restarted."),
    ]
    updated: Annotated[int, Field(ge=0, description="Pods that have it.")] = 0
    total: Annotated[int, Field(ge=0)] = 0
    message: Annotated[str, Field(max_length=1024)] = ""


class AutoscalingStatus(Model):
    """What drives the number of replicas."""

    desired_replicas: Annotated[int, Field(ge=0)] = 0
    metric: Annotated[str, Field(max_length=64, description="Type of the metric that asked for most.")] = ""
    container: Annotated[str, Field(max_length=63, description="The container that it is about.")] = ""
    message: Annotated[str, Field(max_length=1024)] = ""
    last_scale_time: Annotated[str | None, Field(json_schema_extra={"format": "date-time"})] = None


class Status(Model):
    """The status subresource."""

    state: Annotated[str, Field(max_length=32)] = State.CREATING.value
    reason: Annotated[str, Field(max_length=64)] = ""
    failure_reason: Annotated[str, Field(max_length=1024)] = ""
    observed_generation: Annotated[int, Field(json_schema_extra={"format": "int64"})] = -1
    replicas: Annotated[int, Field(ge=0)] = 0
    ready_replicas: Annotated[int, Field(ge=0)] = 0
    selector: Annotated[str, Field(max_length=512)] = ""
    containers_ready: Annotated[str, Field(max_length=16)] = ""
    conditions: Annotated[
        tuple[Condition, ...],
        Field(
            max_length=16, json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}
        ),
    ] = ()
    containers: Annotated[
        tuple[ContainerStatus, ...],
        Field(
            max_length=15, json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
        ),
    ] = ()
    rollout: RolloutStatus | None = None
    autoscaling: AutoscalingStatus | None = None
    url: Annotated[str, Field(max_length=512)] = ""


def merged(wanted: Iterable[Condition], before: Iterable[Condition]) -> tuple[Condition, ...]:
    """`wanted`, with the earlier transition time wherever the status did not change: else every pass is a write."""
    known = {condition.type: condition for condition in before}
    result = []
    for condition in wanted:
        old = known.get(condition.type)
        kept = old is not None and old.status == condition.status
        time = old.last_transition_time if kept and old else condition.last_transition_time
        result.append(condition.model_copy(update={"last_transition_time": time}))
    return tuple(result)
