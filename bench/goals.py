"""Which goals of a case its samples reach. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from statistics import median

from bench.cases import Case, Goal

Sample = Mapping[str, float]
"""The figures of one proxy in one round."""
Samples = Mapping[str, Sequence[Sample]]
"""For each proxy its rounds, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A goal beside what was measured."""

    goal: Goal
    value: float | None
    """None: it was not measured, or the peer's figure was zero in most rounds."""

    @property
    def must_reached(self) -> bool:
        """What was not measured is not reached."""
        return self.value is not None and self.value <= self.goal.must

    @property
    def aim_reached(self) -> bool | None:
        """None if there is no aim."""
        if self.goal.aim is None:
            return None
        return self.value is not None and self.value <= self.goal.aim

    def as_json(self) -> dict[str, object]:
        """For the case's JSON object."""
        goal = self.goal
        return {
            "figure": goal.figure,
            "of": goal.of,
            "over": goal.over or None,
            "value": None if self.value is None else round(self.value, 3),
            "must": goal.must,
            "must_reached": self.must_reached,
            "aim": goal.aim,
            "aim_reached": self.aim_reached,
        }


def ratios(samples: Samples, figure: str, of: str, over: str) -> list[float]:
    """`of` over `over`, round by round: what disturbed a round disturbed both.

    A round in which `over` has nothing to divide by counts as the worst there is. Empty if there is no figure to
    compare, or most rounds are such.
    """
    if of not in samples or over not in samples:
        return []
    pairs = list(zip(samples[of], samples[over], strict=True))
    if any(figure not in row for pair in pairs for row in pair):
        return []
    found = [ours[figure] / theirs[figure] if theirs[figure] > 0 else inf for ours, theirs in pairs]
    return found if median(found) < inf else []


def judge(case: Case, samples: Samples) -> Iterator[Verdict]:
    """Each goal of `case` with its value."""
    for goal in case.goals:
        values = _values(goal, samples)
        judged = max(values) if values and goal.worst else median(values) if values else None
        yield Verdict(goal=goal, value=judged)


def _values(goal: Goal, samples: Samples) -> list[float]:
    if goal.over:
        return ratios(samples, goal.figure, goal.of, goal.over)
    return [sample[goal.figure] for sample in samples.get(goal.of, ()) if goal.figure in sample]
