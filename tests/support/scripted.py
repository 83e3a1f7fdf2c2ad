"""A container that runs a script for each connection, and the bytes that go to and fro around it."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from support import http as caller

OK = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n%b\r\n%b"


def ok(body: bytes, *lines: bytes) -> bytes:
    return OK % (len(body), b"".join(line + b"\r\n" for line in lines), body)


class Scripted:
    """A container whose invocation connections run a function; pings are answered 200."""

    def __init__(self, script: "Script") -> None:
        self.script = script
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self.received = b""
        self.requests = 0
        self.playing: set[socket.socket] = set()
        """Connections whose script has not ended."""
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._server.accept()
                threading.Thread(target=self._run, args=(connection,), daemon=True).start()

    def _run(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            data = connection.recv(65536)
            if data.startswith(b"GET /ping"):
                connection.sendall(ok(b""))
            elif data:
                self.requests += 1
                self.received += data
                self.playing.add(connection)
                try:
                    self.script(self, connection, data)
                    connection.shutdown(socket.SHUT_WR)  # a close with something unread would destroy the answer
                finally:
                    self.playing.discard(connection)
                connection.settimeout(2)
                while connection.recv(65536):
                    pass

    def stop(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()


Script = Callable[[Scripted, socket.socket, bytes], None]
"""What a container does on a connection whose first bytes have come."""


@contextmanager
def scripted(script: Script) -> Iterator[Scripted]:
    container = Scripted(script)
    try:
        yield container
    finally:
        container.stop()


def request(body: bytes = b"", *lines: bytes, target: bytes = b"a", length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    head = [b"POST /invocations HTTP/1.1", b"Host: m", b"Content-Type: text/plain", b"Content-Length: %d" % size]
    if target:
        head.append(b"%b: %b" % (caller.TARGET.encode(), target))
    return b"\r\n".join([*head, *lines, b"", body])


def read_until(connection: socket.socket, wanted: bytes, seconds: float = 5.0) -> bytes:
    connection.settimeout(seconds)
    received = b""
    with contextlib.suppress(TimeoutError, ConnectionError):
        while wanted not in received and (piece := connection.recv(65536)):
            received += piece
    return received


def body_of(connection: socket.socket, data: bytes) -> bytes:
    """The body of the request that begins with `data`, which may come in several pieces."""
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
    while len(body) < length and (piece := connection.recv(65536)):
        body += piece
    return body


def keep_reading(container: Scripted, connection: socket.socket) -> None:
    while piece := connection.recv(65536):
        container.received += piece
