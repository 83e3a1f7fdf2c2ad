"""A chain of real model servers behind a real router."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support import http as caller
from support import processes
from support.processes import Router


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    """Three containers in a row; small hops."""
    tmp_path: Path = tmp_path_factory.mktemp("chain")
    ports = {name: processes.free_port() for name in ("one", "two", "three")}
    limits = {"maxRequestBytes": 6291456, "maxHopBytes": 1000, "maxConcurrency": 0}
    with (
        processes.model("one", ports["one"], tmp_path / "1.log"),
        processes.model("two", ports["two"], tmp_path / "2.log"),
        processes.model("three", ports["three"], tmp_path / "3.log"),
        processes.router(tmp_path, processes.table("Serial", ports, limits=limits)) as router,
    ):
        yield router


def test_containers_are_called_in_order_each_with_the_former_ones_answer(chain: Router) -> None:
    reply = caller.post(chain.port, b"x", content_type="text/plain")
    assert reply.status == 200
    assert reply.body == b"three(two(one(x)))"
    assert reply.headers["content-type"] == "text/plain"


def test_each_container_counts_the_invocation(chain: Router) -> None:
    before = {name: chain.sample("mce_container_invocations_total", container=name) for name in ("one", "three")}
    caller.post(chain.port, b"x", content_type="text/plain")
    for name, count in before.items():
        assert chain.sample("mce_container_invocations_total", container=name) == count + 1


def test_only_the_last_container_hears_the_callers_accept(tmp_path: Path) -> None:
    ports = {name: processes.free_port() for name in ("one", "two")}
    with (
        processes.model("one", ports["one"], tmp_path / "1.log"),
        processes.model("two", ports["two"], tmp_path / "2.log"),
        processes.router(tmp_path, processes.table("Serial", ports)) as router,
    ):
        reply = caller.post(
            router.port, b"x", accept="text/csv", content_type="a/b", x_amzn_sagemaker_custom_attributes="k=v"
        )
    seen = reply.json()["headers"]
    assert seen["accept"] == "text/csv"
    assert seen["content-type"] == "application/json"
    assert seen["x-amzn-sagemaker-custom-attributes"] == "k=v"


def test_a_target_is_refused_even_a_real_one(chain: Router) -> None:
    reply = caller.post(chain.port, b"x", target="two")
    assert reply.status == 400
    assert reply.headers["x-mce-reason"] == "TargetNotSupported"


def test_a_hop_over_the_limit_ends_the_chain_and_names_both_containers(chain: Router) -> None:
    before = chain.sample("mce_container_invocations_total", container="two")
    reply = caller.post(chain.port, b"x" * 2000, content_type="text/plain")
    assert reply.status == 424
    assert "the request payload from one to two is 2005 bytes" in reply.json()["Message"]
    assert chain.sample("mce_container_invocations_total", container="two") == before


def test_a_failing_step_ends_the_chain_and_names_the_container(tmp_path: Path) -> None:
    ports = {name: processes.free_port() for name in ("one", "two", "three")}
    with (
        processes.model("one", ports["one"], tmp_path / "1.log"),
        processes.model("two", ports["two"], tmp_path / "2.log", FAIL_STATUS="415"),
        processes.model("three", ports["three"], tmp_path / "3.log"),
        processes.router(tmp_path, processes.table("Serial", ports)) as router,
    ):
        reply = caller.post(router.port, b"x")
        assert reply.status == 424
        assert reply.json()["Message"].startswith('Received client error (415) from two with message "failed as told"')
        assert router.sample("mce_container_invocations_total", container="three") == 0
        assert router.sample("mce_container_errors_total", container="two", **{"class": "4xx"}) == 1
