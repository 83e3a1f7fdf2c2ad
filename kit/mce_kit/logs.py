"""Logs as JSON lines: an event name and key/value pairs; never bodies, headers of callers or secrets."""

import logging
import sys
from typing import Final

from pythonjsonlogger.json import JsonFormatter

_FIELDS: Final = "%(asctime)s %(levelname)s %(name)s %(message)s"
_NAMES: Final = {"asctime": "time", "levelname": "level", "name": "logger", "message": "event"}


def configure(level: str) -> None:
    """Sends every logger's records of `level` and above to standard error as JSON lines.

    Raises:
        ValueError: if `level` is not one of Python's level names.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(_FIELDS, rename_fields=_NAMES))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
