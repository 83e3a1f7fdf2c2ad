"""What all children have in common: names, labels, owner, and the hash that tells whether anything is to be written."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from mce_api import names
from mce_api.endpoint import MultiContainerEndpoint

K8sObject = dict[str, Any]


def metadata(endpoint: MultiContainerEndpoint, labels: Mapping[str, str] | None = None) -> K8sObject:
    """Metadata of a child, with more labels than all have.

    Its name is the endpoint's; the controller reference lets the garbage collector follow.
    """
    owner = endpoint.metadata
    return {
        "name": owner.name,
        "namespace": owner.namespace,
        "labels": {**(labels or {}), **names.endpoint_labels(owner.name)},
        "ownerReferences": [
            {
                "apiVersion": names.API_VERSION,
                "kind": names.KIND,
                "name": owner.name,
                "uid": owner.uid,
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    }


def hashed(built: K8sObject) -> K8sObject:
    """`built` with its own hash among its annotations."""
    inner = {**built["metadata"]}
    inner["annotations"] = {**inner.get("annotations", {}), names.HASH_ANNOTATION: digest(built)}
    return {**built, "metadata": inner}


def without_null(value: Any) -> Any:
    """What a user wrote in a free-form field, as the API server keeps it: a null it drops would look edited."""
    if isinstance(value, Mapping):
        return {key: without_null(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list | tuple):
        return [without_null(inner) for inner in value]
    return value


def digest(value: Mapping[str, Any]) -> str:
    """Equal values give equal digests, whatever the order of their keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
