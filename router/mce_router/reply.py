"""From a container's reply head to a `ReplyHead`, or to the `ModelFailure` that it amounts to. Pure.

A container is hostile: what is ambiguous in its reply becomes its failure, never somebody else's answer.
"""

from typing import Final

from mce_api import errors, wire
from mce_api.errors import ModelFailure
from mce_router import headers as header_rules
from mce_router.invocation import CHUNKED, UNTIL_CLOSE, Headers, ReplyHead

BODYLESS: Final = frozenset({204, 304})
_FIRST_REAL_STATUS: Final = 200
_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding"})
_RELEVANT: Final = _FRAMING | {b"content-type"} | header_rules.REPLY_PASSED.keys()


def is_interim(status: int) -> bool:
    """Whether another head follows this one (100 Continue, 103 Early Hints)."""
    return 100 <= status < _FIRST_REAL_STATUS and status != 101  # noqa: PLR2004 - HTTP's own numbers


def interim_fault(headers: Headers) -> str:
    """What is wrong with an interim head; empty: nothing. It has no body, so nothing in it may say where one ends."""
    framed = any(name in _FRAMING for name, _ in headers)
    return "an interim reply with a length or a Transfer-Encoding" if framed else ""


def head(container: str, status: int, version: str, headers: Headers) -> ReplyHead | ModelFailure:
    """What a reply with this status and these headers means.

    Args:
        container: AWS name, for the error.
        status: three digits as received.
        version: of HTTP, as in "1.1".
        headers: names in lower case.
    """
    size = sum(len(name) + len(value) + 4 for name, value in headers)
    if size > wire.MAX_CONTAINER_HEADER_BYTES:
        return errors.model_headers_too_large(container)
    if status < _FIRST_REAL_STATUS:
        return errors.model_bad_reply(container, f"status {status}")
    read = _read(version, headers)
    if isinstance(read, str):
        return errors.model_bad_reply(container, read)
    length, content_type, passed = read
    length = 0 if status in BODYLESS else length
    unframed = (header_rules.line(b"content-type", content_type) if content_type else b"") + passed
    return ReplyHead(status, content_type, passed, length, unframed, unframed + header_rules.framing(length))


def _read(version: str, headers: Headers) -> tuple[int, bytes, bytes] | str:
    """Length, content type and lines for the caller; or what is wrong."""
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if name not in _RELEVANT:
            continue
        if name in found:
            return f"the header {name.decode()} twice"
        if header_rules.VISIBLE.fullmatch(value) is None:
            return f"a {name.decode()} that is not visible ASCII"
        found[name] = value
    length = _length(version, found)
    if isinstance(length, str):
        return length
    passed = b"".join(line + found[name] + b"\r\n" for name, line in header_rules.REPLY_PASSED.items() if name in found)
    return length, found.get(b"content-type", b""), passed


def _length(version: str, found: dict[bytes, bytes]) -> int | str:
    digits, coding = found.get(b"content-length"), found.get(b"transfer-encoding")
    if coding is not None:
        if digits is not None:
            return "both a length and a Transfer-Encoding"
        plain = coding.lower() == b"chunked" and version == "1.1"
        return CHUNKED if plain else "a Transfer-Encoding that is not plain chunked of HTTP/1.1"
    if digits is None:
        return UNTIL_CLOSE
    plain = digits.isdigit() and len(digits) <= header_rules.LENGTH_DIGITS
    return int(digits) if plain else "a Content-Length that is not a plain number"


def is_success(status: int) -> bool:
    """Whether the caller gets the body as the model's answer; redirects are not followed and count as errors."""
    return 200 <= status < 300  # noqa: PLR2004 - HTTP's own class borders
