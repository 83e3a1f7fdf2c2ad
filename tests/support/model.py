"""A model server in a few lines of asyncio, told by its environment how to behave; the other side of the router's wire.

Run as `python model.py serve`. `MODEL_NAME`, `PORT` or `SAGEMAKER_BIND_TO_PORT`, `PING_STATUS` (200, 503, `never`),
`EXIT_AFTER` seconds with `EXIT_CODE`, `SLOW_MS`, `FAIL_STATUS`, `HOST`; `PING_PATH` and `INVOCATIONS_PATH` are then
the only paths served. An invocation echoes what came as JSON; a text/plain body is answered as text/plain `NAME(body)`,
so that a chain shows its order.
"""

import asyncio
import hashlib
import json
import os
import signal
import sys


async def _read_request(reader: asyncio.StreamReader) -> tuple[str, str, dict[str, str], bytes] | None:
    line = await reader.readline()
    if not line:
        return None
    method, path, _ = line.decode().split()
    headers = {}
    while (raw := (await reader.readline()).strip()) != b"":
        name, _, value = raw.decode().partition(":")
        headers[name.lower()] = value.strip()
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while size := int((await reader.readline()).split(b";")[0], 16):
            body += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
    else:
        body = await reader.readexactly(int(headers.get("content-length", 0)))
    return method, path, headers, body


def _ping_path() -> str:
    return os.environ.get("PING_PATH", "/ping")


def _answer(path: str, headers: dict[str, str], body: bytes) -> tuple[int, str, bytes]:
    env = os.environ
    if path == _ping_path():
        return int(env.get("PING_STATUS", "200")), "text/plain", b""
    if path != env.get("INVOCATIONS_PATH", path):
        return 404, "text/plain", b"nothing there"
    if "FAIL_STATUS" in env:
        return int(env["FAIL_STATUS"]), "text/plain", b"failed as told"
    if headers.get("content-type") == "text/plain":
        return 200, "text/plain", env["MODEL_NAME"].encode() + b"(" + body + b")"
    echo = {
        "model": env["MODEL_NAME"],
        "headers": headers,
        "length": len(body),
        "sha256": hashlib.sha256(body).hexdigest(),
    }
    return 200, "application/json", json.dumps(echo).encode()


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while (request := await _read_request(reader)) is not None:
            _method, path, headers, body = request
            if path == _ping_path() and os.environ.get("PING_STATUS") == "never":
                await asyncio.sleep(3600)
            if path != _ping_path():
                await asyncio.sleep(int(os.environ.get("SLOW_MS", "0")) / 1000)
            status, kind, answer = _answer(path, headers, body)
            head = f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {len(answer)}\r\n\r\n"
            writer.write(head.encode() + answer)
            await writer.drain()
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def _main() -> None:
    port = int(os.environ.get("PORT") or os.environ["SAGEMAKER_BIND_TO_PORT"])
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, lambda: os._exit(0))
    server = await asyncio.start_server(_serve, os.environ.get("HOST", "127.0.0.1"), port)
    print("listening on", port, flush=True)
    if after := os.environ.get("EXIT_AFTER"):
        await asyncio.sleep(float(after))
        sys.exit(int(os.environ.get("EXIT_CODE", "1")))
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main())
