"""One Kubernetes Event per transition of an endpoint, for `kubectl describe` and `kubectl events`."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from mce_api import names
from mce_api.status import State, Status
from mce_operator.observed import Observed

_REPEAT_AFTER: Final = timedelta(minutes=5)
_NOTE_LENGTH: Final = 960
"""Of 1024 that the API server takes (pkg/apis/core/validation, NoteLengthLimit): the rest is for the count."""
_REMEMBERED: Final = 4096

DRIFT_HEALED: Final = "DriftHealed"
"""Reason: an object of ours was changed by others, and is as it should be again."""
DRIFT_CONFLICT: Final = "DriftConflict"
"""Reason: that happens again and again."""


@dataclass(slots=True, kw_only=True)
class _Posted:
    at: datetime
    generation: int
    left_out: int = 0


class Recorder:
    """Decides which transitions are worth an Event; the same one of the same object at most once in five minutes.

    The same: same generation, since what somebody has just asked for is to be told; same reason, same subject
    (`container NAME`, `router`, `pods`), whatever else the message says, since a container's last words differ from
    crash to crash. What was left out is counted in the next one.
    """

    def __init__(self, instance: str, utc: Callable[[], datetime]) -> None:
        self._instance = instance
        self._utc = utc
        self._posted: dict[tuple[str, str, str], _Posted] = {}

    def transition(self, observed: Observed, status: Status) -> dict[str, Any] | None:
        """The Event about going from the stored status to `status`, or None if nothing has changed that matters."""
        before = observed.told
        if (before.state, before.reason, _subject(before)) == (status.state, status.reason, _subject(status)):
            return None
        reason = status.reason if status.failure_reason else status.state
        count = self._count((observed.uid, reason, _subject(status)), observed.generation)
        if count is None:
            return None
        note = status.failure_reason or next((one.message for one in status.conditions if one.message), status.state)
        is_bad = bool(status.failure_reason) or status.state == State.FAILED
        return self._event(observed, reason, note[:_NOTE_LENGTH] + count, is_bad=is_bad)

    def drift(self, observed: Observed, reason: str, note: str, subject: str) -> dict[str, Any] | None:
        """The Event about what others did to the endpoint's objects.

        Args:
            observed: the endpoint.
            reason: one of `DRIFT_...`.
            note: what was done; it has names that others chose, of which they have as many as they like.
            subject: what makes it the same Event.
        """
        count = self._count((observed.uid, reason, subject), 0)
        return None if count is None else self._event(observed, reason, note[:_NOTE_LENGTH] + count, is_bad=True)

    def _count(self, identity: tuple[str, str, str], generation: int) -> str | None:
        """What the note ends with: how often it was left out before; None: it is to be left out."""
        now = self._utc()
        posted = self._posted.get(identity)
        if posted is not None and posted.generation != generation:
            posted = None
        if posted is not None and now - posted.at < _REPEAT_AFTER:
            posted.left_out += 1
            return None
        if len(self._posted) >= _REMEMBERED:
            self._posted.clear()
        self._posted[identity] = _Posted(at=now, generation=generation)
        left_out = posted.left_out if posted is not None else 0
        return f" ({left_out} more times since {posted.at:%H:%M:%S} UTC)" if posted and left_out else ""

    def _event(self, observed: Observed, reason: str, note: str, *, is_bad: bool) -> dict[str, Any]:
        key, now = observed.key, self._utc()
        return {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": f"{key.name}.{uuid.uuid4().hex[:16]}", "namespace": key.namespace},
            "eventTime": now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "type": "Warning" if is_bad else "Normal",
            "reason": reason,
            "action": "Reconcile",
            "note": note,
            "regarding": {
                "apiVersion": names.API_VERSION,
                "kind": names.KIND,
                "name": key.name,
                "namespace": key.namespace,
                "uid": observed.uid,
            },
            "reportingController": f"{names.GROUP}/{names.FIELD_MANAGER}",
            "reportingInstance": self._instance[:128],
        }


def _subject(status: Status) -> str:
    """Whom a failure is about: the words before the first colon."""
    return status.failure_reason.partition(": ")[0]
