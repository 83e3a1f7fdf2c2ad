"""The loop that moves replicas, against an API server in memory: what it reads, what it writes, and how often."""

import copy
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mce_api import names, wire
from mce_kit.clock import Clock
from mce_kit.kube import ApiError
from mce_kit.usage import Usage
from mce_operator import sync
from mce_operator.apply import Writer
from mce_operator.autoscale import INTERVAL_SECONDS, Load
from mce_operator.cache import Cache
from mce_operator.events import Recorder
from mce_operator.key import Key
from mce_operator.metrics import Metrics
from mce_operator.observed import Pod
from mce_operator.reconcile import Reconciler
from mce_operator.scaler import Scaler
from mce_operator.sync import Scope
from mce_operator.throttle import Bucket, Throttle
from unit.mce_operator import objects
from unit.mce_operator.fake_api import FakeApi, FakeRouters

KEY = Key("team-a", "mnist")
BY_INVOCATIONS = {
    "maxReplicas": 4,
    "scaleInCooldownSeconds": 60,
    "scaleOutCooldownSeconds": 0,
    "minReplicas": 1,
    "metrics": [{"type": "InvocationsPerReplica", "target": 100}],
}
BY_CPU = {"maxReplicas": 4, "metrics": [{"type": "ContainerCPU", "container": "a", "targetPercent": 50}]}
SCALE, STATUS = ("scale", names.KIND), ("status", names.KIND)


class Cluster:
    """A fake API server with an operator and pods as many as wanted; `start` is a new operator process."""

    def __init__(self, **spec: Any) -> None:
        self.api = FakeApi()
        self.seconds = 0.0
        self.per_minute = 0.0
        self.counted: dict[str, float] = {}
        self.cpu: float | None = None
        self.silent = False
        self.asked: list[str] = []
        self.woken: list[Key] = []
        a = objects.container("a", resources={"requests": {"cpu": 1}})
        self.api.store(objects.document(a, **{"replicas": 1, "autoscaling": BY_INVOCATIONS, **spec}))

    async def start(self) -> None:
        self.cache, metrics = Cache(), Metrics()
        throttle = Throttle(Bucket(rate=1, burst=1000), lambda: 0.0, metrics.held_back)
        writer = Writer(self.api, self.cache, metrics, throttle)
        start = datetime(2026, 1, 1, 1, 0, tzinfo=UTC)
        clock = Clock(utc=lambda: start + timedelta(seconds=self.seconds), monotonic=lambda: self.seconds)
        self.scaler = Scaler(
            cache=self.cache,
            loads=self.loads,
            usage=self.usage,
            write=writer.scale,
            wake=self.woken.append,
            clock=clock,
        )
        self.reconciler = Reconciler(
            api=self.api,
            cache=self.cache,
            writer=writer,
            recorder=Recorder("test", clock.utc),
            metrics=metrics,
            routers=FakeRouters(),
            setup=objects.ROUTER,
            utc=clock.utc,
            scaling=self.scaler.scaling,
        )
        await self.settle()

    async def loads(self, pods: Iterable[Pod]) -> Mapping[str, Mapping[str, Load]]:
        found = [pod.name for pod in pods]
        self.asked += found
        for name in found:
            share = self.per_minute / len(found) * INTERVAL_SECONDS / 60
            self.counted[name] = self.counted.get(name, 0) + share
        return {} if self.silent else {name: {"a": Load(invocations=self.counted[name])} for name in found}

    def usage(self) -> Iterable[Usage]:
        pods = self.cache.pods(KEY) if self.cpu is not None else ()
        for pod in pods:
            yield Usage(
                namespace="team-a",
                endpoint="mnist",
                variant=wire.DEFAULT_VARIANT,
                container="a",
                pod=pod["metadata"]["name"],
                cpu_cores=(self.cpu or 0) / len(pods),
                memory_bytes=1,
            )

    async def settle(self) -> None:
        """Two passes, with as many ready pods as the Deployment wants."""
        for _ in range(2):
            await sync.fill(self.api, self.cache, Scope())
            await self.reconciler.reconcile(KEY)
            wanted = self.api.objects["Deployment", *KEY]["spec"]["replicas"]
            for number in range(10):
                address = ("Pod", "team-a", f"mnist-{number}")
                if number >= wanted:
                    self.api.objects.pop(address, None)
                    self.counted.pop(address[2], None)
                elif address not in self.api.objects:
                    conditions = [{"type": "Ready", "status": "True"}]
                    raw = objects.pod("t", objects.running("a"), name=address[2], conditions=conditions)
                    self.api.store({"kind": "Pod", "apiVersion": "v1", **raw})
        await sync.fill(self.api, self.cache, Scope())
        self.woken.clear()

    async def rounds(self, count: int, per_minute: float = 0) -> None:
        for _ in range(count):
            self.seconds += INTERVAL_SECONDS
            self.per_minute = per_minute
            await sync.fill(self.api, self.cache, Scope())
            await self.scaler.round()
            await self.settle()

    def writes(self) -> list[tuple[str, str]]:
        taken, self.api.writes = self.api.writes, []
        return taken

    @property
    def endpoint(self) -> dict[str, Any]:
        return self.api.objects[names.KIND, *KEY]

    @property
    def replicas(self) -> int:
        return int(self.endpoint["spec"]["replicas"])

    @property
    def told(self) -> dict[str, Any]:
        found: dict[str, Any] = self.endpoint["status"]["autoscaling"]
        return found

    def edit(self, **spec: Any) -> None:
        live = copy.deepcopy(self.endpoint)
        live["spec"].update(spec)
        self.api.store(live)


@pytest.fixture
async def cluster() -> Cluster:
    made = Cluster()
    await made.start()
    made.writes()
    return made


async def test_steady_demand_costs_one_status_for_the_first_figures_and_then_nothing(cluster: Cluster) -> None:
    await cluster.rounds(4, 80)
    assert cluster.writes() == [STATUS]
    await cluster.rounds(30, 80)
    assert cluster.writes() == []
    assert cluster.told["metric"] == "InvocationsPerReplica"


async def test_more_demand_moves_the_replicas_of_the_endpoint_itself(cluster: Cluster) -> None:
    await cluster.rounds(8, 290)
    assert cluster.replicas == 3
    assert cluster.api.objects["Deployment", *KEY]["spec"]["replicas"] == 3
    assert cluster.told["desiredReplicas"] == 3
    assert cluster.told["container"] == "a"
    assert "asks for 3" in cluster.told["message"]
    assert cluster.told["lastScaleTime"]


async def test_an_endpoint_with_a_field_of_a_newer_definition_is_scaled_all_the_same(cluster: Cluster) -> None:
    cluster.edit(fieldOfTomorrow=True)
    await cluster.rounds(4, per_minute=1000)
    assert cluster.replicas > 1


async def test_one_scale_and_one_deployment_per_change_of_replicas(cluster: Cluster) -> None:
    await cluster.rounds(3, 80)
    cluster.writes()
    before = cluster.replicas
    while cluster.replicas == before:
        await cluster.rounds(1, 1000)
    found = cluster.writes()
    assert (found.count(SCALE), found.count(("apply", "Deployment")), found.count(STATUS)) == (1, 1, 1)


async def test_the_pass_that_carries_a_change_of_replicas_out_tells_why(cluster: Cluster) -> None:
    for _ in range(2):
        cluster.seconds += INTERVAL_SECONDS
        cluster.per_minute = 1600
        await cluster.scaler.round()
    assert cluster.replicas > 1
    await sync.fill(cluster.api, cluster.cache, Scope())
    await cluster.reconciler.reconcile(KEY)
    assert cluster.told["desiredReplicas"] == cluster.replicas
    assert cluster.told["metric"] == "InvocationsPerReplica"


async def test_no_demand_brings_it_down_to_the_least(cluster: Cluster) -> None:
    await cluster.rounds(8, 1000)
    assert cluster.replicas == 4
    await cluster.rounds(12)
    assert cluster.replicas == 1


async def test_a_restart_writes_nothing_and_takes_nothing_away_for_a_whole_cooldown(cluster: Cluster) -> None:
    await cluster.rounds(8, 290)
    cluster.writes()
    await cluster.start()
    await cluster.rounds(5)
    assert cluster.writes() == []
    assert cluster.replicas == 3


async def test_a_kill_between_the_scale_and_the_status_is_made_good(cluster: Cluster) -> None:
    await cluster.rounds(3, 80)
    cluster.edit(replicas=3)  # as the process that died has left it
    await cluster.start()
    assert cluster.told["desiredReplicas"] == 3
    await cluster.rounds(3, 290)
    assert cluster.told["metric"] == "InvocationsPerReplica"


async def test_replicas_outside_of_the_bounds_are_brought_in(cluster: Cluster) -> None:
    cluster.edit(replicas=9)
    await cluster.settle()
    assert cluster.api.objects["Deployment", *KEY]["spec"]["replicas"] == 4  # at once
    await cluster.rounds(1)
    assert cluster.replicas == 4
    cluster.edit(replicas=0)
    await cluster.settle()
    await cluster.rounds(1)
    assert cluster.replicas == 1


async def test_replicas_added_by_hand_go_again_when_nothing_has_asked_for_them_for_a_cooldown(cluster: Cluster) -> None:
    await cluster.rounds(10, 80)
    cluster.edit(replicas=3)
    await cluster.rounds(1, 80)
    assert cluster.replicas == 1
    assert cluster.told["desiredReplicas"] == 1


async def test_while_suspended_nothing_is_read_or_scaled_and_the_replicas_are_kept(cluster: Cluster) -> None:
    await cluster.rounds(8, 290)
    cluster.edit(suspend=True)
    await cluster.settle()
    cluster.asked.clear()
    cluster.writes()
    await cluster.rounds(20)
    assert (cluster.asked, cluster.writes(), cluster.replicas) == ([], [], 3)
    assert "autoscaling" not in cluster.endpoint["status"]
    cluster.edit(suspend=False)
    await cluster.rounds(2)
    assert cluster.api.objects["Deployment", *KEY]["spec"]["replicas"] == 3


async def test_silent_routers_are_told_and_nothing_is_taken_away(cluster: Cluster) -> None:
    await cluster.rounds(8, 290)
    cluster.writes()
    cluster.silent = True
    await cluster.rounds(30)
    assert cluster.writes() == [STATUS]
    assert "no figures" in cluster.told["message"]
    assert cluster.replicas == 3
    cluster.silent = False
    await cluster.rounds(20, 0)
    assert cluster.replicas == 1


async def test_a_refused_write_is_tried_again_and_not_told_as_done(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    cluster.api.fail[SCALE] = ApiError(403, "Forbidden", "no")
    await cluster.rounds(8, 290)
    assert cluster.told["desiredReplicas"] == 1
    assert "403" in str(caplog.records[-1].__dict__["error"])
    cluster.api.fail.clear()
    await cluster.rounds(1, 290)
    assert cluster.replicas == 3


async def test_replicas_that_somebody_changes_meanwhile_are_not_overwritten(cluster: Cluster) -> None:
    await cluster.rounds(3, 80)
    cluster.edit(replicas=2)  # the cache has not heard of it
    cluster.seconds += INTERVAL_SECONDS
    cluster.per_minute = 1000
    await cluster.scaler.round()
    assert cluster.replicas == 2


async def test_a_bug_in_one_endpoint_does_not_stop_the_loop(
    cluster: Cluster, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise ValueError("bug")

    monkeypatch.setattr("mce_operator.autoscale.remembered", broken)
    await cluster.scaler.round()
    assert caplog.records[-1].exc_info


async def test_cpu_beside_invocations_counts_too() -> None:
    both = {**BY_INVOCATIONS, "metrics": [*BY_INVOCATIONS["metrics"], *BY_CPU["metrics"]]}  # type: ignore[misc]
    cluster = Cluster(autoscaling=both)
    await cluster.start()
    cluster.cpu = 0.9
    await cluster.rounds(3, 10)  # a status that tells no cause may be a round late
    assert cluster.replicas == 2
    assert cluster.told["metric"] == "ContainerCPU"


async def test_by_cpu_alone_there_is_an_autoscaler_and_the_loop_only_keeps_the_bounds() -> None:
    cluster = Cluster(autoscaling=BY_CPU)
    await cluster.start()
    made = cluster.api.objects["HorizontalPodAutoscaler", *KEY]["spec"]
    assert made["scaleTargetRef"] == {"apiVersion": names.API_VERSION, "kind": names.KIND, "name": "mnist"}
    await cluster.rounds(2)
    assert cluster.asked == []
    cluster.edit(replicas=7)
    await cluster.rounds(1)
    assert cluster.replicas == 4


@pytest.mark.parametrize("change", [{"suspend": True}, {"autoscaling": BY_INVOCATIONS}, {"autoscaling": None}])
async def test_an_autoscaler_that_is_no_longer_wanted_is_deleted(change: dict[str, Any]) -> None:
    cluster = Cluster(autoscaling=BY_CPU)
    await cluster.start()
    cluster.edit(**change)
    await cluster.settle()
    assert ("HorizontalPodAutoscaler", *KEY) not in cluster.api.objects


async def test_endpoints_that_are_gone_or_no_longer_scale_are_forgotten(cluster: Cluster) -> None:
    await cluster.rounds(2, 80)
    assert cluster.scaler.scaling(KEY) is not None
    cluster.edit(autoscaling=None)
    await cluster.rounds(1, 80)
    assert cluster.scaler.scaling(KEY) is None


async def test_what_is_taken_away_while_the_pods_are_asked_is_not_scaled_any_more(cluster: Cluster) -> None:
    await cluster.rounds(1, 1000)
    before, loads = cluster.replicas, cluster.loads

    async def slow(pods: Iterable[Pod]) -> Mapping[str, Mapping[str, Load]]:
        found = await loads(pods)
        live = copy.deepcopy(cluster.endpoint)
        live["spec"].pop("autoscaling", None)
        live["metadata"]["generation"] += 1
        cluster.cache.put(names.KIND, cluster.api.store(live))
        return found

    cluster.scaler._loads = slow
    cluster.seconds += INTERVAL_SECONDS
    await sync.fill(cluster.api, cluster.cache, Scope())
    await cluster.scaler.round()
    assert "autoscaling" not in cluster.endpoint["spec"]
    assert cluster.replicas == before
    await cluster.settle()
    assert "autoscaling" not in (cluster.endpoint["status"] or {})


async def test_a_new_endpoint_of_an_old_name_has_not_been_scaled_yet(cluster: Cluster) -> None:
    await cluster.rounds(8, 290)
    assert cluster.told["lastScaleTime"]
    for address in [one for one in cluster.api.objects if one[0] != names.KIND]:
        del cluster.api.objects[address]  # the garbage collector
    fresh = objects.document(objects.container("a"), replicas=3, autoscaling=BY_INVOCATIONS)
    fresh["metadata"]["uid"] = "reborn"
    cluster.api.store(fresh)
    await sync.fill(cluster.api, cluster.cache, Scope())
    await cluster.reconciler.reconcile(KEY)
    assert "lastScaleTime" not in cluster.told


async def test_what_another_operator_has_scaled_meanwhile_is_told_as_it_has_told_it(cluster: Cluster) -> None:
    await cluster.rounds(8, 290)
    assert cluster.told["desiredReplicas"] == 3
    newer = cluster.told | {"lastScaleTime": "2026-01-01T01:50:00Z", "message": "newer"}
    live = copy.deepcopy(cluster.endpoint)
    live["status"]["autoscaling"] = newer
    cluster.api.store(live)
    await sync.fill(cluster.api, cluster.cache, Scope())
    cluster.scaler.take_over()
    await cluster.reconciler.reconcile(KEY)
    assert cluster.told == newer
