"""Leaving without losing a request: keep serving while proxies learn, finish what is in flight, then go.

Order (measured on a real cluster): readiness off; keep serving for the deregistration delay, each answer with
`Connection: close`; stop accepting; finish exchanges up to the grace; release the preStop hooks that wait here.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from mce_kit import tasks
from mce_router.service import Service

_log: Final = logging.getLogger(__name__)
_POLL_SECONDS: Final = 0.05


class Drain:
    """The one drain of this process."""

    def __init__(self, service: Service, close_idle: Callable[[], bool]) -> None:
        self._service = service
        self._close_idle = close_idle
        self.signalled = False
        """Whether a signal asked for it (a hook may have begun it before)."""
        self._begun = asyncio.Event()
        self._done = asyncio.Event()

    def begin(self) -> None:
        """Starts it; later calls change nothing."""
        if not self._begun.is_set():
            self._begun.set()
            self._service.draining = True
            _log.info("drain begun", extra={"inflight": len(self._service.exchanges)})
            tasks.spawn(self._run(), name="drain")

    async def _run(self) -> None:
        settings = self._service.settings
        await asyncio.sleep(settings.drain_seconds)
        give_up = self._service.clock() + settings.grace_seconds
        while self._service.clock() < give_up:
            if not self._close_idle() and not self._service.exchanges:
                break
            await asyncio.sleep(_POLL_SECONDS)
        self._close_idle()
        _log.info("drain done", extra={"left": len(self._service.exchanges)})
        self._done.set()

    async def begun_within(self, seconds: float) -> bool:
        """Whether a drain begins within `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                await self._begun.wait()
        except TimeoutError:
            return False
        return True

    async def wait(self) -> None:
        """Returns when everything is finished or the grace is over."""
        await self._done.wait()
