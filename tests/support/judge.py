"""Independent readers of HTTP (h11, `http.client`) that judge what the router passes on and what it answers."""

import http.client
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import h11

PASSED: Final = (
    b"content-type",
    b"accept",
    b"x-amzn-sagemaker-custom-attributes",
    b"x-amzn-sagemaker-inference-id",
    b"x-amzn-sagemaker-session-id",
    b"x-amzn-sagemaker-enable-explanations",
    b"traceparent",
    b"tracestate",
)
"""Request headers that a container may get (developer guide; W3C trace context)."""
REFUSALS: Final = frozenset({400, 404, 405, 408, 413, 414, 415, 417, 426, 429, 431, 501, 505})
"""Statuses that say: this request went no further."""
_HEAD: Final = re.compile(
    rb"POST /invocations HTTP/1\.1\r\n"
    rb"host: 127\.0\.0\.1:[0-9]+\r\n"
    rb"((?:[a-z0-9-]+: [\x20-\x7e\t]*\r\n)*?)"
    rb"(content-length: (?:0|[1-9][0-9]*)|transfer-encoding: chunked)\r\n\r\n"
)
_MAX_HEAD: Final = 1 << 20
_STATUS_LINE: Final = re.compile(rb"(HTTP/1\.[01] ([0-9]{3})) [^\r\n]*")


class VerdictError(AssertionError):
    """A judge says no; the text says to what."""


@dataclass(frozen=True)
class Message:
    """One request or reply as a judge reads it."""

    start: tuple[Any, ...]
    """Method and target, or the status."""
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    complete: bool

    @property
    def status(self) -> int:
        return int(self.start[0])

    def values(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.headers if key == name]


@dataclass(frozen=True)
class Reading:
    """What a judge makes of a stream."""

    messages: tuple[Message, ...]
    end: str
    """`clean`: nothing is left; `more`: a message is unfinished; `refused`: what follows is not HTTP;
    `closed`: the last message was the last of its connection, whatever follows."""
    detail: str = ""

    @property
    def whole(self) -> tuple[Message, ...]:
        return tuple(message for message in self.messages if message.complete)

    @property
    def says_close(self) -> bool:
        """Whether a message says that its connection ends with it."""
        return any(message.values(b"connection") == [b"close"] for message in self.messages)


def requests(data: bytes) -> Reading:
    """The requests in `data`, as h11 reads them, with empty lines before a request line skipped (RFC 9112, 2.2)."""
    found: list[Message] = []
    rest = data
    while True:
        while rest.startswith(b"\r\n"):
            rest = rest[2:]
        if not rest:
            return Reading(tuple(found), "clean")
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_HEAD)
        connection.receive_data(rest)
        try:
            message = _one(connection, b"")
        except h11.RemoteProtocolError as error:
            partial = _partial(rest, error)
            return Reading((*found, *partial), "refused", str(error))
        if message is None:
            return Reading(tuple(found), "more")
        found.append(message)
        if not message.complete:
            return Reading(tuple(found), "more")
        if connection.their_state is h11.MUST_CLOSE:
            return Reading(tuple(found), "closed")
        rest = connection.trailing_data[0]


def _partial(rest: bytes, error: h11.RemoteProtocolError) -> tuple[Message, ...]:
    """The head before a malformed body, as an unfinished message."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_HEAD)
    connection.receive_data(rest)
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError:
        return ()
    if isinstance(event, h11.Request):
        return (Message((event.method, event.target), tuple(event.headers), b"", complete=False),)
    raise VerdictError(f"h11 failed before a request: {error}")


def _one(connection: h11.Connection, body: bytes) -> Message | None:
    """The next message of `connection`; none while its head is unfinished."""
    head: h11.Request | h11.Response | None = None
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Request | h11.Response):
            head = event
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.InformationalResponse):
            continue
        else:
            if head is None:
                return None
            complete = isinstance(event, h11.EndOfMessage)
            start = (head.method, head.target) if isinstance(head, h11.Request) else (head.status_code,)
            return Message(start, tuple(head.headers), body, complete)


def replies(data: bytes, *, closed: bool, methods: Sequence[bytes] = ()) -> Reading:
    """The replies in `data`, as h11 reads them; fails on anything that is not a well-formed reply.

    Args:
        data: everything that a caller received on one connection.
        closed: whether the connection was closed after it.
        methods: of the requests, in order; POST where there is none.
    """
    found: list[Message] = []
    rest = data
    while rest:
        connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD)
        method = methods[len(found)] if len(found) < len(methods) else b"POST"
        connection.send(h11.Request(method=method, target="/", headers=[("host", "m"), ("content-length", "0")]))
        connection.send(h11.EndOfMessage())
        connection.receive_data(rest)
        if closed:
            connection.receive_data(b"")
        try:
            message = _one(connection, b"")
        except h11.RemoteProtocolError as error:
            if closed and ("closed connection" in str(error) or "incomplete" in str(error)):
                return Reading(tuple(found), "more", str(error))
            raise VerdictError(f"not a well-formed reply: {error}: {rest[:300]!r}") from error
        if message is None:
            rest = connection.trailing_data[0]
            return Reading(tuple(found), "more" if rest else "clean")
        if not message.complete:
            return Reading((*found, message), "more")
        found.append(message)
        if connection.their_state in (h11.MUST_CLOSE, h11.CLOSED):
            trailing = connection.trailing_data[0]
            if trailing:
                raise VerdictError(f"bytes after the last reply: {trailing[:100]!r}")
            return Reading(tuple(found), "closed")
        rest = connection.trailing_data[0]
    return Reading(tuple(found), "clean")


def canonical(data: bytes) -> Reading:
    """The requests that a container received; fails on anything but whole canonical ones and one cut short at the end.

    Each is read three times: by a pattern (the canonical form, byte for byte), by h11, and by `http.client`.
    """
    found: list[Message] = []
    rest = data
    while rest:
        match = _HEAD.match(rest)
        if match is None:
            if b"\r\n\r\n" in rest:
                raise VerdictError(f"not in canonical form: {rest[:300]!r}")
            return Reading(tuple(found), "more")
        names = [line.partition(b":")[0] for line in match[1].splitlines()]
        if len(set(names)) != len(names) or not set(names) <= set(PASSED):
            raise VerdictError(f"headers that no container should see: {match[1]!r}")
        connection = h11.Connection(h11.SERVER)
        connection.receive_data(rest)
        try:
            message = _one(connection, b"")
        except h11.RemoteProtocolError as error:
            raise VerdictError(f"h11 refuses what was forwarded: {error}: {rest[:300]!r}") from error
        assert message is not None
        found.append(message)
        if not message.complete:
            return Reading(tuple(found), "more")
        before, rest = rest, connection.trailing_data[0]
        body = _by_http_client(match[0], before[match.end() : len(before) - len(rest)])
        if body != message.body:
            raise VerdictError(f"h11 and http.client read two bodies: {message.body[:80]!r}, {body[:80]!r}")
    return Reading(tuple(found), "clean")


def _by_http_client(head: bytes, body: bytes) -> bytes:
    """`body` as `http.client` reads it under the framing of `head`."""
    lines = head.partition(b"\r\n")[2]

    class _File:
        def makefile(self, _mode: str) -> io.BytesIO:
            return io.BytesIO(b"HTTP/1.1 200 OK\r\n" + lines + body)

    response = http.client.HTTPResponse(_File())  # type: ignore[arg-type]
    response.begin()
    return response.read()


def same(asked: Message, got: Message) -> None:
    """Fails unless `got`, which a container received, is what `asked` means."""

    def refuse(what: str) -> NoReturn:
        raise VerdictError(f"forwarded with another {what}: asked {asked}, got {got}")

    if got.body != asked.body:
        refuse("body")
    for name in PASSED:
        values = [value.strip(b" \t") for value in got.values(name)]
        if [value for value in values if value] != [value for value in asked.values(name) if value]:
            refuse(name.decode())


_STAYS_OPEN: Final = frozenset(
    {
        b"TargetMissing",
        b"TargetUnknown",
        b"TargetNotSupported",
        b"EndpointUnknown",
        b"ContainerBusy",
        b"EndpointBusy",
        b"ContainerNotReady",
    }
)
"""Refusals of requests that everybody reads alike: their connection may go on."""


def caller_side(sent: bytes, received: bytes, forwarded: Sequence[Message], *, closed: bool) -> None:
    """The law of a caller's connection, given containers that answer well.

    Every request that h11 reads in `sent` was either forwarded as h11 reads it and answered, or refused; where h11
    reads no request, none was forwarded; after a refusal of what could be read in two ways nothing more happened.

    Args:
        sent: all bytes of the caller.
        received: all bytes that it got.
        forwarded: the requests that reached containers whole, in order.
        closed: whether the router ended the connection.
    """
    asked = requests(sent)
    answers = replies(received, closed=closed, methods=[message.start[0] for message in asked.messages])
    if answers.end == "more":
        raise VerdictError(f"the last answer is not whole: {received[-300:]!r}")
    left = list(forwarded)
    ended = False
    for number, answer in enumerate(answers.messages):
        if ended:
            raise VerdictError(f"an answer after the last one: {answer}")
        ended = [value.lower() for value in answer.values(b"connection")] == [b"close"]
        if answer.status == 200 and answer.values(b"x-amzn-requestid"):
            if number >= len(asked.whole) or not left:
                raise VerdictError(f"an answer to what h11 reads as no request ({asked.end} {asked.detail}): {answer}")
            same(asked.messages[number], left.pop(0))
        else:
            _refused(answer, closes=ended)
    if left:
        raise VerdictError(f"forwarded, and never answered: {left}")
    if ended and not closed:
        raise VerdictError("it said close and did not")
    if len(answers.messages) < len(asked.whole) and not ended:
        raise VerdictError(f"{len(asked.whole)} requests, {len(answers.messages)} answers, and still waiting")


def _refused(answer: Message, *, closes: bool) -> None:
    """Fails unless `answer` is a refusal (or a ping's), and the last of its connection where framing is in doubt."""
    if answer.status in (200, 503) and not answer.body:
        return
    if answer.status not in REFUSALS:
        raise VerdictError(f"neither an answer nor a refusal: {answer}")
    if b"".join(answer.values(b"x-mce-reason")) not in _STAYS_OPEN and not closes:
        raise VerdictError(f"refused, and the connection stays open: {answer}")


def container_side(said: bytes, received: bytes, *, container_closed: bool, closed: bool) -> Message | None:
    """The law of a reply: the caller has a whole answer only where h11 reads the same one in what the container said.

    Args:
        said: all bytes of the container, to one request.
        received: all bytes that the caller got for it.
        container_closed: whether the container ended the connection in order, after `said`.
        closed: whether the router ended the caller's connection.

    Returns:
        the whole answer that the caller has, if it has one.
    """
    answers = replies(received, closed=closed)
    if len(answers.messages) > 1:
        raise VerdictError(f"two answers to one request: {answers.messages}")
    if not answers.whole:
        if not closed:
            raise VerdictError(f"no whole answer, and no end: {received[:300]!r}")
        return None
    answer = answers.whole[0]
    if answer.status != 200:
        if answer.status != 424 or answer.values(b"x-amzn-errortype") != [b"ModelError"]:
            raise VerdictError(f"neither an answer nor a ModelError: {answer}")
        return answer
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD)
    connection.send(h11.Request(method="POST", target="/", headers=[("host", "m"), ("content-length", "0")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(_plain(said))
    if container_closed:
        connection.receive_data(b"")
    try:
        meant = _one(connection, b"")
    except h11.RemoteProtocolError as error:
        raise VerdictError(f"an answer from what h11 refuses ({error}): {said[:300]!r}") from error
    if meant is None or not meant.complete or meant.body != answer.body or not 200 <= meant.status < 300:
        raise VerdictError(f"h11 reads {meant} in {said[:300]!r}, the caller got {answer}")
    return answer


def _plain(said: bytes) -> bytes:
    """`said` without what nobody reads and the router never passes on: interim heads, the words of a status line."""
    match = _STATUS_LINE.match(said)
    if match is None:
        return said
    head, end, rest = said[match.end() :].partition(b"\r\n\r\n")
    if match[2].startswith(b"1") and end:
        return _plain(rest)
    return match[1] + b" X" + head + end + rest
