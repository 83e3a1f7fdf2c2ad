"""The route table of an endpoint: what its routers need to know, bound to the pod template that it describes."""

from mce_api import names, routes
from mce_api.endpoint import MultiContainerEndpoint


def table(endpoint: MultiContainerEndpoint) -> routes.RouteTable:
    """The wanted table; targets in the order of the spec, which is the order of a chain."""
    spec = endpoint.spec
    restricted = spec.pod.security_profile == "restricted"
    return routes.RouteTable(
        namespace=endpoint.metadata.namespace,
        endpoint=endpoint.metadata.name,
        mode=spec.mode,
        availability=spec.availability,
        targets=tuple(
            routes.Target(
                name=container.name,
                port=names.bind_port(index, container.port),
                invocation_timeout_seconds=container.invocation_timeout_seconds,
                max_concurrency=container.max_concurrency,
                uid=names.container_uid(index) if restricted else None,
                ping_path=container.ping_path,
                invocations_path=container.invocations_path,
            )
            for index, container in enumerate(spec.containers)
        ),
        limits=routes.Limits(
            max_request_bytes=spec.limits.max_request_bytes,
            max_hop_bytes=spec.limits.max_hop_bytes,
            max_concurrency=spec.limits.max_concurrency,
            max_invocation_seconds=spec.limits.max_invocation_seconds,
        ),
    )
