"""The operator's own HTTP: /healthz for the kubelet's liveness, /readyz for its readiness, /metrics for Prometheus."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from mce_operator import watches
from mce_operator.metrics import Metrics

STUCK_SECONDS: Final = 300
"""A pass that takes longer than this hangs; the process is better started anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What the probes ask."""

    oldest_run: Callable[[], float]
    """For how many seconds the longest of the present passes has been going."""
    silence: Callable[[], tuple[float, str]]
    """For how many seconds the most neglected watch has not been asked for, and its name."""
    waits_for: Callable[[], str]
    """What this operator needs before it could lead; empty: nothing."""

    def ailment(self) -> str:
        """Why the process is better started anew; empty: it is well. An API server that is away is no reason."""
        seconds = self.oldest_run()
        if seconds > STUCK_SECONDS:
            return f"one pass has been running for {seconds:.0f} s"
        seconds, name = self.silence()
        if seconds > watches.STUCK_SECONDS:
            return f"the watch of {name} is deaf: not asked for in {seconds:.0f} s"
        return ""


@asynccontextmanager
async def serving(host: str, port: int, metrics: Metrics, health: Health) -> AsyncIterator[int]:
    """Serves while the context is open; yields the port."""

    def verdict(objection: str) -> web.Response:
        return web.Response(status=503, text=f"{objection}\n") if objection else web.Response(text="ok\n")

    async def healthz(_: web.Request) -> web.Response:
        return verdict(health.ailment())

    async def readyz(_: web.Request) -> web.Response:
        return verdict(health.waits_for())

    async def render(_: web.Request) -> web.Response:
        return web.Response(body=metrics.render(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", render)
    runner = web.AppRunner(app, handle_signals=False, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()
