"""Every object that should exist for an endpoint, in the order in which they are made. Pure."""

from collections.abc import Iterator

from mce_api.endpoint import MultiContainerEndpoint
from mce_operator.decisions import Decisions
from mce_operator.resources import disruption_budget
from mce_operator.resources.autoscaler import autoscaler
from mce_operator.resources.disruption_budget import disruption_budget as budget
from mce_operator.resources.meta import K8sObject
from mce_operator.resources.network_policy import network_policy
from mce_operator.resources.router import Setup
from mce_operator.resources.service import service
from mce_operator.resources.service_account import service_account


def desired(endpoint: MultiContainerEndpoint, decisions: Decisions, setup: Setup) -> tuple[K8sObject, ...]:
    """The wanted children; one kind at most once."""
    return tuple(_children(endpoint, decisions, setup))


def _children(endpoint: MultiContainerEndpoint, decisions: Decisions, setup: Setup) -> Iterator[K8sObject]:
    spec = endpoint.spec
    if not spec.pod.service_account_name:
        yield service_account(endpoint)
    if setup.network.is_policed:
        yield network_policy(endpoint, setup.network)  # before the pods, so that they are never open
    yield service(endpoint, publish_not_ready=decisions.publish_not_ready)
    yield decisions.resizing.deployment
    if disruption_budget.is_wanted(spec):
        yield budget(endpoint)
    yield from autoscaler(endpoint)
