import base64
import time

import pytest

from mce_api.endpoint import Container
from mce_operator import scrub

CONTAINER = Container.model_validate(
    {
        "name": "a",
        "image": "a:1",
        "env": [
            {"name": "DB_PASSWORD", "value": "hunter2-hunter2"},
            {"name": "AUTH_ENABLED", "value": "true"},
            {"name": "MODEL_NAME", "value": "resnet"},
            {"name": "SIGNING_KEY", "value": "-----BEGIN X-----\nMIIEvQIBADANBgkqhkiG9w0B\n-----END X-----"},
            {"name": "API_TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
        ],
    }
)
SECRETS = scrub.own_secrets(CONTAINER)
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dBjftJeZ4CVPmB92K27uhbUJU1p1r_wW1gFWFOEjXk"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("login with hunter2-hunter2 failed", "login with *** failed", id="own variable"),
        pytest.param(f"Basic {base64.b64encode(b'hunter2-hunter2').decode()}", "Basic ***", id="own variable, encoded"),
        pytest.param("key line MIIEvQIBADANBgkqhkiG9w0B", "key line ***", id="a line of an own variable"),
        pytest.param("resnet is true", "resnet is true", id="what is no secret stays"),
        pytest.param("no access for AKIAIOSFODNN7EXAMPLE", "no access for ***", id="AWS key id"),
        pytest.param("with wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEK3Y", "with ***", id="AWS secret key"),
        pytest.param("sha 2fd4e1c67a2d28fced849ee1bb76e7391b93eb12", None, id="a hash is no secret key"),
        pytest.param("/usr/lib/python3/site-packages/torch/nn/x.py", None, id="nor is a path"),
        pytest.param("Authorization: Bearer abc.def-ghi", "Authorization: *** ***", id="header"),
        pytest.param("sent bearer abcdef123456", "sent bearer ***", id="bearer token"),
        pytest.param(f"got {JWT} from", "got *** from", id="JWT"),
        pytest.param("postgres://me:pass@db:5432/x", "postgres://***@db:5432/x", id="password in a URL"),
        pytest.param(
            "https://host/path?a=1&X-Amz-Signature=abc&b=2",
            "https://host/path?a=1&X-Amz-Signature=***&b=2",
            id="signed URL",
        ),
        pytest.param('{"password": "p w", "a": 1}', '{"password": ***, "a": 1}', id="JSON"),
        pytest.param("MY_API_KEY=abc", "MY_API_KEY=***", id="assignment"),
        pytest.param(
            "ghp_0123456789abcdefghijABCDEFGHIJ and hf_abcdefghijklmnopqrstuv", "*** and ***", id="known prefixes"
        ),
        pytest.param("\x1b[31mred\x1b[0m \x1b]0;title\x07plain\x00\x08", "red plain", id="colours and controls"),
        pytest.param("hun\x1b[0mter2-hunter2", "***", id="a secret with a colour in it"),
        pytest.param("a\u202egnp\u200b", "agnp", id="characters that turn or hide others"),
        pytest.param("KeyError: 'weights'", None, id="an ordinary error"),
    ],
)
def test_a_log_line_is_shown_without_secrets(text: str, expected: str | None) -> None:
    assert scrub.log_lines(text, SECRETS) == (expected or text,)


def test_a_private_key_is_taken_out_whole_also_when_its_head_or_its_end_is_cut_off() -> None:
    key = "-----BEGIN RSA PRIVATE KEY-----\nabc\ndef\n-----END RSA PRIVATE KEY-----"
    assert scrub.log_lines(f"before\n{key}\nafter") == ("before", "***", "after")
    assert scrub.log_lines("def\n-----END RSA PRIVATE KEY-----\nafter") == ("***", "after")
    assert scrub.log_lines("before\n-----BEGIN PRIVATE KEY-----\nabc") == ("before", "***")


def test_only_the_end_of_a_long_text_is_shown_and_never_half_a_word_of_its_beginning() -> None:
    lines = scrub.log_lines("er2-hunter2 is cut\n" + "".join(f"line {number}\n" for number in range(400)))
    assert lines == tuple(f"line {number}" for number in range(380, 400))
    assert scrub.log_lines("unter2-hunter2 " + "x" * 3000)[0] == "x" * scrub.LAST_CHARACTERS
    assert sum(map(len, scrub.log_lines("\n".join("y" * 500 for _ in range(20))))) <= scrub.LAST_CHARACTERS


def test_carriage_returns_make_lines_of_a_progress_bar() -> None:
    assert scrub.log_lines("10%\r50%\rfailed") == ("10%", "50%", "failed")


def test_a_message_is_one_line() -> None:
    assert scrub.shown("a\n  b\tc") == "a b c"
    assert scrub.shown("anonymous token: unexpected status") == "anonymous token: unexpected status"


@pytest.mark.parametrize(
    "piece", ["token", "a", "://", ":a", "\x1b[", "-----BEGIN PRIVATE KEY-----", "eyJ", "A1a/", "bearer ", "token= '"]
)
def test_no_text_takes_long(piece: str) -> None:
    begin = time.perf_counter()
    scrub.log_lines("\n" + piece * (20_000 // len(piece)), SECRETS)
    assert time.perf_counter() - begin < 1
