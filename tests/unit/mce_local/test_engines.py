import asyncio
import os
import sys
from pathlib import Path

import pytest

from mce_kit import clock
from mce_local import engines
from mce_local.engines import Engine
from mce_local.ports import Assigned
from mce_local.processes import Processes
from mce_local.runtime import Launch, Sample
from mce_local.wanted import Container


def launch(tmp_path: Path = Path(), **container: object) -> Launch:
    return Launch(
        endpoint="digits",
        instance="0123456789abcdef",
        container=Container.model_validate(
            {"name": "Sk-Learn", "image": "m:1", "command": (), "args": ("serve",), **container}
        ),
        assigned=Assigned(port=8080, block=20000),
        bind_env={"SAGEMAKER_BIND_TO_PORT": "8080"},
        log=tmp_path / "log",
    )


def test_the_command_line_of_a_plain_container() -> None:
    assert engines.run_arguments(launch(), "NAME", ["A", "B=1"]) == [
        *("run", "--rm", "--name", "NAME"),
        *("--label", "serving.mce.dev/local-instance=0123456789abcdef", "--label", "serving.mce.dev/endpoint=digits"),
        *("--publish", "127.0.0.1:8080:8080", "--env", "A", "--env", "B=1"),
        *("m:1", "serve"),
    ]


def test_limits_pull_policy_and_command_become_options() -> None:
    full = launch(pull="never", memory_bytes=1048576, cpu_cores=0.25, command=("/bin/run", "x"))
    arguments = engines.run_arguments(full, "NAME", [])
    assert arguments[arguments.index("--publish") + 2 :] == [
        *("--pull", "never", "--memory", "1048576", "--cpus", "0.25", "--entrypoint", "/bin/run"),
        *("m:1", "x", "serve"),
    ]


def test_the_name_says_whose_it_is_and_is_legal() -> None:
    assert engines.container_name(launch()) == "mce-digits-sk-learn-01234567-20000"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param("c\t12.50%\t1.5MiB / 1GiB", Sample(cpu_cores=0.125, memory_bytes=1.5 * 1024**2), id="docker"),
        pytest.param("c\t200%\t2MB / 1GB", Sample(cpu_cores=2, memory_bytes=2e6), id="podman"),
        pytest.param("c\t0.00%\t700B / 0B", Sample(cpu_cores=0, memory_bytes=700), id="bytes"),
        pytest.param("c\t0.00%\t1.2kB / 0B", Sample(cpu_cores=0, memory_bytes=1200), id="kilobytes"),
        pytest.param("c\t--\t1KiB / --", Sample(cpu_cores=0, memory_bytes=1024), id="no CPU yet"),
        pytest.param("c\t--\t-- / --", None, id="nothing yet"),
        pytest.param("error", None, id="no table"),
    ],
)
def test_usage_is_read_from_both_engines(line: str, expected: Sample | None) -> None:
    assert engines.parse_stats(line + "\n").get("c") == expected


async def test_a_secret_is_not_on_the_command_line_and_the_exit_code_is_the_containers(tmp_path: Path) -> None:
    fake = tmp_path / "docker"
    fake.write_text(f"#!{sys.executable}\nimport os, sys\nprint(sys.argv, os.environ['TOKEN'])\nsys.exit(42)\n")
    fake.chmod(0o700)
    engine = Engine(str(fake), {"PATH": os.environ["PATH"]}, Processes({}, clock.system()))
    handle = engine.start(launch(tmp_path, env={"TOKEN": "top-secret", "PATH": "/models"}))
    async with asyncio.timeout(10):
        while (code := engine.inspect(handle)) is None:  # noqa: ASYNC110 - the interface is polled
            await asyncio.sleep(0.01)
    (line,) = engine.logs(handle, 5)
    command, _, environment = line.rpartition("] ")
    assert code == 42
    assert "'TOKEN'" in command
    assert "top-secret" not in command
    assert "'PATH=/models'" in command, "the client needs its own PATH"
    assert environment == "top-secret"
    await engine.stop(handle, 0)
