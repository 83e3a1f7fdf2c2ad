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


def load(path: Path, workers: int = 1) -> RouteTable:
    """The table in the file at `path`.

    Raises:
        InvalidRouteTable: if it can not be read, is no table, or can not be shared by so many workers; the message
            names the file and every fault.
    """
    try:
        table = routes.parse(path.read_bytes())
        shares.of(table, 0, workers)
    except OSError as error:
        raise InvalidRouteTable(f"{path}: {error.strerror}") from error
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
    while True:
        await asyncio.sleep(settings.table_poll_seconds)
        try:
            table = load(settings.table, settings.workers)
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
