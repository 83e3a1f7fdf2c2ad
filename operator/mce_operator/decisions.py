"""What has to be decided of an endpoint beyond its spec: one pure function each, gathered here for the builders."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from mce_api.endpoint import MultiContainerEndpoint
from mce_operator import guard, history, rollout
from mce_operator.observed import Observed, Pod
from mce_operator.resources.router import Setup
from mce_operator.rollout import Revision


@dataclass(frozen=True, slots=True, kw_only=True)
class Decisions:
    """The decisions of one pass."""

    revision: Revision
    """What the pods run."""
    publish_not_ready: bool = False
    """Whether the Service sends traffic to pods that are not ready, too."""


_SILENT: Final = timedelta(seconds=15)
"""After which it is worth asking a router why a running container does not answer."""


def to_ask(endpoint: MultiContainerEndpoint, observed: Observed, now: datetime) -> tuple[Pod, ...]:
    """The pods whose routers know something that the decisions or the status need."""
    is_guarded = endpoint.spec.rollout.max_error_percent is not None
    watched = guard.watched(endpoint.spec, history.of(observed), observed) if is_guarded else ()
    return tuple(
        pod for pod in observed.pods if not pod.is_deleting and pod.ip and (pod in watched or _has_silent(pod, now))
    )


def _has_silent(pod: Pod, now: datetime) -> bool:
    return any(
        not one.is_started and one.running_since is not None and now - one.running_since >= _SILENT
        for one in pod.containers.values()
    )


def decide(endpoint: MultiContainerEndpoint, observed: Observed, setup: Setup, now: datetime) -> Decisions:
    """The decisions for a valid endpoint."""
    return Decisions(revision=rollout.revision(endpoint, observed, setup, now))
