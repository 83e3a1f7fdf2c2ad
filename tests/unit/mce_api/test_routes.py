import json

import pytest

from mce_api import routes
from mce_api.routes import InvalidRouteTable, Limits, RouteTable, Target

TABLE = RouteTable(
    namespace="team-a",
    endpoint="mnist",
    mode="Direct",
    targets=(Target(name="a", port=20000), Target(name="B", port=20100, max_concurrency=2)),
)


def test_a_table_survives_its_own_text() -> None:
    assert routes.parse(routes.dump(TABLE)) == TABLE


def test_equal_tables_give_equal_bytes() -> None:
    again = RouteTable.model_validate(json.loads(routes.dump(TABLE)))
    assert routes.dump(again) == routes.dump(TABLE)


def test_limits_and_availability_have_defaults() -> None:
    text = '{"namespace":"n","endpoint":"e","mode":"Serial","targets":[{"name":"a","port":1},{"name":"b","port":2}]}'
    table = routes.parse(text)
    assert table.limits == Limits()
    assert table.availability == "All"
    assert table.targets[0].host == "127.0.0.1"


def test_a_user_is_in_the_text_only_where_one_is_known() -> None:
    table = TABLE.model_copy(update={"targets": (Target(name="a", port=1, uid=20000), Target(name="b", port=2))})
    known, unknown = json.loads(routes.dump(table))["targets"]
    assert known["uid"] == 20000
    assert "uid" not in unknown
    assert routes.parse(routes.dump(table)) == table


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        pytest.param({"mode": "direct"}, "mode: .*(got 'direct')", id="mode-case"),
        pytest.param({"endpoint": "_"}, "endpoint: .*pattern", id="endpoint-pattern"),
        pytest.param({"targets": []}, "targets: .*at least 1", id="no-target"),
        pytest.param({"targets": [{"name": "a", "port": 0}]}, r"targets\[0\]\.port", id="port-zero"),
        pytest.param({"targets": [{"name": "a", "port": "1"}]}, r"targets\[0\]\.port", id="port-string"),
        pytest.param({"targets": [{"name": "a", "port": 1, "uid": -1}]}, r"targets\[0\]\.uid", id="uid-negative"),
        pytest.param({"targets": [{"name": f"c{i}", "port": i + 1} for i in range(16)]}, "at most 15", id="sixteen"),
        pytest.param({"targets": [{"name": "a", "port": 1}, {"name": "a", "port": 2}]}, "names must be", id="twice"),
        pytest.param({"targets": [{"name": "a", "port": 1}, {"name": "b", "port": 1}]}, "share a host", id="ports"),
        pytest.param({"mode": "Serial", "availability": "Any"}, "Any needs mode Direct", id="any-serial"),
        pytest.param({"color": "red"}, "color", id="unknown-field"),
    ],
)
def test_a_bad_table_is_refused_with_the_field(change: dict[str, object], complaint: str) -> None:
    document = {**json.loads(routes.dump(TABLE)), **change}
    with pytest.raises(InvalidRouteTable, match=complaint):
        routes.parse(json.dumps(document))


def test_what_is_no_json_is_refused() -> None:
    with pytest.raises(InvalidRouteTable, match="not JSON"):
        routes.parse("{")
