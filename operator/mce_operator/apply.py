"""The only writer: server-side apply, deletion, status. Failures come back as values; answers go into the cache."""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, Final

from mce_api import names
from mce_kit.kube import ApiError, KubeApi
from mce_operator.cache import Cache
from mce_operator.metrics import Metrics
from mce_operator.observed import Observed
from mce_operator.plan import Failure, Plan
from mce_operator.resize import Patch
from mce_operator.resources.meta import K8sObject

_REFUSALS: Final = frozenset({HTTPStatus.FORBIDDEN, HTTPStatus.UNPROCESSABLE_ENTITY})
_OUTDATED: Final = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT})


class Writer:
    """Carries plans out."""

    def __init__(self, api: KubeApi, cache: Cache, metrics: Metrics) -> None:
        self._api = api
        self._cache = cache
        self._metrics = metrics

    async def carry_out(self, plan: Plan, observed: Observed) -> tuple[Failure, ...]:
        """Deletes, then applies; the first failure ends it, since later objects need the earlier ones."""
        for child in (*plan.orphans, *plan.superfluous):
            try:
                await self._delete(child.kind, observed, child.uid)
            except ApiError as error:
                return (_failure(child.kind, child.name, error),)
        for built in plan.applies:
            try:
                await self._apply(built)
            except ApiError as error:
                return (_failure(built["kind"], built["metadata"]["name"], error),)
        return ()

    async def _delete(self, kind: str, observed: Observed, uid: str) -> None:
        key = observed.key
        try:
            await self._api.delete(kind, key.namespace, key.name, uid)
        except ApiError as error:
            if not error.is_not_found:
                raise
        self._metrics.written(kind, "delete")
        self._cache.drop(kind, key)

    async def _apply(self, built: K8sObject) -> None:
        answer = await self._api.apply(built)
        self._metrics.written(built["kind"], "apply")
        self._cache.put(built["kind"], answer)

    async def patch(self, patches: Iterable[Patch], observed: Observed) -> str:
        """Patches what is not ours to apply; returns why the API server refused one, or nothing.

        Raises:
            ApiError: if it did not answer properly.
        """
        for patch in patches:
            try:
                await self._api.patch(patch.kind, observed.key.namespace, patch.name, patch.body, patch.subresource)
            except ApiError as error:
                if error.status in _REFUSALS:
                    return error.message
                if error.status in _OUTDATED:
                    continue  # gone or changed since it was read: the next pass decides anew
                raise
            self._metrics.written(patch.kind, patch.subresource or "patch")
        return ""

    async def status(self, observed: Observed, status: dict[str, Any]) -> bool:
        """Writes the status of that very endpoint; False if it is gone or another one by now.

        Raises:
            ApiError: if the API server refuses.
        """
        key = observed.key
        live = self._cache.get(names.KIND, key)
        if live is None or live["metadata"].get("uid") != observed.uid:
            return False
        body = {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": key.name, "namespace": key.namespace},
            "status": status,
        }
        try:
            answer = await self._api.apply_status(body)
        except ApiError as error:
            if error.is_not_found:
                return False
            raise
        self._metrics.written(names.KIND, "status")
        self._cache.put(names.KIND, answer)
        return True


def _failure(kind: str, name: str, error: ApiError) -> Failure:
    terminating = error.reason == "Forbidden" and "because it is being terminated" in error.message
    return Failure(kind=kind, name=name, message=f"{error.reason}: {error.message}", is_terminating=terminating)
