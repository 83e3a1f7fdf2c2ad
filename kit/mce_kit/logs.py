"""Logs as JSON lines: an event name and key/value pairs; never bodies, headers of callers or secrets."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Final

_NOT_EXTRA: Final = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"})
"""What Python's own records have; everything else came with `extra`."""


class Line(logging.Formatter):
    """One record as one line: time, level, logger, event, then what came with `extra`, in its order."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "event": record.getMessage(),
        }
        line |= {key: value for key, value in vars(record).items() if key not in _NOT_EXTRA}
        if record.exc_info:
            line["exc_info"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def configure(level: str) -> None:
    """Sends every logger's records of `level` and above to standard error as JSON lines.

    Raises:
        ValueError: if `level` is not one of Python's level names.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Line())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
