"""What has to be decided of an endpoint beyond its spec: one pure function each, gathered here for the builders."""

from dataclasses import dataclass
from datetime import datetime

from mce_api.endpoint import MultiContainerEndpoint
from mce_api.status import AutoscalingStatus
from mce_operator import driver, guard, history, panic, resize, rollout, symptoms
from mce_operator.observed import Observed, Pod
from mce_operator.resize import Resizing
from mce_operator.resources.router import Setup
from mce_operator.rollout import Revision


@dataclass(frozen=True, slots=True, kw_only=True)
class Decisions:
    """The decisions of one pass."""

    revision: Revision
    """What the pods run."""
    resizing: Resizing
    """How they come to run it."""
    publish_not_ready: bool = False
    """Whether the Service sends traffic to pods that are not ready, too."""
    autoscaling: AutoscalingStatus | None = None
    """What drives the number of replicas."""
    look_again: datetime | None = None
    """When something may be decided differently though nothing happens."""


def to_ask(endpoint: MultiContainerEndpoint, observed: Observed, now: datetime) -> tuple[Pod, ...]:
    """The pods whose routers know something that the decisions or the status need."""
    is_guarded = endpoint.spec.rollout.max_error_percent is not None
    past = history.of(observed)
    watched = guard.watched(endpoint.spec, past, observed) if is_guarded else ()
    # After a rollback it is the last good spec's word that counts, which may be this one, too.
    may_be_any = endpoint.spec.availability == "Any" or (past is not None and past.rejection is not None)
    return tuple(
        pod
        for pod in observed.pods
        if not pod.is_deleting and pod.ip and (may_be_any or pod in watched or symptoms.is_worth_asking(pod, now))
    )


def decide(endpoint: MultiContainerEndpoint, observed: Observed, setup: Setup, now: datetime) -> Decisions:
    """The decisions for a valid endpoint."""
    revision = rollout.revision(endpoint, observed, setup, now)
    steps = endpoint.spec.rollout.strategy in {"Canary", "Linear"}
    resizing = resize.resizing(revision.deployment, observed, now, steps=steps)
    observed = resize.recast(observed, resizing)
    service = panic.panic(revision.endpoint, observed, revision.template, now)
    scaling = driver.driver(endpoint, observed, now)
    return Decisions(
        revision=revision,
        resizing=resizing,
        publish_not_ready=service.publish_not_ready,
        autoscaling=scaling.status,
        look_again=min((one for one in (service.look_again, scaling.look_again) if one), default=None),
    )
