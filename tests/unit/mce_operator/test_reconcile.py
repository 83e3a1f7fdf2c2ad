"""The pass against an API server in memory: what is written, how often, and what is not."""

import copy
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from mce_api import names
from mce_kit.kube import ApiError
from mce_operator.patience import AT_ONCE, PAUSE_SECONDS
from mce_operator.reconcile import DONE
from unit.mce_operator import objects
from unit.mce_operator.passes import (
    DEPLOYMENT,
    FIRST,
    KEY,
    KINDS,
    SERVICE_IS_BACK,
    STATUS,
    Cluster,
    begin_a_canary,
    deployment_is,
    drift_events,
    scaled_by_others,
    settled,
    surge,
    update,
)


async def test_a_new_endpoint_costs_one_write_per_child_and_one_status(cluster: Cluster) -> None:
    await cluster.reconciler.reconcile(KEY)
    assert cluster.writes() == FIRST
    assert (cluster.status()["state"], cluster.status()["observedGeneration"]) == ("Creating", 1)


async def test_a_second_pass_writes_nothing(cluster: Cluster) -> None:
    await cluster.run()
    await cluster.run()
    cluster.writes()
    await cluster.run()
    assert cluster.writes() == []


async def test_a_restart_writes_nothing(cluster: Cluster) -> None:
    await cluster.run()
    await cluster.run()
    cluster.writes()
    await cluster.start()
    await cluster.reconciler.reconcile(KEY)
    assert cluster.writes() == []


async def test_a_successor_whose_watch_lags_does_not_undo_what_its_predecessor_did(cluster: Cluster) -> None:
    await cluster.run()
    await cluster.start()  # the successor has its caches from before the change
    successor, cache = cluster.reconciler, cluster.cache
    update(cluster, "new:1")
    await cluster.start()
    await cluster.run()
    cluster.writes()
    cache.put("Deployment", cluster.api.objects["Deployment", *KEY])
    successor.take_over()
    await successor.reconcile(KEY)
    assert cluster.writes() == []
    assert "new:1" in str(cluster.api.objects["Deployment", *KEY]["spec"]["template"])
    # It loses the lead and wins it again; meanwhile the endpoint went, and a child differs from what it wants.
    del cluster.api.objects[names.KIND, *KEY]
    live = cluster.api.objects["Deployment", *KEY]
    cache.put("Deployment", cluster.api.store({**live, "metadata": {**live["metadata"], "managedFields": []}}))
    assert cache.get(names.KIND, KEY) is not None
    successor.take_over()
    assert await successor.reconcile(KEY) == DONE
    assert cluster.writes() == []


async def test_a_successor_that_has_not_heard_of_a_new_endpoint_of_that_name_leaves_its_children(
    cluster: Cluster,
) -> None:
    await cluster.run()
    await cluster.start()
    successor, cache = cluster.reconciler, cluster.cache
    cluster.edit(names.KIND, lambda live: live["metadata"].update(uid="reborn"))
    await cluster.start()
    for _ in range(2):
        await cluster.run()
    for kind in KINDS:
        cache.put(kind, cluster.api.objects[kind, *KEY])
    cluster.writes()
    await successor.reconcile(KEY)
    assert [write for write in cluster.writes() if write[1] != names.KIND] == []


@pytest.mark.parametrize("kind", KINDS)
async def test_a_deleted_child_is_made_again(cluster: Cluster, kind: str) -> None:
    await cluster.run()
    del cluster.api.objects[kind, *KEY]
    cluster.writes()
    await cluster.run()
    assert ("apply", kind) in cluster.writes()
    assert (kind, *KEY) in cluster.api.objects


async def test_an_edited_child_is_healed(cluster: Cluster) -> None:
    await cluster.run()
    cluster.edit("Deployment", scaled_by_others)
    cluster.writes()
    await cluster.run()
    assert ("apply", "Deployment") in cluster.writes()
    assert cluster.api.objects["Deployment", *KEY]["spec"]["replicas"] == 2


async def test_a_child_of_a_dead_owner_is_deleted_and_then_made_anew(cluster: Cluster) -> None:
    await cluster.run()
    cluster.edit(names.KIND, lambda live: live["metadata"].update(uid="reborn"))
    cluster.writes()
    outcome = await cluster.run()
    assert not outcome.is_settled
    assert [write for write in cluster.writes() if write[1] != names.KIND] == [("delete", kind) for kind in KINDS]
    assert (await cluster.run()).is_settled
    owner = cluster.api.objects["Deployment", *KEY]["metadata"]["ownerReferences"][0]
    assert owner["uid"] == "reborn"


async def test_what_others_add_is_taken_out_told_and_counted(cluster: Cluster) -> None:
    await cluster.run()
    await cluster.run()

    def add(live: dict[str, Any]) -> None:
        live["spec"]["template"]["spec"]["containers"].append({"name": "evil", "image": "x"})
        tree: dict[str, Any] = {"f:spec": {"f:template": {"f:spec": {"f:containers": {'k:{"name":"evil"}': {}}}}}}
        live["metadata"]["managedFields"].append({"manager": "kubectl-edit", "operation": "Update", "fieldsV1": tree})

    cluster.edit("Deployment", add)
    cluster.writes()
    cluster.api.events.clear()
    await cluster.run()
    assert cluster.writes() == [("patch", "Deployment")]
    pods = cluster.api.objects["Deployment", *KEY]["spec"]["template"]["spec"]
    assert [container["name"] for container in pods["containers"]] == ["a", "b"]
    (event,) = cluster.api.events
    assert (event["reason"], event["type"]) == ("DriftHealed", "Warning")
    assert event["note"].startswith("Deployment mnist: spec.template.spec.containers[name=evil] added by kubectl-edit;")
    text = cluster.metrics.render().decode()
    assert 'mce_operator_drift_healed_total{kind="Deployment",what="added"} 1.0' in text
    await cluster.run()
    assert cluster.writes() == []


async def test_a_deleted_child_is_told_but_not_one_that_is_made_for_the_first_time(cluster: Cluster) -> None:
    await cluster.run()
    assert [event["reason"] for event in cluster.api.events] == ["Creating"]
    del cluster.api.objects["Service", *KEY]
    await cluster.run()
    (event,) = cluster.api.events[1:]
    assert event["note"] == "Service mnist: deleted; it is as it should be again"


async def test_a_child_that_is_deleted_too_often_is_told_of_when_it_is_back(cluster: Cluster) -> None:
    await cluster.run()
    for _ in range(AT_ONCE):
        del cluster.api.objects["Service", *KEY]
        await cluster.run()
    cluster.api.events.clear()
    cluster.now += timedelta(minutes=4, seconds=59)
    for _ in range(AT_ONCE):
        cluster.edit("Service", lambda live: live["metadata"]["managedFields"][0]["fieldsV1"].pop("f:spec"))
        await cluster.run()
    cluster.now += timedelta(seconds=PAUSE_SECONDS - 1)
    del cluster.api.objects["Service", *KEY]
    for _ in range(2):  # it is looked at more often than it may be made again
        await cluster.run()
        assert ("Service", *KEY) not in cluster.api.objects
    assert SERVICE_IS_BACK not in drift_events(cluster)
    cluster.now += timedelta(seconds=1)
    await cluster.run()
    (event,) = [event for event in drift_events(cluster) if event[1].startswith(SERVICE_IS_BACK[1])]
    assert event == (SERVICE_IS_BACK[0], f"{SERVICE_IS_BACK[1]} (2 more times since 01:00:00 UTC)")
    assert 'healed_total{kind="Service",what="deleted"} 4.0' in cluster.metrics.render().decode()


async def test_a_child_that_could_not_be_made_again_at_first_is_told_of_when_it_is_back(cluster: Cluster) -> None:
    await cluster.run()
    del cluster.api.objects["Service", *KEY]
    cluster.api.fail["apply", "Service"] = ApiError(503, "ServiceUnavailable", "later")
    for _ in range(2):
        await cluster.run()
    assert drift_events(cluster) == []
    cluster.api.fail.clear()
    await cluster.run()
    assert drift_events(cluster) == [SERVICE_IS_BACK]


async def test_a_child_that_goes_while_a_pass_runs_is_told_of(cluster: Cluster) -> None:
    await cluster.run()
    del cluster.api.objects["NetworkPolicy", *KEY]
    apply = cluster.api.apply

    async def meanwhile(body: dict[str, Any]) -> dict[str, Any]:
        del cluster.api.objects["Service", *KEY]
        cluster.cache.drop("Service", KEY)
        return await apply(body)

    cluster.api.apply = meanwhile  # type: ignore[method-assign]
    await cluster.run()
    cluster.api.apply = apply  # type: ignore[method-assign]
    assert SERVICE_IS_BACK not in drift_events(cluster)
    await cluster.run()
    assert SERVICE_IS_BACK in drift_events(cluster)


async def test_a_child_whose_deletion_takes_time_is_told_of_when_it_is_back(cluster: Cluster) -> None:
    await cluster.run()
    cluster.edit("Service", lambda live: live["metadata"].update(deletionTimestamp="2026-01-01T01:00:00Z"))
    for _ in range(2):
        await cluster.run()
    del cluster.api.objects["Service", *KEY]
    await cluster.run()
    assert drift_events(cluster) == [SERVICE_IS_BACK]


async def test_a_child_that_is_wanted_no_more_and_then_again_is_no_drift(cluster: Cluster) -> None:
    await cluster.run()

    def scale(live: dict[str, Any], replicas: int) -> None:
        live["spec"]["replicas"] = replicas

    for replicas in (1, 2):
        cluster.edit(names.KIND, partial(scale, replicas=replicas))
        await cluster.run()
    assert drift_events(cluster) == []
    assert ("PodDisruptionBudget", *KEY) in cluster.api.objects


async def test_a_writer_that_never_stops_costs_a_bounded_rate_of_writes(cluster: Cluster) -> None:
    await cluster.run()
    cluster.writes()
    cluster.api.events.clear()

    def fight(live: dict[str, Any], step: int) -> None:
        live["spec"]["replicas"] = 5 + step % 2
        live["metadata"]["managedFields"] = [
            {"manager": "fighter", "operation": "Update", "fieldsV1": {"f:spec": {"f:replicas": {}}}},
            *(one for one in live["metadata"]["managedFields"] if one["manager"] != "fighter"),
        ]
        live["metadata"]["managedFields"][1]["fieldsV1"]["f:spec"].pop("f:replicas", None)
        live["status"] = objects.rolled_out(2, observedGeneration=step)

    for step in range(500):
        cluster.now += timedelta(seconds=0.02)  # 50 times a second
        cluster.edit("Deployment", partial(fight, step=step))
        outcome = await cluster.run()
        assert outcome.is_settled
    writes = cluster.writes()
    assert writes.count(("apply", "Deployment")) == 4  # 3 at once, 1 after 5 s; the next is due at 10 s
    assert len(writes) <= 8
    assert sorted(event["reason"] for event in cluster.api.events if event["reason"].startswith("Drift")) == [
        "DriftConflict",
        "DriftHealed",
    ]
    assert any(
        event["note"] == "Deployment mnist: spec.replicas edited by fighter, again and again; "
        "it is set right once in 5 s"
        for event in cluster.api.events
    )
    cluster.now += timedelta(seconds=5)
    await cluster.run()
    assert cluster.api.objects["Deployment", *KEY]["spec"]["replicas"] == 2


async def test_a_fighter_of_many_names_is_told_of_once(cluster: Cluster) -> None:
    await cluster.run()
    cluster.api.events.clear()

    def fight(live: dict[str, Any], step: int) -> None:
        live["metadata"]["managedFields"][0]["fieldsV1"].pop("f:spec", None)
        entry = {"manager": f"fighter-{step}", "operation": "Update", "fieldsV1": {"f:spec": {"f:ports": {}}}}
        live["metadata"]["managedFields"] = [live["metadata"]["managedFields"][0], entry]

    for step in range(20):
        cluster.edit("Service", partial(fight, step=step))
        await cluster.run()
    reasons = [event["reason"] for event in cluster.api.events]
    assert reasons.count("DriftConflict") == 1
    written = f'mce_operator_writes_total{{kind="Event",verb="create"}} {float(1 + len(reasons))}'
    assert written in cluster.metrics.render().decode()  # each in its turn, and counted


async def test_a_default_that_somebody_has_applied_is_not_taken_out_for_ever(cluster: Cluster) -> None:
    await cluster.run()

    def apply(live: dict[str, Any]) -> None:
        tree: dict[str, Any] = {"f:spec": {"f:sessionAffinity": {}}}
        live["metadata"]["managedFields"].append({"manager": "kubectl", "operation": "Apply", "fieldsV1": tree})

    async def patch(
        kind: str, namespace: str, name: str, body: dict[str, Any], subresource: str = ""
    ) -> dict[str, Any]:
        cluster.api.writes.append(("patch", kind))
        return await cluster.api.get(kind, namespace, name)  # the default is there again, and the field still kubectl's

    cluster.api.patch = patch  # type: ignore[method-assign]
    cluster.edit("Service", apply)
    cluster.writes()
    for _ in range(20):
        cluster.now += timedelta(seconds=5)
        await cluster.run()
    assert cluster.writes() == [("patch", "Service")]
    assert "DriftConflict" not in [event["reason"] for event in cluster.api.events]


async def test_a_fight_over_two_children_does_not_hide_what_becomes_of_a_new_spec(cluster: Cluster) -> None:
    await cluster.run()

    def fight(live: dict[str, Any]) -> None:
        live["metadata"]["managedFields"][0]["fieldsV1"].pop("f:spec", None)

    for step in range(160):  # one is set back in one half of every 5 s, the other in the other
        cluster.now += timedelta(seconds=0.25)
        if step == 80:
            cluster.edit(names.KIND, lambda live: live["metadata"].update(generation=2))
        cluster.edit("Service", fight)
        if step > 10:
            cluster.edit("Deployment", fight)
        await cluster.run()
    assert cluster.status()["observedGeneration"] == 2


async def test_a_child_whose_endpoint_label_was_changed_is_still_its_endpoints(cluster: Cluster) -> None:
    await cluster.run()

    def relabel(live: dict[str, Any]) -> None:
        live["metadata"]["labels"][names.ENDPOINT_LABEL] = "other"
        del live["metadata"]["managedFields"][0]["fieldsV1"]["f:metadata"]["f:labels"][f"f:{names.ENDPOINT_LABEL}"]

    cluster.edit("Service", relabel)
    assert cluster.cache.put("Service", cluster.api.objects["Service", *KEY]) == KEY
    await cluster.run()
    assert cluster.api.objects["Service", *KEY]["metadata"]["labels"][names.ENDPOINT_LABEL] == "mnist"


async def test_somebody_elses_object_is_never_touched(cluster: Cluster) -> None:
    theirs = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "mnist", "namespace": "team-a"}}
    stored = copy.deepcopy(cluster.api.store(theirs))
    outcome = await cluster.run()
    assert cluster.writes() == [("status", names.KIND)]
    assert cluster.api.objects["Service", *KEY] == stored
    assert cluster.status()["reason"] == "NameTaken"
    assert outcome.look_again_seconds == 30


async def test_a_child_that_lost_our_label_is_taken_back(cluster: Cluster) -> None:
    await cluster.run()

    def unlabel(live: dict[str, Any]) -> None:
        live["metadata"]["labels"][names.MANAGED_BY_LABEL] = "somebody"
        del live["metadata"]["managedFields"][0]["fieldsV1"]["f:metadata"]["f:labels"]

    cluster.edit("Service", unlabel)
    cluster.writes()
    await cluster.run()
    assert cluster.writes()[0] == ("apply", "Service")


async def test_an_invalid_stored_endpoint_gets_a_status_and_no_crash(cluster: Cluster) -> None:
    cluster.edit(names.KIND, lambda live: live["spec"].update(containers=[]))
    assert (await cluster.run()).is_settled
    assert cluster.writes() == [("status", names.KIND)]
    assert cluster.status()["reason"] == "InvalidSpec"


async def test_an_endpoint_on_its_way_out_gets_no_children(cluster: Cluster) -> None:
    cluster.edit(names.KIND, lambda live: live["metadata"].update(deletionTimestamp="2026-01-01T00:00:00Z"))
    await cluster.run()
    assert cluster.writes() == [("status", names.KIND)]
    assert cluster.status()["state"] == "Deleting"


async def test_an_endpoint_that_is_gone_takes_its_series_with_it(cluster: Cluster) -> None:
    await cluster.run()
    assert b'mce_endpoint_state{endpoint="mnist"' in cluster.metrics.render()
    del cluster.api.objects[names.KIND, *KEY]
    assert (await cluster.run()).is_settled
    assert b'mce_endpoint_state{endpoint="mnist"' not in cluster.metrics.render()


async def test_a_refused_write_is_told_and_tried_again(cluster: Cluster) -> None:
    cluster.api.fail["apply", "Service"] = ApiError(403, "Forbidden", "exceeded quota")
    outcome = await cluster.run()
    assert not outcome.is_settled
    assert cluster.status()["failureReason"] == "Service mnist cannot be written: Forbidden: exceeded quota"
    cluster.api.fail.clear()
    assert (await cluster.run()).is_settled
    assert cluster.status()["failureReason"] == ""


async def test_nothing_is_tried_again_in_a_namespace_that_goes_away(cluster: Cluster) -> None:
    text = "unable to create new content in namespace team-a because it is being terminated"
    cluster.api.fail["apply", "ServiceAccount"] = ApiError(403, "Forbidden", text)
    assert (await cluster.run()).is_settled


async def test_a_status_is_never_written_to_another_endpoint_of_the_same_name(cluster: Cluster) -> None:
    apply = cluster.api.apply

    async def applied(body: dict[str, Any]) -> dict[str, Any]:
        raw = copy.deepcopy(cluster.api.objects[names.KIND, *KEY])
        raw["metadata"]["uid"] = "reborn"
        cluster.cache.put(names.KIND, cluster.api.store(raw))
        return await apply(body)

    cluster.api.apply = applied  # type: ignore[method-assign]
    await cluster.reconciler.reconcile(KEY)
    assert ("status", names.KIND) not in cluster.writes()


async def test_one_event_per_transition(cluster: Cluster) -> None:
    await cluster.run()
    await cluster.run()
    assert [(event["reason"], event["type"]) for event in cluster.api.events] == [("Creating", "Normal")]
    cluster.edit(names.KIND, lambda live: live["spec"].update(containers=[]))
    await cluster.run()
    assert [(event["reason"], event["type"]) for event in cluster.api.events[1:]] == [("InvalidSpec", "Warning")]


async def test_the_whole_way_into_service(cluster: Cluster) -> None:
    await cluster.run()
    template = objects.template_hash(objects.endpoint(replicas=2))
    for number in range(2):
        up = objects.pod(template, objects.running("a"), objects.running("b"), name=f"mnist-{number}")
        cluster.api.store({"kind": "Pod", "apiVersion": "v1", **up})
    cluster.edit("Deployment", lambda live: live.update(status=objects.rolled_out(2)))
    await cluster.run()
    assert (cluster.status()["state"], cluster.status()["containersReady"]) == ("InService", "2/2")


async def test_an_update_a_rollback_and_a_fix_cost_one_write_of_the_deployment_each(cluster: Cluster) -> None:
    await cluster.run()
    await settled(cluster)
    cluster.writes()

    update(cluster, "bad:1")
    await cluster.run()
    assert cluster.writes() == [DEPLOYMENT, STATUS]
    assert cluster.status()["state"] == "Updating"
    deployment_is(cluster, "ProgressDeadlineExceeded", replicas=3)
    await cluster.run()
    assert cluster.writes() == [DEPLOYMENT, STATUS]
    assert cluster.status()["state"] == "RollingBack"
    await settled(cluster)
    assert cluster.writes() == [STATUS]
    assert (cluster.status()["state"], cluster.status()["reason"]) == ("InService", "RolledBack")

    await cluster.start()
    await cluster.run()
    assert cluster.writes() == []
    update(cluster, "fixed:1")
    await cluster.run()
    await settled(cluster)
    assert cluster.writes() == [DEPLOYMENT, STATUS, STATUS]
    assert (cluster.status()["state"], cluster.status()["reason"]) == ("InService", "")


async def test_a_canary_costs_one_write_for_the_canary_and_one_for_the_others(cluster: Cluster) -> None:
    await begin_a_canary(cluster)
    cluster.now += timedelta(seconds=11)  # a status that only counts on is held back for 10
    outcome = await cluster.run()
    assert outcome.look_again_seconds == 49
    assert cluster.status()["rollout"]["message"] == "Canary: 1 of 1 pods bakes until 01:01:00 UTC"
    written = cluster.writes()
    assert written.count(DEPLOYMENT) == 1
    for _ in range(3):
        cluster.now += timedelta(seconds=16)
        await cluster.run()
    assert cluster.writes() == []
    cluster.now += timedelta(seconds=2)
    await cluster.run()
    assert cluster.writes() == [DEPLOYMENT, STATUS]
    assert surge(cluster) == "100%"


async def test_with_availability_any_the_service_is_prepared_once_and_put_back_before_the_pods_change(
    cluster: Cluster,
) -> None:
    cluster.edit(names.KIND, lambda live: live["spec"].update(availability="Any", replicas=1))
    await cluster.run()
    template = objects.template_hash(objects.endpoint(availability="Any", replicas=1))
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    pod = objects.pod(template, objects.running("a"), objects.running("b"), conditions=[ready])
    cluster.api.store({"kind": "Pod", "apiVersion": "v1", **pod})
    cluster.edit("Deployment", lambda live: live.update(status=objects.rolled_out()))
    cluster.writes()
    await cluster.run()
    assert cluster.writes().count(("apply", "Service")) == 1
    assert cluster.api.objects["Service", *KEY]["spec"]["publishNotReadyAddresses"]
    await cluster.run()
    cluster.writes()
    await cluster.run()
    await cluster.start()
    await cluster.run()
    assert cluster.writes() == []
    cluster.edit(names.KIND, lambda live: live["spec"].update(pod={"labels": {"a": "b"}}))
    await cluster.run()
    applied = [kind for verb, kind in cluster.writes() if verb == "apply"]
    assert applied == ["Service", "Deployment"]
    assert not cluster.api.objects["Service", *KEY]["spec"]["publishNotReadyAddresses"]
