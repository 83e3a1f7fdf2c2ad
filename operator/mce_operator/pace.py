"""How fast new pods replace old ones: AWS's deployment guardrails in the words of one Deployment. Pure.

A Deployment that may exceed its replicas by a step and may never fall below them makes a step of new pods, lets them
serve beside the old ones for minReadySeconds, and only then stops as many old ones. A strategy is no more than a size
of that step.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from mce_api.endpoint import Spec
from mce_operator.observed import Pod

_ALL: Final = "100%"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """The terms of a Deployment's rolling update."""

    surge: int | str
    """Pods above the replicas; a share of them is rounded up by Kubernetes, and follows every change of replicas."""
    unavailable: int
    bake_seconds: int
    is_open: bool = False
    """Whether a canary has baked. Has to be remembered: the pods tell no more when their number has changed."""


def forward(spec: Spec, replicas: int, new: Sequence[Pod], now: datetime, *, is_free: bool) -> Pace:
    """The pace of a new revision, of which there are the pods `new` by now.

    `is_free`: whether there is no reason to be careful with a canary, since it has baked before, or nothing else runs.
    """
    rollout = spec.rollout
    if rollout.strategy == "Rolling":
        return Pace(surge=rollout.max_surge, unavailable=rollout.max_unavailable, bake_seconds=rollout.bake_seconds)
    is_open = rollout.strategy == "Canary" and (is_free or _has_baked(spec, replicas, new, now))
    surge = _ALL if is_open or rollout.strategy == "AllAtOnce" else f"{rollout.step_percent}%"
    return Pace(surge=surge, unavailable=0, bake_seconds=rollout.bake_seconds, is_open=is_open)


def _has_baked(spec: Spec, replicas: int, new: Sequence[Pod], now: datetime) -> bool:
    size = -(-replicas * spec.rollout.step_percent // 100)
    baked = sum(1 for pod in new if (end := bake_end(spec, pod)) is not None and end <= now)
    return baked >= size


def back(spec: Spec) -> Pace:
    """The pace of a rollback: what is known to be good need not bake, and needs no steps."""
    rollout = spec.rollout
    if rollout.strategy == "Rolling":
        return Pace(surge=rollout.max_surge, unavailable=rollout.max_unavailable, bake_seconds=0)
    return Pace(surge=_ALL, unavailable=0, bake_seconds=0)


def bake_end(spec: Spec, pod: Pod) -> datetime | None:
    """Until when a pod serves beside an old one; None while it does not serve at all."""
    if not pod.is_ready or pod.ready_changed is None:
        return None
    return pod.ready_changed + timedelta(seconds=spec.rollout.bake_seconds)


def baking(spec: Spec, new: Sequence[Pod], now: datetime) -> tuple[datetime, ...]:
    """When each pod that bakes now is done, the first of them first."""
    ends = (bake_end(spec, pod) for pod in new)
    return tuple(sorted(end for end in ends if end is not None and end > now))
