"""The operator's own HTTP: /healthz for the kubelet's liveness, /readyz for its readiness, /metrics for Prometheus."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

from mce_operator.metrics import Metrics

STUCK_SECONDS: Final = 300
"""A pass that takes longer than this hangs; the process is better started anew."""


@asynccontextmanager
async def serving(host: str, port: int, metrics: Metrics, oldest_run: Callable[[], float]) -> AsyncIterator[int]:
    """Serves while the context is open; yields the port."""

    async def healthz(_: web.Request) -> web.Response:
        seconds = oldest_run()
        if seconds > STUCK_SECONDS:
            return web.Response(status=503, text=f"one pass has been running for {seconds:.0f} s\n")
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

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
