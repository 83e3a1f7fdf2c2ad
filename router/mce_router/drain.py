"""Leaving without losing a request: keep serving while proxies learn, finish what is in flight, then go.

Order (measured on a real cluster): readiness off; keep serving for the deregistration delay, each answer with
`Connection: close`; finish exchanges up to the grace; release the preStop hooks that wait here.

A pod that ends is different. Kubernetes takes it out of the Service itself, but goes on sending to it while no other
pod is ready, as long as it says that it is ready. So it says so, and serves until nobody new has come for a while.
"""

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable
from typing import Final

from mce_kit import tasks
from mce_router.service import Service

_log: Final = logging.getLogger(__name__)
_POLL_SECONDS: Final = 0.05
_QUIET_SECONDS: Final = 2.0
"""Without a new connection for so long, nobody is sent here any more."""


class Drain:
    """The one drain of this process: begun by a hook, a call or a signal; over when its work is done."""

    def __init__(self, work: Callable[[], Awaitable[None]]) -> None:
        self._work = work
        self.pod_ends = False
        """Whether it was begun because the pod ends."""
        self._signalled = False
        self._begun = asyncio.Event()
        self._done = asyncio.Event()
        self._stopped = asyncio.Event()

    def heed_signals(self) -> None:
        """From now on the first SIGTERM or SIGINT begins the drain, the second one ends everything."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._heed)

    def _heed(self) -> None:
        if self._signalled:  # a hook may have begun the drain before the first one
            self.stop()
        self._signalled = True
        self.begin()

    def has_begun(self) -> bool:
        """Whether it has begun."""
        return self._begun.is_set()

    def begin(self, *, pod_ends: bool = False) -> None:
        """Starts it; later calls change nothing."""
        if not self._begun.is_set():
            self.pod_ends = pod_ends
            self._begun.set()
            tasks.spawn(self._run(), name="drain")

    async def _run(self) -> None:
        await self._work()
        self._done.set()

    def stop(self) -> None:
        """Ends everything now, finished or not."""
        self._stopped.set()

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

    async def over(self) -> None:
        """Returns when the process may go: the drain is done, or it is told to stop."""
        waits = [tasks.spawn(event.wait(), name="wait for the end") for event in (self._done, self._stopped)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()


async def finish(service: Service, close_idle: Callable[[], bool], *, pod_ends: bool) -> None:
    """The drain of one process that serves.

    Args:
        pod_ends: whether callers may still be sent here because there is no other pod.
        service: what all its exchanges share.
        close_idle: closes idle connections of callers, says whether one that is left has something to wait for.
    """
    service.draining = True
    _log.info("drain begun", extra={"inflight": len(service.exchanges)})
    settings = service.settings
    await asyncio.sleep(settings.drain_seconds)
    give_up = service.clock() + settings.grace_seconds
    while service.clock() < give_up:
        quiet = not pod_ends or service.clock() - service.last_connection > _QUIET_SECONDS
        if quiet and not close_idle() and not service.exchanges:
            break
        await asyncio.sleep(_POLL_SECONDS)
    close_idle()
    _log.info("drain done", extra={"left": len(service.exchanges)})
