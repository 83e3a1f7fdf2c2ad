"""Whether a Service also sends to pods that are not ready, so that siblings of a dead container serve. Pure.

A pod with one dead container is not ready, and a Service leaves it out, router and healthy containers and all. With
`availability: Any` the Service is told to send to such pods too (`publishNotReadyAddresses`). That is not free: it also
sends to pods whose router does not listen yet, and to pods that end until they are gone. So it is on only when it
helps, and before it helps where it costs nothing, since the data plane needs about a second to follow.

Everything is told from the pods as they are, so that it survives a restart of the operator.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from mce_api.endpoint import MultiContainerEndpoint
from mce_operator.observed import Observed, Pod
from mce_operator.resources.deployment import replicas

HOLD: Final = timedelta(seconds=60)
"""For which a pod that is ready again is not trusted, for each restart of one of its containers."""
_MOST_HOLDS: Final = 10
"""A container that has run for ten minutes is no longer in a crash loop, as the kubelet has it."""
_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Panic:
    """What the Service is told."""

    publish_not_ready: bool
    look_again: datetime | None = None
    """When that changes though nothing happens."""


_OFF: Final = Panic(publish_not_ready=False)
_ON: Final = Panic(publish_not_ready=True)


def panic(endpoint: MultiContainerEndpoint, observed: Observed, template: str, now: datetime) -> Panic:
    """The decision for a valid endpoint whose pods are, or will be, made from `template`."""
    wanted = replicas(endpoint.spec)
    present = [pod for pod in observed.pods if not pod.is_finished]
    staying = [pod for pod in present if not pod.is_deleting]
    if endpoint.spec.availability != "Any" or wanted == 0:
        return _OFF
    listen_from = [moment for pod in staying if (moment := pod.listens_from) is not None]
    if not listen_from:
        return _OFF
    if now < min(listen_from):
        return Panic(publish_not_ready=False, look_again=min(listen_from))
    if not any(pod.is_ready for pod in present):
        return _ON
    is_whole = len(listen_from) == len(staying) == len(present) == wanted
    if not is_whole or any(pod.template != template for pod in staying):
        return _OFF  # new pods do not listen yet, and old ones would be sent to until they are gone
    if now < max(listen_from):
        return Panic(publish_not_ready=False, look_again=max(listen_from))
    if wanted == 1:
        return _ON  # costs nothing while its one pod is ready, and is there at once when it is not
    # With another pod that can be trusted, callers of the dead container are better off there.
    trusted = min(_trusted_from(pod) for pod in staying if pod.is_ready)
    return Panic(publish_not_ready=True, look_again=trusted) if now < trusted else _OFF


def _trusted_from(pod: Pod) -> datetime:
    """When a ready pod has proved that its containers stay."""
    restarted = [one for one in pod.containers.values() if one.restarts]
    restarts = max((one.restarts for one in restarted), default=0)
    # A container that is back before the kubelet looks again never made its pod unready.
    moments = [pod.ready_changed, *(one.running_since for one in restarted)]
    since = max((moment for moment in moments if moment is not None), default=_LONG_AGO)
    return since + HOLD * min(restarts, _MOST_HOLDS)
