"""Which failures of a soak had a cause that the soak itself made, and what grew. Pure.

Everything that happened is in a `Timeline`; a failure is explained by something that was so while its request was
under way, or it is a fault of the router.
"""

import json
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

Table = dict[str, Any]

IN_THE_REPLY: Final = "in the reply"
"""Detail of a failure of kind cut whose reply had begun."""
GROWTH_BYTES: Final = 4 << 20
GROWTH_FDS: Final = 32
_REQUEST_BYTES: Final = 6 * 1024 * 1024
_HOP_BYTES: Final = 5 * 1024 * 1024
_STALE_TABLE_SECONDS: Final = 3.0
"""How long after a new file the router may still use the old table: it looks each second, on a busy machine later."""
_UP_SLACK_SECONDS: Final = 1.0
"""How long after a container listens again a request may still meet the dead one (it waited in a queue)."""
_HEALTHY_AGAIN_SECONDS: Final = 8.0
"""How long after it listens again a container may still count as sick: a ping each second, on a busy machine later."""
_LOST_WITH_CONTAINER: Final = frozenset({"ModelUnreachable", "ModelBrokeOff"})
_KNOWN_EVENTS: Final = frozenset(
    {"router started", "route table loaded", "route table refused, the last good one stays in use", "drain begun"}
    | {"drain done", "invoke"}
)


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that did not get its whole reply, as its caller saw it. Times are CLOCK_MONOTONIC."""

    kind: str
    """status, cut, refused, timeout, wrong (a reply that is not its own), chain (other containers than all), short (the
    beginning of its own reply, where the container says its end by closing)."""
    targets: tuple[str, ...]
    """Containers that it and those before it on its connection asked for; an empty name: the chain."""
    size: int
    began: float
    ended: float
    status: int = 0
    reason: str = ""
    detail: str = ""


@dataclass(slots=True)
class Timeline:
    """What the soak did."""

    down: list[tuple[str, float, float]] = field(default_factory=list)
    """Container, from before it was killed, until it listened again."""
    tables: list[tuple[float, Table]] = field(default_factory=list)
    """When a good table was written, and the table; the first is that of the start."""

    def was_down(self, names: Iterable[str], began: float, ended: float, slack: float = _UP_SLACK_SECONDS) -> bool:
        """Whether one of `names` was away at some time between the two."""
        wanted = set(names)
        return any(name in wanted and start <= ended and began <= end + slack for name, start, end in self.down)

    def tables_between(self, began: float, ended: float) -> list[Table]:
        """The tables that may have been in use at some time between the two."""
        until = [written + _STALE_TABLE_SECONDS for written, _ in self.tables[1:]] + [float("inf")]
        return [
            table for (written, table), end in zip(self.tables, until, strict=True) if written <= ended and began <= end
        ]


def names_of(table: Table) -> list[str]:
    """The containers of `table` in order."""
    return [target["name"] for target in table["targets"]]


def cause(failure: Failure, timeline: Timeline) -> str:
    """What made `failure`; empty if nothing did."""
    tables = timeline.tables_between(failure.began, failure.ended)
    in_tables = {name for table in tables for name in names_of(table)}
    asked = set(failure.targets) - {""} or in_tables
    down = timeline.was_down(asked, failure.began, failure.ended)
    if failure.kind in ("cut", "short"):
        return "container down" if down else _cause_of_cut(failure, tables)
    if failure.kind == "chain":
        chains = {"".join(f"{name}:" for name in reversed(names_of(table))) for table in tables}
        return "other chain in the table" if failure.detail in chains else ""
    if failure.kind != "status":
        return ""
    if failure.reason in _LOST_WITH_CONTAINER:
        return "container down" if down else ""
    if failure.reason == "ContainerNotReady":
        return _cause_not_ready(failure, timeline, tables, asked)
    return _cause_in_table(failure, tables)


def _cause_of_cut(failure: Failure, tables: Sequence[Table]) -> str:
    """A body in chunks that turns out to be too large when its answer has begun: only cutting that off tells it."""
    if failure.kind == "cut" and failure.detail == IN_THE_REPLY:
        return _cause_in_table(replace(failure, reason="BodyTooLarge"), tables)
    return ""


def _cause_not_ready(failure: Failure, timeline: Timeline, tables: Sequence[Table], asked: set[str]) -> str:
    if not any(table.get("availability") == "Any" for table in tables):
        return ""
    if timeline.was_down(asked, failure.began, failure.ended, _HEALTHY_AGAIN_SECONDS):
        return "container down"
    recent = timeline.tables_between(failure.began - _HEALTHY_AGAIN_SECONDS, failure.ended)
    return "container new in the table" if any(asked - set(names_of(table)) for table in recent) else ""


def _cause_in_table(failure: Failure, tables: Sequence[Table]) -> str:
    """The rule of some table that gives a failure of this reason."""
    asked = set(failure.targets) - {""}

    def says(table: Table) -> bool:
        limits = table.get("limits", {})
        match failure.reason:
            case "TargetUnknown":
                return not asked <= set(names_of(table))
            case "TargetMissing":
                return bool(table["mode"] == "Direct") and not asked
            case "BodyTooLarge":
                return failure.size > int(limits.get("maxRequestBytes", _REQUEST_BYTES))
            case "HopTooLarge":
                return failure.size + 16 > int(limits.get("maxHopBytes", _HOP_BYTES))
            case "EndpointBusy":
                return bool(limits.get("maxConcurrency"))
            case "ContainerBusy":
                capped = {target["name"] for target in table["targets"] if target.get("maxConcurrency")}
                return bool(capped & (asked or set(names_of(table))))
            case _:
                return False

    return f"{failure.reason} by the table" if any(says(table) for table in tables) else ""


def sort_out(failures: Iterable[Failure], timeline: Timeline) -> tuple[Counter[str], list[Failure]]:
    """How many failures each cause made, and those without one."""
    causes: Counter[str] = Counter()
    faults = []
    for failure in failures:
        if found := cause(failure, timeline):
            causes[found] += 1
        else:
            faults.append(failure)
    return causes, faults


def growth(samples: Sequence[float]) -> float:
    """Median of the last fifth less the median of the second fifth: the first one is warm-up."""
    fifth = max(1, len(samples) // 5)
    return statistics.median(samples[-fifth:]) - statistics.median(samples[fifth : 2 * fifth] or samples)


def log_faults(lines: Iterable[str], *, loaded: int, refused: int, processes: int = 1) -> list[str]:
    """Log lines without a cause, and events that came more often than the soak did what causes them.

    Args:
        lines: the router's log.
        loaded: good tables that were written.
        refused: bad files that were written.
        processes: how many processes write that log.
    """
    faults = []
    seen: Counter[str] = Counter()
    for line in lines:
        try:
            record = json.loads(line)
            event = record["event"]
        except (ValueError, KeyError, TypeError):
            faults.append(f"not a JSON line: {line[:500]}")
            continue
        seen[event] += 1
        if event not in _KNOWN_EVENTS or "exc_info" in record:
            faults.append(line[:4000])
    most = {
        "router started": 1,
        "route table loaded": loaded,
        "route table refused, the last good one stays in use": refused,
        "drain begun": 1,
        "drain done": 1,
    }
    for event, times in most.items():
        if seen[event] > times * processes:
            faults.append(f"{event!r} {seen[event]} times, caused {times} times by {processes} process(es)")
    return faults
