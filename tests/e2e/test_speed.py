"""How long an endpoint takes to be in service, beside a bare Deployment of the same containers in the same run."""

import random
import statistics
import time
from typing import Any

import pytest

from support import cases
from support.cluster import Namespace

pytestmark = [pytest.mark.e2e, pytest.mark.long]

ROUNDS = 12
MOST_SECONDS = 2.0
NAMES = ("a", "b")


def bare(name: str) -> dict[str, Any]:
    """What a user would write without us: the same containers, ready when each of them answers its ping."""
    containers = [
        {
            "name": one,
            "image": cases.container(one)["image"],
            "args": ["serve"],
            "env": [{"name": "SAGEMAKER_BIND_TO_PORT", "value": str(8000 + index)}],
            "readinessProbe": {"httpGet": {"path": "/ping", "port": 8000 + index}, "periodSeconds": 1},
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        }
        for index, one in enumerate(NAMES)
    ]
    security = {"runAsNonRoot": True, "runAsUser": 20000, "seccompProfile": {"type": "RuntimeDefault"}}
    labels = {"app": name}
    spec = {"securityContext": security, "containers": containers, "terminationGracePeriodSeconds": 1}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": spec}},
    }


def seconds(namespace: Namespace, document: dict[str, Any], what: str, condition: str) -> float:
    """From `kubectl apply` until the condition is true.

    The kubelet looks at its containers once a second, and what is waited for here ends with such a look: without a
    pause all rounds would begin at the same moment of that second, a lucky or an unlucky one.
    """
    time.sleep(random.random())
    began = time.monotonic()
    namespace.apply(document)
    namespace.kubectl("wait", what, f"--for=condition={condition}", "--timeout=90s")
    taken = time.monotonic() - began
    namespace.kubectl("delete", what, "--wait")
    return taken


def test_an_endpoint_is_in_service_soon_after_a_bare_deployment_would_be(
    namespace: Namespace, figures: list[str]
) -> None:
    endpoints, deployments = [], []
    for number in range(ROUNDS):
        name = f"round-{number}"
        document = cases.document(name, containers=[cases.container(one, startupTimeoutSeconds=60) for one in NAMES])
        deployments.append(seconds(namespace, bare(f"bare-{number}"), f"deployment/bare-{number}", "Available"))
        endpoints.append(seconds(namespace, document, f"mcep/{name}", "Ready"))
    ours, theirs = statistics.median(endpoints), statistics.median(deployments)
    more = ours - theirs
    figures.append(
        f"in service {ours:.2f} s after kubectl apply, a bare Deployment of the same containers {theirs:.2f} s "
        f"(medians of {ROUNDS}): {more:+.2f} s"
    )
    assert more < MOST_SECONDS, (endpoints, deployments)
