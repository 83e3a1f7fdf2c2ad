"""The folder of one endpoint: what the supervisor says of itself, what it should run, its table, its logs.

    <state home>/mce/<endpoint>/  supervisor.json  wanted.json  table.json  lock
                                  supervisor.log  router.log  logs/<container>.log

Only the owner may read it (variables may be secrets). Files are replaced whole. A process id alone proves nothing: it
is recorded with its start time, and the lock is held by the supervisor as long as it lives.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, TypeVar

import psutil
from pydantic import Field, ValidationError

from mce_api import names
from mce_api.endpoint import Model
from mce_local.wanted import RuntimeKind, Wanted

_SAME_START_SECONDS: Final = 2.0
"""psutil adds ticks since boot to a boot time that the machine's clock corrections move a little."""

M = TypeVar("M", bound=Model)


class Phase(StrEnum):
    """Where an endpoint is, in AWS words."""

    CREATING = "Creating"
    UPDATING = "Updating"
    IN_SERVICE = "InService"
    FAILED = "Failed"
    DELETING = "Deleting"


class Block(Model):
    """Ports that one container holds."""

    port: int
    block: int


class Record(Model):
    """supervisor.json: written by the supervisor alone."""

    endpoint: str
    namespace: str
    mode: str
    runtime: RuntimeKind
    instance: str
    pid: int
    started: float
    """Of the process, as psutil tells it."""
    phase: Phase
    generation: int
    """Of the wanted.json that `phase` and `failure` are about."""
    failure: str = ""
    port: int = 0
    admin_port: int = 0
    status_port: int = 0
    blocks: Mapping[str, Block] = Field(default_factory=dict)

    @property
    def url(self) -> str:
        """Where callers send invocations."""
        return f"http://127.0.0.1:{self.port}/invocations"


class Order(Model):
    """wanted.json: written by the client, read by the supervisor at its start and at SIGHUP."""

    generation: int
    wait_seconds: float | None = None
    """Shortens every startup timeout."""
    wanted: Wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """Paths of one endpoint."""

    root: Path

    @property
    def record(self) -> Path:
        """What the supervisor says."""
        return self.root / "supervisor.json"

    @property
    def order(self) -> Path:
        """What it should run."""
        return self.root / "wanted.json"

    @property
    def table(self) -> Path:
        """The router's table."""
        return self.root / "table.json"

    @property
    def lock(self) -> Path:
        """Held by the supervisor while it lives."""
        return self.root / "lock"

    @property
    def logs(self) -> Path:
        """Folder of the containers' output."""
        return self.root / "logs"

    @property
    def router_log(self) -> Path:
        """Output of the router."""
        return self.root / "router.log"

    @property
    def supervisor_log(self) -> Path:
        """Output of the supervisor."""
        return self.root / "supervisor.log"

    def log(self, container: str) -> Path:
        """Output of a container. By its Kubernetes name: AWS names may differ in case only, file systems may not."""
        (name,) = names.container_names((container,))
        return self.logs / f"{name}.log"

    def make(self) -> None:
        """Creates it, closed to others."""
        self.logs.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.root.chmod(0o700)

    def clear(self) -> None:
        """Everything but the logs goes; they are what one reads afterwards."""
        for path in (self.record, self.order, self.table):
            path.unlink(missing_ok=True)

    def remove(self) -> None:
        """All of it."""
        shutil.rmtree(self.root, ignore_errors=True)


def folder(home: Path, endpoint: str) -> Folder:
    """The folder of `endpoint`."""
    return Folder(root=home / endpoint)


def endpoints(home: Path) -> tuple[str, ...]:
    """Names that have a record, sorted."""
    return tuple(sorted(path.parent.name for path in home.glob("*/supervisor.json")))


def held_by_others(home: Path, endpoint: str) -> frozenset[int]:
    """Ports that other endpoints' living supervisors gave away; who got them may not listen yet."""
    held: set[int] = set()
    for name in endpoints(home):
        record = read(folder(home, name).record, Record)
        if name != endpoint and record is not None and is_alive(record):
            held |= {record.port, record.admin_port}
            held |= {port for block in record.blocks.values() for port in (block.port, block.block)}
    return frozenset(held)


def write(path: Path, model: Model) -> None:
    """Replaces the file whole: a reader sees the old or the new one."""
    replace(path, model.model_dump_json(by_alias=True, indent=2))


def replace(path: Path, text: str) -> None:
    """As `write`, for any text. `mkstemp` makes files that only the owner can read."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    Path(temporary).replace(path)


def read(path: Path, kind: type[M]) -> M | None:
    """The file's content; None if it is not there or not of this kind (an older version's)."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def start_time(pid: int) -> float:
    """When that process began, in psutil's seconds.

    Raises:
        psutil.Error: if it is not there.
    """
    return psutil.Process(pid).create_time()


def is_alive(record: Record) -> bool:
    """Whether the supervisor that wrote `record` runs; false for another process with its number, or a zombie."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(record.pid)
        same = abs(process.create_time() - record.started) < _SAME_START_SECONDS
        return same and process.status() != psutil.STATUS_ZOMBIE
    return False


@contextlib.contextmanager
def locked(path: Path, *, wait: bool) -> Iterator[None]:
    """Holds the lock at `path`; the kernel gives it back when the process ends, however it ends.

    Raises:
        BlockingIOError: if somebody else has it and `wait` is false.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
