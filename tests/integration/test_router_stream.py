"""Streams both ways: AWS event streams as boto3 reads them, chunks and server-sent events as they come, late bodies."""

import contextlib
import http.client
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EventStreamError

from support import http as caller
from support import processes
from support.processes import Router
from support.scripted import Script, Scripted, body_of, ok, read_until, request, scripted

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
STREAM_PATH = "/endpoints/mnist/invocations-response-stream"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def runtime(router: Router) -> Any:
    return boto3.client(
        "sagemaker-runtime",
        endpoint_url=router.url,
        region_name="us-east-1",
        aws_access_key_id="a",
        aws_secret_access_key="b",
        config=Config(retries={"total_max_attempts": 1}),
    )


def invoke(router: Router, **more: Any) -> Any:
    return runtime(router).invoke_endpoint_with_response_stream(
        EndpointName="mnist", TargetContainerHostname="a", Body=b"x", **more
    )


@contextlib.contextmanager
def direct(tmp_path: Path, container: Scripted, *options: str, **more: Any) -> Iterator[Router]:
    with processes.router(tmp_path, processes.table("Direct", {"a": container.port}, **more), *options) as router:
        yield router


@dataclass
class Stage:
    """A router with the defaults, and a container whose script each test sets."""

    router: Router
    container: Scripted

    def play(self, script: Script) -> None:
        # The connection of the script before ends with it; a request that came just then could be sent on it.
        processes.wait_until("the script before has ended", lambda: not self.container.playing)
        self.container.script = script
        self.container.received = b""


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    def nothing(_container: Scripted, _connection: socket.socket, _data: bytes) -> None:
        pass

    with scripted(nothing) as container, direct(tmp_path_factory.mktemp("router"), container) as router:
        yield Stage(router, container)


def test_boto3_reads_a_stream_part_by_part_as_the_container_says_it(stage: Stage) -> None:
    go_on = threading.Event()

    def script(_container: Scripted, connection: socket.socket, _data: bytes) -> None:
        connection.sendall(HEAD + chunk(b"first "))
        go_on.wait(10)
        connection.sendall(chunk(b"second") + b"0\r\n\r\n")

    stage.play(script)
    answer = invoke(stage.router, Accept="text/event-stream", ContentType="text/plain", CustomAttributes="k=v")
    assert answer["ContentType"] == "text/event-stream"
    assert answer["InvokedProductionVariant"] == "AllTraffic"
    parts = iter(answer["Body"])
    assert next(parts)["PayloadPart"]["Bytes"] == b"first "
    go_on.set()
    assert [part["PayloadPart"]["Bytes"] for part in parts] == [b"second"]
    head = stage.container.received.partition(b"\r\n\r\n")[0].split(b"\r\n")
    assert head[0] == b"POST /invocations HTTP/1.1"
    assert sorted(head[1:]) == [
        b"accept: text/event-stream",
        b"content-length: 1",
        b"content-type: text/plain",
        b"host: 127.0.0.1:%d" % stage.container.port,
        b"x-amzn-sagemaker-custom-attributes: k=v",
    ]


@pytest.mark.parametrize("size", [0, 1, 65536, 65537, 3_000_000])
def test_a_reply_of_any_size_is_whole_in_its_frames(stage: Stage, size: int) -> None:
    body = bytes(range(256)) * (size // 256 + 1)
    body = body[:size]

    def script(_container: Scripted, connection: socket.socket, _data: bytes) -> None:
        connection.sendall(ok(body))

    stage.play(script)
    parts = [part["PayloadPart"]["Bytes"] for part in invoke(stage.router)["Body"]]
    assert b"".join(parts) == body
    assert all(len(part) <= 65536 for part in parts)


def test_a_container_that_breaks_off_in_a_stream_is_a_model_stream_error(stage: Stage) -> None:
    def script(_container: Scripted, connection: socket.socket, _data: bytes) -> None:
        connection.sendall(HEAD + chunk(b"half"))
        time.sleep(0.3)

    stage.play(script)
    body = invoke(stage.router)["Body"]
    parts = iter(body)
    assert next(parts)["PayloadPart"]["Bytes"] == b"half"
    with contextlib.closing(body), pytest.raises(EventStreamError) as caught:
        next(parts)
    assert caught.value.response["Error"]["Code"] == "ModelStreamError"
    assert "in the middle of its answer" in caught.value.response["Error"]["Message"]
    assert stage.router.sample("mce_errors_total", reason="ModelBrokeOff") == 1


def test_a_silence_or_an_endless_stream_ends_with_its_budget_named(tmp_path: Path) -> None:
    stop = threading.Event()

    def script(_container: Scripted, connection: socket.socket, data: bytes) -> None:
        connection.sendall(HEAD + chunk(b"x"))
        while not stop.wait(0.1):
            if b"drip" in data:
                connection.sendall(chunk(b"x"))

    options = ("--reply-idle-seconds", "3", "--stream-seconds", "4")
    with scripted(script) as container, direct(tmp_path, container, *options) as router:
        for attributes, budget in (("still", "idle budget of 3 s"), ("drip", "stream budget of 4 s")):
            body = invoke(router, CustomAttributes=attributes)["Body"]
            with contextlib.closing(body), pytest.raises(EventStreamError, match=budget):
                list(body)
        stop.set()


def test_a_failure_before_the_first_byte_is_an_ordinary_error(stage: Stage) -> None:
    def script(_container: Scripted, connection: socket.socket, _data: bytes) -> None:
        connection.sendall(b"HTTP/1.1 503 X\r\ncontent-length: 3\r\n\r\nbad")

    stage.play(script)
    with pytest.raises(ClientError) as caught:
        invoke(stage.router)
    assert caught.value.response["Error"]["Code"] == "ModelError"
    assert caught.value.response["OriginalStatusCode"] == 503
    with pytest.raises(ClientError) as caught:
        runtime(stage.router).invoke_endpoint_with_response_stream(EndpointName="mnist", Body=b"x")
    assert caught.value.response["Error"]["Code"] == "ValidationError"


def test_the_last_container_of_a_chain_streams(tmp_path: Path) -> None:
    def last(_container: Scripted, connection: socket.socket, data: bytes) -> None:
        connection.sendall(HEAD + chunk(data.partition(b"\r\n\r\n")[2]) + chunk(b"!") + b"0\r\n\r\n")

    port = processes.free_port()
    with (
        scripted(last) as container,
        processes.model("one", port, tmp_path / "one.log"),
        processes.router(tmp_path, processes.table("Serial", {"one": port, "two": container.port})) as router,
    ):
        answer = runtime(router).invoke_endpoint_with_response_stream(
            EndpointName="mnist", Body=b"x", ContentType="text/plain"
        )
        assert b"".join(part["PayloadPart"]["Bytes"] for part in answer["Body"]) == b"one(x)!"


def test_http_1_0_gets_its_frames_until_the_close(stage: Stage) -> None:
    def script(_container: Scripted, connection: socket.socket, _data: bytes) -> None:
        connection.sendall(ok(b"hello"))

    stage.play(script)
    raw = b"POST %b HTTP/1.0\r\nContent-Length: 0\r\n%b: a\r\n\r\n" % (STREAM_PATH.encode(), caller.TARGET.encode())
    head, _, body = caller.raw(stage.router.port, raw).partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head.lower()
    assert b"connection: close" in head
    assert body[:4] == len(body).to_bytes(4, "big")


def test_a_reply_that_breaks_off_resets_the_connection_of_http_1_0(tmp_path: Path) -> None:
    def script(_container: Scripted, connection: socket.socket, _data: bytes) -> None:
        connection.sendall(HEAD + chunk(b"half"))
        time.sleep(0.3)

    with (
        scripted(script) as container,
        direct(tmp_path, container) as router,
        socket.create_connection(("127.0.0.1", router.port), timeout=5) as connection,
    ):
        raw = b"POST /invocations HTTP/1.0\r\nContent-Length: 0\r\n%b: a\r\n\r\n" % caller.TARGET.encode()
        connection.sendall(raw)
        assert read_until(connection, b"half").endswith(b"half")
        with pytest.raises(ConnectionResetError):
            connection.recv(1)


def test_server_sent_events_pass_through_as_they_come(stage: Stage) -> None:
    go_on = threading.Event()

    def script(_container: Scripted, connection: socket.socket, _data: bytes) -> None:
        connection.sendall(HEAD + chunk(b"data: 1\n\n"))
        go_on.wait(10)
        connection.sendall(chunk(b"data: 2\n\n") + b"0\r\n\r\n")

    stage.play(script)
    connection = http.client.HTTPConnection("127.0.0.1", stage.router.port, timeout=5)
    connection.request("POST", "/invocations", b"", {caller.TARGET: "a"})
    answer = connection.getresponse()
    assert answer.getheader("content-type") == "text/event-stream"
    assert answer.read(9) == b"data: 1\n\n"
    go_on.set()
    assert answer.read() == b"data: 2\n\n"
    connection.close()


def test_a_chunked_body_reaches_the_container_with_its_length(stage: Stage) -> None:
    def script(container: Scripted, connection: socket.socket, data: bytes) -> None:
        container.received = data.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" + body_of(connection, data)
        connection.sendall(ok(b""))

    stage.play(script)
    assert caller.post(stage.router.port, b"123456", target="a", chunked=True).status == 200
    assert b"content-length: 6\r\n" in stage.container.received
    assert b"transfer-encoding" not in stage.container.received
    assert stage.container.received.endswith(b"\r\n\r\n123456")


def test_a_chunked_body_that_takes_its_time_is_a_stream_and_goes_on_in_chunks(stage: Stage) -> None:
    def script(container: Scripted, connection: socket.socket, data: bytes) -> None:
        while not data.endswith(b"0\r\n\r\n"):
            data = connection.recv(65536)
            container.received += data
        connection.sendall(ok(b"done"))

    stage.play(script)
    head = request(b"", b"Transfer-Encoding: chunked").replace(b"Content-Length: 0\r\n", b"")
    with socket.create_connection(("127.0.0.1", stage.router.port)) as connection:
        connection.sendall(head + chunk(b"early"))
        processes.wait_until("the first chunk is there", lambda: stage.container.received.endswith(b"5\r\nearly\r\n"))
        connection.sendall(chunk(b"late") + b"0\r\n\r\n")
        assert read_until(connection, b"done").endswith(b"done")
    assert stage.container.received.endswith(b"5\r\nearly\r\n4\r\nlate\r\n0\r\n\r\n")


def test_a_large_chunked_body_is_not_held_whole(tmp_path: Path) -> None:
    def script(container: Scripted, connection: socket.socket, _data: bytes) -> None:
        while not container.received.endswith(b"0\r\n\r\n"):
            container.received += connection.recv(1 << 20)
        connection.sendall(ok(b"done"))

    limits = {"maxRequestBytes": 1 << 30, "maxHopBytes": 1, "maxConcurrency": 0}
    with scripted(script) as container, direct(tmp_path, container, limits=limits) as router:
        head = request(b"", b"Transfer-Encoding: chunked").replace(b"Content-Length: 0\r\n", b"")
        with socket.create_connection(("127.0.0.1", router.port)) as connection:
            connection.sendall(head)
            for _ in range(16):
                connection.sendall(chunk(b"x" * 1_000_000))
            connection.sendall(b"0\r\n\r\n")
            assert read_until(connection, b"done", 20).endswith(b"done")
    assert b"transfer-encoding: chunked" in container.received
    assert container.received.partition(b"\r\n\r\n")[2].count(b"x") == 16_000_000
