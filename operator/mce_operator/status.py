"""What an endpoint says of itself. Pure: (situation, now) to `Status`; one function per condition.

Everything here was observed, nothing is hoped for: the effect of this pass shows in the next one, which the children's
events bring about.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from mce_api import names, rules
from mce_api.endpoint import MultiContainerEndpoint, Spec
from mce_api.status import Condition, ConditionType, ContainerStatus, State, Status, Why, merged
from mce_operator import resize, scrub, symptoms
from mce_operator import rollout as rollouts
from mce_operator.decisions import Decisions
from mce_operator.history import Rejection
from mce_operator.observed import Child, Observed, Rollout
from mce_operator.plan import Failure, Plan
from mce_operator.resources.deployment import replicas
from mce_operator.verdict import Verdict

NAME_TAKEN_PAUSE: Final = timedelta(seconds=30)
"""After which a taken name is looked at again: what is not ours is not watched."""

_TO_BE_CURED: Final = frozenset(
    {Why.APPLY_FAILED, Why.NAME_TAKEN, Why.INVALID_SPEC, Why.DEADLINE, Why.ROLLING_BACK, Why.ROLLED_BACK}
    | symptoms.FAILURES
)
"""Reasons that are told as failureReason; the rest is the ordinary course of things."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """All that a status is made of."""

    endpoint: MultiContainerEndpoint
    """As it is wanted to run: after a rollback with the containers of the last good generation."""
    observed: Observed
    decisions: Decisions
    plan: Plan
    verdict: Verdict
    failures: Sequence[Failure] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The one thing to be said of the whole endpoint."""

    state: State
    why: Why
    message: str
    is_ready: bool = False
    is_moving: bool = False
    """A rollout is under way."""
    stalled: Why = Why.NONE
    """Why nothing will happen any more without the user; empty: something may."""


def status(situation: Situation, now: datetime) -> Status:
    """The status of a valid endpoint."""
    observed, verdict, finding = situation.observed, situation.verdict, _finding(situation)
    is_judged = not situation.failures or finding.stalled is not Why.NONE
    return _whole(
        observed,
        finding,
        observed.generation if is_judged else observed.told.observed_generation,
        now,
        ailing=_ailing(situation),
        rejection=situation.decisions.revision.rejection,
        rollout=resize.told(
            situation.decisions.resizing, rollouts.progress(observed, situation.decisions.revision, now)
        ),
        containers=verdict.containers,
        containers_ready=f"{verdict.ready}/{len(verdict.containers)}",
        autoscaling=situation.decisions.autoscaling,
    )


def invalid(observed: Observed, violations: Sequence[rules.Violation], now: datetime) -> Status:
    """The status of a stored endpoint that is none: the children stay as they are until it is corrected."""
    text = "; ".join(str(violation) for violation in violations)
    finding = Finding(state=State.FAILED, why=Why.INVALID_SPEC, message=text, stalled=Why.INVALID_SPEC)
    return _whole(observed, finding, observed.generation, now)


def deleting(observed: Observed, now: datetime) -> Status:
    """The status of an endpoint that waits for somebody's finalizer."""
    finding = Finding(state=State.DELETING, why=Why.NOT_READY, message="the endpoint is being deleted", is_moving=True)
    return _whole(observed, finding, observed.generation, now)


def look_again(situation: Situation, now: datetime) -> float | None:
    """Seconds after which the status may change though nothing happens."""
    if situation.plan.taken:
        return NAME_TAKEN_PAUSE.total_seconds()
    decisions = situation.decisions
    moments = (situation.verdict.look_again, decisions.look_again, decisions.revision.look_again)
    seconds = [max(0.1, (one - now).total_seconds()) for one in moments if one]
    soon = decisions.resizing.look_again_seconds
    return min([*seconds, *([soon] if soon else [])], default=None)


def document(status_: Status) -> dict[str, Any]:
    """The status as it is stored; equal documents mean that there is nothing to write."""
    return status_.model_dump(mode="json", by_alias=True, exclude_none=True)


def _whole(
    observed: Observed,
    finding: Finding,
    generation: int,
    now: datetime,
    *,
    ailing: Sequence[ContainerStatus] = (),
    rejection: Rejection | None = None,
    **more: Any,
) -> Status:
    numbers = observed.rollout
    because = finding.why is not Why.READY
    conditions = [
        ready(finding, generation, now),
        reconciling(finding, generation, now),
        stalled(finding, generation, now),
        degraded(ailing, generation, now),
    ]
    if rejection is not None:
        conditions.append(rolled_back(rejection, generation, now))
    return Status(
        state=finding.state.value,
        reason=finding.why.value if because else "",
        failure_reason=finding.message[:1024] if finding.why in _TO_BE_CURED else "",
        observed_generation=generation,
        replicas=numbers.replicas if numbers else 0,
        ready_replicas=numbers.ready if numbers else 0,
        selector=names.selector(observed.key.name),
        conditions=merged(conditions, observed.told.conditions),
        url=names.url(observed.key.namespace, observed.key.name),
        **more,
    )


def ready(finding: Finding, generation: int, now: datetime) -> Condition:
    """Whether the newest spec serves on every wanted replica."""
    return _condition(ConditionType.READY, finding.is_ready, finding.why, finding.message, generation, now)


def reconciling(finding: Finding, generation: int, now: datetime) -> Condition:
    """Whether a rollout is under way."""
    why, text = (finding.why, finding.message) if finding.is_moving else (Why.SETTLED, "nothing is under way")
    why = Why.ROLLING_OUT if finding.is_moving and why is Why.READY else why
    return _condition(ConditionType.RECONCILING, finding.is_moving, why, text, generation, now)


def stalled(finding: Finding, generation: int, now: datetime) -> Condition:
    """Whether the user has to change something before anything can happen."""
    is_stalled = finding.stalled is not Why.NONE
    why, text = (finding.stalled, finding.message) if is_stalled else (Why.SETTLED, "nothing stands in the way")
    return _condition(ConditionType.STALLED, is_stalled, why, text, generation, now)


def rolled_back(rejection: Rejection, generation: int, now: datetime) -> Condition:
    """Why the newest spec is not what runs; there is no such condition while it is."""
    return _condition(ConditionType.ROLLED_BACK, True, rejection.why, str(rejection), generation, now)  # noqa: FBT003


def degraded(ailing: Sequence[ContainerStatus], generation: int, now: datetime) -> Condition:
    """Whether the endpoint serves though some of its containers are down on some replicas."""
    first = min(ailing, key=lambda line: line.since or "", default=None)
    why = Why(first.reason) if first else Why.SETTLED
    lines = (f"container {one.name}: {one.reason}, serves on {one.ready} of {one.total} replicas" for one in ailing)
    text = "; ".join(lines) or "no container is down while the endpoint serves"
    return _condition(ConditionType.DEGRADED, bool(ailing), why, text, generation, now)


def _ailing(situation: Situation) -> tuple[ContainerStatus, ...]:
    """The containers that fail on some replica of an endpoint that serves."""
    lines, rollout = situation.verdict.containers, situation.observed.rollout
    any_serves = situation.endpoint.spec.availability == "Any" and any(line.ready for line in lines)
    if not any_serves and not (rollout and rollout.ready):
        return ()
    return tuple(line for line in lines if line.reason in symptoms.FAILURES and line.ready < line.total)


def _condition(
    type_: ConditionType,
    holds: bool,  # noqa: FBT001
    why: Why,
    message: str,
    generation: int,
    now: datetime,
) -> Condition:
    answer: Literal["True", "False"] = "True" if holds else "False"
    return Condition(
        type=type_.value,
        status=answer,
        reason=why.value,
        message=message[:32768],
        last_transition_time=f"{now:%Y-%m-%dT%H:%M:%SZ}",
        observed_generation=max(0, generation),
    )


def _finding(situation: Situation) -> Finding:
    """The first of these that applies."""
    observed, plan = situation.observed, situation.plan
    spec = situation.endpoint.spec
    if plan.taken:
        return _name_taken(plan.taken[0], observed)
    if situation.failures:
        return _unwritten(situation, situation.failures[0])
    if plan.orphans:
        return _moving(situation, Why.PENDING, "what an earlier endpoint of this name left behind is being deleted")
    if situation.decisions.resizing.is_under_way:
        return _moving(situation, Why.RESIZING, situation.decisions.resizing.message)
    if observed.rollout is None or not plan.is_applied or not observed.rollout.is_current:
        return _underway(situation)
    if replicas(spec) == 0:
        return _out_of_service(situation, observed.rollout)
    if _is_complete(observed.rollout, spec):
        return _complete(situation, observed.rollout)
    revision = situation.decisions.revision
    if revision.is_overdue or rollouts.is_late(observed, revision.template):
        return _too_late(situation, observed.rollout)
    if observed.rollout.replicas <= observed.rollout.updated and _was_in_service(observed):
        return _impaired(situation, observed.rollout)
    return _underway(situation)


def _unwritten(situation: Situation, failure: Failure) -> Finding:
    text = f"{failure.kind} {failure.name} cannot be written: {scrub.shown(failure.message)}"
    if not failure.message.startswith("Invalid: "):  # what the API server may yet take
        return _moving(situation, Why.QUOTA if symptoms.is_quota(text) else Why.APPLY_FAILED, text)
    rollout = situation.observed.rollout
    state = State.UPDATING if rollout and rollout.ready else State.FAILED
    return Finding(state=state, why=Why.APPLY_FAILED, message=text, stalled=Why.APPLY_FAILED)


def _name_taken(child: Child, observed: Observed) -> Finding:
    text = (
        f"{child.kind} {observed.key.namespace}/{child.name} is there already and is not this endpoint's; rename the "
        f"endpoint, or run: kubectl delete {child.kind.lower()} {child.name} -n {observed.key.namespace}"
    )
    return Finding(state=State.FAILED, why=Why.NAME_TAKEN, message=text, stalled=Why.NAME_TAKEN)


def _out_of_service(situation: Situation, rollout: Rollout) -> Finding:
    if rollout.replicas:
        return _moving(situation, Why.ROLLING_OUT, "the last pods are stopping")
    text = "spec.suspend is true" if situation.endpoint.spec.suspend else "spec.replicas is 0"
    return Finding(state=State.OUT_OF_SERVICE, why=Why.SUSPENDED, message=f"{text}: there are no pods")


def _complete(situation: Situation, rollout: Rollout) -> Finding:
    rejection = situation.decisions.revision.rejection
    if rejection is None:
        text = _count(rollout, situation.endpoint.spec)
        return Finding(state=State.IN_SERVICE, why=Why.READY, message=text, is_ready=True)
    # It serves, but not what was asked for: whoever waits for the newest spec has to learn that it will not come.
    text = f"{rejection}; the last good generation serves"
    return Finding(state=State.IN_SERVICE, why=Why.ROLLED_BACK, message=text, stalled=Why.ROLLED_BACK)


def _too_late(situation: Situation, rollout: Rollout) -> Finding:
    cause, text = _cause(situation)
    revision = situation.decisions.revision
    if cause not in symptoms.FAILURES:
        seconds = revision.deployment["spec"]["progressDeadlineSeconds"]
        cause, text = Why.DEADLINE, f"the rollout has made no progress for {seconds} s; {text}"
    if revision.rejection is not None:
        text = f"{revision.rejection}; going back has failed, too: {text}"
        return Finding(state=State.UPDATE_ROLLBACK_FAILED, why=cause, message=text, stalled=Why.DEADLINE)
    text = f"{text}; {revision.no_way_back}" if revision.no_way_back else text
    state = State.UPDATING if rollout.ready else State.FAILED
    return Finding(state=state, why=cause, message=text, stalled=Why.DEADLINE)


def _impaired(situation: Situation, rollout: Rollout) -> Finding:
    """Once in service, an endpoint whose containers fail is still the endpoint that it was (as in AWS)."""
    cause, text = _cause(situation)
    if cause in {Why.NONE, Why.ROLLING_OUT}:
        cause, text = Why.NOT_READY, _count(rollout, situation.endpoint.spec)
    is_rolled_back = situation.decisions.revision.rejection is not None
    return Finding(
        state=State.IN_SERVICE, why=cause, message=text, stalled=Why.ROLLED_BACK if is_rolled_back else Why.NONE
    )


def _underway(situation: Situation) -> Finding:
    why, text = _cause(situation)
    if _is_going_back(situation):
        rejection = situation.decisions.revision.rejection
        return _moving(situation, Why.ROLLING_BACK, f"{rejection}; going back to the last good generation: {text}")
    return _moving(situation, why, text)


def _is_going_back(situation: Situation) -> bool:
    """Not any more when it has been back once: the numbers may move for other reasons, such as scaling."""
    rollout = situation.observed.rollout
    return situation.decisions.revision.rejection is not None and not (rollout and rollout.is_settled)


def _moving(situation: Situation, why: Why, message: str) -> Finding:
    before, rollout = situation.observed.told, situation.observed.rollout
    if _is_going_back(situation):
        return Finding(state=State.ROLLING_BACK, why=why, message=message, is_moving=True)
    first = before.state in {"", State.CREATING} or (before.state == State.FAILED and not (rollout and rollout.ready))
    return Finding(state=State.CREATING if first else State.UPDATING, why=why, message=message, is_moving=True)


def _cause(situation: Situation) -> tuple[Why, str]:
    """What keeps containers from serving, or that the rollout simply takes its time."""
    cause = situation.verdict.cause
    if cause.why is not Why.NONE:
        return cause.why, f"{situation.verdict.subject}: {cause.why}: {cause.message}"
    rollout = situation.observed.rollout
    return Why.ROLLING_OUT, _count(rollout, situation.endpoint.spec) if rollout else "the pods are being made"


def _count(rollout: Rollout, spec: Spec) -> str:
    return f"{rollout.available} of {replicas(spec)} replicas serve"


def _is_complete(rollout: Rollout, spec: Spec) -> bool:
    """As `kubectl rollout status` has it: all pods are new, and all of them serve.

    During a rollout a pod must also have baked; in later life it is enough that it serves again.
    """
    serving = rollout.ready if rollout.is_settled else rollout.available
    return replicas(spec) == rollout.updated == rollout.replicas == serving


def _was_in_service(observed: Observed) -> bool:
    before = observed.told
    return before.state == State.IN_SERVICE and before.observed_generation == observed.generation
