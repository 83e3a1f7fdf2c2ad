"""What can be wrong when a router asks a container for its health: words that /targets says and an operator reads."""

from dataclasses import dataclass
from enum import StrEnum


class PingCause(StrEnum):
    """A closed list: a container's word changes only when something else is wrong with it."""

    PORT_NOT_BOUND = "PortNotBound"
    """Nothing listens on its port."""
    PORT_TAKEN = "PortTaken"
    """A process of another user listens there."""
    PING_TIMEOUT = "PingTimeout"
    """It did not answer in time."""
    PING_STATUS = "PingStatus"
    """It answered with another status than 200."""
    PING_BROKEN = "PingBroken"
    """No connection for another reason, or one that ended without an HTTP/1.x answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PingFault:
    """One ping that was not answered with 200 in time."""

    cause: PingCause
    text: str
    """For people: at most some hundred visible characters, the same while the same is wrong."""
