import os
import socket
import sys

import pytest

from mce_router import listening

HEAD = b"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


def row(port: int, state: str, uid: int) -> bytes:
    return b"   3: 0100007F:%04X 00000000:0000 %b 00000000:00000000 00:00000000 00000000 %5d        0 77 1 0\n" % (
        port,
        state.encode(),
        uid,
    )


def test_each_user_has_the_ports_on_which_it_listens_and_no_others() -> None:
    text = HEAD + row(8081, "0A", 20001) + row(8080, "0A", 20001) + row(9000, "01", 20001) + row(20000, "0A", 20000)
    assert listening.by_user(text) == {20001: [8080, 8081], 20000: [20000]}


def test_a_container_with_many_ports_gets_a_short_list() -> None:
    text = HEAD + b"".join(row(port, "0A", 20001) for port in range(30000, 31000))
    assert listening.by_user(text) == {20001: list(range(30000, 30016))}


@pytest.mark.skipif(sys.platform != "linux", reason="/proc/net")
def test_a_listener_of_our_own_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "MOST_PORTS", 65536)
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert server.getsockname()[1] in listening.ports()[os.geteuid()]
