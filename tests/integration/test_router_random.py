"""Seeded random traffic: pipelines cut anywhere, damaged requests, damaged replies. A failure prints its seed."""

import contextlib
import os
import random
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from support import http as caller
from support import judge, mutate, processes
from support.law import marked, ok
from support.recorder import Do, Recorder, Step, recorder

SEED = int(os.environ.get("MCE_TEST_SEED") or 0) or random.SystemRandom().randrange(1, 1 << 32)
NAMES = (b"first", b"second")


def _framed(body: bytes, dice: random.Random, *, chunks_too: bool) -> bytes:
    """The end of a head and `body`, by length or in chunks."""
    if not chunks_too or dice.random() < 0.5:
        return b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    chunks = b""
    while body:
        size = dice.randint(1, len(body))
        chunks += b"%x\r\n%b\r\n" % (size, body[:size])
        body = body[size:]
    return b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"


def _request(dice: random.Random, number: int) -> tuple[bytes, int, bytes]:
    """A random valid request; the status it must get, and the end of the body."""
    if dice.random() < 0.1:
        return b"GET /ping HTTP/1.1\r\nHost: m\r\n\r\n", 200, b""
    known = dice.random() < 0.8  # a refusal before the end of a chunked body is the last answer of its connection
    name = dice.choice(NAMES) if known else b"nobody"
    body = b"%d:" % number + dice.choice((b"", b"\r\n", b"GET / HTTP/1.1\r\n\r\n", b"x" * dice.randint(1, 70_000)))
    head = b"POST /invocations HTTP/1.1\r\nHost: m\r\nContent-Type: text/plain\r\n%b: %b\r\n"
    wanted = (200, b"%b(%b)" % (name, body)) if known else (400, b"")
    return head % (caller.TARGET.encode(), name) + _framed(body, dice, chunks_too=known), *wanted


def _read_reply(stream: socket.SocketIO) -> tuple[int, bytes]:
    line, length = stream.readline(), 0
    while header := stream.readline().strip().lower():
        if header.startswith(b"content-length:"):
            length = int(header.partition(b":")[2])
    return int(line.split()[1]), stream.read(length)


def _send(connection: socket.socket, data: bytes, cuts: list[int], pauses: list[float]) -> None:
    for start, end, pause in zip([0, *cuts], [*cuts, len(data)], pauses, strict=True):
        connection.sendall(data[start:end])
        time.sleep(pause)


def test_pipelines_cut_anywhere_are_answered_right_and_in_order(tmp_path: Path) -> None:
    dice = random.Random(SEED)
    ports = {name.decode(): processes.free_port() for name in NAMES}
    with contextlib.ExitStack() as stack:
        for name, port in ports.items():
            stack.enter_context(processes.model(name, port, tmp_path / f"{name}.log"))
        router = stack.enter_context(processes.router(tmp_path, processes.table("Direct", ports)))
        end = time.monotonic() + 6
        turn = 0
        while time.monotonic() < end:
            turn += 1
            asked = [_request(dice, number) for number in range(dice.randint(1, 12))]
            data = b"".join(request for request, _, _ in asked)
            cuts = sorted(dice.randrange(len(data)) for _ in range(dice.randint(0, 8)))
            pauses = [dice.choice((0, 0, 0.001, 0.004)) for _ in range(len(cuts) + 1)]
            with socket.create_connection(("127.0.0.1", router.port), timeout=10) as connection:
                sender = threading.Thread(target=_send, args=(connection, data, cuts, pauses))
                sender.start()
                stream = connection.makefile("rb")
                for number, (_, status, body) in enumerate(asked):
                    got = _read_reply(stream)  # type: ignore[arg-type]
                    assert got[0] == status, (SEED, turn, number, got)
                    assert status != 200 or got[1] == body, (SEED, turn, number, got[1][:50])
                stream.close()
                sender.join()
        for name in ports:
            assert router.sample("mce_inflight", container=name) == 0, SEED


_LANES = 8
_REQUESTS = 1000
_REPLIES = 500


def _host(lane: int) -> str:
    """Container of a lane: no damage makes the name of one into that of another."""
    return "lane" + "abcdefgh"[lane] * 8


def _valid(target: str) -> list[bytes]:
    """Requests of every kind that is served."""
    head = b"POST /invocations HTTP/1.1\r\nHost: m\r\nContent-Type: text/plain\r\n%b: %b\r\n"
    head %= caller.TARGET.encode(), target.encode()
    more = b"Accept: */*\r\nX-Amzn-SageMaker-Custom-Attributes: k=v\r\nX-Amzn-SageMaker-Inference-Id: 7\r\n"
    plain = head + b"Content-Length: 9\r\n\r\nsome body"
    return [
        plain,
        head + b"Transfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n5;x=y\r\n body\r\n0\r\n\r\n",
        head + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-T: y\r\n\r\n",
        head + b"Content-Length: 0\r\n\r\n",
        head + more + b"Content-Length: 3\r\n\r\nabc",
        head + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
        head.replace(b"1.1", b"1.0") + b"Connection: keep-alive\r\nContent-Length: 2\r\n\r\nhi",
        head.replace(b"/inv", b"/endpoints/mnist/inv") + b"Content-Length: 2\r\n\r\nhi",
        plain + head + b"Content-Length: 0\r\n\r\n" + plain,
    ]


def _exchanged(port: int, data: bytes, answers: int, cut: int) -> tuple[bytes, bool]:
    """What the router says to `data`, and whether it closed; waits long only for answers that must come."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(ConnectionError):
            connection.sendall(data[:cut])
            connection.sendall(data[cut:])
        try:
            while True:
                so_far = judge.replies(received, closed=False)
                connection.settimeout(10 if len(so_far.whole) < answers or so_far.says_close else 0.05)
                if not (piece := connection.recv(65536)):
                    return received, True
                received += piece
        except TimeoutError:
            return received, False
        except ConnectionResetError:
            return received, True


def _in_lanes(run: Callable[[int], None]) -> None:
    with ThreadPoolExecutor(_LANES) as pool:
        for done in [pool.submit(run, lane) for lane in range(_LANES)]:
            done.result()


def _unharmed(router: processes.Router, containers: list[Recorder]) -> None:
    assert router.process.poll() is None, SEED
    assert b"callback failed" not in router.log.read_bytes(), SEED
    for lane, container in enumerate(containers):
        assert not container.faults, (SEED, container.faults)
        assert caller.post(router.port, b"x", target=_host(lane)).body == marked(b"x"), SEED
        assert router.sample("mce_inflight", container=_host(lane)) == 0, SEED


def test_damaged_requests_are_forwarded_as_h11_reads_them_or_refused(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        answer = lambda message: [ok(marked(message.body))]  # noqa: E731
        containers = [stack.enter_context(recorder(answer)) for _ in range(_LANES)]
        ports = {_host(lane): container.port for lane, container in enumerate(containers)}
        router = stack.enter_context(processes.router(tmp_path, processes.table("Direct", ports)))

        def run(lane: int) -> None:
            dice = random.Random(SEED * _LANES + lane)
            valid = _valid(_host(lane))
            for case in range(_REQUESTS // _LANES):
                whole = dice.random() < 0.85
                data = mutate.damaged(dice, dice.choice(valid)) if whole else mutate.spliced(dice, valid)
                before = len(containers[lane].whole)
                received, closed = _exchanged(
                    router.port, data, len(judge.requests(data).whole), dice.randrange(len(data) + 1)
                )
                try:
                    judge.caller_side(data, received, containers[lane].whole[before:], closed=closed)
                except judge.VerdictError as error:
                    raise AssertionError(f"MCE_TEST_SEED={SEED} lane {lane} case {case}: {data!r}: {error}") from error

        _in_lanes(run)
        _unharmed(router, containers)


_GOOD_REPLIES = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: %(size)d\r\n\r\n%(body)b",
    b"HTTP/1.1 200 OK\r\ncontent-length: %(size)d\r\nconnection: close\r\n\r\n%(body)b",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\n%(start)b\r\n%(rest_size)x\r\n%(rest)b\r\n0\r\n\r\n",
    b"HTTP/1.1 103 Early\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: %(size)d\r\n\r\n%(body)b",
    b"HTTP/1.0 200 OK\r\ncontent-length: %(size)d\r\n\r\n%(body)b",
    b"HTTP/1.1 200 OK\r\n\r\n%(body)b",
)


def test_damaged_replies_are_answers_only_where_h11_reads_the_same(tmp_path: Path) -> None:
    planned: dict[bytes, list[Step]] = {}

    def answer(message: judge.Message) -> list[Step]:
        return planned.get(message.body) or [ok(marked(message.body))]

    def plan(dice: random.Random, key: bytes) -> tuple[bytes, bool]:
        """What the container will say to the request with body `key`, and whether it then closes."""
        body = marked(key)
        kind = dice.choice(_GOOD_REPLIES)
        parts = {b"size": len(body), b"body": body, b"start": body[:4], b"rest": body[4:], b"rest_size": len(body) - 4}
        data = mutate.damaged(dice, kind % parts)
        closes = dice.random() < 0.7
        planned[key] = [data, Do.CLOSE] if closes else [data]
        return data, closes

    with contextlib.ExitStack() as stack:
        containers = [stack.enter_context(recorder(answer)) for _ in range(_LANES)]
        table = processes.table("Direct", {_host(lane): one.port for lane, one in enumerate(containers)})
        for target in table["targets"]:
            target["invocationTimeoutSeconds"] = 1.5  # the containers are threads of this process, on a busy machine
        router = stack.enter_context(processes.router(tmp_path, table, "--reply-idle-seconds", "1.5"))

        def run(lane: int) -> None:
            dice = random.Random(SEED * _LANES + lane)
            head = b"POST /invocations HTTP/1.1\r\nHost: m\r\n%b: %b\r\nContent-Length: %d\r\n\r\n%b"
            for case in range(_REPLIES // _LANES):
                key = b"%d.%d" % (lane, case)
                said, closes = plan(dice, key)
                container = containers[lane]
                before, said_before = len(container.whole), container.said
                data = head % (caller.TARGET.encode(), _host(lane).encode(), len(key), key)
                received, closed = _exchanged(router.port, data, 1, len(data))
                try:
                    judge.container_side(said, received, container_closed=closes, closed=closed)
                    processes.wait_until("it was asked", lambda: len(container.whole) > before)  # noqa: B023
                    assert len(container.whole) == before + 1, "another attempt"
                    processes.wait_until("all is said", lambda: container.said > said_before)  # noqa: B023
                    time.sleep(0.005)  # what the container did after its reply is known to the router
                    following = caller.post(router.port, b"next", target=_host(lane))
                    assert following.body == marked(b"next"), following
                except AssertionError as error:
                    raise AssertionError(f"MCE_TEST_SEED={SEED} lane {lane} case {case}: {said!r}: {error}") from error

        _in_lanes(run)
        _unharmed(router, containers)
