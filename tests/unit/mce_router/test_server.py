"""The caller's connection without sockets: what can only be seen at one exact moment."""

import asyncio
import time
from pathlib import Path
from typing import Any

from mce_api.routes import RouteTable, Target
from mce_kit import clock
from mce_router.exchange import Exchange
from mce_router.health import Health
from mce_router.listener import Guard
from mce_router.metrics import Metrics
from mce_router.server import CallerConnection
from mce_router.service import Service
from mce_router.settings import Address, Settings
from mce_router.upstream import Upstream
from support.rig import Silent

REQUEST = b"POST /invocations HTTP/1.1\r\nHost: m\r\nX-Amzn-SageMaker-Target-Container-Hostname: a\r\n\r\n"


class FakeTransport(asyncio.Transport):
    """Takes everything, says nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.closing = False
        self.reading = True
        self.written = b""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return Silent() if name == "socket" else default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None: ...

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = True


async def _never(_target: Target) -> None:
    raise NotImplementedError


def service() -> Service:
    address = Address(host="127.0.0.1", port=0)
    table = RouteTable(namespace="n", endpoint="e", mode="Direct", targets=(Target(name="a", port=1),))
    settings = Settings(table=Path("none"), listen=address, admin=address)
    return Service(table, settings, Metrics(), Health(_never, clock.system().utc), Guard(None), time.perf_counter)


def connection(shared: Service) -> tuple[CallerConnection, FakeTransport]:
    made, transport = CallerConnection(shared, set()), FakeTransport()
    made.connection_made(transport)
    return made, transport


async def test_a_waiting_request_of_a_caller_that_left_is_not_begun() -> None:
    shared = service()
    made, transport = connection(shared)
    made.data_received(REQUEST * 2)
    transport.closing = True
    made.connection_lost(None)
    assert shared.metrics.invocations("a") == 1
    assert not shared.exchanges
    assert shared.admission.inflight("a") == 0


async def test_no_request_is_begun_while_the_caller_does_not_read() -> None:
    shared = service()
    made, transport = connection(shared)
    made.data_received(REQUEST.replace(b": a", b": b") + REQUEST)
    assert len(shared.exchanges) == 1
    made.pause_writing()
    assert not transport.reading
    made.resume_writing()
    assert transport.reading


async def test_a_refused_request_in_between_is_answered_in_its_turn() -> None:
    shared = service()
    made, transport = connection(shared)
    made.data_received(REQUEST.replace(b": a", b": b") * 3 + REQUEST)
    assert transport.written.count(b"HTTP/1.1 400 ") == 3
    assert len(shared.exchanges) == 1


def _begun(shared: Service) -> tuple[Exchange, Upstream, FakeTransport]:
    """The one exchange in flight, and a connection for it."""
    (exchange,) = shared.exchanges
    assert isinstance(exchange, Exchange)
    upstream, transport = Upstream(shared.pool(shared.routes.table.targets[0])), FakeTransport()
    upstream.connection_made(transport)
    return exchange, upstream, transport


async def test_a_connection_that_was_lost_before_its_use_fails_the_request_at_once() -> None:
    shared = service()
    made, transport = connection(shared)
    made.data_received(REQUEST)
    exchange, upstream, closed = _begun(shared)
    closed.closing = True
    upstream.connection_lost(None)
    exchange.connected(upstream)
    assert transport.written.startswith(b"HTTP/1.1 424 ")
    assert not shared.exchanges


async def test_a_caller_that_is_full_before_the_container_is_connected_holds_its_answer_back() -> None:
    shared = service()
    made, _ = connection(shared)
    made.data_received(REQUEST)
    made.pause_writing()
    exchange, upstream, transport = _begun(shared)
    exchange.connected(upstream)
    assert not transport.reading
    made.resume_writing()
    assert transport.reading


async def test_a_request_with_a_known_head_does_not_overtake_one_that_waits() -> None:
    shared = service()
    made, _ = connection(shared)
    made.data_received(REQUEST)  # alone in its read: its head is known from now on
    exchange, upstream, _ = _begun(shared)
    waits = REQUEST.replace(b"Host: m", b"Host: other")
    made.data_received(waits)
    exchange.connected(upstream)
    made.pause_writing()
    upstream.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    assert not shared.exchanges  # answered, and the caller reads nothing: the next one waits
    assert REQUEST in shared.known_heads
    made.data_received(REQUEST)
    assert not shared.exchanges


async def test_a_connection_with_unsent_bytes_is_not_used_again() -> None:
    shared = service()
    made, _ = connection(shared)
    made.data_received(REQUEST)
    exchange, upstream, transport = _begun(shared)
    exchange.connected(upstream)
    upstream.pause_writing()
    upstream.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    assert transport.closing
