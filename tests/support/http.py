"""HTTP as a caller: bytes out, bytes in, read by an independent parser (`http.client`)."""

import http.client
import json
import socket
from dataclasses import dataclass
from typing import Any

TARGET = "X-Amzn-SageMaker-Target-Container-Hostname"


@dataclass(frozen=True)
class Reply:
    """A whole response."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def post(
    port: int, body: bytes = b"", target: str = "", path: str = "/invocations", chunked: bool = False, **headers: str
) -> Reply:
    """One invocation on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    lines = {name.replace("_", "-"): value for name, value in headers.items()}
    if target:
        lines[TARGET] = target
    try:
        data = iter([body[:3], body[3:]]) if chunked else body
        connection.request("POST", path, data, lines, encode_chunked=chunked)
        return _read(connection.getresponse())
    finally:
        connection.close()


def raw(port: int, data: bytes, seconds: float = 5.0, until: bytes | None = None) -> bytes:
    """Sends `data` as it is; returns what came until the router closed, `until` was there, or `seconds` were over."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        connection.sendall(data)
        try:
            while (until is None or until not in received) and (piece := connection.recv(65536)):
                received += piece
        except (TimeoutError, ConnectionResetError):
            pass
    return received


def _read(response: http.client.HTTPResponse) -> Reply:
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Reply(response.status, headers, response.read())
