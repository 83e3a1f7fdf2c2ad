"""A small API server in memory: resourceVersions, uids, generations, ownership of applied fields, a log of writes."""

import copy
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mce_api import names
from mce_kit.kube import ApiError, Listing, Object, as_it_is
from mce_operator.observed import Pod, RouterReport

Address = tuple[str, str, str]


class FakeApi:
    """Implements `mce_kit.kube.KubeApi`."""

    def __init__(self) -> None:
        self.objects: dict[Address, Object] = {}
        self.writes: list[tuple[str, str]] = []
        """Every write as (verb, kind)."""
        self.events: list[Object] = []
        self.metrics: list[Object] = []
        self.metrics_lists: list[str | None] = []
        """Namespace of every list of metrics; None: all."""
        self.no_metrics: dict[str, ApiError] = {}
        """What to answer to such a list instead, by namespace; empty: all."""
        self.fail: dict[tuple[str, str], ApiError] = {}
        """What to answer to (verb, kind) instead."""
        self.mutate: dict[str, Callable[[Object], None]] = {}
        """Admission webhooks by kind; they see patches only."""
        self._version = 100

    @property
    def version(self) -> int:
        """Moves with every change."""
        return self._version

    def store(self, raw: Object) -> Object:
        """Puts an object in as somebody else would."""
        self._version += 1
        kept = copy.deepcopy(raw)
        kept["metadata"] |= {"resourceVersion": str(self._version)}
        kept["metadata"].setdefault("uid", f"uid-{self._version}")
        self.objects[_address(kept)] = kept
        return kept

    async def get(self, kind: str, namespace: str, name: str) -> Object:
        try:
            return copy.deepcopy(self.objects[kind, namespace, name])
        except KeyError:
            raise ApiError(404, "NotFound", f"{kind} {name} not found") from None

    async def list(
        self, kind: str, namespace: str | None, label_selector: str = "", keep: Callable[[Object], Object] = as_it_is
    ) -> Listing:
        if ("list", kind) in self.fail:
            raise self.fail["list", kind]
        wanted = {key: value for key, _, value in (one.partition("=") for one in label_selector.split(",") if one)}
        items = [
            keep(copy.deepcopy(one))
            for address, one in self.objects.items()
            if address[0] == kind
            and namespace in (None, address[1])
            and wanted.items() <= one["metadata"].get("labels", {}).items()
        ]
        return Listing(resource_version=str(self._version), items=items)

    async def apply(self, body: Object) -> Object:
        self._log("apply", body["kind"])
        live = self.objects.get(_address(body), {"metadata": {"generation": 0}})
        merged = {**live, **copy.deepcopy(body)}
        metadata = {**live["metadata"], **copy.deepcopy(body["metadata"])}
        moved = live.get("spec") != body.get("spec")
        metadata["generation"] = live["metadata"].get("generation", 0) + int(moved)
        metadata["managedFields"] = [{"manager": names.FIELD_MANAGER, "operation": "Apply", "fieldsV1": fields(body)}]
        return copy.deepcopy(self.store({**merged, "metadata": metadata}))

    async def apply_status(self, body: Object) -> Object:
        self._log("status", body["kind"])
        live = self.objects.get(_address(body))
        if live is None:
            raise ApiError(404, "NotFound", "gone")
        return copy.deepcopy(self.store({**live, "status": body["status"]}))

    async def patch(self, kind: str, namespace: str, name: str, body: Object, subresource: str = "") -> Object:
        self._log(subresource or "patch", kind)
        live = await self.get(kind, namespace, name)
        for identity in ("resourceVersion", "uid"):
            if body.get("metadata", {}).get(identity, live["metadata"][identity]) != live["metadata"][identity]:
                raise ApiError(409, "Conflict", f"{identity} mismatch")
        changed = merge(live, body)
        if kind in self.mutate:
            self.mutate[kind](changed)
        metadata = changed["metadata"]
        metadata["generation"] = metadata.get("generation", 0) + int(changed.get("spec") != live.get("spec"))
        ours = [one for one in metadata.get("managedFields", ()) if one["manager"] == names.FIELD_MANAGER]
        metadata["managedFields"] = ours
        return copy.deepcopy(self.store(changed))

    async def scale(self, body: Object, replicas: int) -> None:
        self._log("scale", body["kind"])
        live = await self.get(*_address(body))
        facts = [(one["metadata"]["uid"], one["spec"]["replicas"]) for one in (live, body)]
        if facts[0] != facts[1]:
            raise ApiError(422, "Invalid", "the server rejected our request due to an error in our request")
        live["spec"]["replicas"] = replicas
        live["metadata"]["generation"] += 1
        self.store(live)

    async def delete(self, kind: str, namespace: str, name: str, uid: str) -> None:
        self._log("delete", kind)
        live = await self.get(kind, namespace, name)
        if live["metadata"]["uid"] != uid:
            raise ApiError(409, "Conflict", "uid mismatch")
        del self.objects[kind, namespace, name]

    async def create_event(self, body: Object) -> None:
        self.events.append(body)

    async def pod_metrics(self, namespace: str | None, label_selector: str) -> tuple[Object, ...]:
        self.metrics_lists.append(namespace)
        if (namespace or "") in self.no_metrics:
            raise self.no_metrics[namespace or ""]
        return tuple(one for one in self.metrics if namespace in (None, one["metadata"]["namespace"]))

    async def get_lease(self, namespace: str, name: str, seconds: float) -> Object:
        return await self.get("Lease", namespace, name)

    async def put_lease(self, body: Object, seconds: float) -> Object:
        if ("put", "Lease") in self.fail:
            raise self.fail["put", "Lease"]
        live = self.objects.get(_address(body))
        wanted = body["metadata"].get("resourceVersion")
        if wanted != (live["metadata"]["resourceVersion"] if live else None):
            raise ApiError(409, "Conflict", "the object has been modified")
        return copy.deepcopy(self.store(body))

    def _log(self, verb: str, kind: str) -> None:
        if (verb, kind) in self.fail:
            raise self.fail[verb, kind]
        self.writes.append((verb, kind))


def _address(raw: Object) -> Address:
    return raw["kind"], raw["metadata"]["namespace"], raw["metadata"]["name"]


def merge(live: Any, patch: Any) -> Any:
    """A strategic merge patch, but for items that it adds to lists."""
    kept = dict(live)
    for name, value in patch.items():
        if value is None:
            kept.pop(name, None)
        elif isinstance(value, dict):
            kept[name] = merge(kept.get(name, {}), value)
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            kept[name] = [one for item in kept.get(name, []) if (one := _merged_item(item, value)) is not None]
        else:
            kept[name] = value
    return kept


def _merged_item(item: Any, patches: list[Any]) -> Any:
    for patch in patches:
        identity = patch.get("name", patch.get("port"))
        if item.get("name") == identity or item.get("port") == identity:
            return None if patch.get("$patch") == "delete" else merge(item, patch)
    return item


_LIST_KEYS = (("uid",), ("name",), ("mountPath",), ("containerPort", "protocol"), ("port", "protocol"))


def fields(body: Any) -> dict[str, Any]:
    """The fieldsV1 tree of an applied object, near enough to the server's."""
    if isinstance(body, dict):
        kept = {key: value for key, value in body.items() if key not in {"apiVersion", "kind"} or "uid" in body}
        if "metadata" in kept and "apiVersion" in body:
            kept["metadata"] = {key: one for key, one in kept["metadata"].items() if key not in {"name", "namespace"}}
        return {f"f:{key}": fields(value) for key, value in kept.items()}
    if isinstance(body, list) and body and isinstance(body[0], dict):
        for keys in _LIST_KEYS:
            if all(key in one for one in body for key in keys):
                return {f"k:{json.dumps({key: one[key] for key in keys})}": {".": {}, **fields(one)} for one in body}
    return {}


class FakeRouters:
    """Implements `mce_operator.routers.Routers`: answers what it was given."""

    def __init__(self, reports: Mapping[str, RouterReport] | None = None) -> None:
        self.reports = reports or {}

    async def ask(self, pods: Iterable[Pod]) -> Mapping[str, RouterReport]:
        return {pod.name: self.reports[pod.name] for pod in pods if pod.name in self.reports}
