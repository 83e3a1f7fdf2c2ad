"""Which loopback port each container gets: its own block as in a pod, asked for once and kept while it lives."""

import socket
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from mce_api import names
from mce_local.errors import PortTaken

_LAST_BLOCK: Final = 32700
"""Blocks end below the kernel's ephemeral range (32768): a client's socket can never sit in one."""
FIRST_ROUTER_PORT: Final = 8080


@dataclass(frozen=True, slots=True, kw_only=True)
class Assigned:
    """One container's ports: `port` to listen on, `block` the first of its range."""

    port: int
    block: int


def assign(
    containers: Sequence[tuple[str, int | None]],
    kept: Mapping[str, Assigned],
    is_free: Callable[[int], bool],
) -> dict[str, Assigned]:
    """Ports for `containers` (name and explicit port, if it has one).

    Args:
        containers: who needs a port.
        kept: what containers have by now; a container keeps its block, and its port unless the spec names another.
        is_free: whether a port can be had at this moment.

    Raises:
        PortTaken: if an explicit port is somebody else's, or no block is left.
    """
    wanted = {name for name, _ in containers}
    busy = {assigned.block for name, assigned in kept.items() if name in wanted}
    explicit = {port for _, port in containers if port is not None}
    result: dict[str, Assigned] = {}
    for name, port in containers:
        before = kept.get(name)
        block = before.block if before else _free_block(busy | explicit, is_free)
        busy.add(block)
        listen = port if port is not None else block
        if (before is None or before.port != listen) and not is_free(listen):
            raise PortTaken(
                f"container {name}: port {listen} is taken by another process; stop it, or change port in the spec"
            )
        result[name] = Assigned(port=listen, block=block)
    return result


def _free_block(busy: Collection[int], is_free: Callable[[int], bool]) -> int:
    for block in range(names.FIRST_BLOCK_PORT, _LAST_BLOCK, names.BLOCK_SIZE):
        if block not in busy and is_free(block):
            return block
    raise PortTaken(f"no free block of {names.BLOCK_SIZE} ports between {names.FIRST_BLOCK_PORT} and {_LAST_BLOCK}")


def router_port(explicit: int | None, avoid: Collection[int], is_free: Callable[[int], bool]) -> int:
    """The port for callers: the wanted one, else the first free one from 8080 on that no container needs.

    Raises:
        PortTaken: if the wanted one is not free.
    """
    if explicit is not None:
        if explicit in avoid or not is_free(explicit):
            raise PortTaken(f"port {explicit} is taken by another process; give another with --port, or leave it out")
        return explicit
    for port in range(FIRST_ROUTER_PORT, names.FIRST_BLOCK_PORT):
        if port not in avoid and is_free(port):
            return port
    raise PortTaken("no free port for the router; give one with --port")


def is_free(port: int) -> bool:
    """Whether both loopback and all addresses can be bound: a model server may choose either.

    SO_REUSEADDR, as servers set it, so that connections in TIME_WAIT do not count; a listener still does.
    """
    for host in ("127.0.0.1", ""):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                return False
    return True


def any_free() -> int:
    """A port that nobody will guess, for what no caller needs to know by heart."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
