"""Another user's process in a container's place: it gets no byte, and the container's own process gets all of them."""

import errno
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mce_router import listener
from support import http as caller
from support import processes

SQUATTER = Path(processes.__file__).with_name("squatter.py")
STRANGER = 20001
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a process as another user")
ways = pytest.mark.parametrize("way", [listener.Netlink, listener.Proc])


@contextmanager
def squatter(log: Path, port: int, host: str = "127.0.0.1", how: str = "answer") -> Iterator[Path]:
    """A process of user 20001 on `port`, listening or refused; yields what it says."""
    arguments = (str(STRANGER), host, str(port), how)
    with processes.process(sys.executable, str(SQUATTER), *arguments, log=log):
        processes.wait_until("the squatter tried", lambda: "\n" in log.read_text())
        yield log


def table(port: int, uid: int) -> dict[str, Any]:
    made = processes.table("Direct", {"a": port})
    made["targets"][0]["uid"] = uid
    return made


def asked(way: type[listener.Netlink | listener.Proc], connection: socket.socket) -> int | None:
    kernel = way()
    try:
        return listener.owner(kernel.find, connection.getpeername(), connection.getsockname())
    finally:
        kernel.close()


# --- the router


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_the_containers_own_user_is_served(tmp_path: Path, host: str) -> None:
    port = processes.free_port()
    with (
        processes.model("a", port, tmp_path / "a.log", HOST=host),
        processes.router(tmp_path, table(port, os.geteuid())) as router,
    ):
        assert caller.post(router.port, b"x", target="a", content_type="text/plain").body == b"a(x)"
        assert b'"listenerCheck": "netlink"' in processes.get(f"{router.admin_url}/targets")[1]


def test_another_user_in_a_containers_place_gets_no_byte_and_is_named(tmp_path: Path) -> None:
    wanted = os.geteuid() + 1
    read = []
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        processes.router(tmp_path, table(server.getsockname()[1], wanted), ready=False) as router,
    ):
        port = server.getsockname()[1]
        why = f"port {port} is held by user {os.geteuid()}, not by user {wanted}"
        processes.wait_until("a ping was refused", lambda: router.targets()["a"]["lastError"] == why)
        assert not router.is_ready()
        reply = caller.post(router.port, b"secret", target="a")
        assert (reply.status, reply.headers["x-mce-reason"]) == (424, "ModelImpostor")
        assert reply.headers["x-amzn-errortype"] == "ModelError"
        assert why in reply.json()["Message"]
        assert router.sample("mce_errors_total", reason="ModelImpostor") == 1
        server.settimeout(5)
        for _ in range(3):
            with server.accept()[0] as connection:
                connection.settimeout(5)
                try:
                    read.append(connection.recv(100))
                except ConnectionResetError:
                    read.append(b"")
        assert read == [b""] * 3
    assert "another user listens on the port of a container" in router.log.read_text()


@needs_root
def test_a_sibling_that_takes_the_port_of_a_container_that_is_down_gets_none_of_its_requests(tmp_path: Path) -> None:
    port = processes.free_port()
    log = tmp_path / "squatter.log"
    with processes.router(tmp_path, table(port, 0), ready=False) as router:
        with processes.model("a", port, tmp_path / "a.log"):
            processes.wait_until("ready", router.is_ready)
            assert caller.post(router.port, b"1", target="a", content_type="text/plain").body == b"a(1)"
        with squatter(log, port):
            replies = [caller.post(router.port, b"secret", target="a") for _ in range(10)]
            processes.wait_until("the sick container is seen", lambda: not router.is_ready())
        assert {reply.headers["x-mce-reason"] for reply in replies} == {"ModelImpostor"}
        assert "accepted" in log.read_text()
        assert "read" not in log.read_text()
        with processes.model("a", port, tmp_path / "a.log"):
            processes.wait_until("ready again", router.is_ready)
            assert caller.post(router.port, b"2", target="a", content_type="text/plain").body == b"a(2)"


@needs_root
@pytest.mark.parametrize("host", ["::1", "::", "127.0.0.2"])
def test_a_sibling_on_another_address_of_the_same_port_changes_nothing(tmp_path: Path, host: str) -> None:
    port = processes.free_port()
    with (
        processes.model("a", port, tmp_path / "a.log", HOST="127.0.0.1"),
        squatter(tmp_path / "squatter.log", port, host) as said,
        processes.router(tmp_path, table(port, 0)) as router,
    ):
        assert said.read_text() == "listening\n"
        for _ in range(5):
            assert caller.post(router.port, b"x", target="a", content_type="text/plain").body == b"a(x)"
        assert said.read_text() == "listening\n"


# --- the kernel


@needs_root
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", ":::dual"])
def test_two_users_can_not_share_a_port_of_one_address(tmp_path: Path, host: str) -> None:
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        server.bind(("127.0.0.1", 0))
        server.listen()
        with squatter(tmp_path / "squatter.log", server.getsockname()[1], host) as said:
            assert said.read_text() == f"refused {errno.EADDRINUSE}\n"


@needs_root
@ways
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", ":::dual", "::ffff:127.0.0.1:dual"])
@pytest.mark.parametrize("how", ["answer", "queue"])
def test_the_user_of_a_listener_is_known_whatever_address_it_has(
    tmp_path: Path, way: type[listener.Netlink | listener.Proc], host: str, how: str
) -> None:
    port = processes.free_port()
    with squatter(tmp_path / "squatter.log", port, host, how), socket.create_connection(("127.0.0.1", port)) as ours:
        assert asked(way, ours) == STRANGER


@needs_root
@ways
@pytest.mark.parametrize("host", ["::1", "::", "127.0.0.2"])
def test_a_stranger_on_another_address_is_not_taken_for_the_listener(
    tmp_path: Path, way: type[listener.Netlink | listener.Proc], host: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with squatter(tmp_path / "squatter.log", port, host), socket.create_connection(("127.0.0.1", port)) as ours:
            assert asked(way, ours) == 0


@needs_root
@ways
def test_a_connection_stays_its_acceptors_when_the_rightful_listener_comes(
    tmp_path: Path, way: type[listener.Netlink | listener.Proc]
) -> None:
    port = processes.free_port()
    with (
        squatter(tmp_path / "squatter.log", port, how="once") as said,
        socket.create_connection(("127.0.0.1", port)) as ours,
    ):
        processes.wait_until("its listener is closed", lambda: "closed" in said.read_text())
        with socket.create_server(("127.0.0.1", port)):
            assert asked(way, ours) == STRANGER
            with socket.create_connection(("127.0.0.1", port)) as next_one:
                assert asked(way, next_one) == 0


@ways
def test_a_connection_that_is_over_belongs_to_nobody(way: type[listener.Netlink | listener.Proc]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        server.accept()[0].close()
    with ours:
        assert asked(way, ours) is None
