"""What all exchanges of a router share: the live routes, pools, admission, request ids, metrics, readiness."""

import logging
import math
import secrets
from collections.abc import Callable
from typing import Final, Protocol

from mce_api import wire
from mce_api.errors import Reason, Refusal
from mce_api.routes import RouteTable, Target
from mce_router.access import AccessLog
from mce_router.admission import Admission, Memory
from mce_router.health import Health
from mce_router.invocation import Invocation, RequestHead
from mce_router.listener import Guard
from mce_router.metrics import Metrics
from mce_router.route import Routes
from mce_router.settings import Settings
from mce_router.tracing import Tracer
from mce_router.upstream import Pool

_log: Final = logging.getLogger(__name__)
_MOST_KNOWN_HEADS: Final = 256
_Key = tuple[str, str, int, int | None, str]
"""What makes two targets of two tables one container, whose connections stay: name, host, port, user, path."""


class InFlight(Protocol):
    """A request that is not over."""

    deadline: float
    """Monotonic seconds."""

    def timed_out(self) -> None:
        """Its time is up."""

    def abandon(self) -> None:
        """Something of ours is broken: it must end, and leave nothing behind."""

    def buffered(self) -> int:
        """Bytes of its request that wait and are not counted yet."""


class Service:
    """The shared state of one router process; lives on one event loop."""

    def __init__(
        self,
        table: RouteTable,
        settings: Settings,
        metrics: Metrics,
        health: Health,
        guard: Guard,
        clock: Callable[[], float],
    ) -> None:
        self.clock = clock
        self.guard = guard
        self.settings = settings
        self.metrics = metrics
        self.health = health
        self.draining = False
        self.last_connection = 0.0
        """When the last caller connected."""
        self.buffered = 0
        """Bytes that the connections of callers hold, whether a request is in flight or not; measured now and then."""
        self.exchanges: set[InFlight] = set()
        self.admission = Admission(settings.queue_length)
        self.memory = Memory(settings.max_buffered_bytes)
        self.access: AccessLog | None = None
        self.tracer: Tracer | None = None
        self._pools: dict[_Key, Pool] = {}
        self._current_pools: dict[str, Pool] = {}
        """The pools of the table in use by name: what nearly every request needs, without making a key."""
        self._sequence = 0
        self._id_prefix = _uuid_prefix()
        self.use(table)

    def use(self, table: RouteTable) -> None:
        """Takes `table` for every request from now on; exchanges in flight finish on the one they began with."""
        self.routes = Routes(table)
        self.known_heads: dict[bytes, Invocation] = {}
        self.parsed_heads: dict[RequestHead, Invocation | Refusal] = {}
        """What `parse` said of heads; it looks at nothing else."""
        self.answer_prefix = b"HTTP/1.1 200 OK\r\n%b: %b\r\n%b: " % (
            wire.INVOKED_VARIANT.encode(),
            table.variant.encode(),
            wire.REQUEST_ID.encode(),
        )
        kept = {_key(target) for target in table.targets}
        for key in [key for key in self._pools if key not in kept]:
            self._pools.pop(key).close()
        self._current_pools = {}
        for target in table.targets:
            pool = self._current_pools[target.name] = self.pool(target)
            pool.target = target  # the same container; its limits may be new
        self.total_seconds = _total_seconds(table)
        self.metrics.use(table)
        self.health.use(table)
        self.admission.use(table)  # last: it may start requests that wait

    def remember(self, raw: bytes, parsed: Invocation) -> None:
        """Keeps what the request head `raw` means under this table; all is forgotten when there are too many."""
        if len(self.known_heads) >= _MOST_KNOWN_HEADS:
            self.known_heads.clear()
        self.known_heads[raw] = parsed

    def next_request_id(self) -> bytes:
        """An id in UUID form: random per process, then a sequence; unique, and cheaper than a UUID for each request."""
        self._sequence += 1
        return b"%b%012x" % (self._id_prefix, self._sequence)

    def pool(self, target: Target) -> Pool:
        """The connections to `target`."""
        pool = self._current_pools.get(target.name)
        if pool is not None and pool.target is target:
            return pool
        key = _key(target)
        pool = self._pools.get(key)
        if pool is None:
            timeout = self.settings.connect_timeout_seconds
            pool = self._pools[key] = Pool(target, clock=self.clock, connect_timeout=timeout, guard=self.guard)
        return pool

    def shed(self, targets: tuple[Target, ...]) -> Refusal | None:
        """A refusal when nobody new may come, or when one of `targets` can't be asked now."""
        if self.memory.is_full():
            return self.memory_full()
        if self.routes.table.availability == "Any":
            for target in targets:
                if cause := self.health.cause_down(target.name):
                    text = f"Container {target.name} can not be invoked now: {cause}. The others of the endpoint can."
                    return Refusal(Reason.CONTAINER_NOT_READY, text)
        return None

    def memory_full(self) -> Refusal:
        """The answer when requests hold too much."""
        limit = self.memory.limit
        text = f"The requests in flight hold {limit} bytes of bodies already, the router's limit. Try again."
        return Refusal(Reason.MEMORY_LIMIT, text)

    def is_ready(self) -> bool:
        """Whether the endpoint takes traffic."""
        return not self.draining and self.health.is_ready()

    def tick(self) -> None:
        """Ends what ran out of time; called a few times a second."""
        now = self.clock()
        self.memory.elsewhere = self.buffered + sum(exchange.buffered() for exchange in self.exchanges)
        for exchange in [exchange for exchange in self.exchanges if exchange.deadline < now]:
            if exchange.deadline >= now:
                continue  # one that ended just now gave it its place, and more time
            try:
                exchange.timed_out()
            except Exception:  # noqa: BLE001 - whatever it is, the others have a right to their timers
                _log.exception("a request could not be timed out")
                exchange.deadline = math.inf  # said once
                exchange.abandon()
        oldest = now - self.settings.upstream_idle_seconds
        current = {_key(target) for target in self.routes.table.targets}
        for key, pool in list(self._pools.items()):
            pool.close_idle(oldest)
            if key not in current and pool.is_empty():
                self._pools.pop(key).close()  # an exchange of an older table asked for it


def _total_seconds(table: RouteTable) -> float:
    """How long a whole invocation may take until its last answer begins.

    SageMaker gives 60 s to the whole of it (inferred); a container that may take longer alone may in a chain too.
    """
    return table.limits.max_invocation_seconds or max(
        float(wire.INVOCATION_TIMEOUT_SECONDS), *(target.invocation_timeout_seconds for target in table.targets)
    )


def _key(target: Target) -> _Key:
    return (target.name, target.host, target.port, target.uid, target.invocations_path)


def _uuid_prefix() -> bytes:
    digits = secrets.token_hex(10)
    return f"{digits[:8]}-{digits[8:12]}-4{digits[12:15]}-a{digits[15:18]}-".encode()
