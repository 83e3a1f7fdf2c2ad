import pytest

from mce_operator.throttle import Bucket, Throttle


def test_a_burst_goes_at_once_and_then_the_rate_counts() -> None:
    bucket = Bucket(rate=10, burst=3)
    assert [bucket.take(100.0) for _ in range(5)] == pytest.approx([0, 0, 0, 0.1, 0.2])


def test_who_asks_first_is_served_first() -> None:
    bucket = Bucket(rate=10, burst=1)
    begun = [bucket.take(0.0), bucket.take(0.0), 0.05 + bucket.take(0.05), 0.15 + bucket.take(0.15)]
    assert begun == sorted(begun) == pytest.approx([0, 0.1, 0.2, 0.3])


def test_a_pause_brings_the_burst_back_and_no_more() -> None:
    bucket = Bucket(rate=10, burst=2)
    for _ in range(2):
        bucket.take(0.0)
    assert [bucket.take(1000.0) for _ in range(3)] == pytest.approx([0, 0, 0.1])


async def test_a_write_waits_for_its_turn_and_says_how_long() -> None:
    slept: list[float] = []
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    throttle = Throttle(Bucket(rate=4, burst=1), lambda: 0.0, waited.append, sleep)
    for _ in range(3):
        await throttle.turn()
    assert slept == waited == [0.25, 0.5]
