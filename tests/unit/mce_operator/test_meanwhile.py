"""What others do while a pass runs, or while its writes are under way: nothing of it is lost, or told as it is not."""

import copy
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from mce_api import names
from mce_kit.kube import ApiError
from mce_operator.events import Recorder
from mce_operator.observe import observe
from mce_operator.patience import AT_ONCE, PAUSE_SECONDS
from mce_operator.queue import Backoff, Schedule
from unit.mce_operator import objects
from unit.mce_operator.passes import (
    DEPLOYMENT,
    KEY,
    KINDS,
    SERVICE_IS_BACK,
    Cluster,
    begin_a_canary,
    deployment_is,
    drift_events,
    scaled_by_others,
    settled,
    surge,
    update,
)

UNAVAILABLE = ApiError(503, "ServiceUnavailable", "later")
TIMEOUT = ApiError(0, "Timeout", "no answer in time")


def during(cluster: Cluster, verb: str, happen: Callable[[], Any]) -> None:
    """Has something happen once, while a write of ours is on its way to the API server."""
    original = getattr(cluster.api, verb)

    async def meanwhile(*args: Any) -> Any:
        setattr(cluster.api, verb, original)
        happen()
        return await original(*args)

    setattr(cluster.api, verb, meanwhile)


def lose_one_answer(cluster: Cluster, verb: str, kind: str) -> None:
    """A write of that kind has its effect, and nobody learns of it."""
    original = getattr(cluster.api, verb)

    async def lost(body: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = await original(body)
        if body["kind"] == kind:
            setattr(cluster.api, verb, original)
            raise TIMEOUT
        return answer

    setattr(cluster.api, verb, lost)


def add_silent_pod(cluster: Cluster) -> None:
    """Its router is worth asking."""
    live = cluster.api.objects["Deployment", *KEY]["metadata"]["annotations"][names.TEMPLATE_ANNOTATION]
    silent = objects.pod(live, objects.running("a", up=False, since="2026-01-01T00:00:00Z"), podIP="10.0.0.1")
    cluster.api.store({"kind": "Pod", "apiVersion": "v1", **silent})


def rescaled(live: dict[str, Any], replicas: int) -> None:
    live["spec"]["replicas"] = replicas
    live["metadata"]["generation"] += 1


def disowned(live: dict[str, Any]) -> None:
    live["metadata"].pop("ownerReferences")
    live["metadata"]["managedFields"][0]["fieldsV1"]["f:metadata"].pop("f:ownerReferences")


def spec_undone(live: dict[str, Any]) -> None:
    live["metadata"]["managedFields"][0]["fieldsV1"].pop("f:spec", None)


async def test_an_edit_that_comes_with_the_answer_to_a_status_write_is_acted_upon(cluster: Cluster) -> None:
    events: list[dict[str, Any]] = []

    def edit() -> None:
        update(cluster, "new:1")  # after the pass has looked for the last time, before the API server has our PATCH
        events.append(copy.deepcopy(cluster.api.objects[names.KIND, *KEY]))

    during(cluster, "apply_status", edit)
    outcome = await cluster.reconciler.reconcile(KEY)
    events.append(copy.deepcopy(cluster.api.objects[names.KIND, *KEY]))  # our write
    woken = [cluster.cache.put(names.KIND, event) for event in events]  # the watch tells of both, a moment later
    assert cluster.status()["observedGeneration"] == 1
    assert woken == [None, None]  # it knows both already
    assert outcome.look_again_seconds == 0
    await cluster.reconciler.reconcile(KEY)
    assert cluster.status()["observedGeneration"] == 2
    assert "new:1" in str(cluster.api.objects["Deployment", *KEY]["spec"]["template"])


async def test_a_deletion_that_comes_with_the_answer_to_a_status_write_is_heard_of(cluster: Cluster) -> None:
    def delete() -> None:
        cluster.edit(names.KIND, lambda live: live["metadata"].update(deletionTimestamp="2026-01-01T01:00:00Z"))

    during(cluster, "apply_status", delete)
    assert (await cluster.reconciler.reconcile(KEY)).look_again_seconds == 0
    assert (await cluster.reconciler.reconcile(KEY)).look_again_seconds is None
    assert cluster.status()["state"] == "Deleting"


async def test_a_correction_that_comes_with_the_answer_that_tells_of_the_fault_is_acted_upon(cluster: Cluster) -> None:
    cluster.edit(names.KIND, lambda live: live["spec"].update(mode="Chain"))
    await cluster.start()
    during(cluster, "apply_status", partial(update, cluster, "new:1"))
    assert (await cluster.reconciler.reconcile(KEY)).look_again_seconds == 0
    assert cluster.status()["reason"] == "InvalidSpec"


class Refusing:
    """An API server that takes no Service any more."""

    def __init__(self, cluster: Cluster, error: ApiError) -> None:
        self.cluster, self.error, self.tries = cluster, error, 0
        self._apply = cluster.api.apply
        cluster.api.apply = self._refuse  # type: ignore[method-assign]

    async def _refuse(self, body: dict[str, Any]) -> dict[str, Any]:
        if body["kind"] == "Service":
            self.tries += 1
            raise self.error
        return await self._apply(body)

    async def last(self, seconds: float) -> int:
        """Passes as the work queue would make them for so long; how often the API server was asked."""
        backoff = Backoff(first_seconds=0.5, longest_seconds=300, random=lambda: 0.0)
        schedule, start, now = Schedule(backoff), self.cluster.now, 0.0
        schedule.add(KEY)
        while now <= seconds:
            self.cluster.now = start + timedelta(seconds=now)
            if schedule.take(now) is None:
                now = schedule.next_due() or float("inf")
                continue
            outcome = await self.cluster.run()
            if outcome.is_settled:
                schedule.done(KEY)
            else:
                schedule.failed(KEY, now)
            if outcome.look_again_seconds is not None:
                schedule.add_at(KEY, now + outcome.look_again_seconds)
        return self.tries


DENIED = ApiError(403, "Forbidden", "admission webhook denied the request")


def robbed(cluster: Cluster) -> None:
    del cluster.api.objects["Service", *KEY]


def edited(cluster: Cluster) -> None:
    cluster.edit("Service", spec_undone)


@pytest.mark.parametrize("happen", [robbed, edited])
async def test_a_repair_that_is_refused_is_tried_ever_more_rarely_and_is_no_fight(
    cluster: Cluster, happen: Callable[[Cluster], None]
) -> None:
    await cluster.run()
    happen(cluster)
    assert await Refusing(cluster, DENIED).last(600) == 11  # at 0, 0.5, 1.5, 3.5, 7.5, ... 511.5 s
    assert drift_events(cluster) == []


async def test_what_could_not_be_set_right_is_not_told_as_set_right(cluster: Cluster) -> None:
    await cluster.run()
    cluster.edit("Deployment", scaled_by_others)

    async def refused(body: dict[str, Any]) -> dict[str, Any]:
        cluster.edit("Deployment", lambda live: live.update(status=objects.rolled_out(7)))  # its controller goes on
        cluster.cache.put("Deployment", cluster.api.objects["Deployment", *KEY])
        raise UNAVAILABLE

    cluster.api.apply = refused  # type: ignore[method-assign]
    await cluster.run()
    assert cluster.api.objects["Deployment", *KEY]["spec"]["replicas"] == 7
    assert drift_events(cluster) == []
    assert "drift_healed_total{" not in cluster.metrics.render().decode()
    del cluster.api.apply
    await cluster.run()
    (event,) = drift_events(cluster)
    assert event == ("DriftHealed", "Deployment mnist: spec.replicas edited; it is as it should be again")


class Limited:
    """An API server that takes no Event for now."""

    def __init__(self, cluster: Cluster) -> None:
        self.posts = 0
        cluster.api.create_event = self._refuse  # type: ignore[method-assign]

    async def _refuse(self, body: dict[str, Any]) -> None:
        self.posts += 1
        raise ApiError(429, "TooManyRequests", "limit reached on type Namespace")


async def test_a_drift_whose_event_was_refused_is_told_the_next_time_but_not_at_once(cluster: Cluster) -> None:
    await cluster.run()
    post, limited = cluster.api.create_event, Limited(cluster)
    for _ in range(AT_ONCE):
        del cluster.api.objects["Service", *KEY]
        await cluster.run()
    assert limited.posts == 1
    cluster.api.create_event = post  # type: ignore[method-assign]
    cluster.now += timedelta(seconds=30)
    del cluster.api.objects["Service", *KEY]
    await cluster.run()
    assert drift_events(cluster) == [SERVICE_IS_BACK]


async def test_a_transition_whose_event_was_refused_is_told_the_next_time(cluster: Cluster) -> None:
    await cluster.run()
    post, _ = cluster.api.create_event, Limited(cluster)
    for _ in range(2):
        cluster.api.fail["apply", "Service"] = ApiError(403, "Forbidden", "exceeded quota: x")
        cluster.edit("Service", lambda live: live["metadata"]["annotations"].pop(names.HASH_ANNOTATION))
        await cluster.run()
        assert cluster.status()["failureReason"]
        cluster.api.fail.clear()
        await cluster.run()
        assert not cluster.status()["failureReason"]
        cluster.api.create_event = post  # type: ignore[method-assign]
        cluster.now += timedelta(seconds=30)
    assert [event["reason"] for event in cluster.api.events if event["reason"] == "Quota"] == ["Quota"]


async def test_a_transition_whose_write_was_answered_too_late_has_its_event(cluster: Cluster) -> None:
    await cluster.run()
    cluster.edit(names.KIND, lambda live: live["spec"].update(containers=[]))
    lose_one_answer(cluster, "apply_status", names.KIND)
    with pytest.raises(ApiError):
        await cluster.run()
    await cluster.run()
    assert cluster.status()["reason"] == "InvalidSpec"
    assert [event["reason"] for event in cluster.api.events] == ["Creating", "InvalidSpec"]


async def test_a_repair_whose_answer_was_lost_is_told(cluster: Cluster) -> None:
    await cluster.run()
    del cluster.api.objects["Service", *KEY]
    lose_one_answer(cluster, "apply", "Service")
    for _ in range(2):
        await cluster.run()
    assert ("Service", *KEY) in cluster.api.objects
    assert drift_events(cluster) == [SERVICE_IS_BACK]


async def test_a_canary_that_has_baked_while_something_else_was_written_goes_on(cluster: Cluster) -> None:
    await begin_a_canary(cluster)
    cluster.now += timedelta(seconds=59.9)
    del cluster.api.objects["Service", *KEY]  # somebody does that just before the canary has baked

    def later() -> None:
        cluster.now += timedelta(seconds=0.2)

    during(cluster, "apply", later)
    outcome = await cluster.run()
    assert (surge(cluster), outcome.look_again_seconds) == ("50%", 0)
    await cluster.run()
    assert surge(cluster) == "100%"


async def test_an_addition_that_comes_with_the_answer_to_our_apply_is_taken_out(cluster: Cluster) -> None:
    await cluster.run()
    del cluster.api.objects["ServiceAccount", *KEY]
    cluster.edit("NetworkPolicy", lambda live: live["metadata"]["managedFields"][0]["fieldsV1"].pop("f:spec"))
    apply = cluster.api.apply
    entry = {"manager": "kubectl-edit", "operation": "Update", "fieldsV1": {"f:spec": {"f:extra": {}}}}

    async def applied(body: dict[str, Any]) -> dict[str, Any]:
        answer = await apply(body)
        if body["kind"] != "NetworkPolicy":
            return answer
        live = cluster.api.objects["NetworkPolicy", *KEY]  # somebody was a moment quicker than our apply
        live["spec"]["extra"] = 1
        live["metadata"]["managedFields"].append(entry)
        return copy.deepcopy(live)

    cluster.api.apply = applied  # type: ignore[method-assign]
    outcome = await cluster.run()
    woken = cluster.cache.put("NetworkPolicy", cluster.api.objects["NetworkPolicy", *KEY])
    assert (woken, outcome.look_again_seconds) == (None, 0)


async def test_a_child_that_goes_while_another_ones_name_is_taken_is_told_of_when_it_is_back(
    cluster: Cluster,
) -> None:
    await cluster.run()
    del cluster.api.objects["Service", *KEY]
    theirs = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "mnist", "namespace": "team-a"}}
    cluster.api.store(theirs)
    del cluster.api.objects["NetworkPolicy", *KEY]
    await cluster.run()
    assert cluster.status()["reason"] == "NameTaken"
    del cluster.api.objects["Service", *KEY]
    await cluster.run()
    told = [note for reason, note in drift_events(cluster)]
    assert any(note.startswith("NetworkPolicy mnist: deleted") for note in told), told
    assert any(note.startswith("Service mnist: deleted") for note in told), told


async def test_a_child_without_its_owner_that_goes_before_it_is_repaired_is_told_of(cluster: Cluster) -> None:
    await cluster.run()
    cluster.edit("Service", disowned)
    cluster.api.fail["apply", "Service"] = UNAVAILABLE
    await cluster.run()
    del cluster.api.objects["Service", *KEY]
    await cluster.run()
    assert drift_events(cluster) == []  # above all not that its owner is as it should be
    cluster.api.fail.clear()
    await cluster.run()
    edited = ("DriftHealed", "Service mnist: metadata.ownerReferences edited; it is as it should be again")
    assert drift_events(cluster) == [edited, SERVICE_IS_BACK]


async def test_a_child_that_goes_in_the_pass_that_has_made_it_is_told_of(cluster: Cluster) -> None:
    apply = cluster.api.apply

    async def meanwhile(body: dict[str, Any]) -> dict[str, Any]:
        if body["kind"] == "Deployment":
            del cluster.api.objects["Service", *KEY]
            cluster.cache.drop("Service", KEY)
        return await apply(body)

    cluster.api.apply = meanwhile  # type: ignore[method-assign]
    await cluster.run()
    cluster.api.apply = apply  # type: ignore[method-assign]
    await cluster.run()
    assert drift_events(cluster) == [SERVICE_IS_BACK]


async def test_a_child_that_we_have_taken_away_is_no_drift_though_the_answer_was_lost(cluster: Cluster) -> None:
    await cluster.run()

    delete = cluster.api.delete

    async def lost(*args: Any) -> None:
        await delete(*args)
        raise TIMEOUT

    cluster.api.delete = lost  # type: ignore[method-assign, assignment]
    cluster.edit(names.KIND, partial(rescaled, replicas=1))
    await cluster.run()
    cluster.api.delete = delete  # type: ignore[method-assign]
    cluster.edit(names.KIND, partial(rescaled, replicas=2))
    await cluster.run()
    assert drift_events(cluster) == []


async def test_a_default_that_somebody_has_applied_and_then_changes_is_taken_out(cluster: Cluster) -> None:
    await cluster.run()

    def apply(live: dict[str, Any], value: str) -> None:
        tree: dict[str, Any] = {"f:spec": {"f:internalTrafficPolicy": {}}}
        theirs = {"manager": "kubectl", "operation": "Apply", "fieldsV1": tree}
        ours = [one for one in live["metadata"]["managedFields"] if one["manager"] == names.FIELD_MANAGER]
        live["metadata"]["managedFields"] = [*ours, theirs]
        live["spec"]["internalTrafficPolicy"] = value
        live["metadata"].pop("generation", None)  # Services have none

    patch = cluster.api.patch

    async def defaulting(
        kind: str, namespace: str, name: str, body: dict[str, Any], subresource: str = ""
    ) -> dict[str, Any]:
        live = cluster.api.objects[kind, namespace, name]
        if live["spec"].get("internalTrafficPolicy") == "Cluster":
            return copy.deepcopy(live)  # the default is there again, and the field still kubectl's: no change
        return await patch(kind, namespace, name, body, subresource)

    cluster.api.patch = defaulting  # type: ignore[method-assign]
    cluster.edit("Service", partial(apply, value="Cluster"))
    for _ in range(3):
        cluster.now += timedelta(seconds=60)
        await cluster.run()
    cluster.edit("Service", partial(apply, value="Local"))
    for _ in range(3):
        cluster.now += timedelta(seconds=60)
        await cluster.run()
    assert cluster.api.objects["Service", *KEY]["spec"].get("internalTrafficPolicy") != "Local"


async def test_a_clock_that_is_set_back_does_not_stop_healing(cluster: Cluster) -> None:
    await cluster.run()
    del cluster.api.objects["Service", *KEY]
    await cluster.run()
    cluster.now -= timedelta(hours=1)
    del cluster.api.objects["Service", *KEY]
    outcome = await cluster.run()
    assert ("Service", *KEY) in cluster.api.objects, outcome


async def test_a_generation_that_is_replaced_while_the_routers_are_asked_is_not_rolled_back(
    cluster: Cluster,
) -> None:
    await cluster.run()
    await settled(cluster)
    update(cluster, "bad:1")
    await cluster.run()
    deployment_is(cluster, "ProgressDeadlineExceeded", replicas=3)

    async def ask(pods: Any) -> dict[str, Any]:
        update(cluster, "fixed:1")  # while a router that does not answer is waited for
        cluster.cache.put(names.KIND, cluster.api.objects[names.KIND, *KEY])
        return {}

    add_silent_pod(cluster)
    cluster.reconciler._routers.ask = ask  # type: ignore[method-assign]
    cluster.writes()
    cluster.api.events.clear()
    await cluster.run()
    assert "RollingBack" not in [event["reason"] for event in cluster.api.events], cluster.writes()
    assert DEPLOYMENT not in cluster.writes() or "bad:1" not in str(cluster.status())


async def test_the_children_of_an_endpoint_that_is_gone_are_not_made_again(cluster: Cluster) -> None:
    await cluster.run()
    del cluster.api.objects["Service", *KEY]
    await cluster.run()  # the API server was asked for the endpoint, which was there
    cluster.api.events.clear()
    cluster.writes()
    del cluster.api.objects[names.KIND, *KEY]  # of which its own watch has not told yet
    for kind in KINDS:
        raw = cluster.api.objects.pop((kind, *KEY))
        cluster.cache.remove(kind, raw)
    await cluster.reconciler.reconcile(KEY)
    assert [write for write in cluster.writes() if write[0] == "apply"] == []
    assert drift_events(cluster) == []


async def test_what_another_operator_has_taken_away_is_no_drift(cluster: Cluster) -> None:
    await cluster.run()
    first = (cluster.reconciler, cluster.cache, cluster.metrics)

    await cluster.start()  # another one leads
    cluster.edit(names.KIND, partial(rescaled, replicas=1))
    await cluster.run()
    assert ("PodDisruptionBudget", *KEY) not in cluster.api.objects
    cluster.edit(names.KIND, partial(rescaled, replicas=2))
    cluster.reconciler, cluster.cache, cluster.metrics = first
    cluster.reconciler.take_over()
    await cluster.run()
    assert drift_events(cluster) == []


async def test_an_endpoint_that_went_while_another_operator_led_is_forgotten(cluster: Cluster) -> None:
    await cluster.run()
    cluster.cache.drop(names.KIND, KEY)  # heard while the queue is paused: nobody makes a pass
    cluster.reconciler.take_over()
    left = {name: memory for name, memory in vars(cluster.reconciler).items() if isinstance(memory, (dict, set))}
    assert not any(left.values()), left
    assert not cluster.reconciler._healing._memories


async def test_what_has_to_wait_beside_another_child_is_set_right_when_its_time_has_come(cluster: Cluster) -> None:
    await cluster.run()

    start = cluster.now
    for seconds, kind in ((0, "Service"), (1, "NetworkPolicy")):
        cluster.now = start + timedelta(seconds=seconds)
        for _ in range(AT_ONCE):
            cluster.edit(kind, spec_undone)
            await cluster.run()
    cluster.now = start + timedelta(seconds=5.5)
    cluster.edit("Service", spec_undone)
    cluster.edit("NetworkPolicy", spec_undone)
    assert (await cluster.run()).look_again_seconds == pytest.approx(0.5)
    cluster.now = start + timedelta(seconds=6)
    cluster.edit("Service", spec_undone)  # for the last time
    outcome = await cluster.run()
    assert "f:spec" not in cluster.api.objects["Service", *KEY]["metadata"]["managedFields"][0]["fieldsV1"]
    assert outcome.look_again_seconds == pytest.approx(4), outcome


async def test_a_clock_that_is_set_back_does_not_silence_events(cluster: Cluster) -> None:
    observed = observe(cluster.cache, KEY)
    assert observed is not None
    recorder = Recorder("test", lambda: cluster.now)
    assert recorder.drift(observed, "DriftHealed", "x", "x")
    cluster.now -= timedelta(hours=1)
    recorder.drift(observed, "DriftHealed", "x", "x")
    cluster.now += timedelta(minutes=30)
    assert recorder.drift(observed, "DriftHealed", "x", "x")


async def test_a_deployment_that_was_too_new_for_the_watch_has_its_status_told(cluster: Cluster) -> None:
    await cluster.run()
    await settled(cluster)
    assert cluster.status()["state"] == "InService"
    await cluster.start()  # a successor whose watch of Deployments has been silent for some seconds
    cluster.cache.drop("Deployment", KEY)
    await cluster.reconciler.reconcile(KEY)
    assert cluster.cache.put("Deployment", cluster.api.objects["Deployment", *KEY]) is None  # the watch brings no news
    assert cluster.status()["state"] == "InService"


async def test_what_an_earlier_endpoint_of_that_name_had_is_no_loss_of_this_one(cluster: Cluster) -> None:
    await cluster.run()
    for kind in KINDS:
        del cluster.api.objects[kind, *KEY]
    cluster.edit(names.KIND, lambda live: live["metadata"].update(uid="reborn"))
    await cluster.run()
    assert all((kind, *KEY) in cluster.api.objects for kind in KINDS)
    assert drift_events(cluster) == []


async def test_a_child_whose_label_is_missing_and_has_to_wait_is_not_deleted(cluster: Cluster) -> None:
    await cluster.run()
    for _ in range(AT_ONCE):
        cluster.edit("Service", spec_undone)
        await cluster.run()

    def unlabelled(live: dict[str, Any]) -> None:
        del live["metadata"]["labels"][names.MANAGED_BY_LABEL]
        live["metadata"]["managedFields"][0]["fieldsV1"]["f:metadata"].pop("f:labels")

    cluster.edit("Service", unlabelled)
    cluster.cache.drop("Service", KEY)  # the watch is of labelled ones
    del cluster.api.objects["NetworkPolicy", *KEY]
    cluster.cache.drop("NetworkPolicy", KEY)
    await cluster.reconciler.reconcile(KEY)
    assert names.MANAGED_BY_LABEL not in cluster.api.objects["Service", *KEY]["metadata"]["labels"]
    cluster.now += timedelta(seconds=PAUSE_SECONDS)
    await cluster.reconciler.reconcile(KEY)
    assert names.MANAGED_BY_LABEL in cluster.api.objects["Service", *KEY]["metadata"]["labels"]
    assert "Service mnist: metadata.labels edited; it is as it should be again" in dict(drift_events(cluster)).values()
    assert SERVICE_IS_BACK not in drift_events(cluster)


def added(live: dict[str, Any], name: str, value: Any = 1) -> None:
    ours = [one for one in live["metadata"]["managedFields"] if one["manager"] == names.FIELD_MANAGER]
    entry = {"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:spec": {f"f:{name}": {}}}}
    live["metadata"]["managedFields"] = [*ours, entry]
    live["spec"][name] = value


def taken_out(live: dict[str, Any], name: str) -> None:
    live["spec"].pop(name)
    live["metadata"]["managedFields"] = live["metadata"]["managedFields"][:1]


async def test_who_undoes_his_own_edits_has_not_been_set_right_by_us(cluster: Cluster) -> None:
    await cluster.run()
    for number in range(AT_ONCE):
        cluster.edit("Service", partial(added, name=f"x{number}"))
        await cluster.run()
    cluster.api.events.clear()
    for number in range(50):  # while it has to wait
        cluster.edit("Service", partial(added, name=f"y{number}"))
        await cluster.run()
        cluster.edit("Service", partial(taken_out, name=f"y{number}"))
        await cluster.run()
    assert [reason for reason, _ in drift_events(cluster)] == ["DriftConflict"]


async def test_an_edit_that_a_new_spec_overtakes_is_not_told_as_set_right_before_it_is(cluster: Cluster) -> None:
    await cluster.run()
    cluster.edit("Deployment", scaled_by_others)
    cluster.api.fail["apply", "Deployment"] = UNAVAILABLE
    await cluster.run()
    update(cluster, "new:1")
    await cluster.run()
    assert drift_events(cluster) == []
    cluster.api.fail.clear()
    await cluster.run()
    assert cluster.api.objects["Deployment", *KEY]["spec"]["replicas"] == 2
    assert len(drift_events(cluster)) == 1


async def test_what_is_on_its_way_out_is_not_as_it_should_be(cluster: Cluster) -> None:
    await cluster.run()
    cluster.edit("Service", spec_undone)
    cluster.api.fail["apply", "Service"] = UNAVAILABLE
    await cluster.run()
    cluster.edit("Service", lambda live: live["metadata"].update(deletionTimestamp="2026-01-01T01:00:00Z"))
    await cluster.run()
    assert drift_events(cluster) == []


async def test_what_is_back_and_edited_meanwhile_is_not_as_it_should_be(cluster: Cluster) -> None:
    await cluster.run()
    del cluster.api.objects["Service", *KEY]
    lose_one_answer(cluster, "apply", "Service")
    await cluster.run()
    cluster.edit("Service", spec_undone)
    cluster.api.fail["apply", "Service"] = UNAVAILABLE
    await cluster.run()
    assert drift_events(cluster) == []
    cluster.api.fail.clear()
    await cluster.run()
    assert SERVICE_IS_BACK in drift_events(cluster)


def labelled(live: dict[str, Any], number: int) -> None:
    live["metadata"]["labels"]["x"] = str(number)
    live["metadata"].pop("generation", None)  # Services have none


def let_default_come_back(cluster: Cluster, name: str) -> None:
    """An API server that gives a field of that name its default, which stays with whoever has applied it."""
    patch = cluster.api.patch

    async def defaulting(
        kind: str, namespace: str, of: str, body: dict[str, Any], subresource: str = ""
    ) -> dict[str, Any]:
        before = copy.deepcopy(cluster.api.objects[kind, namespace, of])
        cut = {**body, "spec": {one: value for one, value in body["spec"].items() if one != name}}
        if not cut["spec"] and before["spec"].get(name) == 1:
            cluster.api.writes.append(("patch", kind))
            return before
        await patch(kind, namespace, of, cut if before["spec"].get(name) == 1 else body, subresource)
        live = cluster.api.objects[kind, namespace, of]
        entry = {"manager": "kubectl", "operation": "Apply", "fieldsV1": {"f:spec": {f"f:{name}": {}}}}
        if name in live["spec"]:
            live["metadata"]["managedFields"].append(entry)
        return copy.deepcopy(cluster.api.store(live))

    cluster.api.patch = defaulting  # type: ignore[method-assign, assignment]


async def test_what_was_taken_out_beside_a_default_is_told(cluster: Cluster) -> None:
    await cluster.run()
    let_default_come_back(cluster, "sessionAffinity")

    def apply(live: dict[str, Any]) -> None:
        added(live, "sessionAffinity")
        live["spec"]["extra"] = 1
        live["metadata"]["managedFields"][-1]["fieldsV1"]["f:spec"]["f:extra"] = {}
        live["metadata"].pop("generation", None)

    cluster.edit("Service", apply)
    for _ in range(4):
        cluster.now += timedelta(seconds=60)
        await cluster.run()
    assert "extra" not in cluster.api.objects["Service", *KEY]["spec"]
    told = "Service mnist: spec.extra, spec.sessionAffinity added by kubectl; it is as it should be again"
    assert drift_events(cluster) == [("DriftHealed", told)]


async def test_labels_that_change_all_the_time_do_not_make_cuts_in_vain_follow_them(cluster: Cluster) -> None:
    await cluster.run()
    let_default_come_back(cluster, "sessionAffinity")

    cluster.edit("Service", partial(added, name="sessionAffinity"))
    cluster.writes()
    for number in range(50):
        cluster.edit("Service", partial(labelled, number=number))
        await cluster.run()
    assert cluster.writes().count(("patch", "Service")) == AT_ONCE


async def test_a_cut_that_was_not_tried_was_not_in_vain(cluster: Cluster) -> None:
    await cluster.run()

    async def unchanged(body: dict[str, Any]) -> dict[str, Any]:
        return copy.deepcopy(cluster.api.objects["Service", *KEY])  # a webhook takes out what we apply

    def change(live: dict[str, Any]) -> None:
        live["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"].pop("f:publishNotReadyAddresses")
        added(live, "extra")

    cluster.api.apply = unchanged  # type: ignore[method-assign]
    cluster.edit("Service", change)
    cluster.api.fail["patch", "Service"] = UNAVAILABLE
    await cluster.run()
    cluster.api.fail.clear()
    await cluster.run()
    assert "extra" not in cluster.api.objects["Service", *KEY]["spec"]


async def test_what_was_in_vain_with_one_object_is_not_with_its_successor(cluster: Cluster) -> None:
    await cluster.run()
    let_default_come_back(cluster, "schedulerName")
    cluster.edit(names.KIND, partial(rescaled, replicas=3))
    await cluster.run()
    cluster.edit("Deployment", partial(added, name="schedulerName"))
    await cluster.run()
    del cluster.api.objects["Deployment", *KEY]
    await cluster.run()

    def other(live: dict[str, Any]) -> None:
        added(live, "schedulerName", "evil")
        live["metadata"]["generation"] += 1

    cluster.edit("Deployment", other)
    assert cluster.api.objects["Deployment", *KEY]["metadata"]["generation"] == 2  # as when it was in vain
    await cluster.run()
    assert "schedulerName" not in cluster.api.objects["Deployment", *KEY]["spec"]


async def test_an_edit_that_comes_with_the_answer_to_a_cut_is_set_right(cluster: Cluster) -> None:
    await cluster.run()

    def change(live: dict[str, Any]) -> None:
        spec_undone(live)
        added(live, "extra")

    cluster.edit("Service", change)

    def meanwhile() -> None:
        live = copy.deepcopy(cluster.api.objects["Service", *KEY])
        live["spec"]["type"] = "NodePort"
        live["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"].pop("f:type")
        cluster.api.store(live)

    during(cluster, "patch", meanwhile)
    assert (await cluster.run()).look_again_seconds == 0
    await cluster.run()
    assert cluster.api.objects["Service", *KEY]["spec"]["type"] == "ClusterIP"


async def test_who_annotates_an_endpoint_all_the_time_does_not_keep_its_children_away(cluster: Cluster) -> None:
    await cluster.run()
    get, reads = cluster.api.get, 0

    async def busy(kind: str, namespace: str, name: str) -> dict[str, Any]:
        nonlocal reads
        if kind == names.KIND:
            reads += 1
            cluster.edit(kind, lambda live: live["metadata"].setdefault("annotations", {}).update(x=str(reads)))
        return await get(kind, namespace, name)

    cluster.api.get = busy  # type: ignore[method-assign]
    del cluster.api.objects["Service", *KEY]
    await cluster.run()
    assert ("Service", *KEY) in cluster.api.objects
    assert reads == 1


async def test_who_edits_an_endpoint_all_the_time_gets_what_he_wants(cluster: Cluster) -> None:
    await cluster.run()
    turns = 0

    async def ask(pods: Any) -> dict[str, Any]:
        nonlocal turns
        turns += 1
        cluster.edit(names.KIND, partial(rescaled, replicas=2 + turns))
        cluster.cache.put(names.KIND, cluster.api.objects[names.KIND, *KEY])
        return {}

    add_silent_pod(cluster)
    cluster.reconciler._routers.ask = ask  # type: ignore[method-assign]
    for _ in range(3):
        await cluster.run()
    assert cluster.api.objects["Deployment", *KEY]["spec"]["replicas"] == 5
    assert cluster.status()["observedGeneration"] == 4


async def test_who_leads_again_without_another_one_between_has_forgotten_only_what_is_gone(cluster: Cluster) -> None:
    await cluster.run()
    del cluster.api.objects["Service", *KEY]
    cluster.api.fail["apply", "Service"] = UNAVAILABLE
    await cluster.run()
    cluster.api.fail.clear()
    cluster.reconciler.forget_what_is_gone()
    await cluster.run()
    assert drift_events(cluster) == [SERVICE_IS_BACK]
    cluster.cache.drop(names.KIND, KEY)
    cluster.reconciler.forget_what_is_gone()
    assert not list(cluster.reconciler._healing.keys())


async def test_a_successor_whose_watch_is_behind_tells_nothing_twice(cluster: Cluster) -> None:
    await cluster.run()
    await settled(cluster)
    behind = copy.deepcopy(cluster.api.objects[names.KIND, *KEY])
    cluster.now += timedelta(minutes=1)
    deployment_is(cluster, "NewReplicaSetAvailable", 2, readyReplicas=1, availableReplicas=1)
    await cluster.run()  # the predecessor has told of it
    told = copy.deepcopy(cluster.status())
    assert told["reason"] == "Pending"
    del cluster.api.objects["Service", *KEY]
    cluster.api.events.clear()
    cluster.now += timedelta(minutes=1)
    fresh = cluster.api.objects[names.KIND, *KEY]
    cluster.api.objects[names.KIND, *KEY] = behind
    await cluster.start()
    cluster.api.objects[names.KIND, *KEY] = fresh
    await cluster.reconciler.reconcile(KEY)
    assert ("Service", *KEY) in cluster.api.objects
    assert cluster.api.events == []
    assert cluster.status()["conditions"] == told["conditions"]


async def test_a_default_of_an_object_whose_labels_change_all_the_time_is_no_conflict(cluster: Cluster) -> None:
    await cluster.run()
    let_default_come_back(cluster, "sessionAffinity")

    cluster.edit("Service", partial(added, name="sessionAffinity"))
    for number in range(20):
        cluster.now += timedelta(seconds=1)
        cluster.edit("Service", partial(labelled, number=number))
        await cluster.run()
    assert drift_events(cluster) == []


def keep_service_as_it_is(cluster: Cluster) -> None:
    """A webhook takes out what we apply to it."""
    apply = cluster.api.apply

    async def unchanged(body: dict[str, Any]) -> dict[str, Any]:
        return copy.deepcopy(cluster.api.objects["Service", *KEY]) if body["kind"] == "Service" else await apply(body)

    cluster.api.apply = unchanged  # type: ignore[method-assign]


async def test_an_addition_to_an_object_that_a_webhook_strips_is_told(cluster: Cluster) -> None:
    await cluster.run()
    keep_service_as_it_is(cluster)
    cluster.edit("Service", lambda live: live["metadata"]["managedFields"][0]["fieldsV1"]["f:metadata"].pop("f:labels"))
    await cluster.run()
    cluster.edit("Service", partial(added, name="extra"))
    for _ in range(3):
        cluster.now += timedelta(minutes=1)
        await cluster.run()
    assert "extra" not in cluster.api.objects["Service", *KEY]["spec"]
    healed = ("DriftHealed", "Service mnist: spec.extra added by kubectl; it is as it should be again")
    assert drift_events(cluster) == [healed]


async def test_what_is_accepted_without_effect_is_not_tried_at_once(cluster: Cluster) -> None:
    await cluster.run()
    keep_service_as_it_is(cluster)
    cluster.edit("Service", spec_undone)
    assert (await cluster.run()).look_again_seconds is None
    assert drift_events(cluster) == []


async def test_an_endpoint_that_is_gone_is_forgotten(cluster: Cluster) -> None:
    await cluster.run()
    assert list(cluster.reconciler._healing.keys()) == [KEY]
    del cluster.api.objects[names.KIND, *KEY]
    await cluster.run()
    assert list(cluster.reconciler._healing.keys()) == []
    assert not any(memory for memory in vars(cluster.reconciler).values() if isinstance(memory, (dict, set)))


async def test_what_others_added_goes_first_where_ours_is_not_valid_beside_it(cluster: Cluster) -> None:
    await cluster.run()
    apply = cluster.api.apply

    async def validated(body: dict[str, Any]) -> dict[str, Any]:
        live = cluster.api.objects[body["kind"], *KEY]
        if "minAvailable" in live["spec"] and "maxUnavailable" in body["spec"]:
            raise ApiError(422, "Invalid", "minAvailable and maxUnavailable cannot be both set")
        return await apply(body)

    def change(live: dict[str, Any]) -> None:
        del live["spec"]["maxUnavailable"]
        live["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"].pop("f:maxUnavailable")
        added(live, "minAvailable")

    cluster.api.apply = validated  # type: ignore[method-assign]
    cluster.edit("PodDisruptionBudget", change)
    assert (await cluster.run()).is_settled
    spec = cluster.api.objects["PodDisruptionBudget", *KEY]["spec"]
    assert (spec.get("maxUnavailable"), "minAvailable" in spec) == (1, False)
    assert len(drift_events(cluster)) == 2


async def test_a_router_is_asked_again_while_only_it_knows_which_container_is_silent(cluster: Cluster) -> None:
    await cluster.run()
    template = cluster.api.objects["Deployment", *KEY]["metadata"]["annotations"][names.TEMPLATE_ANNOTATION]
    router = objects.running(names.ROUTER_CONTAINER) | {"ready": False}
    unready = {"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-01T01:00:00Z"}
    models = (objects.running("a"), objects.running("b"))
    pod = objects.pod(template, router, *models, podIP="10.0.0.1", conditions=[unready])
    cluster.api.store({"kind": "Pod", "apiVersion": "v1", **pod})
    deployment_is(cluster, "NewReplicaSetAvailable", 1, readyReplicas=0, availableReplicas=0)
    await cluster.run()
    cluster.now += timedelta(seconds=10)  # a status that only counts on is held back for so long
    assert (await cluster.run()).look_again_seconds == 30  # it has not answered; no object changes when it does


async def test_what_was_done_to_a_child_that_is_wanted_no_more_is_not_told_when_it_is_wanted_again(
    cluster: Cluster,
) -> None:
    await cluster.run()
    cluster.edit("PodDisruptionBudget", spec_undone)
    cluster.api.fail["apply", "PodDisruptionBudget"] = UNAVAILABLE
    await cluster.run()
    cluster.api.fail.clear()
    for replicas in (1, 2):
        cluster.edit(names.KIND, partial(rescaled, replicas=replicas))
        await cluster.run()
    assert ("PodDisruptionBudget", *KEY) in cluster.api.objects
    assert drift_events(cluster) == []


async def test_the_pass_that_applies_a_new_template_tells_nothing_of_the_old_pods(cluster: Cluster) -> None:
    await cluster.run()
    template = cluster.api.objects["Deployment", *KEY]["metadata"]["annotations"][names.TEMPLATE_ANNOTATION]
    crash = objects.waiting("a", "CrashLoopBackOff") | {"lastState": {"terminated": objects.ended(1, message="old")}}
    pod = objects.pod(template, crash, objects.running("b"))
    cluster.api.store({"kind": "Pod", "apiVersion": "v1", **pod})
    await cluster.run()
    assert cluster.status()["reason"] == "Exit"
    update(cluster, "new:1")
    await cluster.run()
    assert cluster.status()["observedGeneration"] == 2
    assert (cluster.status()["reason"], cluster.status()["failureReason"]) == ("Pending", "")
