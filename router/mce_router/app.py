"""Composition root of a process that serves invocations: builds its parts, opens the data port, keeps the time.

`Router` is what every such process has, a worker among others too; `run` is the router that is one process.
"""

import asyncio
import functools
import logging
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Final

from mce_api.routes import RouteTable
from mce_kit import clock, tasks
from mce_router import drain as leaving
from mce_router import health as pings
from mce_router import listener
from mce_router import table as tables
from mce_router.access import AccessLog
from mce_router.drain import Drain
from mce_router.health import Health
from mce_router.listener import Guard
from mce_router.metrics import Gauges, Metrics
from mce_router.report import Report
from mce_router.server import CallerConnection
from mce_router.service import Service
from mce_router.settings import Address, Settings
from mce_router.tracing import Tracer

if TYPE_CHECKING:
    from aiohttp.web import AppRunner

    from mce_router.admin import Subject

_log: Final = logging.getLogger(__name__)
_TICK_SECONDS: Final = 0.1
_BACKLOG: Final = 1024


class StartError(Exception):
    """A worker could not start; the message says why."""


class Router:
    """The data port and all behind it, in one process."""

    def __init__(self, settings: Settings, table: RouteTable, tracer: Tracer | None) -> None:
        self._settings = settings
        guard = Guard(listener.kernel())
        health = Health(functools.partial(pings.ping, guard), clock.system().utc)
        self.service = Service(table, settings, Metrics(), health, guard, time.perf_counter)
        if settings.access_log != "off":
            everything = settings.access_log == "all"
            dropped = self.service.metrics.log_dropped
            self.service.access = AccessLog(clock.system().utc, dropped, everything=everything)
        self.service.tracer = tracer
        self._connections: set[CallerConnection] = set()
        self._gauges = Gauges(
            inflight=self.service.admission.inflight,
            queued=self.service.admission.queued,
            buffered_bytes=self.service.memory.held,
            healthy=health.is_healthy,
            connections=lambda: len(self._connections),
            draining=lambda: self.service.draining,
            limits=self._limits,
        )
        self.drain = Drain(self._leave)
        self._server: asyncio.Server | None = None
        self._ticking: asyncio.Task[None] | None = None
        self._timer_failed = False

    @property
    def table(self) -> RouteTable:
        """The table in use."""
        return self.service.routes.table

    async def open(self) -> None:
        """Opens the data port, and everything behind it starts.

        Raises:
            OSError: if nothing can listen there.
        """
        listen = self._settings.listen
        self._server = await asyncio.get_running_loop().create_server(
            lambda: CallerConnection(self.service, self._connections),
            listen.host,
            listen.port,
            backlog=_BACKLOG,
            # Alone, the port must be nobody else's: another process of our user could take a part of the connections.
            reuse_port=self._settings.workers > 1,
        )
        self.service.health.watch()
        if self.service.guard.method == "off" and any(target.uid is not None for target in self.table.targets):
            _log.warning("the kernel does not say who listens on a port: containers are taken for who they should be")
        self._ticking = tasks.spawn(self._tick(), name="tick")

    def close(self) -> None:
        """Stops accepting, watching and ticking."""
        if self._ticking is not None:
            self._ticking.cancel()
        if self._server is not None:
            self._server.close()
        self.service.health.stop()
        self.service.guard.close()
        if self.service.access is not None:
            self.service.access.close()

    def use(self, table: RouteTable) -> None:
        """Takes `table` for every request from now on."""
        self.service.use(table)
        self.service.health.watch()

    async def report(self) -> Report:
        """The state of this process now."""
        service = self.service
        return Report(
            ready=service.health.is_ready(),
            draining=service.draining,
            listener_check=service.guard.method,
            vitals={
                name: (vital.state.value, vital.cause, vital.last_error, vital.last_ping)
                for name, vital in service.health.vitals().items()
            },
            samples=service.metrics.snapshot(self._gauges),
        )

    async def ping(self, name: str) -> str | None:
        """Asks a container at once: what is wrong, empty if nothing; None if there is no such container."""
        target = next((target for target in self.table.targets if target.name == name), None)
        return None if target is None else await self.service.health.ping_now(target)

    def _limits(self) -> Mapping[str, float]:
        limits = self.table.limits
        return {
            "max_request_bytes": limits.max_request_bytes,
            "max_hop_bytes": limits.max_hop_bytes,
            "max_header_bytes": self._settings.max_header_bytes,
            "max_connections": self._settings.max_connections,
            "max_buffered_bytes": self._settings.max_buffered_bytes,
            "max_concurrency": limits.max_concurrency,
            "queue_length": self._settings.queue_length,
        }

    async def _leave(self) -> None:
        await leaving.finish(self.service, self._close_idle, pod_ends=self.drain.pod_ends)

    def _close_idle(self) -> bool:
        """Whether some connection still has a request to send or an answer to read."""
        return sum(connection.close_if_idle() for connection in list(self._connections)) > 0

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            self.tick()

    def tick(self) -> None:
        """Ends every wait that took too long; what fails at one leaves the others alone."""
        try:
            self.service.tick()
        except Exception:  # noqa: BLE001 - whatever it is, the other timers go on
            if not self._timer_failed:  # it may go on failing ten times a second
                _log.exception("a timer failed")
            self._timer_failed = True
        if self.service.access is not None:
            self.service.access.flush()
        now = self.service.clock()
        buffered = 0
        for connection in list(self._connections):
            try:
                connection.check_time(now)
                buffered += connection.buffered()
            except Exception:  # noqa: BLE001 - whatever it is, the other connections have a right to their timers
                _log.exception("the time of a connection could not be checked; it is cut off")
                self._connections.discard(connection)  # whatever else fails, it is said once
                connection.abort()
        self.service.buffered = buffered


def complaint(error: Exception) -> str:
    """Why a router could not start, in one sentence for its user."""
    return f"can not listen: {error}" if isinstance(error, OSError) else str(error)


async def run(settings: Settings, table: RouteTable, tracer: Tracer | None) -> None:
    """One process that serves until a drain is done or a second signal comes.

    Raises:
        OSError: if it can not listen on both ports.
    """
    router = Router(settings, table, tracer)
    router.drain.heed_signals()
    runner = watching = None
    try:
        await router.open()
        watching = tasks.spawn(_watch_table(settings, router), name="route table")
        # After the data port: whoever finds the admin port open may count on it.
        port = admin_port(settings.admin)
        serve = await asyncio.to_thread(admin_server)  # invocations go on meanwhile
        runner = await serve(router, port)
        facts = {"listen": str(settings.listen), "admin": str(settings.admin)}
        _log.info("router started", extra={**facts, "endpoint": table.endpoint, "mode": table.mode})
        await router.drain.over()
    finally:
        if watching is not None:
            watching.cancel()
        router.close()
        if runner is not None:
            await runner.cleanup()


def admin_port(address: Address) -> socket.socket:
    """The admin port, listening: models are started when it does, and whoever asks waits until it is served.

    Raises:
        OSError: if nothing can listen there.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    return socket.create_server((address.host, address.port), family=family, backlog=128)


def admin_server() -> "Callable[[Subject, socket.socket], Awaitable[AppRunner]]":
    """What serves the admin port. Its libraries take long to import, so it happens here, not at the start."""
    from mce_router import admin  # noqa: PLC0415

    return admin.serve


async def _watch_table(settings: Settings, router: Router) -> None:
    count = router.service.metrics.table_reloaded

    def use(table: RouteTable) -> None:
        router.use(table)
        count(good=True)

    await tables.watch(settings, router.table, use=use, bad=lambda: count(good=False))
