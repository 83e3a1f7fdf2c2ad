"""A drain as callers see it who were there before it began."""

import contextlib
import http.client
import sys
import threading
import time
from pathlib import Path

import pytest

from mce_api import names
from soak import letters
from soak.letters import Wish
from support import processes
from support.http import TARGET, post

TESTS = str(Path(__file__).parents[1])


def test_a_connection_that_was_not_told_to_close_serves_its_next_request_in_the_drain(tmp_path: Path) -> None:
    """The head of the long reply went out before the drain: only the next answer can say `Connection: close`."""
    port = processes.free_port()
    command = (sys.executable, "-m", "soak.container", "a", str(port))
    table = processes.table("Direct", {"a": port})
    with (
        processes.process(*command, log=tmp_path / "a.log", PYTHONPATH=TESTS),
        processes.router(tmp_path, table, "--drain-seconds", "6") as router,
        contextlib.closing(http.client.HTTPConnection("127.0.0.1", router.port, timeout=20)) as connection,
    ):
        connection.request("POST", "/invocations", letters.body(1, 100, Wish("e", "c", 1500)), {TARGET: "a"})
        first = connection.getresponse()
        assert first.getheader("connection") is None
        router.terminate()
        processes.wait_until("not ready", lambda: processes.get(f"{router.url}/ping")[0] != 200, 5)
        assert first.read() == b"a:" + letters.body(1, 100, Wish("e", "c", 1500))
        connection.request("POST", "/invocations", letters.body(2, 100, Wish()), {TARGET: "a"})
        second = connection.getresponse()
        assert second.read() == b"a:" + letters.body(2, 100, Wish())
        assert second.getheader("connection") == "close"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_pod_that_ends_stays_ready_and_serves_until_nobody_new_comes(tmp_path: Path, workers: str) -> None:
    port = processes.free_port()
    with (
        processes.model("a", port, tmp_path / "a.log"),
        processes.router(tmp_path, processes.table("Direct", {"a": port}), "--workers", workers) as router,
    ):
        released: list[tuple[int, float]] = []

        def hook() -> None:
            path = f"/prestop/{names.ROUTER_CONTAINER}"
            with contextlib.closing(http.client.HTTPConnection("127.0.0.1", router.admin, timeout=60)) as connection:
                connection.request("GET", path)
                released.append((connection.getresponse().status, time.monotonic()))

        waiting = threading.Thread(target=hook)
        waiting.start()
        processes.wait_until("draining", lambda: router.sample("mce_draining") == 1)
        end = time.monotonic() + 4  # well over the drain and the quiet time: somebody new comes all the time
        while time.monotonic() < end:
            reply = post(router.port, b"x", target="a")
            assert (reply.status, reply.headers.get("connection")) == (200, "close")
            assert router.is_ready()
            time.sleep(0.02)
        last = time.monotonic()
        assert released == []
        waiting.join(20)
        ((status, when),) = released
        assert status == 200
        assert when - last > 1
        assert router.process.wait(10) == 0


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("begin", ["signal", "call"])
def test_a_router_that_is_told_to_leave_is_not_ready_at_once_and_serves_on(
    tmp_path: Path, workers: str, begin: str
) -> None:
    port = processes.free_port()
    options = ("--workers", workers, "--drain-seconds", "6")
    with (
        processes.model("a", port, tmp_path / "a.log"),
        processes.router(tmp_path, processes.table("Direct", {"a": port}), *options) as router,
    ):
        if begin == "signal":
            router.terminate()
        else:
            assert post(router.admin, path="/drain").status == 202
        processes.wait_until("not ready", lambda: not router.is_ready(), 4)
        assert processes.get(f"{router.admin_url}/readyz") == (503, b"draining\n")
        assert post(router.port, b"x", target="a").status == 200
        assert router.process.wait(20) == 0
