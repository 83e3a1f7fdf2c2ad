"""From a container's Kubernetes name back to its AWS name, by the map that the pod template carries. Pure."""

import json
from collections.abc import Mapping
from typing import Any

from mce_api import names


def of_pod(pod: Mapping[str, Any]) -> Mapping[str, str]:
    """AWS names by Kubernetes name; empty if somebody has spoilt the annotation."""
    text = (pod["metadata"].get("annotations") or {}).get(names.CONTAINERS_ANNOTATION, "")
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
