"""From the symptoms of all pods to one line per container, and to the one that explains the endpoint. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from mce_api import names
from mce_api.endpoint import Container, MultiContainerEndpoint
from mce_api.status import ContainerStatus, Why
from mce_operator import symptoms
from mce_operator.observed import Observed, Pod
from mce_operator.resources.deployment import replicas
from mce_operator.symptoms import Symptom


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The containers of the present generation."""

    containers: tuple[ContainerStatus, ...]
    worst: Symptom
    subject: str
    """Whom the worst symptom is about: `container NAME` or `router`."""
    look_again: datetime | None

    @property
    def ready(self) -> int:
        """Containers that serve on every wanted replica."""
        return sum(1 for container in self.containers if 0 < container.total <= container.ready)


def verdict(
    endpoint: MultiContainerEndpoint, observed: Observed, template: str, router_image: str, now: datetime
) -> Verdict:
    """The verdict on the pods made from `template`."""
    pods = observed.pods_of(template)
    wanted = replicas(endpoint.spec)
    missing = _missing(observed, wanted - len(pods))
    containers = endpoint.spec.containers
    derived = names.container_names([container.name for container in containers])
    found: list[tuple[str, Symptom]] = [("router", symptoms.of_router(router_image, pod, now)) for pod in pods]
    lines = []
    for index, (container, name) in enumerate(zip(containers, derived, strict=True)):
        ailing = [symptoms.of_model(container, name, index, pod, now) for pod in pods]
        worst = max([*missing, *ailing], key=lambda symptom: symptom.severity, default=Symptom())
        found += [(f"container {container.name}", symptom) for symptom in (*ailing, *missing)]
        lines.append(_line(container, name, pods, wanted, worst))
    subject, worst = max(found, key=lambda pair: pair[1].severity, default=("", Symptom()))
    return Verdict(
        containers=_dated(lines, observed, now),
        worst=worst,
        subject=subject,
        look_again=min((symptom.look_again for _, symptom in found if symptom.look_again), default=None),
    )


def _missing(observed: Observed, count: int) -> tuple[Symptom, ...]:
    """The symptom of pods that should be there and are not."""
    if count <= 0:
        return ()
    refusal = observed.rollout.replica_failure if observed.rollout else ""
    if refusal:
        return (symptoms.admission(refusal),)
    return (Symptom(why=Why.PENDING, message="the pod is being made"),)


def _line(container: Container, name: str, pods: Sequence[Pod], wanted: int, worst: Symptom) -> ContainerStatus:
    states = [pod.containers[name] for pod in pods if name in pod.containers]
    exits = [state.terminated.exit_code for state in states if state.terminated]
    return ContainerStatus(
        name=container.name,
        ready=sum(1 for state in states if state.is_started and state.is_ready),
        total=wanted,
        restarts=sum(state.restarts for state in states),
        reason=worst.why.value,
        message=worst.message[:2048],
        last_exit_code=worst.exit_code if worst.exit_code is not None else next(iter(exits), None),
    )


def _dated(lines: Sequence[ContainerStatus], observed: Observed, now: datetime) -> tuple[ContainerStatus, ...]:
    """`lines` with the time since which each reason holds."""
    before: Mapping[str, Mapping[str, str]] = {
        line["name"]: line for line in (observed.document.get("status") or {}).get("containers") or ()
    }
    dated = []
    for line in lines:
        known = before.get(line.name, {})
        same = known.get("since") and known.get("reason", "") == line.reason
        since = known["since"] if same else f"{now:%Y-%m-%dT%H:%M:%SZ}"
        dated.append(line.model_copy(update={"since": since}))
    return tuple(dated)
