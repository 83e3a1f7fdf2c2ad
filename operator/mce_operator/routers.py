"""What the routers of running pods say of themselves: /targets and /metrics, bounded in time and size."""

import asyncio
import json
import logging
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from itertools import islice
from typing import Any, Final, Protocol

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from mce_api import names, wire
from mce_operator.autoscale import Load
from mce_operator.observed import Pod, RouterReport, TargetReport, Traffic

_TIMEOUT: Final = aiohttp.ClientTimeout(total=2)
_MOST_BYTES: Final = 1 << 20
_MOST_AT_ONCE: Final = 16
_MOST_LOADS_AT_ONCE: Final = 64
"""Of all endpoints that scale, every few seconds; the passes do not wait for those."""
_MOST_WORD: Final = 64
_MOST_TEXT: Final = 256
_MOST_PORTS: Final = 16

_MOST_COUNTED: Final = 1 << 53
_NO_ANSWER: Final = (aiohttp.ClientError, OSError, TimeoutError, ValueError, KeyError, TypeError, RecursionError)

_log: Final = logging.getLogger(__name__)


class Routers(Protocol):
    """Whoever can ask routers."""

    async def ask(self, pods: Iterable[Pod]) -> Mapping[str, RouterReport]:
        """Reports by pod name; a pod whose router does not answer properly is left out."""


class HttpRouters:
    """`Routers` over HTTP, straight to the pods' addresses."""

    def __init__(self, session: aiohttp.ClientSession, port: int = names.ROUTER_ADMIN_PORT) -> None:
        self._port = port
        self._session = session
        self._free = asyncio.Semaphore(_MOST_AT_ONCE)
        self._free_for_loads = asyncio.Semaphore(_MOST_LOADS_AT_ONCE)

    async def ask(self, pods: Iterable[Pod]) -> Mapping[str, RouterReport]:
        """See `Routers`."""
        asked = [pod for pod in pods if pod.ip]
        reports = await asyncio.gather(*(self._one(pod) for pod in asked))
        return {pod.name: report for pod, report in zip(asked, reports, strict=True) if report is not None}

    async def loads(self, pods: Iterable[Pod]) -> Mapping[str, Mapping[str, Load]]:
        """What the containers have to do, by pod and AWS name; a pod whose router does not answer is left out.

        Only /targets, which is a tenth of the work of /metrics for both sides.
        """
        asked = [pod for pod in pods if pod.ip]
        found = await asyncio.gather(*(self._loads(pod) for pod in asked))
        return {pod.name: loads for pod, loads in zip(asked, found, strict=True) if loads is not None}

    async def _one(self, pod: Pod) -> RouterReport | None:
        root = self._root(pod)
        try:
            async with self._free:
                targets = await self._get(f"{root}/targets")
                metrics = await self._get(f"{root}/metrics")
            return RouterReport(targets=_targets(json.loads(targets)), traffic=_traffic(metrics.decode()))
        except _NO_ANSWER as error:
            _log.debug("router does not answer", extra={"pod": pod.name, "error": repr(error)[:200]})
            return None

    async def _loads(self, pod: Pod) -> Mapping[str, Load] | None:
        try:
            async with self._free_for_loads:
                page = await self._get(f"{self._root(pod)}/targets")
            return _loads(json.loads(page))
        except _NO_ANSWER as error:
            _log.debug("router does not answer", extra={"pod": pod.name, "error": repr(error)[:200]})
            return None

    def _root(self, pod: Pod) -> str:
        host = f"[{pod.ip}]" if ":" in pod.ip else pod.ip
        return f"http://{host}:{self._port}"

    async def _get(self, url: str) -> bytes:
        async with self._session.get(url, timeout=_TIMEOUT, allow_redirects=False) as response:
            body = await response.content.read(_MOST_BYTES)
            while chunk := await response.content.read(_MOST_BYTES - len(body) + 1):
                body += chunk
                if len(body) > _MOST_BYTES:
                    raise ValueError(f"{url}: more than {_MOST_BYTES} bytes")
            if response.status != HTTPStatus.OK:
                raise ValueError(f"{url}: status {response.status}")
            return body


def _targets(page: Mapping[str, Any]) -> dict[str, TargetReport]:
    return {str(one["name"]): _target(one) for one in page["targets"]}


def _target(row: Mapping[str, Any]) -> TargetReport:
    ports = (port for port in row.get("listensOn", ()) if isinstance(port, int))
    return TargetReport(
        state=str(row["state"]),
        cause=str(row.get("cause", ""))[:_MOST_WORD],
        text=str(row.get("lastError", ""))[:_MOST_TEXT],
        listens_on=tuple(islice(ports, _MOST_PORTS)),
    )


def _loads(page: Mapping[str, Any]) -> dict[str, Load]:
    return {
        _name(one["name"]): Load(
            invocations=_count(one["invocations"]), in_flight=_count(one["inflight"]) + _count(one["queued"])
        )
        for one in page["targets"]
    }


def _name(value: Any) -> str:
    name = str(value)
    if not 0 < len(name) <= wire.NAME_MAX_LENGTH:
        raise ValueError("not a container's name")
    return name


def _count(value: Any) -> float:
    """A number that can be counted with: JSON as Python reads it also has NaN and Infinity."""
    number = float(value)
    if not 0 <= number <= _MOST_COUNTED:
        raise ValueError("not a count")
    return number


_SERIES: Final = {
    ("mce_container_invocations_total", ""): "invocations",
    ("mce_container_errors_total", "5xx"): "errors_5xx",
    ("mce_inflight", ""): "in_flight",
}


def _traffic(page: str) -> dict[str, Traffic]:
    found: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            field = _SERIES.get((sample.name, sample.labels.get("class", "")))
            if field is not None:
                found.setdefault(sample.labels["container"], dict.fromkeys(_SERIES.values(), 0.0))[field] = sample.value
    return {name: Traffic(**values) for name, values in found.items()}
