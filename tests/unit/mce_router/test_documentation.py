"""docs/router.md says of errors, limits and options what the code does."""

import re
from pathlib import Path

import pytest

from mce_api import errors
from mce_api.endpoint import Container
from mce_api.endpoint import Limits as ResourceLimits
from mce_api.errors import Failure, ModelFailure, Reason, Refusal
from mce_api.pings import PingCause
from mce_api.routes import Limits, Target
from mce_router import headers, rescue, settings

DOCUMENT = (Path(__file__).resolve().parents[3] / "docs" / "router.md").read_text()
TARGET = Target(name="a", port=1)
FIELDS = {
    "limits.maxRequestBytes": Limits().max_request_bytes,
    "limits.maxHopBytes": Limits().max_hop_bytes,
    "limits.maxConcurrency": Limits().max_concurrency,
    "limits.maxInvocationSeconds": Limits().max_invocation_seconds,
    "maxConcurrency": TARGET.max_concurrency,
    "invocationTimeoutSeconds": TARGET.invocation_timeout_seconds,
}
NOT_LIMITS = {"table", "listen", "admin", "workers", "access_log", "table_poll_seconds", "log_level"}


def table(section: str, first_cell: str) -> list[list[str]]:
    """Rows of the table of a section whose first column is called `first_cell`, cells stripped of blanks."""
    lines = DOCUMENT.partition(f"\n## {section}\n")[2].partition("\n## ")[0].splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {first_cell} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def failure(reason: Reason) -> Failure:
    if errors.TABLE[reason].code is errors.Code.MODEL_ERROR:
        return ModelFailure(reason, "a", "m")
    return Refusal(reason, "m")


def sent(reason: Reason) -> dict[str, str]:
    """The head that a caller gets: its lines by name, and the status."""
    head = rescue.response(failure(reason), b"id", close=False).partition(b"\r\n\r\n")[0].decode()
    status, *lines = head.split("\r\n")
    return {"status": status.split(" ")[1], **dict(line.split(": ", 1) for line in lines)}


@pytest.mark.parametrize("reason", Reason)
def test_the_table_of_errors_says_what_a_caller_gets(reason: Reason) -> None:
    (row,) = (row for row in table("Errors", "`x-mce-reason`") if row[0] == f"`{reason}`")
    head = sent(reason)
    kind = head.get("x-amzn-ErrorType")
    assert row[1:5] == [
        head["status"],
        f"`{kind}`" if kind else "",
        head.get("retry-after", ""),
        rescue.metric_class(reason),
    ]


def test_the_table_of_errors_has_every_reason_once_in_their_order() -> None:
    assert [row[0] for row in table("Errors", "`x-mce-reason`")] == [f"`{reason}`" for reason in Reason]


def test_the_table_of_limits_has_every_option_and_field_with_its_default() -> None:
    given = settings.parse(["--table", "t", "--listen", "h:1", "--admin", "h:2"])
    options = {
        f"--{name.replace('_', '-')}": getattr(given, name)
        for name in settings.Settings.__dataclass_fields__
        if name not in NOT_LIMITS
    }
    documented = {row[2].split("`")[1]: float(row[1]) for row in table("Limits and timers", "what")}
    assert documented == {**FIELDS, **options}


def test_a_resource_has_the_defaults_of_the_table() -> None:
    limits = ResourceLimits()
    container = Container(name="a", image="i")
    assert [limits.max_request_bytes, limits.max_hop_bytes, limits.max_concurrency] == list(FIELDS.values())[:3]
    assert container.max_concurrency == FIELDS["maxConcurrency"]
    assert container.invocation_timeout_seconds == FIELDS["invocationTimeoutSeconds"]


@pytest.mark.parametrize(
    ("section", "first_cell"),
    [("Limits and timers", "what"), ("What is refused", "a request with"), ("What is refused", "a container")],
)
def test_a_status_and_a_reason_that_are_named_together_belong_together(section: str, first_cell: str) -> None:
    named = [pair for row in table(section, first_cell) for pair in re.findall(r"(\d{3}) `(\w+)`", row[-1])]
    assert named
    assert {(status, reason) for status, reason in named if str(errors.TABLE[Reason(reason)].status) != status} == set()


def test_the_table_of_headers_has_each_known_header_with_its_largest_length() -> None:
    lengths = {row[0].strip("`").lower(): row[2] for row in table("Calling it", "of a request")}
    for name, most in headers.MAX_LENGTHS.items():
        assert lengths[name.decode()].removesuffix(" bytes") == str(most)


def test_the_paths_of_a_container_have_the_defaults_of_the_table() -> None:
    container = Container(name="a", image="i")
    documented = {row[0]: row[1].strip("`") for row in table("Calling it", "field")}
    assert documented == {"`pingPath`": TARGET.ping_path, "`invocationsPath`": TARGET.invocations_path}
    assert [container.ping_path, container.invocations_path] == list(documented.values())


def test_the_table_of_causes_has_every_word_once() -> None:
    assert [row[0] for row in table("The admin port", "`cause`")] == [f"`{cause}`" for cause in PingCause]
