"""A load generator of the soak: many connections that ask, abort, stall and check every reply.

`python -m soak.callers KIND PORT SEED UNTIL CONNECTIONS`; UNTIL is CLOCK_MONOTONIC, which all processes of a machine
share. Each request that did not get its own whole reply is one JSON line on standard output (`judge.Failure`), the
counts are the last line. It judges replies, never causes: what else happened at that time it does not know.
"""

import asyncio
import dataclasses
import json
import random
import signal
import sys
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple, cast

import httptools
import uvloop

from soak import letters
from soak.judge import IN_THE_REPLY, Failure
from soak.letters import Wish

TARGETS: Final = ("a", "b", "c", "d")
LARGEST: Final = 6 * 1024 * 1024
PATIENCE_SECONDS: Final = 45.0
AFTER_FAILURE_SECONDS: Final = 0.02
_SIZES: Final = (0, 1, 200, 5_000, 70_000, 300_000, 1_000_000, LARGEST - letters.HEAD_BYTES - 8)
_WEIGHTS: Final = (8, 8, 24, 24, 12, 4, 2, 1)


@dataclasses.dataclass(slots=True)
class Ask:
    """A request, and what its reply must be."""

    head: bytes
    body: bytes
    wanted: bytes
    target: str
    """Empty in a chain."""
    attributes: bytes = b""
    chunked: bool = False
    until_close: bool = False
    """Whether the container ends its reply with its connection: one that dies looks as if it had ended."""
    refused_with: str = ""
    """The reason with which it must be refused, whatever else happens."""
    began: float = 0.0
    due: bool = True
    """Whether somebody waits for the reply; false once the caller itself broke off."""

    def framed(self) -> bytes:
        """The body as it goes over the wire."""
        if not self.chunked:
            return self.body
        half = len(self.body) // 2 + 1
        pieces = (self.body[:half], self.body[half:])
        return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece) + b"0\r\n\r\n"


class Said(NamedTuple):
    """What a failing reply said."""

    status: int = 0
    reason: str = ""
    detail: str = ""


NOTHING: Final = Said()


class Results:
    """What this process counted."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def ok(self, size: int) -> None:
        self.counts["ok"] += 1
        self.counts["ok_bytes"] += size

    def failed(self, kind: str, ask: Ask, targets: Sequence[str], said: Said = NOTHING) -> None:
        self.counts["failed"] += 1
        failure = Failure(
            kind=kind,
            targets=tuple(targets),
            size=len(ask.body),
            began=ask.began,
            ended=time.monotonic(),
            **said._asdict(),
        )
        sys.stdout.write(json.dumps(dataclasses.asdict(failure)) + "\n")


class Line(asyncio.Protocol):
    """One connection: replies are checked in the order of the requests."""

    transport: asyncio.Transport

    def __init__(self, results: Results) -> None:
        self._results = results
        self._parser = httptools.HttpResponseParser(self)
        self.expected: deque[Ask] = deque()
        self._settled: asyncio.Future[None] | None = None
        self._headers: dict[bytes, bytes] = {}
        self._pieces: list[bytes] = []
        self._in_reply = False
        self.open = True
        self.failures = 0
        self.goes_on = asyncio.Event()
        """Set by `100 Continue`."""
        self.writable = asyncio.Event()
        self.cut_after = 0
        """Bytes of replies after which the caller is gone; 0: stays."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.writable.set()

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def data_received(self, data: bytes) -> None:
        if self.cut_after:
            self.cut_after -= min(len(data), self.cut_after)
            if not self.cut_after:
                self.leave()
                return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            ask = self.expected[0] if self.expected else None
            self._record("wrong", ask, said=Said(detail=f"no HTTP: {error} {data[:80]!r}"))
            self.leave()

    def connection_lost(self, _exc: Exception | None) -> None:
        self.open = False
        due = [ask for ask in self.expected if ask.due]
        targets = tuple({ask.target for ask in due})
        said = Said(detail=IN_THE_REPLY if self._in_reply else "before the reply")
        for ask in due:
            self._record("cut", ask, targets, said)  # requests that wait behind one that broke off go with it
        self.expected.clear()
        self._settle()
        self.writable.set()
        self.goes_on.set()

    def _record(self, kind: str, ask: Ask | None, targets: Sequence[str] = (), said: Said = NOTHING) -> None:
        self.failures += 1
        ask = ask or Ask(b"", b"", b"", "")
        self._results.failed(kind, ask, targets or (ask.target,), said)

    def _settle(self) -> None:
        if self._settled is not None and not self._settled.done():
            self._settled.set_result(None)

    def on_message_begin(self) -> None:
        self._headers = {}
        self._pieces = []
        self._in_reply = True

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value

    def on_body(self, data: bytes) -> None:
        self._pieces.append(data)

    def on_message_complete(self) -> None:
        self._in_reply = False
        status = self._parser.get_status_code()
        if status == 100:
            self.goes_on.set()
            return
        if not self.expected:
            self._record("wrong", None, said=Said(status, detail="a reply that nobody asked for"))
            self.leave()
            return
        ask = self.expected.popleft()
        if ask.due:
            self._check(ask, status, b"".join(self._pieces))
        if not self._parser.should_keep_alive():
            self._results.counts["not_processed"] += len(self.expected)  # it was said: none of these was taken
            for rest in self.expected:
                rest.due = False
            self.leave()
        elif not self.expected:
            self._settle()

    def _check(self, ask: Ask, status: int, data: bytes) -> None:
        reason = self._headers.get(b"x-mce-reason", b"").decode()
        if ask.refused_with:
            if reason == ask.refused_with:
                self._results.counts["refused_rightly"] += 1
                return
            self._record("status" if status != 200 else "wrong", ask, said=Said(status, reason))
        elif status != 200:
            self._record("status", ask, said=Said(status, reason, data[:200].decode("latin-1")))
        else:
            self._check_body(ask, data)

    def _check_body(self, ask: Ask, data: bytes) -> None:
        end = len(data) - len(ask.wanted)
        names = data[: max(0, end)]
        right_names = names == ask.target.encode() + b":" if ask.target else letters.PREFIX.fullmatch(names)
        if ask.until_close and len(data) < len(ask.target) + 1 + len(ask.wanted):
            whole = ask.target.encode() + b":" + ask.wanted
            kind = "short" if whole.startswith(data) else "wrong"
            self._record(kind, ask, said=Said(detail=f"{len(data)} of {len(whole)} bytes"))
            return
        if end < 0 or not right_names or data[end:] != ask.wanted:
            text = f"wanted {len(ask.wanted)} bytes {ask.wanted[:46]!r}, got {len(data)} bytes {data[:60]!r}"
            self._record("wrong", ask, said=Said(detail=text))
            return
        if self._headers.get(b"x-amzn-sagemaker-custom-attributes", b"") != ask.attributes:
            self._record("wrong", ask, said=Said(detail="the attributes of another reply"))
            return
        self._results.ok(len(data))
        if not ask.target and names != b"c:b:a:":
            self._record("chain", ask, said=Said(detail=names.decode()))
            self.failures = 0

    def expect(self, *asks: Ask) -> None:
        """Says what is about to be sent."""
        now = time.monotonic()
        for ask in asks:
            ask.began = now
        self.expected.extend(asks)

    async def settled(self) -> None:
        """Returns when every reply is there or the connection is gone."""
        if self.expected and self.open:
            self._settled = asyncio.get_running_loop().create_future()
            await self._settled

    def leave(self) -> None:
        """Breaks off: nobody here waits for anything any more."""
        for ask in self.expected:
            ask.due = False
        self.open = False
        self.transport.abort()

    async def write(self, data: bytes, step: int = 262_144, pause: float = 0.0) -> None:
        """Sends `data` in steps, no faster than it is taken."""
        for start in range(0, len(data), step):
            await self.writable.wait()
            if not self.open:
                return
            self.transport.write(data[start : start + step])
            if pause:
                await asyncio.sleep(pause)


class Caller:
    """One worker: takes one action after the other, on connections that live as long as they may."""

    THINKS_SECONDS: float = 0.1
    """Mean time between two actions."""

    def __init__(self, port: int, dice: random.Random, results: Results, number: int) -> None:
        self._port = port
        self._dice = dice
        self._results = results
        self._number = number << 40  # ids are unique in a run: kind, worker, sequence
        self._heads: dict[tuple[str, int], bytes] = {}

    # --- requests

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _ask(
        self, target: str, size: int, wish: Wish, *, chunked: bool = False, attributes: bool = False, extra: bytes = b""
    ) -> Ask:
        number = self._next()
        body = letters.body(number, size, wish) if size >= 0 else b""
        said = b"id=%x" % number if attributes else b""
        lines = b"Host: soak\r\nContent-Type: application/octet-stream\r\n" + extra
        if target:
            lines += b"X-Amzn-SageMaker-Target-Container-Hostname: %b\r\n" % target.encode()
        if said:
            lines += b"X-Amzn-SageMaker-Custom-Attributes: %b\r\n" % said
        framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(body)
        head = b"POST /invocations HTTP/1.1\r\n%b%b\r\n\r\n" % (lines, framing)
        return Ask(head, body, letters.wanted(body, number, wish), target, said, chunked, wish.framing == "z")

    def _small(self, target: str) -> Ask:
        """A small request with a head that is sent again and again."""
        number = self._next()
        size = self._dice.choice((0, 30, 200, 1000))
        wish = Wish("e" if size < 500 else "s")
        body = letters.body(number, size, wish)
        head = self._heads.get((target, size))
        if head is None:
            head = self._heads[target, size] = self._ask(target, size, wish).head
        return Ask(head, body, letters.wanted(body, number, wish), target)

    def _any(self, target: str, *, largest: int = LARGEST) -> Ask:
        dice = self._dice
        size = min(dice.choices(_SIZES, _WEIGHTS)[0], largest - letters.HEAD_BYTES - 8)
        kind = dice.choice("eesx" if target else "eex")
        grow = dice.choice((0, 50_000, 800_000)) if target and dice.random() < 0.15 else 0
        framing = dice.choice("llcz" if target else "lc")  # a chain would go on with half of a reply without an end
        wish = Wish("g" if grow else kind, framing, 200 if dice.random() < 0.25 else 0, grow)
        return self._ask(target, size, wish, chunked=dice.random() < 0.4, attributes=dice.random() < 0.5)

    # --- actions of callers that behave

    async def any_one(self, line: Line) -> None:
        ask = self._any(self._target())
        line.expect(ask)
        await self._send(line, ask)
        await line.settled()

    async def pipeline_of_any(self, line: Line) -> None:
        asks = [self._any(self._target(), largest=70_000) for _ in range(self._dice.randint(2, 6))]
        line.expect(*asks)
        data = b"".join([ask.head + ask.framed() for ask in asks])
        await line.write(data, step=self._dice.randint(1000, 100_000))
        await line.settled()

    async def one_shot(self, line: Line) -> None:
        ask = self._ask(self._target(), 300, Wish("e", "c"), extra=b"Connection: close\r\n")
        line.expect(ask)
        await self._send(line, ask)
        await line.settled()

    async def slow_writer(self, line: Line) -> None:
        ask = self._any(self._target(), largest=300_000)
        line.expect(ask)
        data = ask.head + ask.framed()
        await line.write(data, step=len(data) // 20 + 1, pause=self._dice.random() * 0.1)
        await line.settled()

    async def slow_reader(self, line: Line) -> None:
        target = self._target()
        wish = Wish("g", "l", 0, 3_000_000) if target else Wish("e")
        ask = self._ask(target, 100 if target else 1_000_000, wish)
        line.expect(ask)
        await self._send(line, ask)
        for _ in range(8):
            if not line.expected or not line.open:
                break
            line.transport.pause_reading()
            await asyncio.sleep(self._dice.random() * 0.2)
            if line.open:
                line.transport.resume_reading()
            await asyncio.sleep(0.01)
        await line.settled()

    async def asks_before_it_sends(self, line: Line) -> None:
        ask = self._ask(self._target(), 2000, Wish(), extra=b"Expect: 100-continue\r\n")
        line.expect(ask)
        line.goes_on.clear()
        line.transport.write(ask.head)
        settled = asyncio.ensure_future(line.settled())
        goes_on = asyncio.ensure_future(line.goes_on.wait())
        await asyncio.wait((settled, goes_on), return_when=asyncio.FIRST_COMPLETED)
        goes_on.cancel()
        if line.open and line.goes_on.is_set():
            line.transport.write(ask.body)
        await settled

    async def too_large(self, line: Line) -> None:
        ask = self._ask(self._target(), LARGEST, Wish(), chunked=self._dice.random() < 0.5)
        ask.refused_with = "BodyTooLarge"
        line.expect(ask)
        await self._send(line, ask)
        await line.settled()

    async def nobody(self, line: Line) -> None:
        ask = self._ask("nobody", 100, Wish())
        ask.refused_with = "TargetUnknown"
        line.expect(ask)
        await self._send(line, ask)
        await line.settled()

    # --- actions of callers that leave

    async def leaves_in_the_head(self, line: Line) -> None:
        ask = self._any(self._target())
        line.transport.write(ask.head[: self._dice.randrange(1, len(ask.head))])
        await self._leave(line)

    async def leaves_in_the_body(self, line: Line) -> None:
        ask = self._ask(self._target(), 1_000_000, Wish(self._dice.choice("ex")), chunked=self._dice.random() < 0.5)
        ask.due = False
        line.expect(ask)
        framed = ask.framed()
        await line.write(ask.head + framed[: self._dice.randrange(1, len(framed))])
        await self._leave(line)

    async def leaves_after_the_request(self, line: Line) -> None:
        ask = self._any(self._target())
        ask.due = False
        line.expect(ask)
        await self._send(line, ask)
        await self._leave(line)

    async def leaves_in_the_reply(self, line: Line) -> None:
        target = self._target()
        wish = Wish("g", self._dice.choice("lcz"), self._dice.choice((0, 100)), 1_500_000) if target else Wish()
        ask = self._ask(target, 100 if target else 500_000, wish)
        ask.due = False
        line.expect(ask)
        line.cut_after = self._dice.randint(1, 400_000)
        await self._send(line, ask)
        await line.settled()
        await self._leave(line)

    async def shuts_one_side(self, line: Line) -> None:
        ask = self._any(self._target(), largest=5000)
        ask.due = False
        line.expect(ask)
        await self._send(line, ask)
        if line.open:
            line.transport.write_eof()
        await line.settled()
        await self._leave(line)

    async def _leave(self, line: Line) -> None:
        self._results.counts["aborts"] += 1
        await asyncio.sleep(self._dice.choice((0, 0, 0.01, 0.1)))
        if not line.open:
            return
        if self._dice.random() < 0.5:
            line.leave()
        else:
            for ask in line.expected:
                ask.due = False
            line.open = False
            line.transport.close()

    # --- the rest

    def _target(self) -> str:
        return self._dice.choice(TARGETS)

    async def _send(self, line: Line, ask: Ask) -> None:
        line.transport.write(ask.head)
        await line.write(ask.framed(), step=self._dice.choice((4000, 60_000, 1_000_000)))

    def actions(self) -> tuple[list[Callable[[Line], Awaitable[None]]], list[int]]:
        """What this worker does, and how often."""
        rows: list[tuple[Callable[[Line], Awaitable[None]], int]] = [
            (self.any_one, 30),
            (self.pipeline_of_any, 8),
            (self.one_shot, 6),
            (self.slow_writer, 1),
            (self.slow_reader, 2),
            (self.asks_before_it_sends, 4),
            (self.too_large, 1),
            (self.nobody, 2),
            (self.leaves_in_the_head, 4),
            (self.leaves_in_the_body, 4),
            (self.leaves_after_the_request, 6),
            (self.leaves_in_the_reply, 4),
            (self.shuts_one_side, 4),
        ]
        return [action for action, _ in rows], [weight for _, weight in rows]

    async def run(self, until: float) -> None:
        """Acts until `until` (CLOCK_MONOTONIC)."""
        line: Line | None = None
        while time.monotonic() < until:
            if line is None or not line.open or self._dice.random() < 0.01:
                if line is not None and line.open:
                    line.transport.close()
                line = await self._connect()
            if line is not None:
                await self._act(line)
        if line is not None and line.open:
            line.transport.close()

    async def _act(self, line: Line) -> None:
        action = self._dice.choices(*self.actions())[0]
        self._results.counts[action.__name__] += 1
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await action(line)
        except TimeoutError:
            for ask in [ask for ask in line.expected if ask.due]:
                self._results.failed("timeout", ask, (ask.target,), Said(detail=action.__name__))
            line.leave()
        if line.failures:
            line.failures = 0
            await asyncio.sleep(AFTER_FAILURE_SECONDS)
        if self.THINKS_SECONDS:
            await asyncio.sleep(self._dice.expovariate(1 / self.THINKS_SECONDS))

    async def _connect(self) -> Line | None:
        loop = asyncio.get_running_loop()
        began = time.monotonic()
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                _, line = await loop.create_connection(lambda: Line(self._results), "127.0.0.1", self._port)
        except OSError as error:
            self._results.failed("refused", Ask(b"", b"", b"", "", began=began), (), Said(detail=str(error)))
            await asyncio.sleep(AFTER_FAILURE_SECONDS)
            return None
        return line


class Busy(Caller):
    """Small requests as fast as they are answered; made once, since it is the router that shall have the work."""

    THINKS_SECONDS = 0.0
    ROUND: Final = 512
    """So many ids a worker has, more than it ever has under way."""

    def __init__(self, port: int, dice: random.Random, results: Results, number: int) -> None:
        super().__init__(port, dice, results, number)
        self._round = [self._small(dice.choice(TARGETS)) for _ in range(self.ROUND)]
        self._place = 0

    async def pipeline_of_small_ones(self, line: Line) -> None:
        """Up to 16 at once."""
        count = self._dice.choice((1, 1, 2, 4, 8, 16))
        if self._place + count > self.ROUND:
            self._place = 0
        asks = self._round[self._place : self._place + count]
        self._place += count
        for ask in asks:
            ask.due = True
        line.expect(*asks)
        line.transport.write(b"".join([ask.head + ask.body for ask in asks]))
        await line.settled()

    def actions(self) -> tuple[list[Callable[[Line], Awaitable[None]]], list[int]]:
        return [self.pipeline_of_small_ones], [1]


class Chain(Caller):
    """Requests without a target, for all containers in order."""

    LARGEST_HOP: Final = 5 * 1024 * 1024

    def _target(self) -> str:
        return ""

    def _any(self, target: str, *, largest: int = LARGEST_HOP) -> Ask:
        return super()._any(target, largest=min(largest, self.LARGEST_HOP))

    async def too_large_for_a_hop(self, line: Line) -> None:
        """The second container can not be given what the first one says."""
        ask = self._ask("", self.LARGEST_HOP, Wish())
        ask.refused_with = "HopTooLarge"
        line.expect(ask)
        await self._send(line, ask)
        await line.settled()

    def actions(self) -> tuple[list[Callable[[Line], Awaitable[None]]], list[int]]:
        actions, weights = super().actions()
        index = actions.index(self.nobody)  # a chain refuses every target
        actions[index] = self.too_large_for_a_hop
        return actions, weights


KINDS: Final[dict[str, type[Caller]]] = {"busy": Busy, "wild": Caller, "chain": Chain}


async def run(kind: str, port: int, seed: int, until: float, connections: int) -> Counter[str]:
    """All callers of this process; returns the counts."""
    results = Results()
    first = list(KINDS).index(kind) << 16
    callers = [
        KINDS[kind](port, random.Random(f"{seed} {kind} {number}"), results, first + number)
        for number in range(connections)
    ]
    await asyncio.gather(*(caller.run(until) for caller in callers))
    return results.counts


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one who started it ends it
    counts = uvloop.run(run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5])))
    sys.stdout.write(json.dumps({"counts": counts}) + "\n")
