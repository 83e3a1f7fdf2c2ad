"""What drives the number of replicas, for `status.autoscaling`. Pure: decides no number.

What it says changes with the number of replicas and with whether there are figures, never with the figures alone: else
each reading would be a write of the status.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from pydantic import ValidationError

from mce_api import names
from mce_api.endpoint import MultiContainerEndpoint
from mce_api.status import AutoscalingStatus
from mce_operator.autoscale import UNITS
from mce_operator.observed import Autoscaler, Observed, Scaling
from mce_operator.resources.autoscaler import scales_itself
from mce_operator.resources.deployment import replicas

PATIENCE: Final = timedelta(seconds=60)
"""For which a HorizontalPodAutoscaler may be without figures before the status says so."""
WAITING: Final = "no figures yet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """What is to be said of scaling."""

    status: AutoscalingStatus | None = None
    look_again: datetime | None = None
    """When that changes though nothing happens."""


def driver(endpoint: MultiContainerEndpoint, observed: Observed, now: datetime) -> Driver:
    """What `status.autoscaling` of a valid endpoint says; nothing without autoscaling, or while suspended."""
    spec = endpoint.spec
    if spec.autoscaling is None or spec.suspend:
        return Driver()
    stored, count = _stored(observed), replicas(spec)
    if scales_itself(spec.autoscaling):
        return Driver(status=_own(stored, count, observed.scaling))
    return _autoscalers(endpoint, stored, count, observed.autoscaler, now)


def _stored(observed: Observed) -> AutoscalingStatus:
    try:
        return AutoscalingStatus.model_validate((observed.document.get("status") or {}).get("autoscaling") or {})
    except ValidationError:
        return AutoscalingStatus()


def _own(stored: AutoscalingStatus, count: int, scaling: Scaling | None) -> AutoscalingStatus:
    decided = scaling.decided if scaling else None
    known = next((one for one in (decided, stored) if one is not None and one.desired_replicas == count), None)
    at = (decided or stored).last_scale_time
    if scaling is not None and scaling.blind:
        text = f"no figures for {scaling.blind}: while that is so, no replica is taken away"
        return AutoscalingStatus(desired_replicas=count, message=text, last_scale_time=at)
    if known is not None and (known.metric or scaling is None or scaling.latest is None):
        return known
    if scaling is not None and scaling.latest is not None:
        return scaling.latest.model_copy(update={"desired_replicas": count, "last_scale_time": at})
    return AutoscalingStatus(desired_replicas=count, message=WAITING, last_scale_time=at)


def _autoscalers(
    endpoint: MultiContainerEndpoint, stored: AutoscalingStatus, count: int, found: Autoscaler | None, now: datetime
) -> Driver:
    waiting = stored if stored.message else AutoscalingStatus(desired_replicas=count, message=WAITING)
    if found is None or found.desired != count:
        return Driver(status=waiting)  # its next event tells why it has moved the replicas, or will
    if found.failure:
        patience_over = (found.failing_since or now) + PATIENCE
        if now < patience_over:
            return Driver(status=waiting, look_again=patience_over)
        key = endpoint.metadata
        text = (
            f"the HorizontalPodAutoscaler has no figures ({found.failure}); is metrics-server installed? "
            f"kubectl describe hpa {key.name} -n {key.namespace}"
        )
        return Driver(
            status=AutoscalingStatus(desired_replicas=count, message=text, last_scale_time=found.last_scale_time)
        )
    if stored.desired_replicas == count and stored.metric:
        return Driver(status=stored)
    return Driver(status=_furthest(endpoint, count, found) or waiting)


def _furthest(endpoint: MultiContainerEndpoint, count: int, found: Autoscaler) -> AutoscalingStatus | None:
    """The metric that is furthest above its target, or nearest to it."""
    hostnames = [one.name for one in endpoint.spec.containers]
    derived = dict(zip(hostnames, names.container_names(hostnames), strict=True))
    metrics = endpoint.spec.autoscaling.metrics if endpoint.spec.autoscaling else ()
    known = [
        (found.utilization[derived[metric.container]] / (metric.target_percent or 1), metric)
        for metric in metrics
        if derived[metric.container] in found.utilization
    ]
    if not known:
        return None
    _, metric = max(known, key=lambda pair: pair[0])
    return AutoscalingStatus(
        desired_replicas=count,
        metric=metric.type,
        container=metric.container,
        message=f"container {metric.container}: {found.utilization[derived[metric.container]]} {UNITS[metric.type]} "
        f"on average, target {metric.target_percent}",
        last_scale_time=found.last_scale_time,
    )
