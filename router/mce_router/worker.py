"""`python -m mce_router.worker`: one of several processes behind a data port, told what to do by its supervisor.

It gets the supervisor's command line, its route table over the control line (`control`), and heeds no signal but
SIGKILL: the supervisor alone decides. When the supervisor is gone, it ends at once.
"""

import asyncio
import dataclasses
import os
import signal
import socket
import sys
from typing import Any

import uvloop

from mce_api import routes
from mce_api.routes import InvalidRouteTable
from mce_kit import logs, tasks
from mce_router import app, control, tracing
from mce_router import settings as command_line
from mce_router.app import Router
from mce_router.control import Handler
from mce_router.settings import Settings
from mce_router.tracing import Tracer


class Worker:
    """Answers the supervisor's questions. `serve` is the first one, the others come only after its answer."""

    def __init__(self, settings: Settings, tracer: Tracer | None) -> None:
        self._settings = settings
        self._tracer = tracer
        self._router: Router | None = None
        self._ended = asyncio.Event()

    async def run(self) -> None:
        """Serves until it is drained or the supervisor is gone."""
        reader, writer = await control.connect(socket.socket(fileno=sys.stdin.fileno()))
        handlers: dict[str, Handler] = {
            "serve": self._serve,
            "use": self._use,
            "report": self._report,
            "ping": self._ping,
            "drain": self._drain,
        }
        answering = tasks.spawn(control.answer(reader, writer, handlers), name="answer the supervisor")
        answering.add_done_callback(lambda _: self._ended.set())
        await self._ended.wait()
        answering.cancel()
        if self._router is not None:
            self._router.close()

    def _running(self) -> Router:
        assert self._router is not None  # noqa: S101 - the supervisor waits for the answer to `serve`
        return self._router

    async def _serve(self, table: str) -> str:
        """Opens the data port; says why it could not, or nothing."""
        try:
            router = Router(self._settings, routes.parse(table), self._tracer)
            await router.open()
        except (InvalidRouteTable, OSError) as error:
            return app.complaint(error)
        self._router = router
        return ""

    async def _use(self, table: str) -> None:
        self._running().use(routes.parse(table))

    async def _report(self, _: None) -> dict[str, Any]:
        return dataclasses.asdict(await self._running().report())

    async def _ping(self, name: str) -> str | None:
        return await self._running().ping(name)

    async def _drain(self, pod_ends: str) -> None:
        """Ends the process when it is done: its end is the news, and new connections then go to the others."""
        drain = self._running().drain
        drain.begin(pod_ends=bool(pod_ends))
        await drain.wait()
        self._ended.set()


def main() -> int:
    """Returns the exit status 0."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    settings = command_line.parse(sys.argv[1:])
    logs.configure(settings.log_level)
    tracer = tracing.make(os.environ)  # the supervisor has checked it
    try:
        uvloop.run(Worker(settings, tracer).run())
    finally:
        if tracer is not None:
            tracer.close(tracing.CLOSE_SECONDS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
