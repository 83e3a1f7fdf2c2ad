"""Time as an argument: whoever needs the time takes a `Clock`, so that tests own it."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True)
class Clock:
    """A wall clock for what people read, a monotonic one (seconds) for what is measured."""

    utc: Callable[[], datetime]
    monotonic: Callable[[], float]


def system() -> Clock:
    """The machine's clocks."""
    return Clock(utc=lambda: datetime.now(UTC), monotonic=time.monotonic)
