import asyncio

import pytest

from mce_operator.key import Key
from mce_operator.queue import Backoff, Schedule, WorkQueue

A, B = Key("n", "a"), Key("n", "b")


def schedule(random: float = 0.0) -> Schedule:
    return Schedule(Backoff(first_seconds=0.5, longest_seconds=300, random=lambda: random))


def test_keys_run_in_the_order_in_which_they_came() -> None:
    queue = schedule()
    queue.add(B)
    queue.add(A)
    assert [queue.take(0), queue.take(0), queue.take(0)] == [B, A, None]


def test_a_burst_of_wishes_is_one_run() -> None:
    queue = schedule()
    for _ in range(50):
        queue.add(A)
    assert [queue.take(0), queue.take(0)] == [A, None]


def test_a_key_never_runs_twice_at_a_time() -> None:
    queue = schedule()
    queue.add(A)
    queue.take(0)
    queue.add(A)
    assert queue.take(0) is None


def test_a_wish_during_a_run_brings_one_more_run_after_it() -> None:
    queue = schedule()
    queue.add(A)
    queue.take(0)
    queue.add(A)
    queue.add(A)
    queue.done(A)
    assert queue.take(0) == A
    queue.done(A)
    assert queue.take(0) is None


def test_pauses_double_up_to_the_longest() -> None:
    queue = schedule()
    pauses, now = [], 0.0
    queue.add(A)
    for _ in range(12):
        assert queue.take(now) == A
        pauses.append(queue.failed(A, now))
        now += pauses[-1]
    assert pauses == [0.5, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]


def test_jitter_only_shortens_and_by_a_fifth_at_most() -> None:
    backoff = Backoff(first_seconds=10, longest_seconds=300, random=lambda: 1.0)
    assert backoff.after(1) == pytest.approx(8)


def test_success_forgets_earlier_failures() -> None:
    queue = schedule()
    queue.add(A)
    queue.take(0)
    queue.failed(A, 0)
    queue.take(1)
    queue.done(A)
    queue.add(A)
    queue.take(2)
    assert queue.failed(A, 2) == 0.5


def test_a_failing_key_does_not_hold_up_others() -> None:
    queue = schedule()
    queue.add(A)
    queue.take(0)
    queue.failed(A, 0)
    queue.add(B)
    assert queue.take(0) == B


def test_a_timed_wish_is_not_early() -> None:
    queue = schedule()
    queue.add_at(A, 10)
    assert (queue.take(9.99), queue.take(10)) == (None, A)


def test_the_earlier_of_two_timed_wishes_counts() -> None:
    queue = schedule()
    queue.add_at(A, 10)
    queue.add_at(A, 5)
    queue.add_at(A, 20)
    assert queue.next_due() == 5
    assert queue.take(5) == A
    queue.done(A)
    assert queue.next_due() is None


def test_a_run_takes_the_timed_wish_with_it() -> None:
    queue = schedule()
    queue.add_at(A, 10)
    queue.add(A)
    queue.take(1)
    queue.done(A)
    assert queue.take(10) is None


def test_timed_wishes_that_were_overtaken_do_not_pile_up() -> None:
    schedule = Schedule(Backoff(first_seconds=1, longest_seconds=1))
    for now in range(5000):
        schedule.add(A)
        assert schedule.take(now) == A
        schedule.done(A)
        schedule.add_at(A, now + 3600)
    assert len(schedule._heap) < 100
    assert schedule.next_due() == 4999 + 3600


def test_the_oldest_run_is_told() -> None:
    queue = schedule()
    assert queue.oldest_run(5) == 0
    queue.add(A)
    queue.take(1)
    assert queue.oldest_run(5) == 4


async def test_workers_sleep_until_there_is_something_to_do() -> None:
    queue = WorkQueue(schedule(), asyncio.get_running_loop().time)
    waiting = asyncio.gather(queue.get(), queue.get())
    await asyncio.sleep(0)
    queue.add(A)
    queue.add_after(B, 0.01)
    assert set(await waiting) == {A, B}


async def test_closing_waits_for_the_present_run_and_hands_out_nothing_more() -> None:
    queue = WorkQueue(schedule(), asyncio.get_running_loop().time)
    queue.add(A)
    key = await queue.get()
    queue.add(B)
    closing = asyncio.ensure_future(queue.close())
    await asyncio.sleep(0)
    assert not closing.done()
    queue.done(key)
    await closing
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(queue.get(), 0.01)


def test_what_somebody_asked_for_runs_before_the_rest() -> None:
    queue = schedule()
    queue.add(A)
    queue.add(B, first=True)
    queue.add(B)
    assert [queue.take(0), queue.take(0), queue.take(0)] == [B, A, None]


def test_a_key_that_waits_already_comes_forward() -> None:
    queue = schedule()
    queue.add(A)
    queue.add(B)
    queue.add(B, first=True)
    assert queue.depth == 2
    assert [queue.take(0), queue.take(0), queue.take(0)] == [B, A, None]


def test_a_wish_during_a_run_keeps_its_rank() -> None:
    queue = schedule()
    queue.add(A)
    queue.take(0)
    queue.add(A, first=True)
    queue.add(A)
    queue.add(B)
    queue.done(A)
    assert [queue.take(0), queue.take(0)] == [A, B]


def test_a_stream_of_first_ones_does_not_starve_the_rest() -> None:
    queue = schedule()
    queue.add(B)
    for number in range(20):
        queue.add(Key("busy", str(number)), first=True)
    order = [queue.take(0) for _ in range(21)]
    assert order.index(B) == 8


async def test_a_paused_queue_hands_out_nothing_and_forgets_new_wishes() -> None:
    clock = asyncio.get_running_loop().time
    queue = WorkQueue(schedule(), clock)
    queue.add(A)
    queue.pause()
    queue.add(B)
    queue.add_after(B, 0)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(queue.get(), 0.05)
    queue.resume()
    assert await asyncio.wait_for(queue.get(), 5) == A
    assert (queue.depth, queue.waiting) == (0, 0)
