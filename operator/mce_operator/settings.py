"""Everything that may be set on an operator, read once from the environment (`MCE_OPERATOR_...`) and passed down."""

import re
from typing import Annotated, Final

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from mce_api.endpoint import Peer

_LABEL: Final = r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?"
_VALUE: Final = r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?"
_ONE_OF: Final = rf"\(\s*{_VALUE}(\s*,\s*{_VALUE})*\s*\)"
_REQUIREMENT: Final = rf"\s*(!\s*{_LABEL}|{_LABEL}(\s*(=|==|!=)\s*{_VALUE}|\s+(in|notin)\s+{_ONE_OF})?)\s*"
_SELECTOR: Final = re.compile(rf"{_REQUIREMENT}(,{_REQUIREMENT})*")

PROMETHEUS: Final = (
    Peer(
        namespace_selector={"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}},
        pod_selector={"matchLabels": {"app.kubernetes.io/name": "prometheus"}},
    ),
)
"""Where the Prometheus charts and kube-prometheus put it. Not by the pod's label alone: anybody can set that."""


class Settings(BaseSettings):
    """Frozen; one instance per process, made in `__main__`."""

    model_config = SettingsConfigDict(env_prefix="MCE_OPERATOR_", frozen=True, use_attribute_docstrings=True)

    namespaces: Annotated[tuple[str, ...], NoDecode] = ()
    """Namespaces to serve, separated by commas. Empty: the whole cluster, which needs a ClusterRole."""

    selector: Annotated[str, Field(max_length=1000)] = ""
    """Label selector of the endpoints to serve, such as `team=a` or `tier in (gold, silver)`. Empty: all of them."""

    lease_namespace: Annotated[str, Field(pattern=r"^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)?$")] = ""
    """Where the Lease is that two operators of the same scope share, so that one leads. Empty: this one is alone."""

    lease_name: Annotated[str, Field(pattern=r"^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?)?$")] = ""
    """Name of the Lease. Empty: made from namespaces and selector, so that operators of other scopes have another."""

    router_image: str = "localhost/mce/router:0.1.0"
    """Image of the router in every pod. A new value rolls every endpoint."""

    router_arguments: Annotated[tuple[str, ...], NoDecode] = ()
    """More options of every router, separated by blanks: `--access-log=all`. A new value rolls every endpoint."""

    router_env: Annotated[tuple[tuple[str, str], ...], NoDecode] = ()
    """Variables of every router, NAME=VALUE, separated by blanks: OpenTelemetry's. A new value rolls every endpoint."""

    network_policies: bool = True
    """Whether every endpoint gets a NetworkPolicy. False: the ones that are there are deleted."""

    own_namespace: Annotated[str, Field(pattern=r"^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)?$")] = ""
    """Where this operator runs; its namespace gets to every endpoint. Empty: in no pod of the cluster."""

    metrics_from: tuple[Peer, ...] = PROMETHEUS
    """JSON: peers of a NetworkPolicy that may read the routers' metrics. They get to the whole admin port."""

    log_level: str = "INFO"
    """Python level of the logs, which are JSON lines on standard error."""

    http_host: str = "0.0.0.0"  # noqa: S104 - the kubelet and Prometheus come from outside of the pod
    """Address that serves /healthz, /readyz and /metrics."""

    http_port: Annotated[int, Field(ge=0, le=65535)] = 9090
    """Port of the same. 0: any free one (tests)."""

    workers: Annotated[int, Field(ge=1, le=256)] = 8
    """Endpoints reconciled at a time. Bounds the calls in flight to the API server."""

    writes_per_second: Annotated[float, Field(gt=0)] = 250
    """Writes to the API server per second, all endpoints together, statuses and events included."""

    write_burst: Annotated[int, Field(ge=1)] = 500
    """Writes that may come at once after a pause."""

    resync_seconds: Annotated[float, Field(ge=10)] = 600
    """Pause between full comparisons with the API server, against events that no watch delivered. Needs no write."""

    usage_seconds: Annotated[float, Field(ge=1)] = 15
    """Pause between two readings of metrics.k8s.io; the usual metrics-server has new values every 15 seconds."""

    request_timeout_seconds: Annotated[float, Field(ge=1)] = 30
    """How long one call to the API server may take."""

    backoff_seconds: Annotated[float, Field(gt=0)] = 0.5
    """First pause before a failed endpoint is tried again; doubles with each failure in a row."""

    max_backoff_seconds: Annotated[float, Field(gt=0)] = 300
    """Longest pause of the same."""

    @field_validator("selector")
    @classmethod
    def _is_selector(cls, value: str) -> str:
        if value and not _SELECTOR.fullmatch(value):
            raise ValueError(f"{value!r} is no label selector; examples: team=a, tier in (gold, silver), !legacy")
        return value

    @field_validator("router_arguments", mode="before")
    @classmethod
    def _words(cls, value: object) -> object:
        """`--a=1 --b=2` as two options."""
        return tuple(value.split()) if isinstance(value, str) else value

    @field_validator("router_env", mode="before")
    @classmethod
    def _pairs(cls, value: object) -> object:
        """`A=1 B=2` as two pairs."""
        if not isinstance(value, str):
            return value
        pairs = [word.partition("=") for word in value.split()]
        if bad := [name for name, equals, _ in pairs if not equals or not name]:
            raise ValueError(f"{bad[0]!r} is not NAME=VALUE, for example OTEL_TRACES_SAMPLER=parentbased_traceidratio")
        return tuple((name, text) for name, _, text in pairs)

    @field_validator("metrics_from")
    @classmethod
    def _select(cls, value: tuple[Peer, ...]) -> tuple[Peer, ...]:
        """A NetworkPolicy refuses a peer that selects nothing."""
        if any(peer.namespace_selector is None and peer.pod_selector is None for peer in value):
            raise ValueError('a peer needs namespaceSelector, podSelector or both: [{"namespaceSelector": {}}]')
        return value

    @field_validator("namespaces", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        """`a, b` as two names."""
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value
