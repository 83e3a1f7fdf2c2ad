"""What the command line asks of supervisors: start, update, watch, stop, tell. No asyncio, nothing printed."""

import contextlib
import http.client
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import psutil
from pydantic import ValidationError

from mce_kit.clock import Clock
from mce_local import logfiles, orphans, processes, state
from mce_local.errors import LocalError, StartFailed
from mce_local.settings import Settings
from mce_local.snapshot import Snapshot
from mce_local.state import Folder, Order, Phase, Record
from mce_local.wanted import Wanted

_POLL_SECONDS: Final = 0.1
_STATUS_SECONDS: Final = 5.0
_STOP_SECONDS: Final = 45.0
"""Longer than the router's drain plus the containers' grace."""
_ORPHAN_GRACE_SECONDS: Final = 5.0


class Action(StrEnum):
    """What `up` did."""

    STARTED = "started"
    UPDATED = "updated"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """An order on its way."""

    endpoint: str
    generation: int
    action: Action
    child: subprocess.Popen[bytes] | None
    """The supervisor, if this process started it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """Bound to one state home."""

    settings: Settings
    clock: Clock
    sleep: Callable[[float], None]

    def _folder(self, endpoint: str) -> Folder:
        return state.folder(self.settings.home, endpoint)

    def endpoints(self) -> tuple[str, ...]:
        """Names of all local endpoints."""
        return state.endpoints(self.settings.home)

    def record(self, endpoint: str) -> Record | None:
        """What its supervisor wrote last."""
        return state.read(self._folder(endpoint).record, Record)

    def up(self, wanted: Wanted, wait_seconds: float | None, *, attached: bool) -> Begun:
        """Starts `wanted`, or updates the endpoint of that name.

        Args:
            wanted: what should run.
            wait_seconds: how long its containers may take to answer, if less than their own startup timeouts.
            attached: whether a new supervisor ends with this process.

        Raises:
            LocalError: if the endpoint runs with another runtime.
        """
        folder = self._folder(wanted.endpoint)
        folder.make()
        record = self.record(wanted.endpoint)
        if record is None or not state.is_alive(record):
            return self._start(folder, Order(generation=1, wait_seconds=wait_seconds, wanted=wanted), attached=attached)
        if record.runtime is not wanted.runtime:
            raise LocalError(
                f"endpoint {wanted.endpoint} runs with --runtime {record.runtime}; "
                f"stop it first: mce local down {wanted.endpoint}"
            )
        before = state.read(folder.order, Order)
        settled = record.phase is Phase.IN_SERVICE and not record.failure
        if settled and before is not None and _same(before.wanted, wanted, record.port):
            return Begun(endpoint=wanted.endpoint, generation=record.generation, action=Action.UNCHANGED, child=None)
        generation = max(record.generation, before.generation if before else 0) + 1
        state.write(folder.order, Order(generation=generation, wait_seconds=wait_seconds, wanted=wanted))
        self._signal(record, signal.SIGHUP)
        return Begun(endpoint=wanted.endpoint, generation=generation, action=Action.UPDATED, child=None)

    def _start(self, folder: Folder, order: Order, *, attached: bool) -> Begun:
        state.write(folder.order, order)
        command = [sys.executable, "-P", "-m", "mce_local", "--home", str(self.settings.home)]
        with folder.supervisor_log.open("wb") as log:
            child = subprocess.Popen(  # noqa: S603 - our own module
                [*command, "--endpoint", order.wanted.endpoint],
                env=dict(self.settings.everything),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=processes.die_with_parent() if attached else None,  # noqa: PLW1509 - one thread
            )
        return Begun(endpoint=order.wanted.endpoint, generation=order.generation, action=Action.STARTED, child=child)

    def watch(self, begun: Begun) -> Iterator[Snapshot]:
        """What there is to see until the order is in service.

        Raises:
            StartFailed: if it failed; a first order leaves nothing running, a later one the state before.
        """
        folder = self._folder(begun.endpoint)
        while True:
            is_over = begun.child is not None and begun.child.poll() is not None
            record = self.record(begun.endpoint)
            if record is not None and (begun.child is None or record.pid == begun.child.pid):
                if record.phase is Phase.FAILED:
                    folder.clear()
                    raise StartFailed(f"endpoint {begun.endpoint} did not start: {record.failure}")
                if record.generation >= begun.generation and record.failure:
                    raise StartFailed(f"endpoint {begun.endpoint} was not updated, it runs as before: {record.failure}")
                snapshot = self.snapshot(begun.endpoint)
                if snapshot is not None and snapshot.generation >= begun.generation:
                    if snapshot.phase is Phase.IN_SERVICE and snapshot.failure:
                        continue  # undone since the record was read: the next one says so
                    yield snapshot
                    if snapshot.phase is Phase.IN_SERVICE:
                        return
                is_over = is_over or not state.is_alive(record)
            if is_over and (record is None or record.phase is not Phase.FAILED):
                lines = "\n".join(logfiles.tail(folder.supervisor_log, 10))
                raise StartFailed(f"endpoint {begun.endpoint}: its supervisor ended; the end of its log:\n{lines}")
            self.sleep(_POLL_SECONDS)

    def cancel(self, begun: Begun) -> None:
        """Stops an endpoint that this process started, however far it came."""
        if begun.child is not None and begun.child.poll() is None:
            begun.child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                begun.child.wait(_STOP_SECONDS)
        self.down(begun.endpoint)

    def down(self, endpoint: str) -> bool:
        """Stops an endpoint and whatever a killed supervisor of it left behind; false if there was nothing.

        Raises:
            LocalError: if it does not end.
        """
        folder = self._folder(endpoint)
        record = self.record(endpoint)
        if record is None:
            return False
        self._signal(record, signal.SIGTERM)
        deadline = self.clock.monotonic() + _STOP_SECONDS
        while state.is_alive(record):
            if self.clock.monotonic() > deadline:
                self._signal(record, signal.SIGKILL)
                deadline += _STOP_SECONDS
            self.sleep(_POLL_SECONDS)
        orphans.clean(record.instance, record.runtime, dict(self.settings.everything), _ORPHAN_GRACE_SECONDS)
        if orphans.processes(record.instance):
            raise LocalError(f"endpoint {endpoint}: some of its processes cannot be ended")
        folder.clear()
        return True

    def snapshot(self, endpoint: str) -> Snapshot | None:
        """The endpoint as it is; None if nothing of that name is there, or it is just starting."""
        record = self.record(endpoint)
        if record is None:
            return None
        if record.phase is Phase.FAILED or not state.is_alive(record):
            killed = f"its supervisor was killed; mce local down {endpoint} cleans up, mce local up starts it again"
            return _remains(record, record.failure if record.phase is Phase.FAILED else killed)
        with contextlib.suppress(OSError, http.client.HTTPException, ValidationError):
            connection = http.client.HTTPConnection("127.0.0.1", record.status_port, timeout=_STATUS_SECONDS)
            with contextlib.closing(connection):
                connection.request("GET", "/status")
                return Snapshot.model_validate_json(connection.getresponse().read())
        return None

    def _signal(self, record: Record, number: signal.Signals) -> None:
        """Only to the very process that wrote the record."""
        if state.is_alive(record):
            with contextlib.suppress(psutil.NoSuchProcess):
                psutil.Process(record.pid).send_signal(number)


def _same(before: Wanted, now: Wanted, port: int) -> bool:
    """Whether `now` asks for nothing new. A port that is not named is the one that there is."""
    same_port = now.port in {None, port}
    return same_port and before.model_copy(update={"port": None}) == now.model_copy(update={"port": None})


def _remains(record: Record, failure: str) -> Snapshot:
    return Snapshot(
        endpoint=record.endpoint,
        namespace=record.namespace,
        mode=record.mode,
        runtime=record.runtime,
        phase=Phase.FAILED,
        generation=record.generation,
        failure=failure,
        url=record.url,
        metrics_url="",
        router_metrics_url="",
        supervisor_pid=record.pid,
    )
