"""Containers and callers that do the unusual at the wrong moment: early and late replies, pieces, reloads, drains."""

import contextlib
import json
import os
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from support import http as caller
from support import judge, processes
from support.judge import Message
from support.law import marked
from support.recorder import Do, Step, recorder
from support.scripted import Scripted, keep_reading, ok, read_until, request, scripted


def test_an_early_answer_in_a_chain_keeps_the_rest_of_the_callers_body_from_the_next_container(tmp_path: Path) -> None:
    def early(container: Scripted, connection: socket.socket, _data: bytes) -> None:
        connection.sendall(ok(b"hop"))
        keep_reading(container, connection)

    def second(container: Scripted, connection: socket.socket, _data: bytes) -> None:
        time.sleep(0.6)
        connection.settimeout(0.3)
        with contextlib.suppress(TimeoutError):
            keep_reading(container, connection)
        connection.sendall(ok(b"done"))

    with (
        scripted(early) as one,
        scripted(second) as two,
        processes.router(tmp_path, processes.table("Serial", {"one": one.port, "two": two.port})) as router,
        socket.create_connection(("127.0.0.1", router.port)) as connection,
    ):
        connection.sendall(request(b"first half,", target=b"", length=22))
        processes.wait_until("two is asked", lambda: two.requests == 1)
        connection.sendall(b"second half")
        assert read_until(connection, b"done").endswith(b"\r\n\r\ndone")
        assert two.received.endswith(b"\r\n\r\nhop")


def test_an_early_answer_reaches_the_caller_whose_body_is_then_thrown_away(tmp_path: Path) -> None:
    def early(_container: Scripted, connection: socket.socket, _data: bytes) -> None:
        connection.sendall(ok(b"early"))
        time.sleep(1)

    with (
        scripted(early) as one,
        processes.router(tmp_path, processes.table("Direct", {"a": one.port})) as router,
        socket.create_connection(("127.0.0.1", router.port)) as connection,
    ):
        connection.sendall(request(b"xx", length=2_000_002))
        assert read_until(connection, b"early").endswith(b"early")
        connection.sendall(b"GET " * 500_000 + request(b"y"))
        assert read_until(connection, b"early").endswith(b"early")
        assert one.requests == 2
        assert b"GET" not in one.received


def test_requests_before_a_malformed_one_are_answered_and_then_it(tmp_path: Path) -> None:
    port = processes.free_port()
    with (
        processes.model("a", port, tmp_path / "a.log", SLOW_MS="100"),
        processes.router(tmp_path, processes.table("Direct", {"a": port})) as router,
    ):
        reply = caller.raw(router.port, request(b"1") + request(b"2") + request(b"3") + b"GET bad\r\n\r\n")
        assert reply.count(b"HTTP/1.1 200") == 3
        assert b"a(3)" in reply
        assert b"HTTP/1.1 400 " in reply.partition(b"a(3)")[2]
        reply = caller.raw(router.port, request(b"1") + request(b"2", b"Connection: close") + request(b"3"))
        assert reply.endswith(b"a(2)")
        assert reply.count(b"HTTP/1.1 ") == 2


def test_a_refused_expectation_ends_the_connection_and_never_says_continue(tmp_path: Path) -> None:
    port = processes.free_port()
    with (
        processes.model("a", port, tmp_path / "a.log"),
        processes.router(tmp_path, processes.table("Direct", {"a": port})) as router,
    ):
        head = request(b"", b"Expect: 100-continue", target=b"nobody", length=3)
        reply = caller.raw(router.port, head)
        assert reply.startswith(b"HTTP/1.1 400 ")
        assert b"connection: close" in reply


def test_http_1_0_is_never_left_waiting(tmp_path: Path) -> None:
    with processes.router(tmp_path, processes.table("Direct", {"a": processes.free_port()}), ready=False) as router:
        reply = caller.raw(router.port, b"GET /ping HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        assert b"connection: close" in reply
        reply = caller.raw(router.port, b"POST /invocations HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        assert b"connection: close" in reply


def test_proxy_connection_means_the_same_to_the_parser_and_to_us(tmp_path: Path) -> None:
    port = processes.free_port()
    with (
        processes.model("a", port, tmp_path / "a.log"),
        processes.router(tmp_path, processes.table("Direct", {"a": port})) as router,
    ):
        reply = caller.raw(router.port, request(b"1", b"Proxy-Connection: close"))
        assert b"connection: close" in reply
        assert reply.endswith(b"a(1)")


def test_interim_heads_and_a_head_in_many_pieces_are_read(tmp_path: Path) -> None:
    def pieces(_container: Scripted, connection: socket.socket, _data: bytes) -> None:
        for byte in b"HTTP/1.1 103 Early\r\nx: y\r\n\r\nHTTP/1.1 100 C\r\n\r\n" + ok(b"body"):
            connection.sendall(bytes([byte]))
            time.sleep(0.001)

    with (
        scripted(pieces) as one,
        processes.router(tmp_path, processes.table("Direct", {"a": one.port})) as router,
    ):
        assert caller.post(router.port, b"x", target="a").body == b"body"


@pytest.mark.parametrize(
    "start",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nx: ", id="head"),
        pytest.param(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx: ", id="trailer"),
        pytest.param(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;x=", id="extension"),
    ],
)
def test_a_head_or_trailer_without_end_is_cut_off(tmp_path: Path, start: bytes) -> None:
    sent = []

    def endless(_container: Scripted, connection: socket.socket, _data: bytes) -> None:
        connection.sendall(start)
        for _ in range(640):
            connection.sendall(b"a" * 65536)
            sent.append(65536)

    with (
        scripted(endless) as one,
        processes.router(tmp_path, processes.table("Direct", {"a": one.port})) as router,
    ):
        caller.raw(router.port, request(b"x"), seconds=3)
        assert sum(sent) < 20_000_000
        assert router.is_ready()


def test_connections_that_ended_within_a_head_hold_no_memory(tmp_path: Path) -> None:
    """A connection and its parser point at each other: what they hold would wait for the cycle collector."""
    bomb = b"HTTP/1.1 200 OK\r\n" + b"".join(b"x-%d: %b\r\n" % (i, b"b" * 1000) for i in range(600))

    def endless(_container: Scripted, connection: socket.socket, _data: bytes) -> None:
        connection.sendall(bomb)

    with (
        scripted(endless) as one,
        processes.router(tmp_path, processes.table("Direct", {"a": one.port})) as router,
        contextlib.ExitStack() as stack,
    ):
        callers = [stack.enter_context(socket.create_connection(("127.0.0.1", router.port))) for _ in range(16)]
        before = _resident_mib(router.process.pid)
        for _ in range(30):
            for each in callers:
                each.sendall(request())
            for each in callers:
                assert b"HTTP/1.1 424 " in read_until(each, b"\r\n\r\n")
        assert _resident_mib(router.process.pid) - before < 32


def test_requests_for_a_container_that_is_not_there_hold_no_memory(tmp_path: Path) -> None:
    """The error of a connect that failed points at what asked for it, and waits for the cycle collector too."""
    table = processes.table("Direct", {"a": processes.free_port()})
    with processes.router(tmp_path, table, ready=False) as router:
        before = _resident_mib(router.process.pid)
        for _ in range(30):
            with contextlib.ExitStack() as stack:
                for _ in range(64):
                    each = stack.enter_context(socket.create_connection(("127.0.0.1", router.port)))
                    each.setblocking(False)
                    each.send(request(b"x" * 200_000, length=900_000))
                time.sleep(0.1)
        assert _resident_mib(router.process.pid) - before < 32


def _resident_mib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def test_a_hop_in_tiny_chunks_does_not_stall_the_others(tmp_path: Path) -> None:
    def tiny(_container: Scripted, connection: socket.socket, _data: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        connection.sendall(b"1\r\na\r\n" * 60_000 + b"0\r\n\r\n")

    port = processes.free_port()
    with (
        scripted(tiny) as one,
        processes.model("two", port, tmp_path / "two.log"),
        processes.router(tmp_path, processes.table("Serial", {"one": one.port, "two": port})) as router,
    ):
        began = time.monotonic()
        assert caller.post(router.port, b"x").json()["length"] == 60_000
        assert time.monotonic() - began < 5


@pytest.mark.parametrize("late", [ok(b"poison"), b"junk", Do.CLOSE], ids=["poison", "junk", "close"])
def test_an_idle_connection_on_which_something_came_is_used_no_more(tmp_path: Path, late: Step) -> None:
    """What a container says on an idle connection is no answer to the request that came just before it.

    The router stands still while both arrive, request first, and then finds both in one turn.
    """
    go = threading.Event()

    def answer(message: Message) -> list[Step]:
        return [ok(b"first"), go, late] if message.body == b"first" else [ok(marked(message.body))]

    with (
        recorder(answer) as container,
        processes.router(tmp_path, processes.table("Direct", {"a": container.port})) as router,
        socket.create_connection(("127.0.0.1", router.port), timeout=10) as connection,
    ):
        connection.sendall(request(b"first"))
        assert judge.replies(connection.recv(65536), closed=False).whole[0].body == b"first"
        router.process.send_signal(signal.SIGSTOP)
        connection.sendall(request(b"second"))
        go.set()
        processes.wait_until("it has said it", lambda: container.said == 1)
        time.sleep(0.05)
        router.process.send_signal(signal.SIGCONT)
        assert judge.replies(connection.recv(65536), closed=False).whole[0].body == marked(b"second")


def test_a_part_of_a_head_is_never_taken_for_a_whole_request(tmp_path: Path) -> None:
    """The router remembers heads that it has seen: where no blank line is found, the body begins nowhere, not at 3."""
    whole = request(b"x" * 45)
    part = whole[: 3 + 45]
    port = processes.free_port()
    with (
        processes.model("a", port, tmp_path / "a.log"),
        processes.router(tmp_path, processes.table("Direct", {"a": port})) as router,
        socket.create_connection(("127.0.0.1", router.port)) as first,
        socket.create_connection(("127.0.0.1", router.port)) as second,
    ):
        first.sendall(whole)
        assert read_until(first, b")").endswith(b"\r\n\r\na(%b)" % (b"x" * 45))
        for connection in (first, second):
            connection.sendall(part)
            assert read_until(connection, b")", 0.5) == b""  # nothing was asked yet
        for connection in (first, second):
            connection.sendall(whole[len(part) :])
            assert read_until(connection, b")").endswith(b"\r\n\r\na(%b)" % (b"x" * 45))
        assert router.sample("mce_container_invocations_total", container="a") == 3


def _slow_reader(port: int) -> socket.socket:
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", port))
    return connection


def test_a_slow_reader_gets_its_last_answer_whole(tmp_path: Path) -> None:
    body = bytes(range(256)) * 24_000
    with (
        scripted(lambda _container, connection, _data: connection.sendall(ok(body))) as one,
        processes.router(tmp_path, processes.table("Direct", {"a": one.port})) as router,
        _slow_reader(router.port) as connection,
    ):
        connection.sendall(request(b"x", b"Connection: close"))
        received = b""
        while router.sample("mce_inflight", container="a") or not received:
            received += connection.recv(65536)
        assert len(received) < len(body)
        time.sleep(5)
        while piece := connection.recv(65536):
            received += piece
        assert received.partition(b"\r\n\r\n")[2] == body


def test_a_caller_that_reads_nothing_is_served_no_further(tmp_path: Path) -> None:
    body = b"a" * 60_000

    def many(_container: Scripted, connection: socket.socket, data: bytes) -> None:
        while data:
            connection.sendall(ok(body))
            data = connection.recv(65536)
            if data:
                _container.requests += 1

    with (
        scripted(many) as one,
        processes.router(tmp_path, processes.table("Direct", {"a": one.port})) as router,
        _slow_reader(router.port) as connection,
    ):
        connection.settimeout(1)
        with contextlib.suppress(TimeoutError):
            for _ in range(1500):
                connection.sendall(request(b"x"))
                time.sleep(0.001)
        time.sleep(0.5)
        assert one.requests < 200
        served = one.requests
        received = 0
        connection.settimeout(20)
        while received <= 1000 * len(body) and (piece := connection.recv(1 << 20)):
            received += len(piece)
        assert received > 1000 * len(body)  # reading goes on: all are answered
        assert one.requests > served


def test_a_slow_upload_is_the_callers_fault(tmp_path: Path) -> None:
    port = processes.free_port()
    table = processes.table("Direct", {"a": port})
    table["targets"][0]["invocationTimeoutSeconds"] = 0.5
    with (
        processes.model("a", port, tmp_path / "a.log"),
        processes.router(tmp_path, table) as router,
    ):
        assert caller.raw(router.port, request(b"x", length=10)).startswith(b"HTTP/1.1 408 ")
        assert router.sample("mce_container_errors_total", container="a", **{"class": "5xx"}) == 0


def test_a_container_that_hangs_up_at_once_is_noticed_at_once(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            with contextlib.suppress(OSError):
                while True:
                    server.accept()[0].close()

        threading.Thread(target=hang_up, daemon=True).start()
        table = processes.table("Direct", {"a": server.getsockname()[1]})
        with processes.router(tmp_path, table, ready=False) as router:
            for _ in range(300):
                began = time.monotonic()
                assert caller.post(router.port, b"x", target="a").status == 424
                assert time.monotonic() - began < 2
        server.shutdown(socket.SHUT_RDWR)


def test_in_flight_is_right_when_a_container_goes_and_comes_back(tmp_path: Path) -> None:
    port, other = processes.free_port(), processes.free_port()
    with (
        processes.model("a", port, tmp_path / "a.log", SLOW_MS="2500"),
        processes.model("b", other, tmp_path / "b.log"),
        processes.router(tmp_path, processes.table("Direct", {"a": port, "b": other})) as router,
    ):
        thread = threading.Thread(target=caller.post, args=(router.port, b"x", "a"))
        thread.start()
        processes.wait_until("in flight", lambda: router.sample("mce_inflight", container="a") == 1)
        router.table.write_text(json.dumps(processes.table("Direct", {"b": other})))
        processes.wait_until("a is gone", lambda: "a" not in router.targets())
        router.table.write_text(json.dumps(processes.table("Direct", {"a": port, "b": other})))
        processes.wait_until("a is back", lambda: "a" in router.targets())
        thread.join()
        assert router.sample("mce_inflight", container="a") == 0


def test_a_drain_waits_for_a_slow_reader(tmp_path: Path) -> None:
    body = bytes(range(256)) * 24_000
    with (
        scripted(lambda _container, connection, _data: connection.sendall(ok(body))) as one,
        processes.router(tmp_path, processes.table("Direct", {"a": one.port})) as router,
        _slow_reader(router.port) as connection,
    ):
        connection.sendall(request(b"x"))
        received = b""
        while router.sample("mce_inflight", container="a") or not received:
            received += connection.recv(65536)
        assert len(received) < len(body)
        router.terminate()
        time.sleep(3)
        while piece := connection.recv(65536):
            received += piece
        assert received.partition(b"\r\n\r\n")[2] == body
        assert router.process.wait(5) == 0
