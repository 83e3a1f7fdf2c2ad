"""Several workers behind one data port, as one router: starts and replaces them, adds up what they say.

It owns the route table file and the admin port; the workers share the data port by SO_REUSEPORT, each with its share
of every cap (`shares`). It never sees an invocation.
"""

import asyncio
import logging
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from mce_api import routes
from mce_api.routes import RouteTable
from mce_kit import tasks
from mce_router import app, control, metrics, shares
from mce_router import report as reports
from mce_router import table as tables
from mce_router.app import StartError
from mce_router.control import Asker, Gone
from mce_router.drain import Drain
from mce_router.metrics import Samples
from mce_router.report import Report
from mce_router.settings import Address, Settings

_log: Final = logging.getLogger(__name__)
_POLL_SECONDS: Final = 1.0
"""How much of a dead worker's counts may be lost."""
_ANSWER_SECONDS: Final = 1.0
_HUNG_ROUNDS: Final = 30
"""A worker that was silent in so many polls in a row, a minute, hangs. Counted and not timed: when the whole pod was
frozen for a while, no worker is to blame."""
_PING_SECONDS: Final = 5.0
_SHORT_LIFE_SECONDS: Final = 1.0
_LONGEST_PAUSE_SECONDS: Final = 5.0
_END_SECONDS: Final = 1.0
_POD_ENDS: Final = "the pod ends"
_DRAIN_MARGIN_SECONDS: Final = 2.0


def pause_seconds(short_lives: int) -> float:
    """How long to wait before a worker is replaced, after so many lives in a row that were short."""
    return 0.0 if short_lives <= 1 else min(_LONGEST_PAUSE_SECONDS, 0.1 * 2.0 ** min(short_lives, 10))


def exit_text(status: int) -> str:
    """How a process ended, for a log line."""
    if status >= 0:
        return f"exit status {status}"
    known = -status in set(signal.Signals)
    return f"signal {signal.Signals(-status).name if known else -status}"


class _Worker:
    """The place of one worker: the process that fills it now."""

    def __init__(self, number: int, workers: int, command: Sequence[str]) -> None:
        self.number = number
        self.process: asyncio.subprocess.Process | None = None
        self.is_up = False
        self.last: Report | None = None
        """Its latest report."""
        self.silent_rounds = 0
        """Polls in a row that it did not answer."""
        self._workers = workers
        self._command = command
        self._asker: Asker | None = None
        self._given: RouteTable | None = None
        self._asking: asyncio.Task[bool] | None = None

    async def start(self, table: RouteTable, patience_seconds: float) -> str:
        """Fills the place; says why it could not within `patience_seconds`, or nothing."""
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                self.process = await asyncio.create_subprocess_exec(*self._command, stdin=theirs.fileno())
        except OSError as error:
            ours.close()
            return f"can not start a process: {error}"
        self._asker = Asker(*await control.connect(ours))
        try:
            async with asyncio.timeout(patience_seconds):
                complaint: str = await self._asker.ask("serve", self._share(table))
        except TimeoutError:
            self.kill()
            await self.ended()
            return f"a worker did not start within {patience_seconds:g} s"
        except Gone:
            status, _ = await self.ended()
            return f"a worker ended while it started ({exit_text(status)})"
        if complaint:
            self.hang_up()
            await self.ended()
        else:
            self._given, self.is_up = table, True
        return complaint

    def _share(self, table: RouteTable) -> str:
        return routes.dump(shares.of(table, self.number, self._workers))

    async def use(self, table: RouteTable) -> None:
        """Gives it a new table, if it is up and has another one."""
        if self.is_up and self._given is not table:
            self._given = table
            await self.ask("use", self._share(table))

    async def ask(self, what: str, argument: str | None = None) -> Any:
        """Its answer (`worker` has the questions); nothing if it is gone."""
        try:
            return await self._asker.ask(what, argument) if self._asker else None
        except Gone:
            return None

    async def refresh(self) -> bool:
        """Asks for a report, at most one at a time; whether there is a fresh one in time."""
        if self._asking is None or self._asking.done():
            self._asking = tasks.spawn(self._get_report(), name="report of a worker")
        done, _ = await asyncio.wait((self._asking,), timeout=_ANSWER_SECONDS)
        return any(task.result() for task in done)

    async def _get_report(self) -> bool:
        answer = await self.ask("report")
        if answer is not None:
            self.last = Report(**answer)
        return answer is not None

    async def ended(self) -> tuple[int, Samples]:
        """Waits for the end of the process; its exit status, and what it had counted."""
        assert self.process is not None  # noqa: S101 - called on a filled place
        status = await self.process.wait()
        if self._asker is not None:
            await self._asker.listening
        counts = metrics.only_counts(self.last.samples) if self.last else {}
        self.process = self._asker = self._given = self.last = None
        self.is_up = False
        self.silent_rounds = 0
        return status, counts

    def hang_up(self) -> None:
        """Tells it to end at once."""
        if self._asker is not None:
            self._asker.close()

    def kill(self) -> None:
        """Ends it, whatever it does."""
        if self.process is not None and self.process.returncode is None:
            self.process.kill()


class Supervisor:
    """Several workers as one router."""

    def __init__(
        self,
        settings: Settings,
        table: RouteTable,
        command: Sequence[str],
        clock: Callable[[], float],
        hung_rounds: int = _HUNG_ROUNDS,
    ) -> None:
        self._clock = clock
        self._hung_rounds = hung_rounds
        self._patience_seconds = hung_rounds * (_POLL_SECONDS + _ANSWER_SECONDS)
        self.drain = Drain(self._leave)
        self.table = table
        self._settings = settings
        self._workers = [_Worker(number, settings.workers, command) for number in range(settings.workers)]
        self._keepers: list[asyncio.Task[None]] = []
        self._others: list[asyncio.Task[None]] = []
        self._dead: Samples = {}
        """What the dead had counted."""
        self._restarts = 0
        self._reloads = {"good": 0, "bad": 0}

    # --- what the admin port asks

    async def report(self) -> Report:
        """The state of all workers now."""
        up = [worker for worker in self._workers if worker.is_up]
        fresh = dict(zip(up, await asyncio.gather(*(worker.refresh() for worker in up)), strict=True))
        absent = [
            f"worker {worker.number}: it {'does not answer' if worker.is_up else 'is not up'}"
            for worker in self._workers
            if not (worker.is_up and fresh.get(worker))
        ]
        own: Samples = {
            "mce_worker_restarts_total": {"": [self._restarts]},
            "mce_route_table_reloads_total": {result: [count] for result, count in self._reloads.items()},
            "mce_draining": {"": [int(self.drain.has_begun())]},
        }
        seen = [worker.last for worker in self._workers if worker.last is not None]
        return reports.together(seen, absent, (self._dead, own), draining=self.drain.has_begun())

    async def ping(self, name: str) -> str | None:
        """Has one worker ask a container: what is wrong, empty if nothing; None if there is no such container."""
        if name not in {target.name for target in self.table.targets}:
            return None
        worker = next((worker for worker in self._workers if worker.is_up), None)
        if worker is None:
            return "no worker is up"
        try:
            async with asyncio.timeout(_PING_SECONDS):
                answer: str | None = await worker.ask("ping", name)
        except TimeoutError:
            return f"worker {worker.number} does not answer"
        return "a worker ended" if answer is None else answer

    # --- life

    async def start(self) -> None:
        """Starts all workers.

        Raises:
            StartError: if one of them can not start.
        """
        patience = self._patience_seconds
        complaints = await asyncio.gather(*(worker.start(self.table, patience) for worker in self._workers))
        if (complaint := next(filter(None, complaints), "")) and not self.drain.has_begun():
            raise StartError(complaint)
        up = [worker for worker in self._workers if worker.is_up]
        self._keepers = [tasks.spawn(self._keep(worker), name="keep a worker") for worker in up]
        self._others = [
            tasks.spawn(self._poll(), name="poll the workers"),
            tasks.spawn(self._watch_table(), name="route table"),
        ]

    async def stop(self) -> None:
        """Ends every worker: at once, or if it does not hear, by force."""
        for task in (*self._keepers, *self._others):
            task.cancel()
        for worker in self._workers:
            worker.hang_up()
        ends = [tasks.spawn(worker.process.wait(), name="end") for worker in self._workers if worker.process]
        if ends:
            await asyncio.wait(ends, timeout=_END_SECONDS)
            for worker in self._workers:
                worker.kill()
            await asyncio.wait(ends)

    async def _keep(self, worker: _Worker) -> None:
        """Replaces a worker whenever it ends, until the drain begins."""
        short_lives = 0
        while True:
            began = self._clock()
            status, counts = await worker.ended()
            self._dead = metrics.merged((self._dead, counts))
            if self.drain.has_begun():
                return
            short_lives = short_lives + 1 if self._clock() - began < _SHORT_LIFE_SECONDS else 0
            facts = {"worker": worker.number, "cause": exit_text(status)}
            _log.error("worker ended, another one takes its place", extra=facts)
            while not worker.is_up:
                await asyncio.sleep(pause_seconds(short_lives))
                if self.drain.has_begun():
                    return
                self._restarts += 1
                if complaint := await worker.start(self.table, self._patience_seconds):
                    short_lives += 1
                    _log.error("worker did not start", extra={"worker": worker.number, "cause": complaint})
            if self.drain.has_begun():
                worker.kill()
            await worker.use(self.table)  # it may have changed meanwhile

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(_POLL_SECONDS)
            up = [worker for worker in self._workers if worker.is_up]
            fresh = await asyncio.gather(*(worker.refresh() for worker in up))
            for worker, has_answered in zip(up, fresh, strict=True):
                worker.silent_rounds = 0 if has_answered else worker.silent_rounds + 1
                if worker.silent_rounds == self._hung_rounds:
                    facts = {"worker": worker.number, "seconds": self._patience_seconds}
                    _log.error("worker does not answer, it is killed", extra=facts)
                    worker.kill()

    async def _watch_table(self) -> None:
        def use(table: RouteTable) -> None:
            self.table = table
            self._reloads["good"] += 1
            for worker in self._workers:
                tasks.spawn(worker.use(table), name="new table")

        def bad() -> None:
            self._reloads["bad"] += 1

        await tables.watch(self._settings, self.table, use=use, bad=bad)

    async def _leave(self) -> None:
        """The drain: every worker finishes what it has and ends."""
        for worker in self._workers:
            if worker.is_up:
                tasks.spawn(worker.ask("drain", _POD_ENDS if self.drain.pod_ends else ""), name="drain a worker")
            else:
                worker.kill()
        patience = self._settings.drain_seconds + self._settings.grace_seconds + _DRAIN_MARGIN_SECONDS
        if self._keepers:
            await asyncio.wait(self._keepers, timeout=patience)
        _log.info("drain done", extra={"left": sum(worker.process is not None for worker in self._workers)})


async def run(settings: Settings, arguments: Sequence[str], table: RouteTable) -> None:
    """A supervisor and its workers; serves until a drain is done or a second signal comes.

    Args:
        settings: its own.
        arguments: the command line that they came from: each worker reads it again.
        table: the first table, whole.

    Raises:
        OSError: if one of the ports is taken.
        StartError: if a worker can not start.
    """
    listen = settings.listen
    # Bound and not listening: gets no connection, keeps the port (and finds the one behind a 0) while workers come and
    # go, and tells at once if it is somebody else's.
    held = await asyncio.get_running_loop().create_server(
        asyncio.Protocol, listen.host, listen.port, reuse_port=True, start_serving=False
    )
    address = Address(host=listen.host, port=held.sockets[0].getsockname()[1])
    safe = ["-P"] if sys.flags.safe_path else []  # as we were started ourselves
    command = [sys.executable, *safe, "-m", "mce_router.worker", *arguments, "--listen", str(address)]
    supervisor = Supervisor(settings, table, command, time.monotonic)
    supervisor.drain.heed_signals()
    runner = None
    importing = tasks.spawn(asyncio.to_thread(app.admin_server), name="import the admin port")
    try:
        await supervisor.start()
        # After the data port: whoever finds the admin port open may count on it.
        port = app.admin_port(settings.admin)
        runner = await (await importing)(supervisor, port)
        facts = {"listen": str(address), "admin": str(settings.admin), "workers": settings.workers}
        _log.info("router started", extra={**facts, "endpoint": table.endpoint, "mode": table.mode})
        await supervisor.drain.over()
    finally:
        await supervisor.stop()
        held.close()
        if runner is not None:
            await runner.cleanup()
