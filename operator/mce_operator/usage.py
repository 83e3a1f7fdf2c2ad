"""CPU and memory of the model containers, read from metrics.k8s.io: one list per round, or one per namespace."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from http import HTTPStatus
from typing import Any, Final, NoReturn

from mce_api import names, rules, wire
from mce_kit.kube import ApiError, KubeApi
from mce_kit.usage import Usage
from mce_operator import hostnames
from mce_operator.cache import SELECTOR, Cache
from mce_operator.key import Key

_KEPT_ROUNDS: Final = 2
"""For which a value outlives its absence: metrics-server drops a whole pod for a round when a container restarts."""

_AT_A_TIME: Final = 4
"""Lists under way at once, where there is one for each namespace."""
_SPREAD: Final = 0.5
"""Share of the pause over which they are spread."""

_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Sample:
    usage: Usage
    rounds_absent: int = 0


class UsageReader:
    """The last known usage of every container of every live pod."""

    def __init__(self, api: KubeApi, cache: Cache, *, is_clusterwide: bool = False) -> None:
        self._api = api
        self._cache = cache
        self._is_clusterwide = is_clusterwide
        self._samples: dict[tuple[str, str, str], _Sample] = {}
        self._failing: set[str] = set()
        """Namespaces whose last list failed; the empty one stands for the whole cluster."""

    def current(self) -> Iterable[Usage]:
        """What `mce_kit.usage.UsageCollector` renders: nothing of a pod that is gone."""
        return tuple(
            sample.usage
            for (namespace, pod, _), sample in self._samples.items()
            if self._is_there(namespace, pod)
            and self._cache.get(names.KIND, Key(namespace, sample.usage.endpoint)) is not None
        )

    def _is_there(self, namespace: str, pod: str) -> bool:
        return self._cache.get("Pod", Key(namespace, pod)) is not None

    async def poll_forever(self, pause_seconds: float, is_leading: Callable[[], bool]) -> NoReturn:
        """Reads round after round while leading; a cluster without metrics is no error."""
        while True:
            if is_leading():
                await self.poll(pause_seconds * _SPREAD)
            else:
                self._samples = {}
            await asyncio.sleep(pause_seconds * (1 - _SPREAD))

    async def poll(self, spread_seconds: float = 0.0) -> None:
        """One round: one list for the whole cluster if that is ours to see, else one for each namespace with pods.

        Args:
            spread_seconds: over which the lists of many namespaces are spread, a few of them at a time.
        """
        if not self._is_clusterwide:
            found = await self._by_namespace(spread_seconds)
        else:
            try:
                found = self._usages(await self._api.pod_metrics(None, SELECTOR))
                self._works("")
            except ApiError as error:
                self._fails("", error)
                # A cluster without metrics answers 404, whatever the namespace; rights may be given for some only.
                found = await self._by_namespace(spread_seconds) if error.status == HTTPStatus.FORBIDDEN else []
            else:
                await asyncio.sleep(spread_seconds)
        self._take(found)

    async def _by_namespace(self, spread_seconds: float) -> list[Usage]:
        waiting = sorted({key.namespace for key in self._cache.endpoints() if self._cache.pods(key)})
        self._failing &= {"", *waiting}
        pause = spread_seconds * _AT_A_TIME / max(len(waiting), _AT_A_TIME)
        found: list[Usage] = []

        async def lane() -> None:
            while waiting:
                found.extend(await self._namespace(waiting.pop()))
                await asyncio.sleep(pause)

        await asyncio.gather(*(lane() for _ in range(_AT_A_TIME)))
        return found

    async def _namespace(self, namespace: str) -> list[Usage]:
        try:
            items = await self._api.pod_metrics(namespace, SELECTOR)
        except ApiError as error:
            self._fails(namespace, error)
            return []
        self._works(namespace)
        return self._usages(items)

    def _works(self, namespace: str) -> None:
        self._failing.discard(namespace)

    def _fails(self, namespace: str, error: ApiError) -> None:
        if namespace not in self._failing:  # once, until it has worked again
            _log.warning("no CPU and memory figures", extra={"namespace": namespace or "all", "error": str(error)})
        self._failing.add(namespace)

    def _take(self, found: Iterable[Usage]) -> None:
        fresh = {(usage.namespace, usage.pod, usage.container): _Sample(usage) for usage in found}
        for identity, sample in self._samples.items():
            alive = self._is_there(identity[0], identity[1])
            if identity not in fresh and alive and sample.rounds_absent < _KEPT_ROUNDS:
                fresh[identity] = replace(sample, rounds_absent=sample.rounds_absent + 1)
        self._samples = fresh

    def _usages(self, items: Iterable[Mapping[str, Any]]) -> list[Usage]:
        found: list[Usage] = []
        for item in items:
            try:
                found += self._of_pod(item)
            except (AttributeError, KeyError, TypeError, ValueError) as error:  # any adapter may serve that API
                _log.debug("no figures in this", extra={"error": repr(error)[:200]})
        return found

    def _of_pod(self, item: Mapping[str, Any]) -> Iterable[Usage]:
        namespace = item["metadata"]["namespace"]
        pod = self._cache.get("Pod", Key(namespace, item["metadata"]["name"]))
        endpoint = "" if pod is None else (pod["metadata"].get("labels") or {}).get(names.ENDPOINT_LABEL, "")
        if pod is None or self._cache.get(names.KIND, Key(namespace, endpoint)) is None:
            return  # of an endpoint that is another operator's
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
                endpoint=endpoint,
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
