"""The values that rooms hand to one another: what a request asks for, what a container answered. All immutable.

Named tuples, not dataclasses: a few are made for each request, and they cost a third of a frozen dataclass to make.
"""

from enum import Enum
from typing import NamedTuple

CHUNKED = -1
"""Length of a body that comes in chunks."""
UNTIL_CLOSE = -2
"""Length of a reply that ends with its connection."""

Headers = list[tuple[bytes, bytes]]
"""Name (lower-case) and value of each header line, in order."""


class Kind(Enum):
    """What a legal request is."""

    INVOKE = "invoke"
    STREAM = "stream"
    """An invocation whose answer comes in AWS event-stream frames."""
    PING = "ping"


class RequestHead(NamedTuple):
    """A request head as the HTTP parser saw it, nothing judged yet."""

    method: bytes
    url: bytes
    version: str
    headers: tuple[tuple[bytes, bytes], ...]
    """Those that matter (`parse.RELEVANT`), in order."""
    upgrade: bool


class Invocation(NamedTuple):
    """One legal request."""

    kind: Kind
    endpoint: str
    """Name from the path; empty: the path has none."""
    target: str
    """Validated target hostname; empty: none given."""
    forwarded: bytes
    """Header lines for a single container, each ended by CRLF: the canonical form, never the bytes received."""
    accept: bytes
    content_type: bytes
    passed: bytes
    """Header lines for every container of a chain (custom attributes, ids)."""
    traceparent: bytes
    """W3C trace context of the caller; empty: none, or none that is legal."""
    tracestate: bytes
    wants_timing: bool
    """Whether the answer should say how long each step took."""
    length: int
    """Bytes of body, or `CHUNKED`."""
    keep_alive: bool
    expects_continue: bool
    http_1_0: bool


class ReplyHead(NamedTuple):
    """A container's reply head, judged."""

    status: int
    content_type: bytes
    passed: bytes
    """Header lines that go on to the caller."""
    length: int
    """Bytes of body, `CHUNKED` or `UNTIL_CLOSE`."""
    unframed: bytes
    """Header lines for the caller without the one that says where the body ends."""
    lines: bytes
    """The same with it; what is not of known length goes in chunks."""
