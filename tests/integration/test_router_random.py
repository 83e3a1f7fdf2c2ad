"""Seeded random traffic: pipelines cut anywhere, and requests with damaged bytes. A failure prints its seed."""

import contextlib
import os
import random
import socket
import threading
import time
from pathlib import Path

from support import http as caller
from support import processes

SEED = int(os.environ.get("MCE_TEST_SEED") or 0) or random.SystemRandom().randrange(1, 1 << 32)
NAMES = (b"first", b"second")
DOCUMENTED = {200, 400, 404, 405, 408, 413, 431, 501}


def _framed(body: bytes, dice: random.Random) -> bytes:
    """The end of a head and `body`, by length or in chunks."""
    if dice.random() < 0.5:
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
    known = dice.random() < 0.8
    name = dice.choice(NAMES) if known else b"nobody"
    body = b"%d:" % number + dice.choice((b"", b"\r\n", b"GET / HTTP/1.1\r\n\r\n", b"x" * dice.randint(1, 70_000)))
    head = b"POST /invocations HTTP/1.1\r\nHost: m\r\nContent-Type: text/plain\r\n%b: %b\r\n"
    wanted = (200, b"%b(%b)" % (name, body)) if known else (400, b"")
    return head % (caller.TARGET.encode(), name) + _framed(body, dice), *wanted


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


def _damaged(dice: random.Random, data: bytes) -> bytes:
    bytes_ = bytearray(data)
    for _ in range(dice.randint(1, 3)):
        at = dice.randrange(len(bytes_))
        kind = dice.randrange(4)
        if kind == 0:
            bytes_[at] = dice.randrange(256)
        elif kind == 1:
            bytes_.insert(at, dice.choice(b"\r\n\0 :,;\xff0\t"))
        elif kind == 2:
            del bytes_[at]
        else:
            bytes_[at:at] = bytes_[at : at + dice.randint(1, 40)]
    return bytes(bytes_)


class _Counting:
    """A container that answers each request and keeps what it saw."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self.seen: list[bytes] = []
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            with contextlib.suppress(OSError), connection:
                data = connection.recv(65536)
                if data and not data.startswith(b"GET /ping"):
                    self.seen.append(data)
                connection.sendall(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok")

    def stop(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()


def test_damaged_requests_hurt_nobody_else(tmp_path: Path) -> None:
    dice = random.Random(SEED)
    container = _Counting()
    head = b"POST /invocations HTTP/1.1\r\nHost: m\r\nContent-Type: text/plain\r\n%b: a\r\n" % caller.TARGET.encode()
    try:
        with processes.router(tmp_path, processes.table("Direct", {"a": container.port})) as router:
            for case in range(300):
                data = _damaged(dice, head + _framed(b"some body", dice))
                reply = b""
                with socket.create_connection(("127.0.0.1", router.port), timeout=0.03) as connection:
                    connection.sendall(data)
                    with contextlib.suppress(TimeoutError, ConnectionError):
                        reply = connection.recv(65536)
                if reply:
                    assert int(reply.split()[1]) in DOCUMENTED, (SEED, case, data, reply)
                assert len(container.seen) <= case + 1, (SEED, case, data)
            for request in container.seen:
                assert request.startswith(b"POST /invocations HTTP/1.1\r\nhost: 127.0.0.1:"), (SEED, request)
                assert request.count(b"HTTP/1.1") == 1, (SEED, request)
            assert router.process.poll() is None, SEED
            assert caller.post(router.port, b"x", target="a").body == b"ok", SEED
            assert b"callback failed" not in router.log.read_bytes(), SEED
    finally:
        container.stop()
