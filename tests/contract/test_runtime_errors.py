"""botocore as the other side: it must read every error that we write, and know every code that we use."""

from typing import Any

import botocore.loaders
import botocore.model
import botocore.parsers
import pytest

from mce_api.errors import TABLE, Code, Failure, ModelFailure, Reason, Refusal
from mce_router import rescue

MODEL = botocore.model.ServiceModel(botocore.loaders.Loader().load_service_model("sagemaker-runtime", "service-2"))
SHAPE = MODEL.operation_model("InvokeEndpoint").output_shape
REQUEST_ID = b"00000000-0000-4000-a000-000000000001"


def failure(reason: Reason) -> Failure:
    if TABLE[reason].code is Code.MODEL_ERROR:
        return ModelFailure(reason, "pytorch-mnist", "what happened", 503, "the model's words")
    return Refusal(reason, "what happened")


def read(raw: bytes) -> dict[str, Any]:
    head, _, body = raw.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    response = {"status_code": int(status.split()[1]), "headers": headers, "body": body}
    parsed: dict[str, Any] = botocore.parsers.create_parser("rest-json").parse(response, SHAPE)
    return parsed


@pytest.mark.parametrize("reason", Reason)
def test_botocore_reads_every_error(reason: Reason) -> None:
    row = TABLE[reason]
    parsed = read(rescue.response(failure(reason), REQUEST_ID, close=False))
    assert parsed["ResponseMetadata"]["HTTPStatusCode"] == row.status
    assert parsed["ResponseMetadata"]["RequestId"] == REQUEST_ID.decode()
    assert parsed["Error"]["Message"] == "what happened"
    if row.code is not None:
        assert parsed["Error"]["Code"] == row.code


@pytest.mark.parametrize("code", Code)
def test_every_code_is_one_of_the_services_own_with_its_status(code: Code) -> None:
    shape = MODEL.shape_for(MODEL.shape_for_error_code(code).name)
    assert {row.status for row in TABLE.values() if row.code is code} == {shape.metadata["error"]["httpStatusCode"]}


def test_a_model_error_has_the_members_that_the_service_models() -> None:
    members = set(MODEL.shape_for("ModelError").members)
    assert members == {"Message", "OriginalStatusCode", "OriginalMessage", "LogStreamArn"}
    parsed = read(rescue.response(failure(Reason.SERVER_ERROR), REQUEST_ID, close=True))
    assert parsed["Error"]["Code"] == "ModelError"


def test_a_reply_to_a_framing_error_closes_and_has_no_error_type() -> None:
    raw = rescue.response(failure(Reason.BODY_TOO_LARGE), REQUEST_ID, close=True)
    assert b"connection: close\r\n" in raw
    assert b"x-amzn-ErrorType" not in raw
    assert read(raw)["Error"]["Code"] in ("413", "")
