"""`mce explain`: what a reason means, how its cause is found and how it is cured, without a network."""

import sys
from importlib import resources
from typing import Annotated

import typer


def explain(
    code: Annotated[
        str,
        typer.Argument(help="A reason of `kubectl get mcep`, or of a router's answer (x-mce-reason). None: list all."),
    ] = "",
) -> None:
    """Print the page about a reason. Exit code 1 if there is none."""
    pages = _pages()
    if not code:
        width = max(map(len, pages))
        print("\n".join(f"{name:<{width}}  {_summary(page)}" for name, page in pages.items()))
        return
    known = {name.lower(): name for name in pages}
    name = known.get(code.lower())
    if name is None:
        print(f"error: there is no reason {code!r}{_nearest(code, known)}; `mce explain` lists all", file=sys.stderr)
        sys.exit(1)
    print(pages[name].rstrip())


def _pages() -> dict[str, str]:
    """By their titles, in the order of the file, which `make generate` writes from docs/reasons."""
    text = (resources.files("mce_cli") / "explanations.md").read_text(encoding="utf-8")
    _, *pages = ("\n" + text).split("\n# ")
    return {page.partition("\n")[0]: f"# {page}" for page in pages}


def _summary(page: str) -> str:
    sentence, stop, _ = " ".join(page.split("\n\n")[1].split()).partition(". ")
    return sentence + stop.rstrip()


def _nearest(code: str, known: dict[str, str]) -> str:
    import difflib  # noqa: PLC0415 - keeps `mce --help` fast

    found = [known[name] for name in difflib.get_close_matches(code[:64].lower(), known, n=3, cutoff=0.5)]
    return f"; did you mean {' or '.join(found)}?" if found else ""
