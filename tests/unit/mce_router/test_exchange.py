"""The life of an exchange as playbooks: what happens, in order, and what everybody must then have seen.

A playbook is a list of steps. Steps in the present tense are events (`says`, `connects`, `answers`, `later`, `leaves`);
`hears` and `gets` and what follows them are what a container or the caller must have got since the last look.
Nothing but the public surface is used: bytes, closes, and the clock.
"""

from collections.abc import Callable

import pytest

from support import judge
from support.rig import Rig, Wire

Step = Callable[["Play"], None]
TARGET = b"X-Amzn-SageMaker-Target-Container-Hostname: "


class Play:
    """One caller, containers a, b and c, and a clock."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.caller = rig.caller()
        self.wires: dict[str, Wire] = {}


# --- bytes


def post(
    body: bytes = b"", *lines: bytes, to: bytes = b"a", length: int | None = None, version: bytes = b"1.1"
) -> bytes:
    size = len(body) if length is None else length
    head = [b"POST /invocations HTTP/" + version, b"Host: m", b"Content-Length: %d" % size, *lines]
    return b"\r\n".join([*head, *([TARGET + to] if to else []), b"", body])


def chunked(body: bytes) -> bytes:
    return b"POST /invocations HTTP/1.1\r\nHost: m\r\n%ba\r\nTransfer-Encoding: chunked\r\n\r\n%b" % (TARGET, body)


def asked(body: bytes = b"", lines: bytes = b"", *, port: int = 1, length: int | None = None) -> bytes:
    """What a container must hear of a request with a length."""
    size = len(body) if length is None else length
    head = b"POST /invocations HTTP/1.1\r\nhost: 127.0.0.1:%d\r\n%bcontent-length: %d\r\n\r\n"
    return head % (port, lines, size) + body


def asked_in_chunks(body: bytes) -> bytes:
    return b"POST /invocations HTTP/1.1\r\nhost: 127.0.0.1:1\r\ntransfer-encoding: chunked\r\n\r\n" + body


def ok(body: bytes, *lines: bytes, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return b"\r\n".join([b"HTTP/1.1 200 OK", b"content-length: %d" % size, *lines, b"", body])


# --- events


def says(data: bytes) -> Step:
    return lambda play: play.caller.feed(data)


def connects(name: str) -> Step:
    def step(play: Play) -> None:
        wanted = play.rig.pending(name)
        assert wanted is not None, f"nobody wants a connection to {name}"
        play.wires[name] = wanted.accept()

    return step


def refuses(name: str) -> Step:
    def step(play: Play) -> None:
        wanted = play.rig.pending(name)
        assert wanted is not None, f"nobody wants a connection to {name}"
        wanted.refuse(ConnectionRefusedError(111, "Connection refused"))

    return step


def answers(name: str, data: bytes) -> Step:
    return lambda play: play.wires[name].feed(data)


def closes(name: str) -> Step:
    return lambda play: play.wires[name].leave()


def resets(name: str) -> Step:
    return lambda play: play.wires[name].leave(ConnectionResetError())


def leaves() -> Step:
    return lambda play: play.caller.leave()


def later(seconds: float) -> Step:
    def step(play: Play) -> None:
        play.rig.now += seconds
        play.rig.tick()

    return step


def stops_reading() -> Step:
    def step(play: Play) -> None:
        assert play.caller.protocol
        play.caller.protocol.pause_writing()

    return step


def reads_again() -> Step:
    def step(play: Play) -> None:
        assert play.caller.protocol
        play.caller.protocol.resume_writing()

    return step


def drains() -> Step:
    def step(play: Play) -> None:
        play.rig.service.draining = True

    return step


# --- what must have been seen


def hears(name: str, data: bytes) -> Step:
    def step(play: Play) -> None:
        assert play.wires[name].take() == data

    return step


def gets(status: int, body: bytes | None = None, *, reason: bytes = b"", close: bool = False, then: int = 0) -> Step:
    """One whole answer; `close`: the last of its connection, which is then closed; `then`: a refusal that follows."""

    def step(play: Play) -> None:
        data = play.caller.take()
        answer, *others = judge.replies(data, closed=play.caller.closed or play.caller.finished).whole
        assert [other.status for other in others] == ([then] if then else [])
        assert answer.status == status, data
        assert body is None or answer.body == body
        assert b"".join(answer.values(b"x-mce-reason")) == reason
        assert (answer.values(b"connection") == [b"close"]) is close
        assert (play.caller.closed or play.caller.finished) is (close or bool(then))

    return step


def gets_head(*lines: bytes) -> Step:
    """The head of an answer with these lines and no body yet."""

    def step(play: Play) -> None:
        data = play.caller.take()
        assert data.startswith(b"HTTP/1.1 200 OK\r\n")
        assert data.endswith(b"\r\n\r\n")
        assert set(lines) <= set(data.split(b"\r\n"))

    return step


def gets_raw(data: bytes) -> Step:
    def step(play: Play) -> None:
        assert play.caller.take() == data

    return step


def gets_nothing() -> Step:
    return gets_raw(b"")


def is_open() -> Step:
    def step(play: Play) -> None:
        assert not play.caller.closed

    return step


def is_closed() -> Step:
    def step(play: Play) -> None:
        assert play.caller.closed
        assert not play.caller.aborted

    return step


def is_cut() -> Step:
    """The connection is aborted: nobody takes what came for a whole answer."""

    def step(play: Play) -> None:
        assert play.caller.aborted

    return step


def is_dropped(name: str) -> Step:
    def step(play: Play) -> None:
        assert play.wires[name].closed, f"{name} goes on"

    return step


def is_kept(name: str) -> Step:
    def step(play: Play) -> None:
        assert not play.wires[name].closed, f"{name} was dropped"

    return step


def is_held_back(name: str) -> Step:
    def step(play: Play) -> None:
        assert not play.wires[name].reading

    return step


def is_read(name: str) -> Step:
    def step(play: Play) -> None:
        assert play.wires[name].reading

    return step


def is_not_called(name: str) -> Step:
    def step(play: Play) -> None:
        assert play.rig.pending(name) is None, f"{name} was called"

    return step


DIRECT: dict[str, list[Step]] = {
    "a request goes to its container and the answer to its caller": [
        says(post(b"hi")), gets_nothing(), connects("a"), hears("a", asked(b"hi")),
        answers("a", ok(b"yo")), gets(200, b"yo"), is_kept("a"), is_not_called("b"),
    ],
    "a second request takes the connection that is there": [
        says(post(b"1")), connects("a"), hears("a", asked(b"1")), answers("a", ok(b"one")), gets(200, b"one"),
        says(post(b"2")), is_not_called("a"), hears("a", asked(b"2")), answers("a", ok(b"two")), gets(200, b"two"),
    ],
    "a body goes on as it comes": [
        says(post(b"one", length=9)), connects("a"), hears("a", asked(b"one", length=9)),
        says(b"two"), hears("a", b"two"), says(b"six"), hears("a", b"six"), answers("a", ok(b"yo")), gets(200, b"yo"),
    ],
    "a body in chunks that comes at once goes on with its length": [
        says(chunked(b"3;a=b\r\none\r\n")), is_not_called("a"), says(b"2\r\nyo\r\n0\r\nX-T: y\r\n\r\n"), connects("a"),
        hears("a", asked(b"oneyo")),
    ],
    "a body in chunks that takes its time goes on in chunks of ours": [
        says(chunked(b"3;a=b\r\none\r\n")), later(1.1), connects("a"), hears("a", asked_in_chunks(b"3\r\none\r\n")),
        says(b"0\r\nX-T: y\r\n\r\n"), hears("a", b"0\r\n\r\n"), answers("a", ok(b"yo")), gets(200, b"yo"),
    ],
    "an answer goes on as it comes": [
        says(post(b"hi")), connects("a"), answers("a", ok(b"", length=6)), gets_head(b"content-length: 6"),
        answers("a", b"one"), gets_raw(b"one"), answers("a", b"two"), gets_raw(b"two"), is_open(), is_kept("a"),
    ],
    "an answer in chunks goes on in chunks": [
        says(post(b"hi")), connects("a"), answers("a", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"),
        gets_head(b"transfer-encoding: chunked"), answers("a", b"3;a=b\r\none\r\n"), gets_raw(b"3\r\none\r\n"),
        answers("a", b"0\r\nx-t: y\r\n\r\n"), gets_raw(b"0\r\n\r\n"), is_open(), is_kept("a"),
    ],
    "an answer that ends with its connection goes on in chunks": [
        says(post(b"hi")), connects("a"), answers("a", b"HTTP/1.1 200 OK\r\n\r\none"), closes("a"), gets(200, b"one"),
    ],
    "to a caller of HTTP/1.0 such an answer ends with the connection": [
        says(post(b"hi", version=b"1.0")), connects("a"), answers("a", b"HTTP/1.1 200 OK\r\n\r\none"), closes("a"),
        gets(200, b"one", close=True),
    ],
    "a container that can't be reached is a ModelError": [
        says(post(b"hi")), refuses("a"), gets(424, reason=b"ModelUnreachable"), is_open(), is_not_called("a"),
    ],
    "a container that closes without an answer is a ModelError, and is not asked again": [
        says(post(b"hi")), connects("a"), closes("a"), gets(424, reason=b"ModelBrokeOff"), is_not_called("a"),
    ],
    "a kept connection that is reset is a ModelError, and the request is not sent again": [
        says(post(b"1")), connects("a"), answers("a", ok(b"one")), gets(200, b"one"),
        says(post(b"2")), resets("a"), gets(424, reason=b"ModelBrokeOff"), is_not_called("a"),
    ],
    "an answer that breaks off is cut off": [
        says(post(b"hi")), connects("a"), answers("a", ok(b"one", length=6)), closes("a"), is_cut(), is_not_called("a"),
    ],
    "an answer in chunks that breaks off is cut off": [
        says(post(b"hi")), connects("a"),
        answers("a", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n"), closes("a"), is_cut(),
    ],
    "an ambiguous reply is a ModelError and the end of its connection": [
        says(post(b"hi")), connects("a"), answers("a", ok(b"one", b"content-length: 2")),
        gets(424, reason=b"ModelBadReply"), is_dropped("a"), is_open(),
    ],
    "a container's own error is a ModelError, and its connection stays": [
        says(post(b"hi")), connects("a"), answers("a", ok(b"no").replace(b"200 OK", b"500 X")),
        gets(424, reason=b"ServerErrorFromModel"), is_open(),
    ],
    "a container that says nothing in time is a ModelError": [
        says(post(b"hi")), connects("a"), later(59), gets_nothing(), later(2),
        gets(424, reason=b"ModelTimeout"), is_dropped("a"),
    ],
    "a container that stops in its answer is cut off": [
        says(post(b"hi")), connects("a"), answers("a", ok(b"one", length=9)), later(59), answers("a", b"two"),
        later(59), is_open(), later(2), is_cut(), is_dropped("a"),
    ],
    "a caller that stops in its body hears so, and its container is let go": [
        says(post(b"one", length=9)), connects("a"), later(31), gets(408, reason=b"RequestTimeout", close=True),
        is_dropped("a"),
    ],
    "a caller that trickles its body is not cut off by the silence rule": [
        says(post(b"one", length=9)), connects("a"), later(20), says(b"two"), later(20), gets_nothing(), says(b"six"),
        answers("a", ok(b"yo")), gets(200, b"yo"),
    ],
    "a caller that stops in its head is let go": [
        says(b"POST /invocations HTTP/1.1\r\nHost:"), later(11), gets(408, reason=b"RequestTimeout", close=True),
    ],
    "a caller that says nothing is let go": [later(11), gets_nothing(), is_closed()],
    "a caller that says nothing more is let go": [
        says(post(b"hi")), connects("a"), answers("a", ok(b"yo")), gets(200, b"yo"), later(74), is_open(), later(2),
        gets_nothing(), is_closed(),
    ],
    "a caller that leaves takes its container's work along": [
        says(post(b"hi")), connects("a"), hears("a", asked(b"hi")), leaves(), is_dropped("a"),
    ],
    "a caller that leaves while a connection is made costs the container nothing": [
        says(post(b"hi")), leaves(), connects("a"), hears("a", b""), is_dropped("a"),
    ],
    "an early answer ends the container's part, the rest of the body is thrown away": [
        says(post(b"one", length=9)), connects("a"), hears("a", asked(b"one", length=9)), answers("a", ok(b"early")),
        gets(200, b"early"), is_dropped("a"), says(b"twosix"), gets_nothing(), hears("a", b""),
        says(post(b"hi", to=b"b")), connects("b"), hears("b", asked(b"hi", port=2)),
    ],
    "who expects to go on is told to, once it may": [
        says(post(b"", b"Expect: 100-continue", length=2)), gets_raw(b"HTTP/1.1 100 Continue\r\n\r\n"), says(b"hi"),
        connects("a"), hears("a", asked(b"hi")), answers("a", ok(b"yo")), gets(200, b"yo"),
    ],
    "who expects to go on and may not is only told why": [
        says(post(b"", b"Expect: 100-continue", length=2, to=b"z")), gets(400, reason=b"TargetUnknown", close=True),
    ],
    "pipelined requests are answered one after the other": [
        says(post(b"1") + post(b"2", to=b"b") + post(b"3")), connects("a"), hears("a", asked(b"1")), is_not_called("b"),
        answers("a", ok(b"one")), gets(200, b"one"), connects("b"), hears("b", asked(b"2", port=2)),
        answers("b", ok(b"two")), gets(200, b"two"), hears("a", asked(b"3")), answers("a", ok(b"three")),
        gets(200, b"three"),
    ],
    "a refusal waits for the answers before it": [
        says(post(b"1") + b"GET bad\r\n\r\n"), connects("a"), gets_nothing(), answers("a", ok(b"one")),
        gets(200, b"one", then=400),
    ],
    "after the last request of a connection nothing is read": [
        says(post(b"1", b"Connection: close") + post(b"2")), connects("a"), hears("a", asked(b"1")),
        answers("a", ok(b"one")), gets(200, b"one", close=True), hears("a", b""),
    ],
    "bytes that nobody asked for end a kept connection": [
        says(post(b"1")), connects("a"), answers("a", ok(b"one")), gets(200, b"one"), answers("a", ok(b"poison")),
        gets_nothing(), is_dropped("a"), says(post(b"2")), connects("a"), answers("a", ok(b"two")), gets(200, b"two"),
    ],
    "bytes behind a whole answer end its connection": [
        says(post(b"1") + post(b"2")), connects("a"), answers("a", ok(b"one") + ok(b"poison")), gets(200, b"one"),
        is_dropped("a"), connects("a"), hears("a", asked(b"2")), answers("a", ok(b"two")), gets(200, b"two"),
    ],
    "a container that says close is not asked again on that connection": [
        says(post(b"1")), connects("a"), answers("a", ok(b"one", b"connection: close")), gets(200, b"one"),
        is_dropped("a"), says(post(b"2")), connects("a"),
    ],
    "an idle connection goes before the container ends it": [
        says(post(b"1")), connects("a"), answers("a", ok(b"one")), gets(200, b"one"), later(3.9), is_kept("a"),
        later(0.2), is_dropped("a"),
    ],
    "a caller that does not read holds its container back": [
        says(post(b"hi")), connects("a"), answers("a", ok(b"one", length=6)), stops_reading(), is_held_back("a"),
        reads_again(), is_read("a"), answers("a", b"two"), is_open(),
    ],
    "a body over the limit is refused before anybody is called": [
        says(post(b"hi", length=6_291_457)), gets(413, reason=b"BodyTooLarge", close=True), is_not_called("a"),
    ],
    "a body that grows over the limit takes its container back": [
        says(chunked(b"400000\r\n" + b"a" * 0x400000 + b"\r\n")), later(1.1), connects("a"),
        says(b"400000\r\n" + b"a" * 0x400000 + b"\r\n"), gets(413, reason=b"BodyTooLarge", close=True), is_dropped("a"),
    ],
    "a body with a malformed chunk takes its container back": [
        says(chunked(b"3\r\none\r\n")), later(1.1), connects("a"), says(b"XX\r\n"),
        gets(400, reason=b"BadRequest", close=True),
        is_dropped("a"),
    ],
    "in a drain every answer is the last": [
        says(post(b"1")), connects("a"), drains(), answers("a", ok(b"one")), gets(200, b"one", close=True),
    ],
}  # fmt: skip

TYPE = b"content-type: text/csv\r\n"
SERIAL: dict[str, list[Step]] = {
    "what a container says goes to the next one, what the last one says to the caller": [
        says(post(b"0", b"Content-Type: a/b", b"Accept: c/d", to=b"")), connects("a"),
        hears("a", asked(b"0", b"content-type: a/b\r\n")), answers("a", ok(b"one", b"content-type: text/csv")),
        gets_nothing(), connects("b"), hears("b", asked(b"one", TYPE, port=2)), answers("b", ok(b"two")),
        connects("c"), hears("c", asked(b"two", b"accept: c/d\r\n", port=3)), gets_nothing(),
        answers("c", ok(b"three")), gets(200, b"three"),
    ],
    "an output is handed on when it is whole": [
        says(post(b"0", to=b"")), connects("a"), answers("a", ok(b"one", length=6)), is_not_called("b"),
        answers("a", b"two"), connects("b"), hears("b", asked(b"onetwo", port=2)),
    ],
    "an output that breaks off reaches nobody": [
        says(post(b"0", to=b"")), connects("a"), answers("a", ok(b"one", length=6)), closes("a"),
        gets(424, reason=b"ModelBrokeOff"), is_not_called("b"), is_open(),
    ],
    "the first error ends the chain": [
        says(post(b"0", to=b"")), connects("a"), answers("a", ok(b"no").replace(b"200 OK", b"400 X")),
        gets(424, reason=b"ClientErrorFromModel"), is_not_called("b"),
    ],
    "an unreachable container in the middle ends the chain": [
        says(post(b"0", to=b"")), connects("a"), answers("a", ok(b"one")), refuses("b"),
        gets(424, reason=b"ModelUnreachable"), is_not_called("c"), is_open(),
    ],
    "all containers together have one time": [
        says(post(b"0", to=b"")), connects("a"), later(30), answers("a", ok(b"one")), connects("b"), later(20),
        answers("b", ok(b"two")), connects("c"), later(11), gets(424, reason=b"ModelTimeout"), is_dropped("c"),
    ],
    "an output over the limit of a hop ends the chain": [
        says(post(b"0", to=b"")), connects("a"), answers("a", ok(b"a" * 5_242_881)), gets(424, reason=b"HopTooLarge"),
        is_not_called("b"),
    ],
    "the last answer that breaks off is cut off": [
        says(post(b"0", to=b"")), connects("a"), answers("a", ok(b"one")), connects("b"), answers("b", ok(b"two")),
        connects("c"), answers("c", ok(b"thr", length=5)), closes("c"), is_cut(),
    ],
    "a caller that leaves takes the container of the step along": [
        says(post(b"0", to=b"")), connects("a"), answers("a", ok(b"one")), connects("b"), leaves(), is_kept("a"),
        is_dropped("b"), is_not_called("c"),
    ],
    "a target is refused": [says(post(b"0")), gets(400, reason=b"TargetNotSupported"), is_not_called("a"), is_open()],
}  # fmt: skip


@pytest.mark.parametrize("name", DIRECT)
async def test_direct(name: str) -> None:
    await _play(Rig(("a", "b", "c")), DIRECT[name])


@pytest.mark.parametrize("name", SERIAL)
async def test_serial(name: str) -> None:
    await _play(Rig(("a", "b", "c"), "Serial"), SERIAL[name])


async def _play(rig: Rig, steps: list[Step]) -> None:
    play = Play(rig)
    for step in steps:
        step(play)
        await rig.settle()
