"""The only spawner of asyncio tasks: every task has a name, is kept alive, and its failure is never silent."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

T = TypeVar("T")

_log: Final = logging.getLogger(__name__)
_running: Final[set[asyncio.Task[Any]]] = set()
"""asyncio itself keeps only weak references: without this set a task may be collected while it waits."""


def spawn(coroutine: Coroutine[Any, Any, T], *, name: str) -> asyncio.Task[T]:
    """Starts `coroutine` as a task called `name`; an exception that nobody awaits is logged with its traceback."""
    task = asyncio.get_running_loop().create_task(coroutine, name=name)
    _running.add(task)
    task.add_done_callback(_finished)
    return task


def _finished(task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("task failed", extra={"task": task.get_name()}, exc_info=error)
