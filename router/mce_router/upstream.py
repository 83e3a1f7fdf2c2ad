"""Connections to one container: opened, kept for a while, given out one exchange at a time.

The bytes of a container are judged here: what is not one whole, solicited, unambiguous reply closes the connection,
and the exchange hears of it exactly once. A request is never sent twice: a connection that dies after the first byte
was written may have been processed.
"""

import asyncio
import select
import socket
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol, cast

import httptools

from mce_api import errors
from mce_api.errors import ModelFailure
from mce_api.routes import Target
from mce_kit import tasks
from mce_router import headers, reply
from mce_router.invocation import UNTIL_CLOSE, Headers, ReplyHead
from mce_router.listener import Guard, Impostor

_START: Final = b"HTTP/1."
_STATUS_AT: Final = len("HTTP/1.1 ")
MOST_KNOWN_HEADS: Final = 64
_STANDSTILL_SECONDS: Final = 0.25
"""A timer that comes so late says that this process did not run, and nothing about the container."""
_RECEIVE_BYTES: Final = 65536
"""What the kernel holds for us of a container. With its own choice (megabytes) one that floods is read 32 times in a
row before anybody else has a turn; on loopback a small buffer is also the cheaper one, as it stays in the cache."""
HIGH_WATER_BYTES: Final = 131072
"""Bytes written and not yet taken by the peer before the other side is paused."""
_SILENT_BYTES: Final = 2 * HIGH_WATER_BYTES
"""Bytes (heads, chunk framing, trailers) that a container may send without one of a body; more than one read."""


class Receiver(Protocol):
    """Who hears what a container says: one exchange."""

    def connected(self, upstream: "Upstream") -> None:
        """A connection is there; only after `Pool.acquire` returned none."""

    def reply_whole(self, head: ReplyHead, body: bytes) -> None:
        """The whole reply at once; then nothing else."""

    def reply_head(self, head: ReplyHead) -> None:
        """The reply begins."""

    def reply_body(self, data: bytes) -> None:
        """More of the reply."""

    def reply_end(self) -> None:
        """The reply was whole."""

    def reply_failed(self, failure: ModelFailure) -> None:
        """There will be no (more) reply; the connection is gone."""

    def pause_request(self) -> None:
        """The container takes no more for now."""

    def resume_request(self) -> None:
        """The container takes more again."""

    def flush_reply(self) -> None:
        """What was said since the last flush may go out."""


class Upstream(asyncio.Protocol):
    """One connection to a container."""

    __slots__ = (
        "_close_after",
        "_complete",
        "_fresh",
        "_full",
        "_head",
        "_headers",
        "_held",
        "_interims",
        "_may_be_interim",
        "_out",
        "_parser",
        "_poll",
        "_pool",
        "_silent_bytes",
        "_start_left",
        "_unsolicited",
        "idle_since",
        "receiver",
        "transport",
    )

    transport: asyncio.Transport

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool
        self._parser = httptools.HttpResponseParser(self)
        self._headers: Headers = []
        self._head: ReplyHead | ModelFailure | None = None
        self._complete = False
        self._fresh = True
        self._start_left = b""
        self._interims = 0
        self._may_be_interim = False
        self._unsolicited = False
        self._close_after = False
        self._full = False
        self._held = False
        self._silent_bytes = 0
        self._out: list[bytes] = []
        self.receiver: Receiver | None = None
        self.idle_since = 0.0

    # --- what an exchange does

    def begin(self, receiver: Receiver, pieces: list[bytes]) -> None:
        """Starts a request; `pieces` are its whole head and what there is of its body."""
        self.receiver = receiver
        self._head = None
        self._complete = False
        self._fresh = True
        self._start_left = _START
        self._silent_bytes = 0
        self._out = pieces

    def write(self, data: bytes) -> None:
        """More of the request; goes out with the next flush."""
        self._out.append(data)

    def flush(self) -> None:
        """Sends what was written, as one piece."""
        if self._out and not self.transport.is_closing():
            self.transport.write(self._out[0] if len(self._out) == 1 else b"".join(self._out))
        self._out.clear()

    def is_readable(self) -> bool:
        """Whether the kernel has something for us that we have not read yet.

        Between two requests that is an end, or what nobody asked for: it must not become the next request's answer.
        """
        return bool(self._poll.poll(0))

    def pause(self) -> None:
        """Stops reading: the caller takes no more for now."""
        self._held = True
        if not self.transport.is_closing():
            self.transport.pause_reading()

    def resume(self) -> None:
        """Reads again."""
        self._held = False
        if not self.transport.is_closing():
            self.transport.resume_reading()

    def release(self, *, reusable: bool) -> None:
        """The exchange is over; with `reusable` its request was sent whole."""
        self.receiver = None
        if self._held:
            self.resume()
        if reusable and self._complete and not (self._close_after or self._unsolicited or self._full):
            self._pool.give_back(self)
        else:
            self.transport.abort()

    # --- what asyncio says

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # TCP gives no other; uvloop's is no subclass
        self.transport.set_write_buffer_limits(HIGH_WATER_BYTES)
        own = transport.get_extra_info("socket")
        own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)
        self._poll = select.poll()
        self._poll.register(own.fileno(), select.POLLIN)

    def data_received(self, data: bytes) -> None:
        receiver = self.receiver
        if receiver is None:
            self.transport.abort()  # nobody asked: never let it meet the next request
            return
        fresh, self._fresh = self._fresh, False
        if fresh:
            self._may_be_interim = data[_STATUS_AT : _STATUS_AT + 1] in {b"1", b""}
        if fresh and self._replay(receiver, data):
            return
        fault = self._feed_slowly(data) if self._may_be_interim else self._begin(data)
        if fault is not None:
            self._fail(fault)
            return
        if self._complete:
            if fresh:
                self._remember(data)
            receiver.reply_end()
        receiver.flush_reply()

    def _starts_right(self, data: bytes) -> bool:
        """Whether the reply begins as one does. The parser would let other protocols and empty lines pass."""
        size = min(len(data), len(self._start_left))
        right = data[:size] == self._start_left[:size]
        self._start_left = self._start_left[size:]
        return right

    def _feed_slowly(self, data: bytes) -> ModelFailure | None:
        """Byte by byte until the real head is over: what follows an interim one has to begin as a reply does, too."""
        for at in range(len(data)):
            seen = self._interims
            if fault := self._begin(data[at : at + 1]):
                return fault
            if self._head is not None:
                self._may_be_interim = False
                return self._feed(data[at + 1 :])
            if self._interims != seen:
                self._start_left = _START
        return None

    def _begin(self, data: bytes) -> ModelFailure | None:
        """`_feed` of what may be the first bytes of a head."""
        if self._start_left and not self._starts_right(data):
            return errors.model_bad_reply(self._pool.target.name, "it does not begin with HTTP/1.")
        return self._feed(data)

    def _feed(self, data: bytes) -> ModelFailure | None:
        """Has the parser read `data`; what is wrong with the reply as far as it came."""
        name = self._pool.target.name
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            return errors.model_bad_reply(name, "it wants to switch protocols")
        except httptools.HttpParserError as error:
            if not self._complete:
                return errors.model_bad_reply(name, str(error).lower())
            self._unsolicited = True  # the reply was whole; what follows it was not asked for
        if isinstance(self._head, ModelFailure):
            return self._head
        if not self._complete:
            self._silent_bytes += len(data)
            if self._silent_bytes > _SILENT_BYTES:
                return errors.model_headers_too_large(name)
        return None

    def _remember(self, data: bytes) -> None:
        """Keeps the head of a reply that `data` held from its first byte to its last.

        Servers send the same head again and again (for a second, where it has a date); with equal bytes at the same
        place in the stream (after a request) the parser would say the same again, so it need not be asked.
        """
        head = self._head
        if isinstance(head, ReplyHead) and head.length >= 0 and not self._close_after and not self._unsolicited:
            size = data.find(b"\r\n\r\n") + 4
            if size > 3 and size + head.length == len(data):  # noqa: PLR2004 - 3: there is none
                self._pool.remember(data[:size], head)

    def _replay(self, receiver: Receiver, data: bytes) -> bool:
        """Hands on a reply that is whole in `data` and whose head is known; says whether it was one."""
        size = data.find(b"\r\n\r\n") + 4
        head = self._pool.known_heads.get(data[:size])
        if head is None or size + head.length != len(data):
            return False
        self._head = head
        self._complete = True
        receiver.reply_whole(head, data[size:])
        receiver.flush_reply()
        return True

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._pool.forget(self)
        self._headers = []  # this and the parser point at each other, and would keep it until the collector comes
        receiver = self.receiver
        if receiver is None:
            return
        self.receiver = None
        if exc is None and isinstance(self._head, ReplyHead) and self._head.length == UNTIL_CLOSE:
            self._close_after = True
            self._complete = True
            receiver.reply_end()
            receiver.flush_reply()
            return
        where = "before its answer began" if self._head is None else "in the middle of its answer"
        receiver.reply_failed(errors.model_broke_off(self._pool.target.name, where))

    def pause_writing(self) -> None:
        self._full = True
        if self.receiver is not None:
            self.receiver.pause_request()

    def resume_writing(self) -> None:
        self._full = False
        if self.receiver is not None:
            self.receiver.resume_request()

    # --- what the parser says

    def on_message_begin(self) -> None:
        if self._complete:
            self._unsolicited = True
        self._headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head is None and not self._unsolicited:
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        if self._unsolicited:
            return
        status, version = self._parser.get_status_code(), self._parser.get_http_version()
        name = self._pool.target.name
        if version not in ("1.1", "1.0"):
            self._head = errors.model_bad_reply(name, f"HTTP/{version}")
        elif not reply.is_interim(status):
            self._head = reply.head(name, status, version, self._headers)
        elif fault := reply.interim_fault(self._headers):
            self._head = errors.model_bad_reply(name, fault)
        else:
            self._interims += 1
            return
        if isinstance(self._head, ReplyHead):
            self._close_after = self._head.length == UNTIL_CLOSE or not self._parser.should_keep_alive()
            if self.receiver is not None:
                self.receiver.reply_head(self._head)

    def on_body(self, data: bytes) -> None:
        self._silent_bytes = 0
        if self.receiver is not None and not self._unsolicited and isinstance(self._head, ReplyHead):
            self.receiver.reply_body(data)

    def on_message_complete(self) -> None:
        if self._head is not None:
            self._complete = True

    def _fail(self, failure: ModelFailure) -> None:
        receiver, self.receiver = self.receiver, None
        self.transport.abort()
        if receiver is not None:
            receiver.reply_failed(failure)


class Pool:
    """All connections to one container."""

    def __init__(self, target: Target, *, clock: Callable[[], float], connect_timeout: float, guard: Guard) -> None:
        self.target = target
        self.request_start = headers.container_start(target.invocations_path, target.host, target.port)
        self._clock = clock
        self._connect_timeout = connect_timeout
        self._guard = guard
        self._idle: deque[Upstream] = deque()
        self.known_heads: dict[bytes, ReplyHead] = {}
        """What heads of this container's replies mean, by their bytes."""
        self._closed = False

    def acquire(self, receiver: Receiver) -> Upstream | None:
        """An idle connection; or none, then `receiver.connected` or `receiver.reply_failed` follows later."""
        while self._idle:
            upstream = self._idle.pop()  # the youngest: the others may reach their age and go
            if upstream.transport.is_closing():
                continue
            if upstream.is_readable():
                upstream.transport.abort()  # closed, or something that nobody asked for; nothing was sent into it
                continue
            return upstream
        tasks.spawn(self._connect(receiver), name=f"connect {self.target.name}")
        return None

    async def _connect(self, receiver: Receiver) -> None:
        target = self.target
        try:
            upstream = await self._dial()
        except Impostor as stranger:
            receiver.reply_failed(errors.model_impostor(target.name, str(stranger)))
        except TimeoutError:
            detail = f"no answer on port {target.port} within {self._connect_timeout:g} s"
            receiver.reply_failed(errors.model_unreachable(target.name, detail))
        except (OSError, UnicodeError) as error:  # the second: a host name that is none
            detail = f"{getattr(error, 'strerror', None) or type(error).__name__} on port {target.port}".lower()
            receiver.reply_failed(errors.model_unreachable(target.name, detail))
        else:
            receiver.connected(upstream)

    async def _dial(self) -> Upstream:
        begun = self._clock()
        try:
            return await self._dial_once()
        except TimeoutError:
            if self._clock() - begun < self._connect_timeout + _STANDSTILL_SECONDS:
                raise
        # It was this process that stood still, and the container may have answered long ago. Nothing was sent to it.
        return await self._dial_once()

    async def _dial_once(self) -> Upstream:
        async with asyncio.timeout(self._connect_timeout):
            loop = asyncio.get_running_loop()
            transport, upstream = await loop.create_connection(
                lambda: Upstream(self), self.target.host, self.target.port
            )
            await self._guard.check(self.target, transport)
            return upstream

    def remember(self, raw: bytes, head: ReplyHead) -> None:
        """Keeps what `raw` means; all is forgotten when there are too many (heads with a date change every second)."""
        if len(self.known_heads) >= MOST_KNOWN_HEADS:
            self.known_heads.clear()
        self.known_heads[raw] = head

    def give_back(self, upstream: Upstream) -> None:
        """Keeps `upstream` for the next exchange."""
        if self._closed or upstream.transport.is_closing():
            upstream.transport.abort()
            return
        upstream.idle_since = self._clock()
        self._idle.append(upstream)

    def forget(self, upstream: Upstream) -> None:
        """`upstream` is gone."""
        if upstream.receiver is None and upstream in self._idle:
            self._idle.remove(upstream)

    def close_idle(self, older_than: float) -> None:
        """Closes connections that have been idle since before `older_than` (monotonic seconds)."""
        while self._idle and self._idle[0].idle_since < older_than:
            self._idle.popleft().transport.abort()

    def is_empty(self) -> bool:
        """Whether no connection waits here."""
        return not self._idle

    def close(self) -> None:
        """No more use: idle connections close now, busy ones after their exchange."""
        self._closed = True
        while self._idle:
            self._idle.popleft().transport.abort()
