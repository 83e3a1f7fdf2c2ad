"""The admin port (aiohttp): health, targets, metrics, drain, and what the kubelet's probes and hooks call."""

import json
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from mce_api import names
from mce_router.drain import Drain
from mce_router.service import Service

_HOOK_PATIENCE_SECONDS: Final = 1.0
"""A container's hook runs when its pod ends and when it alone is restarted; only the first comes with a drain, at
once."""


class Admin:
    """Handlers; each a few lines, deciding nothing."""

    def __init__(self, service: Service, drain: Drain, registry: CollectorRegistry) -> None:
        self._service = service
        self._drain = drain
        self._registry = registry

    def application(self) -> web.Application:
        """The routes."""
        made = web.Application(client_max_size=1024)
        made.add_routes(
            [
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/targets", self._targets),
                web.get("/metrics", self._metrics),
                web.post("/drain", self._start_drain),
                web.get("/startup/{name}", self._startup),
                web.get("/prestop/{name}", self._prestop),
            ]
        )
        return made

    async def _healthz(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _request: web.Request) -> web.Response:
        if self._service.is_ready():
            return web.Response(text="ready\n")
        if self._service.draining:
            return web.Response(status=503, text="draining\n")
        health = self._service.health
        down = [
            f"{target.name}: {cause}"
            for target in self._service.routes.table.targets
            if (cause := health.cause_down(target.name))
        ]
        return web.Response(status=503, text="\n".join(down) + "\n")

    async def _targets(self, _request: web.Request) -> web.Response:
        service = self._service
        table = service.routes.table
        targets = []
        for target in table.targets:
            vital = service.health.vital(target.name)
            targets.append(
                {
                    "name": target.name,
                    "host": target.host,
                    "port": target.port,
                    "state": vital.state.value if vital else "",
                    "lastError": vital.last_error if vital else "",
                    "inflight": service.inflight(target.name),
                    "invocations": service.metrics.invocations(target.name),
                }
            )
        body = {
            "namespace": table.namespace,
            "endpoint": table.endpoint,
            "variant": table.variant,
            "mode": table.mode,
            "draining": service.draining,
            "listenerCheck": service.guard.method,
            "targets": targets,
        }
        return web.json_response(body, dumps=lambda value: json.dumps(value) + "\n")

    async def _metrics(self, request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(self._registry), headers={"Content-Type": content_type})

    async def _start_drain(self, _request: web.Request) -> web.Response:
        self._drain.begin()
        return web.Response(status=202, text="draining\n")

    async def _startup(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        target = next((target for target in self._service.routes.table.targets if target.name == name), None)
        if target is None:
            return web.Response(status=404, text="no such container\n")
        error = await self._service.health.ping_now(target)
        return web.Response(status=503 if error else 200, text=(error or "ok") + "\n")

    async def _prestop(self, request: web.Request) -> web.Response:
        """Answers when the caller may be stopped; the router's own hook is what starts a drain."""
        if request.match_info["name"] == names.ROUTER_CONTAINER:
            self._drain.begin()
        if await self._drain.begun_within(_HOOK_PATIENCE_SECONDS):
            await self._drain.wait()
        return web.Response(text="stop\n")
