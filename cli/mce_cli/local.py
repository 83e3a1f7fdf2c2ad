"""`mce local`: endpoints on this machine."""

import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Run endpoints on this machine, without a cluster.")

_FILE_HELP = "YAML with one or more endpoints; - is standard input."


@app.command()
def up(  # noqa: PLR0917 - a command's options
    file: Annotated[str, typer.Option("--file", "-f", help=_FILE_HELP)],
    port: Annotated[
        int | None,
        typer.Option(
            "--port", "-p", min=1, max=65535, help="Port for callers; the next endpoints of the file get the next ones."
        ),
    ] = None,
    runtime: Annotated[str, typer.Option(help="process, docker or podman.")] = "process",
    images: Annotated[
        Path | None, typer.Option(help="Which command stands for an image (process). Default: images.yaml beside FILE.")
    ] = None,
    env_file: Annotated[
        Path | None, typer.Option(help="NAME=value lines for variables that come from Secrets or ConfigMaps.")
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return when in service; keep running.")] = False,
    wait: Annotated[
        float | None,
        typer.Option(min=0, help="Seconds for all containers to answer /ping, if less than their own; 0: do not wait."),
    ] = None,
) -> None:
    """Start endpoints, or update them: changed containers restart, the others stay."""
    from mce_cli import local_up  # noqa: PLC0415 - as above
    from mce_local.request import Options  # noqa: PLC0415 - keeps `mce --help` fast
    from mce_local.wanted import RuntimeKind  # noqa: PLC0415 - as above

    if runtime not in set(RuntimeKind):
        raise typer.BadParameter("process, docker or podman", param_hint="--runtime")
    options = Options(file=file, runtime=RuntimeKind(runtime), images=images, env_file=env_file, port=port)
    sys.exit(local_up.up(options, wait, detach=detach))


@app.command()
def down(
    name: Annotated[str, typer.Argument(help="Endpoint. Default: the only one.", show_default=False)] = "",
    file: Annotated[str, typer.Option("--file", "-f", help="Every endpoint of this file.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="Every local endpoint.")] = False,
) -> None:
    """Stop endpoints: the router lets requests end, then the containers stop."""
    from mce_cli import session  # noqa: PLC0415 - as above
    from mce_local import request  # noqa: PLC0415 - keeps `mce --help` fast

    if sum((bool(name), bool(file), everything)) > 1:
        raise typer.BadParameter("give one of NAME, --file, --all")
    client = session.client()
    names = client.endpoints()
    if name:
        names = (name,)
    elif file:
        # A file that has become invalid still says which endpoints were meant.
        found = request.read_documents(file)
        names = tuple(document.name for document in found if document.name and not document.skipped)
    elif len(names) > 1 and not everything:
        raise typer.BadParameter(f"several endpoints run ({', '.join(names)}); name one, or give --all")
    for endpoint in names:
        print(f"{endpoint}: stopped" if client.down(endpoint) else f"{endpoint}: was not running")
    if not names:
        print("nothing runs")


@app.command()
def status(
    name: Annotated[str, typer.Argument(help="Endpoint. Default: all.", show_default=False)] = "",
    output: Annotated[str, typer.Option("--output", "-o", help="table or json.", metavar="FORMAT")] = "table",
) -> None:
    """Show endpoints, their containers, and what these use."""
    from mce_cli import local_status  # noqa: PLC0415 - keeps `mce --help` fast

    if output not in {"table", "json"}:
        raise typer.BadParameter("table or json", param_hint="--output")
    sys.exit(local_status.status(name, is_json=output == "json"))
