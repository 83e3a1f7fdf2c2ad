"""Holds the Lease, or waits for it: the loop around `election`. Only one operator of a scope writes at a time.

Own, since the official elector can not create a Lease (kubernetes 37), never releases one and goes by remote clocks.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final, NoReturn

from mce_kit.clock import Clock
from mce_kit.kube import ApiError, KubeApi
from mce_operator import election
from mce_operator.election import Sighting, Step, Timing

_log: Final = logging.getLogger(__name__)


class Leadership:
    """Until when this process may write. Read by whoever writes, set by the elector.

    It is a point in time and not a flag, so that a process that was stopped for a while finds it over when it goes on,
    before any of its tasks has run.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._until = float("-inf")

    def seconds_left(self) -> float:
        """For how long writes are still ours; 0 or less: they are not."""
        return self._until - self._monotonic()

    @property
    def is_held(self) -> bool:
        """Whether this process leads."""
        return self.seconds_left() > 0

    def extend(self, until: float) -> None:
        """Leads until then (`inf`: alone, without a Lease)."""
        self._until = until

    def end(self) -> None:
        """Leads no more."""
        self._until = float("-inf")


class Elector:
    """One candidate for one Lease."""

    def __init__(  # noqa: PLR0913 - the composition root hands over six collaborators
        self,
        *,
        api: KubeApi,
        leadership: Leadership,
        place: tuple[str, str],
        identity: str,
        clock: Clock,
        changed: Callable[[bool], None],
        timing: Timing,
    ) -> None:
        """A candidate that does not run yet.

        Args:
            api: where the Lease is.
            leadership: is set by this elector.
            place: namespace and name of the Lease.
            identity: unlike that of any other process that ever was: a predecessor in the same pod may be only paused.
            clock: of this machine.
            changed: is told whenever this process begins (True) or ceases to lead.
            timing: of the Lease; the same for all candidates.
        """
        self._api = api
        self._leadership = leadership
        self._place = place
        self._identity = identity
        self._clock = clock
        self._changed = changed
        self._timing = timing
        self._sighting: Sighting | None = None
        self._must_look = True
        self._was_held = False
        self._error = ""
        self.terms = 0
        """How often this process has taken the Lease, which another one may have had before; renewals do not count,
        also if the right to write had run out meanwhile."""
        self.is_informed = False
        """Whether the Lease could be read or written once: without that right, this process never leads."""

    async def run_forever(self) -> NoReturn:
        """Renews or looks, again and again; an error is another try."""
        while True:
            try:
                await self._round()
                self.is_informed, self._error = True, ""
            except ApiError as error:
                self._complain(error)
            self._report()
            await asyncio.sleep(self._timing.renew if self._was_held else self._timing.look)

    async def _round(self) -> None:
        """One look where needed, and one write where that is our turn; once more if somebody else was quicker."""
        for _ in range(2):
            if self._must_look or not self._was_held:
                await self._look()
            step = election.decide(self._sighting, self._identity, self._clock.monotonic())
            if step is Step.WAIT:
                self._leadership.end()
                return
            if step is not Step.RENEW:
                # Somebody else may have led since our last look, if only for a moment.
                self.terms += 1
                self._leadership.end()
                self._report()
            try:
                await self._write()
            except ApiError as error:
                self._must_look = True  # also whether it was written after all
                if not error.is_conflict:
                    raise
            else:
                return

    async def _write(self) -> None:
        before = self._sighting.lease if self._sighting else None
        body = election.held(self._place, before, self._identity, self._timing, self._clock.utc())
        sent = self._clock.monotonic()
        self._saw(await self._api.put_lease(body, self._timing.call))
        self._must_look = False
        self._leadership.extend(sent + self._timing.write)

    async def _look(self) -> None:
        try:
            found = await self._api.get_lease(*self._place, self._timing.call)
        except ApiError as error:
            if not error.is_not_found:
                raise
            if not self._is_waiting():  # one that was deleted by hand may still have a holder who writes
                self._sighting = None
        else:
            self._saw(found)

    def _is_waiting(self) -> bool:
        return election.decide(self._sighting, self._identity, self._clock.monotonic()) is Step.WAIT

    def _saw(self, raw: election.Body) -> None:
        lease, now = election.read(raw, self._timing), self._clock.monotonic()
        self._sighting = self._sighting.next(lease, now) if self._sighting else Sighting(lease=lease, since=now)

    def _report(self) -> None:
        if self._leadership.is_held == self._was_held:
            return
        self._was_held = not self._was_held
        holder = self._sighting.lease.holder if self._sighting else ""
        _log.info("leading" if self._was_held else "standing by", extra={"lease": self._place[1], "holder": holder})
        self._changed(self._was_held)

    def _complain(self, error: ApiError) -> None:
        """Once per text: a standby that may not read the Lease would say it every second."""
        if str(error) == self._error:
            return
        self._error = str(error)
        hint = f"; grant get, create and update on leases in {self._place[0]}" if error.is_forbidden else ""
        _log.warning("Lease not reached", extra={"lease": "/".join(self._place), "error": f"{error}{hint}"})

    async def release(self) -> None:
        """Gives the Lease up, if it is ours, so that a standby takes it at its next look. Writes end before.

        Not while `run_forever` runs, which would take it again.
        """
        self._leadership.end()
        try:
            await self._look()
            lease = self._sighting.lease if self._sighting else None
            if lease is None or lease.holder != self._identity:
                return
            await self._api.put_lease(election.released(self._place, lease), self._timing.call)
        except ApiError as error:
            _log.warning("Lease not released", extra={"lease": self._place[1], "error": str(error)})
        else:
            _log.info("Lease released", extra={"lease": self._place[1]})
