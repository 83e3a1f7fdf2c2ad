"""What holds of every pod template, whatever valid endpoint it is made for."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mce_api import names, routes, validation
from unit.mce_operator import objects

few = settings(max_examples=30)
"""A template is 15 containers deep; thirty of them say what a hundred would."""
VOLUMES: dict[str, dict[str, Any]] = {
    "emptyDir": {},
    "configMap": {"name": "c"},
    "secret": {"secretName": "s", "optional": None},
    "persistentVolumeClaim": {"claimName": "p"},
    "projected": {"sources": [{"secret": {"name": "s"}}]},
}
RESTRICTED_VOLUMES = frozenset(
    {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
)
"""Kubernetes, "Pod Security Standards", restricted: Volume Types."""
PROBES: list[dict[str, Any] | None] = [
    None,
    {"httpGet": {}},
    {"httpGet": {"port": 8080, "path": ""}},
    {"tcpSocket": {}},
    {"exec": {"command": ["true"]}},
    {"grpc": {"service": "x"}, "initialDelaySeconds": 5},
]
PATHS = ["/opt/ml", "/opt/ml/output", "/data", "/root/.cache", "/a/b"]
NAME = st.from_regex(r"[a-zA-Z0-9](-?[a-zA-Z0-9]){0,20}", fullmatch=True)
PORT = st.none() | st.integers(1024, names.ROUTER_PORT - 1) | st.integers(names.LAST_BLOCK_PORT + 1, 65535)


@st.composite
def documents(draw: st.DrawFn, profile: str = "restricted") -> dict[str, Any]:
    hostnames = draw(st.lists(NAME, min_size=1, max_size=15, unique=True))
    ports = draw(
        st.lists(PORT, min_size=len(hostnames), max_size=len(hostnames), unique_by=lambda port: port or object())
    )
    kinds = draw(st.lists(st.sampled_from(sorted(VOLUMES)), max_size=4))
    volumes = [{"name": f"v{number}", kind: VOLUMES[kind]} for number, kind in enumerate(kinds)]
    containers = []
    for hostname, port in zip(hostnames, ports, strict=True):
        extra = {
            "startupTimeoutSeconds": draw(st.integers(60, 3600)),
            "invocationTimeoutSeconds": draw(st.integers(1, 3600)),
            "env": [{"name": name, "value": "x"} for name in draw(st.sets(st.sampled_from(["HOME", "USER", "A"])))],
            "sharedMemory": draw(st.sampled_from(["1Gi", 1024])),
        }
        paths = draw(st.lists(st.sampled_from(PATHS), unique=True))
        own = draw(st.integers(0, len(paths))) if volumes else len(paths)
        extra["writablePaths"] = paths[:own]
        extra["volumeMounts"] = [
            {"name": draw(st.sampled_from(volumes))["name"], "mountPath": path, "readOnly": draw(st.booleans())}
            for path in paths[own:]
        ]
        if probe := draw(st.sampled_from(PROBES)):
            extra["livenessProbe"] = probe
        containers.append(objects.container(hostname, port=port, **extra))
    made = objects.document(*containers, replicas=draw(st.integers(0, 5)), suspend=draw(st.booleans()))
    made["spec"]["pod"] = {
        "volumes": volumes,
        "priorityClassName": draw(st.sampled_from(["", "high"])),
        "topologySpreadConstraints": draw(st.sampled_from([[], [{"topologyKey": "zone", "minDomains": None}]])),
        "labels": draw(st.just({}) | st.just({names.ENDPOINT_LABEL: "stolen"})),
        "securityProfile": profile,
    }
    return made


def pod_of(document: dict[str, Any]) -> dict[str, Any]:
    built = objects.deployment(validation.endpoint(document))
    template: dict[str, Any] = built["spec"]["template"]
    return template


@few
@given(documents())
def test_every_container_has_names_ports_and_a_user_of_its_own(document: dict[str, Any]) -> None:
    pod = pod_of(document)
    models = pod["spec"]["containers"]
    everything = [*pod["spec"]["initContainers"], *models]
    env = [{one["name"]: one["value"] for one in model["env"]} for model in models]
    ports = [int(one["SAGEMAKER_BIND_TO_PORT"]) for one in env]
    blocks = [range(int(a), int(b) + 1) for a, _, b in (one["SAGEMAKER_SAFE_PORT_RANGE"].partition("-") for one in env)]
    taken = [names.ROUTER_PORT, names.ROUTER_ADMIN_PORT, *ports, *(port for block in blocks for port in block)]
    assert len(set(taken)) == len(taken)
    assert len({one["name"] for one in everything}) == len(everything)
    assert len({one["securityContext"]["runAsUser"] for one in everything}) == len(everything)
    assert all(len(one) == len(model["env"]) for one, model in zip(env, models, strict=True))


@few
@given(documents())
def test_every_pod_keeps_the_restricted_profile(document: dict[str, Any]) -> None:
    spec = pod_of(document)["spec"]
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not spec["automountServiceAccountToken"]
    assert not {"hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"} & spec.keys()
    assert {kind for volume in spec["volumes"] for kind in volume if kind != "name"} <= RESTRICTED_VOLUMES
    for container in (*spec["initContainers"], *spec["containers"]):
        security = container["securityContext"]
        assert security["runAsNonRoot"]
        assert security["runAsUser"] > 0
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
        probes = [value for key, value in container.items() if key.endswith("Probe")]
        actions = [probe.get("httpGet", {}) for probe in (*probes, container["lifecycle"]["preStop"])]
        assert all("host" not in action for action in actions)


@few
@given(documents())
def test_volumes_and_mounts_are_whole_and_siblings_share_nothing_writable_of_ours(document: dict[str, Any]) -> None:
    spec = pod_of(document)["spec"]
    volumes = [volume["name"] for volume in spec["volumes"]]
    assert len(set(volumes)) == len(volumes)
    mounted: list[str] = []
    for container in (*spec["initContainers"], *spec["containers"]):
        paths = [mount["mountPath"] for mount in container["volumeMounts"]]
        assert len(set(paths)) == len(paths)
        mounted += [mount["name"] for mount in container["volumeMounts"]]
    assert set(mounted) <= set(volumes)
    ours = [name for name in mounted if name.startswith(names.VOLUME_PREFIX)]
    assert len(set(ours)) == len(ours) == sum(name.startswith(names.VOLUME_PREFIX) for name in volumes)


@few
@given(documents())
def test_nothing_that_is_applied_is_null_or_empty_text(document: dict[str, Any]) -> None:
    def check(value: Any, path: str) -> None:
        assert value is not None, path
        for key, inner in value.items() if isinstance(value, dict) else ():
            assert inner != "" or key == "value", f"{path}.{key}"
            check(inner, f"{path}.{key}")
        for inner in value if isinstance(value, list) else ():
            check(inner, path)

    for built in objects.wanted(validation.endpoint(document)):
        check(built, built["kind"])


@few
@given(documents("baseline"))
def test_under_baseline_models_run_as_their_images_say_and_the_router_stays_restricted(
    document: dict[str, Any],
) -> None:
    spec = pod_of(document)["spec"]
    assert all("securityContext" not in model for model in spec["containers"])
    assert spec["initContainers"][0]["securityContext"]["runAsNonRoot"]


@few
@given(documents())
def test_the_route_table_and_the_containers_agree(document: dict[str, Any]) -> None:
    pod = pod_of(document)
    annotations = pod["metadata"]["annotations"]
    table = routes.parse(annotations[names.TABLE_ANNOTATION])
    back = json.loads(annotations[names.CONTAINERS_ANNOTATION])
    models = pod["spec"]["containers"]
    assert [back[model["name"]] for model in models] == [target.name for target in table.targets]
    for model, target in zip(models, table.targets, strict=True):
        assert {"name": "SAGEMAKER_BIND_TO_PORT", "value": str(target.port)} in model["env"]
        assert target.uid == model.get("securityContext", {}).get("runAsUser")


@few
@given(documents())
def test_the_grace_outlasts_the_drain_and_the_longest_invocation(document: dict[str, Any]) -> None:
    longest = max(one["invocationTimeoutSeconds"] for one in document["spec"]["containers"])
    assert pod_of(document)["spec"]["terminationGracePeriodSeconds"] == max(60, longest) + 20
    assert f"--grace-seconds={max(60, longest)}" in pod_of(document)["spec"]["initContainers"][0]["args"]


@few
@given(documents())
def test_nothing_of_the_users_gets_into_the_selector_or_over_our_labels(document: dict[str, Any]) -> None:
    built = objects.deployment(validation.endpoint(document))
    assert built["spec"]["selector"]["matchLabels"] == names.selector_labels("mnist")
    assert built["spec"]["template"]["metadata"]["labels"].items() >= names.endpoint_labels("mnist").items()


@few
@given(documents())
def test_equal_endpoints_give_equal_bytes(document: dict[str, Any]) -> None:
    again = json.loads(json.dumps(document))
    first, second = (objects.deployment(validation.endpoint(one)) for one in (document, again))
    assert json.dumps(first) == json.dumps(second)


def test_a_liveness_probe_asks_where_the_router_asks_unless_it_says_otherwise() -> None:
    paths = []
    for probe in ({}, {"path": "/live"}):
        container = objects.container("a", pingPath="/v2/health/ready", livenessProbe={"httpGet": probe})
        (built,) = pod_of(objects.document(container))["spec"]["containers"]
        paths.append(built["livenessProbe"]["httpGet"])
    assert paths == [
        {"path": "/v2/health/ready", "port": 20000, "scheme": "HTTP"},
        {"path": "/live", "port": 20000, "scheme": "HTTP"},
    ]
