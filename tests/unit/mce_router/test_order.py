"""Orders of events that are rare on a wire: two timers at once, a refusal in the middle of a read, a long pause."""

import time
from dataclasses import replace

import pytest

from mce_api.routes import Limits
from mce_router.metrics import Metrics
from mce_router.server import CallerConnection
from support.rig import Rig, Wire

TARGET = b"X-Amzn-SageMaker-Target-Container-Hostname: a\r\n"


def post(body: bytes = b"", length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return b"POST /invocations HTTP/1.1\r\nHost: m\r\n%bContent-Length: %d\r\n\r\n%b" % (TARGET, size, body)


CHUNKED = b"POST /invocations HTTP/1.1\r\nHost: m\r\n%bTransfer-Encoding: chunked\r\n\r\n" % TARGET
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nyo"


async def connected(rig: Rig) -> Wire:
    await rig.settle()
    wanted = rig.pending("a")
    assert wanted is not None
    wire = wanted.accept()
    await rig.settle()
    return wire


@pytest.mark.parametrize("again", range(12))  # which of the two timers comes first is up to a set
async def test_who_gets_a_place_because_another_timed_out_has_its_whole_time(again: int) -> None:
    rig = Rig(limits=Limits(max_concurrency=1))
    keep = [object() for _ in range(again)]
    first, second = rig.caller(), rig.caller()
    first.feed(post())
    await connected(rig)
    rig.now += 59.5
    second.feed(post())
    rig.now += 2
    rig.tick()
    await rig.settle()
    assert b"ModelTimeout" in first.take()
    heard = second.take()
    assert not heard or b"EndpointBusy" in heard
    assert len(rig.service.exchanges) == rig.service.admission.total == (not heard)
    del keep


async def test_a_body_over_the_limit_that_came_with_its_head_is_told_so() -> None:
    rig = Rig(limits=Limits(max_request_bytes=10))
    caller = rig.caller()
    caller.feed(post(b"a" * 20))
    await rig.settle()
    assert caller.take().startswith(b"HTTP/1.1 413 ")


async def test_a_chunked_body_over_the_limit_is_told_so_when_more_chunks_came_in_the_same_read() -> None:
    rig = Rig(limits=Limits(max_request_bytes=10))
    caller = rig.caller()
    caller.feed(CHUNKED + b"8\r\naaaaaaaa\r\n" * 3)
    await rig.settle()
    assert caller.take().startswith(b"HTTP/1.1 413 ")


async def test_the_answer_to_a_chunked_body_that_is_not_whole_says_that_its_connection_ends() -> None:
    rig = Rig(limits=Limits(max_request_bytes=10))
    caller = rig.caller()
    caller.feed(CHUNKED.replace(b": a", b": z") + b"8\r\naaaaaaaa\r\n")
    await rig.settle()
    answer = caller.take()
    assert b"TargetUnknown" in answer
    assert b"\r\nconnection: close\r\n" in answer
    assert caller.finished


async def test_a_caller_that_was_held_back_has_its_time_anew() -> None:
    rig = Rig()
    caller = rig.caller()
    caller.feed(post(b"a", length=9))
    container = await connected(rig)
    assert container.protocol is not None
    container.protocol.pause_writing()
    rig.now += 31  # longer than a body may be silent; but nobody read it
    container.protocol.resume_writing()
    rig.tick()
    await rig.settle()
    assert caller.take() == b""
    rig.now += 31
    rig.tick()
    assert b"RequestTimeout" in caller.take()


async def test_a_body_that_waits_for_its_place_or_its_connection_counts() -> None:
    rig = Rig(limits=Limits(max_concurrency=1))
    for _ in range(2):
        rig.caller().feed(post(b"a" * 1000))
    rig.tick()
    assert rig.service.memory.held() == 2000
    await connected(rig)
    rig.tick()
    assert rig.service.memory.held() == 1000


async def test_an_answer_that_its_caller_does_not_take_counts_after_its_exchange_too() -> None:
    rig = Rig()
    caller = rig.caller()
    caller.feed(post())
    container = await connected(rig)
    container.feed(OK)
    assert isinstance(caller.protocol, CallerConnection)
    caller.get_write_buffer_size = lambda: 300_000  # type: ignore[method-assign]
    caller.protocol.pause_writing()
    rig.tick()
    rig.tick()
    assert not rig.service.exchanges
    assert rig.service.memory.held() == 300_000
    caller.get_write_buffer_size = lambda: 0  # type: ignore[method-assign]
    caller.protocol.resume_writing()
    rig.tick()
    rig.tick()
    assert rig.service.memory.held() == 0


async def test_a_body_in_tiny_pieces_counts_for_what_it_costs() -> None:
    rig = Rig()
    rig.caller().feed(CHUNKED + b"2\r\naa\r\n" * 1000)
    assert rig.service.memory.held() >= 1000 * (2 + 33)  # an empty `bytes` object


async def test_thousands_of_requests_in_one_read_take_no_square_of_time() -> None:
    def seconds(requests: int) -> float:
        rig = Rig()
        caller = rig.caller()
        caller.feed(post() + b"GET /ping HTTP/1.1\r\nHost:m\r\n\r\n" * requests)
        rig.now += 61
        start = time.process_time()
        rig.tick()
        assert caller.take().count(b"HTTP/1.1 ") == requests + 1
        return time.process_time() - start

    assert min(seconds(8000) for _ in range(3)) < 20 * min(seconds(1000) for _ in range(3))


async def test_a_new_connection_whose_request_is_on_its_way_is_waited_for_in_a_drain() -> None:
    rig = Rig()
    caller = rig.caller()
    rig.service.draining = True
    assert isinstance(caller.protocol, CallerConnection)
    assert caller.protocol.close_if_idle()
    assert not caller.closed
    rig.now += 1.1
    caller.protocol.close_if_idle()
    assert caller.closed


@pytest.mark.parametrize("times", [1, 2, 3])
async def test_a_connection_that_was_used_is_no_new_one(times: int) -> None:
    rig = Rig()
    caller = rig.caller()
    for _ in range(times):  # by the parser, then by the head that is known
        caller.feed(b"GET /ping HTTP/1.1\r\nHost: m\r\n\r\n")
    rig.now += 2
    assert isinstance(caller.protocol, CallerConnection)
    caller.protocol.close_if_idle()
    assert caller.closed


async def test_a_head_may_be_as_large_as_the_settings_say() -> None:
    rig = Rig()
    rig.service.settings = replace(rig.service.settings, max_header_bytes=1_000_000)
    caller = rig.caller()
    head = post().removesuffix(b"\r\n") + b"X: %b\r\n\r\n" % (b"a" * 300_000)
    for start in range(0, len(head), 50_000):
        caller.feed(head[start : start + 50_000])
    await rig.settle()
    assert caller.take() == b""
    assert rig.pending("a") is not None


@pytest.mark.parametrize("line", [b"GET /ping?%d HTTP/1.1\r\n", b"GET /ping?%d  HTTP/1.1\r\n"])
async def test_the_beginnings_of_many_requests_are_not_looked_for_from_the_start(line: bytes) -> None:
    def seconds(requests: int) -> float:
        caller = Rig().caller()
        data = b"".join((line + b"X: %b\r\nHost: m\r\n\r\n") % (number, b"x" * 200) for number in range(requests))
        start = time.process_time()
        caller.feed(data)
        return time.process_time() - start

    assert min(seconds(4000) for _ in range(3)) < 16 * min(seconds(500) for _ in range(3))


async def test_a_large_head_is_not_kept() -> None:
    rig = Rig()
    caller = rig.caller()
    caller.feed(post() + post().replace(b"/invocations", b"/invocations?" + b"a" * 8000) + post())
    await rig.settle()
    assert len(rig.service.parsed_heads) == 1
    container = await connected(rig)
    for _ in range(3):
        container.feed(OK)
        await rig.settle()
    assert caller.take().count(b"HTTP/1.1 200 OK") == 3
    assert len(rig.service.parsed_heads) == 1


async def test_a_wait_that_ends_in_a_refusal_counts_as_a_wait() -> None:
    metrics = Metrics()
    rig = Rig(metrics=metrics, limits=Limits(max_concurrency=1))
    callers = [rig.caller() for _ in range(3)]
    for caller in callers:
        caller.feed(post())
    callers[1].leave()
    rig.now += 2
    rig.tick()
    assert b"EndpointBusy" in callers[2].take()
    assert sum(metrics._waits.counts) == 2
