"""A container on a real socket that keeps every byte it gets and answers as it is told."""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum

from support import judge
from support.judge import Message


class Do(Enum):
    """What a container does besides saying bytes and waiting."""

    CLOSE = "close"
    RESET = "reset"
    READ = "read on until the router closes"


Step = bytes | float | threading.Event | Do
"""Bytes to say, seconds or an event to wait for, or a deed."""


class Recorder:
    """A container; answers each whole canonical request with the steps of `answer`, and pings with 200.

    It closes a connection on which nothing comes for `idle_seconds`.
    """

    def __init__(self, answer: Callable[[Message], Sequence[Step]], *, idle_seconds: float = 60.0) -> None:
        self._answer = answer
        self._idle_seconds = idle_seconds
        self._server = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._server.getsockname()[1]
        self.streams: list[bytearray] = []
        """What came on each connection, but for pings."""
        self.whole: list[Message] = []
        """The requests that came whole, in order."""
        self.said = 0
        """How many answers were said, to their end or until the router hung up."""
        self.faults: list[str] = []
        """What the judge said of bytes that are no canonical requests."""
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def received(self) -> int:
        """Bytes that came until now, but for pings."""
        return sum(len(stream) for stream in self.streams)

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._server.accept()
                threading.Thread(target=self._run, args=(connection,), daemon=True).start()

    def _run(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            connection.settimeout(self._idle_seconds)
            data = connection.recv(65536)
            if data.startswith(b"GET /ping"):
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                return
            stream = bytearray()
            self.streams.append(stream)
            answered = 0
            while data:
                stream += data
                reading = self._read(bytes(stream))
                for message in reading.whole[answered:]:
                    answered += 1
                    self.whole.append(message)
                    try:
                        stays = self._say(connection, self._answer(message))
                    finally:
                        self.said += 1
                    if not stays:
                        return
                data = connection.recv(65536)

    def _read(self, stream: bytes) -> judge.Reading:
        try:
            return judge.canonical(stream)
        except judge.VerdictError as error:
            self.faults.append(str(error))
            raise OSError from error

    def _say(self, connection: socket.socket, steps: Sequence[Step]) -> bool:
        for step in steps:
            if isinstance(step, bytes):
                connection.sendall(step)
            elif isinstance(step, float):
                time.sleep(step)
            elif isinstance(step, threading.Event):
                step.wait(30)
            elif step is Do.READ:
                while connection.recv(65536):
                    pass
            else:
                if step is Do.RESET:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.close()
                return False
        return True


@contextmanager
def recorder(answer: Callable[[Message], Sequence[Step]], *, idle_seconds: float = 60.0) -> Iterator[Recorder]:
    """A `Recorder` that is gone afterwards."""
    container = Recorder(answer, idle_seconds=idle_seconds)
    try:
        yield container
    finally:
        container.stop()
