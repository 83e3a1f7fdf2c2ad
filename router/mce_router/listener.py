"""Whether a connection inside the pod ends at the user it should: the kernel is asked, a stranger gets no byte.

The containers of a pod share its ports. While one is down, a sibling may listen on its port and be sent its requests.
Where every container has a user of its own (the restricted profile), the kernel knows the difference.

What the check rests on:

- It asks for the very socket at the other end, after connecting and before the first byte. Once a process has accepted
  a connection, its socket belongs to that process's user for good. Before that the connection waits at a listener and
  ends with it; two users can not listen on one address and port (`EADDRINUSE`, SO_REUSEPORT or not), so the listener
  tells. A connection that is accepted while its listener is looked up is looked at again. Between the answer and the
  first byte nothing can change hands, unless the right user itself gives its socket away.
- User ids are as the router's own user namespace has them, which the pod's containers share, with `hostUsers: false`
  too (`from_kuid_munged`); a user who has none there reads as 65534 and is a stranger.

What it does not see: two containers of one user (the baseline profile, where no `uid` is given), a process of the right
user that was taken over, and root with CAP_CHOWN, which may rename its sockets (the restricted profile has no root).

Facts: Linux net/ipv4/inet_diag.c (`inet_diag_find_one_icsk`, `inet_req_diag_fill`), net/ipv4/inet_connection_sock.c
(`inet_csk_bind_conflict`), net/socket.c (`sock_alloc`), net/ipv4/tcp_ipv4.c (`get_tcp4_sock`).
"""

import asyncio
import errno
import logging
import os
import re
import socket
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from mce_api.routes import Target

_log: Final = logging.getLogger(__name__)

Address = tuple[str, int]
"""An IPv4 address as text, and a port."""
ANYONE: Final[Address] = ("127.0.0.1", 0)
"""As the remote end: no connection has it, so what is found is the listener that would get a new one."""

_LISTEN: Final = 10  # include/net/tcp_states.h
_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_NLMSG_ERROR: Final = 2
_NLM_F_REQUEST: Final = 1
_LOOPBACK_INDEX: Final = 1
"""The same in every network namespace; finds sockets that are bound to the device too."""
_NO_COOKIE: Final = 0xFFFFFFFF
_HEADER: Final = struct.Struct("=IHHII")  # struct nlmsghdr
_REQUEST: Final = struct.Struct("=BBBxI")  # struct inet_diag_req_v2, up to its id
_PORTS: Final = struct.Struct("!HH")
_PLACE: Final = struct.Struct("=4s12x4s12xIII")  # the rest of struct inet_diag_sockid
_MESSAGE: Final = struct.Struct("=xBxx48x12xII")  # struct inet_diag_msg: state, user, inode
_REPLY_BYTES: Final = 4096


class Found(NamedTuple):
    """A socket of this host."""

    uid: int
    accepted: bool
    """Whether a process holds it as a connection. If not, `uid` may mean nothing (older kernels say 0)."""


Find = Callable[[Address, Address], Found | None]
"""The socket with this local and this remote end. Raises OSError when the kernel does not say."""


class Kernel(Protocol):
    """One way to ask."""

    name: str
    slow: bool
    """Whether `find` takes milliseconds, so that the loop should not wait for it."""

    def find(self, local: Address, remote: Address) -> Found | None:
        """See `Find`."""

    def close(self) -> None:
        """No more questions."""


class Impostor(Exception):  # noqa: N818 - names the one who is wrong
    """The process at the other end is not the container; the message says what was expected and found."""


class Guard:
    """Lets connections pass that end at the right user."""

    def __init__(self, kernel: Kernel | None) -> None:
        self._kernel = kernel
        self._told: dict[str, int] = {}
        """The stranger that was last logged for a container: one line each, not one per connection."""

    @property
    def method(self) -> str:
        """How the kernel is asked: `netlink`, `proc`, or `off`."""
        return self._kernel.name if self._kernel is not None else "off"

    async def check(self, target: Target, transport: asyncio.WriteTransport) -> None:
        """Returns when `transport` ends at `target`, or when nobody can tell; else it is aborted.

        Raises:
            Impostor: it ends at somebody else.
            OSError: it is over already, or the kernel did not say this time.
        """
        asked = self._kernel
        if asked is None or target.uid is None:
            return
        try:
            here = transport.get_extra_info("socket")
            ends = (here.getpeername()[:2], here.getsockname()[:2])
            uid = await asyncio.to_thread(owner, asked.find, *ends) if asked.slow else owner(asked.find, *ends)
            self._judge(target, target.uid, None if transport.is_closing() else uid)
        except BaseException:
            transport.abort()
            raise

    def _judge(self, target: Target, wanted: int, uid: int | None) -> None:
        if uid is None:
            raise ConnectionResetError(errno.ECONNRESET, "connection closed at once")
        if uid == wanted:
            self._told.pop(target.name, None)
            return
        if self._told.get(target.name) != uid:
            self._told[target.name] = uid
            facts = {"container": target.name, "port": target.port, "expected_uid": wanted, "found_uid": uid}
            _log.error("another user listens on the port of a container", extra=facts)
        raise Impostor(f"port {target.port} is held by user {uid}, not by user {wanted}")

    def close(self) -> None:
        """No more checks."""
        if self._kernel is not None:
            self._kernel.close()


def kernel() -> Kernel | None:
    """The first way to ask that tells the truth about a connection of our own; none if no way does.

    Only the kernel's own answers decide here, nothing that a container does: a check that could be provoked into
    switching itself off would be none.

    Raises:
        OSError: no connection to ourselves.
    """
    if sys.platform != "linux":
        return None
    for way in (Netlink, Proc):
        try:
            candidate = way()
        except OSError:  # gVisor, seccomp, SELinux
            continue
        if _tells_the_truth(candidate.find):
            return candidate
        candidate.close()
    return None


def _tells_the_truth(find: Find) -> bool:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as caller:
        caller.connect(server.getsockname())
        ends = (server.getsockname(), caller.getsockname())
        try:
            waiting = owner(find, *ends)
            with server.accept()[0]:
                return waiting == owner(find, *ends) == os.geteuid()
        except OSError:
            return False


def owner(find: Find, local: Address, remote: Address) -> int | None:
    """The user at the far end of a connection; none if it is gone. `local` and `remote` are as that end sees them.

    Raises:
        OSError: the kernel did not say.
    """
    end = find(local, remote)
    if end is not None and end.accepted:
        return end.uid
    listener = find(local, ANYONE)
    end = find(local, remote)
    if end is not None and end.accepted:
        return end.uid
    return listener.uid if listener is not None else None


# --- netlink: one question, one answer, whatever else there is


class Netlink:
    """Asks sock_diag (netlink(7), sock_diag(7)) for one socket; any user may."""

    name = "netlink"
    slow = False

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG)
        self._socket.settimeout(0)  # the answer is there when the question is sent, or never
        self._sequence = 0

    def find(self, local: Address, remote: Address) -> Found | None:
        """See `Find`."""
        self._sequence = (self._sequence + 1) & 0xFFFFFFFF
        self._socket.sendto(question(self._sequence, local, remote), (0, 0))
        while True:
            data, sender = self._socket.recvfrom(_REPLY_BYTES)
            if sender[0] == 0 and _HEADER.unpack_from(data)[3] == self._sequence:
                return answer(data, local, remote)

    def close(self) -> None:
        """No more questions."""
        self._socket.close()


def question(sequence: int, local: Address, remote: Address) -> bytes:
    """The netlink message that asks for one socket by its two ends; IPv4, which a dual-stack socket serves too."""
    body = (
        _REQUEST.pack(socket.AF_INET, socket.IPPROTO_TCP, 0, 0xFFFFFFFF)
        + _PORTS.pack(local[1], remote[1])
        + _PLACE.pack(socket.inet_aton(local[0]), socket.inet_aton(remote[0]), _LOOPBACK_INDEX, _NO_COOKIE, _NO_COOKIE)
    )
    return _HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, sequence, 0) + body


def answer(data: bytes, local: Address, remote: Address) -> Found | None:
    """What the netlink message `data` says of the socket that was asked for.

    Raises:
        OSError: the kernel refused, or does not speak this dialect (gVisor's answer has a user and nothing else).
    """
    try:
        kind = _HEADER.unpack_from(data)[1]
        if kind == _NLMSG_ERROR:
            (number,) = struct.unpack_from("=i", data, _HEADER.size)
            if number == -errno.ENOENT:
                return None
            raise OSError(-number, os.strerror(-number))
        state, uid, inode = _MESSAGE.unpack_from(data, _HEADER.size)
        ports = _PORTS.unpack_from(data, _HEADER.size + 4)
    except struct.error as error:
        raise OSError(errno.EPROTO, "short answer") from error
    listens = state == _LISTEN
    if kind != _SOCK_DIAG_BY_FAMILY or ports != (local[1], 0 if listens else remote[1]):
        raise OSError(errno.EPROTO, "not the socket that was asked for")
    return Found(uid, accepted=not listens and inode != 0)


# --- /proc/net: the whole list, for where netlink is not


class Proc:
    """Reads /proc/net/tcp and tcp6 (proc(5)): all sockets of the pod, some milliseconds for thousands."""

    name = "proc"
    slow = True

    def find(self, local: Address, remote: Address) -> Found | None:
        """See `Find`."""
        return in_list(Path("/proc/net/tcp").read_bytes(), local, remote) or in_list(_tcp6(), local, remote)

    def close(self) -> None:
        """Nothing is open."""


def _tcp6() -> bytes:
    try:
        return Path("/proc/net/tcp6").read_bytes()
    except FileNotFoundError:  # a kernel without IPv6
        return b""


def in_list(text: bytes, local: Address, remote: Address) -> Found | None:
    """What the list `text` says of the socket with these ends; with `ANYONE` a listener that takes `local` in.

    In the list of IPv6 sockets one that listens on `::` counts; it may take no IPv4, which the list does not say. So
    ask the other list first: where an IPv4 listener is, one of another user on `::` takes none.
    """
    if remote == ANYONE:
        pattern = rb" (?:0{8}|%b|0{32}|%b):%04X [0F]+:0000 0A " % (*_hex(local[0]), local[1])
    else:
        ends = (*_hex(local[0]), local[1], *_hex(remote[0]), remote[1])
        pattern = rb" (?:%b|%b):%04X (?:%b|%b):%04X [0-9A-F]{2} " % ends
    found = re.search(pattern + rb"[^ ]+ [^ ]+ [^ ]+ +(\d+) +\d+ +(\d+) ", text)
    if found is None:
        return None
    uid, inode = map(int, found.groups())
    return Found(uid, accepted=remote != ANYONE and inode != 0)


def _hex(address: str) -> tuple[bytes, bytes]:
    """An IPv4 address as the two lists write it: words in the byte order of the machine."""
    word = b"%08X" % int.from_bytes(socket.inet_aton(address), sys.byteorder)
    mapped = b"%08X" % int.from_bytes(b"\0\0\xff\xff", sys.byteorder)
    return word, b"0" * 16 + mapped + word
