"""From the symptoms of all pods to one line per container, and to the one that explains the endpoint. Pure.

A proven cause (`symptoms.OVER_AT`) stays on its container's line until that container has come past it, also while its
pod is made anew; a newer proven cause of the same container takes its place. Of several containers the one explains the
endpoint that has had its cause longest: what came later is often only what followed. The memory for this is the stored
status, so that an operator's restart forgets nothing. A new generation begins anew if its pods are other ones, and not
where only their number has changed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from mce_api import names
from mce_api.endpoint import MultiContainerEndpoint
from mce_api.status import ContainerStatus, Status, Why
from mce_operator import scrub, symptoms
from mce_operator.observed import Loss, Observed, Pod, RouterReport, Termination
from mce_operator.resources.deployment import replicas
from mce_operator.symptoms import Neighbours, Subject, Symptom

_LOSS_COUNTS_FOR: Final = timedelta(minutes=5)
"""For which a lost pod explains that its successor is not up yet. Failed pods stay for days."""
_ASK_AGAIN: Final = timedelta(seconds=30)
"""A router is asked so often while it knows what changes nothing that the API server knows: which container is silent,
and under availability Any whether one is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The containers of the present generation."""

    containers: tuple[ContainerStatus, ...]
    cause: Symptom
    """What explains the endpoint; `Why.NONE`: nothing is wrong."""
    subject: str
    """Whom it is about: `container NAME`, `router` or `pods`."""
    look_again: datetime | None

    @property
    def ready(self) -> int:
        """Containers that serve on every wanted replica."""
        return sum(1 for container in self.containers if 0 < container.total <= container.ready)


def verdict(
    endpoint: MultiContainerEndpoint,
    observed: Observed,
    template: str,
    router_image: str,
    now: datetime,
    *,
    is_rollback: bool = False,
) -> Verdict:
    """The verdict on the pods made from `template`; `is_rollback`: those of the last good generation."""
    pods = observed.pods_of(template)
    wanted = replicas(endpoint.spec)
    missing = _missing(observed, wanted - len(pods), has_begun=bool(pods))
    lost = _lost(observed, template, now)
    told = observed.told
    is_told = told.observed_generation == observed.generation
    is_same = is_told or observed.began_with == template
    stored = {line.name: line for line in (_remembered(told, is_rollback=is_rollback) if is_same else ())}
    derived = names.container_names([container.name for container in endpoint.spec.containers])
    found, lines = [symptoms.of_router(router_image, pod, now) for pod in pods], []
    router = _worst(found)
    reports = [(pod, observed.routers.get(pod.name)) for pod in pods]
    known = [(pod, report, _neighbours(endpoint, report)) for pod, report in reports]
    for index, (container, name) in enumerate(zip(endpoint.spec.containers, derived, strict=True)):
        subject = Subject(spec=container, name=name, index=index)
        ailing = [symptoms.of_model(subject, pod, report, others, now) for pod, report, others in known]
        found += ailing
        worst = _worst([*missing, *ailing])
        if lost is not None and worst.why in {Why.PENDING, Why.STARTING}:
            worst = lost
        line = _line(subject, pods, ailing, wanted, worst)
        before = stored.get(container.name)
        if before is not None and (is_told or not _is_over(ailing)):
            line = _kept(line, worst, before, asked=any(pod.name in observed.routers for pod in pods))
        lines.append(_dated(line, before, now))
    moments = [symptom.look_again for symptom in found if symptom.look_again]
    is_any = endpoint.spec.availability == "Any" and any(pod.is_ready for pod in pods)
    if is_any or any(symptoms.is_worth_asking(pod, now) for pod in pods):
        moments.append(now + _ASK_AGAIN)
    who, cause = _cause(lines, router)
    return Verdict(containers=tuple(lines), cause=cause, subject=who, look_again=min(moments, default=None))


def _remembered(told: Status, *, is_rollback: bool) -> Sequence[ContainerStatus]:
    """The stored lines, if they are about the same pods: a rollback stays in the generation that it takes back."""
    was_rollback = told.rollout is not None and told.rollout.method == "Rollback"
    return told.containers if was_rollback == is_rollback else ()


def _worst(found: Sequence[Symptom]) -> Symptom:
    """The worst of several pods, as far as the one that is furthest behind."""
    if not found:
        return Symptom(reached=symptoms.Stage.UP)
    reached = min(symptom.reached for symptom in found)
    return replace(max(found, key=lambda symptom: symptom.severity), reached=reached)


def _neighbours(endpoint: MultiContainerEndpoint, router: RouterReport | None) -> Neighbours:
    containers = tuple(enumerate(endpoint.spec.containers))
    by_port = {names.bind_port(index, one.port): symptoms.called(one) for index, one in containers}
    by_port |= dict.fromkeys((names.ROUTER_PORT, names.ROUTER_ADMIN_PORT), "the router")
    targets = router.targets if router else {}
    listening = {symptoms.called(one): targets[one.name].listens_on for _, one in containers if one.name in targets}
    by_port |= {port: name for name, ports in listening.items() for port in ports}
    by_uid = {names.container_uid(index): symptoms.called(one) for index, one in containers}
    return Neighbours(by_port=by_port, by_uid=by_uid, listening=listening)


def _missing(observed: Observed, count: int, *, has_begun: bool) -> tuple[Symptom, ...]:
    """The symptom of pods that should be there and are not.

    In a rollout that has begun, old pods keep the places of those whose turn has not come.
    """
    if count <= 0:
        return ()
    refusal = observed.rollout.replica_failure if observed.rollout else ""
    if refusal:
        return (symptoms.refused(refusal),)
    if has_begun and observed.rollout is not None and observed.rollout.replicas > observed.rollout.updated:
        return ()
    return (Symptom(why=Why.PENDING, message="the pod is being made"),)


def _lost(observed: Observed, template: str, now: datetime) -> Symptom | None:
    """What has become of the pod that was lost last, if that was a short while ago."""
    losses = [pod.lost for pod in observed.pods if pod.template == template and pod.lost is not None]
    recent = [loss for loss in losses if loss.at is not None and now - loss.at < _LOSS_COUNTS_FOR]
    return symptoms.lost(max(recent, key=_when)) if recent else None


def _when(loss: Loss) -> tuple[float, str]:
    return (loss.at.timestamp() if loss.at else 0.0, loss.message)


def _line(
    subject: Subject, pods: Sequence[Pod], ailing: Sequence[Symptom], wanted: int, worst: Symptom
) -> ContainerStatus:
    states = [pod.containers[subject.name] for pod in pods if subject.name in pod.containers]
    ended = worst.ended or _last_end([state.terminated for state in states if state.terminated])
    lines = scrub.log_lines(symptoms.printed(ended), scrub.own_secrets(subject.spec)) if ended else ()
    return ContainerStatus(
        name=subject.spec.name,
        ready=sum(1 for symptom in ailing if symptom.why is Why.NONE),
        total=wanted,
        restarts=sum(state.restarts for state in states),
        reason=worst.why.value,
        message=worst.message[:2048],
        last_exit_code=ended.exit_code if ended else None,
        last_log_lines="\n".join(lines),
    )


def _last_end(ends: Sequence[Termination]) -> Termination | None:
    return max(ends, key=lambda end: end.finished.timestamp() if end.finished else 0.0, default=None)


def _kept(line: ContainerStatus, worst: Symptom, stored: ContainerStatus, *, asked: bool) -> ContainerStatus:
    """`line`, or what was proved of the container before, while nothing proves the contrary."""
    why = next((why for why in symptoms.OVER_AT if why == stored.reason), None)
    if why is None or not _holds(why, worst, asked=asked):
        return line
    kept: dict[str, Any] = {"reason": stored.reason, "message": stored.message}
    if line.last_exit_code is None:
        kept |= {"last_exit_code": stored.last_exit_code, "last_log_lines": stored.last_log_lines}
    return line.model_copy(update=kept)


def _is_over(ailing: Sequence[Symptom]) -> bool:
    """Whether the container is up somewhere, and no pod shows why it was down: others are only being added."""
    is_up = any(symptom.why is Why.NONE for symptom in ailing)
    return is_up and not any(symptom.why in symptoms.OVER_AT for symptom in ailing)


def _holds(why: Why, worst: Symptom, *, asked: bool) -> bool:
    """Whether `why`, which was proved before, still says more than what is to be seen now."""
    if worst.why not in symptoms.OVER_AT:
        return worst.reached < symptoms.OVER_AT[why]
    if worst.why is why:
        return why in symptoms.ROUTERS_WORDS and not asked
    return symptoms.CAUSED_BY.get(worst.why) is why and not asked


def _dated(line: ContainerStatus, stored: ContainerStatus | None, now: datetime) -> ContainerStatus:
    """`line` with the time since which its reason holds."""
    same = stored is not None and stored.since and stored.reason == line.reason
    return line.model_copy(update={"since": stored.since if same and stored else f"{now:%Y-%m-%dT%H:%M:%SZ}"})


def _cause(lines: Sequence[ContainerStatus], router: Symptom) -> tuple[str, Symptom]:
    """Who explains the endpoint: the router that does not run, the first that has failed, or the worst."""
    if router.why in symptoms.OVER_AT:
        return "router", router
    told = [(line, Symptom(why=Why(line.reason), message=line.message)) for line in lines]
    proven = [pair for pair in told if pair[1].why in symptoms.OVER_AT]
    if proven:
        line, cause = min(proven, key=lambda pair: (pair[0].since or "", -pair[1].severity))
    else:
        line, cause = max(told, key=lambda pair: pair[1].severity)
        if router.severity >= cause.severity and router.why is not Why.NONE:
            return "router", router
    return "pods" if cause.why in symptoms.POD_CAUSES else f"container {line.name}", cause
