import json
import logging
import sys
from pathlib import Path
from typing import Any

import pytest

from mce_kit.logs import Line


def line(event: str, *values: object, error: BaseException | None = None, **extra: object) -> dict[str, Any]:
    given = (type(error), error, error.__traceback__) if error else None
    record = logging.getLogger("mce.test").makeRecord(
        "mce.test", logging.INFO, "f.py", 1, event, values, given, extra=extra
    )
    text = Line().format(record)
    assert "\n" not in text
    parsed: dict[str, Any] = json.loads(text)
    return parsed


def test_a_record_is_time_level_logger_event_and_what_came_along() -> None:
    told = line("table %s", "loaded", targets=["a", "B"], inflight=0)
    assert list(told) == ["time", "level", "logger", "event", "targets", "inflight"]
    del told["time"]
    assert told == {
        "level": "INFO",
        "logger": "mce.test",
        "event": "table loaded",
        "targets": ["a", "B"],
        "inflight": 0,
    }


def test_a_failure_stays_on_one_line_with_its_traceback() -> None:
    with pytest.raises(ValueError, match="no") as failed:
        int("no")
    told = line("task failed", error=failed.value)
    assert told["exc_info"].startswith("Traceback")
    assert told["exc_info"].endswith("with base 10: 'no'")


@pytest.mark.parametrize("value", [Path("/x"), 1 + 2j, "\ud800", "a\nb", {"k": Path("/x")}])
def test_nothing_that_comes_along_breaks_a_line(value: object) -> None:
    assert "value" in line("event", value=value)


def test_no_field_of_pythons_own_is_told() -> None:
    told = line("event")
    assert told.keys() == {"time", "level", "logger", "event"}, sys.version
