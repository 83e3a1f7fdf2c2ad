"""Every input that ever taught us something keeps the law."""

from pathlib import Path

import pytest

from support import law

CORPUS = Path(__file__).with_name("corpus")


def _inputs(kind: str) -> list[object]:
    return [pytest.param(path.read_bytes(), id=path.name) for path in sorted((CORPUS / kind).iterdir())]


@pytest.mark.parametrize("data", _inputs("requests"))
def test_a_request_of_the_corpus_is_forwarded_as_one_or_refused(data: bytes) -> None:
    law.request_bytes(data)


@pytest.mark.parametrize("data", _inputs("replies"))
def test_a_reply_of_the_corpus_is_an_answer_only_where_h11_reads_the_same(data: bytes) -> None:
    law.reply_bytes(data)
