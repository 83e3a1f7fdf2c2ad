"""Real processes for integration tests: model servers, and a router in front of them."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MODEL = Path(__file__).with_name("model.py")
START_SECONDS = 20.0


_given: set[int] = set()


def free_port() -> int:
    """A loopback port that nobody listens on, another one each time: who asked for it before may not listen yet."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port not in _given:
            _given.add(port)
            return port


def get(url: str, seconds: float = 5.0) -> tuple[int, bytes]:
    """Status and body of a GET; 0 when nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=seconds) as reply:
            return reply.status, reply.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()
    except OSError:
        return 0, b""


def wait_until(what: str, check: Any, seconds: float = START_SECONDS) -> None:
    """Returns when `check()` is true; fails by name when it is not in time."""
    end = time.monotonic() + seconds
    while not check():
        if time.monotonic() > end:
            raise AssertionError(f"not in {seconds:g} s: {what}")
        time.sleep(0.02)


@contextmanager
def process(*command: str, log: Path, **env: str) -> Iterator[subprocess.Popen[bytes]]:
    """A child that is gone afterwards, whatever happens."""
    with log.open("ab") as out:
        child = subprocess.Popen(command, stdout=out, stderr=out, env={**os.environ, **env})
    try:
        yield child
    finally:
        child.kill()
        child.wait()


@contextmanager
def model(name: str, port: int, log: Path, **env: str) -> Iterator[subprocess.Popen[bytes]]:
    """A model server of ours on `port`, listening."""
    with process(sys.executable, str(MODEL), "serve", log=log, MODEL_NAME=name, PORT=str(port), **env) as child:
        wait_until(f"model {name} listens", lambda: _listens(port) or child.poll() is not None)
        assert child.poll() is None, f"model {name} has ended: {log.read_text()}"
        yield child


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@dataclass
class Router:
    """A running router process."""

    process: subprocess.Popen[bytes]
    port: int
    admin: int
    table: Path
    log: Path
    seen: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def admin_url(self) -> str:
        return f"http://127.0.0.1:{self.admin}"

    def is_ready(self) -> bool:
        return get(f"{self.admin_url}/readyz")[0] == 200

    def targets(self) -> dict[str, dict[str, Any]]:
        return {target["name"]: target for target in json.loads(get(f"{self.admin_url}/targets")[1])["targets"]}

    def sample(self, name: str, **labels: str) -> float:
        """One value of /metrics."""
        for line in get(f"{self.admin_url}/metrics")[1].decode().splitlines():
            series, _, value = line.rpartition(" ")
            if series.partition("{")[0] == name and all(f'{key}="{text}"' in series for key, text in labels.items()):
                return float(value)
        raise AssertionError(f"no sample {name} {labels}")

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)


@contextmanager
def router(
    tmp_path: Path, table: dict[str, Any], *options: str, ready: bool = True, env: dict[str, str] | None = None
) -> Iterator[Router]:
    """A router process on free ports; with `ready` it is ready when this returns."""
    path = tmp_path / "table.json"
    path.write_text(json.dumps(table))
    port, admin = free_port(), free_port()
    arguments = ("--table", str(path), "--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}")
    log = tmp_path / "router.log"
    command = (sys.executable, "-m", "mce_router", *arguments, "--drain-seconds", "0.3", *options)
    with process(*command, log=log, **(env or {})) as child:
        running = Router(child, port, admin, path, log)
        wait_until("router is up", lambda: get(f"{running.admin_url}/healthz")[0] == 200 or child.poll() is not None)
        if ready:
            wait_until("router is ready", running.is_ready)
        yield running


def table(mode: str, ports: dict[str, int], **more: Any) -> dict[str, Any]:
    """A route table over containers on loopback."""
    targets = [{"name": name, "host": "127.0.0.1", "port": port} for name, port in ports.items()]
    return {"namespace": "test", "endpoint": "mnist", "mode": mode, "targets": targets, **more}
