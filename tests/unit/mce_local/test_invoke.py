import json
import time
from pathlib import Path

import pytest

from mce_kit import clock
from mce_local import invoke, router
from mce_local.client import Client
from mce_local.errors import LocalError
from mce_local.invoke import Answer
from mce_local.router import Counts
from mce_local.settings import Settings


def answer(status: int, body: object, **headers: str) -> Answer:
    encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(status=status, headers=tuple((k.replace("_", "-"), v) for k, v in headers.items()), body=encoded)


def test_an_error_is_told_with_code_status_reason_and_message() -> None:
    refused = answer(
        400, {"Message": "No."}, x_amzn_errortype="ValidationError:http://x/", X_Mce_Reason="TargetUnknown"
    )
    assert not refused.is_success
    assert refused.explain() == "ValidationError (HTTP 400, TargetUnknown): No."


def test_what_the_container_said_is_told_too() -> None:
    body = {"Message": "Failed.", "OriginalStatusCode": 503, "OriginalMessage": "busy"}
    told = answer(424, body, x_amzn_errortype="ModelError").explain()
    assert told == "ModelError (HTTP 424): Failed.\nthe container said: 503 busy"


@pytest.mark.parametrize("body", [b"too large\n", b"\xff", b"[1]"])
def test_a_body_that_is_no_error_object_is_shown_as_it_is(body: bytes) -> None:
    assert (
        answer(413, body).explain() == f"Request Entity Too Large (HTTP 413): {body.decode(errors='replace').strip()}"
    )


@pytest.fixture
def client(tmp_path: Path) -> Client:
    return Client(settings=Settings(home=tmp_path, inherited={}, everything={}), clock=clock.system(), sleep=time.sleep)


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("http://h:1", "http://h:1/invocations"),
        ("http://h:1/", "http://h:1/invocations"),
        ("https://h/endpoints/e/invocations", "https://h/endpoints/e/invocations"),
    ],
)
def test_a_url_is_taken_as_it_is_and_gets_a_path_if_it_has_none(client: Client, given: str, url: str) -> None:
    assert invoke.resolve(client, given, None) == url


@pytest.mark.parametrize(
    ("given", "message"), [("ftp://h", "no http or https URL"), ("nope", r"no local endpoint nope \(running: none\)")]
)
def test_what_cannot_be_resolved_is_told(client: Client, given: str, message: str) -> None:
    with pytest.raises(LocalError, match=message):
        invoke.resolve(client, given, None)


def test_nobody_there_is_told_with_the_address() -> None:
    with pytest.raises(LocalError, match=r"no answer from http://127\.0\.0\.1:1/invocations: .*refused"):
        invoke.post("http://127.0.0.1:1/invocations", b"", {})


def test_counts_are_added_up_over_classes_and_kept_by_container() -> None:
    text = """\
# TYPE mce_container_invocations counter
mce_container_invocations_total{container="a"} 5
mce_container_invocations_total{container="b"} 0
# TYPE mce_container_errors counter
mce_container_errors_total{container="a",class="4xx"} 1
mce_container_errors_total{container="a",class="5xx"} 2
"""
    assert router.parse_counts(text) == {"a": Counts(invocations=5, errors=3), "b": Counts()}
