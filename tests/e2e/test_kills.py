"""The operator's process is killed at every write that it makes, and what is there in the end is the same.

The operator runs on this machine, for one namespace, and talks to the real API server through a proxy that sees every
write. A life ends at its first write: odd lives before the API server has seen it, even ones after it was done and
before the answer. So every write of a course is cut off twice, and nothing that a process remembers helps it.
"""

import difflib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mce_api.names import HASH_ANNOTATION
from support import cases, cluster
from support.api_proxy import ApiProxy, Write, api_proxy, upstream_of
from support.cluster import Namespace

pytestmark = [pytest.mark.e2e, pytest.mark.long]

ZYGOTE = cluster.ROOT / "tests" / "support" / "zygote.py"
NAME = "mortal"
QUIET_SECONDS = 4
"""Without a write: nothing more will come."""
KINDS = (
    "mcep,deployments,replicasets,pods,services,serviceaccounts,"
    "networkpolicies,poddisruptionbudgets,horizontalpodautoscalers"
)
FLEETING = (
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "managedFields",
    "ownerReferences",
    "generateName",
)
Spec = dict[str, Any]


class Operator:
    """An operator that is started anew whenever it dies."""

    def __init__(self, proxy: ApiProxy, namespace: str, folder: Path, *, is_mortal: bool) -> None:
        self._proxy = proxy
        self._is_mortal = is_mortal
        env = {
            **os.environ,
            "KUBECONFIG": str(proxy.kubeconfig(folder)),
            "MCE_OPERATOR_NAMESPACES": namespace,
            "MCE_OPERATOR_HTTP_HOST": "127.0.0.1",
            "MCE_OPERATOR_HTTP_PORT": "0",
            "MCE_OPERATOR_LEASE_NAMESPACE": "",
            "MCE_OPERATOR_ROUTER_IMAGE": f"{os.environ.get('MCE_REGISTRY', 'localhost/mce')}/router:0.1.0",
        }
        self.lives = 0
        self.last_write = time.monotonic()
        self._is_over = self._is_killed = False
        command = (sys.executable, "-P", str(ZYGOTE))
        with (folder / "operator.log").open("ab") as log:
            self._zygote = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=env, text=True
            )
        self._pid = self._start()
        proxy.before_write = self._before
        proxy.after_write = self._after
        self._keeper = threading.Thread(target=self._keep)
        self._keeper.start()

    @property
    def writes(self) -> int:
        return len(self._proxy.writes)

    def _start(self) -> int:
        assert self._zygote.stdin
        assert self._zygote.stdout
        self.lives += 1
        print(file=self._zygote.stdin, flush=True)
        return int(self._zygote.stdout.readline())

    def _keep(self) -> None:
        assert self._zygote.stdout
        while self._zygote.stdout.readline() and not self._is_over and self._is_killed:
            self._is_killed = False
            self._pid = self._start()

    def _before(self, write: Write) -> bool:
        self.last_write = time.monotonic()
        return not (self._is_mortal and self.lives % 2) or self._kill()

    def _after(self, write: Write) -> bool:
        return not (self._is_mortal and self.lives % 2 == 0) or self._kill()

    def _kill(self) -> bool:
        self._is_killed = True
        os.kill(self._pid, signal.SIGKILL)
        return False

    def is_quiet(self) -> bool:
        return time.monotonic() - self.last_write > QUIET_SECONDS

    def stop(self) -> None:
        self._is_over = True
        self._kill()
        self._keeper.join()
        self._zygote.communicate()


@contextmanager
def operator(namespace: str, folder: Path, *, is_mortal: bool) -> Iterator[Operator]:
    folder.mkdir()
    with api_proxy(upstream_of(cluster.KUBECONFIG, folder)) as proxy:
        running = Operator(proxy, namespace, folder, is_mortal=is_mortal)
        try:
            yield running
        finally:
            running.stop()


@pytest.fixture(scope="module")
def alone(operator_away: Callable[[], AbstractContextManager[None]], namespace: Namespace) -> Iterator[Namespace]:
    """A namespace that the installed operator leaves alone, since there is none for now."""
    with operator_away():
        yield namespace


def spec(cpu: str = "10m", **more: Any) -> Spec:
    resources = {"requests": {"cpu": cpu, "memory": "16Mi"}}
    one = cases.container("a", resources=resources, startupTimeoutSeconds=60, **more)
    return {"containers": [one, cases.container("b", startupTimeoutSeconds=60)], "replicas": 1}


BUDGET_SECONDS = 40
"""For a generation that can not come up; the kubelet may take 20 s until it tells why."""
TURN = [{"name": "TURN", "value": "2"}]
COURSE: dict[str, Spec | None] = {
    "create": spec(),
    "update": spec(env=TURN),
    "in-place change": spec("20m", env=TURN),
    "rollback": spec("20m", env=TURN, image="localhost/mce/not-there:1")
    | {"rollout": {"progressDeadlineSeconds": BUDGET_SECONDS}},
    "mended": spec("20m", env=[{"name": "TURN", "value": "3"}]),
    "delete": None,
}


def objects(namespace: Namespace) -> dict[str, list[Any]]:
    """What is there, without names, numbers and times that differ from run to run."""
    found: dict[str, list[Any]] = {}
    for raw in namespace.get(KINDS, "-l", f"serving.mce.dev/endpoint={NAME}")["items"]:
        found.setdefault(raw["kind"], []).append(lasting(raw))
    for raw in namespace.get("mcep")["items"]:
        found.setdefault(raw["kind"], []).append(lasting(raw))
    return {kind: sorted(items, key=json.dumps) for kind, items in found.items()}


def lasting(raw: Any) -> Any:
    kept = {**raw, "metadata": {key: value for key, value in raw["metadata"].items() if key not in FLEETING}}
    if raw["kind"] != "Pod":  # a child's hash covers its owner's uid, a pod's does not
        annotations = raw["metadata"].get("annotations", {})
        kept["metadata"]["annotations"] = {key: annotations[key] for key in annotations if key != HASH_ANNOTATION}
    if raw["kind"] == "Pod":
        del kept["metadata"]["name"]
        kept["spec"] = {key: value for key, value in raw["spec"].items() if key != "nodeName"}
        containers = raw["status"].get("containerStatuses", [])
        kept["status"] = [(one["name"], one["ready"], one["restartCount"]) for one in containers]
    elif raw["kind"] == "Service":
        kept["spec"] = {key: value for key, value in raw["spec"].items() if key not in {"clusterIP", "clusterIPs"}}
    return timeless(kept)


def timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: timeless(one) for key, one in value.items() if not key.endswith(("Time", "since", "Generation"))}
    if isinstance(value, list) and value and isinstance(value[0], dict) and "type" in value[0]:
        value = sorted(value, key=lambda one: str(one["type"]))  # conditions, in the order in which they came true
    return [timeless(one) for one in value] if isinstance(value, list) else value


def course(namespace: Namespace, running: Operator) -> dict[str, Any]:
    """What is there after each part of a course."""
    found = {}
    for part, wanted in COURSE.items():
        if wanted is None:
            namespace.kubectl("delete", "mcep", NAME, "--wait=false")
        else:
            namespace.apply(cases.document(NAME, **wanted))
        running.last_write = time.monotonic()
        is_over = is_gone if wanted is None else is_rolled_back if part == "rollback" else is_in_service
        cluster.wait_until(partial(is_settled, namespace, running, is_over), 240, partial(told, namespace, part))
        found[part] = objects(namespace)
    return found


def told(namespace: Namespace, part: str) -> str:
    return f"the end of {part}: {json.dumps(objects(namespace))[:4000]}"


def is_settled(namespace: Namespace, running: Operator, is_over: Callable[[Namespace], bool]) -> bool:
    return running.is_quiet() and is_over(namespace)


def is_gone(namespace: Namespace) -> bool:
    return objects(namespace) == {}


def is_rolled_back(namespace: Namespace) -> bool:
    return is_in_service(namespace) and namespace.status(NAME)["reason"] == "RolledBack"


def is_in_service(namespace: Namespace) -> bool:
    found = namespace.endpoint(NAME)
    status = found.get("status", {})
    return bool(
        status.get("state") == "InService"
        and status.get("observedGeneration") == found["metadata"]["generation"]
        and all("deletionTimestamp" not in pod["metadata"] for pod in namespace.get("pods")["items"])
        and not namespace.get("deployment", NAME)["status"].get("terminatingReplicas")
    )


def test_an_operator_that_is_killed_at_every_write_leaves_what_an_undisturbed_one_leaves(
    alone: Namespace, tmp_path: Path, figures: list[str]
) -> None:
    began = time.monotonic()
    with operator(alone.name, tmp_path / "undisturbed", is_mortal=False) as calm:
        wanted = course(alone, calm)
        writes = calm.writes
        assert calm.lives == 1
    with operator(alone.name, tmp_path / "mortal", is_mortal=True) as mortal:
        found = course(alone, mortal)
    figures.append(
        f"{', '.join(COURSE)}: {writes} writes; with a kill before and after every write "
        f"{mortal.lives - 1} kills, the same objects in the end; {time.monotonic() - began:.0f} s together"
    )
    for part in COURSE:
        ours, theirs = (json.dumps(one[part], indent=1, sort_keys=True).splitlines() for one in (found, wanted))
        assert ours == theirs, f"{part}: " + "\n".join(difflib.unified_diff(theirs, ours, lineterm="", n=8))
    assert mortal.lives > writes // 2
