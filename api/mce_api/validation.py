"""From an untrusted document to a `MultiContainerEndpoint`, or to a list of everything that is wrong with it."""

import difflib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from mce_api import names, rules
from mce_api.endpoint import MultiContainerEndpoint, Peer
from mce_api.rules import Violation


class InvalidEndpoint(ValueError):  # noqa: N818 - names the thing that is wrong
    """A document is no valid endpoint."""

    def __init__(self, violations: tuple[Violation, ...]) -> None:
        super().__init__("\n".join(str(violation) for violation in violations))
        self.violations = violations


def stored(document: Mapping[str, Any]) -> MultiContainerEndpoint:
    """The endpoint that the API server has stored; fields that are not known here belong to a newer definition.

    In an upgrade the definition comes before the operator, and fills its defaults into every endpoint that is read.

    Raises:
        InvalidEndpoint: as `endpoint`, but for unknown fields. Those of a peer count: what is left of one that is meant
            to be narrower would let others in.
    """
    found = _endpoint(document, lambda: MultiContainerEndpoint.model_validate(document, extra="ignore"))
    if unknown := tuple(_unknown_of_peers(document)):
        raise InvalidEndpoint(unknown)
    return found


def _unknown_of_peers(valid: Mapping[str, Any]) -> Iterator[Violation]:
    known = {field.alias for field in Peer.model_fields.values()}
    for index, peer in enumerate((valid["spec"].get("access") or {}).get("from") or ()):
        for name in sorted(peer.keys() - known):
            text = "not known to this operator, which would let more callers in without it; upgrade the operator"
            yield Violation(path=f"spec.access.from[{index}].{name}", message=text)


def endpoint(document: Mapping[str, Any]) -> MultiContainerEndpoint:
    """The endpoint in `document`, with types as strict as the API server's: "3" is no number.

    Raises:
        InvalidEndpoint: naming every field, its value, the rule and the fix.
    """
    return _endpoint(document, lambda: _strictly(document))


def _strictly(document: Mapping[str, Any]) -> MultiContainerEndpoint:
    try:
        text = json.dumps(document, default=str)  # YAML makes dates of some texts, kubectl does not
    except (RecursionError, ValueError, TypeError) as error:  # too deep, a loop of aliases, a key that is no text
        raise InvalidEndpoint((Violation(path="spec", message=f"is no JSON: {str(error)[:80]}"),)) from error
    return MultiContainerEndpoint.model_validate_json(text, strict=True)


def _endpoint(document: Mapping[str, Any], parse: Callable[[], MultiContainerEndpoint]) -> MultiContainerEndpoint:
    if document.get("apiVersion") != names.API_VERSION or document.get("kind") != names.KIND:
        given = f"{document.get('apiVersion')}/{document.get('kind')}"
        fix = f"expected apiVersion {names.API_VERSION} and kind {names.KIND}, got {given}"
        raise InvalidEndpoint((Violation(path="apiVersion", message=fix),))
    try:
        parsed = parse()
    except ValidationError as error:
        raise InvalidEndpoint(_explain(error)) from error
    found = _duplicates(parsed) + rules.violations(parsed.spec)
    if found:
        raise InvalidEndpoint(found)
    return parsed


def _duplicates(parsed: MultiContainerEndpoint) -> tuple[Violation, ...]:
    """What the list maps of the CRD refuse by themselves on the API server."""
    found = []
    seen: set[str] = set()
    for index, container in enumerate(parsed.spec.containers):
        path = f"spec.containers[{index}]"
        if container.name in seen:
            found.append(Violation(path=f"{path}.name", message=f"{container.name!r} is there twice; names are unique"))
        seen.add(container.name)
        variables: set[str] = set()
        for position, variable in enumerate(container.env):
            if variable.name in variables:
                text = f"{variable.name!r} is there twice; keep one"
                found.append(Violation(path=f"{path}.env[{position}].name", message=text))
            variables.add(variable.name)
    volumes = Counter(volume.name for volume in parsed.spec.pod.volumes)
    for index, volume in enumerate(parsed.spec.pod.volumes):
        if volumes[volume.name] > 1:
            text = f"{volume.name!r} is there twice; names are unique"
            found.append(Violation(path=f"spec.pod.volumes[{index}].name", message=text))
    return tuple(found)


def _explain(error: ValidationError) -> tuple[Violation, ...]:
    found: dict[str, Violation] = {}
    for fault in error.errors(include_url=False):
        location = [part for part in fault["loc"] if not _is_union_branch(part)]
        path = _path(location)
        if fault["type"] == "extra_forbidden":
            message = f"unknown field; {_did_you_mean(location)}"
        elif fault["type"] == "missing":
            message = "required, and not there"
        elif fault["type"] == "too_long" and path == "spec.containers":
            message = f"{len(fault['input'])} containers; an endpoint has at most {fault['ctx']['max_length']}"
        else:
            message = _with_value(fault["msg"], fault["input"])
        found.setdefault(path, Violation(path=path, message=message))
    return tuple(violation for path, violation in found.items() if not any(f"{path}[" in other for other in found))


def _is_union_branch(part: int | str) -> bool:
    """Pydantic puts the tried alternative of a union into the location; no user wrote that."""
    return isinstance(part, str) and (part in {"int", "str"} or part.startswith(("constrained-", "function-")))


def _with_value(message: str, value: Any) -> str:
    return f"{message} (got {str(value)[:80]!r})" if isinstance(value, str | int | float | bool) else message


def _path(location: list[str | int]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f"{'.' if text else ''}{part}"
    return text


def _did_you_mean(location: list[str | int]) -> str:
    model: Any = MultiContainerEndpoint
    for part in location[:-1]:
        if isinstance(part, str) and isinstance(model, type) and issubclass(model, BaseModel):
            field = next((f for f in model.model_fields.values() if f.alias == part), None)
            model = _model_in(field.annotation) if field else None
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        return "remove it"
    known = [field.alias or "" for field in model.model_fields.values()]
    close = difflib.get_close_matches(str(location[-1]), known, n=1)
    return f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}"


def _model_in(annotation: Any) -> Any:
    """The first model class inside an annotation such as ``tuple[X, ...]`` or ``X | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        found = _model_in(inner)
        if found is not None:
            return found
    return None
