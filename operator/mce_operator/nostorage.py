"""What kopf keeps on objects: nothing. Its own storages copy every object of every event several times over.

kopf compares objects for handlers of changes, of which there are none here (ADR 0001), and does so all the same: with
its own storages that was a quarter of the operator's CPU.
"""

from typing import Any

import kopf


class NoDiffBase(kopf.DiffBaseStorage):
    """No last seen state."""

    def build(self, **_: Any) -> Any:
        """An empty essence: no two objects differ."""
        return {}

    def fetch(self, **_: Any) -> None:
        """Nothing was stored."""

    def store(self, **_: Any) -> None:
        """Nothing is stored."""


class NoProgress(kopf.ProgressStorage):
    """No progress of handlers."""

    def fetch(self, **_: Any) -> None:
        """Nothing was stored."""

    def store(self, **_: Any) -> None:
        """Nothing is stored."""

    def purge(self, **_: Any) -> None:
        """Nothing is there."""

    def touch(self, **_: Any) -> None:
        """Nothing is there."""

    def clear(self, *, essence: Any) -> Any:
        """Nothing to clear, so nothing to copy."""
        return essence
