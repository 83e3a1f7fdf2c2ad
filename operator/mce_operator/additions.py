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
_MERGE_KEYS: Final = ("port", "containerPort", "topologyKey")
"""Of lists whose items a strategic merge patch tells apart by less than server-side apply does."""


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


def removal(paths: Mapping[Path, str], uid: str, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """A strategic merge patch that takes the fields and items out of that very object (422 if it is another one).

    Server-side apply tells two ports of one number apart by their protocol, this patch does not: with an item of others
    it takes out ours of the same number, which therefore is put in again, out of `wanted`.
    """
    body: dict[str, Any] = {"metadata": {"uid": uid}}
    for path in paths:
        _take_out(body, path, wanted)
    return body


def _take_out(node: dict[str, Any], path: Path, wanted: Any) -> None:
    name, rest = path[0][2:], path[1:]
    inner = wanted.get(name) if isinstance(wanted, Mapping) else None
    if not rest:
        node[name] = None
    elif rest[0].startswith("k:"):
        _take_item_out(node.setdefault(name, []), rest, inner)
    else:
        _take_out(node.setdefault(name, {}), rest, inner)


def _take_item_out(items: list[dict[str, Any]], path: Path, wanted: Any) -> None:
    identity, rest = json.loads(path[0][2:]), path[1:]
    ours = [one for one in wanted if isinstance(one, Mapping)] if isinstance(wanted, list) else []
    if not rest:
        items.append({**identity, "$patch": "delete"})
        merge_key = next((key for key in _MERGE_KEYS if key in identity), None)
        twins = [dict(one) for one in ours if merge_key and one.get(merge_key) == identity[merge_key]]
        items += [one for one in twins if one not in items]
        return
    item = next((one for one in items if "$patch" not in one and identity.items() <= one.items()), None)
    if item is None:
        items.append(item := identity)
    _take_out(item, rest, next((one for one in ours if identity.items() <= one.items()), None))
