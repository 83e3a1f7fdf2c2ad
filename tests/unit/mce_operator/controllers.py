"""What Kubernetes does with a Deployment, at once and in memory: ReplicaSets, pods, kubelets."""

import copy
from typing import Any

from mce_api import names
from mce_operator.resources import meta
from unit.mce_operator import objects
from unit.mce_operator.fake_api import FakeApi

LABEL = "pod-template-hash"


class Controllers:
    """Call `run` until nothing changes any more."""

    def __init__(self, api: FakeApi, namespace: str, name: str) -> None:
        self._api = api
        self._key = (namespace, name)
        self.conditions: list[dict[str, Any]] = []
        """Of every pod that is to be resized; then it is not."""
        self.is_deaf = False
        """The kubelets do nothing."""

    def run(self) -> None:
        deployment = self._api.objects.get(("Deployment", *self._key))
        if deployment is None:
            for address in [one for one in self._api.objects if one[0] in {"ReplicaSet", "Pod"}]:
                del self._api.objects[address]
            return
        matching = [one for one in self.all("ReplicaSet") if _template(one) == deployment["spec"]["template"]]
        if not matching and not deployment["spec"].get("paused"):
            matching = [self._replica_set(deployment)]
        for one in self.all("ReplicaSet"):
            is_new = bool(matching) and one["metadata"]["name"] == matching[0]["metadata"]["name"]
            if is_new or matching:
                one["spec"]["replicas"] = deployment["spec"]["replicas"] if is_new else 0
            self._pods(one)
        self.kubelets()
        pods = self.all("Pod")
        new = [one for one in pods if matching and _owner(one) == matching[0]["metadata"]["uid"]]
        status = objects.rolled_out(len(pods), observedGeneration=deployment["metadata"]["generation"])
        if deployment["spec"].get("paused"):
            reason = "DeploymentPaused"
        else:
            reason = "NewReplicaSetAvailable" if len(new) == len(pods) else "ReplicaSetUpdated"
        progress = {"type": "Progressing", "status": "True", "reason": reason}
        self._put({**deployment, "status": {**status, "updatedReplicas": len(new), "conditions": [progress]}})

    def all(self, kind: str) -> list[dict[str, Any]]:
        return [copy.deepcopy(one) for address, one in sorted(self._api.objects.items()) if address[0] == kind]

    def _replica_set(self, deployment: dict[str, Any]) -> dict[str, Any]:
        template = copy.deepcopy(deployment["spec"]["template"])
        digest = meta.digest(template)[:8]
        template["metadata"]["labels"][LABEL] = digest
        return self._put(
            {
                "kind": "ReplicaSet",
                "metadata": {
                    "name": f"{self._key[1]}-{digest}",
                    "namespace": self._key[0],
                    "generation": 1,
                    "labels": template["metadata"]["labels"],
                    "ownerReferences": [{"uid": deployment["metadata"]["uid"], "controller": True}],
                },
                "spec": {"replicas": 0, "template": template},
            }
        )

    def _pods(self, replica_set: dict[str, Any]) -> None:
        own = [one for one in self.all("Pod") if _owner(one) == replica_set["metadata"]["uid"]]
        wanted = replica_set["spec"]["replicas"]
        for one in own[wanted:]:
            del self._api.objects["Pod", self._key[0], one["metadata"]["name"]]
        for number in range(len(own), wanted):
            self._pod(replica_set, f"{replica_set['metadata']['name']}-{number}")
        self._put({**replica_set, "status": {"observedGeneration": replica_set["metadata"]["generation"]}})

    def _pod(self, replica_set: dict[str, Any], name: str) -> None:
        template = copy.deepcopy(replica_set["spec"]["template"])
        metadata = {
            **template["metadata"],
            "name": name,
            "namespace": self._key[0],
            "generation": 1,
            "ownerReferences": [{"uid": replica_set["metadata"]["uid"], "controller": True}],
        }
        self._put({"kind": "Pod", "metadata": metadata, "spec": {**template["spec"], "nodeName": "node"}})

    def kubelets(self) -> None:
        """What the nodes do."""
        for pod in [] if self.is_deaf else self.all("Pod"):
            containers = [objects.running(one["name"]) for one in pod["spec"]["containers"]]
            status = {
                "observedGeneration": pod["metadata"]["generation"],
                "initContainerStatuses": [objects.running(names.ROUTER_CONTAINER)],
                "containerStatuses": containers,
                "conditions": self.conditions if pod["metadata"]["generation"] > 1 else [],
            }
            self._put({**pod, "status": status})

    def _put(self, raw: dict[str, Any]) -> dict[str, Any]:
        address = (raw["kind"], raw["metadata"]["namespace"], raw["metadata"]["name"])
        known = self._api.objects.get(address)
        return copy.deepcopy(known if known == raw else self._api.store(raw)) if known else self._api.store(raw)


def _template(replica_set: dict[str, Any]) -> dict[str, Any]:
    template = copy.deepcopy(replica_set["spec"]["template"])
    template["metadata"]["labels"].pop(LABEL)
    found: dict[str, Any] = template
    return found


def _owner(raw: dict[str, Any]) -> str:
    return str(raw["metadata"]["ownerReferences"][0]["uid"])
