import logging
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from mce_router import spans, tracing
from mce_router.spans import Seldom, Spans
from mce_router.tracing import InvalidTracing, Trace, Tracer

URL = "http://127.0.0.1:4318"
ASKED = {"OTEL_EXPORTER_OTLP_ENDPOINT": URL}

# --- the environment


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_SERVICE_NAME": "x", "OTEL_TRACES_SAMPLER": "always_on"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": " "},
        ASKED | {"OTEL_TRACES_EXPORTER": "none"},
        ASKED | {"OTEL_SDK_DISABLED": "True"},
        ASKED | {"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
    ],
)
def test_nobody_traces_unasked(environment: dict[str, str]) -> None:
    assert tracing.make(environment) is None


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER is 'zipkin'"),
        (ASKED | {"OTEL_TRACES_EXPORTER": "otlp,console"}, "OTEL_TRACES_EXPORTER is 'otlp,console'"),
        (ASKED | {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL is 'grpc'"),
        (
            ASKED | {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL is 'http/json'",
        ),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"}, "OTEL_EXPORTER_OTLP_ENDPOINT is not of the form"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://[::1"}, "OTEL_EXPORTER_OTLP_ENDPOINT is not of the form"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:99999"}, "OTEL_EXPORTER_OTLP_ENDPOINT is not of the form"),
        (ASKED | {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "ftp://a"}, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is not of"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://me:hunter2@a"}, "credentials go into OTEL_EXPORTER_OTLP_HEADERS"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a/?key=hunter2"}, "credentials go into OTEL_EXPORTER_OTLP_HEADERS"),
    ],
)
def test_what_could_only_fail_later_is_refused_by_name(environment: dict[str, str], said: str) -> None:
    with pytest.raises(InvalidTracing) as refused:
        tracing.make(environment)
    assert said in str(refused.value)
    assert "hunter2" not in str(refused.value)


def _run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)


def test_a_setting_that_the_sdk_refuses_is_told() -> None:
    code = "import os; from mce_router import tracing; tracing.make(os.environ)"
    ran = _run(code, **ASKED, OTEL_BSP_MAX_QUEUE_SIZE="10")
    assert "InvalidTracing: OTEL_EXPORTER_OTLP_ENDPOINT asks for traces, but OpenTelemetry refuses" in ran.stderr
    assert "max_export_batch_size must be less than or equal to max_queue_size" in ran.stderr


def test_without_the_extra_the_message_names_the_variable_and_the_extra() -> None:
    code = (
        "import sys; sys.modules['opentelemetry'] = None; "
        "sys.argv = ['mce_router', '--table', 'none', '--listen', ':0', '--admin', ':0']; "
        "from mce_router.__main__ import main; sys.exit(main())"
    )
    ran = _run(code, **ASKED)
    assert ran.returncode == 1
    assert ran.stderr.startswith("mce_router: OTEL_EXPORTER_OTLP_ENDPOINT asks for traces, but OpenTelemetry is not")
    assert ran.stderr.endswith(": pip install mce[router,otel]\n")
    assert ran.stderr.count("\n") == 1


def test_a_router_that_does_not_trace_imports_nothing_of_it() -> None:
    code = (
        "import sys, mce_router.__main__; from mce_router import tracing; tracing.make({}); "
        "sys.exit(any(name.split('.')[0] in ('opentelemetry', 'google', 'requests') for name in sys.modules))"
    )
    assert _run(code).returncode == 0


# --- how a request ends


@pytest.fixture
def kept() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracer(kept: InMemorySpanExporter) -> Iterator[Tracer]:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    yield Spans(provider)
    provider.shutdown()


@pytest.fixture
def trace(tracer: Tracer) -> Trace:
    return tracer.request(b"", b"", b"id", "mnist")


def _facts(kept: InMemorySpanExporter) -> list[tuple[str, bool, Any, Any]]:
    """Name, error, status and error type of each span, the first that ended first."""
    return [
        (
            span.name,
            not span.status.is_unset,
            dict(span.attributes or {}).get("http.response.status_code"),
            dict(span.attributes or {}).get("error.type"),
        )
        for span in kept.get_finished_spans()
    ]


@pytest.mark.parametrize(
    ("status", "reason", "error"),
    [
        (200, "", False),
        (200, "ModelBrokeOff", True),  # the answer had begun and was cut off
        (0, "CallerGone", True),
        (400, "TargetMissing", False),
        (408, "RequestTimeout", False),
        (413, "BodyTooLarge", False),
        (429, "ContainerBusy", False),
        (424, "ModelTimeout", True),
        (500, "Internal", True),
        (503, "EndpointBusy", True),
    ],
)
def test_a_request_is_an_error_when_the_endpoint_failed_not_when_the_caller_did(
    trace: Trace, kept: InMemorySpanExporter, status: int, reason: str, error: bool
) -> None:
    trace.done(status=status, reason=reason)
    assert _facts(kept) == [("POST /invocations", error, status or None, reason or None)]


def test_the_end_of_a_request_ends_its_open_call_for_the_same_reason(trace: Trace, kept: InMemorySpanExporter) -> None:
    trace.hop("one")
    trace.done(status=408, reason="RequestTimeout")
    assert _facts(kept) == [
        ("POST one", True, None, "RequestTimeout"),
        ("POST /invocations", False, 408, "RequestTimeout"),
    ]


def test_only_the_first_end_counts(trace: Trace, kept: InMemorySpanExporter) -> None:
    trace.hop("one")
    trace.hop_done(status=200, reason="")
    trace.hop_done(status=500, reason="ServerErrorFromModel")
    trace.done(status=200, reason="")
    trace.done(status=500, reason="Internal")
    assert _facts(kept) == [("POST one", False, 200, None), ("POST /invocations", False, 200, None)]


def test_a_tracestate_without_a_traceparent_is_nothing(tracer: Tracer, kept: InMemorySpanExporter) -> None:
    trace = tracer.request(b"", b"a=1", b"id", "mnist")
    assert trace.hop("one").startswith(b"traceparent: 00-")
    assert trace.hop("two").count(b"\r\n") == 1


def test_the_lines_for_a_container_are_legal_whatever_the_caller_wrote(tracer: Tracer) -> None:
    for value in (b"\xff" * 55, b"\t", b"00-" + b"a" * 509, b"a" * 128):
        line = tracer.request(value, value, b"id", "mnist").hop("one")
        assert len(line) == len(b"traceparent: 00--01\r\n") + 32 + 16 + 1
        assert line.isascii()


# --- what the SDK says


@pytest.fixture
def their_logs(caplog: pytest.LogCaptureFixture) -> Iterator[list[float]]:
    """Their loggers as a traced router has them, on a clock that the test owns."""
    now = [0.0]
    theirs = logging.getLogger("opentelemetry")
    spans.speak_seldom(lambda: now[0])
    yield now
    theirs.propagate = True
    theirs.handlers = [handler for handler in theirs.handlers if not isinstance(handler, Seldom)]
    logging.getLogger("opentelemetry.trace").setLevel(logging.NOTSET)


def test_the_sdk_says_one_line_a_minute_and_how_many_were_left_out(
    their_logs: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    log = logging.getLogger("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    for second in range(121):
        their_logs[0] = float(second)
        log.warning("failed %s", "x" * 1000)
    ours = [vars(record) for record in caplog.records if record.name == "mce_router.spans"]  # pytest hears theirs too
    assert [(said["message"], said["left_out"], len(said["cause"])) for said in ours] == [
        ("tracing trouble", 0, 300),
        ("tracing trouble", 59, 300),
        ("tracing trouble", 59, 300),
    ]


def test_the_sdk_never_says_what_a_caller_sent(
    their_logs: list[float], caplog: pytest.LogCaptureFixture, tracer: Tracer
) -> None:
    parent = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    for state in (b"Secret=1", b"a=1,a=2", b"a=b," * 300, b"=", b",", b"\xff"):
        assert b"tracestate" not in tracer.request(parent, state, b"id", "mnist").hop("one")
    assert caplog.records == []
