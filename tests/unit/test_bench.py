"""The bench's pure parts: which ratios it prints, and what it takes for a right answer."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2]))  # the bench is no installed package

from bench import cases, proof, report
from bench.cases import Case, Goal, Load
from bench.processes import BenchError


def case(**fields: object) -> Case:
    given = {"name": "c", "question": "?", "load": Load.WRK, "ratio_of": "cpu_us", "rounds": 3, **fields}
    return Case(**given)  # type: ignore[arg-type]


def rounds(*values: float) -> list[dict[str, float]]:
    return [{"cpu_us": value} for value in values]


def test_a_ratio_compares_within_a_round() -> None:
    noisy = {"router": rounds(20, 200, 24), "haproxy": rounds(10, 100, 10)}

    assert report.ratios(noisy, "cpu_us") == {"router/haproxy": {"median": 2.0, "min": 2.0, "max": 2.4}}


def test_a_peer_without_the_figure_has_no_ratio() -> None:
    samples = {"router": rounds(20), "direct": [{"p50_ms": 1.0}], "go": rounds(0)}

    assert report.ratios(samples, "cpu_us") == {}


def test_added_latency_is_over_the_baseline_of_the_same_round() -> None:
    samples = {
        "direct": [{"p50_ms": 1.0, "p99_ms": 2.0}, {"p50_ms": 3.0, "p99_ms": 4.0}],
        "router": [{"p50_ms": 1.5, "p99_ms": 3.0}, {"p50_ms": 3.5, "p99_ms": 6.0}],
    }

    added = report.with_added_latency(samples, "direct")

    assert [(row["added_p50_ms"], row["added_p99_ms"]) for row in added["router"]] == [(0.5, 1.0), (0.5, 2.0)]
    assert added["direct"] == samples["direct"]


@pytest.mark.parametrize(
    ("ours", "met"), [pytest.param(20, True, id="at the goal"), pytest.param(20.1, False, id="above")]
)
def test_the_goal_is_met_up_to_its_limit(ours: float, met: bool) -> None:
    samples = {"router": rounds(ours), "haproxy": rounds(10)}

    summary = report.summarise(case(goal=Goal(ratio="router/haproxy", at_most=2.0)), samples)

    assert summary["goal"] == {"ratio": "router/haproxy", "at_most": 2.0, "met": met}


def test_the_table_shows_every_proxy_and_ratio() -> None:
    lines = "\n".join(report.table(case(), {"router": rounds(30), "haproxy": rounds(20)}))

    assert "router" in lines
    assert "haproxy" in lines
    assert "router/haproxy = 1.50  [1.50 - 1.50]" in lines


def test_a_peer_calls_each_container_for_what_the_router_chains() -> None:
    chain = case(load=Load.CHAINS, mode="Serial", containers=("one", "two", "three"))

    assert chain.jobs("router") == "-"
    assert chain.jobs("haproxy") == "one+two+three"


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        pytest.param("facts", b"one 5 907060870", id="facts"),
        pytest.param("echo", b"hello", id="echo"),
        pytest.param("3", b"xxx", id="size"),
    ],
)
def test_the_right_answer(reply: str, answer: bytes) -> None:
    assert proof.expected(reply, "one", b"hello") == answer


@pytest.mark.parametrize("reached", [pytest.param(99, id="lost"), pytest.param(133, id="sent twice")])
def test_containers_that_answered_another_number_of_calls_end_the_run(reached: int) -> None:
    with pytest.raises(BenchError, match="100 jobs"):
        proof.check_count(case(connections=32), "router", reached, 100)


def test_calls_in_flight_at_the_end_are_no_fault() -> None:
    proof.check_count(case(connections=32), "router", 132, 100)


def test_a_smoke_test_has_one_case_of_each_load() -> None:
    assert sorted(each.load for each in cases.QUICK) == sorted(Load)
