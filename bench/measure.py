"""Runs one case: containers and proxies up, rounds in which every proxy has its turn, everything down again.

The rounds are interleaved (A B C D A B C D ...), because a noisy neighbour stays for seconds: it then meets all of
them, and a ratio within one round is worth more than one between two runs.
"""

import time
from contextlib import ExitStack
from dataclasses import replace
from typing import Final

from bench import alone, isolation, load, machine, proof, proxies, report, stand
from bench.cases import STREAM_PATH, Case, Load
from bench.goals import Samples
from bench.processes import Running, Skipped
from bench.stand import Stand

BASELINE: Final = "direct"
"""Not a proxy: the callers at the container itself."""
_WARM_SECONDS: Final = 1.0
_NOT_IMPLEMENTED: Final = 501


def run(case: Case) -> Samples:
    """All samples of `case`.

    Raises:
        Skipped: if this router lacks what the case is about.
        BenchError: if something does not start, answers wrongly, or ends.
    """
    with stand.built(case) as built:
        match case.load:
            case Load.START:
                return alone.starts(built)
            case Load.IDLE:
                return alone.idle(built)
            case Load.NEIGHBOUR:
                return isolation.rounds(built)
            case Load.RATE:
                return report.with_added_latency(_rounds(built, baseline=True), BASELINE)
            case Load.CHUNKS:
                return _rounds(built, baseline=True)
            case Load.WRK | Load.CALLS | Load.CHAINS:
                return _rounds(built, baseline=False)


def _rounds(built: Stand, *, baseline: bool) -> dict[str, list[dict[str, float]]]:
    case = built.case
    with ExitStack() as stack:
        subjects: dict[str, tuple[Running, int]] = {}
        if baseline:
            subjects[BASELINE] = built.backend, built.containers[0].port
        for proxy in proxies.named(case.proxies):
            running, port = built.prepare(proxy)
            stack.enter_context(running).wait_for_port(port)
            subjects[proxy.name] = running, port
        if case.path == STREAM_PATH and proof.status(case, subjects["router"][1]) == _NOT_IMPLEMENTED:
            raise Skipped(f"this router does not serve {case.path}")
        rest = {name: _rest_mib(built, *subjects[name]) for name in subjects if case.memory}
        if case.rounds > 1 and case.load is not Load.CHUNKS:
            for name, (_, port) in subjects.items():
                load.run(replace(case, seconds=_WARM_SECONDS), name, port, built.load_core)
        samples: dict[str, list[dict[str, float]]] = {name: [] for name in subjects}
        for _ in range(case.rounds):
            for name, (running, port) in subjects.items():
                sample = _sample(built, running, name, port)
                if case.memory:
                    sample["rss_growth_mib"] = running.peak_mib() - rest[name]
                samples[name].append(sample)
        return samples


def _rest_mib(built: Stand, running: Running, port: int) -> float:
    """Resident memory of a proxy that has served small bodies on as many connections; its peak counts from here."""
    load.warm(built.case, running.name, port, built.load_core)
    running.forget_peak()
    return running.rss_mib()


def _sample(built: Stand, running: Running, name: str, port: int) -> dict[str, float]:
    """One turn of one proxy: proven before, measured, counted after."""
    case = built.case
    if name != BASELINE:
        proof.check_samples(case, name, port, built.containers)
    reached = proof.settled(built.containers)
    busy, ours, used = machine.busy_seconds(), built.cpu_of_this_run(running), running.cpu_seconds()
    began = time.monotonic()
    seen = load.run(case, name, port, built.load_core)
    took = time.monotonic() - began
    used = running.cpu_seconds() - used
    others = (machine.busy_seconds() - busy) - (built.cpu_of_this_run(running) - ours)
    running.check()
    proof.check_count(case, name, proof.answered(built.containers) - reached, seen.calls)
    figures = {
        "per_second": seen.jobs / seen.seconds,
        "p50_ms": seen.p50_ms,
        "p99_ms": seen.p99_ms,
        "others_cpu": max(0.0, others / took),
    }
    if name == BASELINE:
        return figures
    return {"cpu_us": used / seen.jobs * 1e6, **figures, "rss_mib": running.rss_mib()}
