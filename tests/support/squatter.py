"""Listens as another user on somebody's port and writes down what it is sent; run by root.

`python squatter.py UID HOST PORT HOW`, HOW being `answer` (200 to everything), `queue` (never accepts) or `once`
(accepts one connection, then closes its listener). A host with a colon is IPv6; `:::dual` takes IPv4 too.
"""

import os
import socket
import sys
import threading
import time

STOLEN = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 6\r\n\r\nstolen"


def _say(word: str) -> None:
    sys.stdout.write(word + "\n")
    sys.stdout.flush()


def _answer(connection: socket.socket) -> None:
    _say("accepted")
    while data := connection.recv(65536):
        _say(f"read {data!r}")
        connection.sendall(STOLEN)


def _listen(host: str, port: int) -> socket.socket:
    server = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    if ":" in host:
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not host.endswith(":dual"))
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    server.bind((host.removesuffix(":dual"), port))
    server.listen()
    return server


def main(uid: int, host: str, port: int, how: str) -> None:
    os.setuid(uid)
    try:
        server = _listen(host, port)
    except OSError as error:
        _say(f"refused {error.errno}")
        return
    _say("listening")
    kept = []
    while how != "queue":
        connection = server.accept()[0]
        kept.append(connection)
        if how == "once":
            server.close()
            _say("closed")
            break
        threading.Thread(target=_answer, args=(connection,), daemon=True).start()
    time.sleep(3600)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4])
