"""The router remembers heads that it has seen: what it remembers must never be a part of a head."""

import socket
from pathlib import Path

import pytest

from support import processes
from support.http import TARGET

BODY = b"x" * 45
HEAD = b"POST /invocations HTTP/1.1\r\nHost: m\r\nContent-Type: text/plain\r\n%b: a\r\nContent-Length: %d\r\n\r\n"


def read_reply(connection: socket.socket) -> bytes:
    data = b""
    while b"a(" not in data or not data.endswith(b")"):
        piece = connection.recv(65536)
        assert piece, data
        data += piece
    return data


def test_a_part_of_a_head_is_never_taken_for_a_whole_request(tmp_path: Path) -> None:
    """Where no blank line is found the place of the body is nowhere, not 3."""
    request = HEAD % (TARGET.encode(), len(BODY)) + BODY
    part = request[: 3 + len(BODY)]
    port = processes.free_port()
    with (
        processes.model("a", port, tmp_path / "a.log"),
        processes.router(tmp_path, processes.table("Direct", {"a": port})) as router,
        socket.create_connection(("127.0.0.1", router.port), timeout=5) as first,
        socket.create_connection(("127.0.0.1", router.port), timeout=0.5) as second,
    ):
        first.sendall(request)
        assert read_reply(first).endswith(b"\r\n\r\na(%b)" % BODY)
        first.sendall(part)
        processes.wait_until("reads", lambda: router.sample("mce_container_invocations_total", container="a") == 1)
        second.sendall(part)
        with pytest.raises(TimeoutError):
            second.recv(65536)  # nothing was asked yet
        second.settimeout(5)
        second.sendall(request[len(part) :])
        assert read_reply(second).endswith(b"\r\n\r\na(%b)" % BODY)
        first.sendall(request[len(part) :])
        assert read_reply(first).endswith(b"\r\n\r\na(%b)" % BODY)
        assert router.sample("mce_container_invocations_total", container="a") == 3
