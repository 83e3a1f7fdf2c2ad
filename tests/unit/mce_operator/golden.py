"""The objects of some endpoints as YAML. `PYTHONPATH=tests python -m unit.mce_operator.golden` writes the files anew.

What changes in a file changes on every cluster at the next start of the operator: read the diff before committing it.
"""

import copy
from pathlib import Path
from typing import Any

import yaml

from mce_api import names, validation
from unit.mce_operator import objects

FOLDER = Path(__file__).parent / "testdata"


class _Dumper(yaml.SafeDumper):
    """Repeats shared values instead of naming them."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def cases() -> list[str]:
    return sorted(path.name.removesuffix(".in.yaml") for path in FOLDER.glob("*.in.yaml"))


def rendered(case: str) -> str:
    document: dict[str, Any] = yaml.safe_load((FOLDER / f"{case}.in.yaml").read_text())
    endpoint = validation.endpoint(document)
    built = copy.deepcopy(objects.wanted(endpoint))
    for one in built:
        # Packed bytes differ from one build of zlib to the next; what is in them has its own tests.
        if names.RECORD_ANNOTATION in one["metadata"]["annotations"]:
            one["metadata"]["annotations"] |= dict.fromkeys((names.RECORD_ANNOTATION, names.HASH_ANNOTATION), "packed")
    return yaml.dump_all(built, Dumper=_Dumper, sort_keys=False, width=120)


def stored(case: str) -> str:
    return (FOLDER / f"{case}.out.yaml").read_text()


if __name__ == "__main__":
    for name in cases():
        (FOLDER / f"{name}.out.yaml").write_text(rendered(name))
