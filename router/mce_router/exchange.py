"""The life of one request once its head is parsed: route, admit, forward step by step, reply, record.

A Direct invocation is a chain of one container, a Serial one of several. The first container gets the caller's body
as it comes in; what a container says goes to the next one whole (bounded), and what the last one says goes to the
caller as it comes. There is no task: an exchange moves when either side says something, or when the clock says that
time is up.
"""

from typing import Final, Protocol

from mce_api import errors
from mce_api.errors import Failure, ModelFailure, Reason, Refusal
from mce_api.routes import RouteTable, Target
from mce_router import headers, rescue
from mce_router import reply as replies
from mce_router.invocation import CHUNKED, Invocation, Kind, ReplyHead
from mce_router.service import Service
from mce_router.upstream import HIGH_WATER_BYTES, Upstream

ERROR_BODY_BYTES: Final = 4096
"""How much of a container's error body is kept for OriginalMessage (which takes 2048 characters)."""


class Caller(Protocol):
    """The connection that the request came on."""

    def write(self, data: bytes) -> None:
        """Queues bytes for the caller."""

    def flush(self) -> None:
        """Sends what was queued."""

    def pause(self) -> None:
        """Stops reading from the caller."""

    def resume(self) -> None:
        """Reads from the caller again."""

    def answered(self, *, close: bool) -> None:
        """The answer is whole; with `close` it was the last on this connection."""

    def abort(self) -> None:
        """Cuts the connection: the answer began and can't be finished."""


class Exchange:
    """One request and its answer."""

    # Class attributes are the start values: one of these is made for each request, and most are never set on it.
    _invocation: Invocation | None = None
    _targets: tuple[Target, ...] = ()
    _step = 0
    _step_started = 0.0
    _model_seconds = 0.0
    _upstream: Upstream | None = None
    _waiting_bytes = 0
    _hop_bytes = 0
    _container_full = False
    _caller_full = False
    _received = 0
    _forwarding = False
    _reply: ReplyHead | None = None
    _answering = False
    _chunked = False
    _over = False
    body_complete = False
    deadline = 0.0

    def __init__(self, service: Service, caller: Caller) -> None:
        self._service = service
        self._caller = caller
        self._started = service.clock()
        self._request_id = service.next_request_id()
        self._table: RouteTable = service.routes.table
        self._waiting: list[bytes] = []
        self._hop: list[bytes] = []

    # --- 1. the head, parsed: route, admit

    def begin(self, parsed: Invocation | Refusal) -> None:
        """Starts what `parsed` asks for."""
        service = self._service
        if isinstance(parsed, Refusal):
            self._fail(parsed, close=True)
            return
        self._invocation = parsed
        if parsed.length > self._table.limits.max_request_bytes:
            self._fail(self._too_large(parsed.length), close=True)
            return
        if parsed.kind is Kind.PING:
            self._answer_ping()
            return
        chosen = service.routes.choose(parsed)
        refusal = chosen if isinstance(chosen, Refusal) else service.admit(chosen)
        if refusal is not None:
            self._fail(refusal, close=parsed.expects_continue)  # whether the body still comes, nobody can tell
            return
        assert not isinstance(chosen, Refusal)  # noqa: S101 - a refusal ended the exchange above
        self._targets = chosen
        self._forwarding = True
        service.started(self, chosen)
        if parsed.expects_continue:
            self._caller.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        last = len(chosen) == 1
        lines = parsed.forwarded if last else self._lines(parsed.content_type, last=False)
        self._start_step(lines, parsed.length)

    def _lines(self, content_type: bytes, *, last: bool) -> bytes:
        """Header lines for one container of a chain: only the last one gets the caller's Accept."""
        assert self._invocation is not None  # noqa: S101 - set before any step starts
        lines = headers.line(b"content-type", content_type) if content_type else b""
        return lines + (self._invocation.accept if last else b"") + self._invocation.passed

    # --- 2. the body: from the caller to the first container

    def body(self, data: bytes) -> None:
        """More of the caller's body; after the first container's answer nobody wants it."""
        if not self._forwarding or self._step:
            return
        self._received += len(data)
        if self._received > self._table.limits.max_request_bytes:
            self._fail(self._too_large(self._received), close=True)
            return
        assert self._invocation is not None  # noqa: S101 - set when forwarding began
        piece = b"%x\r\n%b\r\n" % (len(data), data) if self._invocation.length == CHUNKED else data
        if self._upstream is not None:
            self._upstream.write(piece)
            return
        self._waiting.append(piece)
        self._waiting_bytes += len(piece)
        if self._waiting_bytes > HIGH_WATER_BYTES:
            self._caller.pause()

    def body_end(self) -> None:
        """The caller's body is whole."""
        self.body_complete = True
        if not self._forwarding or self._step:
            return
        assert self._invocation is not None  # noqa: S101 - set when forwarding began
        if self._invocation.length == CHUNKED:
            if self._upstream is not None:
                self._upstream.write(b"0\r\n\r\n")
            else:
                self._waiting.append(b"0\r\n\r\n")

    def flush_request(self) -> None:
        """Sends to the container what came in since the last time."""
        if self._upstream is not None:
            self._upstream.flush()

    def caller_lost(self) -> None:
        """The caller is gone: nobody wants the answer, the container must stop working on it."""
        if not self._over:
            self._finish(None)

    # --- 3. one step: a request to one container

    def _start_step(self, lines: bytes, length: int, body: bytes = b"") -> None:
        service = self._service
        target = self._targets[self._step]
        pool = service.pool(target)
        self._reply = None
        self._step_started = service.clock()
        self.deadline = self._step_started + target.invocation_timeout_seconds
        service.metrics.container_called(target.name)
        self._waiting.insert(0, headers.container_request(pool.host_line, lines, length))
        if body:
            self._waiting.append(body)
        upstream = pool.acquire(self)
        if upstream is not None:
            self._use(upstream)
            if self._step:
                upstream.flush()  # a first step's request goes out with its body, when the caller's bytes are read

    def connected(self, upstream: Upstream) -> None:
        """A connection to the container of this step is there."""
        if self._over:
            upstream.release(reusable=False)
            return
        self._use(upstream)
        upstream.flush()
        if upstream.transport.is_closing():
            upstream.release(reusable=False)
            self.reply_failed(errors.model_broke_off(self._targets[self._step].name, "before its request was sent"))

    def _use(self, upstream: Upstream) -> None:
        self._upstream = upstream
        upstream.begin(self, b"".join(self._waiting))
        self._waiting.clear()
        if self._caller_full:
            upstream.transport.pause_reading()
        if self._waiting_bytes > HIGH_WATER_BYTES:
            self._caller.resume()
        self._waiting_bytes = 0

    def pause_request(self) -> None:
        """The container takes no more for now."""
        self._container_full = True
        self._caller.pause()

    def resume_request(self) -> None:
        """The container takes more again."""
        self._container_full = False
        self._caller.resume()

    def pause_reply(self) -> None:
        """The caller takes no more for now."""
        self._caller_full = True
        if self._upstream is not None:
            self._upstream.transport.pause_reading()

    def resume_reply(self) -> None:
        """The caller takes more again."""
        self._caller_full = False
        if self._upstream is not None and not self._upstream.transport.is_closing():
            self._upstream.transport.resume_reading()

    # --- 4. the reply of that container

    def reply_head(self, head: ReplyHead) -> None:
        """The container answers."""
        self._reply = head
        self._extend_deadline()
        if self._is_last_step() and replies.is_success(head.status):
            self._answering = True
            self._chunked = head.length < 0 and self._invocation is not None and not self._invocation.http_1_0
            self._caller.write(self._answer_head(head))

    def reply_body(self, data: bytes) -> None:
        """More of the container's answer."""
        self._extend_deadline()
        if self._answering:
            self._caller.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)
            return
        self._hop.append(data)
        if self._reply is None or self._over:
            return
        self._hop_bytes += len(data)
        size = self._hop_bytes
        if not replies.is_success(self._reply.status):
            if size > ERROR_BODY_BYTES:
                self._model_error()
        elif size > self._table.limits.max_hop_bytes:
            here, following = self._targets[self._step].name, self._targets[self._step + 1].name
            size = max(size, self._reply.length)
            limit = self._table.limits.max_hop_bytes
            self._fail(errors.hop_too_large(here, following, size, limit))

    def reply_end(self) -> None:
        """The container's answer is whole."""
        if self._over:
            return
        assert self._reply is not None  # noqa: S101 - a reply ends after it began
        if not replies.is_success(self._reply.status):
            self._model_error()
            return
        self._step_done()
        if not self._is_last_step():
            self._next_step()
            return
        if self._chunked:
            self._caller.write(b"0\r\n\r\n")
        self._finish(None)

    def reply_failed(self, failure: ModelFailure) -> None:
        """The container broke off, answered badly, or could not be reached."""
        self._upstream = None
        if not self._over:
            self._fail(failure)
            self.flush_reply()

    def flush_reply(self) -> None:
        """Sends to the caller what the container said since the last time."""
        self._caller.flush()

    def timed_out(self) -> None:
        """The budget of this step ran out, by the container or by the caller."""
        if self._over:
            return
        if self._caller_full:
            self.refuse(Refusal(Reason.REQUEST_TIMEOUT, "The caller did not read its answers in time."))
        elif self._is_waiting_for_body():
            self.refuse(Refusal(Reason.REQUEST_TIMEOUT, "The request did not arrive whole in time."))
        else:
            target = self._targets[self._step]
            budget = target.invocation_timeout_seconds
            what = "connection" if self._upstream is None else "invocation" if self._reply is None else "reply idle"
            self._fail(errors.model_timeout(target.name, what, budget))
        self.flush_reply()

    def _is_waiting_for_body(self) -> bool:
        """Whether the container waits for the caller, not we for the container."""
        ready = self._upstream is not None and not self._container_full
        return ready and self._reply is None and not self.body_complete and not self._step

    def _next_step(self) -> None:
        assert self._reply is not None  # noqa: S101 - a step ends after its reply began
        body = b"".join(self._hop)
        self._hop = []
        self._hop_bytes = 0
        content_type = self._reply.content_type
        self._step += 1
        self._start_step(self._lines(content_type, last=self._is_last_step()), len(body), body)

    def _step_done(self) -> None:
        """Gives the connection back and counts the time."""
        seconds = self._service.clock() - self._step_started
        self._model_seconds += seconds
        self._service.metrics.container_answered(self._targets[self._step].name, seconds)
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.release(reusable=self.body_complete)
        if self._container_full:
            self.resume_request()

    def _model_error(self) -> None:
        assert self._reply is not None  # noqa: S101 - called on a reply
        text = b"".join(self._hop)[:ERROR_BODY_BYTES].decode("utf-8", "replace")
        self._fail(errors.model_status(self._targets[self._step].name, self._reply.status, text))

    # --- 5. the answer

    def _answer_head(self, head: ReplyHead) -> bytes:
        invocation = self._invocation
        assert invocation is not None  # noqa: S101 - an answer follows an invocation
        framing = headers.framing(head.length) if head.length >= 0 or not invocation.http_1_0 else b""
        close = self._closes()
        connection = (
            b"connection: close\r\n" if close else b"connection: keep-alive\r\n" if invocation.http_1_0 else b""
        )
        kind = headers.line(b"content-type", head.content_type) if head.content_type else b""
        return b"%b%b\r\n%b%b%b%b\r\n" % (
            self._service.answer_prefix,
            self._request_id,
            kind,
            head.passed,
            framing,
            connection,
        )

    def _answer_ping(self) -> None:
        status = 200 if self._service.is_ready() else 503
        invocation = self._invocation
        assert invocation is not None  # noqa: S101 - an answer follows an invocation
        close = self._closes() or invocation.http_1_0 or invocation.expects_continue
        connection = b"connection: close\r\n" if close else b""
        self._caller.write(headers.status_line(status) + b"content-length: 0\r\n%b\r\n" % connection)
        self._finish(None, close=close)

    def _closes(self) -> bool:
        """Whether this is the last answer on its connection."""
        invocation = self._invocation
        if invocation is None or not invocation.keep_alive or self._service.draining:
            return True
        length = self._reply.length if self._reply is not None else 0
        return invocation.http_1_0 and length < 0

    def _is_last_step(self) -> bool:
        return self._step == len(self._targets) - 1

    def _extend_deadline(self) -> None:
        self.deadline = self._service.clock() + self._targets[self._step].invocation_timeout_seconds

    def _too_large(self, size: int) -> Refusal:
        limit = self._table.limits.max_request_bytes
        text = f"HTTP content length exceeded {limit} bytes (this request: {size} or more; limits.maxRequestBytes)."
        return Refusal(Reason.BODY_TOO_LARGE, text)

    def _fail(self, failure: Failure, *, close: bool = False) -> None:
        """Answers with an error; once the answer has begun, only cutting it off tells the truth."""
        if self._answering:
            self._finish(failure, cut=True)
            return
        close = close or self._closes() or (self._invocation is not None and self._invocation.http_1_0)
        self._caller.write(rescue.response(failure, self._request_id, close=close))
        self._finish(failure, close=close)

    def _finish(self, failure: Failure | None, *, close: bool | None = None, cut: bool = False) -> None:
        """The end of every exchange, exactly once: give back, record, tell the caller's connection."""
        self._over = True
        self._waiting.clear()  # the traceback of a connect that failed points here, and waits for the cycle collector
        was_forwarding, self._forwarding = self._forwarding, False
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.release(reusable=False)
        seconds = self._service.clock() - self._started
        self._service.finished(self, self._targets if was_forwarding else (), failure, seconds, self._model_seconds)
        if cut:
            self._caller.abort()
        else:
            self._caller.answered(close=self._closes() if close is None else close)

    def refuse(self, refusal: Refusal) -> None:
        """Ends the exchange because of what its connection did (a malformed body, a stall)."""
        if not self._over:
            self._fail(refusal, close=True)
