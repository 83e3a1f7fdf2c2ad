"""How often the operator writes, per scenario: every event that brings news runs a pass, as in a real cluster."""

from datetime import timedelta
from typing import Any

import pytest

from mce_api import names
from mce_operator.reconcile import Outcome
from unit.mce_operator import objects
from unit.mce_operator.passes import FIRST, KEY, Cluster

STATUS = ("status", names.KIND)
ALONE = [write for write in FIRST if write != ("apply", "PodDisruptionBudget")]
"""What is made for one replica."""
NEW_TEMPLATE = [("apply", "Deployment"), STATUS]


@pytest.fixture
async def cluster() -> Cluster:
    made = Cluster()
    made.api.store(objects.document())
    await made.start()
    return made


async def tell(cluster: Cluster, seconds: float, *statuses: dict[str, Any], **deployment: Any) -> Outcome:
    """`seconds` later the kubelet and the Deployment's controller have something new to say."""
    cluster.now += timedelta(seconds=seconds)
    template = cluster.api.objects["Deployment", *KEY]["spec"]["template"]["metadata"]["annotations"]
    pod = objects.pod(template[names.HASH_ANNOTATION], *statuses)
    cluster.api.store({"kind": "Pod", "apiVersion": "v1", **pod})
    generation = cluster.api.objects["Deployment", *KEY]["metadata"]["generation"]
    told = objects.rolled_out(0, **{**deployment, "observedGeneration": generation})
    cluster.edit("Deployment", lambda live: live.update(status=told))
    return await cluster.run()


async def start_up(cluster: Cluster) -> Outcome:
    """What is seen of one replica of two containers that start well within three seconds."""
    made = {"replicas": 1, "updatedReplicas": 1}
    a, b = (objects.waiting(name, "PodInitializing") for name in ("a", "b"))
    await tell(cluster, 0.05)
    await tell(cluster, 0.05, **made)
    await tell(cluster, 0.2, a, b, **made)
    silent = [objects.running(name, since=f"{cluster.now:%Y-%m-%dT%H:%M:%SZ}", up=False) for name in ("a", "b")]
    await tell(cluster, 0.5, silent[0], b, **made)
    await tell(cluster, 0.3, *silent, **made)
    await tell(cluster, 0.6, objects.running("a"), silent[1], **made)
    await tell(cluster, 0.4, objects.running("a"), objects.running("b"), **made)
    await tell(cluster, 0.1, objects.running("a"), objects.running("b"), **made, readyReplicas=1)
    return await tell(cluster, 0.1, objects.running("a"), objects.running("b"), **objects.rolled_out())


async def test_a_first_start_is_one_status_when_it_begins_and_one_when_it_serves(cluster: Cluster) -> None:
    await cluster.run()
    assert cluster.writes() == ALONE
    await start_up(cluster)
    assert cluster.writes() == [STATUS]
    assert (cluster.status()["state"], cluster.status()["containersReady"]) == ("InService", "2/2")


async def test_a_slow_start_is_told_every_ten_seconds(cluster: Cluster) -> None:
    await cluster.run()
    cluster.writes()
    made = {"replicas": 1, "updatedReplicas": 1}
    silent = [objects.running(name, since=f"{cluster.now:%Y-%m-%dT%H:%M:%SZ}", up=False) for name in ("a", "b")]
    outcome = await tell(cluster, 1, *silent, **made)
    assert cluster.writes() == []
    assert outcome.look_again_seconds == pytest.approx(9)
    await tell(cluster, 9, *silent, **made)
    assert cluster.writes() == [STATUS]
    assert cluster.status()["reason"] == "Starting"


async def test_a_steady_state_writes_nothing(cluster: Cluster) -> None:
    await cluster.run()
    await start_up(cluster)
    cluster.writes()
    for _ in range(5):
        cluster.now += timedelta(minutes=10)
        assert (await cluster.run()).look_again_seconds is None
    assert cluster.writes() == []


async def test_a_restart_in_a_steady_state_writes_nothing(cluster: Cluster) -> None:
    await cluster.run()
    await start_up(cluster)
    cluster.writes()
    await cluster.start()
    await cluster.run()
    assert cluster.writes() == []


async def test_a_restart_in_the_middle_of_a_start_writes_at_most_what_was_held_back(cluster: Cluster) -> None:
    await cluster.run()
    made = {"replicas": 1, "updatedReplicas": 1}
    await tell(cluster, 1, objects.running("a"), objects.waiting("b", "PodInitializing"), **made)
    cluster.writes()
    await cluster.start()
    await cluster.run()
    assert cluster.writes() == [STATUS]
    await cluster.start()
    await cluster.run()
    assert cluster.writes() == []


async def test_an_update_is_one_apply_one_status_and_one_more_when_it_serves(cluster: Cluster) -> None:
    await cluster.run()
    await start_up(cluster)
    cluster.writes()

    def edit(live: dict[str, Any]) -> None:
        live["spec"]["containers"][0]["image"] = "registry.example/a:2"
        live["metadata"]["generation"] = 2

    cluster.edit(names.KIND, edit)
    await cluster.run()
    assert cluster.writes() == NEW_TEMPLATE
    assert (cluster.status()["state"], cluster.status()["observedGeneration"]) == ("Updating", 2)
    await start_up(cluster)
    assert cluster.writes() == [STATUS]
    assert cluster.status()["state"] == "InService"


async def test_a_change_of_the_children_alone_needs_no_event_to_be_told(cluster: Cluster) -> None:
    await cluster.run()
    await start_up(cluster)

    def spoil(live: dict[str, Any]) -> None:
        live["metadata"]["annotations"][names.HASH_ANNOTATION] = "spoilt"

    cluster.edit("Deployment", spoil)
    cluster.writes()
    await cluster.run()
    assert cluster.writes() == [("apply", "Deployment")]
    assert cluster.status()["state"] == "InService"


async def test_restarts_are_counted_once_in_ten_seconds_and_a_failure_is_told_at_once(cluster: Cluster) -> None:
    await cluster.run()
    await start_up(cluster)
    cluster.now += timedelta(minutes=1)
    cluster.writes()

    def dead(restarts: int) -> dict[str, Any]:
        return objects.waiting(
            "a", "CrashLoopBackOff", restartCount=restarts, lastState={"terminated": objects.ended(restarts)}
        )

    numbers = {"replicas": 1, "updatedReplicas": 1}
    await tell(cluster, 1, dead(1), objects.running("b"), **numbers)
    assert cluster.writes() == [STATUS]
    assert cluster.status()["containers"][0]["reason"] == "Exit"
    for restarts in range(2, 11):
        await tell(cluster, 1, dead(restarts), objects.running("b"), **numbers)
    assert cluster.writes() == []
    await tell(cluster, 1, dead(11), objects.running("b"), **numbers)
    assert cluster.writes() == [STATUS]
    assert cluster.status()["containers"][0]["restarts"] == 11
    await tell(cluster, 1, objects.running("a"), objects.running("b"), **objects.rolled_out())
    assert cluster.writes() == [STATUS]
    assert cluster.status()["state"] == "InService"


async def test_a_deletion_writes_nothing(cluster: Cluster) -> None:
    await cluster.run()
    await start_up(cluster)
    cluster.writes()
    del cluster.api.objects[names.KIND, *KEY]
    await cluster.run()
    assert cluster.writes() == []
