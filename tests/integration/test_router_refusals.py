"""What two HTTP implementations could read differently, one row each, on real sockets: refused, or forwarded as one.

The ambiguities are those that the public collections know: RFC 9112 and 9110, the HTTP Garden, Http11Probe,
PortSwigger's and HAProxy's smuggling cases, and advisories against aiohttp, h11, llhttp and httptools.
"""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest

from support import http as caller
from support import judge, processes
from support.judge import Message
from support.law import marked, ok
from support.recorder import Do, Recorder, Step, recorder

TARGET = caller.TARGET.encode() + b": a"
CHUNKED = b"Transfer-Encoding: chunked"
BAD = frozenset({400})
UNSERVED = frozenset({501, 505})
WRONG_PATH = frozenset({400, 404, 405, 501})
WAITS: frozenset[int] = frozenset()
"""Not ambiguous, only unfinished: the rest never comes."""


@dataclass(frozen=True)
class Forwarded:
    """The container gets one request with this body, these lines and no others."""

    body: bytes = b""
    lines: dict[bytes, bytes] = field(default_factory=dict)


def post(
    *lines: bytes,
    body: bytes = b"",
    start: bytes = b"POST /invocations HTTP/1.1",
    host: bytes = b"Host: m",
    target: bytes = TARGET,
) -> bytes:
    """A request in the order: start line, host, target, `lines`, body; empty `host` and `target` are left out."""
    return b"\r\n".join([line for line in (start, host, target) if line] + [*lines, b"", body])


def sized(*lines: bytes, body: bytes = b"hello", **parts: bytes) -> bytes:
    return post(b"Content-Length: %d" % len(body), *lines, body=body, **parts)


def chunked(body: bytes, *lines: bytes, **parts: bytes) -> bytes:
    return post(CHUNKED, *lines, body=body, **parts)


HELLO = Forwarded(b"hello")
EMPTY = Forwarded()
HIDDEN = post(b"Content-Length: 0")
"""A request inside a body or after an ambiguous one: no container may ever take it for one."""

START_LINE: dict[str, tuple[bytes, frozenset[int] | Forwarded]] = {
    "plain": (sized(), HELLO),
    "query": (sized(start=b"POST /invocations?a=b/../c HTTP/1.1"), HELLO),
    "absolute-form": (sized(start=b"POST http://m/invocations HTTP/1.1"), WRONG_PATH),
    "absolute-form-other-host": (sized(start=b"POST http://other/invocations HTTP/1.1"), WRONG_PATH),
    "authority-form": (sized(start=b"POST m:80 HTTP/1.1"), WRONG_PATH),
    "connect": (post(start=b"CONNECT m:80 HTTP/1.1"), WRONG_PATH),
    "asterisk-form": (sized(start=b"POST * HTTP/1.1"), WRONG_PATH),
    "options-asterisk": (post(start=b"OPTIONS * HTTP/1.1"), WRONG_PATH),
    "no-slash": (sized(start=b"POST invocations HTTP/1.1"), WRONG_PATH),
    "two-slashes": (sized(start=b"POST //invocations HTTP/1.1"), WRONG_PATH),
    "backslash": (sized(start=b"POST \\invocations HTTP/1.1"), WRONG_PATH),
    "dots": (sized(start=b"POST /x/../invocations HTTP/1.1"), WRONG_PATH),
    "dot": (sized(start=b"POST /./invocations HTTP/1.1"), WRONG_PATH),
    "encoded-letter": (sized(start=b"POST /%69nvocations HTTP/1.1"), WRONG_PATH),
    "encoded-nul": (sized(start=b"POST /invocations%00 HTTP/1.1"), WRONG_PATH),
    "encoded-line-end": (sized(start=b"POST /invocations%0d%0a HTTP/1.1"), WRONG_PATH),
    "path-parameter": (sized(start=b"POST /invocations;a=b HTTP/1.1"), WRONG_PATH),
    "fragment": (sized(start=b"POST /invocations#a HTTP/1.1"), WRONG_PATH),
    "path-in-capitals": (sized(start=b"POST /Invocations HTTP/1.1"), WRONG_PATH),
    "empty-path": (sized(start=b"POST  HTTP/1.1"), WRONG_PATH),
    "space-in-path": (sized(start=b"POST /invocations x HTTP/1.1"), BAD),
    "high-byte-in-path": (sized(start=b"POST /invocations\xff HTTP/1.1"), WRONG_PATH),
    "high-byte-in-query": (sized(start=b"POST /invocations?\xff HTTP/1.1"), BAD),
    "nul-in-path": (sized(start=b"POST /invocations\0 HTTP/1.1"), BAD),
    "nul-in-query": (sized(start=b"POST /invocations?\0 HTTP/1.1"), BAD),
    "tab-in-query": (sized(start=b"POST /invocations?a\tb HTTP/1.1"), BAD),
    "delete-in-query": (sized(start=b"POST /invocations?\x7f HTTP/1.1"), BAD),
    "bare-carriage-return-in-query": (sized(start=b"POST /invocations?\r HTTP/1.1"), BAD),
    "tabs-for-spaces": (sized(start=b"POST\t/invocations\tHTTP/1.1"), BAD),
    "space-before-method": (sized(start=b" POST /invocations HTTP/1.1"), BAD),
    "space-after-version": (sized(start=b"POST /invocations HTTP/1.1 "), BAD),
    "nothing-after-path": (sized(start=b"POST /invocations"), BAD | UNSERVED),
    "method-in-small-letters": (sized(start=b"post /invocations HTTP/1.1"), BAD),
    "method-mixed": (sized(start=b"Post /invocations HTTP/1.1"), BAD),
    "method-unknown": (sized(start=b"XPOST /invocations HTTP/1.1"), BAD | UNSERVED),
    "method-with-colon": (sized(start=b"POST: /invocations HTTP/1.1"), BAD),
    "get-with-body": (sized(start=b"GET /invocations HTTP/1.1"), WRONG_PATH),
    "http-0.9": (b"GET /ping\r\n\r\n", BAD | UNSERVED),
    "http-0.9-named": (sized(start=b"POST /invocations HTTP/0.9"), UNSERVED),
    "http-1.2": (sized(start=b"POST /invocations HTTP/1.2"), BAD | UNSERVED),
    "http-2.0": (sized(start=b"POST /invocations HTTP/2.0"), UNSERVED),
    "http-3": (sized(start=b"POST /invocations HTTP/3"), BAD | UNSERVED),
    "http-1": (sized(start=b"POST /invocations HTTP/1"), BAD),
    "http-1.10": (sized(start=b"POST /invocations HTTP/1.10"), BAD),
    "http-01.1": (sized(start=b"POST /invocations HTTP/01.1"), BAD),
    "http-1,1": (sized(start=b"POST /invocations HTTP/1,1"), BAD),
    "http-in-small-letters": (sized(start=b"POST /invocations http/1.1"), BAD),
    "http-with-space": (sized(start=b"POST /invocations HTTP /1.1"), BAD),
    "other-protocol": (sized(start=b"POST /invocations ICE/1.1"), BAD),
    # llhttp takes GET and POST for AirPlay's, and lets RTSP pass.
    "other-protocol-with-these-methods": (sized(start=b"POST /invocations RTSP/1.1"), BAD),
    "other-protocol-1.0": (sized(start=b"POST /invocations RTSP/1.0"), BAD),
    # RFC 9112, 3: one space. Some take the second word to be empty.
    "two-spaces-before-path": (sized(start=b"POST  /invocations HTTP/1.1"), BAD),
    "two-spaces-after-path": (sized(start=b"POST /invocations  HTTP/1.1"), BAD),
    "many-spaces": (sized(start=b"POST" + b" " * 1000 + b"/invocations HTTP/1.1"), BAD),
    "http-2-preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0", BAD | UNSERVED | WRONG_PATH),
    "tls-hello": (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + b"\0" * 32, BAD),
    "line-feed-only": (sized().replace(b"\r\n", b"\n"), BAD),
    "line-feed-after-start-line": (sized().replace(b"\r\n", b"\n", 1), BAD),
    "carriage-return-only": (sized().replace(b"\r\n", b"\r", 1), BAD),
    "two-carriage-returns": (sized().replace(b"\r\n", b"\r\r\n", 1), BAD),
    "space-before-first-header": (sized().replace(b"Host", b" Host"), BAD),
    # RFC 9112, 2.2: one empty line (CRLF) before a request line is to be skipped, and nothing else has to be.
    "empty-line-before": (b"\r\n" + sized(), HELLO),
    "two-empty-lines-before": (b"\r\n\r\n" + sized(), BAD),
    "line-feed-before": (b"\n" + sized(), BAD),
    "carriage-return-before": (b"\r" + sized(), BAD),
    "line-ends-before": (b"\n\r\r\n\n" + sized(), BAD),
    "proxy-protocol": (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n" + sized(), BAD),
}

HEADERS: dict[str, tuple[bytes, frozenset[int] | Forwarded]] = {
    "no-space-after-colon": (sized(b"Accept:a/b"), Forwarded(b"hello", {b"accept": b"a/b"})),
    "tab-after-colon": (sized(b"Accept:\ta/b"), Forwarded(b"hello", {b"accept": b"a/b"})),
    "space-before-colon": (sized(b"X-A : b"), BAD),
    "tab-before-colon": (sized(b"X-A\t: b"), BAD),
    "space-in-name": (sized(b"X A: b"), BAD),
    "no-colon": (sized(b"X-A"), BAD),
    "empty-name": (sized(b": b"), BAD),
    "folded": (sized(b"X-A: b\r\n c"), BAD),
    "folded-by-tab": (sized(b"X-A: b\r\n\tc"), BAD),
    "folded-framing": (post(b"X-A: b\r\n Content-Length: 5", body=b"hello"), BAD),
    "folded-empty": (sized(b"X-A:\r\n b"), BAD),
    "nul-in-name": (sized(b"X\0A: b"), BAD),
    "nul-in-value": (sized(b"X-A: b\0c"), BAD),
    "high-byte-in-name": (sized(b"X\xc3\xa4: b"), BAD),
    "high-byte-in-value-of-no-interest": (sized(b"X-A: \xff"), HELLO),
    "high-byte-in-content-type": (sized(b"Content-Type: a/b\xff"), BAD),
    "parenthesis-in-name": (sized(b"X(A): b"), BAD),
    "bare-carriage-return-in-value": (sized(b"X-A: b\rX-B: c"), BAD),
    "bare-line-feed-in-value": (sized(b"X-A: b\nX-B: c"), BAD),
    "two-carriage-returns-after-value": (sized(b"X-A: b\r"), BAD),
    "line-feed-before-body": (sized().replace(b"\r\n\r\n", b"\r\n\n"), BAD),
    "carriage-return-before-body": (sized().replace(b"\r\n\r\n", b"\r\n\r"), BAD),
    "vertical-tab-in-value": (sized(b"X-A: b\x0bc"), BAD),
    "form-feed-in-value": (sized(b"X-A: b\x0cc"), BAD),
    "delete-in-value": (sized(b"X-A: b\x7fc"), BAD),
    "escape-in-value": (sized(b"X-A: b\x1b[0m"), BAD),
    "content-type-twice": (sized(b"Content-Type: a/b", b"Content-Type: c/d"), BAD),
    "content-type-empty-then-full": (post(b"Content-Type:", b"Content-Length: 5", body=b"hello"), HELLO),
    "accept-twice": (sized(b"Accept: a/b", b"Accept: c/d"), BAD),
    "underscores-of-the-target": (sized(b"x_amzn_sagemaker_target_container_hostname: b"), HELLO),
    "underscores-of-content-type": (sized(b"Content_Type: a/b"), HELLO),
    "unknown-header-is-dropped": (sized(b"X-Forwarded-For: 1.2.3.4", b"Cookie: a=b"), HELLO),
    "hop-by-hop-is-dropped": (sized(b"Keep-Alive: timeout=5", b"TE: trailers", b"Trailer: a"), HELLO),
    "too-many-bytes": (sized(b"X-A: " + b"a" * 40_000), frozenset({431})),
    "too-many-headers": (sized(*[b"X-A%d: b" % number for number in range(4000)]), frozenset({431})),
    "endless-name": (sized(b"X" * 40_000 + b": b"), frozenset({431})),
    "endless-path": (sized(start=b"POST /" + b"a" * 40_000 + b" HTTP/1.1"), frozenset({400, 404, 414, 431})),
}

HOST: dict[str, tuple[bytes, frozenset[int] | Forwarded]] = {
    "missing": (sized(host=b""), BAD),
    "missing-in-1.0": (sized(start=b"POST /invocations HTTP/1.0", host=b""), HELLO),
    "empty": (sized(host=b"Host:"), HELLO),
    "twice": (sized(b"Host: m"), BAD),
    "twice-different": (sized(b"Host: other"), BAD),
    "twice-other-case": (sized(b"HOST: m"), BAD),
    "list": (sized(host=b"Host: m, other"), BAD),
    "userinfo": (sized(host=b"Host: user@m"), BAD),
    "space": (sized(host=b"Host: m other"), BAD),
    "path": (sized(host=b"Host: m/invocations"), BAD),
    "query": (sized(host=b"Host: m?a"), BAD),
    "fragment": (sized(host=b"Host: m#a"), BAD),
    "scheme": (sized(host=b"Host: http://m"), BAD),
    "percent": (sized(host=b"Host: m%00"), BAD),
    "high-byte": (sized(host=b"Host: m\xff"), BAD),
    "tab": (sized(host=b"Host: m\tother"), BAD),
    "quote": (sized(host=b'Host: "m"'), BAD),
    "port": (sized(host=b"Host: m:80"), HELLO),
    "address": (sized(host=b"Host: [::1]:80"), HELLO),
}

LENGTH: dict[str, tuple[bytes, frozenset[int] | Forwarded]] = {
    "none": (post(), EMPTY),
    "zero": (post(b"Content-Length: 0"), EMPTY),
    "leading-zeros": (post(b"Content-Length: 0005", body=b"hello"), HELLO),
    "plus": (post(b"Content-Length: +5", body=b"hello"), BAD),
    "minus": (post(b"Content-Length: -5", body=b"hello"), BAD),
    "minus-zero": (post(b"Content-Length: -0"), BAD),
    "hexadecimal": (post(b"Content-Length: 0x5", body=b"hello"), BAD),
    "fraction": (post(b"Content-Length: 5.0", body=b"hello"), BAD),
    "exponent": (post(b"Content-Length: 5e0", body=b"hello"), BAD),
    "underscore": (post(b"Content-Length: 1_0", body=b"0123456789"), BAD),
    "list": (post(b"Content-Length: 5, 5", body=b"hello"), BAD),
    "list-different": (post(b"Content-Length: 5, 6", body=b"hello"), BAD),
    "list-trailing-comma": (post(b"Content-Length: 5,", body=b"hello"), BAD),
    "two-numbers": (post(b"Content-Length: 5 5", body=b"hello"), BAD),
    "empty": (post(b"Content-Length:", body=b"hello"), BAD),
    "blank": (post(b"Content-Length:  ", body=b"hello"), BAD),
    "quoted": (post(b'Content-Length: "5"', body=b"hello"), BAD),
    "semicolon": (post(b"Content-Length: 5;a", body=b"hello"), BAD),
    "trailing-nul": (post(b"Content-Length: 5\0", body=b"hello"), BAD),
    "trailing-vertical-tab": (post(b"Content-Length: 5\x0b", body=b"hello"), BAD),
    "no-break-space": (post(b"Content-Length: \xa05", body=b"hello"), BAD),
    "other-digits": (post(b"Content-Length: \xd9\xa5", body=b"hello"), BAD),
    "twice": (post(b"Content-Length: 5", b"Content-Length: 5", body=b"hello"), BAD),
    "twice-different": (post(b"Content-Length: 5", b"Content-Length: 6", body=b"hello!"), BAD),
    "twice-other-case": (post(b"Content-Length: 5", b"content-length: 0", body=b"hello"), BAD),
    "space-before-colon": (post(b"Content-Length : 5", body=b"hello"), BAD),
    "overflow-32": (post(b"Content-Length: 4294967301", body=b"hello"), frozenset({413})),
    "overflow-63": (post(b"Content-Length: 9223372036854775813", body=b"hello"), frozenset({400, 413})),
    "overflow-64": (post(b"Content-Length: 18446744073709551621", body=b"hello"), frozenset({400, 413})),
    "overflow-digits": (post(b"Content-Length: " + b"0" * 400 + b"5", body=b"hello"), frozenset({400, 413})),
    "too-large": (post(b"Content-Length: 6291457", body=b"hello"), frozenset({413})),
    "and-chunked": (post(b"Content-Length: 5", CHUNKED, body=b"0\r\n\r\n" + HIDDEN), BAD),
    "chunked-and": (post(CHUNKED, b"Content-Length: 5", body=b"0\r\n\r\n" + HIDDEN), BAD),
    "zero-and-chunked": (post(b"Content-Length: 0", CHUNKED, body=b"5\r\nhello\r\n0\r\n\r\n"), BAD),
    "with-underscore": (post(b"Content_Length: 5", b"Content-Length: 0"), EMPTY),
}

CODING: dict[str, tuple[bytes, frozenset[int] | Forwarded]] = {
    "chunked": (chunked(b"5\r\nhello\r\n0\r\n\r\n"), HELLO),
    "other-case": (post(b"Transfer-Encoding: cHuNkEd", body=b"5\r\nhello\r\n0\r\n\r\n"), HELLO),
    "twice-in-one": (post(b"Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n"), BAD | UNSERVED),
    "twice": (post(CHUNKED, CHUNKED, body=b"0\r\n\r\n"), BAD | UNSERVED),
    "then-identity": (post(CHUNKED, b"Transfer-Encoding: identity", body=b"0\r\n\r\n"), BAD | UNSERVED),
    "identity": (post(b"Transfer-Encoding: identity", body=b""), BAD | UNSERVED),
    "identity-and-length": (post(b"Transfer-Encoding: identity", b"Content-Length: 5", body=b"hello"), BAD | UNSERVED),
    "gzip": (post(b"Transfer-Encoding: gzip", body=b""), BAD | UNSERVED),
    "gzip-then-chunked": (post(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"), BAD | UNSERVED),
    "chunked-then-gzip": (post(b"Transfer-Encoding: chunked, gzip", body=b"0\r\n\r\n"), BAD | UNSERVED),
    "prefixed": (post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n"), BAD | UNSERVED),
    "suffixed": (post(b"Transfer-Encoding: chunkedx", body=b"0\r\n\r\n"), BAD | UNSERVED),
    "cow": (post(b"Transfer-Encoding: cow", body=b"0\r\n\r\n"), BAD | UNSERVED),
    "empty": (post(b"Transfer-Encoding:", body=b"0\r\n\r\n"), BAD | UNSERVED),
    "empty-and-length": (post(b"Transfer-Encoding:", b"Content-Length: 5", body=b"hello"), BAD | UNSERVED),
    "quoted": (post(b'Transfer-Encoding: "chunked"', body=b"0\r\n\r\n"), BAD | UNSERVED),
    "parameter": (post(b"Transfer-Encoding: chunked;a=b", body=b"0\r\n\r\n"), BAD | UNSERVED),
    "leading-comma": (post(b"Transfer-Encoding: , chunked", body=b"0\r\n\r\n"), BAD | UNSERVED),
    "trailing-comma": (post(b"Transfer-Encoding: chunked,", body=b"0\r\n\r\n"), BAD | UNSERVED),
    "trailing-space": (post(b"Transfer-Encoding: chunked ", body=b"0\r\n\r\n"), BAD | UNSERVED),
    "leading-vertical-tab": (post(b"Transfer-Encoding:\x0bchunked", body=b"0\r\n\r\n"), BAD | UNSERVED),
    "trailing-vertical-tab": (post(b"Transfer-Encoding: chunked\x0b", body=b"0\r\n\r\n"), BAD | UNSERVED),
    "trailing-nul": (post(b"Transfer-Encoding: chunked\0", body=b"0\r\n\r\n"), BAD | UNSERVED),
    "high-byte": (post(b"Transfer-Encoding: chun\xc4\xb7ed", body=b"0\r\n\r\n"), BAD | UNSERVED),
    "folded": (post(b"Transfer-Encoding:\r\n chunked", body=b"0\r\n\r\n"), BAD | UNSERVED),
    "space-before-colon": (post(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n"), BAD | UNSERVED),
    "with-underscore": (post(b"Transfer_Encoding: chunked", b"Content-Length: 5", body=b"hello"), HELLO),
    "in-http-1.0": (post(CHUNKED, start=b"POST /invocations HTTP/1.0", body=b"0\r\n\r\n"), BAD | UNSERVED),
}

CHUNKS: dict[str, tuple[bytes, frozenset[int] | Forwarded]] = {
    "extension": (chunked(b"5;a=b\r\nhello\r\n0\r\n\r\n"), HELLO),
    "extension-quoted": (chunked(b'5;a="b;c"\r\nhello\r\n0\r\n\r\n'), HELLO),
    "leading-zeros": (chunked(b"0005\r\nhello\r\n0\r\n\r\n"), HELLO),
    "last-of-many-zeros": (chunked(b"5\r\nhello\r\n0000\r\n\r\n"), HELLO),
    "trailer": (chunked(b"5\r\nhello\r\n0\r\nX-A: b\r\n\r\n"), HELLO),
    "trailer-target": (chunked(b"5\r\nhello\r\n0\r\n" + TARGET + b"x\r\n\r\n"), HELLO),
    "trailer-host": (chunked(b"5\r\nhello\r\n0\r\nHost: other\r\n\r\n"), HELLO),
    "trailer-content-length": (chunked(b"5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n"), BAD),
    "trailer-without-colon": (chunked(b"5\r\nhello\r\n0\r\nX-A\r\n\r\n"), BAD),
    "trailer-folded": (chunked(b"5\r\nhello\r\n0\r\nX-A: b\r\n c\r\n\r\n"), BAD),
    "trailer-line-feed": (chunked(b"5\r\nhello\r\n0\r\nX-A: b\n\r\n"), BAD),
    "hexadecimal-prefix": (chunked(b"0x5\r\nhello\r\n0\r\n\r\n"), BAD),
    "minus": (chunked(b"-5\r\nhello\r\n0\r\n\r\n"), BAD),
    "plus": (chunked(b"+5\r\nhello\r\n0\r\n\r\n"), BAD),
    "underscore": (chunked(b"0_5\r\nhello\r\n0\r\n\r\n"), BAD),
    "no-size": (chunked(b"\r\nhello\r\n0\r\n\r\n"), BAD),
    "extension-without-size": (chunked(b";a=b\r\nhello\r\n0\r\n\r\n"), BAD),
    "space-before-size": (chunked(b" 5\r\nhello\r\n0\r\n\r\n"), BAD),
    "space-after-size": (chunked(b"5 \r\nhello\r\n0\r\n\r\n"), BAD),
    "tab-after-size": (chunked(b"5\t\r\nhello\r\n0\r\n\r\n"), BAD),
    "nul-after-size": (chunked(b"5\0\r\nhello\r\n0\r\n\r\n"), BAD),
    "letters-after-size": (chunked(b"5xyz\r\nhello\r\n0\r\n\r\n"), BAD),
    "comma-after-size": (chunked(b"5,5\r\nhello\r\n0\r\n\r\n"), BAD),
    "line-feed-after-size": (chunked(b"5\nhello\r\n0\r\n\r\n"), BAD),
    "carriage-return-after-size": (chunked(b"5\rhello\r\n0\r\n\r\n"), BAD),
    "line-feed-in-extension": (chunked(b"5;a=\nb\r\nhello\r\n0\r\n\r\n"), BAD),
    "carriage-return-in-extension": (chunked(b"5;a=\rb\r\nhello\r\n0\r\n\r\n"), BAD),
    "nul-in-extension": (chunked(b"5;\0\r\nhello\r\n0\r\n\r\n"), BAD),
    "line-feed-in-quoted-extension": (chunked(b'5;a="\nb"\r\nhello\r\n0\r\n\r\n'), BAD),
    "extension-of-1-mib": (chunked(b"5;" + b"a" * 1_048_576 + b"\r\nhello\r\n0\r\n\r\n"), BAD),
    "more-than-came": (chunked(b"6\r\nhello"), WAITS),
    "overflow-64": (chunked(b"10000000000000005\r\nhello\r\n0\r\n\r\n"), BAD),
    "overflow-32": (chunked(b"100000005\r\nhello\r\n0\r\n\r\n"), WAITS),
    "largest": (chunked(b"ffffffffffffffff\r\nhello\r\n0\r\n\r\n"), WAITS),
    "no-line-end-after-data": (chunked(b"5\r\nhello0\r\n\r\n"), BAD),
    "line-feed-after-data": (chunked(b"5\r\nhello\n0\r\n\r\n"), BAD),
    "carriage-return-after-data": (chunked(b"5\r\nhello\r0\r\n\r\n"), BAD),
    "other-bytes-after-data": (chunked(b"5\r\nhelloXX0\r\n\r\n"), BAD),
    "line-feed-at-the-end": (chunked(b"5\r\nhello\r\n0\r\n\n"), BAD),
    "carriage-return-at-the-end": (chunked(b"5\r\nhello\r\n0\r\n\rX"), BAD),
    "longer-than-its-size": (chunked(b"4\r\nhello\r\n0\r\n\r\n"), BAD),
    "shorter-than-its-size": (chunked(b"6\r\nhello\r\n0\r\n\r\n"), BAD),
    "empty-line-between": (chunked(b"5\r\nhello\r\n\r\n0\r\n\r\n"), BAD),
}

EXPECTATION: dict[str, tuple[bytes, frozenset[int] | Forwarded]] = {
    "continue": (sized(b"Expect: 100-continue"), HELLO),
    "continue-other-case": (sized(b"Expect: 100-Continue"), HELLO),
    "continue-in-1.0": (sized(b"Expect: 100-continue", start=b"POST /invocations HTTP/1.0"), HELLO),
    "unknown": (sized(b"Expect: 200-ok"), frozenset({400, 417, 501})),
    "empty": (sized(b"Expect:"), frozenset({400, 417, 501})),
    "list": (sized(b"Expect: 100-continue, x"), frozenset({400, 417, 501})),
    "twice": (sized(b"Expect: 100-continue", b"Expect: 100-continue"), frozenset({400, 417, 501})),
    "prefixed": (sized(b"Expect: x100-continue"), frozenset({400, 417, 501})),
    "trailing-vertical-tab": (sized(b"Expect: 100-continue\x0b"), frozenset({400, 417, 501})),
}

CONNECTION: dict[str, tuple[bytes, frozenset[int] | Forwarded]] = {
    "close": (sized(b"Connection: close"), HELLO),
    "upgrade-websocket": (sized(b"Connection: Upgrade", b"Upgrade: websocket"), UNSERVED),
    "upgrade-h2c": (sized(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AA"), UNSERVED),
    "upgrade-not-nominated": (sized(b"Upgrade: h2c"), HELLO),
    "nominates-nothing-there": (sized(b"Connection: upgrade"), HELLO),
    "nominates-a-custom-header": (sized(b"Connection: x-a", b"X-A: b"), HELLO),
    # RFC 9110, 7.6.1: who reads this removes the header that is named, so the next one sees another message.
    "nominates-length": (sized(b"Connection: content-length"), BAD),
    "nominates-coding": (sized(b"Connection: close, Transfer-Encoding"), BAD),
    "nominates-host": (sized(b"Connection: host"), BAD),
    "nominates-target": (sized(b"Connection: " + caller.TARGET.encode()), BAD),
    "proxy-connection": (sized(b"Proxy-Connection: keep-alive"), HELLO),
}

TARGETS: dict[str, tuple[bytes, frozenset[int] | Forwarded]] = {
    "high-byte-inside": (sized(target=TARGET + b"\xff"), BAD),
    "latin-1-space": (sized(target=TARGET + b"\xa0"), BAD),
    "leading-high-byte": (sized(target=TARGET[:-1] + b"\xeda"), BAD),
    "surrogates-as-utf-8": (sized(target=TARGET + b"\xed\xa0\x80\xed\xb0\x80"), BAD),
    "overlong-utf-8": (sized(target=TARGET[:-1] + b"\xc1\xa1"), BAD),
    "full-width-letter": (sized(target=TARGET[:-1] + b"\xef\xbd\x81"), BAD),
    "trailing-space": (sized(target=TARGET + b" "), BAD),
    "trailing-tab": (sized(target=TARGET + b"\t"), BAD),
    "leading-spaces": (sized(target=TARGET[:-1] + b"  a"), HELLO),
    "nul": (sized(target=TARGET + b"\0"), BAD),
    "list": (sized(target=TARGET + b", a"), BAD),
    "comma": (sized(target=TARGET + b","), BAD),
    "empty": (sized(target=TARGET[:-1]), BAD),
    "quoted": (sized(target=TARGET[:-1] + b'"a"'), BAD),
    "percent": (sized(target=TARGET[:-1] + b"%61"), BAD),
    "parameter": (sized(target=TARGET + b";a"), BAD),
    "underscore": (sized(target=TARGET + b"_"), BAD),
    "dot": (sized(target=TARGET + b".b"), BAD),
    "64-characters": (sized(target=TARGET[:-1] + b"a" * 64), BAD),
    "twice": (sized(TARGET), BAD),
    "twice-different": (sized(TARGET + b"b"), BAD),
    "twice-other-case": (sized(TARGET.lower()), BAD),
    "name-in-capitals": (sized(target=TARGET[:-1].upper() + b"a"), HELLO),
    "model-of-a-multi-model-endpoint": (sized(b"X-Amzn-SageMaker-Target-Model: m.tar.gz"), BAD),
}

TABLES = {
    "start-line": START_LINE,
    "header": HEADERS,
    "host": HOST,
    "length": LENGTH,
    "coding": CODING,
    "chunk": CHUNKS,
    "expect": EXPECTATION,
    "connection": CONNECTION,
    "target": TARGETS,
}
ROWS = [
    pytest.param(data, wanted, id=f"{table}-{name}")
    for table, rows in TABLES.items()
    for name, (data, wanted) in rows.items()
]


@dataclass(frozen=True)
class Bench:
    """A router and the one container behind it."""

    router: processes.Router
    container: Recorder


def _answer(message: Message) -> list[Step]:
    """A row's steps for a request that names one, a good answer for any other."""
    return REPLIES[message.body.decode()][0] if message.body.decode() in REPLIES else [ok(marked(message.body))]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with ExitStack() as stack:
        container = stack.enter_context(recorder(_answer))
        table = processes.table("Direct", {"a": container.port})
        table["targets"][0]["invocationTimeoutSeconds"] = 8.0
        router = processes.router(tmp_path_factory.mktemp("router"), table, "--reply-idle-seconds", "4")
        yield Bench(stack.enter_context(router), container)


def exchanged(connection: socket.socket, data: bytes) -> tuple[bytes, bool]:
    """Everything that the router says to `data`, until it closes or says no more; whether it closed."""
    received = b""
    connection.settimeout(10 if data else 0.2)
    connection.sendall(data)
    try:
        while piece := connection.recv(65536):
            received += piece
            so_far = judge.replies(received, closed=False)
            # An interim one alone is no answer yet; after one that says so, the end must come.
            if so_far.end == "clean" and so_far.messages and not so_far.says_close:
                connection.settimeout(0.04)  # a second answer would come at once
    except TimeoutError:
        return received, False
    except ConnectionResetError:
        pass
    return received, True


@pytest.mark.parametrize(("data", "wanted"), ROWS)
def test_what_could_be_read_in_two_ways_goes_no_further(
    bench: Bench, data: bytes, wanted: frozenset[int] | Forwarded
) -> None:
    before, whole = bench.container.received, len(bench.container.whole)
    with socket.create_connection(("127.0.0.1", bench.router.port)) as connection:
        if wanted == WAITS:
            connection.sendall(data)
            data = b""
        received, closed = exchanged(connection, data)
    answers = judge.replies(received, closed=closed).messages
    if isinstance(wanted, Forwarded):
        assert [answer.status for answer in answers] == [200], received
        (got,) = bench.container.whole[whole:]
        assert got.body == wanted.body
        known = {b"host", b"content-length", b"transfer-encoding"}
        assert {name: value for name, value in got.headers if name not in known} == wanted.lines
    elif wanted:
        assert [answer.status for answer in answers if answer.status in wanted] == [answers[0].status], received
        assert answers[0].values(b"connection") == [b"close"]
        assert closed
        assert bench.container.received == before or len(data) > _ONE_READ
    else:
        assert (received, closed) == (b"", False)
    if not isinstance(wanted, Forwarded):
        assert len(bench.container.whole) == whole
    assert caller.post(bench.router.port, b"next", target="a").body == marked(b"next")
    assert not bench.container.faults


LATER = {
    "line-feed-before": b"\n" + sized(),
    "carriage-return-before": b"\r" + sized(),
    "other-protocol": sized(start=b"POST /invocations RTSP/1.1"),
    "two-spaces": sized(start=b"POST  /invocations HTTP/1.1"),
}


@pytest.mark.parametrize("later", LATER.values(), ids=LATER)
def test_a_request_that_comes_in_one_piece_with_another_is_read_as_strictly(bench: Bench, later: bytes) -> None:
    whole = len(bench.container.whole)
    # The first one's body has what the second should have begun with.
    received = caller.raw(bench.router.port, sized(body=b"POST /invocations HTTP/1.1\r\n") + later)
    assert [answer.status for answer in judge.replies(received, closed=True).messages] == [200, 400]
    assert len(bench.container.whole) == whole + 1


@pytest.mark.parametrize("later", ["other-protocol", "two-spaces"])
def test_behind_a_chunked_request_too_another_must_begin_as_one_does(bench: Bench, later: str) -> None:
    whole = len(bench.container.whole)
    received = caller.raw(bench.router.port, chunked(b"5\r\nhello\r\n0\r\n\r\n") + LATER[later])
    assert [answer.status for answer in judge.replies(received, closed=True).messages] == [200, 400]
    assert len(bench.container.whole) == whole + 1


_ONE_READ = 65536
"""What is larger comes in several reads; the first ones may be on their way before the fault is seen."""
_REPLY = b"HTTP/1.1 200 OK\r\n"
_SIZED = _REPLY + b"content-length: 5\r\n\r\nhello"
_CHUNKED = _REPLY + b"transfer-encoding: chunked\r\n\r\n"


def reply(*lines: bytes, body: bytes = b"hello", start: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return b"\r\n".join([start, *lines, b"", body])


def sized_reply(*lines: bytes, start: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return reply(b"content-length: 5", *lines, start=start)


@dataclass(frozen=True)
class Answer:
    """The caller gets this, whole."""

    body: bytes = b"hello"


@dataclass(frozen=True)
class Cut:
    """The caller gets at most the start of an answer, and sees that it is not whole."""


MODEL_ERROR = 424
REPLIES: dict[str, tuple[list[Step], Answer | Cut | int]] = {
    # where a body ends
    "sized": ([_SIZED], Answer()),
    "chunked": ([_CHUNKED + b"5;a=b\r\nhello\r\n0\r\nx-t: y\r\n\r\n"], Answer()),
    "until-close": ([reply(), Do.CLOSE], Answer()),
    "until-reset": ([reply(), 0.2, Do.RESET], Cut()),
    "length-twice": ([sized_reply(b"content-length: 5")], MODEL_ERROR),
    "length-twice-different": ([sized_reply(b"content-length: 4")], MODEL_ERROR),
    "length-and-chunked": ([sized_reply(b"transfer-encoding: chunked")], MODEL_ERROR),
    "chunked-and-length": (
        [reply(b"transfer-encoding: chunked", b"content-length: 5", body=b"5\r\nhello\r\n0\r\n\r\n")],
        MODEL_ERROR,
    ),
    "length-list": ([reply(b"content-length: 5, 5")], MODEL_ERROR),
    "length-plus": ([reply(b"content-length: +5")], MODEL_ERROR),
    "length-minus": ([reply(b"content-length: -5")], MODEL_ERROR),
    "length-hexadecimal": ([reply(b"content-length: 0x5")], MODEL_ERROR),
    "length-empty": ([reply(b"content-length:")], MODEL_ERROR),
    "length-overflow": ([reply(b"content-length: 18446744073709551621")], MODEL_ERROR),
    "length-of-2-to-the-64": ([reply(b"content-length: 18446744073709551615")], MODEL_ERROR),
    # A request's length has at most 15 digits; longer numbers overflow in somebody's parser.
    "length-of-many-digits": ([reply(b"content-length: " + b"0" * 20 + b"5")], MODEL_ERROR),
    "length-space-before-colon": ([reply(b"content-length : 5")], MODEL_ERROR),
    "coding-gzip": ([reply(b"transfer-encoding: gzip"), Do.CLOSE], MODEL_ERROR),
    "coding-gzip-chunked": ([reply(b"transfer-encoding: gzip, chunked", body=b"0\r\n\r\n")], MODEL_ERROR),
    "coding-identity": ([reply(b"transfer-encoding: identity"), Do.CLOSE], MODEL_ERROR),
    "coding-twice": ([reply(b"transfer-encoding: chunked, chunked", body=b"0\r\n\r\n")], MODEL_ERROR),
    "coding-two-lines": (
        [reply(b"transfer-encoding: chunked", b"transfer-encoding: chunked", body=b"0\r\n\r\n")],
        MODEL_ERROR,
    ),
    "coding-prefixed": ([reply(b"transfer-encoding: xchunked", body=b"0\r\n\r\n")], MODEL_ERROR),
    "chunked-in-http-1.0": ([_CHUNKED.replace(b"1.1", b"1.0") + b"5\r\nhello\r\n0\r\n\r\n"], MODEL_ERROR),
    # chunks
    "chunk-line-feed": ([_CHUNKED + b"5\nhello\r\n0\r\n\r\n"], Cut()),
    "chunk-hexadecimal-prefix": ([_CHUNKED + b"0x5\r\nhello\r\n0\r\n\r\n"], Cut()),
    "chunk-minus": ([_CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n"], Cut()),
    "chunk-space-after-size": ([_CHUNKED + b"5 \r\nhello\r\n0\r\n\r\n"], Cut()),
    "chunk-no-size": ([_CHUNKED + b"\r\nhello\r\n0\r\n\r\n"], Cut()),
    "chunk-longer-than-its-size": ([_CHUNKED + b"4\r\nhello\r\n0\r\n\r\n"], Cut()),
    "chunk-shorter-than-its-size": ([_CHUNKED + b"6\r\nhello\r\n0\r\n\r\n"], Cut()),
    "chunk-overflow": ([_CHUNKED + b"10000000000000005\r\nhello\r\n0\r\n\r\n"], Cut()),
    "chunk-second-bad": ([_CHUNKED + b"5\r\nhello\r\nXX\r\n"], Cut()),
    "chunk-end-missing": ([_CHUNKED + b"5\r\nhello\r\n", Do.CLOSE], Cut()),
    "chunk-end-half": ([_CHUNKED + b"5\r\nhello\r\n0\r\n", Do.CLOSE], Cut()),
    "chunk-end-missing-late": ([_CHUNKED + b"5\r\nhello\r\n", 0.2, Do.CLOSE], Cut()),
    "chunk-trailer-bad": ([_CHUNKED + b"5\r\nhello\r\n0\r\nx y\r\n\r\n"], Cut()),
    # cut short
    "nothing": ([Do.CLOSE], MODEL_ERROR),
    "reset": ([Do.RESET], MODEL_ERROR),
    "half-a-status-line": ([b"HTTP/1.1 20", Do.CLOSE], MODEL_ERROR),
    "half-a-head": ([_REPLY + b"content-le", Do.CLOSE], MODEL_ERROR),
    "head-without-its-last-line-end": ([_REPLY + b"content-length: 0\r\n", Do.CLOSE], MODEL_ERROR),
    "interim-only": ([b"HTTP/1.1 100 Continue\r\n\r\n", Do.CLOSE], MODEL_ERROR),
    "body-too-short": ([_REPLY + b"content-length: 6\r\n\r\nhello", Do.CLOSE], Cut()),
    "body-too-short-late": ([_REPLY + b"content-length: 6\r\n\r\nhello", 0.2, Do.CLOSE], Cut()),
    "body-too-short-reset": ([_REPLY + b"content-length: 6\r\n\r\nhello", 0.2, Do.RESET], Cut()),
    "body-never-comes": ([_REPLY + b"content-length: 6\r\n\r\n", Do.READ], Cut()),
    "body-never-ends": ([_REPLY + b"content-length: 6\r\n\r\nhello", Do.READ], Cut()),
    # more than asked for
    "bytes-after-body": ([_SIZED + b"junk"], Answer()),
    "reply-after-reply": ([_SIZED + _SIZED.replace(b"hello", b"wrong")], Answer()),
    "reply-after-reply-late": ([_SIZED, 0.02, _SIZED.replace(b"hello", b"wrong")], Answer()),
    "bytes-after-body-late": ([_SIZED, 0.02, b"junk"], Answer()),
    "line-end-after-body": ([_SIZED + b"\r\n"], Answer()),
    "line-end-after-body-late": ([_SIZED, 0.02, b"\r\n"], Answer()),
    "bytes-after-last-chunk": ([_CHUNKED + b"5\r\nhello\r\n0\r\n\r\njunk"], Answer()),
    "interim-after-body": ([_SIZED + b"HTTP/1.1 100 Continue\r\n\r\n"], Answer()),
    "bytes-after-close": ([sized_reply(b"connection: close") + b"junk"], Answer()),
    "reply-then-close": ([_SIZED, Do.CLOSE], Answer()),
    "reply-then-reset": ([_SIZED, 0.02, Do.RESET], Answer()),
    "keep-alive-then-close": ([sized_reply(b"connection: keep-alive"), Do.CLOSE], Answer()),
    # status lines
    "no-reason": ([sized_reply(start=b"HTTP/1.1 200 ")], Answer()),
    "no-status": ([sized_reply(start=b"HTTP/1.1")], MODEL_ERROR),
    "status-99": ([sized_reply(start=b"HTTP/1.1 99 X")], MODEL_ERROR),
    "status-000": ([sized_reply(start=b"HTTP/1.1 000 X")], MODEL_ERROR),
    "status-600": ([sized_reply(start=b"HTTP/1.1 600 X")], MODEL_ERROR),
    "status-999": ([sized_reply(start=b"HTTP/1.1 999 X")], MODEL_ERROR),
    "status-1000": ([sized_reply(start=b"HTTP/1.1 1000 X")], MODEL_ERROR),
    "status-0200": ([sized_reply(start=b"HTTP/1.1 0200 X")], MODEL_ERROR),
    "status-words": ([sized_reply(start=b"HTTP/1.1 OK")], MODEL_ERROR),
    "status-negative": ([sized_reply(start=b"HTTP/1.1 -200 OK")], MODEL_ERROR),
    "status-301": ([sized_reply(b"location: http://127.0.0.1/", start=b"HTTP/1.1 301 X")], MODEL_ERROR),
    "status-304": ([b"HTTP/1.1 304 Not Modified\r\n\r\n"], MODEL_ERROR),
    "status-304-with-length": ([b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n"], MODEL_ERROR),
    "status-400": ([sized_reply(start=b"HTTP/1.1 400 X")], MODEL_ERROR),
    "status-500": ([sized_reply(start=b"HTTP/1.1 500 X")], MODEL_ERROR),
    "status-204": ([b"HTTP/1.1 204 No Content\r\n\r\n"], Answer(b"")),
    "status-204-with-body": ([sized_reply(start=b"HTTP/1.1 204 No Content")], Answer(b"")),
    "status-204-with-chunks": (
        [_CHUNKED.replace(b"200 OK", b"204 X") + b"5\r\nhello\r\n0\r\n\r\n"],
        Answer(b""),
    ),
    "http-0.9": ([b"hello", Do.CLOSE], MODEL_ERROR),
    "http-1.0": ([sized_reply(start=b"HTTP/1.0 200 OK")], Answer()),
    "http-in-small-letters": ([sized_reply(start=b"http/1.1 200 OK")], MODEL_ERROR),
    "http-1.2": ([sized_reply(start=b"HTTP/1.2 200 OK")], MODEL_ERROR),
    "http-2.0": ([sized_reply(start=b"HTTP/2.0 200 OK")], MODEL_ERROR),
    "http-0.9-named": ([sized_reply(start=b"HTTP/0.9 200 OK")], MODEL_ERROR),
    "other-protocol": ([sized_reply(start=b"RTSP/1.1 200 OK")], MODEL_ERROR),
    "line-ends-before": ([b"\r\n\n\r" + _SIZED], MODEL_ERROR),
    "two-spaces-before-status": ([sized_reply(start=b"HTTP/1.1  200 OK")], MODEL_ERROR),
    "carriage-return-in-reason": ([sized_reply(start=b"HTTP/1.1 200 O\rK")], MODEL_ERROR),
    "request-as-reply": ([b"POST /invocations HTTP/1.1\r\ncontent-length: 0\r\n\r\n"], MODEL_ERROR),
    # interim heads and upgrades
    "interim-then-reply": ([b"HTTP/1.1 100 Continue\r\n\r\n" + _SIZED], Answer()),
    "interim-then-empty-line": ([b"HTTP/1.1 103 Early\r\nx: y\r\n\r\n\r\n" + _SIZED], MODEL_ERROR),
    "interim-then-nonsense": ([b"HTTP/1.1 103 Early\r\n\r\nSSH-2.0 x\r\n" + _SIZED], MODEL_ERROR),
    "interims-in-a-row": ([b"HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 100 C\r\n\r\n" + _SIZED], Answer()),
    "interim-with-type": ([b"HTTP/1.1 103 Early\r\ncontent-type: a/b\r\n\r\n" + _SIZED], Answer()),
    # RFC 9112, 6: an interim head has no framing headers; who heeds them reads the answer as its body.
    "interim-with-length": ([b"HTTP/1.1 103 Early\r\ncontent-length: 5\r\n\r\n" + _SIZED], MODEL_ERROR),
    "interim-with-coding": ([b"HTTP/1.1 103 Early\r\ntransfer-encoding: chunked\r\n\r\n" + _SIZED], MODEL_ERROR),
    "interim-flood": ([b"HTTP/1.1 100 Continue\r\n\r\n" * 100_000 + _SIZED], MODEL_ERROR),
    "switching-protocols": ([b"HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n"], MODEL_ERROR),
    "switching-protocols-plain": ([b"HTTP/1.1 101 X\r\n\r\n" + _SIZED], MODEL_ERROR),
    # heads
    "line-feeds-only": ([_SIZED.replace(b"\r\n", b"\n")], MODEL_ERROR),
    "line-feed-after-status": ([_SIZED.replace(b"\r\n", b"\n", 1)], MODEL_ERROR),
    "folded": ([sized_reply(b"content-type: a/b\r\n c")], MODEL_ERROR),
    "space-before-colon": ([sized_reply(b"content-type : a/b")], MODEL_ERROR),
    "empty-name": ([sized_reply(b": a")], MODEL_ERROR),
    "nul-in-value": ([sized_reply(b"content-type: a\0b")], MODEL_ERROR),
    "control-in-value": ([sized_reply(b"content-type: a\x01b")], MODEL_ERROR),
    "high-byte-in-content-type": ([sized_reply(b"content-type: a/b\xff")], MODEL_ERROR),
    "content-type-twice": ([sized_reply(b"content-type: a/b", b"content-type: text/html")], MODEL_ERROR),
    "attributes-twice": ([sized_reply(*[b"x-amzn-sagemaker-custom-attributes: a"] * 2)], MODEL_ERROR),
    "carriage-return-in-value": ([sized_reply(b"x-amzn-sagemaker-custom-attributes: a\rset-cookie: b")], MODEL_ERROR),
    "too-many-bytes": ([sized_reply(b"x: " + b"a" * 5000)], MODEL_ERROR),
    "too-many-headers": ([sized_reply(*[b"x%d: y" % number for number in range(2000)])], MODEL_ERROR),
    "endless-head": ([_REPLY, *[b"x: " + b"a" * 60_000 + b"\r\n"] * 40, _SIZED], MODEL_ERROR),
    "unknown-headers-are-dropped": ([sized_reply(b"set-cookie: a", b"server: b", b"location: c")], Answer()),
}


@pytest.mark.parametrize("name", REPLIES)
def test_a_reply_that_could_be_read_in_two_ways_is_never_taken_for_an_answer(bench: Bench, name: str) -> None:
    wanted = REPLIES[name][1]
    asked = len(bench.container.whole)
    with socket.create_connection(("127.0.0.1", bench.router.port)) as connection:
        received, closed = exchanged(connection, sized(body=name.encode()))
        reading = judge.replies(received, closed=closed)
        if isinstance(wanted, Answer):
            (answer,) = reading.whole
            assert (answer.status, answer.body) == (200, wanted.body), received
            assert {key for key, _ in answer.headers} <= ANSWER_HEADERS
        elif isinstance(wanted, Cut) and not reading.whole:
            assert closed
        else:
            (answer,) = reading.whole
            assert answer.status == MODEL_ERROR, received
            assert answer.values(b"x-amzn-errortype") == [b"ModelError"]
        assert len(bench.container.whole) == asked + 1  # one attempt
        if not closed:
            processes.wait_until("all is said", lambda: bench.container.said == asked + 1)
            time.sleep(0.02)
            received, closed = exchanged(connection, sized(body=b"next"))
            (answer,) = judge.replies(received, closed=closed).whole
            assert answer.body == marked(b"next"), received
    for number in range(3):
        body = b"%s %d" % (name.encode(), number)
        assert caller.post(bench.router.port, body, target="a").body == marked(body)


ANSWER_HEADERS = {
    b"x-amzn-invoked-production-variant",
    b"x-amzn-requestid",
    b"content-type",
    b"content-length",
    b"transfer-encoding",
    b"connection",
}
