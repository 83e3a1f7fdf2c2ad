"""How a container's good reply is written: with its length, in chunks, until close, or as events. Pure."""

from enum import Enum

from mce_api import wire
from mce_router import eventstream, headers
from mce_router.invocation import Invocation, Kind, ReplyHead


class Form(Enum):
    """What each piece of a body becomes."""

    PLAIN = "plain"
    CHUNKS = "chunks"
    EVENTS = "events"
    """Event-stream frames, each a chunk."""
    PLAIN_EVENTS = "plain events"
    """Event-stream frames for HTTP/1.0, which has no chunks."""


def form(invocation: Invocation, reply: ReplyHead) -> Form:
    """The form of the answer to `invocation`."""
    if invocation.kind is Kind.STREAM:
        return Form.PLAIN_EVENTS if invocation.http_1_0 else Form.EVENTS
    return Form.CHUNKS if reply.length < 0 and not invocation.http_1_0 else Form.PLAIN


def head(chosen: Form, reply: ReplyHead) -> bytes:
    """The header lines that `reply` gives the answer, besides those of every answer."""
    if chosen is Form.PLAIN:
        return reply.lines if reply.length >= 0 else reply.unframed
    if chosen is Form.CHUNKS:
        return reply.lines
    kind = headers.line(b"content-type", wire.EVENT_STREAM)
    theirs = headers.line(wire.STREAM_CONTENT_TYPE, reply.content_type) if reply.content_type else b""
    framing = b"transfer-encoding: chunked\r\n" if chosen is Form.EVENTS else b""
    return kind + theirs + reply.passed + framing


def piece(chosen: Form, data: bytes) -> bytes:
    """`data` as it goes on the wire."""
    if chosen is Form.PLAIN:
        return data
    if chosen is not Form.CHUNKS:
        data = eventstream.parts(data)
        if chosen is Form.PLAIN_EVENTS:
            return data
    return headers.chunk(data)


def end(chosen: Form) -> bytes:
    """What says that the body is whole."""
    return headers.LAST_CHUNK if chosen in (Form.CHUNKS, Form.EVENTS) else b""


def is_until_close(chosen: Form, reply: ReplyHead) -> bool:
    """Whether the end of the connection is the end of the body."""
    return chosen is Form.PLAIN_EVENTS or (chosen is Form.PLAIN and reply.length < 0)


def timing(steps: list[tuple[str, float]]) -> bytes:
    """A Server-Timing header line (W3C); names of containers are legal tokens.

    Args:
        steps: name of a container and the seconds that it took.
    """
    entries = ", ".join(f"{name};dur={seconds * 1000:.3f}" for name, seconds in steps)
    return headers.line(b"server-timing", entries.encode())
