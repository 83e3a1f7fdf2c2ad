"""What an endpoint's Deployment remembers of its revisions, in its own annotations. Pure.

They are written together with the template that they speak of, so they never disagree with it, and cost no write of
their own (but one, when a template that came while there were no pods has proved itself).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from mce_api import names
from mce_api.status import Why
from mce_operator import ownership, record
from mce_operator.observed import Observed

ASLEEP: Final = "asleep"
"""In place of the moment from which a template is tried: there are to be no pods yet."""
_LONGEST_TEMPLATE: Final = 64
_LONGEST_TIME: Final = 32
LONGEST_MESSAGE: Final = 700
"""Characters of a rejection's cause: with what is said around it, it fits into failureReason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """A revision that did not come up, and is not tried again."""

    template: str
    """Hash of its pod template."""
    generation: int
    """Of the endpoint when it was rejected."""
    why: Why
    message: str

    def __str__(self) -> str:
        return f"generation {self.generation} was rejected: {self.message}"


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The revisions of one Deployment."""

    template: str = ""
    """Hash of its pod template."""
    record: str = ""
    """What that was built from; empty: too much to be kept."""
    good: str = ""
    """The same of the last good revision before it; empty: there is none, or the present one is the last good one."""
    rejection: Rejection | None = None
    """If there is one, the present template is that of the last good revision."""
    is_open: bool = False
    """Whether the canary of the present template has baked, so that all others may follow."""
    untried: str = ""
    """Not empty: the present template came while there were to be no pods, and none of it has served since.

    It is then the moment since which there are to be some (RFC 3339), or `ASLEEP`.
    """

    def annotations(self) -> dict[str, str]:
        """As a Deployment carries it."""
        texts = {
            names.TEMPLATE_ANNOTATION: self.template,
            names.RECORD_ANNOTATION: self.record,
            names.LAST_GOOD_ANNOTATION: self.good,
            names.REJECTED_ANNOTATION: _dumped(self.rejection) if self.rejection else "",
            names.OPEN_ANNOTATION: "true" if self.is_open else "",
            names.UNTRIED_ANNOTATION: self.untried,
        }
        return {name: text for name, text in texts.items() if text}


_NAMES: Final = (
    names.TEMPLATE_ANNOTATION,
    names.RECORD_ANNOTATION,
    names.LAST_GOOD_ANNOTATION,
    names.REJECTED_ANNOTATION,
    names.OPEN_ANNOTATION,
    names.UNTRIED_ANNOTATION,
)


def of(observed: Observed) -> History | None:
    """The history in the live Deployment; None if there is no Deployment of this very endpoint."""
    child = observed.children.get("Deployment")
    if child is None or child.controller_uid != observed.uid or not child.is_managed:
        return None
    texts = _ours(child.owned, {name: child.annotations[name] for name in _NAMES if name in child.annotations})
    good = texts.get(names.LAST_GOOD_ANNOTATION, "")
    return History(
        template=texts.get(names.TEMPLATE_ANNOTATION, "")[:_LONGEST_TEMPLATE],
        record=texts.get(names.RECORD_ANNOTATION, ""),
        good=good if len(good) <= record.LONGEST else "",
        rejection=_parsed(texts.get(names.REJECTED_ANNOTATION, "")),
        is_open=texts.get(names.OPEN_ANNOTATION) == "true",
        untried=texts.get(names.UNTRIED_ANNOTATION, "")[:_LONGEST_TIME],
    )


def _ours(owned: str, texts: Mapping[str, str]) -> Mapping[str, str]:
    """Those that we wrote: what somebody else has set in their place is not believed, and so does not stay."""
    if ownership.covers(owned, {"metadata": {"annotations": texts}}):
        return texts
    return {
        name: text
        for name, text in texts.items()
        if ownership.covers(owned, {"metadata": {"annotations": {name: text}}})
    }


def _dumped(rejection: Rejection) -> str:
    return json.dumps(
        {
            "template": rejection.template,
            "generation": rejection.generation,
            "reason": rejection.why.value,
            "message": rejection.message,
        },
        separators=(",", ":"),
    )


def _parsed(text: str) -> Rejection | None:
    try:
        content: Any = json.loads(text)
        return Rejection(
            template=str(content["template"])[:_LONGEST_TEMPLATE],
            generation=int(content["generation"]),
            why=Why(content["reason"]),
            message=str(content["message"])[:LONGEST_MESSAGE],
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
