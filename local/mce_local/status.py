"""The supervisor's own HTTP on loopback, read-only: `GET /status` (JSON) and `GET /metrics` (CPU and memory)."""

from collections.abc import Iterator

import aiohttp
from aiohttp import web
from aiohttp.typedefs import Handler
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from mce_api import wire
from mce_kit.usage import Usage, UsageCollector
from mce_local import router
from mce_local.router import Counts, Router
from mce_local.sampler import Sampler
from mce_local.snapshot import ContainerSnapshot, Snapshot
from mce_local.supervisor import Supervisor
from mce_local.units import Unit


class StatusServer:
    """Answers from what the supervisor and the sampler know at that moment."""

    def __init__(
        self, supervisor: Supervisor, sampler: Sampler, router_process: Router, session: aiohttp.ClientSession
    ) -> None:
        self._supervisor = supervisor
        self._sampler = sampler
        self._router = router_process
        self._session = session
        self._registry = CollectorRegistry()
        self._registry.register(UsageCollector(self._usages))

    def application(self) -> web.Application:
        """The two routes."""
        application = web.Application(middlewares=[_loopback_names_only])
        application.add_routes([web.get("/status", self._status), web.get("/metrics", self._metrics)])
        return application

    async def _status(self, _request: web.Request) -> web.Response:
        counts = await router.counts(self._session, self._supervisor.record.admin_port)
        return web.Response(text=self._snapshot(counts).model_dump_json(by_alias=True), content_type="application/json")

    async def _metrics(self, _request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    def _usages(self) -> Iterator[Usage]:
        record = self._supervisor.record
        for name, unit in self._supervisor.units.items():
            sample = self._sampler.latest.get(name)
            if sample is not None:
                container = unit.launch.container
                yield Usage(
                    namespace=record.namespace,
                    endpoint=record.endpoint,
                    variant=wire.DEFAULT_VARIANT,
                    container=name,
                    pod="local",
                    cpu_cores=sample.cpu_cores,
                    memory_bytes=sample.memory_bytes,
                    cpu_limit_cores=container.cpu_cores,
                    memory_limit_bytes=container.memory_bytes,
                )

    def _snapshot(self, counts: dict[str, Counts]) -> Snapshot:
        record = self._supervisor.record
        handle = self._router.handle
        return Snapshot(
            endpoint=record.endpoint,
            namespace=record.namespace,
            mode=self._supervisor.order.wanted.mode,
            runtime=record.runtime,
            phase=record.phase,
            generation=record.generation,
            failure=record.failure,
            url=record.url,
            metrics_url=f"http://127.0.0.1:{record.status_port}/metrics",
            router_metrics_url=f"http://127.0.0.1:{record.admin_port}/metrics",
            supervisor_pid=record.pid,
            router_pid=handle.pid if handle else None,
            containers=tuple(
                self._container(unit, counts.get(name, Counts())) for name, unit in self._supervisor.units.items()
            ),
        )

    def _container(self, unit: Unit, counts: Counts) -> ContainerSnapshot:
        container = unit.launch.container
        sample = self._sampler.latest.get(unit.name) if unit.handle else None
        return ContainerSnapshot(
            name=unit.name,
            image=container.image,
            state=unit.state.value,
            id=unit.handle.id if unit.handle else "",
            port=unit.launch.assigned.port,
            restarts=unit.restarts,
            last_exit_code=unit.last_exit,
            message=unit.message,
            invocations=counts.invocations,
            errors=counts.errors,
            cpu_percent=round(sample.cpu_cores * 100, 1) if sample else None,
            cpu_seconds=round(self._sampler.cpu_seconds.get(unit.name, 0.0), 3),
            memory_bytes=round(sample.memory_bytes) if sample else None,
            memory_limit_bytes=container.memory_bytes,
            log=str(unit.launch.log),
        )


@web.middleware
async def _loopback_names_only(request: web.Request, handler: Handler) -> web.StreamResponse:
    """A page in a browser may point a name of its own at 127.0.0.1 (DNS rebinding); it cannot forge Host."""
    if request.host.rpartition(":")[0] not in {"127.0.0.1", "localhost"}:
        return web.Response(status=403, text="ask for 127.0.0.1 or localhost\n")
    return await handler(request)
