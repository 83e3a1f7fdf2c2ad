"""From the files that a user names to what should run; every fault is found before anything is started."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mce_local import documents, images, wanted
from mce_local.documents import Document
from mce_local.errors import LocalError
from mce_local.images import Images
from mce_local.wanted import RuntimeKind, Wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What `mce local up` was asked for."""

    wanted: tuple[Wanted, ...]
    notes: tuple[str, ...]
    """What is different from a cluster, or was left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of `up` that decide what runs."""

    file: str
    runtime: RuntimeKind
    images: Path | None
    env_file: Path | None
    port: int | None


def read_documents(file: str) -> tuple[Document, ...]:
    """The documents of `file`; `-` is standard input.

    Raises:
        LocalError: if it cannot be read.
    """
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise LocalError(f"cannot read {file}: {reason}") from error
    return documents.parse(text, "standard input" if file == "-" else file)


def fault_lines(found: tuple[Document, ...]) -> tuple[str, ...]:
    """One line per violation: file, line, document, path, text."""
    return tuple(
        f"{document.source}:{fault.line}: {document.name or f'document {document.number}'}: {fault.violation}"
        for document in found
        for fault in document.faults
    )


def read(options: Options) -> Request:
    """What `options` ask for.

    Raises:
        LocalError: with every violation of the file, or what cannot be had on this machine.
    """
    found = read_documents(options.file)
    faults = fault_lines(found)
    if faults:
        raise LocalError("\n".join(faults))
    stand_ins = _images(options) if options.runtime is RuntimeKind.PROCESS else None
    given = _env_file(options.env_file) if options.env_file else {}
    endpoints = [document.endpoint for document in found if document.endpoint]
    resolved = tuple(
        wanted.resolve(
            endpoint, options.runtime, stand_ins, given, None if options.port is None else options.port + index
        )
        for index, endpoint in enumerate(endpoints)
    )
    names = [one.endpoint for one in resolved]
    if len(set(names)) != len(names):
        raise LocalError(f"{options.file}: an endpoint is there twice ({', '.join(names)}); locally a name is unique")
    notes = [
        f"skipped {document.skipped}: it means nothing without a cluster" for document in found if document.skipped
    ]
    return Request(wanted=resolved, notes=(*notes, *_notes(resolved, options.runtime)))


def _notes(resolved: tuple[Wanted, ...], runtime: RuntimeKind) -> tuple[str, ...]:
    limited = any(container.memory_bytes or container.cpu_cores for one in resolved for container in one.containers)
    if limited and runtime is RuntimeKind.PROCESS:
        return ("limits of cpu and memory are measured against, not enforced, with --runtime process",)
    return ()


def _images(options: Options) -> Images:
    if options.images is None and options.file == "-":
        raise LocalError("the endpoint comes from standard input; name the file of its images with --images")
    return images.load(options.images or Path(options.file).parent / images.FILE_NAME)


def _env_file(path: Path) -> Mapping[str, str]:
    """`NAME=value` per line; empty lines and lines that begin with # do not count."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise LocalError(f"cannot read {path}: {error.strerror}") from error
    values = {}
    for number, line in enumerate(lines, start=1):
        name, equals, value = line.partition("=")
        if line.strip() and not line.lstrip().startswith("#"):
            if not equals or not name.strip():
                raise LocalError(f"{path}:{number}: expected NAME=value")
            values[name.strip()] = value
    return values
