"""What a router says of itself at one moment, as plain JSON; and the reports of several workers as one. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mce_api.routes import RouteTable
from mce_router import metrics
from mce_router.health import State, Vital
from mce_router.metrics import Samples

_BY_BADNESS: Final = (State.HEALTHY, State.STARTING, State.UNHEALTHY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All that the admin port shows."""

    ready: bool
    """Whether the containers are; a drain is another matter."""
    draining: bool
    listener_check: str
    """How the kernel is asked who listens on a port: netlink, proc or off."""
    vitals: dict[str, tuple[str, str, str, str]]
    """State, cause, last error and time of the last ping by container."""
    samples: Samples
    absent: tuple[str, ...] = ()
    """Workers that do not serve, a line for each."""


def together(reports: Sequence[Report], absent: Sequence[str], more: Iterable[Samples], *, draining: bool) -> Report:
    """The report of the whole router: ready if no worker is absent and all are ready; the worst state of a container.

    Args:
        reports: of the workers that serve.
        absent: a line for each that does not.
        more: samples that none of them has: of dead workers, of the supervisor.
        draining: whether the router is about to leave, whatever its workers know of it.
    """
    vitals: dict[str, tuple[str, str, str, str]] = {}
    for report in reports:
        for name, vital in report.vitals.items():
            vitals[name] = max(vitals.get(name, vital), vital, key=_badness)
    return Report(
        ready=bool(reports) and not absent and all(report.ready for report in reports),
        draining=draining,
        listener_check=next((report.listener_check for report in reports), ""),
        vitals=vitals,
        samples=metrics.merged((*(report.samples for report in reports), *more)),
        absent=tuple(absent),
    )


def _badness(vital: tuple[str, str, str, str]) -> tuple[int, bool]:
    state, cause, _, _ = vital
    return _BY_BADNESS.index(State(state)), bool(cause)


def is_starting(report: Report) -> bool:
    """Whether a container has yet to answer for the first time."""
    return any(state == State.STARTING for state, _, _, _ in report.vitals.values())


def causes(report: Report) -> list[str]:
    """Why the router is not ready, a line for each worker and container."""
    down = (
        (name, Vital(state=State(state), last_error=last_error).cause_down())
        for name, (state, _, last_error, _) in report.vitals.items()
    )
    return [*report.absent, *(f"{name}: {cause}" for name, cause in down if cause)]


def targets(report: Report, table: RouteTable) -> dict[str, Any]:
    """The body of /targets."""

    def number(series: str, name: str) -> float:
        return report.samples.get(series, {}).get(name, [0])[0]

    rows = []
    for target in table.targets:
        state, cause, last_error, last_ping = report.vitals.get(target.name, ("", "", "", ""))
        rows.append(
            {
                "name": target.name,
                "host": target.host,
                "port": target.port,
                "state": state,
                "cause": cause,
                "lastError": last_error,
                "lastPing": last_ping,
                "inflight": number("mce_inflight", target.name),
                "queued": number("mce_queue_length", target.name),
                "invocations": number("mce_container_invocations_total", target.name),
            }
        )
    return {
        "namespace": table.namespace,
        "endpoint": table.endpoint,
        "variant": table.variant,
        "mode": table.mode,
        "draining": report.draining,
        "listenerCheck": report.listener_check,
        "targets": rows,
    }
