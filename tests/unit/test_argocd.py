"""The health check of docs/argocd.md, run by a Lua interpreter on the statuses that the operator writes."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from lupa import lua51

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "argocd.md").read_text()
(SCRIPT,) = yaml.safe_load(PAGE.partition("```yaml\n")[2].partition("```")[0])["data"].values()


def health(status: dict[str, Any] | None, generation: int = 1) -> tuple[str, str]:
    """What Argo CD shows of an endpoint with this status; it gives the script the object as `obj`."""
    lua = lua51.LuaRuntime()
    lua.globals().obj = lua.table_from({"metadata": {"generation": generation}, "status": status}, recursive=True)
    found = lua.execute(SCRIPT)
    return found.status, found.message


def status(*true: str, state: str = "InService", failure: str = "", generation: int = 1) -> dict[str, Any]:
    conditions = [
        {"type": name, "status": "True" if name in true else "False", "message": f"{name} says"}
        for name in ("Ready", "Reconciling", "Stalled", "Degraded")
    ]
    conditions += [{"type": "RolledBack", "status": "True", "message": ""}] if "RolledBack" in true else []
    return {"observedGeneration": generation, "state": state, "failureReason": failure, "conditions": conditions}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(None, "Progressing", id="no status"),
        pytest.param({"observedGeneration": -1}, "Progressing", id="a new resource"),
        pytest.param(status("Ready", generation=0), "Progressing", id="the status of an earlier spec"),
        pytest.param(status("Ready"), "Healthy", id="ready"),
        pytest.param(status("Reconciling", state="Creating"), "Progressing", id="comes up"),
        pytest.param(
            status("Reconciling", state="Updating", failure="x"), "Progressing", id="a rollout with a failure"
        ),
        pytest.param(
            status("Reconciling", "Degraded", state="Updating"), "Progressing", id="a replica is down in a rollout"
        ),
        pytest.param(status("Stalled", state="Failed", failure="x"), "Degraded", id="failed"),
        pytest.param(status("Stalled", "RolledBack", failure="x"), "Degraded", id="rolled back"),
        pytest.param(status("Ready", "RolledBack"), "Degraded", id="what serves is not what was asked for"),
        pytest.param(status("Degraded", failure="x"), "Degraded", id="a container is down"),
        pytest.param(status(failure="x"), "Degraded", id="nothing serves"),
        pytest.param(status(), "Progressing", id="a pod is replaced"),
        pytest.param(status(state="OutOfService"), "Suspended", id="suspended"),
    ],
)
def test_argo_cd_reads_the_status_right(given: dict[str, Any] | None, expected: str) -> None:
    assert health(given)[0] == expected


def test_the_message_is_the_one_that_helps() -> None:
    assert health(status("Stalled"))[1] == "Ready says"
    assert health(status("Degraded"))[1] == "Degraded says"
