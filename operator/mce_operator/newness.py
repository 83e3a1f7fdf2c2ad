"""Whether a status says something that has to be said at once, or only counts on. Pure.

At once: another state, a cause, its cure, a condition that turns, a generation, all containers ready in service. What
may wait are numbers (replicas, restarts, containers ready), texts, and the steps in which everything takes its ordinary
course.
"""

from collections.abc import Mapping
from typing import Any, Final

from mce_api.status import State, Why

QUIET_SECONDS: Final = 10.0
"""Least time between two writes of one status of which the second only counts on."""

_COURSE: Final = frozenset({Why.NONE, Why.PENDING, Why.STARTING, Why.ROLLING_OUT, Why.READY, Why.SETTLED})


def is_urgent(before: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether `wanted`, a status as it is stored, differs from the stored one in more than numbers and texts."""
    return _essence(before) != _essence(wanted)


def seconds_to_wait(before: Mapping[str, Any], wanted: Mapping[str, Any], since_last_write: float | None) -> float:
    """Seconds for which `wanted` may not be written yet; 0: now.

    Args:
        before: the stored status.
        wanted: another one.
        since_last_write: seconds; None: not known. Below zero after the clock was set back, which is no reason to wait.
    """
    if since_last_write is None or not 0 <= since_last_write < QUIET_SECONDS or is_urgent(before, wanted):
        return 0.0
    return QUIET_SECONDS - since_last_write


def _essence(status: Mapping[str, Any]) -> tuple[object, ...]:
    conditions = {
        one.get("type"): (one.get("status"), one.get("observedGeneration"), _cause(one))
        for one in status.get("conditions") or ()
    }
    containers = [(one.get("name"), _cause(one)) for one in status.get("containers") or ()]
    plain = tuple(status.get(name) for name in ("state", "observedGeneration", "selector", "url"))
    ready, _, total = str(status.get("containersReady", "")).partition("/")
    # The last pod's news and its Deployment's come by two watches: in service with 14 of 15 is over in a moment.
    is_whole = status.get("state") == State.IN_SERVICE and ready == total
    return (*plain, is_whole, _cause(status), bool(status.get("failureReason")), conditions, containers)


def _cause(holder: Mapping[str, Any]) -> str:
    reason = str(holder.get("reason", ""))
    return "" if reason in _COURSE else reason
