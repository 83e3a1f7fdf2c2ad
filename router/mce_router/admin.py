"""The admin port (aiohttp): health, targets, metrics, drain, and what the kubelet's probes and hooks call.

Importing aiohttp and prometheus_client takes longer than all the rest of a start, so this module is imported only
when the data port is open.
"""

import asyncio
import json
import re
import socket
from typing import Final, Protocol

from aiohttp import web

from mce_api import names
from mce_api.routes import RouteTable
from mce_kit import clock
from mce_router import exposition, listening, report
from mce_router.drain import Drain
from mce_router.report import Report
from mce_router.scrape import Scraper

_HOOK_PATIENCE_SECONDS: Final = 1.0
"""A container's hook runs when its pod ends and when it alone is restarted; only the first comes with a drain, at
once."""
_SECONDS: Final = re.compile(r"[0-9]{1,3}(\.[0-9]{1,3})?", re.ASCII)
_LONGEST_WAIT_SECONDS: Final = 60.0
_LOOK_AGAIN_SECONDS: Final = 0.1


class Subject(Protocol):
    """What the port is about: a router in one process, or a supervisor and its workers."""

    drain: Drain

    @property
    def table(self) -> RouteTable:
        """As in the file, caps whole."""

    async def report(self) -> Report:
        """Its state now."""

    async def ping(self, name: str) -> str | None:
        """Asks a container at once: what is wrong, empty if nothing; None if there is no such container."""


async def serve(subject: Subject, port: socket.socket) -> web.AppRunner:
    """Answers on a listening socket; `cleanup` of what is returned closes it."""
    runner = web.AppRunner(Admin(subject).application(), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.SockSite(runner, port).start()
    return runner


class Admin:
    """Handlers; each a few lines, deciding nothing."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._clock = clock.system().monotonic
        self._scraper = Scraper(self._clock)

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
        made.on_shutdown.append(self._stop_scraping)
        return made

    async def _healthz(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, request: web.Request) -> web.Response:
        end = self._end_of_wait(request)
        while True:
            state = await self._subject.report()
            if state.draining and not self._subject.drain.pod_ends:
                return web.Response(status=503, text="draining\n")
            if state.ready:
                return web.Response(text="ready\n")
            if not report.is_starting(state) or not await self._may_look_again(end):
                return web.Response(status=503, text="\n".join(report.causes(state)) + "\n")

    async def _targets(self, _request: web.Request) -> web.Response:
        state, table = await self._subject.report(), self._subject.table
        body = report.targets(state, table)
        if state.listener_check != "off" and not all(row["state"] == "Healthy" for row in body["targets"]):
            heard = await asyncio.to_thread(listening.ports)
            for row, target in zip(body["targets"], table.targets, strict=True):
                if target.uid is not None:
                    row["listensOn"] = heard.get(target.uid, [])
        return web.json_response(body, dumps=lambda value: json.dumps(value) + "\n")

    async def _metrics(self, request: web.Request) -> web.Response:
        state, table, theirs = await self._subject.report(), self._subject.table, b""
        accept = request.headers.get("Accept", "")
        if "containers" in request.query:
            if request.query["containers"] != "1":
                return web.Response(status=400, text="containers may only be 1, or left out\n")
            theirs, accept = await self._scraper.page(table), ""  # theirs is in the plain format
        body, kind = exposition.text(state.samples, table, accept)
        return web.Response(body=body + theirs, headers={"Content-Type": kind})

    async def _stop_scraping(self, _application: web.Application) -> None:
        self._scraper.close()

    async def _start_drain(self, _request: web.Request) -> web.Response:
        self._subject.drain.begin()
        return web.Response(status=202, text="draining\n")

    async def _startup(self, request: web.Request) -> web.Response:
        end = self._end_of_wait(request)
        while True:
            error = await self._subject.ping(request.match_info["name"])
            if error is None:
                return web.Response(status=404, text="no such container\n")
            if not error or not await self._may_look_again(end):
                return web.Response(status=503 if error else 200, text=(error or "ok") + "\n")

    async def _prestop(self, request: web.Request) -> web.Response:
        """Answers when the caller may be stopped; the router's own hook is what starts a drain."""
        drain = self._subject.drain
        if request.match_info["name"] == names.ROUTER_CONTAINER:
            drain.begin(pod_ends=True)
        if await drain.begun_within(_HOOK_PATIENCE_SECONDS):
            await drain.wait()
        return web.Response(text="stop\n")

    def _end_of_wait(self, request: web.Request) -> float:
        """Until when the caller waits for a better answer: probes are a second apart at least, a start takes less."""
        wanted = request.query.get("wait", "0")
        if not _SECONDS.fullmatch(wanted) or float(wanted) > _LONGEST_WAIT_SECONDS:
            text = f"wait may be 0 to {_LONGEST_WAIT_SECONDS:g} seconds, such as wait=0.8, not {wanted[:40]!a}\n"
            raise web.HTTPBadRequest(text=text)
        return self._clock() + float(wanted)

    async def _may_look_again(self, end: float) -> bool:
        """Whether there is time left; it is then a little later."""
        left = end - self._clock()
        if left > 0:
            await asyncio.sleep(min(left, _LOOK_AGAIN_SECONDS))
        return left > 0
