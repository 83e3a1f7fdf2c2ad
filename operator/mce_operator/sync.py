"""Whole lists into the caches: once before the watches begin, and then every few minutes.

The first lets a restart compare and write nothing. The others make good for events that were never delivered, as of an
object deleted while a watch was down.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, NoReturn

from mce_api import names
from mce_kit.kube import ApiError, KubeApi
from mce_operator.cache import SELECTOR, WATCHED_KINDS, Cache, trimmed
from mce_operator.key import Key
from mce_operator.queue import WorkQueue
from mce_operator.watches import Watch

_SPREAD: Final = 0.1
"""Share of the pause over which the keys of a resync are spread."""
_GAP_SECONDS: Final = 2
"""Before a list that failed is tried again."""

_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What the operator serves."""

    namespaces: tuple[str, ...] = ()
    """Empty: all."""
    selector: str = ""
    """A label selector for endpoints; empty: all. What belongs to others is cached, and never looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """What came of a list."""

    watch: Watch
    resource_version: str
    endpoints: set[Key]
    """For which it had news. No watch will bring it once more, as it is known by then."""


async def fill(api: KubeApi, cache: Cache, scope: Scope, listed: Callable[[Filled], None] = lambda _: None) -> None:
    """Lists everything that is watched; tells `listed` of each list as soon as it is in the cache.

    Raises:
        ApiError: if a list fails.
    """
    for namespace in scope.namespaces or (None,):
        for kind in WATCHED_KINDS:
            listed(await fill_kind(api, cache, scope, Watch(kind, namespace)))


async def fill_kind(api: KubeApi, cache: Cache, scope: Scope, watch: Watch) -> Filled:
    """Lists what a watch is about.

    Raises:
        ApiError: if the list fails.
    """
    kind, namespace = watch.kind, watch.namespace
    selector = scope.selector if kind == names.KIND else SELECTOR
    listing = await api.list(kind, namespace, selector, partial(trimmed, kind))
    version = listing.resource_version
    endpoints = cache.replace(kind, namespace, listing.items, version)
    return Filled(watch=watch, resource_version=version, endpoints=endpoints)


async def fill_gaps(api: KubeApi, cache: Cache, queue: WorkQueue, scope: Scope, gaps: asyncio.Queue[Watch]) -> NoReturn:
    """Lists again what a watch could not continue, and has those endpoints looked at for which that is news."""
    while True:
        gap = await gaps.get()
        try:
            filled = await fill_kind(api, cache, scope, gap)
        except ApiError as error:
            _log.warning("list failed, trying again", extra={"watch": str(gap), "error": str(error)})
            await asyncio.sleep(_GAP_SECONDS)
            gaps.put_nowait(gap)
            continue
        for key in filled.endpoints:
            queue.add(key)


async def keep_filled(api: KubeApi, cache: Cache, queue: WorkQueue, scope: Scope, pause_seconds: float) -> NoReturn:
    """Repeats `fill`, has those looked at for which there is news, and then every endpoint, spread over a while."""

    def heard(filled: Filled) -> None:
        for key in filled.endpoints:
            queue.add(key)

    while True:
        await asyncio.sleep(pause_seconds)
        try:
            await fill(api, cache, scope, heard)
        except ApiError as error:
            _log.warning("resync failed", extra={"error": str(error)})
        for key in cache.endpoints():
            queue.add_after(key, random.random() * pause_seconds * _SPREAD)  # noqa: S311 - only spreads load
