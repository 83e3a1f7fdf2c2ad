"""The route table: the typed contract that the operator writes and the router reads, as JSON.

Its JSON form is a stable contract (camelCase keys, see docs/architecture.md). A table is whole or refused: `parse`
names the field, the value and the fix of the first fault, so that a router keeps its last good table and can say why.
"""

import json
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)
from pydantic.alias_generators import to_camel

from mce_api import wire

Name = Annotated[str, Field(max_length=wire.NAME_MAX_LENGTH, pattern=wire.NAME_PATTERN)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True, strict=True)


class Target(_Part):
    """One container as the router sees it."""

    name: Name
    host: str = Field(default="127.0.0.1", min_length=1, max_length=253)
    port: int = Field(ge=1, le=65535)
    invocation_timeout_seconds: float = Field(
        default=float(wire.INVOCATION_TIMEOUT_SECONDS), gt=0, le=3600, strict=False
    )
    max_concurrency: int = Field(default=0, ge=0)
    """Requests in flight to this container; above it 429. 0: no cap."""
    uid: int | None = Field(default=None, ge=0)
    """The user that alone may answer on `port`, in the router's user namespace. None: whoever listens."""

    @model_serializer(mode="wrap")
    def _without_absent(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        members: dict[str, Any] = dump(self)
        return {name: value for name, value in members.items() if name != "uid" or value is not None}


class Limits(_Part):
    """What one request, one hop and the whole endpoint may take."""

    max_request_bytes: int = Field(default=wire.MAX_BODY_BYTES, ge=1)
    max_hop_bytes: int = Field(default=wire.MAX_HOP_BYTES, ge=1)
    max_concurrency: int = Field(default=0, ge=0)


class RouteTable(_Part):
    """All that a router needs to know of its endpoint."""

    namespace: str = Field(max_length=63)
    endpoint: Name
    variant: Name = wire.DEFAULT_VARIANT
    mode: Literal["Direct", "Serial"]
    availability: Literal["All", "Any"] = "All"
    targets: tuple[Target, ...] = Field(min_length=1, max_length=wire.MAX_CONTAINERS, strict=False)
    limits: Limits = Limits()

    @model_validator(mode="after")
    def _consistent(self) -> "RouteTable":
        names = [target.name for target in self.targets]
        if len(set(names)) != len(names):
            raise ValueError("targets: names must be unique")
        addresses = [(target.host, target.port) for target in self.targets]
        if len(set(addresses)) != len(addresses):
            raise ValueError("targets: two of them share a host and port")
        if self.mode == "Serial" and self.availability == "Any":
            raise ValueError("availability: Any needs mode Direct (a chain needs all of its containers)")
        return self


class InvalidRouteTable(ValueError):  # noqa: N818 - names the thing that is wrong
    """A text is no route table; the message names field, value and rule."""


def dump(table: RouteTable) -> str:
    """One table as compact JSON with sorted keys: equal tables give equal bytes."""
    return json.dumps(table.model_dump(by_alias=True), sort_keys=True, separators=(",", ":"))


def parse(text: str | bytes) -> RouteTable:
    """The table in ``text``.

    Raises:
        InvalidRouteTable: with the path, value and rule of each fault.
    """
    try:
        return RouteTable.model_validate(_json_object(text))
    except ValidationError as error:
        raise InvalidRouteTable("; ".join(explain(error))) from error


def _json_object(text: str | bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise InvalidRouteTable(f"not JSON: {error}") from error


def explain(error: ValidationError, spell: Callable[[str], str] = to_camel) -> list[str]:
    """Each fault of a pydantic error as ``path: message (got value)``, in the user's spelling of the path."""
    lines = []
    for fault in error.errors(include_url=False):
        path = ""
        for part in fault["loc"]:
            path += f"[{part}]" if isinstance(part, int) else f"{'.' if path else ''}{spell(part)}"
        message = fault["msg"].removeprefix("Value error, ")
        value = repr(fault["input"]) if isinstance(fault["input"], str | int | float) else ""
        shown = f" (got {value[:100]})" if value and fault["type"] != "missing" else ""
        lines.append(f"{path}: {message}{shown}" if path else message)
    return lines
