"""`python bench/scale.py [--endpoints N] [--idle SECONDS]`: the operator with many endpoints, on its own control plane.

docs/performance.md says what. One JSON object on stdout and in bench/results/, a summary for people on stderr. Exit
status: 0 measured, 1 something failed, 2 wrong arguments, 3 with --strict: a `must` was missed.
"""

import argparse
import json
import signal
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script, `bench` is not on the path

from bench import machine, settings
from bench.controlplane import ControlPlane
from bench.processes import BenchError, Running, free_ports

_GROUP: Final = "/apis/serving.mce.dev/v1alpha1"
_CHILDREN: Final = {
    "deployments": "/apis/apps/v1/deployments",
    "services": "/api/v1/services",
    "serviceaccounts": "/api/v1/serviceaccounts",
    "networkpolicies": "/apis/networking.k8s.io/v1/networkpolicies",
}
_OURS: Final = "labelSelector=app.kubernetes.io/managed-by%3Dmce-operator"
_LIMIT_SECONDS: Final = 1800
_QUIET_SECONDS: Final = 10
_MISSED: Final = 3
_MUST_SECONDS: Final = 60
_MUST_MIB: Final = 250
"""For a thousand endpoints; larger runs are not judged."""
_JUDGED_ENDPOINTS: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is asked for."""

    endpoints: int
    containers: int
    namespaces: int
    idle_seconds: int

    def names(self) -> Iterator[tuple[str, str]]:
        """Namespace and name of each endpoint."""
        for number in range(self.endpoints):
            yield f"team-{number % self.namespaces}", f"model-{number}"


def main() -> int:
    """Returns the exit status."""
    given = arguments(sys.argv[1:])
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    order = Order(
        endpoints=given.endpoints, containers=given.containers, namespaces=given.namespaces, idle_seconds=given.idle
    )
    try:
        with tempfile.TemporaryDirectory(prefix="mce-scale-") as folder:
            result = {"case": "operator", **measured(order, Path(folder)), "machine": machine.facts()}
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: stopped", file=sys.stderr)
        return 130
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    text = json.dumps({**result, "when": when})
    print(text, flush=True)
    settings.RESULTS.mkdir(exist_ok=True)
    (settings.RESULTS / f"{when.replace(':', '')}-operator-{order.endpoints}.json").write_text(text + "\n")
    return _MISSED if given.strict and not is_good(result) else 0


def arguments(said: Sequence[str]) -> argparse.Namespace:
    """What the command line says; exits with status 2 when that makes no sense."""
    parser = argparse.ArgumentParser(description="Measures the operator with many endpoints.")
    parser.add_argument("--endpoints", type=int, default=_JUDGED_ENDPOINTS, help="how many (default %(default)s)")
    parser.add_argument("--containers", type=int, default=3, help="model containers of each (default %(default)s)")
    parser.add_argument("--namespaces", type=int, default=10, help="that they are spread over (default %(default)s)")
    parser.add_argument("--idle", type=int, default=600, help="seconds that nothing is to be written (%(default)s)")
    parser.add_argument("--strict", action="store_true", help="exit with status 3 if a `must` is missed")
    given = parser.parse_args(said)
    if given.endpoints < 1 or not 1 <= given.containers <= 15 or not 1 <= given.namespaces <= given.endpoints:
        parser.error("needs 1 endpoint or more, 1 to 15 containers, 1 namespace or more and no more than endpoints")
    return given


def is_good(result: dict[str, Any]) -> bool:
    """Whether every `must` was reached; time and memory are judged up to a thousand endpoints."""
    first, again = result["from_nothing"], result["restart"]
    silent = not again["writes"] and not result["idle"]["writes"]
    if result["endpoints"] > _JUDGED_ENDPOINTS:
        return silent
    return silent and first["seconds"] < _MUST_SECONDS and first["operator"]["rss_peak_mib"] < _MUST_MIB


def measured(order: Order, folder: Path) -> dict[str, Any]:
    """The whole run.

    Raises:
        BenchError: if something does not start, or does not come to an end.
    """
    with ControlPlane(folder) as plane:
        say(f"creating {order.endpoints} endpoints of {order.containers} containers")
        create(plane, order)
        result: dict[str, Any] = {"endpoints": order.endpoints, "containers": order.containers}
        with operator(plane, folder, "first") as (running, port):
            result["from_nothing"] = from_nothing(plane, running, order)
            result["from_nothing"]["series_seconds"] = timed_scrape(port)
            say_phase("from nothing", result["from_nothing"])
        with operator(plane, folder, "again") as (running, port):
            result["restart"] = restart(plane, running, port, order)
            say_phase("restart", result["restart"])
            result["idle"] = idle(plane, running, order.idle_seconds)
            say_phase("idle", result["idle"])
        return result


@contextmanager
def operator(plane: ControlPlane, folder: Path, name: str) -> Iterator[tuple[Running, int]]:
    """An operator process with the chart's rights; yields it and the port of its metrics."""
    (port,) = free_ports(1)
    env = {
        "KUBECONFIG": str(plane.kubeconfig("operator")),
        "MCE_OPERATOR_HTTP_HOST": "127.0.0.1",
        "MCE_OPERATOR_HTTP_PORT": str(port),
    }
    # Where no bytecode may be written every start compiles everything, which an image has done before.
    variables = [f"{key}={value}" for key, value in env.items()]
    command = ["env", "-u", "PYTHONDONTWRITEBYTECODE", *variables, sys.executable, "-m", "mce_operator"]
    log = folder / f"operator-{name}"
    log.mkdir()
    with Running("operator", command, core=None, folder=log) as running:
        yield running, port


def create(plane: ControlPlane, order: Order) -> None:
    """Makes the namespaces and the endpoints."""
    for namespace in sorted({namespace for namespace, _ in order.names()}):
        plane.post("/api/v1/namespaces", {"metadata": {"name": namespace}})

    def one(address: tuple[str, str]) -> None:
        plane.post(f"{_GROUP}/namespaces/{address[0]}/multicontainerendpoints", document(*address, order.containers))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, order.names()))


def document(namespace: str, name: str, containers: int) -> dict[str, Any]:
    """An endpoint as people write them: variables, requests and limits in each container."""
    return {
        "apiVersion": "serving.mce.dev/v1alpha1",
        "kind": "MultiContainerEndpoint",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "mode": "Direct",
            # Pods never start without a node: that shall not become news in the middle of the rest.
            "rollout": {"progressDeadlineSeconds": 86_400},
            "containers": [
                {
                    "name": f"Model-{number}",
                    "image": f"registry.example/models/model-{number}:1",
                    "env": [{"name": "SAGEMAKER_PROGRAM", "value": "inference.py"}, {"name": "THREADS", "value": "1"}],
                    "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "512Mi"}},
                }
                for number in range(containers)
            ],
        },
    }


@dataclass(slots=True)
class Meter:
    """CPU of the operator and of the control plane since it was made."""

    plane: ControlPlane
    operator: Running
    began: float
    cpu: dict[str, float]

    @classmethod
    def now(cls, plane: ControlPlane, running: Running) -> "Meter":
        """Starts."""
        every = {**plane.running, "operator": running}
        return cls(plane, running, time.monotonic(), {name: one.cpu_seconds() for name, one in every.items()})

    def used(self) -> dict[str, float]:
        """CPU seconds by process."""
        every = {**self.plane.running, "operator": self.operator}
        return {name: round(one.cpu_seconds() - self.cpu[name], 2) for name, one in every.items()}

    @property
    def seconds(self) -> float:
        """Wall clock."""
        return round(time.monotonic() - self.began, 2)


def from_nothing(plane: ControlPlane, running: Running, order: Order) -> dict[str, Any]:
    """From the start of the process until every endpoint has its children and an observed status; then until quiet."""
    plane.new_writes()
    meter = Meter.now(plane, running)
    seen = threading.Event()
    watcher = threading.Thread(target=_watch, args=(plane, order.endpoints, seen), daemon=True)
    watcher.start()
    while not seen.wait(0.05):
        running.check()
        if meter.seconds > _LIMIT_SECONDS:
            raise BenchError(f"not all endpoints have an observed status after {_LIMIT_SECONDS} s")
    seconds, used = meter.seconds, meter.used()
    for kind, path in _CHILDREN.items():
        if (count := len(plane.items(f"{path}?{_OURS}"))) != order.endpoints:
            raise BenchError(f"{count} {kind} for {order.endpoints} endpoints")
    writes = _until_quiet(plane)
    return {
        "seconds": seconds,
        "cpu_seconds": used,
        "settled_cpu_seconds": meter.used(),
        "settled_seconds": round(meter.seconds - _QUIET_SECONDS, 2),
        "operator": memory(running),
        "writes": dict(writes),
    }


def _watch(plane: ControlPlane, wanted: int, seen: threading.Event) -> None:
    """Sets `seen` when that many endpoints have a status of their present generation."""
    done = set()
    for event in plane.watch(f"{_GROUP}/multicontainerendpoints"):
        found = event["object"]
        if found.get("status", {}).get("observedGeneration") == found["metadata"]["generation"]:
            done.add((found["metadata"]["namespace"], found["metadata"]["name"]))
        if len(done) >= wanted:
            break
    seen.set()


def _until_quiet(plane: ControlPlane) -> Counter[str]:
    """All writes until there was none for a while."""
    writes: Counter[str] = Counter()
    quiet_since = time.monotonic()
    while time.monotonic() - quiet_since < _QUIET_SECONDS:
        time.sleep(0.2)
        if fresh := plane.new_writes():
            writes += fresh
            quiet_since = time.monotonic()
    return writes


def restart(plane: ControlPlane, running: Running, port: int, order: Order) -> dict[str, Any]:
    """From the start of a new process until it has had a pass over every endpoint and has nothing left to do."""
    plane.new_writes()
    meter = Meter.now(plane, running)
    while True:
        running.check()
        series = scraped(port)
        passes = sum(value for name, value in series.items() if name.startswith("mce_operator_reconciles_total"))
        if passes >= order.endpoints and series.get("mce_operator_queue_depth") == 0:
            break
        if meter.seconds > _LIMIT_SECONDS:
            raise BenchError(f"a new operator has not seen all endpoints after {_LIMIT_SECONDS} s")
        time.sleep(0.5)
    seconds, used = meter.seconds, meter.used()
    time.sleep(_QUIET_SECONDS)
    return {
        "seconds": seconds,
        "cpu_seconds": used,
        "passes": passes,
        "operator": memory(running),
        "writes": dict(plane.new_writes()),
    }


def idle(plane: ControlPlane, running: Running, seconds: int) -> dict[str, Any]:
    """Nothing happens for a while."""
    meter = Meter.now(plane, running)
    time.sleep(seconds)
    running.check()
    return {
        "seconds": meter.seconds,
        "cpu_seconds": meter.used(),
        "operator": memory(running),
        "writes": dict(plane.new_writes()),
    }


def memory(running: Running) -> dict[str, float]:
    """Resident memory now and at its highest."""
    return {"rss_mib": round(running.rss_mib(), 1), "rss_peak_mib": round(running.peak_mib(), 1)}


def scraped(port: int) -> dict[str, float]:
    """The operator's series, label sets included in the name; empty while it does not serve."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as reply:
            text = reply.read().decode()
    except OSError:
        return {}
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines if name.startswith("mce_operator")}


def timed_scrape(port: int) -> float:
    """Seconds that a scrape takes."""
    began = time.monotonic()
    scraped(port)
    return round(time.monotonic() - began, 3)


def say(text: str) -> None:
    """A line for people."""
    print(text, file=sys.stderr, flush=True)


def say_phase(name: str, found: dict[str, Any]) -> None:
    """A phase for people."""
    say(f"\n{name}: {found['seconds']} s")
    for key, value in found.items():
        if key != "seconds":
            say(f"  {key:20} {json.dumps(value)}")


if __name__ == "__main__":
    sys.exit(main())
