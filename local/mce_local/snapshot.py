"""What `GET /status` of a supervisor answers, and `mce local status -o json` prints: one endpoint at one moment."""

from mce_api.endpoint import Model
from mce_local.state import Phase
from mce_local.wanted import RuntimeKind


class ContainerSnapshot(Model):
    """One container."""

    name: str
    image: str
    state: str
    id: str = ""
    """Process id, or name of the Docker or Podman container."""
    port: int
    restarts: int = 0
    last_exit_code: int | None = None
    message: str = ""
    invocations: int = 0
    errors: int = 0
    cpu_percent: float | None = None
    """100 per busy core."""
    cpu_seconds: float = 0.0
    memory_bytes: int | None = None
    memory_limit_bytes: int | None = None
    log: str


class Snapshot(Model):
    """One endpoint."""

    endpoint: str
    namespace: str
    mode: str
    runtime: RuntimeKind
    phase: Phase
    generation: int
    failure: str = ""
    url: str
    metrics_url: str
    router_metrics_url: str
    supervisor_pid: int
    router_pid: int | None = None
    containers: tuple[ContainerSnapshot, ...] = ()
