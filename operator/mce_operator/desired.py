"""Every object that should exist for an endpoint, in the order in which they are made. Pure."""

from mce_api.endpoint import MultiContainerEndpoint
from mce_operator.decisions import Decisions
from mce_operator.resources.meta import K8sObject
from mce_operator.resources.service import service
from mce_operator.resources.service_account import service_account


def desired(endpoint: MultiContainerEndpoint, decisions: Decisions) -> tuple[K8sObject, ...]:
    """The wanted children; one kind at most once."""
    return (
        service_account(endpoint),
        service(endpoint, publish_not_ready=decisions.publish_not_ready),
        decisions.resizing.deployment,
    )
