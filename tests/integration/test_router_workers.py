"""Several workers behind one data port: real processes that are added up, killed, replaced, drained and ended."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from mce_api import names
from support import http as caller
from support import processes

WORKERS = ("--workers", "2")
CALLS = "mce_container_invocations_total"


def children(router: processes.Router) -> set[int]:
    """The processes that the supervisor started and that live."""
    pid = router.process.pid
    return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@contextmanager
def routed(tmp_path: Path, *options: str, slow_ms: int = 0, **more: Any) -> Iterator[processes.Router]:
    """A router of two workers in front of one container called `a`."""
    port = processes.free_port()
    with (
        processes.model("a", port, tmp_path / "a.log", SLOW_MS=str(slow_ms)),
        processes.router(tmp_path, processes.table("Direct", {"a": port}, **more), *WORKERS, *options) as router,
    ):
        pids = children(router)
        yield router
        for pid in {*pids, *(children(router) if router.process.poll() is None else ())}:
            if router.process.poll() is not None:
                processes.wait_until("no worker is left", lambda pid=pid: not is_alive(pid), 5)


def invoke(connection: http.client.HTTPConnection) -> int:
    """One invocation on a connection that stays open; 0 when the connection was lost."""
    try:
        connection.request("POST", "/invocations", b"x", {caller.TARGET: "a"})
        reply = connection.getresponse()
        reply.read()
    except (ConnectionError, http.client.HTTPException):
        return 0
    return reply.status


def connections(stack: ExitStack, router: processes.Router, count: int) -> list[http.client.HTTPConnection]:
    """Open connections, so many that each worker has some; none makes a new one by itself."""
    made = []
    for _ in range(count):
        connection = http.client.HTTPConnection("127.0.0.1", router.port, timeout=20)
        connection.connect()
        connection.auto_open = 0
        stack.callback(connection.close)
        made.append(connection)
    return made


def test_what_several_workers_count_adds_up(tmp_path: Path) -> None:
    with routed(tmp_path, limits={"maxConcurrency": 7}) as router, ExitStack() as stack:
        assert [invoke(connection) for connection in connections(stack, router, 20)] == [200] * 20
        assert router.sample(CALLS, container="a") == 20
        assert router.sample("mce_model_latency_seconds_count") == 20
        assert router.sample("mce_connections") == 20
        assert router.sample("mce_container_healthy", container="a") == 1
        assert router.sample("mce_workers") == 2
        assert router.sample("mce_worker_restarts_total") == 0
        assert router.sample("mce_limit", limit="max_concurrency") == 7
        assert router.sample("mce_limit", limit="max_request_bytes") == 6291456
        assert (router.targets()["a"]["invocations"], router.targets()["a"]["state"]) == (20, "Healthy")
        assert processes.get(f"{router.admin_url}/startup/a")[0] == 200
        assert processes.get(f"{router.admin_url}/startup/b")[0] == 404


def test_a_killed_worker_is_replaced_and_takes_only_its_own_connections_and_no_count(tmp_path: Path) -> None:
    with routed(tmp_path) as router, ExitStack() as stack:
        opened = connections(stack, router, 20)
        assert [invoke(connection) for connection in opened] == [200] * 20
        before = router.sample(CALLS, container="a")
        workers = children(router)
        victim = min(workers)
        os.kill(victim, signal.SIGKILL)
        counts = [before]

        def replaced() -> bool:
            counts.append(router.sample(CALLS, container="a"))
            return router.sample("mce_worker_restarts_total") == 1 and router.is_ready()

        processes.wait_until("replaced", replaced)
        assert counts == sorted(counts)
        assert workers - {victim} < children(router)
        assert router.sample("mce_workers") == 2
        again = [invoke(connection) for connection in opened]
        assert 0 < again.count(200) < 20
        assert again.count(200) + again.count(0) == 20
        assert router.sample(CALLS, container="a") == 20 + again.count(200)
        assert {invoke(connection) for connection in connections(stack, router, 20)} == {200}
        ends = [json.loads(line) for line in router.log.read_text().splitlines() if "worker ended" in line]
        assert [(end["cause"], end["worker"] in {0, 1}) for end in ends] == [("signal SIGKILL", True)]


def test_a_router_that_misses_a_worker_is_not_ready_and_says_so(tmp_path: Path) -> None:
    with routed(tmp_path) as router:
        stuck = min(children(router))
        os.kill(stuck, signal.SIGSTOP)
        try:
            status, text = processes.get(f"{router.admin_url}/readyz")
            assert (status, text.count(b"it does not answer")) == (503, 1)
            assert processes.get(f"{router.admin_url}/healthz")[0] == 200
        finally:
            os.kill(stuck, signal.SIGCONT)
        processes.wait_until("ready again", router.is_ready)


def test_a_signal_to_a_worker_alone_changes_nothing(tmp_path: Path) -> None:
    with routed(tmp_path) as router:
        workers = children(router)
        for pid in workers:
            os.kill(pid, signal.SIGTERM)
            os.kill(pid, signal.SIGINT)
        assert {caller.post(router.port, b"x", target="a").status for _ in range(10)} == {200}
        assert router.is_ready()
        assert children(router) == workers


@pytest.mark.parametrize("begin", ["signal", "call", "hook"])
def test_a_drain_loses_no_request_of_any_worker(tmp_path: Path, begin: str) -> None:
    with routed(tmp_path, slow_ms=4000) as router, ExitStack() as stack:
        statuses: list[int] = []
        threads = [
            threading.Thread(target=lambda one=one: statuses.append(invoke(one)))
            for one in connections(stack, router, 16)
        ]
        for thread in threads:
            thread.start()
        processes.wait_until("all are in flight", lambda: router.sample("mce_inflight", container="a") == 16)
        if begin == "signal":
            router.terminate()
        elif begin == "call":
            connection = http.client.HTTPConnection("127.0.0.1", router.admin)
            stack.callback(connection.close)
            connection.request("POST", "/drain")
            assert connection.getresponse().status == 202
        else:
            path = f"/prestop/{names.ROUTER_CONTAINER}"
            hook = threading.Thread(target=lambda: processes.get(router.admin_url + path))
            hook.start()
            threads.append(hook)
        processes.wait_until("draining", lambda: router.sample("mce_draining") == 1, 4)
        assert router.is_ready() == (begin == "hook")  # a pod that ends may be the only one that its Service has
        for thread in threads:
            thread.join()
        assert statuses == [200] * 16
        assert router.process.wait(10) == 0


def test_a_second_signal_ends_all_workers_at_once(tmp_path: Path) -> None:
    with routed(tmp_path, slow_ms=60000) as router, ExitStack() as stack:
        workers = children(router)
        for connection in connections(stack, router, 8):
            connection.request("POST", "/invocations", b"x", {caller.TARGET: "a"})
        processes.wait_until("in flight", lambda: router.sample("mce_inflight", container="a") == 8)
        os.kill(min(workers), signal.SIGSTOP)  # not even this one stays
        router.terminate()
        processes.wait_until("draining", lambda: router.sample("mce_draining") == 1)
        router.terminate()
        assert router.process.wait(10) == 0
        assert not any(map(is_alive, workers))


def test_no_worker_outlives_a_killed_supervisor(tmp_path: Path) -> None:
    with routed(tmp_path) as router:
        workers = children(router)
        assert len(workers) == 2
        router.process.kill()
        processes.wait_until("no orphan", lambda: not any(map(is_alive, workers)), 5)


def test_a_new_table_reaches_all_workers_once_and_a_bad_one_none_not_even_a_new_worker(tmp_path: Path) -> None:
    port, reloads = processes.free_port(), "mce_route_table_reloads_total"
    with processes.model("b", port, tmp_path / "b.log"), routed(tmp_path) as router, ExitStack() as stack:
        table = json.loads(router.table.read_text())
        table["targets"].append({"name": "b", "port": port})
        router.table.write_text(json.dumps(table))
        processes.wait_until("loaded", lambda: router.sample(reloads, result="good") == 1)
        opened = connections(stack, router, 16)
        for one in opened:
            one.request("POST", "/invocations", b"x", {caller.TARGET: "b"})
        replies = [one.getresponse() for one in opened]
        assert {reply.status for reply in replies} == {200}
        assert router.sample(CALLS, container="b") == 16
        table["limits"] = {"maxConcurrency": 1}
        router.table.write_text(json.dumps(table))
        processes.wait_until("refused", lambda: router.sample(reloads, result="bad") == 1)
        assert "limits.maxConcurrency: 1 is less than the 2 workers" in router.log.read_text()
        os.kill(min(children(router)), signal.SIGKILL)
        processes.wait_until("replaced", lambda: router.sample("mce_worker_restarts_total") == 1 and router.is_ready())
        assert {caller.post(router.port, b"x", target="b").status for _ in range(16)} == {200}
        assert router.sample(reloads, result="good") == 1


def _start(table: Path, listen: str, *options: str) -> subprocess.CompletedProcess[str]:
    arguments = ["--table", str(table), "--listen", listen, "--admin", "127.0.0.1:0", *options]
    return subprocess.run(
        [sys.executable, "-m", "mce_router", *arguments], capture_output=True, text=True, check=False, timeout=30
    )


@pytest.mark.parametrize("content", ["", "{", '{"mode":"direct"}'], ids=["empty", "no-json", "no-table"])
def test_a_bad_table_ends_the_start_with_the_same_words_as_with_one_process(tmp_path: Path, content: str) -> None:
    table = tmp_path / "table.json"
    table.write_text(content)
    one, several = _start(table, "127.0.0.1:0"), _start(table, "127.0.0.1:0", *WORKERS)
    assert (one.returncode, one.stderr) == (several.returncode, several.stderr)
    assert several.returncode == 1
    assert several.stderr.startswith(f"mce_router: {table}: ")


def test_a_taken_port_ends_the_start_with_the_same_words_as_with_one_process(tmp_path: Path) -> None:
    table = tmp_path / "table.json"
    table.write_text(json.dumps(processes.table("Direct", {"a": 9})))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        one, several = _start(table, listen), _start(table, listen, *WORKERS)
    assert (one.returncode, one.stderr) == (several.returncode, several.stderr)
    assert several.returncode == 1
    assert several.stderr.startswith("mce_router: can not listen: ")


def test_a_cap_that_can_not_be_shared_ends_the_start(tmp_path: Path) -> None:
    table = tmp_path / "table.json"
    document = processes.table("Direct", {"a": 9})
    document["targets"][0]["maxConcurrency"] = 1
    table.write_text(json.dumps(document))
    done = _start(table, "127.0.0.1:0", *WORKERS)
    assert done.returncode == 1
    assert "targets[0].maxConcurrency: 1 is less than the 2 workers" in done.stderr


def test_a_worker_loads_no_http_server_of_its_own(tmp_path: Path) -> None:
    with routed(tmp_path) as router:
        for pid in children(router):
            assert "aiohttp" not in Path(f"/proc/{pid}/maps").read_text()
        assert "aiohttp" in Path(f"/proc/{router.process.pid}/maps").read_text()


@pytest.mark.parametrize("count", ["0", "65", "-1", "two"])
def test_a_wrong_number_of_workers_is_named(tmp_path: Path, count: str) -> None:
    done = _start(tmp_path / "t", "127.0.0.1:0", f"--workers={count}")
    assert done.returncode == 2
    assert f"'{count}' is not a number from 1 to 64" in done.stderr
