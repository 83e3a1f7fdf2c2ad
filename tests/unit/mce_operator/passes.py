"""Passes over one endpoint against an API server in memory, and what others do meanwhile."""

import copy
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from mce_api import names
from mce_operator import sync
from mce_operator.apply import Writer
from mce_operator.cache import Cache
from mce_operator.events import Recorder
from mce_operator.key import Key
from mce_operator.metrics import Metrics
from mce_operator.reconcile import Outcome, Reconciler
from mce_operator.sync import Scope
from mce_operator.throttle import Bucket, Throttle
from unit.mce_operator import objects
from unit.mce_operator.fake_api import FakeApi, FakeRouters

KEY = Key("team-a", "mnist")
KINDS = ("ServiceAccount", "NetworkPolicy", "Service", "Deployment", "PodDisruptionBudget")
DEPLOYMENT, STATUS = ("apply", "Deployment"), ("status", names.KIND)
SERVICE_IS_BACK = ("DriftHealed", "Service mnist: deleted; it is as it should be again")
FIRST = [*(("apply", kind) for kind in KINDS), ("status", names.KIND)]


class Cluster:
    """A fake API server with an operator; `start` is a new operator process with empty caches."""

    def __init__(self) -> None:
        self.api = FakeApi()
        self.now = datetime(2026, 1, 1, 1, 0, tzinfo=UTC)

    async def start(self) -> None:
        self.cache, self.metrics = Cache(), Metrics()
        await sync.fill(self.api, self.cache, Scope())
        utc: Callable[[], datetime] = lambda: self.now  # noqa: E731
        throttle = Throttle(Bucket(rate=1, burst=1000), lambda: 0.0, self.metrics.held_back)
        self.reconciler = Reconciler(
            api=self.api,
            cache=self.cache,
            writer=Writer(self.api, self.cache, self.metrics, throttle),
            recorder=Recorder("test", utc),
            metrics=self.metrics,
            routers=FakeRouters(),
            setup=objects.ROUTER,
            utc=utc,
        )

    async def run(self) -> Outcome:
        """Lets all events arrive, and runs one pass."""
        await sync.fill(self.api, self.cache, Scope())
        return await self.reconciler.reconcile(KEY)

    def writes(self) -> list[tuple[str, str]]:
        taken, self.api.writes = self.api.writes, []
        return taken

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.api.objects[names.KIND, *KEY]["status"]
        return found

    def edit(self, kind: str, change: Callable[[dict[str, Any]], None]) -> None:
        live = copy.deepcopy(self.api.objects[kind, *KEY])
        change(live)
        self.api.store(live)


def drift_events(cluster: Cluster) -> list[tuple[str, str]]:
    return [(event["reason"], event["note"]) for event in cluster.api.events if event["reason"].startswith("Drift")]


def deployment_is(cluster: Cluster, reason: str, pods: int = 2, **numbers: int) -> None:
    """The Deployment's controller has gone on."""
    live = cluster.api.objects["Deployment", *KEY]
    condition = {"type": "Progressing", "status": "True", "reason": reason, "message": ""}
    if reason == "ProgressDeadlineExceeded":
        condition |= {"status": "False", "message": 'ReplicaSet "mnist-2" has timed out progressing.'}
    generation = live["metadata"]["generation"]
    status = objects.rolled_out(pods, **numbers, observedGeneration=generation, conditions=[condition])
    cluster.edit("Deployment", lambda live: live.update(status=status))


async def settled(cluster: Cluster, pods: int = 2) -> None:
    deployment_is(cluster, "NewReplicaSetAvailable", pods)
    await cluster.run()
    await cluster.run()


def update(cluster: Cluster, image: str) -> None:
    def change(live: dict[str, Any]) -> None:
        live["metadata"]["generation"] += 1
        live["spec"]["containers"][0]["image"] = image

    cluster.edit(names.KIND, change)


async def begin_a_canary(cluster: Cluster) -> None:
    """One replica serves, and one of the next generation, which has begun to bake for 60 s now."""
    rollout = {"strategy": "Canary", "stepPercent": 50, "bakeSeconds": 60}
    cluster.edit(names.KIND, lambda live: live["spec"].update(rollout=rollout, replicas=1))
    await cluster.run()
    _add_pod(cluster)
    await settled(cluster, 1)
    cluster.writes()
    update(cluster, "new:1")
    await cluster.run()
    _add_pod(cluster)
    deployment_is(cluster, "ReplicaSetUpdated", 1, replicas=2)


def _add_pod(cluster: Cluster) -> None:
    template = cluster.api.objects["Deployment", *KEY]["metadata"]["annotations"][names.TEMPLATE_ANNOTATION]
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": f"{cluster.now:%Y-%m-%dT%H:%M:%SZ}"}
    made = objects.pod(template, objects.running("a"), name=template, conditions=[ready])
    cluster.api.store({"kind": "Pod", "apiVersion": "v1", **made})


def surge(cluster: Cluster) -> Any:
    """How many pods of the next generation the Deployment may have at once."""
    return cluster.api.objects["Deployment", *KEY]["spec"]["strategy"]["rollingUpdate"]["maxSurge"]


def scaled_by_others(live: dict[str, Any]) -> None:
    """Somebody has set `spec.replicas` of our Deployment, which is his by that."""
    live["spec"]["replicas"] = 7
    live["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"].pop("f:replicas", None)
