"""A small API server over real HTTP, in memory: enough of Kubernetes for the operator.

What it does like the real one: resourceVersions, generations, streamed first lists, bookmarks two seconds before a
watch ends, 410 in the stream for a version that was compacted away, server-side apply with our field manager,
preconditions of deletes and of replaced Leases. What it lacks: validation, defaults, rights.
"""

import asyncio
import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import web

from mce_api import names
from mce_kit.kube import RESOURCES, ApiError, Resource
from support.api_proxy import Upstream
from support.background import BackgroundServer
from unit.mce_operator.fake_api import FakeApi

Object = dict[str, Any]

_BOOKMARK_SECONDS = 2


class _Log(FakeApi):
    """The objects, and every change of them."""

    def __init__(self) -> None:
        super().__init__()
        self.changes: list[tuple[int, Object | None, Object | None]] = []
        """Version, the object before and after; None: it was or is not there."""
        self.floor = 0
        """Changes up to this version can not be watched any more."""
        self.changed = asyncio.Condition()

    def store(self, raw: Object) -> Object:
        before = self.objects.get((raw["kind"], raw["metadata"]["namespace"], raw["metadata"]["name"]))
        kept = super().store(raw)
        self.changes.append((self._version, before, copy.deepcopy(kept)))
        return kept

    async def delete(self, kind: str, namespace: str, name: str, uid: str) -> None:
        gone = copy.deepcopy(await self.get(kind, namespace, name))
        await super().delete(kind, namespace, name, uid)
        self.forget(gone)

    def forget(self, gone: Object) -> None:
        self.objects.pop((gone["kind"], gone["metadata"]["namespace"], gone["metadata"]["name"]), None)
        self._version += 1
        gone["metadata"]["resourceVersion"] = str(self._version)
        self.changes.append((self._version, gone, None))

    @property
    def version(self) -> int:
        return self._version


def _matches(raw: Object, selector: str) -> bool:
    labels = raw["metadata"].get("labels") or {}
    pairs = [part.partition("=") for part in selector.split(",") if part]
    return all(labels.get(key) == value for key, _, value in pairs)


class ApiServer(BackgroundServer):
    """The server; its methods may be called from the test's thread."""

    def __init__(self) -> None:
        super().__init__()
        self._store = _Log()

    @property
    def upstream(self) -> Upstream:
        """For a proxy in front."""
        return Upstream(self.url)

    def put(self, raw: Object) -> Object:
        """Creates or changes an object as somebody else would; a spec that differs is a new generation."""

        async def do() -> Object:
            address = (raw["kind"], raw["metadata"]["namespace"], raw["metadata"]["name"])
            live = self._store.objects.get(address, {"metadata": {"generation": 0}})
            body = {**live, **copy.deepcopy(raw)}
            body["metadata"] = {**live["metadata"], **raw["metadata"]}
            body["metadata"]["generation"] = live["metadata"].get("generation", 0) + int(
                live.get("spec") != raw.get("spec")
            )
            body.setdefault("status", {"observedGeneration": -1})
            stored = self._store.store(body)
            await self._changed(None)
            return stored

        return self.call(do())

    def get(self, kind: str, namespace: str, name: str) -> Object | None:
        async def do() -> Object | None:
            found = self._store.objects.get((kind, namespace, name))
            return copy.deepcopy(found)

        return self.call(do())

    def delete(self, kind: str, namespace: str, name: str) -> None:
        """Deletes an object and what it owns."""

        async def do() -> None:
            gone = copy.deepcopy(self._store.objects[kind, namespace, name])
            self._store.forget(gone)
            for owned in tuple(self._store.objects.values()):
                owners = owned["metadata"].get("ownerReferences") or ()
                if any(owner["uid"] == gone["metadata"]["uid"] for owner in owners):
                    self._store.forget(copy.deepcopy(owned))
            await self._changed(None)

        self.call(do())

    def compact(self) -> None:
        """From here on no watch can begin at an older version (410)."""

        async def do() -> None:
            self._store.floor = self._store.version

        self.call(do())

    async def _changed(self, answer: Any) -> Any:
        async with self._store.changed:
            self._store.changed.notify_all()
        return answer

    # --- HTTP ---

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/api", self._versions)
        app.router.add_get("/apis", self._groups)
        for version in {one.api_version for one in RESOURCES.values()}:
            prefix = f"/apis/{version}" if "/" in version else f"/api/{version}"
            app.router.add_get(prefix, self._discovery)
        for one in RESOURCES.values():
            if one.kind != "PodMetrics":
                self._routes(app, one)
        return app

    def _routes(self, app: web.Application, one: Resource) -> None:
        async def collection(request: web.Request) -> web.StreamResponse:
            if request.method == "POST":
                return await self._create(one, request)
            if request.query.get("watch"):
                return await self._watch(one, request)
            selector = request.query.get("labelSelector", "")
            items = [raw for raw in self._live(one, request) if _matches(raw, selector)]
            begin, limit = int(request.query.get("continue", "0")), int(request.query.get("limit", "1000000"))
            metadata = {"resourceVersion": str(self._store.version)}
            if begin + limit < len(items):
                metadata["continue"] = str(begin + limit)
            return await _answer({"metadata": metadata, "items": items[begin : begin + limit]})

        async def item(request: web.Request) -> web.StreamResponse:
            try:
                return await _answer(await self._item(one, request))
            except ApiError as error:
                return _refusal(error)

        app.router.add_route("*", one.path(None), collection)
        app.router.add_route("*", one.path("{namespace}"), collection)
        app.router.add_route("*", one.path("{namespace}", "{name}"), item)
        app.router.add_route("*", one.path("{namespace}", "{name}", "{subresource}"), item)

    async def _item(self, one: Resource, request: web.Request) -> Object:
        namespace, name = request.match_info["namespace"], request.match_info["name"]
        if request.method == "GET":
            return await self._store.get(one.kind, namespace, name)
        body: Object = await request.json()
        if request.method == "DELETE":
            await self._store.delete(one.kind, namespace, name, body["preconditions"]["uid"])
            return await self._changed({"kind": "Status", "status": "Success"})  # type: ignore[no-any-return]
        if request.method == "PUT":
            live = await self._store.get(one.kind, namespace, name)
            if live["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"]:
                raise ApiError(409, "Conflict", "the object has been modified")
            return await self._changed(self._store.store(body))  # type: ignore[no-any-return]
        assert request.method == "PATCH", request.method
        is_status = request.match_info.get("subresource") == "status"
        return await self._changed(  # type: ignore[no-any-return]
            await (self._store.apply_status(body) if is_status else self._store.apply(body))
        )

    async def _create(self, one: Resource, request: web.Request) -> web.Response:
        body: Object = {"kind": one.kind, **await request.json()}
        if (one.kind, body["metadata"]["namespace"], body["metadata"]["name"]) in self._store.objects:
            return _refusal(ApiError(409, "AlreadyExists", "already exists"))
        return await _answer(await self._changed(self._store.store(body)))

    def _live(self, one: Resource, request: web.Request) -> list[Object]:
        namespace = request.match_info.get("namespace")
        return [
            raw
            for (kind, where, _), raw in self._store.objects.items()
            if kind == one.kind and namespace in (None, where)
        ]

    async def _watch(self, one: Resource, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "application/json"})
        answer.enable_chunked_encoding()
        await answer.prepare(request)
        stream = _Stream(self._store, one, request, answer)
        if request.query.get("sendInitialEvents"):
            await stream.list()
        if not await stream.is_too_old():
            await stream.follow(float(request.query.get("timeoutSeconds", "600")))
        return answer

    async def _versions(self, _: web.Request) -> web.Response:
        return await _answer({"versions": ["v1"]})

    async def _groups(self, _: web.Request) -> web.Response:
        groups = {}
        for version in {one.api_version for one in RESOURCES.values() if "/" in one.api_version}:
            group = version.partition("/")[0]
            entry = {"groupVersion": version, "version": version.partition("/")[2]}
            groups[group] = {"name": group, "versions": [entry], "preferredVersion": entry}
        return await _answer({"groups": list(groups.values())})

    async def _discovery(self, request: web.Request) -> web.Response:
        version = request.path.removeprefix("/apis/").removeprefix("/api/")
        found = [
            {
                "name": one.plural,
                "kind": one.kind,
                "singularName": one.kind.lower(),
                "namespaced": True,
                "verbs": ["get", "list", "watch", "create", "patch", "delete"],
                "categories": [],
                "shortNames": [],
            }
            for one in RESOURCES.values()
            if one.api_version == version
        ]
        if version == "v1":  # kopf waits until it has seen that there are any
            found.append({**found[0], "name": "namespaces", "kind": "Namespace", "namespaced": False})
        return await _answer({"groupVersion": version, "resources": found})


class _Stream:
    """One watch."""

    def __init__(self, log: _Log, one: Resource, request: web.Request, answer: web.StreamResponse) -> None:
        self._log, self._one, self._answer = log, one, answer
        self._namespace = request.match_info.get("namespace")
        self._selector = request.query.get("labelSelector", "")
        self._seen = int(request.query.get("resourceVersion") or log.version)

    def _is_wanted(self, raw: Object | None) -> bool:
        if raw is None or raw["kind"] != self._one.kind:
            return False
        return self._namespace in (None, raw["metadata"]["namespace"]) and _matches(raw, self._selector)

    async def _say(self, change: str, raw: Object) -> None:
        await self._answer.write(json.dumps({"type": change, "object": raw}).encode() + b"\n")

    async def _mark(self, **annotations: str) -> None:
        metadata = {"resourceVersion": str(self._seen), "annotations": annotations}
        await self._say("BOOKMARK", {"kind": self._one.kind, "metadata": metadata})

    async def list(self) -> None:
        for raw in tuple(self._log.objects.values()):
            if self._is_wanted(raw):
                await self._say("ADDED", raw)
        await self._mark(**{"k8s.io/initial-events-end": "true"})

    async def is_too_old(self) -> bool:
        if self._seen >= self._log.floor:
            return False
        await self._say("ERROR", {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"})
        return True

    async def follow(self, seconds: float) -> None:
        end = asyncio.get_running_loop().time() + seconds
        await self._until(end - _BOOKMARK_SECONDS)
        await self._mark()
        await self._until(end)

    async def _until(self, end: float) -> None:
        try:
            async with asyncio.timeout_at(end):
                while True:
                    await self._news()
                    async with self._log.changed:
                        if self._log.version == self._seen:
                            await self._log.changed.wait()
        except TimeoutError:
            pass

    async def _news(self) -> None:
        """What enters or leaves the selection is added or deleted, whatever else happened to it."""
        for version, before, after in [row for row in self._log.changes if row[0] > self._seen]:
            self._seen = version
            was, is_now = self._is_wanted(before), self._is_wanted(after)
            if is_now and after:
                await self._say("MODIFIED" if was else "ADDED", after)
            elif was and before:
                gone = after or before
                await self._say("DELETED", {**gone, "metadata": {**gone["metadata"], "resourceVersion": str(version)}})


async def _answer(body: Any) -> web.Response:
    return web.json_response(body)


def _refusal(error: ApiError) -> web.Response:
    body = {"kind": "Status", "code": error.status, "reason": error.reason, "message": error.message}
    return web.json_response(body, status=error.status)


@contextmanager
def api_server() -> Iterator[ApiServer]:
    """A running server without objects."""
    server = ApiServer()
    server.start(server.app())
    try:
        yield server
    finally:
        server.stop()


def endpoint(name: str, namespace: str = "team-a", **labels: str) -> Object:
    """An endpoint of two containers, as a user would write it."""
    containers = [{"name": one, "image": f"registry.example/{one}:1"} for one in ("a", "b")]
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"mode": "Direct", "containers": containers},
    }
