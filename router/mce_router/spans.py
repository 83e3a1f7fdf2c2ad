"""The spans of a request, made with OpenTelemetry's SDK and sent by its threads. Imported only when traces are wanted.

Names and attributes follow the HTTP semantic conventions; nothing that a caller wrote becomes a span's name, and no
header and no body is recorded.
"""

import logging
import sys
import threading
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Final

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, StatusCode, TraceState, set_span_in_context
from opentelemetry.trace import Tracer as SdkTracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_log: Final = logging.getLogger(__name__)
_SWITCH_SECONDS: Final = 0.0005
"""How soon the event loop gets the interpreter back from the exporter's thread. Python's 5 ms held a request up by 7 to
9 ms (median) while spans were encoded, this by 0.7 to 4.7 (measured)."""
_QUIET_SECONDS: Final = 60.0
_MOST_CAUSE_CHARACTERS: Final = 300
_SERVER_ERROR: Final = 500
_MODEL_FAILED: Final = 424


def tracer() -> "Spans":
    """A tracer as the environment describes it; `tracing.make` has checked it. Meant for the start of a process.

    Raises:
        ValueError, OSError, RuntimeError: if the SDK refuses a setting.
    """
    speak_seldom(time.monotonic)
    sys.setswitchinterval(_SWITCH_SECONDS)
    # The environment's resource goes over ours, so that OTEL_SERVICE_NAME wins.
    ours = Resource.create({"service.name": "mce-router", "service.version": version("mce")})
    provider = TracerProvider(resource=ours.merge(OTELResourceDetector().detect()), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Spans(provider)


class Spans:
    """The tracer of one router process."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("mce_router", version("mce"))
        self._propagator = TraceContextTextMapPropagator()

    def request(
        self,
        traceparent: bytes,
        tracestate: bytes,
        request_id: bytes,
        endpoint: str,
        named: str = "",
        *,
        streamed: bool = False,
    ) -> "RequestSpans":
        """Starts the span of one request; see `tracing.Tracer`."""
        context = Context()
        if traceparent:
            headers = {"traceparent": traceparent.decode("latin-1")}
            if tracestate:
                headers["tracestate"] = tracestate.decode("latin-1")
            context = self._propagator.extract(headers, context)
        last = "invocations-response-stream" if streamed else "invocations"
        route = f"/endpoints/{{EndpointName}}/{last}" if named else f"/{last}"
        span = self._tracer.start_span(f"POST {route}", context, SpanKind.SERVER)
        if span.is_recording():
            span.set_attributes(
                {
                    "http.request.method": "POST",
                    "url.path": f"/endpoints/{named}/{last}" if named else route,
                    "url.scheme": "http",
                    "http.route": route,
                    "mce.endpoint": endpoint,
                    "aws.request_id": request_id.decode("ascii"),
                }
            )
        return RequestSpans(self._tracer, span)

    def close(self, seconds: float) -> None:
        """Sends what is left, for at most `seconds`."""
        # The SDK waits up to 30 s for its exporter and can't be told otherwise; its threads end with the process.
        ending = threading.Thread(target=self._provider.shutdown, name="last spans", daemon=True)
        ending.start()
        ending.join(seconds)
        if ending.is_alive():
            _log.warning("spans left unsent", extra={"waited_seconds": seconds})


class RequestSpans:
    """The span of one request and that of the call that is open."""

    __slots__ = ("_hop", "_span", "_tracer")

    def __init__(self, tracer: SdkTracer, span: Span) -> None:
        self._tracer = tracer
        self._span: Span | None = span
        self._hop: Span | None = None

    def hop(self, container: str) -> bytes:
        """Starts the span of a call; see `tracing.Trace`."""
        request = self._span
        assert request is not None  # noqa: S101 - no call begins after its request is over
        if not request.is_recording():
            return _lines(request)  # no sampler of the SDK takes a child when it left its parent
        span = self._tracer.start_span(f"POST {container}", set_span_in_context(request, Context()), SpanKind.CLIENT)
        span.set_attributes({"http.request.method": "POST", "url.path": "/invocations", "mce.container": container})
        self._hop = span
        return _lines(span)

    def hop_done(self, *, status: int, reason: str) -> None:
        """Ends the span of a call."""
        span, self._hop = self._hop, None
        if span is not None:
            _end(span, status, reason, failed=bool(reason))

    def done(self, *, status: int, reason: str) -> None:
        """Ends the span of the request, and that of an open call before it."""
        self.hop_done(status=0, reason=reason)
        span, self._span = self._span, None
        if span is not None:
            # The conventions: a 4xx is the caller's mistake and no error of a server. A 424 is its model's.
            refused = status < _SERVER_ERROR and status not in (0, 200, _MODEL_FAILED)
            _end(span, status, reason, failed=bool(reason) and not refused)


def _lines(span: Span) -> bytes:
    """`traceparent` and `tracestate` that name `span` as the parent."""
    context = span.get_span_context()
    parent = b"traceparent: 00-%032x-%016x-%02x\r\n" % (context.trace_id, context.span_id, context.trace_flags)
    state: TraceState = context.trace_state
    return parent + b"tracestate: %b\r\n" % state.to_header().encode("ascii") if state else parent


def _end(span: Span, status: int, reason: str, *, failed: bool) -> None:
    if span.is_recording():
        if status:
            span.set_attribute("http.response.status_code", status)
        if reason:
            span.set_attribute("error.type", reason)
        if failed:
            span.set_status(StatusCode.ERROR)
    span.end()


# --- what the SDK says


def speak_seldom(clock: Callable[[], float]) -> None:
    """Lets the SDK's loggers say one line a minute, as one of ours; `clock` gives monotonic seconds."""
    theirs = logging.getLogger("opentelemetry")
    for handler in [handler for handler in theirs.handlers if isinstance(handler, Seldom)]:
        theirs.removeHandler(handler)
    theirs.addHandler(Seldom(clock))
    theirs.propagate = False
    # They log the headers that a caller sent, at each request.
    logging.getLogger("opentelemetry.trace").setLevel(logging.CRITICAL)


class Seldom(logging.Handler):
    """Passes on one record a minute with how many were left out before it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(logging.WARNING)
        self._clock = clock
        self._next = clock()
        self._left_out = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Logs `record` or counts it; called with the handler's lock held."""
        now = self._clock()
        if now < self._next:
            self._left_out += 1
            return
        self._next = now + _QUIET_SECONDS
        facts = {"cause": record.getMessage()[:_MOST_CAUSE_CHARACTERS], "left_out": self._left_out}
        self._left_out = 0
        _log.log(record.levelno, "tracing trouble", extra=facts)
