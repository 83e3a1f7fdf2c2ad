"""Why an order cannot succeed any more, worded for the person who gave it. Pure."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from mce_local import units
from mce_local.units import Unit

LOG_LINES = 10


def unit_problem(candidates: Iterable[Unit], now: float) -> tuple[Unit, str] | None:
    """The first container that ended or ran out of time before it was in service, and what happened."""
    for unit in candidates:
        if unit.settled:
            continue
        if unit.last_exit is not None:
            return unit, f"container {unit.name} {units.exit_text(unit.last_exit)} before it was in service"
        if units.is_overdue(unit, now):
            reason = unit.ping_error or "not asked yet"
            asked = f"GET {unit.launch.container.ping_path}"
            return (
                unit,
                f"container {unit.name} did not answer {asked} with 200 in {unit.startup_timeout:g} s: {reason}",
            )
    return None


def with_log(what: str, path: Path, lines: Sequence[str]) -> str:
    """`what` and the last lines of the log that explain it."""
    if not lines:
        return f"{what}; it wrote nothing to {path}"
    return "\n".join((f"{what}; the end of {path}:", *(f"    {line}" for line in lines)))
