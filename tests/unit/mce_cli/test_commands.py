import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from mce_cli import local_status
from mce_cli.main import app
from mce_local.snapshot import ContainerSnapshot, Snapshot
from mce_local.state import Phase
from mce_local.wanted import RuntimeKind

GOOD = """\
apiVersion: serving.mce.dev/v1alpha1
kind: MultiContainerEndpoint
metadata: {name: good}
spec: {mode: Direct, containers: [{name: a, image: "m:1"}]}
"""


def validate(text: str, *options: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["validate", "-f", "-", *options], input=text)
    return result.exit_code, result.output


def test_a_valid_file_says_so() -> None:
    assert validate(GOOD) == (0, "standard input:1: good: valid (Direct, 1 containers)\n")


def test_every_violation_is_a_line_with_place_and_fix() -> None:
    code, output = validate(GOOD.replace("name: a,", "name: a_b, prot: 1,"))
    assert code == 1
    first, second = sorted(output.splitlines())
    assert first.startswith("standard input:4: good: spec.containers[0].name: ")
    assert second == "standard input:4: good: spec.containers[0].prot: unknown field; did you mean port?"


def test_json_has_the_same_in_fields() -> None:
    code, output = validate(GOOD.replace("Direct", "Serial"), "-o", "json")
    body = json.loads(output)
    assert (code, body["valid"]) == (1, False)
    (violation,) = body["documents"][0]["violations"]
    assert (violation["line"], violation["path"]) == (4, "spec.mode")


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["validate", "-f", "-", "-o", "xml"], id="unknown format"),
        pytest.param(["validate"], id="no file"),
        pytest.param(["local", "status", "-o", "yaml"], id="unknown table"),
        pytest.param(["local", "down", "a", "--all"], id="two selections"),
        pytest.param(["local", "up", "-f", "-", "--runtime", "lxc"], id="unknown runtime"),
        pytest.param(["invoke", "http://h", "-f", "/no/such/file"], id="no such body"),
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    assert CliRunner().invoke(app, arguments, input="").exit_code == 2


def test_a_file_that_cannot_be_read_is_one_line_without_a_traceback(tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("mce")), "validate", "-f", str(tmp_path / "missing.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == f"error: cannot read {tmp_path}/missing.yaml: No such file or directory\n"


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys; from mce_cli import main\n"
        "heavy = {'pydantic', 'aiohttp', 'yaml', 'psutil', 'rich', 'mce_local.client', 'importlib.metadata'}\n"
        "print(heavy & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_no_figure_is_cut_when_the_output_is_narrow() -> None:
    container = ContainerSnapshot(
        name="a-container-with-a-long-name",
        image="m:1",
        state="Unhealthy",
        id="1234567",
        port=20000,
        restarts=12,
        message="no answer in 2 s",
        invocations=1234567,
        cpu_percent=199.5,
        memory_bytes=123 * 1024**2,
        log="a.log",
    )
    snapshot = Snapshot(
        endpoint="e",
        namespace="default",
        mode="Direct",
        runtime=RuntimeKind.PROCESS,
        phase=Phase.IN_SERVICE,
        generation=1,
        url="http://127.0.0.1:8080/invocations",
        metrics_url="",
        router_metrics_url="",
        supervisor_pid=1,
        containers=(container,),
    )
    console = local_status.console()
    with console.capture() as captured:
        local_status.show(console, snapshot)
    assert isinstance(console, Console)
    row = captured.get().splitlines()[2].split()
    assert row == [
        *("a-container-with-a-long-name", "Unhealthy", "1234567", "20000", "12", "1234567"),
        *("0", "199.5"),
        *("123", "MiB", "-"),
    ]
    assert captured.get().splitlines()[3] == "  a-container-with-a-long-name: no answer in 2 s"
