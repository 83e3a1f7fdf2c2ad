"""How often what others undo is set back: at once for a person's edit, at a bounded rate for a fight. No I/O.

It counts what was set back. What could not be is repeated by the work queue, with its back-off, and is no fight.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

AT_ONCE: Final = 3
"""Times in a row that one object is set back without a pause."""
PAUSE_SECONDS: Final = 5.0
"""After that, once in so long."""


@dataclass(frozen=True, slots=True)
class _Allowance:
    """A token bucket."""

    tokens: float
    at: datetime

    def now(self, now: datetime) -> float:
        passed = (now - self.at).total_seconds()
        if passed < 0:  # the clock was set back, and nobody knows when it was spent
            return AT_ONCE
        return min(AT_ONCE, self.tokens + passed / PAUSE_SECONDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """What has to wait."""

    kinds: frozenset[str] = frozenset()
    seconds: float = 0.0
    """Until the first of them may be set back."""


@dataclass(frozen=True, slots=True)
class Patience:
    """The allowances of one endpoint's children, by kind; one that is not named is full."""

    allowances: Mapping[str, _Allowance] = field(default_factory=dict)

    def admit(self, kinds: Iterable[str], now: datetime) -> Refused:
        """Those of `kinds` that have nothing left."""
        waits = {kind: (1 - tokens) * PAUSE_SECONDS for kind in kinds if (tokens := self._tokens(kind, now)) < 1}
        return Refused(kinds=frozenset(waits), seconds=min(waits.values(), default=0.0))

    def spent(self, kinds: Iterable[str], now: datetime) -> "Patience":
        """What is left when these have been set back."""
        spent = {kind: _Allowance(self._tokens(kind, now) - 1, now) for kind in kinds}
        return Patience({**self.allowances, **spent}) if spent else self

    def _tokens(self, kind: str, now: datetime) -> float:
        return self.allowances[kind].now(now) if kind in self.allowances else AT_ONCE
