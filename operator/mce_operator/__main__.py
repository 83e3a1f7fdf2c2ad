"""Composition root of the operator process."""

import asyncio
import logging
import socket
import sys
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Final

import aiohttp
import kopf
import uvloop

from mce_kit import clock as clocks
from mce_kit import kube, logs, tasks
from mce_operator import handlers, server, sync
from mce_operator.apply import Writer
from mce_operator.cache import Cache
from mce_operator.events import Recorder
from mce_operator.metrics import Metrics
from mce_operator.queue import Backoff, Schedule, WorkQueue
from mce_operator.reconcile import Reconciler
from mce_operator.resources.network_policy import Network
from mce_operator.resources.router import Setup
from mce_operator.routers import HttpRouters
from mce_operator.settings import Settings
from mce_operator.throttle import Bucket, Throttle
from mce_operator.usage import UsageReader
from mce_operator.work import work_forever

_LAST_RUNS_SECONDS: Final = 5
"""What running passes get to end when the process is told to stop."""

_log: Final = logging.getLogger("mce_operator")


async def run(settings: Settings) -> int:
    """Runs until a signal, or until something breaks that a new process does better; returns the exit status."""
    clock = clocks.system()
    async with kube.connect(settings.request_timeout_seconds) as api, aiohttp.ClientSession() as session:
        cache, metrics = Cache(), Metrics()
        await sync.fill(api, cache, settings.namespaces)
        backoff = Backoff(first_seconds=settings.backoff_seconds, longest_seconds=settings.max_backoff_seconds)
        queue = WorkQueue(Schedule(backoff), clock.monotonic)
        bucket = Bucket(rate=settings.writes_per_second, burst=settings.write_burst)
        usage = UsageReader(api, cache, is_clusterwide=not settings.namespaces)
        metrics.watch_queue(lambda: queue.depth, lambda: queue.waiting)
        metrics.watch_usage(usage.current)
        reconciler = Reconciler(
            api=api,
            cache=cache,
            writer=Writer(api, cache, metrics, Throttle(bucket, clock.monotonic, metrics.held_back)),
            recorder=Recorder(socket.gethostname(), clock.utc),
            metrics=metrics,
            routers=HttpRouters(session),
            setup=_setup(settings),
            utc=clock.utc,
        )
        for key in cache.endpoints():
            queue.add(key)
        async with server.serving(settings.http_host, settings.http_port, metrics, queue.oldest_run) as port:
            _log.info("started", extra={"port": port, "namespaces": settings.namespaces or "all"})
            background = [
                tasks.spawn(
                    work_forever(queue, reconciler.reconcile, metrics, clock.monotonic), name=f"worker-{number}"
                )
                for number in range(settings.workers)
            ]
            resync = sync.keep_filled(api, cache, queue, settings.namespaces, settings.resync_seconds)
            background.append(tasks.spawn(resync, name="resync"))
            background.append(tasks.spawn(usage.poll_forever(settings.usage_seconds), name="usage"))
            watching = kopf.operator(
                registry=handlers.registry(cache, queue, api.connection, clock.utc),
                settings=handlers.settings(is_clusterwide=not settings.namespaces),
                # Its own guess asks for the user's name, which a user id without an entry in /etc/passwd does not have.
                identity=socket.gethostname(),  # type: ignore[arg-type]  # a NewType that kopf keeps to itself
                standalone=True,
                clusterwide=not settings.namespaces,
                namespaces=settings.namespaces,
            )
            status = await _until_first_ends(watching, background)
            await _finish(queue, background)
            return status


def _setup(settings: Settings) -> Setup:
    network = Network(
        is_policed=settings.network_policies,
        operator_namespace=settings.own_namespace,
        metrics_from=settings.metrics_from,
    )
    return Setup(
        image=settings.router_image,
        arguments=settings.router_arguments,
        env=settings.router_env,
        network=network,
    )


async def _until_first_ends(watching: Coroutine[Any, Any, None], background: list[asyncio.Task[Any]]) -> int:
    """Runs kopf, which ends at a signal: that is 0. Whatever else ends first is a fault.

    kopf's own stop flag is not used: it leaves a task behind, for which kopf then waits five seconds at every stop.
    """
    kopfs = tasks.spawn(watching, name="kopf")
    done, _ = await asyncio.wait({kopfs, *background}, return_when=asyncio.FIRST_COMPLETED)
    if kopfs in done and kopfs.exception() is None:
        return 0
    kopfs.cancel()
    await asyncio.gather(kopfs, return_exceptions=True)
    return 1


async def _finish(queue: WorkQueue, background: list[asyncio.Task[Any]]) -> None:
    """Lets running passes end, within reason, and stops the rest."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_LAST_RUNS_SECONDS):
            await queue.close()
    for task in background:
        task.cancel()
    await asyncio.gather(*background, return_exceptions=True)


def main() -> int:
    """Entry point of `python -m mce_operator`."""
    settings = Settings()
    logs.configure(settings.log_level)
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)  # says "handler succeeded" for every event
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            return runner.run(run(settings))
        except kube.ApiError as error:
            hint = "; is the CRD installed? kubectl apply -f crds/" if error.is_not_found else ""
            _log.critical("cannot start", extra={"error": f"{error}{hint}"})
            return 1


if __name__ == "__main__":
    sys.exit(main())
