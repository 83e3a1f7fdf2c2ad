"""The only writer: server-side apply, deletion, status, events.

Failures come back as values; answers go into the cache.
"""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, Final

from mce_api import names
from mce_kit.kube import ApiError, KubeApi
from mce_operator.additions import removal
from mce_operator.cache import WATCHED_KINDS, Cache, Object
from mce_operator.metrics import Metrics
from mce_operator.observed import Observed
from mce_operator.plan import Cut, Done, Failure, Plan
from mce_operator.resize import Patch
from mce_operator.resources.meta import K8sObject
from mce_operator.throttle import Throttle

_REFUSALS: Final = frozenset({HTTPStatus.FORBIDDEN, HTTPStatus.UNPROCESSABLE_ENTITY})
_OUTDATED: Final = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT})


class Writer:
    """Carries plans out, every write in its turn."""

    def __init__(self, api: KubeApi, cache: Cache, metrics: Metrics, throttle: Throttle) -> None:
        self._api = api
        self._cache = cache
        self._metrics = metrics
        self._throttle = throttle

    async def carry_out(self, plan: Plan, observed: Observed) -> Done:
        """Deletes, applies, cuts out; the first failure ends it, since later objects need the earlier ones."""
        applied: set[str] = set()
        cut_out: set[str] = set()
        for child in (*plan.orphans, *plan.superfluous):
            try:
                await self._delete(child.kind, observed, child.uid)
            except ApiError as error:
                return Done(failures=(_failure(child.kind, child.name, error),))
        cuts = {cut.live.kind: cut for cut in plan.cuts}
        for built in plan.applies:
            try:
                await self._apply_past(built, cuts.get(built["kind"]), observed)
            except ApiError as error:
                failure = _failure(built["kind"], built["metadata"]["name"], error)
                return Done(applied=frozenset(applied), failures=(failure,))
            applied.add(built["kind"])
        for cut in plan.cuts:
            try:
                await self._cut_out(cut, observed)
            except ApiError as error:
                failure = _failure(cut.live.kind, cut.live.name, error)
                return Done(applied=frozenset(applied), cut=frozenset(cut_out), failures=(failure,))
            cut_out.add(cut.live.kind)
        return Done(applied=frozenset(applied), cut=frozenset(cut_out))

    async def _delete(self, kind: str, observed: Observed, uid: str) -> None:
        key = observed.key
        await self._throttle.turn()
        try:
            await self._api.delete(kind, key.namespace, key.name, uid)
        except ApiError as error:
            if not error.is_not_found:
                raise
        self._metrics.written(kind, "delete")
        self._cache.drop(kind, key)

    async def _apply_past(self, built: K8sObject, cut: Cut | None, observed: Observed) -> None:
        """Applies it; what others have added goes first where ours is not valid beside it: `minAvailable`, say."""
        try:
            await self._apply(built)
        except ApiError as error:
            if cut is None or error.status != HTTPStatus.UNPROCESSABLE_ENTITY:
                raise
            await self._cut_out(cut, observed)
            await self._apply(built)

    async def _apply(self, built: K8sObject) -> None:
        await self._throttle.turn()
        answer = await self._api.apply(built)
        self._metrics.written(built["kind"], "apply")
        self._cache.put(built["kind"], answer)

    async def patch(self, patches: Iterable[Patch], observed: Observed) -> str:
        """Patches what is not ours to apply; returns why the API server refused one, or nothing.

        Raises:
            ApiError: if it did not answer properly.
        """
        for patch in patches:
            await self._throttle.turn()
            try:
                answer = await self._api.patch(
                    patch.kind, observed.key.namespace, patch.name, patch.body, patch.subresource
                )
            except ApiError as error:
                if error.status in _REFUSALS:
                    return error.message
                if error.status in _OUTDATED:
                    continue  # gone or changed since it was read: the next pass decides anew
                raise
            self._metrics.written(patch.kind, patch.subresource or "patch")
            if patch.kind in WATCHED_KINDS:
                self._cache.put(patch.kind, answer)
        return ""

    async def _cut_out(self, cut: Cut, observed: Observed) -> None:
        kind, key = cut.live.kind, observed.key
        await self._throttle.turn()
        answer = await self._api.patch(kind, key.namespace, key.name, removal(cut.paths, cut.live.uid, cut.wanted))
        self._metrics.written(kind, "patch")
        self._cache.put(kind, answer)

    async def status(self, observed: Observed, status: dict[str, Any]) -> bool:
        """Writes the status of that very endpoint; False if it is gone or another one by now.

        Raises:
            ApiError: if the API server refuses.
        """
        await self._throttle.turn()
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

    async def event(self, body: K8sObject) -> None:
        """Posts an Event.

        Raises:
            ApiError: if the API server refuses.
        """
        await self._throttle.turn()
        await self._api.create_event(body)
        self._metrics.written("Event", "create")

    async def scale(self, endpoint: Object, replicas: int) -> None:
        """Moves `spec.replicas` of an endpoint, as long as it is what `endpoint` says.

        Raises:
            ApiError: if the API server refuses.
        """
        await self._throttle.turn()
        await self._api.scale(dict(endpoint), replicas)
        self._metrics.written(names.KIND, "scale")


def _failure(kind: str, name: str, error: ApiError) -> Failure:
    terminating = error.reason == "Forbidden" and "because it is being terminated" in error.message
    message = f"{error.reason}: {error.message}"
    return Failure(kind=kind, name=name, message=message, is_terminating=terminating, is_outage=error.is_outage)
