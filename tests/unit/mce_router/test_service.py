"""What a new route table does to what is shared, requests being in flight."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from mce_api.routes import RouteTable, Target
from mce_kit import clock
from mce_router.health import Health, State, Vital
from mce_router.listener import Guard
from mce_router.metrics import Metrics
from mce_router.service import Service
from mce_router.settings import Address, Settings
from mce_router.upstream import Pool

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
