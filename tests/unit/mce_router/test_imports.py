import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("package", ["kopf", "kubernetes", "botocore", "yaml", "typer", "opentelemetry", "requests"])
def test_the_router_loads_nothing_that_it_does_not_use(package: str) -> None:
    code = f"import sys, mce_router.app, mce_router.__main__; sys.exit({package!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_operator_folder_never_shadows_the_standard_library() -> None:
    assert not (ROOT / "operator" / "__init__.py").exists()
