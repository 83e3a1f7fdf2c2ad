"""A drain as callers see it who were there before it began."""

import contextlib
import http.client
import threading
import time
from pathlib import Path

import pytest

from mce_api import names
from support import processes
from support.http import post

TESTS = str(Path(__file__).parents[1])


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
