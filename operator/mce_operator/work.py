"""The workers: take a key, run a pass, report to the queue. The one place where any exception is caught."""

import logging
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

from mce_kit.kube import ApiError
from mce_operator.key import Key
from mce_operator.metrics import Metrics
from mce_operator.queue import WorkQueue
from mce_operator.reconcile import OUTAGE_SECONDS, Outcome

_log: Final = logging.getLogger(__name__)


async def work_forever(
    queue: WorkQueue,
    reconcile: Callable[[Key], Awaitable[Outcome]],
    metrics: Metrics,
    monotonic: Callable[[], float],
) -> NoReturn:
    """One worker. An endpoint that breaks a pass is retried with back-off and never stops the others."""
    while True:
        key = await queue.get()
        begun = monotonic()
        outcome = await _attempt(reconcile, key)
        metrics.reconciled("settled" if outcome.is_settled else "retried", monotonic() - begun)
        if outcome.is_settled:
            queue.done(key)
        else:
            queue.failed(key)
        if outcome.look_again_seconds is not None:
            queue.add_after(key, outcome.look_again_seconds)


async def _attempt(reconcile: Callable[[Key], Awaitable[Outcome]], key: Key) -> Outcome:
    try:
        return await reconcile(key)
    except ApiError as error:
        _log.warning("pass failed", extra={"endpoint": "/".join(key), "error": str(error)})
        return Outcome(is_settled=False, look_again_seconds=OUTAGE_SECONDS if error.is_outage else None)
    except Exception:  # noqa: BLE001 - logged with its traceback, retried, and kept from the other endpoints
        _log.exception("pass failed by a bug", extra={"endpoint": "/".join(key)})
    return Outcome(is_settled=False)
