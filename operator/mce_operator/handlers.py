"""kopf as a watch layer and nothing more (ADR 0001): its events feed the caches and the queue. No decisions, no writes.

Only `on.event` is used: it stores nothing, sets no finalizer and never touches an object. kopf does not retry what
fails in such a handler, so nothing that can fail may live here.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import aiohttp
import kopf

from mce_api import names
from mce_kit.kube import RESOURCES, Connection
from mce_operator.cache import SELECTOR, WATCHED_KINDS, Cache, is_unanswered
from mce_operator.nostorage import NoDiffBase, NoProgress
from mce_operator.queue import WorkQueue
from mce_operator.watches import SILENCE_SECONDS, STREAM_SECONDS


def registry(
    cache: Cache,
    queue: WorkQueue,
    connection: Callable[[], Awaitable[Connection]],
    session: Callable[[Connection], aiohttp.ClientSession],
) -> kopf.OperatorRegistry:
    """The handlers: one per kind, and the login.

    Args:
        cache: takes what was heard.
        queue: takes whom it is about.
        connection: gives server and credentials.
        session: makes the HTTP client that kopf watches with.
    """
    made = kopf.OperatorRegistry()
    for kind in WATCHED_KINDS:
        resource = RESOURCES[kind]
        group, _, version = resource.api_version.rpartition("/")

        async def heard(event: Mapping[str, Any], kind: str = kind, **_: Any) -> None:
            if event["type"] == "DELETED":
                queue.add(cache.remove(kind, event["object"]))
            elif (endpoint := cache.put(kind, event["object"])) is not None:
                queue.add(endpoint, first=is_unanswered(kind, event["object"]))

        kopf.on.event(group, version, resource.plural, id=f"{kind}-heard", registry=made)(heard)

    async def login(**_: Any) -> kopf.AiohttpSession:
        found = await connection()
        return kopf.AiohttpSession(server=found.server, aiohttp_session=session(found))

    kopf.on.login(id="login", registry=made)(login)
    return made


def settings(*, is_clusterwide: bool, selector: str) -> kopf.OperatorSettings:
    """How kopf watches: streams its first list, notices silence, comes back within seconds, writes nothing.

    `selector` chooses among endpoints; empty: all of them.
    """
    made = kopf.OperatorSettings()
    made.posting.enabled = False
    made.peering.standalone = True
    made.persistence.diffbase_storage = NoDiffBase()
    made.persistence.progress_storage = NoProgress()
    # It would kill the process this long after kopf has ended, also if it was started anew by then.
    made.process.ultimate_exiting_timeout = None
    made.watching.server_timeout = STREAM_SECONDS
    made.watching.inactivity_timeout = SILENCE_SECONDS
    made.watching.connect_timeout = 5
    made.watching.reconnect_backoff = 1
    made.watching.initial_streaming = True
    made.networking.request_timeout = 20
    made.networking.connect_timeout = 5
    # The default list ends with steps of 21 s, for which the operator is deaf after a long outage.
    made.networking.error_backoffs = [0.5, 1, 2, *[3] * 40]
    made.queueing.worker_limit = None
    made.queueing.idle_timeout = 0.1  # for so long kopf holds the last event of each object, as large as it came
    made.queueing.exit_timeout = 2
    # Following CRDs needs cluster-wide rights, which an operator of a few namespaces does not have.
    made.scanning.disabled = not is_clusterwide
    for kind in WATCHED_KINDS:
        wanted = selector if kind == names.KIND else SELECTOR
        if wanted:
            made.watching.label_selectors[RESOURCES[kind].api_version, RESOURCES[kind].plural] = wanted
    return made
