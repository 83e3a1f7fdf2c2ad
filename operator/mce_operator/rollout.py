"""Which generation the pods run, and why. Pure: from what is wanted and what is observed to one `Revision`."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from mce_api import names
from mce_api.endpoint import MultiContainerEndpoint, Spec
from mce_api.status import RolloutStatus, Why
from mce_operator import guard, pace, record, symptoms
from mce_operator import history as histories
from mce_operator.history import ASLEEP, LONGEST_MESSAGE, History, Rejection
from mce_operator.observed import Observed
from mce_operator.pace import Pace
from mce_operator.resources import pod
from mce_operator.resources.deployment import budget_seconds, deployment, replicas
from mce_operator.resources.meta import K8sObject
from mce_operator.resources.router import Setup
from mce_operator.verdict import verdict

_NO_RECORD: Final = "no good generation is recorded to go back to"
_BAD_RECORD: Final = "the record of the last good generation cannot be used, so there is no way back"


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """The Deployment that there should be, and what it was made from."""

    endpoint: MultiContainerEndpoint
    """The newest spec; after a rollback with the containers of the last good one, which are what runs."""
    setup: Setup
    """Of its routers."""
    deployment: K8sObject
    rejection: Rejection | None = None
    """Why the newest generation is not what runs; None: it is."""
    no_way_back: str = ""
    """Why a failed generation stays; empty: it has not failed, or there is a way back."""
    note: str = ""
    """What somebody should know before it fails."""
    is_overdue: bool = False
    """Whether its pods have had their time and are not up, though Kubernetes has no deadline for them."""
    look_again: datetime | None = None
    """When to decide anew though nothing happens."""

    @property
    def template(self) -> str:
        """Hash of its pod template: tells which pods are of this revision."""
        return str(self.deployment["spec"]["template"]["metadata"]["annotations"][names.HASH_ANNOTATION])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Build:
    """A pod template with what it was built from."""

    endpoint: MultiContainerEndpoint
    setup: Setup
    template: K8sObject

    @property
    def hash(self) -> str:
        return str(self.template["metadata"]["annotations"][names.HASH_ANNOTATION])


def revision(endpoint: MultiContainerEndpoint, observed: Observed, setup: Setup, now: datetime) -> Revision:
    """The revision for a valid endpoint: the newest one, or the last good one while the newest is rejected."""
    newest, past = _build(endpoint, setup), histories.of(observed)
    if past is None or not endpoint.spec.rollout.auto_rollback:
        return _forward(newest, past, observed, now)
    if past.rejection is not None and past.rejection.template == newest.hash:
        rejection, good = past.rejection, past.record
    else:
        found = _failure(newest, past, observed, now)
        if found is None:
            return _forward(newest, past, observed, now)
        rejection, good = found, past.good
    restored = record.restored(endpoint, setup, good)
    if restored is None:
        return _forward(newest, past, observed, now, no_way_back=_BAD_RECORD if good else _NO_RECORD)
    back = _build(*restored)
    if back.hash == newest.hash:
        return _forward(newest, past, observed, now, no_way_back=_NO_RECORD)
    kept = History(template=back.hash, record=good, rejection=rejection)
    return Revision(
        endpoint=back.endpoint,
        setup=back.setup,
        deployment=deployment(back.endpoint, back.template, pace.back(endpoint.spec), kept.annotations()),
        rejection=rejection,
    )


def is_late(observed: Observed, template: str) -> bool:
    """Whether the deadline of the pods of this very template is over.

    For a moment after a change of templates a Deployment may still have the verdict on the one before. It names the
    ReplicaSet that it is about, and so do the pods.
    """
    rollout = observed.rollout
    if rollout is None or not rollout.is_current or not rollout.deadline_exceeded:
        return False
    others = {one.replica_set for one in observed.pods if one.template != template and one.replica_set}
    return not any(f'"{name}"' in rollout.deadline_exceeded for name in others)


def progress(observed: Observed, chosen: Revision, now: datetime) -> RolloutStatus | None:
    """How far it is; None while there is no Deployment."""
    rollout, spec = observed.rollout, chosen.endpoint.spec
    if rollout is None:
        return None
    total = replicas(spec)
    live = observed.children.get("Deployment")
    is_applied = live is not None and live.annotations.get(names.TEMPLATE_ANNOTATION) == chosen.template
    updated = min(rollout.updated, total) if is_applied and rollout.is_current else 0
    if chosen.rejection is not None:
        message = f"generation {chosen.rejection.generation} was rejected: {chosen.rejection.why}"
        return RolloutStatus(method="Rollback", updated=updated, total=total, message=message)
    bakes = chosen.deployment["spec"]["minReadySeconds"] > 0 and not rollout.is_settled
    ends = pace.baking(spec, observed.pods_of(chosen.template), now) if bakes else ()
    text = f"{spec.rollout.strategy}: {_bake(len(ends), total)} until {ends[-1]:%H:%M:%S} UTC" if ends else ""
    message = "; ".join(part for part in (text, chosen.note) if part)
    return RolloutStatus(method="Rollout", updated=updated, total=total, message=message)


def _bake(count: int, total: int) -> str:
    return f"{count} of {total} pods {'bakes' if count == 1 else 'bake'}"


def _build(endpoint: MultiContainerEndpoint, setup: Setup) -> _Build:
    return _Build(endpoint=endpoint, setup=setup, template=pod.template(endpoint, setup))


def _forward(
    newest: _Build, past: History | None, observed: Observed, now: datetime, *, no_way_back: str = ""
) -> Revision:
    spec = newest.endpoint.spec
    good = _good(newest, past, observed)
    terms = _pace(newest, past, observed, now, has_good=bool(good))
    kept = History(
        template=newest.hash,
        record=record.dump(newest.endpoint, newest.setup),
        good=good,
        is_open=terms.is_open,
        untried=_untried(newest, past, observed, now),
    )
    watched = guard.watched(spec, past, observed)
    bakes = terms.bake_seconds > 0 and _is_under_way(observed)
    ends = pace.baking(spec, observed.pods_of(newest.hash), now) if bakes else ()
    until = _untried_until(spec, kept.untried)
    return Revision(
        endpoint=newest.endpoint,
        setup=newest.setup,
        deployment=deployment(newest.endpoint, newest.template, terms, kept.annotations()),
        no_way_back=no_way_back,
        note="" if kept.record else f"no way back to it: its record is longer than {record.LONGEST} characters",
        is_overdue=until is not None and now >= until,
        look_again=min(
            (*ends, *([now + guard.PAUSE] if watched else []), *([until] if until and until > now else [])),
            default=None,
        ),
    )


def _untried(newest: _Build, past: History | None, observed: Observed, now: datetime) -> str:
    """What the Deployment is to remember of whether its template has been tried (`History.untried`)."""
    is_new = past is None or past.template != newest.hash
    before = "" if is_new or past is None else past.untried
    if replicas(newest.endpoint.spec) == 0:
        return ASLEEP if is_new or before else ""
    if past is None or not before or _has_run(past, observed):
        return ""
    return before if _moment(before) else f"{now:%Y-%m-%dT%H:%M:%SZ}"


def _untried_until(spec: Spec, untried: str) -> datetime | None:
    """When a revision that came while there were no pods has failed, if none of it serves by then.

    Its pods are no rollout for Kubernetes, which has no deadline for them. They get the same budget.
    """
    since = _moment(untried)
    return since + timedelta(seconds=_budget(spec)) if since else None


def _moment(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else None


def _budget(spec: Spec) -> int:
    return budget_seconds(spec) + spec.rollout.bake_seconds


def _is_under_way(observed: Observed) -> bool:
    return observed.rollout is not None and not observed.rollout.is_settled


def _pace(newest: _Build, past: History | None, observed: Observed, now: datetime, *, has_good: bool) -> Pace:
    new = observed.pods_of(newest.hash)
    old = tuple(one for one in observed.pods if one.template != newest.hash and not one.is_deleting)
    spec, was_open = newest.endpoint.spec, past is not None and past.is_open and past.template == newest.hash
    # That no old pod is there just now is no reason, if there is a good generation: its pods may be made again.
    terms = pace.forward(spec, replicas(spec), new, now, is_free=was_open or not (old or has_good))
    # A first generation has nothing to bake beside: it is in service when it serves.
    return terms if has_good or old else replace(terms, bake_seconds=0)


def _good(newest: _Build, past: History | None, observed: Observed) -> str:
    """The record of the last good revision, as it is to be kept beside the newest.

    While the template stays it is carried on as it is, so that the end of a rollout is no reason to write. A Deployment
    without pods has no account of its last template, therefore the record is taken when the last pods are sent away.
    """
    if past is None:
        return ""
    is_leaving = past.template != newest.hash or replicas(newest.endpoint.spec) == 0
    if past.rejection is not None or (is_leaving and _has_run(past, observed)):
        return past.record
    return past.good


def _has_run(past: History, observed: Observed) -> bool:
    """Whether the present template is what the Deployment's account calls settled.

    Until its controller has seen the newest spec, which may differ in no more than the replicas, the pods tell.
    """
    rollout = observed.rollout
    if rollout is None or not rollout.is_settled or rollout.available == 0:
        return False
    stays = [pod for pod in observed.pods if not pod.is_deleting]
    return rollout.is_current or (bool(stays) and all(pod.template == past.template for pod in stays))


def _failure(newest: _Build, past: History, observed: Observed, now: datetime) -> Rejection | None:
    """Why the newest revision, which is the live one, has failed; None: it has not."""
    spec = newest.endpoint.spec
    if past.template != newest.hash or replicas(spec) == 0:
        return None
    until = _untried_until(spec, _untried(newest, past, observed, now))
    if is_late(observed, newest.hash) or (until is not None and now >= until):
        why, message = _cause(newest, observed, now)
    elif message := guard.failing(spec, guard.watched(spec, past, observed), observed):
        why = Why.ERROR_RATE
    else:
        return None
    return Rejection(template=newest.hash, generation=observed.generation, why=why, message=message[:LONGEST_MESSAGE])


def _cause(newest: _Build, observed: Observed, now: datetime) -> tuple[Why, str]:
    found = verdict(newest.endpoint, observed, newest.hash, newest.setup.image, now)
    if found.cause.why in symptoms.FAILURES:
        return found.cause.why, f"{found.subject}: {found.cause.why}: {found.cause.message}"
    return Why.DEADLINE, f"its rollout made no progress for {_budget(newest.endpoint.spec)} s"
