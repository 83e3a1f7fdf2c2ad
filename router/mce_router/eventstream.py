"""AWS event-stream frames: how a streamed answer is cut and how its failure is told. Pure.

Frame, big endian: u32 whole length, u32 length of headers, u32 CRC-32 of those eight bytes, headers, payload, u32
CRC-32 of all before. Header: u8 length of name, name, u8 7 (a string), u16 length of value, value. Source: botocore
`eventstream.py`, which is also the judge in tests/contract.
"""

import json
from struct import Struct
from typing import Final
from zlib import crc32

from mce_api.errors import Failure, ModelFailure, Reason

PART_BYTES: Final = 65536
"""Largest payload of one frame. The format allows 16 MiB; smaller frames cost a reader less memory."""
_PRELUDE: Final = Struct(">II")
_CRC: Final = Struct(">I")
_STRING: Final = 7


def _headers(**values: str) -> bytes:
    lines = bytearray()
    for name, value in values.items():
        key = b":" + name.replace("_", "-").encode()
        lines += bytes((len(key),)) + key + bytes((_STRING,)) + len(value).to_bytes(2, "big") + value.encode()
    return bytes(lines)


_PART_HEADERS: Final = _headers(event_type="PayloadPart", content_type="application/octet-stream", message_type="event")


def _frame(headers: bytes, payload: bytes) -> bytes:
    prelude = _PRELUDE.pack(16 + len(headers) + len(payload), len(headers))
    start = prelude + _CRC.pack(crc32(prelude)) + headers
    return b"%b%b%b" % (start, payload, _CRC.pack(crc32(payload, crc32(start))))


def parts(data: bytes) -> bytes:
    """`data` as PayloadPart events: one, or as many as its size needs."""
    if len(data) <= PART_BYTES:
        return _frame(_PART_HEADERS, data)
    cuts = range(0, len(data), PART_BYTES)
    return b"".join(_frame(_PART_HEADERS, data[start : start + PART_BYTES]) for start in cuts)


def exception(failure: Failure) -> bytes:
    """The event that tells of `failure` after the first byte of an answer.

    Types and members: botocore `ModelStreamError`, `InternalStreamFailure`.
    """
    if isinstance(failure, ModelFailure):
        code = "ModelInvocationTimeExceeded" if failure.reason is Reason.MODEL_TIMEOUT else "StreamBroken"
        kind, body = "ModelStreamError", {"Message": failure.message, "ErrorCode": code}
    else:
        kind, body = "InternalStreamFailure", {"Message": failure.message}
    headers = _headers(exception_type=kind, content_type="application/json", message_type="exception")
    return _frame(headers, json.dumps(body).encode())
