from pathlib import Path

import pytest

from mce_local import images
from mce_local.errors import LocalError

GOOD = "images: {'m:1': {command: [python, serve.py], workingDir: sub}, 'n:1': {command: [run]}}"


def test_a_folder_is_relative_to_the_file(tmp_path: Path) -> None:
    parsed = images.parse(GOOD, tmp_path / "images.yaml")
    folders = [parsed.folder(parsed.entry(image, "a")) for image in ("m:1", "n:1")]
    assert folders == [tmp_path / "sub", tmp_path]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("images: [", "not YAML", id="no YAML"),
        pytest.param("", "valid dictionary", id="nothing"),
        pytest.param("images: {'m:1': {command: []}}", r"images\.m:1\.command: .* at least 1 item", id="no command"),
        pytest.param("images: {'m:1': {command: [a], cwd: b}}", r"images\.m:1\.cwd: Extra", id="unknown field"),
    ],
)
def test_a_bad_file_is_told_with_place_and_rule(text: str, message: str) -> None:
    with pytest.raises(LocalError, match=rf"images\.yaml: .*{message}"):
        images.parse(text, Path("images.yaml"))


def test_an_unknown_image_is_told_with_file_and_fix() -> None:
    with pytest.raises(
        LocalError, match=r"container a: .*images\.yaml names no command for image x:1 \(known there: m:1, n:1\)"
    ):
        images.parse(GOOD, Path("images.yaml")).entry("x:1", "a")


def test_a_missing_file_is_told_with_the_ways_out(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match=r"cannot read .*images\.yaml .*--images, or use --runtime docker"):
        images.load(tmp_path / "images.yaml")
