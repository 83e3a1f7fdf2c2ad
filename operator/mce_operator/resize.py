"""Whether a change can reach running pods without a restart, and the next step of one that does. Pure.

A new pod template makes new pods, also when only CPU or memory differ. So the Deployment is paused while it takes the
new template, its pods are resized, its ReplicaSet gets the same template, and then there is nothing left to roll.
Every step is told from what is there: a new operator goes on where the last one stopped. An annotation of the
Deployment says what its template is and how that got to the pods. What cannot be done in place is rolled out.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from mce_api import names
from mce_api.status import RolloutStatus
from mce_operator import fleet as fleets
from mce_operator import ownership
from mce_operator.fleet import Fleet, ReplicaSet, ResizedPod, Resources
from mce_operator.observed import Child, Observed
from mce_operator.resources import meta
from mce_operator.resources.meta import K8sObject

PATIENCE: Final = timedelta(seconds=30)
"""For which a kubelet may put a change off; then it is rolled out, which can also move pods to other nodes."""
LONGEST: Final = timedelta(minutes=5)
"""For which a kubelet may say nothing at all."""
PAUSE_SECONDS: Final = 0.5
"""Between two looks at what is not watched."""
_LONGEST_WHY: Final = 300
_NAMED_POD: Final = re.compile(r'^pods? "[^"]*" is (forbidden|invalid): ', re.IGNORECASE)


class Method(StrEnum):
    """How a template has reached the pods."""

    ROLLOUT = "Rollout"
    RESIZING = "Resizing"
    """By an in-place change that is not over."""
    IN_PLACE = "InPlace"


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What a Deployment says of its pod template."""

    hash: str
    shape: str
    """Digest of the template without CPU and memory of its models."""
    resources: Resources
    method: Method = Method.ROLLOUT
    since: str = ""
    """When an in-place change began."""
    why: str = ""
    """Why a change of only CPU or memory is rolled out all the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """One write to something that is not ours to apply."""

    kind: str
    name: str
    body: K8sObject
    subresource: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resizing:
    """The Deployment as it has to be now, and what comes before it is written."""

    deployment: K8sObject
    account: Account
    patches: tuple[Patch, ...] = ()
    total: int = 0
    done: int = 0
    """Pods that have been resized."""

    @property
    def is_under_way(self) -> bool:
        """Whether an in-place change has begun and is not over."""
        return self.account.method is Method.RESIZING

    @property
    def message(self) -> str:
        """What is going on, or why it did not go in place; empty: nothing to be said."""
        if self.is_under_way:
            return "CPU or memory of running containers is being changed, nothing restarts"
        if self.account.method is Method.IN_PLACE:
            return "CPU or memory of running containers was changed, nothing restarted"
        return f"not in place: {self.account.why}" if self.account.why else ""

    @property
    def look_again_seconds(self) -> float | None:
        """When there may be something to do though nobody says so."""
        return PAUSE_SECONDS if self.is_under_way else None


def resizing(wanted: K8sObject, observed: Observed, now: datetime, *, steps: bool) -> Resizing:
    """How the wanted Deployment is reached.

    Args:
        wanted: the Deployment of the wanted revision.
        observed: with its `fleet` if `is_under_way`.
        now: the present time.
        steps: whether every change has to go through the steps of a rollout, and bake.
    """
    target = _target(wanted)
    live = account(observed)
    if live is None:
        return _as(wanted, target)
    if live.method is Method.RESIZING:
        return _go_on(_Change(wanted=wanted, live=live, target=target, observed=observed, now=now))
    if live.hash == target.hash:
        stays = tuple(pod for pod in observed.pods if not pod.is_deleting)
        done = sum(1 for pod in stays if pod.template == target.hash)
        return _as(wanted, replace(target, method=live.method, why=live.why), total=len(stays), done=done)
    if live.shape != target.shape or not _replicas(wanted) or steps:
        return _as(wanted, target)
    if obstacle := _lost(live, target) or _unfit(wanted, live, observed):
        return _as(wanted, replace(target, why=obstacle))
    begun = replace(target, method=Method.RESIZING, since=now.isoformat(timespec="seconds"))
    return _as(wanted, begun, total=len(observed.pods))


def account(observed: Observed) -> Account | None:
    """What our own Deployment says of itself; None if there is none, or it says nothing that can be trusted."""
    deployment = observed.children.get("Deployment")
    if deployment is None or deployment.is_deleting or deployment.controller_uid != observed.uid:
        return None
    return _parsed(deployment)


def is_under_way(observed: Observed) -> bool:
    """Whether the pods and ReplicaSets have to be read."""
    found = account(observed)
    return found is not None and found.method is Method.RESIZING


def recast(observed: Observed, change: Resizing) -> Observed:
    """`observed` with the pods of an in-place change counted as what they are becoming: none of them is replaced."""
    if not change.is_under_way:
        return observed
    return replace(observed, pods=tuple(replace(pod, template=change.account.hash) for pod in observed.pods))


def told(change: Resizing, ordinary: RolloutStatus | None) -> RolloutStatus | None:
    """The line of the status: `ordinary`, what a rollout has to say, unless the change goes or went in place."""
    if ordinary is None or ordinary.method == "Rollback":
        return ordinary
    if change.account.method is Method.ROLLOUT:
        message = "; ".join(part for part in (ordinary.message, change.message) if part)
        return ordinary.model_copy(update={"message": message[:1024]})
    return RolloutStatus(method="InPlace", updated=change.done, total=change.total, message=change.message)


def _target(wanted: K8sObject) -> Account:
    template = wanted["spec"]["template"]
    return Account(
        hash=template["metadata"]["annotations"][names.HASH_ANNOTATION],
        shape=meta.digest(_without_resources(template)),
        resources=fleets.resources(template["spec"]["containers"]),
    )


def _without_resources(template: K8sObject) -> K8sObject:
    metadata, spec = template["metadata"], template["spec"]
    annotations = {key: text for key, text in metadata["annotations"].items() if key != names.HASH_ANNOTATION}
    bare = [{**one, "resources": _rigid(one.get("resources") or {})} for one in spec["containers"]]
    return {"metadata": {**metadata, "annotations": annotations}, "spec": {**spec, "containers": bare}}


def _rigid(given: Mapping[str, Any]) -> K8sObject:
    """The resources that only a new pod can have."""
    kept = {
        kind: {name: str(amount) for name, amount in amounts.items() if name not in fleets.RESIZABLE}
        for kind, amounts in given.items()
    }
    return {kind: amounts for kind, amounts in kept.items() if amounts}


def _as(wanted: K8sObject, said: Account, **more: Any) -> Resizing:
    """`wanted` with what it says of itself, paused while pods are resized."""
    annotations = {
        key: text for key, text in wanted["metadata"].get("annotations", {}).items() if key != names.HASH_ANNOTATION
    }
    annotations[names.CHANGE_ANNOTATION] = _dumped(said)
    spec = {**wanted["spec"], "paused": True} if said.method is Method.RESIZING else wanted["spec"]
    made = {**wanted, "metadata": {**wanted["metadata"], "annotations": annotations}, "spec": spec}
    return Resizing(deployment=meta.hashed(made), account=said, **more)


def _dumped(said: Account) -> str:
    stored = {
        "hash": said.hash,
        "shape": said.shape,
        "resources": {
            name: {kind: amounts for kind, amounts in kinds.items() if amounts}
            for name, kinds in said.resources.items()
            if any(kinds.values())
        },
        "method": said.method.value if said.method is not Method.ROLLOUT else "",
        "since": said.since,
        "why": said.why[:_LONGEST_WHY],
    }
    return json.dumps({key: value for key, value in stored.items() if value}, separators=(",", ":"))


def _parsed(deployment: Child) -> Account | None:
    try:
        stored = json.loads(deployment.annotations.get(names.CHANGE_ANNOTATION, ""))
        return Account(
            hash=str(stored["hash"]),
            shape=str(stored["shape"]),
            resources={
                str(name): {kind: {**kinds.get(kind, {})} for kind in fleets.KINDS}
                for name, kinds in stored.get("resources", {}).items()
            },
            method=Method(stored.get("method", Method.ROLLOUT)),
            since=str(stored.get("since", "")),
            why=str(stored.get("why", "")),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _replicas(wanted: K8sObject) -> int:
    return int(wanted["spec"].get("replicas", 1))


def _lost(live: Account, target: Account) -> str:
    """Kubernetes changes an amount in place, and does not take one away."""
    for container, kinds in live.resources.items():
        for kind, amounts in kinds.items():
            for name in amounts:
                if name not in target.resources.get(container, {}).get(kind, {}):
                    return f"{kind}.{name} of container {container} was removed"
    return ""


def _unfit(wanted: K8sObject, live: Account, observed: Observed) -> str:
    """Why these pods are not resized: it begins only where every pod is whole and of one template."""
    rollout, deployment = observed.rollout, observed.children["Deployment"]
    stays = [pod for pod in observed.pods if not pod.is_deleting]
    whole = rollout is not None and rollout.is_current and rollout.replicas == rollout.updated == rollout.available > 0
    if not whole or len(stays) != len([pod for pod in stays if pod.template == live.hash]):
        return "not all pods were in service"
    if not ownership.covers(deployment.owned, _bare(wanted)):
        return "somebody else had changed the Deployment"
    return ""


def _bare(wanted: K8sObject) -> K8sObject:
    """`wanted` without what the change may add to it: amounts, and what the Deployment remembers."""
    template = wanted["spec"]["template"]
    containers = [{key: one[key] for key in one if key != "resources"} for one in template["spec"]["containers"]]
    spec = {**template["spec"], "containers": containers}
    metadata = {key: one for key, one in wanted["metadata"].items() if key != "annotations"}
    return {**wanted, "metadata": metadata, "spec": {**wanted["spec"], "template": {**template, "spec": spec}}}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Change:
    """An in-place change that has begun."""

    wanted: K8sObject
    live: Account
    target: Account
    observed: Observed
    now: datetime


def _go_on(change: _Change) -> Resizing:
    live, target, observed = change.live, change.target, change.observed
    if live.shape != target.shape or not _replicas(change.wanted):
        return _retreat(change.wanted, target, observed, "")
    if obstacle := _lost(live, target):
        return _retreat(change.wanted, target, observed, obstacle)
    # Other amounts than those that it began with get the time that those had.
    since = live.since if live.hash == target.hash else change.now.isoformat(timespec="seconds")
    said = replace(target, method=Method.RESIZING, since=since)
    pods = observed.fleet.pods if observed.fleet else [pod for pod in observed.pods if not pod.is_deleting]
    now = _as(change.wanted, said, total=len(pods))
    if observed.fleet is None or observed.children["Deployment"].hash != _hash(now.deployment):
        return now  # it is to be changed to something else by now
    return _step(now, change, observed.fleet)


def _step(now: Resizing, change: _Change, fleet: Fleet) -> Resizing:
    """The next step: the first thing that is not yet as it has to be."""
    target, rollout = change.target, change.observed.rollout
    if obstacle := _failed(change, fleet):
        return _retreat(change.wanted, target, change.observed, obstacle)
    (replica_set,) = fleet.replica_sets
    unlike = tuple(pod for pod in fleet.pods if not fleets.covers(pod.resources, target.resources))
    settled = sum(1 for pod in fleet.pods if pod not in unlike and pod.is_settled)
    now = replace(now, done=settled)
    if unlike:
        return replace(now, patches=tuple(_resize(pod, target.resources) for pod in unlike))
    if settled < len(fleet.pods) or rollout is None or not rollout.is_current:
        return now
    if replica_set.template != target.hash:
        template = fleets.template_for(replica_set, fleet.template)
        return replace(now, patches=(_replica_set(replica_set, template),))
    if not replica_set.is_current:
        return now
    if unmarked := tuple(pod for pod in fleet.pods if pod.template != target.hash):
        return replace(now, patches=tuple(_mark(pod, target) for pod in unmarked))
    if rollout.updated != rollout.replicas:
        return now  # the Deployment's controller has not seen its ReplicaSet's template: unpaused, it would roll
    done = replace(target, method=Method.IN_PLACE)
    return _as(change.wanted, done, total=now.total, done=settled)


def _failed(change: _Change, fleet: Fleet) -> str:
    """Why it does not go in place after all; empty: it may still."""
    if change.observed.refusal:
        return _NAMED_POD.sub("", change.observed.refusal)
    if len(fleet.replica_sets) != 1:
        return "the pods were not all of one ReplicaSet"
    if any(one.template == change.target.hash and not one.matches for one in fleet.replica_sets):
        return "the cluster changes what a ReplicaSet is given"
    for pod in fleet.pods:
        if pod.is_infeasible:
            return pod.pending
        if pod.pending_since and change.now - pod.pending_since > PATIENCE:
            return f"not done within {PATIENCE.total_seconds():.0f} s: {pod.pending}"
    is_late = change.now - _moment(change.live.since, change.now) > LONGEST
    return f"not done within {LONGEST.total_seconds():.0f} s" if is_late else ""


def _retreat(wanted: K8sObject, target: Account, observed: Observed, why: str) -> Resizing:
    """The rollout instead.

    The pods get back what their ReplicaSet says: they serve until the rollout is over, and for long if that fails. A
    ReplicaSet that has the new template already must lose it, else nothing would roll; so must one whose pods can not
    be given back all that they had, else a later return to its template would keep them.
    """
    live, fleet = account(observed), observed.fleet
    if live is None or fleet is None:
        return _as(wanted, replace(target, why=why[:_LONGEST_WHY]))
    sets = {one.name: one for one in fleet.replica_sets}
    void = {one.name for one in sets.values() if one.template == target.hash or not _has_all(one, live.resources)}
    back = (_resize(pod, sets[pod.replica_set].resources) for pod in fleet.pods)
    annotations = {names.HASH_ANNOTATION: f"{target.hash}-given-up"}
    voided = tuple(_replica_set(sets[name], {"metadata": {"annotations": annotations}}) for name in sorted(void))
    return _as(wanted, replace(target, why=why[:_LONGEST_WHY]), patches=(*back, *voided))


def _has_all(replica_set: ReplicaSet, given: Resources) -> bool:
    """Whether its template names every amount that the pods may have been given."""
    return all(
        name in replica_set.resources.get(container, {}).get(kind, {})
        for container, kinds in given.items()
        for kind, amounts in kinds.items()
        for name in amounts
    )


def _resize(pod: ResizedPod, wanted: Resources) -> Patch:
    containers = [{"name": name, "resources": kinds} for name, kinds in wanted.items() if any(kinds.values())]
    return Patch(kind="Pod", name=pod.name, body={"spec": {"containers": containers}}, subresource="resize")


def _mark(pod: ResizedPod, target: Account) -> Patch:
    """The pod is as good as made from the new template: so it says."""
    annotations = {names.HASH_ANNOTATION: target.hash}
    return Patch(kind="Pod", name=pod.name, body={"metadata": {"annotations": annotations}})


def _replica_set(replica_set: ReplicaSet, template: K8sObject) -> Patch:
    metadata = {"resourceVersion": replica_set.resource_version}
    return Patch(kind="ReplicaSet", name=replica_set.name, body={"metadata": metadata, "spec": {"template": template}})


def _hash(deployment: K8sObject) -> str:
    return str(deployment["metadata"]["annotations"][names.HASH_ANNOTATION])


def _moment(text: str, otherwise: datetime) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return otherwise
    return found if found.tzinfo else otherwise
