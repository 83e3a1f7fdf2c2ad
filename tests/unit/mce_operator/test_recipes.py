"""Each recipe in examples/recipes is valid, and both of its containers can be in one pod of the restricted profile."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from mce_api import names, routes, rules, validation
from mce_local import documents, expansion
from unit.mce_operator import objects

ROOT = Path(__file__).resolve().parents[3]
RECIPES = sorted((ROOT / "examples" / "recipes").glob("*.yaml"))
PAGE = (ROOT / "docs" / "recipes.md").read_text()
SUM = re.compile(r"\$\(\(SAGEMAKER_BIND_TO_PORT \+ ([0-9]+)\)\)")
FIXED_PORT = re.compile(r"(?i)(?:port[ =]|:)([1-9][0-9]{3,4})\b")
recipes = pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)


def pod(path: Path) -> dict[str, Any]:
    endpoint = validation.endpoint(yaml.safe_load(path.read_text()))
    template: dict[str, Any] = objects.deployment(endpoint)["spec"]["template"]
    return template


def written(container: dict[str, Any]) -> str:
    """All that a recipe says to a container, as a kubelet and a shell hand it on; without what every container gets."""
    known: dict[str, str] = {}
    for variable in container["env"]:
        known[variable["name"]] = expansion.text(variable["value"], known)
    words = [expansion.text(word, known) for word in (*container.get("command", ()), *container["args"])]
    recipe_s_own = [value for name, value in known.items() if name not in rules.RESERVED_ENV]
    return "\n".join([*words, *recipe_s_own]).replace("$SAGEMAKER_BIND_TO_PORT", known["SAGEMAKER_BIND_TO_PORT"])


def test_there_is_a_recipe_for_each_server() -> None:
    servers = {"gunicorn", "mlserver", "tensorflow-serving", "torchserve", "triton", "vllm-cpu"}
    assert {path.stem for path in RECIPES} == servers


@recipes
def test_mce_validate_finds_nothing_to_say(path: Path) -> None:
    (document,) = documents.parse(path.read_text(), str(path))
    assert document.faults == ()
    assert document.endpoint is not None
    assert document.endpoint.metadata.name == path.stem
    assert len(document.endpoint.spec.containers) == 2


@recipes
def test_no_port_is_fixed_and_each_container_is_told_its_own(path: Path) -> None:
    said = []
    for index, container in enumerate(pod(path)["spec"]["containers"]):
        text = written(container)
        port = str(names.bind_port(index, None))
        assert port in text
        assert [number for number in FIXED_PORT.findall(text) if number != port] == []
        offsets = [int(number) for number in SUM.findall(text)]
        assert len(set(offsets)) == len(offsets)
        assert all(1 <= offset < names.BLOCK_SIZE for offset in offsets)
        assert "$(" not in SUM.sub("", text)
        said.append(text)
    assert said[0] != said[1]


@recipes
def test_each_container_has_a_user_of_its_own_and_bounded_memory(path: Path) -> None:
    containers = pod(path)["spec"]["containers"]
    assert [one["securityContext"]["runAsUser"] for one in containers] == [20000, 20001]
    assert all("memory" in one["resources"]["limits"] for one in containers)


@recipes
def test_the_router_is_told_the_paths(path: Path) -> None:
    template = pod(path)
    table = routes.parse(template["metadata"]["annotations"][names.TABLE_ANNOTATION])
    wanted = [
        (container.get("pingPath", "/ping"), container.get("invocationsPath", "/invocations"))
        for container in yaml.safe_load(path.read_text())["spec"]["containers"]
    ]
    assert [(target.ping_path, target.invocations_path) for target in table.targets] == wanted
    assert json.loads(template["metadata"]["annotations"][names.CONTAINERS_ANNOTATION])


@recipes
def test_the_page_names_the_recipe_and_the_recipe_its_image(path: Path) -> None:
    assert f"(../examples/recipes/{path.name})" in PAGE
    assert re.search(r"^# The image: FROM [a-z0-9./-]+:[a-z0-9.-]+$", path.read_text(), re.MULTILINE)
