"""A real cluster with the chart installed, and a namespace for each test module."""

import os
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from support import cluster
from support.cluster import Namespace

SYSTEM = "mce-system"


@pytest.fixture(scope="session")
def installed() -> Namespace:
    """The chart, installed as the README says; the operator is available."""
    if not cluster.KUBECONFIG.exists():
        pytest.fail("no cluster: run `make cluster images` first (or `make e2e`, which does)")
    chart = str(cluster.ROOT / "charts" / "mce")
    registry = os.environ.get("MCE_REGISTRY", "localhost/mce")
    arguments = ("--namespace", SYSTEM, "--create-namespace", "--set", f"image.registry={registry}", "--wait")
    cluster.run("helm", "upgrade", "--install", "mce", chart, *arguments, seconds=180)
    system = Namespace(SYSTEM)
    # A chart of the same version with a rebuilt image changes no pod: start from the image that was just loaded.
    system.kubectl("rollout", "restart", "deployment", "-l", "app.kubernetes.io/name=mce")
    system.kubectl("rollout", "status", "deployment", "-l", "app.kubernetes.io/name=mce", "--timeout=120s")
    return system


@pytest.fixture(scope="module")
def namespace(installed: Namespace, request: pytest.FixtureRequest) -> Iterator[Namespace]:
    """A namespace of its own; Pod Security restricted is enforced in it."""
    name = "e2e-" + Path(request.path).stem.removeprefix("test_").replace("_", "-")
    cluster.run("kubectl", "delete", "namespace", name, "--ignore-not-found", "--wait", seconds=180)
    cluster.run("kubectl", "create", "namespace", name)
    cluster.run("kubectl", "label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    yield Namespace(name)
    cluster.run("kubectl", "delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="session")
def operator_away(installed: Namespace) -> Callable[[], AbstractContextManager[None]]:
    """While such a context is open there is no operator; afterwards a new one runs."""

    @contextmanager
    def away() -> Iterator[None]:
        deployment = installed.get("deployment", "-l", "app.kubernetes.io/name=mce")["items"][0]
        name, replicas = deployment["metadata"]["name"], deployment["spec"]["replicas"]
        selector = ",".join(f"{key}={text}" for key, text in deployment["spec"]["selector"]["matchLabels"].items())
        installed.kubectl("scale", "deployment", name, "--replicas=0")
        installed.kubectl("wait", "pod", "-l", selector, "--for=delete", "--timeout=60s")
        try:
            yield
        finally:
            installed.kubectl("scale", "deployment", name, f"--replicas={replicas}")
            installed.kubectl("rollout", "status", "deployment", name, "--timeout=120s")

    return away


_FIGURES = pytest.StashKey[list[str]]()


@pytest.fixture
def figures(pytestconfig: pytest.Config) -> list[str]:
    """Sentences with what was measured; the run ends with them."""
    return pytestconfig.stash.setdefault(_FIGURES, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Shows the figures."""
    for line in config.stash.get(_FIGURES, []):
        terminalreporter.write_line(f"measured: {line}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure comes with what the operator and the cluster said: the cluster is gone when somebody reads it."""
    report = yield
    if report.when == "call" and report.failed:
        selector = ("-l", "app.kubernetes.io/name=mce", "--tail=30")
        for title, command in (
            ("operator", ("kubectl", "-n", SYSTEM, "logs", *selector)),
            ("endpoints", ("kubectl", "get", "mcep,pods", "-A", "-o", "wide")),
            ("events", ("kubectl", "get", "events", "-A", "--sort-by=.lastTimestamp")),
        ):
            try:
                report.sections.append((title, cluster.run(*command)[-6000:]))
            except AssertionError as error:
                report.sections.append((title, str(error)))
    return report
