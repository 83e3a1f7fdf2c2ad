"""Processes of a run: each on one core in a session of its own, read through /proc, ended with all it started."""

import os
import re
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_END_SECONDS: Final = 1.0


class BenchError(Exception):
    """The measurement can't go on; the message says why."""


class Skipped(Exception):  # noqa: N818 - it is no error
    """The case can't be measured with this router; the message says why."""


class Running:
    """One server and its children, on one core or on all; a context manager that leaves none behind."""

    def __init__(self, name: str, command: list[str], *, core: int | None, folder: Path) -> None:
        self.name = name
        self._command = command if core is None else ["taskset", "-c", str(core), *command]
        self._log = folder / "log.txt"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, start_new_session=True)
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        process = self._process
        if process is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):  # its session is its process group, and outlives it
                os.killpg(process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(_END_SECONDS)

    def check(self) -> None:
        """Raises BenchError if the server has ended."""
        if self._process is None or self._process.poll() is not None:
            tail = self._log.read_text(errors="replace")[-2000:]
            raise BenchError(f"{self.name} ended by itself. Its last words:\n{tail}")

    def wait_for_port(self, port: int, *, seconds: float = 10.0) -> None:
        """Returns when something accepts connections on `port`."""
        give_up = time.monotonic() + seconds
        while time.monotonic() < give_up:
            self.check()
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                return
            time.sleep(0.001)
        raise BenchError(f"{self.name} does not listen on port {port} after {seconds:g} s")

    def cpu_seconds(self) -> float:
        """User and system time that all its processes have used."""
        return sum(int(stat[11]) + int(stat[12]) for stat in self._stats()) / _TICKS

    def rss_mib(self) -> float:
        """Resident memory of all its processes."""
        pages = sum(int(stat[21]) for stat in self._stats())
        return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)

    def forget_peak(self) -> None:
        """From now on `peak_mib` counts anew (man 5 proc, clear_refs)."""
        for pid in self._pids():
            with suppress(OSError):
                Path(f"/proc/{pid}/clear_refs").write_text("5")

    def peak_mib(self) -> float:
        """The most resident memory that its processes have had since `forget_peak`."""
        kib = 0
        for pid in self._pids():
            with suppress(OSError):
                found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
                kib += int(found[1]) if found else 0
        return kib / 1024

    @property
    def pid(self) -> int:
        """Its first process, which is the only one of the router.

        Raises:
            BenchError: if it was not started.
        """
        if self._process is None:
            raise BenchError(f"{self.name} was not started")
        return self._process.pid

    def _pids(self) -> list[str]:
        return [pid for pid, _ in self._processes()]

    def _stats(self) -> list[list[str]]:
        return [stat for _, stat in self._processes()]

    def _processes(self) -> list[tuple[str, list[str]]]:
        """Id and `/proc/PID/stat`, from the third field on, of each process of its session."""
        if self._process is None:
            return []
        found = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):  # it ended meanwhile
                fields = path.read_text().rpartition(")")[2].split()
                if fields[3] == str(self._process.pid):
                    found.append((path.parent.name, fields))
        return found


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nobody uses now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
