"""`python -m mce_router`: reads the settings and the table, runs the router, exits."""

import sys

import uvloop

from mce_api.routes import InvalidRouteTable
from mce_kit import logs
from mce_router import settings as command_line
from mce_router import table as tables
from mce_router.app import Router
from mce_router.settings import Settings


async def _serve(settings: Settings) -> None:
    await Router(settings, tables.load(settings.table)).run()


def main() -> int:
    """Returns the exit status: 0 after a drain, 1 when it could not start."""
    settings = command_line.parse(sys.argv[1:])
    logs.configure(settings.log_level)
    try:
        uvloop.run(_serve(settings))
    except InvalidRouteTable as error:
        sys.stderr.write(f"mce_router: {error}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"mce_router: can not listen: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
