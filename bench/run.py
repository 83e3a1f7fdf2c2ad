"""`python bench/run.py [--quick] [CASE ...]`: measures the router beside its peers; docs/performance.md says what.

One JSON object per case on stdout, the same in bench/results/ with all samples, a table for people on stderr. Exit
status: 0 measured (whether or not a goal was met), 1 a wrong answer or a proxy that failed, 2 something is missing.
"""

import argparse
import json
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Final, Never

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script, `bench` is not on the path

from bench import cases, machine, measure, report, settings
from bench.cases import Case
from bench.processes import BenchError

_STOPS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> int:
    """Returns the exit status."""
    wanted, quick = _arguments()
    if install := machine.what_is_missing():
        print(f"The bench needs programs that are not here. This installs them:\n  {install}", file=sys.stderr)
        return 2
    for number in _STOPS:
        signal.signal(number, _stop)
    try:
        machine.build()
        facts = machine.facts()
        for case in wanted:
            _one(case, facts, keep=not quick)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: stopped", file=sys.stderr)
        return 130
    return 0


def _arguments() -> tuple[list[Case], bool]:
    names = [case.name for case in cases.CASES]
    parser = argparse.ArgumentParser(description="Measures the router beside HAProxy, Go's ReverseProxy and nginx.")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"all if none is named: {', '.join(names)}")
    parser.add_argument("--quick", action="store_true", help="a smoke test of the bench; its figures mean nothing")
    given = parser.parse_args()
    if unknown := [name for name in given.cases if name not in names]:
        parser.error(f"no case {unknown[0]!r}; there are: {', '.join(names)}")
    every = cases.QUICK if given.quick else cases.CASES
    chosen = [case for case in cases.CASES if case.name in given.cases] if given.cases else list(every)
    return [cases.quick(case) if given.quick else case for case in chosen], given.quick


def _one(case: Case, facts: dict[str, object], *, keep: bool) -> None:
    samples = measure.run(case)
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    result = {**report.summarise(case, samples), "when": when, "machine": facts}
    print(json.dumps(result), flush=True)
    print("\n".join(report.table(case, samples)), file=sys.stderr, flush=True)
    if keep:
        settings.RESULTS.mkdir(exist_ok=True)
        path = settings.RESULTS / f"{when.replace(':', '')}-{case.name}.json"
        path.write_text(json.dumps({**result, "samples": samples}, indent=1) + "\n")


def _stop(_number: int, _frame: FrameType | None) -> Never:
    """What runs is ended on the way out, so nothing may cut that short."""
    for number in _STOPS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
