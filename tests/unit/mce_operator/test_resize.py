"""A change of only CPU or memory, against an API server and controllers in memory: in place, or rolled out."""

import copy
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from mce_api import names
from mce_kit.kube import ApiError, Object
from mce_operator import fleet
from mce_operator.resize import LONGEST, PATIENCE
from unit.mce_operator import objects
from unit.mce_operator.controllers import Controllers
from unit.mce_operator.fake_api import FakeApi
from unit.mce_operator.passes import KEY, Cluster

SMALL = {"requests": {"cpu": "100m"}, "limits": {"memory": "1Gi"}}
LARGE = {"requests": {"cpu": "200m"}, "limits": {"memory": "2Gi"}}


def spec(resources: dict[str, Any] | None = None, image: str = "x:1", **more: Any) -> dict[str, Any]:
    containers = (objects.container("a", image=image, resources=resources or SMALL), objects.container("B"))
    found: dict[str, Any] = objects.document(*containers, **{"replicas": 2, **more})["spec"]
    return found


class World(Cluster):
    """A cluster with controllers."""

    def __init__(self, api: FakeApi | None = None) -> None:
        super().__init__()
        self.api = api or self.api
        self.controllers = Controllers(self.api, *KEY)

    def want(self, wanted: dict[str, Any]) -> None:
        def change(live: dict[str, Any]) -> None:
            live["spec"] = wanted
            live["metadata"]["generation"] += 1

        self.edit(names.KIND, change)

    async def settle(self, passes: int = 12) -> None:
        for _ in range(passes):
            before = self.api.version
            await self.run()
            self.controllers.run()
            if self.api.version == before:
                return

    def pods(self) -> list[dict[str, Any]]:
        return self.controllers.all("Pod")

    def amounts(self) -> list[Any]:
        return [pod["spec"]["containers"][0].get("resources") for pod in self.pods()]

    @property
    def deployment(self) -> dict[str, Any]:
        return self.api.objects["Deployment", *KEY]


@pytest.fixture
async def world() -> World:
    made = World()
    made.api.store({**objects.document(), "spec": spec()})
    await made.start()
    await made.settle()
    assert made.status()["state"] == "InService"
    made.writes()
    return made


def uids(world: World) -> set[str]:
    return {pod["metadata"]["uid"] for pod in world.pods()}


async def test_a_change_of_cpu_and_memory_keeps_the_pods_and_their_replica_set(world: World) -> None:
    before = uids(world)
    world.want(spec(LARGE))
    await world.settle()
    assert uids(world) == before
    assert len(world.controllers.all("ReplicaSet")) == 1
    assert world.amounts() == [{"requests": {"cpu": "200m", "memory": "2Gi"}, "limits": {"memory": "2Gi"}}] * 2
    assert "paused" not in world.deployment["spec"]
    assert world.status()["state"] == "InService"
    assert world.status()["rollout"] == {
        "method": "InPlace",
        "updated": 2,
        "total": 2,
        "message": "CPU or memory of running containers was changed, nothing restarted",
    }


async def test_the_writes_of_an_in_place_change_are_counted_and_then_there_are_none(world: World) -> None:
    world.want(spec(LARGE))
    await world.settle()
    writes = [write for write in world.writes() if write[1] != names.KIND]
    assert writes == [
        ("apply", "Deployment"),
        *[("resize", "Pod")] * 2,
        ("patch", "ReplicaSet"),
        *[("patch", "Pod")] * 2,
        ("apply", "Deployment"),
    ]
    await world.settle()
    await world.start()
    await world.settle()
    assert world.writes() == []


async def test_a_pod_made_later_has_the_new_amounts(world: World) -> None:
    world.want(spec(LARGE))
    await world.settle()
    world.want(spec(LARGE, replicas=3))
    await world.settle()
    assert len(world.controllers.all("ReplicaSet")) == 1
    assert world.amounts()[2] == LARGE
    assert world.status()["rollout"]["updated"] == 3


async def test_while_it_goes_on_the_containers_count_as_what_they_are(world: World) -> None:
    world.want(spec(LARGE))
    seen = []
    for _ in range(8):
        await world.run()
        seen.append((world.status()["state"], world.status()["reason"], world.status()["containersReady"]))
        world.controllers.run()
    assert {ready for _, _, ready in seen} == {"2/2"}
    assert ("Updating", "Resizing", "2/2") in seen


async def test_an_amount_may_be_added_in_place(world: World) -> None:
    before = uids(world)
    world.want(spec({**SMALL, "limits": {"memory": "1Gi", "cpu": "1"}}))
    await world.settle()
    assert uids(world) == before
    assert world.status()["rollout"]["method"] == "InPlace"


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        (spec({"requests": {"cpu": "200m"}}), "requests.memory of container a was removed"),
        (spec(LARGE, image="x:2"), ""),
        (spec({**LARGE, "requests": {"ephemeral-storage": "1Gi"}}), ""),
    ],
)
async def test_what_no_running_container_can_take_is_rolled_out(world: World, wanted: dict[str, Any], why: str) -> None:
    before = uids(world)
    world.want(wanted)
    await world.settle()
    assert not uids(world) & before
    assert ("resize", "Pod") not in world.writes()
    assert world.status().get("rollout", {}).get("message", "") == (f"not in place: {why}" if why else "")


async def test_a_refused_resize_is_rolled_out_and_the_status_says_why(world: World) -> None:
    before = uids(world)
    world.api.fail["resize", "Pod"] = ApiError(403, "Forbidden", 'pods "mnist-1" is forbidden: no room')
    world.want(spec(LARGE))
    await world.settle()
    assert not uids(world) & before
    assert world.amounts() == [LARGE] * 2
    assert world.status()["rollout"] == {
        "method": "Rollout",
        "updated": 2,
        "total": 2,
        "message": "not in place: no room",
    }
    world.writes()
    await world.settle()
    assert world.writes() == []


@pytest.mark.parametrize(("reason", "seconds"), [("Infeasible", 0), ("Deferred", PATIENCE.total_seconds() + 1)])
async def test_what_a_node_does_not_do_is_rolled_out(world: World, reason: str, seconds: float) -> None:
    before = uids(world)
    world.controllers.conditions = [
        {
            "type": "PodResizePending",
            "status": "True",
            "reason": reason,
            "message": "no room",
            "lastTransitionTime": world.now.isoformat(),
        }
    ]
    world.want(spec(LARGE))
    await world.settle(5)
    if seconds:
        assert uids(world) == before
        assert world.deployment["spec"]["paused"]
    world.now += timedelta(seconds=seconds)
    await world.settle()
    assert not uids(world) & before
    assert world.status()["rollout"]["message"].endswith(f"{reason}: no room")
    assert world.status()["state"] == "InService"


@pytest.mark.parametrize(
    "turn", [lambda world: None, lambda world: world.want(spec(image="x:2")), lambda world: world.want(spec())]
)
async def test_pods_that_are_not_resized_after_all_get_back_what_they_had(
    world: World, turn: Callable[[World], None]
) -> None:
    before = world.amounts()
    world.controllers.conditions = [
        {"type": "PodResizePending", "status": "True", "reason": "Infeasible", "message": "no room"}
    ]
    world.want(spec(LARGE))
    await world.run()
    await world.run()
    assert world.amounts()[0]["limits"] == LARGE["limits"]
    world.controllers.kubelets()
    turn(world)
    while world.deployment["spec"].get("paused"):
        await world.run()
    assert [fleet.resources([{"name": "a", "resources": one}]) for one in world.amounts()] == [
        fleet.resources([{"name": "a", "resources": one}]) for one in before
    ]


async def test_a_return_to_a_template_whose_pods_have_more_than_it_says_makes_new_ones(world: World) -> None:
    before = uids(world)
    world.controllers.conditions = [
        {"type": "PodResizePending", "status": "True", "reason": "Infeasible", "message": "no room"}
    ]
    world.want(spec({**SMALL, "limits": {"memory": "1Gi", "cpu": "1"}}))
    await world.run()
    await world.run()
    world.controllers.kubelets()
    while world.deployment["spec"].get("paused"):
        await world.run()
    world.want(spec())
    await world.settle()
    assert not uids(world) & before
    assert world.amounts() == [SMALL] * 2


async def test_a_kubelet_that_says_nothing_is_waited_for_and_not_for_ever(world: World) -> None:
    before = uids(world)
    world.controllers.is_deaf = True
    world.want(spec(LARGE))
    await world.settle(5)
    assert uids(world) == before
    world.now += LONGEST + timedelta(seconds=1)
    world.controllers.is_deaf = False
    await world.settle()
    assert not uids(world) & before


async def test_a_replica_set_that_does_not_keep_what_it_is_given_ends_in_a_rollout(world: World) -> None:
    def webhook(raw: dict[str, Any]) -> None:
        raw["spec"]["template"]["metadata"]["annotations"]["webhook"] = "was here"

    world.api.mutate["ReplicaSet"] = webhook
    world.want(spec(LARGE))
    await world.settle(5)
    del world.api.mutate["ReplicaSet"]
    await world.settle()
    assert world.status()["rollout"]["message"] == "not in place: the cluster changes what a ReplicaSet is given"
    assert world.amounts() == [LARGE] * 2
    assert "paused" not in world.deployment["spec"]


async def test_a_pod_that_is_refused_when_the_replica_set_is_changed_already_is_rolled_out_too(world: World) -> None:
    world.want(spec(LARGE))
    while world.controllers.all("ReplicaSet")[0]["spec"]["template"]["spec"]["containers"][0]["resources"] != LARGE:
        await world.run()
        if ("patch", "ReplicaSet") not in world.api.writes:
            world.controllers.run()
    straggler = world.pods()[0]
    straggler["spec"]["containers"][0]["resources"] = SMALL
    world.api.store(straggler)
    before = uids(world)
    world.api.fail["resize", "Pod"] = ApiError(422, "Invalid", "no")
    await world.settle()
    assert not uids(world) & before
    assert world.amounts() == [LARGE] * 2


@pytest.mark.parametrize(
    "turn", [lambda: spec(image="x:2"), lambda: spec(LARGE, suspend=True), spec, lambda: spec(LARGE)]
)
@pytest.mark.parametrize("after", [1, 2, 3, 5])
async def test_a_spec_that_changes_on_the_way_is_reached(
    world: World, turn: Callable[[], dict[str, Any]], after: int
) -> None:
    world.want(spec({**LARGE, "requests": {"cpu": "300m"}}))
    for _ in range(after):
        await world.run()
        world.controllers.run()
    world.want(turn())
    await world.settle(20)
    wanted = turn()
    live = world.deployment["spec"]
    assert "paused" not in live
    assert len(world.pods()) == (0 if wanted.get("suspend") else 2)
    cpu = wanted["containers"][0]["resources"]["requests"]["cpu"]
    assert {pod["spec"]["containers"][0]["resources"]["requests"]["cpu"] for pod in world.pods()} <= {cpu}
    assert {pod["metadata"]["annotations"][names.HASH_ANNOTATION] for pod in world.pods()} <= {
        live["template"]["metadata"]["annotations"][names.HASH_ANNOTATION]
    }
    assert world.status()["state"] == ("OutOfService" if wanted.get("suspend") else "InService")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(SMALL, LARGE, id="more"),
        pytest.param(SMALL, {**SMALL, "limits": {**SMALL["limits"], "cpu": "1"}}, id="one amount more"),
    ],
)
async def test_a_successor_whose_watch_lags_goes_on_with_the_new_amounts_and_not_with_the_old_ones(
    world: World, old: dict[str, Any], new: dict[str, Any]
) -> None:
    before = copy.deepcopy(world.api.objects[names.KIND, *KEY])
    assert before["spec"] == spec(old)
    world.want(spec(new))
    await world.run()
    changed = 0
    while world.api.writes:
        there, found = copy.deepcopy(world.api.objects), []
        for stale in (False, True):
            world.api.objects = {**copy.deepcopy(there), **({(names.KIND, *KEY): before} if stale else {})}
            await world.start()  # with what a watch that lags has told
            world.api.objects = copy.deepcopy(there)
            await world.reconciler.reconcile(KEY)
            found.append(facts(world))
        assert found[0] == found[1]
        world.api.objects = there
        world.controllers.run()
        world.writes()
        await world.run()
        changed += 1
    assert changed > 3
    assert [amounts["limits"] for amounts in world.amounts()] == [new["limits"]] * 2


async def test_steps_with_bake_time_are_kept_for_amounts_too(world: World) -> None:
    world.want(spec(rollout={"strategy": "Canary"}))
    await world.settle()
    before = uids(world)
    world.want(spec(LARGE, rollout={"strategy": "Canary"}))
    await world.settle()
    assert not uids(world) & before


@pytest.mark.parametrize(
    "text", ["", "no", "[]", "{}", '{"hash":1}', '{"hash":"x","shape":"y","resources":[]}', "[" * 100_000]
)
async def test_an_annotation_that_makes_no_sense_is_none(world: World, text: str) -> None:
    world.edit("Deployment", lambda live: live["metadata"]["annotations"].update({names.CHANGE_ANNOTATION: text}))
    world.want(spec(LARGE))
    await world.settle()
    assert world.amounts() == [LARGE] * 2
    assert json.loads(world.deployment["metadata"]["annotations"][names.CHANGE_ANNOTATION])["hash"]


@pytest.mark.parametrize(
    "edited",
    [
        {"resources": {"ghost": {"requests": {"cpu": "1"}}}},
        {"method": "Resizing", "since": "2026-01-01T00:00:00"},
        {"method": "Resizing", "since": "0001-01-01T00:00:00+23:00"},
    ],
)
async def test_an_annotation_that_somebody_has_edited_stops_no_pass(world: World, edited: dict[str, Any]) -> None:
    def edit(live: dict[str, Any]) -> None:
        said = json.loads(live["metadata"]["annotations"][names.CHANGE_ANNOTATION]) | edited
        live["metadata"]["annotations"][names.CHANGE_ANNOTATION] = json.dumps(said)

    world.edit("Deployment", edit)
    world.want(spec(LARGE))
    await world.settle()
    assert [one["limits"] for one in world.amounts()] == [LARGE["limits"]] * 2
    assert world.status()["state"] == "InService"


def test_amounts_are_equal_however_they_are_written() -> None:
    def one(cpu: str) -> fleet.Resources:
        return {"a": {"requests": {"cpu": cpu}}}

    assert fleet.covers(one("1"), one("1000m"))
    assert not fleet.covers(one("1"), one("1001m"))
    assert not fleet.covers(one("1e3"), one("1000"))
    assert not fleet.covers({}, one("1"))


class KilledError(Exception):
    """The process ends here."""


class DeadlyApi(FakeApi):
    """Ends the process at one write, before or after it is done."""

    def __init__(self, at: int, *, done: bool) -> None:
        super().__init__()
        self.left = at
        self.done = done

    def is_deadly(self) -> bool:
        self.left -= 1
        return self.left == 0

    async def apply(self, body: Object) -> Object:
        answer: Object = await self._either(lambda: FakeApi.apply(self, body))
        return answer

    async def apply_status(self, body: Object) -> Object:
        answer: Object = await self._either(lambda: FakeApi.apply_status(self, body))
        return answer

    async def patch(self, kind: str, namespace: str, name: str, body: Object, subresource: str = "") -> Object:
        answer: Object = await self._either(lambda: FakeApi.patch(self, kind, namespace, name, body, subresource))
        return answer

    async def delete(self, kind: str, namespace: str, name: str, uid: str) -> None:
        await self._either(lambda: FakeApi.delete(self, kind, namespace, name, uid))

    async def _either(self, write: Callable[[], Any]) -> Any:
        if not self.is_deadly():
            return await write()
        if self.done:
            await write()
        raise KilledError


def facts(world: World) -> dict[Any, Any]:
    """All that is there, without what differs from run to run."""
    found = {}
    for address, raw in world.api.objects.items():
        kept = copy.deepcopy(raw)
        for name in ("uid", "resourceVersion", "generation", "managedFields"):
            kept["metadata"].pop(name, None)
        if address[0] in {"ReplicaSet", "Pod"}:
            kept["metadata"].pop("ownerReferences")
            kept.pop("status", None)
        if address[0] == "Deployment":
            kept["status"].pop("observedGeneration")
        found[address] = timeless(kept)
    return found


def timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: timeless(one) for key, one in value.items() if not key.endswith(("Time", "since"))}
    return [timeless(one) for one in value] if isinstance(value, list) else value


async def course(api: FakeApi, *specs: dict[str, Any]) -> World:
    """What is there after these specs, whatever happens to the operator."""
    world = World(api)
    world.api.store({**objects.document(), "spec": specs[0]})
    await world.start()
    for number, wanted in enumerate(specs):
        if number:
            world.want(wanted)
        for _ in range(2):
            try:
                await world.settle()
            except KilledError:
                await world.start()
                world.controllers.run()
                await world.settle()
            world.now += timedelta(minutes=1)  # news that may wait is written by then
    return world


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize(
    "specs",
    [
        pytest.param([spec(), spec(image="x:2")], id="rollout"),
        pytest.param([spec(), spec(LARGE)], id="in place"),
        pytest.param([spec(), spec(LARGE), spec(suspend=True)], id="in place and suspended"),
    ],
)
async def test_an_operator_that_ends_at_any_write_leaves_no_trace(specs: list[dict[str, Any]], done: bool) -> None:
    undisturbed = await course(FakeApi(), *specs)
    writes = len(undisturbed.api.writes)
    assert writes > 5
    for at in range(1, writes + 1):
        world = await course(DeadlyApi(at, done=done), *specs)
        assert facts(world) == facts(undisturbed), f"write {at}: {undisturbed.api.writes[at - 1]}"


async def test_a_kubelet_has_its_time_for_the_newest_amounts(world: World) -> None:
    before = uids(world)
    world.controllers.is_deaf = True
    world.want(spec(LARGE))
    await world.settle()
    world.now += LONGEST - timedelta(seconds=5)
    world.want(spec({"requests": {"cpu": "300m"}, "limits": {"memory": "3Gi"}}))
    await world.settle()
    world.now += timedelta(seconds=6)
    await world.settle()
    assert world.status()["rollout"]["method"] == "InPlace"
    world.controllers.is_deaf = False
    await world.settle()
    assert uids(world) == before
