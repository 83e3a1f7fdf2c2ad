"""A pod in the cluster that runs `e2e/steady_load.py` against Services."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support import cases
from support.cluster import Namespace

SOURCE = Path(__file__).parents[1] / "e2e" / "steady_load.py"


@contextmanager
def running(namespace: Namespace, hosts: dict[str, str], result: dict[str, Any]) -> Iterator[None]:
    """Asks `hosts` (by kind of caller) all the time; what was seen is in `result` afterwards."""
    one = {
        "name": "load",
        "image": cases.container("load")["image"],
        "command": ["python3", "-u", "-c", SOURCE.read_text(), json.dumps(hosts)],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    security = {"runAsNonRoot": True, "runAsUser": 65534, "seccompProfile": {"type": "RuntimeDefault"}}
    spec = {"containers": [one], "restartPolicy": "Never", "securityContext": security}
    namespace.kubectl("delete", "pod", "load", "--ignore-not-found", "--wait", "--grace-period=1")
    namespace.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "load"}, "spec": spec})
    namespace.kubectl("wait", "pod/load", "--for=condition=Ready", "--timeout=60s")
    time.sleep(2)
    yield
    time.sleep(1)
    namespace.kubectl("exec", "load", "--", "touch", "/tmp/stop")
    namespace.kubectl("wait", "pod/load", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=100s")
    result.update(json.loads(namespace.kubectl("logs", "load")))
    namespace.kubectl("delete", "pod", "load", "--wait=false")
