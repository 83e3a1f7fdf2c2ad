"""The route table file: read at start, watched for changes, replaced as a whole or not at all."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

from mce_api import routes
from mce_api.routes import InvalidRouteTable, RouteTable
from mce_router import shares
from mce_router.settings import Settings

_log: Final = logging.getLogger(__name__)
MAX_BYTES: Final = 1 << 20
"""Of the file; a table of 15 containers has 3 KiB."""


def load(path: Path, workers: int = 1) -> RouteTable:
    """The table in the file at `path`.

    Raises:
        InvalidRouteTable: if it can not be read, is too large, is no table, or can not be shared by so many workers;
            the message names the file and every fault.
    """
    return _parse(path, _read(path), workers)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InvalidRouteTable(f"{path}: {error.strerror}") from error
    if len(text) > MAX_BYTES:
        raise InvalidRouteTable(f"{path}: larger than {MAX_BYTES} bytes")
    return text


def _parse(path: Path, text: bytes, workers: int) -> RouteTable:
    try:
        table = routes.parse(text)
        shares.of(table, 0, workers)
    except InvalidRouteTable as error:
        raise InvalidRouteTable(f"{path}: {error}") from error
    return table


async def watch(
    settings: Settings, current: RouteTable, *, use: Callable[[RouteTable], None], bad: Callable[[], None]
) -> None:
    """Calls `use` with each new good table, `bad` once for each new bad file; runs until cancelled.

    The content is compared, not the time stamp: a mounted volume swaps a symbolic link, an editor keeps a time.
    """
    complained = ""
    seen: bytes | None = None
    while True:
        await asyncio.sleep(settings.table_poll_seconds)
        last, seen = seen, None
        try:
            seen = _read(settings.table)
            if seen == last:
                continue
            table = _parse(settings.table, seen, settings.workers)
        except InvalidRouteTable as error:
            if str(error) != complained:
                complained = str(error)
                _log.error("route table refused, the last good one stays in use", extra={"cause": complained})
                bad()
            continue
        complained = ""
        if table != current:
            current = table
            _log.info("route table loaded", extra={"targets": [target.name for target in table.targets]})
            use(table)
