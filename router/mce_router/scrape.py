"""Asks every container for its /metrics at once and makes one page of the answers; lets no container delay or break it.

All runs on the router's loop, in turns so short that requests hardly notice; a thread would hold the interpreter for
5 ms at a time. Which lines are shown is decided in `pages`.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

import httptools

from mce_api.errors import ModelFailure
from mce_api.routes import RouteTable, Target
from mce_kit import tasks
from mce_router import pages, reply
from mce_router.invocation import UNTIL_CLOSE, Headers, ReplyHead
from mce_router.pages import Page, UnreadablePage

ANSWER_SECONDS: Final = 2.0
"""For one container from connecting to the last byte of its answer, all of them at once."""
READING_SECONDS: Final = 3.0
"""For reading all answers, the smallest first. Together well below the 10 s that Prometheus waits if not told
otherwise."""
MAX_PAGE_BYTES: Final = 1 << 20
"""As sent, head and framing included."""
MAX_PAGE_LINES: Final = 10_000
MAX_SERIES: Final = 2_000
"""Per container."""
_TURN_SECONDS: Final = 0.0005
_PIECE_BYTES: Final = 16384
_MAX_HEAD_BYTES: Final = 2 * _PIECE_BYTES
"""With all interim heads, and what came in one piece with it; a head's own limit is checked when it is whole."""
_OK: Final = 200

_log: Final = logging.getLogger(__name__)


class _NoPage(Exception):  # noqa: N818 - names the thing that is wrong
    """A container gave no page that can be shown; the message says why and holds nothing of its answer."""


class _Answered(NamedTuple):
    """What a container sent."""

    body: bytes
    cause: str
    """Why there is no body; empty if there is one."""
    seconds: float


class _Scrape(NamedTuple):
    """What came of asking one container."""

    container: str
    page: Page
    cause: str
    """Why there is no page; empty if there is one."""
    seconds: float


class Scraper:
    """Makes the page of all containers."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._turn = asyncio.Lock()
        self._running: asyncio.Task[bytes] | None = None
        self._causes: dict[str, str] = {}
        """Why a container's page was not shown the last time, by name."""

    async def page(self, table: RouteTable) -> bytes:
        """The series of the containers of `table` and how asking each of them went, in text format 0.0.4.

        Whoever asks while a page is being made gets that one: many callers are no more load for a container than one.
        """
        if self._running is None or self._running.done():
            self._running = tasks.spawn(self._make(table), name="scrape containers")
        return await asyncio.shield(self._running)

    def close(self) -> None:
        """Stops asking."""
        if self._running is not None:
            self._running.cancel()

    async def _make(self, table: RouteTable) -> bytes:
        answers = await asyncio.gather(*(self._ask(target) for target in table.targets))
        scrapes = await self._read_all(table, answers)
        self._complain(scrapes)
        body = bytearray(_report(table, scrapes).encode())
        texts = pages.merged([scrape.page for scrape in scrapes])
        while True:
            async with self._a_turn() as over:
                for text in texts:
                    body += text.encode()
                    if self._clock() > over:
                        break
                else:
                    return bytes(body)

    async def _read_all(self, table: RouteTable, answers: list[_Answered]) -> list[_Scrape]:
        """In the order of the table. Read one after the other, so that on a busy machine at least some are in time."""
        deadline = self._clock() + READING_SECONDS
        scrapes: dict[str, _Scrape] = {}
        for target, answer in sorted(zip(table.targets, answers, strict=True), key=lambda pair: len(pair[1].body)):
            started = self._clock()
            page, cause = Page(_labels(table, target.name), MAX_SERIES), answer.cause
            if not cause:
                try:
                    await self._read(answer.body, page, deadline)
                except (_NoPage, UnreadablePage) as error:
                    page, cause = Page({}, 0), str(error)
            seconds = answer.seconds + self._clock() - started
            scrapes[target.name] = _Scrape(target.name, page, cause, seconds)
        return [scrapes[target.name] for target in table.targets]

    async def _read(self, body: bytes, page: Page, deadline: float) -> None:
        if body.count(b"\n") > MAX_PAGE_LINES:
            raise _NoPage(f"more than {MAX_PAGE_LINES} lines")
        try:
            lines = _lines(body.decode())
        except UnicodeDecodeError:
            raise _NoPage("not UTF-8") from None
        while True:
            async with self._a_turn() as over:
                for line in lines:
                    page.add(line)
                    if self._clock() > over:
                        break
                else:
                    return
            if self._clock() > deadline:
                raise _NoPage(f"all answers together not read within {READING_SECONDS:g} s")

    def _complain(self, scrapes: list[_Scrape]) -> None:
        """Logs a cause once, until it changes."""
        causes = {scrape.container: scrape.cause for scrape in scrapes if scrape.cause}
        for name, cause in causes.items():
            if self._causes.get(name) != cause:
                _log.warning("metrics of a container not shown", extra={"container": name, "cause": cause})
        self._causes = causes

    async def _ask(self, target: Target) -> _Answered:
        body, cause = b"", ""
        started = self._clock()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                body = await self._get(target)
        except TimeoutError:
            cause = f"no whole answer within {ANSWER_SECONDS:g} s"
        except _NoPage as error:
            cause = str(error)
        except (OSError, ValueError) as error:  # the second: a host name that is none
            cause = f"connection failed: {type(error).__name__}"
        return _Answered(body, cause, self._clock() - started)

    async def _get(self, target: Target) -> bytes:
        """GET /metrics on a connection of its own; no redirect is followed, no compression asked for."""
        answer = _Answer(target.name)
        received = 0
        reader, writer = await asyncio.open_connection(target.host, target.port, limit=_PIECE_BYTES)
        try:
            writer.write(
                f"GET /metrics HTTP/1.1\r\nhost: {target.host}:{target.port}\r\n"
                "accept: text/plain;version=0.0.4\r\nconnection: close\r\n\r\n".encode()
            )
            while not answer.complete:
                piece = await reader.read(_PIECE_BYTES)
                if not piece:
                    answer.end()
                    break
                received += len(piece)
                if received > MAX_PAGE_BYTES:
                    raise _NoPage(f"larger than {MAX_PAGE_BYTES} bytes")
                async with self._a_turn():
                    answer.feed(piece)
                if received > _MAX_HEAD_BYTES and not answer.has_head:
                    raise _NoPage("no answer within its headers")
        finally:
            writer.transport.abort()
        return bytes(answer.body)

    @asynccontextmanager
    async def _a_turn(self) -> AsyncIterator[float]:
        """Waits until everybody else on the loop had their turn; gives the time at which this one is over."""
        async with self._turn:
            await asyncio.sleep(0)
            yield self._clock() + _TURN_SECONDS


class _Answer:
    """The answer of one container, judged as the answer to an invocation is."""

    def __init__(self, container: str) -> None:
        self._container = container
        self._parser = httptools.HttpResponseParser(self)
        self._headers: Headers = []
        self._head: ReplyHead | None = None
        self._refused = ""
        self.body = bytearray()
        self.complete = False

    @property
    def has_head(self) -> bool:
        """Whether the body is what is awaited."""
        return self._head is not None

    def feed(self, data: bytes) -> None:
        """More bytes of the connection.

        Raises:
            _NoPage: if they are no whole, successful answer or can not become one.
        """
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserUpgrade, httptools.HttpParserError):
            if not (self.complete or self._refused):
                raise _NoPage("not HTTP/1.1") from None
        if self._refused:
            raise _NoPage(self._refused)

    def end(self) -> None:
        """The connection was closed."""
        if self._head is None or self._head.length != UNTIL_CLOSE:
            raise _NoPage("connection broke off")

    # --- what the parser says

    def on_message_begin(self) -> None:
        """The head of an answer, interim or real."""
        self._headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """A line of a head, or of what follows the body."""
        if self._head is None:
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """A head is whole."""
        status = self._parser.get_status_code()
        if self._head is not None or reply.is_interim(status):
            return
        head = reply.head(self._container, status, self._parser.get_http_version(), self._headers)
        if status != _OK:
            self._refused = f"answered {status}, not 200"
        elif isinstance(head, ModelFailure):
            self._refused = "ambiguous or too large headers"
        else:
            self._head = head

    def on_body(self, data: bytes) -> None:
        """More of a body."""
        if not self.complete:
            self.body += data

    def on_message_complete(self) -> None:
        """An answer is whole."""
        self.complete = self._head is not None


def _lines(text: str) -> Iterator[str]:
    """One at a time: many at once take long to be freed."""
    start = 0
    while (end := text.find("\n", start)) >= 0:
        yield text[start:end]
        start = end + 1
    yield text[start:]


def _labels(table: RouteTable, container: str) -> dict[str, str]:
    return {
        "namespace": table.namespace,
        "endpoint": table.endpoint,
        "variant": table.variant,
        "container": container,
    }


def _report(table: RouteTable, scrapes: list[_Scrape]) -> str:
    ours = [_labels(table, scrape.container) for scrape in scrapes]
    return "".join(
        pages.gauge(name, text, zip(ours, values, strict=True))
        for name, text, values in (
            (
                "mce_container_scrape_success",
                "Whether the container's own metrics are on this page (1) or not (0).",
                [float(not scrape.cause) for scrape in scrapes],
            ),
            (
                "mce_container_scrape_seconds",
                "Time it took to ask the container and to read its answer.",
                [scrape.seconds for scrape in scrapes],
            ),
            (
                "mce_container_scrape_series",
                "Series of the container on this page.",
                [float(scrape.page.series) for scrape in scrapes],
            ),
            (
                "mce_container_scrape_dropped_series",
                "Series of the container that are not on this page: too many, invalid, twice, or called as ours are.",
                [float(scrape.page.dropped) for scrape in scrapes],
            ),
        )
    )
