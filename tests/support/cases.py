"""Endpoint documents, good and bad: the same cases go to pydantic (unit) and to a real API server (e2e)."""

from typing import Any

import pytest

from support import paths


def document(name: str = "mnist", **spec: Any) -> dict[str, Any]:
    """A valid Direct endpoint of two containers, with `spec` on top."""
    base = {"mode": "Direct", "containers": [container("a"), container("b")]}
    return {
        "apiVersion": "serving.mce.dev/v1alpha1",
        "kind": "MultiContainerEndpoint",
        "metadata": {"name": name},
        "spec": {**base, **spec},
    }


def container(name: str, **fields: Any) -> dict[str, Any]:
    """One container."""
    return {"name": name, "image": "localhost/mce/test-model:1", **fields}


GOOD = [
    pytest.param(document(), id="direct"),
    pytest.param(document(mode="Serial"), id="serial"),
    pytest.param(document(containers=[container("one")]), id="direct-of-one"),
    pytest.param(document(containers=[container(f"c{i}") for i in range(15)]), id="fifteen"),
    pytest.param(document(containers=[container("firstContainer"), container("firstcontainer")]), id="case-differs"),
    pytest.param(document(availability="Any"), id="any-direct"),
    pytest.param(document(containers=[container("a", port=8080), container("b", port=8501)]), id="ports"),
    pytest.param(
        document(containers=[container("a", resources={"requests": {"cpu": 1}, "limits": {"cpu": "1000m"}})]),
        id="request-equals-limit",
    ),
    pytest.param(
        document(containers=[container("a", env=[{"name": "A", "value": "1"}, {"name": "B", "valueFrom": {
            "secretKeyRef": {"name": "s", "key": "k"}}}])]),
        id="env",
    ),
    pytest.param(document(rollout={"maxSurge": 0, "maxUnavailable": 1}), id="rollout-without-surge"),
    pytest.param(document(rollout={"strategy": "Canary", "stepPercent": 5}), id="canary"),
    pytest.param(
        document(rollout={"strategy": "Linear", "bakeSeconds": 60, "maxErrorPercent": 0}), id="linear-guarded"
    ),
    pytest.param(
        document(
            containers=[container("a", resources={"requests": {"cpu": "100m"}}), container("b")],
            autoscaling={"maxReplicas": 4, "metrics": [
                {"type": "InvocationsPerReplica", "target": 100},
                {"type": "ConcurrencyPerReplica", "target": 2, "container": "b"},
                {"type": "ContainerCPU", "container": "a", "targetPercent": 70},
            ]},
        ),
        id="autoscaling",
    ),
    pytest.param(
        document(access={"from": [{"namespaceSelector": {}}, {"podSelector": {"matchLabels": {"a": "b"}}}]}),
        id="access",
    ),
    pytest.param(
        document(
            containers=[container("a", writablePaths=["/opt/ml", "/var/cache/x"], sharedMemory="1Gi",
                volumeMounts=[{"name": "data", "mountPath": "/data"}], livenessProbe={"tcpSocket": {"port": 8080}})],
            pod={"volumes": [{"name": "data", "emptyDir": {}}], "priorityClassName": "high"},
        ),
        id="volumes",
    ),
    pytest.param(
        document(
            containers=[container("a", writablePaths=["/root/.cache"], volumeMounts=[
                {"name": "claim", "mountPath": "/data", "readOnly": True, "subPath": "x/y"},
                {"name": "keys", "mountPath": "/keys"}], livenessProbe={"httpGet": {}}),
                container("b", livenessProbe={"exec": {"command": ["true"]}, "periodSeconds": 60}),
                container("c", livenessProbe={"grpc": {"port": 9000}})],
            pod={"volumes": [{"name": "claim", "persistentVolumeClaim": {"claimName": "c"}},
                {"name": "keys", "projected": {"sources": [{"secret": {"name": "s"}}]}}]},
        ),
        id="volumes-and-probes",
    ),
    pytest.param(document(pod={"nodeSelector": {"disk": "ssd"}, "securityProfile": "baseline"}), id="pod"),
    *(
        pytest.param(document(containers=[container("a", pingPath=path, invocationsPath=path)]), id=f"path-{number}")
        for number, path in enumerate(paths.GOOD)
    ),
]  # fmt: skip

BAD = [
    pytest.param(document(mode="direct"), "mode", id="mode-case"),
    pytest.param(document(mode="Serial", containers=[container("a")]), "2 or more containers", id="serial-of-one"),
    pytest.param(document(mode="Serial", availability="Any"), "Any needs mode Direct", id="any-serial"),
    pytest.param(document(containers=[]), "containers", id="none"),
    pytest.param(document(containers=[container(f"c{i}") for i in range(16)]), "15", id="sixteen"),
    pytest.param(document(containers=[container("a"), container("a")]), "a", id="name-twice"),
    pytest.param(document(containers=[container("under_score")]), "name", id="name-pattern"),
    pytest.param(document(containers=[container("-a")]), "name", id="name-hyphen-first"),
    pytest.param(document(containers=[container("a" * 64)]), "name", id="name-too-long"),
    pytest.param(document(containers=[container("a", port=8080), container("b", port=8080)]), "same port", id="ports"),
    pytest.param(document(containers=[container("a", port=19080)]), "belong to the router", id="port-of-router"),
    pytest.param(document(containers=[container("a", port=20500)]), "belong to the router", id="port-of-block"),
    pytest.param(document(containers=[container("a", port=80)]), "port", id="port-privileged"),
    pytest.param(
        document(containers=[container("a", env=[{"name": "SAGEMAKER_BIND_TO_PORT", "value": "1"}])]),
        "set by the operator",
        id="env-reserved",
    ),
    pytest.param(
        document(containers=[container("a", env=[{"name": "A", "value": "1", "valueFrom": {
            "secretKeyRef": {"name": "s", "key": "k"}}}])]),
        "exactly one of",
        id="env-two-sources",
    ),
    pytest.param(
        document(containers=[container("a", resources={"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}})]),
        "larger than its limit",
        id="request-over-limit",
    ),
    *(
        pytest.param(document(containers=[container("a", **fields)]), complaint, id=name)
        for fields, complaint, name in (
            ({"resources": {"requests": {"cpu": -1}, "limits": {"cpu": 1}}}, "cpu", "request-negative"),
            ({"resources": {"requests": {"cpu": "-1"}, "limits": {"cpu": 1}}}, "cpu", "request-negative-text"),
            ({"resources": {"limits": {"memory": True}}}, "memory", "limit-true"),
            ({"sharedMemory": -1}, "sharedMemory", "shared-memory-negative"),
            ({"sharedMemory": "0Mi"}, "0 would be no limit", "shared-memory-without-limit"),
        )
    ),
    pytest.param(document(containers=[container("a", startupTimeoutSeconds=59)]), "startupTimeout", id="start-short"),
    pytest.param(document(containers=[container("a", startupTimeoutSeconds=3601)]), "startupTimeout", id="start-long"),
    pytest.param(document(rollout={"maxSurge": 0, "maxUnavailable": 0}), "both 0", id="rollout-stuck"),
    pytest.param(document(rollout={"strategy": "BlueGreen"}), "strategy", id="rollout-strategy"),
    pytest.param(document(rollout={"strategy": "Linear", "stepPercent": 9}), "10 to 50 percent", id="linear-step"),
    pytest.param(document(rollout={"maxErrorPercent": 5}), "set bakeSeconds", id="guard-without-bake"),
    pytest.param(
        document(autoscaling={"minReplicas": 3, "maxReplicas": 2, "metrics": [
            {"type": "ConcurrencyPerReplica", "target": 1}]}),
        "above maxReplicas",
        id="scaling-bounds",
    ),
    pytest.param(document(autoscaling={"maxReplicas": 2, "metrics": []}), "metrics", id="scaling-without-metric"),
    pytest.param(
        document(autoscaling={"maxReplicas": 2, "metrics": [{"type": "ConcurrencyPerReplica", "targetPercent": 1}]}),
        "not both",
        id="metric-without-target",
    ),
    pytest.param(
        document(autoscaling={"maxReplicas": 2, "metrics": [
            {"type": "ConcurrencyPerReplica", "target": 1, "container": "nobody"}]}),
        "name of one of spec.containers",
        id="metric-of-nobody",
    ),
    pytest.param(
        document(autoscaling={"maxReplicas": 2, "metrics": [
            {"type": "ContainerCPU", "targetPercent": 1, "container": "a"}]}),
        "resources.requests.cpu",
        id="cpu-without-request",
    ),
    pytest.param(document(access={"from": [{}]}), "needs namespaceSelector", id="peer-empty"),
    pytest.param(document(containers=[container("a", writablePaths=["/tmp"])]), "writable anyway", id="writable-tmp"),
    pytest.param(
        document(containers=[container("a", writablePaths=["/a", "/a"])]), "each path once", id="writable-twice"
    ),
    pytest.param(document(containers=[container("a", writablePaths=["/a/../b"])]), "writablePaths", id="writable-dots"),
    pytest.param(
        document(pod={"volumes": [{"name": "host", "hostPath": {"path": "/"}}]}), "hostPath", id="volume-of-the-host"
    ),
    pytest.param(document(pod={"volumes": [{"name": "none"}]}), "exactly one of configMap", id="volume-of-nothing"),
    pytest.param(
        document(pod={"volumes": [{"name": "two", "emptyDir": {}, "secret": {"secretName": "s"}}]}),
        "exactly one of configMap",
        id="volume-of-two",
    ),
    pytest.param(
        document(pod={"volumes": [{"name": "mce-tmp-0", "emptyDir": {}}]}), "are the operator's", id="volume-of-ours"
    ),
    pytest.param(
        document(pod={"volumes": [{"name": "x", "emptyDir": {}}, {"name": "x", "emptyDir": {}}]}),
        "x",
        id="volume-twice",
    ),
    pytest.param(
        document(containers=[container("a", volumeMounts=[{"name": "nobody", "mountPath": "/x"}])]),
        "names no volume",
        id="mount-of-no-volume",
    ),
    *(
        pytest.param(
            document(
                containers=[container("a", writablePaths=["/w"], volumeMounts=[
                    {"name": "v", "mountPath": path} for path in paths])],
                pod={"volumes": [{"name": "v", "emptyDir": {}}]},
            ),
            complaint,
            id=name,
        )
        for paths, complaint, name in (
            (["/tmp"], "each mountPath once", "mount-at-tmp"),
            (["/w"], "each mountPath once", "mount-at-writable-path"),
            (["/x", "/x"], "each mountPath once", "mount-twice"),
            (["/x/../tmp"], "mountPath", "mount-with-dots"),
        )
    ),
    *(
        pytest.param(document(containers=[container("a", livenessProbe=probe)]), complaint, id=name)
        for probe, complaint, name in (
            ({}, "exactly one of httpGet", "probe-of-nothing"),
            ({"httpGet": {}, "tcpSocket": {}}, "exactly one of httpGet", "probe-of-two"),
            ({"httpGet": {"port": 19081}}, "asks the router", "probe-of-the-router"),
            ({"tcpSocket": {"port": 19080}}, "asks the router", "probe-of-the-routers-data-port"),
            ({"httpGet": {"host": "10.0.0.1"}}, "host", "probe-of-another-host"),
            ({"httpGet": {"port": "http"}}, "port", "probe-of-a-named-port"),
        )
    ),
    pytest.param(
        document(pod={"annotations": {"container.apparmor.security.beta.kubernetes.io/a": "unconfined"}}),
        "AppArmor profile",
        id="apparmor-annotation",
    ),
    pytest.param(document(replicas=-1), "replicas", id="replicas-negative"),
    pytest.param(document(replicas="3"), "replicas", id="replicas-text"),
    pytest.param(document(suspend="yes"), "suspend", id="suspend-text"),
    pytest.param(document(suspend=1), "suspend", id="suspend-number"),
    pytest.param(document(containers=[container("a", port="8080")]), "port", id="port-text"),
    pytest.param(document(rollout={"autoRollback": "false"}), "autoRollback", id="switch-text"),
    pytest.param(document(name="Mnist"), "name", id="endpoint-upper-case"),
    pytest.param(document(name="1mnist"), "name", id="endpoint-digit-first"),
    pytest.param(document(name="a.b"), "name", id="endpoint-dot"),
    pytest.param(document(pod={"securityProfile": "privileged"}), "securityProfile", id="profile-unknown"),
    pytest.param(document(color="red"), "color", id="unknown-field"),
    *(
        pytest.param(document(containers=[container("a", **{field: path})]), field, id=f"{field}-{number}")
        for field in ("pingPath", "invocationsPath")
        for number, path in enumerate(paths.BAD)
    ),
]  # fmt: skip
