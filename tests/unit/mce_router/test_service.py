"""What a new route table does to what is shared, requests being in flight."""

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mce_api.errors import ModelFailure
from mce_api.routes import RouteTable, Target
from mce_kit import clock
from mce_router.health import Health, State, Vital
from mce_router.listener import Guard
from mce_router.metrics import Metrics
from mce_router.service import Service
from mce_router.settings import Address, Settings
from mce_router.upstream import Pool, Upstream

A, B = Target(name="a", port=1), Target(name="b", port=2)


async def _well(_target: Target) -> None:
    return None


def table(*targets: Target, **more: Any) -> RouteTable:
    return RouteTable(namespace="n", endpoint="e", mode="Direct", targets=targets, **more)


def service() -> Service:
    address = Address(host="127.0.0.1", port=0)
    settings = Settings(table=Path("none"), listen=address, admin=address)
    return Service(table(A, B), settings, Metrics(), Health(_well, clock.system().utc), Guard(None), time.perf_counter)


def test_in_flight_survives_a_container_that_goes_and_comes_back() -> None:
    shared = service()
    shared.admission.enter((A,))
    shared.use(table(B))
    shared.use(table(A, B))
    assert shared.admission.inflight("a") == 1
    shared.admission.leave((A,))
    assert shared.admission.inflight("a") == 0


async def test_new_limits_do_not_make_a_healthy_container_start_again() -> None:
    shared = service()
    for target in (A, B):
        await shared.health.ping_now(target)
    assert shared.is_ready()
    shared.use(table(replace(A, max_concurrency=1), B))
    assert shared.is_ready()
    shared.use(table(replace(A, port=3), B))
    assert not shared.is_ready()
    assert shared.health.vital("a") == Vital(state=State.STARTING, last_ping="")


def test_the_pool_of_a_container_that_is_gone_keeps_nothing() -> None:
    shared = service()
    shared.use(table(B))
    late: Pool = shared.pool(A)  # a chain of the old table goes on
    shared.tick()
    assert late._closed
    assert shared.pool(B) is shared.pool(B)


def test_a_chain_of_the_old_table_keeps_its_path_when_a_new_one_comes() -> None:
    shared = service()
    elsewhere = replace(A, invocations_path="/v2/models/m/infer")
    before = shared.pool(A)
    shared.use(table(elsewhere, B))
    assert before._closed
    assert shared.pool(elsewhere).request_start == b"POST /v2/models/m/infer HTTP/1.1\r\nhost: 127.0.0.1:1\r\n"
    assert shared.pool(A).request_start == b"POST /invocations HTTP/1.1\r\nhost: 127.0.0.1:1\r\n"


class Waiting:
    """Waits for a connection to a container."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[Upstream | ModelFailure] = asyncio.get_running_loop().create_future()

    def connected(self, upstream: Upstream) -> None:
        self.answer.set_result(upstream)

    def reply_failed(self, failure: ModelFailure) -> None:
        self.answer.set_result(failure)


class Standing(Guard):
    """Has the whole process stand still, or waits by itself, while it checks its first connections."""

    def __init__(self, turns: int, *, is_alone: bool) -> None:
        super().__init__(None)
        self.turns, self.is_alone = turns, is_alone

    async def check(self, target: Target, transport: asyncio.WriteTransport) -> None:
        self.turns -= 1
        if self.turns < 0:
            return
        try:
            if self.is_alone:
                await asyncio.sleep(10)
            time.sleep(0.5)  # noqa: ASYNC251 - that is the point
            for _ in range(2):  # the timer is due, and comes first
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            transport.abort()
            raise


@pytest.mark.parametrize(
    ("turns", "is_alone", "tries"),
    [
        pytest.param(1, False, 2, id="the process stood still"),
        pytest.param(2, False, 2, id="it does so again"),
        pytest.param(1, True, 1, id="the container is silent"),
    ],
)
async def test_a_process_that_stood_still_blames_no_container(turns: int, is_alone: bool, tries: int) -> None:
    accepted = []

    def accept() -> asyncio.Protocol:
        accepted.append(1)
        return asyncio.Protocol()

    server = await asyncio.get_running_loop().create_server(accept, "127.0.0.1", 0)
    async with server:
        target = Target(name="a", port=server.sockets[0].getsockname()[1])
        guard = Standing(turns, is_alone=is_alone)
        pool = Pool(target, clock=time.monotonic, connect_timeout=0.1, guard=guard)
        waiting = Waiting()
        assert pool.acquire(waiting) is None  # type: ignore[arg-type]  # as much of a receiver as is called
        answer = await waiting.answer
        if isinstance(answer, Upstream):
            answer.transport.abort()
        await asyncio.sleep(0.05)  # lets both sides close
    assert isinstance(answer, Upstream) is (turns < tries)
    assert len(accepted) == tries
