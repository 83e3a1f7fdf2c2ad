"""How many replicas an endpoint should have, from what its pods were seen doing. Pure: samples in, a number out.

Only for endpoints that also scale by invocations or concurrency: by CPU alone a HorizontalPodAutoscaler does it
(`resources.autoscaler`). The arithmetic is that autoscaler's: a tolerance of 10 %, the highest of all metrics, pods
that are not ready count as idle when more are asked for, and missing figures never take a replica away.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Final

from mce_api import rules
from mce_api.endpoint import Autoscaling, Metric, MultiContainerEndpoint
from mce_api.status import AutoscalingStatus
from mce_operator.observed import Scaling
from mce_operator.resources.deployment import replicas

WINDOW_SECONDS: Final = 60.0
"""Over which demand is measured; AWS' metrics have one figure per minute, too."""
INTERVAL_SECONDS: Final = 15.0
"""Between two readings, as of the HorizontalPodAutoscaler."""
BLIND_AFTER: Final = 4
"""Readings in a row without a figure, after which the status says so."""
_TOLERANCE: Final = 0.1
_BROKEN_AFTER: Final = 4 * INTERVAL_SECONDS
"""A pause between two readings after which what was seen before it counts for nothing."""
_MOST_RECOMMENDATIONS: Final = 1000
"""More than an hour, the longest cooldown, holds."""

UNITS: Final = {
    "InvocationsPerReplica": "invocations per minute",
    "ConcurrencyPerReplica": "invocations in flight",
    "ContainerCPU": "% of its CPU request",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """One container of one pod at one moment."""

    invocations: float = 0.0
    """Since its router started."""
    in_flight: float = 0.0
    """Those that wait for a place included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodReading:
    """One pod at one moment."""

    is_ready: bool
    """Whether it takes its share of the traffic."""
    loads: Mapping[str, Load] | None
    """By AWS name; None: its router did not answer."""
    cpu_cores: Mapping[str, float] = field(default_factory=dict)
    """By AWS name, as far as known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """All pods of an endpoint at one moment."""

    at: float
    """Seconds of any monotonic clock."""
    pods: Mapping[str, PodReading]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """What the most demanding metric asks for, within no bounds yet."""

    replicas: int
    metric: Metric
    container: str
    value: float
    """Over all replicas, in the metric's unit."""
    blind: Metric | None = None
    """A metric without a figure of every ready pod; while there is one, `replicas` is never below the present."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What is remembered of one endpoint between two readings; lost with the process."""

    autoscaling: Autoscaling
    readings: tuple[Reading, ...] = ()
    recommended: tuple[tuple[float, int], ...] = ()
    """Time and replicas, oldest first, without a break."""
    latest: Recommendation | None = None
    blind_readings: int = 0
    """In a row, until now."""
    decided: AutoscalingStatus | None = None
    """The last change of replicas."""

    @property
    def scaling(self) -> Scaling:
        """What the status is made of."""
        blind = self.latest.blind if self.latest and self.blind_readings >= BLIND_AFTER else None
        return Scaling(
            decided=self.decided,
            latest=described(self.latest, 0, None) if self.latest else None,
            blind=f"{blind.type} of {f'container {blind.container}' if blind.container else 'any pod'}"
            if blind
            else "",
        )


def remembered(memory: Memory | None, endpoint: MultiContainerEndpoint, reading: Reading) -> Memory:
    """`memory` with one more reading; empty if what is asked for has changed, or after too long a pause."""
    autoscaling = endpoint.spec.autoscaling
    if autoscaling is None:
        raise ValueError("the endpoint has no spec.autoscaling")
    if memory is None or memory.autoscaling.metrics != autoscaling.metrics or _is_broken(memory, reading.at):
        memory = Memory(autoscaling=autoscaling, decided=memory.decided if memory else None)
    kept = tuple(one for one in memory.readings if reading.at - one.at <= WINDOW_SECONDS)
    memory = replace(memory, autoscaling=autoscaling, readings=(*kept, reading))
    found = recommendation(endpoint, memory.readings)
    if found is None:
        return replace(memory, recommended=())
    return replace(
        memory,
        latest=found,
        recommended=(*memory.recommended, (reading.at, found.replicas))[-_MOST_RECOMMENDATIONS:],
        blind_readings=memory.blind_readings + 1 if found.blind else 0,
    )


def _is_broken(memory: Memory, at: float) -> bool:
    return bool(memory.readings) and at - memory.readings[-1].at > _BROKEN_AFTER


def recommendation(endpoint: MultiContainerEndpoint, readings: Sequence[Reading]) -> Recommendation | None:
    """What the newest readings ask for; None without a ready pod, or without two readings to compare."""
    spec, newest = endpoint.spec, readings[-1]
    ready = sum(1 for pod in newest.pods.values() if pod.is_ready)
    if spec.autoscaling is None or ready == 0 or len(readings) <= 1:
        return None
    present = replicas(spec)
    asked = []
    for metric in spec.autoscaling.metrics:
        container, total, is_whole = _demand(endpoint, metric, readings)
        wanted = wanted_replicas(total / float(metric.target or metric.target_percent or 1), ready, present)
        asked.append(
            Recommendation(
                replicas=wanted if is_whole else max(wanted, present),
                metric=metric,
                container=container,
                value=total,
                blind=None if is_whole else metric,
            )
        )
    most = max(asked, key=lambda one: one.replicas)
    blind = next((one.blind for one in asked if one.blind), None)
    return replace(most, replicas=max(most.replicas, present) if blind else most.replicas, blind=blind)


def wanted_replicas(demand: float, ready: int, present: int) -> int:
    """How many replicas a demand needs, as the HorizontalPodAutoscaler reckons.

    Args:
        demand: in replicas that work exactly at their target.
        ready: pods that share it now; at least 1.
        present: replicas that there should be now; those beyond `ready` are still starting.
    """
    if demand > ready * (1 + _TOLERANCE):
        # Those that start will take their share: only what is too much for them, too, asks for more.
        return max(present, math.ceil(demand)) if demand > present * (1 + _TOLERANCE) else present
    if demand < ready * (1 - _TOLERANCE):
        return min(present, math.ceil(demand))
    return present


def _demand(endpoint: MultiContainerEndpoint, metric: Metric, readings: Sequence[Reading]) -> tuple[str, float, bool]:
    """Busiest container, its demand over all pods in the metric's unit, and whether every ready pod is in it."""
    if metric.type == "ContainerCPU":
        return (metric.container, *_cpu(endpoint, metric.container, readings[-1]))
    measure = _per_minute if metric.type == "InvocationsPerReplica" else _in_flight
    ready = [pod.loads for reading in readings for pod in reading.pods.values() if pod.is_ready]
    # After a rollback the pods have the containers of the last good generation, which the spec may not name.
    known = sorted({name for loads in ready for name in loads or ()})
    containers = [metric.container] if metric.container else known
    total, container = max(
        ((measure(readings, name), name) for name in containers), key=lambda pair: pair[0], default=(0.0, "")
    )
    return container, total, all(loads is not None and container in loads for loads in ready)


def _per_minute(readings: Sequence[Reading], container: str) -> float:
    """Invocations per minute. Less than a whole window is not blown up: it would make a burst look like a trend."""
    names = {name for reading in readings for name in reading.pods}
    grown = sum(_growth(_invocations(readings, name, container)) for name in names)
    return grown * 60 / max(WINDOW_SECONDS, readings[-1].at - readings[0].at)


def _invocations(readings: Sequence[Reading], pod: str, container: str) -> Iterable[float]:
    if pod not in readings[0].pods:
        yield 0.0  # it is new, so all that it has counted is of this minute
    for reading in readings:
        found = reading.pods.get(pod)
        if found is not None and found.loads is not None and container in found.loads:
            yield found.loads[container].invocations


def _growth(counts: Iterable[float]) -> float:
    """By how much a counter has grown; one that is lower than before has begun anew."""
    return sum(after - before if after >= before else after for before, after in pairwise(counts))


def _in_flight(readings: Sequence[Reading], container: str) -> float:
    """Invocations in flight over all pods, on average."""
    loads = (
        pod.loads[container].in_flight
        for reading in readings
        for pod in reading.pods.values()
        if pod.loads is not None and container in pod.loads
    )
    return sum(loads) / len(readings)


def _cpu(endpoint: MultiContainerEndpoint, container: str, newest: Reading) -> tuple[float, bool]:
    """CPU in percent of one replica's request, over all ready pods: one that starts is busy with itself."""
    spec = next(one for one in endpoint.spec.containers if one.name == container)
    request = float(rules.quantity(spec.resources.requests["cpu"]))
    ready = [pod for pod in newest.pods.values() if pod.is_ready]
    known = [pod.cpu_cores[container] for pod in ready if container in pod.cpu_cores]
    return (sum(known) / request * 100 if request else 0.0), len(known) == len(ready)


def target(endpoint: MultiContainerEndpoint, memory: Memory, now: float) -> int:
    """How many replicas there should be now, within the bounds and after the cooldowns."""
    autoscaling = memory.autoscaling
    present = replicas(endpoint.spec)
    if not memory.recommended or memory.recommended[-1][0] < now:
        return present
    seen = now - memory.recommended[0][0]
    out, in_ = autoscaling.scale_out_cooldown_seconds, autoscaling.scale_in_cooldown_seconds
    lowest = min(count for at, count in memory.recommended if now - at <= out)
    highest = max(count for at, count in memory.recommended if now - at <= in_)
    if present < lowest and seen >= out:
        return bounded(lowest, autoscaling)
    # After a restart nothing is known of the time before it, so nothing goes down before as much has been seen anew.
    if present > highest and seen >= max(in_, WINDOW_SECONDS):
        return bounded(highest, autoscaling)
    return present


def bounded(count: int, autoscaling: Autoscaling) -> int:
    """`count` within the bounds."""
    return min(max(count, autoscaling.min_replicas), autoscaling.max_replicas)


def described(found: Recommendation, count: int, at: str | None) -> AutoscalingStatus:
    """What the status says of a recommendation when there are, or will be, `count` replicas."""
    metric, unit = found.metric, UNITS[found.metric.type]
    each = metric.target_percent if metric.type == "ContainerCPU" else metric.target
    return AutoscalingStatus(
        desired_replicas=count,
        metric=metric.type,
        container=found.container,
        message=f"container {found.container}: {found.value:.1f} {unit} over all replicas, target {each} "
        f"for each, asks for {found.replicas}",
        last_scale_time=at,
    )
