"""`mce explain`, and the pages that it prints."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from mce_api.errors import Reason
from mce_api.status import Why
from mce_cli import explain
from mce_cli.main import app

FOLDER = Path(__file__).resolve().parents[3] / "docs" / "reasons"
SECTIONS = ["What it looks like", "Find the cause", "Fix it", "Where it comes from"]


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["explain", *arguments])
    return result.exit_code, result.output


def test_every_reason_has_a_page_and_every_page_a_reason() -> None:
    assert {path.stem for path in FOLDER.glob("*.md")} == {why.value for why in Why if why} | {"README"}


@pytest.mark.parametrize("why", [why for why in Why if why])
def test_a_page_says_what_to_do_and_is_printed_as_it_stands(why: Why) -> None:
    text = (FOLDER / f"{why}.md").read_text()
    title, summary, *_ = text.split("\n\n")
    assert title == f"# {why}"
    assert summary.endswith(".")
    assert [line[3:] for line in text.splitlines() if line.startswith("## ")] == SECTIONS
    assert run(why.value) == (0, text.rstrip() + "\n")


def test_the_routers_answers_are_explained_too() -> None:
    code, text = run(Reason.CONTAINER_BUSY.value)
    assert code == 0
    assert "HTTP 429" in text
    assert set(explain._pages()) == {why.value for why in Why if why} | set(Reason)


def test_without_a_word_all_are_listed_with_their_first_sentence() -> None:
    code, text = run()
    assert code == 0
    assert "OOMKilled                A container used more memory than its limit, and the kernel ended it.\n" in text


def test_case_does_not_matter() -> None:
    assert run("oomkilled") == run("OOMKilled")


@pytest.mark.parametrize(("word", "near"), [("PortTakn", "PortTaken"), ("imagepul", "ImagePull"), ("zzz", "")])
def test_an_unknown_word_gets_its_neighbours(word: str, near: str) -> None:
    code, text = run(word)
    assert code == 1
    assert near in text
    assert ("did you mean" in text) == bool(near)
