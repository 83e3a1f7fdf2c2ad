"""`mce validate`: every violation of a file, before a cluster sees it."""

import json
import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from mce_local.documents import Document


def validate(
    file: Annotated[str, typer.Option("--file", "-f", help="YAML with one or more endpoints; - is standard input.")],
    output: Annotated[str, typer.Option("--output", "-o", help="text or json.", metavar="FORMAT")] = "text",
) -> None:
    """Check endpoints against every rule the cluster would check. Exit code 1 if one is broken."""
    from mce_local import request  # noqa: PLC0415 - keeps `mce --help` fast

    documents = request.read_documents(file)
    print(_as_json(documents) if _format(output) == "json" else _as_text(documents))
    if any(document.faults for document in documents):
        sys.exit(1)


def _format(output: str) -> Literal["text", "json"]:
    if output == "json":
        return "json"
    if output == "text":
        return "text"
    raise typer.BadParameter("text or json", param_hint="--output")


def _as_text(documents: "tuple[Document, ...]") -> str:
    from mce_local import request  # noqa: PLC0415 - as above

    lines: list[str] = []
    for document in documents:
        lines += request.fault_lines((document,))
        where = f"{document.source}:{document.line}: "
        if document.skipped:
            lines.append(f"{where}{document.skipped}: not checked, it is no endpoint")
        if document.endpoint:
            spec = document.endpoint.spec
            lines.append(f"{where}{document.name}: valid ({spec.mode}, {len(spec.containers)} containers)")
    return "\n".join(lines)


def _as_json(documents: "tuple[Document, ...]") -> str:
    body = {
        "valid": not any(document.faults for document in documents),
        "documents": [
            {
                "file": document.source,
                "document": document.number,
                "line": document.line,
                "name": document.name,
                "skipped": document.skipped,
                "violations": [
                    {"line": fault.line, "path": fault.violation.path, "message": fault.violation.message}
                    for fault in document.faults
                ],
            }
            for document in documents
        ],
    }
    return json.dumps(body, indent=2)
