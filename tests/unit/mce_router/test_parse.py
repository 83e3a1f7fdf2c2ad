import pytest

from mce_api.errors import Reason, Refusal
from mce_router import parse
from mce_router.invocation import CHUNKED, Headers, Invocation, Kind, RequestHead

TARGET = b"x-amzn-sagemaker-target-container-hostname"
PARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def head(
    *headers: tuple[bytes, bytes],
    url: bytes = b"/invocations",
    method: bytes = b"POST",
    version: str = "1.1",
    upgrade: bool = False,
    host: bool = True,
) -> RequestHead:
    lines: Headers = ([(b"host", b"mnist")] if host else []) + list(headers)
    return RequestHead(method, url, version, tuple(lines), upgrade)


def parsed(request: RequestHead) -> Invocation:
    result = parse.invocation(request, "AllTraffic")
    assert isinstance(result, Invocation), result
    return result


def refused(request: RequestHead) -> Reason:
    result = parse.invocation(request, "AllTraffic")
    assert isinstance(result, Refusal), result
    return result.reason


@pytest.mark.parametrize(
    ("url", "endpoint"), [(b"/invocations", ""), (b"/endpoints/mnist/invocations", "mnist"), (b"/invocations?a=b", "")]
)
def test_both_paths_are_an_invocation(url: bytes, endpoint: str) -> None:
    invocation = parsed(head(url=url))
    assert invocation.kind is Kind.INVOKE
    assert invocation.endpoint == endpoint


def test_a_target_keeps_its_case() -> None:
    assert parsed(head((TARGET, b"firstContainer"))).target == "firstContainer"


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b" ",
        b"a b",
        b"spe\xffcial",
        b"special\xa0",
        b"\xedspecial",
        b"a_b",
        b"-a",
        b"a-",
        b"a" * 64,
        b"a\n",
        b"a,b",
    ],
)
def test_a_target_that_is_no_hostname_is_refused_and_never_repaired(value: bytes) -> None:
    assert refused(head((TARGET, value))) is Reason.TARGET_INVALID


def test_a_target_given_twice_is_refused() -> None:
    assert refused(head((TARGET, b"a"), (TARGET, b"a"))) is Reason.HEADER_INVALID


def test_only_modelled_headers_go_on_and_in_canonical_form() -> None:
    invocation = parsed(
        head(
            (b"content-type", b"application/json"),
            (b"authorization", b"secret"),
            (b"cookie", b"secret"),
            (b"x-forwarded-for", b"1.2.3.4"),
            (b"accept", b"text/csv"),
            (b"x-amzn-sagemaker-custom-attributes", b"trace=1"),
            (b"traceparent", PARENT),
            (b"tracestate", b"a=1"),
            (b"tracestate", b"b=2"),
            (b"connection", b"x-other"),
        )
    )
    assert invocation.forwarded == (
        b"content-type: application/json\r\naccept: text/csv\r\n"
        b"x-amzn-sagemaker-custom-attributes: trace=1\r\n"
        b"traceparent: %b\r\ntracestate: a=1,b=2\r\n" % PARENT
    )


@pytest.mark.parametrize(
    ("request_head", "reason"),
    [
        pytest.param(head(host=False), Reason.BAD_REQUEST, id="host-missing"),
        pytest.param(head((b"host", b"b")), Reason.BAD_REQUEST, id="host-twice"),
        pytest.param(head((b"host", b"a b"), host=False), Reason.BAD_REQUEST, id="host-blank"),
        pytest.param(
            head((b"content-length", b"1"), (b"transfer-encoding", b"chunked")),
            Reason.BAD_REQUEST,
            id="length-and-chunked",
        ),
        pytest.param(head((b"content-length", b"1"), (b"content-length", b"1")), Reason.BAD_REQUEST, id="length-twice"),
        pytest.param(head((b"content-length", b"+1")), Reason.BAD_REQUEST, id="length-sign"),
        pytest.param(head((b"content-length", b"1,1")), Reason.BAD_REQUEST, id="length-list"),
        pytest.param(head((b"content-length", b"9" * 20)), Reason.BAD_REQUEST, id="length-overflow"),
        pytest.param(head((b"transfer-encoding", b"gzip, chunked")), Reason.UNSUPPORTED, id="coding"),
        pytest.param(head((b"connection", b"close, Content-Length")), Reason.BAD_REQUEST, id="connection-length"),
        pytest.param(head((b"expect", b"200-ok")), Reason.UNSUPPORTED, id="expect"),
        pytest.param(head(version="2.0"), Reason.VERSION_UNSUPPORTED, id="version"),
        pytest.param(head((b"transfer-encoding", b"chunked"), version="1.0"), Reason.BAD_REQUEST, id="chunked-1.0"),
        pytest.param(head(upgrade=True), Reason.UNSUPPORTED, id="upgrade"),
        pytest.param(head(method=b"GET"), Reason.METHOD_NOT_ALLOWED, id="method"),
        pytest.param(head(method=b"POST", url=b"/ping"), Reason.METHOD_NOT_ALLOWED, id="ping-method"),
        pytest.param(head(url=b"/"), Reason.PATH_UNKNOWN, id="root"),
        pytest.param(head(url=b"/invocations/"), Reason.PATH_UNKNOWN, id="slash"),
        pytest.param(head(url=b"http://x/invocations"), Reason.PATH_UNKNOWN, id="absolute"),
        pytest.param(head(url=b"/endpoints//invocations"), Reason.ENDPOINT_UNKNOWN, id="endpoint-empty"),
        pytest.param(head(url=b"/endpoints/a%2fb/invocations"), Reason.ENDPOINT_UNKNOWN, id="endpoint-encoded"),
        pytest.param(head((b"content-type", b"a\x00b")), Reason.HEADER_INVALID, id="value-control"),
        pytest.param(head((b"content-type", b"a"), (b"content-type", b"b")), Reason.HEADER_INVALID, id="type-twice"),
        pytest.param(
            head((b"x-amzn-sagemaker-custom-attributes", b"a" * 1025)), Reason.HEADER_INVALID, id="attributes-long"
        ),
        pytest.param(
            head((b"x-amzn-sagemaker-target-model", b"m")), Reason.TARGET_MODEL_NOT_SUPPORTED, id="multi-model"
        ),
        pytest.param(head((b"x-amzn-sagemaker-target-variant", b"B")), Reason.VARIANT_UNKNOWN, id="variant"),
    ],
)
def test_what_two_servers_could_read_differently_is_refused(request_head: RequestHead, reason: Reason) -> None:
    assert refused(request_head) is reason


def test_proxy_connection_counts_as_connection_because_it_does_for_llhttp() -> None:
    assert not parsed(head((b"proxy-connection", b"close"))).keep_alive


def test_the_variant_that_is_served_may_be_named() -> None:
    parsed(head((b"x-amzn-sagemaker-target-variant", b"AllTraffic")))


@pytest.mark.parametrize(
    ("headers", "length"),
    [([], 0), ([(b"content-length", b"12")], 12), ([(b"transfer-encoding", b"Chunked")], CHUNKED)],
)
def test_the_length_is_known(headers: Headers, length: int) -> None:
    assert parsed(head(*headers)).length == length


@pytest.mark.parametrize(
    ("version", "connection", "keeps"),
    [("1.1", None, True), ("1.1", b"close", False), ("1.1", b"x, Close", False), ("1.0", None, False),
     ("1.0", b"keep-alive", True)],
)  # fmt: skip
def test_keep_alive_is_as_the_version_says(version: str, connection: bytes | None, keeps: bool) -> None:
    headers = [(b"connection", connection)] if connection else []
    assert parsed(head(*headers, version=version)).keep_alive is keeps


@pytest.mark.parametrize(
    "parents",
    [
        [b"00-1-2-01"],
        [PARENT.upper()],
        [PARENT, PARENT],
        [b"ff" + PARENT[2:]],
        [PARENT.replace(b"0af7651916cd43dd8448eb211c80319c", b"0" * 32)],
        [PARENT + b"\xff"],
    ],
)
def test_a_trace_context_that_is_not_legal_is_dropped_and_fails_nothing(parents: list[bytes]) -> None:
    lines = [(b"traceparent", parent) for parent in parents]
    invocation = parsed(head(*lines, (b"tracestate", b"a=1")))
    assert invocation.forwarded == invocation.traceparent == invocation.tracestate == b""


def test_the_accept_of_a_stream_is_a_header_of_its_own_and_goes_on_under_the_usual_name() -> None:
    lines = ((b"accept", b"*/*"), (b"x-amzn-sagemaker-accept", b"text/csv"))
    stream = parsed(head(*lines, url=b"/endpoints/mnist/invocations-response-stream"))
    assert (stream.kind, stream.endpoint, stream.accept) == (Kind.STREAM, "mnist", b"accept: text/csv\r\n")
    assert parsed(head(*lines)).accept == b"accept: */*\r\n"


def test_a_ping_may_be_asked_by_head() -> None:
    assert parsed(head(method=b"HEAD", url=b"/ping")).kind is Kind.PING
    assert refused(head(method=b"HEAD")) is Reason.METHOD_NOT_ALLOWED
