"""The rooms around the pass: workers, handlers, usage, HTTP, settings."""

import asyncio
from typing import Any

import aiohttp
import kopf
import pytest

from mce_api import names
from mce_api.status import Condition, ConditionType, ContainerStatus, State, Status
from mce_kit import tasks
from mce_kit.kube import ApiError, Connection
from mce_operator import cache as caches
from mce_operator import handlers, hostnames, server, sync
from mce_operator.cache import SELECTOR, Cache
from mce_operator.key import Key
from mce_operator.metrics import Metrics
from mce_operator.queue import Backoff, Schedule, WorkQueue
from mce_operator.reconcile import DONE, Outcome
from mce_operator.server import Health
from mce_operator.settings import Settings
from mce_operator.sync import Scope
from mce_operator.usage import UsageReader
from mce_operator.watches import Watch
from mce_operator.work import work_forever
from unit.mce_operator import objects
from unit.mce_operator.fake_api import FakeApi

GOOD, BAD, REFUSED = Key("n", "good"), Key("n", "bad"), Key("n", "refused")


async def test_a_poisoned_endpoint_never_stops_the_others(caplog: pytest.LogCaptureFixture) -> None:
    clock = asyncio.get_running_loop().time
    queue = WorkQueue(Schedule(Backoff(first_seconds=60, longest_seconds=60)), clock)
    metrics, ran = Metrics(), asyncio.Event()

    async def reconcile(key: Key) -> Outcome:
        if key == BAD:
            raise ValueError("bug")
        if key == REFUSED:
            raise ApiError(500, "InternalError", "no")
        ran.set()
        return DONE

    for key in (BAD, REFUSED, GOOD):
        queue.add(key)
    worker = tasks.spawn(work_forever(queue, reconcile, metrics, clock), name="worker")
    await asyncio.wait_for(ran.wait(), 5)
    await queue.close()
    worker.cancel()
    assert queue.waiting == 2
    assert 'mce_operator_reconciles_total{outcome="retried"} 2.0' in metrics.render().decode()
    assert [record.exc_info is not None for record in caplog.records] == [True, False]


async def test_events_feed_the_cache_and_the_queue_and_nothing_else() -> None:
    cache = Cache()
    queue = WorkQueue(Schedule(Backoff(first_seconds=1, longest_seconds=1)), asyncio.get_running_loop().time)

    async def connection() -> Connection:
        return Connection(
            server="https://api", ca_path=None, certificate_path=None, key_path=None, token="t", insecure=False
        )

    sessions: list[Connection] = []

    def session(found: Connection) -> Any:
        sessions.append(found)
        return object()

    made = handlers.registry(cache, queue, connection, session)
    heard: dict[str, Any] = {str(one.id): one.fn for one in made._watching.get_all_handlers()}
    assert len(heard) == len(caches.WATCHED_KINDS)
    await heard[f"{names.KIND}-heard"](event={"type": None, "object": objects.document()})
    assert (queue.depth, len(list(cache.endpoints()))) == (1, 1)
    await heard[f"{names.KIND}-heard"](event={"type": "DELETED", "object": objects.document()})
    assert (queue.depth, len(list(cache.endpoints()))) == (1, 0)
    login: Any = next(iter(made._activities.get_all_handlers())).fn
    found = await login()
    assert (found.server, found.expiration) == ("https://api", None)
    assert [one.token for one in sessions] == ["t"]


def test_kopf_writes_nothing_and_watches_only_our_children() -> None:
    made: kopf.OperatorSettings = handlers.settings(is_clusterwide=True, selector="")
    assert not made.posting.enabled
    assert made.peering.standalone
    assert made.watching.label_selectors["v1", "pods"] == SELECTOR
    assert not made.scanning.disabled
    assert (names.API_VERSION, names.PLURAL) not in made.watching.label_selectors
    narrow = handlers.settings(is_clusterwide=False, selector="team=a")
    assert narrow.scanning.disabled
    assert narrow.watching.label_selectors[names.API_VERSION, names.PLURAL] == "team=a"
    assert narrow.watching.label_selectors["v1", "pods"] == SELECTOR


def usage_pod() -> dict[str, Any]:
    pod = objects.pod("hash", objects.running("b"))
    pod["metadata"]["annotations"][names.CONTAINERS_ANNOTATION] = '{"b":"B"}'
    pod["spec"]["containers"] = [{"name": "b", "resources": {"limits": {"cpu": "500m", "memory": "1Ki"}}}]
    return pod


async def test_usage_has_aws_names_and_limits_and_outlives_two_missed_rounds() -> None:
    api, cache = FakeApi(), Cache()
    cache.put(names.KIND, objects.document())
    cache.put("Pod", usage_pod())
    api.metrics = [
        {
            "metadata": {"name": "mnist-1", "namespace": "team-a"},
            "containers": [
                {"name": "mce-router", "usage": {"cpu": "1", "memory": "1"}},
                {"name": "b", "usage": {"cpu": "250000000n", "memory": "512"}},
            ],
        }
    ]
    reader = UsageReader(api, cache)
    await reader.poll()
    (usage,) = reader.current()
    assert (usage.endpoint, usage.container, usage.pod) == ("mnist", "B", "mnist-1")
    assert (usage.cpu_cores, usage.cpu_limit_cores, usage.memory_bytes, usage.memory_limit_bytes) == (
        0.25,
        0.5,
        512,
        1024,
    )
    api.metrics = []
    for expected in (1, 1, 0):
        await reader.poll()
        assert len(tuple(reader.current())) == expected


async def test_usage_is_read_by_the_leader_alone() -> None:
    api, cache = FakeApi(), Cache()
    cache.put(names.KIND, objects.document())
    cache.put("Pod", usage_pod())
    containers = [{"name": "b", "usage": {"cpu": "1", "memory": "1"}}]
    api.metrics = [{"metadata": {"name": "mnist-1", "namespace": "team-a"}, "containers": containers}]
    reader, leads = UsageReader(api, cache), [True]
    polling = tasks.spawn(reader.poll_forever(0.001, lambda: leads[0]), name="usage")
    await asyncio.sleep(0.05)
    assert len(tuple(reader.current())) == 1
    leads[0] = False
    await asyncio.sleep(0.05)
    assert tuple(reader.current()) == ()
    polling.cancel()
    await asyncio.wait({polling})


async def test_what_a_watch_could_not_continue_is_listed_again_and_everybody_looked_at() -> None:
    api, cache = FakeApi(), Cache()
    queue = WorkQueue(Schedule(Backoff(first_seconds=1, longest_seconds=1)), asyncio.get_running_loop().time)
    cache.put(names.KIND, objects.document())  # the server has it no more
    gaps: asyncio.Queue[Watch] = asyncio.Queue()
    filling = tasks.spawn(sync.fill_gaps(api, cache, queue, Scope(), gaps), name="gaps")
    gaps.put_nowait(Watch(names.KIND, None))
    assert await asyncio.wait_for(queue.get(), 5) == Key("team-a", "mnist")
    assert list(cache.endpoints()) == []
    filling.cancel()
    await asyncio.wait({filling})


@pytest.mark.parametrize(("status", "pause"), [(0, 10), (401, 10), (429, 10), (503, 10), (403, None), (422, None)])
async def test_after_an_outage_an_endpoint_is_tried_again_soon_whatever_its_back_off(
    status: int, pause: float | None
) -> None:
    queue = WorkQueue(Schedule(Backoff(first_seconds=200, longest_seconds=300)), asyncio.get_running_loop().time)
    wishes: list[float] = []
    queue.add_after = lambda key, seconds: wishes.append(seconds)  # type: ignore[method-assign]

    async def reconcile(key: Key) -> Outcome:
        raise ApiError(status, "Reason", "message")

    queue.add(GOOD)
    worker = tasks.spawn(work_forever(queue, reconcile, Metrics(), lambda: 0.0), name="worker")
    await asyncio.sleep(0.05)
    worker.cancel()
    await asyncio.wait({worker})
    assert wishes == ([] if pause is None else [pause])


async def test_usage_of_a_pod_that_is_gone_goes_at_once() -> None:
    api, cache = FakeApi(), Cache()
    cache.put(names.KIND, objects.document())
    cache.put("Pod", usage_pod())
    api.metrics = [
        {
            "metadata": {"name": "mnist-1", "namespace": "team-a"},
            "containers": [{"name": "b", "usage": {"cpu": "1", "memory": "x"}}],
        }
    ]
    reader = UsageReader(api, cache)
    await reader.poll()
    assert len(tuple(reader.current())) == 1
    cache.remove("Pod", usage_pod())
    assert tuple(reader.current()) == ()
    await reader.poll()
    assert tuple(reader.current()) == ()


def many_teams(count: int) -> tuple[FakeApi, Cache]:
    """One endpoint with one pod in each of so many namespaces."""
    api, cache = FakeApi(), Cache()
    for number in range(count):
        namespace = f"team-{number}"
        for kind, raw in ((names.KIND, objects.document()), ("Pod", usage_pod())):
            cache.put(kind, {**raw, "metadata": {**raw["metadata"], "namespace": namespace}})
        used = [{"name": "b", "usage": {"cpu": "1", "memory": "1"}}]
        api.metrics.append({"metadata": {"name": "mnist-1", "namespace": namespace}, "containers": used})
    return api, cache


async def test_usage_of_a_whole_cluster_is_one_list() -> None:
    api, cache = many_teams(1000)
    reader = UsageReader(api, cache, is_clusterwide=True)
    await reader.poll()
    assert (len(tuple(reader.current())), api.metrics_lists) == (1000, [None])


async def test_usage_is_told_of_endpoints_in_the_selector_alone() -> None:
    api, cache = many_teams(2)
    reader = UsageReader(api, cache, is_clusterwide=True)
    cache.drop(names.KIND, Key("team-1", "mnist"))  # its pods are cached all the same
    await reader.poll()
    assert [usage.namespace for usage in reader.current()] == ["team-0"]
    cache.drop(names.KIND, Key("team-0", "mnist"))
    assert tuple(reader.current()) == ()


async def test_figures_of_another_shape_cost_nobody_else_his() -> None:
    api, cache = many_teams(2)
    place = {"name": "mnist-1", "namespace": "team-1"}
    spoilt: list[Any] = [{}, None, {"metadata": place, "containers": [{"name": "b", "usage": None}, {}]}]
    real = api.pod_metrics

    async def spoiling(namespace: str | None, label_selector: str) -> tuple[dict[str, Any], ...]:
        return (*spoilt, *await real(namespace, label_selector))

    api.pod_metrics = spoiling  # type: ignore[method-assign]
    reader = UsageReader(api, cache, is_clusterwide=True)
    await reader.poll()
    assert {usage.namespace for usage in reader.current()} == {"team-0", "team-1"}


async def test_usage_by_namespace_asks_each_once_and_a_few_at_a_time() -> None:
    api, cache = many_teams(100)
    under_way, most = 0, 0
    real = api.pod_metrics

    async def slow(namespace: str | None, label_selector: str) -> tuple[dict[str, Any], ...]:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1
        return await real(namespace, label_selector)

    api.pod_metrics = slow  # type: ignore[method-assign]
    reader = UsageReader(api, cache)
    await reader.poll()
    assert len(tuple(reader.current())) == 100
    assert sorted(map(str, api.metrics_lists)) == sorted(f"team-{number}" for number in range(100))
    assert most == 4


async def test_usage_without_the_right_to_the_whole_cluster_is_read_by_namespace() -> None:
    api, cache = many_teams(3)
    api.no_metrics[""] = ApiError(403, "Forbidden", "cluster scope")
    reader = UsageReader(api, cache, is_clusterwide=True)
    await reader.poll()
    assert (len(tuple(reader.current())), len(api.metrics_lists)) == (3, 4)


async def test_a_cluster_without_metrics_is_asked_once_a_round_and_told_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    api, cache = many_teams(3)
    api.no_metrics[""] = ApiError(404, "NotFound", "no such group")
    reader = UsageReader(api, cache, is_clusterwide=True)
    for _ in range(3):
        await reader.poll()
    assert api.metrics_lists == [None] * 3
    assert len(caplog.records) == 1


async def test_a_namespace_that_fails_is_told_of_once_and_keeps_no_other_from_its_figures(
    caplog: pytest.LogCaptureFixture,
) -> None:
    api, cache = many_teams(3)
    api.no_metrics["team-1"] = ApiError(403, "Forbidden", "no")
    reader = UsageReader(api, cache)
    for _ in range(3):
        await reader.poll()
    assert {usage.namespace for usage in reader.current()} == {"team-0", "team-2"}
    assert len(caplog.records) == 1


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_a_spoilt_map_of_names_is_empty(text: str) -> None:
    assert hostnames.of_pod({"metadata": {"annotations": {names.CONTAINERS_ANNOTATION: text}}}) == {}


def health(run: float = 0, silence: float = 0, waits_for: str = "") -> Health:
    return Health(oldest_run=lambda: run, silence=lambda: (silence, "Pod in team-a"), waits_for=lambda: waits_for)


@pytest.mark.parametrize(
    ("now", "alive", "ready", "text"),
    [
        (health(), 200, 200, "ok"),
        (health(run=300, silence=60), 200, 200, "ok"),
        (health(run=301), 503, 200, "one pass has been running for 301 s"),
        (health(silence=61), 503, 200, "the watch of Pod in team-a is deaf: not asked for in 61 s"),
        (health(waits_for="the Lease"), 200, 503, "ok"),
    ],
)
async def test_a_hanging_pass_or_a_deaf_watch_is_unhealthy_and_an_unfinished_start_is_unready(
    now: Health, alive: int, ready: int, text: str
) -> None:
    async with server.serving("127.0.0.1", 0, Metrics(), now) as port, aiohttp.ClientSession() as client:
        async with client.get(f"http://127.0.0.1:{port}/healthz") as answer:
            assert (answer.status, await answer.text()) == (alive, f"{text}\n")
        async with client.get(f"http://127.0.0.1:{port}/readyz") as answer:
            assert answer.status == ready


async def test_metrics_are_served() -> None:
    metrics = Metrics()
    metrics.watch_queue(lambda: 3, lambda: 0)
    metrics.watch_usage(lambda: ())
    metrics.written("Service", "apply")
    async with (
        server.serving("127.0.0.1", 0, metrics, health()) as port,
        aiohttp.ClientSession() as client,
        client.get(f"http://127.0.0.1:{port}/metrics") as answer,
    ):
        text = await answer.text()
    assert "mce_operator_queue_depth 3.0" in text
    assert 'mce_operator_writes_total{kind="Service",verb="apply"} 1.0' in text
    assert 'mce_build_info{component="operator"' in text


@pytest.mark.parametrize(("text", "expected"), [("", ()), ("a", ("a",)), (" a, b,", ("a", "b"))])
def test_namespaces_are_separated_by_commas(
    monkeypatch: pytest.MonkeyPatch, text: str, expected: tuple[str, ...]
) -> None:
    monkeypatch.setenv("MCE_OPERATOR_NAMESPACES", text)
    assert Settings().namespaces == expected


def test_a_pass_that_outlives_leadership_leaves_no_series_behind() -> None:
    metrics = Metrics()
    metrics.endpoint_is(GOOD, Status(state=State.IN_SERVICE.value))
    metrics.tell_of_endpoints(is_leading=False)
    metrics.endpoint_is(GOOD, Status(state=State.IN_SERVICE.value))
    assert b"mce_endpoint_state{" not in metrics.render()
    metrics.tell_of_endpoints(is_leading=True)
    metrics.endpoint_is(GOOD, Status(state=State.IN_SERVICE.value))
    assert b"mce_endpoint_state{" in metrics.render()


def test_every_condition_of_an_endpoint_has_a_series_whether_it_is_there_or_not() -> None:
    metrics = Metrics()
    terms = {"reason": "Exit", "last_transition_time": "2026-01-01T00:00:00Z"}
    stalled = Condition(type="Stalled", status="True", **terms)
    ready = Condition(type="Ready", status="False", **terms)
    metrics.endpoint_is(GOOD, Status(state=State.FAILED.value, conditions=(ready, stalled)))
    lines = [one for one in metrics.render().decode().splitlines() if one.startswith("mce_endpoint_condition{")]
    assert len(lines) == len(ConditionType)
    assert [one for one in lines if one.endswith(" 1.0")] == [
        'mce_endpoint_condition{condition="Stalled",endpoint="good",namespace="n"} 1.0'
    ]


@pytest.mark.parametrize("state", State)
def test_an_endpoint_is_in_one_state_and_its_containers_are_told(state: State) -> None:
    metrics = Metrics()
    line = ContainerStatus(name="a", ready=1, total=2, restarts=3, reason="Exit")
    metrics.endpoint_is(GOOD, Status(state=state.value, containers=(line,)))
    text = metrics.render().decode()
    ones = [one for one in text.splitlines() if one.startswith("mce_endpoint_state{") and one.endswith(" 1.0")]
    assert ones == [f'mce_endpoint_state{{endpoint="good",namespace="n",state="{state}"}} 1.0']
    assert 'mce_container_ready{container="a",endpoint="good",namespace="n",variant="AllTraffic"} 1.0' in text
    assert 'mce_container_restarts_total{container="a",endpoint="good",namespace="n",variant="AllTraffic"} 3.0' in text
