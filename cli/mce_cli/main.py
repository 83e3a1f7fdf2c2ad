"""The `mce` command: which commands there are. Each is one module; heavy imports wait until a command runs."""

import sys
from typing import Annotated

import typer

from mce_cli import explain, invoke, local, validate

app = typer.Typer(
    name="mce",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Multi-container model endpoints: run them here, check them, invoke them.",
)
app.add_typer(local.app, name="local")
app.command("invoke")(invoke.invoke)
app.command("validate")(validate.validate)
app.command("explain")(explain.explain)


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    if version:
        from importlib import metadata  # noqa: PLC0415 - a third of the time of `mce --help`

        print(f"mce {metadata.version('mce')}")
        raise typer.Exit


def run() -> None:
    """Entry point: errors that a user can mend are one text on standard error and exit code 1."""
    from mce_local.errors import LocalError  # noqa: PLC0415 - a package of its own would be a heavier import

    try:
        app()
    except LocalError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:
        # The reader went away (`mce ... | head`): not an error worth a traceback.
        sys.stderr.close()
        sys.exit(1)
