"""The proxies under test: for each, the command that starts it, doing the same job on one thread.

The job: take `POST /invocations`, pick the container by the target header, pass body and reply on, keep connections
alive on both sides. A proxy is a row of `PROXIES`; a new peer is a new row.
"""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from bench import settings

from mce_api import wire


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
    request_bytes: int = 1024
    """Size of the largest request body."""
    streaming: bool = False
    """Whether small pieces of a reply must go on at once."""
    options: tuple[str, ...] = ()
    """More of the router's command line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """One row: a name and how to start it."""

    name: str
    command: Callable[[Setup], list[str]]
    """Writes what the proxy reads into the setup's folder and returns the command; only the router knows Serial."""


def _router(setup: Setup) -> list[str]:
    table = setup.folder / "routes.json"
    targets = [{"name": container.name, "port": container.port} for container in setup.containers]
    limits = {"maxRequestBytes": max(setup.request_bytes, wire.MAX_BODY_BYTES)}
    routes = {"namespace": "bench", "endpoint": "bench", "mode": setup.mode, "targets": targets, "limits": limits}
    table.write_text(json.dumps(routes))
    listen, admin = f"127.0.0.1:{setup.listen}", f"127.0.0.1:{setup.admin}"
    module = [sys.executable, "-m", "mce_router", "--table", str(table)]
    return [*module, "--listen", listen, "--admin", admin, "--drain-seconds", "0", *setup.options]


def _plain(setup: Setup) -> list[str]:
    return _router(replace(setup, options=()))


def _haproxy(setup: Setup) -> list[str]:
    backends = "\n".join(
        f"backend {container.name}\n  server container 127.0.0.1:{container.port}" for container in setup.containers
    )
    path = _fill("haproxy.cfg", setup, {"backends": backends, "streaming": "  option http-no-delay" * setup.streaming})
    return [settings.find("haproxy") or "haproxy", "-db", "-f", str(path)]


def _nginx(setup: Setup) -> list[str]:
    upstreams = "\n".join(
        f"  upstream {container.name} {{\n    server 127.0.0.1:{container.port};\n"
        "    keepalive 64;\n    keepalive_requests 1000000000;\n  }"
        for container in setup.containers
    )
    path = _fill(
        "nginx.conf", setup, {"upstreams": upstreams, "streaming": "      proxy_buffering off;" * setup.streaming}
    )
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
    Proxy(name="plain", command=_plain),
    Proxy(name="haproxy", command=_haproxy),
    Proxy(name="go", command=_go),
    Proxy(name="nginx", command=_nginx),
)
"""`plain` is the router without the case's own options."""


def named(names: tuple[str, ...]) -> list[Proxy]:
    """The proxies with these names."""
    return [proxy for proxy in PROXIES if proxy.name in names]


def router_has(option: str) -> bool:
    """Whether this router knows a command-line option."""
    command = [sys.executable, "-m", "mce_router", "--help"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return re.search(rf"{re.escape(option)}(?![\w-])", said) is not None
