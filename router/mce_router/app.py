"""Composition root: builds the parts of one router, opens the ports, runs until told to stop."""

import asyncio
import functools
import logging
import signal
import time
from typing import Final

from aiohttp import web

from mce_api.routes import RouteTable
from mce_kit import tasks
from mce_router import health as pings
from mce_router import listener
from mce_router import metrics as series
from mce_router import table as tables
from mce_router.admin import Admin
from mce_router.drain import Drain
from mce_router.health import Health
from mce_router.listener import Guard
from mce_router.server import CallerConnection
from mce_router.service import Service
from mce_router.settings import Settings

_log: Final = logging.getLogger(__name__)
_TICK_SECONDS: Final = 0.1
_BACKLOG: Final = 1024


class Router:
    """One running router."""

    def __init__(self, settings: Settings, table: RouteTable) -> None:
        self._settings = settings
        metrics = series.Metrics()
        guard = Guard(listener.kernel())
        health = Health(functools.partial(pings.ping, guard))
        self.service = Service(table, settings, metrics, health, guard, time.perf_counter)
        metrics.inflight_of = self.service.inflight
        metrics.healthy_of = health.is_healthy
        self._registry = series.registry(metrics)
        self._connections: set[CallerConnection] = set()
        self.drain = Drain(self.service, self._close_idle)
        self._stop_now = asyncio.Event()

    async def run(self) -> None:
        """Serves until a drain is done or a second signal comes."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled)
        listen, admin = self._settings.listen, self._settings.admin
        runner = web.AppRunner(
            Admin(self.service, self.drain, self._registry).application(), access_log=None, shutdown_timeout=0.1
        )
        await runner.setup()
        server = await loop.create_server(
            lambda: CallerConnection(self.service, self._connections), listen.host, listen.port, backlog=_BACKLOG
        )
        # Last: whoever finds the admin port open may count on the data port.
        await web.TCPSite(runner, admin.host, admin.port).start()
        self.service.health.watch()
        background = [
            tasks.spawn(self._tick(), name="tick"),
            tasks.spawn(self._watch_table(), name="route table"),
        ]
        table = self.service.routes.table
        facts = {"listen": str(listen), "admin": str(admin), "endpoint": table.endpoint, "mode": table.mode}
        _log.info("router started", extra=facts)
        if self.service.guard.method == "off" and any(target.uid is not None for target in table.targets):
            _log.warning("the kernel does not say who listens on a port: containers are taken for who they should be")
        try:
            await self._until_stopped()
        finally:
            for task in background:
                task.cancel()
            self.service.health.stop()
            server.close()
            await runner.cleanup()
            self.service.guard.close()

    async def _until_stopped(self) -> None:
        drained = tasks.spawn(self.drain.wait(), name="wait for drain")
        killed = tasks.spawn(self._stop_now.wait(), name="wait for second signal")
        await asyncio.wait((drained, killed), return_when=asyncio.FIRST_COMPLETED)
        drained.cancel()
        killed.cancel()

    def _signalled(self) -> None:
        """The first signal starts the drain, the second one ends everything."""
        if self.service.draining and self.drain.signalled:
            self._stop_now.set()
        self.drain.signalled = True
        self.drain.begin()

    def _close_idle(self) -> bool:
        """Whether some connection still has a request to send or an answer to read."""
        return sum(connection.close_if_idle() for connection in list(self._connections)) > 0

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            self.service.tick()
            now = self.service.clock()
            for connection in list(self._connections):
                connection.check_time(now)

    async def _watch_table(self) -> None:
        def use(table: RouteTable) -> None:
            self.service.use(table)
            self.service.health.watch()
            self.service.metrics.table_reloaded(good=True)

        await tables.watch(
            self._settings.table,
            self.service.routes.table,
            every_seconds=self._settings.table_poll_seconds,
            use=use,
            bad=lambda: self.service.metrics.table_reloaded(good=False),
        )
