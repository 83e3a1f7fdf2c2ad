"""What all exchanges of a router share: the live routes, pools, admission, request ids, metrics, readiness."""

import secrets
from collections.abc import Callable
from typing import Final, Protocol

from mce_api import wire
from mce_api.errors import Failure, Reason, Refusal
from mce_api.routes import RouteTable, Target
from mce_router.health import Health
from mce_router.invocation import Invocation
from mce_router.listener import Guard
from mce_router.metrics import Metrics
from mce_router.route import Routes
from mce_router.settings import Settings
from mce_router.upstream import Pool

_MOST_KNOWN_HEADS: Final = 256
_Key = tuple[str, str, int, int | None]
"""What makes two targets of two tables one container, whose connections stay: name, host, port, user."""


class InFlight(Protocol):
    """A request that went to a container and is not over."""

    deadline: float
    """Monotonic seconds."""

    def timed_out(self) -> None:
        """Its time is up."""


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
        self.exchanges: set[InFlight] = set()
        self._pools: dict[_Key, Pool] = {}
        self._current_pools: dict[str, Pool] = {}
        """The pools of the table in use by name: what nearly every request needs, without making a key."""
        self._inflight: dict[str, int] = {}
        self._sequence = 0
        self._id_prefix = _uuid_prefix()
        self.use(table)

    def use(self, table: RouteTable) -> None:
        """Takes `table` for every request from now on; exchanges in flight finish on the one they began with."""
        self.routes = Routes(table)
        self.known_heads: dict[bytes, Invocation] = {}
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
        busy = {name: count for name, count in self._inflight.items() if count}  # a name may go and come back
        self._inflight = {target.name: 0 for target in table.targets} | busy
        self.metrics.use(table)
        self.health.use(table)

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

    def admit(self, targets: tuple[Target, ...]) -> Refusal | None:
        """A refusal when the endpoint or one of `targets` may not take another request now."""
        table = self.routes.table
        limit = table.limits.max_concurrency
        if limit and len(self.exchanges) >= limit:
            return Refusal(
                Reason.ENDPOINT_BUSY, f"Endpoint {table.endpoint} serves {limit} invocations at once already."
            )
        for target in targets:
            if target.max_concurrency and self._inflight[target.name] >= target.max_concurrency:
                text = (
                    f"Container {target.name} serves {target.max_concurrency} invocations at once already. Try again."
                )
                return Refusal(Reason.CONTAINER_BUSY, text)
            if table.availability == "Any" and (cause := self.health.cause_down(target.name)):
                text = f"Container {target.name} can not be invoked now: {cause}. The others of the endpoint can."
                return Refusal(Reason.CONTAINER_NOT_READY, text)
        return None

    def inflight(self, name: str) -> int:
        """Exchanges in flight that involve the container called `name`."""
        return self._inflight.get(name, 0)

    def started(self, exchange: InFlight, targets: tuple[Target, ...]) -> None:
        """`exchange` goes to `targets`."""
        self.exchanges.add(exchange)
        for target in targets:
            self._inflight[target.name] = self._inflight.get(target.name, 0) + 1

    def finished(
        self,
        exchange: InFlight,
        targets: tuple[Target, ...],
        failure: Failure | None,
        seconds: float,
        model_seconds: float,
    ) -> None:
        """`exchange` is over; `targets` is empty if it never reached a container."""
        if targets:
            self.exchanges.discard(exchange)
            for target in targets:
                self._inflight[target.name] -= 1
            self.metrics.invoked(seconds, model_seconds)
        if failure is not None:
            self.metrics.failed(failure)

    def is_ready(self) -> bool:
        """Whether the endpoint takes traffic."""
        return not self.draining and self.health.is_ready()

    def tick(self) -> None:
        """Ends what ran out of time; called a few times a second."""
        now = self.clock()
        for exchange in [exchange for exchange in self.exchanges if exchange.deadline < now]:
            exchange.timed_out()
        oldest = now - self.settings.upstream_idle_seconds
        current = {_key(target) for target in self.routes.table.targets}
        for key, pool in list(self._pools.items()):
            pool.close_idle(oldest)
            if key not in current and pool.is_empty():
                self._pools.pop(key).close()  # an exchange of an older table asked for it


def _key(target: Target) -> _Key:
    return (target.name, target.host, target.port, target.uid)


def _uuid_prefix() -> bytes:
    digits = secrets.token_hex(10)
    return f"{digits[:8]}-{digits[8:12]}-4{digits[12:15]}-a{digits[15:18]}-".encode()
