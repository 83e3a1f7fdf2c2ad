"""Operator processes, each behind a faulty proxy of its own, in front of one small API server."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mce_api import names
from support.api_proxy import ApiProxy, Upstream, api_proxy
from support.api_server import ApiServer
from support.cluster import sample
from support.processes import free_port, get, process, wait_until


@dataclass
class Operator:
    """One process."""

    process: subprocess.Popen[bytes]
    proxy: ApiProxy
    port: int
    log: Path

    def metric(self, name: str, **labels: str) -> float:
        return sample(get(f"http://127.0.0.1:{self.port}/metrics")[1].decode(), name, **labels)

    def is_ready(self) -> bool:
        return get(f"http://127.0.0.1:{self.port}/readyz")[0] == 200

    def is_healthy(self) -> bool:
        return get(f"http://127.0.0.1:{self.port}/healthz")[0] == 200

    def is_leading(self) -> bool:
        status, text = get(f"http://127.0.0.1:{self.port}/metrics")
        return status == 200 and sample(text.decode(), "mce_operator_leader") == 1

    def memory_mib(self) -> float:
        """Its resident memory."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))

    def send(self, number: signal.Signals) -> None:
        os.kill(self.process.pid, number)


@contextmanager
def operator(
    upstream: Upstream,
    folder: Path,
    *,
    namespace: str = "team-a",
    selector: str = "",
    lease_name: str = "",
    token_file: Path | None = None,
) -> Iterator[Operator]:
    """A ready operator of one namespace; its Lease is there too."""
    folder.mkdir(exist_ok=True)
    with api_proxy(upstream) as proxy:
        port, log = free_port(), folder / "operator.log"
        settings = {
            "KUBECONFIG": str(proxy.kubeconfig(folder, token_file)),
            "MCE_OPERATOR_NAMESPACES": namespace,
            "MCE_OPERATOR_HTTP_HOST": "127.0.0.1",
            "MCE_OPERATOR_HTTP_PORT": str(port),
            "MCE_OPERATOR_SELECTOR": selector,
            "MCE_OPERATOR_LEASE_NAMESPACE": namespace,
            "MCE_OPERATOR_LEASE_NAME": lease_name,
        }
        if token_file:
            proxy.token = token_file.read_text()
        with process(sys.executable, "-m", "mce_operator", log=log, **settings) as child:
            running = Operator(child, proxy, port, log)
            wait_until("operator is ready", running.is_ready, 90)
            yield running


def state(server: ApiServer, name: str, namespace: str = "team-a") -> str:
    """The state in an endpoint's status; empty before an operator has seen it."""
    found = server.get(names.KIND, namespace, name) or {}
    return str((found.get("status") or {}).get("state", ""))


def seconds_until(what: str, check: object, limit: float) -> float:
    """How long it takes until `check()` is true; fails by name after `limit` seconds."""
    begun = time.monotonic()
    wait_until(what, check, limit)
    return time.monotonic() - begun
