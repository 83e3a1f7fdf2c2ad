"""Cases in which a proxy is started anew for each turn: how soon it serves, and what it holds at rest."""

import time
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from typing import Final

from bench import machine, proof, proxies
from bench.processes import BenchError, Running
from bench.stand import Stand

_REST_SECONDS: Final = 1.0
_WARM_CALLS: Final = 200
_SPARE_FILES: Final = 200


def starts(built: Stand) -> dict[str, list[dict[str, float]]]:
    """For each proxy and round: process start to first right answer, and memory at rest."""
    samples: dict[str, list[dict[str, float]]] = {name: [] for name in built.case.proxies}
    for _ in range(built.case.rounds):
        for proxy in proxies.named(built.case.proxies):
            running, port = built.prepare(proxy)
            began = time.monotonic()
            with running:
                _first_answer(built, running, port)
                took = time.monotonic() - began
                _rest(built)
                samples[proxy.name].append({"first_answer_ms": took * 1000, "rss_mib": running.rss_mib()})
    return samples


def idle(built: Stand) -> dict[str, list[dict[str, float]]]:
    """For each proxy and round: what a connection that made one call and is kept alive adds to resident memory."""
    count = built.case.connections
    machine.allow_files(3 * count + _SPARE_FILES)  # HAProxy takes two for each connection that it may get
    samples: dict[str, list[dict[str, float]]] = {name: [] for name in built.case.proxies}
    for _ in range(built.case.rounds):
        for proxy in proxies.named(built.case.proxies):
            running, port = built.prepare(proxy)
            with running, ExitStack() as stack:
                _first_answer(built, running, port)
                warm = stack.enter_context(closing(HTTPConnection("127.0.0.1", port, timeout=10)))
                for turn in range(_WARM_CALLS):
                    proof.ask(built.case, warm, proxy.name, turn)
                before = running.rss_mib()
                callers = [
                    stack.enter_context(closing(HTTPConnection("127.0.0.1", port, timeout=10))) for _ in range(count)
                ]
                for turn, caller in enumerate(callers):
                    proof.ask(built.case, caller, proxy.name, turn)
                    caller.auto_open = 0  # a second connection in its place would be no idle one
                _rest(built)
                held = running.rss_mib()
                for turn, caller in enumerate(callers):
                    proof.ask(built.case, caller, proxy.name, turn)
                kilobytes = (held - before) * (1 << 20) / 1000
                samples[proxy.name].append({"connection_kb": kilobytes / count, "rss_mib": held})
    return samples


def _rest(built: Stand) -> None:
    time.sleep(min(_REST_SECONDS, built.case.seconds))


def _first_answer(built: Stand, running: Running, port: int) -> None:
    running.wait_for_port(port)
    give_up = time.monotonic() + 10
    while True:
        try:
            proof.check_samples(built.case, running.name, port, built.containers[:1])
        except (BenchError, OSError):
            running.check()
            if time.monotonic() > give_up:
                raise
            time.sleep(0.001)
        else:
            return
