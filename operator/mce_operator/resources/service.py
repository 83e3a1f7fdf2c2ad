"""The Service: one stable name and address in front of the routers of all replicas."""

from mce_api import names
from mce_api.endpoint import MultiContainerEndpoint
from mce_operator.resources import meta


def service(endpoint: MultiContainerEndpoint, *, publish_not_ready: bool = False) -> meta.K8sObject:
    """The wanted Service. The cluster assigns its address, so that is not ours to apply."""
    return meta.hashed(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": meta.metadata(endpoint),
            "spec": {
                "type": "ClusterIP",
                "publishNotReadyAddresses": publish_not_ready,
                "selector": names.selector_labels(endpoint.metadata.name),
                "ports": [
                    {
                        "name": "http",
                        "port": names.SERVICE_PORT,
                        "targetPort": names.ROUTER_PORT,
                        "protocol": "TCP",
                        "appProtocol": "http",
                    }
                ],
            },
        }
    )
