"""What an operator's owner says of every router, from the environment into the pod."""

import pytest
from pydantic import ValidationError

from mce_api.endpoint import Peer
from mce_operator.resources import router
from mce_operator.resources.router import Setup
from mce_operator.settings import Settings


def test_options_and_variables_of_the_routers_reach_their_container(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MCE_OPERATOR_ROUTER_ARGUMENTS", " --access-log=all  --queue-seconds=0.5 ")
    monkeypatch.setenv("MCE_OPERATOR_ROUTER_ENV", "OTEL_SERVICE_NAME=a OTEL_RESOURCE_ATTRIBUTES=b=c,d=e ")
    settings = Settings()
    setup = Setup(image="i", arguments=settings.router_arguments, env=settings.router_env)
    made = router.container(setup, 60)
    assert made["args"][-2:] == ["--access-log=all", "--queue-seconds=0.5"]
    assert made["env"] == [
        {"name": "OTEL_SERVICE_NAME", "value": "a"},
        {"name": "OTEL_RESOURCE_ATTRIBUTES", "value": "b=c,d=e"},
    ]


def test_without_them_the_container_is_the_same_as_before_they_were_there() -> None:
    assert "env" not in router.container(Setup(image="i"), 60)
    assert router.container(Setup(image="i"), 900)["args"][-1] == "--grace-seconds=900"


@pytest.mark.parametrize("text", ["A", "=b", "A=1 B"])
def test_a_variable_without_name_or_value_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("MCE_OPERATOR_ROUTER_ENV", text)
    with pytest.raises(ValidationError, match="is not NAME=VALUE"):
        Settings()


def test_whoever_reads_metrics_is_given_as_json_and_prometheus_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    (prometheus,) = Settings().metrics_from
    assert prometheus.namespace_selector == {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}
    assert prometheus.pod_selector == {"matchLabels": {"app.kubernetes.io/name": "prometheus"}}
    monkeypatch.setenv("MCE_OPERATOR_METRICS_FROM", '[{"namespaceSelector": {}}]')
    assert Settings().metrics_from == (Peer(namespace_selector={}),)
    monkeypatch.setenv("MCE_OPERATOR_METRICS_FROM", "[]")
    assert Settings().metrics_from == ()
    monkeypatch.setenv("MCE_OPERATOR_METRICS_FROM", "[{}]")
    with pytest.raises(ValidationError, match="a peer needs namespaceSelector"):
        Settings()


@pytest.mark.parametrize(
    "text", ["", "team=a", "team!=a", "a/b==c,!legacy", "tier in (gold, silver)", "tier notin (x),team", "a="]
)
def test_a_label_selector_is_taken_as_the_server_takes_it(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("MCE_OPERATOR_SELECTOR", text)
    assert Settings().selector == text


@pytest.mark.parametrize("text", ["=a", "team=a b", "team in gold", "a,,b", "team=a&limit=1", "a\nb", "a" * 1001])
def test_what_is_no_label_selector_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("MCE_OPERATOR_SELECTOR", text)
    with pytest.raises(ValidationError, match="selector"):
        Settings()


@pytest.mark.parametrize("name", ["MCE_OPERATOR_LEASE_NAMESPACE", "MCE_OPERATOR_LEASE_NAME"])
def test_a_place_for_the_lease_that_can_not_be_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "../x")
    with pytest.raises(ValidationError):
        Settings()
