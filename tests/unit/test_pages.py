"""What the user pages show can be done: examples are valid, links lead somewhere, settings and series are all there."""

import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from mce_api import names, validation
from mce_operator.cache import CHILD_KINDS
from mce_operator.settings import Settings
from support import cases

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(path.relative_to(ROOT) for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")))
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def examples() -> list[Any]:
    return [
        pytest.param(document, id=f"{page}-{number}")
        for page in PAGES
        for number, (language, text) in enumerate(_FENCE.findall((ROOT / page).read_text()))
        if language in ("yaml", "yml")
        for document in yaml.safe_load_all(text)
    ]


@pytest.mark.parametrize("document", examples())
def test_an_example_of_an_endpoint_is_valid(document: dict[str, Any]) -> None:
    if document.get("kind") == names.KIND:
        validation.endpoint(document)
    elif "spec" in document:  # the part that a page is about
        validation.endpoint(cases.document(**document["spec"]))


def _anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    text = _FENCE.sub("", page.read_text())
    heads = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", head) for head in re.findall(r"^#+ (.*)$", text, re.MULTILINE))
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", _FENCE.sub("", (ROOT / page).read_text())):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = Path(os.path.normpath(ROOT / page.parent / path)) if path else ROOT / page
        assert target.exists(), link
        assert not anchor or anchor in _anchors(target), link


def test_every_setting_of_the_operator_is_on_its_page() -> None:
    page = (ROOT / "docs" / "operator.md").read_text()
    assert [name for name in Settings.model_fields if f"`MCE_OPERATOR_{name.upper()}`" not in page] == []


def test_every_series_is_told_once() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    rows = re.findall(r"^\| `(mce_\w+)` \| (?:counter|gauge|histogram)", page, re.MULTILINE)
    assert [name for name, count in Counter(rows).items() if count > 1] == []


def test_every_kind_of_child_is_in_the_table_of_what_an_endpoint_is_made_of() -> None:
    page = (ROOT / "docs" / "resources.md").read_text()
    assert [kind for kind in CHILD_KINDS if f"\n| {kind} |" not in page] == []
