from pathlib import Path
from typing import Any

import pytest

from mce_api import validation
from mce_api.endpoint import MultiContainerEndpoint
from mce_local import images, wanted
from mce_local.errors import LocalError
from mce_local.wanted import RuntimeKind, Wanted

IMAGES = images.parse("images: {'m:1': {command: [python, serve.py], workingDir: sub}}", Path("/models/images.yaml"))


def endpoint(spec: dict[str, Any] | None = None, **container: Any) -> MultiContainerEndpoint:
    containers = [{"name": "a", "image": "m:1", **container}]
    return validation.endpoint(
        {
            "apiVersion": "serving.mce.dev/v1alpha1",
            "kind": "MultiContainerEndpoint",
            "metadata": {"name": "e"},
            "spec": {"mode": "Direct", "containers": containers, **(spec or {})},
        }
    )


def resolve(given: MultiContainerEndpoint, runtime: RuntimeKind = RuntimeKind.PROCESS, **values: str) -> Wanted:
    return wanted.resolve(given, runtime, IMAGES if runtime is RuntimeKind.PROCESS else None, values, None)


def test_an_image_becomes_its_command_and_serve_is_appended() -> None:
    (container,) = resolve(endpoint()).containers
    assert (container.command, container.args) == (("python", "serve.py"), ("serve",))
    assert container.working_dir == "/models/sub"


def test_command_replaces_what_stands_for_the_entrypoint() -> None:
    (container,) = resolve(endpoint(command=["run"], args=["x"])).containers
    assert (container.command, container.args) == (("run",), ("x",))


def test_an_engine_needs_no_command() -> None:
    (container,) = resolve(endpoint(imagePullPolicy="IfNotPresent"), RuntimeKind.DOCKER).containers
    assert (container.command, container.pull) == ((), "missing")


def test_limits_become_numbers() -> None:
    (container,) = resolve(endpoint(resources={"limits": {"cpu": "250m", "memory": "1Gi"}})).containers
    assert (container.cpu_cores, container.memory_bytes) == (0.25, 1024**3)


def test_a_suspended_endpoint_is_refused_with_the_field() -> None:
    with pytest.raises(LocalError, match=r"spec\.suspend is true"):
        resolve(endpoint({"suspend": True}))


SECRET = {"secretKeyRef": {"name": "keys", "key": "token"}}


def test_a_reference_needs_a_value_from_the_user() -> None:
    given = endpoint(env=[{"name": "TOKEN", "valueFrom": SECRET}])
    with pytest.raises(LocalError, match=r"variable TOKEN comes from Secret keys, key token, .* --env-file FILE"):
        resolve(given)
    assert resolve(given, TOKEN="t").containers[0].env == {"TOKEN": "t"}


def test_an_optional_reference_without_a_value_leaves_the_variable_out() -> None:
    reference = {"configMapKeyRef": {"name": "c", "key": "k", "optional": True}}
    assert resolve(endpoint(env=[{"name": "X", "valueFrom": reference}])).containers[0].env == {}


def test_a_container_is_told_its_port_and_a_range_without_it() -> None:
    assert wanted.bind_env(8080, 20100, 100) == {
        "SAGEMAKER_BIND_TO_PORT": "8080",
        "SAGEMAKER_SAFE_PORT_RANGE": "20101-20199",
    }


def test_the_route_table_has_the_spec_s_rules_and_the_given_ports() -> None:
    table = wanted.route_table(resolve(endpoint(maxConcurrency=3, invocationTimeoutSeconds=7)), {"a": 20000})
    (target,) = table.targets
    assert (table.endpoint, table.mode, target.host) == ("e", "Direct", "127.0.0.1")
    assert (target.port, target.max_concurrency, target.invocation_timeout_seconds) == (20000, 3, 7)


def test_what_the_router_alone_applies_needs_no_restart() -> None:
    before, after = resolve(endpoint()), resolve(endpoint(maxConcurrency=3, startupTimeoutSeconds=60))
    assert before.containers == after.containers
    assert before != after


def test_a_containers_own_paths_reach_the_route_table_and_the_ping() -> None:
    resolved = resolve(endpoint(pingPath="/v2/health/ready", invocationsPath="/v2/models/m/infer"))
    (target,) = wanted.route_table(resolved, {"a": 20000}).targets
    assert (target.ping_path, target.invocations_path) == ("/v2/health/ready", "/v2/models/m/infer")
    assert resolved.containers[0].ping_path == "/v2/health/ready"
