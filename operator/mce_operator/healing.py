"""Decides what of others' changes is set right now, and tells of it: one Event, one log line and one count for each."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from mce_operator.announce import Announcer
from mce_operator.cache import Cache
from mce_operator.drift import Drift, What, drifts
from mce_operator.events import DRIFT_CONFLICT, DRIFT_HEALED
from mce_operator.key import Key
from mce_operator.metrics import Metrics
from mce_operator.observed import Child, Observed
from mce_operator.ownership import Path
from mce_operator.patience import PAUSE_SECONDS, Patience, Refused
from mce_operator.plan import Cut, Done, Plan

_log: Final = logging.getLogger(__name__)

_Identity = tuple[str, What]
"""Kind of the object, and what was done to it."""
_Attempt = tuple[frozenset[Path], str, str]
"""What was to be taken out, and of which edition of which object: with another value it is worth another try."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Treatment:
    """What of a plan is carried out now."""

    plan: Plan
    drifts: tuple[Drift, ...]
    refused: Refused
    """What has been set back too often, and is left as it is for now."""
    versions: Mapping[str, str]
    """Of the objects that something is cut out of, before that; by kind."""
    is_robbed: bool
    """Whether a child that was there is to be made again, for the first time since it is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Open:
    """What others did and is not as it should be yet."""

    drift: Drift
    is_written: bool = False
    """Whether we have written, or may have: if not, and it is gone, those who did it have undone it themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Memory:
    """What is remembered of one endpoint's children between passes. A new process begins with nothing."""

    uid: str
    known: frozenset[str] = frozenset()
    """Kinds that it has had: one of them that is missing was taken away by others, whatever has happened since."""
    open: Mapping[_Identity, _Open] = field(default_factory=dict)
    """It is told of when we have set it right, though that may take several passes."""
    in_vain: Mapping[str, _Attempt] = field(default_factory=dict)
    """By kind, what was taken out and is still there: a default of the API server that somebody has applied."""
    patience: Patience = field(default_factory=Patience)


class Healing:
    """The part of a pass that is about what others did."""

    def __init__(self, cache: Cache, announcer: Announcer, metrics: Metrics, utc: Callable[[], datetime]) -> None:
        self._cache = cache
        self._announcer = announcer
        self._metrics = metrics
        self._utc = utc
        self._memories: dict[Key, _Memory] = {}

    def admit(self, plan: Plan, observed: Observed) -> Treatment:
        """What may be written now."""
        memory = self._of(observed)
        plan = self._worthwhile(plan, observed, memory)
        found = drifts(plan, observed, memory.known)
        refused = memory.patience.admit({drift.kind for drift in found}, self._utc())
        return Treatment(
            plan=plan.without(refused.kinds) if refused.kinds else plan,
            drifts=found,
            refused=refused,
            versions={cut.live.kind: self._version(cut.live.kind, observed.key) for cut in plan.cuts},
            is_robbed=any(
                what is What.DELETED and kind not in refused.kinds and not _was_tried(memory.open.get((kind, what)))
                for (kind, what), _ in _by_identity(found)
            ),
        )

    async def report(self, treatment: Treatment, done: Done, before: Observed, plan: Plan, after: Observed) -> Plan:
        """Tells what has been set right, and what is not any more for a while.

        Args:
            treatment: what was to be done.
            done: what was.
            before: the endpoint before that.
            plan: what is to be done now.
            after: the endpoint now, with the same spec.

        Returns:
            The plan without what cannot be done.
        """
        memory, vain = self._of(before), self._vain(treatment, done, before)
        set_back = {drift.kind for drift in treatment.drifts} & done.kinds
        own = {child.kind for one in (before, after) for child in one.children.values() if _is_whole(child, before)}
        memory = replace(
            memory,
            known=plan.wanted & (memory.known | own | done.kinds),
            in_vain={**memory.in_vain, **vain},
            patience=memory.patience.spent(set_back, self._utc()),
        )
        plan = self._worthwhile(plan, after, memory)
        right, clean = _right(plan, after)
        seen = _seen(memory.open, treatment.drifts, done, frozenset(vain))
        new = {identity: _Open(drift=drift) for identity, drift in _by_identity(drifts(plan, after, memory.known))}
        over = {(kind, what) for what in What for kind in (clean if what is What.ADDED else right)}
        still = {identity: one for identity, one in (seen | new | seen).items() if identity not in over}
        self._memories[before.key] = replace(
            memory, open={identity: one for identity, one in still.items() if identity[0] in plan.wanted}
        )
        idle = {cut.live.kind for cut in plan.cuts if self._was_in_vain(cut, memory, before.key)}
        for drift in treatment.drifts:
            if drift.kind in treatment.refused.kinds and not (drift.what is What.ADDED and drift.kind in idle):
                note = f"{drift}, again and again; it is set right once in {PAUSE_SECONDS:g} s"
                await self._announcer.drift(before, DRIFT_CONFLICT, note, drift.kind)
        for identity, one in seen.items():
            if one.is_written and identity in over:
                await self._tell_healed(one.drift, before)
        return plan

    async def _tell_healed(self, drift: Drift, observed: Observed) -> None:
        self._metrics.healed(drift.kind, drift.what)
        _log.warning("drift healed", extra={"endpoint": "/".join(observed.key), "drift": str(drift)})
        note = f"{drift}; it is as it should be again"
        await self._announcer.drift(observed, DRIFT_HEALED, note, note)

    def keys(self) -> Iterable[Key]:
        """The endpoints of which something is remembered."""
        return self._memories.keys()

    def forget(self, key: Key) -> None:
        """The endpoint is gone."""
        self._memories.pop(key, None)

    def forget_all(self) -> None:
        """As a new process knows nothing."""
        self._memories.clear()

    def _of(self, observed: Observed) -> _Memory:
        memory = self._memories.get(observed.key)
        return memory if memory is not None and memory.uid == observed.uid else _Memory(uid=observed.uid)

    def _worthwhile(self, plan: Plan, observed: Observed, memory: _Memory) -> Plan:
        """The plan without cuts that were made before to no effect."""
        cuts = tuple(cut for cut in plan.cuts if memory.in_vain.get(cut.live.kind) != self._attempt(cut, observed.key))
        return replace(plan, cuts=cuts) if len(cuts) < len(plan.cuts) else plan

    def _vain(self, treatment: Treatment, done: Done, observed: Observed) -> Mapping[str, _Attempt]:
        """The cuts that the API server took, and after which the object is what it was."""
        return {
            cut.live.kind: self._attempt(cut, observed.key)
            for cut in treatment.plan.cuts
            if cut.live.kind in done.cut
            and self._version(cut.live.kind, observed.key) == treatment.versions[cut.live.kind]
        }

    def _attempt(self, cut: Cut, key: Key) -> _Attempt:
        """What makes it the same cut; an object without a generation has its version for one."""
        live = self._cache.get(cut.live.kind, key)
        metadata = live["metadata"] if live else {}
        edition = str(metadata.get("generation") or metadata.get("resourceVersion", ""))
        return frozenset(cut.paths), str(metadata.get("uid", "")), edition

    def _was_in_vain(self, cut: Cut, memory: _Memory, key: Key) -> bool:
        """Whether it was with another edition of this object: it may be again."""
        return memory.in_vain.get(cut.live.kind, ("", "", ""))[:2] == self._attempt(cut, key)[:2]

    def _version(self, kind: str, key: Key) -> str:
        live = self._cache.get(kind, key)
        return str(live["metadata"].get("resourceVersion", "")) if live else ""


def _is_whole(child: Child, observed: Observed) -> bool:
    return child.controller_uid == observed.uid and not child.is_deleting


def _right(plan: Plan, after: Observed) -> tuple[frozenset[str], frozenset[str]]:
    """Kinds of the children that are there, and with which nothing is to be done; and those with nothing to cut out.

    While somebody else's object has one of the names, nothing is planned, and nobody can tell.
    """
    if plan.taken:
        return frozenset(), frozenset()
    there = {child.kind for child in after.children.values() if _is_whole(child, after)}
    clean = plan.wanted & there.difference(cut.live.kind for cut in plan.cuts)
    return clean.difference(built["kind"] for built in plan.applies), clean


def _was_tried(one: _Open | None) -> bool:
    return one is not None and one.is_written


def _seen(
    before: Mapping[_Identity, _Open], found: Iterable[Drift], done: Done, vain: frozenset[str]
) -> dict[_Identity, _Open]:
    """What was open before this pass or was found by it, with whether it has been written about."""
    doubtful = {failure.kind for failure in done.failures if failure.is_outage}  # it may have had its effect
    unchanged = {(kind, What.ADDED) for kind in vain}
    newest = {identity: drift for identity, drift in _by_identity(found) if identity not in unchanged}
    seen = {**before, **{identity: _Open(drift=drift) for identity, drift in newest.items() if identity not in before}}
    written = done.kinds | doubtful
    return {
        identity: _Open(
            drift=newest.get(identity, one.drift),
            is_written=one.is_written or (identity[0] in written and identity not in unchanged),
        )
        for identity, one in seen.items()
    }


def _by_identity(found: Iterable[Drift]) -> Iterator[tuple[_Identity, Drift]]:
    return (((drift.kind, drift.what), drift) for drift in found)
