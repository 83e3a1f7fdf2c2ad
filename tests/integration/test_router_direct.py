"""A real router process, real sockets, real model servers: what a caller of a Direct endpoint sees."""

import hashlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from support import http as caller
from support import processes
from support.law import ok
from support.processes import Router
from support.recorder import recorder


@pytest.fixture(scope="module")
def direct(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    """A Direct endpoint of two containers."""
    tmp_path: Path = tmp_path_factory.mktemp("direct")
    first, second = processes.free_port(), processes.free_port()
    with (
        processes.model("firstContainer", first, tmp_path / "first.log"),
        processes.model("second", second, tmp_path / "second.log"),
        processes.router(tmp_path, processes.table("Direct", {"firstContainer": first, "second": second})) as router,
    ):
        yield router


def test_the_named_container_answers(direct: Router) -> None:
    for name in ("firstContainer", "second"):
        reply = caller.post(direct.port, b'{"x":1}', target=name, content_type="application/json")
        assert reply.status == 200
        assert reply.json()["model"] == name


def test_a_request_for_one_container_leaves_the_others_counters_alone(direct: Router) -> None:
    before = direct.sample("mce_container_invocations_total", container="firstContainer")
    for _ in range(3):
        caller.post(direct.port, b"x", target="second")
    assert direct.sample("mce_container_invocations_total", container="firstContainer") == before


def test_each_request_counts_once_with_its_latency(direct: Router) -> None:
    names = ("mce_container_invocations_total", "mce_container_latency_seconds_count")
    before = [direct.sample(name, container="second") for name in names]
    caller.post(direct.port, b"x", target="second")
    assert [direct.sample(name, container="second") for name in names] == [value + 1 for value in before]


def test_credentials_cookies_and_unknown_headers_stop_at_the_router(direct: Router) -> None:
    reply = caller.post(
        direct.port,
        b"x",
        target="second",
        authorization="secret",
        cookie="secret",
        x_forwarded_for="1",
        accept="text/csv",
    )
    assert set(reply.json()["headers"]) == {"host", "accept", "content-length"}
    assert reply.json()["headers"]["accept"] == "text/csv"


@pytest.mark.parametrize("size", [0, 1, 1000, 70_000, 6 * 1024 * 1024])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_of_any_allowed_size_arrives_whole(direct: Router, size: int, chunked: bool) -> None:
    body = bytes(range(256)) * (size // 256 + 1)
    body = body[:size]
    reply = caller.post(direct.port, body, target="second", chunked=chunked and size > 3)
    assert reply.status == 200
    assert reply.json()["length"] == size
    assert reply.json()["sha256"] == hashlib.sha256(body).hexdigest()


def test_a_body_over_the_limit_is_refused_before_a_container_sees_it(direct: Router) -> None:
    before = direct.sample("mce_container_invocations_total", container="second")
    head = (
        b"POST /invocations HTTP/1.1\r\nHost: m\r\nContent-Length: 6291457\r\n%b: second\r\n\r\n"
        % caller.TARGET.encode()
    )
    reply = caller.raw(direct.port, head)
    assert reply.startswith(b"HTTP/1.1 413 ")
    assert b"6291456 bytes" in reply
    assert direct.sample("mce_container_invocations_total", container="second") == before


def test_a_chunked_body_over_the_limit_is_refused(direct: Router) -> None:
    head = b"POST /invocations HTTP/1.1\r\nHost: m\r\nTransfer-Encoding: chunked\r\n%b: second\r\n\r\n"
    chunk = b"%x\r\n%b\r\n" % (65536, b"a" * 65536)
    reply = caller.raw(direct.port, head % caller.TARGET.encode() + chunk * 97)
    assert reply.startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    ("target", "reason"), [("", "TargetMissing"), ("nobody", "TargetUnknown"), ("Second", "TargetUnknown")]
)
def test_a_wrong_target_is_a_validation_error_and_keeps_the_connection(
    direct: Router, target: str, reason: str
) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", direct.port, timeout=10)
    headers = {caller.TARGET: target} if target else {}
    for _ in range(2):
        connection.request("POST", "/invocations", b"body", headers)
        response = connection.getresponse()
        assert response.status == 400
        assert response.headers["x-amzn-ErrorType"] == "ValidationError"
        assert response.headers["x-mce-reason"] == reason
        assert "firstContainer, second" in json.loads(response.read())["Message"]
    connection.close()


def test_pipelined_requests_are_answered_in_order(direct: Router) -> None:
    lines = b"Host: m\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n%b: second\r\n\r\n%02d"
    request = b"POST /invocations HTTP/1.1\r\n" + lines
    data = b"".join(request % (caller.TARGET.encode(), number) for number in range(20))
    reply = caller.raw(direct.port, data, seconds=20, until=b"second(19)")
    assert [reply.find(b"second(%02d)" % number) for number in range(20)] == sorted(
        reply.find(b"second(%02d)" % number) for number in range(20)
    )
    assert reply.count(b"HTTP/1.1 200 OK") == 20


def _exchange(connection: socket.socket, request: bytes) -> bytes:
    """One request in one write; the body of its answer."""
    connection.sendall(request)
    reply = b""
    while b"\r\n\r\n" not in reply:
        reply += connection.recv(65536)
    head, _, body = reply.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK"), reply
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    while len(body) < length:
        body += connection.recv(65536)
    return body


@pytest.mark.parametrize("after", [b"", b"\r\n"], ids=["exact", "blank-line-after"])
def test_equal_heads_on_one_connection_still_get_their_own_bodies(direct: Router, after: bytes) -> None:
    lines = b"Host: m\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n%b: %b\r\n\r\n"
    with socket.create_connection(("127.0.0.1", direct.port), timeout=5) as connection:
        for number in range(30):
            name = b"second" if number % 7 else b"firstContainer"
            head = b"POST /invocations HTTP/1.1\r\n" + lines % (caller.TARGET.encode(), name)
            body = b"\r\n%02d" % number  # begins like the end of a head
            assert _exchange(connection, head + body + after) == b"%b(%b)" % (name, body)


def test_a_known_head_whose_body_comes_in_pieces_is_read_as_ever(direct: Router) -> None:
    lines = b"Host: m\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n%b: second\r\n\r\n" % caller.TARGET.encode()
    head = b"POST /invocations HTTP/1.1\r\n" + lines
    with socket.create_connection(("127.0.0.1", direct.port), timeout=5) as connection:
        assert _exchange(connection, head + b"aaaa") == b"second(aaaa)"
        for piece in (head[:10], head[10:], b"b"):
            connection.sendall(piece)
            time.sleep(0.05)
        assert _exchange(connection, b"bbb") == b"second(bbbb)"
        assert _exchange(connection, head + b"cccc") == b"second(cccc)"


def test_a_malformed_request_is_refused_and_the_connection_closed(direct: Router) -> None:
    for data in (
        b"POST /invocations HTTP/1.1\nHost: m\n\n",
        b"POST /invocations HTTP/1.1\r\nHost: m\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /invocations HTTP/1.1\r\nHost: m\r\nA : b\r\n\r\n",
        b"hello\r\n\r\n",
    ):
        reply = caller.raw(direct.port, data)
        assert reply.startswith(b"HTTP/1.1 400 "), data
        assert b"connection: close" in reply


def test_an_upgrade_is_refused(direct: Router) -> None:
    data = b"POST /invocations HTTP/1.1\r\nHost: m\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
    assert caller.raw(direct.port, data).startswith(b"HTTP/1.1 501 ")


def test_a_head_over_the_limit_is_refused(direct: Router) -> None:
    data = b"POST /invocations HTTP/1.1\r\nHost: m\r\n" + b"X-A: " + b"a" * 40_000
    assert caller.raw(direct.port, data).startswith(b"HTTP/1.1 431 ")
    assert caller.raw(direct.port, data + b"\r\n\r\n").startswith(b"HTTP/1.1 431 ")


def test_expect_100_continue_is_answered_before_the_body(direct: Router) -> None:
    head = b"POST /invocations HTTP/1.1\r\nHost: m\r\nExpect: 100-continue\r\nContent-Length: 2\r\n%b: second\r\n\r\n"
    with socket.create_connection(("127.0.0.1", direct.port), timeout=5) as connection:
        connection.sendall(head % caller.TARGET.encode())
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"hi")
        assert connection.recv(100).startswith(b"HTTP/1.1 200 OK")


def test_http_1_0_gets_its_answer_and_a_close(direct: Router) -> None:
    request = b"POST /invocations HTTP/1.0\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n%b: second\r\n\r\nhi"
    reply = caller.raw(direct.port, request % caller.TARGET.encode())
    assert reply.endswith(b"\r\n\r\nsecond(hi)")


def test_ping_says_that_the_endpoint_is_ready(direct: Router) -> None:
    assert processes.get(f"{direct.url}/ping")[0] == 200


def test_boto3_invokes_by_target_and_reads_our_errors(direct: Router) -> None:
    client = boto3.client(
        "sagemaker-runtime",
        endpoint_url=direct.url,
        region_name="us-east-1",
        aws_access_key_id="x",
        aws_secret_access_key="x",
        config=Config(retries={"total_max_attempts": 1}),
    )
    reply = client.invoke_endpoint(
        EndpointName="mnist", TargetContainerHostname="firstContainer", ContentType="text/plain", Body=b"hi"
    )
    assert reply["Body"].read() == b"firstContainer(hi)"
    assert reply["ContentType"] == "text/plain"
    assert reply["InvokedProductionVariant"] == "AllTraffic"
    with pytest.raises(client.exceptions.ClientError) as caught:
        client.invoke_endpoint(EndpointName="mnist", TargetContainerHostname="nobody", Body=b"hi")
    assert caught.value.response["Error"]["Code"] == "ValidationError"
    with pytest.raises(ClientError) as caught:
        client.invoke_endpoint(EndpointName="other", TargetContainerHostname="second", Body=b"hi")
    assert "Endpoint other not found" in caught.value.response["Error"]["Message"]
    client.close()


def test_many_callers_at_once_each_get_their_own_answer(direct: Router) -> None:
    wrong: list[bytes] = []

    def work(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", direct.port, timeout=20)
        for turn in range(20):
            body = b"%d-%d" % (number, turn)
            connection.request("POST", "/invocations", body, {caller.TARGET: "second", "Content-Type": "text/plain"})
            answer = connection.getresponse().read()
            if answer != b"second(%b)" % body:
                wrong.append(answer)
        connection.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_nothing_stays_in_flight(direct: Router) -> None:
    assert direct.sample("mce_inflight", container="second") == 0


def test_a_failing_container_is_a_model_error_with_its_own_words(tmp_path: Path) -> None:
    port = processes.free_port()
    with (
        processes.model("sick", port, tmp_path / "sick.log", FAIL_STATUS="503"),
        processes.router(tmp_path, processes.table("Direct", {"sick": port})) as router,
    ):
        reply = caller.post(router.port, b"x", target="sick")
        assert reply.status == 424
        assert reply.headers["x-amzn-errortype"] == "ModelError"
        assert reply.json()["OriginalStatusCode"] == 503
        assert reply.json()["OriginalMessage"] == "failed as told"
        assert router.sample("mce_container_errors_total", container="sick", **{"class": "5xx"}) == 1


def test_a_container_that_is_not_there_is_a_model_error_that_says_so(tmp_path: Path) -> None:
    with processes.router(tmp_path, processes.table("Direct", {"gone": processes.free_port()}), ready=False) as router:
        assert not router.is_ready()
        reply = caller.post(router.port, b"x", target="gone")
        assert reply.status == 424
        assert reply.json()["OriginalStatusCode"] == 0
        assert "connection refused" in reply.json()["Message"]
        assert reply.headers["x-mce-reason"] == "ModelUnreachable"


def test_a_container_that_takes_too_long_is_a_model_error_that_names_the_budget(tmp_path: Path) -> None:
    port = processes.free_port()
    table = processes.table("Direct", {"slow": port})
    table["targets"][0]["invocationTimeoutSeconds"] = 0.5
    with (
        processes.model("slow", port, tmp_path / "slow.log", SLOW_MS="60000"),
        processes.router(tmp_path, table) as router,
    ):
        began = time.monotonic()
        reply = caller.post(router.port, b"x", target="slow")
        assert reply.status == 424
        assert "first byte budget of 0.5 s ran out" in reply.json()["Message"]
        assert time.monotonic() - began < 3


def test_above_its_concurrency_a_container_answers_429_at_once(tmp_path: Path) -> None:
    go_on = threading.Event()
    with recorder(lambda _: [go_on, ok(b"")]) as container:
        table = processes.table("Direct", {"slow": container.port})
        table["targets"][0]["maxConcurrency"] = 1
        with processes.router(tmp_path, table, "--queue-length", "0") as router:
            first = threading.Thread(target=caller.post, args=(router.port, b"x", "slow"))
            first.start()
            processes.wait_until("first is in flight", lambda: router.sample("mce_inflight", container="slow") == 1)
            reply = caller.post(router.port, b"x", target="slow")
            go_on.set()
            first.join()
        assert reply.status == 429
        assert reply.headers["x-amzn-errortype"] == "ModelNotReadyException"
        assert reply.headers["retry-after"] == "1"


def test_with_any_a_sick_container_answers_503_and_its_sibling_serves(tmp_path: Path) -> None:
    well, sick = processes.free_port(), processes.free_port()
    table = processes.table("Direct", {"well": well, "sick": sick}, availability="Any")
    with (
        processes.model("well", well, tmp_path / "well.log"),
        processes.model("sick", sick, tmp_path / "sick.log", PING_STATUS="503"),
        processes.router(tmp_path, table) as router,
    ):
        assert caller.post(router.port, b"x", target="well").status == 200
        reply = caller.post(router.port, b"x", target="sick")
        assert reply.status == 503
        assert reply.headers["retry-after"] == "5"
        assert "answered 503, not 200" in reply.json()["Message"]
