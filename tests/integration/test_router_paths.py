"""Containers that serve neither /ping nor /invocations, and the words that tell an operator what is wrong with one."""

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from mce_api.pings import PingCause
from support import http as caller
from support import processes, scripted
from support.processes import Router

PING, INVOKE = "/v2/health/ready", "/v2/models/m:x/infer"


def table(mode: str, ports: dict[str, int], **fields: Any) -> dict[str, Any]:
    made = processes.table(mode, ports)
    made["targets"] = [{**target, **fields} for target in made["targets"]]
    return made


@pytest.mark.parametrize("workers", [1, 2])
def test_a_container_is_asked_at_its_own_paths_and_nowhere_else(tmp_path: Path, workers: int) -> None:
    ports = {name: processes.free_port() for name in ("a", "b")}
    options = ("--workers", str(workers)) if workers > 1 else ()
    both = table("Direct", ports, pingPath=PING, invocationsPath=INVOKE)
    with (
        processes.model("a", ports["a"], tmp_path / "a.log", PING_PATH=PING, INVOCATIONS_PATH=INVOKE),
        processes.model("b", ports["b"], tmp_path / "b.log", PING_PATH=PING, INVOCATIONS_PATH=INVOKE),
        processes.router(tmp_path, both, *options) as router,
    ):
        for name in ("a", "b", "a"):
            reply = caller.post(router.port, b"x", target=name, content_type="text/plain")
            assert (reply.status, reply.body) == (200, f"{name}(x)".encode())
        assert processes.get(f"{router.admin_url}/startup/a")[0] == 200
        assert processes.get(f"{router.url}{PING}")[0] == 404  # the callers' own paths stay SageMaker's


def test_each_container_of_a_chain_has_its_own_path(tmp_path: Path) -> None:
    ports = {name: processes.free_port() for name in ("one", "two")}
    chain = processes.table("Serial", ports)
    chain["targets"][1]["invocationsPath"] = INVOKE
    with (
        processes.model("one", ports["one"], tmp_path / "1.log", INVOCATIONS_PATH="/invocations"),
        processes.model("two", ports["two"], tmp_path / "2.log", INVOCATIONS_PATH=INVOKE),
        processes.router(tmp_path, chain) as router,
    ):
        assert caller.post(router.port, b"x", content_type="text/plain").body == b"two(one(x))"


def test_the_canonical_form_is_the_same_but_for_the_path(tmp_path: Path) -> None:
    def answer(container: scripted.Scripted, connection: socket.socket, data: bytes) -> None:
        head = data.partition(b"\r\n\r\n")[0]
        container.received = head + b"\r\n\r\n" + scripted.body_of(connection, data)
        connection.sendall(scripted.ok(b""))

    heads = []
    for fields in ({}, {"invocationsPath": INVOKE}):
        with (
            scripted.scripted(answer) as container,
            processes.router(tmp_path, table("Direct", {"a": container.port}, **fields)) as router,
        ):
            query = caller.post(router.port, b"xy", target="a", content_type="a/b", path="/invocations?q=../..")
            assert query.status == 200
            heads.append(container.received.replace(b"%d" % container.port, b"PORT"))
    assert heads[1] == heads[0].replace(b"POST /invocations HTTP/1.1", f"POST {INVOKE} HTTP/1.1".encode())


def test_a_new_path_is_used_from_the_next_request_on(tmp_path: Path) -> None:
    port = processes.free_port()
    with (
        processes.model("a", port, tmp_path / "a.log", INVOCATIONS_PATH=INVOKE),
        processes.router(tmp_path, table("Direct", {"a": port})) as router,
    ):
        reply = caller.post(router.port, b"x", target="a", content_type="text/plain")
        assert (reply.status, reply.headers["x-mce-reason"]) == (424, "ClientErrorFromModel")
        router.table.write_text(json.dumps(table("Direct", {"a": port}, invocationsPath=INVOKE)))
        processes.wait_until("the new table is used", lambda: _reloads(router) == 1)
        assert caller.post(router.port, b"x", target="a", content_type="text/plain").body == b"a(x)"


def _reloads(router: Router) -> float:
    return router.sample("mce_route_table_reloads_total", result="good")


@pytest.mark.parametrize("workers", [1, 2])
def test_targets_tell_what_is_wrong_with_each_container_in_one_stable_word(tmp_path: Path, workers: int) -> None:
    names = ("well", "unbound", "status", "silent", "taken")
    ports = {name: processes.free_port() for name in names}
    made = processes.table("Direct", ports, availability="Any")
    made["targets"][-1]["uid"] = os.geteuid() + 1
    options = ("--workers", str(workers)) if workers > 1 else ()
    with (
        processes.model("well", ports["well"], tmp_path / "w.log"),
        processes.model("status", ports["status"], tmp_path / "s.log", PING_STATUS="503"),
        processes.model("silent", ports["silent"], tmp_path / "n.log", PING_STATUS="never"),
        processes.model("taken", ports["taken"], tmp_path / "t.log"),
        processes.router(tmp_path, made, *options, ready=False) as router,
    ):
        wanted = {
            "well": "",
            "unbound": PingCause.PORT_NOT_BOUND,
            "status": PingCause.PING_STATUS,
            "silent": PingCause.PING_TIMEOUT,
            "taken": PingCause.PORT_TAKEN,
        }

        def said() -> dict[str, str]:
            return {name: target["cause"] for name, target in router.targets().items()}

        processes.wait_until("each has its word", lambda: said() == wanted)
        texts = {name: target["lastError"] for name, target in router.targets().items()}
        assert texts["status"] == f"GET /ping on port {ports['status']} answered 503, not 200"
        for _ in range(10):
            assert said() == wanted
            assert {name: target["lastError"] for name, target in router.targets().items()} == texts
            processes.get(f"{router.admin_url}/startup/silent")
