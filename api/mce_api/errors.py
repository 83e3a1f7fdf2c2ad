"""One table from what happened to how SageMaker's runtime says it: code, HTTP status, reason.

Rooms return a ``Refusal`` or ``ModelFailure`` that holds facts; only ``payload`` and the router's ``rescue`` turn them
into bytes. Codes and statuses are the service's own (botocore ``sagemaker-runtime``); a contract test reads them
from there. Texts marked "seen" are the real service's, the others follow its style.
"""

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from mce_api import wire


class Code(StrEnum):
    """Values of ``x-amzn-ErrorType``."""

    VALIDATION_ERROR = "ValidationError"
    MODEL_ERROR = "ModelError"
    INTERNAL_FAILURE = "InternalFailure"
    SERVICE_UNAVAILABLE = "ServiceUnavailable"
    MODEL_NOT_READY = "ModelNotReadyException"


class Reason(StrEnum):
    """Why a request did not get a model's answer: machine-readable, a metric label, a closed list."""

    TARGET_MISSING = "TargetMissing"
    TARGET_UNKNOWN = "TargetUnknown"
    TARGET_INVALID = "TargetInvalid"
    TARGET_NOT_SUPPORTED = "TargetNotSupported"
    TARGET_MODEL_NOT_SUPPORTED = "TargetModelNotSupported"
    VARIANT_UNKNOWN = "VariantUnknown"
    ENDPOINT_UNKNOWN = "EndpointUnknown"
    HEADER_INVALID = "HeaderInvalid"
    PATH_UNKNOWN = "PathUnknown"
    METHOD_NOT_ALLOWED = "MethodNotAllowed"
    BAD_REQUEST = "BadRequest"
    UNSUPPORTED = "Unsupported"
    VERSION_UNSUPPORTED = "VersionUnsupported"
    HEADERS_TOO_LARGE = "HeadersTooLarge"
    BODY_TOO_LARGE = "BodyTooLarge"
    REQUEST_TIMEOUT = "RequestTimeout"
    CONTAINER_BUSY = "ContainerBusy"
    ENDPOINT_BUSY = "EndpointBusy"
    CONNECTION_LIMIT = "ConnectionLimit"
    MEMORY_LIMIT = "MemoryLimit"
    CONTAINER_NOT_READY = "ContainerNotReady"
    CLIENT_ERROR = "ClientErrorFromModel"
    SERVER_ERROR = "ServerErrorFromModel"
    MODEL_TIMEOUT = "ModelTimeout"
    MODEL_UNREACHABLE = "ModelUnreachable"
    MODEL_IMPOSTOR = "ModelImpostor"
    MODEL_BROKE_OFF = "ModelBrokeOff"
    MODEL_BAD_REPLY = "ModelBadReply"
    MODEL_HEADERS_TOO_LARGE = "ModelHeadersTooLarge"
    HOP_TOO_LARGE = "HopTooLarge"
    INTERNAL = "Internal"


@dataclass(frozen=True, slots=True)
class Row:
    """How one reason looks outside."""

    code: Code | None
    """``None``: SageMaker's front HTTP stack answers this without an error type (a plain 4xx)."""
    status: int
    wire_code: str = ""
    """``ErrorCode`` member of the body; empty: none."""


_V: Final = Code.VALIDATION_ERROR
TABLE: Final[dict[Reason, Row]] = {
    Reason.TARGET_MISSING: Row(_V, 400, "TARGET_CONTAINER_HOSTNAME_MISSING"),
    Reason.TARGET_UNKNOWN: Row(_V, 400, "TARGET_CONTAINER_HOSTNAME_NOT_FOUND"),
    Reason.TARGET_INVALID: Row(_V, 400, "TARGET_CONTAINER_HOSTNAME_INVALID"),
    Reason.TARGET_NOT_SUPPORTED: Row(_V, 400, "TARGET_CONTAINER_HOSTNAME_NOT_SUPPORTED"),
    Reason.TARGET_MODEL_NOT_SUPPORTED: Row(_V, 400, "TARGET_MODEL_HEADER_NOT_SUPPORTED"),
    Reason.VARIANT_UNKNOWN: Row(_V, 400, "TARGET_VARIANT_NOT_FOUND"),
    Reason.ENDPOINT_UNKNOWN: Row(_V, 400),
    Reason.HEADER_INVALID: Row(_V, 400),
    Reason.PATH_UNKNOWN: Row(None, 404),
    Reason.METHOD_NOT_ALLOWED: Row(None, 405),
    Reason.BAD_REQUEST: Row(None, 400),
    Reason.UNSUPPORTED: Row(None, 501),
    Reason.VERSION_UNSUPPORTED: Row(None, 505),
    Reason.HEADERS_TOO_LARGE: Row(None, 431),
    Reason.BODY_TOO_LARGE: Row(None, 413),
    Reason.REQUEST_TIMEOUT: Row(None, 408),
    Reason.CONTAINER_BUSY: Row(Code.MODEL_NOT_READY, 429),
    Reason.ENDPOINT_BUSY: Row(Code.SERVICE_UNAVAILABLE, 503),
    Reason.CONNECTION_LIMIT: Row(Code.SERVICE_UNAVAILABLE, 503),
    Reason.MEMORY_LIMIT: Row(Code.SERVICE_UNAVAILABLE, 503),
    Reason.CONTAINER_NOT_READY: Row(Code.SERVICE_UNAVAILABLE, 503),
    Reason.CLIENT_ERROR: Row(Code.MODEL_ERROR, 424, "CLIENT_ERROR_FROM_MODEL"),
    Reason.SERVER_ERROR: Row(Code.MODEL_ERROR, 424, "INTERNAL_FAILURE_FROM_MODEL"),
    Reason.MODEL_TIMEOUT: Row(Code.MODEL_ERROR, 424, "INTERNAL_FAILURE_FROM_MODEL"),
    Reason.MODEL_UNREACHABLE: Row(Code.MODEL_ERROR, 424, "INTERNAL_FAILURE_FROM_MODEL"),
    Reason.MODEL_IMPOSTOR: Row(Code.MODEL_ERROR, 424, "INTERNAL_FAILURE_FROM_MODEL"),
    Reason.MODEL_BROKE_OFF: Row(Code.MODEL_ERROR, 424, "INTERNAL_FAILURE_FROM_MODEL"),
    Reason.MODEL_BAD_REPLY: Row(Code.MODEL_ERROR, 424, "INTERNAL_FAILURE_FROM_MODEL"),
    Reason.MODEL_HEADERS_TOO_LARGE: Row(Code.MODEL_ERROR, 424, "INTERNAL_FAILURE_FROM_MODEL"),
    Reason.HOP_TOO_LARGE: Row(Code.MODEL_ERROR, 424, "INTERNAL_FAILURE_FROM_MODEL"),
    Reason.INTERNAL: Row(Code.INTERNAL_FAILURE, 500),
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that no container saw."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class ModelFailure:
    """A container was asked and did not give a usable answer."""

    reason: Reason
    container: str
    message: str
    original_status: int = 0
    """The container's own status; 0 where it gave none (as the real service says, seen)."""
    original_message: str = ""


Failure = Refusal | ModelFailure


def payload(failure: Failure) -> bytes:
    """The JSON body of an error: members as the real service sends them.

    ``Message`` is cut at 2048 characters, the largest that the service model allows.
    """
    row = TABLE[failure.reason]
    body: dict[str, str | int] = {"Message": _bounded(failure.message)}
    if row.wire_code:
        body["ErrorCode"] = row.wire_code
    if isinstance(failure, ModelFailure):
        body["LogStreamArn"] = ""
        body["OriginalMessage"] = _bounded(failure.original_message)
        body["OriginalStatusCode"] = failure.original_status
    return json.dumps(body, separators=(",", ":")).encode()


def _bounded(text: str) -> str:
    limit = wire.MAX_MESSAGE_CHARACTERS
    return text if len(text) <= limit else text[: limit - 3] + "..."


# --- texts


def target_missing(endpoint: str, containers: tuple[str, ...]) -> Refusal:
    """Direct endpoint, no target header."""
    return Refusal(
        Reason.TARGET_MISSING,
        f"Endpoint {endpoint} is a multi-container endpoint with direct invocation and needs a target container "
        f"hostname header. Set {wire.TARGET_CONTAINER_HEADER} (boto3: TargetContainerHostname) to one of: "
        f"{', '.join(containers)}.",
    )


def target_unknown(endpoint: str, target: str, containers: tuple[str, ...]) -> Refusal:
    """Direct endpoint, a legal hostname that none of its containers has."""
    return Refusal(
        Reason.TARGET_UNKNOWN,
        f"Endpoint {endpoint} has no container with hostname {target}. Hostnames are compared with their case. "
        f"It has: {', '.join(containers)}.",
    )


def target_not_supported(endpoint: str) -> Refusal:
    """Serial endpoint with a target header."""
    return Refusal(
        Reason.TARGET_NOT_SUPPORTED,
        f"Endpoint {endpoint} is not a multi-container endpoint with direct invocation (its mode is Serial) and does "
        f"not support target container hostname header. Leave {wire.TARGET_CONTAINER_HEADER} out, or use mode Direct.",
    )


def constraint(value: str, member: str, pattern: str) -> str:
    """The service's text for a value outside its pattern (style of the control plane, inferred for the runtime)."""
    shown = value.encode("ascii", "backslashreplace").decode()[:128]
    return (
        f"1 validation error detected: Value '{shown}' at '{member}' failed to satisfy constraint: "
        f"Member must satisfy regular expression pattern: {pattern}"
    )


def model_status(container: str, status: int, body: str) -> ModelFailure:
    """A container answered with a status that is not 2xx (seen texts; 3xx is not followed)."""
    client = 400 <= status < 500  # noqa: PLR2004 - HTTP's own class borders
    kind = "client" if client else "server"
    reason = Reason.CLIENT_ERROR if client else Reason.SERVER_ERROR
    return ModelFailure(
        reason,
        container,
        f'Received {kind} error ({status}) from {container} with message "{body}".',
        status,
        body,
    )


def model_timeout(container: str, what: str, seconds: float) -> ModelFailure:
    """A container did not answer in time (seen text, with the budget that ran out)."""
    return ModelFailure(
        Reason.MODEL_TIMEOUT,
        container,
        f'Received server error (0) from {container} with message "Your invocation timed out while waiting for a '
        f"response from container {container}. Review the latency metrics for each container, resolve the issue, and "
        f'try again.". The {what} budget of {seconds:g} s ran out.',
    )


def model_unreachable(container: str, detail: str) -> ModelFailure:
    """No connection to a container."""
    return ModelFailure(
        Reason.MODEL_UNREACHABLE,
        container,
        f"Received server error (0) from {container}: could not connect ({detail}). The container is down, is still "
        f"starting, or does not listen on the port it was given ({wire.BIND_TO_PORT}).",
    )


def model_impostor(container: str, detail: str) -> ModelFailure:
    """A process of another user listens where a container should."""
    return ModelFailure(
        Reason.MODEL_IMPOSTOR,
        container,
        f"Received server error (0) from {container}: somebody else listens in its place ({detail}). Nothing was sent "
        f"there. Another container of the pod uses its port, which is its own ({wire.BIND_TO_PORT}).",
    )


def model_broke_off(container: str, detail: str) -> ModelFailure:
    """A container closed the connection before its answer was whole."""
    return ModelFailure(
        Reason.MODEL_BROKE_OFF,
        container,
        f"Received server error (0) from {container}: An error occurred while handling request as the model process "
        f"exited or closed the connection ({detail}).",
    )


def model_bad_reply(container: str, detail: str) -> ModelFailure:
    """A container's answer is not HTTP, or could be read in two ways."""
    return ModelFailure(
        Reason.MODEL_BAD_REPLY,
        container,
        f"Received server error (0) from {container}: its answer is not valid HTTP/1.1 ({detail}).",
    )


def model_headers_too_large(container: str) -> ModelFailure:
    """A container's header block is over the limit (seen text)."""
    return ModelFailure(
        Reason.MODEL_HEADERS_TOO_LARGE,
        container,
        f"Response received from the {container} container has headers with length greater than "
        f"{wire.MAX_CONTAINER_HEADER_BYTES} bytes. Reduce the length of your container's response headers and update "
        "your endpoint.",
    )


def hop_too_large(container: str, following: str, size: int, limit: int) -> ModelFailure:
    """A Serial step's output is too large for the next (documented text)."""
    mib = limit / (1024 * 1024)
    return ModelFailure(
        Reason.HOP_TOO_LARGE,
        container,
        f"Received response from {container} with status code 200. However, the request payload from {container} to "
        f"{following} is {size} bytes, which has exceeded the maximum limit of {mib:g} MB.",
        200,
    )
