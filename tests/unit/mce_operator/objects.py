"""Endpoints, pods and Deployments as the API server would show them, made from the few facts that a test is about."""

from datetime import UTC, datetime
from typing import Any

from mce_api import names, validation
from mce_api.endpoint import MultiContainerEndpoint
from mce_operator import resize
from mce_operator.decisions import Decisions
from mce_operator.desired import desired
from mce_operator.key import Key
from mce_operator.observed import Observed
from mce_operator.resources.meta import K8sObject
from mce_operator.resources.network_policy import Network
from mce_operator.resources.router import Setup
from mce_operator.rollout import Revision, revision
from mce_operator.settings import PROMETHEUS

ROUTER_IMAGE = "localhost/mce/router:0.1.0"
ROUTER = Setup(image=ROUTER_IMAGE, network=Network(operator_namespace="mce-system", metrics_from=PROMETHEUS))
UID = "11111111-1111-1111-1111-111111111111"


def container(name: str, **spec: Any) -> dict[str, Any]:
    return {"name": name, "image": f"registry.example/{name.lower()}:1", **spec}


def document(*containers: dict[str, Any], status: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {
            "name": "mnist",
            "namespace": "team-a",
            "uid": UID,
            "generation": 1,
            "resourceVersion": "1",
        },
        "spec": {"mode": "Direct", "containers": list(containers or (container("a"), container("B"))), **spec},
        "status": status if status is not None else {"observedGeneration": -1},
    }


def endpoint(*containers: dict[str, Any], **spec: Any) -> MultiContainerEndpoint:
    return validation.endpoint(document(*containers, **spec))


def first_revision(made: MultiContainerEndpoint) -> Revision:
    """What is decided of an endpoint that has nothing yet."""
    nothing = Observed(key=Key(made.metadata.namespace, made.metadata.name), document={"metadata": {}})
    return revision(made, nothing, ROUTER, datetime(2026, 1, 1, tzinfo=UTC))


def deployment(made: MultiContainerEndpoint) -> K8sObject:
    """Its first Deployment."""
    return first_revision(made).deployment


def template_hash(made: MultiContainerEndpoint) -> str:
    return first_revision(made).template


def decisions(made: MultiContainerEndpoint, **changes: Any) -> Decisions:
    """What is decided of a healthy endpoint."""
    made_of = first_revision(made)
    fresh = Observed(key=Key("team-a", "mnist"), document={"metadata": {}})
    resizing = resize.resizing(made_of.deployment, fresh, datetime(2026, 1, 1, tzinfo=UTC), steps=False)
    return Decisions(**{"revision": made_of, "resizing": resizing, **changes})


def wanted(made: MultiContainerEndpoint) -> tuple[K8sObject, ...]:
    """Its children."""
    return desired(made, decisions(made), ROUTER)


def running(name: str, *, since: str = "2026-01-01T00:00:00Z", up: bool = True, **more: Any) -> dict[str, Any]:
    return {"name": name, "ready": up, "started": up, "state": {"running": {"startedAt": since}}, **more}


def waiting(name: str, reason: str, message: str = "", **more: Any) -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": message}}
    return {"name": name, "ready": False, "started": False, "state": state, **more}


def ended(code: int, seconds: int = 3, reason: str = "Error", message: str = "") -> dict[str, Any]:
    finished = f"2026-01-01T{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}Z"
    return {
        "exitCode": code,
        "reason": reason,
        "message": message,
        "startedAt": "2026-01-01T00:00:00Z",
        "finishedAt": finished,
    }


def pod(template: str, *statuses: dict[str, Any], name: str = "mnist-1", **status: Any) -> dict[str, Any]:
    router = [one for one in statuses if one["name"] == names.ROUTER_CONTAINER] or [running(names.ROUTER_CONTAINER)]
    models = [one for one in statuses if one["name"] != names.ROUTER_CONTAINER]
    return {
        "metadata": {
            "name": name,
            "namespace": "team-a",
            "resourceVersion": "1",
            "labels": names.endpoint_labels("mnist"),
            "annotations": {names.HASH_ANNOTATION: template},
        },
        "spec": {"containers": []},
        "status": {"initContainerStatuses": router if statuses else [], "containerStatuses": models, **status},
    }


def rolled_out(pods: int = 1, **changes: Any) -> dict[str, Any]:
    numbers = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), pods)
    return {"observedGeneration": 1, **numbers, **changes}
