"""CPU and memory of a process and everything below it, from psutil.

Memory is PSS where the kernel tells it (Linux): pages that workers share count once, as a container's cgroup would
count them. Elsewhere it is the sum of RSS, which counts shared pages once per process.
"""

import contextlib
from dataclasses import dataclass, field

import psutil

from mce_kit.clock import Clock
from mce_local.runtime import Sample


@dataclass(slots=True)
class _Tree:
    at: float
    seconds: dict[int, float] = field(default_factory=dict)
    """CPU seconds by process id at that time."""


class Meter:
    """Remembers one reading per tree, to make rates of counters."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._trees: dict[int, _Tree] = {}

    def read(self, pid: int) -> Sample | None:
        """Use of the tree under `pid` since the reading before; None if it is gone."""
        now = self._clock.monotonic()
        seconds: dict[int, float] = {}
        memory = 0.0
        with contextlib.suppress(psutil.Error):
            root = psutil.Process(pid)
            for process in (root, *root.children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    times = process.cpu_times()
                    seconds[process.pid] = times.user + times.system
                    memory += _memory(process)
        if not seconds:
            self.forget(pid)
            return None
        before = self._trees.get(pid)
        self._trees[pid] = _Tree(at=now, seconds=seconds)
        return Sample(cpu_cores=_cores(before, seconds, now), memory_bytes=memory)

    def forget(self, pid: int) -> None:
        """The tree is gone; its id may come back as another's."""
        self._trees.pop(pid, None)


def _cores(before: _Tree | None, seconds: dict[int, float], now: float) -> float:
    """A child that was not there before counts in full, one that is gone not at all."""
    if before is None or now <= before.at:
        return 0.0
    used = sum(max(0.0, total - before.seconds.get(pid, 0.0)) for pid, total in seconds.items())
    return used / (now - before.at)


def _memory(process: psutil.Process) -> float:
    try:
        return float(process.memory_full_info().pss)
    except (AttributeError, psutil.Error):
        return float(process.memory_info().rss)
