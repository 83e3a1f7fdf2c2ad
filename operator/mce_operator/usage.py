"""CPU and memory of the model containers, read from metrics.k8s.io: one list per namespace and round, by label."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Final, NoReturn

from mce_api import names, rules, wire
from mce_kit.kube import ApiError, KubeApi
from mce_kit.usage import Usage
from mce_operator import hostnames
from mce_operator.cache import SELECTOR, Cache
from mce_operator.key import Key

_KEPT_ROUNDS: Final = 2
"""For which a value outlives its absence: metrics-server drops a whole pod for a round when a container restarts."""

_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Sample:
    usage: Usage
    rounds_absent: int = 0


class UsageReader:
    """The last known usage of every container of every live pod."""

    def __init__(self, api: KubeApi, cache: Cache) -> None:
        self._api = api
        self._cache = cache
        self._samples: dict[tuple[str, str, str], _Sample] = {}
        self._is_served = True

    def current(self) -> Iterable[Usage]:
        """What `mce_kit.usage.UsageCollector` renders."""
        return tuple(sample.usage for sample in self._samples.values())

    async def poll_forever(self, pause_seconds: float, is_leading: Callable[[], bool]) -> NoReturn:
        """Reads round after round while leading; a cluster without metrics is no error."""
        while True:
            if is_leading():
                await self.poll()
            else:
                self._samples = {}
            await asyncio.sleep(pause_seconds)

    async def poll(self) -> None:
        """One round over all namespaces that have endpoints."""
        fresh: dict[tuple[str, str, str], _Sample] = {}
        for namespace in sorted({key.namespace for key in self._cache.endpoints()}):
            for usage in await self._namespace(namespace):
                fresh[usage.namespace, usage.pod, usage.container] = _Sample(usage)
        for identity, sample in self._samples.items():
            alive = self._cache.get("Pod", Key(identity[0], identity[1])) is not None
            if identity not in fresh and alive and sample.rounds_absent < _KEPT_ROUNDS:
                fresh[identity] = replace(sample, rounds_absent=sample.rounds_absent + 1)
        self._samples = fresh

    async def _namespace(self, namespace: str) -> list[Usage]:
        try:
            items = await self._api.pod_metrics(namespace, SELECTOR)
        except ApiError as error:
            if self._is_served:
                _log.warning("no CPU and memory figures", extra={"namespace": namespace, "error": str(error)})
            self._is_served = False
            return []
        self._is_served = True
        return [usage for item in items for usage in self._of_pod(namespace, item)]

    def _of_pod(self, namespace: str, item: Mapping[str, Any]) -> Iterable[Usage]:
        pod = self._cache.get("Pod", Key(namespace, item["metadata"]["name"]))
        if pod is None:
            return
        known = hostnames.of_pod(pod)
        limits = {one["name"]: (one.get("resources") or {}).get("limits") or {} for one in pod["spec"]["containers"]}
        for container in item.get("containers") or ():
            hostname = known.get(container["name"])
            used = container.get("usage") or {}
            if hostname is None or not {"cpu", "memory"} <= used.keys():
                continue
            limit = limits.get(container["name"], {})
            yield Usage(
                namespace=namespace,
                endpoint=(pod["metadata"].get("labels") or {}).get(names.ENDPOINT_LABEL, ""),
                variant=wire.DEFAULT_VARIANT,
                container=hostname,
                pod=item["metadata"]["name"],
                cpu_cores=float(_number(used["cpu"]) or 0),
                memory_bytes=float(_number(used["memory"]) or 0),
                cpu_limit_cores=_optional(limit.get("cpu")),
                memory_limit_bytes=_optional(limit.get("memory")),
            )


def _optional(text: str | None) -> float | None:
    number = _number(text) if text is not None else None
    return None if number is None else float(number)


def _number(text: str) -> Decimal | None:
    try:
        return rules.quantity(text)
    except ValueError:
        return None
