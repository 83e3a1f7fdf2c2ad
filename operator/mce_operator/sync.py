"""Whole lists into the caches: once before the watches begin, and then every few minutes.

The first lets a restart compare and write nothing. The others make good for events that were never delivered, as of an
object deleted while a watch was down.
"""

import asyncio
import logging
import random
from functools import partial
from typing import Final, NoReturn

from mce_api import names
from mce_kit.kube import ApiError, KubeApi
from mce_operator.cache import SELECTOR, WATCHED_KINDS, Cache, trimmed
from mce_operator.queue import WorkQueue

_SPREAD: Final = 0.1
"""Share of the pause over which the keys of a resync are spread."""

_log: Final = logging.getLogger(__name__)


async def fill(api: KubeApi, cache: Cache, namespaces: tuple[str, ...]) -> None:
    """Lists everything that is watched; an empty `namespaces` means all.

    Raises:
        ApiError: if a list fails.
    """
    for namespace in namespaces or (None,):
        for kind in WATCHED_KINDS:
            selector = "" if kind == names.KIND else SELECTOR
            listing = await api.list(kind, namespace, selector, partial(trimmed, kind))
            cache.replace(kind, namespace, listing.items, listing.resource_version)


async def keep_filled(
    api: KubeApi, cache: Cache, queue: WorkQueue, namespaces: tuple[str, ...], pause_seconds: float
) -> NoReturn:
    """Repeats `fill` and then has every endpoint looked at, spread over a while."""
    while True:
        await asyncio.sleep(pause_seconds)
        before = set(cache.endpoints())
        try:
            await fill(api, cache, namespaces)
        except ApiError as error:
            _log.warning("resync failed", extra={"error": str(error)})
        for key in before | set(cache.endpoints()):
            queue.add_after(key, random.random() * pause_seconds * _SPREAD)  # noqa: S311 - only spreads load
