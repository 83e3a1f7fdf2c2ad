"""The caller's side of a connection: bytes in, exchanges one after another, bytes out.

Requests that a caller pipelines wait in order, and reading stops when a few wait, so that a caller can't make the
router hold more. Every wait has a limit: the head, the body, the idle time, the reading of our answer.
"""

import asyncio
import logging
import re
import socket
import struct
from collections import deque
from typing import Final, cast

import httptools

from mce_api.errors import Reason, Refusal
from mce_router import parse
from mce_router.exchange import Exchange
from mce_router.invocation import Headers, Invocation, RequestHead
from mce_router.service import Service
from mce_router.upstream import HIGH_WATER_BYTES

_log: Final = logging.getLogger(__name__)
_LINGER_SECONDS: Final = 2.0
_CHUNK_OVERHEAD_BYTES: Final = 16384
_CHUNK_OVERHEAD_FACTOR: Final = 8
_FULL_READ_BYTES: Final = 256000
"""uvloop's read buffer. Who fills it has more to say, and libuv would read on up to 32 times before it turns to anybody
else; after one such read a connection rests until the others had their turn."""
_EMPTY_LINES: Final = re.compile(rb"(?:\r\n)?")
"""What may stand before a request (RFC 9112, 2.2): one, others read more of them differently."""
_AT_ONCE: Final = struct.pack("ii", 1, 0)
_GOING_ON_SECONDS: Final = 1.0
_KNOWN_HEAD_BYTES: Final = 4096
_MOST_PARSED: Final = 256
_MOST_MISSES: Final = 8
"""A caller whose heads were new so often in a row (signed, traced, numbered) will send more of them."""
_MOST_WAITING: Final = 16
"""Pipelined requests that wait before no more is read; until then a caller that leaves is noticed at once."""
_MOST_WAITING_BYTES: Final = 65536
_LINGERING: Final = 64
"""Connections over the limit that may wait for their caller to read why; more are cut."""
_VERSION_FAULTS: Final = frozenset({"Invalid HTTP version", "Pause on PRI/Upgrade"})
"""How llhttp words it; the second is the preface of HTTP/2."""
_NOTHING: Final = Refusal(Reason.BAD_REQUEST, "There was no request.")


class _Waiting:
    """A pipelined request whose turn has not come, or the refusal of one."""

    __slots__ = ("complete", "head", "pieces", "size")

    def __init__(self, head: RequestHead | Refusal, size: int = 0) -> None:
        self.head = head
        self.size = size
        """Bytes of it that are here."""
        self.pieces: list[bytes] = []
        self.complete = False


class CallerConnection(asyncio.Protocol):
    """One connection of a caller."""

    __slots__ = (
        "_answered",
        "_at",
        "_body_bytes",
        "_close",
        "_exchange",
        "_fed_bytes",
        "_full",
        "_head_bytes",
        "_head_end",
        "_headed",
        "_header_bytes",
        "_headers",
        "_held",
        "_in_head",
        "_last",
        "_messages",
        "_misses",
        "_out",
        "_parsed",
        "_parser",
        "_raw",
        "_raw_size",
        "_receiving",
        "_registry",
        "_resting",
        "_service",
        "_shut",
        "_transport",
        "_unread",
        "_url",
        "_waiting",
        "_waiting_bytes",
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
        self._waiting_bytes = 0
        self._out: list[bytes] = []
        self._url = b""
        self._raw = b""
        self._raw_size = 0
        self._at = self._head_end = 0
        self._headed = False
        self._headers: Headers = []
        self._parsed: Invocation | Refusal = _NOTHING
        self._messages = 0
        self._misses = 0
        self._head_bytes = 0
        self._in_head = False
        self._header_bytes = 0
        self._fed_bytes = 0
        self._body_bytes = 0
        self._held = False
        self._full = False
        self._resting = False
        self._unread = 0
        self._last = False
        self._close = False
        self._shut = False
        self.deadline = service.clock() + service.settings.header_timeout_seconds

    # --- what asyncio says

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # TCP gives no other; uvloop's is no subclass
        self._transport.set_write_buffer_limits(HIGH_WATER_BYTES)
        self._registry.add(self)
        self._service.last_connection = self._service.clock()
        limit = self._service.settings.max_connections
        if len(self._registry) > limit:
            self._service.metrics.connection_refused()
            if len(self._registry) > limit + _LINGERING:
                self.abort()
            else:
                text = f"The router serves {limit} connections at once already (--max-connections). Try again."
                self._refuse(Refusal(Reason.CONNECTION_LIMIT, text))
                self.flush()

    def connection_lost(self, _exc: Exception | None) -> None:
        self._registry.discard(self)
        self._shut = True
        self._waiting.clear()
        self._headers = []  # this and the parser point at each other, and would keep it until the collector comes
        self._out.clear()
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.caller_lost()

    def data_received(self, data: bytes) -> None:
        if self._shut or self._close:
            return  # the last answer is out or on its way; what still comes is thrown away
        if len(data) >= _FULL_READ_BYTES:
            self._rest()
        between = self._exchange is None and not self._in_head and not self._waiting
        if between and self._misses < _MOST_MISSES and self._begin_known(data):
            return
        self._feed(data)
        if between and self._messages == 1 and self._receiving is None and self._misses < _MOST_MISSES:
            self._misses += 1
            self._remember(data)
        if isinstance(self._receiving, Exchange):
            self._receiving.flush_request()
            self.deadline = self._service.clock() + self._service.settings.body_idle_seconds
        self.flush()

    def _feed(self, data: bytes) -> None:
        """Has the parser read `data`; what it finds it says through the callbacks below."""
        self._fed_bytes += len(data)
        self._messages = 0
        if self._in_head:
            self._raw += data
        else:
            if self._receiving is None:
                self._at, self._headed = 0, False
            else:
                self._head_end -= self._raw_size
            self._raw = data
        self._raw_size = len(self._raw)
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
        if not self._in_head:
            self._raw = b""
        self._check_sizes()

    def _check_sizes(self) -> None:
        if self._in_head:
            if self._header_bytes > self._service.settings.max_header_bytes:
                self._refuse(self._head_too_large())
        elif self._fed_bytes > _CHUNK_OVERHEAD_BYTES + _CHUNK_OVERHEAD_FACTOR * (self._body_bytes + 8192):
            self._refuse(Refusal(Reason.BAD_REQUEST, "The body is nearly all chunk framing; send larger chunks."))

    def eof_received(self) -> bool:
        # A closed and a half-closed caller look the same from here. As nginx does, take it for gone: a container that
        # goes on computing for nobody costs everybody else.
        return False

    def pause_writing(self) -> None:
        # Who does not read gets nothing more, or it could make us hold any number of answers.
        self._full = True
        self._read_or_not()
        if self._exchange is not None:
            self._exchange.pause_reply()

    def resume_writing(self) -> None:
        self._full = False
        self._unread = 0
        if self._exchange is not None:
            self._exchange.resume_reply()
        self._advance()
        self._read_or_not()
        self.flush()

    # --- what the parser says

    def on_message_begin(self) -> None:
        if self._headed:
            self._at, self._headed = self._next_at(), False
        self._headers = []
        self._head_bytes = 0
        self._url = b""
        self._in_head = True
        self._messages += 1
        self.deadline = self._service.clock() + self._service.settings.header_timeout_seconds

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # trailers are not forwarded
            self._head_bytes += len(name) + len(value) + 4
            name = name.lower()
            if name in parse.RELEVANT:
                self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._header_bytes = 0
        self._fed_bytes = 0
        self._body_bytes = 0
        parser = self._parser
        method, version = parser.get_method(), parser.get_http_version()
        head: RequestHead | Refusal = RequestHead(
            method, self._url, version, tuple(self._headers), parser.should_upgrade()
        )
        if not self._starts_right(method, version):
            head = Refusal(Reason.BAD_REQUEST, "A request begins with METHOD, one space, path, one space, HTTP/1.1.")
        elif len(self._url) + self._head_bytes > self._service.settings.max_header_bytes:
            head = self._head_too_large()
        if self._exchange is not None or self._waiting:
            waiting = _Waiting(head, self._head_bytes)
            self._waiting.append(waiting)
            self._waiting_bytes += self._head_bytes
            self._receiving = waiting
            self._read_or_not()
            return
        self._begin(head, self._head_bytes)

    def on_body(self, data: bytes) -> None:
        self._body_bytes += len(data)
        receiving = self._receiving
        if isinstance(receiving, Exchange):
            receiving.body(data)
        elif receiving is not None:
            receiving.pieces.append(data)
            receiving.size += len(data)
            self._waiting_bytes += len(data)
            self._read_or_not()

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
        if self._held:  # that it was silent meanwhile was not its doing
            self.deadline = max(self.deadline, self._service.clock() + self._service.settings.body_idle_seconds)
        self._held = False
        self._read_or_not()

    def _rest(self) -> None:
        """Lets the others have their turn (see `_FULL_READ_BYTES`)."""
        self._resting = True
        self._read_or_not()
        asyncio.get_running_loop().call_soon(self._rested)

    def _rested(self) -> None:
        self._resting = False
        self._read_or_not()

    def _read_or_not(self) -> None:
        if self._transport.is_closing():
            return
        crowded = len(self._waiting) >= _MOST_WAITING or self._waiting_bytes > _MOST_WAITING_BYTES
        if self._resting or ((self._held or self._full or crowded or self._last) and not self._shut):
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def answered(self, *, close: bool) -> None:
        """The answer of the current exchange is whole."""
        self._answered = True
        self._close = close
        if self._held:
            self.resume()
        self._advance()

    def buffered(self) -> int:
        """Bytes of answers that the caller has not taken yet, and of its requests that wait for their turn."""
        return self._transport.get_write_buffer_size() + self._waiting_bytes

    def address(self) -> str:
        """Address and port of the caller, an IPv6 address in brackets."""
        peer = self._transport.get_extra_info("peername")
        if not peer:
            return ""
        return f"[{peer[0]}]:{peer[1]}" if ":" in peer[0] else f"{peer[0]}:{peer[1]}"

    def abort(self) -> None:
        """Cuts the connection, so that nobody takes a part of an answer for a whole one."""
        self._shut = True
        self._out.clear()
        own = self._transport.get_extra_info("socket")
        if own is not None and not self._transport.is_closing():
            # A reset, not an end: to HTTP/1.0 an answer without a length is whole when its connection ends.
            own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        self._transport.abort()

    # --- the order of things

    def _begin(self, head: RequestHead | Refusal, size: int) -> Exchange:
        exchange = Exchange(self._service, self)
        self._exchange = exchange
        self._answered = False
        self._receiving = exchange
        parsed = self._parsed = self._parse(head, size)
        exchange.bodyless = isinstance(head, RequestHead) and head.method == b"HEAD"
        exchange.begin(parsed)
        return exchange

    def _parse(self, head: RequestHead | Refusal, size: int) -> Invocation | Refusal:
        if isinstance(head, Refusal):
            return head
        service = self._service
        parsed = service.parsed_heads.get(head)
        if parsed is None:
            parsed = parse.invocation(head, service.routes.table.variant)
            if size + len(head.url) <= _KNOWN_HEAD_BYTES:
                if len(service.parsed_heads) >= _MOST_PARSED:
                    service.parsed_heads.clear()
                service.parsed_heads[head] = parsed
        return parsed

    def _remember(self, data: bytes) -> None:
        """Keeps the head of a request that `data` held from its first byte to its last.

        Callers send the same heads again and again; with equal bytes at the same place in the stream (between two
        messages) the parser would say the same again, so it need not be asked.
        """
        parsed, end = self._parsed, data.find(b"\r\n\r\n")
        if self._in_head or end < 0:
            return
        if not isinstance(parsed, Invocation) or parsed.length < 0 or parsed.expects_continue:
            return
        size = end + 4
        if size + parsed.length == len(data) and size <= _KNOWN_HEAD_BYTES and parsed.keep_alive:
            self._service.remember(data[:size], parsed)

    def _begin_known(self, data: bytes) -> bool:
        """Starts a request that is whole in `data` and whose head is known; says whether it was one."""
        size = data.find(b"\r\n\r\n") + 4  # 3 without one: no known head is so short
        parsed = self._service.known_heads.get(data[:size])
        if parsed is None or size + parsed.length != len(data):
            return False
        exchange = self._exchange = Exchange(self._service, self)
        self._answered = False
        self._misses = 0
        self._parsed = parsed
        exchange.begin(parsed)
        if parsed.length:
            exchange.body(data[size:])
        exchange.body_end()
        exchange.flush_request()
        self._advance()
        self.flush()
        return True

    def _advance(self) -> None:
        """Starts the next request once the current one is answered, its body is in, and the caller reads."""
        while self._answered and not self._close and not self._shut:
            if self._exchange is not None:
                if not self._exchange.body_complete:
                    return
                self._exchange = None
                self.deadline = self._service.clock() + self._service.settings.idle_timeout_seconds
            if self._full or not self._waiting:
                return
            waiting = self._waiting.popleft()
            self._waiting_bytes -= waiting.size
            receiving = self._receiving
            exchange = self._begin(waiting.head, waiting.size)
            self._read_or_not()
            for piece in waiting.pieces:
                exchange.body(piece)
            if waiting.complete:
                exchange.body_end()
            # What the parser is in the middle of stays the one that receives.
            self._receiving = exchange if receiving is waiting else receiving
            exchange.flush_request()

    def _starts_right(self, method: bytes, version: str) -> bool:
        """Whether the request begins as one does, at `_at` of `_raw`; leaves `_head_end` behind.

        The parser would let other protocols pass, several spaces, and odd line ends before a request.
        """
        self._headed = True
        raw = self._raw
        line = b"%b %b HTTP/%b\r\n" % (method, self._url, version.encode())
        if self._at < 0:  # behind a chunked one: it has such a line somewhere, or it is not one
            self._at = at = raw.find(line, max(self._head_end, 0))
            if at < 0:
                return False
        else:
            match = _EMPTY_LINES.match(raw, self._at)
            at = match.end() if match is not None else self._at
        self._head_end = raw.find(b"\r\n\r\n", at) + 4
        return raw.startswith(line, at)

    def _next_at(self) -> int:
        """Where in `_raw` the request begins that comes after the one whose head was the last; -1: nobody knows.

        After a chunked one only the parser knows, until a read begins with a request again.
        """
        if self._at < 0:
            return -1
        length = 0
        for name, value in self._headers:
            if name == b"transfer-encoding":
                return -1
            if name == b"content-length":
                length = int(value)
        return self._head_end + length

    def _malformed(self, detail: str) -> None:
        if detail in _VERSION_FAULTS:
            self._refuse(Refusal(Reason.VERSION_UNSUPPORTED, "Only HTTP/1.1 and HTTP/1.0 are served here."))
            return
        self._refuse(Refusal(Reason.BAD_REQUEST, f"The request is not valid HTTP/1.1: {detail}."))

    def _head_too_large(self) -> Refusal:
        limit = self._service.settings.max_header_bytes
        return Refusal(Reason.HEADERS_TOO_LARGE, f"The request's head is larger than {limit} bytes.")

    def _refuse(self, refusal: Refusal) -> None:
        """Ends the connection with an error for whatever request is being received, after the answers before it."""
        if self._close or self._shut or self._last:
            return
        if self._waiting or (self._exchange is not None and self._receiving is None):
            if isinstance(self._receiving, _Waiting):
                self._receiving.head = refusal
            else:
                self._waiting.append(_Waiting(refusal))
            self._receiving = None
            self._last = True
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
        """Ends waits that took too long; called a few times a second."""
        if now < self.deadline or self._held or (self._waiting and self._exchange is not None):
            return
        if self._shut or self._close or (self._full and self._exchange is None):
            self._wait_for_reader(now)
        elif self._exchange is None and not self._in_head:
            self._close = True
            self.flush()
        elif self._in_head or self._receiving is not None:
            self._refuse(Refusal(Reason.REQUEST_TIMEOUT, "The request did not arrive whole in time."))
            self.flush()

    def _wait_for_reader(self, now: float) -> None:
        """Cuts the connection, unless the caller has read something of its answers since the last time."""
        unread, before = self._transport.get_write_buffer_size(), self._unread
        if unread and (not before or unread < before):
            self._unread = unread
            self.deadline = now + self._service.settings.body_idle_seconds
        else:
            self.abort()

    def close_if_idle(self) -> bool:
        """For a drain: closes a connection that has nothing to wait for; whether it still has.

        A new one, and one whose last answer promised to go on and only just went out, may have the next request on
        its way.
        """
        if self._exchange is None and not self._in_head and not self._waiting and not self._shut:
            settings = self._service.settings
            is_new = self._parsed is _NOTHING
            wait = settings.header_timeout_seconds if is_new else settings.idle_timeout_seconds
            if self._service.clock() - (self.deadline - wait) < _GOING_ON_SECONDS:
                return True
            self._transport.close()
        return not self._transport.is_closing() or self._transport.get_write_buffer_size() > 0

    def _shut_down(self) -> None:
        """Says that nothing more comes, then reads a while: a reset would destroy the answer in the caller's hands."""
        self._shut = True
        self.deadline = self._service.clock() + _LINGER_SECONDS
        if self._transport.is_closing():
            return
        done = (self._exchange is None or self._exchange.body_complete) and not self._waiting
        if done or not self._transport.can_write_eof():
            self._transport.close()
        else:
            self._waiting.clear()
            self._waiting_bytes = 0
            self._held = False
            self._read_or_not()
            self._transport.write_eof()
