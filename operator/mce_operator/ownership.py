"""Whether a live object still is what we applied, told from its managedFields and nothing else. Pure.

Whoever changes or removes a field that we applied takes its ownership away from us (server-side apply's own rule). So
an object is untouched exactly while our field manager owns every field of what we want. That sees edits of labels as
well as of specs, needs no memory across restarts, and is blind to what others add beside us, as it should be.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

_IDENTITY: Final = ("apiVersion", "kind")
_IDENTITY_METADATA: Final = ("name", "namespace", "uid")

Path = tuple[str, ...]
"""The way to a field in the words of fieldsV1: `f:NAME`, `k:{...}` for an item by its keys, `v:...` by its value."""


def covers(owned: str, wanted: Mapping[str, Any]) -> bool:
    """Whether the owned fields (JSON list of fieldsV1 trees) hold every field of `wanted`."""
    return next(lost(owned, wanted), None) is None


def lost(owned: str, wanted: Mapping[str, Any]) -> Iterator[Path]:
    """The fields of `wanted` that are not among the owned ones; of a field that is lost as a whole, only itself."""
    return _missing(union(json.loads(owned)), body(wanted), ())


def body(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """What an apply of `wanted` owns: all but what says which object it is."""
    kept = {name: value for name, value in wanted.items() if name not in _IDENTITY}
    kept["metadata"] = {name: value for name, value in wanted["metadata"].items() if name not in _IDENTITY_METADATA}
    return kept


def union(trees: list[dict[str, Any]]) -> dict[str, Any]:
    """Our manager has a second entry if an admission webhook changed what we sent; together they are what is ours."""
    if len(trees) == 1:
        return trees[0]
    merged: dict[str, Any] = {}
    for tree in trees:
        for name, below in tree.items():
            merged[name] = union([merged[name], below]) if name in merged else below
    return merged


def is_meant(key: str, item: Any) -> bool:
    """Whether an item of a list is the one that the `k:` or `v:` part of a path means."""
    return _matches(*_parsed(key), item)


def _parsed(key: str) -> tuple[str, Any]:
    sign, _, text = key.partition(":")
    return sign, json.loads(text) if sign in {"k", "v"} else None


def _matches(sign: str, meant: Any, item: Any) -> bool:
    if sign == "k" and isinstance(item, Mapping):
        return all(item.get(part, value) == value for part, value in meant.items())
    return sign == "v" and not isinstance(item, Mapping) and bool(meant == item)


def _missing(tree: Mapping[str, Any], wanted: Any, path: Path) -> Iterator[Path]:
    if isinstance(wanted, Mapping):
        for name, value in wanted.items():
            key = f"f:{name}"
            if key not in tree:
                yield (*path, key)
            elif below := tree[key]:  # an empty node is a scalar, or a map or list owned as a whole
                yield from _missing(below, value, (*path, key))
    elif isinstance(wanted, list):
        parsed = [(key, *_parsed(key)) for key in tree]
        for item in wanted:
            key = next((key for key, sign, meant in parsed if _matches(sign, meant, item)), "")
            if not key:
                yield path
            elif below := tree[key]:
                yield from _missing(below, item, (*path, key))
