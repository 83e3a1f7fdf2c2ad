"""How `mce local up` looks while it waits, and while it stays in the foreground."""

import contextlib
import signal
import sys
import time
from collections.abc import Iterator
from types import FrameType
from typing import Final

from rich.console import Console

from mce_cli import local_status, session
from mce_local import request
from mce_local.client import Action, Begun, Client
from mce_local.errors import LocalError
from mce_local.request import Options
from mce_local.snapshot import Snapshot

_FOLLOW_SECONDS: Final = 0.5
_INTERRUPTED: Final = 130


class Narrator:
    """Prints what changed since the snapshot before: one line per container and change, also in a pipe."""

    def __init__(self, console: Console, names: list[str]) -> None:
        self._console = console
        self._width = max(map(len, names), default=0)
        self._before: dict[tuple[str, str], tuple[str, str]] = {}

    def tell(self, snapshot: Snapshot) -> None:
        """Lines for `snapshot`."""
        for container in snapshot.containers:
            now = (container.id, container.state)
            key = (snapshot.endpoint, container.name)
            if self._before.get(key) == now:
                continue
            self._before[key] = now
            detail = f", {container.message}" if container.message and container.state != "Starting" else ""
            what = (
                f"{container.name:<{self._width}}  {container.state:<9} port {container.port}, id {container.id or '-'}"
            )
            self._console.print(f"  {what}{detail}", soft_wrap=True, markup=False)


def up(options: Options, wait: float | None, *, detach: bool) -> int:
    """Starts or updates, waits, and stays if it is the foreground's."""
    console = local_status.console()
    wanted = request.read(options)
    for note in wanted.notes:
        console.print(f"note: {note}", soft_wrap=True, markup=False)
    client = session.client()
    narrator = Narrator(console, [container.name for one in wanted.wanted for container in one.containers])
    begun: list[Begun] = []
    try:
        with _terminating():
            for one in wanted.wanted:
                begun.append(client.up(one, wait or None, attached=not detach))
                console.print(f"{one.endpoint}: {begun[-1].action}", markup=False)
            if wait != 0:
                _wait(client, begun, console, narrator)
            own = [one for one in begun if one.child is not None]
            if detach or not own:
                return 0
            console.print("Ctrl-C stops.")
            return _follow(client, own, narrator)
    except KeyboardInterrupt:
        _stop(client, begun, console)
        return _INTERRUPTED
    except LocalError as error:
        console.file.flush()
        print(f"error: {error}", file=sys.stderr)
        _stop(client, begun, console)
        return 1


def _wait(client: Client, begun: list[Begun], console: Console, narrator: Narrator) -> None:
    for one in begun:
        # The spinner shows on a terminal only.
        with console.status("waiting for /ping") if one.action is not Action.UNCHANGED else contextlib.nullcontext():
            for snapshot in client.watch(one):
                narrator.tell(snapshot)
        if (settled := client.snapshot(one.endpoint)) is not None:
            console.print(local_status.headline(settled), soft_wrap=True, markup=False)


def _follow(client: Client, own: list[Begun], narrator: Narrator) -> int:
    """Until every endpoint was stopped, by `mce local down` from elsewhere; its exit code then is the first one's."""
    while any(one.child is not None and one.child.poll() is None for one in own):
        for one in own:
            snapshot = client.snapshot(one.endpoint)
            if snapshot is not None:
                narrator.tell(snapshot)
        time.sleep(_FOLLOW_SECONDS)
    return max((abs(one.child.returncode) for one in own if one.child is not None), default=0)


def _stop(client: Client, begun: list[Begun], console: Console) -> None:
    """Only what this command started: an update that was interrupted is the running supervisor's to finish."""
    for one in begun:
        if one.child is not None:
            client.cancel(one)
            console.print(f"{one.endpoint}: stopped", markup=False)


@contextlib.contextmanager
def _terminating() -> Iterator[None]:
    """SIGTERM and SIGHUP end the command as Ctrl-C does."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
