"""Proves that a proxy does the job: the right container got the right bytes, the caller got the right answer."""

import http.client
import random
import time
import zlib
from contextlib import closing
from typing import Final

from bench.cases import Case
from bench.processes import BenchError
from bench.proxies import Container

from mce_api import wire

_STILL_SECONDS: Final = 0.05


def check_samples(case: Case, proxy: str, port: int, containers: tuple[Container, ...]) -> None:
    """One call to each container through `proxy` (or one to the chain), every byte compared."""
    for container in containers:
        body = random.randbytes(case.request_bytes)  # noqa: S311 - bytes to recognize, not to protect
        headers = {"Content-Type": "application/x-checked"}
        if case.jobs(proxy) != "-":
            headers[wire.TARGET_CONTAINER_HEADER] = container.name
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
            status, answer = call(connection, body, headers)
        if status != http.client.OK or answer != expected(case.reply, container.name, body):
            said = f"{status}, {len(answer)} bytes: {answer[:200]!r}"
            raise BenchError(f"{case.name}: {proxy} gave a wrong answer for {container.name}: {said}")


def expected(reply: str, container: str, body: bytes) -> bytes:
    """What a container that replies as `reply` says to `body`."""
    if reply == "echo":
        return body
    if reply == "facts" or reply.startswith("chunks:"):
        return f"{container} {len(body)} {zlib.crc32(body)}".encode()
    return b"x" * int(reply)


def ask(case: Case, connection: http.client.HTTPConnection, proxy: str, turn: int) -> None:
    """One call to the container whose turn it is, on a connection that stays open.

    Raises:
        BenchError: if it is not answered, or the connection is closed after it.
    """
    headers = {wire.TARGET_CONTAINER_HEADER: case.containers[turn % len(case.containers)]}
    try:
        status, _ = call(connection, b"x" * case.request_bytes, headers)
    except (OSError, http.client.HTTPException) as error:
        raise BenchError(f"{case.name}: {proxy} did not answer on a connection that was kept: {error!r}") from error
    if status != http.client.OK or connection.sock is None:
        raise BenchError(f"{case.name}: {proxy} answered {status} or closed a connection that was to be kept")


def status(case: Case, port: int) -> int:
    """How a router answers a call to the case's own path."""
    headers = {wire.TARGET_CONTAINER_HEADER: case.containers[0], "Content-Type": "application/x-small"}
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        return call(connection, b"x", headers, case.path)[0]


def call(
    connection: http.client.HTTPConnection, body: bytes, headers: dict[str, str], path: str = "/invocations"
) -> tuple[int, bytes]:
    """One POST: status and body of its answer."""
    connection.request("POST", path, body, headers)
    response = connection.getresponse()
    return response.status, response.read()


def answered(containers: tuple[Container, ...]) -> int:
    """How many POSTs all containers have answered so far."""
    total = 0
    for container in containers:
        with closing(http.client.HTTPConnection("127.0.0.1", container.port, timeout=10)) as connection:
            connection.request("GET", "/count")
            total += int(connection.getresponse().read())
    return total


def settled(containers: tuple[Container, ...]) -> int:
    """The same once it stands still: calls that the last turn left behind may still be on their way."""
    before = answered(containers)
    while True:
        time.sleep(_STILL_SECONDS)
        now = answered(containers)
        if now == before:
            return now
        before = now


def check_count(case: Case, proxy: str, reached: int, calls: int) -> None:
    """The containers answered as many calls as the callers saw, but for what was in flight when the load ended."""
    steps = len(case.containers) if case.mode == "Serial" else 1
    at_least = calls * steps
    if not at_least <= reached <= at_least + case.connections * steps:
        raise BenchError(f"{case.name}: {proxy} answered {calls} calls, but its containers {reached}")
