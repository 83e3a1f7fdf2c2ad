from datetime import UTC, datetime, timedelta

from mce_api.status import Status
from mce_operator.events import Recorder
from mce_operator.key import Key
from mce_operator.observed import Observed
from unit.mce_operator import objects


class Course:
    """One endpoint that goes from status to status."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
        self.recorder = Recorder("test", lambda: self.now)
        self.stored = Status()
        self.generation = 1

    def goes_to(self, **status: str) -> tuple[str, str, str] | None:
        wanted = Status(**status)
        document = objects.document(status=self.stored.model_dump(mode="json", by_alias=True, exclude_none=True))
        document["metadata"]["generation"] = self.generation
        observed = Observed(key=Key("team-a", "mnist"), document=document)
        self.news = self.recorder.transition(observed, self.stored, wanted)
        self.stored = wanted
        self.now += timedelta(seconds=10)
        event = self.news.body if self.news else {}
        return (event["type"], event["reason"], event["note"]) if event else None


CRASH = {"state": "InService", "reason": "Exit"}


def test_an_event_says_what_has_changed_once() -> None:
    course = Course()
    assert course.goes_to(**CRASH, failure_reason="container a: Exit: 1") == ("Warning", "Exit", "container a: Exit: 1")
    assert course.goes_to(**CRASH, failure_reason="container a: Exit: 1, other last words") is None


def test_the_next_container_with_the_same_reason_is_another_event() -> None:
    course = Course()
    course.goes_to(**CRASH, failure_reason="container a: Exit: 1")
    assert course.goes_to(**CRASH, failure_reason="container b: Exit: 1") is not None


def test_what_comes_and_goes_is_told_once_in_five_minutes_and_then_counted() -> None:
    course = Course()
    for number in range(4):
        told = course.goes_to(**CRASH, failure_reason=f"container a: Exit: {number}")
        assert (told is not None) == (number == 0)
        course.goes_to(state="InService")
    course.now += timedelta(minutes=5)
    told = course.goes_to(**CRASH, failure_reason="container a: Exit: x")
    assert told == ("Warning", "Exit", "container a: Exit: x (3 more times since 12:00:00 UTC)")


def test_each_generation_has_its_own_transitions() -> None:
    course = Course()
    for generation in (1, 2):
        course.generation = generation
        assert course.goes_to(state="Updating") is not None
        assert course.goes_to(state="InService") is not None


def test_a_note_is_never_longer_than_the_api_server_takes() -> None:
    told = Course().goes_to(**CRASH, failure_reason="x" * 1024)
    assert told is not None
    assert len(told[2]) <= 1024


def test_what_could_not_be_posted_is_told_the_next_time_and_counted() -> None:
    course = Course()

    def crashes() -> tuple[str, str, str] | None:
        course.goes_to(state="InService")
        return course.goes_to(**CRASH, failure_reason="container a: Exit: 1")

    assert crashes()
    course.now += timedelta(minutes=5)
    assert crashes()
    assert course.news
    course.recorder.take_back(course.news)
    assert crashes() is None  # not at once: the API server may have a limit on them
    told = crashes()
    assert told
    assert told[2] == "container a: Exit: 1 (2 more times since 12:00:10 UTC)"
    assert crashes() is None
    course.now += timedelta(minutes=4)
    assert crashes() is None


def test_the_first_one_that_could_not_be_posted_leaves_nothing_to_count_from() -> None:
    course = Course()
    assert course.goes_to(**CRASH, failure_reason="container a: Exit: 1")
    assert course.news
    course.recorder.take_back(course.news)
    course.now += timedelta(seconds=30)
    course.goes_to(state="InService")
    told = course.goes_to(**CRASH, failure_reason="container a: Exit: 1")
    assert told == ("Warning", "Exit", "container a: Exit: 1")
