"""The soak itself: what explains a failure and what does not, and a short run as smoke."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from soak import judge, letters
from soak.judge import Failure, Timeline
from soak.letters import Wish

TABLE = {"mode": "Direct", "targets": [{"name": "a"}, {"name": "b"}]}


def failure(kind: str = "status", reason: str = "", target: str = "a", at: float = 50.0, size: int = 10) -> Failure:
    return Failure(kind=kind, targets=(target,), size=size, began=at, ended=at + 0.1, status=424, reason=reason)


def timeline(*tables: tuple[float, judge.Table]) -> Timeline:
    return Timeline(down=[("a", 49.0, 51.0)], tables=[(0.0, TABLE), *tables])


@pytest.mark.parametrize(
    ("found", "what"),
    [
        (failure(reason="ModelBrokeOff"), "container down"),
        (failure(reason="ModelUnreachable", target="b"), ""),
        (failure(reason="ModelUnreachable", at=53.0), ""),
        (failure(reason="ModelTimeout"), ""),
        (failure(reason="ModelBadReply"), ""),
        (failure("cut"), "container down"),
        (failure("cut", target="b"), ""),
        (failure("wrong"), ""),
        (failure("refused"), ""),
        (failure("timeout"), ""),
        (failure(reason="RequestTimeout"), ""),
        (failure(reason="ContainerNotReady"), ""),
        (failure(reason="TargetUnknown"), ""),
        (failure(reason="TargetUnknown", target="c"), "TargetUnknown by the table"),
        (failure(reason="EndpointBusy"), ""),
        (failure(reason="BodyTooLarge"), ""),
    ],
)
def test_a_failure_is_explained_by_what_was_so_at_its_time_or_not_at_all(found: Failure, what: str) -> None:
    assert judge.cause(found, timeline()) == what


def test_an_old_table_explains_a_failure_only_as_long_as_it_may_be_in_use() -> None:
    busy = {**TABLE, "limits": {"maxConcurrency": 1}}
    times = timeline((60.0, busy), (70.0, TABLE))
    explained = [bool(judge.cause(failure(reason="EndpointBusy", at=at), times)) for at in (59.0, 61.0, 72.0, 74.0)]
    assert explained == [False, True, True, False]


def test_growth_leaves_out_the_warm_up() -> None:
    assert judge.growth([0, 50, 100, 100, 100, 100, 100, 100, 100, 100]) == 0
    assert judge.growth([float(value) for value in range(100)]) == pytest.approx(60)


def test_a_log_line_without_a_cause_is_a_fault() -> None:
    started, loaded = '{"event": "router started"}', '{"event": "route table loaded"}'
    assert judge.log_faults([started, loaded], loaded=1, refused=0) == []
    assert len(judge.log_faults([started, loaded, loaded], loaded=1, refused=0)) == 1
    assert len(judge.log_faults([started, "Traceback (most recent call last):"], loaded=0, refused=0)) == 1
    assert len(judge.log_faults(['{"event": "task failed", "exc_info": "..."}'], loaded=0, refused=0)) == 1


def test_a_body_says_whether_it_is_whole() -> None:
    body = letters.body(77, 1000, Wish("g", "c", 20, 5))
    found = letters.parse(body)
    assert found is not None
    assert (found[0], found[1].id, found[1].wish) == (0, 77, Wish("g", "c", 20, 5))
    assert letters.is_whole(body)
    assert letters.is_whole(b"b:a:" + body)
    assert not letters.is_whole(body[:-1])
    assert not letters.is_whole(body[:500] + letters.body(78, 1000, Wish())[500:])
    assert letters.is_whole(b"")


@pytest.mark.timeout(120)
def test_nothing_is_lost_or_mixed_up_while_containers_die_and_tables_change(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "soak.run", "--seconds", "10", "--keep", str(tmp_path)]
    tests = str(Path(__file__).parents[1])
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tests, timeout=110)
    assert done.returncode == 0, done.stderr + done.stdout[-500:]
    summary = json.loads(done.stdout)
    assert summary["answered"] > 0
    assert summary["aborts"] > 0
    assert summary["restarts"] > 0
    assert summary["reloads"] > 0
