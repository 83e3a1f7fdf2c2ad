"""Why one container of one pod does not serve, in one word of the closed list and one sentence with the fix. Pure.

The sentence says the same for as long as the cause is the same: no elapsed seconds, no pod names, no source ports. What
a container, a registry or a kubelet wrote goes through `scrub` first.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import IntEnum
from itertools import islice
from typing import Final

from mce_api import names, wire
from mce_api.endpoint import Container
from mce_api.status import Why
from mce_operator import scrub
from mce_operator.observed import ContainerState, Loss, Pod, RouterReport, TargetReport, Termination
from mce_operator.resources.model import PROBE_KILL_SECONDS

PING_PATIENCE: Final = timedelta(seconds=20)
"""For which a running container may keep silent before that is called PingTimeout or PortNotBound."""
ASK_FROM: Final = timedelta(seconds=15)
"""After which it is worth asking a router why a running container does not answer."""

_PULL_REASONS: Final = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "RegistryUnavailable",
        "ImageInspectError",
        "SignatureValidationFailed",
    }
)
_CONFIG_REASONS: Final = frozenset(
    {
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
        "PreCreateHookError",
        "PreStartHookError",
        "PostStartHookError",
    }
)
_START_ERRORS: Final = frozenset({"StartError", "ContainerCannotRun"})
_SIGNALLED: Final = frozenset({0, 137, 143})
"""How a process ends that the kubelet has stopped: by its own will, by SIGKILL, by SIGTERM."""
_LAST_WORDS: Final = 200
"""Characters of a dying container's last line that are shown."""
_MOST_LISTENERS: Final = 4
_PULL_PREFIX: Final = re.compile(r'^Back-off pulling image "[^"]*": \w+: ')
_SOURCE_PORT: Final = re.compile(r":\d+->")
_POD_NAME: Final = re.compile(r'pods "[^"]*" is forbidden')
_ADDRESS_IN_USE: Final = re.compile(
    r"EADDRINUSE|address (?:is )?already in use|connection in use|port \d{1,5} is (?:already )?in use", re.IGNORECASE
)
_PORT: Final = re.compile(r"(?<![\d.-])\d{4,5}(?![\d:-])")
"""What may be a port in such a line: no part of a date, a time or an address."""
_HOLDER: Final = re.compile(r"held by user (\d{1,10})\b")
"""In the router's words about a taken port (`mce_router.listener.Guard`)."""
_REFUSED_BY_NODE: Final = re.compile(r"OutOf|NodeAffinity|UnexpectedAdmissionError|TopologyAffinity|NodePorts|PodOS")
"""Reasons of a pod that a kubelet did not take (pkg/kubelet/lifecycle)."""

SEVERITY: Final = (
    Why.NONE,
    Why.PENDING,
    Why.STARTING,
    Why.NOT_READY,
    Why.PING_TIMEOUT,
    Why.PORT_NOT_BOUND,
    Why.START_BUDGET,
    Why.EXIT,
    Why.PORT_TAKEN,
    Why.OOM_KILLED,
    Why.EVICTED,
    Why.IMAGE_PULL,
    Why.CREATE_CONFIG,
    Why.UNSCHEDULABLE,
    Why.QUOTA,
    Why.ADMISSION,
)
"""From harmless to worst: a cause that stands in the way of another one is worse."""

FAILURES: Final = frozenset(SEVERITY[SEVERITY.index(Why.NOT_READY) :])
"""What somebody has to look at; the others pass by themselves."""


class Stage(IntEnum):
    """How far a container of a pod has come."""

    NOTHING = 0
    MADE = 1
    PLACED = 2
    RUNS = 3
    """Or has run."""
    UP = 4


OVER_AT: Final = {
    Why.ADMISSION: Stage.MADE,
    Why.QUOTA: Stage.MADE,
    Why.UNSCHEDULABLE: Stage.PLACED,
    Why.IMAGE_PULL: Stage.RUNS,
    Why.CREATE_CONFIG: Stage.RUNS,
    Why.EVICTED: Stage.UP,
    Why.EXIT: Stage.UP,
    Why.OOM_KILLED: Stage.UP,
    Why.START_BUDGET: Stage.UP,
    Why.PORT_TAKEN: Stage.UP,
}
"""Causes that something has proved, and the stage that proves the contrary: until then they stay, also while the
container is made anew and its kubelet has nothing to say. Silence is no proof: whoever is only slow looks the same."""

CAUSED_BY: Final = {Why.START_BUDGET: Why.PORT_TAKEN}
"""A proven cause that is only what follows from another one."""
ROUTERS_WORDS: Final = frozenset({Why.PORT_TAKEN, Why.START_BUDGET})
"""Causes whose message may have something that only the router knows."""

POD_CAUSES: Final = frozenset({Why.ADMISSION, Why.QUOTA, Why.UNSCHEDULABLE, Why.EVICTED, Why.NOT_READY})
"""What no single container is to blame for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Symptom:
    """What ails one container."""

    why: Why = Why.NONE
    message: str = ""
    reached: Stage = Stage.NOTHING
    ended: Termination | None = None
    """The end that it is about."""
    look_again: datetime | None = None
    """When the verdict changes though nothing happens."""

    @property
    def severity(self) -> int:
        """Rank in `SEVERITY`."""
        return SEVERITY.index(self.why)


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbours:
    """Who is in a pod: told by what they are to listen on, by what they do listen on, and by their users."""

    by_port: Mapping[int, str] = field(default_factory=dict)
    by_uid: Mapping[int, str] = field(default_factory=dict)
    listening: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Ports by name, as the router has seen them; empty if it was not asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One model container of an endpoint, as it is wanted."""

    spec: Container
    name: str
    """Its Kubernetes name."""
    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One container, and what there is to know of it."""

    name: str
    """As people call it."""
    image: str
    port: int | None
    """None: the router, which nobody pings."""
    ping: str
    """What it is asked for its health: `GET /ping`."""
    budget_seconds: int
    memory_limit: str
    logs: str
    """The command that shows what it has printed."""
    pods: str
    """The command that shows what its pods wait for."""
    state: ContainerState
    report: TargetReport | None
    """What the router says of it, if it was asked."""
    neighbours: Neighbours
    secrets: tuple[str, ...]
    now: datetime

    @property
    def is_up(self) -> bool:
        """Whether it serves as far as the kubelet knows."""
        return self.state.is_started and self.state.is_ready

    def cause(self) -> str:
        """The router's word, if it is about a process that runs."""
        if self.report is None or self.state.running_since is None or self.report.state == "Healthy":
            return ""
        return self.report.cause


def called(container: Container) -> str:
    """A container as messages name it."""
    return f"container {container.name}"


def of_model(subject: Subject, pod: Pod, router: RouterReport | None, neighbours: Neighbours, now: datetime) -> Symptom:
    """The symptom of one model container in one pod; `Why.NONE` if it serves."""
    if pod.unschedulable:
        return unschedulable(pod.unschedulable)
    spec, state = subject.spec, pod.containers.get(subject.name)
    if state is None:
        return Symptom(why=Why.PENDING, message="the pod has been made and waits for its node", reached=Stage.MADE)
    limit = spec.resources.limits.get("memory")
    case = Case(
        name=called(spec),
        image=spec.image,
        port=names.bind_port(subject.index, spec.port),
        ping=f"GET {spec.ping_path}",
        budget_seconds=spec.startup_timeout_seconds,
        memory_limit=str(limit) if limit is not None else "",
        logs=_logs(pod, subject.name),
        pods=_pods(pod),
        state=state,
        report=router.targets.get(spec.name) if router else None,
        neighbours=neighbours,
        secrets=scrub.own_secrets(spec) if state.terminated or state.waiting_message else (),
        now=now,
    )
    found = _first(_MODEL_CHECKS, case)
    return _unreported(pod) if found.why is Why.NONE and _is_lost(pod) else found


def of_router(image: str, pod: Pod, now: datetime) -> Symptom:
    """The symptom of the router in one pod: while it does not run, no model is even started.

    Once it runs it has none: whether it is ready says something of the models. One that has ended before must run for a
    moment, or what it ended with would flicker away each time that it is started.
    """
    state, listens_from = pod.router, pod.listens_from
    if pod.unschedulable or state is None:
        return Symptom(reached=Stage.UP)
    if listens_from is not None and (state.terminated is None or now >= listens_from):
        return Symptom(reached=Stage.UP)
    case = Case(
        name="router",
        image=image,
        port=None,
        ping="",
        budget_seconds=0,
        memory_limit="256Mi",
        logs=_logs(pod, names.ROUTER_CONTAINER),
        pods=_pods(pod),
        state=state,
        report=None,
        neighbours=Neighbours(),
        secrets=(),
        now=now,
    )
    return replace(_first(_ROUTER_CHECKS, case), look_again=listens_from)


def is_worth_asking(pod: Pod, now: datetime) -> bool:
    """Whether the router of a pod knows something of its containers that the kubelet does not."""
    router = pod.router
    if router is None or router.running_since is None or pod.is_deleting or not pod.ip:
        return False
    models = [state for name, state in pod.containers.items() if name != names.ROUTER_CONTAINER]
    if not router.is_ready and models and all(state.is_started for state in models):
        return True  # one of them has fallen silent, and the kubelet asks them no more
    return any(
        _is_silent(state, now) or (state.terminated is not None and _ADDRESS_IN_USE.search(state.terminated.message))
        for state in models
        if not state.is_started
    )


def _is_silent(state: ContainerState, now: datetime) -> bool:
    return state.running_since is not None and now - state.running_since >= ASK_FROM


def _is_lost(pod: Pod) -> bool:
    """Nobody but the node controller calls a pod unready while its kubelet calls all of its containers ready."""
    ready = all(state.is_ready for state in pod.containers.values())
    return ready and not pod.is_ready and pod.ready_changed is not None


def printed(ended: Termination) -> str:
    """What a process had printed when it ended; the runtime's own words are not its."""
    return "" if ended.reason in _START_ERRORS else ended.message


def _logs(pod: Pod, name: str) -> str:
    """Names the Deployment, since a pod's name would change with every pod."""
    return f"kubectl logs deploy/{pod.endpoint} -c {name}"


def _pods(pod: Pod) -> str:
    return f"kubectl describe pods -l {names.ENDPOINT_LABEL}={pod.endpoint}"


# --- what happens to a pod as a whole


def unschedulable(message: str) -> Symptom:
    """No node takes the pod."""
    text = scrub.shown(message).rstrip(".")
    fix = "lower resources.requests, change spec.pod placement, or add a node"
    return Symptom(why=Why.UNSCHEDULABLE, message=f"no node takes the pod: {text}; {fix}", reached=Stage.MADE)


def refused(message: str) -> Symptom:
    """The cluster refuses the pods themselves."""
    text = scrub.shown(_POD_NAME.sub("pods are forbidden", message))
    if is_quota(message):
        fix = "lower resources or replicas, or have the ResourceQuota raised: kubectl describe resourcequota"
        return Symptom(why=Why.QUOTA, message=f"the namespace's quota does not allow the pods: {text}; {fix}")
    return Symptom(why=Why.ADMISSION, message=f"the cluster refuses the pods: {text}; {_admission_fix(message)}")


def is_quota(message: str) -> bool:
    """Whether a refusal is that of a ResourceQuota (plugin/pkg/admission/resourcequota)."""
    return "exceeded quota:" in message or "failed quota:" in message


def _admission_fix(message: str) -> str:
    if "PodSecurity" in message:
        return "change what it names, or the pod-security.kubernetes.io/enforce label of the namespace"
    if "serviceaccount" in message.lower():
        return "create that ServiceAccount, or leave spec.pod.serviceAccountName out"
    return "change what it names"


def lost(loss: Loss) -> Symptom:
    """A pod was taken away."""
    text = scrub.shown(loss.message).rstrip(".") or loss.reason
    if _REFUSED_BY_NODE.match(loss.reason):
        return unschedulable(text)
    fix = "stay within resources.limits, raise resources.requests, or free the node"
    text = f"the pod was taken off its node: {loss.reason}: {text}; {fix}"
    return Symptom(why=Why.EVICTED, message=text, reached=Stage.MADE)


def _unreported(pod: Pod) -> Symptom:
    text = f"all its containers ran when its node last reported; see: kubectl get nodes; {_pods(pod)}"
    return Symptom(why=Why.NOT_READY, message=f"the pod counts as not ready: {text}", reached=Stage.RUNS)


# --- what happens to one container


def _first(checks: tuple[Callable[[Case], Symptom | None], ...], case: Case) -> Symptom:
    for check in checks:
        found = check(case)
        if found is not None:
            return found
    return _waiting(case)


def _waiting(case: Case) -> Symptom:
    if case.state.waiting_reason == "ContainerCreating" or (case.port is None and case.state.waiting_reason):
        text = f"its node prepares the pod: volumes, network, router; if that lasts: {case.pods}"
    else:
        text = "waiting for the containers that start before it"
    return Symptom(why=Why.PENDING, message=text, reached=Stage.PLACED)


def _fallen_silent(case: Case) -> Symptom | None:
    """It was up, and the router has found since that it is not."""
    if not case.is_up:
        return None
    if case.report is None or not (case.cause() or case.report.state == "Unhealthy"):
        return Symptom(reached=Stage.UP)
    return _taken(case) or _not_bound(case) or _mute(case)


def _image(case: Case) -> Symptom | None:
    if case.state.waiting_reason not in _PULL_REASONS:
        return None
    text = _SOURCE_PORT.sub("->", _PULL_PREFIX.sub("", scrub.shown(case.state.waiting_message, case.secrets)))
    fix = "check image, and spec.pod.imagePullSecrets if the registry is private"
    text = f"image {case.image} cannot be pulled: {text or case.state.waiting_reason}; {fix}"
    return Symptom(why=Why.IMAGE_PULL, message=text, reached=Stage.PLACED)


def _config(case: Case) -> Symptom | None:
    state, fix = case.state, "check command and args, and that the image has that program"
    if state.waiting_reason == "PostStartHookError" and state.terminated is not None:
        return None  # the hook waits for the process, which has ended
    if state.waiting_reason in _CONFIG_REASONS:
        text = state.waiting_message or state.waiting_reason
        if state.waiting_reason == "CreateContainerConfigError":
            fix = "create the Secret or ConfigMap key that it names, or correct env and spec.pod.securityProfile"
    elif state.terminated is not None and state.terminated.reason in _START_ERRORS:
        text = state.terminated.message or state.terminated.reason
    else:
        return None
    text = f"image {case.image} cannot be started: {scrub.shown(text, case.secrets)}; {fix}"
    return Symptom(why=Why.CREATE_CONFIG, message=text, reached=Stage.PLACED)


def _out_of_memory(case: Case) -> Symptom | None:
    ended = case.state.terminated
    if ended is None or ended.reason != "OOMKilled":
        return None
    limit = f"its memory limit of {case.memory_limit}" if case.memory_limit else "the node's memory limit"
    text = f"was killed at {limit} (exit code {ended.exit_code}); raise resources.limits.memory"
    return Symptom(why=Why.OOM_KILLED, message=text, ended=ended, reached=Stage.RUNS)


def _over_budget(case: Case) -> Symptom | None:
    ended = case.state.terminated
    if ended is None or case.port is None or not _was_stopped_at_budget(ended, case.budget_seconds):
        return None
    text = (
        f"was stopped after its budget of {case.budget_seconds} s without answering {case.ping} with 200 on port "
        f"{case.port}{_elsewhere(case)}; make it listen on ${wire.BIND_TO_PORT}, or raise startupTimeoutSeconds"
    )
    return Symptom(why=Why.START_BUDGET, message=text, ended=ended, reached=Stage.RUNS)


def _elsewhere(case: Case) -> str:
    ports = [str(port) for port in case.report.listens_on if port != case.port] if case.report else []
    return f" (it listens on {', '.join(ports)})" if ports else ""


def _was_stopped_at_budget(ended: Termination, budget: int) -> bool:
    # The kubelet does not say that a start-up probe has ended a container. A run that lasted as long as the budget and
    # was then ended from outside is one; probes of a slow node take up to three times their period.
    latest = budget * 3 + PROBE_KILL_SECONDS
    return ended.exit_code in _SIGNALLED and budget - 2 <= ended.ran_seconds <= latest


def _address_in_use(case: Case) -> Symptom | None:
    """It has ended since somebody else had its port before."""
    ended = case.state.terminated
    if ended is None or case.port is None:
        return None
    said = next(filter(_ADDRESS_IN_USE.search, reversed(scrub.log_lines(ended.message, case.secrets))), "")
    if not said:
        return None
    ports = _PORT.findall(said)
    who = _holder(case, int(ports[-1])) if ports else _listeners(case)
    fix = f"make each listen on its own ${wire.BIND_TO_PORT} and ${wire.SAFE_PORT_RANGE} only, or move one's port"
    text = f"exited with code {ended.exit_code} since {who}; {fix}: {said.strip()[:_LAST_WORDS]}"
    return Symptom(why=Why.PORT_TAKEN, message=text, ended=ended, reached=Stage.RUNS)


def _holder(case: Case, port: int) -> str:
    holder = case.neighbours.by_port.get(port, "")
    known = holder not in {"", case.name}
    return f"port {port} is taken: {holder} has it" if known else f"port {port} is taken by another process of the pod"


def _listeners(case: Case) -> str:
    """Who may have the port when it has not said which one it wanted."""
    others = (
        f"{name} listens on {', '.join(map(str, ports))}"
        for name, ports in case.neighbours.listening.items()
        if name != case.name and ports
    )
    known = "; ".join(islice(others, _MOST_LISTENERS))
    return f"a port that it wants is taken ({known})" if known else "a port that it wants is taken"


def _exit(case: Case) -> Symptom | None:
    ended = case.state.terminated
    if ended is None:
        return None
    lines = scrub.log_lines(ended.message, case.secrets)
    words = f": {lines[-1].strip()[:_LAST_WORDS]}" if lines else ""
    text = f"image {case.image} exited with code {ended.exit_code}{words}; see: {case.logs} --previous"
    return Symptom(why=Why.EXIT, message=text, ended=ended, reached=Stage.RUNS)


def _taken(case: Case) -> Symptom | None:
    """It runs, and somebody else listens where it should."""
    if case.report is None or case.cause() != "PortTaken":
        return None
    user = _HOLDER.search(case.report.text)
    name = case.neighbours.by_uid.get(int(user[1]), "") if user else ""
    who = name or (f"a process of user {user[1]}" if user else "a process of another user")
    fix = f"make that one listen on its own ${wire.BIND_TO_PORT}, or give one of them another port"
    text = f"runs, but {who} listens on its port {case.port}; {fix}"
    return Symptom(why=Why.PORT_TAKEN, message=text, reached=Stage.RUNS)


def _not_bound(case: Case) -> Symptom | None:
    if case.report is None or case.cause() != "PortNotBound":
        return None
    elsewhere = _elsewhere(case)
    fix = "or set port to that one" if elsewhere else f"see: {case.logs}"
    text = f"runs, but nothing listens on its port {case.port}{elsewhere}; budget {case.budget_seconds} s"
    text = f"{text}; it must listen on ${wire.BIND_TO_PORT}, {fix}"
    return Symptom(why=Why.PORT_NOT_BOUND, message=text, reached=Stage.RUNS)


def _mute(case: Case) -> Symptom:
    said = f": {case.report.text}" if case.report is not None and case.report.text else ""
    if case.is_up:
        text = f"runs, but has stopped answering {case.ping} with 200 on port {case.port}{said}; see: {case.logs}"
    else:
        text = (
            f"runs, but has not answered {case.ping} with 200 on port {case.port} (budget {case.budget_seconds} s)"
            f"{said}; it must listen on ${wire.BIND_TO_PORT}"
        )
    return Symptom(why=Why.PING_TIMEOUT, message=text, reached=Stage.RUNS)


def _patience(case: Case) -> Symptom | None:
    """Silent, but not for long."""
    since = case.state.running_since
    if since is None or case.now >= since + PING_PATIENCE:
        return None
    return Symptom(
        why=Why.STARTING,
        message=f"running, has not answered {case.ping} yet",
        reached=Stage.RUNS,
        look_again=since + PING_PATIENCE,
    )


def _silent(case: Case) -> Symptom | None:
    return _mute(case) if case.state.running_since is not None else None


_MODEL_CHECKS: Final[tuple[Callable[[Case], Symptom | None], ...]] = (
    _fallen_silent,  # up for the kubelet: only the router can know better
    _image,  # nothing else can be true of a container without an image
    _config,  # nor of one that cannot be made
    _out_of_memory,  # a kind of exit, and the one with its own cure
    _address_in_use,  # likewise
    _taken,  # why a budget runs out, and nobody has to wait to know it
    _over_budget,  # a kind of exit
    _exit,  # also while it runs again and is not up yet: the cause must not flicker away
    _patience,  # most need some seconds
    _not_bound,
    _silent,
)
_ROUTER_CHECKS: Final[tuple[Callable[[Case], Symptom | None], ...]] = (
    _image,
    _config,
    _out_of_memory,
    _exit,
)
