"""What a supervisor and a worker say to each other: a line of JSON for each question, and one for each answer.

The line is a socket pair, the worker's end its standard input. So nobody else can open it, there is no file to leave
behind (the root of the image is read-only), a worker needs no HTTP server (16 MiB of aiohttp each), and when one side
dies, however it dies, the other one reads the end of the stream.
"""

import asyncio
import itertools
import json
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from mce_kit import tasks

_log: Final = logging.getLogger(__name__)
_LONGEST_LINE_BYTES: Final = 4 * 1024 * 1024
"""A route table of 15 containers is 3 KiB, a report of them 20 KiB."""

Handler = Callable[[Any], Awaitable[Any]]
"""Takes the argument of a question, returns its answer; both JSON."""


class Gone(Exception):  # noqa: N818 - a fact, not a fault
    """The other side ended before it answered."""


class Asker:
    """The supervisor's end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._numbers = itertools.count()
        self._open: dict[int, asyncio.Future[Any]] = {}
        self._gone = False
        self.listening = tasks.spawn(self._listen(reader), name="listen to a worker")
        """Done when everything that the worker ever said is heard."""

    async def ask(self, what: str, argument: Any = None) -> Any:
        """The answer to `what`.

        Raises:
            Gone: if the worker ended or ends before it answers.
        """
        if self._gone:
            raise Gone
        number = next(self._numbers)
        future = self._open[number] = asyncio.get_running_loop().create_future()
        self._writer.write(_line([number, what, argument]))
        return await future

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        try:
            while line := await reader.readline():
                number, answer = json.loads(line)
                if not (future := self._open.pop(number)).done():
                    future.set_result(answer)
        except OSError:
            pass  # killed with a question unread: gone is gone
        except ValueError as error:
            _log.error("a worker can not be understood", extra={"cause": str(error)})
        finally:
            self._gone = True
            self._writer.close()
            for future in self._open.values():
                if not future.done():
                    future.set_exception(Gone())

    def close(self) -> None:
        """Hangs up: the worker ends at once."""
        self._gone = True
        self._writer.close()


async def connect(end: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Streams over one end of the pair."""
    return await asyncio.open_unix_connection(sock=end, limit=_LONGEST_LINE_BYTES)


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handlers: Mapping[str, Handler]) -> None:
    """The worker's end: answers every question, the slow ones beside the others, until the supervisor is gone."""

    async def reply(number: int, what: str, argument: Any) -> None:
        said = await handlers[what](argument)
        if not writer.is_closing():
            writer.write(_line([number, said]))

    try:
        while line := await reader.readline():
            number, what, argument = json.loads(line)
            tasks.spawn(reply(number, what, argument), name=f"answer {what}")
    except OSError:
        pass  # gone is gone
    finally:
        writer.close()


def _line(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"
