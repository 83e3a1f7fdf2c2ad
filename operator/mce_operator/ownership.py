"""Whether a live object still is what we applied, told from its managedFields and nothing else. Pure.

Whoever changes or removes a field that we applied takes its ownership away from us (server-side apply's own rule). So
an object is untouched exactly while our field manager owns every field of what we want. That sees edits of labels as
well as of specs, needs no memory across restarts, and is blind to what others add beside us, as it should be.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

_IDENTITY: Final = ("apiVersion", "kind")
_IDENTITY_METADATA: Final = ("name", "namespace", "uid")


def covers(owned: str, wanted: Mapping[str, Any]) -> bool:
    """Whether the owned fields (JSON list of fieldsV1 trees) hold every field of `wanted`."""
    trees = json.loads(owned)
    body = {name: value for name, value in wanted.items() if name not in _IDENTITY}
    metadata = wanted["metadata"]
    body["metadata"] = {name: value for name, value in metadata.items() if name not in _IDENTITY_METADATA}
    return bool(trees) and _holds(_union(trees), body)


def _union(trees: list[dict[str, Any]]) -> dict[str, Any]:
    """Our manager has a second entry if an admission webhook changed what we sent; together they are what is ours."""
    merged: dict[str, Any] = {}
    for tree in trees:
        for name, below in tree.items():
            merged[name] = _union([merged[name], below]) if name in merged else below
    return merged


def _holds(tree: Mapping[str, Any], wanted: Any) -> bool:
    if isinstance(wanted, Mapping):
        return all(f"f:{name}" in tree and _below(tree[f"f:{name}"], value) for name, value in wanted.items())
    if isinstance(wanted, list):
        keyed = [(json.loads(name[2:]), below) for name, below in tree.items() if name.startswith("k:")]
        return all(_item(tree, keyed, item) for item in wanted)
    return True


def _below(tree: Mapping[str, Any], value: Any) -> bool:
    """An empty node is a scalar, or a map or list owned as a whole; a node with only `.` has lost its fields."""
    return not tree or _holds(tree, value)


def _item(tree: Mapping[str, Any], keyed: list[tuple[dict[str, Any], Any]], item: Any) -> bool:
    """Whether an item of a list is ours: by its value, or as a whole under the key that it has in `keyed`."""
    if not isinstance(item, Mapping):
        return f"v:{json.dumps(item)}" in tree
    for identity, below in keyed:
        if all(item.get(part, value) == value for part, value in identity.items()):
            return _below(below, item)
    return False
