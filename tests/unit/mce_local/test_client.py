"""What a command sees of an order on its way, when it looks at two moments."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mce_kit import clock
from mce_local import state
from mce_local.client import Action, Begun, Client
from mce_local.errors import StartFailed
from mce_local.settings import Settings
from mce_local.snapshot import Snapshot
from mce_local.state import Phase, Record
from mce_local.wanted import RuntimeKind

FAILURE = "container b exited with code 7 before it was in service"


def record(phase: Phase, failure: str) -> Record:
    return Record(
        endpoint="e",
        namespace="default",
        mode="Direct",
        runtime=RuntimeKind.PROCESS,
        instance="i",
        pid=os.getpid(),
        started=state.start_time(os.getpid()),
        phase=phase,
        generation=2,
        failure=failure,
    )


def snapshot(phase: Phase, failure: str) -> Snapshot:
    return Snapshot(
        endpoint="e",
        namespace="default",
        mode="Direct",
        runtime=RuntimeKind.PROCESS,
        phase=phase,
        generation=2,
        failure=failure,
        url="",
        metrics_url="",
        router_metrics_url="",
        supervisor_pid=os.getpid(),
    )


def test_an_update_that_is_undone_between_two_looks_is_no_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records: Iterator[Record] = iter([record(Phase.UPDATING, ""), record(Phase.IN_SERVICE, FAILURE)])
    monkeypatch.setattr(Client, "record", lambda _self, _endpoint: next(records))
    monkeypatch.setattr(Client, "snapshot", lambda _self, _endpoint: snapshot(Phase.IN_SERVICE, FAILURE))
    settings = Settings(home=tmp_path, inherited={}, everything={})
    watching = Client(settings=settings, clock=clock.system(), sleep=lambda _seconds: None)
    begun = Begun(endpoint="e", generation=2, action=Action.UPDATED, child=None)
    with pytest.raises(StartFailed, match="was not updated, it runs as before: container b exited with code 7"):
        list(watching.watch(begun))
