"""A drain as callers see it who were there before it began."""

import contextlib
import http.client
import sys
from pathlib import Path

from soak import letters
from soak.letters import Wish
from support import processes
from support.http import TARGET

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
