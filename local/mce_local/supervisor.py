"""Runs one endpoint: observes its processes, decides, acts, and writes down what became of the latest order.

Level-triggered: every round looks at what is, whatever happened in between. Only this process writes supervisor.json
and the route table. An order that fails is undone: the first by stopping, a later one by going back to the one before.
"""

import asyncio
import logging
from dataclasses import dataclass, replace
from typing import Any, Final

import aiohttp

from mce_api import names, routes
from mce_kit.clock import Clock
from mce_local import changes, diagnosis, logfiles, ping, ports, state, units, wanted
from mce_local.errors import LocalError, StartFailed
from mce_local.router import Router
from mce_local.runtime import Handle, Launch, Runtime
from mce_local.state import Block, Folder, Order, Phase, Record
from mce_local.units import State, Unit

_BUSY_ROUND_SECONDS: Final = 0.1
_CALM_ROUND_SECONDS: Final = 0.5
STOP_GRACE_SECONDS: Final = 10.0
"""SageMaker gives 30 s; somebody waits at a laptop."""

_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What the supervisor works with."""

    folder: Folder
    runtime: Runtime
    router: Router
    clock: Clock
    session: aiohttp.ClientSession


class Supervisor:
    """One endpoint's. `record`, `order` and `units` are for readers (`status`)."""

    def __init__(self, tools: Tools, record: Record, order: Order) -> None:
        self.record = record
        self.order = order
        self.units: dict[str, Unit] = {}
        self._good: Order | None = None
        """The latest order that came into service."""
        self._tools = tools
        self._wake = asyncio.Event()
        self._is_stopping = False
        self._is_ordered = False

    def stop(self) -> None:
        """From a signal: ends `run`."""
        self._is_stopping = True
        self._wake.set()

    def reload(self) -> None:
        """From a signal: there is a new wanted.json."""
        self._is_ordered = True
        self._wake.set()

    def handles(self) -> dict[str, Handle]:
        """What runs, by container name."""
        return {name: unit.handle for name, unit in self.units.items() if unit.handle}

    async def run(self) -> None:
        """Until `stop`.

        Raises:
            StartFailed: if the first order failed; everything is stopped then.
        """
        try:
            await self._attempt(self.order, Phase.CREATING)
            while not self._is_stopping:
                await self._round()
                await self._pause()
        finally:
            await self._stop_all()

    async def _pause(self) -> None:
        calm = self.record.phase is Phase.IN_SERVICE and all(unit.is_ready for unit in self.units.values())
        try:
            await asyncio.wait_for(self._wake.wait(), _CALM_ROUND_SECONDS if calm else _BUSY_ROUND_SECONDS)
        except TimeoutError:
            return
        self._wake.clear()

    async def _round(self) -> None:
        if self._is_ordered:
            self._is_ordered = False
            order = state.read(self._tools.folder.order, Order)
            if order is not None and order.generation > self.record.generation:
                await self._attempt(order, Phase.UPDATING)
        await self._observe()
        if self.record.phase is not Phase.IN_SERVICE:
            await self._conclude()
        self._restart_due()

    # --- orders

    async def _attempt(self, order: Order, phase: Phase) -> None:
        self._write(phase=phase, generation=order.generation, failure="")
        try:
            await self._apply(order)
        except LocalError as error:
            await self._undo(str(error))

    async def _apply(self, order: Order) -> None:
        self.order = order
        plan = changes.between({name: unit.launch.container for name, unit in self.units.items()}, order.wanted)
        await asyncio.gather(*(self._end(name) for name in plan.stop))
        self._assign(order)
        launches = {container.name: self._launch(container) for container in order.wanted.containers}
        table = wanted.route_table(order.wanted, {name: launch.assigned.port for name, launch in launches.items()})
        state.replace(self._tools.folder.table, routes.dump(table))
        await self._tools.router.serve(self.record.port, self.record.admin_port)
        fresh = {name: Unit(launch=launches[name], startup_timeout=_timeout(order, name)) for name in plan.start}
        self.units = {name: fresh.get(name) or self.units[name] for name in launches}
        for name in plan.start:
            self._start(name)

    def _assign(self, order: Order) -> None:
        """Under one lock for all supervisors of this user: two that start at once must not choose the same ports."""
        explicit = [(container.name, container.port) for container in order.wanted.containers]
        kept = {name: ports.Assigned(port=block.port, block=block.block) for name, block in self.record.blocks.items()}
        home = self._tools.folder.root.parent
        with state.locked(home / "ports.lock", wait=True):
            held = state.held_by_others(home, self.record.endpoint)

            def is_free(port: int) -> bool:
                return port not in held and ports.is_free(port)

            given = ports.assign(explicit, kept, is_free)
            port = self.record.port
            if not port or order.wanted.port not in {None, port}:
                port = ports.router_port(order.wanted.port, {one.port for one in given.values()}, is_free)
            blocks = {name: Block(port=one.port, block=one.block) for name, one in given.items()}
            self._write(blocks=blocks, port=port, admin_port=self.record.admin_port or ports.any_free())

    async def _conclude(self) -> None:
        problem = self._problem()
        if problem:
            await self._undo(problem)
        elif all(unit.is_ready or unit.settled for unit in self.units.values()):
            self.units = {name: self._settled(unit) for name, unit in self.units.items()}
            self._good = self.order
            self._write(phase=Phase.IN_SERVICE)
            _log.info("in service", extra={"generation": self.record.generation})

    def _settled(self, unit: Unit) -> Unit:
        """From here on a fault is the container's own, and the time to answer is the spec's, not this order's."""
        seconds = self.order.wanted.rules[unit.name].startup_timeout_seconds
        return replace(unit, settled=True, startup_timeout=seconds)

    def _problem(self) -> str:
        if self._good is None and self._tools.router.strikes:
            log = self._tools.folder.router_log
            return diagnosis.with_log("the router stopped", log, logfiles.tail(log, diagnosis.LOG_LINES))
        found = diagnosis.unit_problem(self.units.values(), self._tools.clock.monotonic())
        if found is None:
            return ""
        unit, what = found
        lines = logfiles.tail(unit.launch.log, diagnosis.LOG_LINES, unit.log_offset)
        return diagnosis.with_log(what, unit.launch.log, lines)

    async def _undo(self, problem: str) -> None:
        _log.error("order failed", extra={"generation": self.record.generation, "reason": problem})
        if self._good is None:
            raise StartFailed(problem)
        # What ran before is in service by definition: if it does not come back, it is restarted as after any crash.
        try:
            await self._apply(self._good)
        except LocalError as error:
            raise StartFailed(f"{problem}\nand going back failed: {error}") from error
        self.units = {name: self._settled(unit) for name, unit in self.units.items()}
        self._write(phase=Phase.IN_SERVICE, failure=problem)

    # --- containers

    def _launch(self, container: wanted.Container) -> Launch:
        block = self.record.blocks[container.name]
        return Launch(
            endpoint=self.record.endpoint,
            instance=self.record.instance,
            container=container,
            assigned=ports.Assigned(port=block.port, block=block.block),
            bind_env=wanted.bind_env(block.port, block.block, names.BLOCK_SIZE),
            log=self._tools.folder.log(container.name),
        )

    def _start(self, name: str) -> None:
        unit = self.units[name]
        handle = self._tools.runtime.start(unit.launch)
        self.units[name] = units.started(unit, handle, self._tools.clock.monotonic())
        _log.info("container started", extra={"container": name, "id": handle.id})

    async def _end(self, name: str) -> None:
        unit = self.units.pop(name)
        if unit.handle is not None:
            await self._tools.runtime.stop(unit.handle, STOP_GRACE_SECONDS)
        _log.info("container stopped", extra={"container": name})

    def _restart_due(self) -> None:
        now = self._tools.clock.monotonic()
        for name, unit in self.units.items():
            if unit.settled and units.is_due(unit, now):
                try:
                    self._start(name)
                except LocalError as error:
                    _log.warning("restart failed", extra={"container": name, "reason": str(error)})
                    self.units[name] = units.ended(unit, units.CANNOT_START, now)

    async def _observe(self) -> None:
        now = self._tools.clock.monotonic()
        for name, unit in tuple(self.units.items()):
            if unit.handle is not None and (code := self._exit_code(unit, now)) is not None:
                _log.warning("container ended", extra={"container": name, "exit_code": code})
                await self._tools.runtime.stop(unit.handle, 0)  # with what it left behind
                self.units[name] = units.ended(unit, code, now)
        waiting = [unit for unit in self.units.values() if unit.handle and not unit.answered]
        errors = await asyncio.gather(*(self._ask(unit.launch) for unit in waiting))
        for unit, error in zip(waiting, errors, strict=True):
            self.units[unit.name] = replace(unit, answered=not error, ping_error=error)
        seen = await self._tools.router.observe(self._tools.session)
        for name, unit in self.units.items():
            target = seen.get(name)
            self.units[name] = replace(
                unit,
                routed=target.state if target else State.STARTING.value,
                routed_error=target.error if target else "",
            )

    async def _ask(self, launch: Launch) -> str:
        return await ping.ask(self._tools.session, launch.assigned.port, launch.container.ping_path)

    def _exit_code(self, unit: Unit, now: float) -> int | None:
        """None while it runs and may go on; a start that never answers ends like a crash once it was in service."""
        code = self._tools.runtime.inspect(unit.handle) if unit.handle else None
        return units.NEVER_ANSWERED if code is None and unit.settled and units.is_overdue(unit, now) else code

    # --- the end

    async def _stop_all(self) -> None:
        """The router first, so that nobody calls a container that is gone."""
        self._write(phase=Phase.DELETING)
        await self._tools.router.stop()
        await asyncio.gather(*(self._end(name) for name in tuple(self.units)))

    def _write(self, **changed: Any) -> None:
        self.record = self.record.model_copy(update=changed)
        state.write(self._tools.folder.record, self.record)


def _timeout(order: Order, name: str) -> float:
    seconds = order.wanted.rules[name].startup_timeout_seconds
    return seconds if order.wait_seconds is None else min(seconds, order.wait_seconds)
