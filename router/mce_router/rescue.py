"""From what went wrong to the bytes that a caller sees. The only place that writes an error."""

from typing import Final

from mce_api import errors, wire
from mce_api.errors import Code, Failure, Reason
from mce_router import headers

_RETRY_AFTER: Final = {
    Reason.CONTAINER_NOT_READY: b"5",
    Reason.CONTAINER_BUSY: b"1",
    Reason.ENDPOINT_BUSY: b"1",
    Reason.CONNECTION_LIMIT: b"1",
    Reason.MEMORY_LIMIT: b"1",
}
_ALLOW: Final = b"allow: POST, GET\r\n"


def response(failure: Failure, request_id: bytes, *, close: bool, extra: bytes = b"") -> bytes:
    """A whole HTTP response; `extra` are more header lines.

    A row of the table without a code is what SageMaker's front HTTP stack answers by itself (413, 400): no error type.
    """
    row = errors.TABLE[failure.reason]
    body = errors.payload(failure)
    lines = [
        headers.status_line(row.status),
        b"%b: %b\r\n" % (wire.REQUEST_ID.encode(), request_id),
        b"%b: %b\r\n" % (wire.REASON.encode(), failure.reason.value.encode()),
        b"content-type: application/json\r\ncontent-length: %d\r\n" % len(body),
    ]
    if row.code is not None:
        lines.append(b"%b: %b\r\n" % (wire.ERROR_TYPE.encode(), row.code.value.encode()))
    if failure.reason in _RETRY_AFTER:
        lines.append(b"retry-after: %b\r\n" % _RETRY_AFTER[failure.reason])
    if failure.reason is Reason.METHOD_NOT_ALLOWED:
        lines.append(_ALLOW)
    if close:
        lines.append(b"connection: close\r\n")
    lines.append(extra)
    return b"".join((*lines, b"\r\n", body))


def metric_class(reason: Reason) -> str:
    """`4xx` or `5xx` as CloudWatch counts: by the container's own status where it gave one, else by ours."""
    row = errors.TABLE[reason]
    if row.code is Code.MODEL_ERROR:
        return "4xx" if reason is Reason.CLIENT_ERROR else "5xx"
    return "4xx" if row.status < 500 else "5xx"  # noqa: PLR2004 - HTTP's own class border
