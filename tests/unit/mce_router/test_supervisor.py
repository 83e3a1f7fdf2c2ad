"""How a worker is replaced, and how it is asked."""

import asyncio
import socket
from typing import Any

import pytest

from mce_kit import tasks
from mce_router import control, supervisor
from mce_router.control import Asker, Gone


def test_a_worker_is_replaced_at_once_unless_it_dies_again_and_again() -> None:
    pauses = [supervisor.pause_seconds(short_lives) for short_lives in range(12)]
    assert pauses[:3] == [0, 0, 0.4]
    assert pauses == sorted(pauses)
    assert pauses[-1] == 5.0


@pytest.mark.parametrize(("status", "text"), [(3, "exit status 3"), (-9, "signal SIGKILL"), (-62, "signal 62")])
def test_the_end_of_a_worker_is_said_in_words(status: int, text: str) -> None:
    assert supervisor.exit_text(status) == text


async def _pair(handlers: dict[str, control.Handler]) -> tuple[Asker, asyncio.Task[None]]:
    ours, theirs = socket.socketpair()
    answering = tasks.spawn(control.answer(*await control.connect(theirs), handlers), name="answer")
    return Asker(*await control.connect(ours)), answering


async def test_a_slow_answer_holds_no_other_one_up() -> None:
    let_go = asyncio.Event()

    async def slow(argument: Any) -> Any:
        await let_go.wait()
        return argument

    async def quick(argument: Any) -> Any:
        return [argument]

    asker, answering = await _pair({"slow": slow, "quick": quick})
    waiting = tasks.spawn(asker.ask("slow", {"é": 1}), name="slow")
    await asyncio.sleep(0)
    assert await asker.ask("quick", "x") == ["x"]
    let_go.set()
    assert await waiting == {"é": 1}
    asker.close()
    await asyncio.wait((answering, asker.listening))


async def test_a_question_to_one_that_ends_is_answered_by_its_end() -> None:
    async def never(_: Any) -> None:
        await asyncio.sleep(3600)

    asker, answering = await _pair({"never": never})
    waiting = tasks.spawn(asker.ask("never"), name="never")
    await asyncio.sleep(0.05)
    answering.cancel()
    with pytest.raises(Gone):
        await waiting
    with pytest.raises(Gone):
        await asker.ask("never")
