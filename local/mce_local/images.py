"""`images.yaml`: which command stands for an image when containers run as plain processes.

images:
  registry.example/sklearn-digits:1:
    command: [python, server.py, sklearn]    # python: the interpreter that runs mce
    workingDir: .                            # relative to this file; default: its folder
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import yaml
from pydantic import Field, ValidationError

from mce_api.endpoint import Model
from mce_local.errors import LocalError

FILE_NAME: Final = "images.yaml"


class Entry(Model):
    """One image's stand-in."""

    command: Annotated[tuple[str, ...], Field(min_length=1)]
    working_dir: str = "."


class _File(Model):
    images: dict[str, Entry]


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """A parsed file; `source` is for messages and as the anchor of relative folders."""

    source: Path
    entries: Mapping[str, Entry]

    def entry(self, image: str, container: str) -> Entry:
        """The stand-in of `image`.

        Raises:
            LocalError: naming image, file and fix.
        """
        if image not in self.entries:
            known = ", ".join(self.entries) or "none"
            raise LocalError(
                f"container {container}: {self.source} names no command for image {image} (known there: {known}); "
                f"add it under images:, or run the image itself with --runtime docker or podman"
            )
        return self.entries[image]

    def folder(self, entry: Entry) -> Path:
        """The folder in which `entry` runs."""
        return (self.source.parent / entry.working_dir).resolve()


def load(path: Path) -> Images:
    """The file at `path`.

    Raises:
        LocalError: if it is not there, no YAML, or of another shape.
    """
    try:
        return parse(path.read_text(encoding="utf-8"), path)
    except OSError as error:
        raise LocalError(
            f"--runtime process needs to know which command stands for an image: cannot read {path} "
            f"({error.strerror}); write it, name another with --images, or use --runtime docker or podman"
        ) from error


def parse(text: str, source: Path) -> Images:
    """`text` as it was found in `source`.

    Raises:
        LocalError: naming file, field and rule.
    """
    try:
        parsed = _File.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise LocalError(f"{source}: not YAML: {error}") from error
    except ValidationError as error:
        raise LocalError(f"{source}: {'; '.join(_explain(error))}") from error
    return Images(source=source.resolve(), entries=parsed.images)


def _explain(error: ValidationError) -> list[str]:
    """Each fault as ``path: message (got value)``."""
    lines = []
    for fault in error.errors(include_url=False):
        path = ""
        for part in fault["loc"]:
            path += f"[{part}]" if isinstance(part, int) else f"{'.' if path else ''}{part}"
        value = repr(fault["input"]) if isinstance(fault["input"], str | int | float) else ""
        shown = f" (got {value[:100]})" if value else ""
        lines.append(f"{path}: {fault['msg']}{shown}" if path else fault["msg"])
    return lines
