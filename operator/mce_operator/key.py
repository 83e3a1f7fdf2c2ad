"""What endpoints are called wherever they are looked up: in caches, in the queue, in metrics."""

from typing import NamedTuple


class Key(NamedTuple):
    """One endpoint."""

    namespace: str
    name: str
