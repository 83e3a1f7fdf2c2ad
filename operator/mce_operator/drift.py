"""What others did to our objects, told apart from what a new spec asks for. Pure."""

import json
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from mce_api import names
from mce_operator import ownership
from mce_operator.observed import Child, Observed
from mce_operator.ownership import Path
from mce_operator.plan import Plan
from mce_operator.resources.meta import K8sObject

_TOLD_FIELDS: Final = 3
_TOLD_LENGTH: Final = 120
"""Characters of one field: its item's name was chosen by whoever added it."""
_HASH_PATH: Final = ("f:metadata", "f:annotations", f"f:{names.HASH_ANNOTATION}")


class What(StrEnum):
    """What was done."""

    EDITED = "edited"
    ADDED = "added"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """One thing that was done to one of our objects."""

    kind: str
    name: str
    what: What
    fields: str = ""
    """Where in the object."""
    manager: str = ""
    """Who did it, as the object's managedFields have it; empty: they do not say."""

    def __str__(self) -> str:
        where = f"{self.fields} " if self.fields else ""
        by = f" by {self.manager}" if self.manager else ""
        return f"{self.kind} {self.name}: {where}{self.what}{by}"


def drifts(plan: Plan, observed: Observed, known: AbstractSet[str]) -> tuple[Drift, ...]:
    """What the plan makes good.

    Args:
        plan: the plan of this pass.
        observed: what it was made from.
        known: kinds of the children that the endpoint has had: of those, one that is missing was taken away.
    """
    return tuple(_drifts(plan, observed, known))


def _drifts(plan: Plan, observed: Observed, known: AbstractSet[str]) -> Iterator[Drift]:
    for built in plan.applies:
        kind, name = built["kind"], built["metadata"]["name"]
        live = observed.children.get(kind)
        if live is None:
            if kind in known:
                yield Drift(kind=kind, name=name, what=What.DELETED)
        elif (paths := tuple(ownership.lost(live.owned, built))) and _is_edit(built, live, paths):
            yield Drift(kind=kind, name=name, what=What.EDITED, fields=told(paths), manager=_holders(paths, live))
    for cut in plan.cuts:
        by = ", ".join(sorted(set(cut.paths.values())))
        fields = told(cut.paths)
        yield Drift(kind=cut.live.kind, name=cut.live.name, what=What.ADDED, fields=fields, manager=by[:_TOLD_LENGTH])


def _is_edit(built: K8sObject, live: Child, paths: tuple[Path, ...]) -> bool:
    """An object with the hash of what we want had all of it; one of which not even the hash is ours was never whole."""
    if live.hash == built["metadata"]["annotations"][names.HASH_ANNOTATION]:
        return True
    return live.owned != "[]" and any(_HASH_PATH[: len(path)] == path for path in paths)


def _holders(paths: Iterable[Path], live: Child) -> str:
    """Whose the fields are now."""
    found = {manager for manager, tree in json.loads(live.others) for path in paths if _has(tree, path)}
    return ", ".join(sorted(found))[:_TOLD_LENGTH]


def _has(tree: Any, path: Path) -> bool:
    for part in path:
        if part not in tree:
            return False
        tree = tree[part]
    return True


def told(paths: Iterable[Path]) -> str:
    """The fields as a person writes them: `spec.template.spec.containers[name=a].image`; the first few of many."""
    texts = sorted({_text(path) for path in paths})
    more = f" and {len(texts) - _TOLD_FIELDS} more" if len(texts) > _TOLD_FIELDS else ""
    return ", ".join(texts[:_TOLD_FIELDS]) + more


def _text(path: Path) -> str:
    text = ""
    for part in path:
        sign, _, rest = part.partition(":")
        if sign == "k":
            text += "[" + ",".join(f"{key}={value}" for key, value in json.loads(rest).items()) + "]"
        else:
            text += f"{'.' if text else ''}{rest}"
    return text[:_TOLD_LENGTH]
