"""The access log and the timing header of a real router: what each request leaves, and what it never leaves."""

import http.client
import json
import re
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support import http as caller
from support import processes
from support.scripted import Scripted, body_of, ok, request, scripted

KEYS = [
    *("time", "level", "logger", "event", "requestId", "caller", "endpoint", "target", "status", "cause", "cut"),
    *("seconds", "modelSeconds", "requestBytes", "responseBytes"),
]
SECRETS: dict[str, Any] = {
    "Authorization": "Bearer s3cret",
    "X-Amzn-SageMaker-Custom-Attributes": "s3cret-attributes",
    "X-Amzn-SageMaker-Inference-Id": "s3cret-id",
    "tracestate": "vendor=s3cret",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
}


def answers(_: Scripted, connection: socket.socket, data: bytes) -> None:
    while data:
        body = body_of(connection, data)
        if body == b"cut me":
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\ns3cret part")
            time.sleep(0.2)  # the end does not come in one piece with it
            return
        if body == b"never":
            connection.recv(1)  # until the caller is gone
            return
        if body.startswith(b"stream"):
            connection.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            for _piece in range(5):
                connection.sendall(b"64\r\n" + b"s" * 100 + b"\r\n")
                time.sleep(0.01)
            connection.sendall(b"0\r\n\r\n")
        elif body == b"fail":
            connection.sendall(b"HTTP/1.1 500 X\r\ncontent-length: 11\r\n\r\ns3cret body")
        else:
            connection.sendall(ok(b"s3cret answer", b"x-amzn-sagemaker-custom-attributes: s3cret"))
        data = connection.recv(65536)


@contextmanager
def logged(tmp_path: Path, which: str, *options: str) -> Iterator[processes.Router]:
    with (
        scripted(answers) as container,
        processes.router(
            tmp_path, processes.table("Direct", {"a": container.port}), "--access-log", which, *options
        ) as router,
    ):
        yield router


def lines(router: processes.Router) -> list[dict[str, Any]]:
    """What the access log says so far."""
    found = map(json.loads, router.log.read_text().splitlines())
    return [line for line in found if line["logger"] == "mce_router.access"]


def wait_for_lines(router: processes.Router, count: int) -> list[dict[str, Any]]:
    processes.wait_until(f"{count} lines", lambda: len(lines(router)) >= count, 10)
    return lines(router)


def all_sorts(router: processes.Router) -> None:
    """One request of each sort."""
    assert caller.post(router.port, b"s3cret request", "a", **SECRETS).status == 200
    assert caller.post(router.port, b"fail", "a", **SECRETS).status == 424
    assert caller.post(router.port, b"x", "s3cret-target").status == 400
    assert b" 400 " in caller.raw(router.port, b"GET s3cret\r\n\r\n")
    assert caller.post(router.port, b"x", path="/s3cret").status == 404
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        caller.post(router.port, b"cut me", "a")
    with socket.create_connection(("127.0.0.1", router.port)) as connection:
        connection.sendall(request(b"never"))
        processes.wait_until("in flight", lambda: router.sample("mce_inflight", container="a") == 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def test_all_requests_leave_a_line_with_the_documented_keys_and_nothing_secret(tmp_path: Path) -> None:
    with logged(tmp_path, "all") as router:
        all_sorts(router)
        found = wait_for_lines(router, 7)
        text = router.log.read_text()
    assert len(found) == 7
    assert all(list(line) == KEYS for line in found)
    seen = [(line["event"], line["status"], line["cause"], line["cut"], line["target"]) for line in found]
    assert seen == [
        ("invoke", 200, "", False, "a"),
        ("invoke", 424, "ServerErrorFromModel", False, "a"),
        ("invoke", 400, "TargetUnknown", False, ""),
        ("refused", 400, "BadRequest", False, ""),
        ("refused", 404, "PathUnknown", False, ""),
        ("invoke", 200, "ModelBrokeOff", True, "a"),
        ("invoke", 499, "CallerGone", False, "a"),
    ]
    assert (found[0]["requestBytes"], found[0]["responseBytes"]) == (14, 13)
    assert len({line["requestId"] for line in found}) == 7
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+", line["caller"]) for line in found)
    assert "s3cret" not in text
    assert "0af7651916cd43dd8448eb211c80319c" not in text


def test_of_errors_only_those_are_logged(tmp_path: Path) -> None:
    with logged(tmp_path, "errors") as router:
        all_sorts(router)
        assert caller.post(router.port, b"x", "a").status == 200
        found = wait_for_lines(router, 6)
        assert all(line["cause"] for line in found)


def test_off_is_off(tmp_path: Path) -> None:
    with logged(tmp_path, "off") as router:
        all_sorts(router)
        router.terminate()
        assert router.process.wait(10) == 0
        assert lines(router) == []


def test_a_stream_is_logged_with_all_its_bytes(tmp_path: Path) -> None:
    with logged(tmp_path, "all") as router:
        assert len(caller.post(router.port, b"stream" * 10, "a", chunked=True).body) == 500
        (line,) = wait_for_lines(router, 1)
    assert (line["requestBytes"], line["responseBytes"], line["status"]) == (60, 500, 200)
    assert line["seconds"] >= line["modelSeconds"] > 0.03


def test_a_ping_leaves_no_line_and_what_was_logged_last_is_written_before_the_end(tmp_path: Path) -> None:
    with logged(tmp_path, "all", "--drain-seconds", "0") as router:
        assert processes.get(f"{router.url}/ping")[0] == 200
        assert caller.post(router.port, b"x", "a").status == 200
        router.terminate()
        assert router.process.wait(10) == 0
        assert [line["event"] for line in lines(router)] == ["invoke"]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_who_does_not_read_the_log_stops_nothing_and_the_router_ends(tmp_path: Path, workers: str) -> None:
    """Its standard output is a pipe that is full."""
    with scripted(answers) as container:
        table = tmp_path / "table.json"
        table.write_text(json.dumps(processes.table("Direct", {"a": container.port})))
        port, admin = processes.free_port(), processes.free_port()
        command = [sys.executable, "-m", "mce_router", "--table", str(table), "--listen", f"127.0.0.1:{port}"]
        command += ["--admin", f"127.0.0.1:{admin}", "--access-log", "all", "--drain-seconds", "0"]
        command += ["--workers", workers]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as it:
            try:
                router = processes.Router(it, port, admin, table, tmp_path / "none")
                processes.wait_until("ready", router.is_ready)
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
                for _ in range(400):
                    connection.request("POST", "/invocations", b"x", {caller.TARGET: "a"})
                    assert connection.getresponse().read() == b"s3cret answer"
                connection.close()
                router.terminate()
                began = time.monotonic()
                assert it.wait(15) == 0
                assert time.monotonic() - began < 8
            finally:
                it.kill()


def test_lines_that_nobody_takes_are_counted(tmp_path: Path) -> None:
    with scripted(answers) as container:
        table = tmp_path / "table.json"
        table.write_text(json.dumps(processes.table("Direct", {"a": container.port})))
        port, admin = processes.free_port(), processes.free_port()
        command = [sys.executable, "-m", "mce_router", "--table", str(table), "--listen", f"127.0.0.1:{port}"]
        command += ["--admin", f"127.0.0.1:{admin}", "--access-log", "all"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as it:
            try:
                router = processes.Router(it, port, admin, table, tmp_path / "none")
                processes.wait_until("ready", router.is_ready)
                assert it.stdout is not None
                it.stdout.close()
                for _ in range(5):
                    assert caller.post(port, b"x", "a").status == 200
                processes.wait_until("counted", lambda: router.sample("mce_access_log_dropped_total") == 5, 10)
            finally:
                it.kill()


# --- Server-Timing


def timings(reply: caller.Reply) -> list[tuple[str, float]]:
    """Names and milliseconds of the header, in order."""
    found = []
    for part in reply.headers["server-timing"].split(","):
        match = re.fullmatch(r"\s*([\w-]+);dur=([\d.]+)", part)
        assert match is not None, part
        found.append((match[1], float(match[2])))
    return found


def slow(_: Scripted, connection: socket.socket, data: bytes) -> None:
    while data:
        time.sleep(0.1)
        connection.sendall(ok(b"x"))
        data = connection.recv(65536)


def test_who_asks_is_told_how_long_each_container_took(tmp_path: Path) -> None:
    with (
        scripted(slow) as container,
        processes.router(tmp_path, processes.table("Direct", {"a": container.port})) as it,
    ):
        (name, took), (last, rest) = timings(caller.post(it.port, b"x", "a", X_Mce_Trace="1"))
        assert (name, last) == ("a", "mce-router")
        assert took >= 100
        assert 0 <= rest < took
        for value in ("", "0", "yes"):
            assert "server-timing" not in caller.post(it.port, b"x", "a", X_Mce_Trace=value).headers


def test_a_chain_names_its_containers_in_order(tmp_path: Path) -> None:
    with scripted(slow) as one, scripted(slow) as two, scripted(slow) as three:
        ports = {"one": one.port, "two": two.port, "three": three.port}
        with processes.router(tmp_path, processes.table("Serial", ports)) as router:
            found = timings(caller.post(router.port, b"x", X_Mce_Trace="1"))
    assert [name for name, _ in found] == ["one", "two", "three", "mce-router"]
    assert all(took >= 100 for _, took in found[:3])


def test_errors_have_it_too_a_refusal_with_the_router_alone(tmp_path: Path) -> None:
    with logged(tmp_path, "off") as router:
        failed = caller.post(router.port, b"fail", "a", X_Mce_Trace="1")
        assert (failed.status, [name for name, _ in timings(failed)]) == (424, ["a", "mce-router"])
        refused = caller.post(router.port, b"x", "nobody", X_Mce_Trace="1")
        assert (refused.status, [name for name, _ in timings(refused)]) == (400, ["mce-router"])


def test_targets_say_when_each_container_was_asked_last(tmp_path: Path) -> None:
    with logged(tmp_path, "off") as router:
        first = router.targets()["a"]["lastPing"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", first)
        processes.wait_until("asked again", lambda: router.targets()["a"]["lastPing"] > first, 15)
