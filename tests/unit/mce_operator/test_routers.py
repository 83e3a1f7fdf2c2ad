import dataclasses
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from mce_api.routes import RouteTable, Target
from mce_operator import observed as parsed
from mce_operator.autoscale import Load
from mce_operator.observed import RouterReport, TargetReport, Traffic
from mce_operator.routers import HttpRouters
from mce_router import report
from unit.mce_operator import objects

POD = dataclasses.replace(parsed.pod(objects.pod("t", objects.running("a"))), ip="127.0.0.1")
METRICS = """# TYPE mce_container_invocations counter
mce_container_invocations_total{container="a",endpoint="e"} 7
# TYPE mce_container_errors counter
mce_container_errors_total{container="a",class="4xx"} 3
mce_container_errors_total{container="a",class="5xx"} 2
# TYPE mce_inflight gauge
mce_inflight{container="a"} 1
"""
TARGETS = '{"targets":[{"name":"a","state":"Unhealthy","cause":"PortNotBound"}]}'


@asynccontextmanager
async def router(targets: str, metrics: str) -> AsyncIterator[HttpRouters]:
    async def page(request: web.Request) -> web.Response:
        return web.Response(text=targets if request.path == "/targets" else metrics)

    app = web.Application()
    app.router.add_get("/{path}", page)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port: Any = runner.addresses[0][1]
    async with aiohttp.ClientSession() as session:
        yield HttpRouters(session, port)
    await runner.cleanup()


async def test_a_report_has_each_containers_state_and_traffic() -> None:
    async with router(TARGETS, METRICS) as routers:
        found = await routers.ask([POD])
    assert found == {
        POD.name: RouterReport(
            targets={"a": TargetReport(state="Unhealthy", cause="PortNotBound")},
            traffic={"a": Traffic(invocations=7, errors_5xx=2, in_flight=1)},
        )
    }


@pytest.mark.parametrize(
    ("targets", "metrics"),
    [
        pytest.param("[", METRICS, id="no JSON"),
        pytest.param("[" * 500_000, METRICS, id="too deep"),
        pytest.param('{"targets":[{}]}', METRICS, id="no name"),
        pytest.param(TARGETS, "mce_inflight 1\n", id="no container"),
        pytest.param(TARGETS, "x" * (1 << 20) + "\n", id="endless"),
    ],
)
async def test_a_router_that_talks_nonsense_is_left_out(targets: str, metrics: str) -> None:
    async with router(targets, metrics) as routers:
        assert await routers.ask([POD]) == {}


async def test_a_pod_without_an_address_or_without_a_router_is_left_out() -> None:
    async with aiohttp.ClientSession() as session:
        nobody = dataclasses.replace(POD, name="nobody", ip="127.0.0.1")
        assert await HttpRouters(session).ask([dataclasses.replace(POD, ip=""), nobody]) == {}


ROW = {"name": "a", "state": "Healthy", "inflight": 2, "queued": 1, "invocations": 7}


async def test_loads_need_only_one_page_and_count_who_waits_as_in_flight() -> None:
    async with router(json.dumps({"targets": [ROW]}), "no metrics") as routers:
        assert await routers.loads([POD]) == {POD.name: {"a": Load(invocations=7, in_flight=3)}}


@pytest.mark.parametrize("name", ["", "a" * 64])
async def test_a_load_of_nobody_is_no_answer(name: str) -> None:
    async with router(json.dumps({"targets": [{**ROW, "name": name}]}), "") as routers:
        assert await routers.loads([POD]) == {}


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-1", "1e300", '"many"', "null", "[]"])
async def test_a_load_that_is_no_count_is_no_answer(value: str) -> None:
    page = json.dumps({"targets": [ROW]}).replace('"invocations": 7', f'"invocations": {value}')
    async with router(page, "") as routers:
        assert await routers.loads([POD]) == {}


async def test_a_real_router_tells_its_loads() -> None:
    table = RouteTable(namespace="n", endpoint="e", mode="Direct", targets=(Target(name="a", port=30101),))
    samples = {"mce_inflight": {"a": [2.0]}, "mce_queue_length": {"a": [1.0]}}
    samples["mce_container_invocations_total"] = {"a": [7.0]}
    state = report.Report(
        ready=True, draining=False, listener_check="off", vitals={"a": ("Healthy", "", "", "")}, samples=samples
    )
    async with router(json.dumps(report.targets(state, table)), "") as routers:
        assert await routers.loads([POD]) == {POD.name: {"a": Load(invocations=7, in_flight=3)}}


async def test_what_a_router_says_is_bounded() -> None:
    ports = list(range(1, 100))
    row = {"name": "a", "state": "Starting", "cause": "c" * 999, "lastError": "e" * 999, "listensOn": [*ports, "x"]}
    async with router(json.dumps({"targets": [row]}), METRICS) as routers:
        found = await routers.ask([POD])
    target = found[POD.name].targets["a"]
    assert (len(target.cause), len(target.text), target.listens_on) == (64, 256, tuple(ports[:16]))
