"""Containers as plain processes: each leads a session of its own and dies with its supervisor.

Nothing is isolated but the process group and the environment: no memory limit, one file system, the user's own rights.
"""

import asyncio
import contextlib
import ctypes
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from mce_kit.clock import Clock
from mce_local import expansion, logfiles
from mce_local.errors import LocalError
from mce_local.meter import Meter
from mce_local.runtime import INSTANCE_VARIABLE, Handle, Launch, Sample

_PR_SET_PDEATHSIG: Final = 1
_POLL_SECONDS: Final = 0.05


class Processes:
    """The process runtime; also runs the router and the Docker or Podman client."""

    def __init__(self, inherited: Mapping[str, str], clock: Clock) -> None:
        self._inherited = inherited
        self._clock = clock
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._meter = Meter(clock)

    def start(self, launch: Launch) -> Handle:
        """Starts the stand-in command of the container's image."""
        container = expansion.filled(launch)
        env = {
            **self._inherited,
            "PYTHONUNBUFFERED": "1",  # a log that lags behind a crash is no log
            **container.env,
            **launch.bind_env,
            INSTANCE_VARIABLE: launch.instance,
        }
        folder = Path(container.working_dir)
        if not folder.is_dir():
            raise LocalError(f"container {container.name}: workingDir {folder} is no folder; correct it in images.yaml")
        command = [_program(container.command[0], folder, env), *container.command[1:], *container.args]
        try:
            return self.run(command, env, launch.log, folder)
        except OSError as error:
            raise LocalError(f"container {container.name}: cannot run {command[0]}: {error.strerror}") from error

    def run(self, command: Sequence[str], env: Mapping[str, str], log: Path, folder: Path | None = None) -> Handle:
        """Starts `command` with its output appended to `log`."""
        offset = logfiles.size(log)
        with log.open("ab") as output:
            child = subprocess.Popen(  # noqa: S603 - running the user's own command is the purpose
                command,
                cwd=folder,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent(),  # noqa: PLW1509 - the supervisor has one thread
            )
        handle = Handle(id=str(child.pid), pid=child.pid, log=log, log_offset=offset)
        self._children[handle.id] = child
        return handle

    async def output(self, command: Sequence[str], env: Mapping[str, str], seconds: float) -> str:
        """What `command` says on standard output; nothing if it fails, or takes longer.

        Not asyncio's subprocesses: Python 3.11 waits for each in a thread, and a process with threads must not fork.
        """
        with tempfile.TemporaryFile() as output:
            child = subprocess.Popen(  # noqa: ASYNC220, S603 - returns at once; our own arguments
                command, env=dict(env), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.DEVNULL
            )
            await self._ended(child, seconds)
            if child.poll() is None:
                child.kill()
                child.wait()
            output.seek(0)
            return output.read().decode("utf-8", "replace") if child.returncode == 0 else ""

    def inspect(self, handle: Handle) -> int | None:
        """Its exit code, as `subprocess` says it."""
        child = self._children.get(handle.id)
        return child.poll() if child else 0

    async def stop(self, handle: Handle, grace_seconds: float) -> None:
        """The whole group gets the signals: a model server's workers must not outlive it."""
        child = self._children.get(handle.id)
        if child is None:
            return
        _signal_group(child.pid, signal.SIGTERM)
        await self._ended(child, grace_seconds)
        # Also after a clean exit: workers that the leader left behind are in its group, and keep the group's id theirs.
        _signal_group(child.pid, signal.SIGKILL)
        await self._ended(child, math.inf)
        del self._children[handle.id]
        self._meter.forget(handle.pid)

    async def _ended(self, child: subprocess.Popen[bytes], seconds: float) -> None:
        deadline = self._clock.monotonic() + seconds
        while True:
            if child.poll() is not None or self._clock.monotonic() >= deadline:
                return
            await asyncio.sleep(_POLL_SECONDS)

    async def usage(self, handles: Sequence[Handle]) -> Mapping[str, Sample]:
        """CPU and memory of each process tree."""
        samples = {handle.id: self._meter.read(handle.pid) for handle in handles}
        return {key: sample for key, sample in samples.items() if sample is not None}

    def logs(self, handle: Handle, lines: int) -> tuple[str, ...]:
        """From its log file."""
        return logfiles.tail(handle.log, lines, handle.log_offset)


def _program(word: str, folder: Path, env: Mapping[str, str]) -> str:
    if word in {"python", "python3"}:
        return sys.executable
    if "/" in word:
        return str(folder / word)
    found = shutil.which(word, path=env.get("PATH", os.defpath))
    if found is None:
        raise LocalError(f"{word}: no such command on PATH; correct command in images.yaml, or install it")
    return found


def die_with_parent() -> Callable[[], None] | None:
    """Run in a new child: SIGTERM when its parent dies, even by SIGKILL. Only on Linux; `orphans` does the rest."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl  # looked up before the fork
    parent = os.getpid()

    def in_child() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)

    return in_child


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
