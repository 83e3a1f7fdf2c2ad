"""The keyed work queue: one worker per key at a time, bursts collapse into one run, failures back off per key.

`Schedule` decides and owns no clock and no task; `WorkQueue` puts it on asyncio's clock. Keys are endpoints.
"""

import asyncio
import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from mce_operator.key import Key

JITTER: Final = 0.2
"""Share of a back-off that is random, so that keys which failed together do not come back together."""
_FIRST_IN_A_ROW: Final = 8
"""Runs of what somebody has just asked for, for one of the rest: neither keeps the other waiting for ever."""

_MOST_VOID: Final = 64
"""Void entries beside as many as there are timed wishes: every run leaves one behind that is hours from its time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Pauses after failures in a row."""

    first_seconds: float
    longest_seconds: float
    random: Callable[[], float] = random.random
    """0 to 1."""

    def after(self, failures: int) -> float:
        """Seconds to wait after that many failures in a row (1, 2, ...)."""
        doubled = self.first_seconds * float(1 << min(failures - 1, 32))
        return min(self.longest_seconds, doubled) * (1 - JITTER * self.random())


@dataclass(slots=True)
class Schedule:
    """Which key may run when. Every method takes the time, in seconds of any monotonic clock."""

    backoff: Backoff
    _first: dict[Key, None] = field(default_factory=dict)
    """Waiting for a worker, oldest first: what somebody has just asked for."""
    _ready: dict[Key, None] = field(default_factory=dict)
    """Waiting for a worker, oldest first: everything else."""
    _in_a_row: int = 0
    """Runs out of `_first` since the last one out of `_ready`."""
    _running: dict[Key, float] = field(default_factory=dict)
    _again: dict[Key, bool] = field(default_factory=dict)
    """Running, and wanted once more after that; whether among the first."""
    _due: dict[Key, float] = field(default_factory=dict)
    _heap: list[tuple[float, Key]] = field(default_factory=list)
    """The same as `_due` by time; an entry that `_due` contradicts is void."""
    _failures: dict[Key, int] = field(default_factory=dict)

    def add(self, key: Key, *, first: bool = False) -> None:
        """Wants a run of `key` as soon as possible; `first`: before those of which nobody has asked for anything."""
        if key in self._running:
            self._again[key] = first or self._again.get(key, False)
        elif first:
            self._ready.pop(key, None)
            self._first.setdefault(key)
        elif key not in self._first:
            self._ready.setdefault(key)

    def add_at(self, key: Key, due: float) -> None:
        """Wants a run of `key` at `due`; an earlier wish for it stays."""
        if due < self._due.get(key, float("inf")):
            self._due[key] = due
            heapq.heappush(self._heap, (due, key))
            if len(self._heap) > _MOST_VOID + 2 * len(self._due):
                self._heap = [(when, one) for one, when in self._due.items()]
                heapq.heapify(self._heap)

    def take(self, now: float) -> Key | None:
        """The next key to run, or None if nothing may run now. Whoever takes it says `done` or `failed`."""
        while self._heap and self._heap[0][0] <= now:
            due, ripe = heapq.heappop(self._heap)
            if self._due.get(ripe) == due:
                del self._due[ripe]
                self.add(ripe)
        key = self._pick()
        if key is None:
            return None
        self._due.pop(key, None)  # the run decides anew when to look again
        self._running[key] = now
        return key

    def _pick(self) -> Key | None:
        """One of the first, but no more than a few in a row while others wait too."""
        takes_first = self._first and (not self._ready or self._in_a_row < _FIRST_IN_A_ROW)
        waiting = self._first if takes_first else self._ready
        if not waiting:
            return None
        self._in_a_row = self._in_a_row + 1 if takes_first else 0
        key = next(iter(waiting))
        del waiting[key]
        return key

    def done(self, key: Key) -> None:
        """A run ended well."""
        self._failures.pop(key, None)
        self._end(key)

    def failed(self, key: Key, now: float) -> float:
        """A run failed; returns the seconds until the next try."""
        self._failures[key] = self._failures.get(key, 0) + 1
        pause = self.backoff.after(self._failures[key])
        self._end(key)
        self.add_at(key, now + pause)
        return pause

    def _end(self, key: Key) -> None:
        del self._running[key]
        first = self._again.pop(key, None)
        if first is not None:
            self.add(key, first=first)

    def next_due(self) -> float | None:
        """When the next timed wish falls due."""
        while self._heap and self._due.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    @property
    def depth(self) -> int:
        """Keys that wait for a worker."""
        return len(self._first) + len(self._ready)

    @property
    def waiting(self) -> int:
        """Keys with a timed wish: back-offs and re-checks."""
        return len(self._due)

    @property
    def is_running(self) -> bool:
        """Whether any run is going on."""
        return bool(self._running)

    def oldest_run(self, now: float) -> float:
        """For how long the longest of the present runs has been going."""
        return max((now - since for since in self._running.values()), default=0.0)


class WorkQueue:
    """A `Schedule` on the clock of asyncio's loop."""

    def __init__(self, schedule: Schedule, monotonic: Callable[[], float]) -> None:
        self._schedule = schedule
        self._monotonic = monotonic
        self._wake = asyncio.Event()
        self._is_closed = False
        self._is_paused = False

    def pause(self) -> None:
        """Hands out no key and forgets new wishes, until `resume`; whoever resumes wants a run of every key."""
        self._is_paused = True

    def resume(self) -> None:
        """Ends `pause`."""
        self._is_paused = False
        self._wake.set()

    def add(self, key: Key, *, first: bool = False) -> None:
        """See `Schedule.add`."""
        if self._is_paused:
            return
        self._schedule.add(key, first=first)
        self._wake.set()

    def add_after(self, key: Key, seconds: float) -> None:
        """A run of `key` that many seconds from now, or sooner if something else wants it."""
        if self._is_paused:
            return
        self._schedule.add_at(key, self._monotonic() + seconds)
        self._wake.set()

    async def get(self) -> Key:
        """Waits for a key that may run."""
        while (key := self._next()) is None:
            await self._sleep(None if self._is_idle else self._schedule.next_due())
        if self._schedule.depth:
            self._wake.set()  # another worker may be asleep
        return key

    async def _sleep(self, due: float | None) -> None:
        """Until something happens, or it is due. Starts no task: kopf waits for those when it stops."""
        self._wake.clear()
        if due is None:
            await self._wake.wait()
            return
        alarm = asyncio.get_running_loop().call_later(max(0.0, due - self._monotonic()), self._wake.set)
        try:
            await self._wake.wait()
        finally:
            alarm.cancel()

    def _next(self) -> Key | None:
        return None if self._is_idle else self._schedule.take(self._monotonic())

    @property
    def _is_idle(self) -> bool:
        return self._is_closed or self._is_paused

    def done(self, key: Key) -> None:
        """See `Schedule.done`."""
        self._schedule.done(key)
        self._wake.set()

    def failed(self, key: Key) -> float:
        """See `Schedule.failed`."""
        pause = self._schedule.failed(key, self._monotonic())
        self._wake.set()
        return pause

    async def close(self) -> None:
        """Hands out no key any more and waits until the present runs have ended."""
        self._is_closed = True
        while self._schedule.is_running:
            self._wake.clear()
            await self._wake.wait()

    @property
    def depth(self) -> int:
        """See `Schedule.depth`."""
        return self._schedule.depth

    @property
    def waiting(self) -> int:
        """See `Schedule.waiting`."""
        return self._schedule.waiting

    def oldest_run(self) -> float:
        """See `Schedule.oldest_run`."""
        return self._schedule.oldest_run(self._monotonic())
