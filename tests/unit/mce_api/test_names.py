import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mce_api import names, wire

aws_names = st.from_regex(re.compile(wire.NAME_PATTERN.removesuffix("$") + r"\Z"), fullmatch=True).filter(
    lambda name: len(name) <= wire.NAME_MAX_LENGTH
)


def test_a_lower_case_name_is_kept() -> None:
    assert names.container_names(["pytorch-mnist", "tensorflow-mnist"]) == ("pytorch-mnist", "tensorflow-mnist")


def test_a_mixed_case_name_is_lowered_when_nobody_else_has_it() -> None:
    assert names.container_names(["firstContainer", "secondContainer"]) == ("firstcontainer", "secondcontainer")


def test_names_that_differ_only_in_case_stay_apart_whatever_their_order() -> None:
    forward = dict(zip(["Model", "model", "MODEL"], names.container_names(["Model", "model", "MODEL"]), strict=True))
    backward = dict(zip(["MODEL", "model", "Model"], names.container_names(["MODEL", "model", "Model"]), strict=True))
    assert forward == backward
    assert forward["model"] == "model"
    assert len(set(forward.values())) == 3


def test_no_container_gets_the_routers_name() -> None:
    assert names.ROUTER_CONTAINER not in names.container_names([names.ROUTER_CONTAINER, "MCE-Router"])


@given(st.lists(aws_names, min_size=1, max_size=15, unique=True))
def test_derived_names_are_unique_dns_labels(hostnames: list[str]) -> None:
    derived = names.container_names(hostnames)
    assert len(set(derived)) == len(hostnames)
    assert all(re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", name) for name in derived)  # RFC 1123 label
    assert names.ROUTER_CONTAINER not in derived


def test_equal_names_are_refused() -> None:
    with pytest.raises(ValueError, match="unique"):
        names.container_names(["a", "a"])


def test_port_blocks_are_disjoint_and_hold_no_bind_port() -> None:
    taken = {names.ROUTER_PORT, names.ROUTER_ADMIN_PORT}
    for index in range(wire.MAX_CONTAINERS):
        bind = names.bind_port(index, None)
        first, last = map(int, names.safe_port_range(index).split("-"))
        block = {bind, *range(first, last + 1)}
        assert not block & taken
        assert last <= names.LAST_BLOCK_PORT
        taken |= block


def test_an_explicit_port_is_used_as_given() -> None:
    assert names.bind_port(3, 8501) == 8501
