"""Which cause is told of a container and of an endpoint, over the course of events and restarts of the operator."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mce_api import names
from mce_api.status import Status
from mce_operator import observed as parsed
from mce_operator import status as statuses
from mce_operator import symptoms
from mce_operator.key import Key
from mce_operator.observed import Observed, RouterReport, TargetReport
from mce_operator.plan import Plan
from mce_operator.status import Situation
from mce_operator.verdict import verdict
from unit.mce_operator import objects
from unit.mce_operator.objects import ended, rolled_out, running, waiting

START = datetime(2026, 1, 1, 1, 0, tzinfo=UTC)
TWO = (objects.container("a", startupTimeoutSeconds=60), objects.container("b", startupTimeoutSeconds=60))
NOT_UP = rolled_out(1, readyReplicas=0, availableReplicas=0)


def state(name: str, what: str) -> tuple[dict[str, Any], ...]:
    """A container's state by a short word; no state: the kubelet has not taken the pod."""
    crash: dict[str, Any] = {"lastState": {"terminated": ended(1, message="boom")}}
    since = f"{START - timedelta(seconds=1):%Y-%m-%dT%H:%M:%SZ}"
    found: dict[str, dict[str, Any]] = {
        "up": running(name),
        "starts": running(name, up=False, since=since),
        "silent": running(name, up=False, since="2026-01-01T00:59:00Z"),
        "crashed": waiting(name, "CrashLoopBackOff", **crash),
        "restarts": running(name, up=False, since=since, **crash),
        "no image": waiting(name, "ImagePullBackOff", "denied"),
        "waits": waiting(name, "PodInitializing"),
        "oom": waiting(name, "CrashLoopBackOff", lastState={"terminated": ended(137, 2, "OOMKilled")}),
        "budget": waiting(name, "CrashLoopBackOff", lastState={"terminated": ended(137, 60)}),
        "in use": waiting(
            name,
            "CrashLoopBackOff",
            lastState={"terminated": ended(1, message="OSError: [Errno 98] Address already in use")},
        ),
    }
    return () if what == "placing" else (found[what],)


class Story:
    """One endpoint of two containers over several passes; each is by an operator that remembers nothing."""

    def __init__(self, **spec: Any) -> None:
        self.spec, self.now, self.generation = spec, START, 1
        self.stored: dict[str, Any] = {"observedGeneration": -1}
        self.template = ""
        """Of the pods of the pass before."""

    def tell(
        self,
        *pods: tuple[str, str],
        refused: str = "",
        reports: dict[str, TargetReport] | None = None,
        lost: dict[str, Any] | None = None,
        is_rollback: bool = False,
        **deployment: Any,
    ) -> Status:
        self.now += timedelta(seconds=1)
        endpoint = objects.endpoint(*TWO, replicas=max(1, len(pods)), **self.spec)
        document = objects.document(*TWO, status=self.stored, replicas=max(1, len(pods)), **self.spec)
        document["metadata"]["generation"] = self.generation
        template = objects.template_hash(endpoint)
        raw = [
            objects.pod(template, *state("a", a), *state("b", b), name=f"pod-{index}")
            for index, (a, b) in enumerate(pods)
        ]
        if lost is not None:
            raw.append(objects.pod(template, name="gone", **lost))
        conditions = [{"type": "ReplicaFailure", "status": "True", "message": refused}] if refused else []
        live = {"metadata": {}, "status": {**NOT_UP, "conditions": conditions, **deployment}}
        observed = Observed(
            key=Key("team-a", "mnist"),
            document=document,
            rollout=parsed.rollout(live),
            began_with=self.template,
            pods=parsed.pods(raw),
            routers={"pod-0": RouterReport(targets=reports)} if reports is not None else {},
        )
        situation = Situation(
            endpoint=endpoint,
            observed=observed,
            decisions=objects.decisions(endpoint),
            plan=Plan(is_applied=True),
            verdict=verdict(endpoint, observed, template, objects.ROUTER_IMAGE, self.now, is_rollback=is_rollback),
        )
        status = statuses.status(situation, self.now)
        self.stored, self.template = statuses.document(status), template
        return status


def words(status: Status) -> tuple[str, ...]:
    return (status.reason, *(line.reason for line in status.containers))


@pytest.mark.parametrize(
    ("course", "expected"),
    [
        pytest.param(
            [("no image", "up"), ("no image", "crashed")],
            ("ImagePull", "ImagePull", "Exit"),
            id="the first of two containers explains the endpoint",
        ),
        pytest.param(
            [("no image", "up"), ("no image", "crashed"), ("up", "crashed")],
            ("Exit", "", "Exit"),
            id="it is up: then the next one does",
        ),
        pytest.param(
            [("no image", "up"), ("starts", "up")], ("Starting", "Starting", ""), id="a pulled image is pulled"
        ),
        pytest.param(
            [("no image", "up"), ("waits", "up")],
            ("ImagePull", "ImagePull", ""),
            id="a new pod proves nothing of the image",
        ),
        pytest.param(
            [("crashed", "up"), ("restarts", "up")], ("Exit", "Exit", ""), id="a restart does not hide the exit"
        ),
        pytest.param([("crashed", "up"), ("placing", "placing")], ("Exit", "Exit", "Pending"), id="nor does a new pod"),
        pytest.param([("crashed", "up"), ("silent", "up")], ("Exit", "Exit", ""), id="nor does its silence"),
        pytest.param([("crashed", "up"), ("up", "up")], ("RollingOut", "", ""), id="being up does"),
        pytest.param(
            [("silent", "up"), ("starts", "up")],
            ("Starting", "Starting", ""),
            id="silence is no proof, and is not kept",
        ),
        pytest.param(
            [("silent", "up"), ("crashed", "up")], ("Exit", "Exit", ""), id="what is proved takes the place of silence"
        ),
        pytest.param(
            [("silent", "crashed"), ("silent", "crashed")],
            ("Exit", "PingTimeout", "Exit"),
            id="and comes before another container's silence",
        ),
        pytest.param(
            [("crashed", "up"), ("oom", "up")],
            ("OOMKilled", "OOMKilled", ""),
            id="of one container the newest proof counts",
        ),
        pytest.param(
            [("in use", "up"), ("budget", "up")],
            ("PortTaken", "PortTaken", ""),
            id="a budget that ran out for want of the port",
        ),
        pytest.param(
            [("budget", "up"), ("budget", "up"), ("starts", "up")],
            ("StartBudget", "StartBudget", ""),
            id="the next run does not hide a budget that ran out",
        ),
    ],
)
def test_the_first_cause_stays_until_it_is_cured(course: list[tuple[str, str]], expected: tuple[str, ...]) -> None:
    story = Story()
    told = [story.tell(pod) for pod in course]
    assert words(told[-1]) == expected


def test_a_cause_keeps_its_message_its_last_words_and_its_date_while_its_container_is_made_anew() -> None:
    story = Story()
    first = story.tell(("crashed", "up")).containers[0]
    again = story.tell(("waits", "waits")).containers[0]
    kept = ("reason", "message", "last_exit_code", "last_log_lines", "since")
    assert {name: getattr(first, name) for name in kept} == {name: getattr(again, name) for name in kept}
    assert (first.last_exit_code, first.last_log_lines) == (1, "boom")


def test_the_first_cause_survives_the_end_of_the_rollouts_time() -> None:
    story = Story()
    story.tell(("no image", "up"))
    late = [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "late"}]
    status = story.tell(("no image", "crashed"), conditions=late)
    assert (status.state, status.reason) == ("Failed", "ImagePull")
    (stalled,) = (one for one in status.conditions if one.type == "Stalled")
    assert (stalled.status, stalled.reason) == ("True", "ProgressDeadline")


def test_a_new_generation_begins_without_causes() -> None:
    story = Story()
    story.tell(("crashed", "up"))
    story.generation, story.template = 2, "another one"
    assert words(story.tell(("starts", "up"))) == ("Starting", "Starting", "")


def test_a_generation_of_more_of_the_same_pods_does_not_begin_the_causes_anew() -> None:
    story = Story()
    story.tell(("crashed", "up"))
    before = story.tell(("crashed", "oom"))
    story.now += timedelta(minutes=10)
    story.generation += 1  # an autoscaler has moved spec.replicas
    after = story.tell(("crashed", "oom"), ("crashed", "oom"))
    assert [line.since for line in after.containers] == [line.since for line in before.containers]
    assert before.failure_reason.startswith("container a: Exit: ")
    assert after.failure_reason == before.failure_reason


def test_the_cause_of_the_rejected_pods_is_none_of_the_last_good_ones_that_start() -> None:
    story = Story()
    assert story.tell(("crashed", "up")).failure_reason
    assert story.tell(("starts", "up"), is_rollback=True).failure_reason == ""


def test_a_cause_that_is_over_does_not_come_back_with_the_pods_that_are_added() -> None:
    story = Story()
    story.tell(("crashed", "up"))
    story.generation += 1  # an autoscaler has moved spec.replicas
    told = story.tell(("up", "up"), ("starts", "up"))
    assert (told.failure_reason, told.containers[0].reason) == ("", "Starting")


def test_the_last_good_pods_have_nothing_of_what_the_rejected_ones_suffered_from() -> None:
    story = Story()
    story.tell(("no image", "up"))
    assert story.tell(("starts", "up"), is_rollback=True).containers[0].reason == "Starting"
    story.stored["rollout"] = {"method": "Rollback"}
    story.tell(("crashed", "up"), is_rollback=True)
    story.stored["rollout"] = {"method": "Rollback"}
    assert story.tell(("starts", "up"), is_rollback=True).containers[0].reason == "Exit"


@pytest.mark.parametrize(
    ("message", "why"),
    [
        ('pods "x-1" is forbidden: exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2', "Quota"),
        ('pods "x-1" is forbidden: failed quota: q: must specify limits.cpu', "Quota"),
        ('pods "x-1" is forbidden: violates PodSecurity "restricted:latest": x', "Admission"),
        ("admission webhook denied the request", "Admission"),
    ],
)
def test_refused_pods_are_a_matter_of_the_pods_and_cured_when_one_is_made(message: str, why: str) -> None:
    story = Story()
    status = story.tell(refused=message)
    assert words(status) == (why, why, why)
    assert status.failure_reason.startswith(f"pods: {why}: ")
    assert "x-1" not in status.failure_reason
    assert words(story.tell(("placing", "placing"))) == ("Pending", "Pending", "Pending")


def lost(reason: str, message: str = "", seconds: int = 10) -> dict[str, Any]:
    at = f"{START - timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%SZ}"
    condition = {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "TerminationByKubelet",
        "lastTransitionTime": at,
    }
    return {"phase": "Failed", "reason": reason, "message": message, "conditions": [condition]}


def test_an_evicted_pod_explains_its_successor_until_that_is_up() -> None:
    story = Story()
    low = "The node was low on resource: memory."
    status = story.tell(("starts", "waits"), lost=lost("Evicted", low))
    assert words(status) == ("Evicted", "Evicted", "Evicted")
    assert "The node was low on resource: memory; " in status.failure_reason
    assert words(story.tell(("starts", "starts"))) == ("Evicted", "Evicted", "Evicted")
    assert words(story.tell(("crashed", "up"), lost=lost("Evicted", low))) == ("Exit", "Exit", "")
    assert words(story.tell(("up", "up"), lost=lost("Evicted", low))) == ("RollingOut", "", "")


def test_a_pod_that_was_lost_long_ago_explains_nothing() -> None:
    assert words(Story().tell(("starts", "up"), lost=lost("Evicted", seconds=400)))[0] == "Starting"


def test_a_pod_that_its_node_refused_is_unschedulable() -> None:
    status = Story().tell(("starts", "up"), lost=lost("OutOfcpu", "Node didn't have enough resource: cpu"))
    assert words(status)[:2] == ("Unschedulable", "Unschedulable")


def test_a_pod_that_was_only_deleted_is_not_lost() -> None:
    gone = {"phase": "Failed", "conditions": []}
    assert words(Story().tell(("starts", "up"), lost=gone))[0] == "Starting"


def unhealthy(cause: str, text: str = "", ports: Iterable[int] = ()) -> TargetReport:
    return TargetReport(state="Unhealthy", cause=cause, text=text, listens_on=tuple(ports))


HEALTHY = TargetReport(state="Healthy", cause="", listens_on=(20000, 8080))


@pytest.mark.parametrize(
    ("pod", "report", "why", "says"),
    [
        (("up", "silent"), unhealthy("PortNotBound"), "PortNotBound", "nothing listens on its port 20100; budget 60 s"),
        (
            ("up", "silent"),
            unhealthy("PortNotBound", ports=[8081]),
            "PortNotBound",
            "20100 (it listens on 8081); budget",
        ),
        (("up", "silent"), unhealthy("PingStatus", "answered 503, not 200"), "PingTimeout", "answered 503, not 200"),
        (("up", "up"), unhealthy("PingTimeout", "no answer"), "PingTimeout", "has stopped answering"),
        (("up", "up"), unhealthy("PortNotBound"), "PortNotBound", "nothing listens"),
        (
            ("up", "silent"),
            unhealthy("PortTaken", "port 20100 is held by user 20000, not by user 20001"),
            "PortTaken",
            "runs, but container a listens on its port 20100",
        ),
        (
            ("up", "silent"),
            unhealthy("PortTaken", "port 20100 is held by user 7, not by user 20001"),
            "PortTaken",
            "runs, but a process of user 7 listens",
        ),
        (("up", "silent"), unhealthy("anything else"), "PingTimeout", "has not answered"),
        (
            ("up", "in use"),
            unhealthy("PortNotBound"),
            "PortTaken",
            "code 1 since a port that it wants is taken (container a listens on 20000, 8080)",
        ),
        (
            ("up", "budget"),
            unhealthy("PortNotBound", ports=[8081]),
            "StartBudget",
            "on port 20100 (it listens on 8081);",
        ),
    ],
)
def test_the_router_says_what_the_kubelet_cannot(
    pod: tuple[str, str], report: TargetReport, why: str, says: str
) -> None:
    status = Story().tell(pod, reports={"a": HEALTHY, "b": report})
    line = status.containers[1]
    assert (line.reason, line.ready) == (why, 0)
    assert says in line.message


def test_what_the_router_has_said_stays_when_it_does_not_answer() -> None:
    story = Story()
    story.tell(("up", "in use"), reports={"a": HEALTHY, "b": unhealthy("PortNotBound")})
    assert "container a listens on 20000, 8080" in story.tell(("up", "in use")).containers[1].message


@pytest.mark.parametrize(
    ("last", "says"),
    [
        (
            "OSError: [Errno 98] error while binding ('0.0.0.0', 8080): address already in use",
            "8080 is taken: container a has it",
        ),
        ("Error: listen EADDRINUSE: address already in use :::20000", "port 20000 is taken: container a has it"),
        ("2026-01-01 10:11:12 [12345] Connection in use: ('0.0.0.0', 19081)", "port 19081 is taken: the router has it"),
        ("nginx: bind() to 0.0.0.0:9999 failed (98: Address already in use)", "port 9999 is taken by another process"),
    ],
)
def test_both_sides_of_a_collision_are_named(last: str, says: str) -> None:
    crash = waiting("b", "CrashLoopBackOff", lastState={"terminated": ended(1, message=last)})
    endpoint = objects.endpoint(*TWO)
    raw = objects.pod(objects.template_hash(endpoint), running("a"), crash)
    observed = Observed(
        key=Key("team-a", "mnist"),
        document=objects.document(*TWO),
        pods=(parsed.pod(raw),),
        routers={"mnist-1": RouterReport(targets={"a": HEALTHY})},
    )
    found = verdict(endpoint, observed, objects.template_hash(endpoint), objects.ROUTER_IMAGE, START)
    assert found.containers[1].reason == "PortTaken"
    assert says in found.containers[1].message


def degraded(status: Status) -> tuple[str, str, str]:
    (found,) = (one for one in status.conditions if one.type == "Degraded")
    return found.status, found.reason, found.message


def test_degraded_names_the_containers_that_are_down_while_the_endpoint_serves() -> None:
    story = Story()
    status = story.tell(("up", "up"), ("up", "crashed"), readyReplicas=1)
    assert degraded(status) == ("True", "Exit", "container b: Exit, serves on 1 of 2 replicas")
    assert degraded(story.tell(("up", "up"), ("up", "up"), readyReplicas=2))[0] == "False"


def test_an_endpoint_that_does_not_serve_or_only_starts_is_not_degraded() -> None:
    assert degraded(Story().tell(("up", "crashed")))[0] == "False"
    assert degraded(Story().tell(("up", "up"), ("up", "starts"), readyReplicas=1))[0] == "False"


def test_an_endpoint_of_any_serves_without_a_ready_pod() -> None:
    story = Story(availability="Any", mode="Direct")
    assert degraded(story.tell(("up", "crashed"))) == ("True", "Exit", "container b: Exit, serves on 0 of 1 replicas")


def test_a_pod_whose_node_has_fallen_silent_is_told() -> None:
    endpoint = objects.endpoint(*TWO)
    unready = {"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    raw = objects.pod(objects.template_hash(endpoint), running("a"), running("b"), conditions=[unready])
    observed = Observed(key=Key("team-a", "mnist"), document=objects.document(*TWO), pods=(parsed.pod(raw),))
    found = verdict(endpoint, observed, objects.template_hash(endpoint), objects.ROUTER_IMAGE, START)
    assert (found.subject, found.cause.why) == ("pods", "NotReady")
    assert "kubectl get nodes" in found.cause.message


def test_a_status_that_somebody_has_filled_with_other_words_is_no_memory() -> None:
    story = Story()
    story.stored = {"observedGeneration": 1, "containers": [{"name": "a", "reason": "Bogus", "message": "m"}]}
    assert words(story.tell(("starts", "up"))) == ("Starting", "Starting", "")


def pod_with(*states: dict[str, Any], router_is_ready: bool = True, ip: str = "10.0.0.1") -> parsed.Pod:
    router = running(names.ROUTER_CONTAINER, up=True, ready=router_is_ready)
    return parsed.pod(objects.pod("t", router, *states, podIP=ip))


LONG_SILENT = running("a", up=False, since="2026-01-01T00:59:45Z")
IN_USE = waiting("a", "CrashLoopBackOff", lastState={"terminated": ended(1, message="EADDRINUSE: :::8080")})


@pytest.mark.parametrize(
    ("pod", "expected"),
    [
        pytest.param(pod_with(running("a")), False, id="all is well"),
        pytest.param(pod_with(running("a"), router_is_ready=False), True, id="one was up and has fallen silent"),
        pytest.param(pod_with(LONG_SILENT), True, id="one is silent from its start"),
        pytest.param(pod_with(running("a", up=False, since="2026-01-01T00:59:46Z")), False, id="not for long"),
        pytest.param(pod_with(IN_USE), True, id="one has ended for want of a port"),
        pytest.param(pod_with(waiting("a", "CrashLoopBackOff")), False, id="one has ended"),
        pytest.param(pod_with(LONG_SILENT, ip=""), False, id="nobody can be asked"),
    ],
)
def test_a_router_is_asked_only_about_what_the_kubelet_does_not_know(pod: parsed.Pod, expected: bool) -> None:
    assert symptoms.is_worth_asking(pod, START) == expected
