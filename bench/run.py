"""`python bench/run.py [--quick] [--strict] [CASE ...]`: measures the router beside its peers.

docs/performance.md says what. One JSON object per case on stdout, the same in bench/results/ with all samples, a table
for people on stderr. Exit status: 0 measured (a goal that is missed is said, not punished: on a noisy machine some
are), 1 a wrong answer or a proxy that failed, 2 something is missing, 3 with --strict: a goal's `must` was missed.
"""

import argparse
import json
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Final, Never

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script, `bench` is not on the path

from bench import cases, goals, machine, measure, profiling, report, settings
from bench.cases import Case
from bench.goals import Verdict
from bench.processes import BenchError, Skipped

_STOPS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_MISSED: Final = 3


def main() -> int:
    """Returns the exit status."""
    given = arguments(sys.argv[1:])
    if install := machine.what_is_missing():
        print(f"The bench needs programs that are not here. This installs them:\n  {install}", file=sys.stderr)
        return 2
    for number in _STOPS:
        signal.signal(number, _stop)
    try:
        machine.build()
        if given.profile:
            profiling.run(_chosen(given)[0])
            return 0
        return _measure(given)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: stopped", file=sys.stderr)
        return 130


def arguments(said: Sequence[str]) -> argparse.Namespace:
    """What the command line says; exits with status 2 when that makes no sense."""
    names = [case.name for case in cases.CASES]
    parser = argparse.ArgumentParser(description="Measures the router beside HAProxy, Go's ReverseProxy and nginx.")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"all if none is named: {', '.join(names)}")
    parser.add_argument("--quick", action="store_true", help="a smoke test of the bench; its figures mean nothing")
    parser.add_argument("--strict", action="store_true", help="exit with status 3 if what a goal says must be is not")
    parser.add_argument("--profile", action="store_true", help="where the router's CPU goes under the CASE's load")
    given = parser.parse_args(said)
    if unknown := [name for name in given.cases if name not in names]:
        parser.error(f"no case {unknown[0]!r}; there are: {', '.join(names)}")
    if given.quick and given.strict:
        parser.error("--quick measures nothing that --strict could judge")
    if given.profile and (len(given.cases) != 1 or not profiling.can_run(_chosen(given)[0])):
        able = ", ".join(case.name for case in cases.CASES if profiling.can_run(case))
        parser.error(f"--profile takes one CASE of these: {able}")
    return given


def _chosen(given: argparse.Namespace) -> list[Case]:
    every = cases.QUICK if given.quick else cases.CASES
    chosen = [case for case in cases.CASES if case.name in given.cases] if given.cases else list(every)
    return [cases.quick(case) if given.quick else case for case in chosen]


def _measure(given: argparse.Namespace) -> int:
    facts = machine.facts()
    judged = {case.name: _one(case, facts, keep=not given.quick) for case in _chosen(given)}
    print("\n".join(report.goal_table(judged)), file=sys.stderr)
    if given.quick:
        print("A quick run: these figures mean nothing.", file=sys.stderr)
    missed = any(not verdict.must_reached for verdicts in judged.values() for verdict in verdicts)
    return _MISSED if given.strict and missed else 0


def _one(case: Case, facts: dict[str, object], *, keep: bool) -> list[Verdict]:
    try:
        samples = measure.run(case)
    except Skipped as reason:
        print(json.dumps({"case": case.name, "question": case.question, "skipped": str(reason)}), flush=True)
        print(f"\n{case.name}: skipped, for {reason}", file=sys.stderr, flush=True)
        return []
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    result = {**report.summarise(case, samples), "when": when, "machine": facts}
    print(json.dumps(result), flush=True)
    print("\n".join(report.table(case, samples)), file=sys.stderr, flush=True)
    if keep:
        settings.RESULTS.mkdir(exist_ok=True)
        path = settings.RESULTS / f"{when.replace(':', '')}-{case.name}.json"
        path.write_text(json.dumps({**result, "samples": samples}, indent=1) + "\n")
    return list(goals.judge(case, samples))


def _stop(_number: int, _frame: FrameType | None) -> Never:
    """What runs is ended on the way out, so nothing may cut that short."""
    for number in _STOPS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
