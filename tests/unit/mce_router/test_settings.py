"""The command line: every number has bounds, every message names the option, the value and the rule."""

import pytest

from mce_router import settings
from mce_router.settings import Address, Settings

NEEDED = ["--table", "t", "--listen", "127.0.0.1:8080", "--admin", ":8081"]
NUMBERS = [name for name, field in Settings.__dataclass_fields__.items() if name.endswith(("_seconds", "_bytes"))] + [
    "max_connections",
    "queue_length",
]
NUMBERS.remove("table_poll_seconds")  # no option
ZERO = {"drain_seconds", "grace_seconds", "queue_length", "queue_seconds"}


def flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "-1", "-0.5", "1e400", "", "x", "99999999999999999"])
@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_that_makes_no_sense_is_refused_by_name(
    name: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        settings.parse([*NEEDED, f"{flag(name)}={value}"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert f"argument {flag(name)}: {value!r} is not a " in said
    assert "number" in said


@pytest.mark.parametrize("name", NUMBERS)
def test_only_what_can_be_left_out_may_be_zero(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*NEEDED, f"{flag(name)}=0"]
    if name in ZERO:
        assert getattr(settings.parse(arguments), name) == 0
        return
    with pytest.raises(SystemExit):
        settings.parse(arguments)
    assert f"argument {flag(name)}: '0' is not a " in capsys.readouterr().err


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_keeps_the_type_of_its_default(name: str) -> None:
    kind = type(Settings.__dataclass_fields__[name].default)
    assert getattr(settings.parse([*NEEDED, f"{flag(name)}=7"]), name) == 7
    assert type(getattr(settings.parse([*NEEDED, f"{flag(name)}=7"]), name)) is kind


def test_what_is_left_out_has_the_default_of_the_settings() -> None:
    given = settings.parse(NEEDED)
    assert given == Settings(table=given.table, listen=given.listen, admin=given.admin)


def test_the_help_has_every_option_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        settings.parse(["--help"])
    said = " ".join(capsys.readouterr().out.split())
    for name, field in Settings.__dataclass_fields__.items():
        if name in {"table", "listen", "admin", "table_poll_seconds"}:
            continue
        own = said.rpartition(f"{flag(name)} ")[2].partition(" --")[0]
        assert f"(default {field.default})" in own, name


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (":80", Address(host="0.0.0.0", port=80)),
        ("[::1]:80", Address(host="::1", port=80)),
        ("::1:80", Address(host="::1", port=80)),
    ],
)
def test_an_address_is_read_back_as_it_is_written(text: str, address: Address) -> None:
    given = settings.parse(["--table", "t", "--admin", ":0", "--listen", text]).listen
    assert given == address
    assert settings.parse(["--table", "t", "--admin", ":0", "--listen", str(given)]).listen == address


@pytest.mark.parametrize("text", ["", "8080", "a:", "a:-1", "a:65536", "a:8080x", "a:\u00b2"])
def test_an_address_that_is_none_is_named(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        settings.parse(["--table", "t", "--admin", ":0", f"--listen={text}"])
    assert f"{text!r} is not HOST:PORT" in capsys.readouterr().err
