"""The route table file: bounded, and parsed only when its bytes changed."""

import asyncio
import contextlib
from pathlib import Path

import pytest

from mce_api import routes
from mce_api.routes import InvalidRouteTable, RouteTable, Target
from mce_kit import tasks
from mce_router import table as tables
from mce_router.settings import Address, Settings

PLACE = Address(host="127.0.0.1", port=0)


def table(*names: str) -> RouteTable:
    targets = tuple(Target(name=name, port=port) for port, name in enumerate(names, 1))
    return RouteTable(namespace="n", endpoint="e", mode="Direct", targets=targets)


def test_a_file_that_is_too_large_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    text = routes.dump(table("a"))
    path.write_text(text + " " * (tables.MAX_BYTES - len(text)))
    assert tables.load(path) == table("a")
    path.write_text(path.read_text() + " ")
    with pytest.raises(InvalidRouteTable, match=r"t\.json: larger than 1048576 bytes"):
        tables.load(path)


async def test_a_file_is_parsed_only_when_its_bytes_changed_and_complained_about_once_for_each_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, parsed = tmp_path / "t.json", 0
    used: list[RouteTable] = []
    complaints = 0
    parse = routes.parse

    def counting(text: str | bytes) -> RouteTable:
        nonlocal parsed
        parsed += 1
        return parse(text)

    def bad() -> None:
        nonlocal complaints
        complaints += 1

    monkeypatch.setattr(routes, "parse", counting)
    settings = Settings(table=path, listen=PLACE, admin=PLACE, table_poll_seconds=0.005)
    path.write_text(routes.dump(table("a")))
    watching = tasks.spawn(tables.watch(settings, table("a"), use=used.append, bad=bad), name="watch")
    steps = [
        (routes.dump(table("a")), 1, 0, 0),
        (routes.dump(table("a")) + " ", 2, 0, 0),
        ("{", 3, 0, 1),
        (routes.dump(table("b")), 4, 1, 1),
        (None, 4, 1, 2),
        (routes.dump(table("b")), 5, 1, 2),
        (None, 5, 1, 3),
    ]
    for text, *expected in steps:
        if text is None:
            path.unlink()
        else:
            (tmp_path / "new").write_text(text)
            (tmp_path / "new").rename(path)
        await asyncio.sleep(0.3)
        assert [parsed, len(used), complaints] == expected
    assert used == [table("b")]
    watching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching
