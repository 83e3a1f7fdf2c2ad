"""New generations on a real cluster: those that fail go back by themselves, those that bake take their time."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from mce_api.names import ENDPOINT_LABEL
from support import cases, cluster
from support.cluster import Namespace

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

SOON = {"progressDeadlineSeconds": 15}
"""For what can not come up anyway. The others have time, for this machine may be slow."""
NO_IMAGE = "localhost/mce/not-there:1"
ASK = """
import collections, json, sys, urllib.request
seen = collections.Counter()
for _ in range(int(sys.argv[2])):
    request = urllib.request.Request(f"http://{sys.argv[1]}/invocations", b"x", {
        "Content-Type": "text/plain", "Connection": "close",
        "X-Amzn-SageMaker-Target-Container-Hostname": "solo"})
    try:
        seen[urllib.request.urlopen(request, timeout=10).read().decode()] += 1
    except OSError as error:
        seen[str(error)] += 1
print(json.dumps(seen))
"""


def endpoint(name: str, version: str, image: str = "", replicas: int = 1, **more: Any) -> dict[str, Any]:
    """An endpoint of one container that answers with its version; `env` and `rollout` are added to what it has."""
    env = {"MODEL_NAME": version, **more.pop("env", {})}
    variables = [{"name": key, "value": value} for key, value in env.items()]
    solo = cases.container("solo", env=variables, startupTimeoutSeconds=60)
    solo["image"] = image or solo["image"]
    rollout = {"progressDeadlineSeconds": 90, **more.pop("rollout", {})}
    return cases.document(name, containers=[solo], replicas=replicas, rollout=rollout, **more)


def runs(pod: dict[str, Any], version: str) -> bool:
    return {"name": "MODEL_NAME", "value": version} in pod["spec"]["containers"][0]["env"]


def wait_gone(namespace: Namespace, name: str, version: str) -> None:
    """Until no pod of that version is left, also none that ends, and the Deployment's controller has seen that."""

    def is_gone() -> bool:
        pods = namespace.get("pods", "-l", f"{ENDPOINT_LABEL}={name}")["items"]
        ending = namespace.get("deployment", name)["status"].get("terminatingReplicas", 0)
        return not ending and not any(runs(pod, version) for pod in pods)

    cluster.wait_until(is_gone, 60, lambda: f"no pod of {name} {version}")


def restarts(namespace: Namespace, name: str, version: str) -> dict[str, int]:
    """Restarts of each pod that runs this version."""
    return {
        pod["metadata"]["uid"]: sum(one["restartCount"] for one in pod["status"].get("containerStatuses", []))
        for pod in namespace.pods(name)
        if runs(pod, version)
    }


def conditions(namespace: Namespace, name: str) -> dict[str, tuple[str, str]]:
    return {one["type"]: (one["status"], one["reason"]) for one in namespace.status(name)["conditions"]}


@contextmanager
def watched(namespace: Namespace, name: str, folder: Path) -> Iterator[Callable[[], list[str]]]:
    """Gives the state words that the endpoint has had since, each once per turn."""
    path = folder / "states"
    command = ["kubectl", "-n", namespace.name, "get", "mcep", name, "-w", "-o", 'jsonpath={.status.state}{"\\n"}']
    with path.open("w") as out, cluster.started(*command, stdout=out) as child:

        def words() -> list[str]:
            lines = path.read_text().split()
            return [word for index, word in enumerate(lines) if index == 0 or lines[index - 1] != word]

        cluster.wait_until(lambda: words() != [], 20, lambda: "the watch tells the first state")
        yield words
        assert child.poll() is None, "the watch has broken off"


@pytest.fixture(scope="module")
def caller(namespace: Namespace) -> Callable[[str, int], Counter[str]]:
    """Asks an endpoint so many times, each time over a new connection; counts what came back."""
    one = {
        "name": "caller",
        "image": cases.container("caller")["image"],
        "command": ["python3", "-c", "import time; time.sleep(3600)"],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    security = {"runAsNonRoot": True, "runAsUser": 65534, "seccompProfile": {"type": "RuntimeDefault"}}
    spec = {"containers": [one], "securityContext": security, "terminationGracePeriodSeconds": 1}
    namespace.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "caller"}, "spec": spec})
    namespace.kubectl("wait", "pod/caller", "--for=condition=Ready", "--timeout=110s")

    def ask(name: str, times: int) -> Counter[str]:
        host = f"{name}.{namespace.name}.svc"
        said = namespace.kubectl("exec", "caller", "--", "python3", "-c", ASK, host, str(times))
        return Counter(json.loads(said))

    return ask


def test_a_generation_that_does_not_come_up_goes_back_and_a_fixed_one_goes_forward(
    namespace: Namespace, tmp_path: Path, figures: list[str]
) -> None:
    namespace.apply(endpoint("back", "v1", replicas=2))
    namespace.wait_in_service("back")
    before = restarts(namespace, "back", "v1")
    with watched(namespace, "back", tmp_path) as states:
        # The kubelet may take 20 s until it tells why.
        namespace.apply(endpoint("back", "v2", NO_IMAGE, replicas=2, rollout={"progressDeadlineSeconds": 40}))
        began = time.monotonic()
        namespace.wait_status("back", lambda status: status.get("reason") == "RolledBack", "rolled back", 120)
        figures.append(f"back in service {time.monotonic() - began:.1f} s after a bad image, budget of 40 s included")
        wanted = ["InService", "Updating", "RollingBack", "InService"]
        cluster.wait_until(lambda: states() == wanted, 20, lambda: f"{wanted}: {states()}")
    status = namespace.status("back")
    assert status["observedGeneration"] == 2
    assert status["failureReason"].startswith("generation 2 was rejected: container solo: ImagePull: image localhost")
    assert status["rollout"] | {"message": ""} == {"method": "Rollback", "updated": 2, "total": 2, "message": ""}
    assert [(one["name"], one["ready"], one["reason"]) for one in status["containers"]] == [("solo", 2, "")]
    shown = conditions(namespace, "back")
    assert (shown["Ready"], shown["Stalled"]) == (("False", "RolledBack"), ("True", "RolledBack"))
    assert (shown["RolledBack"], shown["Reconciling"][0]) == (("True", "ImagePull"), "False")
    assert restarts(namespace, "back", "v1") == before == dict.fromkeys(before, 0)

    namespace.kubectl("scale", "mcep/back", "--replicas=3")
    namespace.wait_status("back", lambda status: status["readyReplicas"] == 3, "scaled while rolled back")
    assert len(restarts(namespace, "back", "v1")) == 3
    assert restarts(namespace, "back", "v2") == {}

    namespace.apply(endpoint("back", "v3", replicas=1))
    namespace.wait_in_service("back")
    assert conditions(namespace, "back")["Ready"] == ("True", "Ready")
    assert "RolledBack" not in conditions(namespace, "back")
    assert list(restarts(namespace, "back", "v3").values()) == [0]
    namespace.kubectl("delete", "mcep", "back")


def test_a_rollback_survives_a_restart_of_the_operator_at_any_time(
    namespace: Namespace, operator_away: Callable[[], Any]
) -> None:
    namespace.apply(endpoint("away", "v1"))
    namespace.wait_in_service("away")
    before = restarts(namespace, "away", "v1")
    namespace.apply(endpoint("away", "v2", NO_IMAGE, rollout=SOON))
    namespace.wait_status("away", lambda status: status["state"] == "Updating", "Updating")

    def is_late() -> bool:
        told = namespace.get("deployment/away")["status"].get("conditions", [])
        return any(one.get("reason") == "ProgressDeadlineExceeded" for one in told)

    with operator_away():
        cluster.wait_until(is_late, 60, lambda: "the deadline is over while the operator is away")
    begun = {"RollingBack", "RolledBack"}  # it is over in a moment: the old pods have served all the time
    namespace.wait_status("away", lambda status: status.get("reason") in begun, "RollingBack")
    with operator_away():
        pass
    namespace.wait_status("away", lambda status: status.get("reason") == "RolledBack", "rolled back")
    wait_gone(namespace, "away", "v2")  # its end is a change of the Deployment's status
    version = namespace.get("deployment/away")["metadata"]["resourceVersion"]
    with operator_away():
        pass
    time.sleep(5)
    assert namespace.get("deployment/away")["metadata"]["resourceVersion"] == version
    assert restarts(namespace, "away", "v1") == before
    assert restarts(namespace, "away", "v2") == {}
    namespace.kubectl("delete", "mcep", "away")


def test_a_generation_that_came_while_suspended_goes_back_too_and_is_suspended_again_at_will(
    namespace: Namespace, figures: list[str]
) -> None:
    namespace.apply(endpoint("asleep", "v1"))
    namespace.wait_in_service("asleep")
    namespace.apply(endpoint("asleep", "v1", suspend=True))
    namespace.wait_status("asleep", lambda status: status["state"] == "OutOfService", "OutOfService", 120)
    namespace.apply(endpoint("asleep", "v2", NO_IMAGE, rollout={"progressDeadlineSeconds": 30}, suspend=True))
    namespace.wait_status("asleep", lambda status: status["observedGeneration"] == 3, "the new spec is seen")
    began = time.monotonic()
    namespace.apply(endpoint("asleep", "v2", NO_IMAGE, rollout={"progressDeadlineSeconds": 30}))
    namespace.wait_status("asleep", lambda status: status.get("reason") == "RolledBack", "rolled back", 90)
    seconds = time.monotonic() - began
    figures.append(f"a bad generation that came while suspended, budget of 30 s: back in service after {seconds:.1f} s")
    assert list(restarts(namespace, "asleep", "v1").values()) == [0]
    assert namespace.status("asleep")["failureReason"].startswith("generation 4 was rejected: ")
    namespace.kubectl("patch", "mcep", "asleep", "--type=merge", "-p", '{"spec":{"suspend":true}}')
    namespace.wait_status("asleep", lambda status: status["state"] == "OutOfService", "OutOfService again", 120)
    namespace.kubectl("delete", "mcep", "asleep")


def test_a_first_generation_that_fails_is_failed_and_can_be_edited_and_deleted(namespace: Namespace) -> None:
    namespace.apply(endpoint("first", "v1", NO_IMAGE, rollout=SOON))
    namespace.wait_status("first", lambda status: status.get("state") == "Failed", "Failed")
    status = namespace.status("first")
    assert conditions(namespace, "first")["Stalled"] == ("True", "ProgressDeadline")
    assert "no good generation is recorded to go back to" in status["failureReason"]
    namespace.apply(endpoint("first", "v2", NO_IMAGE + "00", rollout=SOON))
    namespace.wait_status("first", lambda status: status["observedGeneration"] == 2, "the second one is tried")
    namespace.wait_status("first", lambda status: status["state"] == "Failed", "Failed again")
    namespace.apply(endpoint("first", "v3"))
    namespace.wait_in_service("first")
    namespace.kubectl("delete", "mcep", "first", "--timeout=60s")


class Shift:
    """What the pods of two versions were, moment by moment."""

    def __init__(self, namespace: Namespace, name: str) -> None:
        self.rows: list[tuple[float, int, int]] = []
        """Seconds of the day's clock, pods of the old version that stay, ready pods of the new one."""
        self.messages: list[str] = []
        self.ready: dict[str, float] = {}
        """Since when each pod of the new version is ready, by its uid, in whole seconds: as its kubelet has it."""
        self._namespace, self._name = namespace, name

    def look(self) -> bool:
        """Takes one row; whether the endpoint had arrived before that."""
        status = self._namespace.status(self._name)
        pods = self._namespace.pods(self._name)
        old = [pod for pod in pods if runs(pod, "v1")]
        new = {pod["metadata"]["uid"]: since for pod in pods if runs(pod, "v2") and (since := _ready_since(pod))}
        self.ready |= new
        row = (len(old), len(new))
        if not self.rows or self.rows[-1][1:] != row:
            self.rows.append((time.time(), *row))
        message = status.get("rollout", {}).get("message", "")
        if message and message not in self.messages:
            self.messages.append(message)
        return bool(status["observedGeneration"] == 2 and status["state"] == "InService")

    def begun(self, number: int) -> float:
        """When that pod of the new version (1, 2, ...) began to bake: it may be seen late."""
        return sorted(self.ready.values())[number - 1]

    def left(self, most: int) -> float:
        """When no more than so many pods of the old version were seen: never too early."""
        return next(seconds for seconds, old, _ in self.rows if old <= most)

    def __str__(self) -> str:
        return str([(round(seconds - self.rows[0][0], 1), old, new) for seconds, old, new in self.rows])


def _ready_since(pod: dict[str, Any]) -> float:
    """In seconds of the day's clock; 0: it is not."""
    for one in pod["status"].get("conditions", []):
        if one["type"] == "Ready" and one["status"] == "True":
            return datetime.fromisoformat(one["lastTransitionTime"]).timestamp()
    return 0.0


def test_a_canary_bakes_beside_the_old_pods_and_then_all_others_follow(
    namespace: Namespace, caller: Callable[[str, int], Counter[str]], figures: list[str]
) -> None:
    rollout = {"strategy": "Canary", "stepPercent": 30, "bakeSeconds": 15}
    namespace.apply(endpoint("canary", "v1", replicas=3, rollout=rollout))
    namespace.wait_in_service("canary")
    namespace.apply(endpoint("canary", "v2", replicas=3, rollout=rollout))
    shift = Shift(namespace, "canary")
    cluster.wait_until(lambda: shift.look() or shift.rows[-1][2] > 0, 60, lambda: f"a canary: {shift}")
    time.sleep(2)
    with ThreadPoolExecutor(1) as asking:
        asked = asking.submit(caller, "canary", 200)
        cluster.wait_until(lambda: shift.look() or asked.done(), 60, lambda: "200 answers")
        seen = asked.result()
    cluster.wait_until(shift.look, 120, lambda: f"arrived: {shift}, {namespace.status('canary')}")
    figures.append(f"canary of 1 beside 3 got {seen['v2(x)'] / 2:.0f} % of 200 requests; pods over time: {shift}")
    assert set(seen) == {"v1(x)", "v2(x)"}
    assert 0.08 < seen["v2(x)"] / 200 < 0.5
    assert shift.messages[0].startswith("Canary: 1 of 3 pods bakes until ")
    assert shift.left(2) - shift.begun(1) >= 15, str(shift)
    assert shift.begun(2) - shift.begun(1) >= 15, str(shift)
    assert all(old + new >= 3 for _, old, new in shift.rows), str(shift)
    assert shift.rows[-1][1:] == (0, 3)
    namespace.kubectl("delete", "mcep", "canary")


def test_linear_takes_step_after_step_and_each_bakes(namespace: Namespace, figures: list[str]) -> None:
    rollout = {"strategy": "Linear", "stepPercent": 50, "bakeSeconds": 8}
    namespace.apply(endpoint("linear", "v1", replicas=2, rollout=rollout))
    namespace.wait_in_service("linear")
    namespace.apply(endpoint("linear", "v2", replicas=2, rollout=rollout))
    shift = Shift(namespace, "linear")
    cluster.wait_until(shift.look, 120, lambda: f"arrived: {shift}, {namespace.status('linear')}")
    figures.append(f"linear by 1 of 2, pods over time (seconds, old, new ready): {shift}")
    assert shift.left(1) - shift.begun(1) >= 8, str(shift)
    assert shift.begun(2) - shift.begun(1) >= 8, str(shift)
    assert shift.left(0) - shift.begun(2) >= 8, str(shift)
    assert all(message.startswith("Linear: 1 of 2 pods bakes until ") for message in shift.messages), shift.messages
    namespace.kubectl("delete", "mcep", "linear")


def test_new_pods_that_fail_too_often_are_sent_back(
    namespace: Namespace, caller: Callable[[str, int], Counter[str]], figures: list[str]
) -> None:
    rollout = {"strategy": "Canary", "stepPercent": 50, "bakeSeconds": 120, "maxErrorPercent": 10}
    namespace.apply(endpoint("guarded", "v1", rollout=rollout))
    namespace.wait_in_service("guarded")
    before = restarts(namespace, "guarded", "v1")
    namespace.apply(endpoint("guarded", "v2", rollout=rollout, env={"FAIL_STATUS": "500"}))
    is_over = threading.Event()

    def ask_on() -> None:
        while not is_over.is_set():
            caller("guarded", 10)

    asking = threading.Thread(target=ask_on)
    asking.start()
    began = time.monotonic()
    try:
        namespace.wait_status("guarded", lambda status: status.get("reason") == "RolledBack", "rolled back", 110)
    finally:
        is_over.set()
        asking.join()
    figures.append(f"error guard: rolled back {time.monotonic() - began:.1f} s after kubectl apply, 120 s of bake time")
    assert conditions(namespace, "guarded")["RolledBack"] == ("True", "ErrorRate")
    text = namespace.status("guarded")["failureReason"]
    assert text.startswith("generation 2 was rejected: container solo: ")
    assert "invocations of the new pods failed with 5xx, more than rollout.maxErrorPercent 10" in text
    assert restarts(namespace, "guarded", "v1") == before
    wait_gone(namespace, "guarded", "v2")  # while it ends it serves
    assert set(caller("guarded", 20)) == {"v1(x)"}
    namespace.kubectl("delete", "mcep", "guarded")
