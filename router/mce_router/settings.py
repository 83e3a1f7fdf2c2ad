"""What a router process is told at start. Built once in `__main__`, frozen, passed down."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

_MOST_WORKERS: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where to listen."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Command-line settings; every wait and every size has its line."""

    table: Path
    """Route table file, watched for changes."""
    listen: Address
    """Data port."""
    admin: Address
    """Health, targets, metrics, drain."""
    workers: int = 1
    """Processes that share the data port. 1: this process alone; more: one supervisor beside them."""
    drain_seconds: float = 5.0
    """How long the router keeps serving after it was told to stop, so that every proxy learns that the pod leaves.
    kube-proxy needs up to 1 s on one node (measured); 5 s leaves room for many nodes."""
    grace_seconds: float = 60.0
    """How long requests in flight may go on after the drain."""
    connect_timeout_seconds: float = 1.0
    """A container on loopback accepts at once (SageMaker: within 250 ms) or not at all."""
    header_timeout_seconds: float = 10.0
    """A caller must have sent its whole head by then."""
    body_idle_seconds: float = 30.0
    """Longest silence within a request body."""
    idle_timeout_seconds: float = 75.0
    """An idle keep-alive connection of a caller is closed after this."""
    upstream_idle_seconds: float = 4.0
    """An idle connection to a container is closed after this: before the container does it (5 s is a common default),
    so
    that no request is sent into a connection that is being closed."""
    max_header_bytes: int = 32768
    """Largest request head."""
    max_connections: int = 4096
    """Connections of callers at once; one more is answered 503. Idle ones cost about 9 kB each."""
    max_buffered_bytes: int = 134217728
    """What all requests together may hold of bodies (hops of chains, chunked bodies, what a peer does not take)."""
    queue_length: int = 16
    """How many requests wait for a place at a container whose maxConcurrency is reached."""
    queue_seconds: float = 1.0
    """How long one waits."""
    reply_idle_seconds: float = 60.0
    """Longest silence within an answer that goes to the caller."""
    stream_seconds: float = 480.0
    """Longest time from the first to the last byte of an answer (SageMaker's streams: 8 minutes)."""
    access_log: Literal["off", "errors", "all"] = "errors"
    """Which requests get a line on standard output."""
    table_poll_seconds: float = 1.0
    """How often the route table file is looked at."""
    log_level: str = "info"


_NUMBERS: Final = {
    "drain_seconds": "how long to serve on after being told to stop",
    "grace_seconds": "how long requests in flight may go on after that",
    "header_timeout_seconds": "a caller's whole head",
    "body_idle_seconds": "longest silence within a request body",
    "idle_timeout_seconds": "an idle connection of a caller is closed after this",
    "upstream_idle_seconds": "an idle connection to a container is closed after this",
    "connect_timeout_seconds": "to connect to a container",
    "reply_idle_seconds": "longest silence within an answer",
    "stream_seconds": "from the first to the last byte of an answer",
    "max_header_bytes": "largest request head",
    "max_connections": "callers' connections at once",
    "max_buffered_bytes": "bodies held by all requests together",
    "queue_length": "requests that wait for a container at its maxConcurrency",
    "queue_seconds": "how long one waits",
}
"""Options that are a number each; names are those of `Settings`."""
_MAY_BE_ZERO: Final = frozenset({"drain_seconds", "grace_seconds", "queue_length", "queue_seconds"})
_LONGEST_SECONDS: Final = 86400
_LARGEST: Final = 2**40
"""Of what is counted: bytes, connections, requests."""


def _address(text: str) -> Address:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:  # noqa: PLR2004 - the largest port
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT, for example 127.0.0.1:8080")
    return Address(host=host.strip("[]") or "0.0.0.0", port=int(port))  # noqa: S104 - ":8080" means every interface


def _workers(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _MOST_WORKERS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {_MOST_WORKERS}")
    return int(text)


def _number(option: str) -> Callable[[str], float]:
    """Reads the value of `option`: whole where its default is, neither negative nor endless; argparse names it."""
    whole = type(Settings.__dataclass_fields__[option].default) is int
    least, most = (0 if option in _MAY_BE_ZERO else 1), _LARGEST
    if whole:
        rule = f"a whole number from {least} to {most}"
    else:
        most = _LONGEST_SECONDS
        rule = f"a number of seconds {'from 0 to' if not least else 'above 0, at most'} {most}"

    def read(text: str) -> float:
        try:
            value = int(text) if whole else float(text)
        except ValueError:
            value = -1
        # Neither holds of NaN.
        if not (0 <= value <= most and (value or not least)):
            raise argparse.ArgumentTypeError(f"{text!r} is not {rule}")
        return value

    return read


def parse(arguments: Sequence[str]) -> Settings:
    """Settings from the command line; exits with status 2 and a message when they are wrong."""
    parser = argparse.ArgumentParser(
        prog="mce_router", description="Routes invocations to the containers of one endpoint."
    )
    parser.add_argument("--table", type=Path, required=True, help="route table file (JSON), reloaded when it changes")
    parser.add_argument("--listen", type=_address, required=True, metavar="HOST:PORT", help="data port")
    parser.add_argument("--admin", type=_address, required=True, metavar="HOST:PORT", help="health, metrics, drain")
    parser.add_argument(
        "--workers", type=_workers, default=1, metavar="N", help="processes that share the data port (default 1)"
    )
    for option, what in _NUMBERS.items():
        default = Settings.__dataclass_fields__[option].default
        flag = f"--{option.replace('_', '-')}"
        text = f"{what} (default {default})"
        parser.add_argument(flag, type=_number(option), default=default, metavar="N", help=text)
    parser.add_argument(
        "--access-log",
        default="errors",
        choices=["off", "errors", "all"],
        help="requests that get a line on standard output (default errors)",
    )
    parser.add_argument(
        "--log-level",
        default="info",
        choices=["debug", "info", "warning", "error"],
        help="of the lines on standard error (default info)",
    )
    given = parser.parse_args(arguments)
    return Settings(**vars(given))
