"""The proxies under test: for each, the command that starts it, doing the same job on one thread.

The job: take `POST /invocations`, pick the container by the target header, pass body and reply on, keep connections
alive on both sides. A proxy is a row of `PROXIES`; a new peer is a new row.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from bench import settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """One container behind the proxies: the backend has a listener for each."""

    name: str
    port: int

    def __str__(self) -> str:
        return f"{self.name}=127.0.0.1:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What one proxy is told."""

    listen: int
    admin: int
    """A second port, for who needs one."""
    mode: Literal["Direct", "Serial"]
    containers: tuple[Container, ...]
    folder: Path
    """Its own, for its configuration and its log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """One row: a name and how to start it."""

    name: str
    command: Callable[[Setup], list[str]]
    """Writes what the proxy reads into the setup's folder and returns the command; only the router knows Serial."""


def _router(setup: Setup) -> list[str]:
    table = setup.folder / "routes.json"
    targets = [{"name": container.name, "port": container.port} for container in setup.containers]
    table.write_text(json.dumps({"namespace": "bench", "endpoint": "bench", "mode": setup.mode, "targets": targets}))
    listen, admin = f"127.0.0.1:{setup.listen}", f"127.0.0.1:{setup.admin}"
    module = [sys.executable, "-m", "mce_router", "--table", str(table)]
    return [*module, "--listen", listen, "--admin", admin, "--drain-seconds", "0"]


def _haproxy(setup: Setup) -> list[str]:
    backends = "\n".join(
        f"backend {container.name}\n  server container 127.0.0.1:{container.port}" for container in setup.containers
    )
    path = _fill("haproxy.cfg", setup, {"backends": backends})
    return [settings.find("haproxy") or "haproxy", "-db", "-f", str(path)]


def _nginx(setup: Setup) -> list[str]:
    upstreams = "\n".join(
        f"  upstream {container.name} {{\n    server 127.0.0.1:{container.port};\n"
        "    keepalive 64;\n    keepalive_requests 1000000000;\n  }"
        for container in setup.containers
    )
    path = _fill("nginx.conf", setup, {"upstreams": upstreams})
    return [settings.find("nginx") or "nginx", "-e", "stderr", "-p", str(setup.folder), "-c", str(path)]


def _go(setup: Setup) -> list[str]:
    program = settings.cache() / "goproxy"
    return ["env", "GOMAXPROCS=1", str(program), f"127.0.0.1:{setup.listen}", *map(str, setup.containers)]


def _fill(name: str, setup: Setup, parts: dict[str, str]) -> Path:
    text = (settings.CONFIG / name).read_text()
    for key, value in {"listen": str(setup.listen), "folder": str(setup.folder), **parts}.items():
        text = text.replace(f"{{{key}}}", value)
    path = setup.folder / name
    path.write_text(text)
    return path


ROUTER: Final = Proxy(name="router", command=_router)
PROXIES: Final = (
    ROUTER,
    Proxy(name="haproxy", command=_haproxy),
    Proxy(name="go", command=_go),
    Proxy(name="nginx", command=_nginx),
)
