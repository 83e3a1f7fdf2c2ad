"""The router process of one endpoint: started, watched, restarted, and asked what it sees."""

import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from mce_kit.clock import Clock
from mce_local import units
from mce_local.processes import Processes
from mce_local.runtime import INSTANCE_VARIABLE, Handle
from mce_local.state import Folder

_GRACE_SECONDS: Final = 10.0
_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """One container's traffic since the router started."""

    invocations: int = 0
    errors: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One target as the router sees it."""

    state: str
    error: str


class Router:
    """The one router of one endpoint."""

    def __init__(
        self, processes: Processes, env: Mapping[str, str], instance: str, folder: Folder, clock: Clock
    ) -> None:
        self.handle: Handle | None = None
        self.strikes = 0
        """How often it ended by itself."""
        self._address = (0, 0)
        self._retry_at = 0.0
        self._processes = processes
        self._env = {**env, INSTANCE_VARIABLE: instance}
        self._folder = folder
        self._clock = clock

    async def serve(self, port: int, admin_port: int) -> None:
        """Makes it listen there; one that already does is left alone (it reloads its table by itself)."""
        if self.handle is not None and self._address != (port, admin_port):
            await self.stop()
        self._address = (port, admin_port)
        if self.handle is None:
            self._start()

    def _start(self) -> None:
        # -P: a module in the folder where the user stands must not shadow one of ours.
        command = [sys.executable, "-P", "-m", "mce_router", "--table", str(self._folder.table), "--drain-seconds", "0"]
        port, admin_port = self._address
        command += ["--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin_port}"]
        self.handle = self._processes.run(command, self._env, self._folder.router_log)

    async def observe(self, session: aiohttp.ClientSession) -> dict[str, Seen]:
        """What it says of each container; nothing while it does not answer. Restarts it if it ended."""
        now = self._clock.monotonic()
        if self.handle is None:
            if now >= self._retry_at:
                self._start()
            return {}
        code = self._processes.inspect(self.handle)
        if code is not None:
            _log.error("router ended", extra={"exit_code": code})
            await self._processes.stop(self.handle, 0)
            self.handle = None
            self.strikes += 1
            self._retry_at = now + units.back_off(self.strikes)
            return {}
        return await _targets(session, self._address[1])

    async def stop(self) -> None:
        """SIGTERM: it lets requests in flight end."""
        if self.handle is not None:
            await self._processes.stop(self.handle, _GRACE_SECONDS)
            self.handle = None


async def _targets(session: aiohttp.ClientSession, admin_port: int) -> dict[str, Seen]:
    try:
        async with session.get(f"http://127.0.0.1:{admin_port}/targets") as response:
            body: Any = await response.json()
        return {
            target["name"]: Seen(state=target["state"], error=target.get("lastError") or "")
            for target in body["targets"]
        }
    except (TimeoutError, aiohttp.ClientError, ValueError, KeyError, TypeError):
        return {}


async def counts(session: aiohttp.ClientSession, admin_port: int) -> dict[str, Counts]:
    """Traffic by container, from its metrics; empty while it does not answer."""
    try:
        async with session.get(f"http://127.0.0.1:{admin_port}/metrics") as response:
            return parse_counts(await response.text())
    except (TimeoutError, aiohttp.ClientError, ValueError):
        return {}


def parse_counts(text: str) -> dict[str, Counts]:
    """Invocations and errors (4xx and 5xx together) by container."""
    invocations: dict[str, int] = {}
    errors: dict[str, int] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            name = sample.labels.get("container", "")
            if sample.name == "mce_container_invocations_total":
                invocations[name] = invocations.get(name, 0) + int(sample.value)
            if sample.name == "mce_container_errors_total":
                errors[name] = errors.get(name, 0) + int(sample.value)
    return {
        name: Counts(invocations=invocations.get(name, 0), errors=errors.get(name, 0))
        for name in {*invocations, *errors}
    }
