"""Runs one case: containers and proxies up, rounds in which every proxy has its turn, everything down again.

The rounds are interleaved (A B C D A B C D ...), because a noisy neighbour stays for seconds: it then meets all of
them, and a ratio within one round is worth more than one between two runs.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from bench import load, machine, proof, report, settings
from bench.cases import Case, Load
from bench.processes import BenchError, Running, free_ports
from bench.proxies import PROXIES, Container, Proxy, Setup

BASELINE: Final = "direct"
"""Not a proxy: the callers at the container itself."""
_REST_SECONDS: Final = 1.0
_WARM_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stand:
    """Where a case is measured."""

    case: Case
    folder: Path
    containers: tuple[Container, ...]
    backend: Running
    proxy_core: int
    load_core: int


def run(case: Case) -> report.Samples:
    """All samples of `case`.

    Raises:
        BenchError: if something does not start, answers wrongly, or ends.
    """
    with _stand(case) as stand:
        if case.load is Load.START:
            return _starts(stand)
        samples = _rounds(stand)
    return report.with_added_latency(samples, BASELINE) if case.load is Load.RATE else samples


@contextmanager
def _stand(case: Case) -> Iterator[_Stand]:
    proxy_core, load_core = machine.cores()
    ports = free_ports(len(case.containers))
    containers = tuple(Container(name=name, port=port) for name, port in zip(case.containers, ports, strict=True))
    with tempfile.TemporaryDirectory(prefix="mce-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # nginx's worker gives up root
        command = [str(settings.cache() / "gobackend"), case.reply, *map(str, containers)]
        with Running("the backend", command, core=load_core, folder=folder) as backend:
            for container in containers:
                backend.wait_for_port(container.port)
            yield _Stand(
                case=case,
                folder=folder,
                containers=containers,
                backend=backend,
                proxy_core=proxy_core,
                load_core=load_core,
            )


def _prepare(stand: _Stand, proxy: Proxy) -> tuple[Running, int]:
    """A proxy that is ready to be started, and its port."""
    listen, admin = free_ports(2)
    folder = Path(tempfile.mkdtemp(prefix=f"{proxy.name}-", dir=stand.folder))
    folder.chmod(0o755)
    mode = stand.case.mode
    setup = Setup(listen=listen, admin=admin, mode=mode, containers=stand.containers, folder=folder)
    return Running(proxy.name, proxy.command(setup), core=stand.proxy_core, folder=folder), listen


def _rounds(stand: _Stand) -> dict[str, list[dict[str, float]]]:
    case = stand.case
    with ExitStack() as stack:
        subjects: dict[str, tuple[Running, int]] = {}
        if case.load is Load.RATE:
            subjects[BASELINE] = stand.backend, stand.containers[0].port
        for proxy in PROXIES:
            running, port = _prepare(stand, proxy)
            stack.enter_context(running).wait_for_port(port)
            subjects[proxy.name] = running, port
        if case.rounds > 1:
            for name, (_, port) in subjects.items():
                load.run(replace(case, seconds=_WARM_SECONDS), name, port, stand.load_core)
        samples: dict[str, list[dict[str, float]]] = {name: [] for name in subjects}
        for _ in range(case.rounds):
            for name, (running, port) in subjects.items():
                samples[name].append(_sample(stand, running, name, port))
        return samples


def _sample(stand: _Stand, running: Running, name: str, port: int) -> dict[str, float]:
    """One turn of one proxy: proven before, measured, counted after."""
    case = stand.case
    if name != BASELINE:
        proof.check_samples(case, name, port, stand.containers)
    reached = proof.settled(stand.containers)
    busy, ours, used = machine.busy_seconds(), _ours(stand, running), running.cpu_seconds()
    began = time.monotonic()
    seen = load.run(case, name, port, stand.load_core)
    took = time.monotonic() - began
    used = running.cpu_seconds() - used
    others = (machine.busy_seconds() - busy) - (_ours(stand, running) - ours)
    running.check()
    proof.check_count(case, name, proof.answered(stand.containers) - reached, seen.jobs)
    figures = {
        "per_second": seen.jobs / seen.seconds,
        "p50_ms": seen.p50_ms,
        "p99_ms": seen.p99_ms,
        "others_cpu": max(0.0, others / took),
    }
    if name == BASELINE:
        return figures
    return {"cpu_us": used / seen.jobs * 1e6, **figures, "rss_mib": running.rss_mib()}


def _ours(stand: _Stand, running: Running) -> float:
    """CPU time of this run: the proxy at work, the containers, the generator that has ended, the harness."""
    times = os.times()
    mine = times.user + times.system + times.children_user + times.children_system
    return mine + sum(each.cpu_seconds() for each in {running, stand.backend})


def _starts(stand: _Stand) -> dict[str, list[dict[str, float]]]:
    samples: dict[str, list[dict[str, float]]] = {proxy.name: [] for proxy in PROXIES}
    for _ in range(stand.case.rounds):
        for proxy in PROXIES:
            running, port = _prepare(stand, proxy)
            began = time.monotonic()
            with running:
                _first_answer(stand, running, port)
                took = time.monotonic() - began
                time.sleep(min(_REST_SECONDS, stand.case.seconds))
                samples[proxy.name].append({"first_answer_ms": took * 1000, "rss_mib": running.rss_mib()})
    return samples


def _first_answer(stand: _Stand, running: Running, port: int) -> None:
    running.wait_for_port(port)
    give_up = time.monotonic() + 10
    while True:
        try:
            proof.check_samples(stand.case, running.name, port, stand.containers[:1])
        except (BenchError, OSError):
            running.check()
            if time.monotonic() > give_up:
                raise
            time.sleep(0.001)
        else:
            return
