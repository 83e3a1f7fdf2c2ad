from typing import Any

import pytest

from mce_operator import newness


def status(**changes: Any) -> dict[str, Any]:
    return {
        "state": "Creating",
        "reason": "Pending",
        "failureReason": "",
        "observedGeneration": 1,
        "readyReplicas": 0,
        "conditions": [
            {"type": "Ready", "status": "False", "reason": "Pending", "message": "m", "observedGeneration": 1}
        ],
        "containers": [{"name": "A", "reason": "Pending", "ready": 0, "restarts": 0}],
        **changes,
    }


def condition(**changes: Any) -> dict[str, Any]:
    return {"conditions": [{**status()["conditions"][0], **changes}]}


def container(**changes: Any) -> dict[str, Any]:
    return {"containers": [{**status()["containers"][0], **changes}]}


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"state": "InService"}, id="state"),
        pytest.param({"reason": "Exit"}, id="a cause"),
        pytest.param({"failureReason": "why"}, id="a failure"),
        pytest.param({"observedGeneration": 2}, id="a generation was seen"),
        pytest.param(condition(status="True"), id="a condition turns"),
        pytest.param(condition(observedGeneration=2), id="a condition is of another generation"),
        pytest.param(condition(reason="ImagePull"), id="a condition has another cause"),
        pytest.param(container(reason="OOMKilled"), id="a container fails"),
        pytest.param(container(name="B"), id="another container"),
        pytest.param({"conditions": []}, id="a condition is gone"),
    ],
)
def test_a_transition_is_never_held_back(change: dict[str, Any]) -> None:
    assert newness.seconds_to_wait(status(), status(**change), 0.5) == 0
    assert newness.seconds_to_wait(status(**change), status(), 0.5) == 0


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"readyReplicas": 2, "containersReady": "1/2"}, id="numbers"),
        pytest.param({"reason": "Starting"}, id="the ordinary course"),
        pytest.param(condition(message="1 of 3 replicas serve"), id="a text"),
        pytest.param(container(restarts=7, lastExitCode=1, message="again"), id="restarts"),
        pytest.param(container(reason="", ready=1), id="a container has started"),
    ],
)
def test_what_only_counts_on_is_written_once_in_ten_seconds(change: dict[str, Any]) -> None:
    assert newness.seconds_to_wait(status(), status(**change), 4) == 6
    assert newness.seconds_to_wait(status(), status(**change), 10) == 0


def test_that_all_containers_are_ready_is_told_with_that_they_are_in_service() -> None:
    before, after = (status(state="InService", containersReady=f"{ready}/15") for ready in (14, 15))
    assert newness.seconds_to_wait(before, after, 0.5) == 0
    assert newness.seconds_to_wait(status(containersReady="14/15"), status(containersReady="15/15"), 4) == 6


@pytest.mark.parametrize("since", [None, -3600.0])
def test_a_new_process_and_a_clock_set_back_hold_nothing_back(since: float | None) -> None:
    assert newness.seconds_to_wait(status(), status(readyReplicas=1), since) == 0


def test_a_status_that_was_never_written_is_news() -> None:
    assert newness.is_urgent({"observedGeneration": -1}, status())
    assert newness.is_urgent({}, status())
