"""`mce invoke`: one request to an endpoint; the body of the answer goes to standard output untouched."""

import sys
from pathlib import Path
from typing import Annotated

import typer


def invoke(  # noqa: PLR0917 - a command's options
    endpoint: Annotated[str, typer.Argument(help="Name of a local endpoint, or a URL.", metavar="ENDPOINT|URL")],
    container: Annotated[
        str, typer.Option("--container", "-c", help="Target container hostname (mode Direct).", metavar="HOSTNAME")
    ] = "",
    file: Annotated[str, typer.Option("--file", "-f", help="Body; - is standard input. Default: none.")] = "",
    content_type: Annotated[str, typer.Option(help="Content-Type of the body.")] = "application/json",
    accept: Annotated[str, typer.Option(help="Accept header.")] = "",
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Namespace that the endpoint must have.")] = "",
    show_headers: Annotated[bool, typer.Option("--show-headers", help="Status and headers on standard error.")] = False,
) -> None:
    """Send one invocation. Exit code 0: the model's answer; 1: an error, told on standard error."""
    from mce_api import wire  # noqa: PLC0415 - keeps `mce --help` fast
    from mce_cli import session  # noqa: PLC0415 - as above
    from mce_local import invoke as invocations  # noqa: PLC0415 - as above

    url = invocations.resolve(session.client(), endpoint, namespace or None)
    headers = {"Content-Type": content_type}
    if accept:
        headers["Accept"] = accept
    if container:
        headers[wire.TARGET_CONTAINER_HEADER] = container
    answer = invocations.post(url, _body(file), headers)
    if show_headers:
        print(f"HTTP {answer.status}", file=sys.stderr)
        for name, value in answer.headers:
            print(f"{name}: {value}", file=sys.stderr)
    if not answer.is_success:
        print(answer.explain(), file=sys.stderr)
        sys.exit(1)
    sys.stdout.buffer.write(answer.body)
    sys.stdout.buffer.flush()


def _body(file: str) -> bytes:
    if file == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(file).read_bytes() if file else b""
    except OSError as error:
        raise typer.BadParameter(f"cannot read {file}: {error.strerror}", param_hint="--file") from error
