"""The life of one request once its head is parsed: route, admit, forward step by step, answer, record.

A Direct invocation is a chain of one container, a Serial one of several. The first container gets the caller's body
as it comes in; what a container says goes to the next one whole (bounded), and what the last one says goes to the
caller as it comes. There is no task: an exchange moves when either side says something, or when the clock says that
time is up.
"""

from enum import Enum
from typing import Final, Protocol

from mce_api import errors, wire
from mce_api.errors import Failure, ModelFailure, Reason, Refusal
from mce_api.routes import RouteTable, Target
from mce_router import access, answer, eventstream, headers, rescue
from mce_router import reply as replies
from mce_router.answer import Form
from mce_router.invocation import CHUNKED, Invocation, Kind, ReplyHead
from mce_router.service import Service
from mce_router.tracing import CALLER_GONE, Trace
from mce_router.upstream import HIGH_WATER_BYTES, Upstream

ERROR_BODY_BYTES: Final = 4096
"""How much of a container's error body is kept for OriginalMessage (which takes 2048 characters)."""
COLLECT_BYTES: Final = wire.MAX_BODY_BYTES
"""A chunked body up to this size is collected, so that a container gets a Content-Length as SageMaker's do."""
_COLLECT_SECONDS: Final = 1.0
"""A chunked body that is not whole by then is a stream: it goes on as chunks, as it comes."""
_PIECE_BYTES: Final = 48
"""What a piece of a body costs besides its bytes; of a body in chunks of two bytes it is nearly all."""


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

    def address(self) -> str:
        """Who it is, for the access log."""


class Phase(Enum):
    """Where a request is."""

    BEGUN = "begun"
    QUEUED = "queued"
    """Waits for a place at its containers."""
    COLLECTING = "collecting"
    """Has its place; its chunked body is awaited."""
    AT_CONTAINER = "at container"
    OVER = "over"


# Python 3.11 takes ten times as long for `Phase.OVER` as for a name of this module; each request asks often.
_BEGUN, _QUEUED, _COLLECTING, _AT_CONTAINER, _OVER = Phase
_PLAIN: Final = Form.PLAIN
_INVOKE: Final = Kind.INVOKE
_PING: Final = Kind.PING
_STREAM: Final = Kind.STREAM


class Exchange:
    """One request and its answer."""

    # Class attributes are the start values: one of these is made for each request, and most are never set on it.
    _invocation: Invocation | None = None
    _targets: tuple[Target, ...] = ()
    _phase: Phase = _BEGUN
    _admitted = False
    _busy: Refusal | None = None
    _step = -1
    _step_started = 0.0
    _model_seconds = 0.0
    _upstream: Upstream | None = None
    _request_chunked = False
    _waiting_bytes = 0
    _held_bytes = 0
    _hop_bytes = 0
    _container_full = False
    _caller_full = False
    _received = 0
    _sent = 0
    _reply: ReplyHead | None = None
    _form: Form | None = None
    _said_close = False
    """Whether the answer said that its connection ends; a drain that begins later can't take it back."""
    _timings: list[tuple[str, float]] | None = None
    _trace: Trace | None = None
    _total_deadline = 0.0
    _stream_deadline = 0.0
    body_complete = False
    bodyless = False
    """Whether the answer must have no body (HEAD)."""
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
        if service.tracer is not None and parsed.kind is not _PING:
            self._trace = service.tracer.request(
                parsed.traceparent,
                parsed.tracestate,
                self._request_id,
                self._table.endpoint,
                parsed.endpoint,
                streamed=parsed.kind is _STREAM,
            )
        if parsed.length > self._table.limits.max_request_bytes:
            self._fail(self._too_large(parsed.length), close=True)
            return
        if parsed.kind is _PING:
            self._answer_ping()
            return
        chosen = service.routes.choose(parsed)
        refusal = chosen if isinstance(chosen, Refusal) else service.shed(chosen)
        if refusal is not None:
            self._fail(refusal, close=parsed.expects_continue)  # whether the body still comes, nobody can tell
            return
        assert not isinstance(chosen, Refusal)  # noqa: S101 - a refusal ended the exchange above
        self._targets = chosen
        busy = service.admission.enter(chosen)
        if busy is not None:
            self._wait_for_place(busy)
            return
        self._admitted = True
        service.exchanges.add(self)
        if parsed.expects_continue:
            self._caller.write(_CONTINUE)
        self._go()

    def _wait_for_place(self, busy: Refusal) -> None:
        service = self._service
        assert self._invocation is not None  # noqa: S101 - set in `begin`
        expects = self._invocation.expects_continue
        if not service.admission.wait(self, self._targets):
            self._fail(busy, close=expects)
            return
        self._busy = busy
        self._phase = _QUEUED
        self.deadline = service.clock() + service.settings.queue_seconds
        service.exchanges.add(self)
        for target in self._targets:
            service.metrics.queued(target.name)
        if expects:
            self._caller.write(_CONTINUE)

    def admitted(self) -> None:
        """A place has come free after a wait."""
        self._service.metrics.waited(self._service.clock() - self._started)
        self._admitted = True
        self._go()
        self.flush_request()

    def _go(self) -> None:
        assert self._invocation is not None  # noqa: S101 - set in `begin`
        if self._invocation.length == CHUNKED and not self.body_complete:
            self._phase = _COLLECTING
            self.deadline = self._service.clock() + _COLLECT_SECONDS
            self._resume_waiting()
        else:
            self._start_chain()

    # --- 2. the body: from the caller to the first container

    def body(self, data: bytes) -> None:
        """More of the caller's body; after the first container's answer nobody wants it."""
        self._received += len(data)
        phase = self._phase
        if phase is _OVER:
            return  # of known length, or the answer said that the connection ends
        if self._received > self._table.limits.max_request_bytes:
            self._fail(self._too_large(self._received), close=True)
            return
        if self._step > 0:
            return
        if self._upstream is not None:
            self._upstream.write(headers.chunk(data) if self._request_chunked else data)
            return
        self._waiting.append(headers.chunk(data) if self._request_chunked else data)
        self._waiting_bytes += len(data)
        if phase is _COLLECTING:
            if self._waiting_bytes > COLLECT_BYTES or not self._hold(len(data)):
                self._start_chain()
        elif self._waiting_bytes > HIGH_WATER_BYTES:
            self._caller.pause()

    def body_end(self) -> None:
        """The caller's body is whole."""
        self.body_complete = True
        if self._phase is _COLLECTING:
            self._start_chain()
        elif self._request_chunked and self._phase is _AT_CONTAINER and not self._step:
            if self._upstream is not None:
                self._upstream.write(headers.LAST_CHUNK)
            else:
                self._waiting.append(headers.LAST_CHUNK)

    def flush_request(self) -> None:
        """Sends to the container what came in since the last time."""
        if self._upstream is not None:
            self._upstream.flush()

    def caller_lost(self) -> None:
        """The caller is gone: nobody wants the answer, the container must stop working on it."""
        if self._phase is not _OVER:
            self._service.metrics.caller_gone()
            self._finish(None, gone=True)

    def buffered(self) -> int:
        """Bytes of its request that wait for a place, for a connection, or in the connection to the container."""
        if self._upstream is not None:
            return self._upstream.transport.get_write_buffer_size()
        return max(0, self._waiting_bytes - self._held_bytes)

    # --- 3. one step: a request to one container

    def _start_chain(self) -> None:
        invocation = self._invocation
        assert invocation is not None  # noqa: S101 - set in `begin`
        service = self._service
        length = invocation.length
        if length == CHUNKED:
            if self.body_complete:
                length = self._received
            else:
                self._request_chunked = True
                self._waiting = [headers.chunk(piece) for piece in self._waiting]
        self._step = 0
        now = service.clock()
        self._total_deadline = now + service.total_seconds
        alone = len(self._targets) == 1
        if alone and self._trace is None:
            lines = invocation.forwarded
        else:
            lines = self._lines(invocation.content_type, last=alone)
        self._start_step(lines, length, now)

    def _lines(self, content_type: bytes, *, last: bool) -> bytes:
        """Header lines for the container of this step: only the last one gets the caller's Accept."""
        invocation = self._invocation
        assert invocation is not None  # noqa: S101 - set before any step starts
        if self._trace is not None:
            context = self._trace.hop(self._targets[self._step].name)
        else:
            context = headers.trace_lines(invocation.traceparent, invocation.tracestate)
        kind = headers.line(b"content-type", content_type) if content_type else b""
        return b"%b%b%b%b" % (kind, invocation.accept if last else b"", invocation.passed, context)

    def _start_step(self, lines: bytes, length: int, now: float) -> None:
        service = self._service
        target = self._targets[self._step]
        pool = service.pool(target)
        self._phase = _AT_CONTAINER
        self._reply = None
        self._step_started = now
        self.deadline = min(now + target.invocation_timeout_seconds, self._total_deadline)
        service.metrics.container_called(target.name)
        self._waiting.insert(0, headers.container_request(pool.request_start, lines, length))
        upstream = pool.acquire(self)
        if upstream is not None:
            self._use(upstream)
            if self._step:
                upstream.flush()  # a first step's request goes out with its body, when the caller's bytes are read

    def connected(self, upstream: Upstream) -> None:
        """A connection to the container of this step is there."""
        if self._phase is _OVER:
            upstream.release(reusable=False)
            return
        self._use(upstream)
        upstream.flush()
        if upstream.transport.is_closing():
            upstream.release(reusable=False)
            self.reply_failed(errors.model_broke_off(self._targets[self._step].name, "before its request was sent"))

    def _use(self, upstream: Upstream) -> None:
        self._upstream = upstream
        upstream.begin(self, self._waiting)
        self._waiting = []
        self._release_held()
        if self._caller_full:
            upstream.pause()
        self._resume_waiting()

    def _resume_waiting(self) -> None:
        """Reads on from a caller that was paused because its body had nowhere to go."""
        if self._waiting_bytes > HIGH_WATER_BYTES:
            self._caller.resume()
        if self._upstream is not None:
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
            self._upstream.pause()

    def resume_reply(self) -> None:
        """The caller takes more again."""
        self._caller_full = False
        if self._upstream is not None:
            self._upstream.resume()

    # --- 4. the reply of that container

    def reply_whole(self, head: ReplyHead, body: bytes) -> None:
        """The container's whole answer at once, of known length: what nearly every answer is."""
        invocation = self._invocation
        assert invocation is not None  # noqa: S101 - set before any step starts
        if self._is_last_step() and replies.is_success(head.status) and invocation.kind is _INVOKE:
            self._reply = head
            self._form = _PLAIN
            self._sent = len(body)
            close = self._closes()
            self._caller.write(self._answer_head(invocation, head.lines, close=close) + body)
            self._step_done()
            self._said_close = close
            self._finish(None, close=close)
            return
        self.reply_head(head)
        if body:
            self.reply_body(body)
        self.reply_end()

    def reply_head(self, head: ReplyHead) -> None:
        """The container answers."""
        self._reply = head
        if not self._is_last_step() or not replies.is_success(head.status):
            return
        invocation = self._invocation
        assert invocation is not None  # noqa: S101 - set before any step starts
        self._form = answer.form(invocation, head)
        self._stream_deadline = self._service.clock() + self._service.settings.stream_seconds
        self._extend_deadline()
        self._said_close = self._closes()
        self._caller.write(self._answer_head(invocation, answer.head(self._form, head), close=self._said_close))

    def reply_body(self, data: bytes) -> None:
        """More of the container's answer."""
        if self._form is not None:
            self._extend_deadline()
            self._sent += len(data)
            self._caller.write(data if self._form is _PLAIN else answer.piece(self._form, data))
            return
        if self._reply is None or self._phase is _OVER:
            return
        self._hop.append(data)
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
        elif not self._hold(len(data)):
            self._fail(self._service.memory_full())

    def reply_end(self) -> None:
        """The container's answer is whole."""
        if self._phase is _OVER:
            return
        assert self._reply is not None  # noqa: S101 - a reply ends after it began
        self._step_done()
        if not replies.is_success(self._reply.status):
            self._model_error()
        elif self._form is None:
            self._next_step()
        else:
            self._caller.write(answer.end(self._form))
            self._finish(None, close=self._said_close)

    def reply_failed(self, failure: ModelFailure) -> None:
        """The container broke off, answered badly, or could not be reached."""
        self._upstream = None
        if self._phase is not _OVER:
            self._fail(failure)
            self.flush_reply()

    def flush_reply(self) -> None:
        """Sends to the caller what the container said since the last time."""
        self._caller.flush()

    def _next_step(self) -> None:
        assert self._reply is not None  # noqa: S101 - a step ends after its reply began
        content_type = self._reply.content_type
        self._waiting, self._hop, length, self._hop_bytes = self._hop, [], self._hop_bytes, 0
        self._step += 1
        self._start_step(self._lines(content_type, last=self._is_last_step()), length, self._service.clock())

    def _step_done(self) -> None:
        """Gives the connection back and counts the time."""
        assert self._reply is not None  # noqa: S101 - called on a reply
        seconds = self._service.clock() - self._step_started
        self._model_seconds += seconds
        name = self._targets[self._step].name
        self._service.metrics.container_answered(name, seconds)
        if self._invocation is not None and self._invocation.wants_timing:
            self._timings = [*(self._timings or ()), (name, seconds)]
        if self._trace is not None and replies.is_success(self._reply.status):
            self._trace.hop_done(status=self._reply.status, reason="")
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.release(reusable=self.body_complete)
        if self._container_full:
            self.resume_request()

    def _model_error(self) -> None:
        assert self._reply is not None  # noqa: S101 - called on a reply
        text = b"".join(self._hop)[:ERROR_BODY_BYTES].decode("utf-8", "replace")
        self._fail(errors.model_status(self._targets[self._step].name, self._reply.status, text))

    # --- 5. time and memory

    def timed_out(self) -> None:
        """A budget ran out: of the queue, of the container, of the whole, or of the caller."""
        if self._phase is _OVER:
            return
        if self._phase is _COLLECTING:
            self._start_chain()
            self.flush_request()
            return
        if self._phase is _QUEUED:
            assert self._busy is not None  # noqa: S101 - set when it began to wait
            self._fail(self._busy, close=not self.body_complete)
        elif self._caller_full:
            self.refuse(Refusal(Reason.REQUEST_TIMEOUT, "The caller did not read its answer in time."))
        elif self._is_waiting_for_body():
            self.refuse(Refusal(Reason.REQUEST_TIMEOUT, "The request did not arrive whole in time."))
        else:
            self._fail(errors.model_timeout(self._targets[self._step].name, *self._spent_budget()))
        self.flush_reply()

    def abandon(self) -> None:
        """Ends it because a part of ours failed: the places are given back, the caller is cut off."""
        if self._phase is not _OVER:
            text = "The router could not go on with this request. Its log has the cause."
            self._finish(Refusal(Reason.INTERNAL, text), cut=True)

    def _spent_budget(self) -> tuple[str, float]:
        """Name and seconds of the budget that `deadline` stood for."""
        service = self._service
        if self._form is not None:
            if self.deadline >= self._stream_deadline:
                return "stream", service.settings.stream_seconds
            return "idle", service.settings.reply_idle_seconds
        seconds = self._targets[self._step].invocation_timeout_seconds
        if self._total_deadline < self._step_started + seconds:
            return "total", service.total_seconds
        if self._upstream is None:
            return "connection", seconds
        return ("first byte" if self._reply is None else "answer"), seconds

    def _is_waiting_for_body(self) -> bool:
        """Whether the container waits for the caller, not we for the container."""
        ready = self._upstream is not None and not self._container_full
        return ready and self._reply is None and not self.body_complete and not self._step

    def _extend_deadline(self) -> None:
        service = self._service
        self.deadline = min(service.clock() + service.settings.reply_idle_seconds, self._stream_deadline)

    def _hold(self, size: int) -> bool:
        """Counts a piece that this request holds; false when all requests together hold too many."""
        size += _PIECE_BYTES
        if not self._service.memory.take(size):
            return False
        self._held_bytes += size
        return True

    def _release_held(self) -> None:
        if self._held_bytes:
            self._service.memory.used -= self._held_bytes
            self._held_bytes = 0

    # --- 6. the answer

    def _answer_head(self, invocation: Invocation, lines: bytes, *, close: bool) -> bytes:
        extra = b""
        if close:
            extra = b"connection: close\r\n"
        elif invocation.http_1_0:
            extra = b"connection: keep-alive\r\n"
        if invocation.wants_timing:
            extra += self._timing()
        return b"%b%b\r\n%b%b\r\n" % (
            self._service.answer_prefix,
            self._request_id,
            lines,
            extra,
        )

    def _timing(self) -> bytes:
        """Time of each step so far; of a reply that is still coming, to its first byte."""
        now = self._service.clock()
        steps = list(self._timings or ())
        if self._phase is _AT_CONTAINER and len(steps) <= self._step:
            steps.append((self._targets[self._step].name, now - self._step_started))
        rest = max(0.0, now - self._started - sum(seconds for _, seconds in steps))
        return answer.timing([*steps, ("mce-router", rest)])

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
        if invocation.length == CHUNKED and not self.body_complete:
            return True  # nobody knows where the rest of the body ends
        form, reply = self._form, self._reply
        return form is not None and reply is not None and answer.is_until_close(form, reply)

    def _is_last_step(self) -> bool:
        return self._step == len(self._targets) - 1

    def _too_large(self, size: int) -> Refusal:
        limit = self._table.limits.max_request_bytes
        text = f"HTTP content length exceeded {limit} bytes (this request: {size} or more; limits.maxRequestBytes)."
        return Refusal(Reason.BODY_TOO_LARGE, text)

    def _fail(self, failure: Failure, *, close: bool = False) -> None:
        """Answers with an error; once the answer has begun, only an exception event or a cut tells the truth."""
        if self._form is not None:
            told = self._form in (Form.EVENTS, Form.PLAIN_EVENTS) and not self._caller_full
            if told:
                exception = eventstream.exception(failure)
                framed = exception if self._form is Form.PLAIN_EVENTS else headers.chunk(exception)
                self._caller.write(framed + answer.end(self._form))
            self._said_close = close or self._said_close
            self._finish(failure, close=self._said_close, cut=not told)
            return
        close = close or self._closes() or (self._invocation is not None and self._invocation.http_1_0)
        wants_timing = self._invocation is not None and self._invocation.wants_timing
        extra = self._timing() if wants_timing else b""
        self._said_close = close
        raw = rescue.response(failure, self._request_id, close=close, extra=extra)
        self._caller.write(raw[: raw.index(b"\r\n\r\n") + 4] if self.bodyless else raw)
        self._finish(failure, close=close)

    def _finish(self, failure: Failure | None, *, close: bool = False, cut: bool = False, gone: bool = False) -> None:
        """The end of every exchange, exactly once: give back, record, tell the caller's connection."""
        service = self._service
        was, self._phase = self._phase, _OVER
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.release(reusable=False)
        self._release_held()
        self._waiting = self._hop = []  # the traceback of a failed connect points here, until it is collected
        self._record(failure, cut=cut, gone=gone)
        if self._admitted:
            service.exchanges.discard(self)
            service.admission.leave(self._targets)  # before the caller's next request asks for a place
        elif was is _QUEUED:
            service.exchanges.discard(self)
            service.admission.give_up(self)
            service.metrics.waited(service.clock() - self._started)
        if cut:
            self._caller.abort()
        elif not gone:
            self._caller.answered(close=close)

    def _record(self, failure: Failure | None, *, cut: bool, gone: bool) -> None:
        service = self._service
        seconds = service.clock() - self._started
        if self._step >= 0:
            service.metrics.invoked(seconds, self._model_seconds)
        if failure is not None:
            service.metrics.failed(failure)
        log = service.access
        if log is not None and (failure is not None or gone or log.everything):
            self._log(log, failure, seconds, cut=cut, gone=gone)
        if self._trace is not None:
            cause = _cause(failure, gone=gone)
            if isinstance(failure, ModelFailure):
                self._trace.hop_done(status=failure.original_status, reason=cause)
            self._trace.done(status=self._status(failure), reason=cause)

    def _status(self, failure: Failure | None) -> int:
        """What the caller saw; 0 if it left before."""
        if self._form is not None:
            return 200
        return errors.TABLE[failure.reason].status if failure is not None else 0

    def _log(self, log: access.AccessLog, failure: Failure | None, seconds: float, *, cut: bool, gone: bool) -> None:
        invocation = self._invocation
        if invocation is not None and invocation.kind is _PING:
            return
        log.record(
            access.Request(
                self._request_id,
                self._caller.address(),
                self._table.endpoint,
                invocation.kind.value if invocation is not None else "refused",
                ",".join(target.name for target in self._targets),
                self._status(failure),
                _cause(failure, gone=gone),
                cut or (gone and self._form is not None),
                seconds,
                self._model_seconds,
                self._received,
                self._sent,
            )
        )

    def refuse(self, refusal: Refusal) -> None:
        """Ends the exchange because of what its connection did (a malformed body, a stall)."""
        if self._phase is not _OVER:
            self._fail(refusal, close=True)


_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


def _cause(failure: Failure | None, *, gone: bool) -> str:
    """One word for why there was no good answer; empty if there was one."""
    if gone:
        return CALLER_GONE
    return failure.reason.value if failure is not None else ""
