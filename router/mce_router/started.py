"""`python -m mce_router.started PORT [SECONDS]`: ends with 0 when the router of this host listens, with 1 if not.

The router's postStart hook: a pod's models are started when it has ended, so none of them can have a port of the router
before the router has. Loads nothing, since every start of a pod waits for it.
"""

import socket
import sys
import time
from typing import Final

LONGEST_SECONDS: Final = 30.0
_PAUSE_SECONDS: Final = 0.01
_CONNECT_SECONDS: Final = 1.0


def listens(port: int, seconds: float = LONGEST_SECONDS) -> bool:
    """Waits until a connection to this port of the loopback address is taken; False: not within `seconds`."""
    give_up = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), _CONNECT_SECONDS).close()
        except OSError:
            if time.monotonic() > give_up:
                return False
            time.sleep(_PAUSE_SECONDS)
        else:
            return True


def main(arguments: list[str]) -> int:
    """Returns the exit status."""
    port, *rest = arguments
    if listens(int(port), *map(float, rest)):
        return 0
    sys.stderr.write(f"the router does not listen on port {port}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
