"""`mce local` with real processes: the commands a user types, real model servers, the real router."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from mce_local import orphans
from support.http import post
from support.processes import MODEL, get, wait_until

MCE = Path(sys.executable).with_name("mce")


@dataclass(frozen=True)
class Laptop:
    """One user's machine: a folder with files, and a state home."""

    folder: Path

    def mce(self, *arguments: str, expect: int = 0, stdin: bytes = b"") -> str:
        done = subprocess.run([MCE, *arguments], input=stdin, capture_output=True, env=self.env, check=False)
        text = (done.stdout + done.stderr).decode()
        assert done.returncode == expect, text
        return text

    @property
    def env(self) -> dict[str, str]:
        return {**os.environ, "XDG_STATE_HOME": str(self.folder / "state")}

    def write(self, *endpoints: dict[str, Any]) -> str:
        images = {"images": {"model:1": {"command": ["python", str(MODEL)]}}}
        (self.folder / "images.yaml").write_text(yaml.safe_dump(images))
        (self.folder / "endpoint.yaml").write_text(yaml.safe_dump_all(endpoints))
        return str(self.folder / "endpoint.yaml")

    def up(self, *endpoints: dict[str, Any], options: tuple[str, ...] = (), expect: int = 0) -> str:
        return self.mce("local", "up", "-d", "-f", self.write(*endpoints), *options, expect=expect)

    def status(self, name: str = "pair") -> dict[str, Any]:
        found: dict[str, Any] = json.loads(get(f"http://127.0.0.1:{self.record(name)['statusPort']}/status")[1])
        return found

    def containers(self, name: str = "pair") -> dict[str, dict[str, Any]]:
        return {container["name"]: container for container in self.status(name)["containers"]}

    def record(self, name: str = "pair") -> dict[str, Any]:
        record: dict[str, Any] = json.loads((self.folder / "state" / "mce" / name / "supervisor.json").read_text())
        return record


@pytest.fixture
def laptop(tmp_path: Path) -> Iterator[Laptop]:
    machine = Laptop(tmp_path)
    yield machine
    machine.mce("local", "down", "--all")


def container(name: str, **env: str) -> dict[str, Any]:
    variables = {"MODEL_NAME": name, **env}
    return {"name": name, "image": "model:1", "env": [{"name": k, "value": v} for k, v in variables.items()]}


def endpoint(*containers: dict[str, Any], name: str = "pair", mode: str = "Direct") -> dict[str, Any]:
    return {
        "apiVersion": "serving.mce.dev/v1alpha1",
        "kind": "MultiContainerEndpoint",
        "metadata": {"name": name},
        "spec": {"mode": mode, "containers": list(containers)},
    }


def is_gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_each_container_answers_by_its_name_and_down_leaves_no_process(laptop: Laptop) -> None:
    laptop.up(endpoint(container("a"), container("B")))
    answers = {name: json.loads(laptop.mce("invoke", "pair", "-c", name))["model"] for name in ("a", "B")}
    assert answers == {"a": "a", "B": "B"}
    instance = laptop.record()["instance"]
    (status,) = json.loads(laptop.mce("local", "status", "-o", "json"))
    assert [container["invocations"] for container in status["containers"]] == [1, 1]
    assert all(container["memoryBytes"] > 0 for container in status["containers"])
    assert status["phase"] == "InService"
    assert b"mce_container_memory_working_set_bytes{" in get(status["metricsUrl"])[1]
    assert laptop.mce("local", "down") == "pair: stopped\n"
    assert orphans.processes(instance) == ()
    assert is_gone(status["supervisorPid"])


def test_a_chain_passes_each_answer_on(laptop: Laptop) -> None:
    laptop.up(endpoint(container("first"), container("second"), mode="Serial"))
    answer = post(laptop.record()["port"], b"x", content_type="text/plain")
    assert answer.body == b"second(first(x))"


def test_update_restarts_what_changed_keeps_what_did_not_and_stops_what_is_gone(laptop: Laptop) -> None:
    laptop.up(endpoint(container("a"), container("b"), container("c")))
    before = laptop.containers()
    text = laptop.up(endpoint(container("a"), container("b", SLOW_MS="1"), container("d")))
    after = laptop.containers()
    assert "pair: updated" in text
    assert (after["a"]["id"], after["a"]["port"]) == (before["a"]["id"], before["a"]["port"])
    assert after["b"]["id"] != before["b"]["id"]
    assert after["b"]["port"] == before["b"]["port"]
    assert is_gone(int(before["c"]["id"]))
    assert json.loads(laptop.mce("invoke", "pair", "-c", "d"))["model"] == "d"
    assert "TargetUnknown" in laptop.mce("invoke", "pair", "-c", "c", expect=1)


def test_a_server_with_paths_of_its_own_and_the_port_in_a_value_runs_as_in_a_pod(laptop: Laptop) -> None:
    one = container("a", PORT="$(SAGEMAKER_BIND_TO_PORT)", PING_PATH="/healthz", INVOCATIONS_PATH="/predict")
    laptop.up(endpoint({**one, "pingPath": "/healthz", "invocationsPath": "/predict"}))
    assert json.loads(laptop.mce("invoke", "pair", "-c", "a"))["model"] == "a"
    text = laptop.up(endpoint({**one, "pingPath": "/elsewhere"}), options=("--wait", "10"), expect=1)
    assert "container a did not answer GET /elsewhere with 200 in 10 s: it said HTTP 404" in text
    wait_until("a serves again", lambda: laptop.containers()["a"]["state"] == "Healthy")
    assert json.loads(laptop.mce("invoke", "pair", "-c", "a"))["model"] == "a"


def test_what_is_wanted_already_is_left_alone(laptop: Laptop) -> None:
    laptop.up(endpoint(container("a")))
    before = laptop.containers()["a"]["id"]
    assert "pair: unchanged" in laptop.up(endpoint(container("a")))
    assert laptop.containers()["a"]["id"] == before


def test_an_update_that_fails_is_undone(laptop: Laptop) -> None:
    laptop.up(endpoint(container("a"), container("b")))
    before = laptop.containers()
    text = laptop.up(endpoint(container("a"), container("b", EXIT_AFTER="0", EXIT_CODE="7")), expect=1)
    assert "was not updated, it runs as before: container b exited with code 7" in text
    assert laptop.containers()["a"]["id"] == before["a"]["id"]
    wait_until("b serves again", lambda: laptop.containers()["b"]["state"] == "Healthy")
    assert json.loads(laptop.mce("invoke", "pair", "-c", "b"))["model"] == "b"


def test_a_crashed_container_is_started_again_and_its_sibling_is_not(laptop: Laptop) -> None:
    laptop.up(endpoint(container("a"), container("b")))
    before = laptop.containers()
    os.kill(int(before["a"]["id"]), signal.SIGKILL)
    wait_until("a is restarted", lambda: laptop.containers()["a"]["restarts"] == 1)
    wait_until("a is healthy", lambda: laptop.containers()["a"]["state"] == "Healthy")
    after = laptop.containers()
    assert after["a"]["id"] != before["a"]["id"]
    assert after["a"]["lastExitCode"] == -signal.SIGKILL
    assert after["b"]["id"] == before["b"]["id"]


@pytest.mark.parametrize("then", ["up", "down"])
def test_what_a_killed_supervisor_left_is_cleaned_up(laptop: Laptop, then: str) -> None:
    laptop.up(endpoint(container("a")))
    record = laptop.record()
    os.kill(record["pid"], signal.SIGKILL)
    wait_until("the supervisor is gone", lambda: is_gone(record["pid"]))
    assert "its supervisor was killed" in laptop.mce("local", "status")
    if then == "up":
        laptop.up(endpoint(container("a")))
        assert json.loads(laptop.mce("invoke", "pair", "-c", "a"))["model"] == "a"
        assert laptop.record()["instance"] != record["instance"]
    else:
        laptop.mce("local", "down", "pair")
    assert orphans.processes(record["instance"]) == ()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_what_runs_in_the_foreground_ends_with_it(laptop: Laptop, number: signal.Signals) -> None:
    file = laptop.write(endpoint(container("a")))
    # A shell that starts us in the background has us ignore SIGINT, and so would every child.
    command = ["env", "--default-signal=INT", str(MCE), "local", "up", "-f", file]
    with subprocess.Popen(command, env=laptop.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as child:
        assert child.stdout is not None
        line = b""
        while b"Ctrl-C stops" not in line:
            line = child.stdout.readline()
            assert line, "ended early"
        record = laptop.record()
        child.send_signal(number)
        assert child.wait(20) == (-number if number is signal.SIGKILL else 130)
    wait_until("the supervisor is gone", lambda: is_gone(record["pid"]))
    assert orphans.processes(record["instance"]) == ()


def test_several_endpoints_run_at_once_on_ports_of_their_own(laptop: Laptop) -> None:
    laptop.up(endpoint(container("a"), name="one"), endpoint(container("a"), name="two"))
    ports = [laptop.record(name)["port"] for name in ("one", "two")]
    blocks = [laptop.record(name)["blocks"]["a"]["block"] for name in ("one", "two")]
    assert len(set(ports)) == len(set(blocks)) == 2
    assert "several endpoints run (one, two)" in laptop.mce("local", "down", expect=2)
    laptop.mce("local", "down", "one")
    assert json.loads(laptop.mce("invoke", "two", "-c", "a"))["model"] == "a"


def test_a_container_that_exits_at_once_is_named_with_its_code_and_log(laptop: Laptop) -> None:
    text = laptop.up(endpoint(container("a"), container("b", EXIT_AFTER="0", EXIT_CODE="3")), expect=1)
    assert "error: endpoint pair did not start: container b exited with code 3" in text
    assert re.search(r"logs/b\.log:\n +listening on \d+", text)
    assert laptop.mce("local", "status") == "nothing runs; start an endpoint with: mce local up -f FILE\n"


def test_a_container_that_never_answers_is_named_with_the_reason(laptop: Laptop) -> None:
    started = time.monotonic()
    text = laptop.up(endpoint(container("a", PING_STATUS="503")), options=("--wait", "5"), expect=1)
    assert "container a did not answer GET /ping with 200 in 5 s: it said HTTP 503" in text
    assert time.monotonic() - started < 30, "the spec alone would wait 240 s"


def test_an_image_without_a_command_is_named_with_the_file_and_the_fix(laptop: Laptop) -> None:
    text = laptop.up(endpoint({"name": "a", "image": "unknown:1"}), expect=1)
    assert (
        f"container a: {laptop.folder}/images.yaml names no command for image unknown:1 (known there: model:1)" in text
    )


def test_a_port_that_is_taken_is_named_with_the_fix(laptop: Laptop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as squatter:
        port = squatter.getsockname()[1]
        text = laptop.up(endpoint({**container("a"), "port": port}), expect=1)
        assert f"container a: port {port} is taken by another process; stop it, or change port" in text
        text = laptop.up(endpoint(container("a")), options=("--port", str(port)), expect=1)
        assert f"port {port} is taken by another process; give another with --port" in text


def test_every_fault_of_a_file_is_told_before_anything_starts(laptop: Laptop) -> None:
    broken = endpoint({"name": "a_b", "image": "model:1", "ports": 1})
    text = laptop.up(broken, expect=1)
    assert "pair: spec.containers[0].name" in text
    assert "pair: spec.containers[0].ports: unknown field; did you mean port?" in text
    (laptop.folder / "broken.yaml").write_text("a: [1\n")
    text = laptop.mce("local", "up", "-f", str(laptop.folder / "broken.yaml"), expect=1)
    assert re.search(r"broken\.yaml:2: document 1: \(document\): not YAML: ", text)


def test_a_secret_must_be_given_by_file(laptop: Laptop) -> None:
    secret = {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "token"}}}
    spec = container("a")
    spec["env"].append(secret)
    assert "variable TOKEN comes from Secret keys, key token" in laptop.up(endpoint(spec), expect=1)
    (laptop.folder / "secrets").write_text("# a comment\nTOKEN=top=secret\n")
    laptop.up(endpoint(spec), options=("--env-file", str(laptop.folder / "secrets")))
    environment = psutil.Process(int(laptop.containers()["a"]["id"])).environ()
    assert environment["TOKEN"] == "top=secret"
    assert environment["SAGEMAKER_SAFE_PORT_RANGE"].startswith(str(laptop.containers()["a"]["port"] + 1))
    state = laptop.folder / "state" / "mce" / "pair"
    assert {oct(path.stat().st_mode & 0o077) for path in (state, state / "wanted.json")} == {"0o0"}
