"""A steady load for a pod of its own: standard library only, since it runs in the image of the test model.

`python3 -c SOURCE JSON` with `{"direct": HOST, "serial": HOST, "streams": HOST, "victim": HOST}`, each of which may be
left out. Asks over connections that stay, over a new one each time, and for long streamed replies, until `/tmp/stop` is
there; then prints one JSON line. A request is lost when it did not get its own whole 200, whatever the cause. Container
`victim` may be down: an error that names a cause (`x-mce-reason`) is then a reply, too.
"""

import asyncio
import json
import socket
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

STAYING = 6
STAYING_PERIOD = 0.08
ONE_SHOT_PERIOD = 0.03
MOST_BEHIND = 0.5
"""A caller that is more seconds behind its schedule lets what it has missed go."""
STREAM_PAUSE = 1.0
STREAM_CONTAINER = "streams"
VICTIM = "victim"
PATIENCE = 60.0
TARGET = "X-Amzn-SageMaker-Target-Container-Hostname"


class LostError(Exception):
    """A request without its own whole reply."""


class ToldError(Exception):
    """An error with its cause."""


class Schedule:
    """When a caller is to ask next: at a steady rate, however long the answers take."""

    def __init__(self, period: float) -> None:
        self.period = period
        self.due = time.monotonic()

    async def turn(self) -> None:
        self.due = max(self.due + self.period, time.monotonic() - MOST_BEHIND)
        await asyncio.sleep(max(0.0, self.due - time.monotonic()))


class Load:
    """All callers and what they saw."""

    def __init__(self, hosts: dict[str, str]) -> None:
        self.hosts = hosts
        self.sequence = 0
        self.answered: Counter[str] = Counter()
        self.slowest: dict[str, float] = {}
        self.told: Counter[str] = Counter()
        self.lost: list[dict[str, Any]] = []
        self.reconnected = 0
        self.closed_unannounced = 0
        self.longest_pause = 0.0
        """Seconds without a new connection: this process stood still, which is not the other side's doing."""

    def next_id(self) -> str:
        self.sequence += 1
        return f"request-{self.sequence:08d}"

    async def staying(self, mode: str) -> None:
        """One connection, kept as long as the other side keeps it."""
        connection: Connection | None = None
        schedule = Schedule(STAYING_PERIOD)
        while not stopped():
            if connection is not None and connection.reader.at_eof():
                self.closed_unannounced += 1
                connection = None
            connection = await self.ask(f"{mode} staying", mode, connection, close=False)
            await schedule.turn()

    async def one_shots(self, mode: str) -> None:
        """A new connection for each request."""
        tasks = set()
        schedule = Schedule(ONE_SHOT_PERIOD)
        last = time.monotonic()
        while not stopped():
            task = asyncio.create_task(self.ask(f"{mode} one-shot", mode, None, close=True))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            await schedule.turn()
            self.longest_pause = max(self.longest_pause, time.monotonic() - last)
            last = time.monotonic()
        await asyncio.gather(*tasks)

    async def streams(self) -> None:
        """Replies that take long from their first byte to their last, several at a time."""
        tasks = set()
        while not stopped():
            task = asyncio.create_task(self.ask("streams", STREAM_CONTAINER, None, close=False))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            await asyncio.sleep(STREAM_PAUSE)
        await asyncio.gather(*tasks)

    async def ask(self, kind: str, what: str, connection: "Connection | None", *, close: bool) -> "Connection | None":
        """One request; returns the connection if it may be used again."""
        name, began = self.next_id(), time.monotonic()
        host = self.hosts[what]
        target = {"serial": "", "direct": "echo"}.get(what, what)
        stage = "connect"
        try:
            async with asyncio.timeout(PATIENCE):
                if connection is None:
                    self.reconnected += 1
                    connection = await Connection.open(host)
                stage = "reply"
                keeps, body = await connection.exchange(host, target, name, close=close)
            check(what, name, body)
        except ToldError as error:  # the connection goes with it
            self.told[str(error)] += 1
            return None
        except (OSError, EOFError, ValueError, LostError) as error:
            seconds = round(time.monotonic() - began, 3)
            self.lost.append(
                {"kind": kind, "stage": stage, "at": time.time(), "seconds": seconds, "error": repr(error)[:300]}
            )
            if connection is not None:
                connection.writer.transport.abort()
            return None
        self.answered[kind] += 1
        self.slowest[kind] = max(self.slowest.get(kind, 0.0), time.monotonic() - began)
        if keeps and not close and what != STREAM_CONTAINER:
            return connection
        connection.writer.close()
        return None

    def summary(self) -> dict[str, Any]:
        return {
            "answered": dict(self.answered),
            "told": dict(self.told),
            "lost": len(self.lost),
            "first lost": self.lost[:20],
            "every lost": [{"kind": one["kind"], "at": one["at"]} for one in self.lost],
            "slowest": {kind: round(seconds, 2) for kind, seconds in self.slowest.items()},
            "connections": self.reconnected,
            "closed unannounced": self.closed_unannounced,
            "longest pause": round(self.longest_pause, 2),
        }


class Connection:
    """HTTP as little as is needed, so that nothing is retried behind our back."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, host: str) -> "Connection":
        return cls(*await asyncio.open_connection(host, 80))

    async def exchange(self, host: str, target: str, body: str, *, close: bool) -> tuple[bool, str]:
        """Whether the connection stays, and the body of the 200."""
        lines = [f"Host: {host}", "Content-Type: text/plain", f"Content-Length: {len(body)}"]
        lines += [f"{TARGET}: {target}"] if target else []
        lines += ["Connection: close"] if close else []
        self.writer.write(("POST /invocations HTTP/1.1\r\n" + "\r\n".join(lines) + "\r\n\r\n" + body).encode())
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status, *rows = head.split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (row.partition(":") for row in rows if row)}
        if headers.get("transfer-encoding") == "chunked":
            reply = b""
            while size := int(await self.reader.readuntil(b"\r\n"), 16):
                reply += await self.reader.readexactly(size)
                await self.reader.readexactly(2)
            await self.reader.readexactly(2)
        else:
            reply = await self.reader.readexactly(int(headers["content-length"]))
        if status.split(" ")[1] != "200" and target == VICTIM and (cause := headers.get("x-mce-reason")):
            raise ToldError(f"{status.split(' ')[1]} {cause}")
        if status.split(" ")[1] != "200":
            raise LostError(f"{status} {headers.get('x-mce-reason')} {reply[:200]!r}")
        return headers.get("connection") != "close", reply.decode()


def check(what: str, name: str, body: str) -> None:
    """Raises unless `body` is the whole reply to the request called `name`."""
    lines = max(1, body.count("\n") - 1)
    wanted = {
        "serial": f"two(one({name}))",
        "direct": f"echo({name})",
        VICTIM: f"{VICTIM}({name})",
        STREAM_CONTAINER: "".join(f"{number} {name}\n" for number in range(lines)) + "end\n",
    }[what]
    if body != wanted:
        raise LostError(f"wanted {wanted[:60]!r}, got {body[:60]!r}")


def stopped() -> bool:
    return Path("/tmp/stop").exists()


async def main(names: dict[str, str]) -> None:
    # Once: a slow name server is not what is measured.
    load = Load({mode: socket.gethostbyname(name) for mode, name in names.items()})
    began = time.monotonic()
    modes: list[str] = [mode for mode in ("direct", "serial") if mode in names]
    staying = [load.staying(mode) for mode in modes for _ in range(STAYING)]
    streams = [load.streams()] if STREAM_CONTAINER in names else []
    if VICTIM in names:
        staying += [load.staying(VICTIM) for _ in range(STAYING // 2)]
        modes.append(VICTIM)
    await asyncio.gather(*staying, *(load.one_shots(mode) for mode in modes), *streams)
    seconds = time.monotonic() - began
    print(json.dumps({**load.summary(), "seconds": round(seconds, 1)}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
