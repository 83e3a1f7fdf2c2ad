import asyncio
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from mce_kit import clock
from mce_local import orphans, state
from mce_local.errors import LocalError
from mce_local.ports import Assigned
from mce_local.processes import Processes
from mce_local.runtime import Handle, Launch
from mce_local.state import Phase, Record
from mce_local.wanted import Container, RuntimeKind


def launch(folder: Path, *command: str, **env: str) -> Launch:
    return Launch(
        endpoint="e",
        instance=f"test-{folder.name}",
        container=Container(name="a", image="m:1", command=command, args=("serve",), working_dir=str(folder), env=env),
        assigned=Assigned(port=20000, block=20000),
        bind_env={"SAGEMAKER_BIND_TO_PORT": "20000"},
        log=folder / "a.log",
    )


@pytest.fixture
def runtime() -> Processes:
    return Processes({"PATH": os.environ["PATH"], "HOME": "/home/me"}, clock.system())


def ended(runtime: Processes, handle: Handle) -> int:
    while (code := runtime.inspect(handle)) is None:
        time.sleep(0.01)
    return code


def wait_for(path: Path) -> str:
    while not (path.exists() and (text := path.read_text())):
        time.sleep(0.01)
    return text


async def test_a_process_gets_its_own_variables_and_few_of_ours(tmp_path: Path, runtime: Processes) -> None:
    os.environ["SURELY_SECRET"] = "x"
    script = "import os, sys; print(sys.argv[1:], sorted(os.environ)); sys.exit(5)"
    handle = runtime.start(launch(tmp_path, "python", "-c", script, MODEL="m"))
    assert ended(runtime, handle) == 5
    (line,) = runtime.logs(handle, 10)
    assert line.startswith("['serve']")
    for name in ("MODEL", "SAGEMAKER_BIND_TO_PORT", "HOME", "MCE_LOCAL_INSTANCE"):
        assert f"'{name}'" in line
    assert "SURELY_SECRET" not in line
    await runtime.stop(handle, 0)


async def test_stop_ends_children_too_even_those_that_ignore_it(tmp_path: Path, runtime: Processes) -> None:
    script = textwrap.dedent("""
        import os, signal, sys, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        pid = os.fork()
        if pid:
            open(sys.argv[1], "w").write(str(pid))
        time.sleep(60)
    """)
    handle = runtime.start(launch(tmp_path, "python", "-c", script, str(tmp_path / "child")))
    child = int(wait_for(tmp_path / "child"))
    await runtime.stop(handle, 0.2)
    assert not psutil.pid_exists(handle.pid)
    for _ in range(200):  # SIGKILL was sent, and the kernel takes its time with a process that waits for a core
        if not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE:
            break
        await asyncio.sleep(0.05)
    else:
        pytest.fail("the child goes on")


async def test_usage_counts_the_whole_tree(tmp_path: Path, runtime: Processes) -> None:
    script = "import os; os.fork(); x = bytearray(20_000_000)\nwhile True: pass"
    handle = runtime.start(launch(tmp_path, "python", "-c", script))
    try:
        end = time.monotonic() + 20
        while True:  # a busy machine takes its time to start two processes and to let them run
            await asyncio.sleep(0.6)
            sample = (await runtime.usage([handle]))[handle.id]
            if (sample.memory_bytes > 40_000_000 and sample.cpu_cores > 0.05) or time.monotonic() > end:
                break
    finally:
        await runtime.stop(handle, 0)
    assert sample.memory_bytes > 40_000_000
    assert sample.cpu_cores > 0.05
    assert await runtime.usage([handle]) == {}


@pytest.mark.parametrize(
    ("command", "message"),
    [
        pytest.param(("surely-no-such-command",), "surely-no-such-command: no such command on PATH", id="not on PATH"),
        pytest.param(("./missing",), "container a: cannot run .*missing: No such file", id="no such file"),
    ],
)
def test_a_command_that_is_not_there_is_named(
    tmp_path: Path, runtime: Processes, command: tuple[str, ...], message: str
) -> None:
    with pytest.raises(LocalError, match=message):
        runtime.start(launch(tmp_path, *command))


def test_a_folder_that_is_not_there_is_named(tmp_path: Path, runtime: Processes) -> None:
    with pytest.raises(LocalError, match=r"container a: workingDir .*/missing is no folder"):
        runtime.start(launch(tmp_path / "missing", "python"))


def test_only_the_output_of_this_start_is_shown(tmp_path: Path, runtime: Processes) -> None:
    (tmp_path / "a.log").write_text("of the start before\n")
    handle = runtime.start(launch(tmp_path, "python", "-c", r"print('one\ntwo\x1b[0m')"))
    ended(runtime, handle)
    assert runtime.logs(handle, 10) == ("one", "two?[0m")
    assert runtime.logs(handle, 1) == ("two?[0m",)


@pytest.fixture
def orphan() -> Iterator[subprocess.Popen[bytes]]:
    env = {**os.environ, "MCE_LOCAL_INSTANCE": "test-orphan"}
    script = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", script], env=env, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        yield child
        child.kill()


def test_an_orphan_is_found_by_its_instance_and_ended_even_if_stubborn(orphan: subprocess.Popen[bytes]) -> None:
    assert [process.pid for process in orphans.processes("test-orphan")] == [orphan.pid]
    assert orphans.clean("another", RuntimeKind.PROCESS, {}, 0.2) == 0
    assert orphan.poll() is None
    assert orphans.clean("test-orphan", RuntimeKind.PROCESS, {}, 0.2) == 1
    assert not psutil.pid_exists(orphan.pid), "it ignores SIGTERM, so it was killed"


def record(pid: int, started: float) -> Record:
    return Record(
        endpoint="e",
        namespace="default",
        mode="Direct",
        runtime=RuntimeKind.PROCESS,
        instance="i",
        pid=pid,
        started=started,
        phase=Phase.IN_SERVICE,
        generation=1,
    )


def test_a_process_id_that_was_given_to_another_is_not_the_supervisor() -> None:
    own = state.start_time(os.getpid())
    assert state.is_alive(record(os.getpid(), own))
    assert not state.is_alive(record(os.getpid(), own - 3600))


def test_a_zombie_is_not_alive() -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as child:
        there = record(child.pid, state.start_time(child.pid))
        child.kill()
        while psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        assert not state.is_alive(there)


def test_a_lock_is_one_process_at_a_time(tmp_path: Path) -> None:
    with state.locked(tmp_path / "lock", wait=False), pytest.raises(BlockingIOError):  # noqa: SIM117 - the order matters
        with state.locked(tmp_path / "lock", wait=False):
            pass
    with state.locked(tmp_path / "lock", wait=True):
        pass


def test_what_is_written_is_whole_private_and_read_back(tmp_path: Path) -> None:
    wrote = record(1, 2.5)
    path = tmp_path / "supervisor.json"
    state.write(path, wrote)
    assert state.read(path, Record) == wrote
    assert path.stat().st_mode & 0o077 == 0
    path.write_text('{"of": "an older version"}')
    assert state.read(path, Record) is None
    assert state.read(tmp_path / "missing", Record) is None
