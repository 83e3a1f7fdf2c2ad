"""The ReplicaSets and pods behind a Deployment, as an in-place change has to see them. Pure: parses dicts.

They are read while such a change is under way and never watched.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from mce_api import names, rules

Raw = Mapping[str, Any]
Amounts = Mapping[str, str]
"""By `cpu` and `memory`."""
Resources = Mapping[str, Mapping[str, Amounts]]
"""By container, then `requests` and `limits`."""

KINDS: Final = ("requests", "limits")
RESIZABLE: Final = ("cpu", "memory")
"""What Kubernetes can change in a running container."""
_POD_TEMPLATE_HASH: Final = "pod-template-hash"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaSet:
    """One that has pods."""

    name: str
    resource_version: str
    pod_template_hash: str
    """The label by which it knows its pods."""
    template: str
    """Our hash in its pod template."""
    resources: Resources
    """What its new pods get."""
    matches: bool
    """Whether its whole pod template is the Deployment's."""
    is_current: bool
    """Whether its controller has seen its newest spec: from then on it makes no pod of an older one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResizedPod:
    """One pod and how far its kubelet is."""

    name: str
    replica_set: str
    """Name of its own."""
    template: str
    resources: Resources
    """What it should have."""
    is_settled: bool
    """Whether it has that."""
    pending: str
    """What its kubelet says of a change that it has not made yet."""
    pending_since: datetime | None
    is_infeasible: bool
    """Its node can never make the change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """All of one Deployment."""

    template: Raw
    """The Deployment's pod template as stored, with the defaults of the API server."""
    replica_sets: tuple[ReplicaSet, ...]
    pods: tuple[ResizedPod, ...]


def fleet(deployment: Raw, replica_sets: Iterable[Raw], pods: Iterable[Raw]) -> Fleet:
    """The fleet of a Deployment out of objects that may also be somebody else's."""
    own = [one for one in replica_sets if _controller(one) == deployment["metadata"]["uid"] and _size(one)]
    owners = {one["metadata"]["uid"]: one["metadata"]["name"] for one in own}
    return Fleet(
        template=deployment["spec"]["template"],
        replica_sets=tuple(_replica_set(one, deployment["spec"]["template"]) for one in own),
        pods=tuple(_pod(one, owners[_controller(one)]) for one in pods if _controller(one) in owners and _stays(one)),
    )


def resources(containers: Iterable[Raw]) -> dict[str, dict[str, dict[str, str]]]:
    """CPU and memory of containers, with the request that Kubernetes derives from a limit."""
    found = {}
    for container in containers:
        given = container.get("resources") or {}
        limits, requests = ({**(given.get(kind) or {})} for kind in ("limits", "requests"))
        both = {"requests": {**limits, **requests}, "limits": limits}
        found[container["name"]] = {
            kind: {name: str(amounts[name]) for name in RESIZABLE if name in amounts} for kind, amounts in both.items()
        }
    return found


def covers(has: Resources, wanted: Resources) -> bool:
    """Whether every amount of `wanted` is in `has`, however it is written (`1` is `1000m`)."""
    return all(
        _same(has.get(container, {}).get(kind, {}).get(name), amount)
        for container, kinds in wanted.items()
        for kind, amounts in kinds.items()
        for name, amount in amounts.items()
    )


def _same(one: str | None, other: str) -> bool:
    try:
        return one is not None and (one == other or rules.quantity(one) == rules.quantity(other))
    except ValueError:  # in a form of Kubernetes' that no spec of ours may have
        return False


def _replica_set(raw: Raw, wanted: Raw) -> ReplicaSet:
    metadata, template = raw["metadata"], raw["spec"]["template"]
    labels = template["metadata"].get("labels") or {}
    others = {key: value for key, value in labels.items() if key != _POD_TEMPLATE_HASH}
    return ReplicaSet(
        name=metadata["name"],
        resource_version=metadata["resourceVersion"],
        pod_template_hash=labels.get(_POD_TEMPLATE_HASH, ""),
        template=(template["metadata"].get("annotations") or {}).get(names.HASH_ANNOTATION, ""),
        resources=resources(template["spec"]["containers"]),
        matches={**template, "metadata": {**template["metadata"], "labels": others}} == wanted,
        is_current=(raw.get("status") or {}).get("observedGeneration", 0) >= metadata.get("generation", 0),
    )


def template_for(replica_set: ReplicaSet, template: Raw) -> dict[str, Any]:
    """The Deployment's template as its ReplicaSet has it."""
    metadata = template["metadata"]
    labels = {**(metadata.get("labels") or {}), _POD_TEMPLATE_HASH: replica_set.pod_template_hash}
    return {**template, "metadata": {**metadata, "labels": labels}}


def _pod(raw: Raw, owner: str) -> ResizedPod:
    metadata, status = raw["metadata"], raw.get("status") or {}
    conditions = {one["type"]: one for one in status.get("conditions") or () if one.get("status") == "True"}
    pending = conditions.get("PodResizePending") or conditions.get("PodResizeInProgress") or {}
    wanted = resources(raw["spec"]["containers"])
    seen = status.get("observedGeneration")
    is_placed = bool(raw["spec"].get("nodeName"))
    has_seen = seen >= metadata.get("generation", 0) if seen is not None else covers(_actual(status), wanted)
    return ResizedPod(
        name=metadata["name"],
        replica_set=owner,
        template=(metadata.get("annotations") or {}).get(names.HASH_ANNOTATION, ""),
        resources=wanted,
        is_settled=not pending and (has_seen or not is_placed),
        pending=f"{pending.get('reason', '')}: {pending.get('message', '')}".strip(": "),
        pending_since=_moment(pending.get("lastTransitionTime")),
        is_infeasible=pending.get("reason") == "Infeasible",
    )


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _actual(status: Raw) -> dict[str, dict[str, dict[str, str]]]:
    return resources(status.get("containerStatuses") or ())


def _controller(raw: Raw) -> str:
    refs = (ref["uid"] for ref in raw["metadata"].get("ownerReferences") or () if ref.get("controller"))
    return str(next(refs, ""))


def _size(replica_set: Raw) -> int:
    status = replica_set.get("status") or {}
    return max(int(replica_set["spec"].get("replicas", 1)), int(status.get("replicas", 0)))


def _stays(pod: Raw) -> bool:
    return not pod["metadata"].get("deletionTimestamp") and (pod.get("status") or {}).get("phase") not in {
        "Failed",
        "Succeeded",
    }
