"""The bench's pure parts: which ratios it prints, and what it takes for a right answer."""

import sys
from math import inf
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2]))  # the bench is no installed package

from bench import cases, goals, proof, proxies, report, run, scale
from bench.cases import Case, Goal, Load
from bench.processes import BenchError
from bench.profiling import python_shares

from mce_api import validation


def case(**fields: object) -> Case:
    given = {"name": "c", "question": "?", "load": Load.WRK, "ratio_of": "cpu_us", "rounds": 3, **fields}
    return Case(**given)  # type: ignore[arg-type]


def rounds(*values: float) -> list[dict[str, float]]:
    return [{"cpu_us": value} for value in values]


def verdict(goal: Goal, samples: goals.Samples) -> goals.Verdict:
    return next(goals.judge(case(goals=(goal,)), samples))


def test_a_ratio_compares_within_a_round() -> None:
    noisy = {"router": rounds(20, 200, 24), "haproxy": rounds(10, 100, 10)}

    assert report.ratios(case(), noisy) == {"router/haproxy": {"median": 2.0, "min": 2.0, "max": 2.4}}


def test_a_peer_without_the_figure_has_no_ratio() -> None:
    samples = {"router": rounds(20), "direct": [{"p50_ms": 1.0}], "go": rounds(0)}

    assert report.ratios(case(), samples) == {}


def test_a_round_with_nothing_to_divide_by_counts_as_the_worst() -> None:
    samples = {"router": rounds(20, 20, 20), "go": rounds(10, 0, 5)}

    assert goals.ratios(samples, "cpu_us", "router", "go") == [2.0, inf, 4.0]
    assert report.ratios(case(), samples) == {"router/go": {"median": 4.0, "min": 2.0, "max": None}}


def test_a_neighbours_doings_are_compared_with_none() -> None:
    samples = {"idle": rounds(10), "well": rounds(11), "floods": rounds(30)}

    found = report.ratios(case(load=Load.NEIGHBOUR), samples)

    assert {pair: value["median"] for pair, value in found.items()} == {"well/idle": 1.1, "floods/idle": 3.0}


def test_added_latency_is_over_the_baseline_of_the_same_round() -> None:
    samples = {
        "direct": [{"p50_ms": 1.0, "p99_ms": 2.0}, {"p50_ms": 3.0, "p99_ms": 4.0}],
        "router": [{"p50_ms": 1.5, "p99_ms": 3.0}, {"p50_ms": 3.5, "p99_ms": 6.0}],
    }

    added = report.with_added_latency(samples, "direct")

    assert [(row["added_p50_ms"], row["added_p99_ms"]) for row in added["router"]] == [(0.5, 1.0), (0.5, 2.0)]
    assert added["direct"] == samples["direct"]


@pytest.mark.parametrize(
    ("ours", "must", "aim"),
    [
        pytest.param(13, True, True, id="at the aim"),
        pytest.param(13.1, True, False, id="above the aim"),
        pytest.param(16, True, False, id="at the limit"),
        pytest.param(16.1, False, False, id="above the limit"),
    ],
)
def test_a_goal_is_reached_up_to_its_limit(ours: float, must: bool, aim: bool) -> None:
    samples = {"router": rounds(ours), "haproxy": rounds(10)}

    judged = verdict(Goal(figure="cpu_us", over="haproxy", must=1.6, aim=1.3), samples)

    assert (judged.must_reached, judged.aim_reached) == (must, aim)


def test_a_goal_without_a_peer_judges_the_figure_itself() -> None:
    assert verdict(Goal(figure="cpu_us", must=20), {"router": rounds(10, 20, 30)}).value == 20


def test_what_grows_and_stays_is_judged_by_its_worst_round() -> None:
    assert verdict(Goal(figure="cpu_us", must=20, worst=True), {"router": rounds(10, 20, 30)}).value == 30


@pytest.mark.parametrize(
    "goal", [pytest.param(Goal(figure="cpu_us", over="go", must=9), id="peer"), pytest.param(Goal(figure="x", must=9))]
)
def test_a_goal_that_was_not_measured_is_not_reached(goal: Goal) -> None:
    judged = verdict(goal, {"router": rounds(10)})

    assert judged.value is None
    assert not judged.must_reached


def test_a_case_says_of_each_goal_what_was_reached() -> None:
    both = (Goal(figure="cpu_us", over="haproxy", must=1.6, aim=1.3), Goal(figure="cpu_us", must=10))

    summary = report.summarise(case(goals=both), {"router": rounds(15), "haproxy": rounds(10)})

    assert summary["goals"] == [
        {
            "figure": "cpu_us",
            "of": "router",
            "over": "haproxy",
            "value": 1.5,
            "must": 1.6,
            "must_reached": True,
            "aim": 1.3,
            "aim_reached": False,
        },
        {
            "figure": "cpu_us",
            "of": "router",
            "over": None,
            "value": 15,
            "must": 10,
            "must_reached": False,
            "aim": None,
            "aim_reached": None,
        },
    ]


def test_the_goal_table_says_reached_and_missed() -> None:
    limits = (Goal(figure="cpu_us", over="haproxy", must=1.6, aim=1.3), Goal(figure="cpu_us", must=10))
    judged = list(goals.judge(case(goals=limits), {"router": rounds(15), "haproxy": rounds(10)}))

    _, _, first, second = "\n".join(report.goal_table({"c": judged})).split("\n")

    assert first.split() == ["c", "cpu_us", "router/haproxy", "1.50", "1.6", "reached", "1.3", "missed"]
    assert second.split() == ["c", "cpu_us", "router", "15.00", "10", "MISSED"]


@pytest.mark.parametrize("each", [pytest.param(each, id=each.name) for each in cases.CASES])
def test_every_goal_is_about_rows_that_the_case_has(each: Case) -> None:
    rows = {*cases.WAYS} if each.load is Load.NEIGHBOUR else {*each.proxies}

    assert {proxy.name for proxy in proxies.named(each.proxies)} == {*each.proxies}
    assert {goal.of for goal in each.goals} <= rows
    assert {goal.over for goal in each.goals} <= {*rows, ""}


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["no-such-case"], id="unknown case"),
        pytest.param(["--quick", "--strict"], id="figures that mean nothing are not judged"),
        pytest.param(["--profile"], id="a profile of nothing"),
        pytest.param(["--profile", "startup"], id="a profile of a case without a steady load"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        run.arguments(arguments)


def test_shares_of_functions_by_themselves_and_with_what_they_call() -> None:
    own, whole = python_shares("main;read 1\nmain;write 2\nmain;write;main 1\n")

    assert own == {"write": 50.0, "read": 25.0, "main": 25.0}
    assert whole == {"main": 100.0, "write": 75.0, "read": 25.0}


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
        pytest.param("chunks:9", b"one 5 907060870", id="facts, where the reply would be a stream"),
    ],
)
def test_the_right_answer(reply: str, answer: bytes) -> None:
    assert proof.expected(reply, "one", b"hello") == answer


@pytest.mark.parametrize("reached", [pytest.param(99, id="lost"), pytest.param(133, id="sent twice")])
def test_containers_that_answered_another_number_of_calls_end_the_run(reached: int) -> None:
    with pytest.raises(BenchError, match="100 calls"):
        proof.check_count(case(connections=32), "router", reached, 100)


def test_calls_in_flight_at_the_end_are_no_fault() -> None:
    proof.check_count(case(connections=32), "router", 132, 100)


def test_a_smoke_test_has_one_case_of_each_load() -> None:
    assert sorted(each.load for each in cases.QUICK) == sorted(Load)


def scaled(**changes: object) -> dict[str, object]:
    first = {"seconds": 20.0, "operator": {"rss_peak_mib": 140.0}}
    return {"endpoints": 1000, "from_nothing": first, "restart": {"writes": {}}, "idle": {"writes": {}}, **changes}


@pytest.mark.parametrize(
    ("changes", "good"),
    [
        pytest.param({}, True, id="all reached"),
        pytest.param({"from_nothing": {"seconds": 60.1, "operator": {"rss_peak_mib": 1.0}}}, False, id="slow"),
        pytest.param({"from_nothing": {"seconds": 1.0, "operator": {"rss_peak_mib": 251.0}}}, False, id="large"),
        pytest.param({"restart": {"writes": {"patch services 200": 1}}}, False, id="a restart that writes"),
        pytest.param({"idle": {"writes": {"create events 201": 1}}}, False, id="idle and writing"),
        pytest.param(
            {"endpoints": 10_000, "from_nothing": {"seconds": 600.0, "operator": {"rss_peak_mib": 900.0}}},
            True,
            id="time and memory are judged for a thousand",
        ),
    ],
)
def test_the_operator_is_judged_by_time_memory_and_silence(changes: dict[str, object], good: bool) -> None:
    assert scale.is_good(scaled(**changes)) is good


def test_the_endpoints_of_the_bench_are_valid_and_spread_over_the_namespaces() -> None:
    order = scale.Order(endpoints=25, containers=15, namespaces=10, idle_seconds=1)
    assert len({namespace for namespace, _ in order.names()}) == 10
    for address in order.names():
        assert len(validation.endpoint(scale.document(*address, order.containers)).spec.containers) == 15


@pytest.mark.parametrize("arguments", [["--endpoints", "0"], ["--containers", "16"], ["--endpoints", "5"]])
def test_a_bench_of_the_operator_that_makes_no_sense_is_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        scale.arguments(arguments)
