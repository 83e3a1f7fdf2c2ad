"""Who may go to a container now, who waits for a place, and who is refused at once.

A cap counts requests in flight. Above it a few requests wait, first come first served for each container, for a short
time; more are refused. A chain takes its place at all of its containers or at none, so that no work is begun that can't
be finished.
"""

from typing import Protocol

from mce_api.errors import Reason, Refusal
from mce_api.routes import RouteTable, Target

Targets = tuple[Target, ...]


class Waiter(Protocol):
    """A request that waits for its place."""

    def admitted(self) -> None:
        """It has its place."""


class Admission:
    """The places at all containers of the table in use."""

    def __init__(self, queue_length: int) -> None:
        self._queue_length = queue_length
        self._endpoint = ""
        self._cap = 0
        self._caps: dict[str, int] = {}
        """By name, only where there is one."""
        self._inflight: dict[str, int] = {}
        self._queued: dict[str, int] = {}
        self._waiting: dict[Waiter, Targets] = {}
        self.total = 0
        """Requests that have their place."""

    def use(self, table: RouteTable) -> None:
        """Counts for the containers of `table` from now on."""
        self._endpoint = table.endpoint
        self._cap = table.limits.max_concurrency
        self._caps = {target.name: target.max_concurrency for target in table.targets if target.max_concurrency}
        for counts in (self._inflight, self._queued):
            for name in [name for name, count in counts.items() if not count]:
                del counts[name]  # one that is busy stays: a name may go and come back
            for target in table.targets:
                counts.setdefault(target.name, 0)
        self._start_waiting()  # a cap may have grown

    def inflight(self, name: str) -> int:
        """Requests in flight that involve the container called `name`."""
        return self._inflight.get(name, 0)

    def queued(self, name: str) -> int:
        """Requests that wait for a place at the container called `name`."""
        return self._queued.get(name, 0)

    def enter(self, targets: Targets) -> Refusal | None:
        """Takes a place, unless a cap is reached; a newcomer never overtakes who waits for the same container."""
        if self._cap or self._caps:
            refusal = self._full(targets, behind_others=True)
            if refusal is not None:
                return refusal
        self._take(targets)
        return None

    def wait(self, waiter: Waiter, targets: Targets) -> bool:
        """Lets `waiter` wait; false if too many do."""
        if any(self._queued.get(target.name, 0) >= self._queue_length for target in targets):
            return False
        self._waiting[waiter] = targets
        for target in targets:
            self._queued[target.name] = self._queued.get(target.name, 0) + 1
        return True

    def give_up(self, waiter: Waiter) -> None:
        """`waiter` waits no longer."""
        for target in self._waiting.pop(waiter, ()):
            self._queued[target.name] -= 1

    def leave(self, targets: Targets) -> None:
        """Gives a place back."""
        self.total -= 1
        for target in targets:
            self._inflight[target.name] -= 1
        if self._waiting:
            self._start_waiting()

    def _take(self, targets: Targets) -> None:
        self.total += 1
        inflight = self._inflight
        for target in targets:
            inflight[target.name] = inflight.get(target.name, 0) + 1

    def _full(self, targets: Targets, *, behind_others: bool) -> Refusal | None:
        if self._cap and self.total >= self._cap:
            text = f"Endpoint {self._endpoint} serves {self._cap} invocations at once already. Try again."
            return Refusal(Reason.ENDPOINT_BUSY, text)
        for target in targets:
            name = target.name
            cap = self._caps.get(name, 0)
            if cap and (self._inflight[name] >= cap or (behind_others and self._queued[name])):
                text = f"Container {name} serves {cap} invocations at once already. Try again."
                return Refusal(Reason.CONTAINER_BUSY, text)
        return None

    def _start_waiting(self) -> None:
        passed: set[str] = set()
        for waiter, targets in list(self._waiting.items()):
            names = {target.name for target in targets}
            if names & passed or waiter not in self._waiting:
                continue
            if self._full(targets, behind_others=False) is not None:
                passed |= names  # the next one for the same container must not overtake
                continue
            self.give_up(waiter)
            self._take(targets)
            waiter.admitted()


class Memory:
    """What all requests together may hold of bodies, in bytes."""

    __slots__ = ("elsewhere", "limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self.elsewhere = 0
        """What waits or is unsent; measured now and then."""

    def take(self, size: int) -> bool:
        """Counts `size` bytes in, unless they are too many."""
        if self.used + self.elsewhere + size > self.limit:
            return False
        self.used += size
        return True

    def held(self) -> int:
        """What is held now."""
        return self.used + self.elsewhere

    def is_full(self) -> bool:
        """Whether nobody new should come."""
        return self.used + self.elsewhere >= self.limit
