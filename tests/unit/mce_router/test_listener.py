import asyncio
import errno
import os

import pytest

from mce_api import routes
from mce_router import listener
from mce_router.listener import ANYONE, Address, Found, Guard, Kernel, Netlink

# Captured on Linux 6.18: a connection at user 0, waiting at its listener, and accepted; the listener; nobody.
LOCAL, REMOTE = ("127.0.0.1", 45271), ("127.0.0.1", 51554)
ENDS = "b0d7c9627f0000010000000000000000000000007f000001" + "00" * 12
QUESTION = bytes.fromhex("4800000014000100070000000000000002060000ffffffff" + ENDS + "01000000ffffffffffffffff")
TAIL = "050008000000000008000f00000000000c00150001000000000000000600160052000000"
WAITING = bytes.fromhex(
    "7c00000014000000070000005f41000002010000" + ENDS + "000000003600000000000000" + "00" * 20 + TAIL
)
ACCEPTED = bytes.fromhex(
    "7c00000014000000070000005f41000002010000" + ENDS + "000000003600000000000000" + "00" * 16 + "af1e1700" + TAIL
)
LISTENING = bytes.fromhex(
    "7c00000014000000070000005f410000020a0000b0d700007f000001"
    + "00" * 32
    + "370000000000000000000000010000008000000000000000ac1e1700"
    + TAIL
)
NOBODY = bytes.fromhex("5c00000002000000070000005f410000feffffff") + QUESTION
REFUSED = bytes.fromhex("5c00000002000000070000005f410000ffffffff") + QUESTION
GVISOR = bytes.fromhex("580000001400000007000000000000") + bytes(73)

TCP = b"""\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:4E20 00000000:0000 0A 00000000:00000000 00:00000000 00000000 20000        0 1526845 1 0000000062ad1ec3 100 0
   1: 00000000:4EE8 00000000:0000 0A 00000000:00000001 00:00000000 00000000 20002        0 1526848 2 00000000c2bf528f 100 0
   2: 0200007F:4E84 00000000:0000 0A 00000000:00000000 00:00000000 00000000 20001        0 1526851 1 000000008b9b2961 100 0
   3: 0100007F:C350 0100007F:4E20 01 00000000:00000000 00:00000000 00000000     0        0 1526852 2 0000000014181719 20 0
   4: 0100007F:4E20 0100007F:C350 01 00000000:00000000 00:00000000 00000000 20000        0 1526853 1 00000000346adb92 20 0
   7: 0100007F:4E20 0100007F:C351 06 00000000:00000000 03:0000176E 00000000     0        0 0 3 000000002db03651
   8: 0100007F:4EE8 0100007F:C418 01 00000000:00000000 00:00000000 00000000 20002        0 0 1 00000000db553798 20 0
"""  # noqa: E501 - as captured
_ANY6, _MAPPED = b"0" * 32, b"0000000000000000FFFF00000100007F"
TCP6 = b"""\
   0: %(mapped)b:4FB0 %(any)b:0000 0A 00000000:00000000 00:00000000 00000000 20004        0 1526850 1 000000000d1595e7 100
   1: %(any)b:4F4C %(any)b:0000 0A 00000000:00000000 00:00000000 00000000 20003        0 1526849 1 000000003c9ffb12 100 0
   3: 00000000000000000000000001000000:5014 %(any)b:0000 0A 00000000:00000000 00:00000000 00000000 20001        0 1526847 1 0
   4: %(mapped)b:4F4C %(mapped)b:C47C 01 00000000:00000000 00:00000000 00000000 20003        0 1526855 1 000000009fe157a0
""" % {b"any": _ANY6, b"mapped": _MAPPED}  # noqa: E501 - as captured


def at(port: int) -> Address:
    return ("127.0.0.1", port)


# --- netlink


def test_the_question_names_both_ends() -> None:
    assert listener.question(7, LOCAL, REMOTE) == QUESTION


@pytest.mark.parametrize(
    ("data", "remote", "found"),
    [
        pytest.param(ACCEPTED, REMOTE, Found(0, accepted=True), id="accepted"),
        pytest.param(WAITING, REMOTE, Found(0, accepted=False), id="waiting"),
        pytest.param(LISTENING, ANYONE, Found(0, accepted=False), id="listener"),
        pytest.param(LISTENING, REMOTE, Found(0, accepted=False), id="listener-for-want-of-a-connection"),
        pytest.param(NOBODY, REMOTE, None, id="nobody"),
    ],
)
def test_an_answer_tells_the_user_and_whether_a_process_holds_it(
    data: bytes, remote: Address, found: Found | None
) -> None:
    assert listener.answer(data, LOCAL, remote) == found


@pytest.mark.parametrize(
    ("data", "number"),
    [
        pytest.param(REFUSED, errno.EPERM, id="refused"),
        pytest.param(GVISOR, errno.EPROTO, id="user-only"),
        pytest.param(ACCEPTED[:60], errno.EPROTO, id="cut"),
        pytest.param(b"", errno.EPROTO, id="empty"),
        pytest.param(ACCEPTED.replace(bytes.fromhex("c962"), bytes.fromhex("c963")), errno.EPROTO, id="other-socket"),
    ],
)
def test_what_is_no_answer_is_an_error_and_never_a_user(data: bytes, number: int) -> None:
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the number says which
        listener.answer(data, LOCAL, REMOTE)
    assert caught.value.errno == number


# --- /proc/net


@pytest.mark.parametrize(
    ("text", "port", "found"),
    [
        pytest.param(TCP, 20000, Found(20000, accepted=False), id="127.0.0.1"),
        pytest.param(TCP, 20200, Found(20002, accepted=False), id="0.0.0.0"),
        pytest.param(TCP, 20100, None, id="127.0.0.2"),
        pytest.param(TCP, 50000, None, id="a-caller"),
        pytest.param(TCP6, 20400, Found(20004, accepted=False), id="mapped"),
        pytest.param(TCP6, 20300, Found(20003, accepted=False), id="dual-stack"),
        pytest.param(TCP6, 20500, None, id="::1"),
        pytest.param(b"", 20000, None, id="empty"),
    ],
)
def test_the_list_tells_who_takes_connections_to_loopback(text: bytes, port: int, found: Found | None) -> None:
    assert listener.in_list(text, at(port), ANYONE) == found


@pytest.mark.parametrize(
    ("text", "port", "caller", "found"),
    [
        pytest.param(TCP, 20000, 50000, Found(20000, accepted=True), id="accepted"),
        pytest.param(TCP, 20200, 50200, Found(20002, accepted=False), id="waiting"),
        pytest.param(TCP, 20000, 50001, Found(0, accepted=False), id="over"),
        pytest.param(TCP, 20000, 50002, None, id="another's"),
        pytest.param(TCP6, 20300, 50300, Found(20003, accepted=True), id="dual-stack"),
    ],
)
def test_the_list_tells_who_holds_a_connection(text: bytes, port: int, caller: int, found: Found | None) -> None:
    assert listener.in_list(text, at(port), at(caller)) == found


# --- whose it is


class Scripted:
    """A kernel that says what it is told to, one answer per question."""

    name = "scripted"
    slow = False

    def __init__(self, *answers: Found | None) -> None:
        self.answers = list(answers)
        self.closed = False

    def find(self, local: Address, remote: Address) -> Found | None:
        return self.answers.pop(0)

    def close(self) -> None:
        self.closed = True


WAITS = Found(0, accepted=False)


@pytest.mark.parametrize(
    ("answers", "uid"),
    [
        pytest.param((Found(5, accepted=True),), 5, id="accepted"),
        pytest.param((WAITS, Found(5, accepted=False), WAITS), 5, id="waiting-at-a-listener"),
        pytest.param((WAITS, Found(5, accepted=False), Found(6, accepted=True)), 6, id="accepted-meanwhile"),
        pytest.param((WAITS, None, Found(6, accepted=True)), 6, id="accepted-and-listener-closed-meanwhile"),
        pytest.param((WAITS, None, WAITS), None, id="listener-closed"),
        pytest.param((None, None, None), None, id="gone"),
    ],
)
def test_a_connection_is_its_holders_else_its_listeners(answers: tuple[Found | None, ...], uid: int | None) -> None:
    assert listener.owner(Scripted(*answers).find, LOCAL, REMOTE) == uid


# --- which way to ask


def lies(find: listener.Find) -> bool:
    return False


def refuses(self: Netlink) -> None:
    raise OSError(errno.EPROTONOSUPPORT, "no netlink here")


def test_without_netlink_the_lists_of_proc_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Netlink, "__init__", refuses)
    found = listener.kernel()
    assert found is not None
    assert found.name == "proc"


def test_a_kernel_that_does_not_know_our_own_socket_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = os.geteuid() + 1
    monkeypatch.setattr(Netlink, "find", lambda self, local, remote: Found(wrong, accepted=True))
    found = listener.kernel()
    assert found is not None
    assert found.name == "proc"
    monkeypatch.setattr(listener, "_tells_the_truth", lies)
    assert listener.kernel() is None


# --- the guard


class Transport(asyncio.WriteTransport):
    """Enough of one."""

    def __init__(self) -> None:
        self.aborted = False

    def get_extra_info(self, name: str, default: object = None) -> object:
        assert name == "socket"
        return self

    def getpeername(self) -> Address:
        return LOCAL

    def getsockname(self) -> Address:
        return REMOTE

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True


TARGET = routes.Target(name="a", port=45271, uid=20000)


def guard(*answers: Found | None) -> Guard:
    kernel: Kernel = Scripted(*answers)
    return Guard(kernel)


async def test_the_right_user_passes() -> None:
    transport = Transport()
    await guard(Found(20000, accepted=True)).check(TARGET, transport)
    assert not transport.aborted


async def test_a_stranger_is_cut_off_and_named() -> None:
    transport = Transport()
    with pytest.raises(listener.Impostor, match=r"^port 45271 is held by user 20001, not by user 20000$"):
        await guard(Found(20001, accepted=True)).check(TARGET, transport)
    assert transport.aborted


async def test_a_connection_that_is_nobodys_is_cut_off() -> None:
    transport = Transport()
    with pytest.raises(ConnectionResetError):
        await guard(None, None, None).check(TARGET, transport)
    assert transport.aborted


async def test_a_connection_that_ended_meanwhile_is_not_handed_on() -> None:
    transport = Transport()
    transport.abort()
    with pytest.raises(ConnectionResetError):
        await guard(Found(20000, accepted=True)).check(TARGET, transport)


async def test_a_kernel_that_fails_once_lets_nothing_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    transport = Transport()
    with pytest.raises(OSError, match="no answer"):
        await Guard(Failing()).check(TARGET, transport)
    assert transport.aborted


class Failing(Scripted):
    def find(self, local: Address, remote: Address) -> Found | None:
        raise OSError(errno.ENOBUFS, "no answer")


async def test_whoever_listens_passes_where_no_user_is_known_or_nobody_can_be_asked() -> None:
    await guard().check(routes.Target(name="a", port=45271), Transport())
    await Guard(None).check(TARGET, Transport())
    assert Guard(None).method == "off"


async def test_a_stranger_is_logged_once_until_it_is_gone(caplog: pytest.LogCaptureFixture) -> None:
    stranger, right = Found(20001, accepted=True), Found(20000, accepted=True)
    checked = guard(stranger, stranger, right, stranger)
    for _ in range(4):
        try:
            await checked.check(TARGET, Transport())
        except listener.Impostor:
            continue
    assert [record.getMessage() for record in caplog.records] == ["another user listens on the port of a container"] * 2
    assert vars(caplog.records[0])["found_uid"] == 20001
    assert vars(caplog.records[0])["container"] == "a"
