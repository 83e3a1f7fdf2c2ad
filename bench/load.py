"""Runs a load generator once and reads what it measured; anything but clean answers ends the run."""

import json
import subprocess
from dataclasses import dataclass, replace

from bench import settings
from bench.cases import Case, Load
from bench.processes import BenchError


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What callers saw in one round."""

    jobs: int
    calls: int
    """POSTs; fewer than jobs where a job is a chunk, and one for each chain."""
    seconds: float
    p50_ms: float
    p99_ms: float


def run(case: Case, proxy: str, port: int, core: int) -> Answered:
    """Sends the load of `case` to `port` from `core`.

    Raises:
        BenchError: if any call failed: figures of failures would compare nothing.
    """
    command = _wrk(case, proxy, port) if case.load is Load.WRK else _goload(case, proxy, port)
    seen = _answers(case, proxy, command, core)
    if case.load is Load.CHUNKS and case.reply != f"chunks:{seen.jobs // seen.calls}":
        raise BenchError(f"{case.name}: {proxy} let only {seen.jobs} chunks of {seen.calls} streams through")
    return seen


def warm(case: Case, proxy: str, port: int, core: int) -> None:
    """A second of small calls with small answers on the connections of `case`, whatever its own bodies are.

    Raises:
        BenchError: as `run`.
    """
    small = replace(case, load=Load.CALLS, request_bytes=1024, seconds=1.0)
    _answers(small, proxy, _goload(small, proxy, port, "application/x-small"), core)


def _answers(case: Case, proxy: str, command: list[str], core: int) -> Answered:
    pinned = ["taskset", "-c", str(core), *command]
    try:
        done = subprocess.run(pinned, capture_output=True, text=True, check=True, timeout=case.seconds + 60)
        said = json.loads(done.stdout.strip().rpartition("\n")[2])
    except (subprocess.SubprocessError, ValueError) as error:
        detail = error.stderr if isinstance(error, subprocess.CalledProcessError) else error
        raise BenchError(f"{case.name}: the load on {proxy} failed: {detail}") from error
    if said["errors"] or not said["requests"]:
        raise BenchError(
            f"{case.name}: {proxy} answered {said['requests']:g}, failed {said['errors']:g}\n{done.stderr}"
        )
    return Answered(
        jobs=int(said["requests"]),
        calls=int(said.get("calls", said["requests"])),
        seconds=said["microseconds"] / 1e6,
        p50_ms=said["p50"] / 1000,
        p99_ms=said["p99"] / 1000,
    )


def _wrk(case: Case, proxy: str, port: int) -> list[str]:
    # wrk takes whole seconds only.
    options = [
        f"-c{case.connections}",
        f"-d{max(1, round(case.seconds))}s",
        "--latency",
        "-s",
        str(settings.WRK_SCRIPT),
    ]
    url = f"http://127.0.0.1:{port}/invocations"
    return ["wrk", "-t1", *options, url, "--", str(case.request_bytes), case.jobs(proxy), *["unique"] * case.unique]


def _goload(case: Case, proxy: str, port: int, kind: str = "application/octet-stream") -> list[str]:
    said = {
        "address": f"127.0.0.1:{port}",
        "path": case.path if proxy == "router" else "/invocations",
        "kind": kind,
        "jobs": case.jobs(proxy),
        "bytes": case.request_bytes,
        "workers": case.connections,
        "rate": case.rate,
        "seconds": case.seconds,
        "stream": str(case.load is Load.CHUNKS).lower(),
    }
    program = str(settings.cache() / "goload")
    return ["env", "GOMAXPROCS=1", program, *(f"-{name}={value}" for name, value in said.items())]
