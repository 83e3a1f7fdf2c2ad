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
        now = self._utc()
        identity = (observed.uid, reason, status.failure_reason)
        posted = self._posted.get(identity)
        if posted is not None and now - posted < _REPEAT_AFTER:
            return None
        if len(self._posted) >= _REMEMBERED:
            self._posted.clear()
        self._posted[identity] = now
        return self._event(observed, status, reason, now)

    def _event(self, observed: Observed, status: Status, reason: str, now: datetime) -> dict[str, Any]:
        key = observed.key
        note = status.failure_reason or next((one.message for one in status.conditions if one.message), status.state)
        return {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": f"{key.name}.{uuid.uuid4().hex[:16]}", "namespace": key.namespace},
            "eventTime": now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "type": "Warning" if status.failure_reason or status.state == State.FAILED else "Normal",
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
