"""Faults that the fuzzers and tables found in the router: each test fails until it is repaired.

Then the row moves to its table in test_router_refusals.py.
"""

import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from support import http as caller
from support import judge, processes
from support.judge import Message
from support.law import marked, ok
from support.recorder import Do, Recorder, Step, recorder

HEAD = b"Host: m\r\n" + caller.TARGET.encode() + b": a\r\n"


@dataclass(frozen=True)
class Bench:
    router: processes.Router
    container: Recorder


def _answer(message: Message) -> list[Step]:
    return REPLIES.get(message.body.decode()) or [ok(marked(message.body))]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with ExitStack() as stack:
        container = stack.enter_context(recorder(_answer))
        table = processes.table("Direct", {"a": container.port})
        yield Bench(stack.enter_context(processes.router(tmp_path_factory.mktemp("router"), table)), container)


def post(start: bytes, *lines: bytes) -> bytes:
    return b"\r\n".join([start + b"\r\n" + HEAD + b"Content-Length: 5", *lines, b"", b"hello"])


PLAIN = post(b"POST /invocations HTTP/1.1")
REQUESTS = {
    # llhttp takes GET and POST for AirPlay's and lets RTSP pass; h11 and nginx refuse.
    "other-protocol": post(b"POST /invocations RTSP/1.1"),
    "other-protocol-1.0": post(b"POST /invocations RTSP/1.0"),
    # RFC 9112, 3: one space. h11, nginx and Go refuse more; others take the second word to be empty.
    "two-spaces-before-path": post(b"POST  /invocations HTTP/1.1"),
    "two-spaces-after-path": post(b"POST /invocations  HTTP/1.1"),
    "many-spaces": post(b"POST" + b" " * 1000 + b"/invocations HTTP/1.1"),
    # RFC 9112, 2.2 allows an empty line (CRLF) before a request line, nothing else.
    "line-feed-before": b"\n" + PLAIN,
    "carriage-return-before": b"\r" + PLAIN,
    "line-feeds-between": b"\n\r\r\n\n" + PLAIN,
    # RFC 9110, 7.6.1: who reads this removes the header that is named, so the next one sees another message.
    "connection-nominates-length": post(b"POST /invocations HTTP/1.1", b"Connection: content-length"),
    "connection-nominates-coding": post(b"POST /invocations HTTP/1.1", b"Connection: close, Transfer-Encoding"),
    "connection-nominates-host": post(b"POST /invocations HTTP/1.1", b"Connection: host"),
    "connection-nominates-target": post(b"POST /invocations HTTP/1.1", b"Connection: " + caller.TARGET.encode()),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_found_a_request_that_others_read_differently_is_forwarded(bench: Bench, name: str) -> None:
    whole = len(bench.container.whole)
    reply = caller.raw(bench.router.port, REQUESTS[name], seconds=0.5)
    assert len(bench.container.whole) == whole, "forwarded"
    assert int(reply.split()[1]) in judge.REFUSALS


SIZED = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
REPLIES: dict[str, list[Step]] = {
    "http-2.0": [SIZED.replace(b"1.1", b"2.0")],
    "http-0.9": [SIZED.replace(b"1.1", b"0.9")],
    "other-protocol": [SIZED.replace(b"HTTP", b"RTSP")],
    "chunked-in-http-1.0": [b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"],
    "line-ends-before": [b"\r\n\n\r" + SIZED],
    # A request's length has at most 15 digits; longer numbers overflow in somebody's parser. Found by make fuzz.
    "length-of-many-digits": [SIZED.replace(b"length: 5", b"length: " + b"0" * 20 + b"5")],
    "length-of-2-to-the-64": [SIZED.replace(b"length: 5", b"length: 18446744073709551615")],
    # RFC 9112, 6.1: an interim head has no framing headers; who heeds them reads the answer as its body.
    "interim-with-coding": [b"HTTP/1.1 103 E\r\ntransfer-encoding: chunked\r\n\r\n" + SIZED],
    # The request's rules for these two headers, which the reply's do not have.
    "high-byte-in-content-type": [SIZED.replace(b"OK\r\n", b"OK\r\ncontent-type: a/b\xff\r\n")],
    "attributes-twice": [SIZED.replace(b"OK\r\n", b"OK\r\n" + b"x-amzn-sagemaker-custom-attributes: a\r\n" * 2)],
    "content-type-twice": [SIZED.replace(b"OK\r\n", b"OK\r\ncontent-type: a/b\r\ncontent-type: text/html\r\n")],
}


@pytest.mark.parametrize("name", REPLIES)
def test_found_a_reply_that_others_read_differently_is_an_answer(bench: Bench, name: str) -> None:
    with socket.create_connection(("127.0.0.1", bench.router.port), timeout=3) as connection:
        body = b"%d\r\n\r\n%b" % (len(name), name.encode())
        connection.sendall(PLAIN.replace(b"5\r\n\r\nhello", body))
        reply = connection.recv(65536)
    assert reply.startswith(b"HTTP/1.1 424 "), reply


@pytest.mark.parametrize("late", [ok(b"poison"), b"junk", Do.CLOSE], ids=["poison", "junk", "close"])
def test_found_a_connection_is_used_again_with_something_unread_on_it(tmp_path: Path, late: Step) -> None:
    """What a container said on an idle connection is taken for the answer to a request that came just before it.

    The router stands still while both arrive, request first, and then finds both in one turn: it begins the request on
    the idle connection, and reads as its answer what was said before it was sent. The same with a close: 424, where a
    new connection would have served. A look at the socket (`MSG_PEEK | MSG_DONTWAIT`) when a connection is taken from
    the pool would see it; what is said later than that nobody can tell from an answer.
    """
    go = threading.Event()

    def answer(message: Message) -> list[Step]:
        return [ok(b"first"), go, late] if message.body == b"first" else [ok(marked(message.body))]

    def request(body: bytes) -> bytes:
        return b"POST /invocations HTTP/1.1\r\n" + HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)

    with (
        recorder(answer) as container,
        processes.router(tmp_path, processes.table("Direct", {"a": container.port})) as router,
        socket.create_connection(("127.0.0.1", router.port), timeout=10) as connection,
    ):
        connection.sendall(request(b"first"))
        assert judge.replies(connection.recv(65536), closed=False).whole[0].body == b"first"
        router.process.send_signal(signal.SIGSTOP)
        connection.sendall(request(b"second"))
        time.sleep(0.2)
        go.set()
        time.sleep(0.2)
        router.process.send_signal(signal.SIGCONT)
        assert judge.replies(connection.recv(65536), closed=False).whole[0].body == marked(b"second")
