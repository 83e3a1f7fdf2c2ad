import pytest

from mce_api.errors import ModelFailure, Reason
from mce_router import reply
from mce_router.invocation import CHUNKED, UNTIL_CLOSE, Headers, ReplyHead


def head(*headers: tuple[bytes, bytes], status: int = 200) -> ReplyHead | ModelFailure:
    return reply.head("c", status, "1.1", list(headers))


@pytest.mark.parametrize(
    ("headers", "length"),
    [
        ([(b"content-length", b"5")], 5),
        ([(b"transfer-encoding", b"chunked")], CHUNKED),
        ([], UNTIL_CLOSE),
    ],
)
def test_the_length_of_a_reply_is_known(headers: Headers, length: int) -> None:
    result = head(*headers)
    assert isinstance(result, ReplyHead)
    assert result.length == length


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param([(b"content-length", b"1"), (b"content-length", b"1")], id="length-twice"),
        pytest.param([(b"content-length", b"1"), (b"transfer-encoding", b"chunked")], id="both"),
        pytest.param([(b"transfer-encoding", b"gzip")], id="coding"),
        pytest.param([(b"content-length", b"-1")], id="negative"),
    ],
)
def test_an_ambiguous_reply_is_the_containers_failure(headers: Headers) -> None:
    result = head(*headers)
    assert isinstance(result, ModelFailure)
    assert result.reason is Reason.MODEL_BAD_REPLY


def test_headers_over_4096_bytes_are_the_containers_failure() -> None:
    result = head((b"x-big", b"a" * 4096))
    assert isinstance(result, ModelFailure)
    assert result.reason is Reason.MODEL_HEADERS_TOO_LARGE


def test_only_modelled_headers_reach_the_caller() -> None:
    result = head(
        (b"content-type", b"text/csv; charset=utf-8"),
        (b"server", b"gunicorn"),
        (b"set-cookie", b"a=b"),
        (b"x-amzn-sagemaker-custom-attributes", b"k=v"),
    )
    assert isinstance(result, ReplyHead)
    assert result.content_type == b"text/csv; charset=utf-8"
    assert result.passed == b"X-Amzn-SageMaker-Custom-Attributes: k=v\r\n"


@pytest.mark.parametrize(("status", "good"), [(199, False), (200, True), (204, True), (299, True), (300, False)])
def test_only_2xx_is_an_answer(status: int, good: bool) -> None:
    assert reply.is_success(status) is good


def test_a_204_has_no_body() -> None:
    result = head(status=204)
    assert isinstance(result, ReplyHead)
    assert result.length == 0
