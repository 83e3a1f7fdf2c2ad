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


QUIET_SECONDS = 2.0
"""For so long nobody new must have come to a pod that ends."""


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_pod_that_ends_stays_ready_and_serves_until_nobody_new_comes(tmp_path: Path, workers: str) -> None:
    longest_pause, faults = QUIET_SECONDS, list[object]()
    for turn in range(3):
        if longest_pause > QUIET_SECONDS / 2:  # the machine stood still for as long as nobody new came
            (tmp_path / str(turn)).mkdir()
            longest_pause, faults = callers_of_a_pod_that_ends(tmp_path / str(turn), workers)
    assert faults == []


def callers_of_a_pod_that_ends(tmp_path: Path, workers: str) -> tuple[float, list[object]]:
    """The longest time in which nobody new came while somebody should have, and what went wrong."""
    port = processes.free_port()
    faults: list[object] = []
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
        last, longest_pause = time.monotonic(), 0.0
        end = last + 4  # well over the drain and the quiet time: somebody new comes all the time
        while last < end and not faults:
            try:
                reply = post(router.port, b"x", target="a")
                if (reply.status, reply.headers.get("connection")) != (200, "close") or not router.is_ready():
                    faults.append(reply)
            except (OSError, http.client.HTTPException) as error:
                faults.append(error)
            longest_pause, last = max(longest_pause, time.monotonic() - last), time.monotonic()
            time.sleep(0.02)
        if released:
            faults.append("it has ended while somebody came")
        waiting.join(20)
        ((status, when),) = released
        if status != 200 or not when - last > 1:
            faults.append((status, when - last))
        if (code := router.process.wait(10)) != 0:
            faults.append(code)
    return longest_pause, faults


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
