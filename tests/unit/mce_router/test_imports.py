import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("package", ["kopf", "kubernetes", "botocore", "yaml", "typer", "opentelemetry", "requests"])
def test_the_router_loads_nothing_that_it_does_not_use(package: str) -> None:
    code = f"import sys, mce_router.__main__, mce_router.admin, mce_router.worker; sys.exit({package!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("package", ["aiohttp", "prometheus_client", "pydantic", "opentelemetry", "importlib.metadata"])
def test_the_data_port_opens_before_the_libraries_of_the_admin_port_are_loaded(package: str) -> None:
    code = f"import sys, mce_router.__main__, mce_router.worker; sys.exit({package!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("module", ["mce_api.routes", "mce_router.table", "mce_router.exchange", "mce_kit.logs"])
def test_what_the_router_needs_for_its_first_answer_loads_no_heavy_library(module: str) -> None:
    heavy = "{'pydantic', 'msgspec', 'aiohttp', 'pythonjsonlogger', 'unittest'}"
    code = f"import sys, {module}; sys.exit(', '.join({heavy} & sys.modules.keys()) or 0)"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_router_of_one_process_loads_nothing_of_a_supervisor() -> None:
    code = "import sys, mce_router.__main__; sys.exit('mce_router.supervisor' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_operator_folder_never_shadows_the_standard_library() -> None:
    assert not (ROOT / "operator" / "__init__.py").exists()
