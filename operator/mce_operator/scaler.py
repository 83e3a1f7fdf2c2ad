"""The loop that moves replicas by what the routers see: reads, lets `autoscale` decide, writes only a change.

The number is written to `spec.replicas` by the scale subresource, as kubectl and a HorizontalPodAutoscaler do: what is
wanted stays in one object, and the ordinary pass carries it out. What the loop remembers is lost with the process.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, NoReturn

from mce_api import names, validation
from mce_api.endpoint import MultiContainerEndpoint
from mce_kit.clock import Clock
from mce_kit.kube import ApiError
from mce_kit.usage import Usage
from mce_operator import autoscale, observed
from mce_operator.autoscale import Load, Memory, PodReading, Reading
from mce_operator.cache import Cache, Object, edition
from mce_operator.key import Key
from mce_operator.observed import Pod, Scaling
from mce_operator.resources.autoscaler import scales_itself
from mce_operator.resources.deployment import replicas

_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Subject:
    """One endpoint that scales."""

    key: Key
    document: Object
    endpoint: MultiContainerEndpoint

    @property
    def identity(self) -> tuple[Key, str]:
        """Of this very endpoint: the next one may have its name."""
        return self.key, _uid(self.document)


class Scaler:
    """One round every 15 s over the endpoints that have `spec.autoscaling`."""

    def __init__(
        self,
        *,
        cache: Cache,
        loads: Callable[[Iterable[Pod]], Awaitable[Mapping[str, Mapping[str, Load]]]],
        usage: Callable[[], Iterable[Usage]],
        write: Callable[[Object, int], Awaitable[None]],
        wake: Callable[[Key], None],
        clock: Clock,
    ) -> None:
        """Takes what it reads with, and what it acts by.

        Args:
            cache: where endpoints and pods are.
            loads: asks routers; a pod that does not answer is left out.
            usage: CPU of all containers.
            write: sets the replicas of an endpoint, if it still is as given; raises `ApiError`.
            wake: has an endpoint's status looked at.
            clock: for what is measured, and for what is told.
        """
        self._cache = cache
        self._loads = loads
        self._usage = usage
        self._write = write
        self._wake = wake
        self._clock = clock
        self._memories: dict[tuple[Key, str], Memory] = {}

    def scaling(self, key: Key) -> Scaling | None:
        """What has been seen and done of an endpoint since this process leads."""
        document = self._cache.get(names.KIND, key)
        memory = self._memories.get((key, _uid(document))) if document else None
        return memory.scaling if memory else None

    def take_over(self) -> None:
        """Another operator may have scaled until now, and its last word is in the status."""
        self._memories.clear()

    async def run_forever(self, may_act: Callable[[], bool]) -> NoReturn:
        """Round after round, at a steady pace, while `may_act` says so."""
        while True:
            begun = self._clock.monotonic()
            if may_act():
                await self.round()
            await asyncio.sleep(max(0.0, begun + autoscale.INTERVAL_SECONDS - self._clock.monotonic()))

    async def round(self) -> None:
        """Looks at every endpoint once; one that cannot be read or written does not stop the others."""
        subjects = [subject for key in self._cache.endpoints() if (subject := self._subject(key)) is not None]
        cpu: dict[tuple[str, str], dict[str, float]] = {}
        for usage in self._usage():
            cpu.setdefault((usage.namespace, usage.pod), {})[usage.container] = usage.cpu_cores
        own = {subject.identity for subject in subjects if scales_itself(subject.endpoint.spec.autoscaling)}
        self._memories = {identity: memory for identity, memory in self._memories.items() if identity in own}
        await asyncio.gather(*(self._attempt(subject, cpu) for subject in subjects))

    def _subject(self, key: Key) -> _Subject | None:
        document = self._cache.get(names.KIND, key)
        if document is None or document["metadata"].get("deletionTimestamp"):
            return None
        if not document["spec"].get("autoscaling") or document["spec"].get("suspend"):
            return None
        try:
            return _Subject(key=key, document=document, endpoint=validation.stored(document))
        except validation.InvalidEndpoint:
            return None  # its status says so already

    async def _attempt(self, subject: _Subject, cpu: Mapping[tuple[str, str], Mapping[str, float]]) -> None:
        try:
            await self._look(subject, cpu)
        except ApiError as error:
            _log.warning("not scaled", extra={"endpoint": "/".join(subject.key), "error": str(error)})
        except Exception:  # noqa: BLE001 - logged with its traceback, and kept from the other endpoints
            _log.exception("not scaled by a bug", extra={"endpoint": "/".join(subject.key)})

    async def _look(self, subject: _Subject, cpu: Mapping[tuple[str, str], Mapping[str, float]]) -> None:
        endpoint, key = subject.endpoint, subject.key
        present = wanted = replicas(endpoint.spec)
        before = self._memories.get(subject.identity)
        if scales_itself(endpoint.spec.autoscaling):
            memory = autoscale.remembered(before, endpoint, await self._reading(subject, cpu))
            self._memories[subject.identity] = memory
            wanted = autoscale.target(endpoint, memory, memory.readings[-1].at)
            if _news(before) != _news(memory):
                self._wake(key)
            if self._has_moved(subject):
                return
            if wanted != present and memory.latest is not None:
                at = f"{self._clock.utc():%Y-%m-%dT%H:%M:%SZ}"
                decided = autoscale.described(memory.latest, wanted, at)
                self._memories[subject.identity] = replace(memory, decided=decided)
        if wanted == endpoint.spec.replicas:
            return
        try:
            await self._write(subject.document, wanted)
        except ApiError:
            if (memory_now := self._memories.get(subject.identity)) is not None:
                decided_before = before.decided if before else None
                self._memories[subject.identity] = replace(memory_now, decided=decided_before)
            raise
        facts = {"endpoint": "/".join(key), "from": endpoint.spec.replicas, "to": wanted}
        _log.info("scaled", extra=facts)

    def _has_moved(self, subject: _Subject) -> bool:
        """Whether somebody has changed the endpoint while its pods were asked: it may be not ours to scale any more."""
        live = self._cache.get(names.KIND, subject.key)
        return live is None or edition(live) != edition(subject.document)

    async def _reading(self, subject: _Subject, cpu: Mapping[tuple[str, str], Mapping[str, float]]) -> Reading:
        pods = [pod for pod in observed.pods(self._cache.pods(subject.key)) if not pod.is_deleting]
        loads = await self._loads(pod for pod in pods if pod.router is not None)
        return Reading(
            at=self._clock.monotonic(),
            pods={
                pod.name: PodReading(
                    is_ready=_serves(pod, subject.endpoint),
                    loads=loads.get(pod.name),
                    cpu_cores=cpu.get((subject.key.namespace, pod.name), {}),
                )
                for pod in pods
            },
        )


def _uid(document: Object) -> str:
    return str(document["metadata"].get("uid", ""))


def _serves(pod: Pod, endpoint: MultiContainerEndpoint) -> bool:
    """Whether it takes its share: with availability Any also while one of its containers is down."""
    is_any = endpoint.spec.availability == "Any"
    return pod.is_ready or (is_any and pod.router is not None and pod.router.is_ready)


def _news(memory: Memory | None) -> tuple[str, bool]:
    """What the status says besides the number of replicas."""
    scaling = memory.scaling if memory else None
    return (scaling.blind, scaling.latest is not None) if scaling else ("", False)
