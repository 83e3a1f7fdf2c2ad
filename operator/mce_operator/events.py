"""One Kubernetes Event per transition of an endpoint, for `kubectl describe` and `kubectl events`."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from mce_api import names
from mce_api.status import State, Status
from mce_operator.observed import Observed

_REPEAT_AFTER: Final = timedelta(minutes=5)
_TRY_AGAIN_AFTER: Final = timedelta(seconds=30)
"""When one could not be posted: the API server may have a limit on them."""
_NOTE_LENGTH: Final = 960
"""Of 1024 that the API server takes (pkg/apis/core/validation, NoteLengthLimit): the rest is for the count."""
_REMEMBERED: Final = 4096

DRIFT_HEALED: Final = "DriftHealed"
"""Reason: an object of ours was changed by others, and is as it should be again."""
DRIFT_CONFLICT: Final = "DriftConflict"
"""Reason: that happens again and again."""


_Identity = tuple[str, str, str]
"""The endpoint's uid, the reason, the subject."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Posted:
    at: datetime
    generation: int
    told: datetime | None
    """When it was told; None: it could not be posted."""
    left_out: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """An Event that is worth posting."""

    body: dict[str, Any]
    """As the API server takes it."""
    identity: _Identity
    before: _Posted | None
    """The same one, the last time."""


class Recorder:
    """Decides which transitions are worth an Event; the same one of the same object at most once in five minutes.

    The same: same generation, since what somebody has just asked for is to be told; same reason, same subject
    (`container NAME`, `router`, `pods`), whatever else the message says, since a container's last words differ from
    crash to crash. What was left out is counted in the next one; what could not be posted is to be taken back.
    """

    def __init__(self, instance: str, utc: Callable[[], datetime]) -> None:
        self._instance = instance
        self._utc = utc
        self._posted: dict[_Identity, _Posted] = {}

    def transition(self, observed: Observed, before: Status, status: Status) -> News | None:
        """The Event about going from one status to another, or None if nothing has changed that matters."""
        if (before.state, before.reason, _subject(before)) == (status.state, status.reason, _subject(status)):
            return None
        reason = status.reason if status.failure_reason else status.state
        note = status.failure_reason or next((one.message for one in status.conditions if one.message), status.state)
        is_bad = bool(status.failure_reason) or status.state == State.FAILED
        return self._news(observed, reason, note, _subject(status), observed.generation, is_bad=is_bad)

    def drift(self, observed: Observed, reason: str, note: str, subject: str) -> News | None:
        """The Event about what others did to the endpoint's objects.

        Args:
            observed: the endpoint.
            reason: one of `DRIFT_...`.
            note: what was done; it has names that others chose, of which they have as many as they like.
            subject: what makes it the same Event.
        """
        return self._news(observed, reason, note, subject, 0, is_bad=True)

    def take_back(self, news: News) -> None:
        """It could not be posted: it is left out, and may be told again soon."""
        posted, before = self._posted.get(news.identity), news.before
        if posted is not None:
            told, left_out = (before.told, before.left_out) if before else (None, 0)
            self._posted[news.identity] = replace(posted, told=told, left_out=left_out + 1)

    def _news(
        self, observed: Observed, reason: str, note: str, subject: str, generation: int, *, is_bad: bool
    ) -> News | None:
        identity, now = (observed.uid, reason, subject), self._utc()
        posted = self._posted.get(identity)
        if posted is not None and posted.generation != generation:
            posted = None
        pause = _REPEAT_AFTER if posted is None or posted.told == posted.at else _TRY_AGAIN_AFTER
        if posted is not None and timedelta(0) <= now - posted.at < pause:  # the clock may have been set back
            self._posted[identity] = replace(posted, left_out=posted.left_out + 1)
            return None
        if len(self._posted) >= _REMEMBERED:
            self._posted.clear()
        self._posted[identity] = _Posted(at=now, generation=generation, told=now)
        note = note[:_NOTE_LENGTH]
        if posted is not None and posted.told and posted.left_out:
            note += f" ({posted.left_out} more times since {posted.told:%H:%M:%S} UTC)"
        return News(body=self._event(observed, reason, note, is_bad=is_bad), identity=identity, before=posted)

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
