"""The tail of a log file."""

from pathlib import Path
from typing import Final

_TAIL_BYTES: Final = 64 * 1024


def size(path: Path) -> int:
    """Bytes in it by now; 0 if it is not there."""
    return path.stat().st_size if path.exists() else 0


def tail(path: Path, lines: int, offset: int = 0) -> tuple[str, ...]:
    """The last `lines` lines written after `offset`, without control characters."""
    if not path.exists():
        return ()
    with path.open("rb") as file:
        file.seek(max(offset, size(path) - _TAIL_BYTES))
        text = file.read().decode("utf-8", "replace")
    return tuple(_printable(line) for line in text.splitlines()[-lines:])


def _printable(line: str) -> str:
    return "".join(character if character.isprintable() or character == "\t" else "?" for character in line)
