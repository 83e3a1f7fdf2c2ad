"""Who listens where in this pod, as /proc/net tells: for the person who wonders why a container's port is silent.

Decides nothing, and is read only while a container is not healthy: the list is as long as the pod has sockets.
"""

import re
from pathlib import Path
from typing import Final

MOST_PORTS: Final = 16
"""Ports of one user that are told; a container may open as many as it likes."""
_LISTENERS: Final = re.compile(
    rb"^ *\d+: [0-9A-F]+:([0-9A-F]{4}) [0-9A-F]+:0000 0A [^ ]+ [^ ]+ [^ ]+ +(\d+) ", re.MULTILINE
)


def ports() -> dict[int, list[int]]:
    """The TCP ports on which each Linux user listens; empty where the kernel has no such list."""
    return by_user(_text("tcp") + _text("tcp6"))


def by_user(text: bytes) -> dict[int, list[int]]:
    """The same from the text of /proc/net/tcp and tcp6 (proc(5))."""
    found: dict[int, set[int]] = {}
    for port, uid in _LISTENERS.findall(text):
        found.setdefault(int(uid), set()).add(int(port, 16))
    return {uid: sorted(theirs)[:MOST_PORTS] for uid, theirs in found.items()}


def _text(name: str) -> bytes:
    try:
        return Path(f"/proc/net/{name}").read_bytes()
    except OSError:  # another system, or a kernel without IPv6
        return b""
