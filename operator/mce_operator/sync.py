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


async def fill(
    api: KubeApi, cache: Cache, scope: Scope, listed: Callable[[Watch, str], None] = lambda _, __: None
) -> None:
    """Lists everything that is watched, and tells `listed` the resourceVersion of each list.

    Raises:
        ApiError: if a list fails.
    """
    for namespace in scope.namespaces or (None,):
        for kind in WATCHED_KINDS:
            watch = Watch(kind, namespace)
            listed(watch, (await fill_kind(api, cache, scope, watch)).resource_version)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """What came of a list."""

    resource_version: str
    endpoints: set[Key]
    """For which it had news."""


async def fill_kind(api: KubeApi, cache: Cache, scope: Scope, watch: Watch) -> Filled:
    """Lists what a watch is about.

    Raises:
        ApiError: if the list fails.
    """
    kind, namespace = watch.kind, watch.namespace
    selector = scope.selector if kind == names.KIND else SELECTOR
    listing = await api.list(kind, namespace, selector, partial(trimmed, kind))
    version = listing.resource_version
    return Filled(resource_version=version, endpoints=cache.replace(kind, namespace, listing.items, version))


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
    """Repeats `fill` and then has every endpoint looked at, spread over a while."""
    while True:
        await asyncio.sleep(pause_seconds)
        before = set(cache.endpoints())
        try:
            await fill(api, cache, scope)
        except ApiError as error:
            _log.warning("resync failed", extra={"error": str(error)})
        for key in before | set(cache.endpoints()):
            queue.add_after(key, random.random() * pause_seconds * _SPREAD)  # noqa: S311 - only spreads load
