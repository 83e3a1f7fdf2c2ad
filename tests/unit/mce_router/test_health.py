import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from mce_api.pings import PingCause, PingFault
from mce_api.routes import Availability, RouteTable, Target
from mce_kit import clock
from mce_router import health as pings
from mce_router.health import Health, State, Vital
from mce_router.listener import Guard
from support import processes

A, B = Target(name="a", port=1), Target(name="b", port=2)
BAD = PingFault(cause=PingCause.PORT_NOT_BOUND, text="nothing listens on port 2")


def table(availability: Availability) -> RouteTable:
    return RouteTable(namespace="n", endpoint="e", mode="Direct", availability=availability, targets=(A, B))


async def answers(target: Target) -> PingFault | None:
    return None if target is A else BAD


def test_a_starting_container_stays_starting_until_its_first_good_ping() -> None:
    vital = Vital().after(BAD).after(BAD).after(BAD)
    assert vital.state is State.STARTING
    assert (vital.cause, vital.last_error) == ("PortNotBound", "nothing listens on port 2")
    assert vital.after(None).state is State.HEALTHY


def test_one_bad_ping_is_forgiven_two_are_not() -> None:
    healthy = Vital().after(None)
    assert healthy.after(BAD).state is State.HEALTHY
    assert healthy.after(BAD).after(BAD).state is State.UNHEALTHY
    assert healthy.after(BAD).after(None).after(BAD).state is State.HEALTHY


def test_one_good_ping_cures() -> None:
    assert Vital(state=State.UNHEALTHY, failures=9).after(None) == Vital(state=State.HEALTHY)


def test_a_container_in_doubt_is_asked_more_often() -> None:
    healthy = Vital().after(None)
    assert Vital().interval_seconds() < healthy.after(BAD).interval_seconds() < healthy.interval_seconds()


@pytest.mark.parametrize(("availability", "ready"), [("All", False), ("Any", True)])
async def test_all_needs_every_container_any_needs_one(availability: Availability, ready: bool) -> None:
    health = Health(answers, clock.system().utc)
    health.use(table(availability))
    assert not health.is_ready()
    await health.ping_now(A)
    await health.ping_now(B)
    assert health.is_ready() is ready


async def test_a_cause_is_given_for_what_is_down() -> None:
    health = Health(answers, clock.system().utc)
    health.use(table("Any"))
    await health.ping_now(A)
    await health.ping_now(B)
    assert health.cause_down("a") == ""
    assert health.cause_down("b") == "it is starting (nothing listens on port 2)"


async def test_a_container_that_stays_keeps_its_health_over_a_new_table() -> None:
    health = Health(answers, clock.system().utc)
    health.use(table("All"))
    await health.ping_now(A)
    health.use(RouteTable(namespace="n", endpoint="e", mode="Direct", targets=(A,)))
    assert health.is_ready()


async def test_a_container_that_is_asked_elsewhere_has_to_show_its_health_there() -> None:
    health = Health(answers, clock.system().utc)
    health.use(RouteTable(namespace="n", endpoint="e", mode="Direct", targets=(A,)))
    await health.ping_now(A)
    elsewhere = replace(A, ping_path="/health")
    health.use(RouteTable(namespace="n", endpoint="e", mode="Direct", targets=(elsewhere,)))
    assert not health.is_ready()


@asynccontextmanager
async def container(answer: bytes | None) -> AsyncIterator[tuple[Target, list[bytes]]]:
    """Says `answer` to whoever connects (none: nothing, for ever); yields it as a target, and what it was asked."""
    asked: list[bytes] = []
    over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        if answer is None:
            await over.wait()
        writer.write(answer or b"")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield Target(name="a", port=port, ping_path="/v2/health/ready"), asked
        over.set()


@pytest.mark.parametrize(
    ("answer", "cause", "text"),
    [
        pytest.param(b"HTTP/1.1 503 Busy\r\n\r\n", "PingStatus", " answered 503, not 200", id="status"),
        pytest.param(b"HTTP/1.1 204 No Content\r\n\r\n", "PingStatus", " answered 204, not 200", id="another-2xx"),
        pytest.param(b"", "PingBroken", " failed: IncompleteReadError", id="closed"),
        pytest.param(b"x" * 9000 + b"\n", "PingBroken", " failed: LimitOverrunError", id="flood"),
        pytest.param(b"SSH-2.0\r\n", "PingBroken", " does not speak HTTP/1.1", id="another-protocol"),
        pytest.param(b"HTTP/1.1 \x1b[2J\r\n", "PingBroken", " does not speak HTTP/1.1", id="no-number"),
        pytest.param(b"HTTP/1.1 2000\r\n", "PingBroken", " does not speak HTTP/1.1", id="too-long-a-number"),
        pytest.param(None, "PingTimeout", " within 2 s", id="silence"),
    ],
)
async def test_what_is_wrong_has_a_word_and_a_text_that_is_the_same_each_time(
    answer: bytes | None, cause: str, text: str
) -> None:
    async with container(answer) as (target, _):
        said = await asyncio.gather(*(pings.ping(Guard(None), target) for _ in range(2)))
    assert said[0] is not None
    assert said[0] == said[1]
    assert said[0].cause == cause
    assert said[0].text.endswith(text)
    assert said[0].text.isprintable()
    assert len(said[0].text) < 500


async def test_the_ping_asks_for_the_path_of_the_table() -> None:
    async with container(b"HTTP/1.0 200 OK\r\n\r\n") as (target, asked):
        assert await pings.ping(Guard(None), target) is None
    assert asked == [b"GET /v2/health/ready HTTP/1.1\r\nhost: 127.0.0.1:%d\r\nconnection: close\r\n\r\n" % target.port]


async def test_a_port_on_which_nothing_listens_has_its_own_word() -> None:
    target = Target(name="a", port=processes.free_port())
    text = f"nothing listens on port {target.port}"
    assert await pings.ping(Guard(None), target) == PingFault(cause=PingCause.PORT_NOT_BOUND, text=text)
