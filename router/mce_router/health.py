"""Each container's health as SageMaker asks for it: a GET of its ping path, 200 only, 2 s, about every 5 s.

Hysteresis: one good ping makes a container healthy, two bad ones in a row unhealthy. While it starts or is sick it is
asked more often. Pings use connections of their own: a server with a single thread would be blocked by one that stays
open.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from mce_api import wire
from mce_api.pings import PingCause, PingFault
from mce_api.routes import RouteTable, Target
from mce_kit import tasks
from mce_router.listener import Guard, Impostor

_STARTING_INTERVAL_SECONDS: Final = 0.25
_UNHEALTHY_INTERVAL_SECONDS: Final = 1.0
_FAILURES_TO_UNHEALTHY: Final = 2
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] ([0-9]{3})[ \r\n]")

Ping = Callable[[Target], Awaitable[PingFault | None]]
"""Asks a container once; returns what is wrong, none when it answered 200 in time."""


class State(StrEnum):
    """What is known of a container."""

    STARTING = "Starting"
    HEALTHY = "Healthy"
    UNHEALTHY = "Unhealthy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Vital:
    """One container's health; `after` gives the next."""

    state: State = State.STARTING
    failures: int = 0
    cause: str = ""
    """What was wrong with the last ping, a `PingCause`; empty: nothing, or there was none yet."""
    last_error: str = ""
    """The same for people."""
    last_ping: str = ""
    """When it was last asked (ISO 8601, UTC); empty: not yet."""

    def after(self, fault: PingFault | None) -> "Vital":
        """The health after a ping that ended with `fault` (none: 200 in time)."""
        if fault is None:
            return Vital(state=State.HEALTHY)
        failures = self.failures + 1
        sick = self.state is State.HEALTHY and failures >= _FAILURES_TO_UNHEALTHY
        return replace(
            self,
            state=State.UNHEALTHY if sick else self.state,
            failures=failures,
            cause=fault.cause.value,
            last_error=fault.text,
        )

    def cause_down(self) -> str:
        """Why the container may not be asked; empty if it may."""
        if self.state is State.HEALTHY:
            return ""
        doing = "it is starting" if self.state is State.STARTING else "it is unhealthy"
        return f"{doing} ({self.last_error})" if self.last_error else doing

    def interval_seconds(self) -> float:
        """How long to wait before the next ping."""
        if self.state is State.STARTING:
            return _STARTING_INTERVAL_SECONDS
        if self.failures:
            return _UNHEALTHY_INTERVAL_SECONDS
        return wire.PING_INTERVAL_SECONDS


class Health:
    """The health of all containers of the table in use."""

    def __init__(self, ping: Ping, utc: Callable[[], datetime]) -> None:
        self._ping = ping
        self._utc = utc
        self._needs_all = True
        self._vitals: dict[Target, Vital] = {}
        self._watchers: dict[Target, asyncio.Task[None]] = {}

    def use(self, table: RouteTable) -> None:
        """Watches the containers of `table` from now on."""
        self._needs_all = table.availability == "All"
        known = {_place(target): vital for target, vital in self._vitals.items()}
        self._vitals = {target: known.get(_place(target), Vital()) for target in table.targets}
        for target in [target for target in self._watchers if target not in self._vitals]:
            self._watchers.pop(target).cancel()

    def watch(self) -> None:
        """Starts whatever watcher is missing; needs a running loop."""
        for target in self._vitals:
            if target not in self._watchers:
                self._watchers[target] = tasks.spawn(self._watch(target), name=f"ping {target.name}")

    def stop(self) -> None:
        """Stops all watchers."""
        while self._watchers:
            self._watchers.popitem()[1].cancel()

    async def _watch(self, target: Target) -> None:
        while target in self._vitals:
            await self.ping_now(target)
            vital = self._vitals.get(target)
            await asyncio.sleep(vital.interval_seconds() if vital else 0)

    async def ping_now(self, target: Target) -> str:
        """Asks `target` at once; returns what is wrong, empty if nothing."""
        fault = await self._ping(target)
        if target in self._vitals:
            now = self._utc().isoformat(timespec="milliseconds")
            self._vitals[target] = replace(self._vitals[target].after(fault), last_ping=now)
        return fault.text if fault else ""

    def vitals(self) -> dict[str, Vital]:
        """The health of all containers by name."""
        return {target.name: vital for target, vital in self._vitals.items()}

    def vital(self, name: str) -> Vital | None:
        """The health of the container called `name`."""
        return next((vital for target, vital in self._vitals.items() if target.name == name), None)

    def is_healthy(self, name: str) -> bool:
        """Whether the container called `name` is healthy."""
        vital = self.vital(name)
        return vital is not None and vital.state is State.HEALTHY

    def cause_down(self, name: str) -> str:
        """Why the container called `name` may not be asked; empty if it may."""
        vital = self.vital(name)
        return vital.cause_down() if vital else ""

    def is_ready(self) -> bool:
        """Whether the endpoint takes traffic: every container healthy, or with availability Any one of them."""
        healthy = [vital.state is State.HEALTHY for vital in self._vitals.values()]
        return all(healthy) if self._needs_all else any(healthy)


def _place(target: Target) -> tuple[str, str, int, str]:
    """What makes it the same container, asked the same: its limits may change."""
    return (target.name, target.host, target.port, target.ping_path)


async def ping(guard: Guard, target: Target) -> PingFault | None:
    """One GET on a connection of its own, within 2 s; only the status line of the answer is read."""
    asked = f"GET {target.ping_path} on port {target.port}"
    try:
        async with asyncio.timeout(wire.PING_TIMEOUT_SECONDS):
            reader, writer = await asyncio.open_connection(target.host, target.port, limit=4096)
            try:
                await guard.check(target, writer.transport)
                host = f"host: {target.host}:{target.port}"
                writer.write(f"GET {target.ping_path} HTTP/1.1\r\n{host}\r\nconnection: close\r\n\r\n".encode())
                line = await reader.readuntil(b"\n")
            finally:
                writer.transport.abort()
    except TimeoutError:
        text = f"no answer to {asked} within {wire.PING_TIMEOUT_SECONDS:g} s"
        return PingFault(cause=PingCause.PING_TIMEOUT, text=text)
    except Impostor as stranger:
        return PingFault(cause=PingCause.PORT_TAKEN, text=str(stranger))
    except ConnectionRefusedError:
        return PingFault(cause=PingCause.PORT_NOT_BOUND, text=f"nothing listens on port {target.port}")
    except (OSError, UnicodeError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        return PingFault(cause=PingCause.PING_BROKEN, text=f"{asked} failed: {type(error).__name__}")
    match = _STATUS_LINE.match(line)
    if match is None:
        return PingFault(cause=PingCause.PING_BROKEN, text=f"port {target.port} does not speak HTTP/1.1")
    if match[1] == b"200":
        return None
    return PingFault(cause=PingCause.PING_STATUS, text=f"{asked} answered {match[1].decode()}, not 200")
