"""The access log: one JSON line for each request on standard output, never a body, a header or a secret.

A line is written by hand, not by a JSON library: every value is a number, a word of ours, or a name that was checked.
Lines are collected and written by a thread, so that a reader of the log that stalls never stalls a request; what it
is too slow for, or not there for, is dropped and counted.
"""

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from queue import SimpleQueue
from time import monotonic, sleep
from typing import Final, NamedTuple

_PAUSE_SECONDS: Final = 0.02
_CLOSE_SECONDS: Final = 0.5
_MOST_WAITING_BYTES: Final = 4 * 1024 * 1024
_PIECE_BYTES: Final = 4096
"""Linux' PIPE_BUF (pipe(7)): so much goes into a pipe as one piece, whoever else writes into it, or not at all. A line
is far shorter: its longest part names 15 containers with 63 characters each."""
_CALLER_GONE_STATUS: Final = 499
"""What nginx logs for a caller that left."""


class Request(NamedTuple):
    """A request that is over."""

    request_id: bytes
    caller: str
    """Address and port, an IPv6 address in brackets."""
    endpoint: str
    kind: str
    targets: str
    """Containers that it was for, in order, with commas; empty: it got none."""
    status: int
    """Sent to the caller; 0: none, it left before."""
    cause: str
    """Reason of a failure, `CallerGone`, or empty."""
    cut: bool
    """Whether the answer was cut off after its head."""
    seconds: float
    model_seconds: float
    request_bytes: int
    response_bytes: int
    """Of bodies."""


class AccessLog:
    """Collects lines and has them written. Its thread runs from the start until `close`."""

    def __init__(
        self,
        utc: Callable[[], datetime],
        dropped: Callable[[int], None],
        *,
        everything: bool,
        descriptor: int = 1,
    ) -> None:
        self.everything = everything
        """Whether requests that went well are logged too."""
        self._dropped = dropped
        self._utc = utc
        self._descriptor = descriptor
        self._lines: list[str] = []
        self._size = 0
        self._second = -1
        self._time = ""
        """The time to the second, made for `_second` of the minute and not kept longer than to the next `flush`."""
        self._jobs: SimpleQueue[list[str] | None] = SimpleQueue()
        self._writing = False
        self._lost = 0
        """Lines of the present job that nobody took; only read when it is over."""
        # A thread of its own, not asyncio's: the process must be able to end although nobody reads its log.
        threading.Thread(target=self._write_jobs, name="access log", daemon=True).start()

    def record(self, request: Request) -> None:
        """Logs one request."""
        if self._size > _MOST_WAITING_BYTES:
            self._dropped(1)
            return
        now = self._utc()
        if now.second != self._second:
            self._second, self._time = now.second, now.strftime("%Y-%m-%dT%H:%M:%S")
        line = (
            f'{{"time": "{self._time}.{now.microsecond // 1000:03}+00:00", "level": "INFO", '
            f'"logger": "mce_router.access", "event": "{request.kind}", '
            f'"requestId": "{request.request_id.decode()}", "caller": "{request.caller}", '
            f'"endpoint": "{request.endpoint}", "target": "{request.targets}", '
            f'"status": {request.status or _CALLER_GONE_STATUS}, "cause": "{request.cause}", '
            f'"cut": {"true" if request.cut else "false"}, '
            f'"seconds": {request.seconds:.6f}, "modelSeconds": {request.model_seconds:.6f}, '
            f'"requestBytes": {request.request_bytes}, "responseBytes": {request.response_bytes}}}\n'
        )
        self._lines.append(line)
        self._size += len(line)

    def flush(self) -> None:
        """Has the writer take what was recorded, unless it is still busy; called a few times a second."""
        self._second = -1
        if self._writing:
            return
        if self._lost:
            self._dropped(self._lost)
            self._lost = 0
        if self._lines:
            lines, self._lines, self._size = self._lines, [], 0
            self._writing = True
            self._jobs.put(lines)

    def close(self) -> None:
        """Writes what is left, if somebody reads it soon."""
        for _ in range(2):  # what is being written, then what came meanwhile
            end = monotonic() + _CLOSE_SECONDS
            self.flush()
            while self._writing and monotonic() < end:
                sleep(_PAUSE_SECONDS)
        self._jobs.put(None)

    def _write_jobs(self) -> None:
        while (lines := self._jobs.get()) is not None:
            lost = len(lines)
            try:
                for count, piece in _pieces(lines):
                    self._write(piece)
                    lost -= count
            except OSError:
                pass  # nobody reads any more, or the disk is full
            self._lost = lost
            self._writing = False

    def _write(self, data: bytes) -> None:
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:
                sleep(_PAUSE_SECONDS)  # only this thread waits


def _pieces(lines: Iterable[str]) -> Iterator[tuple[int, bytes]]:
    """Whole lines, in pieces that a pipe takes whole so that no other process' line gets into one; and their number."""
    count, piece = 0, b""
    for line in lines:
        data = line.encode()
        if count and len(piece) + len(data) > _PIECE_BYTES:
            yield count, piece
            count, piece = 0, b""
        count, piece = count + 1, piece + data
    yield count, piece
