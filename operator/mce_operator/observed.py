"""What a pass knows of an endpoint, as frozen values; absence is a value. Pure: parses dicts, reads nothing.

Made by `observe`, read by `plan` and `status`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pydantic import ValidationError

from mce_api import names
from mce_api.status import AutoscalingStatus, Status
from mce_operator.fleet import Fleet
from mce_operator.key import Key

Raw = Mapping[str, Any]

_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)
ROUTER_START: Final = timedelta(seconds=5)
"""For which a router that runs and is not ready may not listen yet; later it is the models that are not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A live object under the name of one of our children."""

    kind: str
    name: str
    uid: str
    is_managed: bool
    """Whether it carries our labels."""
    controller_kind: str
    """`Kind.group` of its controller; empty: it has none."""
    controller_uid: str
    annotations: Mapping[str, str]
    hash: str
    """Hash of what was last applied."""
    owned: str
    """The fields that are ours (see `ownership`)."""
    others: str = "[]"
    """The fields that are other managers' (see `drift`)."""
    is_deleting: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetReport:
    """One container as its pod's router sees it (`GET /targets`)."""

    state: str
    cause: str
    """Why it is not healthy; a word of the router's closed list."""
    text: str = ""
    """The same for people."""
    listens_on: tuple[int, ...] = ()
    """Ports on which the container's user listens, if the router can tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What one container has been asked since its router started (`GET /metrics`)."""

    invocations: float
    errors_5xx: float
    in_flight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterReport:
    """What one pod's router says; containers by AWS name."""

    targets: Mapping[str, TargetReport] = field(default_factory=dict)
    traffic: Mapping[str, Traffic] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """What this operator has seen and done to scale an endpoint, since its own start."""

    decided: AutoscalingStatus | None
    """The last change of replicas."""
    latest: AutoscalingStatus | None
    """What the newest figures ask for; its number of replicas is not set."""
    blind: str
    """The metric that has had no figures for a while, or empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Autoscaler:
    """The HorizontalPodAutoscaler's own account."""

    desired: int
    utilization: Mapping[str, int]
    """CPU in percent of the request, on average, by Kubernetes name of the container."""
    last_scale_time: str | None
    failure: str
    """Why it has no figures, in its own word; empty if it has."""
    failing_since: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """The Deployment's own account of its pods."""

    is_current: bool
    """Whether its controller has seen the newest spec."""
    replicas: int
    updated: int
    ready: int
    available: int
    deadline_exceeded: str
    """Message of the Progressing condition if the deadline is over, else empty."""
    replica_failure: str
    """Why no pod could be made, else empty."""
    is_settled: bool = False
    """Whether the present template has once been on all pods, and all of them available (bake time included).

    Kubernetes keeps that in the Progressing condition until the template changes, whatever befalls the pods later. For
    a moment after a change it is still said of the template before; `replicas` and `updated` differ then.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Termination:
    """How a container's process ended."""

    exit_code: int
    reason: str
    message: str
    ran_seconds: float
    finished: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """How a pod was lost that nobody had asked to go."""

    reason: str
    """The kubelet's word (`Evicted`, `OutOfcpu`), or that of the pod's DisruptionTarget condition."""
    message: str
    at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerState:
    """One container of one pod, as the kubelet tells."""

    name: str
    is_ready: bool
    is_started: bool
    restarts: int
    waiting_reason: str = ""
    waiting_message: str = ""
    running_since: datetime | None = None
    terminated: Termination | None = None
    """Of the present run if it is over, else of the one before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """One replica."""

    name: str
    endpoint: str
    template: str
    """Hash of the template that it was made from."""
    is_ready: bool
    ready_changed: datetime | None
    """Since when that is so."""
    replica_set: str
    """Name of the ReplicaSet that it belongs to."""
    ip: str
    """Where its router listens; empty before the pod has a network."""
    is_deleting: bool
    """Whether it is on its way out, or finished."""
    is_finished: bool
    """Whether all its containers have ended for good; no Service sends to it, and nobody need delete it."""
    unschedulable: str
    """What the scheduler says, if it found no place."""
    containers: Mapping[str, ContainerState]
    """By Kubernetes name, the router included; empty before the kubelet has taken the pod."""
    lost: Loss | None = None

    @property
    def router(self) -> ContainerState | None:
        """Its router; None before the kubelet has taken the pod."""
        return self.containers.get(names.ROUTER_CONTAINER)

    @property
    def listens_from(self) -> datetime | None:
        """From when its router takes requests, as far as that can be told; None: it does not run."""
        router = self.router
        if router is None or router.running_since is None:
            return None
        return _LONG_AGO if router.is_ready else router.running_since + ROUTER_START


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """An endpoint and all that belongs to it, at one moment."""

    key: Key
    document: Raw
    """The endpoint as stored."""
    children: Mapping[str, Child] = field(default_factory=dict)
    """By kind."""
    rollout: Rollout | None = None
    began_with: str = ""
    """The template that the Deployment had when the pass began; empty: there was none."""
    pods: tuple[Pod, ...] = ()
    routers: Mapping[str, RouterReport] = field(default_factory=dict)
    """By pod name; only of pods that somebody has asked about, and that answered."""
    autoscaler: Autoscaler | None = None
    scaling: Scaling | None = None
    """None: this operator does not scale it, or has not looked yet."""
    fleet: Fleet | None = None
    """Only while an in-place change is under way."""
    refusal: str = ""
    """Why the API server has refused a step of that change."""

    @property
    def uid(self) -> str:
        """The endpoint's."""
        return str(self.document["metadata"].get("uid", ""))

    @property
    def generation(self) -> int:
        """The endpoint's."""
        return int(self.document["metadata"].get("generation", 0))

    @property
    def is_deleting(self) -> bool:
        """Whether the endpoint is on its way out."""
        return bool(self.document["metadata"].get("deletionTimestamp"))

    @property
    def told(self) -> Status:
        """The status as last written; one that somebody else has spoilt counts as none."""
        try:
            return Status.model_validate(self.document.get("status") or {})
        except ValidationError:
            return Status()

    def pods_of(self, template: str) -> tuple[Pod, ...]:
        """The pods of one generation that are there to stay."""
        return tuple(pod for pod in self.pods if pod.template == template and not pod.is_deleting)


def child(kind: str, raw: Raw, owned: str, others: str) -> Child:
    """A child out of its object."""
    metadata = raw["metadata"]
    controllers = [ref for ref in metadata.get("ownerReferences") or () if ref.get("controller")]
    controller = controllers[0] if controllers else {}
    group = str(controller.get("apiVersion", "")).rpartition("/")[0]
    return Child(
        kind=kind,
        name=metadata["name"],
        uid=metadata.get("uid", ""),
        is_managed=(metadata.get("labels") or {}).get(names.MANAGED_BY_LABEL) == names.MANAGED_BY,
        controller_kind=f"{controller['kind']}.{group}" if controller else "",
        controller_uid=controller.get("uid", ""),
        annotations=metadata.get("annotations") or {},
        hash=(metadata.get("annotations") or {}).get(names.HASH_ANNOTATION, ""),
        owned=owned,
        others=others,
        is_deleting=bool(metadata.get("deletionTimestamp")),
    )


def rollout(raw: Raw) -> Rollout:
    """The numbers and conditions in a Deployment's status."""
    status = raw.get("status") or {}
    conditions = {one["type"]: one for one in status.get("conditions") or ()}
    progressing = conditions.get("Progressing", {})
    late = progressing.get("status") == "False" and progressing.get("reason") == "ProgressDeadlineExceeded"
    failure = conditions.get("ReplicaFailure", {})
    replicas, updated = status.get("replicas", 0), status.get("updatedReplicas", 0)
    return Rollout(
        is_current=status.get("observedGeneration", 0) >= raw["metadata"].get("generation", 0),
        replicas=replicas,
        updated=updated,
        ready=status.get("readyReplicas", 0),
        available=status.get("availableReplicas", 0),
        deadline_exceeded=progressing.get("message", "") if late else "",
        replica_failure=failure.get("message", "") if failure.get("status") == "True" else "",
        is_settled=progressing.get("reason") == "NewReplicaSetAvailable" and replicas == updated,
    )


def autoscaler(raw: Raw) -> Autoscaler:
    """The numbers and conditions in a HorizontalPodAutoscaler's status."""
    status = raw.get("status") or {}
    conditions = {one["type"]: one for one in status.get("conditions") or ()}
    active = conditions.get("ScalingActive", {})
    failing = active.get("status") == "False"
    metrics = [one.get("containerResource") or {} for one in status.get("currentMetrics") or ()]
    return Autoscaler(
        desired=status.get("desiredReplicas", 0),
        utilization={
            one["container"]: one["current"]["averageUtilization"]
            for one in metrics
            if "averageUtilization" in (one.get("current") or {})
        },
        last_scale_time=status.get("lastScaleTime"),
        failure=active.get("reason", "") if failing else "",
        failing_since=_moment(active.get("lastTransitionTime")) if failing else None,
    )


def pod(raw: Raw) -> Pod:
    """A pod out of its object."""
    metadata, status = raw["metadata"], raw.get("status") or {}
    conditions = {one["type"]: one for one in status.get("conditions") or ()}
    scheduled = conditions.get("PodScheduled", {})
    ready = conditions.get("Ready", {})
    owners = [one["name"] for one in metadata.get("ownerReferences") or () if one.get("kind") == "ReplicaSet"]
    unplaced = scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable"
    finished = status.get("phase") in {"Failed", "Succeeded"}
    statuses = (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ()))
    return Pod(
        name=metadata["name"],
        endpoint=(metadata.get("labels") or {}).get(names.ENDPOINT_LABEL, ""),
        template=(metadata.get("annotations") or {}).get(names.HASH_ANNOTATION, ""),
        is_ready=ready.get("status") == "True",
        ready_changed=_moment(ready.get("lastTransitionTime")),
        replica_set=next(iter(owners), ""),
        ip=status.get("podIP", ""),
        is_deleting=bool(metadata.get("deletionTimestamp")) or finished,
        is_finished=finished,
        unschedulable=scheduled.get("message", "") if unplaced else "",
        containers={one["name"]: _container(one) for one in statuses},
        lost=_loss(raw, conditions),
    )


def _loss(raw: Raw, conditions: Mapping[str, Raw]) -> Loss | None:
    status, target = raw.get("status") or {}, conditions.get("DisruptionTarget", {})
    target = target if target.get("status") == "True" else {}
    # A pod that was only deleted may fail too, by how its containers end: then it gives no reason.
    has_failed = status.get("phase") == "Failed" and status.get("reason")
    if not has_failed and not (target and raw["metadata"].get("deletionTimestamp")):
        return None
    states = (
        (one.get("state") or {}).get("terminated") or {}
        for one in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ()))
    )
    ends = [_moment(target.get("lastTransitionTime")), *(_moment(state.get("finishedAt")) for state in states)]
    known = [end for end in ends if end is not None]
    return Loss(
        reason=status.get("reason") or target.get("reason", ""),
        message=status.get("message") or target.get("message", ""),
        at=max(known) if known else _moment(raw["metadata"].get("creationTimestamp")),
    )


def _container(raw: Raw) -> ContainerState:
    state, last = raw.get("state") or {}, raw.get("lastState") or {}
    waiting, running = state.get("waiting") or {}, state.get("running") or {}
    ended = state.get("terminated") or last.get("terminated")
    return ContainerState(
        name=raw["name"],
        is_ready=bool(raw.get("ready")),
        is_started=bool(raw.get("started")),
        restarts=raw.get("restartCount", 0),
        waiting_reason=waiting.get("reason", ""),
        waiting_message=waiting.get("message", ""),
        running_since=_moment(running.get("startedAt")),
        terminated=_termination(ended) if ended else None,
    )


def _termination(raw: Raw) -> Termination:
    started, finished = _moment(raw.get("startedAt")), _moment(raw.get("finishedAt"))
    return Termination(
        exit_code=raw.get("exitCode", 0),
        reason=raw.get("reason", ""),
        message=raw.get("message", ""),
        ran_seconds=(finished - started).total_seconds() if started and finished else 0.0,
        finished=finished,
    )


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def pods(raws: Iterable[Raw]) -> tuple[Pod, ...]:
    """Several pods."""
    return tuple(pod(raw) for raw in raws)
