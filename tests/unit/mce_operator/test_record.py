import base64
import dataclasses
import json
import random
import string
import zlib
from typing import Any

import pytest
from hypothesis import given

from mce_api import validation
from mce_api.endpoint import Spec
from mce_operator import record
from mce_operator.resources import pod
from mce_operator.resources.network_policy import Network
from mce_operator.resources.router import Setup
from unit.mce_operator import objects
from unit.mce_operator.test_properties import documents, few

SETUP = Setup(image="router:7", arguments=("--access-log=all",), env=(("A", "1"), ("B", "2")))
NEWER = Setup(image="router:8", network=Network(operator_namespace="mce-system"))


def packed(content: Any) -> str:
    return base64.b64encode(zlib.compress(json.dumps(content).encode())).decode()


@few
@given(documents(), documents("baseline"))
def test_a_record_gives_back_the_very_template_under_whatever_newer_spec(old: Any, new: Any) -> None:
    first, second = validation.endpoint(old), validation.endpoint(new)
    restored = record.restored(second, NEWER, record.dump(first, SETUP))
    assert restored is not None
    assert pod.template(*restored) == pod.template(first, SETUP)
    kept = {name: getattr(restored[0].spec, name) for name in Spec.model_fields if name not in record.SHAPE}
    assert kept == {name: getattr(second.spec, name) for name in kept}
    assert restored[1] == dataclasses.replace(SETUP, network=NEWER.network)


def test_every_field_of_a_spec_either_shapes_the_template_or_does_not() -> None:
    others = {
        "replicas": 3,
        "rollout": {"strategy": "Canary", "bakeSeconds": 7},
        "autoscaling": {"maxReplicas": 2, "metrics": [{"type": "ConcurrencyPerReplica", "target": 1}]},
        "access": {"from": [{"podSelector": {}}]},
        "suspend": True,
    }
    assert set(others) == set(Spec.model_fields) - set(record.SHAPE)
    plain = objects.template_hash(objects.endpoint())
    for name, value in others.items():
        assert objects.template_hash(objects.endpoint(**{name: value})) == plain, name


def test_every_field_of_a_setup_either_shapes_the_template_or_does_not() -> None:
    template = pod.template(objects.endpoint(), SETUP)
    assert {one.name for one in dataclasses.fields(Setup)} == {"image", "arguments", "env", "network"}
    assert pod.template(objects.endpoint(), dataclasses.replace(SETUP, network=NEWER.network)) == template


def test_a_record_of_other_containers_fits_under_autoscaling_by_a_container_that_it_lacks() -> None:
    cpu = {"resources": {"requests": {"cpu": 1}}}
    metric = {"type": "ContainerCPU", "container": "new", "targetPercent": 50}
    newer = objects.endpoint(
        objects.container("a"),
        objects.container("new", **cpu),
        autoscaling={"maxReplicas": 2, "metrics": [metric]},
    )
    restored = record.restored(newer, NEWER, record.dump(objects.endpoint(), SETUP))
    assert restored is not None
    assert [one.name for one in restored[0].spec.containers] == ["a", "B"]
    assert restored[0].spec.autoscaling == newer.spec.autoscaling


GOOD: dict[str, Any] = {
    "spec": {"mode": "Direct", "containers": [{"name": "a", "image": "a:1"}]},
    "router": {"image": "r"},
}


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("no base64!", id="no base64"),
        pytest.param(base64.b64encode(b"plain").decode(), id="not packed"),
        pytest.param(packed([]), id="a list"),
        pytest.param(packed({}), id="nothing in it"),
        pytest.param(packed({**GOOD, "router": {}}), id="no router image"),
        pytest.param(packed({**GOOD, "router": {"image": 7}}), id="a router image that is none"),
        pytest.param(packed({**GOOD, "spec": {"containers": []}}), id="no containers"),
        pytest.param(packed({**GOOD, "spec": {**GOOD["spec"], "mode": "Serial"}}), id="breaks a rule"),
        pytest.param(packed({**GOOD, "spec": {**GOOD["spec"], "replicas": 900}}), id="more than the shape"),
        pytest.param(packed({**GOOD, "spec": {**GOOD["spec"], "bogus": 1}}), id="unknown field"),
        pytest.param(base64.b64encode(zlib.compress(b'{"spec": ' + b"[" * 100_000)).decode(), id="deep"),
        pytest.param(base64.b64encode(zlib.compress(b" " * (64 << 20))).decode(), id="64 MiB of nothing"),
        pytest.param(packed(GOOD)[:-8], id="cut off"),
        pytest.param("A" * (record.LONGEST + 4), id="too long"),
    ],
)
def test_what_is_no_record_restores_nothing(text: str) -> None:
    assert record.restored(objects.endpoint(), NEWER, text) is None


def test_the_cases_above_fail_for_their_own_reason() -> None:
    assert record.restored(objects.endpoint(), NEWER, packed(GOOD)) is not None


def test_fifteen_containers_with_usual_variables_fit_and_what_is_too_much_gives_no_record() -> None:
    usual = [{"name": f"VARIABLE_{index}", "value": f"https://registry.example/{index}"} for index in range(100)]
    many = objects.endpoint(*(objects.container(f"c{number}", env=usual) for number in range(15)))
    assert 0 < len(record.dump(many, SETUP)) < record.LONGEST // 4
    noise = [{"name": f"V{index}", "value": _noise(index)} for index in range(100)]
    assert record.dump(objects.endpoint(objects.container("a", env=noise)), SETUP) == ""


def _noise(seed: int) -> str:
    return "".join(random.Random(seed).choices(string.ascii_letters, k=1024))
