"""One page for all containers: `/metrics?containers=1` over containers that answer well, late, badly, or never stop."""

import contextlib
import http.client
import itertools
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from support import http as caller
from support import processes

OK = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n"
Answer = Callable[[socket.socket], None]


def whole(body: bytes, *lines: bytes, status: bytes = b"200 OK") -> Answer:
    head = b"\r\n".join([b"HTTP/1.1 " + status, b"content-length: %d" % len(body), *lines])
    return lambda connection: connection.sendall(head + b"\r\n\r\n" + body)


def until_close(*pieces: bytes) -> Answer:
    return lambda connection: connection.sendall(OK + b"\r\n" + b"".join(pieces))


def chunked(*pieces: bytes, end: bytes = b"0\r\n\r\n") -> Answer:
    body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return lambda connection: connection.sendall(OK + b"transfer-encoding: chunked\r\n\r\n" + body + end)


def endless(head: bytes, piece: bytes) -> Answer:
    def answer(connection: socket.socket) -> None:
        connection.sendall(head)
        while True:
            connection.sendall(piece * (65536 // len(piece)))

    return answer


def silent(connection: socket.socket) -> None:
    connection.recv(1)


def drop_by_drop(connection: socket.socket) -> None:
    connection.sendall(OK + b"content-length: 1000\r\n\r\n")
    while True:
        connection.sendall(b"a 1\n")
        time.sleep(0.1)


@dataclass
class Container:
    """A model server: pings are answered, invocations echoed as `hi`, /metrics by a function."""

    answer: Answer
    server: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    requests: list[bytes] = field(default_factory=list)
    """What asked for /metrics."""

    @property
    def port(self) -> int:
        port: int = self.server.getsockname()[1]
        return port

    def accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.server.accept()
                threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            while data := connection.recv(65536):
                if data.startswith(b"GET /metrics "):
                    self.requests.append(data)
                    self.answer(connection)
                    return
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi")


@contextmanager
def containers(answers: dict[str, Answer]) -> Iterator[dict[str, Container]]:
    running = {name: Container(answer) for name, answer in answers.items()}
    for container in running.values():
        threading.Thread(target=container.accept, daemon=True).start()
    try:
        yield running
    finally:
        for container in running.values():
            with contextlib.suppress(OSError):
                container.server.shutdown(socket.SHUT_RDWR)
            container.server.close()


@contextmanager
def scraped(tmp_path: Path, **answers: Answer) -> Iterator[tuple[processes.Router, dict[str, Container]]]:
    with ExitStack() as stack:
        running = stack.enter_context(containers(answers))
        ports = {name: container.port for name, container in running.items()}
        yield stack.enter_context(processes.router(tmp_path, processes.table("Direct", ports))), running


def page(router: processes.Router, query: str = "?containers=1") -> str:
    """The page, which every reader must be able to read."""
    connection = http.client.HTTPConnection("127.0.0.1", router.admin, timeout=20)
    with contextlib.closing(connection):
        connection.request("GET", f"/metrics{query}", headers={"Accept": "application/openmetrics-text"})
        reply = connection.getresponse()
        text = reply.read().decode()
        assert reply.status == 200
        if query:
            assert reply.getheader("content-type", "").startswith("text/plain; version=0.0.4")
            list(text_string_to_metric_families(text))
        return text


def ours(text: str, name: str, container: str) -> float:
    start = f"mce_container_scrape_{name}{{"
    (line,) = [line for line in text.split("\n") if line.startswith(start) and f'container="{container}"' in line]
    return float(line.rpartition(" ")[2])


def theirs(text: str) -> list[str]:
    """Sample lines that are not of the router."""
    return [line for line in text.split("\n") if line and not line.startswith(("#", "mce_"))]


GOOD = b'# HELP up Is it up.\n# TYPE up gauge\nup{x="1"} 1\n'
SHOWN = 'up{namespace="test",endpoint="mnist",variant="AllTraffic",container="%s",x="1"} 1.0'

LATE_OR_TOO_BIG = {
    "silent": (silent, "no whole answer within 2 s"),
    "drop-by-drop": (drop_by_drop, "no whole answer within 2 s"),
    "endless-body": (endless(OK + b"\r\n", b"a 1\n"), "larger than 1048576 bytes"),
    "endless-head": (endless(OK, b"a: b\r\n"), "no answer within its headers"),
    "endless-interim": (endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), "no answer within its headers"),
    "tiny-chunks": (endless(OK + b"transfer-encoding: chunked\r\n\r\n", b"1\r\n#\r\n"), "larger than 1048576 bytes"),
    "too-many-lines": (whole(b"a 1\n" * 10_001), "more than 10000 lines"),
    "long-line": (whole(b"a" * 20_000), "line 1 is longer than 16384 characters"),
}
BAD = {
    "not-found": (whole(GOOD, status=b"404 Not Found"), "answered 404, not 200"),
    "redirect": (whole(b"", b"location: /", status=b"302 Found"), "answered 302, not 200"),
    "upgrade": (whole(b"", b"upgrade: x", status=b"101 Switching Protocols"), "answered 101, not 200"),
    "html": (whole(b"<html>"), "line 1 is not of the Prometheus text format"),
    "bad-last-line": (whole(GOOD + b"oh no\n"), "line 4 is not of the Prometheus text format"),
    "not-utf-8": (whole(GOOD + b"\xff"), "not UTF-8"),
    "compressed": (whole(b"\x1f\x8b\x08\x00", b"content-encoding: gzip"), "not UTF-8"),
    "not-http": (lambda connection: connection.sendall(b"SSH-2.0\r\n"), "not HTTP/1.1"),
    "cut-short": (lambda connection: connection.sendall(OK + b"content-length: 99\r\n\r\n" + GOOD), "broke off"),
    "chunks-cut-short": (chunked(GOOD, end=b""), "broke off"),
    "no-answer": (lambda _connection: None, "broke off"),
    "two-lengths": (whole(GOOD, b"content-length: 3"), "not HTTP/1.1"),
    "large-head": (whole(GOOD, b"x: " + b"a" * 20_000), "ambiguous or too large headers"),
}


@pytest.mark.parametrize("answers", [LATE_OR_TOO_BIG, BAD], ids=["late-or-too-big", "bad"])
def test_containers_that_give_no_page_cost_the_others_nothing_and_their_cause_is_logged_once(
    tmp_path: Path, answers: dict[str, tuple[Answer, str]]
) -> None:
    with scraped(tmp_path, good=whole(GOOD), **{name: answer for name, (answer, _) in answers.items()}) as (router, _):
        started = time.monotonic()
        text = page(router)
        assert time.monotonic() - started < 8
        assert theirs(text) == [SHOWN % "good"]
        assert [ours(text, name, "good") for name in ("success", "series", "dropped_series")] == [1, 1, 0]
        for name in answers:
            assert [ours(text, row, name) for row in ("success", "series", "dropped_series")] == [0, 0, 0], name
            assert ours(text, "seconds", name) > 0
        assert theirs(page(router)) == [SHOWN % "good"]
        lines = [json.loads(line) for line in router.log.read_text().splitlines()]
        causes = [(line["container"], line["cause"]) for line in lines if "not shown" in line["event"]]
        assert len(causes) == len(dict(causes)) == len(answers)
        for name, cause in causes:
            assert answers[name][1] in cause


def test_nobody_listens_and_everybody_is_still_told_of(tmp_path: Path) -> None:
    ports = {"a": processes.free_port(), "b": processes.free_port()}
    with processes.router(tmp_path, processes.table("Direct", ports), ready=False) as router:
        text = page(router)
        assert theirs(text) == []
        assert {ours(text, "success", name) for name in ports} == {0}
        assert "ConnectionRefusedError" in router.log.read_text()


def test_every_way_to_send_a_page_is_read(tmp_path: Path) -> None:
    ways = {
        "length": whole(GOOD),
        "chunks": chunked(GOOD[:7], GOOD[7:]),
        "close": until_close(GOOD),
        "interim": lambda connection: connection.sendall(b"HTTP/1.1 103 Hints\r\n\r\n" + OK + b"\r\n" + GOOD),
        "unended": whole(GOOD[:-1]),
    }
    with scraped(tmp_path, **ways, empty=whole(b"")) as (router, running):
        text = page(router)
        assert theirs(text) == [SHOWN % name for name in ways]
        assert text.count("# HELP up Is it up.\n# TYPE up gauge\n") == 1
        assert ours(text, "success", "empty") == 1
        request = running["length"].requests[0].lower()
        assert b"\r\nhost: 127.0.0.1:%d\r\n" % running["length"].port in request
        assert b"\r\naccept: text/plain;version=0.0.4\r\n" in request
        assert b"accept-encoding" not in request


def test_a_container_can_not_speak_for_another_one_or_for_the_router(tmp_path: Path) -> None:
    hostile = (
        b"# HELP mce_inflight me\n# TYPE mce_inflight counter\nmce_inflight 7\n"
        b'mce_container_healthy{container="good"} 1\nmce_container_scrape_success{container="good"} 0\n'
        b'up{__name__="mce_inflight"} 1\n# TYPE up histogram\n'
        b'up{x="1",container="good",variant="v",namespace="n",endpoint="e"} 5\n'
    )
    with scraped(tmp_path, good=whole(GOOD), bad=whole(hostile)) as (router, _):
        text = page(router)
        labels = 'exported_container="good",exported_endpoint="e",exported_namespace="n",exported_variant="v",x="1"'
        assert theirs(text) == [SHOWN % "good", (SHOWN % "bad").replace('x="1"} 1', f"{labels}}} 5")]
        assert ours(text, "dropped_series", "bad") == 4
        assert ours(text, "success", "good") == 1
        assert text.count("# TYPE mce_inflight ") == 1
        assert " 7" not in text


def test_a_container_with_too_many_series_shows_some_and_says_how_many_not(tmp_path: Path) -> None:
    many = b"".join(b"m%d 1\n" % number for number in range(3000))
    with scraped(tmp_path, good=whole(GOOD), much=whole(many)) as (router, _):
        text = page(router)
        assert len(theirs(text)) == 2001
        assert [ours(text, name, "much") for name in ("success", "series", "dropped_series")] == [1, 2000, 1000]


def test_many_callers_at_once_ask_each_container_once(tmp_path: Path) -> None:
    all_ask = threading.Event()

    def slow(connection: socket.socket) -> None:
        all_ask.wait(1.5)
        whole(GOOD)(connection)

    with scraped(tmp_path, a=slow, b=whole(GOOD)) as (router, running), ThreadPoolExecutor(8) as pool:
        pages = [pool.submit(page, router)]
        processes.wait_until("a is asked", lambda: bool(running["a"].requests))
        pages += [pool.submit(page, router) for _ in range(7)]
        time.sleep(1)
        all_ask.set()
        assert [len(theirs(text.result())) for text in pages] == [2] * 8
        assert len(running["a"].requests) == len(running["b"].requests) == 1
        page(router)
        assert len(running["a"].requests) == 2


def test_without_being_asked_for_containers_the_page_is_the_routers_own(tmp_path: Path) -> None:
    with scraped(tmp_path, a=whole(GOOD)) as (router, running):
        text = page(router, "")
        assert "scrape" not in text
        assert text.endswith("# EOF\n")
        assert running["a"].requests == []
        for query in ("?containers=0", "?containers=", "?containers=a"):
            status, body = processes.get(f"{router.admin_url}/metrics{query}")
            assert (status, body) == (400, b"containers may only be 1, or left out\n")


def test_invocations_go_on_while_hostile_pages_are_read(tmp_path: Path) -> None:
    line = b"a{" + b",".join(b'l%d="%%d"' % number for number in range(20)) + b"} 1\n"
    heavy = whole(b"".join(line.replace(b"%d", b"%d" % number) for number in range(3000)))
    answers = {f"c{number}": heavy for number in range(14)}
    with scraped(tmp_path, **answers, last=endless(OK + b"\r\n", b"\n")) as (router, _):
        pages: list[str] = []
        reader = threading.Thread(target=lambda: pages.append(page(router)))
        reader.start()
        slowest = 0.0
        for _ in itertools.takewhile(lambda _: reader.is_alive(), itertools.count()):
            started = time.monotonic()
            assert caller.post(router.port, b"x", target="c0").status == 200
            slowest = max(slowest, time.monotonic() - started)
        reader.join()
        assert slowest < 1
        assert ours(pages[0], "success", "last") == 0


def test_a_router_that_ends_waits_for_no_container(tmp_path: Path) -> None:
    with scraped(tmp_path, a=silent) as (router, running):
        threading.Thread(target=processes.get, args=(f"{router.admin_url}/metrics?containers=1",)).start()
        processes.wait_until("a is asked", lambda: bool(running["a"].requests))
        started = time.monotonic()
        router.terminate()
        assert router.process.wait(10) == 0
        assert time.monotonic() - started < 1.9
        assert "Traceback" not in router.log.read_text()
