"""YAML text to endpoints, or to everything that is wrong with it, each fault with its line.

Objects of other API groups may stand in the same file, as on a cluster; they are named as skipped.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import yaml

from mce_api import names, validation
from mce_api.endpoint import MultiContainerEndpoint
from mce_api.rules import Violation

_MOST_VALUES: Final = 100_000
"""Of one document with its aliases written out: far more than any endpoint that an API server takes."""

# libyaml's loader where it was built in: the same results, several times faster.
_Loader: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One violation and the line (from 1) that it is about."""

    line: int
    violation: Violation


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One document of a file: an endpoint, or faults, or something that is not ours."""

    source: str
    number: int
    line: int
    name: str
    endpoint: MultiContainerEndpoint | None = None
    faults: tuple[Fault, ...] = ()
    skipped: str = ""
    """What it is, if it is no business of ours."""


def parse(text: str, source: str) -> tuple[Document, ...]:
    """Every document of `text`. A text without any endpoint yields a fault: nobody means that."""
    documents = tuple(_documents(text, source))
    if any(document.endpoint or document.faults for document in documents):
        return documents
    missing = Violation(path="(file)", message=f"no {names.KIND} in it; expected apiVersion {names.API_VERSION}")
    return (*documents, Document(source=source, number=1, line=1, name="", faults=(Fault(line=1, violation=missing),)))


def _documents(text: str, source: str) -> Iterator[Document]:
    number = 0
    try:
        for node in yaml.compose_all(text, Loader=_Loader):
            number += 1
            if _values(node, {}) > _MOST_VALUES:
                problem = f"more than {_MOST_VALUES} values, with its aliases written out"
                raise yaml.composer.ComposerError(None, None, problem, node.start_mark)
            yield _document(node, source, number)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        reason = getattr(error, "problem", None) or str(error).splitlines()[0]
        fault = Fault(line=line, violation=Violation(path="(document)", message=f"not YAML: {reason}"))
        yield Document(source=source, number=number + 1, line=line, name="", faults=(fault,))


def _values(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a walk over `node` meets; one that is a part of itself has too many."""
    if id(node) not in known:
        known[id(node)] = _MOST_VALUES + 1
        parts = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
        inner = parts if isinstance(node, yaml.CollectionNode) else ()
        known[id(node)] = 1 + sum(_values(part, known) for part in inner)
    return known[id(node)]


def _document(node: yaml.Node, source: str, number: int) -> Document:
    line = node.start_mark.line + 1
    value = _constructed(node)
    if not isinstance(value, dict):
        text = (
            f"expected an object with apiVersion and kind, got {'nothing' if value is None else type(value).__name__}"
        )
        fault = Fault(line=line, violation=Violation(path="(document)", message=text))
        return Document(source=source, number=number, line=line, name="", faults=(fault,))
    metadata = value.get("metadata")
    name = str(metadata.get("name", "")) if isinstance(metadata, dict) else ""
    if not str(value.get("apiVersion", "")).startswith(f"{names.GROUP}/") and value.get("kind") != names.KIND:
        kind = value.get("kind", "an object without kind")
        return Document(source=source, number=number, line=line, name=name, skipped=f"{kind}/{name}")
    violations: tuple[Violation, ...] = tuple(_repeated_keys(node, ""))
    endpoint = None
    try:
        endpoint = validation.endpoint(value)
    except validation.InvalidEndpoint as error:
        violations += error.violations
    faults = tuple(Fault(line=_line_of(node, violation.path), violation=violation) for violation in violations)
    return Document(
        source=source, number=number, line=line, name=name, endpoint=None if faults else endpoint, faults=faults
    )


def _constructed(node: yaml.Node) -> Any:
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _repeated_keys(node: yaml.Node, path: str) -> Iterator[Violation]:
    """YAML forbids a key twice, PyYAML takes the last one, the API server refuses: so does this."""
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _repeated_keys(item, f"{path}[{index}]")
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            inner = f"{path}.{key.value}" if path else str(key.value)
            if key.value in seen:
                yield Violation(path=inner, message=f"the key {key.value!r} is there twice; keep one")
            seen.add(str(key.value))
            yield from _repeated_keys(value, inner)


def _line_of(node: yaml.Node, path: str) -> int:
    """The line of the deepest part of `path` that exists."""
    line = node.start_mark.line + 1
    for part in path.replace("[", ".[").split("."):
        found = _child(node, part)
        if found is None:
            break
        line, node = found
    return line


def _child(node: yaml.Node, part: str) -> tuple[int, yaml.Node] | None:
    if isinstance(node, yaml.SequenceNode) and part.startswith("["):
        index = int(part[1:-1])
        return (node.value[index].start_mark.line + 1, node.value[index]) if index < len(node.value) else None
    if isinstance(node, yaml.MappingNode):
        for key, value in reversed(node.value):
            if key.value == part:
                return key.start_mark.line + 1, value
    return None
