"""What a request of the soak says and what its reply must be: every body carries an id and a checksum.

A body is a head of fixed size and a payload cut from one random block at a place that its id names, so that parts of
two bodies never look alike. Containers check what they get, callers what they get back; both do it with this room.
"""

import random
import re
import zlib
from dataclasses import dataclass
from typing import Final, NamedTuple

BLOCK: Final = random.Random(20240229).randbytes(10 << 20)
_PLACES: Final = 3 << 20
HEAD_BYTES: Final = 45
_HEAD: Final = re.compile(rb"#([0-9a-f]{16}) ([0-9a-f]{8}) ([esgx])([lcz]) (\d{5}) (\d{8})\n")
PREFIX: Final = re.compile(rb"(?:[a-z]:)*")
"""What containers put before a body: the name of each, the last one first."""


class Wish(NamedTuple):
    """What the container shall answer with."""

    kind: str = "e"
    """e: the body; s: its head only; g: its head and `grow` bytes; x: the body, while it still comes in."""
    framing: str = "l"
    """l: a length; c: chunks; z: until the connection closes."""
    delay_ms: int = 0
    """How long the answer takes from its first byte to its last."""
    grow: int = 0


@dataclass(frozen=True, slots=True)
class Letter:
    """The head of a body, parsed."""

    id: int
    checksum: int
    wish: Wish


def payload(number: int, size: int) -> bytes:
    """`size` bytes that belong to the id `number`."""
    start = number * 7919 % _PLACES
    return BLOCK[start : start + size]


def body(number: int, size: int, wish: Wish) -> bytes:
    """A body of `HEAD_BYTES` and `size` bytes."""
    content = payload(number, size)
    head = b"#%016x %08x %b %05d %08d\n" % (
        number,
        zlib.crc32(content),
        (wish.kind + wish.framing).encode(),
        wish.delay_ms,
        wish.grow,
    )
    return head + content


def parse(data: bytes) -> tuple[int, Letter] | None:
    """Where the head begins in `data`, and the head; None if there is none."""
    match = _HEAD.match(data, start := data.find(b"#"))
    if start < 0 or match is None:
        return None
    kind = match[3].decode()
    wish = Wish(kind, match[4].decode(), int(match[5]), int(match[6]))
    return start, Letter(int(match[1], 16), int(match[2], 16), wish)


def is_whole(data: bytes) -> bool:
    """Whether `data` is an empty body, or one whose payload has the checksum that its head says."""
    rest = data[PREFIX.match(data).end() :]  # type: ignore[union-attr] # it matches the empty string
    if not rest:
        return True
    found = parse(rest)
    return found is not None and found[0] == 0 and zlib.crc32(memoryview(rest)[HEAD_BYTES:]) == found[1].checksum


def wanted(sent: bytes, number: int, wish: Wish) -> bytes:
    """The reply to the body `sent`, without the names before it."""
    if wish.kind == "s":
        return sent[:HEAD_BYTES]
    if wish.kind == "g":
        return sent[:HEAD_BYTES] + payload(number, wish.grow)
    return sent
