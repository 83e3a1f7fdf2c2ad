"""Why one container of one pod does not serve, in one word of the closed list and one sentence with the fix. Pure.

The sentence says the same for as long as the cause is the same: no elapsed seconds, no pod names, no source ports.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from mce_api import names, wire
from mce_api.endpoint import Container
from mce_api.status import Why
from mce_operator.observed import ContainerState, Pod, Termination
from mce_operator.resources.model import PROBE_KILL_SECONDS

PING_PATIENCE: Final = timedelta(seconds=20)
"""For which a running container may keep silent before that is called PingTimeout."""

_PULL_REASONS: Final = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "RegistryUnavailable",
        "ImageInspectError",
    }
)
_CONFIG_REASONS: Final = frozenset(
    {
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
        "PreCreateHookError",
        "PreStartHookError",
    }
)
_START_ERRORS: Final = frozenset({"StartError", "ContainerCannotRun"})
_SIGNALLED: Final = frozenset({0, 137, 143})
"""How a process ends that the kubelet has stopped: by its own will, by SIGKILL, by SIGTERM."""
_LAST_WORDS: Final = 200
"""Characters of a dying container's last line that are shown."""
_PULL_PREFIX: Final = re.compile(r'^Back-off pulling image "[^"]*": \w+: ')
_SOURCE_PORT: Final = re.compile(r":\d+->")

SEVERITY: Final = (
    Why.NONE,
    Why.PENDING,
    Why.STARTING,
    Why.PING_TIMEOUT,
    Why.START_BUDGET,
    Why.EXIT,
    Why.OOM_KILLED,
    Why.IMAGE_PULL,
    Why.CREATE_CONFIG,
    Why.UNSCHEDULABLE,
    Why.ADMISSION,
)
"""From harmless to worst: a cause that stands in the way of another one is worse."""

FAILURES: Final = frozenset(SEVERITY[SEVERITY.index(Why.PING_TIMEOUT) :])
"""What somebody has to look at; the others pass by themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Symptom:
    """What ails one container."""

    why: Why = Why.NONE
    message: str = ""
    exit_code: int | None = None
    look_again: datetime | None = None
    """When the verdict changes though nothing happens."""

    @property
    def severity(self) -> int:
        """Rank in `SEVERITY`."""
        return SEVERITY.index(self.why)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One container that does not serve, and what there is to know of it."""

    image: str
    port: int | None
    """None: the router, which is not asked for /ping."""
    budget_seconds: int
    memory_limit: str
    logs: str
    """The command that shows what it has printed."""
    state: ContainerState
    now: datetime


def of_model(container: Container, name: str, index: int, pod: Pod, now: datetime) -> Symptom:
    """The symptom of one model container in one pod; `Why.NONE` if it serves."""
    if pod.unschedulable:
        return unschedulable(pod.unschedulable)
    state = pod.containers.get(name)
    if state is None:
        return Symptom(why=Why.PENDING, message="the pod has been made and is waiting for its node")
    limit = container.resources.limits.get("memory")
    return _diagnose(
        Case(
            image=container.image,
            port=names.bind_port(index, container.port),
            budget_seconds=container.startup_timeout_seconds,
            memory_limit=str(limit) if limit is not None else "",
            logs=_logs(pod, name),
            state=state,
            now=now,
        )
    )


def of_router(image: str, pod: Pod, now: datetime) -> Symptom:
    """The symptom of the router in one pod: while it does not run, no model is even started."""
    state = pod.containers.get(names.ROUTER_CONTAINER)
    if pod.unschedulable or state is None:
        return Symptom()
    return _diagnose(
        Case(
            image=image,
            port=None,
            budget_seconds=0,
            memory_limit="256Mi",
            logs=_logs(pod, names.ROUTER_CONTAINER),
            state=state,
            now=now,
        )
    )


def _logs(pod: Pod, name: str) -> str:
    """Names the Deployment, since a pod's name would change with every pod."""
    return f"kubectl logs deploy/{pod.endpoint} -c {name}"


def unschedulable(message: str) -> Symptom:
    """No node takes the pod."""
    return Symptom(
        why=Why.UNSCHEDULABLE,
        message=f"no node takes the pod: {message}; lower resources.requests, change spec.pod placement, or add a node",
    )


def admission(message: str) -> Symptom:
    """The cluster refuses the pods themselves."""
    text = re.sub(r'pods "[^"]*" is forbidden', "pods are forbidden", message)
    return Symptom(why=Why.ADMISSION, message=f"the cluster refuses the pods: {text}")


def _diagnose(case: Case) -> Symptom:
    if case.state.is_started and case.state.is_ready:
        return Symptom()
    for check in _CHECKS:
        found = check(case)
        if found is not None:
            return found
    return Symptom(why=Why.PENDING, message="waiting for the containers that start before it")


def _image(case: Case) -> Symptom | None:
    if case.state.waiting_reason not in _PULL_REASONS:
        return None
    text = _SOURCE_PORT.sub("->", _PULL_PREFIX.sub("", case.state.waiting_message)) or case.state.waiting_reason
    fix = "check image, and spec.pod.imagePullSecrets if the registry is private"
    return Symptom(why=Why.IMAGE_PULL, message=f"image {case.image} cannot be pulled: {text}; {fix}")


def _config(case: Case) -> Symptom | None:
    state = case.state
    if state.waiting_reason in _CONFIG_REASONS:
        text = state.waiting_message or state.waiting_reason
    elif state.terminated is not None and state.terminated.reason in _START_ERRORS:
        text = state.terminated.message or state.terminated.reason
    else:
        return None
    fix = "check command, args, env and spec.pod.securityProfile"
    return Symptom(why=Why.CREATE_CONFIG, message=f"image {case.image} cannot be started: {text}; {fix}")


def _out_of_memory(case: Case) -> Symptom | None:
    ended = case.state.terminated
    if ended is None or ended.reason != "OOMKilled":
        return None
    limit = f"its memory limit of {case.memory_limit}" if case.memory_limit else "the node's memory limit"
    text = f"was killed at {limit} (exit code {ended.exit_code}); raise resources.limits.memory"
    return Symptom(why=Why.OOM_KILLED, message=text, exit_code=ended.exit_code)


def _over_budget(case: Case) -> Symptom | None:
    ended = case.state.terminated
    if ended is None or case.port is None or not _was_stopped_at_budget(ended, case.budget_seconds):
        return None
    text = (
        f"was stopped after its budget of {case.budget_seconds} s without answering GET /ping with 200 on port "
        f"{case.port}; make it listen on ${wire.BIND_TO_PORT}, or raise startupTimeoutSeconds"
    )
    return Symptom(why=Why.START_BUDGET, message=text, exit_code=ended.exit_code)


def _was_stopped_at_budget(ended: Termination, budget: int) -> bool:
    # The kubelet does not say that a start-up probe has ended a container. A run that lasted as long as the budget and
    # was then ended from outside is one; probes of a slow node take up to three times their period.
    latest = budget * 3 + PROBE_KILL_SECONDS
    return ended.exit_code in _SIGNALLED and budget - 2 <= ended.ran_seconds <= latest


def _exit(case: Case) -> Symptom | None:
    ended = case.state.terminated
    if ended is None:
        return None
    lines = [line.strip() for line in ended.message.splitlines() if line.strip()]
    words = f": {lines[-1][:_LAST_WORDS]}" if lines else ""
    text = f"image {case.image} exited with code {ended.exit_code}{words}; see: {case.logs} --previous"
    return Symptom(why=Why.EXIT, message=text, exit_code=ended.exit_code)


def _silent(case: Case) -> Symptom | None:
    since = case.state.running_since
    if since is None:
        return None
    if case.port is None:
        return Symptom(why=Why.STARTING, message="the router is starting")
    patience_over = since + PING_PATIENCE
    if case.now < patience_over:
        return Symptom(why=Why.STARTING, message="running, has not answered GET /ping yet", look_again=patience_over)
    text = (
        f"runs, but has not answered GET /ping with 200 on port {case.port} (budget {case.budget_seconds} s); "
        f"it must listen on ${wire.BIND_TO_PORT}"
    )
    return Symptom(why=Why.PING_TIMEOUT, message=text)


_CHECKS: Final[tuple[Callable[[Case], Symptom | None], ...]] = (
    _image,  # nothing else can be true of a container without an image
    _config,  # nor of one that cannot be made
    _out_of_memory,  # a kind of exit, and the one with its own cure
    _over_budget,  # likewise
    _exit,  # also while it runs again and is not up yet: the cause must not flicker away
    _silent,
)
