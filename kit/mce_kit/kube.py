"""The Kubernetes API as few verbs over plain dicts: what the operator needs of it, and nothing of the client's models.

`KubeApi` is what callers see; `connect` gives the one on `kubernetes.aio`, whose ready-made configuration (kubeconfig,
service account, token re-read every minute) is used, and whose 126 MB of typed models are not: paths are built here.
"""

import asyncio
import json
import random
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, Protocol

import aiohttp
from kubernetes.aio import client, config

from mce_api import names

Object = dict[str, Any]

_APPLY_PATCH: Final = "application/apply-patch+yaml"
_STRATEGIC_PATCH: Final = "application/strategic-merge-patch+json"
_JSON_PATCH: Final = "application/json-patch+json"
_LIST_CHUNK: Final = 100
"""Objects of one answer, which is held and parsed as a whole: 8 MB for Deployments of three containers."""
_SILENCE_SECONDS: Final = 10
"""An answer of which no byte comes for so long does not come; a long list may take longer as a whole."""
_CONNECT_SECONDS: Final = 5
_READ_PAUSES: Final = (0.2, 1.0)
"""Before a read is repeated. Writes are repeated by the work queue alone, which decides anew what to write."""
_LONGEST_RETRY_AFTER_SECONDS: Final = 10.0
_RELOAD_SECONDS: Final = 1.0
"""Least time between two readings of the credentials."""


@dataclass(frozen=True, slots=True)
class Resource:
    """Where objects of one kind live in the API; all of ours are namespaced."""

    api_version: str
    kind: str
    plural: str

    def path(self, namespace: str | None, name: str | None = None, subresource: str | None = None) -> str:
        """The URL path of a collection, an object or a subresource; no namespace: all of them."""
        root = "/apis" if "/" in self.api_version else "/api"
        scope = ("namespaces", namespace) if namespace else ()
        parts = (root, self.api_version, *scope, self.plural, name, subresource)
        return "/".join(part for part in parts if part)


RESOURCES: Final = {
    resource.kind: resource
    for resource in (
        Resource(names.API_VERSION, names.KIND, names.PLURAL),
        Resource("apps/v1", "Deployment", "deployments"),
        Resource("v1", "Service", "services"),
        Resource("v1", "ServiceAccount", "serviceaccounts"),
        Resource("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies"),
        Resource("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets"),
        Resource("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers"),
        Resource("apps/v1", "ReplicaSet", "replicasets"),
        Resource("v1", "Pod", "pods"),
        Resource("events.k8s.io/v1", "Event", "events"),
        Resource("coordination.k8s.io/v1", "Lease", "leases"),
        Resource("metrics.k8s.io/v1beta1", "PodMetrics", "pods"),
    )
}


class ApiError(Exception):
    """The API server said no, or nothing (status 0). `reason` is its word for it (`NotFound`, `Conflict`, ...)."""

    def __init__(self, status: int, reason: str, message: str, retry_after_seconds: float = 0) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after_seconds = retry_after_seconds
        """For how long the server wants no more, 0: it did not say."""

    @property
    def is_not_found(self) -> bool:
        """Whether the object is simply not there."""
        return self.status == HTTPStatus.NOT_FOUND

    @property
    def is_conflict(self) -> bool:
        """Whether somebody else has changed the object first, or made one of the same name."""
        return self.status == HTTPStatus.CONFLICT

    @property
    def is_forbidden(self) -> bool:
        """Whether a right is missing, or an admission plugin refuses."""
        return self.status == HTTPStatus.FORBIDDEN

    @property
    def is_gone(self) -> bool:
        """Whether a list can not be continued, since it began too long ago."""
        return self.status == HTTPStatus.GONE

    @property
    def is_outage(self) -> bool:
        """Whether the server, the way to it or our credentials are at fault, and not what was asked of it."""
        return (
            self.status in {0, HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS}
            or self.status >= HTTPStatus.INTERNAL_SERVER_ERROR
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """What another HTTP client needs to talk to the same API server as the same user."""

    server: str
    ca_path: str | None
    certificate_path: str | None
    key_path: str | None
    token: str | None
    insecure: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Objects of one kind at one moment."""

    resource_version: str
    items: list[Object]


def as_it_is(raw: Object) -> Object:
    """For who wants whole objects."""
    return raw


class KubeApi(Protocol):
    """The verbs. Every method raises `ApiError`; reads are tried a few times first, writes are not."""

    async def get(self, kind: str, namespace: str, name: str) -> Object:
        """One object."""

    async def list(
        self, kind: str, namespace: str | None, label_selector: str = "", keep: Callable[[Object], Object] = as_it_is
    ) -> Listing:
        """All objects of a kind in a namespace, or everywhere; read in chunks.

        Of each object only what `keep` makes of it is held on to: as they come a thousand Deployments are 80 MB.
        """

    async def apply(self, body: Object) -> Object:
        """Server-side apply as our field manager, conflicts forced; with a uid in the body it never re-creates."""

    async def apply_status(self, body: Object) -> Object:
        """The same on the status subresource. The server ignores a uid here: compare it before."""

    async def patch(self, kind: str, namespace: str, name: str, body: Object, subresource: str = "") -> Object:
        """Strategic merge patch; a resourceVersion in it must match (409), and a uid (422)."""

    async def scale(self, body: Object, replicas: int) -> None:
        """Sets `spec.replicas` by the scale subresource; 422 if uid or replicas are no longer those of `body`."""

    async def delete(self, kind: str, namespace: str, name: str, uid: str) -> None:
        """Deletes that very object (409 if another one has its name by now); its dependents follow."""

    async def create_event(self, body: Object) -> None:
        """Posts one `events.k8s.io/v1` Event."""

    async def pod_metrics(self, namespace: str | None, label_selector: str) -> tuple[Object, ...]:
        """CPU and memory of the selected pods' containers, as metrics.k8s.io has them; no namespace: all of them."""

    async def get_lease(self, namespace: str, name: str, seconds: float) -> Object:
        """One Lease; the call takes that long at most and is not repeated."""

    async def put_lease(self, body: Object, seconds: float) -> Object:
        """Creates a Lease, or with a resourceVersion replaces that very version of it (409 otherwise); the same."""


def always() -> float:
    """Writes are ours for ever: for who has nobody beside him."""
    return float("inf")


class AioKubeApi:
    """`KubeApi` on `kubernetes.aio`."""

    def __init__(
        self,
        transport: client.ApiClient,
        timeout_seconds: float,
        load: Callable[[], Awaitable[None]],
        write_seconds: Callable[[], float] = always,
    ) -> None:
        """A client.

        Args:
            transport: knows server and credentials.
            timeout_seconds: how long one call may take.
            load: reads the credentials anew.
            write_seconds: for how long writes are ours; a write that lasts longer is given up, at 0 none is sent.
        """
        self._client = transport
        self._seconds = timeout_seconds
        self._load = load
        self._write_seconds = write_seconds
        self._not_before = 0.0
        """Until then, in the loop's time, the server wants nothing from us (Retry-After)."""
        self._loaded = float("-inf")

    async def reload(self) -> None:
        """Reads the credentials anew, after a 401; not more often than once a second, for all who ask."""
        now = asyncio.get_running_loop().time()
        if now - self._loaded >= _RELOAD_SECONDS:
            self._loaded = now
            await self._load()

    async def connection(self) -> Connection:
        """Server and credentials as of now; a service account's token changes every hour."""
        settings = self._client.configuration
        header = await settings.get_api_key_with_prefix("BearerToken")
        return Connection(
            server=settings.host,
            ca_path=settings.ssl_ca_cert,
            certificate_path=settings.cert_file,
            key_path=settings.key_file,
            token=header.rpartition(" ")[2].strip() if header else None,
            insecure=not settings.verify_ssl,
        )

    async def get(self, kind: str, namespace: str, name: str) -> Object:
        """See `KubeApi`."""
        return await self._call("GET", RESOURCES[kind].path(namespace, name))

    async def list(
        self, kind: str, namespace: str | None, label_selector: str = "", keep: Callable[[Object], Object] = as_it_is
    ) -> Listing:
        """See `KubeApi`."""
        try:
            limited = {"labelSelector": label_selector, "limit": str(_LIST_CHUNK)}
            return await self._pages(kind, namespace, limited, keep)
        except ApiError as error:
            if not error.is_gone:
                raise
        return await self._pages(kind, namespace, {"labelSelector": label_selector}, keep)

    async def _pages(
        self, kind: str, namespace: str | None, query: dict[str, str], keep: Callable[[Object], Object]
    ) -> Listing:
        items: list[Object] = []
        while True:
            page = await self._call("GET", RESOURCES[kind].path(namespace), query)
            items += map(keep, page.get("items") or ())
            query["continue"] = page["metadata"].get("continue", "")
            if not query["continue"]:
                return Listing(resource_version=page["metadata"].get("resourceVersion", ""), items=items)

    async def apply(self, body: Object) -> Object:
        """See `KubeApi`."""
        return await self._apply(body, None)

    async def apply_status(self, body: Object) -> Object:
        """See `KubeApi`."""
        return await self._apply(body, "status")

    async def _apply(self, body: Object, subresource: str | None) -> Object:
        metadata = body["metadata"]
        path = RESOURCES[body["kind"]].path(metadata["namespace"], metadata["name"], subresource)
        query = {"fieldManager": names.FIELD_MANAGER, "force": "true"}
        return await self._call("PATCH", path, query, body, _APPLY_PATCH)

    async def patch(self, kind: str, namespace: str, name: str, body: Object, subresource: str = "") -> Object:
        """See `KubeApi`."""
        path = RESOURCES[kind].path(namespace, name, subresource)
        return await self._call("PATCH", path, {"fieldManager": names.FIELD_MANAGER}, body, _STRATEGIC_PATCH)

    async def scale(self, body: Object, replicas: int) -> None:
        """See `KubeApi`."""
        metadata = body["metadata"]
        path = RESOURCES[body["kind"]].path(metadata["namespace"], metadata["name"], "scale")
        steps = [
            {"op": "test", "path": "/metadata/uid", "value": metadata["uid"]},
            {"op": "test", "path": "/spec/replicas", "value": body["spec"]["replicas"]},
            {"op": "replace", "path": "/spec/replicas", "value": replicas},
        ]
        await self._call("PATCH", path, {"fieldManager": names.FIELD_MANAGER}, steps, _JSON_PATCH)

    async def delete(self, kind: str, namespace: str, name: str, uid: str) -> None:
        """See `KubeApi`."""
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
            "preconditions": {"uid": uid},
        }
        await self._call("DELETE", RESOURCES[kind].path(namespace, name), None, options)

    async def create_event(self, body: Object) -> None:
        """See `KubeApi`."""
        await self._call("POST", RESOURCES["Event"].path(body["metadata"]["namespace"]), None, body)

    async def pod_metrics(self, namespace: str | None, label_selector: str) -> tuple[Object, ...]:
        """See `KubeApi`."""
        path = RESOURCES["PodMetrics"].path(namespace)
        return tuple((await self._call("GET", path, {"labelSelector": label_selector})).get("items") or ())

    async def get_lease(self, namespace: str, name: str, seconds: float) -> Object:
        """See `KubeApi`."""
        return await self._attempt("GET", RESOURCES["Lease"].path(namespace, name), seconds=seconds)

    async def put_lease(self, body: Object, seconds: float) -> Object:
        """See `KubeApi`."""
        metadata = body["metadata"]
        name = metadata["name"] if "resourceVersion" in metadata else None
        path = RESOURCES["Lease"].path(metadata["namespace"], name)
        return await self._attempt("PUT" if name else "POST", path, body=body, seconds=seconds)

    async def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Object | Sequence[Object] | None = None,
        content_type: str = "application/json",
    ) -> Object:
        """A call that waits while the server wants none, writes only what is ours to write, and repeats reads."""
        pauses = _READ_PAUSES if method == "GET" else ()
        for pause in pauses:
            await self._hold_back()
            try:
                return await self._attempt(method, path, query, body, content_type)
            except ApiError as error:
                self._heed(error)
                if not error.is_outage or error.reason == "Timeout":
                    raise
            await asyncio.sleep(pause * (1 + random.random()))  # noqa: S311 - only spreads load
        await self._hold_back()
        try:
            return await self._attempt(method, path, query, body, content_type)
        except ApiError as error:
            self._heed(error)
            raise

    async def _hold_back(self) -> None:
        loop = asyncio.get_running_loop()
        while (pause := self._not_before - loop.time()) > 0:  # noqa: ASYNC110 - the time may move while it sleeps
            await asyncio.sleep(pause)

    def _heed(self, error: ApiError) -> None:
        if error.retry_after_seconds > 0:
            pause = min(error.retry_after_seconds, _LONGEST_RETRY_AFTER_SECONDS)
            self._not_before = max(self._not_before, asyncio.get_running_loop().time() + pause)

    async def _attempt(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Object | Sequence[Object] | None = None,
        content_type: str = "application/json",
        seconds: float | None = None,
    ) -> Object:
        """One call; a second one if the server did not know us, with credentials that were read anew.

        With `seconds`, a limit of its own, it is about the right to write and needs none itself.
        """
        try:
            return await self._send(method, path, query, body, content_type, seconds)
        except ApiError as error:
            if error.status != HTTPStatus.UNAUTHORIZED:
                raise
        await self.reload()
        return await self._send(method, path, query, body, content_type, seconds)

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Object | Sequence[Object] | None,
        content_type: str,
        seconds: float | None,
    ) -> Object:
        pairs = [(key, value) for key, value in (query or {}).items() if value]
        headers = {"Accept": "application/json", "Content-Type": content_type}
        allowed = self._seconds if seconds is None else seconds
        try:
            method, url, headers, _, _ = await self._client.param_serialize(
                method, path, query_params=pairs, header_params=headers, auth_settings=["BearerToken"]
            )
            if method != "GET" and seconds is None:
                allowed = min(allowed, self._write_seconds())
                if allowed <= 0:
                    raise ApiError(0, "NotLeader", f"{method} {path}: another operator may be writing by now")
            timeout = aiohttp.ClientTimeout(
                total=allowed, sock_connect=min(allowed, _CONNECT_SECONDS), sock_read=min(allowed, _SILENCE_SECONDS)
            )
            response = await self._client.call_api(method, url, headers, body, _request_timeout=timeout)
            text = await response.read()  # type: ignore[no-untyped-call]  # the client has no types here
        except TimeoutError as error:
            raise ApiError(0, "Timeout", f"{method} {path}: no answer in time ({allowed:.0f} s)") from error
        except (aiohttp.ClientError, OSError) as error:
            raise ApiError(0, "Unreachable", f"{method} {path}: {error}") from error
        if response.status >= HTTPStatus.BAD_REQUEST:
            raise _refusal(response.status, text, response.headers.get("Retry-After", ""))
        try:
            answer: Object = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ApiError(0, "Unreadable", f"{method} {path}: the answer is no JSON, or too deep") from error
        return answer


def _refusal(status: int, text: bytes, retry_after: str) -> ApiError:
    """The error in a `Status` object, or in whatever a proxy on the way has put there instead."""
    pause = float(retry_after) if retry_after.isascii() and retry_after.isdigit() and len(retry_after) < 6 else 0.0  # noqa: PLR2004
    try:
        answer = json.loads(text)
        return ApiError(status, answer.get("reason") or HTTPStatus(status).phrase, answer["message"], pause)
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return ApiError(status, "Unknown", text[:200].decode(errors="replace"), pause)


@asynccontextmanager
async def connect(timeout_seconds: float, write_seconds: Callable[[], float] = always) -> AsyncIterator[AioKubeApi]:
    """A client of the cluster around this pod, or of the one that the kubeconfig names.

    Args:
        timeout_seconds: how long one call may take, connecting included.
        write_seconds: for how long writes are ours, as of now (`mce_operator.lease`).

    Raises:
        ApiError: if there is neither.
    """
    settings = client.Configuration()
    await _load(settings)
    _use_no_netrc(settings)
    transport = client.ApiClient(settings)
    try:
        yield AioKubeApi(transport, timeout_seconds, lambda: _load(settings), write_seconds)
    finally:
        await transport.close()  # type: ignore[no-untyped-call]
        await asyncio.sleep(0)  # lets aiohttp's transports close before the loop does


async def _load(settings: client.Configuration) -> None:
    """Reads server and credentials; a token in a file is read anew each time."""
    try:
        config.load_incluster_config(settings)  # type: ignore[no-untyped-call]
    except config.ConfigException:
        try:
            await config.load_kube_config(client_configuration=settings)  # type: ignore[no-untyped-call]
        except config.ConfigException as error:
            raise ApiError(0, "NoCluster", f"no service account and no usable kubeconfig: {error}") from error


def _use_no_netrc(settings: client.Configuration) -> None:
    """Proxies of the environment count as before, ~/.netrc no more: aiohttp read it in a thread before each request."""
    address = urllib.parse.urlsplit(settings.host)
    if settings.proxy is None and not urllib.request.proxy_bypass(address.netloc):
        settings.proxy = urllib.request.getproxies().get(address.scheme)
    settings.client_session_kwargs = {"trust_env": False}
