"""Where a case is measured: its containers are up, and proxies can be started before them."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import machine, proxies, settings
from bench.cases import Case, Load
from bench.processes import Running, Skipped, free_ports
from bench.proxies import Container, Proxy, Setup


@dataclass(frozen=True, slots=True, kw_only=True)
class Stand:
    """What all ways of measuring share."""

    case: Case
    folder: Path
    containers: tuple[Container, ...]
    backend: Running
    proxy_core: int
    load_core: int

    def prepare(self, proxy: Proxy, *more: Container) -> tuple[Running, int]:
        """A proxy that is ready to be started, before the case's containers and `more`; and its port."""
        listen, admin = free_ports(2)
        case = self.case
        setup = Setup(
            listen=listen,
            admin=admin,
            mode=case.mode,
            containers=(*self.containers, *more),
            folder=self.new_folder(proxy.name),
            request_bytes=case.request_bytes,
            streaming=case.load is Load.CHUNKS,
            options=case.options,
        )
        return Running(proxy.name, proxy.command(setup), core=self.proxy_core, folder=setup.folder), listen

    def new_folder(self, name: str) -> Path:
        """A folder of its own for a process."""
        folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.folder))
        folder.chmod(0o755)  # nginx's worker gives up root
        return folder

    def cpu_of_this_run(self, *running: Running) -> float:
        """CPU seconds of what belongs to this run: `running`, the containers, generators that ended, the harness."""
        times = os.times()
        mine = times.user + times.system + times.children_user + times.children_system
        return mine + sum(each.cpu_seconds() for each in {self.backend, *running})


@contextmanager
def built(case: Case) -> Iterator[Stand]:
    """The stand of `case`, with its containers listening.

    Raises:
        Skipped: if this router lacks what the case is about.
        BenchError: if something does not start.
    """
    if case.options and not proxies.router_has(case.options[0]):
        raise Skipped(f"this router has no {case.options[0]}")
    proxy_core, load_core = machine.cores()
    ports = free_ports(len(case.containers))
    containers = tuple(Container(name=name, port=port) for name, port in zip(case.containers, ports, strict=True))
    with tempfile.TemporaryDirectory(prefix="mce-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # as above
        command = [str(settings.cache() / "gobackend"), case.reply, *map(str, containers)]
        with Running("the backend", command, core=load_core, folder=folder) as backend:
            for container in containers:
                backend.wait_for_port(container.port)
            yield Stand(
                case=case,
                folder=folder,
                containers=containers,
                backend=backend,
                proxy_core=proxy_core,
                load_core=load_core,
            )
