"""One Kubernetes Event per transition of an endpoint, for `kubectl describe` and `kubectl events`."""

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from mce_api import names
from mce_api.status import State, Status
from mce_operator.observed import Observed

_REPEAT_AFTER: Final = timedelta(minutes=5)
_NOTE_LENGTH: Final = 1000
_REMEMBERED: Final = 4096

DRIFT_HEALED: Final = "DriftHealed"
"""Reason: an object of ours was changed by others, and is as it should be again."""
DRIFT_CONFLICT: Final = "DriftConflict"
"""Reason: that happens again and again."""


class Recorder:
    """Decides which transitions are worth an Event; the same one of the same object at most once in five minutes."""

    def __init__(self, instance: str, utc: Callable[[], datetime]) -> None:
        self._instance = instance
        self._utc = utc
        self._posted: dict[tuple[str, str, str], datetime] = {}

    def transition(self, observed: Observed, status: Status) -> dict[str, Any] | None:
        """The Event about going from the stored status to `status`, or None if nothing has changed that matters."""
        before = observed.document.get("status") or {}
        if (before.get("state", ""), before.get("reason", "")) == (status.state, status.reason):
            return None
        reason = status.reason if status.failure_reason else status.state
        if not self._is_new((observed.uid, reason, status.failure_reason)):
            return None
        note = status.failure_reason or next((one.message for one in status.conditions if one.message), status.state)
        is_bad = bool(status.failure_reason) or status.state == State.FAILED
        return self._event(observed, reason, note, is_bad=is_bad)

    def drift(self, observed: Observed, reason: str, note: str) -> dict[str, Any] | None:
        """The Event about what others did to the endpoint's objects; `reason` is one of `DRIFT_...`."""
        if not self._is_new((observed.uid, reason, note)):
            return None
        return self._event(observed, reason, note, is_bad=True)

    def _is_new(self, identity: tuple[str, str, str]) -> bool:
        now = self._utc()
        posted = self._posted.get(identity)
        if posted is not None and now - posted < _REPEAT_AFTER:
            return False
        if len(self._posted) >= _REMEMBERED:
            self._posted.clear()
        self._posted[identity] = now
        return True

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
            "note": note[:_NOTE_LENGTH],
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
