"""Composition root of the operator process."""

import asyncio
import logging
import signal
import socket
import sys
import uuid
from contextlib import suppress
from typing import Any, Final

import aiohttp
import kopf
import uvloop

from mce_kit import clock as clocks
from mce_kit import kube, logs, tasks
from mce_kit.kube import AioKubeApi
from mce_operator import election, handlers, server, sync, watches
from mce_operator.apply import Writer
from mce_operator.cache import Cache
from mce_operator.election import Timing
from mce_operator.events import Recorder
from mce_operator.lease import Elector, Leadership
from mce_operator.metrics import Metrics
from mce_operator.queue import Backoff, Schedule, WorkQueue
from mce_operator.reconcile import Reconciler
from mce_operator.resources.network_policy import Network
from mce_operator.resources.router import Setup
from mce_operator.routers import HttpRouters
from mce_operator.scaler import Scaler
from mce_operator.server import Health
from mce_operator.settings import Settings
from mce_operator.sync import Filled, Scope
from mce_operator.throttle import Bucket, Throttle
from mce_operator.usage import UsageReader
from mce_operator.watches import Watch, Watches
from mce_operator.work import work_forever

_LAST_RUNS_SECONDS: Final = 0.5
"""What running passes get to end when the process is told to stop. A successor finishes what they began."""

_KOPF_STOP_SECONDS: Final = 5
"""What kopf gets to end; what is left of it then hears and does nothing."""

_MOST_LEVELS: Final = 25_000
"""Of calls within calls; readers of JSON take one or two for a level. 10,000 levels were read on a stack of 2 MiB."""
_log: Final = logging.getLogger("mce_operator")


async def run(settings: Settings) -> int:
    """Runs until a signal, or until something breaks that a new process does better; returns the exit status."""
    stopped = asyncio.Event()
    _heed_signals(stopped)
    leadership = Leadership(clocks.system().monotonic)
    async with (
        kube.connect(settings.request_timeout_seconds, leadership.seconds_left) as api,
        aiohttp.ClientSession() as session,
    ):
        operator = _Operator(settings, api, HttpRouters(session), leadership, stopped)
        async with server.serving(settings.http_host, settings.http_port, operator.metrics, operator.health()) as port:
            scope = {"namespaces": settings.namespaces or "all", "selector": settings.selector}
            _log.info("started", extra={"port": port, **scope})
            return await operator.run()


def _heed_signals(stopped: asyncio.Event) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)


class _Operator:
    """The rooms, put together."""

    def __init__(
        self,
        settings: Settings,
        api: AioKubeApi,
        routers: HttpRouters,
        leadership: Leadership,
        stopped: asyncio.Event,
    ) -> None:
        self._settings, self._api, self._leadership, self._stopped = settings, api, leadership, stopped
        clock = clocks.system()
        self._clock = clock
        self._scope = Scope(namespaces=settings.namespaces, selector=settings.selector)
        self._cache, self.metrics = Cache(), Metrics()
        backoff = Backoff(first_seconds=settings.backoff_seconds, longest_seconds=settings.max_backoff_seconds)
        self._queue = WorkQueue(Schedule(backoff), clock.monotonic)
        self._queue.pause()
        self._filled = asyncio.Event()
        self._gaps: asyncio.Queue[Watch] = asyncio.Queue()
        self._watches = Watches(
            namespaces=settings.namespaces, monotonic=clock.monotonic, relisted=self._gaps.put_nowait
        )
        self._usage = UsageReader(api, self._cache, is_clusterwide=not settings.namespaces)
        bucket = Bucket(rate=settings.writes_per_second, burst=settings.write_burst)
        throttle = Throttle(bucket, clock.monotonic, self.metrics.held_back)
        writer = Writer(api, self._cache, self.metrics, throttle)
        self._scaler = Scaler(
            cache=self._cache,
            loads=routers.loads,
            usage=self._usage.current,
            write=writer.scale,
            wake=self._queue.add,
            clock=clock,
        )
        self._reconciler = Reconciler(
            api=api,
            cache=self._cache,
            writer=writer,
            recorder=Recorder(socket.gethostname(), clock.utc),
            metrics=self.metrics,
            routers=routers,
            scaling=self._scaler.scaling,
            setup=_setup(settings),
            utc=clock.utc,
        )
        self._elector = self._candidate() if settings.lease_namespace else None
        self._term = 0
        """Of the Lease, the last time that this process led."""
        self.metrics.watch_queue(lambda: self._queue.depth, lambda: self._queue.waiting)
        self.metrics.watch_usage(self._usage.current)
        self.metrics.watch_leadership(lambda: float(leadership.is_held), lambda: self._watches.silence()[0])

    def _candidate(self) -> Elector:
        settings = self._settings
        name = settings.lease_name or election.default_name(settings.namespaces, settings.selector)
        return Elector(
            api=self._api,
            leadership=self._leadership,
            place=(settings.lease_namespace, name),
            identity=f"{socket.gethostname()}-{uuid.uuid4().hex[:12]}",
            clock=self._clock,
            changed=self._lead,
            timing=Timing(),
        )

    def health(self) -> Health:
        """What the probes ask."""
        return Health(oldest_run=self._queue.oldest_run, silence=self._watches.silence, waits_for=self._waits_for)

    def _waits_for(self) -> str:
        """A standby is ready, or the roll-out of the operator itself would never end."""
        if not self._filled.is_set():
            return "not all lists have been read"
        if self._elector is not None and not self._elector.is_informed:
            return "the Lease could not be read and written"
        return ""

    def _lead(self, is_leading: bool) -> None:  # noqa: FBT001 - the callback's shape
        """Passes run while this operator leads; it begins with one over every endpoint."""
        self.metrics.tell_of_endpoints(is_leading=is_leading)
        if not is_leading:
            self._queue.pause()
            return
        if self._elector is None or self._elector.terms != self._term:
            self._reconciler.take_over()
            self._scaler.take_over()
        self._reconciler.forget_what_is_gone()
        self._term = self._elector.terms if self._elector is not None else 0
        self._queue.resume()
        self._want_all()

    def _want_all(self) -> None:
        for key in self._cache.endpoints():
            self._queue.add(key)

    async def run(self) -> int:
        """Until a signal (0), or until something ends that never should (1)."""
        settings, monotonic = self._settings, self._clock.monotonic
        background = [
            tasks.spawn(
                work_forever(self._queue, self._reconciler.reconcile, self.metrics, monotonic), name=f"worker-{number}"
            )
            for number in range(settings.workers)
        ]
        resync = sync.keep_filled(self._api, self._cache, self._queue, self._scope, settings.resync_seconds)
        gaps = sync.fill_gaps(self._api, self._cache, self._queue, self._scope, self._gaps)
        usage = self._usage.poll_forever(settings.usage_seconds, lambda: self._leadership.is_held)
        scaler = self._scaler.run_forever(lambda: self._leadership.is_held)
        watching = watches.keep_watching(self._watches, self._fill, self._watch)
        for name, coroutine in (("resync", resync), ("gaps", gaps), ("usage", usage), ("scaler", scaler)):
            background.append(tasks.spawn(coroutine, name=name))
        standing = tasks.spawn(self._stand(), name="standing")
        # The last one: kopf takes whatever is spawned after it for its own, and cancels it when it ends.
        background.append(tasks.spawn(watching, name="watching"))
        signalled = tasks.spawn(self._stopped.wait(), name="signal")
        done, _ = await asyncio.wait({signalled, standing, *background}, return_when=asyncio.FIRST_COMPLETED)
        await self._finish(standing, [signalled, *background])
        return 0 if signalled in done else 1

    async def _stand(self) -> None:
        """For election, once there is something to lead with."""
        await self._filled.wait()
        if self._elector is not None:
            await self._elector.run_forever()
        self._leadership.extend(float("inf"))
        self._lead(True)  # noqa: FBT003 - as above
        await asyncio.Event().wait()

    async def _fill(self) -> None:
        await sync.fill(self._api, self._cache, self._scope, self._listed)
        self._filled.set()
        self._want_all()

    def _listed(self, filled: Filled) -> None:
        self._watches.listed(filled.watch, filled.resource_version)
        for key in filled.endpoints:  # some may be gone
            self._queue.add(key)

    async def _watch(self) -> None:
        """Runs kopf until one of its tasks ends; none should.

        Its own stop flag is not used: it leaves a task behind, for which kopf then waits five seconds at every stop.
        """
        settings = self._settings
        ours = asyncio.all_tasks()
        root = await kopf.spawn_tasks(
            registry=handlers.registry(
                self._cache,
                self._queue,
                self._api.connection,
                lambda found: watches.session(self._watches, self._api.connection, self._api.reload, found),
            ),
            settings=handlers.settings(is_clusterwide=not settings.namespaces, selector=settings.selector),
            # Its own guess asks for the user's name, which a user id without an entry in /etc/passwd does not have.
            identity=socket.gethostname(),  # type: ignore[arg-type]  # a NewType that kopf keeps to itself
            standalone=True,
            clusterwide=not settings.namespaces,
            namespaces=settings.namespaces,
        )
        _heed_signals(self._stopped)  # kopf has set its own handlers, which do nothing while it is down
        running = tasks.spawn(kopf.run_tasks(root, ignored=ours), name="kopf's tasks")
        try:
            done, _ = await asyncio.wait(root, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # When one of its tasks has ended, kopf waits for the others, of which some may wait for a login for ever.
            running.cancel()
            await asyncio.wait({running}, timeout=_KOPF_STOP_SECONDS)
        for task in done:
            task.result()

    async def _finish(self, standing: asyncio.Task[Any], background: list[asyncio.Task[Any]]) -> None:
        """Lets running passes end, within reason, gives up the Lease, and stops the rest."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_RUNS_SECONDS):
                await self._queue.close()
        standing.cancel()
        await asyncio.wait({standing})
        if self._elector is not None:
            await self._elector.release()
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)


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


def let_deep_json_in() -> None:
    """Lets lists and watches be read whatever is in them: else one deep endpoint would blind the operator for all.

    The API server takes JSON of 10,000 levels (sigs.k8s.io/json), Python's reader by default a tenth of that. Such an
    endpoint is then refused by itself, as any that is none.
    """
    sys.setrecursionlimit(_MOST_LEVELS)


def main() -> int:
    """Entry point of `python -m mce_operator`."""
    let_deep_json_in()
    settings = Settings()
    logs.configure(settings.log_level)
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)  # says "handler succeeded" for every event
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            return runner.run(run(settings))
        except kube.ApiError as error:
            _log.critical("cannot start", extra={"error": str(error)})
            return 1


if __name__ == "__main__":
    sys.exit(main())
