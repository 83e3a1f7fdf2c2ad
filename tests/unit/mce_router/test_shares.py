"""A cap divided among workers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mce_api.routes import InvalidRouteTable, Limits, RouteTable, Target
from mce_router import shares


def table(endpoint_cap: int, cap: int) -> RouteTable:
    targets = (Target(name="a", port=1, max_concurrency=cap), Target(name="b", port=2))
    return RouteTable(
        namespace="n", endpoint="e", mode="Direct", targets=targets, limits=Limits(max_concurrency=endpoint_cap)
    )


@given(workers=st.integers(1, 64), more=st.integers(0, 1000))
def test_shares_add_up_to_the_cap_and_differ_by_at_most_one(workers: int, more: int) -> None:
    cap = workers + more
    parts = [shares.of(table(cap, cap), worker, workers) for worker in range(workers)]
    for caps in ([part.limits.max_concurrency for part in parts], [part.targets[0].max_concurrency for part in parts]):
        assert sum(caps) == cap
        assert max(caps) - min(caps) <= 1
        assert caps == sorted(caps, reverse=True)


def test_no_cap_stays_no_cap_and_nothing_else_changes() -> None:
    assert shares.of(table(0, 0), 1, 2) == table(0, 0)


def test_one_worker_has_the_whole_table() -> None:
    whole = table(1, 1)
    assert shares.of(whole, 0, 1) is whole


def test_a_cap_smaller_than_the_workers_is_refused_by_name() -> None:
    with pytest.raises(InvalidRouteTable) as refused:
        shares.of(table(3, 2), 0, 4)
    assert str(refused.value) == (
        "limits.maxConcurrency: 3 is less than the 4 workers that share it (raise it, or 0: no cap); "
        "targets[0].maxConcurrency: 2 is less than the 4 workers that share it (raise it, or 0: no cap)"
    )
