"""The budget of a generation that came while suspended, pass by pass."""

from datetime import timedelta
from typing import Any

from mce_api import names
from mce_kit.kube import ApiError
from unit.mce_operator import objects
from unit.mce_operator.passes import KEY, Cluster

SETTLED = {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable", "message": ""}


def deployment_says(cluster: Cluster, replicas: int, available: int = 0) -> None:
    def change(live: dict[str, Any]) -> None:
        live["status"] = {
            "observedGeneration": live["metadata"]["generation"],
            "replicas": replicas,
            "updatedReplicas": replicas,
            "readyReplicas": available,
            "availableReplicas": available,
            "conditions": [SETTLED],
        }

    cluster.edit("Deployment", change)


def want(cluster: Cluster, **spec: Any) -> None:
    def change(live: dict[str, Any]) -> None:
        live["spec"] |= spec
        live["metadata"]["generation"] += 1

    cluster.edit(names.KIND, change)


def pods_fail(cluster: Cluster) -> None:
    template = cluster.api.objects["Deployment", *KEY]["metadata"]["annotations"][names.TEMPLATE_ANNOTATION]
    cluster.api.store({"kind": "Pod", **objects.pod(template, objects.waiting("a", "ErrImagePull", "denied"))})


async def test_an_overdue_generation_with_no_way_back_stays_failed() -> None:
    cluster = Cluster()
    cluster.api.store(objects.document(suspend=True, replicas=1))
    await cluster.start()
    await cluster.run()
    deployment_says(cluster, 0)
    await cluster.run()
    assert cluster.status()["state"] == "OutOfService"
    want(cluster, suspend=False)
    await cluster.run()
    deployment_says(cluster, 1)
    pods_fail(cluster)
    await cluster.run()
    assert cluster.status()["state"] in {"Creating", "Updating"}
    cluster.now += timedelta(hours=1)
    states = []
    for _ in range(4):  # a pass every half minute: events of the pod, of its back-off
        await cluster.run()
        states.append(cluster.status()["state"])
        cluster.now += timedelta(seconds=30)
    assert states == ["Failed"] * 4


async def test_the_budget_begins_when_the_pods_are_wanted_and_not_when_something_else_was_under_way() -> None:
    cluster = Cluster()
    cluster.api.store(objects.document(replicas=2))
    await cluster.start()
    await cluster.run()
    deployment_says(cluster, 2, available=2)
    await cluster.run()
    assert cluster.status()["state"] == "InService"
    want(cluster, suspend=True, pod={"annotations": {"turn": "2"}})
    await cluster.run()
    deployment_says(cluster, 0)
    await cluster.run()
    assert cluster.status()["state"] == "OutOfService"
    assert names.UNTRIED_ANNOTATION in cluster.api.objects["Deployment", *KEY]["metadata"]["annotations"]
    # While it is suspended a child that somebody has edited can not be written (rights, a webhook), for an hour.
    cluster.api.fail["apply", "NetworkPolicy"] = ApiError(403, "Forbidden", "no")
    cluster.edit("NetworkPolicy", lambda live: live["metadata"]["annotations"].update({names.HASH_ANNOTATION: "x"}))
    await cluster.run()
    cluster.now += timedelta(hours=1)
    await cluster.run()
    cluster.api.fail.clear()  # mended, and resumed before the next try
    want(cluster, suspend=False)
    await cluster.run()  # its pods are made only now
    before = cluster.api.objects["Deployment", *KEY]["metadata"]["annotations"]
    assert names.REJECTED_ANNOTATION not in before, before[names.REJECTED_ANNOTATION]
    deployment_says(cluster, 2)
    await cluster.run()
    rejected = cluster.api.objects["Deployment", *KEY]["metadata"]["annotations"].get(names.REJECTED_ANNOTATION)
    assert rejected is None, rejected
