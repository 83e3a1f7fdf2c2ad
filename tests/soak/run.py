"""`make soak`: two routers at full load for minutes while containers die, tables change and callers leave.

One router is Direct, one Serial; both use the same containers, which are processes. Callers are processes too, so that
the Direct router is what fills a core. Ends with 0 and a summary as JSON if no reply was lost, late or another's
without a cause that the soak made itself (`judge`), nothing grew, and the log says only what was done; else with 1,
the seed and what was found.
"""

import argparse
import contextlib
import dataclasses
import functools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from soak import judge
from soak.judge import Failure, Table, Timeline
from support import processes

TESTS: Final = Path(__file__).resolve().parents[1]
NAMES: Final = ("a", "b", "c", "d")
SAMPLE_SECONDS: Final = 0.5
CALM_SECONDS: Final = 4.0
"""At the end nothing is killed or reloaded any more."""
SETTLE_SECONDS: Final = 20.0
TICKS: Final = os.sysconf("SC_CLK_TCK")
BAD_FILES: Final = ("", "{", "[]", '{"endpoint": 1}', '{"mode": "Direct", "targets": []}', "\0" * 5000, None)
"""What stands in a table file now and then; None: there is no file."""


@dataclass
class Family:
    """A process and its children, read through /proc."""

    pid: int

    def members(self) -> list[int]:
        found, queue = [], [self.pid]
        while queue:
            pid = queue.pop()
            found.append(pid)
            with contextlib.suppress(OSError):
                for task in Path(f"/proc/{pid}/task").iterdir():
                    queue += map(int, (task / "children").read_text().split())
        return found

    def rss(self) -> int:
        """Bytes resident."""
        total = 0
        for pid in self.members():
            with contextlib.suppress(OSError):
                total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return total

    def fds(self) -> int:
        """Open files."""
        total = 0
        for pid in self.members():
            with contextlib.suppress(OSError):
                total += len(list(Path(f"/proc/{pid}/fd").iterdir()))
        return total

    def threads(self) -> int:
        total = 0
        for pid in self.members():
            with contextlib.suppress(OSError):
                total += len(list(Path(f"/proc/{pid}/task").iterdir()))
        return total

    def cpu_seconds(self) -> float:
        total = 0.0
        for pid in self.members():
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
                total += (int(fields[11]) + int(fields[12])) / TICKS
        return total


class Container:
    """One model server, killed and started again."""

    def __init__(self, name: str, log: Path) -> None:
        self.name = name
        self.port = processes.free_port()
        self.log = log
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        return start("soak.container", self.name, str(self.port), log=self.log)

    def listens(self) -> bool:
        return processes._listens(self.port)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def start_again(self) -> None:
        self.process = self._start()


@dataclass
class Router:
    """One router, its table file and what was seen of it."""

    process: subprocess.Popen[bytes]
    port: int
    admin: int
    file: Path
    log: Path
    base: Table
    workers: int
    current: Table = field(default_factory=dict)
    timeline: Timeline = field(default_factory=Timeline)
    loaded: int = 0
    refused: int = 0
    rss: list[int] = field(default_factory=list)
    fds: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)
    fds_before: int = 0

    @property
    def family(self) -> Family:
        return Family(self.process.pid)

    @property
    def processes(self) -> int:
        """How many may write its log: several workers have one more above them."""
        return self.workers + 1 if self.workers > 1 else 1

    def sample(self) -> None:
        self.rss.append(self.family.rss())
        self.fds.append(self.family.fds())
        self.threads.append(self.family.threads())

    def write(self, table: Table) -> None:
        """Puts a good table into the file, as a whole."""
        self._replace(json.dumps(table))
        self.current = table
        self.timeline.tables.append((time.monotonic(), table))
        self.loaded += 1

    def write_badly(self, text: str | None) -> None:
        """Puts something into the file that is no table, or takes it away."""
        self.refused += 1
        if text is None:
            self.file.unlink()
        else:
            self._replace(text)

    def _replace(self, text: str) -> None:
        other = self.file.with_suffix(".new")
        other.write_text(text)
        other.rename(self.file)

    def get(self, path: str) -> bytes:
        status, body = processes.get(f"http://127.0.0.1:{self.admin}{path}")
        if status != 200:
            raise AssertionError(f"GET {path}: {status}")
        return body

    def value(self, series: str) -> float:
        """Sum of one series of /metrics over its labels."""
        lines = self.get("/metrics").decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{series}{{", f"{series} ")))


def start(module: str, *arguments: str, log: Path, out: Path | None = None) -> subprocess.Popen[bytes]:
    """A process of ours."""
    with log.open("ab") as errors, (out or log).open("ab") as written:
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdout=written,
            stderr=errors,
            env={**os.environ, "PYTHONPATH": str(TESTS)},
        )


def table(mode: str, containers: list[Container], **more: Any) -> Table:
    """A route table over `containers`."""
    targets = [{"name": one.name, "host": "127.0.0.1", "port": one.port} for one in containers]
    return {"namespace": "soak", "endpoint": "soak", "mode": mode, "targets": targets, **more}


def variation(base: Table, dice: random.Random) -> Table:
    """`base` with something changed that callers may notice."""
    targets = [dict(target) for target in base["targets"]]
    kinds = ["fewer", "body", "busy", "target busy", "timeout"]
    kinds += ["other mode", "order", "hop"] if base["mode"] == "Serial" else ["any", "any", "order"]
    kind = dice.choice(kinds)
    changed: Table = {**base, "targets": targets}
    if kind == "fewer":
        del targets[dice.randrange(len(targets))]
    elif kind == "order":
        dice.shuffle(targets)
    elif kind == "body":
        changed["limits"] = {"maxRequestBytes": dice.choice((100, 65_536, 1_048_576))}
    elif kind == "hop":
        changed["limits"] = {"maxHopBytes": dice.choice((1000, 262_144))}
    elif kind == "busy":
        changed["limits"] = {"maxConcurrency": dice.choice((4, 40))}
    elif kind == "target busy":
        dice.choice(targets)["maxConcurrency"] = dice.choice((1, 2))
    elif kind == "timeout":
        dice.choice(targets)["invocationTimeoutSeconds"] = 50
    elif kind == "any":
        changed["availability"] = "Any"
    else:
        changed["mode"] = "Direct"
    return changed


class Soak:
    """One run."""

    def __init__(self, folder: Path, seconds: float, seed: int, workers: int) -> None:
        self._folder = folder
        self._seconds = seconds
        self._seed = seed
        self._workers = workers
        self._dice = random.Random(seed)
        self._agenda: list[tuple[float, Callable[[], None]]] = []
        self._down: list[tuple[str, float, float]] = []
        self.faults: list[str] = []
        self.done: Counter[str] = Counter()
        self.containers: list[Container] = []
        self.routers: dict[str, Router] = {}
        self.children: list[subprocess.Popen[bytes]] = []

    # --- start

    def run(self) -> dict[str, Any]:
        """Runs it all; returns the summary. What was wrong is in `faults`."""
        try:
            self._start()
            cpu = {name: router.family.cpu_seconds() for name, router in self.routers.items()}
            began = time.monotonic()
            self._load(began + self._seconds)
            took = time.monotonic() - began
            shares = {n: (r.family.cpu_seconds() - cpu[n]) / took for n, r in self.routers.items()}
            counts = self._verdict()
            return self._summary(took, counts, shares)
        finally:
            for child in [*self.children, *(container.process for container in self.containers)]:
                child.kill()
                child.wait()

    def _start(self) -> None:
        self.containers = [Container(name, self._folder / f"container-{name}.log") for name in NAMES]
        processes.wait_until("containers listen", lambda: all(one.listens() for one in self.containers))
        self.routers = {
            "direct": self._router("direct", table("Direct", self.containers)),
            "chain": self._router("chain", table("Serial", self.containers[:3])),
        }
        for name, router in self.routers.items():
            ready = f"http://127.0.0.1:{router.admin}/readyz"
            processes.wait_until(f"router {name} is ready", functools.partial(_is_ok, ready))
        time.sleep(0.5)
        for router in self.routers.values():
            router.fds_before = router.family.fds()

    def _router(self, name: str, base: Table) -> Router:
        file, log = self._folder / f"{name}.json", self._folder / f"router-{name}.log"
        file.write_text(json.dumps(base))
        port, admin = processes.free_port(), processes.free_port()
        workers = self._workers if name == "direct" else 1
        arguments = ["--table", str(file), "--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}"]
        arguments += ["--drain-seconds", "1", "--grace-seconds", "10"]
        # A machine that stands still for a second would make a connection that is there look late.
        arguments += ["--connect-timeout-seconds", "30"]
        arguments += ["--workers", str(workers)] if workers > 1 else []
        process = start("mce_router", *arguments, log=log, out=log.with_suffix(".access"))
        self.children.append(process)
        router = Router(process, port, admin, file, log, base, workers, base)
        router.timeline.tables.append((time.monotonic(), base))
        router.timeline.down = self._down
        return router

    # --- load and what happens under it

    def _load(self, until: float) -> None:
        direct, chain = self.routers["direct"], self.routers["chain"]
        plan = [("busy", direct.port, 24), ("wild", direct.port, 24), ("chain", chain.port, 6)]
        callers = []
        for kind, port, connections in plan:
            out, log = self._folder / f"caller-{kind}.jsonl", self._folder / f"caller-{kind}.log"
            arguments = (kind, str(port), str(self._seed), str(until), str(connections))
            callers.append(start("soak.callers", *arguments, log=log, out=out))
        self.children += callers
        self._later(1.0, lambda: self._kill(until))
        for router in self.routers.values():
            self._later(1.0, functools.partial(self._reload, router, until))
        self._later(0, self._sample)
        while time.monotonic() < until:
            self._work()
            time.sleep(0.02)
        self._agenda = [item for item in self._agenda if item[1] == self._sample]
        give_up = time.monotonic() + 90
        while any(caller.poll() is None for caller in callers) and time.monotonic() < give_up:
            self._work()
            time.sleep(0.02)
        for (kind, _, _), caller in zip(plan, callers, strict=True):
            if caller.poll() != 0:
                self.faults.append(f"callers {kind} ended with {caller.poll()}")

    def _later(self, seconds: float, act: Callable[[], None]) -> None:
        self._agenda.append((time.monotonic() + seconds, act))

    def _work(self) -> None:
        now = time.monotonic()
        for item in [item for item in self._agenda if item[0] <= now]:
            self._agenda.remove(item)
            item[1]()

    def _sample(self) -> None:
        for name, router in self.routers.items():
            if router.process.poll() is not None:
                raise AssertionError(f"router {name} ended with {router.process.poll()}")
            router.sample()
        self._later(SAMPLE_SECONDS, self._sample)

    def _kill(self, until: float) -> None:
        """One container dies and comes back on its port."""
        if time.monotonic() > until - CALM_SECONDS - 3:
            return
        container = self._dice.choice(self.containers)
        self.done["restarts"] += 1
        index = len(self._down)
        self._down.append((container.name, time.monotonic(), float("inf")))
        container.kill()

        def listens() -> None:
            if container.listens():
                self._down[index] = (*self._down[index][:2], time.monotonic())
                self._later(self._dice.uniform(1, 8), lambda: self._kill(until))
            else:
                self._later(0.02, listens)

        def restart() -> None:
            container.start_again()
            self._later(0.02, listens)

        self._later(self._dice.choice((0, 0.3, 2.5)), restart)

    def _reload(self, router: Router, until: float) -> None:
        """The table changes, goes back, or is no table for a while."""
        if time.monotonic() > until - CALM_SECONDS:
            if router.current != router.base or router.file.exists() is False or self._is_bad(router):
                router.write(router.base)
            return
        if self._is_bad(router):
            router.write(router.base)
        elif self._dice.random() < 0.2:
            router.write_badly(self._dice.choice(BAD_FILES))
        else:
            router.write(router.base if router.current != router.base else variation(router.base, self._dice))
        self.done["reloads"] += 1
        self._later(self._dice.uniform(1.2, 3.0), lambda: self._reload(router, until))

    @staticmethod
    def _is_bad(router: Router) -> bool:
        return not router.file.exists() or router.file.read_text() != json.dumps(router.current)

    # --- verdict

    def _verdict(self) -> Counter[str]:
        for name, router_ in self.routers.items():
            (self._folder / f"timeline-{name}.json").write_text(json.dumps(dataclasses.asdict(router_.timeline)))
        counts: Counter[str] = Counter()
        for kind, router in (("busy", "direct"), ("wild", "direct"), ("chain", "chain")):
            failures, said = self._read(self._folder / f"caller-{kind}.jsonl")
            if not said.get("ok"):
                self.faults.append(f"callers {kind} got no reply at all")
            counts += Counter({f"{kind}.{name}": value for name, value in said.items()})
            causes, faults = judge.sort_out(failures, self.routers[router].timeline)
            counts += Counter({f"{kind}.cause.{name}": value for name, value in causes.items()})
            self.faults += [f"callers {kind}: no cause for {failure}" for failure in faults]
        for name, router_ in self.routers.items():
            self._settle(name, router_)
            self._compare_counts(name, router_, counts)
            self._check_growth(name, router_)
            self._stop(name, router_)
        for log in sorted(self._folder.glob("c*.log")):
            if text := log.read_text(errors="replace"):
                self.faults.append(f"{log.name}: {text[:4000]}")
        return counts

    @staticmethod
    def _read(path: Path) -> tuple[list[Failure], dict[str, int]]:
        failures, counts = [], {}
        for line in path.read_text().splitlines():
            record = json.loads(line)
            if "counts" in record:
                counts = record["counts"]
            else:
                failures.append(Failure(**{**record, "targets": tuple(record["targets"])}))
        return failures, counts

    def _settle(self, name: str, router: Router) -> None:
        """Without load nothing is in flight and every socket is closed again."""
        allowed = router.fds_before + 2  # a ping or our own question may be under way
        give_up = time.monotonic() + SETTLE_SECONDS
        inflight, fds = -1.0, 0
        while time.monotonic() < give_up:
            inflight, fds = router.value("mce_inflight"), router.family.fds()
            if inflight == 0 and fds <= allowed:
                break
            time.sleep(0.2)
        if inflight or fds > allowed:
            self.faults.append(
                f"router {name}: {inflight:g} in flight and {fds} open files {SETTLE_SECONDS:g} s after the load, "
                f"{router.fds_before} before it"
            )
        served = [target["name"] for target in json.loads(router.get("/targets"))["targets"]]
        if served != judge.names_of(router.base):
            self.faults.append(f"router {name}: the last table is not in use: {served}")

    def _compare_counts(self, name: str, router: Router, counts: Counter[str]) -> None:
        """The router counted each answered request, and none that was not asked."""
        kinds = ("busy", "wild") if name == "direct" else ("chain",)
        answered = sum(counts[f"{kind}.ok"] for kind in kinds)
        others = sum(
            counts[f"{kind}.{what}"]
            for kind in kinds
            for what in ("failed", "aborts", "refused_rightly", "not_processed", "leaves_in_the_reply")
        )
        counted = router.value("mce_invocations_total")
        if not answered <= counted <= answered + others:
            self.faults.append(
                f"router {name} counted {counted:g} invocations; callers got {answered} replies and {others} others"
            )

    def _check_growth(self, name: str, router: Router) -> None:
        if self._seconds < 60:
            return  # warm-up
        if (grown := judge.growth(router.rss)) > judge.GROWTH_BYTES * router.processes:
            self.faults.append(f"router {name}: resident memory grew by {grown / 2**20:.1f} MiB")
        if (grown := judge.growth(router.fds)) > judge.GROWTH_FDS:
            self.faults.append(f"router {name}: open files grew by {grown:g}")
        if (grown := judge.growth(router.threads)) > 0:
            self.faults.append(f"router {name}: threads grew by {grown:g}")

    def _stop(self, name: str, router: Router) -> None:
        router.process.send_signal(signal.SIGTERM)
        try:
            if code := router.process.wait(20):
                self.faults.append(f"router {name} ended with {code}")
        except subprocess.TimeoutExpired:
            self.faults.append(f"router {name} did not end within 20 s after SIGTERM")
        lines = router.log.read_text(errors="replace").splitlines()
        said = judge.log_faults(lines, loaded=router.loaded, refused=router.refused, processes=router.processes)
        self.faults += [f"router {name}: log: {line}" for line in said]

    def _summary(self, took: float, counts: Counter[str], shares: dict[str, float]) -> dict[str, Any]:
        def total(what: str) -> int:
            return sum(counts[f"{kind}.{what}"] for kind in ("busy", "wild", "chain"))

        causes: Counter[str] = Counter()
        for key, value in counts.items():
            if ".cause." in key:
                causes[key.partition(".cause.")[2]] += value
        return {
            "seed": self._seed,
            "seconds": round(took, 1),
            "answered": total("ok"),
            "answeredPerSecond": round(total("ok") / took),
            "answeredMiB": total("ok_bytes") >> 20,
            "refusedAsTheyShould": total("refused_rightly"),
            "aborts": total("aborts"),
            "restarts": self.done["restarts"],
            "reloads": self.done["reloads"],
            "badFiles": sum(router.refused for router in self.routers.values()),
            "failuresByCause": dict(sorted(causes.items())),
            "actions": {key: value for key, value in sorted(counts.items()) if ".cause." not in key},
            "routers": {
                name: {
                    "cpuShareOfACore": round(shares[name], 2),
                    "rssMiB": [round(value / 2**20, 1) for value in curve(router.rss)],
                    "rssGrowthMiB": round(judge.growth(router.rss) / 2**20, 2),
                    "fds": [round(value) for value in curve(router.fds)],
                    "fdsBefore": router.fds_before,
                    "threads": max(router.threads),
                }
                for name, router in self.routers.items()
            },
            "faults": len(self.faults),
        }


def curve(samples: list[int], points: int = 12) -> list[float]:
    """Means of equal parts of `samples`."""
    step = max(1, len(samples) // points)
    parts = [samples[start : start + step] for start in range(0, len(samples), step)]
    return [sum(part) / len(part) for part in parts]


def _is_ok(url: str) -> bool:
    return processes.get(url)[0] == 200


@contextlib.contextmanager
def folder(keep: Path | None) -> Iterator[Path]:
    """Where logs and results go; goes away unless it was named."""
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="mce-soak-") as made:
        yield Path(made)


def main() -> int:
    parser = argparse.ArgumentParser(description="Full load with faults on two routers; see tests/soak.")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=0, help="0: another one each time")
    parser.add_argument("--workers", type=int, default=1, help="processes of the Direct router")
    parser.add_argument("--keep", type=Path, help="an empty folder for logs and results")
    given = parser.parse_args()
    seed = given.seed or random.SystemRandom().randrange(1, 1 << 32)
    sys.stderr.write(f"soak of {given.seconds:g} s with seed {seed}\n")
    with folder(given.keep) as place:
        soak = Soak(place, given.seconds, seed, given.workers)
        summary = soak.run()
    print(json.dumps(summary, indent=2))
    for fault in soak.faults[:20]:
        sys.stderr.write(f"soak: {fault}\n")
    if soak.faults:
        sys.stderr.write(f"soak: {len(soak.faults)} fault(s) with seed {seed}\n")
    return 1 if soak.faults else 0


if __name__ == "__main__":
    sys.exit(main())
