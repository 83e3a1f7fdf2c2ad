"""What has to happen to get from the containers that run to those that are wanted. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from mce_local.wanted import Container, Wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """Container names; `stop` and `start` share those that changed."""

    stop: tuple[str, ...]
    start: tuple[str, ...]
    keep: tuple[str, ...]


def between(running: Mapping[str, Container], wanted: Wanted) -> Changes:
    """A container is kept if nothing changed that a start depends on; order and limits of requests do not count."""
    by_name = {container.name: container for container in wanted.containers}
    keep = tuple(name for name, container in by_name.items() if running.get(name) == container)
    return Changes(
        stop=tuple(name for name in running if name not in keep),
        start=tuple(name for name in by_name if name not in keep),
        keep=keep,
    )
