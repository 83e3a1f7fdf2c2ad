"""What others have added to our objects, and the patch that takes it out again. Pure.

What somebody adds beside our fields is not ours and survives an apply: a container, a volume, a variable, a port. It is
told by the managedFields of the others. Admission webhooks are not fought: what they change in our own requests belongs
to our manager, and what they inject into pods is in no Deployment. Metadata that others add, that of the pod template
included, stays: `kubectl rollout restart` and many tools live on it.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from mce_operator import ownership
from mce_operator.ownership import Path

_POD_METADATA: Final = ("f:spec", "f:template", "f:metadata")


def additions(wanted: Mapping[str, Any], others: str) -> dict[Path, str]:
    """Where others have put something into the spec that is not in `wanted`, and which manager did.

    Args:
        wanted: one of our objects.
        others: JSON list of pairs of a manager and its fieldsV1 tree.
    """
    found: dict[Path, str] = {}
    for manager, tree in json.loads(others):
        spec = {name: below for name, below in tree.items() if name == "f:spec"}
        for path in _beside(spec, ownership.body(wanted), ()):
            found.setdefault(path, manager)
    return found


def _beside(tree: Mapping[str, Any], wanted: Any, path: Path) -> Iterator[Path]:
    for key, below in tree.items():
        here = (*path, key)
        if key == "." or here == _POD_METADATA:
            continue
        known, inner = _lookup(wanted, key)
        if not known:
            yield here
        elif below:
            yield from _beside(below, inner, here)


def _lookup(wanted: Any, key: str) -> tuple[bool, Any]:
    """Whether `wanted` has what the part of a path means, and what that is."""
    if isinstance(wanted, Mapping):
        return key[2:] in wanted, wanted.get(key[2:])
    if isinstance(wanted, list):
        return next(((True, item) for item in wanted if ownership.is_meant(key, item)), (False, None))
    return True, None  # one of our own values is there: an edit of ours, which the next apply undoes


def removal(paths: Mapping[Path, str], uid: str) -> dict[str, Any]:
    """A strategic merge patch that takes the fields and items out of that very object (422 if it is another one)."""
    body: dict[str, Any] = {"metadata": {"uid": uid}}
    for path in paths:
        _take_out(body, path)
    return body


def _take_out(node: dict[str, Any], path: Path) -> None:
    name, rest = path[0][2:], path[1:]
    if not rest:
        node[name] = None
    elif rest[0].startswith("k:"):
        _take_item_out(node.setdefault(name, []), rest)
    else:
        _take_out(node.setdefault(name, {}), rest)


def _take_item_out(items: list[dict[str, Any]], path: Path) -> None:
    identity, rest = json.loads(path[0][2:]), path[1:]
    if not rest:
        items.append({**identity, "$patch": "delete"})
        return
    item = next((one for one in items if identity.items() <= one.items()), None)
    if item is None:
        items.append(item := identity)
    _take_out(item, rest)
