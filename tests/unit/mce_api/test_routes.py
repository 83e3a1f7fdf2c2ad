import json
import re
from dataclasses import replace

import pytest

from mce_api import routes
from mce_api.routes import InvalidRouteTable, Limits, RouteTable, Target
from support import paths

TABLE = RouteTable(
    namespace="team-a",
    endpoint="mnist",
    mode="Direct",
    targets=(Target(name="a", port=20000), Target(name="B", port=20100, max_concurrency=2)),
)


def test_a_table_survives_its_own_text() -> None:
    assert routes.parse(routes.dump(TABLE)) == TABLE


def test_equal_tables_give_equal_bytes() -> None:
    targets = [Target(name="a", port=1, invocation_timeout_seconds=seconds) for seconds in (9, 9.0)]
    whole, fraction = (replace(TABLE, targets=(target,)) for target in targets)
    assert whole == fraction
    assert hash(whole) == hash(fraction)
    assert routes.dump(whole) == routes.dump(fraction)


def test_a_table_that_uses_nothing_new_keeps_its_bytes_so_that_an_upgrade_rolls_no_pods() -> None:
    assert routes.dump(TABLE) == (
        '{"availability":"All","endpoint":"mnist","limits":{"maxConcurrency":0,"maxHopBytes":5242880,"maxRequestBytes":'
        '6291456},"mode":"Direct","namespace":"team-a","targets":[{"host":"127.0.0.1","invocationTimeoutSeconds":60.0,'
        '"maxConcurrency":0,"name":"a","port":20000},{"host":"127.0.0.1","invocationTimeoutSeconds":60.0,'
        '"maxConcurrency":2,"name":"B","port":20100}],"variant":"AllTraffic"}'
    )


@pytest.mark.parametrize("uid", [None, 0, 2**31 - 1])
@pytest.mark.parametrize("seconds", [0, 0.5, 3600])
def test_what_came_later_survives_too(uid: int | None, seconds: float) -> None:
    target = Target(name="a", port=1, uid=uid)
    table = replace(TABLE, targets=(target,), limits=Limits(max_invocation_seconds=seconds))
    text = routes.dump(table)
    assert routes.parse(text) == table
    assert ("uid" in text, "maxInvocationSeconds" in text) == (uid is not None, seconds != 0)


def test_paths_are_in_the_table_only_where_they_are_not_sagemakers() -> None:
    target = Target(name="a", port=1, ping_path="/v1/models/m", invocations_path="/v1/models/m:predict")
    table = replace(TABLE, targets=(target, Target(name="b", port=2)))
    text = routes.dump(table)
    assert routes.parse(text) == table
    assert text.count("Path") == 2


@pytest.mark.parametrize("path", paths.GOOD)
def test_a_path_that_is_taken(path: str) -> None:
    assert Target(name="a", port=1, ping_path=path, invocations_path=path).invocations_path == path


@pytest.mark.parametrize("path", paths.BAD)
def test_a_path_that_could_be_read_in_two_ways_is_refused(path: str) -> None:
    for field in ("pingPath", "invocationsPath"):
        with pytest.raises(InvalidRouteTable, match=rf"targets\[0\]\.{field}: must "):
            routes.parse(table_of({"name": "a", "port": 1, field: path}))


def test_limits_and_availability_have_defaults() -> None:
    text = '{"namespace":"n","endpoint":"e","mode":"Serial","targets":[{"name":"a","port":1},{"name":"b","port":2}]}'
    table = routes.parse(text)
    assert table.limits == Limits()
    assert table.availability == "All"
    assert table.targets[0].host == "127.0.0.1"


def table_with(**change: object) -> str:
    return json.dumps({**json.loads(routes.dump(TABLE)), **change})


def table_of(*targets: dict[str, object]) -> str:
    return table_with(targets=list(targets))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        pytest.param(table_with(mode="direct"), "mode: must be Direct or Serial (got 'direct')", id="mode-case"),
        pytest.param(table_with(mode=["Direct"]), "mode: must be Direct or Serial (got a list)", id="mode-list"),
        pytest.param(table_with(endpoint="_"), "endpoint: must match the pattern ", id="pattern"),
        pytest.param(table_with(endpoint="a\n"), r"(got 'a\n')", id="pattern-newline"),
        pytest.param(table_with(endpoint=""), "endpoint: must have 1 to 63 characters (got '')", id="empty-name"),
        pytest.param(table_with(endpoint="a" * 64), "endpoint: must have 1 to 63 characters", id="long-name"),
        pytest.param(table_with(endpoint=None), "endpoint: must be a string (got null)", id="null-name"),
        pytest.param(table_with(namespace="\ud800"), "namespace: must not contain half a", id="surrogate"),
        pytest.param(table_with(targets=[]), "targets: must have at least 1 and at most 15 items, has 0", id="none"),
        pytest.param(table_with(targets={}), "targets: must be a list (got an object)", id="targets-object"),
        pytest.param(
            table_of(*({"name": f"c{i}", "port": i + 1} for i in range(16))), "at most 15 items, has 16", id="sixteen"
        ),
        pytest.param(
            table_of({"name": "a", "port": 0}),
            "targets[0].port: must be a whole number from 1 to 65535 (got 0)",
            id="port-zero",
        ),
        pytest.param(table_of({"name": "a", "port": "1"}), "targets[0].port: must be a whole", id="port-string"),
        pytest.param(table_of({"name": "a", "port": 1.0}), "targets[0].port: must be a whole", id="port-float"),
        pytest.param(table_of({"name": "a", "port": True}), "from 1 to 65535 (got True)", id="port-bool"),
        pytest.param(table_of({"name": "a"}), "targets[0].port: required, and not there", id="port-missing"),
        pytest.param(table_of({"name": "a", "port": 1, "host": ""}), "targets[0].host: must have 1 to", id="no-host"),
        pytest.param(
            table_of({"name": "a", "port": 1, "host": "a\r\nb: c"}), "targets[0].host: must match the pat", id="host"
        ),
        pytest.param(
            table_of({"name": "a", "port": 1, "invocationTimeoutSeconds": 0}),
            "targets[0].invocationTimeoutSeconds: must be a number above 0, at most 3600 (got 0)",
            id="timeout-zero",
        ),
        pytest.param(
            table_of({"name": "a", "port": 1, "invocationTimeoutSeconds": float("nan")}), "(got nan)", id="timeout-nan"
        ),
        pytest.param(
            table_of({"name": "a", "port": 1, "invocationTimeoutSeconds": "60"}), "(got '60')", id="timeout-string"
        ),
        pytest.param(
            table_of({"name": "a", "port": 1, "invocation_timeout_seconds": 60}),
            "targets[0].invocation_timeout_seconds: unknown field; known here: name, host, port, invocationTimeout",
            id="snake-case",
        ),
        pytest.param(
            table_of({"name": "a", "port": 1, "uid": -1}),
            "targets[0].uid: must be a whole number from 0 to 2147483647 or null (got -1)",
            id="uid",
        ),
        pytest.param(table_of({"name": "a", "port": 1}, {"name": "a", "port": 2}), "names must be unique", id="twice"),
        pytest.param(table_of({"name": "a", "port": 1}, {"name": "b", "port": 1}), "share a host and port", id="ports"),
        pytest.param(table_with(limits={"maxHopBytes": 0}), "limits.maxHopBytes: must be a whole number of", id="hop"),
        pytest.param(
            table_with(limits={"maxInvocationSeconds": 3600.1}),
            "limits.maxInvocationSeconds: must be a number from 0 to 3600 (got 3600.1)",
            id="longest",
        ),
        pytest.param(table_with(limits=None), "limits: must be an object (got null)", id="limits-null"),
        pytest.param(table_with(mode="Serial", availability="Any"), "Any needs mode Direct", id="any-serial"),
        pytest.param(table_with(color="red"), "color: unknown field; known here: namespace, ", id="unknown-field"),
        pytest.param(table_with(**{"a\nb": 1}), r"'a\nb': unknown field", id="unknown-with-newline"),
        pytest.param("[]", "must be an object (got a list)", id="list"),
        pytest.param("{", "not JSON", id="no-json"),
        pytest.param(b"\xff", "not JSON", id="no-text"),
        pytest.param("[" * 100_000, "not JSON", id="too-deep"),
    ],
)
def test_a_bad_table_is_refused_with_field_rule_and_value(text: str | bytes, complaint: str) -> None:
    with pytest.raises(InvalidRouteTable, match=re.escape(complaint)):
        routes.parse(text)


def test_every_fault_is_told_at_once() -> None:
    text = table_with(mode=1, color=2, targets=[{"name": "_", "port": 1}, {"name": "b"}])
    with pytest.raises(InvalidRouteTable) as refused:
        routes.parse(text)
    paths = [fault.split(":")[0] for fault in str(refused.value).split("; ") if not fault.startswith("known here")]
    assert paths == ["mode", "targets[0].name", "targets[1].port", "color"]


def test_a_refusal_stays_short_whatever_was_sent() -> None:
    for text in (table_with(endpoint="x" * 10**6), table_with(**{f"{i}" * 1000: 1 for i in range(1000)})):
        with pytest.raises(InvalidRouteTable) as refused:
            routes.parse(text)
        assert len(str(refused.value)) < 6000


def test_no_table_that_breaks_a_rule_can_be_made() -> None:
    with pytest.raises(ValueError, match="port: must be a whole number"):
        Target(name="a", port=0)
    with pytest.raises(ValueError, match="names must be unique"):
        replace(TABLE, targets=TABLE.targets * 2)
