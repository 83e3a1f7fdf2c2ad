"""Callers of one container at a fixed rate, while another container of the same endpoint misbehaves.

The router is the only thing that the two share: whatever stands behind or before the neighbour runs only when nobody
else wants the core (SCHED_IDLE), or the figure would be the fight of two containers for one core.
"""

import json
import subprocess
import time
from typing import Final

from bench import load, machine, proof, proxies, settings
from bench.cases import WAYS
from bench.processes import BenchError, Running, free_ports
from bench.proxies import Container
from bench.stand import Stand

_CALLS_A_SECOND: Final = 200
_CALLERS: Final = 8
_LEAD_SECONDS: Final = 0.3
"""The neighbour's callers begin this much earlier and end this much later."""
_SETTLE_SECONDS: Final = 0.3
_WHEN_IDLE: Final = ("chrt", "--idle", "0")


def rounds(built: Stand) -> dict[str, list[dict[str, float]]]:
    """For each thing that the neighbour does and each round: what the callers of the first container see."""
    names = WAYS[1:]
    ports = free_ports(len(names))
    neighbours = {name: Container(name=name, port=port) for name, port in zip(names, ports, strict=True)}
    program = str(settings.cache() / "gofaulty")
    command = [*_WHEN_IDLE, program, "serve", *map(str, neighbours.values())]
    faulty = Running("the neighbour", command, core=built.load_core, folder=built.new_folder("neighbour"))
    router, port = built.prepare(proxies.ROUTER, *neighbours.values())
    samples: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    with faulty, router:
        for container in neighbours.values():
            faulty.wait_for_port(container.port)
        router.wait_for_port(port)
        for _ in range(built.case.rounds):
            for way in WAYS:
                samples[way].append(_sample(built, router, faulty, way, port))
    return samples


def _sample(built: Stand, router: Running, faulty: Running, way: str, port: int) -> dict[str, float]:
    case = built.case
    proof.check_samples(case, "router", port, built.containers)
    reached = proof.settled(built.containers)
    busy, ours, began = machine.busy_seconds(), built.cpu_of_this_run(router, faulty), time.monotonic()
    used = router.cpu_seconds()
    callers = None if way == WAYS[0] else _callers(built, way, port)
    try:
        time.sleep(_LEAD_SECONDS)
        seen = load.run(case, "router", port, built.load_core)
        ends = _ends(way, callers) if callers else {}
    finally:
        if callers and callers.poll() is None:
            callers.kill()
    took = time.monotonic() - began
    used = router.cpu_seconds() - used
    others = (machine.busy_seconds() - busy) - (built.cpu_of_this_run(router, faulty) - ours)
    router.check()
    faulty.check()
    proof.check_count(case, "router", proof.answered(built.containers) - reached, seen.calls)
    time.sleep(_SETTLE_SECONDS)
    return {
        "p50_ms": seen.p50_ms,
        "p99_ms": seen.p99_ms,
        "router_cpu": used / took,
        "others_cpu": max(0.0, others / took),
        "rss_mib": router.rss_mib(),
        "neighbour_calls": float(sum(ends.values())),
        "neighbour_200": float(ends.get("200", 0)),
    }


def _callers(built: Stand, way: str, port: int) -> "subprocess.Popen[str]":
    said = {
        "address": f"127.0.0.1:{port}",
        "target": way,
        "rate": _CALLS_A_SECOND,
        "workers": _CALLERS,
        "seconds": built.case.seconds + 2 * _LEAD_SECONDS,
    }
    options = [f"-{name}={value}" for name, value in said.items()]
    command = ["taskset", "-c", str(built.load_core), *_WHEN_IDLE, str(settings.cache() / "gofaulty"), "call"]
    return subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True)


def _ends(way: str, callers: "subprocess.Popen[str]") -> dict[str, int]:
    """How many of the neighbour's calls ended how.

    Raises:
        BenchError: if there were none, or not those that this neighbour should give.
    """
    said, _ = callers.communicate(timeout=30)
    if callers.returncode:
        raise BenchError(f"the callers of the neighbour that {way} ended with status {callers.returncode}")
    ends: dict[str, int] = json.loads(said)
    good, total = ends.get("200", 0), sum(ends.values())
    if not total or (good < total / 2 if way == WAYS[1] else good > 0):
        raise BenchError(f"the neighbour should do as its name says ({way}), but its calls ended so: {ends}")
    return ends
