"""The supervisor of one endpoint: ``python -m mce_local --home DIR --endpoint NAME``. Started by `mce local up`."""

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
import uuid
from pathlib import Path
from typing import Final

import aiohttp
from aiohttp import web

from mce_api import wire
from mce_kit import clock, logs, tasks
from mce_local import orphans, settings, state
from mce_local.engines import Engine
from mce_local.errors import LocalError, StartFailed
from mce_local.processes import Processes
from mce_local.router import Router
from mce_local.sampler import Sampler
from mce_local.settings import Settings
from mce_local.state import Folder, Order, Phase, Record
from mce_local.status import StatusServer
from mce_local.supervisor import STOP_GRACE_SECONDS, Supervisor, Tools
from mce_local.wanted import RuntimeKind

_ALREADY_RUNNING: Final = 3
_log: Final = logging.getLogger("mce_local")


def main() -> int:
    """Exit code 0: stopped by a signal; 1: the endpoint did not start; 3: it has a supervisor already."""
    parser = argparse.ArgumentParser(prog="python -m mce_local", description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--endpoint", required=True)
    arguments = parser.parse_args()
    logs.configure("info")
    folder = state.folder(arguments.home, arguments.endpoint)
    try:
        with state.locked(folder.lock, wait=False):
            return asyncio.run(_supervise(folder, settings.read()))
    except BlockingIOError:
        _log.error("this endpoint has a supervisor already")
        return _ALREADY_RUNNING


async def _supervise(folder: Folder, own: Settings) -> int:
    order = state.read(folder.order, Order)
    if order is None:
        raise LocalError(f"{folder.order} is not there")
    _clean_up_after_predecessor(folder, own)
    # Not written yet: who reads it may signal, and the handlers are not there yet.
    record = _record(order)
    timeout = aiohttp.ClientTimeout(total=wire.PING_TIMEOUT_SECONDS)
    # force_close: a container that restarts must not be met on a connection to its former self.
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
        return await _run(folder, own, record, order, session)


async def _run(folder: Folder, own: Settings, record: Record, order: Order, session: aiohttp.ClientSession) -> int:
    time = clock.system()
    processes = Processes(own.inherited, time)
    kind = order.wanted.runtime
    runtime = processes if kind is RuntimeKind.PROCESS else Engine(kind.value, own.everything, processes)
    router = Router(processes, own.inherited, record.instance, folder, time)
    sampler = Sampler(runtime, time)
    tools = Tools(folder=folder, runtime=runtime, router=router, clock=time, session=session)
    supervisor = Supervisor(tools, record, order)
    runner = web.AppRunner(StatusServer(supervisor, sampler, router, session).application(), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    supervisor.record = record.model_copy(update={"status_port": runner.addresses[0][1]})
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, supervisor.stop)
    loop.add_signal_handler(signal.SIGHUP, supervisor.reload)
    sampling = tasks.spawn(sampler.run(supervisor.handles), name="usage")
    try:
        await supervisor.run()
    except StartFailed as error:
        state.write(folder.record, supervisor.record.model_copy(update={"phase": Phase.FAILED, "failure": str(error)}))
        return 1
    finally:
        sampling.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await sampling
        await runner.cleanup()
    folder.clear()
    return 0


def _clean_up_after_predecessor(folder: Folder, own: Settings) -> None:
    before = state.read(folder.record, Record)
    if before is not None:
        left = orphans.clean(before.instance, before.runtime, dict(own.everything), STOP_GRACE_SECONDS)
        _log.warning("cleaned up after a supervisor that was killed", extra={"left": left})
    for log in (folder.router_log, *folder.logs.glob("*.log")):
        log.unlink(missing_ok=True)


def _record(order: Order) -> Record:
    wanted = order.wanted
    return Record(
        endpoint=wanted.endpoint,
        namespace=wanted.namespace,
        mode=wanted.mode,
        runtime=wanted.runtime,
        instance=uuid.uuid4().hex,
        pid=os.getpid(),
        started=state.start_time(os.getpid()),
        phase=Phase.CREATING,
        generation=order.generation,
    )


if __name__ == "__main__":
    sys.exit(main())
