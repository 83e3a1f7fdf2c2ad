"""How often what others undo is set back: at once for a person's edit, at a bounded rate for a fight. No I/O.

What it remembers is not needed to be right: a new process begins with a full allowance.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from mce_operator.drift import Drift
from mce_operator.key import Key
from mce_operator.observed import Observed
from mce_operator.ownership import Path
from mce_operator.plan import Cut

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
        return min(AT_ONCE, self.tokens + (now - self.at).total_seconds() / PAUSE_SECONDS)


@dataclass(slots=True)
class _Memory:
    uid: str
    known: frozenset[str] = frozenset()
    allowances: dict[str, _Allowance] = field(default_factory=dict)
    """By kind."""
    in_vain: dict[str, frozenset[Path]] = field(default_factory=dict)
    """By kind, what was taken out and is still there: a default of the API server that somebody has applied."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """What has to wait."""

    kinds: frozenset[str] = frozenset()
    seconds: float = 0.0
    """Until the first of them may be set back."""


class Patience:
    """The allowances of all endpoints, and which children each is known to have."""

    def __init__(self) -> None:
        self._memories: dict[Key, _Memory] = {}

    def known(self, observed: Observed) -> frozenset[str]:
        """What the last pass over this very endpoint ended with."""
        memory = self._memories.get(observed.key)
        return memory.known if memory and memory.uid == observed.uid else frozenset()

    def admit(self, observed: Observed, drifts: Iterable[Drift], now: datetime) -> Refused:
        """Takes one from the allowance of every object that is to be set back; names those that have none left."""
        kinds = {drift.kind for drift in drifts}
        if not kinds:
            return Refused()
        allowances = self._of(observed).allowances
        waits: dict[str, float] = {}
        for kind in kinds:
            tokens = allowances[kind].now(now) if kind in allowances else AT_ONCE
            if tokens >= 1:
                allowances[kind] = _Allowance(tokens - 1, now)
            else:
                waits[kind] = (1 - tokens) * PAUSE_SECONDS
        return Refused(kinds=frozenset(waits), seconds=min(waits.values(), default=0.0))

    def is_in_vain(self, observed: Observed, cut: Cut) -> bool:
        """Whether just this was taken out before, and nothing changed."""
        memory = self._memories.get(observed.key)
        known = memory.in_vain.get(cut.live.kind) if memory and memory.uid == observed.uid else None
        return known == frozenset(cut.paths)

    def was_in_vain(self, observed: Observed, cut: Cut) -> None:
        """The API server took a patch that takes this out, and the object is what it was."""
        self._of(observed).in_vain[cut.live.kind] = frozenset(cut.paths)

    def ended(self, observed: Observed, known: Iterable[str]) -> None:
        """A pass has ended with these kinds of children there, or still to be made good."""
        self._of(observed).known = frozenset(known)

    def forget(self, key: Key) -> None:
        """The endpoint is gone."""
        self._memories.pop(key, None)

    def _of(self, observed: Observed) -> _Memory:
        memory = self._memories.get(observed.key)
        if memory is None or memory.uid != observed.uid:
            memory = self._memories[observed.key] = _Memory(observed.uid)
        return memory
