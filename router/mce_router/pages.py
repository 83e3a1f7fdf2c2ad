"""Reads the metrics page of a container line by line, and writes one page of many. Pure; no line is trusted.

Source: https://prometheus.io/docs/instrumenting/exposition_formats/ (text format 0.0.4). The parser of
prometheus_client is not used: it takes what Prometheus refuses, and its time grows with the square of a line's length.
"""

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

OWN_PREFIX: Final = "mce_"
"""Every series of the project starts so; a container's that does is not shown."""
MAX_LINE_CHARACTERS: Final = 16384

_NAME: Final = r"[a-zA-Z_:][a-zA-Z0-9_:]*+"
_BLANKS: Final = r"[ \t]*+"
_GAP: Final = r"[ \t]++"
_FINITE: Final = r"[+-]?(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)(?:[eE][+-]?[0-9]++)?"
_NUMBER: Final = rf"{_FINITE}|(?i:nan|[+-]?inf(?:inity)?)"
_VALUE: Final = r'"(?:[^"\\\x00-\x08\x0a-\x1f\x7f]++|\\[\\n"])*"'
_LABEL: Final = rf"[a-zA-Z_][a-zA-Z0-9_]*+{_BLANKS}={_BLANKS}{_VALUE}{_BLANKS}"
_LABELS: Final = rf"{_BLANKS}((?:{_LABEL}(?:,{_BLANKS}{_LABEL})*(?:,{_BLANKS})?)?)"
# Possessive where one kind of character repeats, so that no line is read in more than linear time. Never around a
# group: Python before 3.11.5 gets that wrong (https://github.com/python/cpython/issues/106052).
_SAMPLE: Final = re.compile(
    rf"({_NAME})(?:{_BLANKS}\{{{_LABELS}\}}{_BLANKS}|{_GAP})({_NUMBER})(?:{_GAP}(?:{_FINITE}))?(?:{_GAP}#.*+)?{_BLANKS}"
)
_ONE_LABEL: Final = re.compile(rf'([a-zA-Z_][a-zA-Z0-9_]*+){_BLANKS}={_BLANKS}"((?:[^"\\]++|\\.)*)"')
_COMMENT: Final = re.compile(rf"#{_BLANKS}(HELP|TYPE){_GAP}(.*+)")
_DESCRIBED: Final = re.compile(rf"({_NAME})(?:{_GAP}([^\x00-\x08\x0a-\x1f\x7f]*+))?")
_IS_NUMBER: Final = re.compile(_NUMBER)

_UNTYPED: Final = "untyped"
_PLAIN_TYPES: Final = frozenset({"counter", "gauge", _UNTYPED})
_SUFFIXES: Final = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("_sum", "_count")}
_SPLIT_BY: Final = {"histogram": ("le", "_bucket"), "summary": ("quantile", "")}
"""The label that a type gives a meaning to, and the suffix of the sample names that must have it."""


class UnreadablePage(ValueError):  # noqa: N818 - names the thing that is wrong
    """A page breaks the text format; the message says where and holds nothing of the page."""


class FamilyKey(NamedTuple):
    """What samples have in common that stand under one TYPE line."""

    name: str
    type: str


@dataclass(slots=True)
class Family:
    """Samples that stand together."""

    help: str = ""
    names: set[str] = field(default_factory=set)
    """Names of its samples: a histogram's have suffixes."""
    series: dict[str, str] = field(default_factory=dict)
    """`name{labels}` to value; labels are never empty."""


def labels(pairs: dict[str, str]) -> str:
    """Labels with any values as the format has them, without braces."""
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in pairs.items())


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


class Page:
    """What one container's page says, as series that can be nobody else's."""

    def __init__(self, ours: dict[str, str], most_series: int) -> None:
        """`ours` is put on each series and wins over labels of the same name, which get the prefix `exported_`."""
        self._ours = ours
        self._prefix = labels(ours)
        self._most_series = most_series
        self._lines = 0
        self._types: dict[str, str] = {}
        self._help: dict[str, str] = {}
        self._homes: dict[str, FamilyKey] = {}
        """Where each name belongs that has been shown: it stays there, or the same series could come twice."""
        self._full: set[FamilyKey] = set()
        self.families: dict[FamilyKey, Family] = {}
        self.dropped = 0
        """Series that are not shown."""
        self.series = 0
        """Series that are shown."""

    def add(self, line: str) -> None:
        """Takes the next line, without its line feed.

        Raises:
            UnreadablePage: if the line is too long or not of the format.
        """
        self._lines += 1
        if len(line) > MAX_LINE_CHARACTERS:
            raise UnreadablePage(f"line {self._lines} is longer than {MAX_LINE_CHARACTERS} characters")
        line = line.strip(" \t")
        if not line:
            return
        if line[0] == "#":
            self._describe(line)
            return
        match = _SAMPLE.fullmatch(line)
        if match is None:
            raise self._unreadable()
        name, pairs, number = match.groups()
        value = _value(number)
        if not value:
            raise self._unreadable()
        self._sample(name, _ONE_LABEL.findall(pairs) if pairs else [], value)

    def _unreadable(self) -> UnreadablePage:
        return UnreadablePage(f"line {self._lines} is not of the Prometheus text format")

    def _describe(self, line: str) -> None:
        comment = _COMMENT.fullmatch(line)
        if comment is None:
            return
        described = _DESCRIBED.fullmatch(comment[2])
        if described is None:
            raise self._unreadable()
        name, text = described.groups()
        if comment[1] == "HELP":
            self._help.setdefault(name, text or "")
        else:
            self._types.setdefault(name, text or "")

    def _sample(self, name: str, pairs: list[tuple[str, str]], value: str) -> None:
        key = self._homes.get(name) or self._home(name)
        theirs = dict(pairs)
        if (
            len(theirs) != len(pairs)
            or name.startswith(OWN_PREFIX)
            or any(label.startswith("__") for label in theirs)
            or not _is_split_right(key, name, theirs)
        ):
            self.dropped += 1
            return
        if not theirs.keys().isdisjoint(self._ours):
            theirs = self._renamed(theirs)
        # An empty label is the same as none.
        rest = "".join([f',{label}="{text}"' for label, text in sorted(theirs.items()) if text])
        self._keep(key, name, f"{name}{{{self._prefix}{rest}}}", value)

    def _home(self, name: str) -> FamilyKey:
        """The family of a sample: the first TYPE line counts, as long as it stands before the first sample."""
        kind = self._types.get(name, "")
        if kind in _PLAIN_TYPES or kind == "summary":
            return FamilyKey(name, kind)
        for suffix in _SUFFIXES["histogram"]:
            family = name.removesuffix(suffix)
            kind = self._types.get(family, "")
            if family != name and suffix in _SUFFIXES.get(kind, ()):
                return FamilyKey(family, kind)
        return FamilyKey(name, _UNTYPED)

    def _renamed(self, theirs: dict[str, str]) -> dict[str, str]:
        """As Prometheus does it for a target's own labels (honor_labels: false)."""
        taken = {*theirs, *self._ours}
        renamed = {}
        for label, text in theirs.items():
            new = label
            if label in self._ours:
                while new in taken:
                    new = f"exported_{new}"
                taken.add(new)
            renamed[new] = text
        return renamed

    def _keep(self, key: FamilyKey, name: str, series: str, value: str) -> None:
        family = self.families.get(key)
        full = self.series == self._most_series
        if key in self._full or (family is None and full) or (family is not None and series in family.series):
            self.dropped += 1
            return
        if family is None:
            family = self.families[key] = Family(self._help.get(key.name, ""))
        self._homes[name] = key
        family.names.add(name)
        family.series[series] = value
        self.series += 1
        if full:  # half a histogram tells lies: what does not fit goes as a whole
            del self.families[key]
            self._full.add(key)
            self.series -= len(family.series)
            self.dropped += len(family.series)


def _is_split_right(key: FamilyKey, name: str, theirs: dict[str, str]) -> bool:
    """Whether a bucket has its bound and a quantile its number: some parsers give up the whole page otherwise."""
    if key.type not in _SPLIT_BY:
        return True
    label, suffix = _SPLIT_BY[key.type]
    bound = theirs.get(label)
    if bound is None:
        return name != key.name + suffix
    return _IS_NUMBER.fullmatch(bound) is not None and _value(bound) != ""


def _value(number: str) -> str:
    """A number as Go's parsers take it too; empty if it is out of their range."""
    value = float(number)
    if math.isfinite(value):
        return repr(value)
    if number[-1] in "0123456789.":
        return ""
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"


def merged(pages: Iterable[Page]) -> Iterator[str]:
    """The series of all `pages`, each family in one piece with one TYPE line; the pages are empty afterwards.

    What two pages call alike and type differently is shown untyped, so that no page can hide what another one says.
    Parts may be empty: the work (and the freeing) is spread over them, so that whoever reads them can give way to
    others in between.
    """
    pages = tuple(pages)
    claims: dict[str, set[FamilyKey]] = {}
    for page in pages:
        for key, family in page.families.items():
            for name in {key.name, *family.names}:
                claims.setdefault(name, set()).add(key)
            yield ""
    disputed = {key for keys in claims.values() if len(keys) > 1 for key in keys}
    together: dict[FamilyKey, list[Family]] = {}
    for page in pages:
        for key in tuple(page.families):
            family = page.families.pop(key)
            for part_key, part in _untyped(family) if key in disputed else ((key, family),):
                together.setdefault(part_key, []).append(part)
            yield ""
    for key in tuple(together):
        parts = together.pop(key)
        text = next((part.help for part in parts if part.help), "")
        described = f"# HELP {key.name} {text}\n" if text else ""
        yield f"{described}# TYPE {key.name} {key.type}\n"
        while parts:
            yield "".join([f"{series} {value}\n" for series, value in parts.pop(0).series.items()])


def _untyped(family: Family) -> Iterator[tuple[FamilyKey, Family]]:
    """The samples of `family` as one family for each name."""
    for name in sorted(family.names):
        start = f"{name}{{"
        series = {series: value for series, value in family.series.items() if series.startswith(start)}
        yield FamilyKey(name, _UNTYPED), Family(family.help, {name}, series)


def gauge(name: str, text: str, rows: Iterable[tuple[dict[str, str], float]]) -> str:
    """A family of ours: rows of labels and value."""
    lines = "".join(f"{name}{{{labels(pairs)}}} {float(value)!r}\n" for pairs, value in rows)
    return f"# HELP {name} {text}\n# TYPE {name} gauge\n{lines}"
