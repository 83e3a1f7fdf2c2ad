"""Frozen dataclasses that come as JSON: a field's `Annotated` holds its rule; a value that breaks one cannot exist.

Made for what must load fast (docs/adr/0006): it needs nothing but the standard library.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from functools import cache
from typing import Any, Final, NamedTuple, Protocol, TypeVar, get_args

_MOST_SHOWN: Final = 100
"""Characters of a value or of an unknown key that a message quotes."""
_MOST_FAULTS: Final = 20
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
"""JSON can spell half of a pair; no header or name can be made of it."""

LEFT_OUT: Final = "left out"
"""Beside a rule: the field is not in the JSON while it has its default."""


class Invalid(ValueError):  # noqa: N818 - names the thing that is wrong
    """A value breaks rules; each fault reads ``path: rule (got value)``, the path as JSON spells it."""

    def __init__(self, faults: list[str]) -> None:
        left = len(faults) - _MOST_FAULTS
        super().__init__("; ".join(faults[:_MOST_FAULTS]) + (f"; and {left} more" if left > 0 else ""))
        self.faults = faults


class Rule(Protocol):
    """What a field may hold."""

    def read(self, value: Any, path: str, faults: list[str]) -> Any:
        """`value` as the field keeps it; what is wrong with it goes to `faults`."""


class Part:
    """Base of the dataclasses (frozen, kw_only, slots); its constructor checks, and raises `Invalid`."""

    __slots__ = ()

    def __post_init__(self) -> None:
        faults: list[str] = []
        kind: Any = type(self)  # mypy holds no class for hashable
        for field in _fields(kind):
            object.__setattr__(self, field.name, field.rule.read(getattr(self, field.name), field.key, faults))
        if not faults:
            faults += self.contradictions()
        if faults:
            raise Invalid(faults)

    def contradictions(self) -> Iterator[str]:
        """What is wrong though each field by itself is right."""
        return iter(())


P = TypeVar("P", bound=Part)


def read(kind: type[P], value: Any) -> P:
    """`value`, parsed JSON, as a `kind`.

    Raises:
        Invalid: with every fault.
    """
    faults: list[str] = []
    part = PartOf(kind).read(value, "", faults)
    if faults:
        raise Invalid(faults)
    return part  # type: ignore[no-any-return]  # without a fault it is one


def plain(part: Part) -> dict[str, Any]:
    """`part` as JSON spells it; `read` gives it back."""
    kind: Any = type(part)
    values = {field: getattr(part, field.name) for field in _fields(kind)}
    return {
        field.key: _plain(value) for field, value in values.items() if not (field.left_out and value == field.default)
    }


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return plain(value) if isinstance(value, Part) else value


class Text(NamedTuple):
    """A string of `least` to `most` characters, as a whole of a pattern if there is one."""

    most: int
    least: int = 0
    pattern: str = ""

    def read(self, value: Any, path: str, faults: list[str]) -> Any:
        """See `Rule`."""
        if type(value) is not str:
            faults.append(_fault(path, "must be a string", value))
        elif not self.least <= len(value) <= self.most:
            faults.append(_fault(path, f"must have {self.least} to {self.most} characters", value))
        elif self.pattern and not re.fullmatch(self.pattern, value):
            faults.append(_fault(path, f"must match the pattern {self.pattern}", value))
        elif _SURROGATE.search(value):
            faults.append(_fault(path, "must not contain half a surrogate pair", value))
        return value


class OneOf(NamedTuple):
    """One of a few strings."""

    choices: tuple[str, ...]

    def read(self, value: Any, path: str, faults: list[str]) -> Any:
        """See `Rule`."""
        if value not in self.choices:
            faults.append(_fault(path, f"must be {' or '.join(self.choices)}", value))
        return value


class Whole(NamedTuple):
    """An integer from `least` to `most`; a float is none, even without a fraction."""

    least: int
    most: int | None = None
    or_null: bool = False

    def read(self, value: Any, path: str, faults: list[str]) -> Any:
        """See `Rule`."""
        if value is None and self.or_null:
            return value
        if type(value) is not int or value < self.least or (self.most is not None and value > self.most):
            span = f"of at least {self.least}" if self.most is None else f"from {self.least} to {self.most}"
            faults.append(_fault(path, f"must be a whole number {span}{' or null' if self.or_null else ''}", value))
        return value


class Number(NamedTuple):
    """A number from 0 (or, with `above_zero`, more) to `most`; kept as a float."""

    most: int
    above_zero: bool = False

    def read(self, value: Any, path: str, faults: list[str]) -> Any:
        """See `Rule`."""
        if type(value) not in {int, float} or not 0 <= value <= self.most or (self.above_zero and value == 0):
            span = f"above 0, at most {self.most}" if self.above_zero else f"from 0 to {self.most}"
            faults.append(_fault(path, f"must be a number {span}", value))
            return value
        return float(value)


class PartOf(NamedTuple):
    """An object that is a `kind`."""

    kind: type[Part]

    def read(self, value: Any, path: str, faults: list[str]) -> Any:
        """See `Rule`."""
        if type(value) is self.kind:
            return value
        if not isinstance(value, dict):
            faults.append(_fault(path, "must be an object", value))
            return value
        found: list[str] = []
        values = _values(self.kind, value, path, found)
        if not found:
            try:
                return self.kind(**values)
            except Invalid as error:
                found = [f"{path}{'.' if path else ''}{fault}" for fault in error.faults]
        faults += found
        return value


def _values(kind: Any, given: Mapping[str, Any], path: str, faults: list[str]) -> dict[str, Any]:
    values = {}
    within = f"{path}." if path else ""
    known = {field.key: field for field in _fields(kind)}
    for key, field in known.items():
        if key in given:
            values[field.name] = field.rule.read(given[key], f"{within}{key}", faults)
        elif field.default is MISSING:
            faults.append(f"{within}{key}: required, and not there")
    for key in given:
        if key not in known:
            shown = key if key.isidentifier() else ascii(key)
            faults.append(f"{within}{shown[:_MOST_SHOWN]}: unknown field; known here: {', '.join(known)}")
    return values


class ListOf(NamedTuple):
    """From `least` to `most` objects that are a `kind`; kept as a tuple."""

    kind: type[Part]
    least: int
    most: int

    def read(self, value: Any, path: str, faults: list[str]) -> Any:
        """See `Rule`."""
        if not isinstance(value, list | tuple):
            faults.append(_fault(path, "must be a list", value))
            return value
        if not self.least <= len(value) <= self.most:
            faults.append(f"{path}: must have at least {self.least} and at most {self.most} items, has {len(value)}")
            return value
        rule = PartOf(self.kind)
        return tuple(rule.read(one, f"{path}[{index}]", faults) for index, one in enumerate(value))


class _Field(NamedTuple):
    name: str
    key: str
    rule: Rule
    default: Any
    left_out: bool


@cache
def _fields(kind: Any) -> tuple[_Field, ...]:
    found = []
    for field in fields(kind):
        _, rule, *marks = get_args(field.type)
        head, *rest = field.name.split("_")
        key = head + "".join(word.capitalize() for word in rest)
        found.append(_Field(field.name, key, rule, field.default, LEFT_OUT in marks))
    return tuple(found)


def _fault(path: str, rule: str, value: Any) -> str:
    got = {dict: "an object", list: "a list", type(None): "null"}.get(type(value))
    shown = got or repr(value[:_MOST_SHOWN] if isinstance(value, str) else value)[:_MOST_SHOWN]
    return f"{path}{': ' if path else ''}{rule} (got {shown})"
