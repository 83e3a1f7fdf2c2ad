"""Damage for bytes of HTTP: what smugglers and broken clients do, by a seeded generator."""

import random
import re
from collections.abc import Callable, Sequence
from typing import Final

TOKENS: Final = (
    b"\r\n", b"\n", b"\r", b"\r\r\n", b"\n\n", b"\r\n\r\n", b"\r\n ", b"\r\n\t", b"\0", b"\t", b" ", b"\x0b", b"\x0c",
    b"\x7f", b"\x80", b"\xa0", b"\xff", b"\xed\xa0\x80", b"\xc3\xbf", b":", b"::", b";", b",", b"0", b"-", b"+", b"0x",
    b"_", b"#", b"?", b"%0d%0a", b"%00", b"/../", b"\r\n0\r\n\r\n", b"0\r\n\r\n", b";a=b", b";\r", b'"', b"\\",
    b"\r\nContent-Length: 0", b"\r\nContent-Length: 5", b"\r\nContent-Length: 1, 1", b"\r\nContent-Length : 5",
    b"\r\nContent_Length: 3", b"\r\nContent-Length:\x0b5", b"\r\nTransfer-Encoding: chunked",
    b"\r\nTransfer-Encoding: identity", b"\r\nTransfer-Encoding: xchunked", b"\r\nTransfer-Encoding:\x0bchunked",
    b"\r\nTransfer_Encoding: chunked", b"\r\n Transfer-Encoding: chunked", b"\r\nTransfer-Encoding: chunked, chunked",
    b"\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    b"\r\nTE: trailers", b"\r\nTrailer: Content-Length",
    b"\r\nHost: other", b"\r\nHost:", b"\r\nConnection: close", b"\r\nConnection: keep-alive, Content-Length",
    b"\r\nConnection: Upgrade\r\nUpgrade: h2c", b"\r\nExpect: 100-continue", b"\r\nExpect: x",
    b"\r\nUpgrade: websocket",
    b"\r\nX-Amzn-SageMaker-Target-Container-Hostname: other", b"\r\nx_amzn_sagemaker_target_container_hostname: other",
    b"\r\nContent-Type: b", b"\r\nProxy-Connection: close", b"\r\nX-Ignored: \xff\xfe",
    b"HTTP/1.0", b"HTTP/2.0", b"HTTP/0.9", b"HTTP/1.2", b"http/1.1", b"RTSP/1.1", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET ", b"get ", b"CONNECT a:1 HTTP/1.1", b"http://h/invocations", b"//invocations", b"*",
    b"999999999999999999999999", b"18446744073709551616", b"-1", b"+5", b"0x5", b"00000000000000000005", b"5 5",
    b"ffffffffffffffff", b"fffffffffffffffff", b"7fffffffffffffff", b"GET /ping HTTP/1.1\r\nHost: m\r\n\r\n",
)  # fmt: skip
_NUMBER: Final = re.compile(rb"[0-9a-fA-F]+")
_Damage = Callable[[random.Random, bytes], bytes]


def _positions(data: bytes) -> list[int]:
    """Where damage is most likely to be read in two ways: around line ends, colons, spaces, digits of the framing."""
    found = [match.start() + offset for match in re.finditer(rb"[\r\n: ;,]|\b[0-9]", data) for offset in (0, 1)]
    return [at for at in found if at <= len(data)] or [0]


def _at(dice: random.Random, data: bytes) -> int:
    return dice.choice(_positions(data)) if dice.random() < 0.7 else dice.randrange(len(data) + 1)


def _flip(dice: random.Random, data: bytes) -> bytes:
    at = min(_at(dice, data), len(data) - 1)
    return data[:at] + bytes([data[at] ^ (1 << dice.randrange(8))]) + data[at + 1 :]


def _insert(dice: random.Random, data: bytes) -> bytes:
    at = _at(dice, data)
    return data[:at] + dice.choice(TOKENS) + data[at:]


def _replace(dice: random.Random, data: bytes) -> bytes:
    at = _at(dice, data)
    return data[:at] + dice.choice(TOKENS) + data[at + dice.randint(1, 8) :]


def _delete(dice: random.Random, data: bytes) -> bytes:
    at = _at(dice, data)
    return data[:at] + data[at + dice.choice((1, 1, 1, 2, 5, 20)) :]


def _duplicate(dice: random.Random, data: bytes) -> bytes:
    at = _at(dice, data)
    return data[:at] + data[at : at + dice.randint(1, 40)] + data[at:]


def _repeat_line(dice: random.Random, data: bytes) -> bytes:
    lines = data.split(b"\r\n")
    at = dice.randrange(len(lines))
    return b"\r\n".join([*lines[: at + 1], lines[at], *lines[at + 1 :]])


def _swap_lines(dice: random.Random, data: bytes) -> bytes:
    lines = data.split(b"\r\n")
    first, second = dice.randrange(len(lines)), dice.randrange(len(lines))
    lines[first], lines[second] = lines[second], lines[first]
    return b"\r\n".join(lines)


def _change_case(dice: random.Random, data: bytes) -> bytes:
    at, size = dice.randrange(len(data)), dice.randint(1, 30)
    return data[:at] + data[at : at + size].swapcase() + data[at + size :]


def _change_number(dice: random.Random, data: bytes) -> bytes:
    found = list(_NUMBER.finditer(data))
    if not found:
        return data
    match = dice.choice(found)
    try:
        by = int(match[0]) + dice.choice((-2, -1, 1, 2, 10, 1 << 31, 1 << 32, 1 << 63, 1 << 64))
        text = b"%d" % by
    except ValueError:
        text = dice.choice((b"0", b"ff", b"-1", match[0] * 4))
    return data[: match.start()] + text + data[match.end() :]


def _cut(dice: random.Random, data: bytes) -> bytes:
    return data[: dice.randrange(1, len(data) + 1)]


_DAMAGES: Final[tuple[_Damage, ...]] = (
    _flip, _insert, _insert, _insert, _replace, _delete, _duplicate, _repeat_line, _swap_lines, _change_case,
    _change_number, _change_number, _cut,
)  # fmt: skip


def damaged(dice: random.Random, data: bytes) -> bytes:
    """`data` with one to three damages."""
    for _ in range(dice.choice((1, 1, 1, 2, 3))):
        data = dice.choice(_DAMAGES)(dice, data) or data
    return data


def spliced(dice: random.Random, parts: Sequence[bytes]) -> bytes:
    """The start of one of `parts`, then the end of another."""
    one, two = dice.choice(parts), dice.choice(parts)
    return one[: dice.randrange(1, len(one) + 1)] + two[dice.randrange(len(two)) :]
