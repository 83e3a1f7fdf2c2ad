"""Keeps kopf's watches alive, and knows whether they are: the session that they run on, and their supervisor.

What kopf 1.45 leaves open is closed here, at the one place where every watch request of its passes:

- A watch is asked for anew every few seconds, from where it left off (the server says where by a bookmark). So a stream
  that has gone silent without a reset is replaced soon, and a watch that nobody asks for any more is known to be deaf.
- kopf gives up at an error that it does not expect (HTTP 404 or 410 on a watch, an error event in a stream). It is
  started anew, in this process: a container that restarts too often is held back for minutes.
- What has just been listed is not streamed once more: a first watch continues from that list. Streaming it costs kopf
  more than 1 ms for each object, 15 s with 1,000 endpoints.
- Objects deleted while a watch could not be continued are in no event. Whenever a watch starts from a whole list, its
  kind is listed once more, which shows what is gone.
- A token is good for one request. kopf would take it once, and end when the server refuses it twice.
"""

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final, NoReturn

import aiohttp

from mce_kit import tasks
from mce_kit.kube import RESOURCES, ApiError, Connection
from mce_operator.cache import WATCHED_KINDS

STREAM_SECONDS: Final = 15
"""After this the server ends a watch, with a bookmark shortly before."""
SILENCE_SECONDS: Final = 18
"""After this without a byte, kopf does."""
DEAF_SECONDS: Final = 30
"""A watch that nobody has asked for in this time is not coming back by itself."""
STUCK_SECONDS: Final = 60
"""If starting kopf anew has not helped by then, the process is better started anew."""

_LEAST_SECONDS: Final = 1
"""Between two requests for one watch: kopf asks again at once after a stream that breaks off."""
_RESTART_SECONDS: Final = (1, 2, 4, 8)
"""Pauses before kopf is started anew, after failures in a row."""
_CHECK_SECONDS: Final = 5
_WHOLE_STREAM_SECONDS: Final = 10
"""A stream that lasted so long has ended as it should."""
_FROM_LIST: Final = frozenset({"sendInitialEvents", "resourceVersionMatch"})
"""How kopf asks for a watch that begins with a list."""

_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Watch:
    """One watch."""

    kind: str
    namespace: str | None
    """None: all."""

    def __str__(self) -> str:
        return f"{self.kind} in {self.namespace or 'all namespaces'}"


@dataclass(slots=True)
class Watches:
    """When each watch was last asked for. Needs the time of a monotonic clock, in seconds."""

    namespaces: tuple[str, ...]
    """Empty: one watch per kind for all of them."""
    monotonic: Callable[[], float]
    relisted: Callable[[Watch], None]
    """Told when a watch begins from a whole list: what was deleted just before is in no event."""
    _listed: dict[Watch, str] = field(default_factory=dict)
    """The resourceVersion of a list from which its next watch continues."""
    _opened: dict[Watch, float] = field(default_factory=dict)
    """When its stream began."""
    _asked: dict[Watch, float] = field(default_factory=dict)
    _since: float | None = None
    """Since when kopf is up; None: it is not."""

    def start(self) -> None:
        """Kopf starts, and with it every watch."""
        self._asked.clear()
        self._since = self.monotonic()

    def stop(self) -> None:
        """Kopf is down: no watch is expected."""
        self._since = None
        self._listed.clear()
        self._opened.clear()

    def listed(self, watch: Watch, resource_version: str) -> None:
        """What it is about has been listed, as of that version."""
        self._listed[watch] = resource_version

    def begin(self, watch: Watch) -> str:
        """It begins: the version of the list to continue from; empty: it has to start from a list of its own.

        A stream in which nothing happened leaves kopf without a version, and it begins again (the server's bookmarks
        are too rare). One that ended early was refused, or broke off: the version may be too old.
        """
        if self.monotonic() - self._opened.get(watch, float("-inf")) < _WHOLE_STREAM_SECONDS:
            self._listed.pop(watch, None)
        return self._listed.get(watch, "")

    def at(self, path: str) -> Watch | None:
        """The watch on a collection's URL path; None if the operator does not serve it."""
        for kind in WATCHED_KINDS:
            for namespace in self.namespaces or (None,):
                if RESOURCES[kind].path(namespace) == path:
                    return Watch(kind, namespace)
        return None

    def ask(self, watch: Watch) -> float:
        """A request for it is about to go out; returns for how many seconds it should wait."""
        now = self.monotonic()
        pause = max(0.0, self._asked.get(watch, float("-inf")) + _LEAST_SECONDS - now)
        self._asked[watch] = now + pause
        return pause

    def open(self, watch: Watch, *, from_list: bool) -> None:
        """The server answers it with a stream."""
        self._opened[watch] = self.monotonic()
        if from_list:
            self.relisted(watch)

    def silence(self) -> tuple[float, str]:
        """For how long the most neglected watch has not been asked for, and which one that is."""
        if self._since is None:
            return 0.0, ""
        expected = [Watch(kind, namespace) for kind in WATCHED_KINDS for namespace in self.namespaces or (None,)]
        oldest = min(expected, key=lambda watch: self._asked.get(watch, self._since or 0.0))
        return self.monotonic() - self._asked.get(oldest, self._since), str(oldest)


def session(
    watches: Watches,
    connection: Callable[[], Awaitable[Connection]],
    reload: Callable[[], Awaitable[None]],
    found: Connection,
) -> aiohttp.ClientSession:
    """The HTTP client that kopf watches with.

    Args:
        watches: takes note of each watch.
        connection: gives the credentials of the moment.
        reload: reads them anew after a 401.
        found: server and certificates, which hold for the session's life.
    """

    async def authorized(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        """Sends a request with the present token; again, if the server does not know it, until kopf gives it up."""
        while True:
            token = (await connection()).token
            if token:
                request.headers["Authorization"] = f"Bearer {token}"
            response = await handler(request)
            if response.status != HTTPStatus.UNAUTHORIZED:
                return response
            response.close()
            _log.warning("watch refused", extra={"path": request.url.path, "status": response.status})
            await asyncio.sleep(_LEAST_SECONDS)
            await reload()

    async def noted(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        watch = watches.at(request.url.path) if "watch" in request.url.query else None
        if watch is None:
            return await handler(request)
        await asyncio.sleep(watches.ask(watch))
        from_list = request.url.query.keys() >= _FROM_LIST
        if from_list and (version := watches.begin(watch)):
            request.url = request.url.without_query_params(*_FROM_LIST).update_query(resourceVersion=version)
            from_list = False
        response = await handler(request)
        if response.status == HTTPStatus.OK:
            watches.open(watch, from_list=from_list)
        return response

    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=_tls(found)), middlewares=(noted, authorized), trust_env=True
    )


def _tls(found: Connection) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=found.ca_path)
    if found.certificate_path:
        made.load_cert_chain(found.certificate_path, found.key_path)
    if found.insecure:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    return made


async def keep_watching(
    watches: Watches, fill: Callable[[], Awaitable[None]], watching: Callable[[], Awaitable[None]]
) -> NoReturn:
    """Fills the caches and runs kopf, again and again: whatever ends it, and whenever a watch is deaf.

    Args:
        watches: tells a deaf watch.
        fill: lists everything; an `ApiError` is tried again.
        watching: runs kopf until it fails.
    """
    failures = 0
    while True:
        begun = watches.monotonic()
        try:
            await fill()
            watches.start()
            await _watch_once(watches, watching)
        except ApiError as error:
            hint = "; is the CRD installed? kubectl apply -f crds/" if error.is_not_found else ""
            _log.warning("cannot list", extra={"error": f"{error}{hint}"})
        finally:
            watches.stop()
        failures = 0 if watches.monotonic() - begun > STUCK_SECONDS else failures + 1
        await asyncio.sleep(_RESTART_SECONDS[min(failures, len(_RESTART_SECONDS)) - 1])


async def _watch_once(watches: Watches, watching: Callable[[], Awaitable[None]]) -> None:
    """Until kopf ends, or until it has to be ended."""
    running = tasks.spawn(_run(watching), name="kopf")
    try:
        while not running.done():
            await asyncio.wait({running}, timeout=_CHECK_SECONDS)
            seconds, name = watches.silence()
            if seconds > DEAF_SECONDS:
                _log.warning("watch is deaf, watching anew", extra={"watch": name, "seconds": round(seconds)})
                return
    finally:
        running.cancel()
        await asyncio.wait({running})


async def _run(watching: Callable[[], Awaitable[None]]) -> None:
    try:
        await watching()
    except Exception as error:  # noqa: BLE001 - whatever kopf ends with, it is started anew
        _log.warning("watching ended, watching anew", extra={"error": f"{type(error).__name__}: {error}"[:300]})
