"""The access log: whole lines, no wait for who does not read, every lost line counted."""

import fcntl
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mce_router.access import AccessLog, Request

START = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
KEYS = [
    *("time", "level", "logger", "event", "requestId", "caller", "endpoint", "target", "status", "cause", "cut"),
    *("seconds", "modelSeconds", "requestBytes", "responseBytes"),
]


def request(**values: Any) -> Request:
    base: dict[str, Any] = {
        "request_id": b"00000000-0000-4000-a000-000000000001",
        "caller": "[::1]:5555",
        "endpoint": "mnist",
        "kind": "invoke",
        "targets": "a,b",
        "status": 200,
        "cause": "",
        "cut": False,
        "seconds": 0.25,
        "model_seconds": 1 / 3,
        "request_bytes": 3,
        "response_bytes": 7,
    }
    return Request(**{**base, **values})


class Pipe:
    """What stands for standard output: a pipe that is read only when a test reads it."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        self.open = {self.reader, self.writer}
        self.dropped = 0

    def close(self, descriptor: int) -> None:
        self.open.discard(descriptor)
        os.close(descriptor)

    def log(self, utc: Callable[[], datetime] = lambda: START) -> AccessLog:
        return AccessLog(utc, self.drop, everything=True, descriptor=self.writer)

    def drop(self, lines: int) -> None:
        self.dropped += lines

    def read_all(self) -> bytes:
        """Everything up to the end; nobody writes after this."""
        self.close(self.writer)
        read = b""
        while piece := os.read(self.reader, 65536):
            read += piece
        return read


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    for descriptor in tuple(made.open):
        made.close(descriptor)


def flushed(log: AccessLog) -> None:
    """Waits until the writer is done with what it has, then reports what it lost."""
    log.flush()
    while log._writing:
        time.sleep(0.005)
    log.flush()


def test_a_line_is_json_with_the_documented_keys_in_their_order(pipe: Pipe) -> None:
    log = pipe.log()
    log.record(request())
    log.close()
    (line,) = pipe.read_all().splitlines()
    read = json.loads(line)
    assert list(read) == KEYS
    assert read["time"] == "2026-01-02T03:04:05.678+00:00"
    assert (read["caller"], read["status"], read["cut"], read["modelSeconds"]) == ("[::1]:5555", 200, False, 0.333333)


def test_every_line_has_its_own_time(pipe: Pipe) -> None:
    times = [START + timedelta(milliseconds=step) for step in (0, 1, 321, 322, 60_322, 3_600_322)]
    clock = iter(times)
    log = pipe.log(lambda: next(clock))
    for place in range(len(times)):
        if place == 4:
            log.flush()
        log.record(request())
        flushed(log)
    log.close()
    read = [datetime.fromisoformat(json.loads(line)["time"]) for line in pipe.read_all().splitlines()]
    assert read == [one.replace(microsecond=one.microsecond // 1000 * 1000) for one in times]


def test_a_caller_that_left_before_an_answer_has_status_499(pipe: Pipe) -> None:
    log = pipe.log()
    log.record(request(status=0, cause="CallerGone"))
    log.close()
    assert json.loads(pipe.read_all())["status"] == 499


def test_lines_of_several_processes_never_mix_although_the_pipe_is_always_full(pipe: Pipe) -> None:
    fcntl.fcntl(pipe.writer, fcntl.F_SETPIPE_SZ, 4096)
    logs = [pipe.log() for _ in range(3)]
    for name, log in zip("xyz", logs, strict=True):
        for size in range(300):
            log.record(request(targets=name * (size % 250)))
        log.flush()
    read = bytearray()
    reading = threading.Thread(target=lambda: read.extend(pipe_until(pipe.reader, 900)))
    reading.start()
    reading.join(20)
    lines = [json.loads(line) for line in bytes(read).splitlines()]
    assert len(lines) == 900
    assert all(len(set(line["target"])) <= 1 for line in lines)
    for log in logs:
        log.close()


def pipe_until(reader: int, lines: int) -> bytes:
    """So many lines, read slowly in odd pieces."""
    read = b""
    while read.count(b"\n") < lines and (piece := os.read(reader, 777)):
        read += piece
    return read


@pytest.mark.parametrize("blocking", [True, False])
def test_nobody_reads_no_wait_the_rest_is_dropped_and_counted_and_the_end_comes_soon(
    pipe: Pipe, blocking: bool
) -> None:
    os.set_blocking(pipe.writer, blocking)
    log = pipe.log()
    began = time.monotonic()
    for _ in range(3):
        for _ in range(12_000):
            log.record(request(targets="a" * 600))
        log.flush()
    assert time.monotonic() - began < 5
    assert 36_000 - pipe.dropped < 2 * (4 << 20) // 600
    began = time.monotonic()
    log.close()
    assert 0.5 < time.monotonic() - began < 3
    pipe.close(pipe.reader)
    while log._writing:  # its thread must let the pipe go: the next test gets the same descriptor
        time.sleep(0.005)


def test_what_waited_for_a_reader_is_whole_and_in_order(pipe: Pipe) -> None:
    os.set_blocking(pipe.writer, False)
    log = pipe.log()
    for number in range(2000):
        log.record(request(request_bytes=number))
    log.flush()
    time.sleep(0.1)
    read = pipe_until(pipe.reader, 2000)
    log.close()
    assert [json.loads(line)["requestBytes"] for line in read.splitlines()] == list(range(2000))
    assert pipe.dropped == 0


def test_lines_that_nobody_can_read_any_more_are_counted(pipe: Pipe) -> None:
    log = pipe.log()
    pipe.close(pipe.reader)
    for _ in range(5):
        log.record(request())
    flushed(log)
    log.record(request())
    flushed(log)
    assert pipe.dropped == 6
    log.close()


def test_a_closed_output_is_no_fault(pipe: Pipe) -> None:
    log = pipe.log()
    pipe.close(pipe.writer)
    log.record(request())
    flushed(log)
    log.close()
    assert pipe.dropped == 1


def test_its_thread_ends_with_it(pipe: Pipe) -> None:
    before = set(threading.enumerate())
    log = pipe.log()
    log.record(request())
    (mine,) = set(threading.enumerate()) - before
    log.close()
    mine.join(5)
    assert not mine.is_alive()
