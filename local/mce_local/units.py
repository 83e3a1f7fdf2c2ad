"""One container as the supervisor sees it, and what follows from what was seen. Pure: the time is an argument."""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from mce_local.runtime import Handle, Launch

FIRST_BACK_OFF_SECONDS: Final = 1.0
MAX_BACK_OFF_SECONDS: Final = 60.0
FORGIVEN_AFTER_SECONDS: Final = 120.0
"""A kubelet's figures are 10 s, 300 s and 600 s; somebody waits at a laptop."""
CANNOT_START: Final = 127
"""Shells' exit code for a command that is not there."""
NEVER_ANSWERED: Final = -9


class State(StrEnum):
    """What a user reads."""

    STARTING = "Starting"
    HEALTHY = "Healthy"
    UNHEALTHY = "Unhealthy"
    BACK_OFF = "BackOff"
    EXITED = "Exited"
    """It ended before it was ever in service, and is not started again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One container: its launch, its latest start, its history."""

    launch: Launch
    startup_timeout: float
    handle: Handle | None = None
    started: float = 0.0
    answered: bool = False
    """Its /ping said 200 since this start, asked by the supervisor itself."""
    ping_error: str = ""
    routed: str = State.STARTING.value
    """The router's word for it."""
    routed_error: str = ""
    log_offset: int = 0
    """Where the output of the latest start begins."""
    restarts: int = 0
    strikes: int = 0
    """Ends in a row, none of them after a long life."""
    retry_at: float = 0.0
    last_exit: int | None = None
    settled: bool = False
    """It was once in service with this launch: from now on a fault is its own, not the update's."""

    @property
    def name(self) -> str:
        """The AWS name."""
        return self.launch.container.name

    @property
    def is_ready(self) -> bool:
        """It answers, and callers reach it."""
        return self.handle is not None and self.answered and self.routed == State.HEALTHY.value

    @property
    def message(self) -> str:
        """What a user should know of its state; empty if it is well."""
        if self.is_ready:
            return ""
        if self.handle is None:
            return exit_text(self.last_exit) if self.last_exit is not None else ""
        return self.routed_error if self.answered else self.ping_error

    @property
    def state(self) -> State:
        """For people."""
        if self.handle is None:
            ended = State.BACK_OFF if self.settled else State.EXITED
            return ended if self.strikes else State.STARTING
        if not self.answered or self.routed == State.STARTING.value:
            return State.STARTING
        return State.HEALTHY if self.routed == State.HEALTHY.value else State.UNHEALTHY


def started(unit: Unit, handle: Handle, now: float) -> Unit:
    """It was started; a start that follows an end counts as a restart."""
    again = unit.last_exit is not None
    return replace(
        unit,
        handle=handle,
        log_offset=handle.log_offset,
        started=now,
        answered=False,
        ping_error="",
        restarts=unit.restarts + (1 if again else 0),
    )


def ended(unit: Unit, code: int, now: float) -> Unit:
    """It ended: the next start is at once the first time, then after 1 s, 2 s, 4 s, up to a minute."""
    strikes = 1 if now - unit.started >= FORGIVEN_AFTER_SECONDS else unit.strikes + 1
    return replace(
        unit,
        handle=None,
        answered=False,
        last_exit=code,
        strikes=strikes,
        retry_at=now + back_off(strikes),
    )


def back_off(strikes: int) -> float:
    """Seconds to wait after that many ends in a row."""
    if strikes <= 1:
        return 0.0
    return min(MAX_BACK_OFF_SECONDS, FIRST_BACK_OFF_SECONDS * 2.0 ** min(strikes - 2, 16))


def is_due(unit: Unit, now: float) -> bool:
    """Whether to start it now."""
    return unit.handle is None and now >= unit.retry_at


def is_overdue(unit: Unit, now: float) -> bool:
    """Whether it has had its time to answer, and did not."""
    return unit.handle is not None and not unit.answered and now - unit.started >= unit.startup_timeout


def exit_text(code: int) -> str:
    """What an exit code says: `exited with code 1`, `was killed by signal 9 (out of memory?)`."""
    signal_number = -code if code < 0 else code - 128 if 128 < code < 160 else 0  # noqa: PLR2004 - shells' convention
    if not signal_number:
        return f"exited with code {code}"
    hint = " (out of memory?)" if signal_number == 9 else ""  # noqa: PLR2004 - SIGKILL
    return f"was killed by signal {signal_number}{hint}"
