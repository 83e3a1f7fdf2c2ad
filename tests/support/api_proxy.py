"""A proxy in front of an API server that does harm on command, counts writes, and stops at each of them.

    with api_proxy(upstream_of(kubeconfig)) as proxy:              # or api_proxy(Upstream("http://127.0.0.1:PORT"))
        env = {"KUBECONFIG": str(proxy.kubeconfig(tmp_path))}       # for the operator's process
        with proxy.fault(Fault.status(503), method="PATCH", path=r"/deployments/"):
            ...                                                     # every such request is answered 503 meanwhile
        proxy.mute_streams()                                        # open watches go silent, without a reset

Faults: `Fault.status(code, retry_after)` answers, `Fault.reset()` resets the connection, `Fault.silence()` never
answers, `Fault.event(code)` answers a watch with 200 and an ERROR event. A fault holds while its context is open, for
requests that match `method`, `path` (a regular expression, searched in path and query) and `watch` (None: either), and
at most `times` times. Open streams: `mute_streams` (say nothing more), `cut_streams` (reset).

Writes: every POST, PUT, PATCH and DELETE gets a number, 1, 2, ..., but for Leases and Events, which come when they
like. `proxy.writes` has them all. Two hooks see each, in the proxy's thread, one write at a time in that thread:

    proxy.before_write = hook   # the API server has not seen it; False: it never will, the connection is reset
    proxy.after_write = hook    # it has, the operator has not got the answer; False: it never will

So to kill the operator at write number k, before or after it takes effect:

    def hook(write: Write) -> bool:
        if write.number == k:
            os.kill(pid, signal.SIGKILL)
        return write.number != k
"""

import asyncio
import base64
import json
import re
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from aiohttp import web

from support.background import BackgroundServer

_UNCOUNTED = re.compile(r"/(leases|events)(/|$)")
_HOP = {"host", "connection", "transfer-encoding", "content-length", "accept-encoding", "content-encoding"}


@dataclass(frozen=True, slots=True)
class Upstream:
    """The real API server, and how to be somebody there."""

    url: str
    tls: ssl.SSLContext | None = None
    """Trusts the server, and shows the user's certificate."""
    anonymous: ssl.SSLContext | None = None
    """Only trusts it."""
    token: str = ""


def upstream_of(kubeconfig: Path, scratch: Path) -> Upstream:
    """The server and the user of a kubeconfig's current context; `scratch` gets its certificates."""
    document = yaml.safe_load(kubeconfig.read_text())

    def pick(kind: str, name: str) -> dict[str, Any]:
        found: dict[str, Any] = next(one for one in document[f"{kind}s"] if one["name"] == name)[kind]
        return found

    def file(source: dict[str, Any], key: str) -> str | None:
        if f"{key}-data" not in source:
            return source.get(key)
        path = scratch / f"upstream-{key}"
        path.write_bytes(base64.b64decode(source[f"{key}-data"]))
        return str(path)

    context = pick("context", document["current-context"])
    cluster, user = pick("cluster", context["cluster"]), pick("user", context["user"])
    if not cluster["server"].startswith("https"):
        return Upstream(cluster["server"], token=user.get("token", ""))
    tls, anonymous = (ssl.create_default_context(cafile=file(cluster, "certificate-authority")) for _ in range(2))
    if certificate := file(user, "client-certificate"):
        tls.load_cert_chain(certificate, file(user, "client-key"))
    return Upstream(cluster["server"], tls, anonymous, user.get("token", ""))


@dataclass(frozen=True, slots=True)
class Write:
    """One write on its way."""

    number: int
    method: str
    path: str
    """With the query."""
    body: bytes


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to a request instead of being passed on."""

    kind: str
    code: int = 0
    retry_after: int | None = None

    @classmethod
    def status(cls, code: int, retry_after: int | None = None) -> "Fault":
        return cls("status", code, retry_after)

    @classmethod
    def reset(cls) -> "Fault":
        return cls("reset")

    @classmethod
    def silence(cls) -> "Fault":
        return cls("silence")

    @classmethod
    def event(cls, code: int) -> "Fault":
        return cls("event", code)


@dataclass(eq=False, slots=True)
class _Rule:
    fault: Fault
    method: str
    path: re.Pattern[str]
    watch: bool | None
    times: int
    hits: int = 0

    def takes(self, request: web.Request) -> bool:
        is_watch = "watch" in request.query
        return (
            self.hits < self.times
            and self.method in ("", request.method)
            and self.watch in (None, is_watch)
            and self.path.search(request.path_qs) is not None
        )


@dataclass(eq=False, slots=True)
class _Stream:
    request: web.Request
    is_muted: bool = False


@dataclass(eq=False)
class ApiProxy(BackgroundServer):
    """See the module."""

    upstream: Upstream
    writes: list[Write] = field(default_factory=list)
    seen: list[tuple[str, str]] = field(default_factory=list)
    """(method, path with query) of every request, also of those that a fault took."""
    before_write: Callable[[Write], bool | None] | None = None
    after_write: Callable[[Write], bool | None] | None = None
    token: str = ""
    """If set, whoever has not got this bearer token is answered 401."""

    def __post_init__(self) -> None:
        super().__init__()
        self._rules: list[_Rule] = []
        self._streams: set[_Stream] = set()
        self._lock = threading.Lock()

    def kubeconfig(self, folder: Path, token_file: Path | None = None) -> Path:
        """Writes a kubeconfig for this proxy; `token_file` is read by the client when it needs a token."""
        user = {"tokenFile": str(token_file)} if token_file else {}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "proxy",
            "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "proxy"}}],
            "clusters": [{"name": "proxy", "cluster": {"server": self.url}}],
            "users": [{"name": "proxy", "user": user}],
        }
        path = folder / "proxy.kubeconfig"
        path.write_text(json.dumps(document))
        return path

    @contextmanager
    def fault(
        self, fault: Fault, method: str = "", path: str = "", *, watch: bool | None = None, times: int = 1_000_000_000
    ) -> Iterator[Callable[[], int]]:
        """Injects a fault while open; yields a function that tells how often it has struck."""
        rule = _Rule(fault, method, re.compile(path), watch, times)
        with self._lock:
            self._rules.append(rule)
        try:
            yield lambda: rule.hits
        finally:
            with self._lock:
                self._rules.remove(rule)

    def mute_streams(self, path: str = "") -> int:
        """Watches that are open now say nothing more and stay open; returns how many."""
        return self._each(path, lambda stream: setattr(stream, "is_muted", True))

    def cut_streams(self, path: str = "") -> int:
        """Watches that are open now are reset; returns how many."""

        def cut(stream: _Stream) -> None:
            _abort(stream.request)

        return self._each(path, cut)

    def _each(self, path: str, do: Callable[[_Stream], None]) -> int:
        async def all_of_them() -> int:
            chosen = [stream for stream in self._streams if re.search(path, stream.request.path_qs)]
            for stream in chosen:
                do(stream)
            return len(chosen)

        return self.call(all_of_them())

    # --- HTTP ---

    def app(self) -> web.Application:
        app = web.Application(client_max_size=64 << 20)
        app.router.add_route("*", "/{path:.*}", self._handle)

        async def session(_: web.Application) -> Any:
            connector = aiohttp.TCPConnector(limit=0, ssl=self.upstream.tls or False)
            timeout = aiohttp.ClientTimeout(total=None)
            self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=True)
            yield
            await self._session.close()

        app.cleanup_ctx.append(session)
        return app

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.seen.append((request.method, request.path_qs))
        with self._lock:
            rule = next((rule for rule in self._rules if rule.takes(request)), None)
            if rule:
                rule.hits += 1
        if rule:
            return await _strike(rule.fault, request)
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            return _status(401, None)
        if "watch" in request.query:
            return await self._stream(request)
        body = await request.read()
        if request.method not in {"POST", "PUT", "PATCH", "DELETE"} or _UNCOUNTED.search(request.path):
            return await self._pass_on(request, body)
        write = Write(len(self.writes) + 1, request.method, request.path_qs, body)
        self.writes.append(write)
        if self.before_write is not None and self.before_write(write) is False:
            return _abort(request)
        answer = await self._pass_on(request, body)
        if self.after_write is not None and self.after_write(write) is False:
            return _abort(request)
        return answer

    async def _pass_on(self, request: web.Request, body: bytes) -> web.Response:
        url = self.upstream.url.rstrip("/") + request.path_qs
        async with self._session.request(
            request.method, _raw(url), headers=self._headers(request), data=body or None
        ) as answer:
            return web.Response(status=answer.status, headers=_end_to_end(answer.headers), body=await answer.read())

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        stream = _Stream(request)
        url = self.upstream.url.rstrip("/") + request.path_qs
        async with self._session.get(_raw(url), headers=self._headers(request)) as source:
            answer = web.StreamResponse(status=source.status, headers=_end_to_end(source.headers))
            answer.enable_chunked_encoding()
            await answer.prepare(request)
            self._streams.add(stream)
            try:
                async for data in source.content.iter_any():
                    if stream.is_muted:
                        break
                    await answer.write(data)
                if stream.is_muted:
                    await asyncio.sleep(3600)
            except (ConnectionError, aiohttp.ClientError):
                _abort(request)
            finally:
                self._streams.discard(stream)
            return answer

    def _headers(self, request: web.Request) -> dict[str, str]:
        headers = _end_to_end(request.headers)
        headers.pop("Authorization", None)
        if self.upstream.token:
            headers["Authorization"] = f"Bearer {self.upstream.token}"
        return headers


def _raw(url: str) -> Any:
    from yarl import URL

    return URL(url, encoded=True)


def _end_to_end(headers: Any) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in _HOP}


async def _strike(fault: Fault, request: web.Request) -> web.StreamResponse:
    if fault.kind == "reset":
        return _abort(request)
    if fault.kind == "silence":
        await asyncio.sleep(3600)
    if fault.kind == "event":
        error = {"kind": "Status", "apiVersion": "v1", "code": fault.code, "reason": "Injected", "message": "injected"}
        return web.Response(text=json.dumps({"type": "ERROR", "object": error}) + "\n", content_type="application/json")
    return _status(fault.code, fault.retry_after)


def _status(code: int, retry_after: int | None) -> web.Response:
    body = {"kind": "Status", "apiVersion": "v1", "code": code, "reason": "Injected", "message": "injected fault"}
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return web.json_response(body, status=code, headers=headers)


def _abort(request: web.Request) -> web.Response:
    """Resets the caller's connection; what is returned goes nowhere."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)


@contextmanager
def api_proxy(upstream: Upstream) -> Iterator[ApiProxy]:
    """A running proxy."""
    proxy = ApiProxy(upstream)
    proxy.start(proxy.app())
    try:
        yield proxy
    finally:
        proxy.stop()
