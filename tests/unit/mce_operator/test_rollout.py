"""Which revision runs: every situation of a rollout, and no memory but what the Deployment itself carries."""

import copy
import dataclasses
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mce_api import names
from mce_api.status import Why
from mce_operator import cache, history, record, rollout
from mce_operator import observed as parsed
from mce_operator.decisions import decide, to_ask
from mce_operator.desired import desired
from mce_operator.key import Key
from mce_operator.observed import Observed, RouterReport, Traffic
from mce_operator.resources.router import Setup
from mce_operator.rollout import Revision, revision
from unit.mce_operator import objects
from unit.mce_operator.fake_api import fields
from unit.mce_operator.objects import ROUTER, rolled_out, running, waiting

NOW = datetime(2026, 1, 1, 1, 0, tzinfo=UTC)
SETTLED = {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable", "message": ""}
MOVING = {"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated", "message": ""}
PULL = waiting("a", "ErrImagePull", "no such host")


def late(replica_set: str = "mnist-2") -> dict[str, Any]:
    text = f'ReplicaSet "{replica_set}" has timed out progressing.'
    return {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": text}


class Situation:
    """An endpoint of one container whose image is its version, and what the cluster has of it."""

    def __init__(self, version: int = 1, setup: Setup = ROUTER, **spec: Any) -> None:
        self.generation = 0
        self.live: dict[str, Any] | None = None
        self.status: dict[str, Any] = {}
        self.pods: list[dict[str, Any]] = []
        self.routers: dict[str, RouterReport] = {}
        self.setup = setup
        self.now = NOW
        self.want(version, **spec)

    def want(self, version: int, **spec: Any) -> None:
        """The user applies another spec."""
        self.generation += 1
        self.document = objects.document(objects.container("a") | {"image": f"a:{version}"}, **spec)
        self.document["metadata"]["generation"] = self.generation
        self.endpoint = objects.endpoint(objects.container("a") | {"image": f"a:{version}"}, **spec)

    def observed(self) -> Observed:
        children, numbers = {}, None
        if self.live is not None:
            managed = [{"manager": names.FIELD_MANAGER, "fieldsV1": fields(self.live)}]
            raw = {**self.live, "metadata": {**self.live["metadata"], "managedFields": managed}}
            children["Deployment"] = parsed.child("Deployment", raw, cache.owned_fields(raw), "[]")
            numbers = parsed.rollout({"metadata": {"generation": 1}, "status": self.status})
        return Observed(
            key=Key("team-a", "mnist"),
            document=self.document,
            children=children,
            rollout=numbers,
            pods=parsed.pods(self.pods),
            routers=self.routers,
        )

    def decide(self) -> Revision:
        return revision(self.endpoint, self.observed(), self.setup, self.now)

    def apply(self) -> Revision:
        """What is decided becomes what is live; a Deployment whose template has changed has to start again."""
        chosen, before = self.decide(), self.template
        self.live = copy.deepcopy(chosen.deployment)
        if chosen.template != before:
            self.progress(MOVING, replicas=1, updated=0)
        return chosen

    @property
    def template(self) -> str:
        return str(self.live["metadata"]["annotations"][names.TEMPLATE_ANNOTATION]) if self.live else ""

    def progress(self, condition: dict[str, Any], *, replicas: int = 1, updated: int = 1, available: int = 1) -> None:
        numbers = {"replicas": replicas, "updatedReplicas": updated, "availableReplicas": available}
        self.status = {"observedGeneration": 1, **numbers, "readyReplicas": available, "conditions": [condition]}

    def settle(self) -> Revision:
        chosen = self.apply()
        self.progress(SETTLED)
        return chosen

    def fail(self) -> Revision:
        """The wanted revision runs out of its budget."""
        self.apply()
        self.progress(late(), replicas=2)
        return self.apply()


def image(chosen: Revision) -> str:
    (one,) = chosen.deployment["spec"]["template"]["spec"]["containers"]
    return str(one["image"])


def surge(chosen: Revision) -> str:
    return str(chosen.deployment["spec"]["strategy"]["rollingUpdate"]["maxSurge"])


def annotations(chosen: Revision) -> set[str]:
    return {name.rpartition("/")[2] for name in chosen.deployment["metadata"]["annotations"]} - {"hash"}


def stands(case: Situation) -> bool:
    """Whether there is nothing more to write."""
    return bool(case.live == case.decide().deployment)


def test_the_first_revision_has_no_past() -> None:
    chosen = Situation().decide()
    assert (image(chosen), annotations(chosen)) == ("a:1", {"template", "record"})


def test_the_end_of_a_rollout_is_no_reason_to_write() -> None:
    case = Situation()
    case.settle()
    assert stands(case)
    case.want(2)
    case.apply()
    assert stands(case)
    case.progress(SETTLED)
    assert stands(case)


def test_a_revision_that_is_late_goes_back_and_stays_there() -> None:
    case = Situation()
    case.settle()
    case.want(2)
    chosen = case.fail()
    assert (image(chosen), annotations(chosen)) == ("a:1", {"template", "record", "rejected"})
    assert chosen.rejection is not None
    assert (chosen.rejection.generation, chosen.rejection.why) == (2, Why.DEADLINE)
    assert chosen.endpoint.spec.containers[0].image == "a:1"
    for condition in (MOVING, SETTLED, late("mnist-1")):
        case.progress(condition)
        assert stands(case)


def test_the_cause_of_a_rejection_is_what_ails_the_new_pods() -> None:
    case = Situation()
    case.settle()
    case.want(2)
    case.apply()
    case.pods = [objects.pod(case.template, PULL)]
    case.progress(late(), replicas=2)
    rejection = case.decide().rejection
    assert rejection is not None
    assert rejection.why is Why.IMAGE_PULL
    assert str(rejection).startswith("generation 2 was rejected: container a: ImagePull: image a:2 cannot be pulled")


def test_another_template_rolls_forward_from_a_rejection_and_knows_the_way_back() -> None:
    case = Situation()
    case.settle()
    case.want(2)
    case.fail()
    case.want(3)
    chosen = case.apply()
    assert (image(chosen), annotations(chosen)) == ("a:3", {"template", "record", "last-good"})
    assert image(case.fail()) == "a:1"


def test_going_on_before_a_revision_is_complete_keeps_the_one_before_it_as_the_last_good_one() -> None:
    case = Situation()
    case.settle()
    for version in (2, 3):
        case.want(version)
        case.apply()
    assert image(case.fail()) == "a:1"


def test_a_complete_revision_is_the_last_good_one_though_its_pods_are_down_when_it_is_replaced() -> None:
    case = Situation()
    case.settle()
    case.want(2)
    case.settle()
    case.progress(SETTLED, replicas=3, updated=3, available=1)
    case.want(3)
    assert image(case.fail()) == "a:2"


@pytest.mark.parametrize("version", [1, 2])
def test_a_complete_revision_is_the_last_good_one_though_its_replicas_have_just_been_changed(version: int) -> None:
    case = Situation()
    case.settle()
    case.want(version)
    case.settle()
    case.pods = [objects.pod(case.template, running("a"), conditions=[{"type": "Ready", "status": "True"}])]
    case.want(version, replicas=2)
    case.apply()
    case.status["observedGeneration"] = 0  # the Deployment's controller has not seen it yet
    case.want(3, replicas=2)
    assert image(case.fail()) == f"a:{version}"


def test_a_template_that_nobody_has_seen_yet_has_not_been_good() -> None:
    case = Situation()
    good = case.settle().template
    case.pods = [objects.pod(good, running("a"), conditions=[{"type": "Ready", "status": "True"}])]
    case.want(2)
    case.apply()
    case.progress(SETTLED)
    case.status["observedGeneration"] = 0
    case.want(3)
    assert image(case.fail()) == "a:1"


def test_replicas_and_other_settings_are_the_newest_ones_and_no_new_attempt() -> None:
    case = Situation()
    case.settle()
    case.want(2)
    case.fail()
    case.want(2, replicas=5, rollout={"maxSurge": 3})
    chosen = case.apply()
    assert image(chosen) == "a:1"
    assert chosen.deployment["spec"]["replicas"] == 5
    assert chosen.deployment["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == 3
    assert chosen.rejection is not None
    assert chosen.rejection.generation == 2


def test_without_auto_rollback_the_newest_spec_runs_and_turning_it_off_is_a_new_attempt() -> None:
    case = Situation()
    case.settle()
    case.want(2)
    case.fail()
    case.want(2, rollout={"autoRollback": False})
    chosen = case.apply()
    assert (image(chosen), chosen.rejection) == ("a:2", None)
    case.progress(late(), replicas=2)
    assert image(case.decide()) == "a:2"
    case.want(2)
    assert image(case.decide()) == "a:1"


def test_going_back_by_hand_ends_the_rejection_without_rolling_a_pod() -> None:
    case = Situation()
    case.settle()
    case.want(2)
    good = case.fail().template
    case.want(1)
    chosen = case.apply()
    assert (chosen.template, chosen.rejection) == (good, None)
    case.want(3)
    assert image(case.fail()) == "a:1"


def test_a_first_revision_that_fails_has_no_way_back_and_says_so() -> None:
    case = Situation()
    case.apply()
    case.progress(late())
    chosen = case.decide()
    assert (image(chosen), chosen.rejection) == ("a:1", None)
    assert chosen.no_way_back == "no good generation is recorded to go back to"
    case.want(2)
    assert case.decide().no_way_back == ""
    assert "last-good" not in annotations(case.apply())


def test_a_deadline_of_the_template_before_is_no_verdict_on_the_new_one() -> None:
    case = Situation()
    case.settle()
    case.want(2)
    good = case.fail().template
    old = objects.pod("of another template", PULL, name="mnist-2-x")
    old["metadata"]["ownerReferences"] = [{"kind": "ReplicaSet", "name": "mnist-2"}]
    case.pods = [old]
    case.progress(late("mnist-2"), replicas=2, updated=2)
    assert not rollout.is_late(case.observed(), good)
    case.progress(late("mnist-1"), replicas=2, updated=2)
    assert rollout.is_late(case.observed(), good)
    case.status["observedGeneration"] = 0
    assert not rollout.is_late(case.observed(), good)


def test_a_suspended_endpoint_is_never_late_and_remembers_what_ran() -> None:
    case = Situation()
    case.settle()
    case.want(1, suspend=True)
    case.apply()
    case.progress(SETTLED, replicas=0, updated=0, available=0)
    assert stands(case)
    case.want(2, suspend=True)
    case.apply()
    case.progress(late(), replicas=0, updated=0, available=0)
    assert case.decide().rejection is None
    case.want(2)
    case.apply()
    case.progress(late(), replicas=1)
    assert image(case.decide()) == "a:1"


def resumed() -> Situation:
    """Version 1 has run; version 2 came while it was suspended, and its pods start now."""
    case = Situation()
    case.settle()
    case.want(1, suspend=True)
    case.apply()
    case.progress(SETTLED, replicas=0, updated=0, available=0)
    case.want(2, suspend=True)
    assert "untried" in annotations(case.apply())
    case.progress(SETTLED, replicas=0, updated=0, available=0)
    case.now += timedelta(days=1)
    case.want(2)
    case.apply()
    case.progress(SETTLED, available=0)
    return case


def test_pods_that_start_after_a_suspension_have_a_deadline_though_kubernetes_has_none() -> None:
    case = resumed()
    chosen = case.apply()
    assert (image(chosen), chosen.rejection, chosen.is_overdue) == ("a:2", None, False)
    budget = timedelta(seconds=chosen.deployment["spec"]["progressDeadlineSeconds"])
    assert chosen.look_again == case.now + budget
    case.now += budget - timedelta(seconds=1)
    assert (image(case.apply()), stands(case)) == ("a:2", True)
    case.now += timedelta(seconds=1)
    chosen = case.apply()
    assert (image(chosen), chosen.rejection is not None) == ("a:1", True)
    case.progress(SETTLED)
    assert stands(case)


def test_what_has_served_after_a_suspension_is_late_no_more() -> None:
    case = resumed()
    case.progress(SETTLED)
    chosen = case.apply()
    assert ("untried" in annotations(chosen), chosen.look_again) == (False, None)
    case.progress(SETTLED, available=0)
    case.now += timedelta(days=1)
    chosen = case.apply()
    assert (image(chosen), chosen.rejection, chosen.is_overdue) == ("a:2", None, False)


def test_a_first_generation_that_was_suspended_from_the_start_can_fail() -> None:
    case = Situation(suspend=True)
    case.apply()
    case.progress(SETTLED, replicas=0, updated=0, available=0)
    case.want(1)
    case.apply()
    case.progress(SETTLED, available=0)
    for _ in range(3):
        case.now += timedelta(hours=1)
        chosen = case.apply()
        assert (image(chosen), chosen.is_overdue) == ("a:1", True)
        assert chosen.no_way_back == "no good generation is recorded to go back to"
    case.progress(SETTLED)
    assert not case.apply().is_overdue


def test_a_bad_router_image_is_gone_back_from_as_a_bad_container_is() -> None:
    case = Situation()
    case.settle()
    case.setup = dataclasses.replace(ROUTER, image="router:bad")
    chosen = case.fail()
    assert (chosen.setup.image, chosen.setup.network) == (ROUTER.image, case.setup.network)
    router = chosen.deployment["spec"]["template"]["spec"]["initContainers"][0]
    assert router["image"] == objects.ROUTER_IMAGE
    case.setup = dataclasses.replace(ROUTER, image="router:fixed")
    assert case.decide().setup == case.setup


def test_nothing_that_another_owner_or_nobody_left_behind_counts() -> None:
    case = Situation()
    case.settle()
    case.want(2)
    case.document["metadata"]["uid"] = "reborn"
    assert "last-good" not in annotations(case.decide())


@pytest.mark.parametrize(
    "name", [names.TEMPLATE_ANNOTATION, names.RECORD_ANNOTATION, names.LAST_GOOD_ANNOTATION, names.REJECTED_ANNOTATION]
)
@pytest.mark.parametrize("text", ["", "x", "{}", "[]", '{"template": {}}', "9" * 5000, "[" * 100_000, "\x00"])
@pytest.mark.parametrize("is_rejected", [False, True])
def test_a_spoilt_memory_costs_the_way_back_and_nothing_else(name: str, text: str, is_rejected: bool) -> None:
    case = Situation()
    case.settle()
    case.want(2)
    if is_rejected:
        case.fail()
    else:
        case.apply()
        case.progress(late(), replicas=2)
    assert case.live is not None
    case.live["metadata"]["annotations"][name] = text
    chosen = case.apply()
    assert image(chosen) in {"a:1", "a:2"}
    case.want(3)
    assert image(case.apply()) == "a:3"


def test_what_somebody_else_wrote_is_not_believed_and_does_not_stay() -> None:
    case = Situation()
    case.settle()
    case.want(2)
    case.apply()
    evil = record.dump(objects.endpoint(objects.container("evil")), ROUTER)
    observed = case.observed()
    child = observed.children["Deployment"]
    owned = child.owned.replace(f"f:{names.LAST_GOOD_ANNOTATION}", "f:other")
    edited = dataclasses.replace(
        child, annotations={**child.annotations, names.LAST_GOOD_ANNOTATION: evil}, owned=owned
    )
    tampered = dataclasses.replace(observed, children={"Deployment": edited})
    assert history.of(tampered) == dataclasses.replace(history.of(observed) or history.History(), good="")
    chosen = revision(case.endpoint, tampered, ROUTER, NOW)
    assert names.LAST_GOOD_ANNOTATION not in chosen.deployment["metadata"]["annotations"]


def test_a_revision_without_a_record_is_told_and_cannot_be_gone_back_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "LONGEST", 10)
    case = Situation()
    chosen = case.settle()
    assert annotations(chosen) == {"template"}
    assert "longer than 10 characters" in chosen.note
    case.want(2)
    assert case.fail().no_way_back == "no good generation is recorded to go back to"


def test_a_rejection_survives_the_annotation_word_for_word() -> None:
    rejection = history.Rejection(template="t", generation=7, why=Why.EXIT, message='say "x"\n')
    written = history.History(template="good", rejection=rejection).annotations()
    assert json.loads(written[names.REJECTED_ANNOTATION])["reason"] == "Exit"
    case = Situation()
    case.apply()
    assert case.live is not None
    case.live["metadata"]["annotations"] |= written
    found = history.of(case.observed())
    assert found is not None
    assert found.rejection == rejection


# The guard.

GUARDED = {"strategy": "Canary", "stepPercent": 50, "bakeSeconds": 60, "maxErrorPercent": 10}


def guarded(*counts: tuple[float, float]) -> Situation:
    """A second revision that bakes, with the invocations and errors of its pods."""
    case = Situation(rollout=GUARDED)
    case.settle()
    case.want(2, rollout=GUARDED)
    case.apply()
    ready = {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:59:30Z"}]}
    old = objects.pod("old", running("a"), name="old", podIP="10.0.0.9", **ready)
    new = [
        objects.pod(case.template, running("a"), name=f"new-{index}", podIP="10.0.0.1", **ready)
        for index in range(len(counts))
    ]
    case.pods = [old, *new]
    case.progress(MOVING, replicas=2)
    case.routers = {
        f"new-{index}": RouterReport(traffic={"a": Traffic(invocations=asked, errors_5xx=failed, in_flight=0)})
        for index, (asked, failed) in enumerate(counts)
    }
    case.routers["old"] = RouterReport(traffic={"a": Traffic(invocations=1000, errors_5xx=1000, in_flight=0)})
    return case


@pytest.mark.parametrize(
    ("counts", "goes_back"),
    [
        pytest.param([(20, 3)], True, id="15 percent of 20"),
        pytest.param([(20, 2)], False, id="10 percent are allowed"),
        pytest.param([(19, 19)], False, id="19 are too few to judge by"),
        pytest.param([(10, 10), (10, 0)], True, id="all new pods together"),
        pytest.param([(0, 0)], False, id="nobody has asked"),
        pytest.param([], False, id="no new pod yet"),
    ],
)
def test_the_guard_counts_what_the_new_pods_failed(counts: list[tuple[float, float]], goes_back: bool) -> None:
    case = guarded(*counts)
    rejection = case.decide().rejection
    assert (rejection is not None) == goes_back
    if rejection is not None:
        assert rejection.why is Why.ERROR_RATE
        assert rejection.message.startswith("container a: ")
        assert stands(case) is False
        case.apply()
        assert stands(case)


@pytest.mark.parametrize("method", ["Resizing", "InPlace"])
def test_pods_that_were_resized_are_not_judged_by_what_they_failed_before(method: str) -> None:
    case = guarded((100, 100))
    assert case.live is not None
    change = {"hash": case.template, "shape": "x", "method": method}
    case.live["metadata"]["annotations"][names.CHANGE_ANNOTATION] = json.dumps(change)
    assert to_ask(case.endpoint, case.observed(), NOW) == ()
    assert case.decide().rejection is None


def test_the_routers_of_new_pods_are_asked_every_few_seconds_while_they_bake_and_then_no_more() -> None:
    case = guarded((20, 0))
    assert [pod.name for pod in to_ask(case.endpoint, case.observed(), NOW)] == ["new-0"]
    assert case.decide().look_again == NOW + timedelta(seconds=5)
    case.progress(SETTLED)
    assert to_ask(case.endpoint, case.observed(), NOW) == ()
    assert case.decide().look_again is None


def test_a_revision_that_has_settled_is_not_judged_any_more() -> None:
    case = guarded((100, 100))
    case.progress(SETTLED)
    assert case.decide().rejection is None


def test_a_router_that_does_not_answer_is_no_error() -> None:
    case = guarded((20, 20))
    case.routers = {}
    assert case.decide().rejection is None


def test_a_canary_that_bakes_goes_on_baking_when_replicas_go_and_one_that_has_baked_is_remembered() -> None:
    terms = {"strategy": "Canary", "stepPercent": 25, "bakeSeconds": 60}
    case = Situation(replicas=8, rollout=terms)
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T01:00:00Z"}

    def pods(template: str, count: int) -> list[dict[str, Any]]:
        names_ = (f"{template}-{number}" for number in range(count))
        return [objects.pod(template, running("a"), name=name, conditions=[ready]) for name in names_]

    old = case.settle().template
    case.pods = pods(old, 8)
    case.want(2, replicas=8, rollout=terms)
    new = case.apply().template
    case.pods = [*pods(old, 4), *pods(new, 2)]
    case.want(2, replicas=4, rollout=terms)
    assert surge(case.apply()) == "25%"
    case.now += timedelta(seconds=60)
    chosen = case.apply()
    assert surge(chosen) == "100%"
    assert "canary-baked" in annotations(chosen)
    case.pods = [*case.pods[:4], objects.pod(new, PULL, name="again")]
    assert surge(case.apply()) == "100%"
    case.want(3, replicas=4, rollout=terms)
    chosen = case.apply()
    assert surge(chosen) == "25%"
    assert "canary-baked" not in annotations(chosen)


@pytest.mark.parametrize("canary_leaves_too", [False, True])
def test_a_moment_without_old_pods_does_not_open_a_canary_that_has_not_baked(canary_leaves_too: bool) -> None:
    """A node is drained by its taint: all its pods end, and their ReplicaSet has not made others yet."""
    terms = {"strategy": "Canary", "stepPercent": 25, "bakeSeconds": 60}
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T01:00:00Z"}
    gone = {"deletionTimestamp": "2026-01-01T01:00:10Z"}

    def pods(template: str, count: int, prefix: str, **metadata: Any) -> list[dict[str, Any]]:
        made = [objects.pod(template, running("a"), name=f"{prefix}-{n}", conditions=[ready]) for n in range(count)]
        return [{**one, "metadata": {**one["metadata"], **metadata}} for one in made]

    case = Situation(replicas=4, rollout=terms)
    old = case.settle().template
    case.pods = pods(old, 4, "old")
    case.want(2, replicas=4, rollout=terms)
    new = case.apply().template
    case.now += timedelta(seconds=10)
    case.pods = [*pods(old, 4, "old", **gone), *pods(new, 1, "new", **(gone if canary_leaves_too else {}))]
    assert surge(case.apply()) == "25%"
    case.pods = [*pods(old, 4, "again"), *pods(new, 1, "new")]
    assert surge(case.apply()) == "25%"


# What is said of it.


def test_progress_is_told_with_the_moment_when_the_bake_ends() -> None:
    case = guarded((0, 0))
    told = rollout.progress(case.observed(), case.decide(), NOW)
    assert told is not None
    assert (told.method, told.updated, told.total) == ("Rollout", 1, 1)
    assert told.message == "Canary: 1 of 1 pods bakes until 01:00:30 UTC"
    later = NOW + timedelta(seconds=29)
    assert rollout.progress(case.observed(), revision(case.endpoint, case.observed(), ROUTER, later), later) == told


def test_a_rollback_is_told_with_its_cause() -> None:
    case = Situation()
    case.settle()
    case.want(2)
    chosen = case.fail()
    told = rollout.progress(case.observed(), chosen, NOW)
    assert told is not None
    assert (told.method, told.message) == ("Rollback", "generation 2 was rejected: ProgressDeadline")


def test_there_is_no_progress_without_a_deployment() -> None:
    case = Situation()
    assert rollout.progress(case.observed(), case.decide(), NOW) is None


def test_numbers_are_those_of_the_wanted_template_only() -> None:
    case = Situation()
    case.settle()
    case.want(2)
    told = rollout.progress(case.observed(), case.decide(), NOW)
    assert told is not None
    assert (told.updated, told.total) == (0, 1)


def test_rolled_out_numbers_mean_settled_only_with_kubernetes_word_for_it() -> None:
    raw = {"metadata": {"generation": 1}, "status": rolled_out()}
    assert not parsed.rollout(raw).is_settled
    raw["status"]["conditions"] = [SETTLED]
    assert parsed.rollout(raw).is_settled
    raw["status"]["updatedReplicas"] = 0
    assert not parsed.rollout(raw).is_settled


def test_a_service_account_of_the_last_good_pods_is_there_for_them() -> None:
    case = Situation()
    case.settle()
    case.want(2, pod={"serviceAccountName": "of-the-newest"})
    chosen = case.fail()
    assert chosen.endpoint.spec.pod.service_account_name == ""
    kinds = {
        one["kind"] for one in desired(chosen.endpoint, objects.decisions(chosen.endpoint, revision=chosen), ROUTER)
    }
    assert "ServiceAccount" in kinds


@pytest.mark.parametrize(("others", "scaled"), [([], []), (["a"], ["a"])])
def test_an_autoscaler_measures_only_what_runs_after_a_rollback(others: list[str], scaled: list[str]) -> None:
    cpu = {"resources": {"requests": {"cpu": 1}}}
    case = Situation()
    case.settle()
    case.want(2)
    metrics = [{"type": "ContainerCPU", "container": name, "targetPercent": 50} for name in ("new", *others)]
    containers = [objects.container(name, image="a:2", **cpu) for name in ("a", "new")]
    spec = {"autoscaling": {"maxReplicas": 3, "metrics": metrics}}
    case.document["spec"] = objects.document(*containers, **spec)["spec"]
    case.endpoint = objects.endpoint(*containers, **spec)
    assert case.fail().rejection is not None
    found = decide(case.endpoint, case.observed(), ROUTER, NOW)
    built = [one for one in desired(found.revision.endpoint, found, ROUTER) if "Autoscaler" in one["kind"]]
    assert [one["containerResource"]["container"] for hpa in built for one in hpa["spec"]["metrics"]] == scaled


def test_the_routers_of_last_good_pods_are_asked_as_their_own_availability_demands() -> None:
    case = Situation(availability="Any")
    good = case.settle().template
    case.want(2)
    case.fail()
    case.pods = [objects.pod(good, running("a"), podIP="10.0.0.1")]
    assert [pod.name for pod in to_ask(case.endpoint, case.observed(), NOW)] == ["mnist-1"]


def test_what_only_another_build_of_the_operator_has_changed_cannot_be_gone_back_from() -> None:
    case = Situation()
    case.settle()
    assert case.live is not None
    case.live["metadata"]["annotations"][names.TEMPLATE_ANNOTATION] = "as an older operator built it"
    chosen = case.fail()
    assert (image(chosen), chosen.rejection) == ("a:1", None)
    assert chosen.no_way_back


def test_a_first_generation_does_not_bake_and_the_next_one_does() -> None:
    case = Situation(rollout=GUARDED)
    chosen = case.settle()
    assert chosen.deployment["spec"]["minReadySeconds"] == 0
    assert stands(case)
    case.want(2, rollout=GUARDED)
    assert case.apply().deployment["spec"]["minReadySeconds"] == 60
    case.progress(SETTLED)
    assert stands(case)


@pytest.mark.parametrize(
    ("rollout_spec", "deadline"),
    [
        ({}, 840),
        ({"bakeSeconds": 3600}, 840 + 3600),
        ({"progressDeadlineSeconds": 1, "bakeSeconds": 3600}, 3601),
    ],
)
def test_the_bake_time_comes_on_top_of_the_budget_as_kubernetes_demands(
    rollout_spec: dict[str, Any], deadline: int
) -> None:
    case = Situation()
    case.settle()
    case.want(2, rollout=rollout_spec)
    spec = case.decide().deployment["spec"]
    assert spec["progressDeadlineSeconds"] == deadline > spec["minReadySeconds"]
