"""Every limit, on real sockets: the documented answer at once, or after the short wait that is promised."""

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support import http as caller
from support import processes
from support.http import Reply
from support.processes import Router
from support.scripted import Scripted, body_of, keep_reading, ok, read_until, request, scripted


class Gate:
    """A container that answers when told to."""

    def __init__(self) -> None:
        self.open = threading.Event()

    def __call__(self, container: Scripted, connection: socket.socket, data: bytes) -> None:
        while data:
            self.open.wait(20)
            connection.sendall(ok(body_of(connection, data)))
            data = connection.recv(65536)
            container.requests += bool(data)


@contextmanager
def capped(tmp_path: Path, cap: int, *options: str, **more: Any) -> Iterator[tuple[Router, Scripted, Gate]]:
    gate = Gate()
    with scripted(gate) as container:
        table = processes.table("Direct", {"a": container.port}, **more)
        table["targets"][0]["maxConcurrency"] = cap
        with processes.router(tmp_path, table, *options) as router:
            try:
                yield router, container, gate
            finally:
                gate.open.set()


def posts(pool: ThreadPoolExecutor, router: Router, count: int) -> list[Any]:
    return [pool.submit(caller.post, router.port, b"%d" % number, "a") for number in range(count)]


def test_above_a_containers_cap_a_few_wait_and_are_served_in_order(tmp_path: Path) -> None:
    with capped(tmp_path, 1, "--queue-seconds", "15") as (router, container, gate), ThreadPoolExecutor(4) as pool:
        first = pool.submit(caller.post, router.port, b"0", "a")
        processes.wait_until("one is in flight", lambda: container.requests == 1)
        others = []
        for number in (1, 2, 3):
            others.append(pool.submit(caller.post, router.port, b"%d" % number, "a"))
            processes.wait_until("one more waits", lambda n=number: router.targets()["a"]["queued"] == n)
        assert container.requests == 1
        gate.open.set()
        replies: list[Reply] = [future.result(20) for future in (first, *others)]
        assert [(reply.status, reply.body) for reply in replies] == [(200, b"%d" % n) for n in range(4)]
        assert router.targets()["a"]["queued"] == router.targets()["a"]["inflight"] == 0


def test_who_waited_too_long_or_finds_the_queue_full_is_told_to_come_again(tmp_path: Path) -> None:
    options = ("--queue-seconds", "0.5", "--queue-length", "1")
    with capped(tmp_path, 1, *options) as (router, container, gate), ThreadPoolExecutor(3) as pool:
        first = pool.submit(caller.post, router.port, b"0", "a")
        processes.wait_until("one is in flight", lambda: container.requests == 1)
        waiting = pool.submit(caller.post, router.port, b"1", "a")
        processes.wait_until("one waits", lambda: router.targets()["a"]["queued"] == 1 or waiting.done())
        for reply in (caller.post(router.port, b"2", target="a"), waiting.result(20)):
            assert reply.status == 429
            assert reply.headers["x-amzn-errortype"] == "ModelNotReadyException"
            assert reply.headers["x-mce-reason"] == "ContainerBusy"
            assert reply.headers["retry-after"] == "1"
        gate.open.set()
        assert first.result(20).status == 200
        assert container.requests == 1


def test_a_caller_that_leaves_the_queue_is_never_sent_to_the_container(tmp_path: Path) -> None:
    with capped(tmp_path, 1, "--queue-seconds", "15") as (router, container, gate), ThreadPoolExecutor(1) as pool:
        first = pool.submit(caller.post, router.port, b"0", "a")
        processes.wait_until("one is in flight", lambda: container.requests == 1)
        with socket.create_connection(("127.0.0.1", router.port)) as connection:
            connection.sendall(request(b"gone"))
            processes.wait_until("one waits", lambda: router.targets()["a"]["queued"] == 1)
        processes.wait_until("none waits", lambda: router.targets()["a"]["queued"] == 0)
        gate.open.set()
        assert first.result(20).body == b"0"
        assert caller.post(router.port, b"next", target="a").body == b"next"
        assert b"gone" not in container.received


def test_over_the_endpoints_cap_the_endpoint_is_busy(tmp_path: Path) -> None:
    limits = {"maxRequestBytes": 1000, "maxHopBytes": 1, "maxConcurrency": 1}
    with (
        capped(tmp_path, 0, "--queue-length", "0", limits=limits) as (router, container, gate),
        ThreadPoolExecutor(1) as pool,
    ):
        first = pool.submit(caller.post, router.port, b"0", "a")
        processes.wait_until("one is in flight", lambda: container.requests == 1)
        reply = caller.post(router.port, b"1", target="a")
        assert (reply.status, reply.headers["x-mce-reason"]) == (503, "EndpointBusy")
        gate.open.set()
        assert first.result(20).status == 200


def test_a_greater_cap_lets_those_in_who_wait(tmp_path: Path) -> None:
    with (
        capped(tmp_path, 1, "--queue-seconds", "15") as (router, container, gate),
        ThreadPoolExecutor(2) as pool,
    ):
        both = posts(pool, router, 2)
        processes.wait_until("one waits", lambda: router.targets()["a"]["queued"] == 1)
        router.table.write_text(router.table.read_text().replace('"maxConcurrency": 1', '"maxConcurrency": 2'))
        processes.wait_until("both are in flight", lambda: container.requests == 2)
        gate.open.set()
        assert {future.result(20).body for future in both} == {b"0", b"1"}


def test_a_chain_has_its_place_at_every_container_or_at_none(tmp_path: Path) -> None:
    gate = Gate()
    port = processes.free_port()
    with (
        scripted(gate) as last,
        processes.model("one", port, tmp_path / "one.log"),
        ThreadPoolExecutor(1) as pool,
    ):
        table = processes.table("Serial", {"one": port, "two": last.port})
        table["targets"][1]["maxConcurrency"] = 1
        with processes.router(tmp_path, table, "--queue-length", "0") as router:
            first = pool.submit(caller.post, router.port, b"0", content_type="text/plain")
            processes.wait_until("the chain is at its end", lambda: last.requests == 1)
            reply = caller.post(router.port, b"1", content_type="text/plain")
            assert (reply.status, reply.headers["x-mce-reason"]) == (429, "ContainerBusy")
            assert router.sample("mce_container_invocations_total", container="one") == 1
            gate.open.set()
            assert first.result(20).body == b"one(0)"


def test_hops_of_all_chains_together_are_bounded(tmp_path: Path) -> None:
    release = threading.Event()

    def large(_container: Scripted, connection: socket.socket, _data: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 600000\r\n\r\n" + b"x" * 300_000)
        release.wait(20)
        connection.sendall(b"x" * 300_000)

    def small(_container: Scripted, connection: socket.socket, data: bytes) -> None:
        while len(data) < 600_000:
            data += connection.recv(1 << 20)
        connection.sendall(ok(b"done", b"connection: close"))

    with (
        scripted(large) as one,
        scripted(small) as two,
        processes.router(
            tmp_path,
            processes.table("Serial", {"one": one.port, "two": two.port}),
            "--max-buffered-bytes",
            "800000",
        ) as router,
        ThreadPoolExecutor(4) as pool,
    ):
        chains = [pool.submit(caller.post, router.port, b"x") for _ in range(4)]
        processes.wait_until("two are over", lambda: sum(chain.done() for chain in chains) == 2)
        release.set()
        replies = [chain.result(20) for chain in chains]
        refused = [reply for reply in replies if reply.status == 503]
        assert {reply.headers["x-mce-reason"] for reply in refused} == {"MemoryLimit"}
        assert len(refused) >= 2
        assert {reply.body for reply in replies if reply.status == 200} == {b"done"}
        assert caller.post(router.port, b"x").body == b"done"  # all was given back


def test_a_connection_too_many_is_told_so_and_the_others_go_on(tmp_path: Path) -> None:
    with (
        scripted(Gate()) as container,
        processes.router(
            tmp_path, processes.table("Direct", {"a": container.port}), "--max-connections", "3"
        ) as router,
    ):
        held = [socket.create_connection(("127.0.0.1", router.port)) for _ in range(3)]
        time.sleep(0.2)
        reply = caller.raw(router.port, request())
        assert reply.startswith(b"HTTP/1.1 503 ")
        assert b"x-mce-reason: ConnectionLimit\r\n" in reply
        held[0].sendall(b"GET /ping HTTP/1.1\r\nHost: m\r\n\r\n")
        assert read_until(held[0], b"\r\n\r\n").startswith(b"HTTP/1.1 200 ")
        for connection in held:
            connection.close()
        bad = b"x\r\n\r\n"
        processes.wait_until("there is room", lambda: caller.raw(router.port, bad, 1).startswith(b"HTTP/1.1 400"))


@pytest.mark.parametrize("explicit", [0.0, 4.0])
def test_a_chain_has_one_budget_for_the_whole(tmp_path: Path, explicit: float) -> None:
    one, two = processes.free_port(), processes.free_port()
    limits = {"maxRequestBytes": 1000, "maxHopBytes": 1000, "maxConcurrency": 0, "maxInvocationSeconds": explicit}
    each = "2500" if explicit else "700"  # within the budget, but not both together
    with (
        processes.model("one", one, tmp_path / "1.log", SLOW_MS=each),
        processes.model("two", two, tmp_path / "2.log", SLOW_MS=each),
        processes.router(tmp_path, processes.table("Serial", {"one": one, "two": two}, limits=limits)) as router,
    ):
        reply = caller.post(router.port, b"x", content_type="text/plain")
        if not explicit:
            assert reply.body == b"two(one(x))"
        else:
            assert (reply.status, reply.headers["x-mce-reason"]) == (424, "ModelTimeout")
            assert "response from container two" in reply.json()["Message"]
            assert "total budget of 4 s ran out" in reply.json()["Message"]


def test_a_refused_chunked_body_ends_its_connection_and_the_answer_says_so(tmp_path: Path) -> None:
    limits = {"maxRequestBytes": 100_000, "maxHopBytes": 1000, "maxConcurrency": 0}

    def script(container: Scripted, connection: socket.socket, _data: bytes) -> None:
        keep_reading(container, connection)

    with (
        scripted(script) as container,
        processes.router(tmp_path, processes.table("Direct", {"a": container.port}, limits=limits)) as router,
        socket.create_connection(("127.0.0.1", router.port)) as connection,
    ):
        head = request(b"", b"Transfer-Encoding: chunked", target=b"nobody").replace(b"Content-Length: 0\r\n", b"")
        connection.sendall(head)
        answer = read_until(connection, b"}")
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"\r\nconnection: close\r\n" in answer
        with pytest.raises(ConnectionError):
            _send_slowly(connection, b"10000\r\n" + b"x" * 65536 + b"\r\n", times=2000)
        assert not container.received


def _send_slowly(connection: socket.socket, data: bytes, times: int) -> None:
    for _ in range(times):
        connection.sendall(data)
        time.sleep(0.005)


def test_a_caller_that_leaves_while_its_next_request_waits_is_noticed_at_once(tmp_path: Path) -> None:
    gate, gone = Gate(), threading.Event()

    def script(container: Scripted, connection: socket.socket, data: bytes) -> None:
        connection.settimeout(10)
        if not connection.recv(1):
            gone.set()
        gate(container, connection, data)

    with (
        scripted(script) as container,
        processes.router(tmp_path, processes.table("Direct", {"a": container.port})) as router,
    ):
        with socket.create_connection(("127.0.0.1", router.port)) as connection:
            connection.sendall(request(b"1") + request(b"2"))
            processes.wait_until("the first is asked", lambda: container.requests == 1)
        assert gone.wait(5)
        gate.open.set()
        assert router.targets()["a"]["inflight"] == 0
        assert container.requests == 1
