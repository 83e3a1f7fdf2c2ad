"""botocore as the other side of an event stream."""

import json

import pytest
from botocore.eventstream import EventStreamBuffer

from mce_api.errors import Failure, ModelFailure, Reason, Refusal
from mce_router import eventstream

VECTOR = bytes.fromhex(
    "0000006e000000595197ff150b3a6576656e742d7479706507000b5061796c6f6164506172740d3a636f6e74656e742d747970650700186170"
    "706c69636174696f6e2f6f637465742d73747265616d0d3a6d6573736167652d747970650700056576656e7468656c6c6f29738ab4"
)


def test_a_part_is_the_bytes_that_the_service_sends() -> None:
    assert eventstream.parts(b"hello") == VECTOR


@pytest.mark.parametrize("size", [1, 65535, 65536, 65537, 200_000])
def test_botocore_reads_parts_of_any_size(size: int) -> None:
    buffer = EventStreamBuffer()
    buffer.add_data(eventstream.parts(b"x" * size))
    assert sum(len(event.payload) for event in buffer) == size


@pytest.mark.parametrize(
    ("failure", "kind", "code"),
    [
        (ModelFailure(Reason.MODEL_TIMEOUT, "a", "m"), "ModelStreamError", "ModelInvocationTimeExceeded"),
        (ModelFailure(Reason.MODEL_BROKE_OFF, "a", "m"), "ModelStreamError", "StreamBroken"),
        (Refusal(Reason.INTERNAL, "m"), "InternalStreamFailure", None),
    ],
)
def test_botocore_reads_an_exception(failure: Failure, kind: str, code: str | None) -> None:
    buffer = EventStreamBuffer()
    buffer.add_data(eventstream.exception(failure))
    (event,) = buffer
    response = event.to_response_dict()
    assert response["headers"][":exception-type"] == kind
    assert response["status_code"] == 400
    assert json.loads(event.payload).get("ErrorCode") == code
