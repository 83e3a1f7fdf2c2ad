"""Whether a container is ready, asked of itself: right after a start the router may still mean the process before."""

import aiohttp

from mce_api import wire

_READY = 200


async def ask(session: aiohttp.ClientSession, port: int, path: str) -> str:
    """Empty if it is, else why not."""
    try:
        async with session.get(f"http://127.0.0.1:{port}{path}") as response:
            return "" if response.status == _READY else f"it said HTTP {response.status}"
    except TimeoutError:
        return f"no answer in {wire.PING_TIMEOUT_SECONDS:g} s"
    except aiohttp.ClientError:
        return f"nobody speaks HTTP on port {port}, which it was told in {wire.BIND_TO_PORT}"
