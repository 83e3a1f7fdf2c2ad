"""The router's data path without sockets: callers and containers are bytes in and bytes out, the clock is a number.

Only the public surface is used: asyncio's protocol callbacks, `Service.tick`, and `create_connection` of the loop in
place of the network.
"""

import asyncio
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from mce_api.routes import RouteTable, Target
from mce_kit import clock
from mce_router.health import Health
from mce_router.listener import Guard
from mce_router.metrics import Metrics
from mce_router.server import CallerConnection
from mce_router.service import Service
from mce_router.settings import Address, Settings


class Silent:
    """In place of a socket, for who looks whether something has come: nothing ever does."""

    _never: Final = os.pipe()[0]

    def setsockopt(self, *_: int) -> None: ...

    def fileno(self) -> int:
        return self._never


_TURNS: Final = 4
"""Rounds of the event loop until a task that waits for one thing has moved."""


class Wire(asyncio.Transport):
    """A transport in memory: what the router writes is kept, what it should read is queued while it does not read."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.taken = 0
        self.closed = False
        self.aborted = False
        self.finished = False
        self.reading = True
        self.protocol: asyncio.Protocol | None = None
        self._queue: list[bytes] = []

    def attach(self, protocol: asyncio.Protocol) -> None:
        self.protocol = protocol
        protocol.connection_made(self)

    # --- what the other side does

    def feed(self, data: bytes) -> None:
        """`data` arrives."""
        self._queue.append(data)
        self._deliver()

    def leave(self, error: Exception | None = None) -> None:
        """The other side closes, or with `error` resets, once all it sent was read."""
        self._deliver()
        if self.closed:
            return
        assert self.protocol is not None
        if error is None and self.protocol.eof_received():
            return
        self.closed = True
        self.protocol.connection_lost(error)

    def take(self) -> bytes:
        """What the router wrote since the last time."""
        taken, self.taken = self.taken, len(self.written)
        return self.written[taken:]

    def _deliver(self) -> None:
        while self._queue and self.reading and not self.closed and self.protocol is not None:
            self.protocol.data_received(self._queue.pop(0))

    # --- what the router does

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return Silent() if name == "socket" else default

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        if not self.reading:
            self.reading = True
            asyncio.get_running_loop().call_soon(self._deliver)

    def is_reading(self) -> bool:
        return self.reading and not self.closed

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.finished = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.finished, "written after write_eof"
        if not self.closed:
            self.written += bytes(data)

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def close(self) -> None:
        self._end()

    def abort(self) -> None:
        self.aborted = True
        self._end()

    def _end(self) -> None:
        if not self.closed:
            self.closed = True
            assert self.protocol is not None
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)


class Connecting:
    """A connection that the router wants to a container."""

    def __init__(self, port: int, factory: Callable[[], asyncio.Protocol]) -> None:
        self.port = port
        self._factory = factory
        self._result: asyncio.Future[tuple[Wire, asyncio.Protocol]] = asyncio.get_running_loop().create_future()

    async def result(self) -> tuple[Wire, asyncio.Protocol]:
        return await self._result

    def accept(self) -> Wire:
        wire, protocol = Wire(), self._factory()
        wire.attach(protocol)
        self._result.set_result((wire, protocol))
        return wire

    def refuse(self, error: OSError) -> None:
        self._result.set_exception(error)

    @property
    def is_waiting(self) -> bool:
        return not self._result.done()


async def _never(_target: Target) -> None:
    raise NotImplementedError


class Rig:
    """A router's shared state, one caller, and containers on ports 1, 2, ..."""

    def __init__(
        self,
        names: Sequence[str] = ("a", "b"),
        mode: Literal["Direct", "Serial"] = "Direct",
        metrics: Metrics | None = None,
        **table: Any,
    ) -> None:
        self.now = 1000.0
        address = Address(host="127.0.0.1", port=0)
        targets = tuple(Target(name=name, port=number) for number, name in enumerate(names, 1))
        routes = RouteTable(namespace="n", endpoint="e", mode=mode, targets=targets, **table)
        settings = Settings(table=Path("none"), listen=address, admin=address)
        health = Health(_never, clock.system().utc)
        self.service = Service(routes, settings, metrics or Metrics(), health, Guard(None), lambda: self.now)
        self.names = tuple(names)
        self.connecting: list[Connecting] = []
        self.registry: set[CallerConnection] = set()
        asyncio.get_running_loop().create_connection = self._connect  # type: ignore[method-assign,assignment]

    async def _connect(
        self, factory: Callable[[], asyncio.Protocol], _host: str, port: int, **_options: Any
    ) -> tuple[Wire, asyncio.Protocol]:
        wanted = Connecting(port, factory)
        self.connecting.append(wanted)
        return await wanted.result()

    def caller(self) -> Wire:
        """A new connection of a caller."""
        wire = Wire()
        wire.attach(CallerConnection(self.service, self.registry))
        return wire

    def pending(self, name: str) -> Connecting | None:
        """The oldest connection to `name` that is neither accepted nor refused."""
        port = self.names.index(name) + 1
        return next((one for one in self.connecting if one.port == port and one.is_waiting), None)

    def tick(self) -> None:
        """What the router's timer does."""
        self.service.tick()
        for connection in list(self.registry):
            connection.check_time(self.now)
        self.service.buffered = sum(connection.buffered() for connection in self.registry)

    async def settle(self) -> None:
        """Until everything that can happen now has happened."""
        for _ in range(_TURNS):
            await asyncio.sleep(0)
