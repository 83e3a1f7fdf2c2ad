"""Who leads, told from a Lease and from when its last change was seen here. Pure: no clock, no API.

The times in a Lease are other machines' and are never compared with ours. A Lease is over when it has not changed for
its duration, counted from when this process first saw its present version. That is later than the change, so a
successor never comes too early, whatever the clocks say.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Final

_LONGEST_SECONDS: Final = 60
"""A Lease that claims more is taken to say this: one bad write must not stop every operator for a day."""

Body = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """In seconds. `write` must be shorter than `lease`: what lies between lets the last writes of a leader arrive."""

    lease: float = 15
    """After this long without a change, somebody else takes the Lease."""
    write: float = 10
    """For this long after the leader sent its last renewal, it writes."""
    renew: float = 2
    """Pause between two renewals."""
    look: float = 1
    """Pause between two looks of a standby."""
    call: float = 3
    """How long one call about the Lease may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A `coordination.k8s.io/v1` Lease as it was read."""

    version: str
    """Its resourceVersion."""
    holder: str
    """Empty: released."""
    seconds: float
    transitions: int
    acquired: str
    """As the holder wrote it; kept by renewals, compared with nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """A Lease, and the local time at which this version of it was first seen."""

    lease: Lease
    since: float

    def next(self, lease: Lease, now: float) -> "Sighting":
        """What to remember after another look."""
        return self if lease.version == self.lease.version else Sighting(lease=lease, since=now)


class Step(Enum):
    """What to do about the Lease now."""

    CREATE = "create"
    TAKE = "take"
    RENEW = "renew"
    WAIT = "wait"


def decide(sighting: Sighting | None, identity: str, now: float) -> Step:
    """The next step of `identity`; `sighting` is None if there is no Lease."""
    if sighting is None:
        return Step.CREATE
    lease = sighting.lease
    if lease.holder == identity:
        return Step.RENEW
    if not lease.holder or now - sighting.since >= lease.seconds:
        return Step.TAKE
    return Step.WAIT


def read(raw: Mapping[str, Any], timing: Timing) -> Lease:
    """A Lease out of its object, whatever others have written into it."""
    spec = raw.get("spec") or {}
    seconds = spec.get("leaseDurationSeconds")
    claimed = float(seconds) if isinstance(seconds, int) and seconds > 0 else timing.lease
    transitions = spec.get("leaseTransitions")
    return Lease(
        version=str(raw["metadata"].get("resourceVersion", "")),
        holder=str(spec.get("holderIdentity") or ""),
        seconds=min(claimed, _LONGEST_SECONDS),
        transitions=transitions if isinstance(transitions, int) else 0,
        acquired=str(spec.get("acquireTime") or ""),
    )


def held(place: tuple[str, str], before: Lease | None, identity: str, timing: Timing, utc: datetime) -> Body:
    """The Lease at `place` (namespace, name) as `identity` writes it to take or to renew it.

    The resourceVersion of `before` goes along, so that the API server refuses it (409) after any other change.
    """
    moment = utc.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    is_mine = before is not None and before.holder == identity
    transitions = 0 if before is None else before.transitions + int(not is_mine)
    spec = {
        "holderIdentity": identity,
        "leaseDurationSeconds": round(timing.lease),
        "acquireTime": before.acquired if before is not None and is_mine and before.acquired else moment,
        "renewTime": moment,
        "leaseTransitions": transitions,
    }
    return _body(place, before, spec)


def released(place: tuple[str, str], before: Lease) -> Body:
    """The Lease as its holder gives it up: the next who looks takes it at once."""
    spec = {"holderIdentity": "", "leaseDurationSeconds": 1, "leaseTransitions": before.transitions}
    return _body(place, before, spec)


def _body(place: tuple[str, str], before: Lease | None, spec: Body) -> Body:
    namespace, name = place
    metadata = {"namespace": namespace, "name": name}
    if before is not None:
        metadata["resourceVersion"] = before.version
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}


def default_name(namespaces: Sequence[str], selector: str) -> str:
    """The name of the Lease of operators that serve just this: others get another one."""
    scope = "\n".join((",".join(sorted(set(namespaces))), selector))
    return f"mce-operator-{hashlib.sha256(scope.encode()).hexdigest()[:10]}"
