"""What is measured: one row for each case. A new case is a new row of `CASES`, if one of the loads below fits it."""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, Literal

CONTAINERS: Final = ("one", "two", "three")


class Load(StrEnum):
    """What drives a case."""

    WRK = "wrk"
    """As many calls as go over the connections; wrk is the cheapest generator there is."""
    CHAINS = "chains"
    """As many jobs as go, where a job of a peer is one call to each container, one after another."""
    RATE = "rate"
    """A fixed number of calls a second, sent whether or not the last ones are answered."""
    START = "start"
    """No load: process start to first answer, then memory at rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A ratio that must not be larger."""

    ratio: str
    at_most: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One question and the load that answers it."""

    name: str
    question: str
    load: Load
    ratio_of: str
    """The figure that the router is compared by."""
    mode: Literal["Direct", "Serial"] = "Direct"
    containers: tuple[str, ...] = CONTAINERS[:2]
    reply: str = "facts"
    """What the containers answer: `facts`, `echo`, or a number of bytes (see gobackend)."""
    request_bytes: int = 1024
    connections: int = 32
    rate: int = 0
    rounds: int = 5
    seconds: float = 3.0
    goal: Goal | None = None

    def jobs(self, proxy: str) -> str:
        """The targets that a caller names, as both load generators read them."""
        if self.mode == "Serial" and proxy == "router":
            return "-"
        return ("+" if self.load is Load.CHAINS else ",").join(self.containers)


CASES: Final = (
    Case(
        name="direct-1k",
        question="What does one small invocation cost?",
        load=Load.WRK,
        ratio_of="cpu_us",
        rounds=15,  # two quiet runs of 7 fell on either side of the goal
        goal=Goal(ratio="router/haproxy", at_most=2.0),
    ),
    Case(
        name="direct-1k-one",
        question="And when every call of a connection has the same head?",
        load=Load.WRK,
        ratio_of="cpu_us",
        containers=CONTAINERS[:1],
        rounds=7,
    ),
    Case(
        name="direct-1m-request",
        question="What does a request body of 1 MiB cost?",
        load=Load.WRK,
        ratio_of="cpu_us",
        request_bytes=1 << 20,
    ),
    Case(
        name="direct-1m-reply",
        question="What does a reply body of 1 MiB cost?",
        load=Load.WRK,
        ratio_of="cpu_us",
        reply=str(1 << 20),
    ),
    Case(
        name="serial-3",
        question="What does a chain of three cost, against a caller that makes three calls through a proxy?",
        load=Load.CHAINS,
        ratio_of="cpu_us",
        mode="Serial",
        containers=CONTAINERS,
        reply="echo",
    ),
    Case(
        name="latency-1000rps",
        question="How much later does an answer come at a moderate load?",
        load=Load.RATE,
        ratio_of="added_p50_ms",
        rate=1000,
        connections=64,
    ),
    Case(
        name="startup",
        question="How soon does it serve, and what does it hold at rest?",
        load=Load.START,
        ratio_of="first_answer_ms",
        rounds=5,
    ),
)


QUICK: Final = tuple({case.load: case for case in reversed(CASES)}.values())[::-1]
"""One case of each load: what a smoke test runs."""


def quick(case: Case) -> Case:
    """`case` as a smoke test: does it work at all; its figures mean nothing."""
    return replace(case, rounds=1, seconds=0.4)
