"""What a killed supervisor left behind: found by the instance that everything of ours carries, never by name."""

import contextlib
import os
import subprocess
from typing import Final

import psutil

from mce_local.engines import INSTANCE_LABEL
from mce_local.runtime import INSTANCE_VARIABLE
from mce_local.wanted import RuntimeKind

_ENGINE_SECONDS: Final = 60.0


def processes(instance: str) -> tuple[psutil.Process, ...]:
    """Processes of this user whose environment proves that `instance` started them, or one of their parents."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(INSTANCE_VARIABLE) == instance:
                found.append(process)
    return tuple(found)


def clean(instance: str, runtime: RuntimeKind, engine_env: dict[str, str], grace_seconds: float) -> int:
    """Ends what is left of `instance`; returns how many processes and containers that were."""
    left = processes(instance)
    # psutil checks the start time again before it signals: a number that was reused meanwhile is safe.
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    _, stubborn = psutil.wait_procs(left, timeout=grace_seconds)
    for process in stubborn:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(stubborn, timeout=grace_seconds)
    return len(left) + (0 if runtime is RuntimeKind.PROCESS else _containers(runtime, instance, engine_env))


def _containers(program: str, instance: str, env: dict[str, str]) -> int:
    listed = _run(env, program, "ps", "-aq", "--filter", f"label={INSTANCE_LABEL}={instance}").split()
    if listed:
        _run(env, program, "rm", "-f", *listed)
    return len(listed)


def _run(env: dict[str, str], *command: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - our own arguments
            command, env=env, capture_output=True, text=True, check=False, timeout=_ENGINE_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout
