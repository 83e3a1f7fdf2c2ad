"""From the pydantic models to the CustomResourceDefinition: a structural schema, CEL rules, columns, subresources.

pydantic's JSON Schema is not structural: references are inlined here, titles dropped, `anyOf [X, null]` becomes X (an
absent field, never null, is how Kubernetes spells "none"), tuples become lists, free-form maps are marked. The result
is committed under crds/ and `make check` compares.
"""

from collections.abc import Mapping
from typing import Any, Final

from mce_api import names
from mce_api.endpoint import Spec
from mce_api.rules import RULES, Rule, Scope
from mce_api.status import Status

_KEPT: Final = (
    "type",
    "description",
    "enum",
    "default",
    "format",
    "pattern",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minimum",
    "maximum",
    "maxProperties",
    "additionalProperties",
    "properties",
    "required",
    "items",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-preserve-unknown-fields",
)

_COLUMNS: Final = (
    ("Mode", "string", ".spec.mode", 0),
    ("Ready", "string", ".status.containersReady", 0),
    ("State", "string", ".status.state", 0),
    ("Reason", "string", ".status.reason", 0),
    ("Age", "date", ".metadata.creationTimestamp", 0),
    ("Replicas", "integer", ".status.replicas", 1),
    ("Profile", "string", ".spec.pod.securityProfile", 1),
    ("URL", "string", ".status.url", 1),
    ("Message", "string", '.status.conditions[?(@.type=="Ready")].message', 1),
)


def definition() -> dict[str, Any]:
    """The whole CustomResourceDefinition object."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{names.PLURAL}.{names.GROUP}"},
        "spec": {
            "group": names.GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": names.KIND,
                "listKind": f"{names.KIND}List",
                "plural": names.PLURAL,
                "singular": names.SINGULAR,
                "shortNames": [names.SHORT_NAME],
                "categories": [names.CATEGORY],
            },
            "versions": [_version()],
        },
    }


def _version() -> dict[str, Any]:
    return {
        "name": names.VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": _root()},
        "subresources": {
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.selector",
            },
        },
        "additionalPrinterColumns": [
            {"name": name, "type": kind, "jsonPath": path, **({"priority": priority} if priority else {})}
            for name, kind, path, priority in _COLUMNS
        ],
    }


def _root() -> dict[str, Any]:
    spec = structural(Spec.model_json_schema())
    containers = spec["properties"]["containers"]["items"]
    for scope, node in (
        (Scope.SPEC, spec),
        (Scope.CONTAINER, containers),
        (Scope.ENV, containers["properties"]["env"]["items"]),
        (Scope.VOLUME, spec["properties"]["pod"]["properties"]["volumes"]["items"]),
    ):
        node["x-kubernetes-validations"] = [_validation(rule) for rule in RULES if rule.scope is scope]
    status = structural(Status.model_json_schema())
    # Without a status, helm --wait and kstatus take a new resource for ready.
    status["default"] = {"observedGeneration": -1}
    for field in status["properties"].values():
        field.pop("default", None)
    return {
        "type": "object",
        "description": "Up to 15 containers behind one endpoint: called one by one (Direct), or a chain (Serial).",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": status,
        },
        "x-kubernetes-validations": [
            {
                "rule": "size(self.metadata.name) <= 63 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
                "message": "metadata.name becomes the name of a Service: at most 63 of a-z, 0-9 and '-', "
                "beginning with a letter and not ending with '-'",
            }
        ],
    }


def _validation(rule: Rule) -> dict[str, str]:
    return {"rule": rule.cel, "message": rule.message, **({"fieldPath": rule.field} if rule.field else {})}


def structural(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A pydantic JSON Schema as Kubernetes wants it."""
    definitions = schema.get("$defs", {})
    return _node(schema, definitions)


def _node(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    merged = _resolved(schema, definitions)
    node: dict[str, Any] = {key: merged[key] for key in _KEPT if key in merged}
    if node.get("x-kubernetes-int-or-string"):
        return {
            key: node[key]
            for key in ("x-kubernetes-int-or-string", "pattern", "maxLength", "minimum", "description")
            if key in node
        }
    if "default" in node:
        node["default"] = _without_empty(node["default"])
    if node.get("default") in (None, "", [], {}):
        node.pop("default", None)  # an empty default would only show up as drift in GitOps tools
    if isinstance(node.get("additionalProperties"), bool):
        del node["additionalProperties"]  # unknown fields are pruned or refused by the API server itself
    if "additionalProperties" in node:
        node["additionalProperties"] = _node(node["additionalProperties"], definitions)
    if "items" in node:
        node["items"] = _node(node["items"], definitions)
    if "properties" in node:
        node["properties"] = {name: _node(child, definitions) for name, child in node["properties"].items()}
    if "enum" in node:
        node.setdefault("type", "string")
    return node


def _without_empty(value: Any) -> Any:
    if isinstance(value, Mapping):
        cleaned = {key: _without_empty(child) for key, child in value.items()}
        return {key: child for key, child in cleaned.items() if child not in (None, "", [], {})}
    return list(value) if isinstance(value, tuple) else value


def _resolved(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """`schema` with its reference or its one non-null alternative put in place; its own keys win."""
    if "$ref" in schema:
        inner = _resolved(definitions[schema["$ref"].rpartition("/")[2]], definitions)
        return {**inner, **{key: value for key, value in schema.items() if key != "$ref"}}
    alternatives = [option for option in schema.get("anyOf", ()) if option.get("type") != "null"]
    if len(alternatives) == 1:
        inner = _resolved(alternatives[0], definitions)
        return {**inner, **{key: value for key, value in schema.items() if key != "anyOf"}}
    return dict(schema)
