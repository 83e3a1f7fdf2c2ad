"""Where the router's CPU goes under the load of a case.

`perf` says it for kernel, interpreter and C libraries, `py-spy` for Python functions. They disturb what they watch, so
each has a turn of its own, and what they give is shares, not times.
"""

import json
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Final

from bench import load, machine, proof, proxies, settings, stand
from bench.cases import Case, Load
from bench.processes import BenchError, Running
from bench.stand import Stand

_SECONDS: Final = 8.0
_LEAD_SECONDS: Final = 1.0
"""The load goes on this much longer than the watching."""
_SHOWN: Final = 25
_PROFILED: Final = frozenset({Load.WRK, Load.CALLS, Load.CHAINS, Load.RATE})


def can_run(case: Case) -> bool:
    """Whether `case` is a steady load on one router."""
    return case.load in _PROFILED


def run(case: Case) -> None:
    """Prints shares in percent as one JSON object on stdout, and for people on stderr.

    Raises:
        BenchError: if neither tool is here, or the load fails.
    """
    perf, spy = settings.find("perf"), _py_spy()
    if perf is None and spy is None:
        raise BenchError("there is neither perf (apt-get install linux-perf) nor py-spy (make setup)")
    said: dict[str, object] = {"profile": case.name, "machine": machine.facts()}
    with stand.built(replace(case, seconds=_SECONDS + 2 * _LEAD_SECONDS)) as built:
        router, port = built.prepare(proxies.ROUTER)
        with router:
            router.wait_for_port(port)
            proof.check_samples(case, "router", port, built.containers)
            load.run(replace(case, seconds=1.0), "router", port, built.load_core)
            if perf is not None:
                said |= _perf(built, router, port, perf)
            if spy is not None:
                said |= _spy(built, router, port, spy)
    print(json.dumps(said))
    for title, shares in said.items():
        if isinstance(shares, dict) and title != "machine":
            print(f"\n{title}, percent", file=sys.stderr)
            print("\n".join(f"  {share:6.1f}  {name}" for name, share in shares.items()), file=sys.stderr)


def _py_spy() -> str | None:
    beside = Path(sys.executable).parent / "py-spy"
    return str(beside) if beside.exists() else settings.find("py-spy")


def _perf(built: Stand, router: Running, port: int, perf: str) -> dict[str, dict[str, float]]:
    path = built.folder / "perf.data"
    watch = [perf, "record", "-q", "-e", "cpu-clock", "-F", "999", "-o", str(path), "-p", str(router.pid)]
    _watched(built, port, [*watch, "--", "sleep", f"{_SECONDS:g}"])
    return {
        "by library": _perf_report(perf, path, "dso"),
        "by symbol": _perf_report(perf, path, "dso,symbol"),
    }


def _perf_report(perf: str, path: Path, by: str) -> dict[str, float]:
    command = [perf, "report", "-q", "-i", str(path), "--stdio", "--percent-limit", "0.3", "--sort", by]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = re.findall(r"^\s*(\d+\.\d+)%\s+(.+?)[\s-]*$", text, re.MULTILINE)
    return {re.sub(r"\s{2,}", "  ", name): float(share) for share, name in rows[:_SHOWN]}


def _spy(built: Stand, router: Running, port: int, spy: str) -> dict[str, dict[str, float]]:
    path = built.folder / "py-spy.txt"
    watch = [spy, "record", "--pid", str(router.pid), "--duration", f"{_SECONDS:g}", "--rate", "500"]
    _watched(built, port, [*watch, "--function", "--format", "raw", "--output", str(path)])
    own, whole = python_shares(path.read_text())
    return {"Python functions, their own": own, "Python functions, with what they call": whole}


def python_shares(stacks: str) -> tuple[dict[str, float], dict[str, float]]:
    """Shares in percent of each function by itself and with what it calls, largest first.

    Args:
        stacks: a line for each stack that was seen, "outermost;...;innermost COUNT".
    """
    own: Counter[str] = Counter()
    whole: Counter[str] = Counter()
    for line in stacks.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        own[frames[-1]] += int(count)
        for frame in set(frames):
            whole[frame] += int(count)
    total = own.total() or 1
    return (
        {name: round(100 * count / total, 1) for name, count in own.most_common(_SHOWN)},
        {name: round(100 * count / total, 1) for name, count in whole.most_common(_SHOWN)},
    )


def _watched(built: Stand, port: int, command: list[str]) -> None:
    """Runs `command` while the load of the case goes on."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as watcher:
        try:
            load.run(built.case, "router", port, built.load_core)
            said, _ = watcher.communicate(timeout=60)
        finally:
            if watcher.poll() is None:
                watcher.kill()
    if watcher.returncode:
        raise BenchError(f"{Path(command[0]).name} failed:\n{said[-2000:]}")
