"""What a pod's models wait for."""

import json
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from support import processes
from support.processes import free_port

COMMAND = (sys.executable, "-m", "mce_router.started")


def test_it_ends_when_the_router_listens_and_not_before() -> None:
    port = free_port()
    began = time.monotonic()
    waiting = subprocess.Popen([*COMMAND, str(port)])
    with socket.socket() as router:

        def listen() -> None:
            router.bind(("127.0.0.1", port))
            router.listen()

        alarm = threading.Timer(0.5, listen)
        alarm.start()
        assert waiting.wait(20) == 0
        seconds = time.monotonic() - began
        alarm.join()
    assert seconds >= 0.5


def test_a_router_that_never_listens_is_told_on_standard_error() -> None:
    port = free_port()
    done = subprocess.run([*COMMAND, str(port), "0.2"], capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stderr) == (1, f"the router does not listen on port {port}\n")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_it_does_not_wait_for_the_libraries_of_the_admin_port(tmp_path: Path, workers: str) -> None:
    """They take a second on a busy machine; what the kubelet asks meanwhile is answered when they are there."""
    slow = tmp_path / "slow" / "aiohttp"
    slow.mkdir(parents=True)
    slow.joinpath("__init__.py").write_text("import time\ntime.sleep(60)\n")
    table = tmp_path / "table.json"
    table.write_text(json.dumps(processes.table("Direct", {"a": free_port()})))
    port, admin = free_port(), free_port()
    listens = ("--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}")
    command = (sys.executable, "-m", "mce_router", "--table", str(table), *listens, "--workers", workers)
    with processes.process(*command, log=tmp_path / "log", PYTHONPATH=str(slow.parent)) as router:
        assert subprocess.run([*COMMAND, str(admin), "20"], timeout=30, check=False).returncode == 0
        assert processes.get(f"http://127.0.0.1:{port}/ping")[0] == 503
        assert router.poll() is None
        assert processes.get(f"http://127.0.0.1:{admin}/healthz")[0] == 0
