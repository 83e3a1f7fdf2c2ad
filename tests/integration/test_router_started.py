"""What a pod's models wait for."""

import socket
import subprocess
import sys
import threading
import time

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
