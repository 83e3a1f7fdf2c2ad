"""Watches that are asked for, that are not, and what follows."""

import asyncio
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from mce_api import names
from mce_kit import tasks
from mce_kit.kube import RESOURCES, ApiError, Connection
from mce_operator import watches
from mce_operator.cache import WATCHED_KINDS
from mce_operator.watches import DEAF_SECONDS, Watch, Watches


class Heard:
    """Watches on a clock that the test moves."""

    def __init__(self, *namespaces: str) -> None:
        self.now = 0.0
        self.relisted: list[Watch] = []
        self.watches = Watches(namespaces=namespaces, monotonic=lambda: self.now, relisted=self.relisted.append)


def test_a_watch_is_known_by_the_path_of_its_collection() -> None:
    heard = Heard("a", "b")
    assert heard.watches.at("/apis/apps/v1/namespaces/b/deployments") == Watch("Deployment", "b")
    assert heard.watches.at("/apis/apps/v1/deployments") is None
    assert Heard().watches.at("/api/v1/pods") == Watch("Pod", None)
    assert Heard().watches.at("/api/v1/secrets") is None


def test_the_most_neglected_watch_counts() -> None:
    heard = Heard("a")
    heard.now = 100
    assert heard.watches.silence() == (0.0, "")
    heard.watches.start()
    heard.now = 110
    for kind in WATCHED_KINDS:
        if kind != "Pod":
            heard.watches.ask(Watch(kind, "a"))
    heard.now = 115
    assert heard.watches.silence() == (15.0, "Pod in a")
    heard.watches.ask(Watch("Pod", "a"))
    assert heard.watches.silence()[0] == 5.0
    heard.watches.stop()
    assert heard.watches.silence()[0] == 0.0


def test_requests_for_one_watch_are_a_second_apart() -> None:
    heard = Heard("a")
    pod, service = Watch("Pod", "a"), Watch("Service", "a")
    assert [heard.watches.ask(pod), heard.watches.ask(service)] == [0.0, 0.0]
    assert heard.watches.ask(pod) == 1.0
    heard.now = 10
    assert heard.watches.ask(pod) == 0.0


def test_a_watch_that_starts_from_a_list_is_reported_and_one_that_is_continued_is_not() -> None:
    heard = Heard("a")
    pod = Watch("Pod", "a")
    heard.watches.start()
    heard.watches.open(pod, from_list=True)
    assert heard.relisted == [pod]
    heard.watches.open(pod, from_list=False)
    assert heard.relisted == [pod]


def test_a_watch_continues_from_the_list_that_was_just_read_unless_that_ends_early() -> None:
    heard = Heard("a")
    pod = Watch("Pod", "a")
    heard.watches.listed(pod, "42")
    heard.watches.start()
    assert heard.watches.begin(Watch("Service", "a")) == ""
    begun = []
    for asked, answered in ((0, 0), (15, 27), (42, 54), (55, 55), (70, 70)):  # that of 54 ended after a second
        heard.now = asked
        begun.append(heard.watches.begin(pod))
        heard.now = answered
        heard.watches.open(pod, from_list=False)
    assert begun == ["42", "42", "42", "", ""]
    heard.now = 100
    heard.watches.listed(pod, "44")
    assert heard.watches.begin(pod) == "44"
    heard.watches.stop()
    assert heard.watches.begin(pod) == ""


async def test_the_request_of_a_first_watch_names_the_version_of_the_list_and_asks_for_no_objects() -> None:
    heard = Heard()
    asked: list[dict[str, str]] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(dict(request.query))
        return web.Response()

    app = web.Application()
    app.router.add_get("/api/v1/pods", answer)
    plain = {"watch": "true", "labelSelector": "a=b"}
    first = {**plain, "sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}

    async def reload() -> None:
        pass

    async with TestServer(app) as server:
        nothing = dict.fromkeys(("ca_path", "certificate_path", "key_path", "token"))
        found = Connection(server=str(server.make_url("")), insecure=True, **nothing)

        async def connection() -> Connection:
            return found

        heard.watches.listed(Watch("Pod", None), "42")
        async with watches.session(heard.watches, connection, reload, found) as session:
            for heard.now in (0, 2):  # the second comes so soon that the version may have been refused
                (await session.get(server.make_url("/api/v1/pods"), params=first)).close()
    assert asked == [{**plain, "resourceVersion": "42"}, first]
    assert heard.relisted == [Watch("Pod", None)]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watches, "_RESTART_SECONDS", (0.01,))
    monkeypatch.setattr(watches, "_CHECK_SECONDS", 0.01)


async def _until(check: Any) -> None:
    async with asyncio.timeout(5):
        while not check():  # noqa: ASYNC110 - what it looks at has no event
            await asyncio.sleep(0.01)


async def test_whatever_ends_kopf_or_its_lists_everything_is_listed_and_watched_anew(quick: None) -> None:
    heard = Heard("a")
    calls: list[str] = []

    async def fill() -> None:
        calls.append("fill")
        if len(calls) == 1:
            raise ApiError(404, "NotFound", "no such kind")

    async def watching() -> None:
        calls.append("watch")
        if calls.count("watch") == 1:
            raise RuntimeError("410")
        await asyncio.Event().wait()

    running = tasks.spawn(watches.keep_watching(heard.watches, fill, watching), name="watching")
    await _until(lambda: calls == ["fill", "fill", "watch", "fill", "watch"])
    assert not running.done()
    running.cancel()
    await asyncio.wait({running})


async def test_a_deaf_watch_is_ended_and_watched_anew(quick: None) -> None:
    heard = Heard("a")
    cancelled = 0

    async def fill() -> None:
        pass

    async def watching() -> None:
        nonlocal cancelled
        try:
            await asyncio.Event().wait()
        finally:
            cancelled += 1

    running = tasks.spawn(watches.keep_watching(heard.watches, fill, watching), name="watching")
    await asyncio.sleep(0.05)
    assert cancelled == 0
    heard.now = DEAF_SECONDS + 1
    await _until(lambda: cancelled == 1)
    running.cancel()
    await asyncio.wait({running})


def test_every_watched_kind_has_a_path() -> None:
    assert names.KIND in WATCHED_KINDS
    assert set(WATCHED_KINDS) <= RESOURCES.keys()
