from mce_api.status import Condition, merged


def _ready(status: str, time: str, message: str = "") -> Condition:
    return Condition.model_validate(
        {"type": "Ready", "status": status, "reason": "X", "message": message, "lastTransitionTime": time}
    )


def test_a_condition_that_did_not_change_keeps_its_time() -> None:
    (kept,) = merged([_ready("True", "2026-01-02T00:00:00Z", "new")], [_ready("True", "2026-01-01T00:00:00Z", "old")])
    assert kept.last_transition_time == "2026-01-01T00:00:00Z"
    assert kept.message == "new"


def test_a_condition_that_changed_takes_the_new_time() -> None:
    (moved,) = merged([_ready("False", "2026-01-02T00:00:00Z")], [_ready("True", "2026-01-01T00:00:00Z")])
    assert moved.last_transition_time == "2026-01-02T00:00:00Z"


def test_a_new_condition_takes_the_new_time() -> None:
    assert merged([_ready("True", "2026-01-02T00:00:00Z")], [])[0].last_transition_time == "2026-01-02T00:00:00Z"
