"""From the samples of a case to its JSON object and its rows of the table. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import median

from bench.cases import Case

Sample = Mapping[str, float]
"""The figures of one proxy in one round."""
Samples = Mapping[str, Sequence[Sample]]
"""For each proxy its rounds, in order."""


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, smallest and largest: noise only ever adds, so the smallest is worth seeing."""
    return {"median": _short(median(values)), "min": _short(min(values)), "max": _short(max(values))}


def ratios(samples: Samples, figure: str, subject: str = "router") -> dict[str, dict[str, float]]:
    """The subject's figure over each peer's, round by round: what disturbed a round disturbed both."""
    found = {}
    for peer, rounds in samples.items():
        pairs = list(zip(samples[subject], rounds, strict=True))
        if peer != subject and all(figure in theirs and theirs[figure] > 0 for _, theirs in pairs):
            found[f"{subject}/{peer}"] = spread([ours[figure] / theirs[figure] for ours, theirs in pairs])
    return found


def with_added_latency(samples: Samples, baseline: str) -> Samples:
    """Each proxy's latency also as what it adds to the same round's `baseline`."""
    return {
        name: [
            {**sample, **{f"added_{key}": sample[key] - base[key] for key in ("p50_ms", "p99_ms")}}
            if name != baseline
            else sample
            for sample, base in zip(rounds, samples[baseline], strict=True)
        ]
        for name, rounds in samples.items()
    }


def summarise(case: Case, samples: Samples) -> dict[str, object]:
    """The case's JSON object, machine and time not included."""
    compared = ratios(samples, case.ratio_of)
    summary: dict[str, object] = {
        "case": case.name,
        "question": case.question,
        "rounds": case.rounds,
        "seconds": case.seconds,
        "load": {
            "kind": case.load.value,
            "mode": case.mode,
            "request_bytes": case.request_bytes,
            "reply": case.reply,
            "connections": case.connections,
            "rate": case.rate,
        },
        "results": {name: _figures(rounds) for name, rounds in samples.items()},
        "ratio_of": case.ratio_of,
        "ratios": compared,
    }
    if case.goal is not None and case.goal.ratio in compared:
        met = compared[case.goal.ratio]["median"] <= case.goal.at_most
        summary["goal"] = {"ratio": case.goal.ratio, "at_most": case.goal.at_most, "met": met}
    return summary


def _figures(rounds: Sequence[Sample]) -> dict[str, dict[str, float]]:
    return {figure: spread([sample[figure] for sample in rounds]) for figure in rounds[0]}


def table(case: Case, samples: Samples) -> Iterator[str]:
    """Lines for a person: medians, then the ratios with their range."""
    figures = list(dict.fromkeys(figure for rounds in samples.values() for figure in rounds[0]))
    yield f"\n{case.name}: {case.question}"
    yield f"  {'':10}" + "".join(f"{figure:>17}" for figure in figures)
    for name, rounds in samples.items():
        cells = [f"{median(row[figure] for row in rounds):,.2f}" if figure in rounds[0] else "" for figure in figures]
        yield f"  {name:10}" + "".join(f"{cell:>17}" for cell in cells)
    for pair, value in ratios(samples, case.ratio_of).items():
        goal = f"  (goal: at most {case.goal.at_most:g})" if case.goal and case.goal.ratio == pair else ""
        line = f"  {case.ratio_of} {pair} = {value['median']:.2f}  [{value['min']:.2f} - {value['max']:.2f}]"
        yield line + goal


def _short(value: float) -> float:
    return round(value, 3)
