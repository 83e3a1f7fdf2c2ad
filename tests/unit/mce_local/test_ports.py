import socket
from collections.abc import Callable

import pytest

from mce_local import ports
from mce_local.errors import PortTaken
from mce_local.ports import Assigned


def free_but(*taken: int) -> Callable[[int], bool]:
    return lambda port: port not in taken


def at(block: int, port: int | None = None) -> Assigned:
    return Assigned(port=port or block, block=block)


@pytest.mark.parametrize(
    ("containers", "kept", "taken", "expected"),
    [
        pytest.param([("a", None), ("b", None)], {}, (), {"a": at(20000), "b": at(20100)}, id="a block each"),
        pytest.param([("a", None)], {}, (20000,), {"a": at(20100)}, id="a block that is taken is passed over"),
        pytest.param([("a", None)], {"a": at(20500)}, (20500,), {"a": at(20500)}, id="its own listener is no obstacle"),
        pytest.param(
            [("a", None), ("n", None)], {"a": at(20000)}, (20000,), {"a": at(20000), "n": at(20100)}, id="new"
        ),
        pytest.param(
            [("n", None)], {"gone": at(20000)}, (), {"n": at(20000)}, id="what a removed one had is free again"
        ),
        pytest.param([("a", 8080)], {}, (), {"a": at(20000, 8080)}, id="an explicit port, and a block for the rest"),
        pytest.param([("a", 8081)], {"a": at(20000, 8080)}, (8080,), {"a": at(20000, 8081)}, id="it moves"),
        pytest.param(
            [("a", None)], {"a": at(20000, 8080)}, (8080,), {"a": at(20000)}, id="it moves back into its block"
        ),
        pytest.param([("a", None), ("b", 20000)], {}, (), {"a": at(20100), "b": at(20200, 20000)}, id="explicit first"),
    ],
)
def test_ports(
    containers: list[tuple[str, int | None]],
    kept: dict[str, Assigned],
    taken: tuple[int, ...],
    expected: dict[str, Assigned],
) -> None:
    assert ports.assign(containers, kept, free_but(*taken)) == expected


def test_an_explicit_port_that_is_taken_names_container_port_and_fix() -> None:
    with pytest.raises(PortTaken, match=r"container a: port 8080 is taken .* change port in the spec"):
        ports.assign([("a", 8080)], {}, free_but(8080))


def test_blocks_run_out_with_a_text() -> None:
    with pytest.raises(PortTaken, match="no free block of 100 ports"):
        ports.assign([("a", None)], {}, lambda _port: False)


def test_the_router_gets_the_first_free_port_that_no_container_needs() -> None:
    assert ports.router_port(None, {8080}, free_but(8081)) == 8082


@pytest.mark.parametrize(
    ("avoid", "taken"), [pytest.param({9000}, (), id="a container's"), pytest.param((), (9000,), id="taken")]
)
def test_a_router_port_that_cannot_be_had_names_the_option(avoid: set[int], taken: tuple[int, ...]) -> None:
    with pytest.raises(PortTaken, match=r"port 9000 is taken .* --port"):
        ports.router_port(9000, avoid, free_but(*taken))


@pytest.mark.parametrize("host", ["127.0.0.1", ""])
def test_a_port_with_a_listener_is_not_free_whichever_address_it_has(host: str) -> None:
    with socket.create_server((host, 0)) as listener:
        port = listener.getsockname()[1]
        assert not ports.is_free(port)
    assert ports.is_free(port)
