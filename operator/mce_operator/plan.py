"""What should exist, and what has to be written for it. Pure: (wanted, observed) to `Plan`, no clock, no I/O."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from mce_api import names
from mce_operator import ownership
from mce_operator.additions import additions
from mce_operator.observed import Child, Observed
from mce_operator.ownership import Path
from mce_operator.resources.meta import K8sObject

_OUR_KIND = f"{names.KIND}.{names.GROUP}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """What others have added to one of our objects."""

    live: Child
    paths: Mapping[Path, str]
    """The manager who did, by field."""
    wanted: K8sObject
    """What the object is to be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The writes of one pass, in order."""

    wanted: frozenset[str] = frozenset()
    """Kinds of the children that the endpoint is to have."""
    is_applied: bool = False
    """Whether the live Deployment is the wanted one already."""
    applies: tuple[K8sObject, ...] = ()
    cuts: tuple[Cut, ...] = ()
    orphans: tuple[Child, ...] = ()
    """Children of an endpoint that had this name before: deleted; the pass is repeated when they are gone."""
    superfluous: tuple[Child, ...] = ()
    """Children that the endpoint no longer wants: deleted."""
    taken: tuple[Child, ...] = ()
    """Objects that are somebody else's; while there is one, nothing is written."""

    @property
    def has_writes(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.applies or self.cuts or self.orphans or self.superfluous)

    def without(self, kinds: AbstractSet[str]) -> "Plan":
        """The plan that leaves objects of these kinds as they are."""
        applies = tuple(built for built in self.applies if built["kind"] not in kinds)
        return replace(self, applies=applies, cuts=tuple(cut for cut in self.cuts if cut.live.kind not in kinds))


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One write of a plan that the API server refused."""

    kind: str
    name: str
    message: str
    is_terminating: bool
    """The namespace is going away: no use to try again."""
    is_outage: bool = False
    """The API server or the way to it is at fault, and not the object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """How far a plan was carried out."""

    applied: frozenset[str] = frozenset()
    """Kinds of the objects that were applied, and answered for."""
    cut: frozenset[str] = frozenset()
    """The same of those that something was cut out of."""
    failures: tuple[Failure, ...] = ()
    """One at most; what comes after it in the plan was not tried."""

    @property
    def kinds(self) -> frozenset[str]:
        """Of all objects that were written."""
        return self.applied | self.cut


def plan(wanted: Sequence[K8sObject], observed: Observed) -> Plan:
    """What turns the observed children into the wanted ones; `desired` says which those are."""
    kinds = frozenset(built["kind"] for built in wanted)
    taken = tuple(child for child in observed.children.values() if child.kind in kinds and _is_foreign(child))
    orphans = tuple(child for child in observed.children.values() if _is_orphan(child, observed.uid))
    superfluous = tuple(
        child
        for child in observed.children.values()
        if child.kind not in kinds and _is_own(child, observed.uid) and not child.is_deleting
    )
    differing = {built["kind"] for built in wanted if _differs(built, observed.children.get(built["kind"]))}
    live = observed.children.get("Deployment")
    applied = live is not None and live not in orphans and "Deployment" not in differing and not live.is_deleting
    if taken:
        return Plan(wanted=kinds, is_applied=applied, taken=taken)
    gone = {child.kind for child in orphans}
    applies = tuple(built for built in wanted if built["kind"] in differing - gone)
    cuts = tuple(cut for built in wanted if built["kind"] not in gone if (cut := _cut(built, observed)))
    return Plan(wanted=kinds, is_applied=applied, applies=applies, cuts=cuts, orphans=orphans, superfluous=superfluous)


def _cut(built: K8sObject, observed: Observed) -> Cut | None:
    live = observed.children.get(built["kind"])
    if live is None or live.is_deleting:
        return None
    paths = additions(built, live.others)
    return Cut(live=live, paths=paths, wanted=built) if paths else None


def creations(plan_: Plan, observed: Observed) -> tuple[str, ...]:
    """Kinds of the objects that the plan would make for the first time."""
    return tuple(built["kind"] for built in plan_.applies if built["kind"] not in observed.children)


def _is_own(child: Child, uid: str) -> bool:
    return not _is_foreign(child) and child.controller_uid == uid


def _is_foreign(child: Child) -> bool:
    """Somebody else's: controlled by something that is no endpoint, or by nothing and without our label."""
    if child.controller_kind:
        return child.controller_kind != _OUR_KIND
    return not child.is_managed


def _is_orphan(child: Child, uid: str) -> bool:
    """Left by an endpoint of the same name that is gone. The API server would let us silently replace its owner."""
    return not _is_foreign(child) and child.controller_uid not in {"", uid}


def _differs(built: K8sObject, live: Child | None) -> bool:
    """Whether an apply would change anything: even one that does not costs the API server up to 36 ms."""
    if live is None:
        return True
    if live.is_deleting:
        return False  # the event of its end brings the next pass
    return built["metadata"]["annotations"][names.HASH_ANNOTATION] != live.hash or not ownership.covers(
        live.owned, built
    )
