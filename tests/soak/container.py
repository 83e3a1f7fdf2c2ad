"""A model server for the soak, made to be quick: checks each body, answers as the body wishes.

`python -m soak.container NAME PORT`. A body whose checksum is wrong is said on standard error and its connection is
cut, so that the caller knows too.
"""

import asyncio
import sys
from typing import cast

import httptools
import uvloop

from soak import letters
from soak.letters import Letter, Wish

BACKLOG = 1024


class Connection(asyncio.Protocol):
    """One connection of the router."""

    transport: asyncio.Transport

    def __init__(self, name: str) -> None:
        self._name = name.encode() + b":"
        self._parser = httptools.HttpRequestParser(self)
        self._task: asyncio.Task[None] | None = None
        self._start()

    def _start(self) -> None:
        self._pieces: list[bytes] = []
        self._streaming = False
        self._length = -1
        self._attributes = b""
        self._url = b""
        self._head_seen = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, _exc: Exception | None) -> None:
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def pause_writing(self) -> None:
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self.transport.resume_reading()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if name == b"content-length":
            self._length = int(value)
        elif name.lower() == b"x-amzn-sagemaker-custom-attributes":
            self._attributes = b"X-Amzn-SageMaker-Custom-Attributes: %b\r\n" % value

    def on_body(self, data: bytes) -> None:
        self._pieces.append(data)
        if self._streaming:
            self._write(data)
        elif not self._head_seen:
            self._look(b"".join(self._pieces))

    def _look(self, data: bytes) -> None:
        """Begins to answer early, if that is the wish."""
        found = letters.parse(data)
        self._head_seen = found is not None or len(data) > letters.HEAD_BYTES + 64
        if found is not None and found[1].wish.kind == "x":
            self._streaming = True
            self._head(len(self._name) + self._length if self._length >= 0 else -1)
            self._write(self._name + data)

    def on_message_complete(self) -> None:
        data = b"".join(self._pieces)
        if self._url == b"/ping":
            self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        elif not letters.is_whole(data):
            sys.stderr.write(f"container {self._name!r} got a broken body of {len(data)} bytes: {data[:80]!r}\n")
            self.transport.abort()
        elif self._streaming:
            self._end()
        else:
            found = letters.parse(data)
            self._answer(data, found[1] if found else Letter(0, 0, Wish()))
        self._start()

    def _answer(self, data: bytes, letter: Letter) -> None:
        wish = letter.wish
        start = data.find(b"#")
        text = self._name + data[: max(0, start)] + letters.wanted(data[max(0, start) :], letter.id, wish)
        self._head(len(text) if wish.framing == "l" else -1, close=wish.framing == "z")
        if wish.delay_ms:
            self.transport.pause_reading()
            self._task = asyncio.create_task(self._write_slowly(text, wish, self._chunked))
            return
        self._write(text)
        self._end(close=wish.framing == "z")

    async def _write_slowly(self, text: bytes, wish: Wish, chunked: bool) -> None:
        step = len(text) // 4 + 1
        for start in range(0, len(text), step):
            self._chunked = chunked
            self._write(text[start : start + step])
            await asyncio.sleep(wish.delay_ms / 4000)
        self._end(close=wish.framing == "z")
        self.transport.resume_reading()

    def _head(self, length: int, *, close: bool = False) -> None:
        self._chunked = length < 0 and not close
        framing = b"" if close else b"transfer-encoding: chunked\r\n"
        if length >= 0:
            framing = b"content-length: %d\r\n" % length
        self.transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\n" + self._attributes + framing + b"\r\n"
        )

    def _write(self, data: bytes) -> None:
        self.transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    def _end(self, *, close: bool = False) -> None:
        if self._chunked:
            self.transport.write(b"0\r\n\r\n")
        if close:
            self.transport.close()


async def serve(name: str, port: int) -> None:
    """Serves until it is killed."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(name), "127.0.0.1", port, backlog=BACKLOG)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], int(sys.argv[2])))
