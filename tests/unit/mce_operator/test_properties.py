"""What holds of every pod template, whatever valid endpoint it is made for."""

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mce_api import names, routes, validation
from unit.mce_operator import objects

few = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""A template is 15 containers deep; thirty of them say what a hundred would."""
NAME = st.from_regex(r"[a-zA-Z0-9](-?[a-zA-Z0-9]){0,20}", fullmatch=True)
PORT = st.none() | st.integers(1024, names.ROUTER_PORT - 1) | st.integers(names.LAST_BLOCK_PORT + 1, 65535)


@st.composite
def documents(draw: st.DrawFn, profile: str = "restricted") -> dict[str, Any]:
    hostnames = draw(st.lists(NAME, min_size=1, max_size=15, unique=True))
    ports = draw(
        st.lists(PORT, min_size=len(hostnames), max_size=len(hostnames), unique_by=lambda port: port or object())
    )
    containers = []
    for hostname, port in zip(hostnames, ports, strict=True):
        extra = {
            "startupTimeoutSeconds": draw(st.integers(60, 3600)),
            "invocationTimeoutSeconds": draw(st.integers(1, 3600)),
            "env": [{"name": name, "value": "x"} for name in draw(st.sets(st.sampled_from(["HOME", "USER", "A"])))],
        }
        containers.append(objects.container(hostname, port=port, **extra))
    made = objects.document(*containers, replicas=draw(st.integers(0, 5)), suspend=draw(st.booleans()))
    made["spec"]["pod"] = {
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
    assert {kind for volume in spec["volumes"] for kind in volume if kind != "name"} <= {"emptyDir", "projected"}
    for container in (*spec["initContainers"], *spec["containers"]):
        security = container["securityContext"]
        assert security["runAsNonRoot"]
        assert security["runAsUser"] > 0
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
        probes = [value for key, value in container.items() if key.endswith("Probe")]
        assert all("host" not in probe["httpGet"] for probe in (*probes, container["lifecycle"]["preStop"]))


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
