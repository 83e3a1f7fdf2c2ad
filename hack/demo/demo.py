"""`make demo`: two real models behind one endpoint, then a chain, on this machine, by the commands a user would type.

Every figure is checked, not only printed: exit code 0 means that all of it is true.
"""

import contextlib
import gzip
import http
import http.client
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[2]
MCE = Path(sys.executable).with_name("mce")
EXAMPLES = ROOT / "examples"
TARGET = "X-Amzn-SageMaker-Target-Container-Hostname"
IMAGES = 300
SIDE = 28
PIXELS = SIDE * SIDE
SHOWN = 4
WORST_ACCURACY = 0.9
INK = 90
"""Of 255: what is drawn."""
MARGIN = 4
"""Rows and columns that MNIST leaves empty around every digit."""
SAMPLE_SECONDS = 1.5
"""The supervisor samples CPU once a second."""


class DemoFailed(Exception):  # noqa: N818 - names what happened
    """Something that this demo claims is not so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Digit:
    """One real test image and what it is."""

    pixels: bytes
    label: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a container, or a chain, made of all images, and what that took."""

    said: tuple[int, ...]
    milliseconds: tuple[float, ...]
    cpu: dict[str, float]
    """Highest sample by container during the run, 100 per busy core."""
    memory: dict[str, float]

    def accuracy(self, digits: list[Digit]) -> float:
        """Share of right answers."""
        return sum(said == digit.label for said, digit in zip(self.said, digits, strict=True)) / len(digits)

    def percentile(self, percent: int) -> float:
        """Of the latency that the caller saw, in milliseconds."""
        return statistics.quantiles(self.milliseconds, n=100)[percent - 1]


class Demo:
    """The steps, in order; state of its own beside whatever endpoints the user runs."""

    def __init__(self, console: Console, state: Path) -> None:
        self.console = console
        self.env = {**os.environ, "XDG_STATE_HOME": str(state)}  # noqa: TID251 - as a shell would pass it on
        self.digits = list(test_digits())
        self.snapshots: dict[str, dict[str, Any]] = {}

    def run(self) -> None:
        """All of it."""
        began = time.monotonic()
        try:
            self.direct()
            self.serial()
        finally:
            self.mce("local", "down", "--all")
        self.claim(self.status() == [], "nothing is left running")
        self.console.print(f"\n[bold green]All checks passed[/] in {time.monotonic() - began:.0f} s.")

    # --- the two endpoints

    def direct(self) -> None:
        """Mode Direct: the caller names one container."""
        self.title("Direct: two frameworks behind one endpoint, the caller names one")
        self.mce("local", "up", "-d", "-f", "examples/digits/endpoint.yaml")
        names = ("sklearn-digits", "onnx-digits")
        runs = {}
        table = figures()
        for name in names:
            before = self.invocations("digits")
            runs[name] = self.ask("digits", name)
            after = self.invocations("digits")
            grown = {each: int(after[each] - before[each]) for each in names}
            expected = {each: IMAGES if each == name else 0 for each in names}
            if grown != expected:
                raise DemoFailed(f"calling {name} should count {expected}, counted {grown}")
            table.add_row(name, *judged(runs[name], self.digits), f"{after[name]:.0f}", *used(runs[name], name))
        self.console.print(f"\n{IMAGES} real MNIST test images to each, one request per image:")
        self.console.print(table)
        for name in names:
            self.claim_accuracy(name, runs[name])
        self.claim(expected=True, text=f"{IMAGES} calls of one container left the other's counter unchanged")
        self.draw(runs)
        self.refusal(names)

    def serial(self) -> None:
        """Mode Serial: the router calls one container after the other."""
        self.title("Serial: one request, two containers, the first one's answer is the second one's request")
        self.mce("local", "up", "-d", "-f", "examples/digits/pipeline.yaml")
        run = self.ask("digits-pipeline", None)
        after = self.invocations("digits-pipeline")
        table = figures()
        for name in ("digits-prep", "sklearn-digits"):
            table.add_row(name, "", "", "", f"{after[name]:.0f}", *used(run, name))
        table.add_row("the whole chain", *judged(run, self.digits), str(IMAGES), "", "")
        self.console.print(f"\n{IMAGES} images through the chain digits-prep (deskews) -> sklearn-digits (classifies):")
        self.console.print(table)
        self.claim_accuracy("the chain", run)
        self.claim(
            after == {"digits-prep": IMAGES, "sklearn-digits": IMAGES},
            f"each step was called {IMAGES} times, by the router",
        )

    def refusal(self, names: tuple[str, ...]) -> None:
        """What a caller sees who gets a name wrong."""
        before = self.invocations("digits")
        self.console.print("\nA name that no container has:")
        text = self.mce("invoke", "digits", "-c", "tensorflow-digits", fails=True)
        self.claim(
            "ValidationError" in text and all(name in text for name in names),
            "refused as SageMaker refuses it, naming the containers that there are",
        )
        self.claim(self.invocations("digits") == before, "no container was called")

    # --- talking to it

    def ask(self, endpoint: str, container: str | None) -> Run:
        """Every image in a request of its own, over one connection."""
        snapshot = self.snapshot(endpoint)
        address = urlsplit(snapshot["url"])
        headers = {"Content-Type": "application/x-image", "Accept": "application/json"}
        if container:
            headers[TARGET] = container
        said, milliseconds = [], []
        with contextlib.closing(
            http.client.HTTPConnection(str(address.hostname), address.port, timeout=60)
        ) as connection:
            for digit in self.digits:
                began = time.perf_counter()
                connection.request("POST", address.path, digit.pixels, headers)
                response = connection.getresponse()
                body = response.read()
                milliseconds.append((time.perf_counter() - began) * 1000)
                if response.status != http.HTTPStatus.OK:
                    raise DemoFailed(f"{endpoint} answered {response.status}: {body.decode(errors='replace')}")
                said.append(int(json.loads(body)["predictions"][0]["label"]))
        cpu, memory = usage(snapshot["metricsUrl"])
        return Run(said=tuple(said), milliseconds=tuple(milliseconds), cpu=cpu, memory=memory)

    def mce(self, *arguments: str, fails: bool = False) -> str:
        """Runs the real command, shows it and what it says, and returns that."""
        self.console.print(f"\n[bold]$ mce {' '.join(arguments)}[/]")
        done = subprocess.run([MCE, *arguments], cwd=ROOT, env=self.env, capture_output=True, text=True, check=False)
        output = (done.stdout + done.stderr).rstrip()
        for line in output.splitlines():
            self.console.print(f"  {line}", markup=False, soft_wrap=True)
        if (done.returncode != 0) != fails:
            raise DemoFailed(f"mce {' '.join(arguments)}: exit code {done.returncode}")
        return output

    def status(self) -> list[dict[str, Any]]:
        """`mce local status -o json`."""
        command = (str(MCE), "local", "status", "-o", "json")
        done = subprocess.run(command, cwd=ROOT, env=self.env, capture_output=True, text=True, check=True)
        result: list[dict[str, Any]] = json.loads(done.stdout)
        return result

    def snapshot(self, endpoint: str) -> dict[str, Any]:
        """One endpoint of it, asked for once: addresses do not change."""
        if endpoint not in self.snapshots:
            self.snapshots |= {each["endpoint"]: each for each in self.status()}
        return self.snapshots[endpoint]

    def invocations(self, endpoint: str) -> dict[str, float]:
        """Calls by container, from the router's metrics."""
        samples = metrics(self.snapshot(endpoint)["routerMetricsUrl"], "mce_container_invocations_total")
        names = [container["name"] for container in self.snapshot(endpoint)["containers"]]
        return {name: samples.get(name, 0.0) for name in names}

    # --- showing it

    def draw(self, runs: dict[str, Run]) -> None:
        """A few digits and what each container said; first of all one that they do not agree on."""
        order = sorted(range(IMAGES), key=lambda index: len({run.said[index] for run in runs.values()}) == 1)
        chosen = order[:1] + [index for index in range(IMAGES) if index not in order[:1]][: SHOWN - 1]
        self.console.print()
        pictures = [picture(self.digits[index].pixels) for index in chosen]
        for row in zip(*pictures, strict=True):
            self.console.print("".join(row).rstrip(), markup=False, soft_wrap=True)
        captions = {"truth": [self.digits[index].label for index in chosen]}
        captions |= {name.removesuffix("-digits"): [run.said[index] for index in chosen] for name, run in runs.items()}
        for name, values in captions.items():
            cells = (f"{f'{name}: {value}':^{len(pictures[0][0])}}" for value in values)
            self.console.print("".join(cells).rstrip(), markup=False, soft_wrap=True)

    def title(self, text: str) -> None:
        """A step begins."""
        self.console.print(f"\n[bold cyan]{text}[/]")

    def claim(self, expected: bool, text: str) -> None:  # noqa: FBT001 - reads as a sentence
        """A statement that holds, or the end."""
        if not expected:
            raise DemoFailed(f"not so: {text}")
        self.console.print(f"[green]ok[/] {text}")

    def claim_accuracy(self, who: str, run: Run) -> None:
        """Real models, right answers."""
        accuracy = run.accuracy(self.digits)
        self.claim(accuracy >= WORST_ACCURACY, f"{who} is right on {accuracy:.1%} of {IMAGES} images")


def usage(url: str) -> tuple[dict[str, float], dict[str, float]]:
    """The highest CPU samples of the last moments, and memory, by container, from the supervisor's metrics."""
    cpu: dict[str, float] = {}
    deadline = time.monotonic() + SAMPLE_SECONDS
    while time.monotonic() < deadline:
        for name, percent in metrics(url, "mce_container_cpu_utilization_percent").items():
            cpu[name] = max(percent, cpu.get(name, 0.0))
        time.sleep(0.2)
    return cpu, metrics(url, "mce_container_memory_working_set_bytes")


def judged(run: Run, digits: list[Digit]) -> tuple[str, str, str]:
    """Cells for accuracy and latency."""
    return f"{run.accuracy(digits):.1%}", f"{run.percentile(50):.1f}", f"{run.percentile(99):.1f}"


def used(run: Run, name: str) -> tuple[str, str]:
    """Cells for CPU and memory; both must have been measured."""
    if run.cpu.get(name, 0) <= 0 or run.memory.get(name, 0) <= 0:
        raise DemoFailed(f"{name}: CPU {run.cpu.get(name)}, memory {run.memory.get(name)}: nothing was measured")
    return f"{run.cpu[name]:.0f} %", f"{run.memory[name] / 1024**2:.0f} MiB"


def figures() -> Table:
    """An empty table of containers."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("container")
    for column in ("accuracy", "p50 ms", "p99 ms", "invocations", "CPU", "memory"):
        table.add_column(column, justify="right")
    return table


def test_digits() -> Iterator[Digit]:
    """The first test images of the committed MNIST subset (IDX: 16 and 8 bytes of header)."""
    images = gzip.decompress((EXAMPLES / "data" / "test-images-idx3-ubyte.gz").read_bytes())[16:]
    labels = gzip.decompress((EXAMPLES / "data" / "test-labels-idx1-ubyte.gz").read_bytes())[8:]
    for index in range(IMAGES):
        yield Digit(pixels=images[index * PIXELS : (index + 1) * PIXELS], label=labels[index])


def metrics(url: str, name: str) -> dict[str, float]:
    """One series by container."""
    parts = urlsplit(url)
    with contextlib.closing(http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=10)) as connection:
        connection.request("GET", parts.path)
        text = connection.getresponse().read().decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {sample.labels["container"]: sample.value for sample in samples if sample.name == name}


def picture(pixels: bytes) -> list[str]:
    """A character for each two pixels, one above the other: upper and lower half, inked or not."""
    halves = {(False, False): " ", (True, False): "▀", (False, True): "▄", (True, True): "█"}
    inside = range(MARGIN, SIDE - MARGIN)

    def inked(row: int, column: int) -> bool:
        return pixels[row * SIDE + column] > INK

    return ["".join(halves[inked(row, column), inked(row + 1, column)] for column in inside) for row in inside[::2]]


def main() -> int:
    """Exit code 0: everything held; 1: something did not; 130: interrupted."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(encoding="utf-8")  # a pipe in the C locale would refuse the drawings
    console = Console(highlight=False, width=max(Console().width, 100))
    try:
        Demo(console, ROOT / ".demo").run()
    except DemoFailed as error:
        console.print(f"[bold red]failed:[/] {error}", soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print("stopped")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
