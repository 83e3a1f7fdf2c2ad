"""Which generation the pods run. Pure: from what is wanted and what is observed to one `Revision`."""

from dataclasses import dataclass
from datetime import datetime

from mce_api import names
from mce_api.endpoint import MultiContainerEndpoint
from mce_operator.observed import Observed
from mce_operator.resources.deployment import deployment
from mce_operator.resources.meta import K8sObject
from mce_operator.resources.router import Setup


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """The Deployment that there should be."""

    deployment: K8sObject

    @property
    def template(self) -> str:
        """Hash of its pod template: tells which pods are of this revision."""
        return str(self.deployment["spec"]["template"]["metadata"]["annotations"][names.HASH_ANNOTATION])


def revision(endpoint: MultiContainerEndpoint, observed: Observed, setup: Setup, now: datetime) -> Revision:  # noqa: ARG001
    """The revision for a valid endpoint."""
    return Revision(deployment=deployment(endpoint, setup))
