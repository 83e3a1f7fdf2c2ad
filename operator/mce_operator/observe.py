"""The only reader: from the caches, and for what they cannot know from the API server, to one `Observed`."""

from collections.abc import Iterable
from dataclasses import replace

from mce_api import names
from mce_kit.kube import ApiError, KubeApi
from mce_operator import cache as caches
from mce_operator import fleet, observed
from mce_operator.cache import Cache
from mce_operator.key import Key
from mce_operator.observed import Child, Observed


def observe(cache: Cache, key: Key) -> Observed | None:
    """The endpoint of `key` with its children and pods as the caches have them; None if it is gone."""
    document = cache.get(names.KIND, key)
    if document is None:
        return None
    children = {
        kind: observed.child(kind, live, live[caches.OWNED], live[caches.OTHERS])
        for kind in caches.CHILD_KINDS
        if (live := cache.get(kind, key)) is not None
    }
    deployment = cache.get("Deployment", key)
    autoscaler = cache.get("HorizontalPodAutoscaler", key)
    return Observed(
        key=key,
        document=document,
        children=children,
        rollout=observed.rollout(deployment) if deployment else None,
        began_with=children["Deployment"].annotations.get(names.TEMPLATE_ANNOTATION, "") if deployment else "",
        pods=observed.pods(cache.pods(key)),
        autoscaler=observed.autoscaler(autoscaler) if autoscaler else None,
    )


async def with_strangers(api: KubeApi, cache: Cache, found: Observed, kinds: Iterable[str]) -> Observed:
    """`found` with what has the name of a child of these kinds, which the caches do not know.

    The caches hold only what carries our label. Before a child is made for the first time, the API server is asked
    whether something else has its name: an apply would take it over without a word.

    Raises:
        ApiError: if the API server does not answer that.
    """
    strangers = {kind: stranger for kind in kinds if (stranger := await _stranger(api, cache, kind, found.key))}
    if not strangers:
        return found
    # Those that were only too new for the watch are in the caches now, with their own account of themselves.
    known = observe(cache, found.key) or found
    return replace(
        found,
        children={**found.children, **strangers},
        rollout=known.rollout,
        autoscaler=known.autoscaler,
        began_with=known.began_with,
    )


async def with_fleet(api: KubeApi, found: Observed) -> Observed:
    """`found` with its Deployment, ReplicaSets and pods as of now: an in-place change waits for all of them.

    Raises:
        ApiError: if they cannot be read; a Deployment that is gone by now is one of the causes.
    """
    key, selector = found.key, names.selector(found.key.name)
    deployment = await api.get("Deployment", key.namespace, key.name)
    replica_sets = await api.list("ReplicaSet", key.namespace, selector)
    pods = await api.list("Pod", key.namespace, selector)
    return replace(
        found,
        rollout=observed.rollout(deployment),
        pods=observed.pods(pods.items),
        fleet=fleet.fleet(deployment, replica_sets.items, pods.items),
    )


async def _stranger(api: KubeApi, cache: Cache, kind: str, key: Key) -> Child | None:
    """What has the name of an uncached child: somebody else's, or ours without its label or too new for the watch."""
    try:
        raw = await api.get(kind, key.namespace, key.name)
    except ApiError as error:
        if error.is_not_found:
            return None
        raise
    found = observed.child(kind, raw, caches.owned_fields(raw), caches.others_fields(raw))
    if found.is_managed:
        cache.put(kind, raw)
    return found
