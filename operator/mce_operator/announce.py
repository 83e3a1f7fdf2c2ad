"""Posts what the recorder finds worth an Event. Events are a service: one that is refused stops nothing."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from mce_api.status import Status
from mce_kit.kube import ApiError
from mce_operator.events import News, Recorder
from mce_operator.observed import Observed

_log: Final = logging.getLogger(__name__)


class Announcer:
    """A recorder with the way to the API server."""

    def __init__(self, recorder: Recorder, post: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
        """Takes what decides, and what posts (raises `ApiError`)."""
        self._recorder = recorder
        self._post = post

    async def transition(self, observed: Observed, before: Status, status: Status) -> bool:
        """See `Recorder.transition`; returns whether it was worth an Event."""
        news = self._recorder.transition(observed, before, status)
        await self._try(observed, news)
        return news is not None

    async def drift(self, observed: Observed, reason: str, note: str, subject: str) -> None:
        """See `Recorder.drift`."""
        await self._try(observed, self._recorder.drift(observed, reason, note, subject))

    async def _try(self, observed: Observed, news: News | None) -> None:
        if news is None:
            return
        try:
            await self._post(news.body)
        except ApiError as error:
            self._recorder.take_back(news)
            _log.warning("event not posted", extra={"endpoint": "/".join(observed.key), "error": str(error)})
