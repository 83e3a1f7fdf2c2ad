"""From the samples of a case to its JSON object and its rows of the table. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from math import inf
from statistics import median

from bench import goals
from bench.cases import Case
from bench.goals import Sample, Samples, Verdict


def spread(values: Sequence[float]) -> dict[str, float | None]:
    """Median, smallest and largest: noise only ever adds, so the smallest is worth seeing. None stands for infinite."""
    return {"median": _short(median(values)), "min": _short(min(values)), "max": _short(max(values))}


def ratios(case: Case, samples: Samples) -> dict[str, dict[str, float | None]]:
    """The case's figure, one row over another, for all that are compared."""
    pairs = case.pairs(tuple(samples))
    found = {f"{of}/{over}": goals.ratios(samples, case.ratio_of, of, over) for of, over in pairs}
    return {pair: spread(values) for pair, values in found.items() if values}


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
    return {
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
        "ratios": ratios(case, samples),
        "goals": [verdict.as_json() for verdict in goals.judge(case, samples)],
    }


def _figures(rounds: Sequence[Sample]) -> dict[str, dict[str, float | None]]:
    return {figure: spread([sample[figure] for sample in rounds]) for figure in rounds[0]}


def table(case: Case, samples: Samples) -> Iterator[str]:
    """Lines for a person: medians, then the ratios with their range."""
    figures = list(dict.fromkeys(figure for rounds in samples.values() for figure in rounds[0]))
    yield f"\n{case.name}: {case.question}"
    yield f"  {'':10}" + "".join(f"{figure:>17}" for figure in figures)
    for name, rounds in samples.items():
        cells = [f"{median(row[figure] for row in rounds):,.2f}" if figure in rounds[0] else "" for figure in figures]
        yield f"  {name:10}" + "".join(f"{cell:>17}" for cell in cells)
    for pair, value in ratios(case, samples).items():
        yield f"  {case.ratio_of} {pair} = {_shown(value['median'])}  [{_shown(value['min'])} - {_shown(value['max'])}]"


def goal_table(judged: Mapping[str, Sequence[Verdict]]) -> Iterator[str]:
    """Lines for a person: every goal of the run, by case."""
    if not any(judged.values()):
        return
    yield f"\n{'goals':22}{'figure':32}{'measured':>10}   {'must':22}aim"
    for name, verdicts in judged.items():
        for verdict in verdicts:
            goal = verdict.goal
            value = "none" if verdict.value is None else f"{verdict.value:.2f}"
            must = f"{goal.must:g} {'reached' if verdict.must_reached else 'MISSED'}"
            aim = "" if goal.aim is None else f"{goal.aim:g} {'reached' if verdict.aim_reached else 'missed'}"
            yield f"{name:22}{goal!s:32}{value:>10}   {must:22}{aim}".rstrip()


def _shown(value: float | None) -> str:
    return "inf" if value is None else f"{value:.2f}"


def _short(value: float) -> float | None:
    return None if value == inf else round(value, 3)
