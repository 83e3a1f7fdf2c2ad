"""The ServiceAccount of an endpoint's pods: no rights, no token."""

from mce_api.endpoint import MultiContainerEndpoint
from mce_operator.resources import meta


def service_account(endpoint: MultiContainerEndpoint) -> meta.K8sObject:
    """The wanted ServiceAccount."""
    return meta.hashed(
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": meta.metadata(endpoint),
            "automountServiceAccountToken": False,
        }
    )
