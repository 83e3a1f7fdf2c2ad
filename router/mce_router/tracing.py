"""The interface between the life of a request and whoever traces it."""

from typing import Protocol


class Trace(Protocol):
    """The spans of one request."""

    def hop(self, container: str) -> bytes:
        """Starts the span of a step.

        Returns: header lines (traceparent, tracestate; each ended by CRLF) for the container.
        """

    def hop_done(self, *, status: int, reason: str) -> None:
        """Ends it; `reason` is empty if it went well."""

    def done(self, *, status: int, reason: str) -> None:
        """Ends all."""


class Tracer(Protocol):
    """Starts traces."""

    def request(self, traceparent: bytes, tracestate: bytes, request_id: bytes, endpoint: str) -> Trace:
        """The trace of a request that goes to a container; both headers are legal or empty."""
