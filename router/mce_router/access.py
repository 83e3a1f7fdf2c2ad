"""The access log: one JSON line for each request on standard output, never a body, a header or a secret.

A line is written by hand, not by a JSON library: every value is a number, a word of ours, or a name that was checked.
Lines are collected and written by a thread, so that a reader of the log that stalls never stalls a request; what it
is too slow for is dropped and counted.
"""

import os
import threading
from collections.abc import Callable
from datetime import datetime
from queue import SimpleQueue
from time import monotonic, sleep
from typing import Final, NamedTuple

_PAUSE_SECONDS: Final = 0.02
_CLOSE_SECONDS: Final = 0.5
_MOST_WAITING_BYTES: Final = 4 * 1024 * 1024
_CALLER_GONE_STATUS: Final = 499
"""What nginx logs for a caller that left."""


class Request(NamedTuple):
    """A request that is over."""

    request_id: bytes
    caller: str
    """Address and port."""
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
    """Collects lines and has them written."""

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
        self._jobs: SimpleQueue[bytes] = SimpleQueue()
        self._writing = False
        # A thread of its own, not asyncio's: the process must be able to end although nobody reads its log.
        self._thread = threading.Thread(target=self._write_jobs, name="access log", daemon=True)

    def record(self, request: Request) -> None:
        """Logs one request."""
        if self._size > _MOST_WAITING_BYTES:
            self._dropped(1)
            return
        time = self._utc().isoformat(timespec="milliseconds")
        line = (
            f'{{"time": "{time}", "level": "INFO", "logger": "mce_router.access", "event": "{request.kind}", '
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
        if self._lines and not self._writing:
            if not self._thread.is_alive():
                self._thread.start()
            lines, self._lines, self._size = self._lines, [], 0
            self._writing = True
            self._jobs.put("".join(lines).encode())

    def close(self) -> None:
        """Writes what is left, if somebody reads it soon."""
        for _ in range(2):  # what is being written, then what came meanwhile
            end = monotonic() + _CLOSE_SECONDS
            self.flush()
            while self._writing and monotonic() < end:
                sleep(_PAUSE_SECONDS)

    def _write_jobs(self) -> None:
        while True:
            data = self._jobs.get()
            while data:
                try:
                    data = data[os.write(self._descriptor, data) :]
                except BlockingIOError:
                    sleep(_PAUSE_SECONDS)  # only this thread waits
                except OSError:
                    break  # nobody reads any more
            self._writing = False
