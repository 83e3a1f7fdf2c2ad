"""Start, health, reload, drain, exit of a real router process; and containers that break the rules."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest

from support import http as caller
from support import processes
from support.judge import Message
from support.law import ok
from support.recorder import Do, Recorder, Step, recorder


@contextlib.contextmanager
def rogue(tmp_path: Path, *steps: Step) -> Iterator[tuple[processes.Router, Recorder]]:
    """A router in front of a container that does the same to every request, once it has read it whole."""
    with (
        recorder(lambda _: steps) as container,
        processes.router(tmp_path, processes.table("Direct", {"rogue": container.port})) as router,
    ):
        yield router, container


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        pytest.param(b"", "ModelBrokeOff", id="nothing"),
        pytest.param(b"garbage\r\n\r\n", "ModelBadReply", id="garbage"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\na", "ModelBadReply", id="lengths"
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\na", "ModelBadReply", id="both"
        ),
        pytest.param(b"HTTP/1.1 101 Switching\r\n\r\n", "ModelBadReply", id="switching"),
        pytest.param(b"HTTP/1.1 200 OK\r\nx: " + b"a" * 5000 + b"\r\n\r\n", "ModelHeadersTooLarge", id="headers"),
        pytest.param(
            b"HTTP/1.1 302 Found\r\nlocation: /x\r\ncontent-length: 0\r\n\r\n", "ServerErrorFromModel", id="redirect"
        ),
    ],
)
def test_a_bad_reply_is_a_model_error_and_asked_for_only_once(tmp_path: Path, answer: bytes, reason: str) -> None:
    with rogue(tmp_path, answer, Do.CLOSE) as (router, container):
        reply = caller.post(router.port, b"x", target="rogue")
    assert (reply.status, reply.headers["x-mce-reason"]) == (424, reason)
    assert len(container.whole) == 1


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\ncontent-length: 60\r\n\r\n" + b"a" * 20, id="length"),
        pytest.param(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\naaaaa\r\n", id="chunked"),
    ],
)
def test_a_reply_that_breaks_off_never_looks_whole(tmp_path: Path, answer: bytes) -> None:
    with rogue(tmp_path, answer, Do.CLOSE) as (router, _):
        with pytest.raises((http.client.IncompleteRead, ConnectionError, http.client.HTTPException)):
            caller.post(router.port, b"x", target="rogue")
        data = (
            b"POST /invocations HTTP/1.1\r\nHost: m\r\nContent-Length: 0\r\n%b: rogue\r\n\r\n" % caller.TARGET.encode()
        )
        assert b"ModelError" not in caller.raw(router.port, data)


def test_a_reply_that_ends_with_its_connection_is_whole(tmp_path: Path) -> None:
    with rogue(tmp_path, b"HTTP/1.1 200 OK\r\ncontent-type: a/b\r\n\r\nhello", Do.CLOSE) as (router, _):
        assert caller.post(router.port, b"x", target="rogue").body == b"hello"


def test_a_second_reply_that_nobody_asked_for_is_never_delivered(tmp_path: Path) -> None:
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nmine"
    with rogue(tmp_path, answer + b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nstolen") as (router, _):
        for _ in range(3):
            assert caller.post(router.port, b"x", target="rogue").body == b"mine"


def test_a_caller_that_leaves_takes_its_request_along(tmp_path: Path) -> None:
    port = processes.free_port()
    with (
        processes.model("slow", port, tmp_path / "slow.log", SLOW_MS="60000"),
        processes.router(tmp_path, processes.table("Direct", {"slow": port})) as router,
    ):
        data = (
            b"POST /invocations HTTP/1.1\r\nHost: m\r\nContent-Length: 0\r\n%b: slow\r\n\r\n" % caller.TARGET.encode()
        )
        with socket.create_connection(("127.0.0.1", router.port)) as connection:
            connection.sendall(data)
            processes.wait_until("in flight", lambda: router.sample("mce_inflight", container="slow") == 1)
        processes.wait_until("given up", lambda: router.sample("mce_inflight", container="slow") == 0, 3)


def test_readiness_follows_the_containers(tmp_path: Path) -> None:
    port = processes.free_port()
    with processes.router(tmp_path, processes.table("Direct", {"late": port}), ready=False) as router:
        status, text = processes.get(f"{router.admin_url}/readyz")
        assert status == 503
        assert text.startswith(b"late: it is starting")
        assert processes.get(f"{router.admin_url}/startup/late")[0] == 503
        assert processes.get(f"{router.url}/ping")[0] == 503
        with processes.model("late", port, tmp_path / "late.log"):
            processes.wait_until("ready", router.is_ready, 5)
            assert processes.get(f"{router.admin_url}/startup/late")[0] == 200
            assert router.targets()["late"]["state"] == "Healthy"
        processes.wait_until("not ready", lambda: not router.is_ready(), 15)
        assert "nothing listens" in router.targets()["late"]["lastError"]


def test_who_waits_for_a_start_is_told_when_it_has_ended_and_who_does_not_is_told_at_once(tmp_path: Path) -> None:
    port = processes.free_port()
    with (
        processes.router(tmp_path, processes.table("Direct", {"late": port}), ready=False) as router,
        ThreadPoolExecutor() as pool,
    ):
        paths = ("startup/late", "readyz")
        assert [processes.get(f"{router.admin_url}/{path}")[0] for path in paths] == [503, 503]
        began = time.monotonic()
        assert [processes.get(f"{router.admin_url}/{path}?wait=0.4")[0] for path in paths] == [503, 503]
        assert time.monotonic() - began >= 0.8
        told = [pool.submit(processes.get, f"{router.admin_url}/{path}?wait=60", 70) for path in paths]
        time.sleep(0.5)
        assert not any(one.done() for one in told)
        with processes.model("late", port, tmp_path / "late.log"):
            assert [one.result(20)[0] for one in told] == [200, 200]
        processes.wait_until("not ready", lambda: not router.is_ready())
        # What has been ready is not waited for: it must get no more traffic.
        assert processes.get(f"{router.admin_url}/readyz?wait=60", 20)[0] == 503


def test_a_drain_ends_the_wait_for_a_start(tmp_path: Path) -> None:
    with (
        processes.router(tmp_path, processes.table("Direct", {"late": processes.free_port()}), ready=False) as router,
        ThreadPoolExecutor() as pool,
    ):
        told = pool.submit(processes.get, f"{router.admin_url}/readyz?wait=60", 70)
        time.sleep(0.3)
        assert caller.post(router.admin, path="/drain").status == 202
        assert told.result(20) == (503, b"draining\n")


def test_a_wait_that_is_no_number_of_seconds_is_refused(tmp_path: Path) -> None:
    made = processes.table("Direct", {"late": processes.free_port()})
    with processes.router(tmp_path, made, ready=False) as router:
        for path in ("readyz", "startup/late"):
            for wait in ("", "-1", "nan", "inf", "61", "1e1", "1_0", "9" * 400, "\u0661"):
                answer = processes.get(f"{router.admin_url}/{path}?wait={quote(wait)}")
                told = f"wait may be 0 to 60 seconds, such as wait=0.8, not {wait[:40]!a}\n"
                assert answer == (400, told.encode()), wait


def test_a_new_table_is_used_and_a_bad_one_is_not(tmp_path: Path) -> None:
    port, other = processes.free_port(), processes.free_port()
    with (
        processes.model("a", port, tmp_path / "a.log"),
        processes.model("b", other, tmp_path / "b.log"),
        processes.router(tmp_path, processes.table("Direct", {"a": port})) as router,
    ):
        assert caller.post(router.port, b"x", target="b").status == 400
        router.table.write_text(json.dumps(processes.table("Direct", {"a": port, "b": other})))
        processes.wait_until("b is served", lambda: caller.post(router.port, b"x", target="b").status == 200, 5)
        router.table.write_text('{"endpoint": 1}')
        reloads = "mce_route_table_reloads_total"
        processes.wait_until("refused", lambda: router.sample(reloads, result="bad") == 1, 5)
        assert caller.post(router.port, b"x", target="b").status == 200
        assert "route table refused" in router.log.read_text()


def test_a_drain_finishes_what_is_in_flight_then_exits_0(tmp_path: Path) -> None:
    go_on = threading.Event()
    with (
        recorder(lambda _: [go_on, ok(b"late")]) as container,
        processes.router(tmp_path, processes.table("Direct", {"slow": container.port})) as router,
        ThreadPoolExecutor() as pool,
    ):
        first = pool.submit(caller.post, router.port, b"x", target="slow")
        processes.wait_until("in flight", lambda: router.sample("mce_inflight", container="slow") == 1)
        router.terminate()
        processes.wait_until("not ready", lambda: not router.is_ready(), 2)
        late = caller.post(router.port, b"y", target="nobody")
        assert late.headers["connection"] == "close"
        go_on.set()
        assert first.result().status == 200
        assert router.process.wait(5) == 0


def test_a_connection_that_was_not_told_to_close_serves_its_next_request_in_the_drain(tmp_path: Path) -> None:
    """The head of the first reply went out before the drain: only the next one can say `Connection: close`."""
    go_on = threading.Event()

    def answer(message: Message) -> list[Step]:
        if message.body == b"first":
            return [b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfi", go_on, b"rst"]
        return [ok(message.body)]

    with (
        recorder(answer) as container,
        processes.router(tmp_path, processes.table("Direct", {"a": container.port}), "--drain-seconds", "6") as router,
        contextlib.closing(http.client.HTTPConnection("127.0.0.1", router.port, timeout=20)) as connection,
    ):
        connection.request("POST", "/invocations", b"first", {caller.TARGET: "a"})
        first = connection.getresponse()
        assert first.getheader("connection") is None
        router.terminate()
        processes.wait_until("not ready", lambda: processes.get(f"{router.url}/ping")[0] != 200, 5)
        go_on.set()
        assert first.read() == b"first"
        connection.request("POST", "/invocations", b"second", {caller.TARGET: "a"})
        second = connection.getresponse()
        assert second.read() == b"second"
        assert second.getheader("connection") == "close"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make the first process of a container")
def test_a_router_that_is_told_to_stop_while_it_starts_stops(tmp_path: Path) -> None:
    """The kernel drops a signal for the first process of a container, unless that has a handler for it by then."""
    arguments = ("--table", str(tmp_path / "none.json"), "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")
    first = ("unshare", "--pid", "--fork", "--kill-child", sys.executable, "-m", "mce_router", *arguments)
    # Without a table it would end by itself; reading this one takes until somebody writes it.
    os.mkfifo(tmp_path / "none.json")
    with processes.process(*first, log=tmp_path / "router.log") as parent:
        children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
        processes.wait_until("it has begun", lambda: children.read_text().split())
        (child,) = children.read_text().split()
        processes.wait_until("it loads its parts", lambda: "/uvloop/" in Path(f"/proc/{child}/maps").read_text())
        os.kill(int(child), signal.SIGTERM)
        assert parent.wait(20) == 0


def test_a_router_without_a_table_says_why_and_exits_1(tmp_path: Path) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text('{"mode":"direct"}')
    for path, complaint in ((tmp_path / "none.json", "No such file"), (bad, "mode: ")):
        command = [sys.executable, "-m", "mce_router", "--table", str(path), "--listen", ":0", "--admin", ":0"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert complaint in done.stderr


def test_a_wrong_address_is_named(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mce_router", "--table", "t", "--listen", "nowhere", "--admin", ":0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "'nowhere' is not HOST:PORT" in done.stderr
