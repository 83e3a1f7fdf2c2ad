"""Every reason word, produced for real: each container of these endpoints fails in its own way, side by side."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mce_api.status import Why
from support import cases, cluster
from support.cluster import Namespace

pytestmark = [pytest.mark.e2e, pytest.mark.long]

ELSEWHERE = {
    Why.NONE: "test_lifecycle",
    Why.RESIZING: "the tests of in-place changes",
    Why.ROLLING_BACK: "the tests of rollbacks",
    Why.ROLLED_BACK: "the tests of rollbacks",
    Why.ERROR_RATE: "the tests of rollbacks",
    Why.DEADLINE: "the tests of rollbacks",
}
"""Words that come from other parts than the symptoms, and where they are tested."""

WIDGET = "mce.test/widget"
KEY = "AKIAIOSFODNN7EXAMPLE"
LAST_WORDS = f"""import sys
print("\\x1b[31mloading\\x1b[0m", file=sys.stderr)
print("no access with {KEY} and hunter2-hunter2", file=sys.stderr)
sys.exit(3)
"""


STOPPED = """import signal, subprocess, sys, time
child = subprocess.Popen([sys.executable, "/opt/model", "serve"])
time.sleep(40)
child.send_signal(signal.SIGSTOP)
time.sleep(3600)
"""


def light(name: str, **fields: Any) -> dict[str, Any]:
    env = [{"name": "MODEL_NAME", "value": name}, *fields.pop("env", [])]
    return cases.container(name, env=env, startupTimeoutSeconds=60, **fields)


def script(name: str, *arguments: str, **fields: Any) -> dict[str, Any]:
    """Runs something else than the model's server."""
    return light(name, command=["python3", "-u", *arguments], args=[], **fields)


def server(name: str, port: int) -> dict[str, Any]:
    """Listens on a port of its own choice."""
    return light(name, command=["python3", "-u", "-m", "http.server"], args=[str(port)])


MUTE = {"env": [{"name": "PING_STATUS", "value": "never"}]}
ENDPOINTS: dict[str, dict[str, Any]] = {
    "silent": {"containers": [light("mute", **MUTE), server("elsewhere", 8080)]},
    "ends": {
        "containers": [
            script("crash", "-c", LAST_WORDS, env=[{"name": "DB_PASSWORD", "value": "hunter2-hunter2"}]),
            light("hog", env=[{"name": "OOM_MB", "value": "200"}], resources={"limits": {"memory": "64Mi"}}),
            light("program", command=["/no/such/program"]),
            light("config", env=[{"name": "A", "valueFrom": {"secretKeyRef": {"name": "not-there", "key": "k"}}}]),
            {**light("image"), "image": "localhost/mce/not-there:1"},
            {**light("Name"), "image": "UPPER/case:1"},
        ]
    },
    "ports": {
        "containers": [
            light("first"),
            server("squatter", 20200),
            script("asleep", "-c", "import time; time.sleep(3600)"),
            server("late", 20000),
        ]
    },
    "evicted": {
        "containers": [
            light("first"),
            script(
                "writer",
                "-c",
                "import time; open('/tmp/x', 'wb').write(bytes(40 << 20)); time.sleep(3600)",
                resources={"limits": {"ephemeral-storage": "10Mi"}},
            ),
        ]
    },
    "any": {"containers": [light("good"), script("hung", "-c", STOPPED)], "availability": "Any"},
    "large": {"containers": [light("a", resources={"requests": {"cpu": "1000"}}), light("b")]},
    "root": {"containers": [light("a"), light("b")], "pod": {"securityProfile": "baseline"}},
    "quota": {"containers": [light("a", resources={"limits": {WIDGET: 1}}), light("b")]},
    "off": {"suspend": True},
    "taken": {},
    "refused": {"pod": {"nodeSelector": {"a": "no label value!"}}},
    # The API server's \\S is ASCII's, pydantic's is Unicode's: the one thing known that it stores and we refuse.
    "invalid": {"containers": [{**light("a"), "image": "no\u00a0break:1"}, light("b")]},
}
EXPECTED = [
    ("ends", "crash", Why.EXIT, "code 3: no access with *** and ***"),
    ("ends", "hog", Why.OOM_KILLED, "was killed at its memory limit of 64Mi"),
    ("ends", "program", Why.CREATE_CONFIG, "no such file or directory"),
    ("ends", "config", Why.CREATE_CONFIG, 'secret "not-there" not found'),
    ("ends", "image", Why.IMAGE_PULL, "image localhost/mce/not-there:1 cannot be pulled"),
    ("ends", "Name", Why.IMAGE_PULL, "repository name must be lowercase"),
    ("large", "a", Why.UNSCHEDULABLE, "Insufficient cpu"),
    ("root", "a", Why.ADMISSION, 'violates PodSecurity "restricted:latest"'),
    ("quota", "a", Why.QUOTA, f"requested: requests.{WIDGET}=1, used: requests.{WIDGET}=0"),
    ("ports", "late", Why.PORT_TAKEN, "container first listens on 20000"),
    ("ports", "asleep", Why.PORT_TAKEN, "runs, but container squatter listens on its port 20200"),
    ("ports", "squatter", Why.PORT_NOT_BOUND, "it listens on 20200"),
    ("silent", "mute", Why.PING_TIMEOUT, "no answer to GET /ping on port 20000 within 2 s"),
    ("silent", "elsewhere", Why.PORT_NOT_BOUND, "it listens on 8080"),
    ("evicted", "writer", Why.EVICTED, "exceeds the total limit of containers 10Mi"),
    ("silent", "mute", Why.START_BUDGET, "was stopped after its budget of 60 s"),
]
WHOLE = [
    ("off", "OutOfService", Why.SUSPENDED, ""),
    ("taken", "Failed", Why.NAME_TAKEN, "Service"),
    ("refused", "Failed", Why.APPLY_FAILED, "nodeSelector"),
    ("invalid", "Failed", Why.INVALID_SPEC, "spec.containers[0].image"),
]


class Watcher:
    """All reasons that containers, endpoints and conditions ever had, and the messages of the containers."""

    def __init__(self, namespace: Namespace) -> None:
        self.reasons: set[str] = set()
        self.lines: dict[tuple[str, str, str], dict[str, Any]] = {}
        self.process = namespace.start("get", "mcep", "--watch", "-o", "json")
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stdout
        text, decoder = "", json.JSONDecoder()
        for line in self.process.stdout:
            text += line
            if line.startswith("}"):
                self._take(decoder.decode(text))
                text = ""

    def _take(self, endpoint: dict[str, Any]) -> None:
        status = endpoint.get("status", {})
        self.reasons |= {status.get("reason", "")} | {one["reason"] for one in status.get("conditions", ())}
        for line in status.get("containers", ()):
            self.reasons.add(line.get("reason", ""))
            self.lines[endpoint["metadata"]["name"], line["name"], line.get("reason", "")] = line

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()
        self._thread.join(10)
        assert self.process.stdout
        self.process.stdout.close()


@pytest.fixture(scope="module")
def seen(namespace: Namespace) -> Iterator[Watcher]:
    namespace.apply(
        {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "widgets"},
            "spec": {"hard": {f"requests.{WIDGET}": "0"}},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "taken"},
            "spec": {"ports": [{"port": 80}], "selector": {"not": "ours"}},
        },
    )
    watcher = Watcher(namespace)
    try:
        namespace.apply(*(cases.document(name, **spec) for name, spec in ENDPOINTS.items()))
        yield watcher
    finally:
        watcher.stop()


@pytest.mark.parametrize(
    ("endpoint", "container", "why", "says"), [pytest.param(*row, id=f"{row[2]}-{row[1]}") for row in EXPECTED]
)
def test_a_container_says_why_it_is_down(
    namespace: Namespace, seen: Watcher, endpoint: str, container: str, why: Why, says: str
) -> None:
    found = (endpoint, container, why.value)
    cluster.wait_until(
        lambda: says in seen.lines.get(found, {}).get("message", ""),
        240,
        lambda: f"{found}: {says}; status: {json.dumps(namespace.status(endpoint).get('containers'), indent=1)}",
    )


@pytest.mark.parametrize(("endpoint", "state", "why", "says"), [pytest.param(*row, id=row[2]) for row in WHOLE])
def test_an_endpoint_says_why_it_does_not_serve(
    namespace: Namespace, seen: Watcher, endpoint: str, state: str, why: Why, says: str
) -> None:
    def shown(status: dict[str, Any]) -> bool:
        return bool((status.get("state"), status.get("reason")) == (state, why))

    namespace.wait_status(endpoint, shown, f"{state}, {why}")
    assert says in namespace.status(endpoint)["failureReason"]


def test_last_words_are_shown_without_secrets_and_colours(namespace: Namespace, seen: Watcher) -> None:
    lines = {line["name"]: line for line in namespace.status("ends")["containers"]}
    assert lines["crash"]["lastLogLines"] == "loading\nno access with *** and ***"
    assert (lines["crash"]["lastExitCode"], lines["hog"]["lastExitCode"]) == (3, 137)
    everything = namespace.kubectl("get", "events,mcep", "-o", "json")
    for endpoint in json.loads(everything)["items"]:
        assert KEY not in json.dumps(endpoint.get("status", endpoint.get("note")))


def test_the_first_cause_explains_the_endpoint_while_others_come_and_go(namespace: Namespace, seen: Watcher) -> None:
    status = namespace.status("ends")
    dates = {line["since"] for line in status["containers"]}
    first = {line["reason"] for line in status["containers"] if line["since"] == min(dates)}
    assert status["reason"] in first


def test_describe_shows_an_event_for_each_cause(namespace: Namespace, seen: Watcher) -> None:
    text = namespace.kubectl("describe", "mcep", "root")
    assert "Warning" in text.partition("Events:")[2]
    assert "Admission" in text.partition("Events:")[2]


def test_an_endpoint_that_waits_for_a_finalizer_says_so(namespace: Namespace, seen: Watcher) -> None:
    hold = '{"metadata":{"finalizers":["mce.test/hold"]}}'
    namespace.kubectl("patch", "mcep", "off", "--type=merge", "-p", hold)
    namespace.kubectl("delete", "mcep", "off", "--wait=false")
    namespace.wait_status("off", lambda status: status["reason"] == Why.NOT_READY, "NotReady")
    assert namespace.status("off")["state"] == "Deleting"
    namespace.kubectl("patch", "mcep", "off", "--type=merge", "-p", '{"metadata":{"finalizers":null}}')


def test_a_container_that_falls_silent_later_degrades_an_endpoint_of_any(namespace: Namespace, seen: Watcher) -> None:
    def degraded(status: dict[str, Any]) -> bool:
        return any(one["type"] == "Degraded" and one["status"] == "True" for one in status["conditions"])

    namespace.wait_status("any", degraded, "Degraded", 240)
    status = namespace.status("any")
    lines = {line["name"]: line["reason"] for line in status["containers"]}
    assert (status["state"], lines) == ("InService", {"good": "", "hung": "PingTimeout"})
    (condition,) = (one for one in status["conditions"] if one["type"] == "Degraded")
    assert condition["message"] == "container hung: PingTimeout, serves on 0 of 1 replicas"


def chart(folder: Path, endpoint: dict[str, Any]) -> str:
    (folder / "templates").mkdir()
    (folder / "Chart.yaml").write_text(json.dumps({"apiVersion": "v2", "name": folder.name, "version": "1.0.0"}))
    (folder / "templates" / "endpoint.yaml").write_text(json.dumps(endpoint))
    return str(folder)


def test_helm_waits_for_the_endpoint_to_serve(namespace: Namespace, seen: Watcher, tmp_path: Path) -> None:
    made = chart(tmp_path, cases.document("served", containers=[light("a"), light("b")]))
    cluster.run("helm", "install", "served", made, "-n", namespace.name, "--wait", "--timeout", "90s")
    assert namespace.status("served")["state"] == "InService"
    namespace.kubectl("wait", "--for=condition=Ready", "mcep/served", "--timeout=1s")


def test_helm_does_not_wait_for_what_only_its_user_can_cure(
    namespace: Namespace, seen: Watcher, tmp_path: Path
) -> None:
    made = chart(tmp_path, cases.document("never", pod={"nodeSelector": {"a": "no label value!"}}))
    with pytest.raises(cluster.CommandError, match="status: Failed"):
        cluster.run("helm", "install", "never", made, "-n", namespace.name, "--wait", "--timeout", "90s", seconds=60)


def test_every_word_was_seen(seen: Watcher) -> None:
    """Comes last: the ordinary words pass by while the others are waited for."""
    assert set(Why) - set(ELSEWHERE) <= {Why(reason) for reason in seen.reasons if reason}
