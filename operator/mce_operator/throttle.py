"""How fast the operator writes, all endpoints together: a token bucket, against its own bugs and other people's bursts.

Whoever asks first is served first, one token for one write. A pass asks for its next token only after its last write,
so an endpoint with many writes takes turns with the others.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Bucket:
    """Tokens that come back at a steady rate; may go below zero, which is a queue. Owns no clock."""

    rate: float
    """Per second."""
    burst: int
    """The most that it holds, and holds at first."""
    _tokens: float = field(init=False)
    _at: float = float("-inf")

    def __post_init__(self) -> None:
        self._tokens = self.burst

    def take(self, now: float) -> float:
        """Takes the next token; returns the seconds until it is there.

        Args:
            now: seconds of any monotonic clock.
        """
        self._tokens = min(float(self.burst), self._tokens + (now - self._at) * self.rate) - 1
        self._at = now
        return max(0.0, -self._tokens / self.rate)


class Throttle:
    """A `Bucket` on the clock."""

    def __init__(
        self,
        bucket: Bucket,
        monotonic: Callable[[], float],
        waited: Callable[[float], None],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._bucket = bucket
        self._monotonic = monotonic
        self._waited = waited
        self._sleep = sleep

    async def turn(self) -> None:
        """Returns when one write may be sent; tells how long that took if it was not at once."""
        seconds = self._bucket.take(self._monotonic())
        if seconds > 0:
            self._waited(seconds)
            await self._sleep(seconds)
