"""What is measured: one row for each case. A new case is a new row of `CASES`, if one of the loads below fits it."""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, Literal

CONTAINERS: Final = ("one", "two", "three")
STREAM_PATH: Final = "/endpoints/bench/invocations-response-stream"
WAYS: Final = ("idle", "well", "hangs", "closes", "framing", "headers", "drips", "floods")
"""What the neighbour of a container does in the case `isolation`; from the third on it misbehaves (see gofaulty)."""


class Load(StrEnum):
    """What drives a case."""

    WRK = "wrk"
    """As many calls as go over the connections; wrk is the cheapest generator there is."""
    CALLS = "calls"
    """The same from goload, for bodies that wrk's scripts are too slow to make."""
    CHAINS = "chains"
    """As many jobs as go, where a job of a peer is one call to each container, one after another."""
    RATE = "rate"
    """A fixed number of calls a second, sent whether or not the last ones are answered."""
    CHUNKS = "chunks"
    """One call on each connection, its reply a stream of small chunks, and each chunk is a job."""
    START = "start"
    """No load: process start to first answer, then memory at rest."""
    IDLE = "idle"
    """One call on each connection, and then nothing: memory held for it."""
    NEIGHBOUR = "neighbour"
    """Calls at a fixed rate to one container through the router, while another is called that misbehaves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What a figure, or its ratio to a peer's, must not exceed, and what it should not."""

    figure: str
    must: float
    aim: float | None = None
    of: str = "router"
    over: str = ""
    """The row to divide by, round by round; empty: the figure itself counts."""
    worst: bool = False
    """Whether the largest round counts and not the median: for what grows and stays."""

    def __str__(self) -> str:
        return f"{self.figure} {self.of}/{self.over}" if self.over else f"{self.figure} {self.of}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One question and the load that answers it."""

    name: str
    question: str
    load: Load
    ratio_of: str
    """The figure whose ratios are shown."""
    mode: Literal["Direct", "Serial"] = "Direct"
    containers: tuple[str, ...] = CONTAINERS[:2]
    proxies: tuple[str, ...] = ("router", "haproxy", "go", "nginx")
    reply: str = "facts"
    """What the containers answer: `facts`, `echo`, a number of bytes, or `chunks:N` (see gobackend)."""
    path: str = "/invocations"
    request_bytes: int = 1024
    connections: int = 32
    rate: int = 0
    unique: bool = False
    """Whether every request has an id of its own in its head, as an SDK's have."""
    options: tuple[str, ...] = ()
    """More of the router's command line; the case is skipped by a router that does not know the first."""
    memory: bool = False
    """Whether to measure what the large bodies add to the memory of a proxy that is warm from small ones."""
    rounds: int = 5
    seconds: float = 3.0
    goals: tuple[Goal, ...] = ()

    def jobs(self, proxy: str) -> str:
        """The targets that a caller names, as both load generators read them."""
        if self.mode == "Serial" and proxy == "router":
            return "-"
        return ("+" if self.load is Load.CHAINS else ",").join(self.containers)

    def pairs(self, rows: tuple[str, ...]) -> list[tuple[str, str]]:
        """Which rows are compared: the router with each other, or each neighbour's doing with none at all."""
        if self.load is Load.NEIGHBOUR:
            return [(row, rows[0]) for row in rows[1:]]
        return [("router", row) for row in rows if row != "router"]


_LARGE_GOALS: Final = (
    Goal(figure="cpu_us", over="haproxy", must=2.0, aim=1.3),
    Goal(figure="rss_growth_mib", must=8.0, worst=True),
)
_CHUNK_GOALS: Final = (Goal(figure="p99_ms", must=5.0, aim=1.0),)

CASES: Final = (
    Case(
        name="direct-1k",
        question="What does one small invocation cost?",
        load=Load.WRK,
        ratio_of="cpu_us",
        rounds=13,  # two quiet runs of 7 fell on either side of a goal
        goals=(
            Goal(figure="cpu_us", over="haproxy", must=1.6, aim=1.3),
            Goal(figure="cpu_us", over="go", must=0.45),
        ),
    ),
    Case(
        name="direct-1k-one",
        question="And when every call of a connection has the same head?",
        load=Load.WRK,
        ratio_of="cpu_us",
        containers=CONTAINERS[:1],
        proxies=("router", "haproxy"),
    ),
    Case(
        name="direct-1k-unique",
        question="And when no two calls have the same head, as those of an SDK?",
        load=Load.WRK,
        ratio_of="cpu_us",
        proxies=("router", "haproxy", "go"),
        unique=True,
        rounds=7,
    ),
    Case(
        name="direct-1k-log",
        question="And when the router logs every call?",
        load=Load.WRK,
        ratio_of="cpu_us",
        proxies=("router", "plain", "haproxy"),
        options=("--access-log", "all"),
    ),
    Case(
        name="direct-1m-request",
        question="What does a request body of 1 MiB cost?",
        load=Load.WRK,
        ratio_of="cpu_us",
        request_bytes=1 << 20,
        memory=True,
        goals=_LARGE_GOALS,
    ),
    Case(
        name="direct-1m-reply",
        question="What does a reply body of 1 MiB cost?",
        load=Load.WRK,
        ratio_of="cpu_us",
        reply=str(1 << 20),
        memory=True,
        goals=_LARGE_GOALS,
    ),
    Case(
        name="direct-100m-request",
        question="What does a request body of 100 MiB cost?",
        load=Load.CALLS,
        ratio_of="cpu_us",
        containers=CONTAINERS[:1],
        request_bytes=100 << 20,
        connections=4,
        memory=True,
        rounds=3,
        goals=_LARGE_GOALS,
    ),
    Case(
        name="direct-100m-reply",
        question="What does a reply body of 100 MiB cost?",
        load=Load.CALLS,
        ratio_of="cpu_us",
        containers=CONTAINERS[:1],
        reply=str(100 << 20),
        connections=4,
        memory=True,
        rounds=3,
        goals=_LARGE_GOALS,
    ),
    Case(
        name="serial-3",
        question="What does a chain of three cost, against a caller that makes three calls through a proxy?",
        load=Load.CHAINS,
        ratio_of="cpu_us",
        mode="Serial",
        containers=CONTAINERS,
        reply="echo",
        goals=(Goal(figure="cpu_us", over="haproxy", must=1.5, aim=1.1),),
    ),
    Case(
        name="latency-1000rps",
        question="How much later does an answer come at a moderate load?",
        load=Load.RATE,
        ratio_of="added_p50_ms",
        rate=1000,
        connections=64,
        rounds=9,  # a p99 is thirty calls of a round
        goals=(
            Goal(figure="added_p50_ms", over="haproxy", must=1.5, aim=1.0),
            Goal(figure="added_p99_ms", over="haproxy", must=2.0, aim=1.0),
        ),
    ),
    Case(
        name="stream-chunks",
        question="How long after its sending does a chunk of a streamed reply arrive?",
        load=Load.CHUNKS,
        ratio_of="p99_ms",
        containers=CONTAINERS[:1],
        reply="chunks:1000",
        connections=8,
        rounds=4,
        goals=_CHUNK_GOALS,
    ),
    Case(
        name="stream-events",
        question="And as AWS event-stream frames?",
        load=Load.CHUNKS,
        ratio_of="p99_ms",
        containers=CONTAINERS[:1],
        proxies=("router",),
        path=STREAM_PATH,
        reply="chunks:1000",
        connections=8,
        rounds=4,
        goals=_CHUNK_GOALS,
    ),
    Case(
        name="idle-1000",
        question="What does an idle connection of a caller hold?",
        load=Load.IDLE,
        ratio_of="connection_kb",
        connections=1000,
        rounds=3,
        goals=(Goal(figure="connection_kb", must=20.0, aim=8.0),),
    ),
    Case(
        name="startup",
        question="How soon does it serve, and what does it hold at rest?",
        load=Load.START,
        ratio_of="first_answer_ms",
        goals=(
            Goal(figure="first_answer_ms", must=300.0, aim=150.0),
            Goal(figure="rss_mib", must=45.0, aim=30.0),
        ),
    ),
    Case(
        name="isolation",
        question="What do a container's callers notice of its neighbour?",
        load=Load.NEIGHBOUR,
        ratio_of="p99_ms",
        containers=CONTAINERS[:1],
        proxies=("router",),
        connections=32,
        rate=300,
        goals=tuple(Goal(figure="p99_ms", of=way, over="idle", must=1.5, aim=1.1) for way in WAYS[2:]),
    ),
)


QUICK: Final = tuple({case.load: case for case in reversed(CASES)}.values())[::-1]
"""One case of each load: what a smoke test runs."""


def quick(case: Case) -> Case:
    """`case` as a smoke test: does it work at all; its figures mean nothing."""
    reply = "chunks:100" if case.load is Load.CHUNKS else case.reply
    return replace(case, rounds=1, seconds=0.4, connections=min(case.connections, 64), reply=reply)
