"""Any bytes through the data path without sockets, judged: what the fuzzers and their replay run."""

import asyncio
import zlib
from collections.abc import Iterable
from functools import cache
from typing import Final

from mce_router.metrics import Metrics
from support import judge
from support.rig import Connecting, Rig, Wire

_REQUEST: Final = (
    b"POST /invocations HTTP/1.1\r\nHost: m\r\nContent-Type: text/plain\r\n"
    b"X-Amzn-SageMaker-Target-Container-Hostname: a\r\nContent-Length: 5\r\n\r\nhello"
)


@cache
def _metrics() -> Metrics:
    return Metrics()  # making one costs more than a run


def marked(body: bytes) -> bytes:
    """`body` with its checksum before it: only whole ones pass `is_marked`."""
    return b"%08x %d %b" % (zlib.crc32(body), len(body), body)


def is_marked(body: bytes) -> bool:
    """Whether `body` is one that `marked` made, whole and unchanged."""
    digits, _, rest = body.partition(b" ")
    size, _, content = rest.partition(b" ")
    return digits == b"%08x" % zlib.crc32(content) and size == b"%d" % len(content)


def ok(body: bytes) -> bytes:
    """A container's plain good reply."""
    return b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


def pieces(data: bytes, how: int) -> Iterable[bytes]:
    """`data` as one read, as two, in lines, or byte by byte."""
    if how == 0 or len(data) < 2:
        return [data]
    if how == 1:
        return [data[: len(data) // 2], data[len(data) // 2 :]]
    if how == 2:
        return data.splitlines(keepends=True)
    return [data[at : at + 1] for at in range(len(data))]


class _Containers:
    """Containers that answer every whole request with its own marked body."""

    def __init__(self, rig: Rig, how: int = 0) -> None:
        self._rig = rig
        self._how = how
        self._wires: list[tuple[Wire, int]] = []
        self.forwarded: list[judge.Message] = []

    def take(self, wanted: Connecting | None) -> Wire:
        """The connection that waits for an answer, now in the hands of the test: a new one, or the last used."""
        if wanted is None:
            return self._wires.pop()[0]
        return wanted.accept()

    def give_back(self, wire: Wire) -> None:
        """`wire` serves like the others from now on."""
        self._wires.append((wire, len(judge.canonical(wire.written).whole)))

    async def serve(self) -> None:
        """Until nothing moves."""
        moved = True
        while moved:
            await self._rig.settle()
            moved = False
            for wanted in [one for one in self._rig.connecting if one.is_waiting]:
                self._wires.append((wanted.accept(), 0))
                moved = True
            for at, (wire, answered) in enumerate(self._wires):
                whole = judge.canonical(wire.written).whole
                if len(whole) > answered and not wire.closed:
                    if len(whole) != answered + 1:
                        raise judge.VerdictError("two requests at once on one connection")
                    self._wires[at] = (wire, len(whole))
                    self.forwarded.append(whole[-1])
                    for piece in pieces(ok(marked(whole[-1].body)), self._how):
                        wire.feed(piece)
                        await self._rig.settle()
                    moved = True


def request_bytes(data: bytes) -> None:
    """The law for a caller that sends `data`.

    Its first byte says how the rest is cut (1 and 2), whether a request came before it (4), whether the caller reads
    only after it has sent each piece (8), and how answers are cut (16 and 32).
    """
    if data:
        asyncio.run(_request_bytes(data[0], data[1:]))


async def _request_bytes(control: int, sent: bytes) -> None:
    rig = Rig(metrics=_metrics())
    containers = _Containers(rig, control >> 4 & 3)
    if control & 4:  # heads that were seen take another way
        sent = _REQUEST + sent
    wire = rig.caller()
    for piece in pieces(sent[len(_REQUEST) :], control & 3) if control & 4 else pieces(sent, control & 3):
        if control & 4 and not wire.written:
            wire.feed(_REQUEST)
            await containers.serve()
        await _say(wire, piece, containers, stalls=bool(control & 8))
    if wire.aborted and not wire.written:
        raise judge.VerdictError("aborted without an answer")
    judge.caller_side(sent, wire.written, containers.forwarded, closed=wire.closed or wire.finished)


async def _say(wire: Wire, piece: bytes, containers: _Containers, *, stalls: bool) -> None:
    assert wire.protocol
    if stalls and not wire.closed:
        wire.protocol.pause_writing()
    wire.feed(piece)
    await containers.serve()
    if stalls and not wire.closed:
        wire.protocol.resume_writing()
        await containers.serve()


def reply_bytes(data: bytes) -> None:
    """The law for a container that says `data`: its first byte says how the rest is cut and whether a close follows."""
    if data:
        asyncio.run(_reply_bytes(data[0], data[1:]))


async def _reply_bytes(control: int, said: bytes) -> None:
    rig = Rig(metrics=_metrics())
    containers = _Containers(rig)
    closes = bool(control & 4)
    one = rig.caller()
    if control & 8:  # a connection that was used before, with a reply whose head is known
        one.feed(_REQUEST)
        await containers.serve()
    before = len(one.written)
    one.feed(_REQUEST)
    await rig.settle()
    wire = containers.take(rig.pending("a"))
    await rig.settle()
    if judge.canonical(wire.written).end != "clean":
        raise judge.VerdictError("the request did not reach its container")
    for piece in pieces(said, control & 3):
        wire.feed(piece)
        await rig.settle()
    if closes:
        wire.leave()
        await rig.settle()
    if not one.closed and not judge.replies(one.written[before:], closed=False).whole:
        rig.now += 1000  # nothing more comes: its time is up
        rig.tick()
        await rig.settle()
    closed = one.closed or one.finished
    judge.container_side(said, one.written[before:], container_closed=closes, closed=closed)
    containers.give_back(wire)
    following = rig.caller()
    following.feed(_REQUEST)
    await containers.serve()
    (answer,) = judge.replies(following.written, closed=following.closed).whole
    if not is_marked(answer.body):
        raise judge.VerdictError(f"the next request did not get its own answer: {answer}")
