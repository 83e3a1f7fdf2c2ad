"""What a list brings is looked at: no watch will tell of it once more."""

import asyncio
from collections.abc import Callable

import pytest

from mce_api import names
from mce_kit.kube import ApiError
from mce_operator import sync
from mce_operator.cache import Cache
from mce_operator.key import Key
from mce_operator.queue import Backoff, Schedule, WorkQueue
from mce_operator.sync import Filled, Scope
from mce_operator.watches import Watch
from unit.mce_operator import objects
from unit.mce_operator.fake_api import FakeApi

KEY = Key("team-a", "mnist")


def work_queue() -> WorkQueue:
    backoff = Backoff(first_seconds=1, longest_seconds=1)
    return WorkQueue(Schedule(backoff), asyncio.get_running_loop().time)


async def until(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not check():  # noqa: ASYNC110 - what it looks at has no event
            await asyncio.sleep(0.01)


def outdated() -> tuple[FakeApi, Cache]:
    """An endpoint of which the cache knows an older version than the API server."""
    api, cache = FakeApi(), Cache()
    cache.put(names.KIND, api.store(objects.document()))
    edited = objects.document()
    edited["metadata"]["generation"] = 2
    api.store(edited)
    return api, cache


async def test_a_change_that_a_resync_hears_of_before_the_watch_is_dealt_with_at_once() -> None:
    api, cache = outdated()
    queue = work_queue()
    running = asyncio.ensure_future(sync.keep_filled(api, cache, queue, Scope(), 1.0))
    try:
        await until(lambda: queue.depth == 1)
        assert queue.waiting == 1  # and once more when its turn comes
    finally:
        running.cancel()


async def test_a_gap_brings_a_pass_only_to_those_for_which_its_list_has_news() -> None:
    api, cache = outdated()
    queue, gaps = work_queue(), asyncio.Queue[Watch]()
    running = asyncio.ensure_future(sync.fill_gaps(api, cache, queue, Scope(), gaps))
    try:
        gaps.put_nowait(Watch(names.KIND, None))
        await until(lambda: queue.depth == 1)
        assert await queue.get() == KEY
        queue.done(KEY)
        gaps.put_nowait(Watch(names.KIND, None))
        await until(gaps.empty)
        await asyncio.sleep(0.05)
        assert queue.depth == 0
    finally:
        running.cancel()


async def test_what_a_list_shows_is_told_though_a_later_one_fails() -> None:
    api, cache = FakeApi(), Cache()
    api.store(objects.document())
    await sync.fill(api, cache, Scope())
    del api.objects[names.KIND, *KEY]
    api.fail["list", "Deployment"] = ApiError(500, "InternalError", "no")
    heard: list[Filled] = []
    with pytest.raises(ApiError):
        await sync.fill(api, cache, Scope(), heard.append)
    assert {key for filled in heard for key in filled.endpoints} == {KEY}
    assert heard[0].watch == Watch(names.KIND, None)
