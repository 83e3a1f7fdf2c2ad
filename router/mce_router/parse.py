"""From a request head to one legal `Invocation` or one `Refusal`; total, pure, and strict.

Anything that two HTTP implementations could read differently is refused, because the container behind us is the other
implementation. llhttp has already refused what it can (bad names, bad lengths, Content-Length beside
Transfer-Encoding); here is what it lets through. A value is checked before anybody looks at what it says, and what
goes on is written anew.
"""

import re
from collections.abc import Iterable
from typing import Final

from mce_api import errors, wire
from mce_api.errors import Reason, Refusal
from mce_router import headers as header_rules
from mce_router.invocation import CHUNKED, Invocation, Kind, RequestHead

_NAME: Final = re.compile(b"(?=.{1,%d}$)" % wire.NAME_MAX_LENGTH + wire.NAME_PATTERN.encode())
_ENDPOINT_PATH: Final = re.compile(rb"/endpoints/([^/?#]*)/invocations(-response-stream)?")
_HOST: Final = re.compile(rb"[A-Za-z0-9._\-:\[\]]*")
_TRACEPARENT: Final = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-[\x21-\x7e]*)?"
)
"""W3C Trace Context 1, 3.2; a later version may have more behind it."""
_TRACESTATE_BYTES: Final = 1024
"""W3C asks for at least 512."""
_SERVED: Final = (
    "POST /invocations, POST /endpoints/{EndpointName}/invocations, "
    "POST /endpoints/{EndpointName}/invocations-response-stream, GET /ping"
)
_PATTERN_TEXT: Final = wire.NAME_PATTERN.removesuffix("$")


class _Collected:
    """What a pass over the headers gathers."""

    __slots__ = (
        "accept",
        "connection",
        "content_type",
        "expects",
        "host",
        "length",
        "passed",
        "seen",
        "stream_accept",
        "target",
        "traceparent",
        "tracestate",
        "wants_timing",
    )

    def __init__(self) -> None:
        self.accept = b""
        self.connection = b""
        self.content_type = b""
        self.expects = False
        self.host = False
        self.length = 0
        self.seen: set[bytes] = set()
        self.stream_accept = b""
        self.target = b""
        self.traceparent = b""
        self.tracestate = b""
        self.wants_timing = False
        self.passed: list[bytes] = []


def invocation(head: RequestHead, variant: str) -> Invocation | Refusal:
    """What `head` asks for.

    Args:
        head: as the parser collected it; header names in lower case.
        variant: name of the variant that this router serves.
    """
    if head.version not in ("1.1", "1.0"):
        return Refusal(Reason.VERSION_UNSUPPORTED, f"HTTP/{head.version} is not served here; use HTTP/1.1.")
    if head.upgrade:
        return Refusal(Reason.UNSUPPORTED, "Upgrades (WebSocket, HTTP/2) are not served here; use plain HTTP/1.1.")
    route = _route(head.method, head.url)
    if isinstance(route, Refusal):
        return route
    kind, endpoint = route
    found = _collect(head.headers, variant)
    if isinstance(found, Refusal):
        return found
    if not found.host and head.version == "1.1":
        return Refusal(Reason.BAD_REQUEST, "The Host header is missing; HTTP/1.1 needs exactly one.")
    http_1_0 = head.version == "1.0"
    if http_1_0 and found.length == CHUNKED:
        return Refusal(Reason.BAD_REQUEST, "HTTP/1.0 has no Transfer-Encoding; send Content-Length.")
    connection = found.connection.lower()
    for token in connection.split(b","):
        if token.strip() in RELEVANT:
            text = f"The Connection header must not name {token.strip().decode()}: who reads it drops that header."
            return Refusal(Reason.BAD_REQUEST, text)
    keep_alive = b"keep-alive" in connection if http_1_0 else b"close" not in connection
    content_type = header_rules.line(b"content-type", found.content_type) if found.content_type else b""
    accepted = found.stream_accept if kind is Kind.STREAM else found.accept
    accept = header_rules.line(b"accept", accepted) if accepted else b""
    passed = b"".join(found.passed)
    if _TRACEPARENT.fullmatch(found.traceparent) is None:
        found.traceparent = found.tracestate = b""  # as W3C says: not legal, so not there
    return Invocation(
        kind,
        endpoint,
        found.target.decode(),
        content_type + accept + passed + header_rules.trace_lines(found.traceparent, found.tracestate),
        accept,
        found.content_type,
        passed,
        found.traceparent,
        found.tracestate,
        found.wants_timing,
        found.length,
        keep_alive,
        found.expects and not http_1_0,
        http_1_0,
    )


def _route(method: bytes, url: bytes) -> tuple[Kind, str] | Refusal:
    path = url.partition(b"?")[0]
    if path == b"/invocations":
        kind, endpoint = Kind.INVOKE, ""
    elif path == b"/ping":
        kind, endpoint = Kind.PING, ""
    elif (match := _ENDPOINT_PATH.fullmatch(path)) is not None:
        if _NAME.fullmatch(match[1]) is None:
            text = errors.constraint(match[1].decode("latin-1"), "endpointName", _PATTERN_TEXT)
            return Refusal(Reason.ENDPOINT_UNKNOWN, text)
        kind, endpoint = Kind.STREAM if match[2] else Kind.INVOKE, match[1].decode()
    else:
        return Refusal(Reason.PATH_UNKNOWN, f"Nothing is served at this path; there are: {_SERVED}.")
    allowed = b"GET" if kind is Kind.PING else b"POST"
    if method != allowed and not (kind is Kind.PING and method == b"HEAD"):
        return Refusal(Reason.METHOD_NOT_ALLOWED, f"Use {allowed.decode()} for {path.decode('latin-1')}.")
    return kind, endpoint


def _collect(headers: Iterable[tuple[bytes, bytes]], variant: str) -> _Collected | Refusal:
    found = _Collected()
    for name, value in headers:
        if name in header_rules.MEMBERS:
            refusal = _take(found, name, value, variant)
        elif name in _FRAMING:
            refusal = _frame(found, name, value)
        elif name in _TRACE:
            _trace(found, name, value)
            continue
        elif name == wire.TARGET_MODEL:
            text = "This endpoint is not a multi-model endpoint and does not support target model header."
            refusal = Refusal(Reason.TARGET_MODEL_NOT_SUPPORTED, text)
        else:
            continue  # not one that the service knows: it goes no further
        if refusal is not None:
            return refusal
    return found


def _take(found: _Collected, name: bytes, value: bytes, variant: str) -> Refusal | None:
    """Headers that the service knows: checked as bytes, then kept."""
    if name in found.seen:
        return _invalid(name, value, "it is there twice; send it once")
    found.seen.add(name)
    if name == wire.TARGET_CONTAINER:
        if _NAME.fullmatch(value) is None:
            text = errors.constraint(value.decode("latin-1"), "targetContainerHostname", _PATTERN_TEXT)
            return Refusal(Reason.TARGET_INVALID, text)
        found.target = value
    elif name == wire.TARGET_VARIANT:
        if value.decode("latin-1") != variant:
            shown = value.decode("ascii", "backslashreplace")[:64]
            text = f"Variant {shown} is not served here. This is variant {variant}."
            return Refusal(Reason.VARIANT_UNKNOWN, text)
    elif header_rules.VISIBLE.fullmatch(value) is None:
        return _invalid(name, value, "only visible ASCII is allowed")
    elif len(value) > header_rules.MAX_LENGTHS[name]:
        return _invalid(name, value, f"at most {header_rules.MAX_LENGTHS[name]} bytes are allowed")
    elif name in _KEPT:
        setattr(found, _KEPT[name], value)
    else:
        found.passed.append(header_rules.line(name, value))
    return None


_KEPT: Final = {b"content-type": "content_type", b"accept": "accept", wire.STREAM_ACCEPT: "stream_accept"}
"""Headers that go on in a place of their own."""
_TRACE: Final = frozenset({b"traceparent", b"tracestate", wire.TRACE})


def _trace(found: _Collected, name: bytes, value: bytes) -> None:
    """Headers that only observe: what is wrong with them is ignored, it is no reason to fail a request."""
    if name == wire.TRACE:
        found.wants_timing = value == b"1"
    elif name == b"traceparent":
        found.traceparent += value  # given twice: no longer legal
    elif header_rules.VISIBLE.fullmatch(value) is not None:
        joined = found.tracestate + b"," + value if found.tracestate else value
        found.tracestate = joined if len(joined) <= _TRACESTATE_BYTES else found.tracestate


_UNSERVED: Final = frozenset({b"transfer-encoding", b"expect"})
_CONNECTION: Final = frozenset({b"connection", b"proxy-connection"})
"""llhttp takes the second for the first."""
_FRAMING: Final = _CONNECTION | {b"host", b"content-length", b"transfer-encoding", b"expect"}
RELEVANT: Final = _FRAMING | _TRACE | header_rules.MEMBERS.keys() | {wire.TARGET_MODEL}
"""Headers that change what a request means here; of any other the parser has checked the form, and it stops here."""


def _frame(found: _Collected, name: bytes, value: bytes) -> Refusal | None:
    """Headers that say where the message ends and how the connection goes on."""
    if name in _CONNECTION:
        found.connection += b"," + value
        return None
    if name in found.seen:
        return Refusal(Reason.BAD_REQUEST, f"The {name.decode()} header is there twice; send it once.")
    found.seen.add(name)
    if name == b"host":
        found.host = True
        legal, rule = _HOST.fullmatch(value) is not None, "Host must be a host name"
    elif name == b"content-length":
        legal = value.isdigit() and len(value) <= header_rules.LENGTH_DIGITS
        rule = "Content-Length must be a plain decimal number"
        found.length = int(value) if legal else 0
    elif name == b"transfer-encoding":
        legal, rule = value.lower() == b"chunked", "Transfer-Encoding must be chunked"
        found.length = CHUNKED
    else:
        legal, rule = value.lower() == b"100-continue", "Expect must be 100-continue"
        found.expects = True
    if not legal:
        return Refusal(Reason.UNSUPPORTED if name in _UNSERVED else Reason.BAD_REQUEST, f"{rule}.")
    if b"content-length" in found.seen and b"transfer-encoding" in found.seen:
        return Refusal(Reason.BAD_REQUEST, "Content-Length and Transfer-Encoding exclude each other; send one.")
    return None


def _invalid(name: bytes, value: bytes, rule: str) -> Refusal:
    shown = value.decode("latin-1").encode("ascii", "backslashreplace").decode()[:128]
    text = f"1 validation error detected: Value '{shown}' at '{header_rules.MEMBERS[name]}' is not valid: {rule}."
    return Refusal(Reason.HEADER_INVALID, text)
