"""How `mce local status` looks: a table for people, the supervisors' own JSON for programs."""

import json
import sys

from rich.console import Console
from rich.table import Table

from mce_cli import session
from mce_local.snapshot import ContainerSnapshot, Snapshot

_WIDTH = 120
_COLUMNS = ("CONTAINER", "STATE", "PID/ID", "PORT", "RESTARTS", "INVOCATIONS", "ERRORS", "CPU %", "MEMORY", "LIMIT")


def console() -> Console:
    """Without colours of its own making; a narrow terminal wraps lines, but no figure is ever cut."""
    return Console(highlight=False, width=max(Console().width, _WIDTH))


def status(name: str, *, is_json: bool) -> int:
    """Prints; exit code 1 if `name` is not there."""
    client = session.client()
    names = (name,) if name else client.endpoints()
    snapshots = [snapshot for each in names if (snapshot := client.snapshot(each)) is not None]
    if is_json:
        print(json.dumps([snapshot.model_dump(mode="json", by_alias=True) for snapshot in snapshots], indent=2))
    else:
        for snapshot in snapshots:
            show(console(), snapshot)
    if name and not snapshots:
        known = ", ".join(client.endpoints()) or "none"
        print(f"error: no local endpoint {name} (running: {known})", file=sys.stderr)
        return 1
    if not snapshots and not is_json:
        print("nothing runs; start an endpoint with: mce local up -f FILE")
    return 0


def headline(snapshot: Snapshot) -> str:
    """What it is and where callers reach it."""
    return f"{snapshot.endpoint}: {snapshot.phase}, {snapshot.mode}, {snapshot.runtime}, {snapshot.url}"


def show(out: Console, snapshot: Snapshot) -> None:
    """One endpoint: a line, and a table of its containers."""
    out.print(headline(snapshot), soft_wrap=True, markup=False)
    if snapshot.failure:
        out.print(f"  {snapshot.failure}", soft_wrap=True, markup=False)
    if not snapshot.containers:
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for position, column in enumerate(_COLUMNS):
        # Figures stand right, so that their digits can be compared.
        table.add_column(column, justify="right" if position > 2 else "left", no_wrap=True)  # noqa: PLR2004
    for container in snapshot.containers:
        table.add_row(*_row(container))
    out.print(table)
    for container in snapshot.containers:
        if container.message:
            out.print(f"  {container.name}: {container.message}", soft_wrap=True, markup=False)


def _row(container: ContainerSnapshot) -> tuple[str, ...]:
    return (
        container.name,
        container.state,
        container.id or "-",
        str(container.port),
        str(container.restarts),
        str(container.invocations),
        str(container.errors),
        "-" if container.cpu_percent is None else f"{container.cpu_percent:.1f}",
        _mebibytes(container.memory_bytes),
        _mebibytes(container.memory_limit_bytes),
    )


def _mebibytes(count: int | None) -> str:
    return "-" if count is None else f"{count / 1024**2:.0f} MiB"
