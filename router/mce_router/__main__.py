"""`python -m mce_router`: reads the settings and the table, runs the router, exits."""

# ruff: noqa: E402 - the signal first: loading the rest takes longest

import os
import signal
import sys


def _leave(*_: object) -> None:
    os._exit(0)  # an exception would be lost where one is only printed, in a callback of an import for one


if __name__ == "__main__":
    # The kernel drops a signal that the first process of a container has no handler for: a pod that is deleted while
    # its router starts would stay until its grace is over. There is nothing to drain until the loop has its own.
    signal.signal(signal.SIGTERM, _leave)

import contextlib
import resource
from collections.abc import Sequence

import uvloop

from mce_api.routes import InvalidRouteTable
from mce_kit import logs
from mce_router import app, tracing
from mce_router import settings as command_line
from mce_router import table as tables
from mce_router.app import StartError
from mce_router.settings import Settings
from mce_router.tracing import InvalidTracing, Tracer


async def _serve(settings: Settings, arguments: Sequence[str], tracer: Tracer | None) -> None:
    table = tables.load(settings.table, settings.workers)
    if settings.workers == 1:
        await app.run(settings, table, tracer)
    else:
        from mce_router import supervisor  # noqa: PLC0415 - milliseconds that one process alone does not pay

        await supervisor.run(settings, arguments, table)


def _allow_many_files() -> None:
    """As many as may be, for the workers too: a request has two sockets, and the soft limit is 1024."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(OSError, ValueError):  # some systems have a lower limit than they say: it does with less
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def main() -> int:
    """Returns the exit status: 0 after a drain, 1 when it could not start."""
    arguments = sys.argv[1:]
    settings = command_line.parse(arguments)
    logs.configure(settings.log_level)
    _allow_many_files()
    try:
        tracer = tracing.make(os.environ)  # of several workers each one has its own; here it is only checked
    except InvalidTracing as error:
        sys.stderr.write(f"mce_router: {error}\n")
        return 1
    try:
        uvloop.run(_serve(settings, arguments, tracer))
    except (InvalidRouteTable, StartError, OSError) as error:
        sys.stderr.write(f"mce_router: {app.complaint(error)}\n")
        return 1
    finally:
        if tracer is not None:
            tracer.close(tracing.CLOSE_SECONDS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
