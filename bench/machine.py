"""What the run needs of the machine, and what a reader of its figures must know about the machine."""

import os
import platform
import re
import resource
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Final

from bench import settings
from bench.processes import BenchError

_PACKAGES: Final = {
    "wrk": "wrk",
    "haproxy": "haproxy",
    "nginx": "nginx-light",
    "go": "golang-go",
    "taskset": "util-linux",
    "chrt": "util-linux",
}
_VERSION_COMMANDS: Final = {
    "haproxy": ["haproxy", "-v"],
    "nginx": ["nginx", "-v"],
    "go": ["go", "version"],
    "wrk": ["wrk", "-v"],
}
_PROGRAMS: Final = ("gobackend", "gofaulty", "goload", "goproxy")


def what_is_missing() -> str:
    """The command that installs what this machine lacks; empty if it lacks nothing."""
    packages = [package for program, package in _PACKAGES.items() if settings.find(program) is None]
    return f"sudo apt-get install -y --no-install-recommends {' '.join(dict.fromkeys(packages))}" if packages else ""


def cores() -> tuple[int, int]:
    """One core for the proxy under test, one for the load and the containers.

    Raises:
        BenchError: on a single core, where a proxy's time would be mixed with waiting for its callers.
    """
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        raise BenchError("the bench needs two cores: one for the proxy, one for load and containers")
    return usable[-1], usable[0]


def build() -> None:
    """Builds the Go programs of the bench into the cache; seconds the first time, then nothing to do."""
    into = settings.cache()
    into.mkdir(parents=True, exist_ok=True)
    for program in _PROGRAMS:
        command = ["env", "GOTOOLCHAIN=local", settings.find("go") or "go", "build", "-o", str(into / program)]
        done = subprocess.run(
            [*command, f"./{program}"], cwd=settings.BENCH, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise BenchError(f"can not build {program}:\n{done.stderr}")


def facts() -> dict[str, object]:
    """The machine and the versions of everything under test."""
    model = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    return {
        "cpu": model[1] if model else platform.machine(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "mce": _commit(),
        "python": platform.python_version(),
        **{name: _version(command) for name, command in _VERSION_COMMANDS.items()},
        **{name: metadata.version(name) for name in ("uvloop", "httptools")},
    }


def _commit() -> str:
    """Which router was measured; `-dirty` when the checkout had changes."""
    command = ["git", "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, cwd=settings.BENCH, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return metadata.version("mce")


def _version(command: list[str]) -> str:
    program = settings.find(command[0])
    if program is None:  # a case that needs it has said so before
        return "none"
    done = subprocess.run([program, *command[1:]], capture_output=True, text=True, check=False)
    found = re.search(r"\d+\.\d+[^\s]*", done.stdout + done.stderr)
    return found[0] if found else "unknown"


def allow_files(count: int) -> None:
    """Lets this process and those it starts hold `count` open files.

    Raises:
        BenchError: if the machine does not allow it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= count:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
    except ValueError as error:
        raise BenchError(f"the bench holds {count} files open, and the limit is {hard} (ulimit -Hn)") from error


def busy_seconds() -> float:
    """Time that all cores have spent on anything so far; steal counts, for it is lost to us too."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
