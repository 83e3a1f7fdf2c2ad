"""One pass over one endpoint, top to bottom: observe, plan, apply, status. The same for every occasion."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from mce_api import names, validation
from mce_api.endpoint import MultiContainerEndpoint
from mce_api.status import Status
from mce_kit.kube import ApiError, KubeApi
from mce_operator import newness, resize
from mce_operator import plan as plans
from mce_operator import status as statuses
from mce_operator.announce import Announcer
from mce_operator.apply import Writer
from mce_operator.cache import Cache, edition
from mce_operator.decisions import Decisions, decide, to_ask
from mce_operator.desired import desired
from mce_operator.events import Recorder
from mce_operator.healing import Healing, Treatment
from mce_operator.key import Key
from mce_operator.metrics import Metrics
from mce_operator.observe import observe, with_fleet, with_strangers
from mce_operator.observed import Observed, Scaling
from mce_operator.patience import PAUSE_SECONDS
from mce_operator.plan import Failure, Plan
from mce_operator.resources.meta import K8sObject
from mce_operator.resources.router import Setup
from mce_operator.routers import Routers
from mce_operator.status import Situation
from mce_operator.verdict import verdict

_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a pass ended."""

    is_settled: bool
    """False: try again, with back-off."""
    look_again_seconds: float | None = None


OUTAGE_SECONDS: Final = 10
"""Longest pause after a failure of the API server or of the way to it: what had backed off is done soon after."""

DONE: Final = Outcome(is_settled=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class _View:
    """The endpoint at one moment of a pass, and what is to be done about it."""

    observed: Observed
    decisions: Decisions
    plan: Plan


class Reconciler:
    """The pass, with what it needs."""

    def __init__(  # noqa: PLR0913 - the composition root hands over what a pass needs
        self,
        *,
        api: KubeApi,
        cache: Cache,
        writer: Writer,
        recorder: Recorder,
        metrics: Metrics,
        routers: Routers,
        setup: Setup,
        utc: Callable[[], datetime],
        scaling: Callable[[Key], Scaling | None] = lambda _: None,
    ) -> None:
        self._api = api
        self._cache = cache
        self._writer = writer
        self._announcer = Announcer(recorder, writer.event)
        self._metrics = metrics
        self._routers = routers
        self._setup = setup
        self._utc = utc
        self._healing = Healing(cache, self._announcer, metrics, utc)
        self._scaling = scaling
        self._said: dict[Key, datetime] = {}
        """When each status was last written. A new process does not know, and writes the first news at once."""
        self._looked: dict[Key, datetime] = {}
        """When each status was last made. Of two children that are fought over, one may be refused in every pass."""
        self._untold: dict[Key, tuple[str, Status]] = {}
        """The uid and the status before the first write of which nobody knows whether it had its effect."""
        self._sure: set[Key] = set()
        """Endpoints whose spec is not older than what another operator may have acted upon."""

    def take_over(self) -> None:
        """Another operator may have written until now: what is known is of yesterday."""
        self._healing.forget_all()
        for memory in (self._said, self._looked, self._untold):
            memory.clear()
        self._sure.clear()

    def forget_what_is_gone(self) -> None:
        """Nobody wants a pass over an endpoint that went while this operator stood by."""
        there = set(self._cache.endpoints())
        for key in {*self._healing.keys(), *self._said, *self._looked, *self._untold, *self._sure} - there:
            self._forget(key)

    def _forget(self, key: Key) -> None:
        self._healing.forget(key)
        for memory in (self._said, self._looked, self._untold):
            memory.pop(key, None)
        self._sure.discard(key)

    async def reconcile(self, key: Key) -> Outcome:
        """Brings one endpoint closer to what its spec says, and its status to what is.

        Raises:
            ApiError: if the API server could not be read, or would not take the status.
        """
        observed = observe(self._cache, key)
        if observed is None:
            self._metrics.endpoint_gone(key)
            self._forget(key)
            return DONE
        outcome = await self._act(observed)
        return replace(outcome, look_again_seconds=0.0) if self._has_moved(observed) else outcome

    def _has_moved(self, observed: Observed) -> bool:
        """Whether the endpoint is another one by now.

        If it was the answer to a write of ours that told so, no watch brings the news any more.
        """
        live = self._cache.get(names.KIND, observed.key)
        return live is not None and edition(live) != edition(observed.document)

    async def _act(self, observed: Observed) -> Outcome:
        if observed.is_deleting:
            later = await self._publish(observed, statuses.deleting(observed, self._utc()))
            return Outcome(is_settled=True, look_again_seconds=later)
        try:
            endpoint = validation.stored(observed.document)
        except validation.InvalidEndpoint as error:
            later = await self._publish(observed, statuses.invalid(observed, error.violations, self._utc()))
            return Outcome(is_settled=True, look_again_seconds=later)
        return await self._pursue(endpoint, observed)

    async def _pursue(self, endpoint: MultiContainerEndpoint, observed: Observed) -> Outcome:
        observed = replace(observed, scaling=self._scaling(observed.key))
        if asked := to_ask(endpoint, observed, self._utc()):
            observed = replace(observed, routers=await self._routers.ask(asked))
            if self._has_moved(observed):  # that may have taken seconds: what would be rolled back may be mended
                endpoint, observed = self._as_of_now(endpoint, observed)
        if resize.is_under_way(observed):
            if (sure := await self._ascertained(observed)) is None:
                return await self.reconcile(observed.key)
            observed = await self._resized(endpoint, await with_fleet(self._api, sure))
        view = self._view(endpoint, observed)
        if created := plans.creations(view.plan, observed):
            observed = await with_strangers(self._api, self._cache, observed, created)
            if observed is not view.observed:
                view = self._view(endpoint, observed)
        treatment = self._healing.admit(view.plan, observed)
        if treatment.is_robbed:
            self._sure.discard(observed.key)  # or is the endpoint gone, and its children with it?
        has_begun = bool(observed.children) or treatment.is_robbed
        if treatment.plan.has_writes and has_begun:
            if (sure := await self._ascertained(observed)) is None:
                return await self.reconcile(observed.key)
            view = replace(view, observed=sure)
        return await self._carry_out(endpoint, view, treatment)

    def _as_of_now(
        self, endpoint: MultiContainerEndpoint, observed: Observed
    ) -> tuple[MultiContainerEndpoint, Observed]:
        """The same with the newest spec, if it is one; whatever else it is, this pass is followed by another one."""
        fresh = observe(self._cache, observed.key)
        if fresh is None or fresh.uid != observed.uid or fresh.is_deleting:
            return endpoint, observed
        try:
            newest = validation.stored(fresh.document)
        except validation.InvalidEndpoint:
            return endpoint, observed
        return newest, replace(fresh, routers=observed.routers, scaling=observed.scaling)

    async def _carry_out(self, endpoint: MultiContainerEndpoint, view: _View, treatment: Treatment) -> Outcome:
        observed = view.observed
        done = await self._writer.carry_out(treatment.plan, observed)
        after = self._view(endpoint, self._seen_again(observed)) if treatment.plan.has_writes else view
        rest = await self._healing.report(treatment, done, observed, after.plan, after.observed)
        is_settled = not (done.failures or view.plan.orphans)
        again = 0.0 if is_settled and _is_news(rest, treatment) else treatment.refused.seconds or None
        if treatment.refused.kinds and is_settled and self._has_just_looked(observed.key):
            # Somebody writes against us: the status waits, too, or it would follow every one of those writes.
            return Outcome(is_settled=True, look_again_seconds=again)
        # The status tells of what is there now, so that it need not be written again.
        later = await self._conclude(after if is_settled else view, done.failures)
        hopeless = any(failure.is_terminating for failure in done.failures)
        return Outcome(is_settled=hopeless or is_settled, look_again_seconds=_sooner(later, again))

    def _seen_again(self, observed: Observed) -> Observed:
        """The same endpoint, with the same spec, among what the answers to our writes have brought."""
        now_there = observe(self._cache, observed.key)
        if now_there is None or now_there.uid != observed.uid:
            return observed
        strangers = {kind: child for kind, child in observed.children.items() if not child.is_managed}
        return replace(
            now_there,
            children={**strangers, **now_there.children},
            document=observed.document,
            routers=observed.routers,
            scaling=observed.scaling,
            began_with=observed.began_with,
        )

    async def _conclude(self, view: _View, failures: Sequence[Failure]) -> float | None:
        """Tells how it went; returns the seconds after which there may be something else to tell or to do."""
        observed, decisions = view.observed, view.decisions
        now = self._looked[observed.key] = self._utc()
        revision = decisions.revision
        situation = Situation(
            endpoint=revision.endpoint,
            observed=observed,
            decisions=decisions,
            plan=view.plan,
            verdict=verdict(
                revision.endpoint,
                resize.recast(observed, decisions.resizing),
                revision.template,
                revision.setup.image,
                now,
                is_rollback=revision.rejection is not None,
            ),
            failures=failures,
        )
        later = await self._publish(observed, statuses.status(situation, now))
        for failure in failures:
            _log.warning("write refused", extra={"endpoint": "/".join(observed.key), "failure": failure.message})
        is_outage = any(failure.is_outage for failure in failures)
        return _sooner(_sooner(statuses.look_again(situation, now), later), OUTAGE_SECONDS if is_outage else None)

    async def _ascertained(self, observed: Observed) -> Observed | None:
        """The endpoint with its newest status; None if it has changed, though no watch has told us yet.

        Asked once for each after a takeover. The predecessor may have been told, and be a step ahead: to write what was
        wanted before would undo that step, and roll pods out that nobody wants; to tell what it has told would be to
        tell it twice.
        """
        key = observed.key
        if key in self._sure:
            return observed
        try:
            fresh = await self._api.get(names.KIND, key.namespace, key.name)
        except ApiError as error:
            if not error.is_not_found:
                raise
            self._cache.drop(names.KIND, key)
            return None
        self._sure.add(key)
        self._cache.put(names.KIND, fresh)
        newest = self._cache.get(names.KIND, key)
        return None if newest is None or self._has_moved(observed) else replace(observed, document=newest)

    def _has_just_looked(self, key: Key) -> bool:
        last = self._looked.get(key)
        return last is not None and 0 <= (self._utc() - last).total_seconds() < PAUSE_SECONDS

    async def _resized(self, endpoint: MultiContainerEndpoint, observed: Observed) -> Observed:
        """`observed` after the next step of its in-place change; a step that is refused is what the rest learns."""
        steps = self._view(endpoint, observed).decisions.resizing
        refusal = await self._writer.patch(steps.patches, observed)
        if not refusal:
            return observed
        observed = replace(observed, refusal=refusal)
        steps = self._view(endpoint, observed).decisions.resizing
        for patch in steps.patches:  # each as far as it goes
            await self._writer.patch((patch,), observed)
        return observed

    def _view(self, endpoint: MultiContainerEndpoint, observed: Observed) -> _View:
        decisions = decide(endpoint, observed, self._setup, self._utc())
        plan = plans.plan(desired(decisions.revision.endpoint, decisions, self._setup), observed)
        return _View(observed=observed, decisions=decisions, plan=plan)

    async def _publish(self, observed: Observed, status: Status) -> float | None:
        """Writes the status if it says anything new, and an Event if it says something else.

        Returns:
            After how many seconds that is to be done, if it is not to be done now.
        """
        self._metrics.endpoint_is(observed.key, status)
        wanted, before = statuses.document(status), observed.document.get("status") or {}
        if wanted == before:
            await self._tell(observed, status)
            return None
        last, now = self._said.get(observed.key), self._utc()
        if pause := newness.seconds_to_wait(before, wanted, (now - last).total_seconds() if last else None):
            return pause
        uid, _ = self._untold.get(observed.key, ("", None))
        if uid != observed.uid:
            self._untold[observed.key] = (observed.uid, observed.told)
        if await self._writer.status(observed, wanted):
            self._said[observed.key] = now
            await self._tell(observed, status)
        return None

    async def _tell(self, observed: Observed, status: Status) -> None:
        """The Event about the status as it is stored now; not always by the write that had the answer."""
        uid, before = self._untold.pop(observed.key, ("", status))
        if uid == observed.uid and await self._announcer.transition(observed, before, status):
            _log.info(
                "endpoint changed",
                extra={"endpoint": "/".join(observed.key), "state": status.state, "reason": status.reason},
            )


def _is_news(rest: Plan, treatment: Treatment) -> bool:
    """Whether there is something to write of which no watch may tell.

    An object that was applied last, and at once is not as it should be, is no news: others have changed it since, which
    the watch tells, or a webhook changes it whenever it is applied.
    """
    left = rest.without(treatment.refused.kinds)
    cut = {one.live.kind for one in treatment.plan.cuts}
    applied = {_version(built) for built in treatment.plan.applies if built["kind"] not in cut}
    return treatment.plan.has_writes and bool(left.cuts or {_version(built) for built in left.applies} - applied)


def _version(built: K8sObject) -> tuple[str, str]:
    return built["kind"], built["metadata"]["annotations"][names.HASH_ANNOTATION]


def _sooner(one: float | None, other: float | None) -> float | None:
    return min((seconds for seconds in (one, other) if seconds is not None), default=None)
