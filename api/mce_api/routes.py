"""The route table: the typed contract that the operator writes and the router reads, as JSON.

Its JSON form is a stable contract (camelCase keys, see docs/architecture.md). A table is whole or refused: `parse`
names the field, the value and the rule of every fault, so that a router keeps its last good table and can say why.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, get_args

from mce_api import shape, wire
from mce_api.shape import LEFT_OUT, ListOf, Number, OneOf, Part, PartOf, Text, Whole

_LONGEST_SECONDS: Final = 3600
_HOST_PATTERN: Final = r"^[A-Za-z0-9._:%-]+$"
"""A name or an address; it becomes a header line of every request."""
_LARGEST_USER_ID: Final = 2**31 - 1

Name = Annotated[str, Text(wire.NAME_MAX_LENGTH, least=1, pattern=wire.NAME_PATTERN)]
ContainerPath = Text(wire.CONTAINER_PATH_MAX_LENGTH, least=1, pattern=wire.CONTAINER_PATH_PATTERN)
Mode = Literal["Direct", "Serial"]
Availability = Literal["All", "Any"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target(Part):
    """One container as the router sees it."""

    name: Name
    host: Annotated[str, Text(253, least=1, pattern=_HOST_PATTERN)] = "127.0.0.1"
    port: Annotated[int, Whole(1, 65535)]
    invocation_timeout_seconds: Annotated[float, Number(_LONGEST_SECONDS, above_zero=True)] = float(
        wire.INVOCATION_TIMEOUT_SECONDS
    )
    max_concurrency: Annotated[int, Whole(0)] = 0
    """Requests in flight to this container; above it 429. 0: no cap."""
    uid: Annotated[int | None, Whole(0, _LARGEST_USER_ID, or_null=True), LEFT_OUT] = None
    """Linux user that must own the socket on which the container listens. None: any."""
    ping_path: Annotated[str, ContainerPath, LEFT_OUT] = wire.PING_PATH
    invocations_path: Annotated[str, ContainerPath, LEFT_OUT] = wire.INVOCATIONS_PATH


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits(Part):
    """What one request, one hop and the whole endpoint may take."""

    max_request_bytes: Annotated[int, Whole(1)] = wire.MAX_BODY_BYTES
    max_hop_bytes: Annotated[int, Whole(1)] = wire.MAX_HOP_BYTES
    max_concurrency: Annotated[int, Whole(0)] = 0
    max_invocation_seconds: Annotated[float, Number(_LONGEST_SECONDS), LEFT_OUT] = 0.0
    """Longest that one request may take, over all of its containers. 0: the router's own rule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteTable(Part):
    """All that a router needs to know of its endpoint."""

    namespace: Annotated[str, Text(63)]
    endpoint: Name
    variant: Name = wire.DEFAULT_VARIANT
    mode: Annotated[Mode, OneOf(get_args(Mode))]
    availability: Annotated[Availability, OneOf(get_args(Availability))] = "All"
    targets: Annotated[tuple[Target, ...], ListOf(Target, 1, wire.MAX_CONTAINERS)]
    limits: Annotated[Limits, PartOf(Limits)] = Limits()

    def contradictions(self) -> Iterator[str]:
        """See `Part`."""
        if len({target.name for target in self.targets}) != len(self.targets):
            yield "targets: names must be unique"
        if len({(target.host, target.port) for target in self.targets}) != len(self.targets):
            yield "targets: two of them share a host and port"
        if self.mode == "Serial" and self.availability == "Any":
            yield "availability: Any needs mode Direct (a chain needs all of its containers)"


class InvalidRouteTable(ValueError):  # noqa: N818 - names the thing that is wrong
    """A text is no route table; the message names field, value and rule."""


def dump(table: RouteTable) -> str:
    """One table as compact JSON with sorted keys: equal tables give equal bytes.

    A changed byte makes the operator roll the pods, so a field that came later is left out while it has its default.
    """
    return json.dumps(shape.plain(table), sort_keys=True, separators=(",", ":"))


def parse(text: str | bytes) -> RouteTable:
    """The table in ``text``.

    Raises:
        InvalidRouteTable: with the path, value and rule of each fault.
    """
    try:
        return shape.read(RouteTable, _json(text))
    except shape.Invalid as error:
        raise InvalidRouteTable(str(error)) from error


def _json(text: str | bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # the second: a thousand brackets
        raise InvalidRouteTable(f"not JSON: {error}") from error
