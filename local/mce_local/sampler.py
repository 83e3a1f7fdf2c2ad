"""CPU and memory of each container, read on a beat of its own: asking an engine may take seconds."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from mce_kit.clock import Clock
from mce_local.runtime import Handle, Runtime, Sample

_SECONDS: Final = 1.0


class Sampler:
    """The latest sample of each container, and the CPU seconds that all samples add up to."""

    def __init__(self, runtime: Runtime, clock: Clock) -> None:
        self.latest: dict[str, Sample] = {}
        self.cpu_seconds: dict[str, float] = {}
        self._runtime = runtime
        self._clock = clock

    async def run(self, handles: Callable[[], Mapping[str, Handle]]) -> None:
        """Until cancelled; `handles` says who runs, by container name."""
        before = self._clock.monotonic()
        while True:
            running = dict(handles())
            samples = await self._runtime.usage(tuple(running.values()))
            now = self._clock.monotonic()
            self.latest = {name: samples[handle.id] for name, handle in running.items() if handle.id in samples}
            for name, sample in self.latest.items():
                self.cpu_seconds[name] = self.cpu_seconds.get(name, 0.0) + sample.cpu_cores * (now - before)
            before = now
            await asyncio.sleep(_SECONDS)
