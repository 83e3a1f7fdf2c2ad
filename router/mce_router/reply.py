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


def is_interim(status: int) -> bool:
    """Whether another head follows this one (100 Continue, 103 Early Hints)."""
    return 100 <= status < _FIRST_REAL_STATUS and status != 101  # noqa: PLR2004 - HTTP's own numbers


def head(container: str, status: int, headers: Headers) -> ReplyHead | ModelFailure:
    """What a reply with this status and these headers means.

    Args:
        container: AWS name, for the error.
        status: three digits as received.
        headers: names in lower case.
    """
    size = 0
    length = UNTIL_CLOSE
    content_type = b""
    passed = b""
    for name, value in headers:
        size += len(name) + len(value) + 4
        if name == b"content-type":
            content_type = value
        elif name == b"content-length":
            if length != UNTIL_CLOSE or not value.isdigit():
                return errors.model_bad_reply(container, "more than one length")
            length = int(value)
        elif name == b"transfer-encoding":
            if length != UNTIL_CLOSE or value.lower() != b"chunked":
                return errors.model_bad_reply(container, "a Transfer-Encoding that is not plain chunked")
            length = CHUNKED
        elif name in header_rules.REPLY_PASSED:
            passed += header_rules.REPLY_PASSED[name] + value + b"\r\n"
    if size > wire.MAX_CONTAINER_HEADER_BYTES:
        return errors.model_headers_too_large(container)
    if status < _FIRST_REAL_STATUS:
        return errors.model_bad_reply(container, f"status {status}")
    length = 0 if status in BODYLESS else length
    unframed = (header_rules.line(b"content-type", content_type) if content_type else b"") + passed
    return ReplyHead(status, content_type, passed, length, unframed, unframed + header_rules.framing(length))


def is_success(status: int) -> bool:
    """Whether the caller gets the body as the model's answer; redirects are not followed and count as errors."""
    return 200 <= status < 300  # noqa: PLR2004 - HTTP's own class borders
