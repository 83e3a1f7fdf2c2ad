"""What the supervisor needs from whoever runs containers. Two do: `processes` and `engines`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from mce_local.ports import Assigned
from mce_local.wanted import Container

INSTANCE_VARIABLE: Final = "MCE_LOCAL_INSTANCE"
"""In the environment of everything that a supervisor starts: proof that an orphan is ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One start of one container."""

    endpoint: str
    instance: str
    """Of the supervisor that starts it."""
    container: Container
    assigned: Assigned
    bind_env: Mapping[str, str]
    log: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Handle:
    """Something that was started."""

    id: str
    """Process id, or container name: what a user would look for."""
    pid: int
    log: Path
    log_offset: int
    """Where this start's output begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Use of one container since the sample before."""

    cpu_cores: float
    memory_bytes: float


class Runtime(Protocol):
    """Starts and watches containers."""

    def start(self, launch: Launch) -> Handle:
        """Starts a container and returns at once.

        Raises:
            LocalError: if there is nothing to start.
        """

    def inspect(self, handle: Handle) -> int | None:
        """The exit code (negative: the signal that ended it); None while it runs."""

    async def stop(self, handle: Handle, grace_seconds: float) -> None:
        """SIGTERM, then SIGKILL after the grace; returns when it is gone, children included."""

    async def usage(self, handles: Sequence[Handle]) -> Mapping[str, Sample]:
        """By handle id; who is not known is absent."""

    def logs(self, handle: Handle, lines: int) -> tuple[str, ...]:
        """The last lines that this start wrote."""
