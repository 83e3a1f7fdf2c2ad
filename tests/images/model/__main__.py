"""A model server for end-to-end tests, which behaves well or badly as its environment says.

It keeps the SageMaker container contract: started as `serve`, it answers `GET /ping` and `POST /invocations`
on the port of `SAGEMAKER_BIND_TO_PORT`. It shares nothing with the project, whose faults must not hide here.

MODEL_NAME     what it calls itself in answers
BIND           address to listen on (0.0.0.0)
START_DELAY    seconds before it listens
PING_STATUS    status of /ping (200); `never` takes the request and does not answer
FAIL_STATUS    status with which every invocation is answered
SLOW_MS        milliseconds that an invocation takes
STREAM_SECONDS seconds from the first to the last byte of an answer, which comes in chunks: a line with its number and
               the body each 0.1 s, `end` as the last one
EXIT_AFTER     seconds after which it ends with EXIT_CODE (1)
OOM_MB         mebibytes that it takes at the start
HOG_MB         mebibytes that it takes on SIGUSR1
IGNORE_SIGTERM 1: only SIGKILL ends it
"""

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import sys
from dataclasses import dataclass
from http import HTTPStatus

LARGEST_ECHO = 4096
env = os.environ.get


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


def log(message: str) -> None:
    print(f"{env('MODEL_NAME', 'model')}: {message}", flush=True)


async def read_chunks(reader: asyncio.StreamReader) -> bytes:
    """Read a chunked body, trailers included (RFC 9112, section 7.1)."""
    body = bytearray()
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        body += await reader.readexactly(size)
        await reader.readuntil(b"\r\n")
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass
    return bytes(body)


async def read_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, target, _ = head[0].split(" ")
    pairs = (line.partition(":") for line in head[1:] if line)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    if headers.get("expect", "").lower() == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    if headers.get("transfer-encoding", "").lower().endswith("chunked"):
        body = await read_chunks(reader)
    else:
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(method, target.partition("?")[0], headers, body)


def echo(request: Request) -> tuple[int, str, bytes]:
    """Answer an invocation with what arrived; plain text is wrapped, so that a chain shows its order."""
    name = env("MODEL_NAME", "model")
    content_type = request.headers.get("content-type", "")
    text = request.body.decode("utf-8", "replace") if len(request.body) <= LARGEST_ECHO else None
    if content_type.partition(";")[0].strip() == "text/plain" and text is not None:
        return 200, "text/plain", f"{name}({text})".encode()
    answer = {
        "model": name,
        "content_type": content_type,
        "accept": request.headers.get("accept", ""),
        "length": len(request.body),
        "sha256": hashlib.sha256(request.body).hexdigest(),
        "headers": request.headers,
        "body": text,
    }
    return 200, "application/json", json.dumps(answer).encode()


async def answer(request: Request) -> tuple[int, str, bytes]:
    match request.method, request.path:
        case "GET", "/ping":
            status = env("PING_STATUS", "200")
            if status == "never":
                await asyncio.Event().wait()
            return int(status), "text/plain", b""
        case "POST", "/invocations":
            log(f"invocation of {len(request.body)} bytes")
            await asyncio.sleep(float(env("SLOW_MS", "0")) / 1000)
            if fail := env("FAIL_STATUS"):
                return int(fail), "text/plain", b"told to fail"
            return echo(request)
        case _:
            return 404, "text/plain", b"no such path"


async def stream(request: Request, writer: asyncio.StreamWriter, seconds: float) -> None:
    """Answer an invocation line by line."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n")
    for number in range(int(seconds * 10)):
        line = b"%d %b\n" % (number, request.body)
        writer.write(b"%x\r\n%b\r\n" % (len(line), line))
        await writer.drain()
        await asyncio.sleep(0.1)
    writer.write(b"4\r\nend\n\r\n0\r\n\r\n")
    await writer.drain()


async def serve_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the requests of one connection, one after the other, until its client has no more."""
    try:
        keep_alive = True
        while keep_alive:
            request = await read_request(reader, writer)
            if (seconds := env("STREAM_SECONDS")) and request.path == "/invocations":
                await stream(request, writer, float(seconds))
                continue
            status, content_type, body = await answer(request)
            keep_alive = request.headers.get("connection", "").lower() != "close"
            head = (
                f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
                f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
                f"Connection: {'keep-alive' if keep_alive else 'close'}\r\n\r\n"
            )
            writer.write(head.encode("latin-1") + body)
            await writer.drain()
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    except (ValueError, asyncio.LimitOverrunError) as error:
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        log(f"bad request: {error}")
    finally:
        writer.close()


async def serve() -> None:
    """Listen until SIGTERM; connections that are still open then are cut."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    ignored = env("IGNORE_SIGTERM") == "1"
    loop.add_signal_handler(signal.SIGTERM, (lambda: log("SIGTERM ignored")) if ignored else stopped.set)
    hog: list[bytes] = []
    loop.add_signal_handler(signal.SIGUSR1, lambda: hog.append(b"x" * (int(env("HOG_MB", "0")) << 20)))
    if exit_after := env("EXIT_AFTER"):
        loop.call_later(float(exit_after), os._exit, int(env("EXIT_CODE", "1")))
    ballast = b"x" * (int(env("OOM_MB", "0")) << 20)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stopped.wait(), float(env("START_DELAY", "0")))
        return
    port = int(env("SAGEMAKER_BIND_TO_PORT", "8080"))
    await asyncio.start_server(serve_connection, env("BIND", "0.0.0.0"), port)
    log(f"listening on port {port} with {len(ballast)} bytes of ballast")
    await stopped.wait()
    log("SIGTERM, ending")
    os._exit(0)


if __name__ == "__main__":
    if sys.argv[1:] != ["serve"]:
        sys.exit("usage: serve")
    asyncio.run(serve())
