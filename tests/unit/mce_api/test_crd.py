import json
from collections.abc import Iterator
from typing import Any

import yaml

from mce_api import crd
from mce_api.rules import RULES


def _nodes(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        yield schema
        for child in schema.values():
            yield from _nodes(child)
    elif isinstance(schema, list):
        for child in schema:
            yield from _nodes(child)


SCHEMA = crd.definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def test_the_definition_is_well_under_100_kb() -> None:
    assert len(yaml.safe_dump(crd.definition())) < 100_000


def test_the_schema_is_structural() -> None:
    for node in _nodes(SCHEMA):
        assert not {"$ref", "anyOf", "oneOf", "allOf", "title", "const", "$defs"} & set(node) or "properties" in node


def test_every_rule_is_in_the_schema() -> None:
    text = json.dumps(SCHEMA)
    for rule in RULES:
        assert json.dumps(rule.cel) in text


def test_every_string_and_list_of_the_spec_has_a_bound() -> None:
    spec = SCHEMA["properties"]["spec"]
    for node in _nodes(spec):
        if node.get("type") == "string" and "enum" not in node:
            assert "maxLength" in node, node
        if node.get("type") == "array":
            assert "maxItems" in node, node


def test_a_new_resource_is_not_taken_for_ready() -> None:
    assert SCHEMA["properties"]["status"]["default"] == {"observedGeneration": -1}


def test_the_list_shows_mode_ready_state_reason_and_age() -> None:
    columns = crd.definition()["spec"]["versions"][0]["additionalPrinterColumns"]
    assert [column["name"] for column in columns if not column.get("priority")] == [
        "Mode", "Ready", "State", "Reason", "Age",
    ]  # fmt: skip
