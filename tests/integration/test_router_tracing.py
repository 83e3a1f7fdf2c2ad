"""A real router that sends spans to a real OTLP receiver, with real model servers behind it."""

import http.client
import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support import http as caller
from support import processes
from support.collector import Collector, collector
from support.processes import Router

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-00"
_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")


@pytest.fixture
def spans() -> Iterator[Collector]:
    with collector() as made:
        yield made


@contextmanager
def direct(tmp_path: Path, env: dict[str, str], **model: str) -> Iterator[Router]:
    """A Direct endpoint of one container."""
    port = processes.free_port()
    with (
        processes.model("one", port, tmp_path / "1.log", **model),
        processes.router(tmp_path, processes.table("Direct", {"one": port}), env=env) as router,
    ):
        yield router


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Router, Collector]]:
    """A Direct endpoint of one container that sends its spans to a collector."""
    with collector() as made, direct(tmp_path_factory.mktemp("shared"), made.env) as router:
        yield router, made


@pytest.fixture
def traced(shared: tuple[Router, Collector]) -> tuple[Router, Collector]:
    """The same, with nothing collected yet."""
    shared[1].spans.clear()
    return shared


@contextmanager
def serial(tmp_path: Path, env: dict[str, str], **second: str) -> Iterator[Router]:
    """A chain of three containers; `second` is the environment of the one in the middle."""
    ports = {name: processes.free_port() for name in ("one", "two", "three")}
    with (
        processes.model("one", ports["one"], tmp_path / "1.log"),
        processes.model("two", ports["two"], tmp_path / "2.log", **second),
        processes.model("three", ports["three"], tmp_path / "3.log"),
        processes.router(tmp_path, processes.table("Serial", ports), env=env) as router,
    ):
        yield router


def seen(reply: caller.Reply) -> tuple[str, str, int]:
    """Trace, parent and flags that the (last) container got."""
    match = _TRACEPARENT.fullmatch(reply.json()["headers"]["traceparent"])
    assert match is not None
    return match[1], match[2], int(match[3], 16)


def test_a_request_is_a_span_and_its_call_is_the_parent_of_what_the_container_does(
    traced: tuple[Router, Collector],
) -> None:
    router, spans = traced
    reply = caller.post(router.port, b"x", target="one")
    request, hop = spans.wait(2)
    assert spans.paths == {"/v1/traces"}
    assert seen(reply)[:2] == (hop.trace, hop.id)
    assert seen(reply)[2] & 1
    assert (request.name, request.kind, request.parent, request.error) == ("POST /invocations", "SERVER", "", False)
    assert request.attributes == {
        "http.request.method": "POST",
        "http.route": "/invocations",
        "url.path": "/invocations",
        "url.scheme": "http",
        "http.response.status_code": 200,
        "mce.endpoint": "mnist",
        "aws.request_id": reply.headers["x-amzn-requestid"],
    }
    assert (hop.name, hop.kind, hop.parent, hop.error) == ("POST one", "CLIENT", request.id, False)
    assert hop.attributes == {
        "http.request.method": "POST",
        "url.path": "/invocations",
        "http.response.status_code": 200,
        "mce.container": "one",
    }
    assert hop.trace == request.trace
    assert request.start <= hop.start <= hop.end <= request.end
    assert request.resource["service.name"] == "mce-router"


def test_the_resource_is_what_the_environment_says(tmp_path: Path, spans: Collector) -> None:
    resource = "k8s.namespace.name=models,k8s.pod.name=mnist-0,service.name=other"
    with direct(tmp_path, spans.env | {"OTEL_RESOURCE_ATTRIBUTES": resource, "OTEL_SERVICE_NAME": "mnist"}) as router:
        caller.post(router.port, b"x", target="one", path="/endpoints/mnist/invocations")
        request, _ = spans.wait(2)
    assert request.resource["service.name"] == "mnist"
    assert request.resource["k8s.namespace.name"] == "models"
    assert request.resource["k8s.pod.name"] == "mnist-0"
    assert request.name == "POST /endpoints/{EndpointName}/invocations"
    assert request.attributes["url.path"] == "/endpoints/mnist/invocations"


def test_a_chain_is_a_span_for_each_container_one_after_the_other(tmp_path: Path, spans: Collector) -> None:
    with serial(tmp_path, spans.env) as router:
        reply = caller.post(router.port, b"x")
        request, *hops = spans.wait(4)
    assert [hop.attributes["mce.container"] for hop in hops] == ["one", "two", "three"]
    assert {hop.parent for hop in hops} == {request.id}
    assert {hop.trace for hop in hops} == {request.trace}
    assert hops[0].end <= hops[1].start
    assert hops[1].end <= hops[2].start
    assert seen(reply)[1] == hops[2].id


def test_a_failing_step_is_an_error_with_the_containers_status_and_so_is_its_request(
    tmp_path: Path, spans: Collector
) -> None:
    with serial(tmp_path, spans.env, FAIL_STATUS="415") as router:
        assert caller.post(router.port, b"x").status == 424
        request, one, two = spans.wait(3)
    assert not one.error
    assert two.error
    assert two.attributes["http.response.status_code"] == 415
    assert two.attributes["error.type"] == "ClientErrorFromModel"
    assert request.error
    assert request.attributes["http.response.status_code"] == 424
    assert request.attributes["error.type"] == "ClientErrorFromModel"


def test_a_refused_request_is_one_span_that_does_not_repeat_what_the_caller_wrote(
    traced: tuple[Router, Collector],
) -> None:
    router, spans = traced
    caller.post(router.port, b"secret body", target="no-such-one", x_amzn_sagemaker_custom_attributes="secret")
    (request,) = spans.wait(1)
    assert request.name == "POST /invocations"
    assert not request.error  # the caller's mistake, by the conventions no error of a server
    assert request.attributes["http.response.status_code"] == 400
    assert request.attributes["error.type"] == "TargetUnknown"
    assert "no-such-one" not in str(request)
    assert "secret" not in str(request)


def test_what_is_no_invocation_is_no_span(traced: tuple[Router, Collector]) -> None:
    router, spans = traced
    processes.get(f"{router.url}/ping")
    processes.get(f"{router.url}/somewhere")
    caller.raw(router.port, b"nonsense\r\n\r\n")
    caller.post(router.port, b"x", target="one")
    spans.wait(2)


def test_a_caller_who_leaves_ends_both_spans_with_an_error(tmp_path: Path, spans: Collector) -> None:
    with direct(tmp_path, spans.env, SLOW_MS="20000") as router:
        with socket.create_connection(("127.0.0.1", router.port)) as connection:
            head = f"POST /invocations HTTP/1.1\r\nhost: x\r\n{caller.TARGET}: one\r\ncontent-length: 1\r\n\r\nx"
            connection.sendall(head.encode())
            processes.wait_until("the container is asked", lambda: router.targets()["one"]["inflight"] == 1)
        request, hop = spans.wait(2)
    for span in (request, hop):
        assert span.error
        assert span.attributes["error.type"] == "CallerGone"
        assert "http.response.status_code" not in span.attributes


def test_the_callers_trace_goes_on(traced: tuple[Router, Collector]) -> None:
    router, spans = traced
    reply = caller.post(router.port, b"x", target="one", traceparent=SAMPLED, tracestate="a=1, b@c=2")
    request, hop = spans.wait(2)
    assert (request.trace, request.parent) == (TRACE, PARENT)
    assert seen(reply) == (TRACE, hop.id, 1)
    assert reply.json()["headers"]["tracestate"] == "a=1,b@c=2"


def test_equal_requests_on_one_connection_have_spans_of_their_own(traced: tuple[Router, Collector]) -> None:
    router, spans = traced
    connection = http.client.HTTPConnection("127.0.0.1", router.port, timeout=20)
    parents = []
    for _ in range(3):
        connection.request("POST", "/invocations", b"x", {caller.TARGET: "one", "traceparent": SAMPLED})
        parents.append(json.loads(connection.getresponse().read())["headers"]["traceparent"].split("-")[2])
    connection.close()
    made = spans.wait(6)
    assert sorted(parents) == sorted(span.id for span in made if span.kind == "CLIENT")
    assert len(set(parents)) == 3


@pytest.mark.parametrize("sampler", ["parentbased_always_on", "always_off"])
def test_what_is_not_sampled_is_not_sent_and_the_container_is_told(
    tmp_path: Path, spans: Collector, sampler: str
) -> None:
    with direct(tmp_path, spans.env | {"OTEL_TRACES_SAMPLER": sampler}) as router:
        reply = caller.post(router.port, b"x", target="one", traceparent=UNSAMPLED)
        trace, parent, flags = seen(reply)
        assert (trace, flags & 1) == (TRACE, 0)
        assert parent != PARENT
        router.terminate()
        assert router.process.wait(20) == 0
    assert spans.spans == []


@pytest.mark.parametrize(
    "traceparent",
    [
        "nonsense",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-01-more",
        f"00-{TRACE.upper()}-{PARENT}-01",
    ],
)
def test_a_traceparent_that_is_none_starts_a_new_trace(traced: tuple[Router, Collector], traceparent: str) -> None:
    router, spans = traced
    reply = caller.post(router.port, b"x", target="one", traceparent=traceparent, tracestate="a=1")
    request, hop = spans.wait(2)
    assert request.parent == ""
    assert request.trace != TRACE
    assert seen(reply)[:2] == (request.trace, hop.id)
    assert "tracestate" not in reply.json()["headers"]


@pytest.mark.parametrize("tracestate", ["Secret Value", "a=1,a=2", "a=" + "x" * 600, ",".join(["a=b"] * 200)])
def test_a_tracestate_that_is_none_is_left_out_and_not_logged(
    traced: tuple[Router, Collector], tracestate: str
) -> None:
    router, spans = traced
    reply = caller.post(router.port, b"x", target="one", traceparent=SAMPLED, tracestate=tracestate)
    request, _ = spans.wait(2)
    assert (request.trace, request.parent) == (TRACE, PARENT)
    assert "tracestate" not in reply.json()["headers"]
    assert tracestate[:20] not in router.log.read_text()


def test_a_router_that_ends_sends_its_last_spans(tmp_path: Path, spans: Collector) -> None:
    with direct(tmp_path, spans.env | {"OTEL_BSP_SCHEDULE_DELAY": "600000"}) as router:
        caller.post(router.port, b"x", target="one")
        time.sleep(0.5)
        assert spans.spans == []
        router.terminate()
        assert router.process.wait(20) == 0
        spans.wait(2)


def test_without_settings_the_callers_trace_context_goes_on_as_it_came(tmp_path: Path) -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with direct(tmp_path, {}) as router:
        reply = caller.post(router.port, b"x", target="one", traceparent=parent, tracestate="a = 1")
    assert reply.json()["headers"]["traceparent"] == parent
    assert reply.json()["headers"]["tracestate"] == "a = 1"


# --- the collector is away


def _trouble(router: Router) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in router.log.read_text().splitlines()]
    return [line for line in lines if line["event"] == "tracing trouble"]


def test_a_collector_that_is_down_costs_no_request_and_few_lines(tmp_path: Path) -> None:
    env = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{processes.free_port()}",
        "OTEL_EXPORTER_OTLP_HEADERS": "api-key=secret",
        "OTEL_BSP_SCHEDULE_DELAY": "50",
        "OTEL_BSP_MAX_QUEUE_SIZE": "20",
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "10",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "0.1",
    }
    with direct(tmp_path, env) as router:
        for _ in range(200):
            assert caller.post(router.port, b"x", target="one").status == 200
        processes.wait_until("a line about it", lambda: len(_trouble(router)) == 1)
        router.terminate()
        assert router.process.wait(20) == 0
        assert len(_trouble(router)) == 1
        assert "secret" not in router.log.read_text()
        assert len(router.log.read_text().splitlines()) < 10


def test_a_collector_that_hangs_delays_neither_requests_nor_the_end(tmp_path: Path) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        env = {
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"http://127.0.0.1:{deaf.getsockname()[1]}/v1/traces",
            "OTEL_BSP_SCHEDULE_DELAY": "50",
            "OTEL_BSP_MAX_QUEUE_SIZE": "20",
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "10",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "60",
        }
        with direct(tmp_path, env) as router:
            for _ in range(200):
                assert caller.post(router.port, b"x", target="one").status == 200
            assert [line["cause"] for line in _trouble(router)] == ["Queue full, dropping Span."]
            before = time.monotonic()
            router.terminate()
            assert router.process.wait(30) == 0
            assert time.monotonic() - before < 15  # 3 s for the spans, and a busy machine
            assert "spans left unsent" in router.log.read_text()


# --- settings


def test_settings_that_can_not_work_end_the_router_at_once(tmp_path: Path) -> None:
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    table = processes.table("Direct", {"one": 30000})
    with processes.router(tmp_path, table, ready=False, env=env) as router:
        assert router.process.wait(20) == 1
        assert router.log.read_text().startswith("mce_router: OTEL_EXPORTER_OTLP_PROTOCOL is 'grpc'")
