import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mce_api import rules
from mce_api.endpoint import MultiContainerEndpoint
from mce_api.status import Condition, Status, Why
from mce_operator import observed as parsed
from mce_operator import status as statuses
from mce_operator.history import Rejection
from mce_operator.key import Key
from mce_operator.observed import Child, Observed
from mce_operator.plan import Failure, Plan
from mce_operator.status import Situation
from mce_operator.verdict import verdict
from unit.mce_operator import objects
from unit.mce_operator.objects import ended, rolled_out, running, waiting

NOW = datetime(2026, 1, 1, 1, 0, tzinfo=UTC)
ONE = objects.container("Solo", startupTimeoutSeconds=60, resources={"limits": {"memory": "1Gi"}})
BACK_OFF = ("CrashLoopBackOff", "back-off 5m0s restarting failed container")


def situation(  # one endpoint with one container, unless said otherwise
    *pods: tuple[dict[str, Any], ...],
    deployment: dict[str, Any] | None = None,
    before: dict[str, Any] | None = None,
    containers: tuple[dict[str, Any], ...] = (ONE,),
    generation: int = 1,
    plan: dict[str, Any] | None = None,
    failures: tuple[Failure, ...] = (),
    now: datetime = NOW,
    pod_status: dict[str, Any] | None = None,
    rejection: Rejection | None = None,
    **spec: Any,
) -> Situation:
    document = objects.document(*containers, status=before, **spec)
    document["metadata"]["generation"] = generation
    endpoint: MultiContainerEndpoint = objects.endpoint(*containers, **spec)
    template = objects.template_hash(endpoint)
    raw = [
        objects.pod(template, *states, name=f"mnist-{index}", **(pod_status or {})) for index, states in enumerate(pods)
    ]
    live = {"metadata": {"generation": 1}, "status": deployment}
    observed = Observed(
        key=Key("team-a", "mnist"),
        document=document,
        rollout=parsed.rollout(live) if deployment is not None else None,
        pods=parsed.pods(raw),
    )
    made = Plan(**{"is_applied": deployment is not None, **(plan or {})})
    chosen = objects.decisions(endpoint)
    return Situation(
        endpoint=endpoint,
        observed=observed,
        decisions=dataclasses.replace(chosen, revision=dataclasses.replace(chosen.revision, rejection=rejection)),
        plan=made,
        verdict=verdict(endpoint, observed, template, objects.ROUTER_IMAGE, now),
        failures=failures,
    )


def condition(status: Status, type_: str) -> Condition:
    return next(one for one in status.conditions if one.type == type_)


def summary(status: Status) -> tuple[str, str, str]:
    return status.state, status.reason, status.containers_ready


STARTING = rolled_out(1, readyReplicas=0, availableReplicas=0)


@pytest.mark.parametrize(
    ("states", "pod_status", "why", "says"),
    [
        pytest.param((), {}, Why.PENDING, "waits for its node", id="the kubelet has not taken the pod"),
        pytest.param(
            (waiting("solo", "PodInitializing"),), {}, Why.PENDING, "start before it", id="the router comes first"
        ),
        pytest.param(
            (running("solo", up=False, since="2026-01-01T00:59:41Z"),), {}, Why.STARTING, "yet", id="19 s of silence"
        ),
        pytest.param(
            (running("solo", up=False, since="2026-01-01T00:59:40Z"),),
            {},
            Why.PING_TIMEOUT,
            "has not answered GET /ping with 200 on port 20000 (budget 60 s); it must listen on "
            "$SAGEMAKER_BIND_TO_PORT",
            id="20 s of silence",
        ),
        pytest.param(
            (waiting("solo", "ErrImagePull", "no such host"),),
            {},
            Why.IMAGE_PULL,
            "image registry.example/solo:1 cannot be pulled: no such host",
            id="pull error",
        ),
        pytest.param(
            (waiting("solo", "ImagePullBackOff", 'Back-off pulling image "x": ErrImagePull: no such host'),),
            {},
            Why.IMAGE_PULL,
            "image registry.example/solo:1 cannot be pulled: no such host",
            id="pull back-off says the same",
        ),
        pytest.param(
            (waiting("solo", "ErrImagePull", "read udp 10.0.0.1:4711->10.0.0.2:53: timeout"),),
            {},
            Why.IMAGE_PULL,
            "read udp 10.0.0.1->10.0.0.2:53: timeout",
            id="source ports are left out",
        ),
        pytest.param(
            (waiting("solo", "InvalidImageName"),), {}, Why.IMAGE_PULL, "InvalidImageName", id="bad image name"
        ),
        pytest.param(
            (waiting("solo", "ErrImageNeverPull"),), {}, Why.IMAGE_PULL, "ErrImageNeverPull", id="never pulled"
        ),
        pytest.param(
            (waiting("solo", "CreateContainerConfigError", 'secret "keys" not found'),),
            {},
            Why.CREATE_CONFIG,
            'secret "keys" not found',
            id="missing secret",
        ),
        pytest.param(
            (
                waiting(
                    "solo", *BACK_OFF, lastState={"terminated": ended(128, 0, "StartError", "exec: serve: not found")}
                ),
            ),
            {},
            Why.CREATE_CONFIG,
            "exec: serve: not found",
            id="no such command",
        ),
        pytest.param(
            (waiting("solo", *BACK_OFF, lastState={"terminated": ended(7, message="Traceback\nKeyError: 'x'\n")}),),
            {},
            Why.EXIT,
            "exited with code 7: KeyError: 'x'; see: kubectl logs deploy/mnist -c solo --previous",
            id="crash loop, with its last words",
        ),
        pytest.param(
            ({"name": "solo", "ready": False, "state": {"terminated": ended(1)}},),
            {},
            Why.EXIT,
            "code 1",
            id="just ended",
        ),
        pytest.param(
            (running("solo", up=False, since="2026-01-01T00:59:59Z", lastState={"terminated": ended(1)}),),
            {},
            Why.EXIT,
            "code 1",
            id="runs again, is not up yet",
        ),
        pytest.param(
            (waiting("solo", *BACK_OFF, lastState={"terminated": ended(137, 2, "OOMKilled")}),),
            {},
            Why.OOM_KILLED,
            "memory limit of 1Gi (exit code 137)",
            id="out of memory",
        ),
        pytest.param(
            (running("solo", up=False, lastState={"terminated": ended(143, 60)}),),
            {},
            Why.START_BUDGET,
            "budget of 60 s",
            id="stopped by the start-up probe",
        ),
        pytest.param(
            (running("solo", up=False, lastState={"terminated": ended(137, 40)}),),
            {},
            Why.EXIT,
            "137",
            id="killed earlier",
        ),
        pytest.param(
            (running("solo", up=False, lastState={"terminated": ended(1, 60)}),),
            {},
            Why.EXIT,
            "code 1",
            id="own exit at 60 s",
        ),
        pytest.param(
            (running("solo", up=False, lastState={"terminated": ended(143, 3600)}),),
            {},
            Why.EXIT,
            "143",
            id="served long",
        ),
        pytest.param(
            (),
            {
                "conditions": [
                    {
                        "type": "PodScheduled",
                        "status": "False",
                        "reason": "Unschedulable",
                        "message": "Insufficient cpu",
                    }
                ]
            },
            Why.UNSCHEDULABLE,
            "Insufficient cpu",
            id="no node",
        ),
    ],
)
def test_each_symptom_has_its_word_and_its_cure(
    states: tuple[dict[str, Any], ...], pod_status: dict[str, Any], why: Why, says: str
) -> None:
    found = statuses.status(situation(states, deployment=STARTING, pod_status=pod_status), NOW)
    assert summary(found) == ("Creating", why.value, "0/1")
    assert found.containers[0].reason == why.value
    assert says in found.containers[0].message
    ready = condition(found, "Ready")
    assert (ready.status, ready.reason) == ("False", why.value)
    subject = "pods" if why is Why.UNSCHEDULABLE else "container Solo"
    assert ready.message == f"{subject}: {why.value}: {found.containers[0].message}"
    told = why not in {Why.PENDING, Why.STARTING}
    assert found.failure_reason == (ready.message if told else "")


@pytest.mark.parametrize("since", ["2026-01-01T00:59:59Z", "2026-01-01T00:50:00Z"])
def test_a_silent_container_is_said_to_be_asked_what_it_is_asked(since: str) -> None:
    state = running("solo", up=False, since=since)
    case = situation((state,), deployment=STARTING, containers=({**ONE, "pingPath": "/v1/models/m"},))
    message = statuses.status(case, NOW).containers[0].message
    assert "GET /v1/models/m " in message
    assert "/ping" not in message


def test_a_silent_container_is_looked_at_again_when_its_patience_is_over() -> None:
    case = situation((running("solo", up=False, since="2026-01-01T00:59:45Z"),), deployment=STARTING)
    assert statuses.look_again(case, NOW) == 5


def test_a_container_that_serves_again_has_no_symptom_and_keeps_its_exit_code() -> None:
    states = (running("solo", restartCount=3, lastState={"terminated": ended(7)}),)
    found = statuses.status(situation(states, deployment=rolled_out()), NOW)
    line = found.containers[0]
    assert (line.reason, line.message, line.restarts, line.last_exit_code) == ("", "", 3, 7)


def test_pods_that_kubernetes_has_no_deadline_for_fail_all_the_same_when_they_are_overdue() -> None:
    case = situation((waiting("solo", "ErrImagePull", "denied"),), deployment=STARTING)
    assert summary(statuses.status(case, NOW))[:2] == ("Creating", "ImagePull")
    revision = dataclasses.replace(case.decisions.revision, is_overdue=True, no_way_back="nothing to go back to")
    late = dataclasses.replace(case, decisions=dataclasses.replace(case.decisions, revision=revision))
    found = statuses.status(late, NOW)
    assert summary(found)[:2] == ("Failed", "ImagePull")
    assert condition(found, "Stalled").reason == "ProgressDeadline"
    assert found.failure_reason.endswith("; nothing to go back to")


def test_a_router_without_image_is_named_itself() -> None:
    states = (waiting("mce-router", "ErrImagePull", "denied"), waiting("solo", "PodInitializing"))
    found = statuses.status(situation(states, deployment=STARTING), NOW)
    assert found.failure_reason.startswith(f"router: ImagePull: image {objects.ROUTER_IMAGE} cannot be pulled: denied")


@pytest.mark.parametrize(
    ("router", "reason"),
    [
        pytest.param(waiting("mce-router", *BACK_OFF, lastState={"terminated": ended(2)}), "Exit", id="it is down"),
        pytest.param(
            waiting("mce-router", "PostStartHookError", "hook failed", lastState={"terminated": ended(2)}),
            "Exit",
            id="it has ended while its hook waited for it",
        ),
        pytest.param({"ready": False, "seconds": 3}, "Exit", id="it runs again and may end again"),
        pytest.param({"ready": True, "seconds": 3}, "Starting", id="it is up again"),
        pytest.param({"ready": False, "seconds": 5}, "Starting", id="it runs again for a while"),
    ],
)
def test_what_ended_a_router_does_not_flicker_away_when_it_is_started_again(
    router: dict[str, Any], reason: str
) -> None:
    if "seconds" in router:
        since = f"{NOW - timedelta(seconds=router['seconds']):%Y-%m-%dT%H:%M:%SZ}"
        past = {"terminated": ended(2)}
        router = running("mce-router", since=since, restartCount=1, lastState=past) | {"ready": router["ready"]}
    since = f"{NOW:%Y-%m-%dT%H:%M:%SZ}"
    case = situation((router, running("solo", since=since, up=False)), deployment=STARTING)
    found = statuses.status(case, NOW)
    assert found.reason == reason
    assert found.failure_reason.startswith("router: Exit: ") is (reason == "Exit")
    if reason == "Exit" and "running" in router["state"]:
        assert statuses.look_again(case, NOW) == 2


def test_the_worst_of_all_pods_and_containers_explains_the_endpoint() -> None:
    both = (objects.container("a"), objects.container("B"))
    crash = waiting("b", *BACK_OFF, lastState={"terminated": ended(1)})
    pull = waiting("b", "ErrImagePull", "denied")
    case = situation((running("a"), crash), (running("a"), pull), deployment=STARTING, containers=both, replicas=2)
    found = statuses.status(case, NOW)
    assert summary(found) == ("Creating", "ImagePull", "1/2")
    assert [(line.name, line.ready, line.total) for line in found.containers] == [("a", 2, 2), ("B", 0, 2)]


def test_a_refused_pod_is_told_without_its_random_name() -> None:
    failure = {
        "type": "ReplicaFailure",
        "status": "True",
        "message": 'pods "mnist-5f-x7k" is forbidden: violates PodSecurity',
    }
    found = statuses.status(situation(deployment=rolled_out(0, conditions=[failure])), NOW)
    assert found.reason == "Admission"
    assert "the cluster refuses the pods: pods are forbidden: violates PodSecurity" in found.failure_reason


LATE = [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "late"}]
IN_SERVICE = {"state": "InService", "observedGeneration": 1}
CRASHED = (waiting("solo", *BACK_OFF, lastState={"terminated": ended(1)}),)
UP = (running("solo"),)


@pytest.mark.parametrize(
    ("case", "expected", "ready", "reconciling", "stalled"),
    [
        pytest.param(situation(), ("Creating", "Pending", "0/1"), "False", "True", "False", id="nothing there yet"),
        pytest.param(
            situation(UP, deployment=rolled_out()), ("InService", "", "1/1"), "True", "False", "False", id="all up"
        ),
        pytest.param(
            situation(UP, deployment=rolled_out(observedGeneration=0)),
            ("Creating", "RollingOut", "1/1"),
            "False",
            "True",
            "False",
            id="the Deployment's controller is behind",
        ),
        pytest.param(
            situation(UP, deployment=rolled_out(), plan={"is_applied": False}, before=IN_SERVICE, generation=2),
            ("Updating", "RollingOut", "1/1"),
            "False",
            "True",
            "False",
            id="a new spec, not applied yet: never ready on old numbers",
        ),
        pytest.param(
            situation(CRASHED, deployment=rolled_out(1, replicas=2), before=IN_SERVICE, generation=2),
            ("Updating", "Exit", "0/1"),
            "False",
            "True",
            "False",
            id="new pods crash, old ones serve",
        ),
        pytest.param(
            situation(CRASHED, deployment=STARTING, before=IN_SERVICE),
            ("InService", "Exit", "0/1"),
            "False",
            "False",
            "False",
            id="once in service, a crash does not change the state",
        ),
        pytest.param(
            situation(CRASHED, deployment=STARTING | {"conditions": LATE}),
            ("Failed", "Exit", "0/1"),
            "False",
            "False",
            "True",
            id="too late, nothing serves",
        ),
        pytest.param(
            situation(CRASHED, deployment=rolled_out(1, replicas=2, conditions=LATE), before=IN_SERVICE, generation=2),
            ("Updating", "Exit", "0/1"),
            "False",
            "False",
            "True",
            id="too late, old pods serve",
        ),
        pytest.param(
            situation(
                (running("solo", up=False, since="2026-01-01T00:59:59Z"),), deployment=STARTING | {"conditions": LATE}
            ),
            ("Failed", "ProgressDeadline", "0/1"),
            "False",
            "False",
            "True",
            id="too late, no cause known",
        ),
        pytest.param(
            situation(deployment=rolled_out(0), suspend=True),
            ("OutOfService", "Suspended", "0/1"),
            "False",
            "False",
            "False",
            id="suspended",
        ),
        pytest.param(
            situation(deployment=rolled_out(1), suspend=True, before=IN_SERVICE, generation=2),
            ("Updating", "RollingOut", "0/1"),
            "False",
            "True",
            "False",
            id="about to be suspended",
        ),
        pytest.param(
            situation(failures=(Failure(kind="Service", name="mnist", message="Forbidden: no", is_terminating=False),)),
            ("Creating", "ApplyFailed", "0/1"),
            "False",
            "True",
            "False",
            id="a write was refused",
        ),
        pytest.param(
            situation(CRASHED, deployment=STARTING, before={"state": "Failed", "observedGeneration": 1}, generation=2),
            ("Creating", "Exit", "0/1"),
            "False",
            "True",
            "False",
            id="failed before, tried again",
        ),
        pytest.param(
            situation(UP, deployment=rolled_out(), before={"state": 7, "bogus": 1}),
            ("InService", "", "1/1"),
            "True",
            "False",
            "False",
            id="somebody has spoilt the status",
        ),
    ],
)
def test_state_and_conditions(
    case: Situation, expected: tuple[str, str, str], ready: str, reconciling: str, stalled: str
) -> None:
    found = statuses.status(case, NOW)
    assert summary(found) == expected
    shown = [condition(found, type_).status for type_ in ("Ready", "Reconciling", "Stalled")]
    assert shown == [ready, reconciling, stalled]


def test_a_taken_name_is_told_with_the_two_ways_out_and_looked_at_again() -> None:
    stranger = Child(
        kind="Service",
        name="mnist",
        uid="u",
        is_managed=False,
        controller_kind="",
        controller_uid="",
        annotations={},
        hash="",
        owned="[]",
        is_deleting=False,
    )
    case = situation(plan={"taken": (stranger,)})
    found = statuses.status(case, NOW)
    assert summary(found) == ("Failed", "NameTaken", "0/1")
    assert "Service team-a/mnist" in found.failure_reason
    assert "rename the endpoint, or run: kubectl delete service mnist -n team-a" in found.failure_reason
    assert condition(found, "Stalled").status == "True"
    assert statuses.look_again(case, NOW) == 30


def test_an_invalid_endpoint_says_what_is_wrong_with_it() -> None:
    observed = situation().observed
    found = statuses.invalid(observed, (rules.Violation(path="spec.mode", message="no"),), NOW)
    assert (found.state, found.reason, found.failure_reason) == ("Failed", "InvalidSpec", "spec.mode: no")
    assert condition(found, "Stalled").status == "True"


def test_the_generation_moves_only_with_a_pass_without_failures() -> None:
    failure = Failure(kind="Service", name="mnist", message="no", is_terminating=False)
    refused = statuses.status(situation(before=IN_SERVICE, generation=2, failures=(failure,)), NOW)
    assert (refused.observed_generation, refused.conditions[0].observed_generation) == (1, 1)
    accepted = statuses.status(situation(before=IN_SERVICE, generation=2), NOW)
    assert (accepted.observed_generation, accepted.conditions[0].observed_generation) == (2, 2)


@pytest.mark.parametrize(("ready", "state"), [(0, "Failed"), (1, "Updating")])
def test_what_the_api_server_finds_invalid_is_judged_and_waits_for_the_user(ready: int, state: str) -> None:
    failure = Failure(kind="Deployment", name="mnist", message="Invalid: no label value", is_terminating=False)
    live = rolled_out(1, readyReplicas=ready)
    found = statuses.status(situation(deployment=live, generation=2, failures=(failure,)), NOW)
    assert (found.state, found.reason, found.observed_generation) == (state, "ApplyFailed", 2)
    assert condition(found, "Stalled").status == "True"


def test_an_object_that_the_quota_refuses_is_told_as_that() -> None:
    failure = Failure(kind="Service", name="mnist", message="Forbidden: exceeded quota: q", is_terminating=False)
    found = statuses.status(situation(failures=(failure,)), NOW)
    assert (found.reason, condition(found, "Stalled").status) == ("Quota", "False")


def test_times_stay_while_nothing_changes() -> None:
    first = statuses.document(statuses.status(situation(CRASHED, deployment=STARTING), NOW))
    later = datetime(2026, 1, 2, tzinfo=UTC)
    again = statuses.document(statuses.status(situation(CRASHED, deployment=STARTING, before=first, now=later), later))
    assert again == first


def test_pods_of_other_generations_and_dying_ones_do_not_count() -> None:
    case = situation(UP, deployment=rolled_out())
    old = dataclasses.replace(case.observed.pods[0], template="old")
    dying = dataclasses.replace(case.observed.pods[0], is_deleting=True)
    observed = dataclasses.replace(case.observed, pods=(old, dying))
    found = verdict(case.endpoint, observed, case.decisions.revision.template, objects.ROUTER_IMAGE, NOW)
    assert found.containers[0].ready == 0


REJECTED = Rejection(template="t", generation=2, why=Why.OOM_KILLED, message="container Solo: OOMKilled: too big")
SETTLED = [{"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}]


@pytest.mark.parametrize(
    ("case", "expected", "ready", "reconciling", "stalled"),
    [
        pytest.param(
            situation(UP, deployment=rolled_out(1, replicas=2), plan={"is_applied": False}, rejection=REJECTED),
            ("RollingBack", "RollingBack", "1/1"),
            "False",
            "True",
            "False",
            id="it has just been decided",
        ),
        pytest.param(
            situation(UP, deployment=rolled_out(1, replicas=2), rejection=REJECTED),
            ("RollingBack", "RollingBack", "1/1"),
            "False",
            "True",
            "False",
            id="the rejected pods are still there",
        ),
        pytest.param(
            situation(UP, deployment=rolled_out(conditions=SETTLED), rejection=REJECTED),
            ("InService", "RolledBack", "1/1"),
            "False",
            "False",
            "True",
            id="back: it serves, and whoever waits for the newest spec learns that it will not come",
        ),
        pytest.param(
            situation(
                UP,
                deployment=rolled_out(conditions=SETTLED),
                rejection=REJECTED,
                replicas=2,
                before=IN_SERVICE,
                generation=2,
            ),
            ("Updating", "Pending", "0/1"),
            "False",
            "True",
            "False",
            id="scaled when it was back",
        ),
        pytest.param(
            situation(
                CRASHED,
                deployment=STARTING | {"conditions": SETTLED},
                rejection=REJECTED,
                before=IN_SERVICE,
            ),
            ("InService", "Exit", "0/1"),
            "False",
            "False",
            "True",
            id="a crash when it was back",
        ),
        pytest.param(
            situation(CRASHED, deployment=STARTING | {"conditions": LATE}, rejection=REJECTED),
            ("UpdateRollbackFailed", "Exit", "0/1"),
            "False",
            "False",
            "True",
            id="the last good one does not come up either",
        ),
        pytest.param(
            situation(deployment=rolled_out(0), rejection=REJECTED, suspend=True),
            ("OutOfService", "Suspended", "0/1"),
            "False",
            "False",
            "False",
            id="suspended when it was back",
        ),
    ],
)
def test_states_of_a_rollback(
    case: Situation, expected: tuple[str, str, str], ready: str, reconciling: str, stalled: str
) -> None:
    found = statuses.status(case, NOW)
    assert summary(found) == expected
    shown = [condition(found, type_).status for type_ in ("Ready", "Reconciling", "Stalled")]
    assert shown == [ready, reconciling, stalled]
    told = condition(found, "RolledBack")
    assert (told.status, told.reason) == ("True", "OOMKilled")
    assert told.message == "generation 2 was rejected: container Solo: OOMKilled: too big"
    if found.reason in {"RollingBack", "RolledBack"}:
        assert found.failure_reason.startswith(told.message)


def test_there_is_no_word_of_a_rollback_while_the_newest_spec_runs() -> None:
    found = statuses.status(situation(UP, deployment=rolled_out()), NOW)
    assert "RolledBack" not in [one.type for one in found.conditions]


def test_a_pod_that_bakes_is_no_end_of_a_rollout_and_a_later_restart_is_no_rollout() -> None:
    baking = rolled_out(availableReplicas=0)
    assert statuses.status(situation(UP, deployment=baking), NOW).state == "Creating"
    again = statuses.status(situation(UP, deployment=baking | {"conditions": SETTLED}), NOW)
    assert (again.state, condition(again, "Ready").status) == ("InService", "True")


def test_pods_whose_turn_has_not_come_are_not_missing() -> None:
    baking = rolled_out(1, replicas=4, availableReplicas=3)
    found = statuses.status(situation(UP, deployment=baking, before=IN_SERVICE, generation=2, replicas=3), NOW)
    assert (found.state, found.reason) == ("Updating", "RollingOut")
    assert (found.containers[0].ready, found.containers[0].total, found.containers[0].reason) == (1, 3, "")
