"""The cluster of `make cluster`, driven as a user does: kubectl and helm."""

import json
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import yaml

ROOT = Path(__file__).resolve().parents[2]
KUBECONFIG = ROOT / ".cluster" / "kubeconfig"
TOOLS = ROOT / ".cluster" / "bin"
_ENV = {**os.environ, "KUBECONFIG": str(KUBECONFIG), "PATH": f"{TOOLS}:{os.environ['PATH']}"}


class CommandError(AssertionError):
    """kubectl or helm ended with an error; the text is what the user would read."""


def run(*command: str, stdin: str | None = None, seconds: float = 120) -> str:
    """Standard output of a command; raises with what it said when it fails."""
    program = shutil.which(command[0], path=_ENV["PATH"])
    assert program, f"{command[0]} is not there; run `make cluster`"
    done = subprocess.run(
        [program, *command[1:]], input=stdin, capture_output=True, text=True, env=_ENV, timeout=seconds, check=False
    )
    if done.returncode:
        raise CommandError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


@contextmanager
def started(*command: str, stdout: TextIO) -> Iterator["subprocess.Popen[str]"]:
    """A command that runs while the context is open."""
    program = shutil.which(command[0], path=_ENV["PATH"])
    assert program
    child = subprocess.Popen([program, *command[1:]], env=_ENV, stdout=stdout, text=True)
    try:
        yield child
    finally:
        child.kill()
        child.wait()


class Namespace:
    """One namespace, and what is done in it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        return run("kubectl", "-n", self.name, *arguments, stdin=stdin)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """kubectl in the background, its output in a pipe; the caller ends it."""
        program = shutil.which("kubectl", path=_ENV["PATH"])
        assert program
        command = [program, "-n", self.name, *arguments]
        return subprocess.Popen(command, env=_ENV, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def apply(self, *documents: dict[str, Any]) -> str:
        return self.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(documents))

    def get(self, *arguments: str) -> Any:
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def endpoint(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.get("mcep", name)
        return found

    def status(self, name: str) -> dict[str, Any]:
        status: dict[str, Any] = self.endpoint(name).get("status", {})
        return status

    def wait_in_service(self, name: str, seconds: float = 120) -> None:
        """Until the status of the newest generation says InService."""

        def in_service() -> bool:
            found = self.endpoint(name)
            status = found.get("status", {})
            current = status.get("observedGeneration") == found["metadata"]["generation"]
            return bool(current and status.get("state") == "InService")

        wait_until(in_service, seconds, lambda: f"{name} InService; status: {self.status(name)}")

    def wait_status(self, name: str, check: Callable[[dict[str, Any]], bool], what: str, seconds: float = 60) -> None:
        wait_until(lambda: check(self.status(name)), seconds, lambda: f"{what}; status: {self.status(name)}")

    @contextmanager
    def forwarded(self, thing: str, port: int) -> Iterator[int]:
        """A loopback port that leads to `port` of `thing` (`svc/x`, `pod/x`)."""
        child = self.start("port-forward", "--address", "127.0.0.1", thing, f":{port}")
        assert child.stdout
        reading = threading.Thread(target=child.stdout.read)
        try:
            match = re.search(r"127\.0\.0\.1:(\d+) ->", child.stdout.readline())
            assert match, f"port-forward to {thing} gave no port"
            reading.start()  # it prints a line for each connection, and stands still when nobody reads them
            yield int(match[1])
        finally:
            child.kill()
            child.wait()
            if reading.is_alive():
                reading.join()
            child.stdout.close()

    def router_metric(self, pod: str, name: str, **labels: str) -> float:
        """One value of the router's metrics in `pod`."""
        return sample(self.router_page(pod, "/metrics"), name, **labels)

    def router_page(self, pod: str, path: str) -> str:
        """What the router in `pod` answers on its admin port."""
        with self.forwarded(f"pod/{pod}", 19081) as port:
            return fetch(f"http://127.0.0.1:{port}{path}")

    def pods(self, endpoint: str) -> list[dict[str, Any]]:
        """Pods of an endpoint that are not on their way out."""
        items = self.get("pods", "-l", f"serving.mce.dev/endpoint={endpoint}")["items"]
        return [pod for pod in items if "deletionTimestamp" not in pod["metadata"]]


def wait_until(check: Callable[[], bool], seconds: float, what: Callable[[], str]) -> None:
    """Returns when `check()` is true; fails with `what()` when it is not in time."""
    end = time.monotonic() + seconds
    while not check():
        if time.monotonic() > end:
            raise AssertionError(f"not in {seconds:g} s: {what()}")
        time.sleep(0.3)


def fetch(url: str) -> str:
    """Body of a GET."""
    import urllib.request

    with urllib.request.urlopen(url, timeout=20) as reply:
        text: str = reply.read().decode()
        return text


def sample(text: str, name: str, **labels: str) -> float:
    """One value of a Prometheus exposition."""
    for line in text.splitlines():
        series, _, value = line.rpartition(" ")
        if series.partition("{")[0] == name and all(f'{key}="{wanted}"' in series for key, wanted in labels.items()):
            return float(value)
    raise KeyError(f"no sample {name} {labels}")
