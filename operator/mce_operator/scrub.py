"""What may be shown of a text that a container or a registry wrote: no control characters, no secrets, bounded. Pure.

The operator cannot read Secrets, so a value that comes from one is found by its shape only. What is not found: a secret
without a telling name, prefix or shape.
"""

import base64
import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote

from mce_api.endpoint import Container

MASK: Final = "***"
LAST_LINES: Final = 20
LAST_CHARACTERS: Final = 2000
_KUBELET_CUT: Final = 2048
"""Bytes of a log that the kubelet keeps as a termination message (pkg/kubelet/container, MaxContainerTerminationMessage
LogLength): a text of that length may begin in the middle of a word."""
_MOST: Final = 8192
_LEAST_SECRET: Final = 4
"""A value shorter than that is no secret, and to mask it would spoil every text."""
_LEAST_LINE: Final = 16
"""Lines of a longer value, such as a key, that are looked for alone."""
_PLAIN_VALUES: Final = frozenset({"true", "false", "none", "null", "auto", "default", "disabled", "enabled"})

_ANSI: Final = re.compile(r"\x1b(?:\[[0-?]{0,32}[ -/]{0,8}[@-~]|\][^\x07\x1b]{0,256}(?:\x07|\x1b\\)?|[@-Z\\^_])?")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")
_SECRET_NAME: Final = re.compile(
    r"secret|token|passw|pwd|passphrase|credential|private|api_?key|access_?key|auth|signature|connection_?string"
    r"|(^|_)key$|dsn$",
    re.IGNORECASE,
)

# Each matches in time linear in the text: no repetition within a repetition, every run is bounded.
_PRIVATE_KEY: Final = re.compile(
    r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|\Z)", re.DOTALL
)
_END_OF_PRIVATE_KEY: Final = re.compile(r"\A.*-----END [A-Z ]{0,40}PRIVATE KEY-----", re.DOTALL)
_URL_PASSWORD: Final = re.compile(r"(?<=://)[^/\s@:'\"]{0,256}:[^/\s@]{1,256}@")
_BEARER: Final = re.compile(r"\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE)
_JWT: Final = re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*)?")
_PREFIXED: Final = re.compile(
    r"\b(?:(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}|gh[opusr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}"
    r"|glpat-[A-Za-z0-9_-]{16,}|hf_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_-]{20,}|xox[abeprs]-[A-Za-z0-9-]{10,}"
    r"|AIza[A-Za-z0-9_-]{35})"
)
_AWS_SECRET: Final = re.compile(
    r"(?<![A-Za-z0-9/+])(?=[A-Za-z0-9/+]{0,39}[A-Z])(?=[A-Za-z0-9/+]{0,39}[a-z])(?=[A-Za-z0-9/+]{0,39}[0-9])"
    r"[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+])"
)
_ASSIGNED: Final = re.compile(
    r"((?:secret|token|passwo?r?d|passphrase|credentials?|api[_-]?key|access[_-]?key"
    r"|private[_-]?key|authorization|signature)['\"]?\s{0,4}[=:]\s{0,4})('[^'\n]{0,512}'|\"[^\"\n]{0,512}\"|[^\s,;&]{1,512})",
    re.IGNORECASE,
)


def own_secrets(container: Container) -> tuple[str, ...]:
    """The values in a container's own `env` whose names look secret, the longest first."""
    found: set[str] = set()
    for variable in container.env:
        value = (variable.value or "").strip()
        if len(value) >= _LEAST_SECRET and value.lower() not in _PLAIN_VALUES and _SECRET_NAME.search(variable.name):
            found |= {value, quote(value, safe=""), base64.b64encode(value.encode()).decode()}
            found |= {line for line in value.splitlines() if len(line) >= _LEAST_LINE}
    return tuple(sorted(found, key=len, reverse=True))


def shown(text: str, secrets: Iterable[str] = ()) -> str:
    """`text` of a registry, a kubelet or an admission plugin on one line, without control characters and secrets."""
    return " ".join(_masked(_visible(text[:_MOST]), secrets).split())


def log_lines(text: str, secrets: Iterable[str] = ()) -> tuple[str, ...]:
    """The last lines that a container has printed: without control characters and secrets, bounded."""
    visible = _visible(_whole_words(text)[-_MOST:])
    masked = _ASSIGNED.sub(_assigned, _masked(visible, secrets))
    lines = [line.rstrip() for line in masked.splitlines() if line.strip()][-LAST_LINES:]
    while len(lines) > 1 and sum(len(line) + 1 for line in lines) > LAST_CHARACTERS:
        lines.pop(0)
    return tuple(line[:LAST_CHARACTERS] for line in lines)


def _whole_words(text: str) -> str:
    """Without its first line if that was cut: the rest of a secret would not be known for one."""
    if len(text.encode(errors="replace")) < _KUBELET_CUT:
        return text
    _, line_end, rest = text.partition("\n")
    return rest if line_end else text.partition(" ")[2]


def _visible(text: str) -> str:
    return _CONTROL.sub("", _ANSI.sub("", text.replace("\r", "\n")).replace("\t", " "))


def _masked(text: str, secrets: Iterable[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, MASK)
    text = _END_OF_PRIVATE_KEY.sub(MASK, _PRIVATE_KEY.sub(MASK, text))
    text = _URL_PASSWORD.sub(f"{MASK}@", text)
    text = _BEARER.sub(rf"\1 {MASK}", text)
    for shape in (_JWT, _PREFIXED, _AWS_SECRET):
        text = shape.sub(MASK, text)
    return text


def _assigned(match: re.Match[str]) -> str:
    return match[1] + MASK
