"""The caller's side of a connection: bytes in, exchanges one after another, bytes out.

Requests that a caller pipelines wait in order, and reading stops while any waits, so that a caller can make the
router hold at most one read's worth of them. Every wait has a limit: the head, the body, the idle time, the reading
of our answer.
"""

import asyncio
import logging
from collections import deque
from typing import Final, NamedTuple, cast

import httptools

from mce_api.errors import Reason, Refusal
from mce_router import parse
from mce_router.exchange import Exchange
from mce_router.invocation import Headers, Invocation, RequestHead
from mce_router.route import Routes
from mce_router.service import Service
from mce_router.upstream import HIGH_WATER_BYTES

_log: Final = logging.getLogger(__name__)
_LINGER_SECONDS: Final = 2.0
_CHUNK_OVERHEAD_BYTES: Final = 16384
_CHUNK_OVERHEAD_FACTOR: Final = 8
_MEMO_BYTES: Final = 4096
_NOTHING: Final = Refusal(Reason.BAD_REQUEST, "There was no request.")


class _Memo(NamedTuple):
    """A request that came whole in one read: its head as bytes, and what they mean. Equal bytes mean the same again."""

    head: bytes
    size: int
    parsed: Invocation
    routes: Routes

    def fits(self, data: bytes, routes: Routes) -> bool:
        """Whether `data` is such a request again, under the same route table."""
        return len(data) == self.size and routes is self.routes and data.startswith(self.head)


class _Waiting:
    """A pipelined request whose turn has not come."""

    __slots__ = ("complete", "head", "pieces")

    def __init__(self, head: RequestHead) -> None:
        self.head = head
        self.pieces: list[bytes] = []
        self.complete = False


class CallerConnection(asyncio.Protocol):
    """One connection of a caller."""

    __slots__ = (
        "_answered",
        "_body_bytes",
        "_close",
        "_exchange",
        "_fed_bytes",
        "_header_bytes",
        "_headers",
        "_held",
        "_in_head",
        "_last",
        "_memo",
        "_messages",
        "_out",
        "_parsed",
        "_parser",
        "_receiving",
        "_registry",
        "_service",
        "_shut",
        "_transport",
        "_url",
        "_waiting",
        "deadline",
    )

    _transport: asyncio.Transport

    def __init__(self, service: Service, registry: "set[CallerConnection]") -> None:
        self._service = service
        self._registry = registry
        self._parser = httptools.HttpRequestParser(self)
        self._exchange: Exchange | None = None
        self._answered = True
        self._receiving: Exchange | _Waiting | None = None
        self._waiting: deque[_Waiting] = deque()
        self._out: list[bytes] = []
        self._url = b""
        self._headers: Headers = []
        self._parsed: Invocation | Refusal = _NOTHING
        self._memo: _Memo | None = None
        self._messages = 0
        self._in_head = False
        self._header_bytes = 0
        self._fed_bytes = 0
        self._body_bytes = 0
        self._held = False
        self._last = False
        self._close = False
        self._shut = False
        self.deadline = service.clock() + service.settings.header_timeout_seconds

    # --- what asyncio says

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # TCP gives no other; uvloop's is no subclass
        self._transport.set_write_buffer_limits(HIGH_WATER_BYTES)
        self._registry.add(self)

    def connection_lost(self, _exc: Exception | None) -> None:
        self._registry.discard(self)
        self._shut = True
        if self._exchange is not None:
            self._exchange.caller_lost()
            self._exchange = None
        self._waiting.clear()

    def data_received(self, data: bytes) -> None:
        if self._shut or self._close:
            return  # the last answer is out or on its way; what still comes is thrown away
        between = self._exchange is None and not self._in_head
        memo = self._memo
        if memo is not None and between and memo.fits(data, self._service.routes):
            self._begin_whole(memo, data)
            return
        self._fed_bytes += len(data)
        self._messages = 0
        if self._in_head or self._receiving is None:
            self._header_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            _log.error("callback failed", exc_info=error.__context__)
            self.abort()
            return
        except httptools.HttpParserUpgrade:
            pass  # refused when its head was complete
        except httptools.HttpParserError as error:
            self._malformed(str(error))
        self._check_sizes()
        if between and self._messages == 1 and self._receiving is None:
            self._remember(data)
        if isinstance(self._receiving, Exchange):
            self._receiving.flush_request()
            self.deadline = self._service.clock() + self._service.settings.body_idle_seconds
        self.flush()

    def _check_sizes(self) -> None:
        if self._in_head and self._header_bytes > self._service.settings.max_header_bytes:
            self._refuse(self._head_too_large())
        elif self._fed_bytes > _CHUNK_OVERHEAD_BYTES + _CHUNK_OVERHEAD_FACTOR * (self._body_bytes + 8192):
            self._refuse(Refusal(Reason.BAD_REQUEST, "The body is nearly all chunk framing; send larger chunks."))

    def eof_received(self) -> bool:
        # A closed and a half-closed caller look the same from here. As nginx does, take it for gone: a container that
        # goes on computing for nobody costs everybody else.
        return False

    def pause_writing(self) -> None:
        if self._exchange is not None:
            self._exchange.pause_reply()

    def resume_writing(self) -> None:
        if self._exchange is not None:
            self._exchange.resume_reply()

    # --- what the parser says

    def on_message_begin(self) -> None:
        self._headers = []
        self._url = b""
        self._in_head = True
        self._messages += 1
        self.deadline = self._service.clock() + self._service.settings.header_timeout_seconds
        self._fed_bytes = 0
        self._body_bytes = 0

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # trailers are not forwarded
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._header_bytes = 0
        parser = self._parser
        head = RequestHead(
            parser.get_method(), self._url, parser.get_http_version(), self._headers, parser.should_upgrade()
        )
        if self._exchange is not None:
            waiting = _Waiting(head)
            self._waiting.append(waiting)
            self._receiving = waiting
            self._read_or_not()
            return
        self._begin(head)

    def on_body(self, data: bytes) -> None:
        self._body_bytes += len(data)
        receiving = self._receiving
        if isinstance(receiving, Exchange):
            receiving.body(data)
        elif receiving is not None:
            receiving.pieces.append(data)

    def on_message_complete(self) -> None:
        receiving, self._receiving = self._receiving, None
        if isinstance(receiving, Exchange):
            receiving.body_end()
            receiving.flush_request()
            self._advance()
        elif receiving is not None:
            receiving.complete = True
            self._advance()

    # --- what an exchange does

    def write(self, data: bytes) -> None:
        """Queues bytes for the caller."""
        self._out.append(data)

    def flush(self) -> None:
        """Sends what was queued, as one piece; closes after the last answer."""
        if self._out:
            if not self._transport.is_closing():
                self._transport.write(self._out[0] if len(self._out) == 1 else b"".join(self._out))
            self._out.clear()
        if self._close and not self._shut:
            self._shut_down()

    def pause(self) -> None:
        """Stops reading from the caller."""
        self._held = True
        self._read_or_not()

    def resume(self) -> None:
        """Reads from the caller again, unless requests are waiting."""
        self._held = False
        self._read_or_not()

    def _read_or_not(self) -> None:
        if self._transport.is_closing():
            return
        if self._held or self._waiting or self._last:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def answered(self, *, close: bool) -> None:
        """The answer of the current exchange is whole."""
        self._answered = True
        self._close = close or self._last
        if self._held:
            self.resume()
        self._advance()

    def abort(self) -> None:
        """Cuts the connection, so that nobody takes a part of an answer for a whole one."""
        self._shut = True
        self._out.clear()
        self._transport.abort()

    # --- the order of things

    def _begin(self, head: RequestHead) -> Exchange:
        exchange = Exchange(self._service, self)
        self._exchange = exchange
        self._answered = False
        self._receiving = exchange
        parsed = self._parsed = self._parse(head)
        exchange.begin(parsed)
        return exchange

    def _parse(self, head: RequestHead) -> Invocation | Refusal:
        size = len(head.url) + sum(len(name) + len(value) + 4 for name, value in head.headers)
        if size > self._service.settings.max_header_bytes:
            return self._head_too_large()
        return parse.invocation(head, self._service.routes.table.variant)

    def _remember(self, data: bytes) -> None:
        """Keeps the head of a request that `data` held from its first byte to its last.

        Callers send the same head again and again; with equal bytes at the same place in the stream (between two
        messages) the parser would say the same again, so it need not be asked.
        """
        parsed = self._parsed
        if not isinstance(parsed, Invocation) or parsed.length < 0 or parsed.expects_continue:
            return
        size = data.find(b"\r\n\r\n") + 4
        if size + parsed.length == len(data) and size <= _MEMO_BYTES and parsed.keep_alive:
            self._memo = _Memo(data[:size], len(data), parsed, self._service.routes)

    def _begin_whole(self, memo: _Memo, data: bytes) -> None:
        """A request whose head is known, whole in `data`."""
        exchange = self._exchange = Exchange(self._service, self)
        self._answered = False
        exchange.begin(memo.parsed)
        if memo.parsed.length:
            exchange.body(data[len(memo.head) :])
        exchange.body_end()
        exchange.flush_request()
        self._advance()
        self.flush()

    def _advance(self) -> None:
        """Starts the next request once the current one is answered and its body is in."""
        while self._answered and self._exchange is not None and not self._close:
            if not self._exchange.body_complete:
                return
            self._exchange = None
            self.deadline = self._service.clock() + self._service.settings.idle_timeout_seconds
            if not self._waiting:
                return
            waiting = self._waiting.popleft()
            receiving = self._receiving
            exchange = self._begin(waiting.head)
            self._read_or_not()
            for piece in waiting.pieces:
                exchange.body(piece)
            if waiting.complete:
                exchange.body_end()
            # What the parser is in the middle of stays the one that receives.
            self._receiving = exchange if receiving is waiting else receiving
            exchange.flush_request()

    def _malformed(self, detail: str) -> None:
        self._refuse(Refusal(Reason.BAD_REQUEST, f"The request is not valid HTTP/1.1: {detail}."))

    def _head_too_large(self) -> Refusal:
        limit = self._service.settings.max_header_bytes
        return Refusal(Reason.HEADERS_TOO_LARGE, f"The request's head is larger than {limit} bytes.")

    def _refuse(self, refusal: Refusal) -> None:
        """Ends the connection with an error for whatever request is being received."""
        if self._close or self._shut:
            return
        if self._waiting or (self._exchange is not None and self._receiving is None):
            self._last = True  # an earlier request is being answered: finish that, then close
            self._waiting.clear()
            self._read_or_not()
            return
        exchange = self._exchange
        if exchange is None:
            exchange = self._exchange = Exchange(self._service, self)
            self._answered = False
        if self._answered:
            self._close = True
        else:
            exchange.refuse(refusal)

    def check_time(self, now: float) -> None:
        """Ends waits that took too long; called about once a second."""
        if now < self.deadline or self._held or self._waiting:
            return
        if self._shut or self._close:
            self._transport.abort()
        elif self._exchange is None and not self._in_head:
            self._close = True
            self.flush()
        elif self._in_head or self._receiving is not None:
            self._refuse(Refusal(Reason.REQUEST_TIMEOUT, "The request did not arrive whole in time."))
            self.flush()

    def close_if_idle(self) -> None:
        """For a drain: a connection without a request has nothing to wait for."""
        if self._exchange is None and not self._in_head:
            self._transport.close()

    def _shut_down(self) -> None:
        """Says that nothing more comes, then reads a while: a reset would destroy the answer in the caller's hands."""
        self._shut = True
        self.deadline = self._service.clock() + _LINGER_SECONDS
        if self._transport.is_closing():
            return
        done = self._exchange is None or self._exchange.body_complete
        if done or not self._transport.can_write_eof():
            self._transport.close()
        else:
            self._transport.write_eof()
