"""Whether requests are traced, and what the router asks of a tracer. Nothing of OpenTelemetry is imported here.

The environment says it, with OpenTelemetry's own variables; `spans` holds the part that needs the SDK and is imported
only then. How to use it and what it costs: docs/tracing.md.
"""

from collections.abc import Mapping
from typing import Final, Protocol
from urllib.parse import urlsplit

CALLER_GONE: Final = "CallerGone"
"""`error.type` of a request whose caller left before its answer was whole; every other one is a `Reason`."""
CLOSE_SECONDS: Final = 3.0
"""How long a router that ends waits for its last spans to be sent. The pod's grace has 15 s in hand."""

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")


class Trace(Protocol):
    """The spans of one request."""

    def hop(self, container: str) -> bytes:
        """Starts the span of a call to `container`.

        Returns:
            Header lines for that container, each ended by CRLF: they take the place of the caller's `traceparent` and
            `tracestate`.
        """

    def hop_done(self, *, status: int, reason: str) -> None:
        """The call is over.

        Args:
            status: the container's own; 0: it gave none.
            reason: why it counts as a failure; empty: it does not.
        """

    def done(self, *, status: int, reason: str) -> None:
        """The request is over, and a call that is still open with it, for the same reason; later calls change nothing.

        Args:
            status: what the caller got; 0: nothing.
            reason: why it got no whole answer of a model; empty: it did.
        """


class Tracer(Protocol):
    """Makes the spans of all requests."""

    def request(
        self,
        traceparent: bytes,
        tracestate: bytes,
        request_id: bytes,
        endpoint: str,
        named: str = "",
        *,
        streamed: bool = False,
    ) -> Trace:
        """Starts the span of one request.

        Args:
            traceparent: the caller's header, as received; empty or nonsense starts a new trace.
            tracestate: the same; nonsense is left out.
            request_id: what the caller is told as `x-amzn-RequestId`.
            endpoint: name of the endpoint that this router serves.
            named: the endpoint's name in the caller's path, valid but perhaps another one; empty: the path has none.
            streamed: whether the path asks for an event stream.
        """

    def close(self, seconds: float) -> None:
        """Sends what is left, for at most `seconds`; blocks."""


class InvalidTracing(Exception):  # noqa: N818 - names the thing that is wrong
    """The environment asks for traces that this router can't send; the message names the variable and a remedy."""


def make(environment: Mapping[str, str]) -> Tracer | None:
    """The tracer that `environment` asks for, if it does. Its thread runs from here on.

    Raises:
        InvalidTracing: if it asks for one that can't be had.
    """
    variable = _asked_by(environment)
    if not variable:
        return None
    _check(environment)
    try:
        from mce_router import spans  # noqa: PLC0415 - a third of a second that only a traced router pays
    except ModuleNotFoundError as error:
        raise InvalidTracing(
            f"{variable} asks for traces, but OpenTelemetry is not installed ({error.name} is missing): "
            "pip install mce[router,otel]"
        ) from error
    try:
        return spans.tracer()
    except (ValueError, OSError, RuntimeError) as error:  # the SDK's ways to say that a variable of its own is wrong
        raise InvalidTracing(f"{variable} asks for traces, but OpenTelemetry refuses its settings: {error}") from error


def _asked_by(environment: Mapping[str, str]) -> str:
    """The variable that asks for traces; empty: none does, or another one forbids it."""
    exporter = environment.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true" or exporter == "none":
        return ""
    return next((name for name in (*_ENDPOINTS, "OTEL_TRACES_EXPORTER") if environment.get(name, "").strip()), "")


def _check(environment: Mapping[str, str]) -> None:
    """What the SDK would take without a word, to fail at each export.

    Raises:
        InvalidTracing: with the variable.
    """
    exporter = environment.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if exporter not in ("", "otlp"):
        raise InvalidTracing(f"OTEL_TRACES_EXPORTER is {exporter!r}; this router has otlp and none.")
    name = next((name for name in _PROTOCOLS if environment.get(name, "").strip()), "")
    if name and environment[name].strip().lower() != "http/protobuf":
        raise InvalidTracing(
            f"{name} is {environment[name]!r}; this router speaks http/protobuf only (collectors take it on port 4318)."
        )
    name = next((name for name in _ENDPOINTS if environment.get(name, "").strip()), "")
    if name and not _is_plain_url(environment[name]):
        # The value is not repeated: it may hold a password, and the exporter would log it at each failure.
        raise InvalidTracing(
            f"{name} is not of the form http://HOST:PORT or https://HOST/PATH, without user, password or query; "
            "credentials go into OTEL_EXPORTER_OTLP_HEADERS."
        )


def _is_plain_url(text: str) -> bool:
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        return False
    bare = "@" not in url.netloc and not url.query and not url.fragment
    return url.scheme in ("http", "https") and bool(url.hostname) and port != 0 and bare and text == text.strip()
