import json

from mce_api import errors, wire
from mce_api.errors import TABLE, Code, ModelFailure, Reason


def test_every_reason_has_a_row() -> None:
    assert set(TABLE) == set(Reason)


def test_every_model_error_is_a_424() -> None:
    rows = [row for row in TABLE.values() if row.code is Code.MODEL_ERROR]
    assert rows
    assert {row.status for row in rows} == {424}


def test_a_long_message_is_cut_where_the_service_cuts() -> None:
    failure = errors.model_status("c", 500, "x" * 10_000)
    body = json.loads(errors.payload(failure))
    assert len(body["Message"]) == wire.MAX_MESSAGE_CHARACTERS
    assert len(body["OriginalMessage"]) == wire.MAX_MESSAGE_CHARACTERS


def test_a_model_error_carries_the_containers_own_words() -> None:
    body = json.loads(errors.payload(errors.model_status("tensorflow-mnist", 404, "no such model")))
    assert body["OriginalStatusCode"] == 404
    assert body["OriginalMessage"] == "no such model"
    assert body["Message"].startswith('Received client error (404) from tensorflow-mnist with message "no such model"')


def test_a_timeout_says_which_budget_ran_out() -> None:
    failure = errors.model_timeout("a", "invocation", 60)
    assert isinstance(failure, ModelFailure)
    assert failure.original_status == 0
    assert "The invocation budget of 60 s ran out." in failure.message


def test_a_hop_over_the_limit_is_said_in_the_documented_words() -> None:
    message = errors.hop_too_large("one", "two", 6_000_000, wire.MAX_HOP_BYTES).message
    assert message == (
        "Received response from one with status code 200. However, the request payload from one to two is 6000000 "
        "bytes, which has exceeded the maximum limit of 5 MB."
    )
