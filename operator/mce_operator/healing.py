"""Decides what of others' changes is set right now, and tells of it: one Event, one log line and one count for each."""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from mce_kit.kube import ApiError
from mce_operator import observed as facts
from mce_operator.cache import CHILD_KINDS, OTHERS, OWNED, Cache
from mce_operator.drift import Drift, drifts, lasting
from mce_operator.events import DRIFT_CONFLICT, DRIFT_HEALED, Recorder
from mce_operator.key import Key
from mce_operator.metrics import Metrics
from mce_operator.observed import Observed
from mce_operator.patience import PAUSE_SECONDS, Patience, Refused
from mce_operator.plan import Failure, Plan

_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Treatment:
    """What of a plan is carried out now."""

    plan: Plan
    drifts: tuple[Drift, ...]
    refused: Refused
    """What has been set back too often, and is left as it is for now."""
    versions: Mapping[str, str]
    """Of the objects with drift, before anything is written; by kind."""
    lasting: frozenset[str]
    """Kinds of the children that are known from now on, though the caches may have lost them by the end of the pass."""


class Healing:
    """The part of a pass that is about what others did."""

    def __init__(
        self,
        post: Callable[[dict[str, Any]], Awaitable[None]],
        cache: Cache,
        recorder: Recorder,
        metrics: Metrics,
        utc: Callable[[], datetime],
    ) -> None:
        self._write = post
        self._cache = cache
        self._recorder = recorder
        self._metrics = metrics
        self._utc = utc
        self._patience = Patience()

    def admit(self, plan: Plan, observed: Observed) -> Treatment:
        """What may be written now."""
        cuts = tuple(cut for cut in plan.cuts if not self._patience.is_in_vain(observed, cut))
        plan = replace(plan, cuts=cuts)
        known = self._patience.known(observed)
        found = drifts(plan, observed, known)
        refused = self._patience.admit(observed, found, self._utc())
        return Treatment(
            plan=plan.without(refused.kinds) if refused.kinds else plan,
            drifts=found,
            refused=refused,
            versions={drift.kind: self._version(drift.kind, observed.key) for drift in found},
            lasting=lasting(plan, observed, known),
        )

    async def report(self, treatment: Treatment, observed: Observed, failures: Sequence[Failure]) -> None:
        """Tells what has been set right, and what is not any more for a while."""
        for cut in () if failures else treatment.plan.cuts:
            if self._version(cut.live.kind, observed.key) == treatment.versions[cut.live.kind]:
                self._patience.was_in_vain(observed, cut)
        for drift in treatment.drifts:
            if drift.kind in treatment.refused.kinds:
                note = f"{drift}, again and again; it is set right once in {PAUSE_SECONDS:g} s"
                await self._post(observed, DRIFT_CONFLICT, note, drift.kind)
            elif self._version(drift.kind, observed.key) != treatment.versions[drift.kind]:
                self._metrics.healed(drift.kind, drift.what)
                _log.warning("drift healed", extra={"endpoint": "/".join(observed.key), "drift": str(drift)})
                note = f"{drift}; it is as it should be again"
                await self._post(observed, DRIFT_HEALED, note, note)
        there = {kind for kind in CHILD_KINDS if self._is_there(kind, observed)}
        self._patience.ended(observed, there | treatment.lasting)

    def forget(self, key: Key) -> None:
        """The endpoint is gone."""
        self._patience.forget(key)

    async def _post(self, observed: Observed, reason: str, note: str, subject: str) -> None:
        event = self._recorder.drift(observed, reason, note, subject)
        if event is None:
            return
        try:
            await self._write(event)
        except ApiError as error:
            _log.warning("event not posted", extra={"endpoint": "/".join(observed.key), "error": str(error)})

    def _version(self, kind: str, key: Key) -> str:
        live = self._cache.get(kind, key)
        return str(live["metadata"].get("resourceVersion", "")) if live else ""

    def _is_there(self, kind: str, observed: Observed) -> bool:
        live = self._cache.get(kind, observed.key)
        if live is None:
            return False
        child = facts.child(kind, live, live[OWNED], live[OTHERS])
        return child.controller_uid == observed.uid and not child.is_deleting
