"""`python -m mce_router`: reads the settings and the table, runs the router, exits."""

import os
import sys

import uvloop

from mce_api.routes import InvalidRouteTable
from mce_kit import logs
from mce_router import settings as command_line
from mce_router import table as tables
from mce_router import tracing
from mce_router.app import Router
from mce_router.settings import Settings
from mce_router.tracing import InvalidTracing, Tracer


async def _serve(settings: Settings, tracer: Tracer | None) -> None:
    await Router(settings, tables.load(settings.table), tracer).run()


def main() -> int:
    """Returns the exit status: 0 after a drain, 1 when it could not start."""
    settings = command_line.parse(sys.argv[1:])
    logs.configure(settings.log_level)
    try:
        tracer = tracing.make(os.environ)
    except InvalidTracing as error:
        sys.stderr.write(f"mce_router: {error}\n")
        return 1
    try:
        uvloop.run(_serve(settings, tracer))
    except InvalidRouteTable as error:
        sys.stderr.write(f"mce_router: {error}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"mce_router: can not listen: {error}\n")
        return 1
    finally:
        if tracer is not None:
            tracer.close(tracing.CLOSE_SECONDS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
