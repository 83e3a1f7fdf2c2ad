"""What the cluster looked like when we last heard of it: a small dict per object, fed by lists, watches and our writes.

Knows no decisions. The newest resourceVersion wins, so that the answer to a write is never undone by an older event
(resourceVersions are comparable numbers, KEP-5504).
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from mce_api import names
from mce_operator.key import Key

Object = Mapping[str, Any]

CHILD_KINDS: Final = (
    "ServiceAccount",
    "NetworkPolicy",
    "Service",
    "Deployment",
    "PodDisruptionBudget",
    "HorizontalPodAutoscaler",
)
"""In the order in which they are made."""
WATCHED_KINDS: Final = (names.KIND, *CHILD_KINDS, "Pod")
SELECTOR: Final = f"{names.MANAGED_BY_LABEL}={names.MANAGED_BY}"
"""What our children and pods have in common."""

OWNED: Final = "ownedFields"
"""Key of a cached child: the fields that belong to our field manager, as JSON text (`ownership`)."""
OTHERS: Final = "othersFields"
"""Key of a cached child: what belongs to other managers, their status aside, as JSON text (`drift`)."""

_METADATA: Final = [
    "name",
    "namespace",
    "uid",
    "generation",
    "resourceVersion",
    "creationTimestamp",
    "deletionTimestamp",
    "labels",
    "annotations",
    "ownerReferences",
]
_POD_STATUS: Final = (
    "phase",
    "reason",
    "message",
    "podIP",
    "conditions",
    "containerStatuses",
    "initContainerStatuses",
)
_KINDS_WITH_STATUS: Final = frozenset({"Deployment", "HorizontalPodAutoscaler"})
"""Children whose own account of things is read."""
_REMEMBERED: Final = 16_384
"""Deletions; older ones than so many are forgotten."""


class Cache:
    """Objects by kind and key; pods also by endpoint."""

    def __init__(self) -> None:
        self._objects: dict[str, dict[Key, Object]] = {kind: {} for kind in WATCHED_KINDS}
        self._pods: dict[Key, dict[str, Object]] = {}
        self._gone: dict[tuple[str, Key], int] = {}
        """The versions at which objects were deleted, oldest first: a list or an answer from before may come later."""

    def get(self, kind: str, key: Key) -> Object | None:
        """One object, or None."""
        return self._objects[kind].get(key)

    def pods(self, endpoint: Key) -> tuple[Object, ...]:
        """The endpoint's pods by name."""
        return tuple(pod for _, pod in sorted(self._pods.get(endpoint, {}).items()))

    def endpoints(self) -> Iterator[Key]:
        """Every endpoint."""
        return iter(tuple(self._objects[names.KIND]))

    def put(self, kind: str, raw: Object) -> Key | None:
        """Takes in an object as the API server sent it; returns its endpoint, or None if this is no news.

        A watch tells of what we have written ourselves, or have listed, once more.
        """
        if not self._is_news(kind, raw):
            return None
        return self._keep(kind, trimmed(kind, raw))

    def _is_news(self, kind: str, raw: Object) -> bool:
        known = self._objects[kind].get(_key(raw))
        if known is None:
            return _version(raw) > self._gone.get((kind, _key(raw)), -1)
        if _version(raw) > _version(known):
            return True
        same = raw["metadata"].get("resourceVersion") == known["metadata"].get("resourceVersion")
        return _version(raw) == _version(known) and not same

    def _keep(self, kind: str, kept: Object) -> Key:
        key, endpoint = _key(kept), endpoint_of(kind, kept)
        known = self._objects[kind].get(key)
        if known is not None and endpoint_of(kind, known) != endpoint:
            self.drop(kind, key)  # a pod that somebody has taken out of its endpoint by its label
        self._objects[kind][key] = kept
        if kind == "Pod":
            self._pods.setdefault(endpoint, {})[key.name] = kept
        return endpoint

    def remove(self, kind: str, raw: Object) -> Key:
        """Forgets a deleted object, unless a newer one has taken its name; returns its endpoint."""
        key = _key(raw)
        known = self._objects[kind].get(key)
        if known is not None and _version(known) <= _version(raw):
            self.drop(kind, key)
        self._note(kind, key, _version(raw))
        return endpoint_of(kind, raw)

    def _note(self, kind: str, key: Key, version: int) -> None:
        version = max(version, self._gone.pop((kind, key), 0))
        if version:
            self._gone[kind, key] = version
        if len(self._gone) > _REMEMBERED:
            del self._gone[next(iter(self._gone))]

    def drop(self, kind: str, key: Key) -> None:
        """Forgets an object whatever its version."""
        gone = self._objects[kind].pop(key, None)
        if gone is not None and kind == "Pod":
            endpoint = endpoint_of(kind, gone)
            siblings = self._pods.get(endpoint, {})
            siblings.pop(key.name, None)
            if not siblings:
                self._pods.pop(endpoint, None)

    def replace(self, kind: str, namespace: str | None, items: Iterable[Object], resource_version: str) -> set[Key]:
        """Takes in a whole list of `trimmed` objects: what is not in it and not newer than it is gone.

        Returns the endpoints for which that is news.
        """
        seen, touched = set(), set()
        for item in items:
            seen.add(_key(item))
            if self._is_news(kind, item):
                known = self._objects[kind].get(_key(item))
                touched |= {self._keep(kind, item), *([endpoint_of(kind, known)] if known else [])}
        horizon = _number(resource_version)
        for key, known in tuple(self._objects[kind].items()):
            if key not in seen and namespace in (None, key.namespace) and _version(known) <= horizon:
                touched.add(endpoint_of(kind, known))
                self.drop(kind, key)
        return touched


def endpoint_of(kind: str, raw: Object) -> Key:
    """The endpoint that an object is, or whose name it has, or of a pod the one that its label names."""
    metadata = raw["metadata"]
    name = (metadata.get("labels") or {}).get(names.ENDPOINT_LABEL, "") if kind == "Pod" else metadata["name"]
    return Key(metadata["namespace"], name)


def edition(raw: Object) -> tuple[str, int, bool]:
    """Which endpoint it is and what is wanted of it: uid, generation, whether it is to go; nothing of its status."""
    metadata = raw["metadata"]
    return metadata.get("uid", ""), metadata.get("generation", 0), bool(metadata.get("deletionTimestamp"))


def is_unanswered(kind: str, raw: Object) -> bool:
    """Whether somebody has changed an endpoint and has had no answer in its status yet."""
    seen = (raw.get("status") or {}).get("observedGeneration")
    return kind == names.KIND and seen != raw["metadata"].get("generation")


def _key(raw: Object) -> Key:
    return Key(raw["metadata"]["namespace"], raw["metadata"]["name"])


def _version(raw: Object) -> int:
    return _number(raw["metadata"].get("resourceVersion", ""))


def _number(resource_version: str) -> int:
    return int(resource_version) if resource_version.isdigit() else 0


def trimmed(kind: str, raw: Object) -> dict[str, Any]:
    """The parts that somebody here reads: a pod of 16 containers is 51 kB as it comes, half of it managedFields."""
    metadata = raw["metadata"]
    kept: dict[str, Any] = {
        "apiVersion": raw.get("apiVersion"),
        "kind": kind,
        "metadata": {name: metadata[name] for name in _METADATA if name in metadata},
    }
    if annotations := metadata.get("annotations"):
        own = {name: text for name, text in annotations.items() if name.startswith(f"{names.GROUP}/")}
        kept["metadata"]["annotations"] = own
    if kind == names.KIND:
        kept["apiVersion"] = raw.get("apiVersion", names.API_VERSION)
        kept["spec"], kept["status"] = raw.get("spec") or {}, raw.get("status") or {}
    elif kind == "Pod":
        containers = (raw.get("spec") or {}).get("containers") or ()
        kept["spec"] = {"containers": [{name: one.get(name) for name in ("name", "resources")} for one in containers]}
        status = raw.get("status") or {}
        kept["status"] = {name: status[name] for name in _POD_STATUS if name in status}
    else:
        kept[OWNED], kept[OTHERS] = owned_fields(raw), others_fields(raw)
        if kind in _KINDS_WITH_STATUS:
            kept["status"] = raw.get("status") or {}
    return kept


def owned_fields(raw: Object) -> str:
    """The fields of an object that belong to our field manager, as `ownership` reads them."""
    mine = [
        entry.get("fieldsV1") or {}
        for entry in raw["metadata"].get("managedFields") or ()
        if entry.get("manager") == names.FIELD_MANAGER and not entry.get("subresource")
    ]
    return json.dumps(mine, separators=(",", ":"))


def others_fields(raw: Object) -> str:
    """The fields of an object by the managers that they belong to, as pairs; without ours, and without any status."""
    theirs = [
        (str(entry.get("manager", "")), fields)
        for entry in raw["metadata"].get("managedFields") or ()
        if entry.get("manager") != names.FIELD_MANAGER and entry.get("subresource") != "status"
        if (fields := {name: below for name, below in (entry.get("fieldsV1") or {}).items() if name != "f:status"})
    ]
    return json.dumps(theirs, separators=(",", ":"))
