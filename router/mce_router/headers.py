"""Which headers pass, in both directions, and how a head is written. Tables and pure functions.

Rule of the service (developer guide; botocore `InvokeEndpointInput`): a container gets the modelled headers only, a
caller gets the modelled reply headers only. W3C trace context is our one addition. So credentials, cookies and
hop-by-hop headers of a caller never reach a container.
"""

import re
from typing import Final

from mce_api import wire

MAX_LENGTHS: Final = {
    b"content-type": 1024,
    b"accept": 1024,
    wire.CUSTOM_ATTRIBUTES: 1024,
    wire.INFERENCE_ID: 64,
    wire.SESSION_ID: 256,
    wire.ENABLE_EXPLANATIONS: 64,
    wire.STREAM_ACCEPT: 1024,
}
"""Largest value in bytes (botocore `sagemaker-runtime`)."""

MEMBERS: Final = {
    b"content-type": "contentType",
    b"accept": "accept",
    wire.CUSTOM_ATTRIBUTES: "customAttributes",
    wire.INFERENCE_ID: "inferenceId",
    wire.SESSION_ID: "sessionId",
    wire.ENABLE_EXPLANATIONS: "enableExplanations",
    wire.TARGET_CONTAINER: "targetContainerHostname",
    wire.TARGET_VARIANT: "targetVariant",
    wire.STREAM_ACCEPT: "accept",
}
"""What the service calls each header in an error."""

LENGTH_DIGITS: Final = 15
"""Of a Content-Length, in either direction: a petabyte; longer numbers overflow in somebody's parser."""
LAST_CHUNK: Final = b"0\r\n\r\n"
VISIBLE: Final = re.compile(rb"[\x20-\x7e\t]*")
"""What a value may be made of that goes on, in either direction."""

REPLY_PASSED: Final = {
    wire.CUSTOM_ATTRIBUTES: b"X-Amzn-SageMaker-Custom-Attributes: ",
    b"x-amzn-sagemaker-new-session-id": b"X-Amzn-SageMaker-New-Session-Id: ",
    b"x-amzn-sagemaker-closed-session-id": b"X-Amzn-SageMaker-Closed-Session-Id: ",
}
"""Reply headers besides Content-Type that a caller gets, with the spelling it gets."""

_REASONS: Final = {
    200: b"OK",
    400: b"Bad Request",
    404: b"Not Found",
    405: b"Method Not Allowed",
    408: b"Request Timeout",
    413: b"Content Too Large",
    424: b"Failed Dependency",
    429: b"Too Many Requests",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    501: b"Not Implemented",
    503: b"Service Unavailable",
    505: b"HTTP Version Not Supported",
}


def line(name: bytes, value: bytes) -> bytes:
    """One header line."""
    return b"%b: %b\r\n" % (name, value)


def trace_lines(traceparent: bytes, tracestate: bytes) -> bytes:
    """The header lines of a W3C trace context; empty without a parent."""
    if not traceparent:
        return b""
    return line(b"traceparent", traceparent) + (line(b"tracestate", tracestate) if tracestate else b"")


def status_line(status: int) -> bytes:
    """Status line of a reply that we make."""
    return b"HTTP/1.1 %d %b\r\n" % (status, _REASONS.get(status, b"Error"))


def chunk(data: bytes) -> bytes:
    """`data`, which must not be empty, as one chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def framing(length: int) -> bytes:
    """The one header line that says where a body ends."""
    return b"content-length: %d\r\n" % length if length >= 0 else b"transfer-encoding: chunked\r\n"


def container_start(path: str, host: str, port: int) -> bytes:
    """What every request to a container begins with: the request line and the `host` line, each ended by CRLF."""
    return b"POST %b HTTP/1.1\r\nhost: %b:%d\r\n" % (path.encode(), host.encode(), port)


def container_request(start: bytes, head: bytes, length: int) -> bytes:
    """The whole head of a request to a container.

    Args:
        start: the container's `container_start`.
        head: other header lines, each ended by CRLF.
        length: bytes of body, or `invocation.CHUNKED`.
    """
    return b"%b%b%b\r\n" % (start, head, framing(length))
