"""One container of the digits example, run as a process; ``images.yaml`` says which is which.

    python server.py {sklearn,onnx,prep} serve

Decides what each of the three names serves.  A library is imported only by the server that needs
it.  The scikit-learn model is kept in ``--models``, ``$MCE_EXAMPLE_MODELS`` or the user's cache
folder, in this order.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the folder examples/

from serving import contract, deskew


def default_folder() -> Path:
    """Return where trained models are kept unless the command line says otherwise."""
    chosen = os.environ.get("MCE_EXAMPLE_MODELS")
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(chosen) if chosen else Path(cache) / "mce" / "examples"


def load(which: str, models: Path) -> contract.Invoke:
    """Return what the named server does with one invocation."""
    match which:
        case "sklearn":
            from digits import sklearn_digits  # noqa: PLC0415

            return contract.classifier(sklearn_digits.load(models))
        case "onnx":
            from digits import onnx_digits  # noqa: PLC0415

            return contract.classifier(onnx_digits.load())
        case _:
            return contract.transformer(deskew.deskew)


def main() -> None:
    """Read the command line; ``serve`` is appended as an image's entrypoint gets it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("which", choices=["sklearn", "onnx", "prep"])
    parser.add_argument("command", choices=["serve"], nargs="?", default="serve")
    parser.add_argument("--models", type=Path, default=default_folder())
    arguments = parser.parse_args()
    contract.serve(f"digits {arguments.which}", lambda: load(arguments.which, arguments.models))


if __name__ == "__main__":
    main()
